/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines come from anybody. What real clients write is served, and each refusal names what is wrong with the line. */
#include "smtp/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define DEFAULT_DOMAIN STR("contoso.test")

static void assert_str(struct str actual, const char *expected)
{
    assert_int_equal(actual.length, strlen(expected));
    if (actual.length > 0)
        assert_memory_equal(actual.data, expected, actual.length);
}

static void assert_command(const char *line, enum command_verb verb, const char *argument)
{
    struct command c;

    command_parse(&c, str_from_cstr(line));
    assert_int_equal(c.verb, verb);
    assert_str(c.argument, argument);
    assert_false(c.has_control);
}

static void test_verbs(void **state)
{
    (void)state;
    assert_command("EHLO", COMMAND_EHLO, "");
    assert_command("ehlo  mail.example.org \t", COMMAND_EHLO, "mail.example.org");
    assert_command("HELO x", COMMAND_HELO, "x");
    assert_command("Mail From:<a@b>", COMMAND_MAIL, "From:<a@b>");
    assert_command("RCPT\tTO:<a@b>", COMMAND_RCPT, "TO:<a@b>");
    assert_command("DATA ", COMMAND_DATA, "");
    assert_command("BDAT 5 LAST", COMMAND_BDAT, "5 LAST");
    assert_command("rset", COMMAND_RSET, "");
    assert_command("NOOP what ever", COMMAND_NOOP, "what ever");
    assert_command("QUIT", COMMAND_QUIT, "");
    assert_command("VRFY user", COMMAND_VRFY, "user");
    assert_command("EXPN list", COMMAND_EXPN, "list");
    assert_command("HELP", COMMAND_HELP, "");
    assert_command("ETRN x", COMMAND_ETRN, "x");
    assert_command("TURN", COMMAND_TURN, "");
    assert_command("STARTTLS", COMMAND_STARTTLS, "");
    assert_command("AUTH PLAIN AGEAYg==", COMMAND_AUTH, "PLAIN AGEAYg==");
    assert_command("", COMMAND_UNKNOWN, "");
    assert_command("   ", COMMAND_UNKNOWN, "");
    assert_command("MAILFROM:<a@b>", COMMAND_UNKNOWN, "");
    assert_command("GET / HTTP/1.1", COMMAND_UNKNOWN, "/ HTTP/1.1");
    assert_command("MAI", COMMAND_UNKNOWN, "");
}

/* A bare newline or NUL within a line is where two servers read two different lines. */
static void test_controls(void **state)
{
    struct command c;

    (void)state;
    command_parse(&c, STR("RSET\rQUIT"));
    assert_true(c.has_bare_newline && c.has_control && !c.has_nul);
    command_parse(&c, STR("NOOP\nQUIT"));
    assert_true(c.has_bare_newline && c.has_control);
    command_parse(&c, STR("RSET\0"));
    assert_true(c.has_nul && c.has_control && !c.has_bare_newline);
    assert_int_equal(c.verb, COMMAND_UNKNOWN);
    command_parse(&c, STR("NOOP \x1b[A"));
    assert_true(c.has_control && !c.has_nul && !c.has_bare_newline);
    command_parse(&c, STR("NOOP \x7f"));
    assert_true(c.has_control);
    command_parse(&c, STR("NOOP \tj\xc3\xb6rg"));
    assert_false(c.has_control);
}

static enum command_status parse_mail(struct command_mail *mail, const char *line)
{
    struct command c;

    command_parse(&c, str_from_cstr(line));
    assert_int_equal(c.verb, COMMAND_MAIL);
    return command_parse_mail(mail, &c, DEFAULT_DOMAIN);
}

static void assert_sender(const char *line, const char *sender)
{
    struct command_mail mail;

    assert_int_equal(parse_mail(&mail, line), COMMAND_OK);
    assert_str(address_text(&mail.sender), sender);
}

static void test_mail_forms(void **state)
{
    struct command_mail mail;

    (void)state;
    assert_sender("MAIL FROM:<a@b.example>", "a@b.example");
    assert_sender("MAIL FROM:a@b.example", "a@b.example");
    assert_sender("MAIL FROM: <a@b.example>", "a@b.example");
    assert_sender("mail from :<a@b.example> ", "a@b.example");
    assert_sender("MAIL FROM:a", "a@contoso.test");
    assert_sender("MAIL FROM:<>", "<>");
    assert_sender("MAIL FROM: <> SIZE=10", "<>");
    assert_int_equal(parse_mail(&mail, "MAIL"), COMMAND_SYNTAX);
    assert_int_equal(parse_mail(&mail, "MAIL <a@b>"), COMMAND_SYNTAX);
    assert_int_equal(parse_mail(&mail, "MAIL FROM <a@b>"), COMMAND_SYNTAX);
    assert_int_equal(parse_mail(&mail, "MAIL TO:<a@b>"), COMMAND_SYNTAX);
    assert_int_equal(parse_mail(&mail, "MAIL FROM:"), COMMAND_INVALID_ADDRESS);
    assert_int_equal(parse_mail(&mail, "MAIL FROM:<a@b@c>"), COMMAND_INVALID_ADDRESS);
    assert_int_equal(parse_mail(&mail, "MAIL FROM:<a@b@c> WHAT=1"), COMMAND_INVALID_ADDRESS);
    assert_int_equal(parse_mail(&mail, "MAIL FROM:<a@b>SIZE=1"), COMMAND_INVALID_ADDRESS);
}

static void test_mail_options(void **state)
{
    struct command_mail mail;

    (void)state;
    assert_int_equal(
        parse_mail(&mail, "MAIL FROM:<a@b>  size=1000  BODY=8bitmime SMTPUTF8 RET=hdrs ENVID=q+2B1 AUTH=<>"),
        COMMAND_OK);
    assert_true(mail.has_size && mail.size == 1000 && mail.has_body && mail.smtputf8);
    assert_int_equal(mail.body, COMMAND_BODY_8BITMIME);
    assert_int_equal(mail.dsn_return, DSN_RETURN_HEADERS);
    assert_str(mail.envid, "q+2B1");
    assert_int_equal(parse_mail(&mail, "MAIL FROM:<a@b> BODY=7BIT"), COMMAND_OK);
    assert_true(mail.has_body && !mail.has_size && !mail.smtputf8);
    assert_int_equal(mail.body, COMMAND_BODY_7BIT);
    assert_int_equal(mail.dsn_return, DSN_RETURN_UNSET);
    assert_str(mail.envid, "");
    assert_int_equal(parse_mail(&mail, "MAIL FROM:<a@b> SIZE=18446744073709551615"), COMMAND_OK);
    assert_true(mail.size == UINT64_MAX);
    assert_int_equal(parse_mail(&mail, "MAIL FROM:<a@b> SIZE=99999999999999999999"), COMMAND_OK);
    assert_true(mail.size == UINT64_MAX);
}

static void assert_mail_option(const char *options, enum command_status status, const char *name)
{
    char line[512];
    struct command_mail mail;

    snprintf(line, sizeof(line), "MAIL FROM:<a@b> %s", options);
    assert_int_equal(parse_mail(&mail, line), status);
    assert_str(mail.option, name);
}

/* The replies are checked to the letter, and name the option as the client wrote it. */
static void test_faulty_mail_options(void **state)
{
    (void)state;
    assert_mail_option("FUTURE=1", COMMAND_UNSUPPORTED_OPTION, "FUTURE");
    assert_mail_option("Future", COMMAND_UNSUPPORTED_OPTION, "Future");
    assert_mail_option("NOTIFY=NEVER", COMMAND_UNSUPPORTED_OPTION, "NOTIFY");
    assert_mail_option("=1", COMMAND_UNSUPPORTED_OPTION, "?");
    assert_mail_option("\xff\xfe", COMMAND_UNSUPPORTED_OPTION, "?");
    assert_mail_option("AB\xc3\xbc", COMMAND_UNSUPPORTED_OPTION, "AB");
    assert_mail_option("aaaaaaaaaabbbbbbbbbbaaaaaaaaaabbbbbbbbbbaaaaaaaaaabbbbbbbbbbaaaaa=1",
                       COMMAND_UNSUPPORTED_OPTION, "aaaaaaaaaabbbbbbbbbbaaaaaaaaaabbbbbbbbbbaaaaaaaaaabbbbbbbbbbaaaa");
    assert_mail_option("Size=", COMMAND_INVALID_OPTION, "Size");
    assert_mail_option("SIZE", COMMAND_INVALID_OPTION, "SIZE");
    assert_mail_option("SIZE=-1", COMMAND_INVALID_OPTION, "SIZE");
    assert_mail_option("SIZE=1x", COMMAND_INVALID_OPTION, "SIZE");
    assert_mail_option("SIZE=000000000000000000001", COMMAND_INVALID_OPTION, "SIZE");
    assert_mail_option("SIZE=1 size=2", COMMAND_INVALID_OPTION, "size");
    assert_mail_option("BODY=BINARYMIME", COMMAND_INVALID_OPTION, "BODY");
    assert_mail_option("BODY", COMMAND_INVALID_OPTION, "BODY");
    assert_mail_option("SMTPUTF8=1", COMMAND_INVALID_OPTION, "SMTPUTF8");
    assert_mail_option("RET=SOME", COMMAND_INVALID_OPTION, "RET");
    assert_mail_option("ENVID=a=b", COMMAND_INVALID_OPTION, "ENVID");
    assert_mail_option("ENVID=", COMMAND_INVALID_OPTION, "ENVID");
    assert_mail_option("AUTH", COMMAND_INVALID_OPTION, "AUTH");
    assert_mail_option("SIZE=1 X SIZE=2", COMMAND_UNSUPPORTED_OPTION, "X");
    assert_mail_option("SIZE=1", COMMAND_OK, "");
}

static enum command_status parse_rcpt(struct command_rcpt *rcpt, const char *line, bool smtputf8)
{
    struct command c;

    command_parse(&c, str_from_cstr(line));
    assert_int_equal(c.verb, COMMAND_RCPT);
    return command_parse_rcpt(rcpt, &c, DEFAULT_DOMAIN, smtputf8);
}

static void test_rcpt(void **state)
{
    struct command_rcpt rcpt;

    (void)state;
    assert_int_equal(parse_rcpt(&rcpt, "RCPT TO:<u@x> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;u+2Bb@x", false), COMMAND_OK);
    assert_str(address_text(&rcpt.recipient), "u@x");
    assert_int_equal(rcpt.notify, DSN_NOTIFY_SUCCESS | DSN_NOTIFY_FAILURE);
    assert_str(rcpt.orcpt, "rfc822;u+2Bb@x");
    assert_int_equal(parse_rcpt(&rcpt, "RCPT TO: \"v@example.net\"", false), COMMAND_OK);
    assert_str(address_text(&rcpt.recipient), "\"v@example.net\"@contoso.test");
    assert_int_equal(rcpt.notify, 0);
    assert_str(rcpt.orcpt, "");
    assert_int_equal(parse_rcpt(&rcpt, "RCPT TO:<>", false), COMMAND_INVALID_ADDRESS);
    assert_int_equal(parse_rcpt(&rcpt, "RCPT TO:<u@X@H>", false), COMMAND_INVALID_ADDRESS);
    assert_int_equal(parse_rcpt(&rcpt, "RCPT FROM:<u@x>", false), COMMAND_SYNTAX);
    assert_int_equal(parse_rcpt(&rcpt, "RCPT TO:<u@x> NOTIFY=NEVER,DELAY", false), COMMAND_INVALID_OPTION);
    assert_str(rcpt.option, "NOTIFY");
    assert_int_equal(parse_rcpt(&rcpt, "RCPT TO:<u@x> ORCPT=u@x", false), COMMAND_INVALID_OPTION);
    assert_str(rcpt.option, "ORCPT");
    assert_int_equal(parse_rcpt(&rcpt, "RCPT TO:<u@x> SIZE=1", false), COMMAND_UNSUPPORTED_OPTION);
    assert_str(rcpt.option, "SIZE");
}

/* RFC 6531: such an address must not be sent on to a server that was never told. */
static void test_smtputf8_is_required(void **state)
{
    struct command_mail mail;
    struct command_rcpt rcpt;

    (void)state;
    assert_int_equal(parse_mail(&mail, "MAIL FROM:<\xc3\xbc@x>"), COMMAND_NEEDS_SMTPUTF8);
    assert_int_equal(parse_mail(&mail, "MAIL FROM:<\xc3\xbc@x> SMTPUTF8"), COMMAND_OK);
    assert_int_equal(parse_mail(&mail, "MAIL FROM:<\xff@x> SMTPUTF8"), COMMAND_INVALID_ADDRESS);
    assert_int_equal(parse_rcpt(&rcpt, "RCPT TO:<u@\xc3\xbc.example>", false), COMMAND_NEEDS_SMTPUTF8);
    assert_int_equal(parse_rcpt(&rcpt, "RCPT TO:<u@\xc3\xbc.example>", true), COMMAND_OK);
}

static void assert_bdat(const char *argument, bool ok, uint64_t size, bool is_last)
{
    uint64_t actual = 0;
    bool actual_last = false;

    assert_int_equal(command_parse_bdat(str_from_cstr(argument), &actual, &actual_last), ok);
    if (ok) {
        assert_true(actual == size);
        assert_int_equal(actual_last, is_last);
    }
}

/* A size that wraps around would put the rest of a chunk into the commands. */
static void test_bdat(void **state)
{
    (void)state;
    assert_bdat("5", true, 5, false);
    assert_bdat("0 LAST", true, 0, true);
    assert_bdat("18446744073709551615  last", true, UINT64_MAX, true);
    assert_bdat("18446744073709551616", false, 0, false);
    assert_bdat("99999999999999999999999", false, 0, false);
    assert_bdat("", false, 0, false);
    assert_bdat("LAST", false, 0, false);
    assert_bdat("-1", false, 0, false);
    assert_bdat("+1", false, 0, false);
    assert_bdat("5x", false, 0, false);
    assert_bdat("5 LAST 6", false, 0, false);
    assert_bdat("5 MORE", false, 0, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verbs),
        cmocka_unit_test(test_controls),
        cmocka_unit_test(test_mail_forms),
        cmocka_unit_test(test_mail_options),
        cmocka_unit_test(test_faulty_mail_options),
        cmocka_unit_test(test_rcpt),
        cmocka_unit_test(test_smtputf8_is_required),
        cmocka_unit_test(test_bdat),
    };

    return cmocka_run_group_tests_name("smtp/command", tests, NULL, NULL);
}
