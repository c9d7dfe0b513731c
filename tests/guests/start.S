/*
 * Start-up of the guest programs: from PVH's 32-bit protected mode to long
 * mode with the first 4 GiB mapped one to one, then guest_main().
 */
	.section .note, "a"
	.align 4
	.long 4, 4, 18		/* name size, descriptor size, PHYS32_ENTRY */
	.asciz "Xen"
	.long pvh_start

	.section .text.start, "ax"
	.code32
	.globl pvh_start
pvh_start:
	cli
	movl $stack_top, %esp
	movl %ebx, %edi			/* start_info, for guest_main */
	/* Four page directories of 2 MiB pages, user-accessible. */
	movl $page_dirs, %ebx
	xorl %ecx, %ecx
	movl $0x87, %eax		/* present, writable, user, large */
1:	movl %eax, (%ebx,%ecx,8)
	movl $0, 4(%ebx,%ecx,8)
	addl $0x200000, %eax
	incl %ecx
	cmpl $2048, %ecx
	jne 1b
	movl $page_dirs + 7, %eax
	movl $pdpt, %ebx
	xorl %ecx, %ecx
2:	movl %eax, (%ebx,%ecx,8)
	addl $0x1000, %eax
	incl %ecx
	cmpl $4, %ecx
	jne 2b
	movl $pdpt + 7, pml4
	movl $pml4, %eax
	movl %eax, %cr3
	movl %cr4, %eax
	orl $0x20, %eax			/* PAE */
	movl %eax, %cr4
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x101, %eax		/* EFER.LME, SCE */
	wrmsr
	movl %cr0, %eax
	orl $0x80000001, %eax		/* PG, PE */
	movl %eax, %cr0
	lgdt gdt_pointer
	ljmp $0x10, $long_mode

	.code64
long_mode:
	movl $0x18, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	xorl %eax, %eax
	movl %eax, %fs
	movl %eax, %gs
	movq $stack_top, %rsp
	call guest_main
	call guest_end

	.data
	.align 16
	.globl guest_gdt
guest_gdt:
	.quad 0
	.quad 0x00cf9b000000ffff	/* 08: 32-bit code, ring 0 */
	.quad 0x00af9b000000ffff	/* 10: code, ring 0 */
	.quad 0x00cf93000000ffff	/* 18: data, ring 0 */
	.quad 0x00cff3000000ffff	/* 20: data, ring 3 */
	.quad 0x00affb000000ffff	/* 28: code, ring 3 */
	.quad 0, 0			/* 30: TSS, filled in by those who use it */
gdt_end:
	.globl gdt_pointer
gdt_pointer:
	.word gdt_end - guest_gdt - 1
	.quad guest_gdt

	.bss
	.align 4096
	.globl pml4
pml4:	.skip 4096
pdpt:	.skip 4096
page_dirs: .skip 4 * 4096
	.skip 16384
	.globl stack_top
stack_top:
	.section .note.GNU-stack, "", @progbits
