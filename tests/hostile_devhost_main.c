/*
 * A device host of which one type misbehaves; every other is the real one.
 *
 * It stands as `devhost` in a folder with `devhost.real` and `hostile`, which
 * holds one line, "TYPE BEHAVIOUR FIRST END": the starts FIRST to END - 1 of
 * that type misbehave.  `starts` there counts them.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devhost/device.h"
#include "devhost/host_impl.h"
#include "proto/base.h"
#include "proto/ring.h"
#include "proto/store.h"

#define CONTROL_FD     3
#define PLACEMENTS_MAX 8u
#define BODY(name)     BULKHEAD__ENVELOPE__BODY_##name

static char folder[PATH_MAX / 2];

/* What is left of the device when it has misbehaved. */
static NORETURN void
wait_for_the_end(void)
{
	for (;;)
		pause();
}

static void
send_bytes(const void *bytes, size_t n, const int *fds, unsigned nfds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(CHANNEL_FDS_MAX * sizeof(int))];
	} control = { 0 };
	union {
		const void *in;
		void *out;
	} u = { .in = bytes };
	struct iovec iov = { u.out, n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nfds > 0) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, nfds * sizeof(int));
	}
	if (sendmsg(CONTROL_FD, &m, MSG_NOSIGNAL) < 0)
		perror("hostile devhost: sendmsg");
}

static void
send_envelope(Bulkhead__Envelope *e, const int *fds, unsigned nfds)
{
	static uint8_t bytes[CHANNEL_BYTES_MAX];

	BUG_ON(bulkhead__envelope__get_packed_size(e) > sizeof(bytes));
	send_bytes(bytes, bulkhead__envelope__pack(e, bytes), fds, nfds);
}

/* ---- before hello, or instead of it ---- */

static void
die(void)
{
	exit(1);
}

static void
crash(void)
{
	/* PID 1 is spared by the signals that it sends itself, not by these. */
	__builtin_trap();
}

static void
be_silent(void)
{
	wait_for_the_end();
}

static void
send_garbage(void)
{
	uint8_t bytes[512];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 151 + 7);
	send_bytes(bytes, sizeof(bytes), NULL, 0);
}

static void
send_nothing(void)
{
	send_bytes("", 0, NULL, 0);
}

static void
send_too_much(void)
{
	static uint8_t bytes[CHANNEL_BYTES_MAX + 4096];

	send_bytes(bytes, sizeof(bytes), NULL, 0);
}

static void
send_ready_first(void)
{
	Bulkhead__Envelope e = BULKHEAD__ENVELOPE__INIT;
	Bulkhead__Ready ready = BULKHEAD__READY__INIT;

	e.body_case = BODY(READY);
	e.ready = &ready;
	send_envelope(&e, NULL, 0);
}

static void
send_brokers_word(void)
{
	Bulkhead__Envelope e = BULKHEAD__ENVELOPE__INIT;
	Bulkhead__Finish finish = BULKHEAD__FINISH__INIT;

	e.body_case = BODY(FINISH);
	e.finish = &finish;
	send_envelope(&e, NULL, 0);
}

static void
close_channel(void)
{
	close(CONTROL_FD);
}

static void
send_fds(void)
{
	Bulkhead__Envelope e = BULKHEAD__ENVELOPE__INIT;
	Bulkhead__Log text;
	int fds[CHANNEL_FDS_MAX];

	bulkhead__log__init(&text);
	for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
		fds[i] = 0;
	e.body_case = BODY(LOG);
	e.log = &text;
	send_envelope(&e, fds, ARRAY_LEN(fds));
}

/* ---- a hello that is wrong ---- */

enum lie {
	LIE_NONE,
	LIE_TYPE,
	LIE_OVERLAP,
	LIE_RANGE,
	LIE_SHAPE,
	LIE_DMA,
	LIE_SIZE,
	LIE_IRQ,
	LIE_NAME,
};

static const struct device_type *type;

struct placement_words {
	Bulkhead__Placement placement;
	Bulkhead__Region region[DEVICE_REGIONS_MAX];
	Bulkhead__Region *regions[DEVICE_REGIONS_MAX];
	Bulkhead__Irq irq[DEVICE_IRQS_MAX], *irqs[DEVICE_IRQS_MAX];
	char names[DEVICE_REGIONS_MAX][32];
};

static void
fill(struct placement_words *w, const struct device_placement *pl, enum lie lie)
{
	bulkhead__placement__init(&w->placement);
	for (unsigned i = 0; i < pl->nregions; i++) {
		Bulkhead__Region *r = &w->region[i];

		bulkhead__region__init(r);
		snprintf(w->names[i], sizeof(w->names[i]), "%s",
		    lie == LIE_NAME ? "a b/c\n" : pl->regions[i].name);
		r->name = w->names[i];
		r->space = pl->regions[i].space == DEVICE_PIO
		    ? BULKHEAD__SPACE__PIO
		    : BULKHEAD__SPACE__MMIO;
		r->start = pl->regions[i].base;
		r->size = pl->regions[i].size;
		r->posted = pl->regions[i].posted;
		w->regions[i] = r;
	}
	for (unsigned i = 0; i < pl->nirqs; i++) {
		bulkhead__irq__init(&w->irq[i]);
		w->irq[i].gsi = lie == LIE_IRQ ? 4000 : pl->irqs[i].gsi;
		w->irq[i].level = pl->irqs[i].level;
		w->irqs[i] = &w->irq[i];
	}
	if (lie == LIE_OVERLAP) {
		/* A register of the keyboard controller. */
		w->region[0].start = 0x63;
	} else if (lie == LIE_RANGE) {
		w->region[0].space = BULKHEAD__SPACE__MMIO;
		w->region[0].start = ~0ull - 1;
		w->region[0].size = 4096;
	}
	w->placement.regions = w->regions;
	w->placement.n_regions = pl->nregions;
	w->placement.irqs = w->irqs;
	w->placement.n_irqs = pl->nirqs;
}

static void
say_hello(enum lie lie)
{
	Bulkhead__Envelope e = BULKHEAD__ENVELOPE__INIT;
	Bulkhead__Hello hello;
	static struct placement_words words[PLACEMENTS_MAX];
	Bulkhead__Placement *placements[PLACEMENTS_MAX];
	char names[DEVICE_STREAMS_MAX][32], *streams[DEVICE_STREAMS_MAX];
	char own[32];

	bulkhead__hello__init(&hello);
	for (unsigned i = 0; i < type->nplacements; i++) {
		fill(&words[i], &type->placements[i], lie);
		placements[i] = &words[i].placement;
	}
	for (unsigned i = 0; i < type->nstreams; i++) {
		snprintf(names[i], sizeof(names[i]), "%s", type->streams[i]);
		streams[i] = names[i];
	}
	snprintf(own, sizeof(own), "%s",
	    lie == LIE_TYPE ? "somebody-else" : type->name);
	hello.type = own;
	hello.state_version = type->state_version;
	hello.state_size = type->state_size + (lie == LIE_SHAPE ? 8 : 0);
	if (lie == LIE_SIZE)
		hello.state_size = ~0u;
	hello.log_size = type->log_size;
	hello.dma = lie == LIE_DMA ? 2 : (uint32_t)type->dma;
	hello.placements = placements;
	hello.n_placements = type->nplacements;
	hello.streams = streams;
	hello.n_streams = type->nstreams;
	e.body_case = BODY(HELLO);
	e.hello = &hello;
	send_envelope(&e, NULL, 0);
}

#define LIAR(f, lie)            \
	static void f(void)     \
	{                       \
		say_hello(lie); \
	}
LIAR(say_other_type, LIE_TYPE)
LIAR(say_overlap, LIE_OVERLAP)
LIAR(say_range, LIE_RANGE)
LIAR(say_shape, LIE_SHAPE)
LIAR(say_dma, LIE_DMA)
LIAR(say_size, LIE_SIZE)
LIAR(say_irq, LIE_IRQ)
LIAR(say_name, LIE_NAME)
LIAR(never_ready, LIE_NONE)

/* ---- after ready ---- */

static uint8_t *store;
static size_t store_bytes;
static struct ring_set *rings;

static void *
map(int fd, size_t *size)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0)
		exit(1);
	*size = (size_t)st.st_size;
	p = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		exit(1);
	return p;
}

/* Be as the real one up to ready, with what configure brought mapped. */
static void
become_ready(void)
{
	Bulkhead__Envelope e = BULKHEAD__ENVELOPE__INIT;
	Bulkhead__Ready ready = BULKHEAD__READY__INIT;
	struct channel_message m;
	struct channel c;
	size_t size;

	say_hello(LIE_NONE);
	channel_init(&c, CONTROL_FD, CHANNEL_DEVICE);
	c.state = CHANNEL_GREETED;
	if (channel_receive(&c, &m, 60000) != 1 || m.nfds < 2)
		exit(1);
	store = map(m.fds[0], &store_bytes);
	rings = map(m.fds[1], &size);
	channel_free(&m);
	e.body_case = BODY(READY);
	e.ready = &ready;
	send_envelope(&e, NULL, 0);
}

static void
hang(void)
{
	become_ready();
	wait_for_the_end();
}

static void
spin(void)
{
	become_ready();
	for (;;)
		cpu_relax();
}

static void
die_ready(void)
{
	become_ready();
	exit(1);
}

static void
publish_impossible_tail(void)
{
	become_ready();
	atomic_store(&rings->ring[0].tail, 1ull << 40);
	ring_wake_producer(&rings->ring[0]);
}

static void
scribble_rings(void)
{
	become_ready();
	memset(rings, 0xff, ring_set_size(1));
	ring_wake_producer(&rings->ring[0]);
}

static void
scribble_store(void)
{
	become_ready();
	memset(store, 0xa5, store_bytes);
	exit(1);
}

/* The header is right, and the positions cannot be. */
static void
scribble_positions(void)
{
	const struct store_shape shape = {
		.vcpus = 1,
		.state_size = type->state_size,
		.log_size = type->log_size,
		.state_version = type->state_version,
	};
	struct store s;

	become_ready();
	if (store_attach(&s, store, store_bytes, &shape) == 0) {
		memset(s.slot[0], 0xa5, sizeof(struct store_position));
		memset(s.slot[1], 0xa5, sizeof(struct store_position));
	}
	exit(1);
}

static void
flood_logs(void)
{
	Bulkhead__Envelope e = BULKHEAD__ENVELOPE__INIT;
	Bulkhead__Log text;
	char words[1000];

	bulkhead__log__init(&text);
	memset(words, 'x', sizeof(words) - 1);
	words[sizeof(words) - 1] = '\0';
	text.text = words;
	e.body_case = BODY(LOG);
	e.log = &text;
	become_ready();
	fcntl(CONTROL_FD, F_SETFL, 0);
	for (;;)
		send_envelope(&e, NULL, 0);
}

static void
send_garbage_ready(void)
{
	become_ready();
	send_garbage();
}

static void
say_unknown_event(void)
{
	Bulkhead__Envelope e = BULKHEAD__ENVELOPE__INIT;
	Bulkhead__PlatformEvent event = BULKHEAD__PLATFORM_EVENT__INIT;

	become_ready();
	/* Once the vCPUs run, or it is not listened to. */
	usleep(300000);
	event.event = (Bulkhead__Platform)77;
	e.body_case = BODY(PLATFORM);
	e.platform = &event;
	send_envelope(&e, NULL, 0);
}

/* ---- the loader ---- */

static void
send_entry(void)
{
	Bulkhead__Envelope e = BULKHEAD__ENVELOPE__INIT;
	Bulkhead__Hello hello;
	Bulkhead__Loaded loaded;
	static char name[] = "loader", format[] = "none";
	struct channel_message m;
	struct channel c;

	bulkhead__hello__init(&hello);
	bulkhead__loaded__init(&loaded);
	hello.type = name;
	e.body_case = BODY(HELLO);
	e.hello = &hello;
	send_envelope(&e, NULL, 0);
	channel_init(&c, CONTROL_FD, CHANNEL_LOADER);
	c.state = CHANNEL_GREETED;
	if (channel_receive(&c, &m, 60000) != 1)
		exit(1);
	channel_free(&m);
	/* No such mode. */
	loaded.mode = 16;
	loaded.rip = 0xfff0;
	loaded.format = format;
	e.body_case = BODY(LOADED);
	e.loaded = &loaded;
	send_envelope(&e, NULL, 0);
}

static const struct {
	const char *name;
	void (*run)(void);
} behaviours[] = {
	{ "die", die },
	{ "crash", crash },
	{ "silent", be_silent },
	{ "garbage", send_garbage },
	{ "nothing", send_nothing },
	{ "oversized", send_too_much },
	{ "fds", send_fds },
	{ "ready-first", send_ready_first },
	{ "brokers-word", send_brokers_word },
	{ "close", close_channel },
	{ "other-type", say_other_type },
	{ "overlap", say_overlap },
	{ "range", say_range },
	{ "shape", say_shape },
	{ "dma", say_dma },
	{ "size", say_size },
	{ "irq", say_irq },
	{ "name", say_name },
	{ "never-ready", never_ready },
	{ "hang", hang },
	{ "spin", spin },
	{ "die-ready", die_ready },
	{ "tail", publish_impossible_tail },
	{ "rings", scribble_rings },
	{ "store", scribble_store },
	{ "positions", scribble_positions },
	{ "flood", flood_logs },
	{ "garbage-ready", send_garbage_ready },
	{ "event", say_unknown_event },
	{ "entry", send_entry },
};

/* Count this start; how many there were before it. */
static int
count_start(void)
{
	char path[PATH_MAX], text[16] = "0";
	int fd, n;

	snprintf(path, sizeof(path), "%s/starts", folder);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX) < 0 ||
	    read(fd, text, sizeof(text) - 1) < 0)
		return 0;
	n = atoi(text);
	snprintf(text, sizeof(text), "%d", n + 1);
	if (pwrite(fd, text, strlen(text), 0) < 0)
		perror("hostile devhost: starts");
	close(fd);
	return n;
}

static void
misbehave(const char *behaviour)
{
	for (unsigned i = 0; i < ARRAY_LEN(behaviours); i++)
		if (strcmp(behaviours[i].name, behaviour) == 0) {
			behaviours[i].run();
			wait_for_the_end();
		}
	fprintf(stderr, "hostile devhost: no behaviour %s\n", behaviour);
	exit(1);
}

int
main(int argc, char **argv)
{
	char path[PATH_MAX], who[32], behaviour[32];
	ssize_t n = readlink("/proc/self/exe", folder, sizeof(folder) - 1);
	int first, end, start;
	FILE *f;

	if (n < 0)
		return 1;
	folder[n] = '\0';
	*strrchr(folder, '/') = '\0';
	snprintf(path, sizeof(path), "%s/hostile", folder);
	f = fopen(path, "re");
	if (f == NULL ||
	    fscanf(f, "%31s %31s %d %d", who, behaviour, &first, &end) != 4)
		return 1;
	fclose(f);
	if (argc == 2 && strcmp(argv[1], who) == 0) {
		type = device_type_find(who);
		start = count_start();
		if (start >= first && start < end)
			misbehave(behaviour);
	}
	snprintf(path, sizeof(path), "%s/devhost.real", folder);
	execv(path, argv);
	perror(path);
	return 1;
}
