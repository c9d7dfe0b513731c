/* Exit codes of vmmctl and vmmd; the man pages list the same. */
#ifndef PROTO_EXITCODES_H
#define PROTO_EXITCODES_H

enum exit_code {
	EXIT_POWEROFF = 0, /* done; of `run`: the guest powered off */
	EXIT_ERROR = 1, /* something failed: the text says what */
	EXIT_USAGE = 2, /* bad option or value */
	EXIT_RESET = 3, /* the guest asked for a reset */
	EXIT_CRASH = 4, /* triple fault, or the backend cannot go on */
	EXIT_STOPPED = 5, /* stopped by request: shutdown --force, a signal */
	EXIT_INPUT = 6, /* kernel, initrd or disk missing, malformed, in use */
	EXIT_NO_HYPERVISOR = 7, /* the backend asked for cannot be used */
	EXIT_SANDBOX = 8, /* the sandbox cannot be built: see --sandbox */
	EXIT_NO_VM = 9, /* no VM, or no device, of that name */
};

#endif
