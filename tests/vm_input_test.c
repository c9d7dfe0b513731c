/* What vmmctl run says of inputs that are no good, and with which exit code. */
#include <elf.h>
#include <glob.h>
#include <sys/stat.h>

#include "tests/named_tests.h"
#include "tests/vm.h"

/* Where the table says @, it means this folder. */
static char folder[64];

static FILE *
create(const char *name)
{
	char path[PATH_MAX];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "we");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	return f;
}

/* ---- kernels that are none ---- */

struct note {
	Elf64_Nhdr head;
	char name[4];
	uint32_t entry;
};

struct segment {
	uint64_t offset, file_bytes, address, memory_bytes;
};

#define DATA_AT	  0x1000u
#define DATA_SIZE 0x1000u

static const struct image {
	const char *name;
	bool no_note;
	unsigned nsegments;
	struct segment segments[3];
} images[] = {
	{ "no-note", true, 1, { { DATA_AT, 0x1000, 0x100000, 0x1000 } } },
	{ "overlap", false, 2,
	    { { DATA_AT, 0x1000, 0x100000, 0x2000 },
		{ DATA_AT, 0x1000, 0x101000, 0x1000 } } },
	{ "overflow", false, 1,
	    { { DATA_AT, 0x1000, ~0ull - 0xfff, 0x2000 } } },
	{ "file-overflow", false, 1,
	    { { ~0ull - 0xff, 0x1000, 0x100000, 0x1000 } } },
	{ "cut-segment", false, 1,
	    { { DATA_AT, 0x100000, 0x100000, 0x100000 } } },
	{ "beyond", false, 1, { { DATA_AT, 0x1000, 0x100000, 0x4000000000 } } },
	{ "low", false, 1, { { DATA_AT, 0x1000, 0x1000, 0x1000 } } },
	{ "outside", false, 1, { { DATA_AT, 0x1000, 0x200000, 0x1000 } } },
};

static void
make_image(const struct image *im)
{
	const struct note note = {
		{ .n_namesz = 4, .n_descsz = 4, .n_type = 18 },
		"Xen",
		0x100000,
	};
	Elf64_Ehdr head = {
		.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB,
		    EV_CURRENT },
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_phoff = sizeof(head),
		.e_ehsize = sizeof(head),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = (Elf64_Half)(im->nsegments + 1),
	};
	Elf64_Phdr ph = { .p_type = im->no_note ? PT_NULL : PT_NOTE,
		.p_offset = 0x800,
		.p_filesz = sizeof(note),
		.p_memsz = sizeof(note) };
	static uint8_t data[DATA_SIZE];
	FILE *f = create(im->name);

	/* hlt; jmp to it */
	memcpy(data, (const uint8_t[]){ 0xf4, 0xeb, 0xfd }, 3);
	fwrite(&head, sizeof(head), 1, f);
	fwrite(&ph, sizeof(ph), 1, f);
	for (unsigned i = 0; i < im->nsegments; i++) {
		ph = (Elf64_Phdr){ .p_type = PT_LOAD,
			.p_flags = PF_R | PF_W | PF_X,
			.p_offset = im->segments[i].offset,
			.p_filesz = im->segments[i].file_bytes,
			.p_paddr = im->segments[i].address,
			.p_memsz = im->segments[i].memory_bytes };
		fwrite(&ph, sizeof(ph), 1, f);
	}
	fseek(f, 0x800, SEEK_SET);
	fwrite(&note, sizeof(note), 1, f);
	fseek(f, DATA_AT, SEEK_SET);
	fwrite(data, sizeof(data), 1, f);
	fclose(f);
}

/* The first sectors of a bzImage; the rest of it is not there. */
static void
make_bzimage(const char *name, uint16_t version, uint16_t xloadflags)
{
	static uint8_t sectors[4096];
	FILE *f = create(name);

	memset(sectors, 0, sizeof(sectors));
	sectors[0x1f1] = 1;
	memcpy(&sectors[0x1f4], (const uint8_t[]){ 0, 0, 1, 0 }, 4);
	memcpy(&sectors[0x1fe], (const uint8_t[]){ 0x55, 0xaa, 0xeb, 0x6a }, 4);
	memcpy(&sectors[0x202], "HdrS", 4);
	memcpy(&sectors[0x206], &version, 2);
	sectors[0x211] = 1;
	memcpy(&sectors[0x230], (const uint8_t[]){ 0, 0, 0x20, 0 }, 4);
	memcpy(&sectors[0x236], &xloadflags, 2);
	sectors[0x25a] = 0x10;
	fwrite(sectors, sizeof(sectors), 1, f);
	fclose(f);
}

/* A real bzImage if there is one; false: none. */
static bool
find_kernel(char path[PATH_MAX])
{
	const char *given = getenv("BULKHEAD_KERNEL");
	glob_t g;
	bool found;

	if (given != NULL) {
		snprintf(path, PATH_MAX, "%s", given);
		return access(path, R_OK) == 0;
	}
	found = glob("o/kernel/boot/vmlinuz-*", 0, NULL, &g) == 0;
	if (found)
		snprintf(path, PATH_MAX, "%s", g.gl_pathv[0]);
	globfree(&g);
	return found;
}

/* A copy that ends early, and one whose header is not what it was. */
static void
spoil_kernel(void)
{
	static uint8_t bytes[1 << 20];
	char path[PATH_MAX];
	FILE *in, *out;
	size_t n;

	make_bzimage("truncated", 0x20f, 3);
	make_bzimage("corrupt", 0xffff, 0);
	if (!find_kernel(path))
		return;
	in = fopen(path, "re");
	CU_ASSERT_PTR_NOT_NULL_FATAL(in);
	n = fread(bytes, 1, sizeof(bytes), in);
	fclose(in);
	out = create("truncated");
	fwrite(bytes, 1, n, out);
	fclose(out);
	/* xloadflags */
	bytes[0x236] = bytes[0x237] = 0;
	out = create("corrupt");
	fwrite(bytes, 1, n, out);
	fclose(out);
}

static void
expand(char *out, size_t size, const char *in)
{
	size_t n = 0;

	for (; *in != '\0' && n + sizeof(folder) < size; in++) {
		if (*in == '@')
			n += (size_t)snprintf(out + n, size - n, "%s", folder);
		else
			out[n++] = *in;
	}
	out[n] = '\0';
}

static void
write_text(const char *name, const char *text)
{
	FILE *f = create(name);
	char expanded[1024];

	expand(expanded, sizeof(expanded), text);
	fputs(expanded, f);
	fclose(f);
}

static void
make_files(void)
{
	FILE *f;

	snprintf(folder, sizeof(folder), "/tmp/bulkhead-input-XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
	chmod(folder, 0755);
	for (size_t i = 0; i < ARRAY_LEN(images); i++)
		make_image(&images[i]);
	make_bzimage("old", 0x205, 3);
	make_bzimage("32-bit", 0x20f, 0);
	spoil_kernel();
	fclose(create("empty"));
	f = create("text");
	fputs("not a kernel at all\n", f);
	fclose(f);
	f = create("large");
	CU_ASSERT_EQUAL(ftruncate(fileno(f), 300 << 20), 0);
	fclose(f);
	f = create("disk");
	CU_ASSERT_EQUAL(ftruncate(fileno(f), 1 << 20), 0);
	fclose(f);
	write_text("good.json",
	    "{ \"hypervisor\": \"soft\", \"kernel\": \"guests/hello.elf\",\n"
	    "  \"rng\": true, \"disk\": { \"path\": \"@/disk\" } }\n");
	write_text("key.json", "{ \"cpus\": 1,\n\n  \"bogus\": \"@\" }\n");
	write_text("cut.json", "{ \"kernel\": \"@\",\n");
	write_text("value.json", "{ \"name\": \"a\",\n  \"memory\": \"@\" }\n");
	write_text("type.json",
	    "{ \"device\": [\n    { \"name\": \"a\", \"type\": \"bogus\",\n"
	    "      \"x\": \"@\" }] }\n");
	write_text("disk.json",
	    "{ \"kernel\": \"guests/hello.elf\",\n"
	    "  \"disk\": [{ \"path\": \"@/nothing\" }] }\n");
}

static void
remove_files(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", folder);
	CU_ASSERT_EQUAL(system(command), 0);
}

/* ---- the table ---- */

#define RUN   "vmmctl/vmmctl run --hypervisor soft --kernel "
#define HELLO RUN "guests/hello.elf "
#define KVM   "vmmctl/vmmctl run --hypervisor kvm --kernel guests/hello.elf"
#define NO_KVM                                        \
	"unshare -m sh -c 'mount -t tmpfs none /dev;" \
	"mknod -m 666 /dev/null c 1 3; exec " KVM "'"
#define NO_USERNS                                                   \
	"unshare -U -r sh -c 'echo 0 >/proc/sys/user/"              \
	"max_user_namespaces; exec vmmctl/vmmctl run --hypervisor " \
	"soft --kernel guests/hello.elf --sandbox "

struct input {
	const char *claim, *command;
	int code;
	const char *says;
	const char *also; /* NULL: nothing */
	bool as_root; /* skipped if we are not */
};

static const struct input kernels[] = {
	{ "a_missing_kernel", RUN "/nonexistent", EXIT_INPUT,
	    "--kernel /nonexistent: No such file", NULL, false },
	{ "no_kernel_at_all", "vmmctl/vmmctl run", EXIT_USAGE,
	    "--kernel is missing", NULL, false },
	{ "a_folder", RUN "/tmp", EXIT_INPUT,
	    "--kernel /tmp: not a regular file", NULL, false },
	{ "a_device_file", RUN "/dev/zero", EXIT_INPUT,
	    "--kernel /dev/zero: not a regular file", NULL, false },
	{ "an_empty_file", RUN "@/empty", EXIT_INPUT, "the file is empty", NULL,
	    false },
	{ "a_text", RUN "@/text", EXIT_INPUT, "loader: kernel: ", NULL, false },
	{ "an_unreadable_kernel",
	    "chmod 0 @/text; exec setpriv --reuid 1234 --regid 1234 "
	    "--clear-groups " RUN "@/text",
	    EXIT_INPUT, "Permission denied", "@/text", true },
	{ "a_truncated_bzimage", RUN "@/truncated", EXIT_INPUT,
	    "loader: kernel: bzImage: ", "it is truncated", false },
	{ "a_corrupt_bzimage", RUN "@/corrupt", EXIT_INPUT,
	    "loader: kernel: bzImage: xloadflags", NULL, false },
	{ "an_old_bzimage", RUN "@/old", EXIT_INPUT, "older than 2.12", NULL,
	    false },
	{ "a_bzimage_of_32_bits", RUN "@/32-bit", EXIT_INPUT, "no 64-bit entry",
	    NULL, false },
	{ "an_elf_without_a_note", RUN "@/no-note", EXIT_INPUT, "no PVH entry",
	    NULL, false },
	{ "segments_that_overlap", RUN "@/overlap", EXIT_INPUT,
	    "overlaps another", NULL, false },
	{ "an_address_that_overflows", RUN "@/overflow", EXIT_INPUT,
	    "overflows", NULL, false },
	{ "an_offset_that_overflows", RUN "@/file-overflow", EXIT_INPUT,
	    "loader: kernel: ELF: segment", NULL, false },
	{ "a_segment_beyond_the_file", RUN "@/cut-segment", EXIT_INPUT,
	    "it is truncated", NULL, false },
	{ "a_segment_beyond_memory", RUN "@/beyond", EXIT_INPUT,
	    "beyond memory", NULL, false },
	{ "a_segment_below_1_mib", RUN "@/low", EXIT_INPUT, "below 1 MiB", NULL,
	    false },
	{ "an_entry_in_no_segment", RUN "@/outside", EXIT_INPUT,
	    "is in no segment", NULL, false },
	{ "a_missing_initrd", HELLO "--initrd /nonexistent", EXIT_INPUT,
	    "--initrd /nonexistent: No such file", NULL, false },
	{ "an_initrd_larger_than_memory", HELLO "--initrd @/large", EXIT_INPUT,
	    "loader: initrd: 314572800 bytes do not fit", NULL, false },
};

static const struct input options[] = {
	{ "no_memory", HELLO "--memory 0", EXIT_USAGE, "the least is 1M", NULL,
	    false },
	{ "odd_memory", HELLO "--memory 2049K", EXIT_USAGE,
	    "not a multiple of 4K", NULL, false },
	{ "more_memory_than_there_is", HELLO "--memory 100000G", EXIT_USAGE,
	    "more than this machine has", NULL, false },
	{ "memory_that_is_no_number", HELLO "--memory lots", EXIT_USAGE,
	    "not a size", NULL, false },
	{ "no_processor", HELLO "--cpus 0", EXIT_USAGE,
	    "not a number from 1 to 64", NULL, false },
	{ "too_many_processors", HELLO "--cpus 65", EXIT_USAGE,
	    "not a number from 1 to 64", NULL, false },
	{ "an_unknown_device", HELLO "--device bogus", EXIT_USAGE,
	    "unknown device type", "serial", false },
	{ "an_unknown_option_of_a_device", HELLO "--device serial,bogus=1",
	    EXIT_USAGE, "--device serial: unknown option bogus", NULL, false },
	{ "two_types_of_one_name", HELLO "--device debugport,name=rtc",
	    EXIT_USAGE, "rtc", NULL, false },
	{ "an_unknown_backend",
	    "vmmctl/vmmctl run --kernel guests/hello.elf --hypervisor bogus",
	    EXIT_USAGE, "--hypervisor bogus: unknown", "auto kvm soft", false },
	{ "an_unknown_placement", HELLO "--placement serial=bogus", EXIT_USAGE,
	    "unknown placement", "isolated", false },
	{ "a_placement_of_nobody", HELLO "--placement nobody=inline",
	    EXIT_USAGE, "no such device", NULL, false },
	{ "an_unknown_sandbox", HELLO "--sandbox maybe", EXIT_USAGE,
	    "--sandbox maybe: unknown", NULL, false },
	{ "an_unknown_wait_policy", HELLO "--wait-policy never", EXIT_USAGE,
	    "--wait-policy never: unknown", NULL, false },
	{ "a_name_that_is_none", HELLO "--name a/b", EXIT_USAGE, "a name is",
	    NULL, false },
	{ "an_unknown_option", HELLO "--bogus", EXIT_USAGE,
	    "unknown option --bogus", NULL, false },
	{ "an_option_without_its_value", HELLO "--memory", EXIT_USAGE,
	    "--memory needs a value", NULL, false },
	{ "an_argument_that_is_no_option", HELLO "bogus", EXIT_USAGE,
	    "not an option", NULL, false },
	{ "a_libexec_folder_with_nothing_in_it",
	    "BULKHEAD_LIBEXEC=/nonexistent exec " HELLO, EXIT_ERROR,
	    "BULKHEAD_LIBEXEC", NULL, false },
};

#define AS_USER "exec setpriv --reuid 1234 --regid 1234 --clear-groups " HELLO

static const struct input disks[] = {
	{ "a_missing_disk", HELLO "--disk path=@/nothing", EXIT_INPUT,
	    "vmmctl: --disk path=@/nothing: No such file or directory", NULL,
	    false },
	{ "an_empty_disk", HELLO "--disk path=@/empty", EXIT_INPUT,
	    "--disk path=@/empty: the file is empty", NULL, false },
	{ "half_a_sector", HELLO "--disk path=@/text", EXIT_INPUT,
	    "--disk path=@/text: 20 bytes are not a multiple of a sector's 512",
	    NULL, false },
	{ "a_folder_as_a_disk", HELLO "--disk path=@", EXIT_INPUT,
	    "--disk path=@: Is a directory", NULL, false },
	{ "a_folder_to_read", HELLO "--disk path=@,readonly=on", EXIT_INPUT,
	    "--disk path=@: a directory", NULL, false },
	{ "a_device_that_is_no_disk", HELLO "--disk path=/dev/zero", EXIT_INPUT,
	    "--disk path=/dev/zero: not a regular file or block device", NULL,
	    false },
	{ "a_disk_that_may_not_be_written",
	    "chmod 444 @/disk; " AS_USER "--disk path=@/disk", EXIT_INPUT,
	    "--disk path=@/disk: Permission denied: it is not writable; see "
	    "readonly=on",
	    NULL, true },
	{ "a_disk_that_may_not_be_read",
	    "chmod 0 @/disk; " AS_USER "--disk path=@/disk,readonly=on",
	    EXIT_INPUT, "--disk path=@/disk: Permission denied\n", NULL, true },
	{ "one_disk_twice",
	    HELLO "--disk path=@/disk --disk path=@/disk,readonly=on",
	    EXIT_INPUT, "--disk path=@/disk: in use by a virtual machine", NULL,
	    false },
	{ "one_disk_for_two_readers",
	    HELLO "--disk path=@/disk,readonly=on --disk "
		  "path=@/disk,readonly=on",
	    EXIT_POWEROFF, "hello from a guest", NULL, false },
	{ "a_disk_of_one_name_too_many", HELLO "--disk path=@/disk,id=rtc",
	    EXIT_USAGE, "--disk rtc: the name rtc is that of a rtc", NULL,
	    false },
	{ "an_interface_that_is_not_ours",
	    AS_USER "--net tap,ifname=bulkhead-none", EXIT_ERROR,
	    "--net tap,ifname=bulkhead-none: ", NULL, true },
	{ "a_socket_in_no_folder", HELLO "--vsock cid=3,socket=@/nothing/s",
	    EXIT_INPUT, "--vsock socket=@/nothing/s: No such file or directory",
	    NULL, false },
	{ "a_socket_where_a_file_is", HELLO "--vsock cid=3,socket=@/text",
	    EXIT_INPUT, "--vsock socket=@/text: Address already in use", NULL,
	    false },
	{ "a_socket_that_was_left_behind",
	    HELLO "--vsock cid=3,socket=@/s && " HELLO
		  "--vsock cid=3,socket=@/s && test ! -e @/s",
	    EXIT_POWEROFF, "hello from a guest", NULL, false },
};

static const struct input configurations[] = {
	{ "a_good_configuration", "vmmctl/vmmctl run --config @/good.json",
	    EXIT_POWEROFF, "hello from a guest", NULL, false },
	{ "a_good_one_that_is_only_checked",
	    "vmmctl/vmmctl config --check @/good.json", EXIT_POWEROFF,
	    "@/good.json: ok: ", NULL, false },
	{ "a_good_one_that_is_not_run",
	    "vmmctl/vmmctl run --config @/good.json --dry-run", EXIT_POWEROFF,
	    "", NULL, false },
	{ "a_layout_of_one", "vmmctl/vmmctl layout --config @/good.json",
	    EXIT_POWEROFF, "blk0", "rng0", false },
	{ "a_missing_configuration", HELLO "--config @/nothing", EXIT_USAGE,
	    "--config @/nothing: No such file or directory", NULL, false },
	{ "a_folder_as_a_configuration", HELLO "--config @", EXIT_USAGE,
	    "--config @: not a regular file", NULL, false },
	{ "an_empty_configuration", HELLO "--config @/empty", EXIT_USAGE,
	    "run: @/empty:1: ", NULL, false },
	{ "a_configuration_that_is_cut", HELLO "--config @/cut.json",
	    EXIT_USAGE, "run: @/cut.json:2: ", NULL, false },
	{ "an_unknown_key", HELLO "--config @/key.json", EXIT_USAGE,
	    "run: @/key.json:3: unknown key bogus", NULL, false },
	{ "a_value_that_is_none", HELLO "--config @/value.json", EXIT_USAGE,
	    "run: @/value.json:2: memory @: not a size such as 256M or 2G",
	    NULL, false },
	{ "a_type_that_is_none", HELLO "--config @/type.json", EXIT_USAGE,
	    "run: @/type.json:2: device bogus: unknown device type; known are:",
	    NULL, false },
	{ "a_disk_in_it_that_is_missing",
	    "vmmctl/vmmctl run --config @/disk.json", EXIT_INPUT,
	    "@/disk.json:2: --disk path=@/nothing: No such file or directory",
	    NULL, false },
};

#define CTL "vmmctl/vmmctl "

static const struct input commands[] = {
	{ "no_command", CTL, EXIT_USAGE, "usage: vmmctl COMMAND", NULL, false },
	{ "an_unknown_command", CTL "bogus", EXIT_USAGE,
	    "unknown command bogus; known are: run ps devices", NULL, false },
	{ "stats_of_nothing", CTL "stats", EXIT_USAGE, "usage: vmmctl stats VM",
	    NULL, false },
	{ "stats_of_nobody", CTL "stats bulkhead-nobody", EXIT_NO_VM,
	    "no VM bulkhead-nobody is running", NULL, false },
	{ "stats_in_an_unknown_format", CTL "stats x --format xml", EXIT_USAGE,
	    "--format xml: unknown; known are: table json prometheus", NULL,
	    false },
	{ "a_parameter_without_a_value", CTL "set x blk0 bps", EXIT_USAGE,
	    "set: bps: not KEY=VALUE", NULL, false },
	{ "no_parameter_at_all", CTL "set x blk0", EXIT_USAGE,
	    "usage: vmmctl set VM DEVICE KEY=VALUE", NULL, false },
	{ "a_parameter_of_nobody", CTL "set bulkhead-nobody blk0 bps=1",
	    EXIT_NO_VM, "no VM bulkhead-nobody is running", NULL, false },
	{ "top_at_no_interval", CTL "top x --interval 0", EXIT_USAGE,
	    "--interval 0: not a number from 0.1 to 3600", NULL, false },
	{ "top_of_nobody", CTL "top bulkhead-nobody", EXIT_NO_VM,
	    "no VM bulkhead-nobody is running", NULL, false },
	{ "a_configuration_without_check", CTL "config x", EXIT_USAGE,
	    "usage: vmmctl config --check FILE", NULL, false },
	{ "the_console_of_nobody", CTL "console bulkhead-nobody", EXIT_NO_VM,
	    "no VM bulkhead-nobody is running", NULL, false },
	{ "help", CTL "run --help", EXIT_POWEROFF, "--disk path=FILE",
	    "Exit status: 0 done", false },
};

/* What is asked of a machine, and of its devices, as it runs. */
#define WITH_VM(command)                                                      \
	CTL "run --hypervisor soft --kernel guests/bench_recover.elf "        \
	    "--disk path=@/disk --rng --detach --name input-$$ && { " command \
	    "; r=$?; " CTL "shutdown input-$$ --force; exit $r; }"

static const struct input running[] = {
	{ "devices_have_addresses", WITH_VM(CTL "devices input-$$"),
	    EXIT_POWEROFF, "virtio-blk", "00:01.0", false },
	{ "stats_of_all", WITH_VM(CTL "stats input-$$"), EXIT_POWEROFF,
	    "virtio-rng", "serial", false },
	{ "stats_of_one", WITH_VM(CTL "stats input-$$ blk0"), EXIT_POWEROFF,
	    "blk0 (virtio-blk)", "queue_depth_max", false },
	{ "stats_as_json", WITH_VM(CTL "stats input-$$ --format=json"),
	    EXIT_POWEROFF, "\"vcpus\": [", "\"name\": \"blk0\"", false },
	{ "stats_for_prometheus",
	    WITH_VM(CTL "stats input-$$ --format=prometheus"), EXIT_POWEROFF,
	    "# TYPE bulkhead_device_reads_total counter",
	    "device=\"blk0\",type=\"virtio-blk\"", false },
	{ "stats_of_no_device", WITH_VM(CTL "stats input-$$ nosuch"),
	    EXIT_NO_VM, "no such device", NULL, false },
	{ "a_parameter_that_changes",
	    WITH_VM(CTL "set input-$$ blk0 bps=1000000 iops=100"),
	    EXIT_POWEROFF, "input-", NULL, false },
	{ "a_parameter_that_cannot", WITH_VM(CTL "set input-$$ blk0 bogus=1"),
	    EXIT_USAGE, "bogus", NULL, false },
	{ "a_parameter_of_no_device", WITH_VM(CTL "set input-$$ nosuch a=1"),
	    EXIT_NO_VM, "nosuch", NULL, false },
	{ "the_socket_of_a_detached_one",
	    CTL "run --hypervisor soft --kernel guests/bench_recover.elf "
		"--vsock cid=3,socket=@/s --detach --name input-$$ && "
		"test -S @/s && " CTL "shutdown input-$$ --force && "
		"while test -e @/s; do sleep 0.02; done",
	    EXIT_POWEROFF, "input-", NULL, false },
	{ "a_disk_of_another", WITH_VM(HELLO "--disk path=@/disk"), EXIT_INPUT,
	    "--disk path=@/disk: in use by a virtual machine", NULL, false },
};

static const struct input hosts[] = {
	{ "no_kvm_here", NO_KVM, EXIT_NO_HYPERVISOR,
	    "hypervisor kvm: ", "/dev/kvm: No such file", true },
	{ "kvm_is_not_for_us",
	    "unshare -m sh -c 'mount -t tmpfs none /dev;"
	    "mknod -m 666 /dev/null c 1 3; mknod -m 600 /dev/kvm c 10 232;"
	    "exec setpriv --reuid 1234 --regid 1234 --clear-groups " KVM "'",
	    EXIT_NO_HYPERVISOR,
	    "hypervisor kvm: ", "/dev/kvm: Permission denied", true },
	{ "auto_goes_on_without_kvm",
	    "unshare -m sh -c 'mount -t tmpfs none /dev;"
	    "mknod -m 666 /dev/null c 1 3; exec vmmctl/vmmctl run --kernel "
	    "guests/hello.elf'",
	    EXIT_POWEROFF, "hypervisor soft: ", "hello from a guest", true },
	{ "user_namespaces_are_forbidden", NO_USERNS "on'", EXIT_SANDBOX,
	    "user namespaces are forbidden", "--sandbox=best-effort", true },
	{ "best_effort_names_what_is_left_out", NO_USERNS "best-effort'",
	    EXIT_POWEROFF, "sandbox: left out: userns", "hello from a guest",
	    true },
	{ "without_root",
	    "exec setpriv --reuid 1234 --regid 1234 --clear-groups " HELLO,
	    EXIT_POWEROFF, "hello from a guest", NULL, true },
	{ "without_a_sandbox", HELLO "--sandbox off", EXIT_POWEROFF,
	    "the devices run without a sandbox", "hello from a guest", false },
};

static bool
can_make_namespaces(void)
{
	static int can = -1;

	if (can < 0)
		can = geteuid() == 0 &&
		    system("unshare -m true 2>/dev/null && unshare -U -r "
			   "true 2>/dev/null") == 0;
	return can == 1;
}

static void
run_table(const struct input *table, size_t count)
{
	static struct vm_run r;
	char command[VM_COMMAND / 2], text[PATH_MAX];

	make_files();
	for (size_t i = 0; i < count; i++) {
		const struct input *in = &table[i];

		if (in->as_root && !can_make_namespaces()) {
			printf("\n%s: skipped, needs root\n", in->claim);
			continue;
		}
		expand(command, sizeof(command), in->command);
		vm_start(&r, 30, "%s", command);
		vm_finish(&r, 1);
		expand(text, sizeof(text), in->says);
		CU_ASSERT(vm_ended(&r, in->claim, in->code, text));
		if (in->also == NULL)
			continue;
		expand(text, sizeof(text), in->also);
		CU_ASSERT(vm_ended(&r, in->claim, in->code, text));
	}
	CU_ASSERT_EQUAL(vm_left_behind(2000), 0);
	remove_files();
}

static void
bad_kernels_are_refused(void)
{
	run_table(kernels, ARRAY_LEN(kernels));
}

static void
bad_options_are_refused(void)
{
	run_table(options, ARRAY_LEN(options));
}

static void
bad_disks_and_sockets_are_refused(void)
{
	run_table(disks, ARRAY_LEN(disks));
}

static void
bad_configurations_are_refused(void)
{
	run_table(configurations, ARRAY_LEN(configurations));
}

static void
commands_say_what_they_want(void)
{
	run_table(commands, ARRAY_LEN(commands));
}

static void
a_running_vm_is_asked(void)
{
	run_table(running, ARRAY_LEN(running));
}

static void
what_the_host_forbids_is_said(void)
{
	run_table(hosts, ARRAY_LEN(hosts));
}

static const struct named_test tests[] = {
	NAMED_TEST(bad_kernels_are_refused),
	NAMED_TEST(bad_options_are_refused),
	NAMED_TEST(bad_disks_and_sockets_are_refused),
	NAMED_TEST(bad_configurations_are_refused),
	NAMED_TEST(commands_say_what_they_want),
	NAMED_TEST(a_running_vm_is_asked),
	NAMED_TEST(what_the_host_forbids_is_said),
};

/*
 * Copy what is needed to a folder that every user may reach: the build may
 * stand below a home that only its owner may enter.
 */
static int
copy_build(char *dir, const char *const *needed, size_t count)
{
	char command[4 * PATH_MAX];
	size_t n;

	if (mkdtemp(dir) == NULL || chmod(dir, 0755) < 0)
		return -1;
	n = (size_t)snprintf(command, sizeof(command),
	    "umask 022; cd '%s' && cp --parents", vm_build);
	for (size_t i = 0; i < count; i++)
		n += (size_t)snprintf(
		    command + n, sizeof(command) - n, " %s", needed[i]);
	snprintf(command + n, sizeof(command) - n, " %s", dir);
	if (system(command) != 0)
		return -1;
	snprintf(vm_build, sizeof(vm_build), "%s", dir);
	return 0;
}

int
main(void)
{
	static const char *const needed[] = { "vmmctl/vmmctl", "vmmd/vmmd",
		"vmmd/vmmd-inline", "devhost/devhost", "guests/hello.elf",
		"guests/bench_recover.elf" };
	char dir[] = "/tmp/bulkhead-build-XXXXXX", command[PATH_MAX];
	int rc;

	if (vm_prepare(needed, ARRAY_LEN(needed)) != 0)
		return 77;
	if (copy_build(dir, needed, ARRAY_LEN(needed)) < 0) {
		printf("cannot copy the programs to %s\n", dir);
		return 1;
	}
	rc = named_tests_run("vm_input", tests, ARRAY_LEN(tests));
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command) == 0 ? rc : 1;
}
