/* A black box of any bytes: it is printed, or refused. */
#include "vmmctl/blackbox.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* As a file is mapped: aligned. */
	void *file = aligned_alloc(64, (size + 64) / 64 * 64);
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);
	int r;

	BUG_ON(file == NULL || out == NULL);
	memcpy(file, data, size);
	r = blackbox_print(out, file, size, NULL);
	BUG_ON(r != 0 && r != -EBADMSG);
	fclose(out);
	/* Nothing of it reaches the terminal raw. */
	BUG_ON(memchr(text, '\x1b', n) != NULL);
	free(text);
	free(file);
	return 0;
}
