/* SPDX-License-Identifier: Apache-2.0 */
/* Reports go to people and to programs, and are made of text that strangers chose: it must neither break them nor make them big. */
#include "mail/dsn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define REPORT_MAX (64u << 20)

static const struct dsn_recipient failed = {
    .recipient = STR_INIT("bob@example.org"),
    .orcpt = STR_INIT("rfc822;Bob+2Bx@example.org"),
    .action = DSN_ACTION_FAILED,
    .status = STR_INIT("5.1.1"),
    .reply = STR_INIT("550 5.1.1 User unknown"),
    .remote_mta = STR_INIT("mx.example.org"),
    .last_attempt_at_ms = 1795255200000,
};

static const struct dsn_report ordinary = {
    .host = STR_INIT("mail.contoso.test"),
    .message_id = STR_INIT("2.1795255201000@mail.contoso.test"),
    .boundary = STR_INIT("b0undary"),
    .sender = STR_INIT("alice@contoso.test"),
    .envid = STR_INIT("QQ+2B1"),
    .arrived_at_ms = 1795255190000,
    .reported_at_ms = 1795255201000,
    .recipients = &failed,
    .recipient_count = 1,
    .header = STR_INIT("From: alice@contoso.test\r\nSubject: Hello\r\n there\r\nX-Last: y\r\n\r\nsecret body\r\n"),
};

static struct buf compose(const struct dsn_report *report, struct dsn_properties *properties)
{
    struct buf out;
    struct dsn_properties ignored;

    buf_init(&out, REPORT_MAX);
    assert_true(dsn_compose(&out, report, properties ? properties : &ignored));
    assert_true(out.length <= DSN_REPORT_BYTES_MAX(report->recipient_count));
    return out;
}

static bool contains(const struct buf *text, const char *part)
{
    return memmem(text->data, text->length, part, strlen(part)) != NULL;
}

static size_t count(const struct buf *text, const char *part)
{
    const char *at = text->data;
    const char *end = text->data + text->length;
    size_t found = 0;

    while ((at = memmem(at, (size_t)(end - at), part, strlen(part))) != NULL) {
        found++;
        at += strlen(part);
    }
    return found;
}

/* What every report must be, whatever went into it: CRLF lines of printable text within the limit, three parts, closed. */
static void assert_well_formed(const struct buf *text, const char *boundary, bool is_8bit)
{
    char delimiter[100];
    size_t line = 0;

    for (size_t i = 0; i < text->length; i++) {
        const unsigned char c = (unsigned char)text->data[i];

        if (c == '\r') {
            assert_true(i + 1 < text->length && text->data[i + 1] == '\n');
        } else if (c == '\n') {
            assert_true(i > 0 && text->data[i - 1] == '\r');
            assert_true(line <= 998 + 1);
            line = 0;
            continue;
        } else {
            assert_true((c >= ' ' && c != 0x7f) || c == '\t');
            assert_true(is_8bit || c < 0x80);
        }
        line++;
    }
    assert_int_equal(line, 0);
    snprintf(delimiter, sizeof(delimiter), "\r\n--%s\r\n", boundary);
    assert_int_equal(count(text, delimiter), 3);
    snprintf(delimiter, sizeof(delimiter), "\r\n--%s--\r\n", boundary);
    assert_int_equal(count(text, delimiter), 1);
}

static void test_ordinary_report(void **state)
{
    struct dsn_properties properties;
    struct buf text = compose(&ordinary, &properties);

    (void)state;
    assert_well_formed(&text, "b0undary", false);
    assert_false(properties.is_8bit || properties.needs_smtputf8);
    assert_true(contains(&text,
                         "From: Mail Delivery System <postmaster@mail.contoso.test>\r\nTo: <alice@contoso.test>\r\n"
                         "Subject: Undeliverable: Hello there\r\nDate: Sat, 21 Nov 2026 10:00:01 +0000\r\n"
                         "Message-ID: <2.1795255201000@mail.contoso.test>\r\nAuto-Submitted: auto-replied\r\n"));
    assert_true(contains(&text, "  <bob@example.org>\r\n    The other server, mx.example.org, said:\r\n"
                                "    550 5.1.1 User unknown\r\n"));
    assert_true(contains(&text, "Content-Type: message/delivery-status\r\n"));
    assert_true(contains(&text,
                         "Original-Envelope-Id: QQ+1\r\nReporting-MTA: dns; mail.contoso.test\r\n"
                         "Arrival-Date: Sat, 21 Nov 2026 09:59:50 +0000\r\n\r\n"
                         "Original-Recipient: rfc822; Bob+x@example.org\r\nFinal-Recipient: rfc822; bob@example.org\r\n"
                         "Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.example.org\r\n"
                         "Diagnostic-Code: smtp; 550 5.1.1 User unknown\r\n"
                         "Last-Attempt-Date: Sat, 21 Nov 2026 10:00:00 +0000\r\n"));
    assert_true(contains(&text, "Content-Type: text/rfc822-headers\r\n"));
    assert_true(contains(&text, "\r\nSubject: Hello\r\n there\r\nX-Last: y\r\n"));
    assert_false(contains(&text, "secret"));
    buf_release(&text);
}

static void test_delay_and_reason(void **state)
{
    struct dsn_recipient recipients[2] = {failed, failed};
    struct dsn_report report = ordinary;
    struct buf text;

    (void)state;
    recipients[0].action = DSN_ACTION_DELAYED;
    recipients[0].status = STR("nonsense");
    recipients[0].reply = (struct str){0};
    recipients[0].reason = STR("No server of example.org answered");
    recipients[0].retry_until_ms = 1795428000000;
    recipients[1].action = DSN_ACTION_DELIVERED;
    recipients[1].status = STR("2.1.5");
    report.recipients = recipients;
    report.recipient_count = 2;
    report.header = STR("X: y\r\n");
    text = compose(&report, NULL);
    assert_well_formed(&text, "b0undary", false);
    assert_true(contains(&text, "Subject: Delayed mail\r\n"));
    assert_true(contains(
        &text, "    No server of example.org answered\r\n    It will be tried again until Mon, 23 Nov 2026 10:00:00 "
               "+0000,\r\n    and is given up if it could not be delivered by then.\r\n"));
    assert_true(contains(&text, "Action: delayed\r\nStatus: 4.0.0\r\n"));
    assert_true(contains(&text, "Diagnostic-Code: x-postern; No server of example.org answered\r\n"));
    assert_true(contains(&text, "Will-Retry-Until: Mon, 23 Nov 2026 10:00:00 +0000\r\n"));
    assert_true(contains(&text, "Action: delivered\r\nStatus: 2.1.5\r\n"));
    buf_release(&text);
}

/* The server that refused the mail, and whoever wrote it, want to add recipients, fields, parts and terminal commands. */
static void test_hostile_text(void **state)
{
    struct dsn_recipient recipient = failed;
    struct dsn_report report = ordinary;
    struct buf text;

    (void)state;
    recipient.reply = STR("550 no\r\n--b0undary\r\nContent-Type: text/html\r\n\r\n<b>\0\x1b[31m\xff");
    recipient.reason = STR("a\r\n--b0undary--\r\nb");
    recipient.remote_mta = STR("mx\r\nAction: delivered");
    recipient.orcpt = STR("rfc822;a+0D+0AAction:+20delivered@x");
    recipient.status = STR("5.1.1\r\nX: y");
    report.recipients = &recipient;
    report.envid = STR("a+0D+0AReporting-MTA:+20evil");
    report.header =
        STR("Subject: a\rBcc: x@y\r\n\r--b0undary\r\n--b0undary\r\n--b0undary--\r\nX: a\0b\x1b\xff\nY: z\r\n\r\nbody");
    text = compose(&report, NULL);
    assert_well_formed(&text, "b0undary", false);
    assert_int_equal(count(&text, "\r\nAction: "), 1);
    assert_int_equal(count(&text, "\r\nReporting-MTA: "), 1);
    assert_false(contains(&text, "\r\nBcc:"));
    assert_false(contains(&text, "\r\nContent-Type: text/html"));
    assert_true(contains(&text, "Status: 5.0.0\r\n"));
    assert_true(contains(&text, "X: a?b??\r\nY: z\r\n"));
    assert_false(contains(&text, "body\r\n"));
    buf_release(&text);
}

static void test_utf8(void **state)
{
    struct dsn_recipient recipient = failed;
    struct dsn_report report = ordinary;
    struct dsn_properties properties;
    struct buf text;

    (void)state;
    recipient.recipient = STR("j\xc3\xb6rg@m\xc3\xbcnchen.example");
    recipient.orcpt = STR("utf-8;j\\x{F6}rg@example.org");
    report.recipients = &recipient;
    report.header = STR("Subject: Gr\xc3\xbc\xc3\x9f"
                        "e\xff\r\n");
    text = compose(&report, &properties);
    assert_well_formed(&text, "b0undary", true);
    assert_true(properties.is_8bit);
    assert_false(properties.needs_smtputf8);
    assert_true(contains(&text, "Subject: Undeliverable: Gr??e?\r\n"));
    assert_true(contains(&text, "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n"));
    assert_true(contains(&text, "Original-Recipient: utf-8; j\xc3\xb6rg@example.org\r\n"
                                "Final-Recipient: utf-8; j\xc3\xb6rg@m\xc3\xbcnchen.example\r\n"));
    assert_true(contains(&text, "Content-Type: message/global-headers\r\n"));
    assert_true(contains(&text, "\r\nSubject: Gr\xc3\xbc\xc3\x9f"
                                "e?\r\n"));
    buf_release(&text);
    report.sender = STR("\xc3\xa4@contoso.test");
    text = compose(&report, &properties);
    assert_true(properties.needs_smtputf8);
    assert_true(contains(&text, "Subject: Undeliverable: Gr\xc3\xbc\xc3\x9f"
                                "e?\r\n"));
    buf_release(&text);
    /* Without an internationalised address all stays 7-bit, so that it can go anywhere. */
    report = ordinary;
    recipient = failed;
    recipient.orcpt = STR("utf-8;j\\x{F6}rg@example.org");
    recipient.reply = STR("550 Unbekannt: \xc3\xbc");
    report.recipients = &recipient;
    report.header = STR("Subject: Gr\xc3\xbc\xc3\x9f"
                        "e\r\n");
    text = compose(&report, &properties);
    assert_well_formed(&text, "b0undary", false);
    assert_false(properties.is_8bit);
    assert_true(contains(&text, "Original-Recipient: utf-8; j\\x{F6}rg@example.org\r\n"));
    buf_release(&text);
}

/* A flood of reports to a forged sender must stay small: the bounds hold for the longest of everything. */
static void test_bounds(void **state)
{
    static const size_t counts[] = {1, 2, 100};
    char *header = malloc(200000);
    char address[509];
    char words[2000];

    (void)state;
    assert_non_null(header);
    memset(header, 'h', 200000);
    for (size_t i = 70; i + 2 < 200000; i += 72)
        memcpy(header + i, "\r\n", 2);
    memset(address, 'a', sizeof(address) - 1);
    address[508] = '\0';
    memcpy(address + 250, "@", 1);
    memset(words, 'w', sizeof(words));
    for (size_t i = 5; i < sizeof(words); i += 6)
        words[i] = ' ';
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct dsn_recipient *recipients = calloc(counts[i], sizeof(*recipients));
        struct dsn_report report = ordinary;

        assert_non_null(recipients);
        for (size_t k = 0; k < counts[i]; k++) {
            recipients[k] = failed;
            recipients[k].recipient = str_from_cstr(address);
            recipients[k].orcpt = STR("rfc822;"
                                      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@b");
            recipients[k].reply = recipients[k].reason = recipients[k].remote_mta = str_make(words, sizeof(words));
            recipients[k].retry_until_ms = 1795428000000;
            recipients[k].action = k % 2 == 0 ? DSN_ACTION_FAILED : DSN_ACTION_DELAYED;
        }
        report.recipients = recipients;
        report.recipient_count = counts[i];
        report.sender = str_from_cstr(address);
        report.header = str_make(header, 200000);
        report.host = report.message_id = str_make(words, sizeof(words));
        struct buf text = compose(&report, NULL);

        assert_well_formed(&text, "b0undary", false);
        buf_release(&text);
        free(recipients);
    }
    free(header);
}

/* A header field of one enormous line is broken up, and characters stay whole. */
static void test_long_header_lines(void **state)
{
    struct dsn_recipient recipient = failed;
    struct dsn_report report = ordinary;
    char line[6001];
    struct buf text;

    (void)state;
    for (size_t i = 0; i < sizeof(line) - 1; i += 2)
        memcpy(line + i, "\xc3\xbc", 2);
    memcpy(line, "X: x", 4);
    line[4] = 'y';
    memmove(line + 5, line + 6, sizeof(line) - 7);
    report.header = str_make(line, sizeof(line) - 2);
    recipient.recipient = STR("j\xc3\xb6rg@x.example");
    report.recipients = &recipient;
    text = compose(&report, NULL);
    assert_well_formed(&text, "b0undary", true);
    assert_false(contains(&text, "?\r\n \xc3"));
    assert_true(contains(&text, "\xc3\xbc\r\n \xc3\xbc"));
    buf_release(&text);
}

/* No header is known: two parts; and no room is an answer, not a crash. */
static void test_edges(void **state)
{
    struct dsn_report report = ordinary;
    struct dsn_properties properties;
    struct buf text;

    (void)state;
    report.header = (struct str){0};
    text = compose(&report, NULL);
    assert_int_equal(count(&text, "\r\n--b0undary\r\n"), 2);
    buf_release(&text);
    buf_init(&text, 500);
    assert_false(dsn_compose(&text, &report, &properties));
    buf_release(&text);
}

/* The original stands byte by byte between what is composed and its end; how it is encoded is said, as is what the report needs on its way. */
static void test_returns_message(void **state)
{
    struct dsn_report report = ordinary;
    struct dsn_properties properties;
    struct buf text;

    (void)state;
    report.returns_message = true;
    text = compose(&report, &properties);
    assert_true(
        contains(&text, "\r\n--b0undary\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"));
    assert_memory_equal(text.data + text.length - 4, "\r\n\r\n", 4);
    assert_false(properties.is_8bit || contains(&text, "X-Last"));
    buf_append_str(&text, STR("X: y\r\n\r\nwhole\r\n"));
    dsn_compose_end(&text, &report);
    assert_well_formed(&text, "b0undary", false);
    buf_release(&text);

    report.original_is_8bit = true;
    text = compose(&report, &properties);
    assert_true(properties.is_8bit && !properties.needs_smtputf8);
    assert_true(contains(&text, "message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n"));
    assert_true(contains(&text, "boundary=\"b0undary\"\r\nContent-Transfer-Encoding: 8bit\r\n"));
    buf_release(&text);

    report.is_smtputf8 = true;
    text = compose(&report, &properties);
    assert_true(contains(&text, "report-type=global-delivery-status;"));
    assert_true(contains(&text, "Content-Type: message/global\r\n"));
    buf_release(&text);
}

/* Who has waited for two days must read that it is over, and what was wrong the last time. */
static void test_expired(void **state)
{
    struct dsn_recipient recipient = failed;
    struct dsn_report report = ordinary;
    struct buf text;

    (void)state;
    recipient.is_expired = true;
    recipient.status = STR("4.4.7");
    recipient.reply = (struct str){0};
    recipient.reason = STR("No server of example.org answered");
    report.recipients = &recipient;
    text = compose(&report, NULL);
    assert_true(contains(&text, "    It was tried again and again, and the time for that is over.\r\n"
                                "    The last time: No server of example.org answered\r\n"));
    assert_true(contains(&text, "Action: failed\r\nStatus: 4.4.7\r\n"));
    buf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ordinary_report), cmocka_unit_test(test_delay_and_reason),
        cmocka_unit_test(test_hostile_text),    cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_bounds),          cmocka_unit_test(test_long_header_lines),
        cmocka_unit_test(test_edges),           cmocka_unit_test(test_returns_message),
        cmocka_unit_test(test_expired),
    };

    return cmocka_run_group_tests_name("mail/dsn_compose", tests, NULL, NULL);
}
