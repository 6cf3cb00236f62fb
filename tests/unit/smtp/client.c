/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the client says to a server, and what it makes of the replies. What breaks here loses mail or refuses it to the
 * wrong people: each reply must turn into the right result for the right recipient.
 */
#include "client_fixture.h"

/* ---- the good ways ---- */

static void check_two_delivered(void)
{
    assert_true(session.usable);
    check_delivered(0, 0);
    check_delivered(1, 0);
    check_result(0, 0, 250, "2.6.0", "250 2.6.0 first");
    check_result(1, 0, 250, "2.0.0", "250 second");
}

/* The envelope of the second message is behind the dot of the first: without it every message costs a round trip more. */
static void test_chains_envelopes(void **state)
{
    (void)state;
    add_two();
    session.chain = true;
    PLAY(check_two_delivered, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "C:" BODY ".\r\n" ENVELOPE(2),
         "S:250 2.6.0 first\r\n" GO_AHEAD, "C:" BODY ".\r\n", "S:250 second\r\n", BYE);
}

/* Nothing at hand: the next message comes over the same connection later. */
static void test_reuses_connection(void **state)
{
    (void)state;
    add_two();
    PLAY(check_two_delivered, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "C:" BODY ".\r\n", "S:250 2.6.0 first\r\n",
         "C:" ENVELOPE(2), "S:" GO_AHEAD, "C:" BODY ".\r\n", "S:250 second\r\n", BYE);
}

/* A server without PIPELINING may throw away what comes before its reply. */
static void test_goes_step_by_step(void **state)
{
    (void)state;
    add_two();
    session.chain = true;
    PLAY(check_two_delivered, PLAIN, "C:MAIL FROM:<s1@a.test>\r\n", "S:250 ok\r\n", "C:RCPT TO:<r1@b.test>\r\n",
         "S:250 ok\r\n", "C:DATA\r\n", "S:354 go\r\n", "C:" BODY ".\r\n", "S:250 2.6.0 first\r\n",
         "C:MAIL FROM:<s2@a.test>\r\n", "S:250 ok\r\n", "C:RCPT TO:<r2@b.test>\r\n", "S:250 ok\r\n", "C:DATA\r\n",
         "S:354 go\r\n", "C:" BODY ".\r\n", "S:250 second\r\n", BYE);
}

static void check_one_delivered(void)
{
    assert_true(session.opened);
    check_delivered(0, 0);
}

/* Old servers know HELO only, and then no extension may be used. */
static void test_falls_back_to_helo(void **state)
{
    struct message *message = add("", BODY, "r@b.test");

    (void)state;
    message->transaction.envid = STR("X");
    message->transaction.ret_full = true;
    message->recipients[0].notify = DSN_NOTIFY_NEVER;
    PLAY(check_one_delivered, "S:220-them\r\n220 hello\r\n", "C:EHLO me.test\r\n", "S:502 what?\r\n",
         "C:HELO me.test\r\n", "S:250 them\r\n", "C:MAIL FROM:<>\r\n", "S:250 ok\r\n", "C:RCPT TO:<r@b.test>\r\n",
         "S:250 ok\r\n", "C:DATA\r\n", "S:354 go\r\n", "C:" BODY ".\r\n", "S:250 ok\r\n", BYE);
}

/* Parameters that make the sender's wishes travel. */
static void test_sends_parameters_when_offered(void **state)
{
    struct message *message = add("s@a.test", BODY, "r@b.test");

    (void)state;
    message->transaction.envid = STR("QQ314159");
    message->transaction.ret_headers = true;
    message->transaction.needs_8bitmime = message->transaction.needs_smtputf8 = true;
    message->recipients[0].notify = DSN_NOTIFY_SUCCESS | DSN_NOTIFY_FAILURE;
    message->recipients[0].orcpt = STR("rfc822;r@b.test");
    PLAY(check_one_delivered, HELLO,
         "S:250-x\r\n250-SIZE 22\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250 PIPELINING\r\n",
         "C:MAIL FROM:<s@a.test> SIZE=21 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ314159\r\n"
         "RCPT TO:<r@b.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;r@b.test\r\nDATA\r\n",
         "S:" GO_AHEAD, "C:" BODY ".\r\n", "S:250 ok\r\n", BYE);
}

static void test_sends_no_parameters_unless_offered(void **state)
{
    struct message *message = add("s@a.test", BODY, "r@b.test");

    (void)state;
    message->transaction.envid = STR("QQ314159");
    message->transaction.ret_full = true;
    message->recipients[0].notify = DSN_NOTIFY_NEVER;
    message->recipients[0].orcpt = STR("rfc822;r@b.test");
    PLAY(check_one_delivered, PIPELINED, "C:MAIL FROM:<s@a.test>\r\nRCPT TO:<r@b.test>\r\nDATA\r\n", "S:" GO_AHEAD,
         "C:" BODY ".\r\n", "S:250 ok\r\n", BYE);
}

/* A dot at a line's start, at the borders of reads too; a body without a last newline gets one, as DATA can't say otherwise. */
static void test_stuffs_dots(void **state)
{
    struct message *message = add("s1@a.test", ".a\r\n..\r\n\r\n.\r\nx.\r\n.end", "r1@b.test");

    (void)state;
    for (message->chunk = 0; message->chunk < 4; message->chunk++)
        PLAY(check_one_delivered, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD,
             "C:..a\r\n...\r\n\r\n..\r\nx.\r\n..end\r\n.\r\n", "S:250 ok\r\n", BYE);
}

static void test_sends_empty_body(void **state)
{
    (void)state;
    add("s1@a.test", "", "r1@b.test");
    PLAY(check_one_delivered, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "C:.\r\n", "S:250 ok\r\n", BYE);
}

/* ---- the greeting ---- */

static void check_greeting_421(void)
{
    assert_false(session.opened);
    assert_int_equal(session.result.code, 421);
    assert_false(session.result.permanent);
    assert_string_equal(session.result.status, "4.3.2");
}

static void check_greeting_554(void)
{
    assert_false(session.opened);
    assert_int_equal(session.result.code, 554);
    assert_true(session.result.permanent);
    assert_string_equal(session.result.text, "554 no service");
}

static void check_greeting_450(void)
{
    assert_false(session.opened);
    assert_int_equal(session.result.code, 450);
    assert_false(session.result.permanent);
}

static void check_greeting_lost(void)
{
    assert_false(session.opened);
    assert_int_equal(session.result.code, 0);
    assert_false(session.result.permanent);
    assert_true(session.result.text[0] != '\0');
}

/* Each way in which a server can turn us away must be told apart: nothing of it is a verdict on a recipient. */
static void test_refused_greetings(void **state)
{
    (void)state;
    PLAY(check_greeting_421, "S:421 4.3.2 busy\r\n", "EOF");
    PLAY(check_greeting_554, "S:554 no service\r\n", BYE);
    PLAY(check_greeting_450, "S:450 later\r\n", BYE);
    PLAY(check_greeting_450, HELLO, "S:450 later\r\n", BYE);
    PLAY(check_greeting_554, HELLO, "S:500 ?\r\n", "C:HELO me.test\r\n", "S:554 no service\r\n", BYE);
    PLAY(check_greeting_lost, "S:220");
    PLAY(check_greeting_lost, HELLO);
    PLAY(check_greeting_lost, HELLO, "S:250-half\r\n");
    PLAY(check_greeting_lost, "S:SSH-2.0-OpenSSH\r\n", "EOF");
    PLAY(check_greeting_lost, "S:354 what\r\n", "EOF");
    PLAY(check_greeting_lost, HELLO, "S:250-a\r\n251 b\r\n", "EOF");
    session.options.command_timeout_ms = 30;
    PLAY(check_greeting_lost, "EOF");
}

/* ---- what can't be sent ---- */

static void check_refused_here(void)
{
    check_failed(0, 0);
    check_delivered(1, 0);
    assert_int_equal(RESULT(0, 0)->code, 0);
}

static void check_refused_second(void)
{
    check_delivered(0, 0);
    check_failed(1, 0);
    check_result(1, 0, 0, "5.6.3", "8BITMIME");
}

/* A message is never changed or cut to fit: whoever sent it is told, and the next one goes on. */
static void test_refuses_what_does_not_fit(void **state)
{
    struct message *message = add("s@a.test", "much too long for this server\r\n", "r@b.test");

    (void)state;
    add("s2@a.test", "", "r2@b.test");
    PLAY(check_refused_here, HELLO, "S:250-x\r\n250-SIZE 30\r\n250 PIPELINING\r\n",
         "C:MAIL FROM:<s2@a.test> SIZE=0\r\nRCPT TO:<r2@b.test>\r\nDATA\r\n", "S:" GO_AHEAD, "C:.\r\n", "S:250 ok\r\n",
         BYE);
    assert_string_equal(RESULT(0, 0)->status, "5.3.4");
    message->transaction.needs_8bitmime = true;
    PLAY(check_refused_here, PIPELINED, "C:" ENVELOPE(2), "S:" GO_AHEAD, "C:.\r\n", "S:250 ok\r\n", BYE);
    assert_string_equal(RESULT(0, 0)->status, "5.6.3");
    message->transaction.needs_smtputf8 = true;
    PLAY(check_refused_here, PIPELINED, "C:" ENVELOPE(2), "S:" GO_AHEAD, "C:.\r\n", "S:250 ok\r\n", BYE);
    assert_string_equal(RESULT(0, 0)->status, "5.6.7");
}

/* One that would have been chained but can't be sent: its result comes after the one before it. */
static void test_refuses_chained(void **state)
{
    (void)state;
    add_two();
    session.messages[1].transaction.needs_8bitmime = true;
    session.chain = true;
    PLAY(check_refused_second, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "C:" BODY ".\r\n", "S:250 ok\r\n", BYE);
}

/* SIZE without a number, or 0, is no limit (RFC 1870). */
static void test_size_without_limit(void **state)
{
    (void)state;
    add("s@a.test", BODY, "r@b.test");
    PLAY(check_one_delivered, HELLO, "S:250-x\r\n250-SIZE 0\r\n250 PIPELINING\r\n",
         "C:MAIL FROM:<s@a.test> SIZE=21\r\nRCPT TO:<r@b.test>\r\nDATA\r\n", "S:" GO_AHEAD, "C:" BODY ".\r\n",
         "S:250 ok\r\n", BYE);
}

static void check_malformed(void)
{
    check_failed(0, 0);
    check_result(0, 0, 0, "5.1.3", "malformed");
    assert_true(session.usable);
}

/* Nobody gets a command of his own in by an address or a parameter. */
static void test_refuses_line_breaks(void **state)
{
    struct message *message = add("s@a.test>\r\nRCPT TO:<victim@x.test", BODY, "r@b.test");

    (void)state;
    PLAY(check_malformed, PIPELINED, BYE);
    message->transaction.sender = STR("");
    message->recipients[0].address = STR("r@b.test\n");
    PLAY(check_malformed, PIPELINED, BYE);
    message->recipients[0].address = STR("r@b.test");
    message->recipients[0].orcpt = STR("rfc822;a\rb");
    PLAY(check_malformed, PIPELINED, BYE);
    message->recipients[0].orcpt = STR("");
    message->transaction.envid = STR("\x7f");
    PLAY(check_malformed, PIPELINED, BYE);
}

/* ---- refusals ---- */

static void check_mixed(void)
{
    assert_true(session.usable);
    check_delivered(0, 0);
    check_failed(0, 1);
    check_result(0, 1, 550, "5.1.1", "550 5.1.1 unknown");
    check_deferred(0, 2);
    check_result(0, 2, 452, "4.5.3", "too many");
    check_deferred(0, 3);
    check_result(0, 3, 552, "4.5.3", "too many");
    check_failed(0, 4);
    check_result(0, 4, 552, "5.2.2", "full");
    check_delivered(0, 5);
    check_result(0, 5, 250, "2.6.0", "queued");
}

/* Each recipient has a result of its own; 552 without a word about the mailbox means too many (RFC 5321 4.5.3.1.10). */
static void test_results_by_recipient(void **state)
{
    struct message *message = add("s@a.test", BODY, "r0@b.test");

    (void)state;
    add_recipient(message, "r1@b.test");
    add_recipient(message, "r2@b.test");
    add_recipient(message, "r3@b.test");
    add_recipient(message, "r4@b.test");
    add_recipient(message, "r5@b.test");
    PLAY(check_mixed, PIPELINED,
         "C:MAIL FROM:<s@a.test>\r\nRCPT TO:<r0@b.test>\r\nRCPT TO:<r1@b.test>\r\nRCPT TO:<r2@b.test>\r\n"
         "RCPT TO:<r3@b.test>\r\nRCPT TO:<r4@b.test>\r\nRCPT TO:<r5@b.test>\r\nDATA\r\n",
         "S:250 ok\r\n250 ok\r\n550 5.1.1 unknown\r\n452 4.5.3 too many\r\n552 too many\r\n552 5.2.2 full\r\n251 ok\r\n"
         "354 go\r\n",
         "C:" BODY ".\r\n", "S:250 2.6.0 queued\r\n", BYE);
    PLAY(check_mixed, PLAIN, "C:MAIL FROM:<s@a.test>\r\n", "S:250 ok\r\n", "C:RCPT TO:<r0@b.test>\r\n", "S:250 ok\r\n",
         "C:RCPT TO:<r1@b.test>\r\n", "S:550 5.1.1 unknown\r\n", "C:RCPT TO:<r2@b.test>\r\n",
         "S:452 4.5.3 too many\r\n", "C:RCPT TO:<r3@b.test>\r\n", "S:552 too many\r\n", "C:RCPT TO:<r4@b.test>\r\n",
         "S:552 5.2.2 full\r\n", "C:RCPT TO:<r5@b.test>\r\n", "S:251 ok\r\n", "C:DATA\r\n", "S:354 go\r\n",
         "C:" BODY ".\r\n", "S:250 2.6.0 queued\r\n", BYE);
}

static void check_first_failed_second_delivered(void)
{
    assert_true(session.usable);
    check_failed(0, 0);
    check_result(0, 0, 550, "5.1.1", "unknown");
    assert_false(session.messages[0].transaction.untried);
    check_delivered(1, 0);
}

/* With nobody to give it to, no message is sent: a dot alone where the server waits, RSET where it does not. */
static void test_all_recipients_refused(void **state)
{
    (void)state;
    add_two();
    session.chain = true;
    PLAY(check_first_failed_second_delivered, PIPELINED, "C:" ENVELOPE(1),
         "S:250 ok\r\n550 5.1.1 unknown\r\n354 go on anyway\r\n", "C:.\r\n" ENVELOPE(2),
         "S:554 no recipients\r\n" GO_AHEAD, "C:" BODY ".\r\n", "S:250 ok\r\n", BYE);
    PLAY(check_first_failed_second_delivered, PIPELINED, "C:" ENVELOPE(1),
         "S:250 ok\r\n550 5.1.1 unknown\r\n554 no recipients\r\n", "C:RSET\r\n" ENVELOPE(2), "S:250 reset\r\n" GO_AHEAD,
         "C:" BODY ".\r\n", "S:250 ok\r\n", BYE);
    PLAY(check_first_failed_second_delivered, PLAIN, "C:MAIL FROM:<s1@a.test>\r\n", "S:250 ok\r\n",
         "C:RCPT TO:<r1@b.test>\r\n", "S:550 5.1.1 unknown\r\n", "C:RSET\r\n", "S:250 reset\r\n",
         "C:MAIL FROM:<s2@a.test>\r\n", "S:250 ok\r\n", "C:RCPT TO:<r2@b.test>\r\n", "S:250 ok\r\n", "C:DATA\r\n",
         "S:354 go\r\n", "C:" BODY ".\r\n", "S:250 ok\r\n", BYE);
}

/* MAIL's refusal is every recipient's, and leaves nothing to reset. What follows it in the pipeline is only read. */
static void test_mail_refused(void **state)
{
    (void)state;
    add_two();
    PLAY(check_first_failed_second_delivered, PIPELINED, "C:" ENVELOPE(1),
         "S:550 5.1.1 unknown\r\n503 no mail\r\n503 no mail\r\n", "C:" ENVELOPE(2), "S:" GO_AHEAD, "C:" BODY ".\r\n",
         "S:250 ok\r\n", BYE);
    PLAY(check_first_failed_second_delivered, PIPELINED, "C:" ENVELOPE(1),
         "S:550 5.1.1 unknown\r\n250 fine\r\n354 go\r\n", "C:.\r\n", "S:250 nobody got it\r\n", "C:" ENVELOPE(2),
         "S:" GO_AHEAD, "C:" BODY ".\r\n", "S:250 ok\r\n", BYE);
    PLAY(check_first_failed_second_delivered, PLAIN, "C:MAIL FROM:<s1@a.test>\r\n", "S:550 5.1.1 unknown\r\n",
         "C:MAIL FROM:<s2@a.test>\r\n", "S:250 ok\r\n", "C:RCPT TO:<r2@b.test>\r\n", "S:250 ok\r\n", "C:DATA\r\n",
         "S:354 go\r\n", "C:" BODY ".\r\n", "S:250 ok\r\n", BYE);
}

static void check_data_refused(void)
{
    assert_true(session.usable);
    check_deferred(0, 0);
    check_result(0, 0, 451, "4.3.0", "later");
    check_delivered(1, 0);
}

static void test_data_refused(void **state)
{
    (void)state;
    add_two();
    PLAY(check_data_refused, PIPELINED, "C:" ENVELOPE(1), "S:250 ok\r\n250 ok\r\n451 4.3.0 later\r\n",
         "C:RSET\r\n" ENVELOPE(2), "S:250 reset\r\n" GO_AHEAD, "C:" BODY ".\r\n", "S:250 ok\r\n", BYE);
}

static void check_end_refused(void)
{
    assert_true(session.usable);
    check_failed(0, 0);
    check_result(0, 0, 599, "5.0.0", "599 strange");
    check_delivered(1, 0);
    check_result(1, 0, 299, "2.0.0", "299");
}

/* The reply to the dot decides, and of a code that nobody knows the first digit (RFC 5321 4.2). */
static void test_end_refused(void **state)
{
    (void)state;
    add_two();
    session.chain = true;
    PLAY(check_end_refused, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "C:" BODY ".\r\n" ENVELOPE(2),
         "S:599 strange\r\n" GO_AHEAD, "C:" BODY ".\r\n", "S:299\r\n", BYE);
}

/* ---- bounds ---- */

static void check_hundred(void)
{
    assert_true(session.usable);
    for (size_t i = 0; i < RECIPIENTS_MAX; i++)
        check_delivered(0, i);
}

static void test_hundred_recipients(void **state)
{
    static char envelope[16384], replies[8192], addresses[RECIPIENTS_MAX][32];
    struct message *message = add("s@a.test", BODY, "r0@b.test");
    int length = snprintf(envelope, sizeof(envelope), "C:MAIL FROM:<s@a.test>\r\nRCPT TO:<r0@b.test>\r\n");
    int reply_length = snprintf(replies, sizeof(replies), "S:250 ok\r\n250 ok\r\n");

    (void)state;
    for (size_t i = 1; i < RECIPIENTS_MAX; i++) {
        snprintf(addresses[i], sizeof(addresses[i]), "r%zu@b.test", i);
        add_recipient(message, addresses[i]);
        length += snprintf(envelope + length, sizeof(envelope) - (size_t)length, "RCPT TO:<%s>\r\n", addresses[i]);
        reply_length += snprintf(replies + reply_length, sizeof(replies) - (size_t)reply_length, "250 ok\r\n");
    }
    snprintf(envelope + length, sizeof(envelope) - (size_t)length, "DATA\r\n");
    snprintf(replies + reply_length, sizeof(replies) - (size_t)reply_length, "354 go\r\n");
    PLAY(check_hundred, PIPELINED, envelope, replies, "C:" BODY ".\r\n", "S:250 ok\r\n", BYE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_chains_envelopes, set_up),
        cmocka_unit_test_setup(test_reuses_connection, set_up),
        cmocka_unit_test_setup(test_goes_step_by_step, set_up),
        cmocka_unit_test_setup(test_falls_back_to_helo, set_up),
        cmocka_unit_test_setup(test_sends_parameters_when_offered, set_up),
        cmocka_unit_test_setup(test_sends_no_parameters_unless_offered, set_up),
        cmocka_unit_test_setup(test_stuffs_dots, set_up),
        cmocka_unit_test_setup(test_sends_empty_body, set_up),
        cmocka_unit_test_setup(test_refused_greetings, set_up),
        cmocka_unit_test_setup(test_refuses_what_does_not_fit, set_up),
        cmocka_unit_test_setup(test_refuses_chained, set_up),
        cmocka_unit_test_setup(test_size_without_limit, set_up),
        cmocka_unit_test_setup(test_refuses_line_breaks, set_up),
        cmocka_unit_test_setup(test_results_by_recipient, set_up),
        cmocka_unit_test_setup(test_all_recipients_refused, set_up),
        cmocka_unit_test_setup(test_mail_refused, set_up),
        cmocka_unit_test_setup(test_data_refused, set_up),
        cmocka_unit_test_setup(test_end_refused, set_up),
        cmocka_unit_test_setup(test_hundred_recipients, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
