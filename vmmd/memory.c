/* Sealed memfds. */
#include "vmmd/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int
memory_create(struct memory *m, const char *name, size_t size)
{
	int err;

	*m = MEMORY_NONE;
	m->fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (m->fd < 0)
		return -errno;
	if (ftruncate(m->fd, (off_t)size) < 0 ||
	    fcntl(m->fd, F_ADD_SEALS,
		F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		goto fail;
	m->base = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_NORESERVE, m->fd, 0);
	if (m->base == MAP_FAILED) {
		m->base = NULL;
		goto fail;
	}
	m->size = size;
	if (madvise(m->base, size, MADV_DONTFORK) < 0)
		goto fail;
	return 0;
fail:
	err = -errno;
	memory_destroy(m);
	return err;
}

void
memory_destroy(struct memory *m)
{
	if (m->base != NULL)
		munmap(m->base, m->size);
	if (m->fd >= 0)
		close(m->fd);
	*m = MEMORY_NONE;
}
