/* The files of the devices. */
#include "vmmctl/files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/exitcodes.h"
#include "proto/packet.h"
#include "vmmctl/connect.h"
#include "vmmctl/recorder.h"
#include "vmmctl/relay.h"

#define SECTOR	 512
#define LEAVE_NS 3000000000u
#define LOCK_NS	 1000000000u

/* ---- disks ---- */

/*
 * A lock of the open file, not of this process: it goes with the fd to the
 * device, and ends with the last copy of it.
 */
static int
lock_disk(int fd, bool readonly, char *why, size_t size)
{
	const struct timespec pause = { .tv_nsec = 10000000 };
	uint64_t deadline = time_now_ns() + LOCK_NS;
	struct flock lock = {
		.l_type = readonly ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET,
	};

	/* The kernel closes a machine's files a moment after its end. */
	while (fcntl(fd, F_OFD_SETLK, &lock) < 0 &&
	    (errno == EAGAIN || errno == EACCES) && time_now_ns() < deadline)
		nanosleep(&pause, NULL);
	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES) {
		snprintf(why, size, "in use by a virtual machine");
		return -EBUSY;
	}
	/* Where there are no locks there is nobody to lock out. */
	return errno == ENOLCK || errno == EOPNOTSUPP ? 0 : -errno;
}

static int
check_disk(int fd, char *why, size_t size)
{
	struct stat st;
	off_t bytes;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		snprintf(why, size, "%s",
		    S_ISDIR(st.st_mode) ? "a directory"
					: "not a regular file or block device");
		return -EINVAL;
	}
	bytes = lseek(fd, 0, SEEK_END);
	if (bytes < 0)
		return -errno;
	if (bytes == 0) {
		snprintf(why, size, "the file is empty");
		return -EINVAL;
	}
	if (bytes % SECTOR != 0) {
		snprintf(why, size,
		    "%lld bytes are not a multiple of a sector's %d",
		    (long long)bytes, SECTOR);
		return -EINVAL;
	}
	return 0;
}

int
files_open_disk(const struct option_file *file, char *why, size_t size)
{
	/* O_EXCL: a block device that is mounted, or part of another, is not
	 * to be written; to a file it means nothing. */
	int flags = (file->readonly ? O_RDONLY : O_RDWR | O_EXCL) | O_CLOEXEC |
	    O_NONBLOCK | (file->dsync ? O_DSYNC : 0);
	int fd = open(file->what, flags | (file->direct ? O_DIRECT : 0)), r;

	why[0] = '\0';
	if (fd < 0 && errno == EINVAL && file->direct) {
		snprintf(why, size, "the file system has no direct I/O");
		return -EINVAL;
	}
	if (fd < 0) {
		r = -errno;
		snprintf(why, size, "%s%s", strerror(errno),
		    !file->readonly && (r == -EACCES || r == -EROFS) &&
			    access(file->what, R_OK) == 0
			? ": it is not writable; see readonly=on"
			: "");
		return r;
	}
	r = check_disk(fd, why, size);
	if (r == 0)
		r = lock_disk(fd, file->readonly, why, size);
	if (r == 0)
		return fd;
	if (why[0] == '\0')
		snprintf(why, size, "%s", strerror(-r));
	close(fd);
	return r;
}

/* ---- interfaces and sockets ---- */

static int
open_tap(const char *ifname, char *why, size_t size)
{
	const int header = PACKET_HEADER;
	struct ifreq ifr = {
		.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR,
	};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), r;

	if (fd < 0) {
		r = -errno;
		snprintf(why, size, "/dev/net/tun: %s", strerror(errno));
		return r;
	}
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", ifname);
	if (ioctl(fd, TUNSETIFF, &ifr) == 0 &&
	    ioctl(fd, TUNSETVNETHDRSZ, &header) == 0 &&
	    ioctl(fd, TUNSETOFFLOAD,
		TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

/*
 * A Unix datagram socket that is connected to itself: what a device leaves in it
 * is there for the process that comes after.
 */
static int
open_mailbox(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	socklen_t n = sizeof(a);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return -errno;
	/* A name of no length: the kernel makes one up. */
	if (bind(fd, (const struct sockaddr *)&a, sizeof(a.sun_family)) == 0 &&
	    getsockname(fd, (struct sockaddr *)&a, &n) == 0 &&
	    connect(fd, (const struct sockaddr *)&a, n) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

static int
try_bind(int fd, const struct sockaddr_un *a)
{
	mode_t old = umask(077);
	int r =
	    bind(fd, (const struct sockaddr *)a, sizeof(*a)) < 0 ? -errno : 0;

	umask(old);
	return r;
}

/* Was it left behind by a process that is no more? */
static bool
is_stale(const char *path)
{
	const struct connector_address a = { .path = path };
	struct stat st;
	int fd;

	if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	fd = connector_connect(&a, NULL, -1);
	if (fd >= 0)
		close(fd);
	return fd == -ECONNREFUSED;
}

static int
open_listener(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r;

	if (fd < 0)
		return -errno;
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	r = try_bind(fd, &a);
	if (r == -EADDRINUSE && is_stale(path) && unlink(path) == 0)
		r = try_bind(fd, &a);
	if (r == 0 && listen(fd, 16) < 0)
		r = -errno;
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

/* ---- all of them ---- */

/* A process that serves the device goes with it. */
static int
add_child(struct files *f, pid_t pid)
{
	BUG_ON(f->nchildren == ARRAY_LEN(f->child));
	if (pid >= 0)
		f->child[f->nchildren++] = pid;
	return pid < 0 ? pid : 0;
}

static int
open_connector(struct files *f, const struct option_file *file)
{
	int fd = -1,
	    r = add_child(f, connector_start(&file->address, &f->means, &fd));

	return r < 0 ? r : fd;
}

/* The memory; the link is the next file. */
static int
open_relay(struct files *f, const char *path)
{
	int listener = open_listener(path), r;
	struct relay_fds fds;

	if (listener < 0)
		return listener;
	r = add_child(f, relay_start(path, listener, &fds));
	if (r < 0) {
		unlink(path);
		return r;
	}
	f->relay_link = fds.link;
	return fds.memory;
}

static int
open_one(
    struct files *f, const struct option_file *file, char *why, size_t size)
{
	int fd;

	switch (file->kind) {
	case OPTION_FILE_DISK:
		return files_open_disk(file, why, size);
	case OPTION_FILE_TAP:
		return open_tap(file->what, why, size);
	case OPTION_FILE_MAILBOX:
		return open_mailbox();
	case OPTION_FILE_RELAY:
		return open_relay(f, file->what);
	case OPTION_FILE_RELAY_LINK:
		fd = f->relay_link;
		f->relay_link = -1;
		return fd;
	case OPTION_FILE_SOCKET:
		fd = connector_connect(&file->address, &f->means, -1);
		if (fd == -ENOENT && file->address.host != NULL)
			snprintf(why, size, "the host is unknown");
		return fd;
	case OPTION_FILE_CONNECTOR:
		break;
	}
	return open_connector(f, file);
}

/* The key of the option that named it. */
static const char *
key_of(const struct option_file *file)
{
	static const char *const keys[] = {
		[OPTION_FILE_DISK] = "path=",
		[OPTION_FILE_TAP] = "tap,ifname=",
		[OPTION_FILE_MAILBOX] = "fence of ",
		[OPTION_FILE_RELAY] = "socket=",
		[OPTION_FILE_RELAY_LINK] = "socket=",
		[OPTION_FILE_SOCKET] = "path=",
		[OPTION_FILE_CONNECTOR] = "path=",
	};

	return file->address.switch_name != NULL ? "switch:" : keys[file->kind];
}

static int
open_recorder(struct files *f, const char *folder)
{
	int fd = -1, r = add_child(f, recorder_start(folder, &fd));

	if (r < 0)
		return complain_code(
		    EXIT_ERROR, "--blackbox %s: %s", folder, strerror(-r));
	f->fd[f->n++] = fd;
	f->has_recorder = true;
	return EXIT_POWEROFF;
}

int
files_open(struct files *f, const struct run_options *o, const char *devhost)
{
	char why[256];

	*f = (struct files){ .relay_link = -1,
		.means = { devhost, o->sandbox } };
	for (unsigned i = 0; i < o->ndevices; i++) {
		const struct option_device *d = &o->devices[i];

		for (unsigned j = 0; j < d->nfiles; j++) {
			const struct option_file *file = &d->files[j];
			int fd;

			/* With the programs, the kernel, the initrd and the
			 * recorder. */
			if (f->n + 5 > ARRAY_LEN(f->fd))
				return complain_code(EXIT_USAGE,
				    "%s: too many files", d->option);
			why[0] = '\0';
			fd = open_one(f, file, why, sizeof(why));
			if (fd < 0)
				return complain_code(
				    file->kind == OPTION_FILE_TAP ||
					    file->address.switch_name != NULL
					? EXIT_ERROR
					: EXIT_INPUT,
				    "%s%s %s%s: %s", d->where, d->option,
				    key_of(file), file->what,
				    why[0] != '\0' ? why : strerror(-fd));
			f->fd[f->n++] = fd;
		}
	}
	return o->blackbox != NULL ? open_recorder(f, o->blackbox)
				   : EXIT_POWEROFF;
}

void
files_close(struct files *f)
{
	for (unsigned i = 0; i < f->n; i++)
		close(f->fd[i]);
	f->n = 0;
}

void
files_leave(struct files *f)
{
	uint64_t deadline = time_now_ns() + LEAVE_NS;

	files_close(f);
	for (unsigned i = 0; i < f->nchildren; i++) {
		while (waitpid(f->child[i], NULL, WNOHANG) == 0) {
			const struct timespec ms = { .tv_nsec = 1000000 };

			if (time_now_ns() > deadline) {
				kill(f->child[i], SIGTERM);
				waitpid(f->child[i], NULL, 0);
				break;
			}
			nanosleep(&ms, NULL);
		}
	}
	f->nchildren = 0;
}
