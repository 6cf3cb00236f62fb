/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that end where they should not, servers that are out of step, bodies that can't be read. What breaks
 * here sends mail twice, delivers half a message, or takes one message's reply for another's.
 */
#include "client_fixture.h"

/* ---- connections that end ---- */

static void check_untried(void)
{
    assert_false(session.usable);
    check_deferred(0, 0);
    assert_true(RESULT(0, 0)->text[0] != '\0');
    assert_true(session.messages[0].transaction.untried);
    assert_int_equal(session.finished, 1);
}

static void check_uncertain(void)
{
    assert_false(session.usable);
    check_deferred(0, 0);
    check_result(0, 0, 0, "4.4.2", "end of the message");
    assert_false(session.messages[0].transaction.untried);
}

static void check_chained_untried(void)
{
    check_uncertain();
    check_deferred(1, 0);
    assert_true(session.messages[1].transaction.untried);
    assert_int_equal(session.finished, 2);
}

/* Before the dot the server can't have the message; after it nobody knows. Untried messages go at once to another
 * connection, uncertain ones wait, since they may arrive twice. */
static void test_connection_lost(void **state)
{
    (void)state;
    add_two();
    PLAY(check_untried, PIPELINED);
    PLAY(check_untried, PIPELINED, "C:" ENVELOPE(1));
    PLAY(check_untried, PIPELINED, "C:" ENVELOPE(1), "S:250 ok\r\n");
    PLAY(check_untried, PIPELINED, "C:" ENVELOPE(1), "S:250 ok\r\n250 ok\r\n");
    PLAY(check_untried, PIPELINED, "C:" ENVELOPE(1), "S:250 ok\r\n250 ok\r\n35");
    PLAY(check_untried, PLAIN, "C:MAIL FROM:<s1@a.test>\r\n");
    PLAY(check_untried, PLAIN, "C:MAIL FROM:<s1@a.test>\r\n", "S:250 ok\r\n", "C:RCPT TO:<r1@b.test>\r\n");
    PLAY(check_untried, PLAIN, "C:MAIL FROM:<s1@a.test>\r\n", "S:250 ok\r\n", "C:RCPT TO:<r1@b.test>\r\n",
         "S:250 ok\r\n", "C:DATA\r\n");
    PLAY(check_uncertain, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "C:" BODY ".\r\n");
    PLAY(check_uncertain, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "C:" BODY ".\r\n", "S:25");
    session.chain = true;
    PLAY(check_chained_untried, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "C:" BODY ".\r\n" ENVELOPE(2));
}

static void check_delivered_then_untried(void)
{
    assert_false(session.usable);
    check_delivered(0, 0);
    check_deferred(1, 0);
    assert_true(session.messages[1].transaction.untried);
}

/* Servers that close after a message, or while the connection was idle. */
static void test_connection_lost_between_messages(void **state)
{
    (void)state;
    add_two();
    PLAY(check_delivered_then_untried, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "C:" BODY ".\r\n", "S:250 ok\r\n");
    session.chain = true;
    PLAY(check_delivered_then_untried, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "C:" BODY ".\r\n" ENVELOPE(2),
         "S:250 ok\r\n");
    PLAY(check_delivered_then_untried, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "C:" BODY ".\r\n" ENVELOPE(2),
         "S:250 ok\r\n421 4.7.0 enough for today\r\n", "EOF");
}

static void check_partly_refused_untried(void)
{
    check_failed(0, 0);
    check_deferred(0, 1);
    assert_true(session.messages[0].transaction.untried);
}

static void check_refused_not_untried(void)
{
    check_failed(0, 0);
    assert_false(session.messages[0].transaction.untried);
}

/* What the server has said of a recipient stays said. */
static void test_connection_lost_after_refusal(void **state)
{
    struct message *message = add("s1@a.test", BODY, "r1@b.test");

    (void)state;
    PLAY(check_refused_not_untried, PIPELINED, "C:" ENVELOPE(1), "S:250 ok\r\n550 no\r\n");
    add_recipient(message, "r2@b.test");
    PLAY(check_partly_refused_untried, PIPELINED,
         "C:MAIL FROM:<s1@a.test>\r\nRCPT TO:<r1@b.test>\r\nRCPT TO:<r2@b.test>\r\nDATA\r\n", "S:250 ok\r\n550 no\r\n");
}

static void check_421_untried(void)
{
    check_untried();
    check_result(0, 0, 421, "4.3.2", "shutting down");
    assert_true(session.should_back_off);
}

static void check_421_at_end(void)
{
    assert_false(session.usable);
    check_deferred(0, 0);
    check_result(0, 0, 421, "4.3.2", "shutting down");
    assert_false(session.messages[0].transaction.untried);
}

#define CLOSING "421 4.3.2 shutting down\r\n"

static void test_421_anywhere(void **state)
{
    (void)state;
    add_two();
    PLAY(check_421_untried, PIPELINED, "C:" ENVELOPE(1), "S:" CLOSING, "EOF");
    PLAY(check_421_untried, PIPELINED, "C:" ENVELOPE(1), "S:250 ok\r\n" CLOSING, "EOF");
    PLAY(check_421_untried, PIPELINED, "C:" ENVELOPE(1), "S:250 ok\r\n250 ok\r\n" CLOSING, "EOF");
    PLAY(check_421_at_end, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "C:" BODY ".\r\n", "S:" CLOSING, "EOF");
}

static void check_timeout(void)
{
    assert_false(session.usable);
    check_deferred(0, 0);
    check_result(0, 0, 0, "4.4.2", "Timeout");
    assert_false(session.messages[0].transaction.untried);
    assert_true(session.should_back_off);
}

/* A server that hangs: its message waits for its next attempt, the one chained behind it goes elsewhere at once. */
static void test_timeouts(void **state)
{
    (void)state;
    add_two();
    session.options.command_timeout_ms = session.options.data_timeout_ms = 200;
    PLAY(check_timeout, PIPELINED, "C:" ENVELOPE(1), "EOF");
    PLAY(check_timeout, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "C:" BODY ".\r\n", "EOF");
    session.chain = true;
    PLAY(check_chained_untried, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "C:" BODY ".\r\n" ENVELOPE(2), "EOF");
}

/* ---- servers that are out of step ---- */

static void check_early_end(void)
{
    check_untried();
    assert_string_equal(RESULT(0, 0)->status, "4.5.0");
}

static void check_confused_end(void)
{
    assert_false(session.usable);
    check_deferred(0, 0);
    assert_string_equal(RESULT(0, 0)->status, "4.5.0");
    assert_false(session.messages[0].transaction.untried);
}

/* A reply that can't stand where it stands: going on would take one message's reply for another's. */
static void test_out_of_step(void **state)
{
    (void)state;
    add_two();
    PLAY(check_early_end, PIPELINED, "C:" ENVELOPE(1), "S:354 go\r\n", "EOF");
    PLAY(check_early_end, PIPELINED, "C:" ENVELOPE(1), "S:250 ok\r\n354 go\r\n", "EOF");
    PLAY(check_early_end, PIPELINED, "C:" ENVELOPE(1), "S:250 ok\r\n250 ok\r\n250 ok\r\n", "EOF");
    PLAY(check_early_end, PIPELINED, "C:" ENVELOPE(1), "S:what?\r\n", "EOF");
    PLAY(check_early_end, PIPELINED, "C:" ENVELOPE(1), "S:199 hm\r\n", "EOF");
    PLAY(check_confused_end, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "C:" BODY ".\r\n", "S:354 go\r\n", "EOF");
    PLAY(check_confused_end, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "C:" BODY ".\r\n", "S:250-a\r\n550 b\r\n",
         "EOF");
}

/* Acceptance before the end of the message, in one packet with the 354: not of this message. */
static void test_accepted_too_early(void **state)
{
    (void)state;
    add_two();
    play_once((const char *const[]){PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD "250 2.6.0 have it\r\n", "EOF", NULL},
              false);
    check_early_end();
}

static void check_delivered_then_out_of_step(void)
{
    assert_false(session.usable);
    check_delivered(0, 0);
    check_deferred(1, 0);
    assert_string_equal(RESULT(1, 0)->status, "4.5.0");
    assert_true(session.messages[1].transaction.untried);
}

/* One reply too many after a message: it is not the next one's. */
static void test_reply_too_many(void **state)
{
    (void)state;
    add_two();
    play_once((const char *const[]){PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "C:" BODY ".\r\n",
                                    "S:250 ok\r\n250 again\r\n", "EOF", NULL},
              false);
    check_delivered_then_out_of_step();
}

#define BIG_BYTES (8u << 20)

static void check_refused_early(void)
{
    assert_false(session.usable);
    check_failed(0, 0);
    check_result(0, 0, 552, "5.3.4", "too big");
    assert_false(session.messages[0].transaction.untried);
}

/* A server that refuses a big message in its middle and closes: its refusal counts, and the rest is not sent. */
static void test_refused_in_the_middle(void **state)
{
    char *body = malloc(BIG_BYTES + 1);
    struct message *message;

    (void)state;
    memset(body, 'x', BIG_BYTES);
    for (size_t i = 100; i < BIG_BYTES; i += 100)
        memcpy(body + i, "\r\n", 2);
    body[BIG_BYTES] = '\0';
    message = add("s1@a.test", body, "r1@b.test");
    assert_int_equal(message->body_length, BIG_BYTES);
    play_once((const char *const[]){PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "C:xxxxxxxxxx",
                                    "S:552 5.3.4 too big\r\n",
                                    /* what is in the socket already */ "REST", NULL},
              false);
    check_refused_early();
    assert_true(message->offset < BIG_BYTES);
    free(body);
}

/* ---- bodies that can't be read ---- */

static void check_unreadable(void)
{
    assert_false(session.usable);
    check_deferred(0, 0);
    check_result(0, 0, 0, "4.3.0", "can't be read");
    assert_false(session.messages[0].transaction.untried);
    assert_int_equal(session.finished, 1);
}

static void check_damaged(void)
{
    assert_false(session.usable);
    check_failed(0, 0);
    check_result(0, 0, 0, "5.3.0", "damaged");
}

/* Half a message must never end with a dot: the server would take it for a whole one. */
static void test_never_ends_half_a_message(void **state)
{
    (void)state;
    add_two();
    session.chain = true;
    session.messages[0].error = -EIO;
    PLAY(check_unreadable, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "EOF");
    session.messages[0].error = -EILSEQ;
    PLAY(check_damaged, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "EOF");
    session.messages[0].error = 0;
    session.messages[0].transaction.body_bytes++;
    PLAY(check_unreadable, PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, "EOF");
}

/* The same after a part of it has gone out. */
static void test_never_ends_half_a_big_message(void **state)
{
    char body[40001];
    char expected[40001 + 2];
    struct message *message;

    (void)state;
    memset(body, 'x', sizeof(body) - 1);
    body[sizeof(body) - 1] = '\0';
    message = add("s1@a.test", body, "r1@b.test");
    message->error = -EIO;
    message->error_at = 32768;
    /* Two full buffers have been sent by then, or less; nothing but the body's own bytes, and then the end. */
    snprintf(expected, sizeof(expected), "C:%.*s", 32768 - 16384, body);
    play_once((const char *const[]){PIPELINED, "C:" ENVELOPE(1), "S:" GO_AHEAD, expected, "REST x", NULL}, false);
    check_unreadable();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_connection_lost, set_up),
        cmocka_unit_test_setup(test_connection_lost_between_messages, set_up),
        cmocka_unit_test_setup(test_connection_lost_after_refusal, set_up),
        cmocka_unit_test_setup(test_421_anywhere, set_up),
        cmocka_unit_test_setup(test_timeouts, set_up),
        cmocka_unit_test_setup(test_out_of_step, set_up),
        cmocka_unit_test_setup(test_accepted_too_early, set_up),
        cmocka_unit_test_setup(test_reply_too_many, set_up),
        cmocka_unit_test_setup(test_refused_in_the_middle, set_up),
        cmocka_unit_test_setup(test_never_ends_half_a_message, set_up),
        cmocka_unit_test_setup(test_never_ends_half_a_big_message, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
