/* SPDX-License-Identifier: Apache-2.0 */
/* varint: the integers and texts of the queue's formats in the spool (envelope.c, result.h). Pure. */
#ifndef POSTERN_QUEUE_VARINT_H
#define POSTERN_QUEUE_VARINT_H

#include "base/buf.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

/* LEB128: seven bits a byte, the lowest first. */
void varint_put(struct buf *out, uint64_t value);
void varint_put_text(struct buf *out, struct str text);

/* Each reads from the front of `rest` and moves it on; false if it is cut short, too large, or not the shortest form. */
bool varint_get(struct str *rest, uint64_t *value);
bool varint_get_u32(struct str *rest, unsigned *value);
bool varint_get_bytes(struct str *rest, uint64_t length, struct str *text);
bool varint_get_text(struct str *rest, struct str *text);

#endif
