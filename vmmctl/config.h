/*
 * The configuration file: JSON that says the same as the options of `run`.
 *
 * An object whose keys are the long options without their dashes.  A switch
 * takes true or false; an option that may be given again takes a list of
 * objects (or one object), whose keys are those of the option, and "type" for
 * the word in front; "placement" takes an object of device and place.  A number
 * may stand where an option wants one.  Paths are those of the process.
 */
#ifndef VMMCTL_CONFIG_H
#define VMMCTL_CONFIG_H

#include <stddef.h>

#include "vmmctl/option_parse.h"

#define CONFIG_BYTES_MAX (1u << 20)

/*
 * Read a file into p->o, as if its options had been given.  0; -EINVAL with
 * file, line and key in the complaint.
 */
int config_load(struct option_parse *p, const char *path);

/* The same of n bytes of text; `path` is for complaints only. */
int config_parse(
    struct option_parse *p, const char *path, const char *text, size_t n);

#endif
