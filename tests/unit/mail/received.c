/* SPDX-License-Identifier: Apache-2.0 */
/* The trace is what administrators find abuse by, and it holds text that the client chose. */
#include "mail/received.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct received_facts ordinary = {
    .helo = STR_INIT("mail.example.org"),
    .client_name = STR_INIT("mx.example.org"),
    .client_ip = STR_INIT("192.0.2.7"),
    .host = STR_INIT("mail.contoso.test"),
    .id = STR_INIT("1A2B"),
    .recipient = STR_INIT("v@contoso.test"),
    .received_at_ms = 1795255200000,
    .is_esmtp = true,
};

static void assert_received(const struct received_facts *facts, const char *expected)
{
    struct buf out;

    buf_init(&out, RECEIVED_BYTES_MAX);
    received_compose(&out, facts);
    assert_false(out.overflowed);
    buf_append_char(&out, '\0');
    assert_string_equal(out.data, expected);
    buf_release(&out);
}

static void test_ordinary(void **state)
{
    struct received_facts facts = ordinary;

    (void)state;
    assert_received(&facts, "Received: from mail.example.org (mx.example.org [192.0.2.7])\r\n"
                            "\tby mail.contoso.test (Postern) with ESMTP id 1A2B\r\n"
                            "\tfor <v@contoso.test>; Sat, 21 Nov 2026 10:00:00 +0000\r\n");
    facts.recipient = (struct str){0}; /* several: naming one would give a blind copy away */
    facts.client_name = (struct str){0};
    facts.client_ip = STR("2001:db8::7");
    assert_received(&facts, "Received: from mail.example.org (unknown [IPv6:2001:db8::7])\r\n"
                            "\tby mail.contoso.test (Postern) with ESMTP id 1A2B;\r\n"
                            "\tSat, 21 Nov 2026 10:00:00 +0000\r\n");
}

static void assert_protocol(bool esmtp, bool utf8, bool tls, bool authenticated, const char *expected)
{
    struct received_facts facts = ordinary;
    struct buf out;

    facts.is_esmtp = esmtp;
    facts.is_utf8 = utf8;
    facts.has_tls = tls;
    facts.is_authenticated = authenticated;
    buf_init(&out, RECEIVED_BYTES_MAX);
    received_compose(&out, &facts);
    assert_non_null(memmem(out.data, out.length, expected, strlen(expected)));
    buf_release(&out);
}

/* The keywords are registered (RFC 3848, RFC 6531): filters read them. */
static void test_protocols(void **state)
{
    (void)state;
    assert_protocol(false, false, false, false, " with SMTP id ");
    assert_protocol(true, false, false, false, " with ESMTP id ");
    assert_protocol(true, false, true, false, " with ESMTPS id ");
    assert_protocol(true, false, false, true, " with ESMTPA id ");
    assert_protocol(true, false, true, true, " with ESMTPSA id ");
    assert_protocol(true, true, false, false, " with UTF8SMTP id ");
    assert_protocol(true, true, true, true, " with UTF8SMTPSA id ");
}

/* HELO could close the comment, or end the line and forge a trace of its own. */
static void test_hostile_text(void **state)
{
    struct received_facts facts = ordinary;

    (void)state;
    facts.helo = STR("x) [10.0.0.1]\r\nReceived: y\0\xff(");
    facts.client_name = STR("a(b)\nc");
    facts.recipient = STR("j\xc3\xb6rg@x\r\nBcc: y");
    assert_received(&facts, "Received: from x??[10.0.0.1]??Received:?y??? (a?b??c [192.0.2.7])\r\n"
                            "\tby mail.contoso.test (Postern) with ESMTP id 1A2B\r\n"
                            "\tfor <j?rg@x??Bcc: y>; Sat, 21 Nov 2026 10:00:00 +0000\r\n");
    facts.helo = (struct str){0};
    facts.recipient = STR("j\xc3\xb6rg@x");
    facts.client_name = (struct str){0};
    facts.is_utf8 = true;
    assert_received(&facts, "Received: from unknown (unknown [192.0.2.7])\r\n"
                            "\tby mail.contoso.test (Postern) with UTF8SMTP id 1A2B\r\n"
                            "\tfor <j\xc3\xb6rg@x>; Sat, 21 Nov 2026 10:00:00 +0000\r\n");
}

/* The longest of everything fits the stated maximum. */
static void test_bound(void **state)
{
    struct received_facts facts = ordinary;
    char text[4096];
    struct buf out;

    (void)state;
    memset(text, 'a', sizeof(text));
    facts.helo = facts.client_name = facts.client_ip = facts.host = facts.id = str_make(text, sizeof(text));
    facts.recipient = str_make(text, 508);
    buf_init(&out, RECEIVED_BYTES_MAX);
    received_compose(&out, &facts);
    assert_false(out.overflowed);
    buf_release(&out);
}

static void test_message_id(void **state)
{
    struct buf out;

    (void)state;
    buf_init(&out, 256);
    received_append_message_id(&out, STR("1A2B"), 1795255200000, STR("mail.contoso.test"));
    assert_true(str_equal(buf_str(&out), STR("1A2B.1795255200000@mail.contoso.test")));
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ordinary), cmocka_unit_test(test_protocols),  cmocka_unit_test(test_hostile_text),
        cmocka_unit_test(test_bound),    cmocka_unit_test(test_message_id),
    };

    return cmocka_run_group_tests_name("mail/received", tests, NULL, NULL);
}
