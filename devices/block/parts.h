/* What the files of the block device model share. */
#ifndef DEVICES_BLOCK_PARTS_H
#define DEVICES_BLOCK_PARTS_H

#include "devices/block/block.h"

/* options.c */

/* Set the state's size, if it has none.  0 or -EINVAL, said in the log. */
int block_find_size(struct device *dev, struct block_backend *b);
/* The writeback field that a driver finds. */
uint8_t block_first_writeback(const struct block_state *s);
/* Must a write be durable when it is answered? */
bool block_is_durable(struct device *dev);
void block_get_limits(struct device *dev, struct block_limits *l);

/* transfer.c */

/* Submit the next piece of a request whose turn it is.  False: it waits for a
 * bounce buffer. */
bool block_submit_piece(struct device *dev, struct block_request *r);
/*
 * A piece has ended.  1: the request is done; 0: there is more to submit; a
 * negative errno: it has failed.
 */
int block_end_piece(struct device *dev, struct block_request *r);
/* Give back a bounce buffer, if it has one. */
void block_release_bounce(struct block_context *c, struct block_request *r);

#endif
