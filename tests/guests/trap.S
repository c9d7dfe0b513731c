/*
 * One stub for each vector: they make the stack look the same, and call
 * guest_trap(struct trap_frame *).
 */
	.text
	.code64
	.macro save
	.irp r, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
	pushq %\r
	.endr
	.endm
	.macro restore
	.irp r, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax
	popq %\r
	.endr
	.endm

	.balign 16
	.globl trap_stubs
trap_stubs:
	.set vector, 0
	.rept 256
	.balign 16
	.if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17)
	.else
	pushq $0
	.endif
	pushq $vector
	jmp trap_common
	.set vector, vector + 1
	.endr

	.balign 16
trap_common:
	save
	movq %rsp, %rdi
	movq %rsp, %rbx
	andq $-16, %rsp
	cld
	call guest_trap
	movq %rbx, %rsp
	restore
	addq $16, %rsp
	iretq

/* void ring3_enter(uint64_t rip, uint64_t rsp): to code at CPL 3; comes back
 * by ring3_leave(), which a trap handler calls. */
	.globl ring3_enter
ring3_enter:
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, ring3_stack
	pushq $0x23
	pushq %rsi
	pushq $0x202
	pushq $0x2b
	pushq %rdi
	iretq
	.globl ring3_leave
ring3_leave:
	movq ring3_stack, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	ret

	.bss
	.balign 8
ring3_stack: .skip 8
	.section .note.GNU-stack, "", @progbits
