/* The child's half: what is taken away after the program has started. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/internal.h"

#define DEFAULT_AS   ((rlim_t)256 << 30)
#define DEFAULT_FDS  256u
#define DEFAULT_FILE ((rlim_t)1 << 40)

struct entering {
	const struct sandbox_policy *policy;
	struct inherited in; /* its steps: what is done */
	const char *what; /* the call that failed */
};

/* A PID namespace would be its children's, and it has none. */
static int
own_namespaces(struct entering *e)
{
	e->what = "not started by sandbox_spawn";
	if (!e->policy->unshare)
		return -EPERM;
	e->what = "unshare";
	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
		CLONE_NEWCGROUP) < 0)
		return -errno;
	return 0;
}

/*
 * An empty tmpfs becomes /, and the old root goes away.  pivot_root() with "."
 * for both puts the old root on top of the new one, so that no directory is
 * needed to keep it in: the new one is read-only from the start.
 */
static int
empty_root(struct entering *e)
{
	static const char *const places[] = { "/tmp", "/proc", "/dev", "/run" };
	const unsigned long flags =
	    MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY;
	const char *place = NULL;

	e->what = "a mount namespace of its own";
	/* In the host's, the pivot would be everybody's. */
	if ((e->in.steps & SANDBOX_NAMESPACES) == 0)
		return -EPERM;
	e->what = "making mounts private";
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	e->what = "mounting an empty file system";
	for (unsigned i = 0; i < ARRAY_LEN(places) && place == NULL; i++)
		if (mount("none", places[i], "tmpfs", flags,
			"size=4k,nr_inodes=4,mode=0555") == 0)
			place = places[i];
	if (place == NULL || chdir(place) < 0)
		return -errno;
	e->what = "pivot_root";
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return -errno;
	e->what = "unmounting the old root";
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -errno;
	return 0;
}

static int
limit(struct entering *e, __rlimit_resource_t resource, rlim_t value,
    const char *name)
{
	struct rlimit old;
	struct rlimit rl = { .rlim_cur = value, .rlim_max = value };

	e->what = name;
	if (getrlimit(resource, &old) < 0)
		return -errno;
	/* A limit that is tighter already stays. */
	rl.rlim_max = MIN(value, old.rlim_max);
	rl.rlim_cur = rl.rlim_max;
	return setrlimit(resource, &rl) < 0 ? -errno : 0;
}

static int
limits(struct entering *e)
{
	const struct sandbox_policy *p = e->policy;
	rlim_t threads = p->max_threads;
	int r;

	/*
	 * Without a user namespace the kernel counts all processes of the uid,
	 * ours or not: a small number says nothing then, but 0 still does.
	 */
	if (threads != 0 && (e->in.steps & SANDBOX_USERNS) == 0)
		threads = RLIM_INFINITY;
	/* Past a file limit: an error, not a signal. */
	signal(SIGXFSZ, SIG_IGN);
	r = limit(e, RLIMIT_NOFILE, p->max_fds ? p->max_fds : DEFAULT_FDS,
	    "RLIMIT_NOFILE");
	if (r == 0)
		r = limit(e, RLIMIT_NPROC, threads, "RLIMIT_NPROC");
	if (r == 0)
		r = limit(e, RLIMIT_CORE, 0, "RLIMIT_CORE");
	if (r == 0)
		r = limit(e, RLIMIT_FSIZE,
		    p->max_file_bytes ? p->max_file_bytes : DEFAULT_FILE,
		    "RLIMIT_FSIZE");
	if (r == 0)
		r = limit(e, RLIMIT_MEMLOCK, 0, "RLIMIT_MEMLOCK");
#if !defined(BULKHEAD_ASAN) && !defined(BULKHEAD_TSAN)
	/* Shadow memory is terabytes. */
	if (r == 0)
		r = limit(e, RLIMIT_AS,
		    p->max_as_bytes ? p->max_as_bytes : DEFAULT_AS,
		    "RLIMIT_AS");
#endif
	return r;
}

/*
 * In a user namespace of our own, uid 0 is the one that the parent mapped.
 * Without one, we are still whoever started us, and change if that is root.
 */
static int
own_uid(struct entering *e)
{
	bool mapped = (e->in.steps & SANDBOX_USERNS) != 0;
	uid_t uid = mapped ? 0 : e->in.uid;
	gid_t gid = mapped ? 0 : e->in.uid;

	if (!mapped && geteuid() != 0) {
		e->what = "a uid of its own";
		return -EPERM;
	}
	if (!mapped) {
		e->what = "setgroups";
		if (setgroups(0, NULL) < 0)
			return -errno;
		/* The capabilities go in their own step, in order. */
		e->what = "PR_SET_KEEPCAPS";
		if (prctl(PR_SET_KEEPCAPS, 1) < 0)
			return -errno;
	}
	e->what = "setresgid";
	if (setresgid(gid, gid, gid) < 0)
		return -errno;
	e->what = "setresuid";
	if (setresuid(uid, uid, uid) < 0)
		return -errno;
	/* A change of uid clears it. */
	e->what = "PR_SET_PDEATHSIG";
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return -errno;
	return 0;
}

/* Locked: uid 0 is a uid like any other, for ever. */
#define SECUREBITS                                                       \
	(SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP | \
	    SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |    \
	    SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED)

static int
drop_bounding(struct entering *e)
{
	e->what = "dropping the bounding set";
	for (cap_value_t c = 0; cap_get_bound(c) >= 0; c++)
		if (cap_get_bound(c) == 1 && cap_drop_bound(c) < 0)
			return -errno;
	e->what = "locking securebits";
	return prctl(PR_SET_SECUREBITS, SECUREBITS) < 0 ? -errno : 0;
}

static int
no_caps(struct entering *e)
{
	cap_t caps;
	cap_value_t setpcap = CAP_SETPCAP;
	int r;

	/* What PR_SET_KEEPCAPS kept is permitted, but not effective. */
	caps = cap_get_proc();
	if (caps == NULL)
		return -errno;
	if (cap_set_flag(caps, CAP_EFFECTIVE, 1, &setpcap, CAP_SET) == 0)
		(void)cap_set_proc(caps);
	r = drop_bounding(e);
	/* Even if we could not do that (nor need to, without any). */
	if (cap_clear(caps) < 0 || cap_set_proc(caps) < 0) {
		e->what = "cap_set_proc";
		r = -errno;
	}
	cap_free(caps);
	return r;
}

static int
no_new_privs(struct entering *e)
{
	e->what = "PR_SET_NO_NEW_PRIVS";
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

static int
landlock(struct entering *e)
{
	return sandbox_landlock(e->policy, &e->what);
}

static int
seccomp(struct entering *e)
{
	return sandbox_seccomp(e->policy, &e->what);
}

/*
 * In this order, because each needs what a later one takes away: mounting needs
 * capabilities, and so do the change of uid and the bounding set; Landlock
 * needs system calls that no list allows.
 */
static const struct {
	uint64_t bit;
	int (*take)(struct entering *e); /* NULL: by sandbox_spawn() */
} steps[] = {
	{ SANDBOX_FDS, NULL }, { SANDBOX_USERNS, NULL },
	{ SANDBOX_NAMESPACES, own_namespaces },
	{ SANDBOX_ROOT, empty_root }, /* no path leads anywhere */
	{ SANDBOX_LIMITS, limits }, /* nothing can be used up */
	{ SANDBOX_UID, own_uid }, /* no file or process of somebody else's */
	{ SANDBOX_CAPS, no_caps }, /* not even root in its own namespace */
	{ SANDBOX_NNP, no_new_privs }, /* and exec gives nothing back */
	{ SANDBOX_LANDLOCK, landlock }, /* nor does an fd of a directory */
	{ SANDBOX_SECCOMP, seccomp }, /* the kernel itself is out of reach */
};

static void
    PRINTF_LIKE(3, 4) append(char *err, size_t err_size, const char *fmt, ...)
{
	size_t n = strnlen(err, err_size);
	va_list ap;

	if (n >= err_size)
		return;
	va_start(ap, fmt);
	vsnprintf(err + n, err_size - n, fmt, ap);
	va_end(ap);
}

/* By earlier calls. */
static uint64_t taken;

static bool
kernel_lacks_landlock(uint64_t bit, int r)
{
	return bit == SANDBOX_LANDLOCK && (r == -ENOSYS || r == -EOPNOTSUPP);
}

int
sandbox_enter(const struct sandbox_policy *p, uint64_t *steps_in_force,
    char *err, size_t err_size)
{
	struct entering e = { .policy = p };
	uint64_t wanted = p->steps != 0 ? p->steps : SANDBOX_ALL;

	sandbox_inherited(&e.in);
	e.in.steps |= taken;
	snprintf(err, err_size, "%s", "");
	*steps_in_force = e.in.steps;
	if (p->mode == SANDBOX_OFF)
		return 0;
	for (unsigned i = 0; i < ARRAY_LEN(steps); i++) {
		uint64_t bit = steps[i].bit;
		int r;

		if ((wanted & bit) == 0 || (e.in.steps & bit) != 0)
			continue;
		e.what = "not started by sandbox_spawn";
		r = steps[i].take != NULL ? steps[i].take(&e) : -EPERM;
		if (r == 0) {
			taken |= bit;
			e.in.steps |= bit;
			*steps_in_force = e.in.steps;
			continue;
		}
		if (p->mode == SANDBOX_ON && kernel_lacks_landlock(bit, r))
			continue;
		if (p->mode == SANDBOX_ON) {
			snprintf(err, err_size,
			    "%s: %s: %s: run with --sandbox=best-effort",
			    sandbox_step_name((unsigned)bit), e.what,
			    strerrordesc_np(-r));
			return r;
		}
		append(err, err_size, "%s%s (%s: %s)",
		    err[0] != '\0' ? ", " : "left out: ",
		    sandbox_step_name((unsigned)bit), e.what,
		    strerrordesc_np(-r));
	}
	return 0;
}
