/*
 * What channel_receive() does with the bytes of one datagram, apart from the
 * socket: for it and for the fuzzer.
 */
#ifndef PROTO_CHANNEL_DECODE_H
#define PROTO_CHANNEL_DECODE_H

#include "proto/channel.h"

/*
 * Unpack the n bytes of one datagram that came with nfds fds, within the bounds
 * of one message, and ask the table whether the peer of c may send it now.  0:
 * *envelope is the caller's, to be freed by bulkhead__envelope__free_unpacked()
 * with the default allocator, and c's state has moved; -EPROTO: neither.
 */
int channel_decode(struct channel *c, const uint8_t *bytes, size_t n,
    unsigned nfds, Bulkhead__Envelope **envelope);

#endif
