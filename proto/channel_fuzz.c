/*
 * One datagram against the decoder, as every end of every conversation.  The
 * first two bytes choose: role, state, number of fds.
 */
#include "proto/base.h"
#include "proto/channel_decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Bulkhead__Envelope *e = NULL;
	struct channel c;
	unsigned nfds;

	if (size < 2)
		return 0;
	channel_init(
	    &c, -1, (enum channel_role)(data[0] % (CHANNEL_CLIENT + 1u)));
	c.state =
	    (enum channel_state)((data[0] >> 4) % (CHANNEL_FINISHING + 1u));
	nfds = data[1] % (CHANNEL_FDS_MAX + 1);
	if (channel_decode(&c, data + 2, size - 2, nfds, &e) == 0) {
		BUG_ON(e == NULL);
		BUG_ON(e->body_case == BULKHEAD__ENVELOPE__BODY__NOT_SET);
		/* What was understood can be said again. */
		BUG_ON(bulkhead__envelope__get_packed_size(e) == 0);
		bulkhead__envelope__free_unpacked(e, NULL);
	}
	return 0;
}
