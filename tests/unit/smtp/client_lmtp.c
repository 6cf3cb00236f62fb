/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LMTP: a reply for each recipient behind the dot. What breaks here takes one recipient's reply for another's, or the next message's for a delivery: mail
 * that nobody has any more, or that somebody has twice.
 */
#include "client_fixture.h"

#define LHLO "S:220 store.test LMTP\r\n", "C:LHLO me.test\r\n"
#define LMTP LHLO, "S:250-store.test\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES\r\n"
#define ENVELOPE3                                                                                                      \
    "MAIL FROM:<s1@a.test>\r\nRCPT TO:<r1@b.test>\r\nRCPT TO:<r2@b.test>\r\nRCPT TO:<r3@b.test>\r\nDATA\r\n"
#define TAKEN3 "250 2.1.0 ok\r\n250 2.1.5 ok\r\n250 2.1.5 ok\r\n250 2.1.5 ok\r\n354 go\r\n"

static int set_up_lmtp(void **state)
{
    set_up(state);
    session.options.is_lmtp = true;
    add_two();
    session.message_count = 1; /* the second where a test wants it */
    add_recipient(&session.messages[0], "r2@b.test");
    add_recipient(&session.messages[0], "r3@b.test");
    return 0;
}

static void check_each(void)
{
    assert_true(session.usable);
    check_delivered(0, 0);
    check_result(0, 1, 452, "4.2.2", "full");
    check_deferred(0, 1);
    check_failed(0, 2);
}

static void test_reply_for_each(void **state)
{
    (void)state;
    PLAY(check_each, LMTP, "C:" ENVELOPE3, "S:" TAKEN3, "C:" BODY ".\r\n",
         "S:250 2.0.0 r1\r\n452 4.2.2 full\r\n550 5.2.1 closed\r\n", BYE);
    PLAY(check_each, LHLO, "S:250 store.test\r\n", "C:MAIL FROM:<s1@a.test>\r\n", "S:250 ok\r\n",
         "C:RCPT TO:<r1@b.test>\r\n", "S:250 ok\r\n", "C:RCPT TO:<r2@b.test>\r\n", "S:250 ok\r\n",
         "C:RCPT TO:<r3@b.test>\r\n", "S:250 ok\r\n", "C:DATA\r\n", "S:354 go\r\n", "C:" BODY ".\r\n",
         "S:250 2.0.0 r1\r\n452 4.2.2 full\r\n550 5.2.1 closed\r\n", BYE);
}

static void check_first_refused(void)
{
    assert_true(session.usable);
    check_failed(0, 0);
    check_result(0, 0, 550, "5.1.1", "nobody");
    check_deferred(0, 1);
    check_delivered(0, 2);
}

/* Who was refused has no reply behind the dot. */
static void test_refused_has_no_reply(void **state)
{
    (void)state;
    PLAY(check_first_refused, LMTP, "C:" ENVELOPE3, "S:250 ok\r\n550 5.1.1 nobody\r\n250 ok\r\n250 ok\r\n354 go\r\n",
         "C:" BODY ".\r\n", "S:450 4.2.0 busy\r\n250 2.0.0 r3\r\n", BYE);
}

static void check_rest_deferred(void)
{
    assert_false(session.usable);
    check_delivered(0, 0);
    check_deferred(0, 1);
    check_deferred(0, 2);
    assert_false(session.messages[0].transaction.untried);
}

/* A connection that ends among the replies: who has one has the message, and keeps that result. */
static void test_ends_among_replies(void **state)
{
    (void)state;
    PLAY(check_rest_deferred, LMTP, "C:" ENVELOPE3, "S:" TAKEN3, "C:" BODY ".\r\n", "S:250 2.0.0 r1\r\n");
    PLAY(check_rest_deferred, LMTP, "C:" ENVELOPE3, "S:" TAKEN3, "C:" BODY ".\r\n", "S:250 2.0.0 r1\r\n25");
    PLAY(check_rest_deferred, LMTP, "C:" ENVELOPE3, "S:" TAKEN3, "C:" BODY ".\r\n",
         "S:250 2.0.0 r1\r\n421 4.3.2 going down\r\n", "EOF");
    PLAY(check_rest_deferred, LMTP, "C:" ENVELOPE3, "S:" TAKEN3, "C:" BODY ".\r\n",
         "S:250 2.0.0 r1\r\n354 once more\r\n", "EOF");
}

static void check_fewer(void)
{
    check_rest_deferred();
    check_result(0, 1, 0, "4.4.2", "Timeout");
    assert_int_equal(session.finished, 1); /* the next one was not begun */
}

/* With the next envelope chained behind the dot its replies would stand for the missing ones: nothing is sent before they are there. */
static void test_fewer_replies(void **state)
{
    (void)state;
    session.options.data_timeout_ms = 200;
    session.chain = true;
    session.message_count = 2;
    PLAY(check_fewer, LMTP, "C:" ENVELOPE3, "S:" TAKEN3, "C:" BODY ".\r\n", "S:250 2.0.0 r1\r\n", "EOF");
}

static void check_for_nobody(void)
{
    assert_false(session.usable);
    for (size_t i = 0; i < 3; i++)
        check_failed(0, i);
}

static void check_all_refused(void)
{
    assert_true(session.usable);
    for (size_t i = 0; i < 3; i++)
        check_failed(0, i);
}

#define REFUSED3 "250 ok\r\n550 no\r\n550 no\r\n550 no\r\n"

/* RFC 2033 4.2: DATA is refused then. How many replies there are to a message for nobody, nobody knows. */
static void test_nobody(void **state)
{
    (void)state;
    PLAY(check_all_refused, LMTP, "C:" ENVELOPE3, "S:" REFUSED3 "503 5.5.1 nobody\r\n", BYE);
    PLAY(check_for_nobody, LMTP, "C:" ENVELOPE3, "S:" REFUSED3 "354 go\r\n", "EOF");
}

static void check_not_opened(void)
{
    assert_false(session.opened);
    assert_int_equal(session.result.code, 500);
}

/* A server that speaks SMTP only is no place for mailboxes: there is no way back to HELO. */
static void test_no_lhlo(void **state)
{
    (void)state;
    PLAY(check_not_opened, LHLO, "S:500 5.5.1 what\r\n", BYE);
}

#define TEST(name) cmocka_unit_test_setup(name, set_up_lmtp)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reply_for_each),
        TEST(test_refused_has_no_reply),
        TEST(test_ends_among_replies),
        TEST(test_fewer_replies),
        TEST(test_nobody),
        TEST(test_no_lhlo),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
