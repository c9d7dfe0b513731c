/*
 * Interrupt and exception entry of the guest programs, the way to CPL3 and
 * back, and the start of a second processor.
 */
	.text
	.code64
	.align 16
	.globl trap_entries
trap_entries:			/* one of 32 bytes for each vector */
	.set vector, 0
	.rept 256
	.align 32
	.if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
	.else
	pushq $0
	.endif
	pushq $vector
	jmp trap_common
	.set vector, vector + 1
	.endr

trap_common:
	pushq %rax
	pushq %rcx
	pushq %rdx
	pushq %rbx
	pushq %rbp
	pushq %rsi
	pushq %rdi
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	cld
	movq %rsp, %rdi
	movq %rsp, %rbp
	andq $-16, %rsp
	call guest_trap
	movq %rbp, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rdi
	popq %rsi
	popq %rbp
	popq %rbx
	popq %rdx
	popq %rcx
	popq %rax
	addq $16, %rsp
	iretq

/* uint64_t user_call(uint64_t (*f)(uint64_t), uint64_t arg, uint64_t rflags) */
	.globl user_call
user_call:
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, user_kernel_rsp
	movq %rsp, guest_tss + 4
	movq %rdi, %rax
	movq %rsi, %rdi
	pushq $0x23
	pushq $user_stack_top
	pushq %rdx
	pushq $0x2b
	pushq $user_start
	iretq
user_start:
	call *%rax
	movq %rax, %rdi
	xorl %eax, %eax
	int3
	ud2

/* void user_leave(uint64_t result): make user_call() return it */
	.globl user_leave
user_leave:
	movq user_kernel_rsp, %rsp
	movq %rdi, %rax
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	ret

/* void interrupt_wait(void): sleep until an interrupt, and take it */
	.globl interrupt_wait
	.globl interrupt_wait_hlt
	.globl interrupt_wait_end
interrupt_wait:
	sti
interrupt_wait_hlt:
	hlt
interrupt_wait_end:
	cli
	ret

/* Copied to 0x8000, where a start-up IPI with vector 8 goes. */
	.globl ap_trampoline
	.globl ap_trampoline_end
	.code16
ap_trampoline:
	cli
	movw %cs, %ax
	movw %ax, %ds
	lgdtl ap_gdt - ap_trampoline
	movl %cr0, %eax
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $0x08, $ap_protected
ap_gdt:	.word 0x3f
	.long guest_gdt
ap_trampoline_end:
	.code32
ap_protected:
	movl $0x18, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl $pml4, %eax
	movl %eax, %cr3
	movl %cr4, %eax
	orl $0x20, %eax
	movl %eax, %cr4
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x101, %eax
	wrmsr
	movl %cr0, %eax
	orl $0x80000001, %eax
	movl %eax, %cr0
	ljmp $0x10, $ap_long
	.code64
ap_long:
	movq $ap_stack_top, %rsp
	lgdt gdt_pointer
	call *ap_main
1:	cli
	hlt
	jmp 1b

	.bss
	.align 4096
	.skip 16384
user_stack_top:
	.skip 16384
ap_stack_top:
	.globl user_kernel_rsp
user_kernel_rsp: .quad 0
	.globl ap_main
ap_main: .quad 0
	.section .note.GNU-stack, "", @progbits
