/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delivery/body_copy: the body of a message that is made here: some text, another message's body, some text. It is put together on a disk
 * thread, in memory where the spool takes it so, and else in a file, a block at a time: never is all of a large one in memory.
 *
 * Calling sequence, from one fiber: body_copy_create; body_copy_run; body_copy_submit at most once; body_copy_destroy.
 */
#ifndef POSTERN_DELIVERY_BODY_COPY_H
#define POSTERN_DELIVERY_BODY_COPY_H

#include "base/buf.h"
#include "delivery/delivery_private.h"

struct body_copy;

/* `head` and `tail` (NULL: none) are taken over and left empty. `id` 0: there is no body between them. */
struct body_copy *body_copy_create(struct delivery *delivery, spool_id id, struct buf *head, struct buf *tail);
/* Waits. 0, or a negative errno: -EILSEQ when that body is damaged, -ENOENT when it is gone. */
int body_copy_run(struct body_copy *copy);
/* After a run: the length of all of it. */
uint64_t body_copy_bytes(const struct body_copy *copy);
/* Puts it into the write (whose body is not set) and submits that; waits. Whether it is in the spool. */
bool body_copy_submit(struct body_copy *copy, struct spool_write *write);
/* Waits if a file has to be removed. Sets the pointer to NULL, which it may be. */
void body_copy_destroy(struct body_copy **copy);

#endif
