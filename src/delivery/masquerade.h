/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delivery/masquerade: another domain in place of the local ones in senders' addresses, so that the world sees one domain where inside there are many. Only
 * of mail that began here: with more than one Received line it has come from elsewhere, and is passed on as it is (RFC 5321 6.3).
 *
 * Local are the local domains and their aliases, and every domain below one that is no wildcard. Header fields: From, Sender and Reply-To, wherever an
 * "@" with such a domain stands in them, outside of quotes, comments and address literals. Everything else stays as it was, byte by byte.
 */
#ifndef POSTERN_DELIVERY_MASQUERADE_H
#define POSTERN_DELIVERY_MASQUERADE_H

#include "base/buf.h"
#include "delivery/body.h"
#include "policy/model.h"

/* Of a longer header section what follows is passed on as it is. */
#define MASQUERADE_HEADER_BYTES_MAX (256u << 10)

struct masquerade {
    const struct policy_model *model;
    struct str domain; /* what stands in place of the local ones */
};

/* ---- pure ---- */

/* The address in `out`, changed or not. */
void masquerade_address(const struct masquerade *masquerade, struct str address, struct buf *out);
/* Fields that are whole in `header`, the beginning of a message. */
void masquerade_header(const struct masquerade *masquerade, struct str header, struct buf *out);

/* ---- a message on its way ---- */

/* A body whose first part is in memory, changed. */
struct masqueraded_body {
    struct delivery_body body;
    struct buf head; /* what leaves before the rest of the body */
    size_t head_sent;
};

/* Reads the header section. `*sender` and `*body_bytes` become those that are to be sent. A body that can't be read fails when it is sent. Waits. */
void masqueraded_body_open(struct masqueraded_body *body, const struct masquerade *masquerade, struct buf *sender,
                           uint64_t *body_bytes);
/* As delivery_body_read. */
ssize_t masqueraded_body_read(struct masqueraded_body *body, void *data, size_t length);
void masqueraded_body_release(struct masqueraded_body *body);

#endif
