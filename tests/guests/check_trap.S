/*
 * One stub for each check_vector: they make the stack look the same, and call
 * check_trap(struct trap_frame *).
 */
	.text
	.code64
	.macro check_save
	.irp r, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
	pushq %\r
	.endr
	.endm
	.macro check_restore
	.irp r, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax
	popq %\r
	.endr
	.endm

	.balign 16
	.globl check_stubs
check_stubs:
	.set check_vector, 0
	.rept 256
	.balign 16
	.if (check_vector == 8) || ((check_vector >= 10) && (check_vector <= 14)) || (check_vector == 17)
	.else
	pushq $0
	.endif
	pushq $check_vector
	jmp check_common
	.set check_vector, check_vector + 1
	.endr

	.balign 16
check_common:
	check_save
	movq %rsp, %rdi
	movq %rsp, %rbx
	andq $-16, %rsp
	cld
	call check_trap
	movq %rbx, %rsp
	check_restore
	addq $16, %rsp
	iretq

/* void check_ring3_enter(uint64_t rip, uint64_t rsp): to code at CPL 3; comes back
 * by check_ring3_leave(), which a trap handler calls. */
	.globl check_ring3_enter
check_ring3_enter:
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, check_ring3_stack
	pushq $0x23
	pushq %rsi
	pushq $0x202
	pushq $0x2b
	pushq %rdi
	iretq
	.globl check_ring3_leave
check_ring3_leave:
	movq check_ring3_stack, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	ret

	.bss
	.balign 8
check_ring3_stack: .skip 8
	.section .note.GNU-stack, "", @progbits
