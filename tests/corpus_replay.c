/*
 * Runs a fuzzer's target once on every file named, without libFuzzer.  A finding
 * ends the process by a signal.  Linked with one x_fuzz.o.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"

#define INPUT_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
main(int argc, char **argv)
{
	for (int n = 1; n < argc; n++) {
		uint8_t *bytes = malloc(INPUT_MAX), *exact;
		FILE *f = fopen(argv[n], "rb");
		size_t size;

		BUG_ON(bytes == NULL);
		if (f == NULL) {
			fprintf(stderr, "%s: %s\n", argv[n], strerror(errno));
			return 1;
		}
		size = fread(bytes, 1, INPUT_MAX, f);
		fclose(f);
		/* So that a read behind the end is one behind the heap's. */
		exact = malloc(size + (size == 0));
		BUG_ON(exact == NULL);
		memcpy(exact, bytes, size);
		free(bytes);
		printf("%s\n", argv[n]);
		fflush(stdout);
		(void)LLVMFuzzerTestOneInput(exact, size);
		free(exact);
	}
	printf("%d inputs\n", argc - 1);
	return 0;
}
