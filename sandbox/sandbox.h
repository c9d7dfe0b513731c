/*
 * The sandbox: start a program with nothing, and then take away the rest.  It
 * knows nothing of virtual machines.
 *
 * Two halves.  The parent calls sandbox_spawn(): new namespaces, no fds but
 * four, then exec.  The program started calls sandbox_enter() from main(),
 * after the dynamic loader has opened what it needs: empty root, limits, uid,
 * capabilities, no_new_privs, Landlock, seccomp.
 *
 * A program that was not started so can take the steps as well, as far as they
 * can be taken from inside: policy.unshare.
 *
 * Both may be called from any one thread.  The child of sandbox_spawn() dies
 * with the *thread* that spawned it: spawn from one that lives as long as the
 * program does.
 */
#ifndef SANDBOX_SANDBOX_H
#define SANDBOX_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

/* The steps, in the order in which they are taken. */
enum sandbox_step {
	SANDBOX_FDS = 1, /* no fd but 0 to 3 is open */
	SANDBOX_USERNS = 2,
	/* mount, PID, network (unless it was to be kept), IPC, UTS, cgroup */
	SANDBOX_NAMESPACES = 4,
	SANDBOX_ROOT = 8, /* / is empty and read-only */
	SANDBOX_LIMITS = 16,
	SANDBOX_UID = 32, /* a uid and gid of its own; no groups */
	SANDBOX_CAPS = 64, /* no capability, nor a way to get one */
	SANDBOX_NNP = 128, /* no_new_privs */
	SANDBOX_LANDLOCK = 256, /* no file system access; where there is any */
	SANDBOX_SECCOMP = 512,
};
#define SANDBOX_ALL 1023u

/* "fds", "userns", ...; "?" for what is not one bit of those above. */
const char *sandbox_step_name(unsigned bit);

enum sandbox_mode {
	SANDBOX_ON, /* every step (Landlock: where the kernel has it) */
	SANDBOX_BEST_EFFORT, /* leave out what is refused */
	SANDBOX_OFF, /* only SANDBOX_FDS */
};

/* "on", "best-effort", "off". */
const char *sandbox_mode_name(enum sandbox_mode mode);
/* 0 and *mode, or -EINVAL for another name. */
int sandbox_mode_parse(const char *name, enum sandbox_mode *mode);

struct sandbox_spawn {
	int exec_fd; /* the program; O_PATH will do; stays the caller's */
	char *const *argv; /* NULL at the end */
	int control_fd; /* becomes fd 3; stays the caller's */
	enum sandbox_mode mode;
	/*
	 * The host's uid and gid that the child gets if we are root (it must
	 * be allowed to execute the program); ours if we are not.
	 */
	uid_t uid;
	bool network; /* it keeps our network namespace */
	/*
	 * It becomes our parent's child, who is to wait for it, also if the
	 * call fails and *pid is positive then; and it dies with our parent.
	 */
	bool for_parent;
};

/*
 * Start a program, as PID 1 of its PID namespace if it has one.  It gets
 * /dev/null as stdin, our stderr as stdout and stderr, control_fd as fd 3, no
 * other fd, an empty signal mask, default signal actions, and no environment
 * but what sandbox_enter() reads (and sanitizer options in such builds).
 *
 * As PID 1 it ignores the signals that it sends itself, if they have the
 * default action: there abort() ends in SIGSEGV.
 *
 * 0: the program has been exec'd; *pid is to be waited for, *pidfd to be
 * closed.  A negative errno: nothing is left running, and err says which step
 * failed and why.  The exec'd program may live until the end of the calling
 * thread.
 */
int sandbox_spawn(const struct sandbox_spawn *s, pid_t *pid, int *pidfd,
    char *err, size_t err_size);

/* A system call that is allowed, if all of its argument filters hold. */
struct sandbox_syscall {
	int nr; /* __NR_... */
	const char *reason; /* for the reader of the list */
	unsigned nargs;
	struct {
		unsigned arg; /* 0 to 5 */
		enum {
			SANDBOX_EQ, /* value == a */
			SANDBOX_MASKED_EQ, /* (value & a) == b */
		} op;
		uint64_t a, b;
	} args[3];
};

struct sandbox_policy {
	enum sandbox_mode mode; /* as sandbox_inherited_mode() */
	/*
	 * Everything that may be called from now on, exit_group and
	 * rt_sigreturn included; several entries of one nr: any of them.  The
	 * sanitizers add their own in their builds, nothing else does.
	 */
	const struct sandbox_syscall *syscalls;
	size_t nsyscalls;
	/* Limits. */
	rlim_t max_as_bytes; /* address space; 0: 256 GiB */
	unsigned max_fds; /* highest fd + 1; 0: 256 */
	unsigned max_threads; /* that may live at once; 0: no new one */
	rlim_t max_file_bytes; /* highest offset written; 0: 1 TiB */
	bool network; /* it may use TCP, which Landlock otherwise forbids */
	bool signals; /* it may signal others, which Landlock forbids too */
	/*
	 * Take SANDBOX_NAMESPACES here, if it has not been: all but the PID
	 * namespace.  Only while there is no other thread.
	 */
	bool unshare;
	/*
	 * What becomes of a process that makes a call that is not allowed: it
	 * says which one on stderr, then denied() is called, if there is one,
	 * and it exits with denied_status (0: SANDBOX_DENIED).  denied() may
	 * make allowed calls, and take no lock.
	 */
	void (*denied)(int nr, const char *name);
	int denied_status;
	/* Steps to take: SANDBOX_* bits; 0: all.  Those of sandbox_spawn() are
	 * not taken here, only checked. */
	uint64_t steps;
};

/* The exit status after a denied call, if the policy names no other. */
#define SANDBOX_DENIED 31

/* The name of a system call of this processor; "?": unknown. */
const char *sandbox_call_name(int nr);

/* How many different calls a list allows. */
unsigned
sandbox_count_calls(const struct sandbox_syscall *syscalls, size_t nsyscalls);

/* The mode that sandbox_spawn() was given, told by the environment; if we were
 * not started by it, SANDBOX_ON: so that nothing is left out by mistake. */
enum sandbox_mode sandbox_inherited_mode(void);

/* Were we started by sandbox_spawn()? */
bool sandbox_was_spawned(void);

/*
 * Take the rest of the steps, before the first untrusted byte is read.  It may
 * be called again for other steps.  *steps_in_force gets the SANDBOX_* bits that hold now, those of
 * sandbox_spawn() included.
 *
 * 0: all that the mode demands is done; what SANDBOX_BEST_EFFORT left out is
 * named in err, "" if nothing.  A negative errno (SANDBOX_ON only): err names
 * the step and the reason, and the process is to exit.
 */
int sandbox_enter(const struct sandbox_policy *p, uint64_t *steps_in_force,
    char *err, size_t err_size);

#endif
