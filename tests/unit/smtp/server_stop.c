/* SPDX-License-Identifier: Apache-2.0 */
/* The end of the daemon, as a session sees it: who is in the middle of a message may finish it, the others are told to come back. */
#include "smtp/server.h"

#include "server_fixture.h"

#define STOPPED "421 4.3.2 mx.contoso.test Service shutting down\n"

static void check_stop(const char *before, const char *replies_before, const char *after, const char *replies_after)
{
    struct session session;
    char replies[1024];

    session_init(&session);
    session_connect(&session);
    session_begin(&session);
    session_await_lines(&session, 1);
    session_send(&session, str_from_cstr(before), 1);
    session_turn(&session);
    CHECK(!session_has_ended(&session));
    smtp_server_stop(session.server);
    session_send(&session, str_from_cstr(after), 1);
    while (!session_has_ended(&session))
        session_turn(&session);
    session_finish(&session);
    snprintf(replies, sizeof(replies), "%s%s" STOPPED, replies_before, replies_after);
    check_text("the replies", session_replies(&session), replies, 1);
    session_release(&session);
}

static void scenario_stop(void *argument)
{
    (void)argument;
    check_stop("", "", "", "");
    check_stop("HELO h\r\n", "250 mx.contoso.test Hello [127.0.0.1]\n", "", "");
    check_stop("NOO", "", "", "");
    /* A message under way is taken to its end, and answered. */
    check_stop(OPEN, OPENED, "DATA\r\nx\r\n.\r\nMAIL FROM:<a@example.org>\r\n", START TAKEN(1));
    check_stop(OPEN "DATA\r\nx", OPENED START, "y\r\n.\r\n", TAKEN(1));
    check_stop(OPEN "BDAT 1\r\nx", OPENED "250 2.0.0 1 octets received\n", "BDAT 1 LAST\r\ny", TAKEN(1));
    check_stop(OPEN, OPENED, "RSET\r\n", "250 2.0.0 Resetting\n");
}

/* A restart does not wait for those who were to wait themselves. */
static void scenario_stop_in_the_tarpit(void *argument)
{
    struct session session;

    (void)argument;
    session_init(&session);
    session.settings.tarpit_ms = 10 * HARNESS_PATIENCE_MS;
    session_connect(&session);
    session_begin(&session);
    session_await_lines(&session, 1);
    session_send(&session, STR("FOO\r\n"), SIZE_MAX);
    session_turn(&session);
    CHECK(!session_has_ended(&session));
    smtp_server_stop(session.server);
    session_finish(&session);
    check_text("the replies", session_replies(&session), "500 5.3.3 Unrecognized command\n" STOPPED, SIZE_MAX);
    session_release(&session);
}

static void test_stop_in_the_tarpit(void **state)
{
    (void)state;
    harness_run(scenario_stop_in_the_tarpit, NULL);
}

static void test_stop(void **state)
{
    (void)state;
    harness_run(scenario_stop, NULL);
}

static void scenario_stop_meets_command(void *argument)
{
    struct session session;

    (void)argument;
    session_init(&session);
    session_connect(&session);
    session_begin(&session);
    session_await_lines(&session, 1);
    session_send(&session, STR("HELO h\r\n"), 1);
    session_await_lines(&session, 2);
    CHECK(send(session.fd, "MAIL FROM:<a@example.org>\r\n", 27, MSG_NOSIGNAL) == 27);
    smtp_server_stop(session.server);
    session_finish(&session);
    check_text("the replies", session_replies(&session), "250 mx.contoso.test Hello [127.0.0.1]\n" STOPPED, SIZE_MAX);
    check_text("the events", buf_str(&session.events), "helo 'h'\n", SIZE_MAX);
    session_release(&session);
}

/* A transaction that begins together with the stop would be cut off in the middle of its commit. */
static void test_stop_together_with_a_command(void **state)
{
    (void)state;
    harness_run(scenario_stop_meets_command, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_stop_in_the_tarpit),
        cmocka_unit_test(test_stop_together_with_a_command),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
