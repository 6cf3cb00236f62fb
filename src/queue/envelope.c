/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The encoded form, version 1. Integers are LEB128 varints (7 bits a byte, the lowest first, no needless zero bytes at the end); a text is
 * its length and its bytes.
 *
 *   version        1 byte, 1
 *   arrived_at_ms  varint
 *   recipients     varint, their number: it stands near the front so that the queue learns it without reading the rest
 *   flags          varint
 *   sender         text        sender_domain  tail
 *   envid, client, helo, user, server, rule, rule_at, message_id   texts
 *   then for each recipient:
 *   address        text        domain         tail
 *   orcpt          text        notify         varint
 *
 * A tail is a text that mostly repeats the end of the text before it: varint 2n+1 means the last n bytes of that text, 2n that n bytes
 * follow. It saves a domain a recipient of the queue's memory.
 */
#include "queue/envelope.h"

#include "queue/varint.h"

#include <assert.h>

#define ENVELOPE_VERSION 1
/* Address, domain, orcpt, notify: the least that a recipient takes. Keeps a damaged count from asking for memory. */
#define RECIPIENT_BYTES_MIN 4

static void put_tail(struct buf *out, struct str whole, struct str text)
{
    if (str_ends_with(whole, text)) {
        varint_put(out, (uint64_t)text.length << 1 | 1);
        return;
    }
    varint_put(out, (uint64_t)text.length << 1);
    buf_append_str(out, text);
}

bool envelope_encode(const struct envelope *envelope, struct buf *out)
{
    assert(envelope->recipient_count <= ENVELOPE_RECIPIENTS_MAX);
    buf_append_char(out, ENVELOPE_VERSION);
    varint_put(out, (uint64_t)envelope->arrived_at_ms);
    varint_put(out, envelope->recipient_count);
    varint_put(out, envelope->flags);
    varint_put_text(out, envelope->sender);
    put_tail(out, envelope->sender, envelope->sender_domain);
    varint_put_text(out, envelope->envid);
    varint_put_text(out, envelope->client);
    varint_put_text(out, envelope->helo);
    varint_put_text(out, envelope->user);
    varint_put_text(out, envelope->server);
    varint_put_text(out, envelope->rule);
    varint_put_text(out, envelope->rule_at);
    varint_put_text(out, envelope->message_id);
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct envelope_recipient *recipient = &envelope->recipients[i];

        varint_put_text(out, recipient->address);
        put_tail(out, recipient->address, recipient->domain);
        varint_put_text(out, recipient->orcpt);
        varint_put(out, recipient->notify);
    }
    return !out->overflowed;
}

static bool get_tail(struct str *rest, struct str whole, struct str *text)
{
    uint64_t value;

    if (!varint_get(rest, &value))
        return false;
    if (!(value & 1))
        return varint_get_bytes(rest, value >> 1, text);
    if (value >> 1 > whole.length)
        return false;
    *text = str_skip(whole, whole.length - (size_t)(value >> 1));
    return true;
}

static bool get_front(struct str *rest, int64_t *arrived_at_ms, size_t *recipient_count)
{
    uint64_t arrived, count;

    if (rest->length == 0 || rest->data[0] != ENVELOPE_VERSION)
        return false;
    *rest = str_skip(*rest, 1);
    if (!varint_get(rest, &arrived) || arrived > INT64_MAX || !varint_get(rest, &count))
        return false;
    if (count > ENVELOPE_RECIPIENTS_MAX || count * RECIPIENT_BYTES_MIN > rest->length)
        return false;
    *arrived_at_ms = (int64_t)arrived;
    *recipient_count = (size_t)count;
    return true;
}

bool envelope_peek(struct str data, int64_t *arrived_at_ms, size_t *recipient_count)
{
    return get_front(&data, arrived_at_ms, recipient_count);
}

static bool get_recipient(struct str *rest, struct envelope_recipient *recipient)
{
    return varint_get_text(rest, &recipient->address) && get_tail(rest, recipient->address, &recipient->domain) &&
           varint_get_text(rest, &recipient->orcpt) && varint_get_u32(rest, &recipient->notify);
}

bool envelope_decode(struct str data, struct arena *arena, struct envelope *envelope)
{
    *envelope = (struct envelope){0};
    if (!get_front(&data, &envelope->arrived_at_ms, &envelope->recipient_count))
        return false;
    if (!varint_get_u32(&data, &envelope->flags) || !varint_get_text(&data, &envelope->sender) ||
        !get_tail(&data, envelope->sender, &envelope->sender_domain) || !varint_get_text(&data, &envelope->envid) ||
        !varint_get_text(&data, &envelope->client) || !varint_get_text(&data, &envelope->helo) ||
        !varint_get_text(&data, &envelope->user) || !varint_get_text(&data, &envelope->server) ||
        !varint_get_text(&data, &envelope->rule) || !varint_get_text(&data, &envelope->rule_at) ||
        !varint_get_text(&data, &envelope->message_id))
        return false;
    envelope->recipients = arena_alloc(arena, envelope->recipient_count * sizeof(*envelope->recipients));
    if (!envelope->recipients)
        return false;
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        if (!get_recipient(&data, &envelope->recipients[i]))
            return false;
    }
    return data.length == 0;
}

struct str message_id_format(uint64_t id, char text[MESSAGE_ID_TEXT_BYTES])
{
    static const char digits[] = "0123456789ABCDEF";
    size_t length = 1;

    while (length < MESSAGE_ID_TEXT_BYTES - 1 && id >> (4 * length) != 0)
        length++;
    for (size_t i = 0; i < length; i++)
        text[i] = digits[id >> (4 * (length - 1 - i)) & 0xf];
    text[length] = '\0';
    return str_make(text, length);
}

static int hex_value(char c)
{
    if (ascii_is_digit(c))
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool message_id_parse(struct str text, uint64_t *id)
{
    uint64_t value = 0;

    if (text.length == 0 || text.length >= MESSAGE_ID_TEXT_BYTES)
        return false;
    for (size_t i = 0; i < text.length; i++) {
        int digit = hex_value(text.data[i]);

        if (digit < 0)
            return false;
        value = value << 4 | (uint64_t)digit;
    }
    *id = value;
    return value != 0;
}
