/* The configuration file. */
#include "vmmctl/config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct config {
	struct option_parse *p;
	const char *path;
	const char *at; /* in the text, behind the last key that was found */
	const char *end;
	unsigned line; /* of at */
};

static const char *
skip_string(struct config *c, const char *s)
{
	for (s++; s < c->end && *s != '"'; s++)
		s += *s == '\\';
	return s < c->end ? s + 1 : c->end;
}

/*
 * jansson does not say where a value stood, but keeps the keys in the order of
 * the text.  So walk along in the text, which it has found to be well-formed:
 * a string before a colon is a key.
 */
static int
next_key(struct config *c)
{
	const char *s = c->at, *after;
	struct option_parse *p = c->p;

	while (s < c->end) {
		c->line += *s == '\n';
		if (*s != '"') {
			s++;
			continue;
		}
		s = skip_string(c, s);
		after = s;
		while (after < c->end && strchr(" \t\r\n", *after) != NULL)
			after++;
		if (after < c->end && *after == ':')
			break;
	}
	c->at = s;
	p->where = option_keep_format(p->o, "%s:%u: ", c->path, c->line);
	if (p->where != NULL)
		return 0;
	p->where = "";
	return option_complain(p, "out of memory");
}

/* A scalar as the command line would say it; NULL: it is none. */
static const char *
scalar_text(struct config *c, const json_t *v)
{
	switch (json_typeof(v)) {
	case JSON_STRING:
		return option_keep(
		    c->p->o, json_string_value(v), json_string_length(v));
	case JSON_INTEGER:
		return option_keep_format(
		    c->p->o, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
	case JSON_TRUE:
		return "on";
	case JSON_FALSE:
		return "off";
	case JSON_OBJECT:
	case JSON_ARRAY:
	case JSON_REAL:
	case JSON_NULL:
	default:
		return NULL;
	}
}

static int
add_value(struct config *c, const struct option_row *row, const char *key,
    const json_t *v, struct option_list *l)
{
	const char *text = scalar_text(c, v);

	if (text == NULL)
		return option_complain(c->p,
		    "%s: %s: not a string, a whole number, true or false",
		    row->name, key);
	if (row->word_key != NULL && strcmp(key, row->word_key) == 0) {
		l->word = text;
		return 0;
	}
	if (l->n == OPTIONS_PARAMS)
		return option_complain(
		    c->p, "%s: more than %u keys", row->name, OPTIONS_PARAMS);
	l->kv[l->n].key = option_keep(c->p->o, key, strlen(key));
	l->kv[l->n].value = text;
	if (l->kv[l->n++].key == NULL)
		return option_complain(c->p, "out of memory");
	return 0;
}

/* One device. */
static int
set_object(struct config *c, const struct option_row *row, json_t *object)
{
	struct option_list l = { .word = "" };
	const char *key, *where = c->p->where;
	json_t *v, *element;
	size_t i;
	int r = 0;

	json_object_foreach(object, key, v)
	{
		if (next_key(c) < 0)
			return -EINVAL;
		if (l.n == 0 && l.word[0] == '\0')
			where = c->p->where;
		if (json_is_array(v)) {
			json_array_foreach(v, i, element)
			{
				if (r == 0)
					r = add_value(c, row, key, element, &l);
			}
		} else {
			r = add_value(c, row, key, v, &l);
		}
		if (r < 0)
			return r;
	}
	/* What is wrong with all of it is wrong where it begins. */
	c->p->where = where;
	return row->set_list(c->p, &l);
}

static int
set_list(struct config *c, const struct option_row *row, json_t *v)
{
	struct option_list nothing = { .word = "" };
	json_t *element;
	size_t i;
	int r = 0;

	if (json_is_object(v))
		return set_object(c, row, v);
	if (row->kind == OPTION_BARE_LIST && json_is_true(v))
		return row->set_list(c->p, &nothing);
	if (row->kind == OPTION_BARE_LIST && json_is_false(v))
		return 0;
	if (!json_is_array(v))
		return option_complain(
		    c->p, "%s: not a list of objects", row->name);
	json_array_foreach(v, i, element)
	{
		if (!json_is_object(element))
			return option_complain(
			    c->p, "%s: not a list of objects", row->name);
		r = set_object(c, row, element);
		if (r < 0)
			break;
	}
	return r;
}

static int
set_pairs(struct config *c, const struct option_row *row, json_t *v)
{
	const char *key, *text;
	json_t *value;
	int r;

	if (!json_is_object(v))
		return option_complain(c->p, "%s: not an object", row->name);
	json_object_foreach(v, key, value)
	{
		if (next_key(c) < 0)
			return -EINVAL;
		text = json_is_string(value)
		    ? option_keep_format(
			  c->p->o, "%s=%s", key, json_string_value(value))
		    : NULL;
		if (text == NULL)
			return option_complain(
			    c->p, "%s: %s: not a string", row->name, key);
		r = row->set_text(c->p, text);
		if (r < 0)
			return r;
	}
	return 0;
}

static int
set_key(struct config *c, const char *key, json_t *v)
{
	const struct option_row *row = option_find(key, strlen(key));
	const char *text;
	bool on;

	if (row == NULL)
		return option_complain(c->p, "unknown key %s", key);
	switch (row->kind) {
	case OPTION_SWITCH:
		if (!json_is_boolean(v))
			return option_complain(
			    c->p, "%s: not true or false", key);
		on = json_is_true(v);
		memcpy((char *)c->p->o + row->offset, &on, sizeof(on));
		return 0;
	case OPTION_BARE_TEXT:
		if (json_is_false(v))
			return 0;
		text = json_is_true(v) ? "" : scalar_text(c, v);
		if (text == NULL)
			return option_complain(
			    c->p, "%s: not a whole number or true", key);
		return row->set_text(c->p, text);
	case OPTION_TEXT:
		text = json_is_boolean(v) ? NULL : scalar_text(c, v);
		if (text == NULL)
			return option_complain(
			    c->p, "%s: not a string or a whole number", key);
		return row->set_text(c->p, text);
	case OPTION_PAIRS:
		return set_pairs(c, row, v);
	case OPTION_LIST:
	case OPTION_BARE_LIST:
		break;
	}
	return set_list(c, row, v);
}

int
config_parse(
    struct option_parse *p, const char *path, const char *text, size_t n)
{
	struct config c = { p, path, text, text + n, 1 };
	json_error_t error;
	json_t *root, *v;
	const char *key;
	int r = 0;

	p->where = "";
	root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
	if (root == NULL)
		return option_complain(
		    p, "%s:%d: %s", path, MAX(error.line, 1), error.text);
	if (!json_is_object(root))
		r = option_complain(p, "%s:1: not an object", path);
	json_object_foreach(root, key, v)
	{
		if (r == 0)
			r = next_key(&c);
		if (r == 0)
			r = set_key(&c, key, v);
	}
	json_decref(root);
	p->where = "";
	return r;
}

int
config_load(struct option_parse *p, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r;
	struct stat st;
	char *text;
	ssize_t n;

	p->where = "";
	if (fd < 0)
		return option_complain(
		    p, "--config %s: %s", path, strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    st.st_size > (off_t)CONFIG_BYTES_MAX) {
		close(fd);
		return option_complain(p,
		    "--config %s: not a regular file of at most %u bytes", path,
		    CONFIG_BYTES_MAX);
	}
	text = malloc((size_t)st.st_size + 1);
	n = text == NULL ? -1 : read(fd, text, (size_t)st.st_size);
	close(fd);
	r = n < 0 ? option_complain(p, "--config %s: it cannot be read", path)
		  : config_parse(p, path, text, (size_t)n);
	free(text);
	return r;
}
