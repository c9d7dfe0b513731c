/* Black boxes (proto/blackbox.h): what is kept of a device's process that died. */
#ifndef VMMD_BLACKBOX_H
#define VMMD_BLACKBOX_H

#include "vmmd/vm.h"

/*
 * The process, which is its device, has died unasked: send what it left to the
 * recorder, if there is one.  No more than a minute's worth of BOXES_PER_MINUTE
 * at once: a device that dies again and again must not fill a disk.  lived_ns
 * as in the header.
 */
void blackbox_record(const struct process *p, uint64_t lived_ns);

#endif
