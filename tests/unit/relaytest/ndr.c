/* SPDX-License-Identifier: Apache-2.0 */
/* Samples of what servers write, in their forms. What is taken for a report explains an acceptance: taking too much calls an unproven server closed. */
#include "relaytest/ndr.h"
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define T "abcdefgh23456789"
#define U "relaytest-u-" T
#define S "relaytest-s-" T

static const struct ndr_question question = {STR_INIT(T), STR_INIT(U), STR_INIT("outside.test")};
static struct ndr ndr;

static void recognise(const char *sender, const char *message)
{
    ndr_recognise(&ndr, str_from_cstr(sender), str_from_cstr(message), &question);
}

static void check(enum ndr_kind kind, const char *format, const char *status, const char *diagnostic,
                  bool tried_outside)
{
    assert_int_equal(ndr.kind, kind);
    assert_string_equal(ndr.format, format);
    assert_string_equal(ndr.status, status);
    assert_string_equal(ndr.diagnostic, diagnostic);
    assert_int_equal(ndr.tried_outside, tried_outside);
}

static void check_none(void)
{
    check(NDR_NONE, "", "", "", false);
}

#define COPY                                                                                                           \
    "From: \"Relay test\" <relaytest@outside.test>\r\nSubject: Relay test " T "\r\nX-Relaytest-Token: " T              \
    "\r\n\r\nToken: " T "\r\n"
#define REPORT(fields)                                                                                                 \
    "From: MAILER-DAEMON@mail.contoso.test\r\nTo: " S "@outside.test\r\nSubject: Undelivered\r\n"                      \
    "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"b\"\r\n\r\n--b\r\n"                  \
    "Content-Type: text/plain\r\n\r\nSorry, not delivered.\r\n\r\n--b\r\n"                                             \
    "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mail.contoso.test\r\n\r\n" fields                \
    "\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\n" COPY "--b--\r\n"

static void standard(void **state)
{
    (void)state;
    recognise("",
              REPORT("Original-Recipient: rfc822;" U "%outside.test@contoso.test\r\n"
                     "Final-Recipient: rfc822; " U "%outside.test@contoso.test\r\nAction: failed\r\nStatus: 5.1.1\r\n"
                     "Diagnostic-Code: X-Postfix; unknown user:\r\n  \"" U "%outside.test\"\r\n"));
    assert_int_equal(ndr.kind, NDR_FAILED);
    assert_string_equal(ndr.status, "5.1.1");
    assert_non_null(strstr(ndr.diagnostic, "unknown user"));
    assert_false(ndr.tried_outside);
}

/* The group of our recipient counts, wherever it stands. */
static void standard_with_several_recipients(void **state)
{
    (void)state;
    recognise("", REPORT("Final-Recipient: rfc822; other@contoso.test\r\nAction: delayed\r\nStatus: 4.4.1\r\n\r\n"
                         "Final-Recipient: rfc822; " U "@contoso.test\r\nAction: failed\r\nStatus: 5.1.1\r\n"
                         "Diagnostic-Code: smtp; 550 5.1.1 no\r\n"));
    check(NDR_FAILED, "RFC 3464", "5.1.1", "550 5.1.1 no", false);
}

/* Exim says nothing but 5.0.0 to machines; what it tells people is worth more. */
static void standard_without_diagnostic(void **state)
{
    (void)state;
    recognise("", "Subject: Mail delivery failed\r\nContent-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\n  " U
                  "%outside.test@contoso.test\r\n    Unrouteable address\r\n\r\n--b\r\n"
                  "Content-type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\nAction: failed\r\n"
                  "Final-Recipient: rfc822;" U "%outside.test@contoso.test\r\nStatus: 5.0.0\r\n\r\n--b--\r\n");
    check(NDR_FAILED, "RFC 3464", "5.0.0", "Unrouteable address", false);
}

static void other_actions_are_no_failure(void **state)
{
    (void)state;
    recognise("", REPORT("Final-Recipient: rfc822; " U "@outside.test\r\nAction: delayed\r\nStatus: 4.4.1\r\n"));
    assert_int_equal(ndr.kind, NDR_DELAYED);
    recognise("", REPORT("Final-Recipient: rfc822; " U "@outside.test\r\nAction: relayed\r\nStatus: 2.0.0\r\n"));
    assert_int_equal(ndr.kind, NDR_OTHER);
    recognise("", REPORT("Final-Recipient: rfc822; " U "@outside.test\r\nAction: delivered\r\nStatus: 2.0.0\r\n"));
    assert_int_equal(ndr.kind, NDR_OTHER);
}

/* A report about u@X itself tells of an attempt, unless the server refused by policy before any. */
static void attempts(void **state)
{
    (void)state;
    recognise("", REPORT("Final-Recipient: rfc822; " U "@outside.test\r\nAction: failed\r\nStatus: 5.4.4\r\n"));
    assert_true(ndr.tried_outside);
    recognise("", REPORT("Final-Recipient: rfc822; " U "@OUTSIDE.test\r\nAction: failed\r\nStatus: 5.1.2\r\n"));
    assert_true(ndr.tried_outside);
    recognise("", REPORT("Final-Recipient: rfc822; " U "@outside.test\r\nAction: failed\r\nStatus: 5.0.0\r\n"
                         "Remote-MTA: dns; mx.outside.test\r\nDiagnostic-Code: smtp; 550 no\r\n"));
    assert_true(ndr.tried_outside);
    recognise("", REPORT("Final-Recipient: rfc822; " U "@outside.test\r\nAction: failed\r\nStatus: 5.0.0\r\n"
                         "Diagnostic-Code: x; Host or domain name not found\r\n"));
    assert_true(ndr.tried_outside);
    recognise("", REPORT("Final-Recipient: rfc822; " U "@outside.test\r\nAction: failed\r\nStatus: 5.7.1\r\n"
                         "Diagnostic-Code: smtp; 550 5.7.1 Unable to relay\r\n"));
    assert_false(ndr.tried_outside);
    /* A local name, on a server behind this one. */
    recognise("", REPORT("Final-Recipient: rfc822; \"" U "@outside.test\"@contoso.test\r\nAction: failed\r\n"
                         "Status: 5.1.1\r\nRemote-MTA: dns; inner.contoso.test\r\n"));
    assert_false(ndr.tried_outside);
}

static void qmail(void **state)
{
    (void)state;
    recognise("", "From: MAILER-DAEMON@contoso.test\r\nTo: " S "@outside.test\r\nSubject: failure notice\r\n\r\n"
                  "Hi. This is the qmail-send program at contoso.test.\r\n"
                  "I'm afraid I wasn't able to deliver your message to the following addresses.\r\n"
                  "This is a permanent error; I've given up. Sorry it didn't work out.\r\n\r\n"
                  "<" U "%outside.test@contoso.test>:\r\nSorry, no mailbox here by that name. (#5.1.1)\r\n\r\n"
                  "--- Below this line is a copy of the message.\r\n\r\n" COPY);
    check(NDR_FAILED, "qmail", "5.1.1", "Sorry, no mailbox here by that name. (#5.1.1)", false);
    recognise("", "Subject: failure notice\r\n\r\nHi. This is the qmail-send program at contoso.test.\r\n<" U
                  "@outside.test>:\r\nSorry, I couldn't find any host named outside.test. (#5.1.2)\r\n");
    assert_true(ndr.tried_outside);
}

static void exim(void **state)
{
    (void)state;
    recognise("", "X-Failed-Recipients: " U "%outside.test@contoso.test\r\nAuto-Submitted: auto-replied\r\n"
                  "From: Mail Delivery System <Mailer-Daemon@contoso.test>\r\n"
                  "Subject: Mail delivery failed: returning message to sender\r\n\r\n"
                  "This message was created automatically by mail delivery software.\r\n\r\n"
                  "A message that you sent could not be delivered to one or more of its\r\n"
                  "recipients. This is a permanent error. The following address(es) failed:\r\n\r\n"
                  "  " U "%outside.test@contoso.test\r\n    unknown user\r\n\r\n" COPY);
    check(NDR_FAILED, "Exim", "", "unknown user", false);
    recognise("", "Subject: Warning: message 1xUxvJ-000595-0n delayed 24 hours\r\n\r\nThe message has not yet been "
                  "delivered to:\r\n  " U "@outside.test\r\n");
    assert_int_equal(ndr.kind, NDR_DELAYED);
}

static void sendmail(void **state)
{
    (void)state;
    recognise("MAILER-DAEMON@contoso.test",
              "From: Mail Delivery Subsystem <MAILER-DAEMON>\r\nSubject: Returned mail: User unknown\r\n\r\n"
              "   ----- The following addresses had permanent fatal errors -----\r\n<" U
              "%outside.test@contoso.test>\r\n"
              "    (reason: 550 5.1.1 User unknown)\r\n\r\n   ----- Transcript of session follows -----\r\n"
              "550 User unknown\r\n");
    check(NDR_FAILED, "sendmail", "5.1.1", "(reason: 550 5.1.1 User unknown)", false);
    recognise("", "Subject: Warning: could not send message for past 4 hours\r\n\r\n"
                  "   ----- The following addresses had transient non-fatal errors -----\r\n<" U "@outside.test>\r\n");
    assert_int_equal(ndr.kind, NDR_DELAYED);
}

static void exchange(void **state)
{
    (void)state;
    recognise("",
              "From: System Administrator <postmaster@contoso.test>\r\nSubject: Undeliverable: Relay test " T "\r\n\r\n"
              "Your message\r\n\r\n  To:      someone\r\n  Subject: Relay test\r\n\r\n"
              "did not reach the following recipient(s):\r\n\r\n" U
              "%outside.test@contoso.test on Mon, 2 Nov 2026 10:00:00 +0000\r\n"
              "    The e-mail account does not exist at the organization.\r\n    <mail.contoso.test #5.1.1>\r\n");
    check(NDR_FAILED, "Exchange", "", "The e-mail account does not exist at the organization.", false);
    /* Encapsulated addresses, quoted-printable: the token is cut in two by a soft line break. */
    recognise("", "From: postmaster@contoso.test\r\nSubject: Undeliverable: Relay test\r\n\r\n"
                  "Delivery has failed to these recipients or "
                  "groups:\r\n\r\nIMCEAINVALID-relaytest+2Du+2Dabcd=\r\nefgh23456789@contoso.test\r\n"
                  "The e-mail address you entered couldn't be found.\r\n");
    check(NDR_FAILED, "Exchange", "", "The e-mail address you entered couldn't be found.", false);
}

static void postfix_mangled(void **state)
{
    (void)state;
    recognise(
        "",
        "Subject: Undelivered Mail Returned to Sender\r\n\r\nThis is the mail system at host mail.contoso.test.\r\n\r\n"
        "I'm sorry to have to inform you that your message could not\r\nbe delivered to one or more "
        "recipients.\r\n\r\n<" U "%outside.test@contoso.test>: unknown user\r\n");
    assert_int_equal(ndr.kind, NDR_FAILED);
    assert_string_equal(ndr.format, "Postfix");
}

static void no_reports(void **state)
{
    (void)state;
    /* The relayed message itself, whoever it comes from. */
    recognise("", COPY);
    check_none();
    /* From a person, about anything. */
    recognise("alice@contoso.test",
              "From: alice@contoso.test\r\nSubject: failure notice\r\n\r\nThis is the qmail-send program. " U "\r\n");
    check_none();
    /* An automatic reply that quotes everything. */
    recognise("", "From: alice@contoso.test\r\nSubject: Out of office: Relay test " T
                  "\r\nAuto-Submitted: auto-replied\r\n\r\n"
                  "I am away. You wrote:\r\n> Subject: Relay test " T "\r\n> " U "\r\n");
    check_none();
    /* About another message. */
    recognise("", "From: MAILER-DAEMON@contoso.test\r\nSubject: failure notice\r\n\r\nThis is the qmail-send program "
                  "at x.\r\n<a@b.test>:\r\nNo.\r\n");
    check_none();
    recognise("", "");
    check_none();
    recognise("", "Content-Type: message/delivery-status\r\n\r\n\r\n\r\n" T);
    check_none();
}

/* What a server writes is shown on terminals and in JSON. */
static void diagnostics_are_clean(void **state)
{
    (void)state;
    recognise("", REPORT("Final-Recipient: rfc822; " U "@contoso.test\r\nAction: failed\r\nStatus: 5.1.1.9\r\n"
                         "Diagnostic-Code: x; a\033[31m\001\377b\r\n"));
    check(NDR_FAILED, "RFC 3464", "", "a?[31m??b", false);
}

/* Cut off anywhere, as by a limit: no read beyond the end, and never another kind than the whole has. */
static void cut_short(void **state)
{
    static const char whole[] =
        REPORT("Final-Recipient: rfc822; " U "@contoso.test\r\nAction: failed\r\nStatus: 5.1.1\r\n");

    (void)state;
    for (size_t length = 0; length < sizeof(whole) - 1; length++) {
        char *copy = test_malloc(length + 1);

        memcpy(copy, whole, length);
        ndr_recognise(&ndr, STR(""), str_make(copy, length), &question);
        assert_true(ndr.kind == NDR_NONE || ndr.kind == NDR_FAILED || ndr.kind == NDR_OTHER);
        test_free(copy);
    }
}

static void own_copies(void **state)
{
    (void)state;
    assert_true(ndr_is_own_copy(STR("Received: x\r\n" COPY), STR(T)));
    assert_false(ndr_is_own_copy(STR("Subject: x\r\n\r\n" COPY), STR(T)));
    assert_false(ndr_is_own_copy(STR("X-Relaytest-Token: other\r\n\r\n"), STR(T)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(standard),
        cmocka_unit_test(standard_with_several_recipients),
        cmocka_unit_test(standard_without_diagnostic),
        cmocka_unit_test(other_actions_are_no_failure),
        cmocka_unit_test(attempts),
        cmocka_unit_test(qmail),
        cmocka_unit_test(exim),
        cmocka_unit_test(sendmail),
        cmocka_unit_test(exchange),
        cmocka_unit_test(postfix_mangled),
        cmocka_unit_test(no_reports),
        cmocka_unit_test(diagnostics_are_clean),
        cmocka_unit_test(cut_short),
        cmocka_unit_test(own_copies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
