/*
 * The spawner: a child of the broker that starts device hosts for it, so that
 * the broker itself can give up all that this takes: paths, exec, namespaces,
 * capabilities.
 *
 * It is forked before the broker has heard anybody.  It takes requests of a
 * fixed size on one socket, from the broker only, and sees no byte of a guest,
 * a device or a client.  What can be started is told to it while the VM is
 * built; later the broker can but say which of these to start, or hand in
 * another program for one.  The processes it starts are the broker's children.
 *
 * Of the broker's main thread.
 */
#ifndef VMMD_SPAWNER_H
#define VMMD_SPAWNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "sandbox/sandbox.h"
#include "vmmd/manifest.h"

#define SPAWNER_PROGRAMS 33u /* VM_DEVICES_MAX and the loader */

struct spawner {
	int fd; /* -1: none */
	pid_t pid;
};

/* What is to be started under an index. */
struct spawner_program {
	char type[MANIFEST_NAME]; /* its argument */
	uid_t uid; /* as of struct sandbox_spawn */
	bool network;
	enum sandbox_mode mode;
};

struct spawned {
	pid_t pid;
	int pidfd; /* its end; waitid() has its status */
	int channel; /* our end, non-blocking */
	int mounts; /* its mount namespace; -1 */
};

/* Fork it.  Before the first thread.  0 or -errno. */
int spawner_start(struct spawner *s);
/* Close it; it ends by itself. */
void spawner_stop(struct spawner *s);

/*
 * Let program_fd be what is started under that index, below SPAWNER_PROGRAMS.
 * p is NULL: another program, and all else as before.  program_fd stays the
 * caller's.  0; -EEXIST, -ENOENT: an index is given once, and then changed;
 * -EPIPE: the spawner is gone.
 */
int spawner_set(struct spawner *s, unsigned index,
    const struct spawner_program *p, int program_fd);

/* Start one; *out is the caller's.  0, or -errno with words in err or not. */
int spawner_spawn(struct spawner *s, unsigned index, struct spawned *out,
    char *err, size_t size);

struct proc_memory;

/* What proc_memory() says.  Zeroes if the spawner is gone. */
void spawner_memory(struct spawner *s, pid_t pid, struct proc_memory *out);

#endif
