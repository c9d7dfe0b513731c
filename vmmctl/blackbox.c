/* blackbox show: why a device died, and what it was doing. */
#include "vmmctl/blackbox.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/blackbox.h"
#include "proto/control.pb-c.h"
#include "proto/exitcodes.h"
#include "proto/ring.h"
#include "proto/store.h"
#include "vmmctl/commands.h"
#include "vmmctl/connect.h"
#include "vmmctl/fault.h"

#define SHOWN	    16u /* requests of each ring */
#define STATE_SHOWN 512u /* bytes */
#define FAULT_EXIT  8 /* devhost's, for a fault made on purpose */

struct box {
	FILE *out;
	const struct blackbox_header *h;
	Bulkhead__Configure *configure; /* or NULL */
	const char *registers;
	bool has_store;
	struct store store;
	const struct ring_set *rings; /* or NULL */
	unsigned vcpus;
};

/* Text of the dead device's: it does not write on the terminal as it likes. */
static void
print_text(FILE *out, const char *text, size_t n)
{
	for (size_t i = 0; i < n && text[i] != '\0'; i++)
		fputc(isprint((unsigned char)text[i]) ? text[i] : '?', out);
}

/* ---- the head ---- */

static void
print_time(const struct box *b)
{
	time_t s = (time_t)(b->h->realtime_ns / 1000000000u);
	struct tm tm;
	char text[32] = "?";

	if (gmtime_r(&s, &tm) != NULL)
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
	fprintf(b->out, "died       %s.%06u UTC, guest time %.6f s\n", text,
	    (unsigned)(b->h->realtime_ns / 1000 % 1000000),
	    (double)b->h->guest_ns / 1e9);
	if (b->h->lived_ns == 0)
		fputs("life       it was never ready", b->out);
	else
		fprintf(b->out, "life       %.6f s since it was ready",
		    (double)b->h->lived_ns / 1e9);
	fprintf(b->out, ", after %u restart%s\n", b->h->restarts,
	    b->h->restarts == 1 ? "" : "s");
}

static void
print_cause(const struct box *b)
{
	static const char *const statuses[] = {
		[0] = "it ended by itself",
		[2] = "usage",
		[3] = "the broker broke the protocol",
		[4] = "the sandbox could not be entered",
		[5] = "the host system failed it",
		[6] = "the committed state is not valid",
		[7] = "an option is not of this device",
		[FAULT_EXIT] = "a fault made on purpose",
		[9] = "it made a system call that is not on its list",
	};
	const struct blackbox_header *h = b->h;

	if (h->reason[0] != '\0') {
		fputs("cause      the broker killed it: ", b->out);
		print_text(b->out, h->reason, sizeof(h->reason));
		fputc('\n', b->out);
	} else if (h->signal != 0) {
		fprintf(b->out, "cause      signal %d (%s)%s\n", h->signal,
		    strsignal(h->signal),
		    h->signal == 31 ? ": it made a system call that is not "
				      "on its list"
				    : "");
	} else {
		fprintf(b->out, "cause      exit status %d: %s\n", h->status,
		    h->status >= 0 && (size_t)h->status < ARRAY_LEN(statuses) &&
			    statuses[h->status] != NULL
			? statuses[h->status]
			: "unknown");
	}
	if (h->syscall >= 0)
		fprintf(b->out, "denied     system call %d\n", h->syscall);
	if (h->fault_ip != 0)
		fprintf(b->out,
		    "at         instruction 0x%" PRIx64 ", address 0x%" PRIx64
		    "\n",
		    h->fault_ip, h->fault_address);
}

static void
print_head(const struct box *b, const void *file)
{
	const struct blackbox_header *h = b->h;
	const char *words;
	size_t n;

	fputs("device     ", b->out);
	print_text(b->out, h->device, sizeof(h->device));
	fputs(" (type ", b->out);
	print_text(b->out, h->type, sizeof(h->type));
	fputs(") of VM ", b->out);
	print_text(b->out, h->vm, sizeof(h->vm));
	fputs(", build ", b->out);
	print_text(b->out, h->build, sizeof(h->build));
	fputc('\n', b->out);
	print_time(b);
	print_cause(b);
	words = blackbox_section(file, BLACKBOX_WORDS, &n);
	if (words != NULL) {
		fputs("last words ", b->out);
		print_text(b->out, words, n);
		fputc('\n', b->out);
	}
}

static void
print_configure(const struct box *b)
{
	const Bulkhead__Configure *c = b->configure;

	for (size_t i = 0; i < c->n_params; i++) {
		fputs(i == 0 ? "options    " : " ", b->out);
		print_text(b->out, c->params[i]->key, 64);
		fputc('=', b->out);
		print_text(b->out, c->params[i]->value, 128);
	}
	if (c->n_params > 0)
		fputc('\n', b->out);
	for (size_t i = 0; c->placement != NULL && i < c->placement->n_regions;
	     i++) {
		const Bulkhead__Region *r = c->placement->regions[i];

		fprintf(b->out, "region     %zu ", i);
		print_text(b->out, r->name, 32);
		if (r->bar)
			fprintf(
			    b->out, ", a BAR of %" PRIu64 " bytes\n", r->size);
		else
			fprintf(b->out,
			    " at 0x%" PRIx64 ", %" PRIu64 " bytes\n", r->start,
			    r->size);
	}
}

/* ---- the state ---- */

static void
print_bytes(FILE *out, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i += 16) {
		fprintf(out, "  %04zx ", i);
		for (size_t j = 0; j < 16; j++)
			if (i + j < n)
				fprintf(out, " %02x", bytes[i + j]);
			else
				fputs("   ", out);
		fputs("  ", out);
		for (size_t j = 0; j < 16 && i + j < n; j++)
			fputc(isprint(bytes[i + j]) ? bytes[i + j] : '.', out);
		fputc('\n', out);
	}
}

static void
print_state(const struct box *b)
{
	const struct store_shape *sh = &b->store.shape;
	size_t n = MIN((size_t)sh->state_size, (size_t)STATE_SHOWN);

	fprintf(b->out, "state      version %u, %u bytes, commit %" PRIu64 "\n",
	    sh->state_version, sh->state_size,
	    atomic_load_explicit(b->store.commit, memory_order_relaxed));
	if (store_is_fresh(&b->store)) {
		fputs("  nothing was ever committed\n", b->out);
		return;
	}
	print_bytes(b->out, store_committed_state(&b->store), n);
	if (n < sh->state_size)
		fprintf(b->out, "  ... and %zu more\n", sh->state_size - n);
}

static void
print_log(const struct box *b)
{
	size_t used = 0, n = b->store.shape.log_size;

	for (size_t i = 0; i < n; i++)
		used += b->store.log[i] != 0;
	if (n > 0)
		fprintf(b->out,
		    "log        %zu bytes in flight's log, %zu of them not "
		    "zero; %" PRIu64 " requests were in flight\n",
		    n, used, stats_get(&b->store.stats->queue_depth));
}

static void
print_counters(const struct box *b)
{
	const struct stats_device *s = b->store.stats;
	const struct {
		const char *name;
		uint64_t n;
	} counters[] = {
		{ "reads", stats_get(&s->reads) },
		{ "writes", stats_get(&s->writes) },
		{ "posted", stats_get(&s->posted) },
		{ "interrupts", stats_get(&s->interrupts) },
		{ "doorbells", stats_get(&s->doorbells) },
		{ "requests", stats_get(&s->requests) },
		{ "bytes in", stats_get(&s->bytes_in) },
		{ "bytes out", stats_get(&s->bytes_out) },
		{ "recoveries", stats_get(&s->recoveries) },
	};

	fputs("counted   ", b->out);
	for (size_t i = 0; i < ARRAY_LEN(counters); i++)
		fprintf(b->out, " %s %" PRIu64 "%s", counters[i].name,
		    counters[i].n, i + 1 < ARRAY_LEN(counters) ? "," : "\n");
}

static void
print_faults(const struct box *b)
{
	Bulkhead__FaultPlan plan[FAULT_PLANS], *list[FAULT_PLANS];
	Bulkhead__Faults faults;
	bool any = false;

	bulkhead__faults__init(&faults);
	for (unsigned i = 0; i < FAULT_PLANS; i++) {
		const struct fault_plan *from = &b->store.faults->plan[i];
		Bulkhead__FaultPlan *to = &plan[i];

		bulkhead__fault_plan__init(to);
		to->kind = connect_text(fault_kind_name(from->kind));
		to->on = from->on;
		to->after = from->after;
		to->times = from->times;
		to->per_million = from->per_million;
		to->region = from->region;
		to->queue = from->queue;
		to->address = from->address;
		to->value = from->value;
		to->seen = stats_get(&from->seen);
		to->fired = stats_get(&from->fired);
		to->armed = atomic_load(&from->armed) != 0;
		any |= from->kind != FAULT_NONE;
		list[i] = to;
	}
	faults.plans = list;
	faults.n_plans = FAULT_PLANS;
	if (!any)
		return;
	fputs("faults made on purpose\n", b->out);
	fault_print(b->out, &faults);
}

/* ---- the rings ---- */

/* "  NAME+0xOFF N bytes read-only LABEL", as devhost --describe has it. */
static void
print_register(const struct box *b, const char *region, uint64_t addr)
{
	char line[160], name[64], label[96];
	const char *at = b->registers;
	unsigned long long offset;

	while (at != NULL && *at != '\0') {
		size_t n = strcspn(at, "\n");

		snprintf(line, sizeof(line), "%.*s",
		    (int)MIN(n, sizeof(line) - 1), at);
		at += n + (at[n] == '\n');
		if (sscanf(line, " %63[^+]+%llx %*u %*s %*s %95[^\n]", name,
			&offset, label) == 3 &&
		    strcmp(name, region) == 0 && offset == addr) {
			fprintf(b->out, " (%s)", label);
			return;
		}
	}
}

static void
print_request(const struct box *b, unsigned vcpu, uint64_t pos, uint64_t next)
{
	static const char *const ops[] = { "read", "write", "posted write",
		"sync" };
	const struct ring *ring = &b->rings->ring[vcpu];
	struct ring_request r;
	const char *region = "?";

	memcpy(&r, &ring->req[pos % RING_SLOTS], sizeof(r));
	if (b->configure != NULL && b->configure->placement != NULL &&
	    r.region < b->configure->placement->n_regions)
		region = b->configure->placement->regions[r.region]->name;
	fprintf(b->out, "  %" PRIu64 " %.6f s %s of %u at ", pos,
	    (double)r.time_ns / 1e9, r.op < ARRAY_LEN(ops) ? ops[r.op] : "?",
	    r.size);
	print_text(b->out, region, 32);
	fprintf(b->out, "+0x%" PRIx64, r.addr);
	print_register(b, region, r.addr);
	if (r.op != RING_READ)
		fprintf(b->out, " = 0x%" PRIx64, r.data);
	else if (pos < next)
		fprintf(b->out, " -> 0x%" PRIx64,
		    pos + 1 == next && b->has_store
			? store_committed_positions(&b->store)[vcpu].answer
			: ring->answer[pos % RING_SLOTS]);
	fputs(pos < next ? "\n" : "   <- not done\n", b->out);
}

static void
print_ring(const struct box *b, unsigned vcpu)
{
	const struct ring *ring = &b->rings->ring[vcpu];
	uint64_t head = atomic_load(&ring->head),
		 tail = atomic_load(&ring->tail), next = tail, from;

	if (b->has_store)
		next = store_committed_positions(&b->store)[vcpu].next;
	fprintf(b->out,
	    "vCPU %-5u %" PRIu64 " requests made, %" PRIu64
	    " committed, %" PRIu64 " answered\n",
	    vcpu, head, next, tail);
	if (head < next || head - next > RING_SLOTS) {
		fputs("  the positions are impossible\n", b->out);
		return;
	}
	from = MIN(next, head - MIN(head, (uint64_t)SHOWN));
	from = MAX(from, head - MIN(head, (uint64_t)RING_SLOTS));
	for (uint64_t pos = from; pos < head; pos++)
		print_request(b, vcpu, pos, next);
}

/* ---- all of it ---- */

static void
attach_store(struct box *b, const void *bytes, size_t size)
{
	union {
		const void *in;
		void *out;
	} u = { .in = bytes };
	struct store_shape shape;

	b->has_store = bytes != NULL &&
	    store_read_shape(bytes, size, &shape) == 0 &&
	    store_attach(&b->store, u.out, size, &shape) == 0;
	if (b->has_store)
		b->vcpus = shape.vcpus;
}

int
blackbox_print(FILE *out, const void *file, size_t size, const char *registers)
{
	struct box b = { .out = out, .h = file, .registers = registers };
	const void *bytes;
	size_t n;

	if (blackbox_check(file, size) < 0)
		return -EBADMSG;
	bytes = blackbox_section(file, BLACKBOX_STORE, &n);
	attach_store(&b, bytes, n);
	bytes = blackbox_section(file, BLACKBOX_CONFIGURE, &n);
	if (bytes != NULL)
		b.configure = bulkhead__configure__unpack(NULL, n, bytes);
	b.rings = blackbox_section(file, BLACKBOX_RINGS, &n);
	print_head(&b, file);
	if (b.configure != NULL)
		print_configure(&b);
	if (b.has_store) {
		print_counters(&b);
		print_log(&b);
		print_state(&b);
		print_faults(&b);
	} else {
		fputs("state      the store is missing or damaged\n", out);
	}
	for (unsigned v = 0;
	     b.rings != NULL && v < b.vcpus && ring_set_size(v + 1) <= n; v++)
		print_ring(&b, v);
	if (b.configure != NULL)
		bulkhead__configure__free_unpacked(b.configure, NULL);
	return 0;
}

/* What `devhost --describe TYPE` says, to be freed; NULL: nothing. */
static char *
describe_type(const char *type)
{
	char path[PATH_MAX], *text = NULL;
	size_t size = 0;
	int fds[2];
	FILE *in, *keep;
	pid_t pid;
	int c;

	if (!options_name_ok(type) || type[0] == '-' ||
	    connect_find_program("devhost", path) < 0 ||
	    pipe2(fds, O_CLOEXEC) < 0)
		return NULL;
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		execl(path, "devhost", "--describe", type, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	in = fdopen(fds[0], "r");
	keep = open_memstream(&text, &size);
	while (in != NULL && keep != NULL && (c = getc(in)) != EOF)
		putc(c, keep);
	if (keep != NULL)
		fclose(keep);
	if (in != NULL)
		fclose(in);
	else
		close(fds[0]);
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	return text;
}

static int
show(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r = -EBADMSG;
	char *registers = NULL;
	struct stat st = { 0 };
	void *file;

	if (fd < 0 || fstat(fd, &st) < 0)
		return complain_code(
		    EXIT_INPUT, "blackbox %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_size == 0 ||
	    st.st_size > (off_t)BLACKBOX_SIZE_MAX) {
		close(fd);
		return complain_code(
		    EXIT_INPUT, "blackbox %s: it is no black box", path);
	}
	file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (file == MAP_FAILED)
		return complain_code(
		    EXIT_ERROR, "blackbox %s: %s", path, strerror(errno));
	if (blackbox_check(file, (size_t)st.st_size) == 0) {
		registers =
		    describe_type(((struct blackbox_header *)file)->type);
		r = blackbox_print(stdout, file, (size_t)st.st_size, registers);
	}
	free(registers);
	munmap(file, (size_t)st.st_size);
	return r == 0 ? EXIT_POWEROFF
		      : complain_code(EXIT_INPUT,
			    "blackbox %s: it is no black box", path);
}

int
command_blackbox(int argc, char **argv)
{
	if (connect_wants_help(argc, argv))
		return command_help(argv[0], EXIT_POWEROFF);
	if (argc != 3 || strcmp(argv[1], "show") != 0)
		return complain_code(
		    EXIT_USAGE, "blackbox: usage: vmmctl blackbox show FILE");
	return show(argv[2]);
}
