/* What the user asked for: the command line of vmmctl, parsed and checked. */
#ifndef VMMCTL_OPTIONS_H
#define VMMCTL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPTIONS_DEVICES 32u
#define OPTIONS_PARAMS	8u
#define OPTIONS_NAME	32u

struct option_param {
	char key[OPTIONS_NAME];
	char value[128];
};

struct option_device {
	char type[OPTIONS_NAME], name[OPTIONS_NAME];
	bool named; /* by the user */
	bool is_inline;
	uint32_t restarts; /* per minute; 0: the default */
	struct option_param params[OPTIONS_PARAMS];
	unsigned nparams;
};

struct option_placement {
	char device[OPTIONS_NAME];
	bool is_inline;
};

struct run_options {
	const char *kernel, *initrd, *cmdline, *hypervisor, *sandbox,
	    *wait_policy, *console;
	char name[OPTIONS_NAME];
	uint64_t memory; /* bytes */
	unsigned cpus;
	bool detach, no_console, quiet, verbose, help;
	struct option_device devices[OPTIONS_DEVICES];
	unsigned ndevices;
	struct option_placement placements[OPTIONS_DEVICES];
	unsigned nplacements;
};

/* A device type as `devhost --list` tells it. */
struct known_type {
	char name[OPTIONS_NAME];
	char title[96];
	bool platform; /* part of every VM */
	char options[256]; /* keys, separated by commas; "" if none */
};

/*
 * Parse the options of `run` and `layout` (argv[0] is the first of them).
 * machine_bytes: the machine's memory.  0; -EINVAL with the exact complaint in
 * err.  The strings stay argv's.
 */
int options_parse_run(struct run_options *o, int argc, char **argv,
    uint64_t machine_bytes, char *err, size_t size);

/*
 * Put the platform's devices before those that were asked for, merge the two,
 * and apply the placements.  0; -EINVAL with the complaint.
 */
int options_resolve_devices(struct run_options *o,
    const struct known_type *types, unsigned ntypes, char *err, size_t size);

/* One line of `devhost --list`.  False: it is not one. */
bool options_parse_type(struct known_type *t, const char *line);

/* "64M", "2G", "65536K"; a bare number is in MiB. */
int options_parse_size(const char *text, uint64_t *bytes);

/* 1 to 31 of [A-Za-z0-9._-]. */
bool options_name_ok(const char *name);

#endif
