/*
 * What the user asked for: the command line of vmmctl and the configuration
 * file (vmmctl/config.h), parsed and checked.
 */
#ifndef VMMCTL_OPTIONS_H
#define VMMCTL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPTIONS_DEVICES 32u
#define OPTIONS_PARAMS	32u
#define OPTIONS_FILES	4u
#define OPTIONS_NAME	32u

struct option_param {
	const char *key, *value;
};

/* Where a connector connects to (proto/connector.h). */
struct connector_address {
	const char *path; /* of a Unix socket; or NULL */
	const char *host, *port; /* TCP; or NULL */
	const char *switch_name; /* a port of a switch; or NULL */
};

enum option_file_kind {
	OPTION_FILE_DISK, /* what: the path of an image or block device */
	OPTION_FILE_TAP, /* what: the interface */
	OPTION_FILE_MAILBOX, /* of a disk: its fence */
	OPTION_FILE_RELAY, /* what: the path of a Unix socket to make */
	OPTION_FILE_RELAY_LINK, /* of the relay before it */
	OPTION_FILE_SOCKET, /* address: connected once, before the start */
	OPTION_FILE_CONNECTOR, /* address: to be connected again */
};

/* A file to open and hand to a device. */
struct option_file {
	const char *name; /* in the type's list */
	enum option_file_kind kind;
	const char *what;
	bool readonly, direct, dsync; /* OPTION_FILE_DISK */
	struct connector_address address;
};

struct option_device {
	const char *option; /* that made it: "--disk" */
	const char *where; /* in a configuration file: "vm.json:7: "; or "" */
	char type[OPTIONS_NAME], name[OPTIONS_NAME];
	bool is_inline;
	uint32_t restarts; /* per minute; 0: the default */
	uint32_t spare; /* as DeviceConfig.spare */
	const char *policy; /* as DeviceConfig.policy; NULL: the default */
	uint32_t deadline_ms; /* 0: the default */
	unsigned program; /* 0: devhost, 1: devhost-ext */
	bool network; /* its process stays in our network namespace */
	/* The process at the other end of its link, which says nothing of it;
	 * or "". */
	char link[OPTIONS_NAME];
	struct option_param params[OPTIONS_PARAMS];
	unsigned nparams;
	struct option_file files[OPTIONS_FILES];
	unsigned nfiles;
};

struct option_placement {
	const char *where;
	char device[OPTIONS_NAME];
	bool is_inline;
};

struct option_text;

struct run_options {
	const char *kernel, *initrd, *cmdline, *hypervisor, *sandbox,
	    *wait_policy, *console, *blackbox;
	char name[OPTIONS_NAME];
	uint64_t memory; /* bytes */
	unsigned cpus;
	unsigned icount; /* instructions per us of guest time; 0: off */
	bool detach, no_console, quiet, verbose, help, dry_run;
	struct option_device devices[OPTIONS_DEVICES];
	unsigned ndevices;
	struct option_placement placements[OPTIONS_DEVICES];
	unsigned nplacements;
	struct option_text *texts; /* that the pointers above point to */
};

/* A device type as `devhost --list` tells it. */
struct known_type {
	char name[OPTIONS_NAME];
	char title[96];
	bool platform; /* part of every VM */
	char options[256]; /* keys, separated by commas; "" if none */
	char files[64]; /* names, as the keys; "?" in front: may be left out */
	bool network; /* see struct option_device */
	unsigned program; /* 0: devhost, 1: devhost-ext */
};

/*
 * Parse the options of `run` and `layout` (argv[0] is the first of them); the
 * files of --config come first, whatever the order.  machine_bytes: the
 * machine's memory.  0; -EINVAL with the exact complaint in err.  The strings
 * stay argv's, or o's until options_free(), which is to be called either way.
 */
int options_parse_run(struct run_options *o, int argc, char **argv,
    uint64_t machine_bytes, char *err, size_t size);
void options_free(struct run_options *o);

/*
 * Put the platform's devices before those that were asked for, merge the two,
 * check the keys, and apply the placements.  0; -EINVAL with the complaint.
 */
int options_resolve_devices(struct run_options *o,
    const struct known_type *types, unsigned ntypes, char *err, size_t size);

/* Are the types of all devices that were asked for among these? */
bool options_types_known(const struct run_options *o,
    const struct known_type *types, unsigned ntypes);

/* One line of `devhost --list`.  False: it is not one. */
bool options_parse_type(struct known_type *t, const char *line);

/* "64M", "2G", "65536K"; a bare number is in MiB.  0; -EINVAL; -ERANGE. */
int options_parse_size(const char *text, uint64_t *bytes);

/* 1 to 31 of [A-Za-z0-9._-]. */
bool options_name_ok(const char *name);

#endif
