/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Envelopes and result records as recovery reads them: whatever stands there, nothing is read beyond the end, and what is taken as an
 * envelope encodes to the same again. The first byte chooses the format.
 */
#include "queue/envelope.h"
#include "queue/result.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void assert_same(struct str data, const struct envelope *envelope)
{
    struct arena arena;
    struct envelope again;
    struct buf out;

    /* A text that repeats the end of another may have been written in full: the second encoding is the shorter one, at most. */
    buf_init(&out, 1 << 24);
    check(envelope_encode(envelope, &out) && out.length <= data.length);
    arena_init(&arena, 1 << 24);
    check(envelope_decode(buf_str(&out), &arena, &again));
    check(again.arrived_at_ms == envelope->arrived_at_ms && again.flags == envelope->flags);
    check(again.recipient_count == envelope->recipient_count && str_equal(again.message_id, envelope->message_id));
    for (size_t i = 0; i < again.recipient_count; i++) {
        check(str_equal(again.recipients[i].address, envelope->recipients[i].address));
        check(str_equal(again.recipients[i].domain, envelope->recipients[i].domain));
        check(again.recipients[i].notify == envelope->recipients[i].notify);
    }
    arena_release(&arena);
    buf_release(&out);
}

static void try_envelope(struct str data)
{
    struct arena arena;
    struct envelope envelope;
    int64_t arrived_at_ms;
    size_t count;

    arena_init(&arena, 1 << 24);
    if (envelope_decode(data, &arena, &envelope)) {
        check(envelope_peek(data, &arrived_at_ms, &count));
        check(arrived_at_ms == envelope.arrived_at_ms && count == envelope.recipient_count);
        assert_same(data, &envelope);
    }
    arena_release(&arena);
}

static void try_result(struct str data)
{
    struct result_entry entry;
    struct str rest;

    if (!result_open(data, &rest))
        return;
    while (result_next(&rest, &entry) == 1)
        check(entry.recipient < ENVELOPE_RECIPIENTS_MAX && entry.text.length <= data.length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] == 'r')
        try_result(str_make((const char *)data + 1, size - 1));
    else
        try_envelope(str_make((const char *)data + 1, size - 1));
    return 0;
}
