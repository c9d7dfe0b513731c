/* What the guest programs and their test, guests_test.c, say to each other. */
#ifndef GUESTS_PROTOCOL_H
#define GUESTS_PROTOCOL_H

/* Text goes to the first serial port: lines "pass NAME", "fail NAME: why",
 * "skip NAME: why".  Sleep state 5 in PM1A_CNT ends a guest. */

/* The test's own ports, 32 bits each. */
#define TEST_ARG(n)    (0x700 + 8 * (n)) /* 0 to 3: low half, high half */
#define TEST_COMMAND   0x720 /* written: do it now */
#define TEST_RESULT    0x724 /* and 0x728: high half */
#define TEST_LOG_ADDR  0x72c /* of the last TEST_LOG_GET */
#define TEST_LOG_WHAT  0x730 /* size, LOG_WRITE, LOG_MMIO */
#define TEST_TOKEN     0x734 /* read: 1, 2, 3, ... */
#define TEST_STREAM_LO 0x738 /* 64 bits of a stream: low half, then high */
#define TEST_STREAM_HI 0x73c
#define TEST_SECOND_LO 0x740 /* the second processor's stream */
#define TEST_SECOND_HI 0x744

/* Accesses to these are logged.  A byte read is TEST_BYTE of its address; a
 * read of TEST_SEQUENCE counts from 0. */
#define TEST_PORTS     0x800
#define TEST_PORTS_END 0xa00
#define TEST_SEQUENCE  0x8f0
#define TEST_MMIO      0xd0000000u
#define TEST_MMIO_END  0xd1000000u
#define TEST_BYTE(a)   ((uint8_t)((a)*37 + 11))

#define LOG_WRITE      0x100
#define LOG_MMIO       0x200

/* Doorbells, argument 3: index, length, space, whether it matches. */
#define BELL(index, len, mmio, match) \
	((index) | (len) << 8 | (mmio) << 16 | (match) << 24)
#define SLOT_SIZE 0x4000
#define SLOT_RAM  0
#define SLOT_ROM  1
#define SLOT_NONE 2

#define BELLS	  8

/* Between two values of the stream x takes so many steps and y adds them up; x
 * takes in a token; the value is x ^ y. */
#define SECOND_ROUNDS  1000u /* of the second's, which is plain x */
#define STREAM_ROUNDS  100000u
#define STREAM_STEP(x) ((x) = (x)*6364136223846793005u + 1442695040888963407u)

enum test_command {
	TEST_LOG_CLEAR = 1, /* and the sequence */
	TEST_LOG_COUNT,
	TEST_LOG_GET, /* index; the result is the data */
	TEST_IRQ_SET, /* GSI, level */
	TEST_IRQ_PULSE, /* GSI: up, down */
	TEST_IRQ_PULSE_LATER, /* GSI, milliseconds; from another thread */
	TEST_MSI_SEND, /* address, data */
	TEST_MSI_SEND_LATER, /* address, data, milliseconds */
	TEST_MSI_ROUTE, /* GSI, address, data */
	TEST_IRQFD_BIND, /* GSI, whether with resample */
	TEST_IRQFD_SIGNAL, /* GSI */
	TEST_IRQFD_RESAMPLES, /* GSI: waits up to 2 s for the first */
	TEST_IRQFD_UNBIND, /* GSI */
	TEST_BELL_BIND, /* address, value to match, BELL() */
	TEST_BELL_UNBIND, /* the same */
	TEST_BELL_COUNT, /* index: rings since the last time */
	TEST_SLOT_SET, /* slot, what, address: SLOT_SIZE bytes of the test's */
	TEST_TIME_NS, /* a clock of the host's */
};

#endif
