/* SPDX-License-Identifier: Apache-2.0 */
/*
 * result: what the queue writes to the spool about recipients, so that retry times, known failures and deliveries survive a restart. Pure.
 *
 * A record is the version byte 1 and then entries to its end. Integers are LEB128 varints as in envelopes, a text is its length and its bytes.
 *
 *   recipient      varint, index in the envelope
 *   state          varint: enum result_state
 *   and of waiting, failed, untold and held:
 *   number         varint: attempts; of untold enum queue_success; of held 1 if it is quarantined
 *   at_ms          varint, real time: of the next attempt; else when it happened
 *   status, remote, text   texts: the last outcome, the text cut to RESULT_TEXT_BYTES_MAX; of held only the text: by whom, or why
 *
 * A later entry replaces an earlier one of the same recipient; delivered, reported and deleted are final. A recipient without an entry is
 * untried. "Delay told" changes nothing but that. "Held" and "released" are of the whole message; their recipient is 0.
 *
 * There is no entry for a failure that has not been reported yet: the report and the "reported" entries are one write (queue.h), and
 * after a crash before it the recipient is simply tried again. But where the postmaster has been promised that it fails, there is "failed".
 */
#ifndef POSTERN_QUEUE_RESULT_H
#define POSTERN_QUEUE_RESULT_H

#include "base/buf.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RESULT_TEXT_BYTES_MAX 256
/* The longest entry: five varints, three texts. */
#define RESULT_ENTRY_BYTES_MAX (5 * 10 + 2 + 12 + 2 + 128 + 2 + RESULT_TEXT_BYTES_MAX)

enum result_state {
    RESULT_DELIVERED = 1,
    RESULT_WAITING = 2,
    RESULT_REPORTED = 3,
    RESULT_DELETED = 4,    /* by the postmaster */
    RESULT_FAILED = 5,     /* bounced by the postmaster, and not reported yet */
    RESULT_UNTOLD = 6,     /* delivered, and the sender, who has asked for it, not told yet */
    RESULT_DELAY_TOLD = 7, /* the sender has been told of the delay */
    RESULT_HELD = 8,
    RESULT_RELEASED = 9,
};

struct result_entry {
    size_t recipient;
    enum result_state state;
    unsigned number;
    int64_t at_ms;
    struct str status, remote, text; /* decoded: views into the record */
};

/* Appends to the record, with the version byte if it is empty. */
void result_append(struct buf *record, const struct result_entry *entry);
/* Starts reading: false if the record is of another version. */
bool result_open(struct str record, struct str *rest);
/* The next entry: 1, 0 at the end, -1 malformed. */
int result_next(struct str *rest, struct result_entry *entry);

#endif
