/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AUTH on the wire, byte by byte (RFC 4954; relay-behaviour.md section 4): mail programs know these replies, and one that takes a refusal of today for one of
 * for ever throws the password away. The mechanisms are made up: OK succeeds at once, ASK asks twice and wants "right", LONG asks until it is cancelled, LATER
 * and SHUT answer 454 and 421, SAFE wants TLS.
 */
#include "server_fixture.h"
#include "smtp/base64.h"
#include "smtp/sasl.h"

#define HELLO(auth)                                                                                                    \
    "250-mx.contoso.test Hello [127.0.0.1]\n250-PIPELINING\n250-SIZE 1000\n250-8BITMIME\n250-SMTPUTF8\n"               \
    "250-ENHANCEDSTATUSCODES\n250-DSN\n250-CHUNKING\n250 AUTH " auth "\n"
#define EHLO            HELLO("OK ASK LONG LATER SHUT SAFE")
#define SUCCESS         "235 2.7.0 Authentication successful\n"
#define FAILURE         "535 5.7.8 Authentication failed\n"
#define UNDECODED       "501 5.5.2 Cannot decode response\n"
#define CANCELLED       "501 5.7.0 Authentication cancelled\n"
#define TOO_MANY_ERRORS "421 4.7.0 mx.contoso.test Too many errors\n"

static const char *offered; /* what auth_mechanisms says */

static const char *hook_auth_mechanisms(void *context)
{
    (void)context;
    return offered;
}

static enum smtp_auth_status give_up(struct smtp_reply *reply, int code, const char *enhanced, const char *text)
{
    smtp_reply_set(reply, code, enhanced, "%s", text);
    return code == 421 ? SMTP_AUTH_CLOSE : SMTP_AUTH_FAILED;
}

static enum smtp_auth_status succeed(struct smtp_reply *reply)
{
    smtp_reply_set(reply, 235, "2.7.0", "Authentication successful");
    return SMTP_AUTH_DONE;
}

static enum smtp_auth_status hook_auth_begin(void *context, struct str mechanism, struct str initial,
                                             struct buf *challenge, struct smtp_reply *reply)
{
    struct session *session = context;

    CHECK(challenge->length == 0);
    if (initial.data)
        buf_printf(&session->events, "begin %.*s '%.*s'\n", STR_ARG(mechanism), STR_ARG(initial));
    else
        buf_printf(&session->events, "begin %.*s\n", STR_ARG(mechanism));
    if (str_equal_nocase(mechanism, STR("OK")))
        return succeed(reply);
    if (str_equal(mechanism, STR("ASK")))
        return buf_append_str(challenge, STR("first?")) ? SMTP_AUTH_CONTINUE : SMTP_AUTH_FAILED;
    if (str_equal(mechanism, STR("LONG")))
        return SMTP_AUTH_CONTINUE;
    if (str_equal(mechanism, STR("LATER")))
        return give_up(reply, 454, "4.7.0", "Temporary authentication failure");
    if (str_equal(mechanism, STR("SHUT")))
        return give_up(reply, 421, "4.7.0", "mx.contoso.test Too many failed authentications, try again later");
    if (str_equal(mechanism, STR("SAFE")))
        return give_up(reply, 538, "5.7.11", "Encryption required for requested authentication mechanism");
    return give_up(reply, 504, "5.5.4", "Unrecognized authentication type");
}

static enum smtp_auth_status hook_auth_continue(void *context, struct str response, struct buf *challenge,
                                                struct smtp_reply *reply)
{
    struct session *session = context;
    bool is_first = str_equal(response, STR("first!"));

    CHECK(challenge->length == 0 && response.data);
    if (response.length > 1000)
        buf_printf(&session->events, "continue %zu\n", response.length);
    else
        buf_printf(&session->events, "continue '%.*s'\n", STR_ARG(response));
    if (response.length == 0 || response.length > 1000)
        return SMTP_AUTH_CONTINUE;
    if (is_first)
        return buf_append_str(challenge, STR("second?")) ? SMTP_AUTH_CONTINUE : SMTP_AUTH_FAILED;
    return str_equal(response, STR("right")) ? succeed(reply) : give_up(reply, 535, "5.7.8", "Authentication failed");
}

static void hook_auth_abort(void *context)
{
    struct session *session = context;

    buf_append_str(&session->events, STR("abort\n"));
}

static void check_limited(uint64_t errors_max, struct str input, const char *replies, const char *events)
{
    static const size_t steps[] = {SIZE_MAX, 1, 7};
    struct smtp_server_hooks hooks = session_hooks;
    struct session session;

    hooks.auth_mechanisms = hook_auth_mechanisms;
    hooks.auth_begin = hook_auth_begin;
    hooks.auth_continue = hook_auth_continue;
    hooks.auth_abort = hook_auth_abort;
    session_init(&session);
    session.hooks = &hooks;
    session.settings.errors_max = errors_max;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        session_play(&session, input, steps[i]);
        check_text("the replies", session_replies(&session), replies, steps[i]);
        check_text("the events", buf_str(&session.events), events, steps[i]);
    }
    session_release(&session);
}

static void check(struct str input, const char *replies, const char *events)
{
    check_limited(10, input, replies, events);
}

static void run(void (*scenario)(void *))
{
    offered = "OK ASK LONG LATER SHUT SAFE";
    harness_run(scenario, NULL);
}

static void scenario_success(void *argument)
{
    (void)argument;
    check(STR("EHLO c\r\nAUTH OK\r\n"), EHLO SUCCESS, "ehlo 'c'\nbegin OK\n");
    check(STR("EHLO c\r\nauth ok Zm9v\r\n"), EHLO SUCCESS, "ehlo 'c'\nbegin ok 'foo'\n");
    check(STR("EHLO c\r\nAUTH  OK   Zm9v \r\n"), EHLO SUCCESS, "ehlo 'c'\nbegin OK 'foo'\n");
    /* An empty initial response is not the same as none. */
    check(STR("EHLO c\r\nAUTH OK =\r\n"), EHLO SUCCESS, "ehlo 'c'\nbegin OK ''\n");
    check(STR("HELO c\r\nAUTH OK\r\n"), "250 mx.contoso.test Hello [127.0.0.1]\n" SUCCESS, "helo 'c'\nbegin OK\n");
    check(STR("EHLO c\r\nAUTH ASK\r\nZmlyc3Qh\r\ncmlnaHQ=\r\n"), EHLO "334 Zmlyc3Q/\n334 c2Vjb25kPw==\n" SUCCESS,
          "ehlo 'c'\nbegin ASK\ncontinue 'first!'\ncontinue 'right'\n");
    check(STR("EHLO c\r\nAUTH LONG\r\n\r\n\r\ncmlnaHQ=\r\n"), EHLO "334 \n334 \n334 \n" SUCCESS,
          "ehlo 'c'\nbegin LONG\ncontinue ''\ncontinue ''\ncontinue 'right'\n");
    /* What is pipelined behind it is taken up afterwards. */
    check(STR("EHLO c\r\nAUTH OK\r\nMAIL FROM:<a@example.org>\r\nRSET\r\nNOOP\r\n"),
          EHLO SUCCESS "250 2.1.0 a@example.org....Sender OK\n250 2.0.0 Resetting\n250 2.0.0 OK\n",
          "ehlo 'c'\nbegin OK\nmail a@example.org\nreset\n");
}

static void test_success(void **state)
{
    (void)state;
    run(scenario_success);
}

static void scenario_failure(void *argument)
{
    (void)argument;
    check(STR("EHLO c\r\nAUTH ASK\r\nd3Jvbmc=\r\nNOOP\r\n"), EHLO "334 Zmlyc3Q/\n" FAILURE "250 2.0.0 OK\n",
          "ehlo 'c'\nbegin ASK\ncontinue 'wrong'\n");
    check(STR("EHLO c\r\nAUTH ASK\r\nd3Jvbmc=\r\nAUTH OK\r\n"), EHLO "334 Zmlyc3Q/\n" FAILURE SUCCESS,
          "ehlo 'c'\nbegin ASK\ncontinue 'wrong'\nbegin OK\n");
    check(STR("EHLO c\r\nAUTH LATER\r\nAUTH SAFE\r\nAUTH NTLM\r\n"),
          EHLO "454 4.7.0 Temporary authentication failure\n"
               "538 5.7.11 Encryption required for requested authentication mechanism\n"
               "504 5.5.4 Unrecognized authentication type\n",
          "ehlo 'c'\nbegin LATER\nbegin SAFE\nbegin NTLM\n");
    check(STR("EHLO c\r\nAUTH SHUT\r\nNOOP\r\n"),
          EHLO "421 4.7.0 mx.contoso.test Too many failed authentications, try again later\n",
          "ehlo 'c'\nbegin SHUT\n");
}

static void test_failure(void **state)
{
    (void)state;
    run(scenario_failure);
}

static void scenario_ends(void *argument)
{
    (void)argument;
    check(STR("EHLO c\r\nAUTH ASK\r\n*\r\nNOOP\r\n"), EHLO "334 Zmlyc3Q/\n" CANCELLED "250 2.0.0 OK\n",
          "ehlo 'c'\nbegin ASK\nabort\n");
    check(STR("EHLO c\r\nAUTH ASK\r\nZmlyc3Qh\r\n*\r\nAUTH OK\r\n"),
          EHLO "334 Zmlyc3Q/\n334 c2Vjb25kPw==\n" CANCELLED SUCCESS,
          "ehlo 'c'\nbegin ASK\ncontinue 'first!'\nabort\nbegin OK\n");
    check(STR("EHLO c\r\nAUTH ASK\r\nnot base64\r\nNOOP\r\n"), EHLO "334 Zmlyc3Q/\n" UNDECODED "250 2.0.0 OK\n",
          "ehlo 'c'\nbegin ASK\nabort\n");
    /* "=" is an initial response only. */
    check(STR("EHLO c\r\nAUTH ASK\r\n=\r\n"), EHLO "334 Zmlyc3Q/\n" UNDECODED, "ehlo 'c'\nbegin ASK\nabort\n");
    check(STR("EHLO c\r\nAUTH ASK\r\nZmlyc3Qh\n\r\n"),
          EHLO "334 Zmlyc3Q/\n500 5.5.2 Line must end in CRLF, and have no CR or LF in it\n"
               "500 5.3.3 Unrecognized command\n",
          "ehlo 'c'\nbegin ASK\nabort\n");
    /* The client hangs up. */
    check(STR("EHLO c\r\nAUTH ASK\r\n"), EHLO "334 Zmlyc3Q/\n", "ehlo 'c'\nbegin ASK\nabort\n");
    check(STR("EHLO c\r\nAUTH ASK\r\nZmly"), EHLO "334 Zmlyc3Q/\n", "ehlo 'c'\nbegin ASK\nabort\n");
}

static void test_ends(void **state)
{
    (void)state;
    run(scenario_ends);
}

static void scenario_syntax(void *argument)
{
    (void)argument;
    check(STR("EHLO c\r\nAUTH\r\nAUTH OK Zm9\r\nAUTH OK Zm9v Zm9v\r\nAUTH OK ==\r\nAUTH OK *\r\n"),
          EHLO "501 5.5.4 Wanted: AUTH mechanism [initial-response]\n" UNDECODED UNDECODED UNDECODED UNDECODED,
          "ehlo 'c'\n");
    check(STR("AUTH OK\r\nEHLO c\r\n"), "503 5.5.1 Send hello first\n" EHLO, "ehlo 'c'\n");
    check(STR("EHLO c\r\nMAIL FROM:<>\r\nAUTH OK\r\nRSET\r\nAUTH OK\r\n"),
          EHLO "250 2.1.0 <>....Sender OK\n503 5.5.1 Not within a mail transaction\n250 2.0.0 Resetting\n" SUCCESS,
          "ehlo 'c'\nmail <>\nreset\nbegin OK\n");
    /* Once a session; a new hello changes nothing of it. */
    check(STR("EHLO c\r\nAUTH OK\r\nAUTH OK\r\nEHLO c\r\nAUTH OK\r\n"),
          EHLO SUCCESS
          "503 5.5.1 Already authenticated\n"
          "250-mx.contoso.test Hello [127.0.0.1]\n250-PIPELINING\n250-SIZE 1000\n250-8BITMIME\n"
          "250-SMTPUTF8\n250-ENHANCEDSTATUSCODES\n250-DSN\n250 CHUNKING\n503 5.5.1 Already authenticated\n",
          "ehlo 'c'\nbegin OK\nehlo 'c'\n");
}

static void test_syntax_and_sequence(void **state)
{
    (void)state;
    run(scenario_syntax);
}

static void scenario_not_offered(void *argument)
{
    static const char plain[] = "250-mx.contoso.test Hello [127.0.0.1]\n250-PIPELINING\n250-SIZE 1000\n"
                                "250-8BITMIME\n250-SMTPUTF8\n250-ENHANCEDSTATUSCODES\n250-DSN\n250 CHUNKING\n";
    char replies[1000];

    (void)argument;
    offered = NULL;
    snprintf(replies, sizeof(replies), "502 5.5.1 Command not implemented\n%s502 5.5.1 Command not implemented\n",
             plain);
    check(STR("AUTH OK\r\nEHLO c\r\nAUTH OK\r\n"), replies, "ehlo 'c'\n");
    /* There is AUTH, but nothing that may be used now: not listed, and told why. */
    offered = "";
    snprintf(replies, sizeof(replies), "%s538 5.7.11 Encryption required for requested authentication mechanism\n",
             plain);
    check(STR("EHLO c\r\nAUTH SAFE\r\n"), replies, "ehlo 'c'\nbegin SAFE\n");
}

static void test_not_offered(void **state)
{
    (void)state;
    run(scenario_not_offered);
}

static void scenario_help(void *argument)
{
    (void)argument;
    check(STR("HELP\r\n"),
          "214-2.0.0 This server supports the following commands:\n"
          "214 2.0.0 EHLO HELO AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\n",
          "");
}

static void test_help(void **state)
{
    (void)state;
    run(scenario_help);
}

/* Guessing ends the session; a directory that is down does not. */
static void scenario_errors(void *argument)
{
    (void)argument;
    check_limited(3, STR("EHLO c\r\nAUTH ASK eA==\r\n*\r\nAUTH ASK\r\nd3Jvbmc=\r\nAUTH NTLM\r\nNOOP\r\n"),
                  EHLO "334 Zmlyc3Q/\n" CANCELLED "334 Zmlyc3Q/\n" FAILURE TOO_MANY_ERRORS,
                  "ehlo 'c'\nbegin ASK 'x'\nabort\nbegin ASK\ncontinue 'wrong'\nbegin NTLM\n");
    check_limited(2, STR("EHLO c\r\nAUTH LATER\r\nAUTH LATER\r\nAUTH LATER\r\nNOOP\r\n"),
                  EHLO "454 4.7.0 Temporary authentication failure\n454 4.7.0 Temporary authentication failure\n"
                       "454 4.7.0 Temporary authentication failure\n250 2.0.0 OK\n",
                  "ehlo 'c'\nbegin LATER\nbegin LATER\nbegin LATER\n");
}

static void test_errors_count(void **state)
{
    (void)state;
    run(scenario_errors);
}

/* Appends the base64 of so many octets; `length` of its text. */
static void append_encoded(struct buf *out, size_t octets)
{
    char *data = calloc(1, octets);

    memset(data, 'x', octets);
    CHECK(base64_append(out, str_make(data, octets)));
    free(data);
}

/* 12,288 octets are a line of AUTH, the command's and a response's; one more are not. Other commands have 2,048 as ever. */
static void scenario_lengths(void *argument)
{
    const size_t octets_max = 12288 / 4 * 3;
    struct buf input;

    (void)argument;
    buf_init(&input, 1u << 20);
    buf_append_str(&input, STR("EHLO c\r\nAUTH LONG\r\n"));
    append_encoded(&input, octets_max);
    buf_append_str(&input, STR("\r\ncmlnaHQ=\r\n"));
    check(buf_str(&input), EHLO "334 \n334 \n" SUCCESS, "ehlo 'c'\nbegin LONG\ncontinue 9216\ncontinue 'right'\n");

    buf_clear(&input);
    buf_append_str(&input, STR("EHLO c\r\nAUTH LONG\r\n"));
    append_encoded(&input, octets_max);
    buf_append_str(&input, STR("A\r\nNOOP\r\n"));
    check(buf_str(&input), EHLO "334 \n500 5.5.6 Authentication line too long\n250 2.0.0 OK\n",
          "ehlo 'c'\nbegin LONG\nabort\n");

    buf_clear(&input);
    buf_append_str(&input, STR("EHLO c\r\nAUTH NONE "));
    append_encoded(&input, 3000);
    buf_append_str(&input, STR("\r\n"));
    CHECK(input.length > 4000);
    buf_append_str(&input, STR("NOOP "));
    append_encoded(&input, 1530);
    buf_append_str(&input, STR("a\r\nNOOP "));
    append_encoded(&input, 1530);
    buf_append_str(&input, STR("ab\r\nNOOP "));
    append_encoded(&input, 3000);
    buf_append_str(&input, STR("\r\nAUTH "));
    append_encoded(&input, 9300);
    buf_append_str(&input, STR("\r\nNOOP\r\n"));
    offered = NULL;
    check(buf_str(&input),
          "250-mx.contoso.test Hello [127.0.0.1]\n250-PIPELINING\n250-SIZE 1000\n250-8BITMIME\n250-SMTPUTF8\n"
          "250-ENHANCEDSTATUSCODES\n250-DSN\n250 CHUNKING\n"
          "502 5.5.1 Command not implemented\n250 2.0.0 OK\n500 5.5.2 Line too long\n500 5.5.2 Line too long\n"
          "500 5.5.2 Line too long\n250 2.0.0 OK\n",
          "ehlo 'c'\n");
    buf_release(&input);
}

static void test_lengths(void **state)
{
    (void)state;
    run(scenario_lengths);
}

/* Who begins and says nothing more is not waited for. */
static void scenario_idle(void *argument)
{
    struct smtp_server_hooks hooks = session_hooks;
    struct session session;

    (void)argument;
    hooks.auth_mechanisms = hook_auth_mechanisms;
    hooks.auth_begin = hook_auth_begin;
    hooks.auth_abort = hook_auth_abort;
    session_init(&session);
    session.hooks = &hooks;
    session.settings.idle_timeout_ms = 50;
    session_connect(&session);
    session_begin(&session);
    session_await_lines(&session, 1);
    session_send(&session, STR("EHLO c\r\nAUTH ASK\r\n"), SIZE_MAX);
    while (!session_has_ended(&session))
        session_turn(&session);
    session_finish(&session);
    check_text("the replies", session_replies(&session),
               EHLO "334 Zmlyc3Q/\n421 4.4.2 mx.contoso.test Timeout waiting for client input\n", 0);
    check_text("the events", buf_str(&session.events), "ehlo 'c'\nbegin ASK\nabort\n", 0);
    session_release(&session);
}

static void test_idle(void **state)
{
    (void)state;
    run(scenario_idle);
}

/* The daemon stops, and does not wait for somebody's password. */
static void scenario_stop(void *argument)
{
    struct smtp_server_hooks hooks = session_hooks;
    struct session session;

    (void)argument;
    hooks.auth_mechanisms = hook_auth_mechanisms;
    hooks.auth_begin = hook_auth_begin;
    hooks.auth_abort = hook_auth_abort;
    session_init(&session);
    session.hooks = &hooks;
    session_connect(&session);
    session_begin(&session);
    session_await_lines(&session, 1);
    session_send(&session, STR("EHLO c\r\nAUTH ASK\r\n"), SIZE_MAX);
    session_await_lines(&session, 11);
    smtp_server_stop(session.server);
    while (!session_has_ended(&session))
        session_turn(&session);
    session_finish(&session);
    check_text("the replies", session_replies(&session),
               EHLO "334 Zmlyc3Q/\n421 4.3.2 mx.contoso.test Service shutting down\n", 0);
    check_text("the events", buf_str(&session.events), "ehlo 'c'\nbegin ASK\nabort\n", 0);
    session_release(&session);
}

static void test_stop(void **state)
{
    (void)state;
    run(scenario_stop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_success),      cmocka_unit_test(test_failure),
        cmocka_unit_test(test_ends),         cmocka_unit_test(test_syntax_and_sequence),
        cmocka_unit_test(test_not_offered),  cmocka_unit_test(test_help),
        cmocka_unit_test(test_errors_count), cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_idle),         cmocka_unit_test(test_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
