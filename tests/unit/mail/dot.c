/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two servers that disagree on where a message ends let an attacker put a second message into the first (SMTP smuggling). So the
 * decoder is compared with a plain restatement of the rules, over every short sequence of the bytes that matter, at every place in a
 * block, whole and byte by byte.
 */
#include "mail/dot.h"

#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define BYTES_MAX 8192

static void collect(void *context, struct str data)
{
    assert_true(data.length > 0);
    assert_true(buf_append_str(context, data));
}

struct result {
    struct buf text;
    size_t used;
    bool is_done;
    bool has_bare_newline;
    bool has_nul;
};

static void result_init(struct result *r)
{
    *r = (struct result){0};
    buf_init(&r->text, BYTES_MAX);
}

/* ---- the rules again, on a whole message in memory ---- */

static bool is_crlf(struct str s, size_t at)
{
    return at + 1 < s.length && s.data[at] == '\r' && s.data[at + 1] == '\n';
}

/* Where the "." of CRLF "." CRLF stands; the start counts as after a CRLF. */
static size_t find_end(struct str s)
{
    for (size_t i = 0; i < s.length; i++)
        if (s.data[i] == '.' && is_crlf(s, i + 1) && (i == 0 || (i >= 2 && is_crlf(s, i - 2))))
            return i;
    return STR_NONE;
}

/* A dot that dot-stuffing put in: first on a line, with something after it on the line. */
static bool is_stuffing(struct str s, size_t at)
{
    if (s.data[at] != '.' || !(at == 0 || (at >= 2 && is_crlf(s, at - 2))))
        return false;
    return at + 1 < s.length && s.data[at + 1] != '\n' && (s.data[at + 1] != '\r' || is_crlf(s, at + 1));
}

static void decode_by_rules(struct str s, bool is_bdat, struct result *r)
{
    const size_t end = is_bdat ? STR_NONE : find_end(s);
    const struct str message = end == STR_NONE ? s : str_take(s, end);

    r->is_done = end != STR_NONE;
    r->used = r->is_done ? end + 3 : s.length;
    for (size_t i = 0; i < message.length; i++) {
        const char c = message.data[i];

        if (is_crlf(message, i)) {
            buf_append_str(&r->text, STR("\r\n"));
            i++;
        } else if (c == '\r' || c == '\n') {
            r->has_bare_newline = true;
            buf_append_str(&r->text, STR("\r\n"));
        } else if (is_bdat || !is_stuffing(message, i)) {
            buf_append_char(&r->text, c);
        }
        r->has_nul |= c == '\0';
    }
}

/* ---- the decoder, fed in pieces ---- */

static void decode(struct str s, bool is_bdat, enum dot_bare_newlines bare, size_t piece_bytes, struct result *r)
{
    struct dot_decoder d;

    if (is_bdat)
        dot_decoder_init_bdat(&d, bare);
    else
        dot_decoder_init_data(&d, bare);
    while (r->used < s.length && !dot_decoder_is_done(&d)) {
        const struct str piece = str_take(str_skip(s, r->used), piece_bytes);
        char *exact = malloc(piece.length);

        assert_non_null(exact);
        memcpy(exact, piece.data, piece.length);
        r->used += dot_decoder_feed(&d, str_make(exact, piece.length), collect, &r->text);
        free(exact);
    }
    if (is_bdat)
        dot_decoder_finish_bdat(&d, collect, &r->text);
    r->is_done = dot_decoder_is_done(&d);
    r->has_bare_newline = d.has_bare_newline;
    r->has_nul = d.has_nul;
}

static void assert_same(const struct result *a, const struct result *b, bool compare_text)
{
    assert_int_equal(a->used, b->used);
    assert_int_equal(a->is_done, b->is_done);
    assert_int_equal(a->has_bare_newline, b->has_bare_newline);
    assert_int_equal(a->has_nul, b->has_nul);
    if (compare_text) {
        assert_int_equal(a->text.length, b->text.length);
        if (a->text.length > 0)
            assert_memory_equal(a->text.data, b->text.data, a->text.length);
    }
}

static void assert_decodes_by_rules(struct str s, bool is_bdat)
{
    static const size_t pieces[] = {SIZE_MAX, 1, 3, 64};
    struct result expected;

    result_init(&expected);
    decode_by_rules(s, is_bdat, &expected);
    for (size_t i = 0; i < 4; i++) {
        struct result normal;
        struct result reject;

        result_init(&normal);
        result_init(&reject);
        decode(s, is_bdat, DOT_BARE_NORMALIZE, pieces[i], &normal);
        decode(s, is_bdat, DOT_BARE_REJECT, pieces[i], &reject);
        assert_same(&normal, &expected, !expected.has_nul);
        assert_same(&reject, &expected, !expected.has_nul && !expected.has_bare_newline);
        buf_release(&normal.text);
        buf_release(&reject.text);
    }
    buf_release(&expected.text);
}

static void test_every_short_sequence(void **state)
{
    static const char alphabet[] = {'\r', '\n', '.', 'a'};
    static const size_t offsets[] = {0, 1, 59, 62, 64, 126};
    char text[256];

    (void)state;
    for (unsigned n = 0; n < 1u << 12; n++) {
        for (size_t k = 0; k < sizeof(offsets) / sizeof(offsets[0]); k++) {
            size_t length = offsets[k];

            if (k > 1 && n % 7 != k) /* the middle of blocks by sampling: six times as slow otherwise */
                continue;
            memset(text, 'x', length);
            for (unsigned i = 0; i < 6; i++)
                text[length++] = alphabet[n >> 2 * i & 3];
            memcpy(text + length, "b\r\n.\r\nQUIT\r\n", 12);
            assert_decodes_by_rules(str_make(text, length + 12), false);
            assert_decodes_by_rules(str_make(text, length + 1), true);
        }
    }
}

/* Long messages of clean lines, with now and then something that the block reader must not pass over. */
static void test_random_long_messages(void **state)
{
    uint32_t seed = 12345;
    char text[700];

    (void)state;
    for (unsigned round = 0; round < 3000; round++) {
        size_t length = 0;

        while (length < 600) {
            seed = seed * 1664525u + 1013904223u;
            const unsigned pick = seed >> 24;

            if (pick < 8) {
                static const char odd[] = {'\r', '\n', '.', '\0', '.', '\r', '\n', '.'};

                text[length++] = odd[pick];
            } else if (pick < 48) {
                text[length++] = '\r';
                text[length++] = '\n';
                if (pick < 20)
                    text[length++] = '.';
            } else {
                text[length++] = (char)('a' + pick % 26);
            }
        }
        memcpy(text + length, "\r\n.\r\nRSET", 9);
        assert_decodes_by_rules(str_make(text, length + 9), false);
        text[length] = 'z';
        assert_decodes_by_rules(str_make(text, length + 1), true);
    }
}

static void assert_decoded(struct str in, enum dot_bare_newlines bare, const char *expected, const char *rest)
{
    for (size_t piece = 0; piece < 2; piece++) {
        struct result r;

        result_init(&r);
        decode(in, false, bare, piece == 0 ? SIZE_MAX : 1, &r);
        assert_true(r.is_done);
        if (expected) {
            assert_int_equal(r.text.length, strlen(expected));
            if (r.text.length > 0)
                assert_memory_equal(r.text.data, expected, r.text.length);
        }
        assert_true(str_equal(str_skip(in, r.used), str_from_cstr(rest)));
        buf_release(&r.text);
    }
}

/* What follows the end is the next command, and must be left for it. */
static void test_ordinary_messages(void **state)
{
    (void)state;
    assert_decoded(STR(".\r\nQUIT\r\n"), DOT_BARE_REJECT, "", "QUIT\r\n");
    assert_decoded(STR("a\r\n.\r\n"), DOT_BARE_REJECT, "a\r\n", "");
    assert_decoded(STR("a\r\n..\r\n...b\r\n.c\r\n.\r\n.\r\n"), DOT_BARE_REJECT, "a\r\n.\r\n..b\r\nc\r\n", ".\r\n");
    assert_decoded(STR("\r\n.\r\nX"), DOT_BARE_REJECT, "\r\n", "X");
    assert_decoded(STR("\xff\x80.\r\n.\r\n"), DOT_BARE_REJECT, "\xff\x80.\r\n", "");
}

/* The published variants: none of them ends a message, and what is sent on has no bare newline and no end of data inside. */
static void test_smuggling(void **state)
{
    static const char *const ends[] = {"\n.\n",   "\r.\r",       "\n.\r\n",       "\r\n.\n",   "\r.\r\n",
                                       "\r\n.\r", "\r\n.\r\r\n", "\r\r\n.\r\r\n", "\n\r.\r\n", "\n.\n\r\n"};

    (void)state;
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        char text[128];
        const int length = snprintf(text, sizeof(text), "a%sMAIL FROM:<evil@x>\r\nz\r\n.\r\nQUIT", ends[i]);
        struct result r;

        result_init(&r);
        decode(str_make(text, (size_t)length), false, DOT_BARE_NORMALIZE, SIZE_MAX, &r);
        assert_true(r.is_done && r.has_bare_newline);
        assert_string_equal(text + r.used, "QUIT");
        assert_non_null(memmem(r.text.data, r.text.length, "MAIL FROM", 9));
        buf_release(&r.text);
        assert_decoded(str_make(text, (size_t)length), DOT_BARE_REJECT, NULL, "QUIT");
    }
}

/* A dot after a bare newline is data; so is one alone before a bare newline. */
static void test_normalized_dots(void **state)
{
    (void)state;
    assert_decoded(STR("a\n.b\n..c\n.\nd\r\n.\r\n"), DOT_BARE_NORMALIZE, "a\r\n.b\r\n..c\r\n.\r\nd\r\n", "");
    assert_decoded(STR("a\r\n.\nb\r\n.\r\n"), DOT_BARE_NORMALIZE, "a\r\n.\r\nb\r\n", "");
    assert_decoded(STR("a\r\n.\rb\r\n.\r\n"), DOT_BARE_NORMALIZE, "a\r\n.\r\nb\r\n", "");
    assert_decoded(STR("a\r\n..\nb\r\n.\r\n"), DOT_BARE_NORMALIZE, "a\r\n.\r\nb\r\n", "");
    assert_decoded(STR("a\r\r\nb\n\nc\r\n.\r\n"), DOT_BARE_NORMALIZE, "a\r\n\r\nb\r\n\r\nc\r\n", "");
}

/* After a refusal nothing more is handed out, not even by accident at the end. */
static void test_refused_messages_stay_silent(void **state)
{
    struct dot_decoder d;
    struct buf out;

    (void)state;
    buf_init(&out, BYTES_MAX);
    dot_decoder_init_data(&d, DOT_BARE_REJECT);
    assert_int_equal(dot_decoder_feed(&d, STR("a\nb\r\n"), collect, &out), 5);
    assert_true(dot_decoder_is_refused(&d));
    buf_clear(&out);
    dot_decoder_feed(&d, STR("more\r\n.x\r\n.\r\n"), collect, &out);
    assert_int_equal(out.length, 0);
    assert_true(dot_decoder_is_done(&d));
    dot_decoder_init_data(&d, DOT_BARE_NORMALIZE);
    dot_decoder_feed(&d, STR("a\0b\r\n.\r\n"), collect, &out);
    assert_true(d.has_nul && dot_decoder_is_refused(&d) && dot_decoder_is_done(&d));
    buf_release(&out);
}

/* A message that is too big is read on without being kept. */
static void test_without_output(void **state)
{
    struct dot_decoder d;

    (void)state;
    dot_decoder_init_data(&d, DOT_BARE_NORMALIZE);
    assert_int_equal(dot_decoder_feed(&d, STR("a\nb\r\n..\r\n.\r\nQUIT"), NULL, NULL), 12);
    assert_true(dot_decoder_is_done(&d));
}

static void test_bdat_keeps_dots_and_missing_ends(void **state)
{
    struct dot_decoder d;
    struct buf out;

    (void)state;
    buf_init(&out, BYTES_MAX);
    dot_decoder_init_bdat(&d, DOT_BARE_REJECT);
    dot_decoder_feed(&d, STR("a\r"), collect, &out);
    dot_decoder_feed(&d, STR("\n.\r\n..b"), collect, &out);
    dot_decoder_finish_bdat(&d, collect, &out);
    assert_true(str_equal(buf_str(&out), STR("a\r\n.\r\n..b")));
    assert_false(dot_decoder_is_refused(&d));
    buf_clear(&out);
    dot_decoder_init_bdat(&d, DOT_BARE_REJECT);
    dot_decoder_feed(&d, STR("a\r"), collect, &out);
    dot_decoder_finish_bdat(&d, collect, &out);
    assert_true(dot_decoder_is_refused(&d)); /* its partner never came */
    buf_release(&out);
}

/* ---- sending ---- */

static void encode(struct str s, size_t piece_bytes, struct buf *out)
{
    struct dot_encoder e;

    dot_encoder_init(&e);
    for (size_t at = 0; at < s.length;) {
        const struct str piece = str_take(str_skip(s, at), piece_bytes);

        dot_encoder_feed(&e, piece, collect, out);
        at += piece.length;
    }
    dot_encoder_feed(&e, (struct str){0}, collect, out);
    dot_encoder_finish(&e, collect, out);
}

static void assert_encoded(struct str in, const char *expected)
{
    for (size_t piece = 1; piece < 5; piece++) {
        struct buf out;

        buf_init(&out, BYTES_MAX);
        encode(in, piece == 4 ? SIZE_MAX : piece, &out);
        assert_true(str_equal(buf_str(&out), str_from_cstr(expected)));
        buf_release(&out);
    }
}

static void test_encoding(void **state)
{
    (void)state;
    assert_encoded(STR(""), ".\r\n");
    assert_encoded(STR("a\r\n"), "a\r\n.\r\n");
    assert_encoded(STR("a"), "a\r\n.\r\n"); /* BDAT can end so, DATA can't */
    assert_encoded(STR("."), "..\r\n.\r\n");
    assert_encoded(STR(".\r\n..\r\na.\r\n.b"), "..\r\n...\r\na.\r\n..b\r\n.\r\n");
    assert_encoded(STR("\r\n"), "\r\n.\r\n");
}

/* What one of us sends another of us receives, byte by byte, wherever pieces end: bodies must come out as they came in. */
static void test_round_trip(void **state)
{
    uint32_t seed = 99;

    (void)state;
    for (unsigned round = 0; round < 2000; round++) {
        char text[300];
        size_t length = 0;
        struct buf wire;
        struct result r;

        while (length < 280 && (seed = seed * 1664525u + 1013904223u) >> 24 != 0) {
            const unsigned pick = seed >> 24;

            if (pick < 60) {
                text[length++] = '\r';
                text[length++] = '\n';
            } else {
                text[length++] = pick < 120 ? '.' : (char)pick;
            }
        }
        text[length++] = '\r';
        text[length++] = '\n';
        buf_init(&wire, BYTES_MAX);
        result_init(&r);
        encode(str_make(text, length), 1 + round % 100, &wire);
        decode(buf_str(&wire), false, DOT_BARE_NORMALIZE, 1 + round % 90, &r);
        assert_true(r.is_done && !r.has_bare_newline);
        assert_int_equal(r.used, wire.length);
        assert_true(str_equal(buf_str(&r.text), str_make(text, length)));
        buf_release(&wire);
        buf_release(&r.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_short_sequence),
        cmocka_unit_test(test_random_long_messages),
        cmocka_unit_test(test_ordinary_messages),
        cmocka_unit_test(test_smuggling),
        cmocka_unit_test(test_normalized_dots),
        cmocka_unit_test(test_refused_messages_stay_silent),
        cmocka_unit_test(test_without_output),
        cmocka_unit_test(test_bdat_keeps_dots_and_missing_ends),
        cmocka_unit_test(test_encoding),
        cmocka_unit_test(test_round_trip),
    };

    return cmocka_run_group_tests_name("mail/dot", tests, NULL, NULL);
}
