/* SPDX-License-Identifier: Apache-2.0 */
/*
 * header: reads a message's header section while it arrives, in whatever pieces, and finds fields in one that is in memory. Tolerant:
 * a line that is no field is passed over, the section ends at the first empty line (RFC 5322 2.1) or with the message. Memory
 * is bounded by the structure itself. Pure; one thread at a time.
 *
 *     struct header_scan scan;
 *     header_scan_init(&scan);
 *     header_scan_feed(&scan, piece);          as often as needed; a no-op once scan.is_complete
 */
#ifndef POSTERN_MAIL_HEADER_H
#define POSTERN_MAIL_HEADER_H

#include "base/buf.h"
#include "base/str.h"

/* A Message-ID over this, or with a byte that is not printable ASCII, is not echoed (relay-behaviour.md section 4). */
#define HEADER_MESSAGE_ID_OCTETS_MAX 250
/* The names that are looked for are shorter. */
#define HEADER_NAME_BYTES 16

enum header_scan_state {
    HEADER_SCAN_LINE_START,
    HEADER_SCAN_NAME,
    HEADER_SCAN_VALUE,    /* of the Message-ID field */
    HEADER_SCAN_FROM,     /* its value */
    HEADER_SCAN_SKIP,     /* to the end of the line */
    HEADER_SCAN_EMPTY_CR, /* a CR at the start of a line */
};

struct header_scan {
    bool is_complete; /* the empty line has come */
    bool has_date;
    bool has_from;
    bool has_message_id; /* present, whether or not it can be echoed */
    uint32_t received_count;
    uint64_t header_bytes; /* of the section, the empty line included, as far as read */
    struct buf *
        from; /* set after header_scan_init, and the caller's: gets the value of each From field, unfolded, a LF behind it; NULL: not wanted */
    bool from_overflows; /* `from` could not take all of it */

    /* private */
    enum header_scan_state state;
    bool in_message_id; /* the field under way is the first Message-ID */
    bool in_from;
    bool message_id_unusable;
    uint16_t name_length;
    uint16_t message_id_length;
    char name[HEADER_NAME_BYTES];
    char message_id[HEADER_MESSAGE_ID_OCTETS_MAX + 4]; /* brackets, and room to be over the limit */
};

void header_scan_init(struct header_scan *scan);
void header_scan_feed(struct header_scan *scan, struct str piece);
/* The Message-ID without its angle brackets, if it may be echoed; else empty. Asked once complete, or at the message's end. */
struct str header_scan_message_id(const struct header_scan *scan);

/* The first field `name` of a header section in memory: its value, trimmed, folds still in it. The section's end is heeded. */
bool header_find(struct str header, struct str name, struct str *value);

/* Appends at most `octets_max` bytes of a field's value on one line: each fold becomes a space, control bytes "?"; UTF-8 stays if
 * it is valid, other bytes become "?". */
void header_append_unfolded(struct buf *out, struct str value, size_t octets_max);

#endif
