/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Message data as it comes over the network, for DATA and for BDAT with its chunks. The first byte chooses, the second says how the
 * network cuts the rest into pieces. Whole and in pieces must give the same; what comes out has CRLF lines only; and sent on, it
 * arrives as the same message, ending where it should.
 */
#include "mail/dot.h"
#include "base/buf.h"
#include "smtp/command.h"

#include <stdint.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            __builtin_trap();                                                                                          \
    } while (0)

#define OUT_MAX (8u << 20)

static void collect(void *context, struct str data)
{
    CHECK(data.length > 0);
    CHECK(buf_append_str(context, data));
}

struct outcome {
    struct buf text;
    size_t used;
    bool is_refused;
    bool is_done;
    bool is_broken; /* BDAT: no chunk where one should begin */
};

static void receive_data(struct str input, enum dot_bare_newlines bare, size_t piece_bytes, struct outcome *o)
{
    struct dot_decoder d;

    dot_decoder_init_data(&d, bare);
    while (o->used < input.length && !dot_decoder_is_done(&d)) {
        const struct str piece = str_take(str_skip(input, o->used), piece_bytes);
        const size_t used = dot_decoder_feed(&d, piece, collect, &o->text);

        CHECK(used == piece.length || dot_decoder_is_done(&d));
        o->used += used;
    }
    o->is_done = dot_decoder_is_done(&d);
    o->is_refused = dot_decoder_is_refused(&d);
}

/* "SIZE [LAST]" LF and that many octets, again and again, as a server counts them down. */
static void receive_bdat(struct str input, enum dot_bare_newlines bare, size_t piece_bytes, struct outcome *o)
{
    struct dot_decoder d;
    bool is_last = false;

    dot_decoder_init_bdat(&d, bare);
    while (!is_last) {
        const struct str rest = str_skip(input, o->used);
        const size_t newline = str_find(rest, '\n');
        uint64_t left;

        if (newline == STR_NONE || !command_parse_bdat(str_take(rest, newline), &left, &is_last)) {
            o->is_broken = true;
            return;
        }
        o->used += newline + 1;
        while (left > 0 && o->used < input.length) {
            const size_t length_max = left < piece_bytes ? (size_t)left : piece_bytes;
            const struct str piece = str_take(str_skip(input, o->used), length_max);

            CHECK(dot_decoder_feed(&d, piece, collect, &o->text) == piece.length);
            o->used += piece.length;
            left -= piece.length;
        }
        if (left > 0) {
            o->is_broken = true;
            return;
        }
    }
    dot_decoder_finish_bdat(&d, collect, &o->text);
    o->is_done = true;
    o->is_refused = dot_decoder_is_refused(&d);
}

static void receive(bool is_bdat, struct str input, enum dot_bare_newlines bare, size_t piece_bytes, struct outcome *o)
{
    *o = (struct outcome){0};
    buf_init(&o->text, OUT_MAX);
    if (is_bdat)
        receive_bdat(input, bare, piece_bytes, o);
    else
        receive_data(input, bare, piece_bytes, o);
}

static void check_newlines(struct str text)
{
    for (size_t i = 0; i < text.length; i++) {
        CHECK(text.data[i] != '\0');
        CHECK(text.data[i] != '\r' || (i + 1 < text.length && text.data[i + 1] == '\n'));
        CHECK(text.data[i] != '\n' || (i > 0 && text.data[i - 1] == '\r'));
    }
}

static void check_round_trip(struct str message, size_t piece_bytes)
{
    struct dot_encoder e;
    struct buf wire;
    struct outcome o;

    buf_init(&wire, OUT_MAX);
    dot_encoder_init(&e);
    for (struct str rest = message; rest.length > 0; rest = str_skip(rest, piece_bytes))
        dot_encoder_feed(&e, str_take(rest, piece_bytes), collect, &wire);
    dot_encoder_finish(&e, collect, &wire);
    receive(false, buf_str(&wire), DOT_BARE_REJECT, 1 + piece_bytes % 77, &o);
    CHECK(o.is_done && !o.is_refused && o.used == wire.length);
    CHECK(str_equal(str_take(buf_str(&o.text), message.length), message));
    CHECK(o.text.length == message.length || str_equal(str_skip(buf_str(&o.text), message.length), STR("\r\n")));
    buf_release(&o.text);
    buf_release(&wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole;
    struct outcome pieces;

    if (size < 2)
        return 0;
    const bool is_bdat = data[0] & 1;
    const enum dot_bare_newlines bare = data[0] & 2 ? DOT_BARE_NORMALIZE : DOT_BARE_REJECT;
    const size_t piece_bytes = 1 + (size_t)data[1];
    const struct str input = {(const char *)data + 2, size - 2};

    receive(is_bdat, input, bare, SIZE_MAX, &whole);
    receive(is_bdat, input, bare, piece_bytes, &pieces);
    CHECK(whole.used == pieces.used && whole.is_done == pieces.is_done && whole.is_refused == pieces.is_refused);
    CHECK(whole.is_broken == pieces.is_broken);
    if (whole.is_done && !whole.is_refused) {
        CHECK(str_equal(buf_str(&whole.text), buf_str(&pieces.text)));
        check_newlines(buf_str(&whole.text));
        check_round_trip(buf_str(&whole.text), piece_bytes);
    }
    buf_release(&whole.text);
    buf_release(&pieces.text);
    return 0;
}
