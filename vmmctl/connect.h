/* Finding programs and VMs, and talking to them. */
#ifndef VMMCTL_CONNECT_H
#define VMMCTL_CONNECT_H

#include <limits.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include "proto/base.h"
#include "proto/channel.h"
#include "vmmctl/options.h"

#define KNOWN_TYPES 64u

/* A line on stderr: "vmmctl: ...".  Returns code. */
int complain_code(int code, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The path of a program of ours ("vmmd", "devhost-ext").  0; -ENOENT. */
int connect_find_program(const char *name, char path[PATH_MAX]);

/* The types that a device host program knows, at most room; how many, or
 * -errno. */
int connect_list_types(
    const char *devhost, struct known_type *types, unsigned room);

/* The abstract address of a VM of that user; its length. */
socklen_t connect_address(struct sockaddr_un *a, uid_t uid, const char *name);

/* Connect to a running VM.  0; -ENOENT: there is none of that name. */
int connect_vm(struct channel *c, uid_t uid, const char *name);

/*
 * Ask, and wait for the answer, passing over events.  1: *m is to be freed; or
 * as channel_receive().  With `ended`, not NULL and zeroed, news of the VM's end
 * is no answer, but kept there, to be freed too.
 */
int connect_ask(struct channel *c, int body_case, void *body,
    struct channel_message *m, struct channel_message *ended);

/* The same for a command: EXIT_POWEROFF, or an exit code after a complaint. */
int connect_open(struct channel *c, const char *vm);

/*
 * Ask for an answer of the wanted kind.  EXIT_POWEROFF: *m is to be freed; or an
 * exit code after a complaint.
 */
int connect_question(struct channel *c, int body_case, void *body, int wanted,
    struct channel_message *m);

/* The same, for m->envelope->description. */
int connect_describe(struct channel *c, struct channel_message *m);

/*
 * The whole of `COMMAND VM [--format table|json]` but its output: parse, connect,
 * ask for the description.  EXIT_POWEROFF: m->envelope->description is to be
 * freed, and *table says which format; or an exit code after a complaint.
 */
int connect_describe_as(
    int argc, char **argv, struct channel_message *m, bool *table);

/* Is --help among the arguments? */
bool connect_wants_help(int argc, char **argv);

/* What protobuf-c wants to write to, but does not. */
char *connect_text(const char *s);

/* The exit code for a failure that the broker reports. */
int connect_failure_code(const Bulkhead__Failure *f);

#endif
