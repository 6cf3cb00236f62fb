/* SPDX-License-Identifier: Apache-2.0 */
/* Our client trusts no server: a reply that is misread loses a message or sends it twice. */
#include "smtp/reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* One parser is enough, and it is dirty from the case before, as in the client. */
static struct reply_parser parser;

static enum reply_status feed_in_pieces(struct str input, bool is_ehlo, size_t piece_bytes, size_t *used)
{
    enum reply_status status = REPLY_MORE;

    reply_parser_init(&parser, is_ehlo);
    *used = 0;
    while (status == REPLY_MORE && *used < input.length) {
        const struct str piece = str_take(str_skip(input, *used), piece_bytes);
        char *exact = malloc(piece.length);

        assert_non_null(exact);
        memcpy(exact, piece.data, piece.length);
        *used += reply_parser_feed(&parser, str_make(exact, piece.length), &status);
        free(exact);
    }
    return status;
}

/* Whole, then byte by byte. `rest` is what must be left for the next reply. */
static void assert_reply(struct str input, enum reply_status status, int code, const char *text, const char *rest)
{
    static const size_t pieces[] = {SIZE_MAX, 1, 7};

    for (size_t i = 0; i < 3; i++) {
        size_t used;

        assert_int_equal(feed_in_pieces(input, false, pieces[i], &used), status);
        if (text)
            assert_true(str_equal(reply_text(&parser.reply), str_from_cstr(text)));
        if (status != REPLY_COMPLETE)
            continue;
        assert_int_equal(parser.reply.code, code);
        assert_true(str_equal(str_skip(input, used), str_from_cstr(rest)));
    }
}

static void test_ordinary_replies(void **state)
{
    (void)state;
    assert_reply(STR("250 OK\r\n"), REPLY_COMPLETE, 250, "250 OK", "");
    assert_reply(STR("250\r\n"), REPLY_COMPLETE, 250, "250", "");
    assert_reply(STR("354 go\r\n250 next\r\n"), REPLY_COMPLETE, 354, "354 go", "250 next\r\n");
    assert_reply(STR("250-one\r\n250-two\r\n250 three\r\n"), REPLY_COMPLETE, 250, "250 one two three", "");
    assert_reply(STR("250-\r\n250\r\n"), REPLY_COMPLETE, 250, "250", "");
    assert_reply(STR("250 OK\n"), REPLY_COMPLETE, 250, "250 OK", ""); /* a bare LF is read */
    assert_reply(STR("220 "), REPLY_MORE, 0, NULL, "");
    assert_reply(STR(""), REPLY_MORE, 0, "", "");
}

static void assert_enhanced(const char *line, bool has, unsigned subject, unsigned detail)
{
    size_t used;

    assert_int_equal(feed_in_pieces(str_from_cstr(line), false, SIZE_MAX, &used), REPLY_COMPLETE);
    assert_int_equal(parser.reply.has_enhanced, has);
    if (has) {
        assert_int_equal(parser.reply.enhanced[0], parser.reply.code / 100);
        assert_int_equal(parser.reply.enhanced[1], subject);
        assert_int_equal(parser.reply.enhanced[2], detail);
    }
}

/* The class decides between trying again and giving up: one that contradicts the code is not believed. */
static void test_enhanced_codes(void **state)
{
    (void)state;
    assert_enhanced("550 5.1.1 no\r\n", true, 1, 1);
    assert_enhanced("550 5.7.999\r\n", true, 7, 999);
    assert_enhanced("452-4.3.1 a\r\n452 4.3.1 b\r\n", true, 3, 1);
    assert_enhanced("550 4.1.1 no\r\n", false, 0, 0);
    assert_enhanced("550 5.1 no\r\n", false, 0, 0);
    assert_enhanced("550 5.1.1000 no\r\n", false, 0, 0);
    assert_enhanced("550 5..1 no\r\n", false, 0, 0);
    assert_enhanced("550 5.1.1: no\r\n", false, 0, 0);
    assert_enhanced("550 192.0.2.1 is listed\r\n", false, 0, 0);
    assert_enhanced("550-no\r\n550 5.1.1 no\r\n", false, 0, 0);
    assert_enhanced("550\r\n", false, 0, 0);
    assert_reply(STR("550-5.1.1 no such\r\n550-5.1.1 user\r\n550 5.2.2 here\r\n"), REPLY_COMPLETE, 550,
                 "550 5.1.1 no such user 5.2.2 here", "");
}

static void test_malformed_replies(void **state)
{
    (void)state;
    assert_reply(STR("HTTP/1.1 400 Bad Request\r\n"), REPLY_MALFORMED, 0, "HTTP/1.1 400 Bad Request", NULL);
    assert_reply(STR("\r\n"), REPLY_MALFORMED, 0, "", NULL);
    assert_reply(STR("25\r\n"), REPLY_MALFORMED, 0, NULL, NULL);
    assert_reply(STR("2500 OK\r\n"), REPLY_MALFORMED, 0, NULL, NULL);
    assert_reply(STR("250OK\r\n"), REPLY_MALFORMED, 0, NULL, NULL);
    assert_reply(STR("25x OK\r\n"), REPLY_MALFORMED, 0, NULL, NULL);
    assert_reply(STR("150 OK\r\n"), REPLY_MALFORMED, 0, NULL, NULL);
    assert_reply(STR("600 OK\r\n"), REPLY_MALFORMED, 0, NULL, NULL);
    assert_reply(STR("000 OK\r\n"), REPLY_MALFORMED, 0, NULL, NULL);
    assert_reply(STR(" 250 OK\r\n"), REPLY_MALFORMED, 0, NULL, NULL);
    assert_reply(STR("250\0 OK\r\n"), REPLY_MALFORMED, 0, NULL, NULL);
    assert_reply(STR("250-ok\r\n550 no\r\n"), REPLY_MALFORMED, 0, "250 ok 550 no", NULL);
    assert_reply(STR("250-ok\r\ngarbage\r\n"), REPLY_MALFORMED, 0, NULL, NULL);
}

/* The text goes to logs and terminals. */
static void test_hostile_text(void **state)
{
    (void)state;
    assert_reply(STR("550 a\0b\x1b[31m\tc\r\x7f\xff\xc3\xbc\xc2\x85\r\n"), REPLY_COMPLETE, 550,
                 "550 a\\x00b\\x1b[31m\\x09c\\x0d\\x7f\\xff\xc3\xbc\\xc2\\x85", "");
}

/* At each bound and one over it: a server must not fill our memory or keep us for ever. */
static void test_bounds(void **state)
{
    char line[REPLY_LINE_OCTETS_MAX + 16];
    char *many = malloc(REPLY_BYTES_MAX + 4096);
    size_t length = 0;

    (void)state;
    assert_non_null(many);
    memset(line, 'x', sizeof(line));
    memcpy(line, "250 ", 4);
    memcpy(line + REPLY_LINE_OCTETS_MAX, "\r\n", 2);
    assert_reply(str_make(line, REPLY_LINE_OCTETS_MAX + 2), REPLY_COMPLETE, 250, NULL, "");
    assert_int_equal(parser.reply.text_length, REPLY_TEXT_OCTETS_MAX);
    memcpy(line + REPLY_LINE_OCTETS_MAX, "x\r\n", 3);
    assert_reply(str_make(line, REPLY_LINE_OCTETS_MAX + 3), REPLY_TOO_LONG, 0, NULL, NULL);
    memset(line + REPLY_LINE_OCTETS_MAX, 'x', 16);
    assert_reply(str_make(line, sizeof(line)), REPLY_TOO_LONG, 0, NULL, NULL);

    for (unsigned i = 1; i < REPLY_LINES_MAX; i++)
        length += (size_t)snprintf(many + length, 16, "250-x\r\n");
    memcpy(many + length, "250 x\r\n", 7);
    assert_reply(str_make(many, length + 7), REPLY_COMPLETE, 250, NULL, "");
    assert_int_equal(parser.reply.line_count, REPLY_LINES_MAX);
    memcpy(many + length, "250-x\r\n250 x\r\n", 14);
    assert_reply(str_make(many, length + 14), REPLY_TOO_LONG, 0, NULL, NULL);

    memset(many, 'y', REPLY_BYTES_MAX + 4096);
    for (length = 0; length < REPLY_BYTES_MAX; length += 1024) {
        memcpy(many + length, "250-", 4);
        memcpy(many + length + 1022, "\r\n", 2);
    }
    memcpy(many + length - 1024, "250 ", 4);
    assert_reply(str_make(many, REPLY_BYTES_MAX), REPLY_COMPLETE, 250, NULL, "");
    memcpy(many + length - 1024, "250-", 4);
    memcpy(many + length, "250\r\n", 5);
    assert_reply(str_make(many, REPLY_BYTES_MAX + 5), REPLY_TOO_LONG, 0, NULL, NULL);
    free(many);
}

/* Text is cut between characters, and later lines don't slip in behind the cut. */
static void test_text_is_cut_cleanly(void **state)
{
    char text[REPLY_TEXT_OCTETS_MAX + 64];
    size_t length = REPLY_TEXT_OCTETS_MAX - 3;
    size_t used;

    (void)state;
    memset(text, 'x', sizeof(text));
    memcpy(text, "550-", 4);
    length += (size_t)snprintf(text + length, 32, "\xe2\x82\xac\r\n550 y\r\n");
    assert_int_equal(feed_in_pieces(str_make(text, length), false, SIZE_MAX, &used), REPLY_COMPLETE);
    assert_int_equal(parser.reply.text_length, REPLY_TEXT_OCTETS_MAX);
    assert_memory_equal(parser.reply.text + REPLY_TEXT_OCTETS_MAX - 3, "\xe2\x82\xac", 3);
    assert_true(parser.reply.text_is_cut);

    length = REPLY_TEXT_OCTETS_MAX - 3;
    length += (size_t)snprintf(text + length, 32, "\x1b[m\r\n550 y\r\n");
    assert_int_equal(feed_in_pieces(str_make(text, length), false, SIZE_MAX, &used), REPLY_COMPLETE);
    assert_int_equal(parser.reply.text_length, REPLY_TEXT_OCTETS_MAX - 3);
    assert_int_equal(parser.reply.text[REPLY_TEXT_OCTETS_MAX - 4], 'x');
    assert_true(parser.reply.text_is_cut);

    assert_int_equal(feed_in_pieces(STR("550 short\r\n"), false, SIZE_MAX, &used), REPLY_COMPLETE);
    assert_false(parser.reply.text_is_cut);
}

static void test_ehlo(void **state)
{
    static const size_t pieces[] = {SIZE_MAX, 1};
    const struct str input =
        STR("250-mx.example.org DSN\r\n250-pipelining\r\n250-SIZE 36700160\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
            "250-CHUNKING\r\n250-DSN\r\n250-STARTTLS\r\n250-ENHANCEDSTATUSCODES\r\n250-AUTH PLAIN LOGIN\r\n"
            "250-AUTH=LOGIN SCRAM-SHA-256 b\xff"
            "d\r\n250-X-UNKNOWN 1\r\n250 HELP\r\n");

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const struct reply_capabilities *c = &parser.reply.capabilities;
        size_t used;

        assert_int_equal(feed_in_pieces(input, true, pieces[i], &used), REPLY_COMPLETE);
        assert_true(c->pipelining && c->eightbitmime && c->smtputf8 && c->chunking && c->dsn && c->starttls);
        assert_true(c->enhanced_status_codes && c->size && c->size_max == 36700160 && c->auth);
        assert_true(str_equal(str_make(c->auth_mechanisms, c->auth_length), STR("PLAIN LOGIN SCRAM-SHA-256")));
        assert_true(reply_has_auth_mechanism(c, STR("login")));
        assert_false(reply_has_auth_mechanism(c, STR("SCRAM")));
    }
}

/* The first line is a greeting, whatever it says; and what one server offered must not be taken for the next one's. */
static void test_ehlo_without_capabilities(void **state)
{
    size_t used;

    (void)state;
    assert_int_equal(feed_in_pieces(STR("250 PIPELINING\r\n"), true, SIZE_MAX, &used), REPLY_COMPLETE);
    assert_false(parser.reply.capabilities.pipelining || parser.reply.capabilities.auth);
    assert_int_equal(feed_in_pieces(STR("250-x\r\n250-SIZE\r\n250 DSN\r\n"), true, SIZE_MAX, &used), REPLY_COMPLETE);
    assert_true(parser.reply.capabilities.size && parser.reply.capabilities.size_max == 0);
    assert_int_equal(feed_in_pieces(STR("250-x\r\n250 SIZE 99999999999999999999999\r\n"), true, SIZE_MAX, &used),
                     REPLY_COMPLETE);
    assert_true(parser.reply.capabilities.size && parser.reply.capabilities.size_max == 0);
    assert_int_equal(feed_in_pieces(STR("250-x\r\n250 DSN\r\n"), false, SIZE_MAX, &used), REPLY_COMPLETE);
    assert_false(parser.reply.capabilities.dsn);
    assert_int_equal(feed_in_pieces(STR("550-x\r\n550 DSN\r\n"), true, SIZE_MAX, &used), REPLY_COMPLETE);
    assert_false(parser.reply.capabilities.dsn);
}

/* More mechanisms than there is room for: the list ends, nothing is cut in half. */
static void test_many_mechanisms(void **state)
{
    char text[1500];
    size_t length = (size_t)snprintf(text, sizeof(text), "250-x\r\n250 AUTH");
    size_t used;

    (void)state;
    for (unsigned i = 0; i < 100; i++)
        length += (size_t)snprintf(text + length, sizeof(text) - length, " MECH-%u", 100 + i);
    length += (size_t)snprintf(text + length, sizeof(text) - length, "\r\n");
    assert_int_equal(feed_in_pieces(str_make(text, length), true, SIZE_MAX, &used), REPLY_COMPLETE);
    assert_true(reply_has_auth_mechanism(&parser.reply.capabilities, STR("MECH-127")));
    assert_false(reply_has_auth_mechanism(&parser.reply.capabilities, STR("MECH-128")));
    assert_true(parser.reply.capabilities.auth_length <= REPLY_AUTH_OCTETS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ordinary_replies),
        cmocka_unit_test(test_enhanced_codes),
        cmocka_unit_test(test_malformed_replies),
        cmocka_unit_test(test_hostile_text),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_text_is_cut_cleanly),
        cmocka_unit_test(test_ehlo),
        cmocka_unit_test(test_ehlo_without_capabilities),
        cmocka_unit_test(test_many_mechanisms),
    };

    return cmocka_run_group_tests_name("smtp/reply", tests, NULL, NULL);
}
