/*
 * The insides of the options: what options.c, option_devices.c and config.c
 * share.
 */
#ifndef VMMCTL_OPTION_PARSE_H
#define VMMCTL_OPTION_PARSE_H

#include "proto/base.h"
#include "vmmctl/options.h"

struct option_parse {
	struct run_options *o;
	uint64_t machine_bytes;
	const char *where; /* as in struct option_device */
	char *err;
	size_t size;
};

/* The value of an option that has parts: WORD,KEY=VALUE,... */
struct option_list {
	const char *word; /* "": none */
	struct option_param kv[OPTIONS_PARAMS];
	unsigned n;
};

enum option_kind {
	OPTION_SWITCH, /* --detach */
	OPTION_TEXT, /* --memory 1G */
	OPTION_BARE_TEXT, /* --icount or --icount=1000 */
	OPTION_PAIRS, /* --placement DEVICE=WHERE, again and again */
	OPTION_LIST, /* --disk path=F,..., again and again */
	OPTION_BARE_LIST, /* --rng: the list may be left out */
};

struct option_row {
	const char *name; /* without the dashes */
	enum option_kind kind;
	size_t offset; /* OPTION_SWITCH: of its bool */
	int (*set_text)(struct option_parse *p, const char *value);
	int (*set_list)(struct option_parse *p, const struct option_list *l);
	const char *word_key; /* what the list's word is called; NULL: none */
};

/* The row of the option whose name is the first n bytes, or NULL. */
const struct option_row *option_find(const char *name, size_t n);

/* Write the complaint; -EINVAL. */
int
option_complain(struct option_parse *p, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* A copy of n bytes that lives as long as the options; NULL: no memory. */
const char *option_keep(struct run_options *o, const char *text, size_t n);
/* The same, formatted. */
const char *option_keep_format(struct run_options *o, const char *fmt, ...)
    PRINTF_LIKE(2, 3);

/* Is v one of the words, which are separated by spaces? */
bool option_is_word(const char *words, const char *v);

/* Decimal digits only: no sign, no space.  0; -EINVAL; -ERANGE. */
int option_parse_number(const char *text, uint64_t *out);

/* "WORD,KEY=VALUE,...", where ",," stands for a comma. */
int option_split_list(struct option_parse *p, const struct option_row *row,
    const char *text, struct option_list *l);

/* The options that make devices: vmmctl/option_devices.c. */
int option_set_device(struct option_parse *p, const struct option_list *l);
int option_set_disk(struct option_parse *p, const struct option_list *l);
int option_set_net(struct option_parse *p, const struct option_list *l);
int option_set_console(struct option_parse *p, const struct option_list *l);
int option_set_vsock(struct option_parse *p, const struct option_list *l);
int option_set_rng(struct option_parse *p, const struct option_list *l);
int option_set_balloon(struct option_parse *p, const struct option_list *l);

/*
 * "nbd://HOST[:PORT]/EXPORT" or "nbd+unix:///EXPORT?socket=PATH" (the NBD
 * project's doc/uri.md, without TLS).  False: it is neither.
 */
bool option_parse_nbd(struct run_options *o, const char *uri,
    struct connector_address *a, const char **export_name);

#endif
