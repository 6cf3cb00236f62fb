/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/result.h"

#include "queue/envelope.h"
#include "queue/varint.h"

#define RESULT_VERSION 1

static bool has_details(enum result_state state)
{
    return state == RESULT_WAITING || state == RESULT_FAILED || state == RESULT_UNTOLD || state == RESULT_HELD;
}

void result_append(struct buf *record, const struct result_entry *entry)
{
    if (record->length == 0)
        buf_append_char(record, RESULT_VERSION);
    varint_put(record, entry->recipient);
    varint_put(record, entry->state);
    if (!has_details(entry->state))
        return;
    varint_put(record, entry->number);
    varint_put(record, entry->at_ms > 0 ? (uint64_t)entry->at_ms : 0);
    varint_put_text(record, entry->status);
    varint_put_text(record, entry->remote);
    varint_put_text(record, str_take(entry->text, RESULT_TEXT_BYTES_MAX));
}

bool result_open(struct str record, struct str *rest)
{
    *rest = str_skip(record, 1);
    return record.length > 0 && record.data[0] == RESULT_VERSION;
}

static bool get_details(struct str *rest, struct result_entry *entry)
{
    uint64_t at_ms;

    if (!varint_get_u32(rest, &entry->number) || !varint_get(rest, &at_ms) || at_ms > INT64_MAX)
        return false;
    entry->at_ms = (int64_t)at_ms;
    return varint_get_text(rest, &entry->status) && varint_get_text(rest, &entry->remote) &&
           varint_get_text(rest, &entry->text);
}

int result_next(struct str *rest, struct result_entry *entry)
{
    uint64_t recipient, state;

    *entry = (struct result_entry){0};
    if (rest->length == 0)
        return 0;
    if (!varint_get(rest, &recipient) || recipient >= ENVELOPE_RECIPIENTS_MAX || !varint_get(rest, &state))
        return -1;
    if (state < RESULT_DELIVERED || state > RESULT_RELEASED)
        return -1;
    entry->recipient = (size_t)recipient;
    entry->state = (enum result_state)state;
    return !has_details(entry->state) || get_details(rest, entry) ? 1 : -1;
}
