/* BARs, doorbells and messages: what a committed wiring makes true. */
#include "vmmd/wiring.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base.h"
#include "tests/named_tests.h"

#define A	 0xc0000000u
#define B	 0xc0010000u
#define HIGH	 (1ull << 34) /* platform_pci64_base(0) */
#define NONE	 STORE_UNMAPPED
#define MSI	 0xfee01000u
#define BELLS	 2u
#define VECTORS	 3u
#define BAR_SIZE 0x1000u

/* ---- a partition that only takes notes ---- */

static struct {
	uint64_t addr;
	int fd;
} bell[16];
static unsigned nbells, nroutes;
static struct store_vector route[64];
static int bind_error;

static int
bind_bell(struct hv_partition *p, enum hv_space space, uint64_t addr,
    unsigned len, const uint64_t *match, int fd)
{
	(void)p;
	CU_ASSERT(len == 0 && match == NULL && space == HV_MMIO);
	if (bind_error != 0)
		return bind_error;
	bell[nbells].addr = addr;
	bell[nbells++].fd = fd;
	return 0;
}

static int
unbind_bell(struct hv_partition *p, enum hv_space space, uint64_t addr,
    unsigned len, const uint64_t *match, int fd)
{
	(void)p;
	(void)space;
	(void)len;
	(void)match;
	for (unsigned i = 0; i < nbells; i++)
		if (bell[i].addr == addr && bell[i].fd == fd) {
			bell[i] = bell[--nbells];
			return 0;
		}
	return -ENOENT;
}

static int
route_message(
    struct hv_partition *p, unsigned gsi, uint64_t addr, uint32_t data)
{
	(void)p;
	route[gsi] = (struct store_vector){ addr, data, 0 };
	nroutes++;
	return 0;
}

static const struct hv_backend fake = {
	.doorbell_bind = bind_bell,
	.doorbell_unbind = unbind_bell,
	.msi_route = route_message,
};

/* ---- two devices with one BAR each, in region 1 ---- */

static struct address_map map;
static struct wiring_bus bus;
static struct wiring wiring[2];
static struct store store[2];
static struct port *port[2];
static struct placement placed[2];
static struct doorbells doorbells[2];
static int notify;

static const struct store_shape shape = { .vcpus = 1, .vectors = VECTORS };

static void
set_up(void)
{
	size_t size = store_size(&shape);

	memset(&map, 0, sizeof(map));
	memset(wiring, 0, sizeof(wiring));
	memset(placed, 0, sizeof(placed));
	nbells = nroutes = 0;
	bind_error = 0;
	wiring_bus_init(&bus, &fake, NULL, &map, 0, notify);
	for (unsigned i = 0; i < 2; i++) {
		struct wiring *w = &wiring[i];
		struct region *r = placed[i].regions;

		if (store[i].base != NULL)
			munmap(store[i].base, size);
		store[i].base = mmap(NULL, size, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		CU_ASSERT_FATAL(store[i].base != MAP_FAILED);
		store_format(store[i].base, size, &shape);
		store_attach(&store[i], store[i].base, size, &shape);
		store_recover(&store[i]);
		placed[i].nregions = 2;
		r[0] = (struct region){ .name = "config", .config = true };
		r[1] = (struct region){ .name = "regs",
			.space = HV_MMIO,
			.size = BAR_SIZE,
			.bar = true };
		doorbells[i] = (struct doorbells){ 1, 0x100, 4, BELLS };
		w->bus = &bus;
		w->store = &store[i];
		w->placed = &placed[i];
		w->doorbells = &doorbells[i];
		w->port = port[i];
		w->gsi = 24 + i * VECTORS;
		w->nvectors = VECTORS;
		for (unsigned b = 0; b < BELLS; b++)
			w->bell_fd[b] = (int)(100 + i * 10 + b);
		CU_ASSERT_EQUAL(wiring_add(w), 0);
	}
}

static void
commit_bar(unsigned i, uint64_t base)
{
	struct store_wiring *w = store_wiring(&store[i]);

	w->bar[1] = base;
	w->generation++;
	store_commit(&store[i]);
}

/* The device whose BAR an address is in; -1: nobody's. */
static int
owner(uint64_t addr)
{
	struct intercept ic = { .map = &map };
	struct route r;

	if (!intercept_find(&ic, HV_MMIO, addr, &r))
		return -1;
	CU_ASSERT_EQUAL(r.region, 1);
	return r.port == port[0] ? 0 : 1;
}

static int
bells_at(uint64_t base)
{
	int n = 0;

	for (unsigned i = 0; i < nbells; i++)
		n += bell[i].addr == base + 0x100 ||
		    bell[i].addr == base + 0x104;
	return n;
}

static void
maps_what_can_be_and_says_why_not(void)
{
	static const struct {
		const char *claim;
		uint64_t base;
		const char *refused; /* NULL: it is mapped */
	} cases[] = {
		{ "the_first_of_the_low_window", A, NULL },
		{ "the_last_of_it", 0xdffff000, NULL },
		{ "the_first_of_the_high_window", HIGH, NULL },
		{ "the_last_of_it", 2 * HIGH - BAR_SIZE, NULL },
		{ "not_aligned", A + 0x800, "is not aligned" },
		{ "below_the_window", A - BAR_SIZE, "outside" },
		{ "ecam", 0xe0000000, "outside" },
		{ "the_lapic", 0xfee00000, "outside" },
		{ "above_all", 2 * HIGH, "outside" },
		{ "between_the_windows", HIGH - BAR_SIZE, "outside" },
		{ "memory", 0, "outside" },
		{ "the_last_page", UINT64_MAX - (BAR_SIZE - 1), "outside" },
		{ "on_anothers", B, "lies on another" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[WIRING_TEXT];
		bool refused;

		set_up();
		commit_bar(1, B);
		wiring_apply(&wiring[1]);
		CU_ASSERT_EQUAL(owner(B), 1);
		commit_bar(0, cases[i].base);
		wiring_apply(&wiring[0]);
		refused = wiring_refusal(&wiring[0], text);
		if (refused != (cases[i].refused != NULL))
			printf("%s: %s\n", cases[i].claim, text);
		CU_ASSERT_EQUAL(refused, cases[i].refused != NULL);
		CU_ASSERT(!refused || strstr(text, cases[i].refused) != NULL);
		CU_ASSERT_EQUAL(owner(cases[i].base),
		    !refused		     ? 0
			: cases[i].base == B ? 1
					     : -1);
		CU_ASSERT_EQUAL(bells_at(cases[i].base),
		    !refused || cases[i].base == B ? BELLS : 0);
		CU_ASSERT_EQUAL(owner(B), 1);
	}
}

static void
a_bar_moves_with_its_doorbells(void)
{
	set_up();
	commit_bar(0, A);
	wiring_apply(&wiring[0]);
	CU_ASSERT_EQUAL(owner(A + 0xfff), 0);
	CU_ASSERT_EQUAL(owner(A + 0x1000), -1);
	CU_ASSERT_EQUAL(bells_at(A), BELLS);
	CU_ASSERT_EQUAL(bell[0].fd, 100);
	CU_ASSERT_EQUAL(wiring_where(&wiring[0], 1), A);
	CU_ASSERT_EQUAL(wiring_where(&wiring[1], 1), 0);
	commit_bar(0, B);
	wiring_apply(&wiring[0]);
	CU_ASSERT_EQUAL(owner(A), -1);
	CU_ASSERT_EQUAL(owner(B), 0);
	CU_ASSERT_EQUAL(bells_at(A), 0);
	CU_ASSERT_EQUAL(bells_at(B), BELLS);
	commit_bar(0, NONE);
	wiring_apply(&wiring[0]);
	CU_ASSERT_EQUAL(owner(B), -1);
	CU_ASSERT_EQUAL(nbells, 0);
}

static void
two_bars_change_places(void)
{
	set_up();
	commit_bar(0, A);
	wiring_apply(&wiring[0]);
	commit_bar(1, B);
	wiring_apply(&wiring[1]);
	commit_bar(0, B);
	wiring_apply(&wiring[0]);
	CU_ASSERT_EQUAL(owner(A), -1);
	CU_ASSERT_EQUAL(owner(B), 1);
	/* The first gets its place when the second has left it. */
	commit_bar(1, A);
	wiring_apply(&wiring[1]);
	CU_ASSERT_EQUAL(owner(A), 1);
	CU_ASSERT_EQUAL(owner(B), 0);
	CU_ASSERT_EQUAL(bells_at(B), BELLS);
}

static void
looks_at_the_generation_only(void)
{
	set_up();
	store_wiring(&store[0])->bar[1] = A;
	store_commit(&store[0]);
	wiring_apply(&wiring[0]);
	CU_ASSERT_EQUAL(owner(A), -1);
	/* Not committed yet. */
	store_wiring(&store[0])->generation++;
	wiring_apply(&wiring[0]);
	CU_ASSERT_EQUAL(owner(A), -1);
	store_commit(&store[0]);
	wiring_apply(&wiring[0]);
	CU_ASSERT_EQUAL(owner(A), 0);
}

static void
goes_on_when_doorbells_cannot_be_bound(void)
{
	char text[WIRING_TEXT];

	set_up();
	bind_error = -ENOSPC;
	commit_bar(0, A);
	wiring_apply(&wiring[0]);
	CU_ASSERT_EQUAL(owner(A), 0);
	CU_ASSERT_TRUE(wiring_refusal(&wiring[0], text));
	CU_ASSERT_FALSE(wiring_refusal(&wiring[0], text));
}

static void
routes_messages_that_changed_to_the_lapics_only(void)
{
	struct store_wiring *w;

	set_up();
	w = store_wiring(&store[1]);
	w->vector[0] = (struct store_vector){ MSI, 0x41, 0 };
	w->vector[2] = (struct store_vector){ 0x1000, 0x42, 0 };
	w->generation++;
	store_commit(&store[1]);
	wiring_apply(&wiring[1]);
	CU_ASSERT_EQUAL(nroutes, 1);
	CU_ASSERT_EQUAL(route[24 + VECTORS].address, MSI);
	CU_ASSERT_EQUAL(route[24 + VECTORS].data, 0x41);
	w = store_wiring(&store[1]);
	w->vector[1] = (struct store_vector){ MSI, 0x43, 0 };
	w->generation++;
	store_commit(&store[1]);
	wiring_apply(&wiring[1]);
	CU_ASSERT_EQUAL(nroutes, 2);
	CU_ASSERT_EQUAL(route[24 + VECTORS + 1].data, 0x43);
}

/* ---- while the device goes on committing ---- */

#define MOVES 20000u

/* In a process of its own, as devices are; ends when it is killed. */
static NORETURN void
commit_on(void)
{
	for (unsigned n = 0;; n++)
		commit_bar(0, (n & 1) != 0 ? A : B);
}

static void
ends_at_the_last_commit(void)
{
	pid_t pid;

	set_up();
	pid = fork();
	if (pid == 0)
		commit_on();
	CU_ASSERT_FATAL(pid > 0);
	while (store_is_fresh(&store[0]))
		sched_yield();
	for (unsigned i = 0; i < MOVES; i++) {
		wiring_apply(&wiring[0]);
		CU_ASSERT_FALSE(owner(A) == 0 && owner(B) == 0);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	wiring_apply(&wiring[0]);
	CU_ASSERT_EQUAL(owner(store_committed_wiring(&store[0])->bar[1]), 0);
}

static const struct named_test tests[] = {
	NAMED_TEST(maps_what_can_be_and_says_why_not),
	NAMED_TEST(a_bar_moves_with_its_doorbells),
	NAMED_TEST(two_bars_change_places),
	NAMED_TEST(looks_at_the_generation_only),
	NAMED_TEST(goes_on_when_doorbells_cannot_be_bound),
	NAMED_TEST(routes_messages_that_changed_to_the_lapics_only),
	NAMED_TEST(ends_at_the_last_commit),
};

int
main(void)
{
	port[0] = port_new(1);
	port[1] = port_new(1);
	notify = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return named_tests_run("wiring", tests, ARRAY_LEN(tests));
}
