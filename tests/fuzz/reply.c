/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile server's replies: the first byte says how the rest is cut into pieces; whole and in pieces must give the same. */
#include "smtp/reply.h"
#include "mail/text.h"

#include <stdint.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            __builtin_trap();                                                                                          \
    } while (0)

static void check_text(struct str text)
{
    for (size_t i = 0; i < text.length;) {
        const size_t length = text_utf8_length(str_skip(text, i));

        CHECK(length > 0 && (length > 1 || (text.data[i] >= ' ' && text.data[i] != 0x7f)));
        i += length;
    }
}

static enum reply_status feed(struct reply_parser *parser, struct str input, size_t piece_bytes, size_t *used)
{
    enum reply_status status = REPLY_MORE;

    *used = 0;
    while (status == REPLY_MORE && *used < input.length) {
        const struct str piece = str_take(str_skip(input, *used), piece_bytes);
        const size_t n = reply_parser_feed(parser, piece, &status);

        CHECK(n <= piece.length && (status != REPLY_MORE || n == piece.length));
        *used += n;
    }
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct reply_parser whole;
    static struct reply_parser pieces;

    if (size == 0)
        return 0;
    const bool is_ehlo = data[0] % 2 == 0;
    const size_t piece_bytes = 1 + data[0] / 2;
    struct str rest = {(const char *)data + 1, size - 1};

    for (;;) {
        size_t used;
        size_t used_in_pieces;

        reply_parser_init(&whole, is_ehlo);
        reply_parser_init(&pieces, is_ehlo);
        const enum reply_status status = feed(&whole, rest, SIZE_MAX, &used);

        CHECK(feed(&pieces, rest, piece_bytes, &used_in_pieces) == status);
        CHECK(str_equal(reply_text(&whole.reply), reply_text(&pieces.reply)));
        CHECK(whole.reply.line_count == pieces.reply.line_count && whole.reply.line_count <= REPLY_LINES_MAX);
        check_text(reply_text(&whole.reply));
        if (status != REPLY_COMPLETE)
            return 0;
        CHECK(used == used_in_pieces && used > 0);
        CHECK(whole.reply.code == pieces.reply.code && whole.reply.code >= 200 && whole.reply.code < 600);
        CHECK(whole.reply.capabilities.auth_length <= REPLY_AUTH_OCTETS_MAX);
        rest = str_skip(rest, used);
    }
}
