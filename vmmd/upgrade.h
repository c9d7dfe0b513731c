/*
 * Hot upgrade: a planned death.  The new program is started and says hello; the
 * old one commits and exits; the store is handed over.  If the new one does not
 * become ready, the old program goes on with the store, as after any death.
 *
 * A process of the new program is device.next until the old one has exited.
 */
#ifndef VMMD_UPGRADE_H
#define VMMD_UPGRADE_H

#include "vmmd/vm.h"

/* program: an fd, taken; -1: that which the device has.  The client is answered
 * when it is over. */
void
upgrade_begin(struct device *d, struct client *c, uint64_t seq, int program);

/* The new process said hello; its manifest is not looked at yet. */
void upgrade_greeted(struct device *d, const struct manifest *m);

/* The new process is dead before it took over. */
void upgrade_next_died(struct device *d, const char *how);

/*
 * The device is dead, and what it left recovered.  True: that is seen to, or is
 * about to be; false: it is a death like any other.
 */
bool
upgrade_takes_death(struct device *d, const char *how, const char *failure);

/* It is ready, and what was committed is not applied yet. */
void upgrade_ready(struct device *d);

/* The old one has been told to finish. */
static inline bool
upgrade_is_finishing(const struct device *d)
{
	return d->upgrade.stage == UPGRADE_FINISHING;
}

/* The VM ends, or the device: let go of all of it. */
void upgrade_forget(struct device *d);

#endif
