/* Ethernet switches: processes that the VMs of one user share. */
#ifndef VMMCTL_SWITCH_H
#define VMMCTL_SWITCH_H

#include <stddef.h>

/*
 * A port of this user's switch of that name, which is started if there is none:
 * a connected SEQPACKET socket; or -errno with the reason in why.  devhost: the
 * path of the program.
 */
int
switch_connect(const char *devhost, const char *name, char *why, size_t size);

#endif
