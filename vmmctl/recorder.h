/*
 * The recorder: a child of ours that keeps the broker's black boxes
 * (proto/blackbox.h) in a folder, because the broker opens no files.
 */
#ifndef VMMCTL_RECORDER_H
#define VMMCTL_RECORDER_H

#include <sys/types.h>

/* What a folder holds at most; the oldest go first. */
#define RECORDER_FILES_MAX 64u
#define RECORDER_BYTES_MAX (256ull << 20)

/*
 * Start it.  Its pid, and the broker's end of the pair in *fd (close on exec,
 * not blocking); or -errno, of opening the folder too.  It lives until every
 * copy of *fd is closed, with no other fd of ours but the folder's.
 */
pid_t recorder_start(const char *folder, int *fd);

/*
 * Keep a file of that name and content (from its beginning) in the folder, for
 * the user only.  0; -EINVAL: no black box's name; -EFBIG; -errno.
 */
int recorder_keep(int folder, const char *name, int content);

#endif
