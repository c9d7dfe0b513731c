/* The loader as a process: its conversation, inside its sandbox. */
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devhost/host.h"
#include "devhost/loader.h"
#include "proto/base.h"
#include "proto/channel.h"
#include "tests/named_tests.h"

#define BODY(name) BULKHEAD__ENVELOPE__BODY_##name
#define WAIT_MS	   20000
#define RAM_LOW	   (16ull << 20)
#define CONTROL_FD 3

/* A loader at work, and our end of its channel. */
struct session {
	struct channel channel;
	pid_t pid;
};

static void
start(struct session *s)
{
	int fds[2];

	CU_ASSERT_FATAL(
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
	fflush(NULL);
	s->pid = fork();
	CU_ASSERT_FATAL(s->pid >= 0);
	if (s->pid == 0) {
		if (dup2(fds[1], CONTROL_FD) < 0 ||
		    close_range(CONTROL_FD + 1, ~0u, 0) < 0)
			_exit(99);
		_exit(loader_main(CONTROL_FD, SANDBOX_BEST_EFFORT));
	}
	close(fds[1]);
	channel_init(&s->channel, fds[0], CHANNEL_BROKER_TO_LOADER);
}

/* The exit status; -1 if it died by a signal. */
static int
finish(struct session *s)
{
	int status;

	channel_close(&s->channel);
	CU_ASSERT_FATAL(waitpid(s->pid, &status, 0) == s->pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int
memfd(const void *bytes, size_t n, uint64_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	CU_ASSERT_FATAL(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	CU_ASSERT_FATAL(pwrite(fd, bytes, n, 0) == (ssize_t)n);
	return fd;
}

/* The smallest ELF with a PVH note. */
static int
kernel_memfd(void)
{
	struct {
		Elf64_Ehdr e;
		Elf64_Phdr p[2];
		Elf64_Nhdr note;
		char name[4];
		uint64_t entry;
	} image = {
		.e = {
			.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64,
			    ELFDATA2LSB, EV_CURRENT },
			.e_type = ET_EXEC,
			.e_machine = EM_X86_64,
			.e_phoff = sizeof(Elf64_Ehdr),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = 2,
		},
		.p = {
			{ .p_type = PT_LOAD, .p_paddr = 0x100000,
			    .p_filesz = 256, .p_memsz = 8192 },
			{ .p_type = PT_NOTE,
			    .p_offset = sizeof(Elf64_Ehdr) +
			        2 * sizeof(Elf64_Phdr),
			    .p_filesz = 24 },
		},
		.note = { 4, 8, 18 },
		.name = "Xen",
		.entry = 0x100020,
	};

	return memfd(&image, sizeof(image), 4096);
}

/* Send Load and wait for the answer, after the Hello. */
static void
ask(struct session *s, Bulkhead__Load *load, const int *fds, unsigned nfds,
    struct channel_message *answer)
{
	struct channel_message hello;

	CU_ASSERT_EQUAL_FATAL(channel_receive(&s->channel, &hello, WAIT_MS), 1);
	CU_ASSERT_EQUAL_FATAL(hello.envelope->body_case, BODY(HELLO));
	CU_ASSERT_STRING_EQUAL(hello.envelope->hello->type, "loader");
	channel_free(&hello);
	CU_ASSERT_EQUAL_FATAL(
	    channel_send(&s->channel, BODY(LOAD), load, fds, nfds, 0), 0);
	CU_ASSERT_EQUAL_FATAL(channel_receive(&s->channel, answer, WAIT_MS), 1);
}

/* Every type that there is, where it would like to be. */
static size_t
place_all(Bulkhead__PlacedDevice **out)
{
	static Bulkhead__PlacedDevice devices[LOADER_DEVICES_MAX];
	static Bulkhead__Placement placements[LOADER_DEVICES_MAX];
	static Bulkhead__Region regions[LOADER_DEVICES_MAX][DEVICE_REGIONS_MAX];
	static Bulkhead__Region
	    *region_list[LOADER_DEVICES_MAX][DEVICE_REGIONS_MAX];
	static Bulkhead__Irq irqs[LOADER_DEVICES_MAX][DEVICE_IRQS_MAX];
	static Bulkhead__Irq *irq_list[LOADER_DEVICES_MAX][DEVICE_IRQS_MAX];
	static char type[LOADER_DEVICES_MAX][32];
	size_t n = 0;

	DEVTYPE_FOREACH (t) {
		const struct device_placement *pl = &(*t)->placements[0];

		CU_ASSERT_FATAL(n < LOADER_DEVICES_MAX);
		bulkhead__placed_device__init(&devices[n]);
		bulkhead__placement__init(&placements[n]);
		snprintf(type[n], sizeof(type[n]), "%s", (*t)->name);
		devices[n].type = devices[n].name = type[n];
		devices[n].placement = &placements[n];
		for (unsigned i = 0; i < pl->nregions; i++) {
			bulkhead__region__init(&regions[n][i]);
			regions[n][i].space = pl->regions[i].space == DEVICE_PIO
			    ? BULKHEAD__SPACE__PIO
			    : BULKHEAD__SPACE__MMIO;
			regions[n][i].start = pl->regions[i].base;
			regions[n][i].size = pl->regions[i].size;
			region_list[n][i] = &regions[n][i];
		}
		placements[n].n_regions = pl->nregions;
		placements[n].regions = region_list[n];
		for (unsigned i = 0; i < pl->nirqs; i++) {
			bulkhead__irq__init(&irqs[n][i]);
			irqs[n][i].gsi = pl->irqs[i].gsi;
			irqs[n][i].level = pl->irqs[i].level;
			irq_list[n][i] = &irqs[n][i];
		}
		placements[n].n_irqs = pl->nirqs;
		placements[n].irqs = irq_list[n];
		out[n] = &devices[n];
		n++;
	}
	return n;
}

static void
answers_with_the_entry_state(void)
{
	char cmdline[] = "hello world";
	Bulkhead__PlacedDevice *devices[LOADER_DEVICES_MAX];
	Bulkhead__Load load;
	struct channel_message m;
	struct session s;
	uint8_t byte = 0x42;
	int fds[3] = { kernel_memfd(), memfd("", 0, RAM_LOW),
		memfd(&byte, 1, 5000) };
	uint8_t *ram;

	ram = mmap(NULL, RAM_LOW, PROT_READ, MAP_SHARED, fds[1], 0);
	CU_ASSERT_FATAL(ram != MAP_FAILED);
	bulkhead__load__init(&load);
	load.cmdline = cmdline;
	load.ram_low = RAM_LOW;
	load.vcpus = 1;
	load.has_initrd = true;
	load.devices = devices;
	load.n_devices = place_all(devices);
	CU_ASSERT(load.n_devices > 0);
	start(&s);
	ask(&s, &load, fds, 3, &m);
	if (m.envelope->body_case == BODY(FAILURE))
		printf("\n%s\n", m.envelope->failure->text);
	CU_ASSERT_EQUAL_FATAL(m.envelope->body_case, BODY(LOADED));
	CU_ASSERT_EQUAL(m.envelope->loaded->mode, 32);
	CU_ASSERT_EQUAL(m.envelope->loaded->rip, 0x100020);
	CU_ASSERT_EQUAL(m.envelope->loaded->rbx, LOADER_START_INFO);
	CU_ASSERT_STRING_EQUAL(m.envelope->loaded->format, "ELF/PVH");
	channel_free(&m);
	CU_ASSERT_EQUAL(memcmp(ram + 0x100000, ELFMAG, SELFMAG), 0);
	CU_ASSERT_EQUAL(ram[(RAM_LOW - 5000) & ~0xfffull], 0x42);
	CU_ASSERT_STRING_EQUAL(ram + LOADER_CMDLINE, "hello world");
	CU_ASSERT_EQUAL(finish(&s), HOST_EXIT_OK);
	munmap(ram, RAM_LOW);
	for (unsigned i = 0; i < 3; i++)
		close(fds[i]);
}

/* What is asked for, and what the Failure says. */
static void
fails(Bulkhead__Load *load, int kernel, int ram, int error, const char *text)
{
	char cmdline[] = "";
	struct channel_message m;
	struct session s;
	int fds[2] = { kernel, ram };

	load->cmdline = cmdline;
	start(&s);
	ask(&s, load, fds, 2, &m);
	CU_ASSERT_EQUAL_FATAL(m.envelope->body_case, BODY(FAILURE));
	CU_ASSERT_EQUAL(m.envelope->failure->error, error);
	if (strstr(m.envelope->failure->text, text) == NULL) {
		printf("\nwanted \"%s\": \"%s\"\n", text,
		    m.envelope->failure->text);
		CU_FAIL("another failure than claimed");
	}
	channel_free(&m);
	CU_ASSERT_EQUAL(finish(&s), HOST_EXIT_OK);
	close(kernel);
	close(ram);
}

static void
answers_with_the_reason_of_a_failure(void)
{
	char unknown[] = "flux-capacitor";
	Bulkhead__PlacedDevice device;
	Bulkhead__PlacedDevice *devices[] = { &device };
	Bulkhead__Load load;
	int pipe_fds[2];

	bulkhead__load__init(&load);
	bulkhead__placed_device__init(&device);
	load.ram_low = RAM_LOW;
	load.vcpus = 1;
	fails(&load, memfd("abc", 3, 2000), memfd("", 0, RAM_LOW), -ENOEXEC,
	    "kernel: neither an ELF file nor a bzImage");
	fails(&load, kernel_memfd(), memfd("", 0, RAM_LOW - 1), -EINVAL,
	    "memory: the memory object is smaller than 0x1000000");
	load.ram_high = UINT64_MAX;
	fails(&load, kernel_memfd(), memfd("", 0, RAM_LOW), -EINVAL,
	    "memory: the memory object is smaller");
	load.ram_high = 0;
	CU_ASSERT_FATAL(pipe(pipe_fds) == 0);
	close(pipe_fds[1]);
	fails(&load, pipe_fds[0], memfd("", 0, RAM_LOW), -EINVAL,
	    "kernel: not a regular file");
	device.type = unknown;
	load.devices = devices;
	load.n_devices = 1;
	fails(&load, kernel_memfd(), memfd("", 0, RAM_LOW), -EINVAL,
	    "devices: no type \"flux-capacitor\"");
}

static void
refuses_fds_that_do_not_match(void)
{
	char cmdline[] = "";
	Bulkhead__Load load;
	struct channel_message m;
	struct session s;
	int fds[2] = { kernel_memfd(), memfd("", 0, RAM_LOW) };

	bulkhead__load__init(&load);
	load.cmdline = cmdline;
	load.has_initrd = true;
	start(&s);
	CU_ASSERT_EQUAL_FATAL(channel_receive(&s.channel, &m, WAIT_MS), 1);
	channel_free(&m);
	CU_ASSERT_EQUAL(
	    channel_send(&s.channel, BODY(LOAD), &load, fds, 2, 0), 0);
	CU_ASSERT_EQUAL(channel_receive(&s.channel, &m, WAIT_MS), 0);
	CU_ASSERT_EQUAL(finish(&s), HOST_EXIT_PROTOCOL);
	close(fds[0]);
	close(fds[1]);
}

static void
ends_when_the_broker_is_gone(void)
{
	struct channel_message m;
	struct session s;

	start(&s);
	CU_ASSERT_EQUAL_FATAL(channel_receive(&s.channel, &m, WAIT_MS), 1);
	channel_free(&m);
	CU_ASSERT_EQUAL(finish(&s), HOST_EXIT_OK);
}

static const struct named_test tests[] = {
	NAMED_TEST(answers_with_the_entry_state),
	NAMED_TEST(answers_with_the_reason_of_a_failure),
	NAMED_TEST(refuses_fds_that_do_not_match),
	NAMED_TEST(ends_when_the_broker_is_gone),
};

int
main(void)
{
	return named_tests_run("loader process", tests, ARRAY_LEN(tests));
}
