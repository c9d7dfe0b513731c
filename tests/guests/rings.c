/* CPL3 and back: IRETQ, the TSS, the I/O bitmap, interrupts on the way. */
#include "tests/guests/testing.h"

#define WAKE 0x50

static uint64_t from_cs, from_ss, entered_rsp;

static uint64_t
selectors(uint64_t arg)
{
	uint16_t cs, ss;

	__asm__ volatile("movw %%cs, %0" : "=r"(cs));
	__asm__ volatile("movw %%ss, %0" : "=r"(ss));
	return (uint64_t)cs << 32 | ss | arg << 48;
}

static uint64_t
read_port(uint64_t port)
{
	return inb((uint16_t)port);
}

static uint64_t
read_port_4(uint64_t port)
{
	return inl((uint16_t)port);
}

static uint64_t
write_port(uint64_t port)
{
	outl((uint16_t)port, 0x12345678);
	return 1;
}

static uint64_t
read_string(uint64_t port)
{
	static uint8_t buffer[8];
	uint64_t di = (uintptr_t)buffer, cx = sizeof(buffer);

	__asm__ volatile("rep insb"
			 : "+D"(di), "+c"(cx)
			 : "d"((uint16_t)port)
			 : "memory");
	return buffer[7];
}

static uint64_t
read_memory(uint64_t addr)
{
	return *(volatile uint32_t *)(uintptr_t)addr;
}

static uint64_t
write_memory(uint64_t addr)
{
	*(volatile uint64_t *)(uintptr_t)addr = 0x1122334455667788;
	return 1;
}

/* Every register survives an interrupt. */
static uint64_t
spin(uint64_t vector)
{
	uint64_t rbx = 1, r12 = 2, r15 = 3, bad = 0;

	while (trap_count[vector] < 20) {
		__asm__ volatile("addq $1, %0\n\t"
				 "addq $2, %1\n\t"
				 "addq $3, %2"
				 : "+b"(rbx), "+r"(r12), "+r"(r15));
		bad += r12 != 2 * rbx || r15 != 3 * rbx;
	}
	return bad;
}

static void
on_wake(struct trap_frame *f)
{
	trap_count[f->vector]++;
	from_cs = f->cs;
	from_ss = f->ss;
	entered_rsp = (uintptr_t)(f + 1);
	lapic_eoi(0);
}

static void
permissions(void)
{
	test(TEST_LOG_CLEAR, 0, 0, 0);
	check("open_port_reads", user_call(read_port, 0x811, RFLAGS_OFF),
	    TEST_BYTE(0x811));
	check("open_port_writes", user_call(write_port, 0x814, RFLAGS_OFF), 1);
	check("open_port_data", test(TEST_LOG_GET, 1, 0, 0), 0x12345678);
	test(TEST_LOG_CLEAR, 0, 0, 0);
	check("open_port_string",
	    user_call(read_string, TEST_SEQUENCE, RFLAGS_OFF), 7);
	faults_record();
	guest_tss.bitmap[0x811 / 8] |= 1u << (0x811 % 8);
	test(TEST_LOG_CLEAR, 0, 0, 0);
	fault_clear();
	check("closed_port_faults", user_call(read_port, 0x811, RFLAGS_OFF),
	    USER_FAULT);
	check("closed_port_is_gp", fault.vector, 13);
	check("closed_port_error", fault.error, 0);
	check("handler_sees_no_closed_port", test(TEST_LOG_COUNT, 0, 0, 0), 0);
	check("next_port_is_open", user_call(read_port, 0x812, RFLAGS_OFF),
	    TEST_BYTE(0x812));
	fault_clear();
	check("every_byte_is_checked",
	    user_call(read_port_4, 0x80e, RFLAGS_OFF), USER_FAULT);
	guest_tss.bitmap[0x811 / 8] = 0;
	check("opened_again", user_call(read_port, 0x811, RFLAGS_OFF),
	    TEST_BYTE(0x811));
}

void
guest_main(const void *start_info)
{
	(void)start_info;
	traps_init();
	pic_init();
	lapic_init();
	/* The privilege level only: the selectors of user code are the host's
	 * own under a KVM that runs it without VT-x or SVM. */
	check("user_code_runs_at_cpl3",
	    user_call(selectors, 0, RFLAGS_OFF) & (3ull << 32 | 3),
	    3ull << 32 | 3);
	check("user_reads_device",
	    user_call(read_memory, TEST_MMIO + 0x40, RFLAGS_OFF),
	    TEST_BYTE(TEST_MMIO + 0x40) |
		(uint32_t)TEST_BYTE(TEST_MMIO + 0x41) << 8 |
		(uint32_t)TEST_BYTE(TEST_MMIO + 0x42) << 16 |
		(uint32_t)TEST_BYTE(TEST_MMIO + 0x43) << 24);
	test(TEST_LOG_CLEAR, 0, 0, 0);
	user_call(write_memory, TEST_MMIO + 0x48, RFLAGS_OFF);
	check("user_writes_device", test(TEST_LOG_GET, 0, 0, 0),
	    0x1122334455667788);
	permissions();

	trap_set(WAKE, on_wake);
	lapic_write(LAPIC_DIVIDE, 0xb);
	lapic_write(LAPIC_TIMER, WAKE | 0x20000);
	lapic_write(LAPIC_INITIAL, 1000000);
	check("registers_survive_interrupts", user_call(spin, WAKE, RFLAGS_ON),
	    0);
	lapic_write(LAPIC_INITIAL, 0);
	check("interrupts_reach_user_code", from_cs, 0x2b);
	check("interrupts_save_the_user_stack", from_ss, 0x23);
	check(
	    "interrupts_enter_on_rsp0", entered_rsp, guest_tss.rsp[0] & ~15ull);
}
