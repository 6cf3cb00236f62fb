/* SPDX-License-Identifier: Apache-2.0 */
/* Received lines that are not counted let mail loop for ever; a Message-ID that is misread is echoed to the client. */
#include "mail/header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

struct expected {
    bool is_complete;
    bool has_date;
    bool has_from;
    bool has_message_id;
    unsigned received_count;
    size_t header_bytes;
    const char *message_id;
};

/* Whole, then byte by byte, then in threes: pieces end anywhere. */
static void assert_scan(struct str message, struct expected expected)
{
    static const size_t pieces[] = {SIZE_MAX, 1, 3};

    for (size_t i = 0; i < 3; i++) {
        struct header_scan scan;

        header_scan_init(&scan);
        for (struct str rest = message; rest.length > 0;) {
            const struct str piece = str_take(rest, pieces[i]);

            header_scan_feed(&scan, piece);
            rest = str_skip(rest, piece.length);
        }
        assert_int_equal(scan.is_complete, expected.is_complete);
        assert_int_equal(scan.has_date, expected.has_date);
        assert_int_equal(scan.has_from, expected.has_from);
        assert_int_equal(scan.has_message_id, expected.has_message_id);
        assert_int_equal(scan.received_count, expected.received_count);
        assert_int_equal(scan.header_bytes, expected.header_bytes);
        assert_true(str_equal(header_scan_message_id(&scan), str_from_cstr(expected.message_id)));
    }
}

static void test_ordinary_header(void **state)
{
    (void)state;
    assert_scan(STR("Received: from a\r\n\tby b; date\r\nreceived: x\r\nRECEIVED : y\r\nDate: now\r\nFrom: a@b\r\n"
                    "Message-ID: <1@x>\r\nSubject: s\r\n\r\nReceived: in the body\r\n"),
                (struct expected){true, true, true, true, 3, 113, "1@x"});
}

/* Clients that fold before the id are common. */
static void test_folded_message_id(void **state)
{
    (void)state;
    assert_scan(STR("Message-Id:\r\n <a.b@x>\r\nX: y\r\n\r\n"),
                (struct expected){true, .has_message_id = true, .header_bytes = 31, .message_id = "a.b@x"});
    assert_scan(STR("message-id:   <a@x>  \r\n\r\n"),
                (struct expected){true, .has_message_id = true, .header_bytes = 25, .message_id = "a@x"});
    assert_scan(STR("message-id: a@x"),
                (struct expected){.has_message_id = true, .header_bytes = 15, .message_id = "a@x"});
    assert_scan(STR("Message-ID: <first@x>\r\nMessage-ID: <second@x>\r\n\r\n"),
                (struct expected){true, .has_message_id = true, .header_bytes = 49, .message_id = "first@x"});
}

/* What is not a header at all is scanned to its end and nothing is invented. */
/* Programs that read mail take "From   :" for From, however many blanks there are: so who may say what in it must be looked at, too. */
static void test_blanks_before_the_colon(void **state)
{
    struct header_scan scan;
    struct buf from;

    (void)state;
    buf_init(&from, 1000);
    header_scan_init(&scan);
    scan.from = &from;
    header_scan_feed(&scan, STR("From \t                                : ceo@contoso.test\r\n"
                                "Fr om: a\r\nFrom x: b\r\nA name that is too long to be one: c\r\n\r\n"));
    assert_true(scan.is_complete && scan.has_from);
    assert_true(str_equal(buf_str(&from), STR(" ceo@contoso.test\n")));
    buf_release(&from);
}

static void test_malformed_headers(void **state)
{
    (void)state;
    assert_scan(STR(""), (struct expected){.message_id = ""});
    assert_scan(STR("\r\n"), (struct expected){true, .header_bytes = 2, .message_id = ""});
    assert_scan(STR("\n"), (struct expected){true, .header_bytes = 1, .message_id = ""});
    assert_scan(STR("just text\r\nmore text\r\n"), (struct expected){.header_bytes = 22, .message_id = ""});
    assert_scan(STR(": no name\r\n folded\r\nX-Received: a\r\n\rReceived: a\r\n\r\n"),
                (struct expected){true, .header_bytes = 51, .message_id = ""});
    assert_scan(STR("From nobody Sat Nov 21\r\nReceived: a\r\nnothing\r\nReceived: b\r\n\r\n"),
                (struct expected){true, .received_count = 2, .header_bytes = 61, .message_id = ""});
    assert_scan(STR("Message-ID:\r\nDate:\r\n\r\n"),
                (struct expected){true, true, .has_message_id = true, .header_bytes = 22, .message_id = ""});
    assert_scan(STR(" Date: folded into nothing\r\n\r\n"),
                (struct expected){true, .header_bytes = 30, .message_id = ""});
}

/* At the limit and one over; and bytes that must not come back in a reply. */
static void test_unusable_message_ids(void **state)
{
    char text[400];
    char id[300];

    (void)state;
    memset(id, 'i', sizeof(id));
    id[HEADER_MESSAGE_ID_OCTETS_MAX] = '\0';
    size_t length = (size_t)snprintf(text, sizeof(text), "Message-ID: <%s>   \r\n\r\n", id);
    assert_scan(str_make(text, length),
                (struct expected){true, .has_message_id = true, .header_bytes = length, .message_id = id});
    length = (size_t)snprintf(text, sizeof(text), "Message-ID: <%si>\r\n\r\n", id);
    assert_scan(str_make(text, length),
                (struct expected){true, .has_message_id = true, .header_bytes = length, .message_id = ""});
    length = (size_t)snprintf(text, sizeof(text), "Message-ID: <%siiiiiiiiii>\r\n\r\n", id);
    assert_scan(str_make(text, length),
                (struct expected){true, .has_message_id = true, .header_bytes = length, .message_id = ""});
    assert_scan(STR("Message-ID: <a\xc3\xbc@x>\r\n\r\n"),
                (struct expected){true, .has_message_id = true, .header_bytes = 23, .message_id = ""});
    assert_scan(STR("Message-ID: <a\033[31m@x>\r\n\r\n"),
                (struct expected){true, .has_message_id = true, .header_bytes = 26, .message_id = ""});
}

static void assert_found(const char *header, const char *name, const char *expected)
{
    struct str value;
    const bool found = header_find(str_from_cstr(header), str_from_cstr(name), &value);

    assert_int_equal(found, expected != NULL);
    if (expected)
        assert_true(str_equal(value, str_from_cstr(expected)));
}

static void test_find(void **state)
{
    static const char header[] = "Received: a\r\n\tSubject: in a fold\r\nsubject: one\r\n two\r\nSubject: later\r\n"
                                 "Empty:\r\nLast: l\r\n\r\nBody: b\r\n";

    (void)state;
    assert_found(header, "Subject", "one\r\n two");
    assert_found(header, "Empty", "");
    assert_found(header, "last", "l");
    assert_found(header, "Body", NULL); /* the body is not a header */
    assert_found(header, "Sub", NULL);
    assert_found("Subject: cut", "Subject", "cut");
    assert_found("Subject: cut\r\n more", "Subject", "cut\r\n more");
    assert_found("Subject : x\n", "Subject", "x");
    assert_found("", "Subject", NULL);
    assert_found("\r\nSubject: x\r\n", "Subject", NULL);
    assert_found("no colon\r\nSubject: x\r\n", "Subject", "x");
}

static void assert_unfolded(struct str value, size_t max, const char *expected)
{
    struct buf out;

    buf_init(&out, 256);
    header_append_unfolded(&out, value, max);
    assert_true(str_equal(buf_str(&out), str_from_cstr(expected)));
    buf_release(&out);
}

/* A value that kept its newline would start a field of the sender's choice in our report. */
static void test_unfolding(void **state)
{
    (void)state;
    assert_unfolded(STR("one\r\n two\r\n\tthree"), 100, "one two three");
    assert_unfolded(STR("one\r\n \r\n two"), 100, "one two");
    assert_unfolded(STR("one\rBcc: x\ntwo"), 100, "one?Bcc: x two");
    assert_unfolded(STR("a\0b\x1b\xff\xc3\xbc"), 100, "a?b??\xc3\xbc");
    assert_unfolded(STR("one\r\n two"), 5, "one t");
    assert_unfolded(STR("one\r\n two"), 4, "one ");
    assert_unfolded((struct str){0}, 10, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ordinary_header),
        cmocka_unit_test(test_folded_message_id),
        cmocka_unit_test(test_blanks_before_the_colon),
        cmocka_unit_test(test_malformed_headers),
        cmocka_unit_test(test_unusable_message_ids),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_unfolding),
    };

    return cmocka_run_group_tests_name("mail/header", tests, NULL, NULL);
}
