/* Ethernet switches: processes that the VMs of one user share. */
#ifndef VMMCTL_SWITCH_H
#define VMMCTL_SWITCH_H

/*
 * A port of this user's switch of that name: a connected SEQPACKET socket, close
 * on exec and not blocking; or -errno.  If there is no such switch it is started,
 * from the program at devhost, with that --sandbox; it ends by itself when nobody
 * has used it for a while.
 */
int switch_connect(const char *devhost, const char *sandbox, const char *name);

#endif
