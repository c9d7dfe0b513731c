/*
 * difftest: random user-mode instructions on the host's processor and on the
 * software one, compared.  `difftest --help` lists the options.
 * Exit: 0 no difference, 1 differences, 2 usage, 77 cannot run here.
 */
/* First: <unistd.h> has a macro by the name of one of its constants. */
#include "hypervisor/soft/cpu.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "tests/difftest.h"
#include "tests/difftest_gen.h"
#include "tests/difftest_native.h"
#include "tests/difftest_soft.h"

/* TF is the tester's; RF says how an exception came. */
#define FLAGS_COMPARED 0x003e7ed7u
#define LOWER_HALF     ((uint64_t)1 << 47)

struct options {
	uint64_t seed, cases, first;
	int map, opcode; /* -1: any */
	unsigned shown; /* differences that are printed in full */
	bool verbose;
};

enum what {
	DIFF_VECTOR = 1,
	DIFF_ERROR = 2,
	DIFF_CR2 = 4,
	DIFF_RIP = 8,
	DIFF_GPR = 16,
	DIFF_FLAGS = 32,
	DIFF_MEMORY = 64,
	DIFF_X87 = 128,
	DIFF_SSE = 256,
	DIFF_DIED = 512,
	DIFF_HUNG = 1024,
};

static const char *const what_names[] = { "vector", "error", "cr2", "rip",
	"gpr", "flags", "memory", "x87", "sse", "died", "hung" };

/* Differences by instruction. */
struct tally {
	uint32_t count;
	uint32_t what;
	uint64_t first;
};
static struct tally tallies[2][256][256];

static const struct {
	const char *name;
	uint16_t at, size;
} fx_fields[] = {
	{ "fcw", 0, 2 },
	{ "fsw", 2, 2 },
	{ "ftw", 4, 1 },
	{ "fop", 6, 2 },
	{ "fip", 8, 8 },
	{ "fdp", 16, 8 },
	{ "st0", 32, 10 },
	{ "st1", 48, 10 },
	{ "st2", 64, 10 },
	{ "st3", 80, 10 },
	{ "st4", 96, 10 },
	{ "st5", 112, 10 },
	{ "st6", 128, 10 },
	{ "st7", 144, 10 },
};

/* AMD's processors give the error pointers while an exception is pending
 * alone. */
static bool
hidden_field(const struct outcome *want, unsigned at)
{
	return at >= 6 && at < 24 && !(want->fx[2] & X87_ES);
}

/* Moves so much memory that how far it has come when it faults, and in which
 * order, is left to the processor: fldenv, fnstenv, frstor, fnsave, fxsave,
 * fxrstor, enter. */
static bool
is_image(const struct job *j)
{
	unsigned reg = j->key[2] >> 3 & 7;

	if (j->key[0])
		return j->key[1] == 0xae && reg < 2;
	return j->key[1] == 0xc8 ||
	    ((j->key[1] == 0xd9 || j->key[1] == 0xdd) &&
		(reg == 4 || reg == 6));
}

static bool
same_memory(
    const struct job *j, const struct outcome *want, const struct outcome *got)
{
	uint32_t size = MIN(want->hi - want->lo, DIFF_MAX), n, other = 0;

	if (is_image(j) && want->vector != 1)
		return true;
	if (want->lo != got->lo || want->hi != got->hi)
		return false;
	if (want->lo >= want->hi || !memcmp(want->bytes, got->bytes, size))
		return true;
	/* FXSAVE's mask of MXCSR has a bit of AMD's in the host's. */
	for (n = 0; n < size; n++)
		if (want->bytes[n] != got->bytes[n] &&
		    (want->bytes[n] ^ got->bytes[n]) != 2)
			return false;
		else
			other += want->bytes[n] != got->bytes[n];
	return j->key[0] && j->key[1] == 0xae && other == 1;
}

static bool
is_fault(uint32_t vector)
{
	return (vector >= 12 && vector <= 14) || vector == 17;
}

/* Mapped on the host's side alone. */
static bool
is_sanitizers(uint64_t lin)
{
#ifdef BULKHEAD_ASAN
	return lin >= 0x7fff7000 && lin < 0x100080000000;
#else
	(void)lin;
	return false;
#endif
}

static unsigned
compare(
    const struct job *j, const struct outcome *want, const struct outcome *got)
{
	unsigned what = 0, n;
	uint32_t error = want->error ^ got->error, mxcsr, mxcsr_got;

	/* Which of two operands faults first, of CMPS under a prefix; and
	 * whether the stack or the target of a call. */
	if (!j->key[0] &&
	    (((j->key[1] & 0xfe) == 0xa6 && j->rep) ||
		(j->key[1] == 0xff && (j->key[2] >> 3 & 7) == 2)) &&
	    is_fault(want->vector) && is_fault(got->vector))
		return 0;
	if (got->vector == 14 && is_sanitizers(got->cr2))
		return 0;
	/* How much of an undefined instruction is fetched before #UD. */
	if (want->vector == 14 && (want->error & 16) && got->vector == 6)
		return 0;
	/* MXCSR.MM is of AMD's misaligned SSE, which the host declares. */
	memcpy(&mxcsr, want->fx + 24, 4);
	if ((mxcsr & ~MXCSR_MASK) && got->vector == 13 && j->key[0] &&
	    j->key[1] == 0xae)
		return 0;
	if (want->vector != got->vector)
		return DIFF_VECTOR;
	/* The kernel hides what is mapped for it. */
	if (want->vector == 14 && want->cr2 >= LOWER_HALF)
		error &= ~1u;
	/* Which end of an image is touched first. */
	if (has_error_code((int)want->vector) && error && !is_image(j))
		what |= DIFF_ERROR;
	if (want->cr2 != got->cr2 && !is_image(j))
		what |= DIFF_CR2;
	if (want->rip != got->rip)
		what |= DIFF_RIP;
	if (memcmp(want->gpr, got->gpr, sizeof(want->gpr)))
		what |= DIFF_GPR;
	if ((want->rflags ^ got->rflags) & FLAGS_COMPARED &
	    (want->vector == 1 ? ~j->undefined : ~0u))
		what |= DIFF_FLAGS;
	if (!same_memory(j, want, got))
		what |= DIFF_MEMORY;
	for (n = 0; n < ARRAY_LEN(fx_fields); n++)
		if (memcmp(want->fx + fx_fields[n].at,
			got->fx + fx_fields[n].at, fx_fields[n].size) &&
		    !hidden_field(want, fx_fields[n].at))
			what |= DIFF_X87;
	memcpy(&mxcsr_got, got->fx + 24, 4);
	mxcsr ^= mxcsr_got;
	if (mxcsr || memcmp(want->fx + 160, got->fx + 160, 256))
		what |= DIFF_SSE;
	return what;
}

/* ---- the report ---- */
static void
print_bytes(const uint8_t *p, unsigned size)
{
	while (size--)
		printf("%02x", *p++);
}

static void
print_what(unsigned what)
{
	unsigned n;

	for (n = 0; n < ARRAY_LEN(what_names); n++)
		if (what & 1u << n)
			printf(" %s", what_names[n]);
}

static void
print_field(const char *name, const uint8_t *before, const uint8_t *want,
    const uint8_t *got, unsigned size, bool all)
{
	unsigned n;

	if (!all && !memcmp(want, got, size))
		return;
	printf("  %-6s before ", name);
	for (n = size; n--;)
		printf("%02x", before[n]);
	printf(" expected ");
	for (n = size; n--;)
		printf("%02x", want[n]);
	printf(" got ");
	for (n = size; n--;)
		printf("%02x", got[n]);
	printf("\n");
}

static void
print_state(const struct job *j, const struct outcome *want,
    const struct outcome *got, bool all)
{
	static const char *const gpr[] = { "rax", "rcx", "rdx", "rbx", "rsp",
		"rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
		"r14", "r15" };
	char name[16];
	unsigned n;

	printf("  vector %u error %x cr2 %llx rip %llx flags %x\n",
	    want->vector, want->error, (unsigned long long)want->cr2,
	    (unsigned long long)want->rip, want->rflags);
	printf("     got %u error %x cr2 %llx rip %llx flags %x "
	       "(before: rip %llx flags %x, undefined %x)\n",
	    got->vector, got->error, (unsigned long long)got->cr2,
	    (unsigned long long)got->rip, got->rflags,
	    (unsigned long long)j->rip, j->rflags, j->undefined);
	for (n = 0; n < 16; n++)
		print_field(gpr[n], (const uint8_t *)&j->gpr[n],
		    (const uint8_t *)&want->gpr[n],
		    (const uint8_t *)&got->gpr[n], 8, all);
	for (n = 0; n < ARRAY_LEN(fx_fields); n++)
		print_field(fx_fields[n].name, j->fx + fx_fields[n].at,
		    want->fx + fx_fields[n].at, got->fx + fx_fields[n].at,
		    fx_fields[n].size, all);
	print_field("mxcsr", j->fx + 24, want->fx + 24, got->fx + 24, 4, all);
	for (n = 0; n < 16; n++) {
		snprintf(name, sizeof(name), "xmm%u", n);
		print_field(name, j->fx + 160 + 16 * n, want->fx + 160 + 16 * n,
		    got->fx + 160 + 16 * n, 16, all);
	}
	if (want->lo < want->hi || got->lo < got->hi) {
		printf("  memory expected %x-%x ", want->lo, want->hi);
		if (want->lo < want->hi)
			print_bytes(want->bytes, MIN(want->hi - want->lo, 128));
		printf("\n         got      %x-%x ", got->lo, got->hi);
		if (got->lo < got->hi)
			print_bytes(got->bytes, MIN(got->hi - got->lo, 128));
		printf("\n");
	}
}

static void
print_difference(const struct options *o, uint64_t index, const struct job *j,
    const struct outcome *want, const struct outcome *got, unsigned what)
{
	printf("%llu:%llu ", (unsigned long long)o->seed,
	    (unsigned long long)index);
	print_bytes(j->code, j->len);
	printf(":");
	print_what(what);
	printf("\n");
	if (want && got)
		print_state(j, want, got, o->verbose);
}

static unsigned
print_tallies(const struct options *o)
{
	unsigned map, op, sub, lines = 0;

	for (map = 0; map < 2; map++)
		for (op = 0; op < 256; op++)
			for (sub = 0; sub < 256; sub++) {
				const struct tally *t = &tallies[map][op][sub];

				if (!t->count)
					continue;
				lines++;
				printf("%s%02x /%u %s: %u, first %llu:%llu:",
				    map ? "0f" : "", op, sub >> 3 & 7,
				    sub >= 0xc0 ? "register" : "memory",
				    t->count, (unsigned long long)o->seed,
				    (unsigned long long)t->first);
				print_what(t->what);
				printf("\n");
			}
	return lines;
}

static void
note(const struct job *j, uint64_t index, unsigned what)
{
	/* By ModRM.reg; the x87's register forms one by one. */
	unsigned sub = (j->key[2] & 0x38u) | (j->key[2] >= 0xc0 ? 0xc0 : 0);
	struct tally *t;

	if (!j->key[0] && j->key[1] >= 0xd8 && j->key[1] < 0xe0 &&
	    j->key[2] >= 0xc0)
		sub = j->key[2];
	t = &tallies[j->key[0]][j->key[1]][sub];
	if (!t->count++)
		t->first = index;
	t->what |= what;
}

/* ---- the run ---- */
static void
make_batch(
    const struct options *o, struct native *n, uint64_t index, uint32_t count)
{
	struct mailbox *box = n->box;
	uint32_t k;

	memset(n->code, 0xcc, CODE_SIZE);
	for (k = 0; k < count; k++) {
		struct job *j = &box->job[k];

		gen_case(o->seed, index + k, o->map, o->opcode, j);
		memcpy(n->code + (j->rip - CODE_BASE), j->code,
		    MIN(j->len, CODE_BASE + CODE_SIZE - j->rip));
	}
	box->count = count;
}

/* A difference that does not come back is the host's: its kernel switched
 * tasks between two steps and so lost the x87's error pointers. */
static unsigned
again(struct native *n, struct soft *s, uint32_t k, struct outcome *got)
{
	struct mailbox *box = n->box;
	struct job first = box->job[0];
	struct outcome want = box->native[0];
	unsigned what = DIFF_DIED;

	box->job[0] = box->job[k];
	box->count = 1;
	if (!native_begin(n) && !native_wait(n)) {
		soft_run(s, &box->job[0], box->base, got);
		what = compare(&box->job[0], &box->native[0], got);
	}
	box->job[0] = first;
	if (k) {
		box->native[k] = box->native[0];
		box->native[0] = want;
	}
	return what;
}

/* ---- a hang of the software processor ---- */
static char hang_text[96];

/* On a timer of this process's own processor time. */
static void
report_hang(int sig UNUSED)
{
	ssize_t n = write(STDOUT_FILENO, hang_text, strlen(hang_text));

	_exit(n > 0 ? 1 : 2);
}

static void
watch_batch(const struct options *o, uint64_t index, uint32_t count)
{
	const struct itimerval t = { .it_value.tv_sec = HANG_S };

	snprintf(hang_text, sizeof(hang_text),
	    "the software processor hangs in one of %llu:%llu to %llu\n",
	    (unsigned long long)o->seed, (unsigned long long)index,
	    (unsigned long long)index + count - 1);
	setitimer(ITIMER_PROF, &t, NULL);
}

static uint64_t
run(const struct options *o, struct native *n, struct soft *s)
{
	static struct outcome got[BATCH];
	uint64_t index = o->first, end = o->first + o->cases, bad = 0;

	while (index < end) {
		/* Slots are by index: a batch begins at slot 0 but for one
		 * that was asked for alone. */
		uint32_t slot = (uint32_t)(index % BATCH);
		uint32_t count = (uint32_t)MIN(end - index, BATCH - slot), k;
		uint32_t natives = count;
		unsigned end_of_child = DIFF_DIED;
		int err;

		watch_batch(o, index, count);
		make_batch(o, n, index, count);
		if (native_begin(n))
			return bad + 1;
		soft_code(s, n->code);
		for (k = 0; k < count; k++)
			soft_run(s, &n->box->job[k], n->box->base, &got[k]);
		err = native_wait(n);
		if (err) {
			natives = n->box->progress;
			if (err == -ETIMEDOUT)
				end_of_child = DIFF_HUNG;
		}
		for (k = 0; k < count; k++) {
			const struct job *j = &n->box->job[k];
			unsigned what = k > natives ? 0
			    : k == natives
			    ? end_of_child
			    : compare(j, &n->box->native[k], &got[k]);

			if (what && k < natives)
				what = again(n, s, k, &got[k]);
			if (what && bad++ < o->shown)
				print_difference(o, index + k, j,
				    k < natives ? &n->box->native[k] : NULL,
				    &got[k], what);
			else if (o->verbose && o->cases == 1)
				print_state(
				    j, &n->box->native[k], &got[k], true);
			if (what)
				note(j, index + k, what);
		}
		/* What came behind a case that ended the child again. */
		index += natives < count ? natives + 1 : count;
	}
	return bad;
}

static void
usage(void)
{
	printf(
	    "usage: difftest [options]\n"
	    "  --seed N          default 1\n"
	    "  --cases N         default 1000000\n"
	    "  --case SEED:INDEX one case, in full\n"
	    "  --op XX | 0fXX    this opcode alone (changes what a case is)\n"
	    "  --shown N         differences in full, default 20\n"
	    "  --verbose         every register, not just those that differ\n");
}

static bool
parse_op(struct options *o, const char *text)
{
	char *end;
	unsigned long v = strtoul(text, &end, 16);

	if (*end || end == text || v > 0xfff)
		return false;
	o->map = v >= 0xf00 && strlen(text) == 4;
	o->opcode = (int)(v & 0xff);
	return true;
}

static bool
parse(struct options *o, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "cases", required_argument, NULL, 'n' },
		{ "case", required_argument, NULL, 'c' },
		{ "op", required_argument, NULL, 'o' },
		{ "shown", required_argument, NULL, 'd' },
		{ "verbose", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	char *end;
	int opt;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1)
		switch (opt) {
		case 's':
			o->seed = strtoull(optarg, NULL, 0);
			break;
		case 'n':
			o->cases = strtoull(optarg, NULL, 0);
			break;
		case 'c':
			o->seed = strtoull(optarg, &end, 0);
			if (*end != ':')
				return false;
			o->first = strtoull(end + 1, NULL, 0);
			o->cases = 1;
			o->verbose = true;
			break;
		case 'o':
			if (!parse_op(o, optarg))
				return false;
			break;
		case 'd':
			o->shown = (unsigned)strtoul(optarg, NULL, 0);
			break;
		case 'v':
			o->verbose = true;
			break;
		default:
			return false;
		}
	return optind == argc;
}

int
main(int argc, char **argv)
{
	struct options o = {
		.seed = 1, .cases = 1000000, .map = -1, .shown = 20
	};
	struct native n;
	struct soft s;
	uint64_t bad;
	int err;

	if (!parse(&o, argc, argv)) {
		usage();
		return 2;
	}
	err = native_create(&n, o.seed);
	if (err) {
		printf("no jailed child: %s\n", strerror(-err));
		return 77;
	}
	err = soft_create(&s, n.box->base);
	if (err) {
		printf("no software machine: %s\n", strerror(-err));
		return 1;
	}
	fflush(stdout);
	signal(SIGPROF, report_hang);
	bad = run(&o, &n, &s);
	native_stop(&n);
	if (bad)
		print_tallies(&o);
	printf("%llu cases, %llu differences\n", (unsigned long long)o.cases,
	    (unsigned long long)bad);
	return bad ? 1 : 0;
}
