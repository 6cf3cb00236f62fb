/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receiving side of SMTP, reply by reply (relay-behaviour.md sections 4 and 8). Scripts and people read these replies to the letter. Each
 * dialogue is played with all commands sent at once, in pieces, and byte by byte, and must go the same way.
 */
#include "smtp/server.h"

#include "os/clock.h"
#include "server_fixture.h"

#define EHLO_REPLY                                                                                                     \
    "250-mx.contoso.test Hello [127.0.0.1]\n250-PIPELINING\n250-SIZE 1000\n250-8BITMIME\n250-SMTPUTF8\n"               \
    "250-ENHANCEDSTATUSCODES\n250-DSN\n250 CHUNKING\n"
#define TOO_BIG         "552 5.3.4 Message size exceeds fixed maximum message size\n"
#define BARE            "500 5.5.2 Line must end in CRLF, and have no CR or LF in it\n"
#define BARE_DATA       "550 5.6.0 Message contains bare CR or LF\n"
#define TOO_MANY_ERRORS "421 4.7.0 mx.contoso.test Too many errors\n"

/* `events` NULL: not looked at. */
static void check_with(struct session *session, struct str input, const char *replies, const char *events)
{
    static const size_t steps[] = {SIZE_MAX, 1, 7};

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        session_play(session, input, steps[i]);
        check_text("the replies", session_replies(session), replies, steps[i]);
        if (events)
            check_text("the events", buf_str(&session->events), events, steps[i]);
    }
}

static void check(struct str input, const char *replies, const char *events)
{
    struct session session;

    session_init(&session);
    check_with(&session, input, replies, events);
    session_release(&session);
}

/* ---- the table of replies ---- */

static int64_t epoch_ms(void)
{
    return 0;
}

static void scenario_banner(void *argument)
{
    struct session session;

    (void)argument;
    session_init(&session);
    session_play(&session, STR(""), 1);
    CHECK(str_equal(buf_str(&session.output),
                    STR("220 mx.contoso.test Postern ESMTP ready at Thu, 01 Jan 1970 00:00:00 +0000\r\n")));
    session.settings.banner = STR("");
    session_play(&session, STR(""), 1);
    CHECK(str_equal(buf_str(&session.output), STR("220 mx.contoso.test ready at Thu, 01 Jan 1970 00:00:00 +0000\r\n")));
    session_release(&session);
}

static void test_banner(void **state)
{
    const struct clock_source clock = {.monotonic_ms = clock_monotonic_ms, .real_ms = epoch_ms};

    (void)state;
    clock_use(&clock);
    harness_run(scenario_banner, NULL);
    clock_use(NULL);
}

static void scenario_simple(void *argument)
{
    (void)argument;
    check(STR("EHLO client.example\r\n"), EHLO_REPLY, "ehlo 'client.example'\n");
    check(STR("EHLO\r\nehlo  \r\n"), EHLO_REPLY EHLO_REPLY, "ehlo ''\nehlo ''\n");
    check(STR("HELO client.example\r\n"), "250 mx.contoso.test Hello [127.0.0.1]\n", "helo 'client.example'\n");
    check(STR("NOOP\r\nnoop what ever\r\n"), "250 2.0.0 OK\n250 2.0.0 OK\n", "");
    check(STR("RSET\r\n"), "250 2.0.0 Resetting\n", "");
    check(STR("QUIT\r\n"), "221 2.0.0 mx.contoso.test Service closing transmission channel\n", "");
    check(STR("QUIT\r\nNOOP\r\nNOOP\r\n"), "221 2.0.0 mx.contoso.test Service closing transmission channel\n", "");
    check(STR("HELP\r\n"),
          "214-2.0.0 This server supports the following commands:\n"
          "214 2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\n",
          "");
    check(STR("EXPN staff\r\nTURN\r\nETRN x\r\nFOO\r\n\r\n"),
          "500 5.3.3 Unrecognized command\n500 5.3.3 Unrecognized command\n500 5.3.3 Unrecognized command\n"
          "500 5.3.3 Unrecognized command\n500 5.3.3 Unrecognized command\n",
          "");
    check(STR("STARTTLS\r\nAUTH PLAIN\r\n"), "502 5.5.1 Command not implemented\n502 5.5.1 Command not implemented\n",
          "");
}

static void test_commands_of_one_line(void **state)
{
    (void)state;
    harness_run(scenario_simple, NULL);
}

static void scenario_verify(void *argument)
{
    (void)argument;
    check(STR("VRFY bob\r\nVRFY <bob@contoso.test>\r\nVRFY refused@example.net\r\n"),
          "252 2.1.5 Cannot VRFY user, but will take message for <bob@contoso.test>\n"
          "252 2.1.5 Cannot VRFY user, but will take message for <bob@contoso.test>\n"
          "550 5.7.1 Unable to relay for refused@example.net\n",
          "");
    check(STR("VRFY\r\nVRFY <>\r\nVRFY a@b@c\r\nVRFY b\xc3\xb6se@contoso.test\r\n"),
          "501 5.5.4 Invalid Address\n501 5.5.4 Invalid Address\n501 5.5.4 Invalid Address\n"
          "553 5.6.7 Address requires SMTPUTF8\n",
          "");
}

static void test_verify(void **state)
{
    (void)state;
    harness_run(scenario_verify, NULL);
}

static void scenario_envelope(void *argument)
{
    (void)argument;
    check(STR("EHLO c\r\nMAIL FROM:<a@example.org> SIZE=10 BODY=8BITMIME SMTPUTF8 ENVID=e1 RET=HDRS\r\n"
              "RCPT TO:<b@contoso.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x@y\r\nRCPT TO:carol\r\nRSET\r\n"),
          EHLO_REPLY SENDER_OK "250 2.1.5 b@contoso.test\n250 2.1.5 carol@contoso.test\n250 2.0.0 Resetting\n",
          "ehlo 'c'\nmail a@example.org 8bit utf8 size 10 envid e1\nrcpt b@contoso.test notify 10 orcpt rfc822;x@y\n"
          "rcpt carol@contoso.test\nreset\n");
    check(STR("EHLO c\r\nMAIL FROM:<>\r\n"), EHLO_REPLY "250 2.1.0 <>....Sender OK\n", "ehlo 'c'\nmail <>\nreset\n");
    /* A refused recipient does not end the transaction, nor do an unknown one and one for later. */
    check(STR("HELO h\r\nMAIL FROM:a@example.org\r\nRCPT TO:refused@example.net\r\nRCPT TO:unknown\r\nRCPT "
              "TO:later@x.test\r\nDATA\r\n"
              "RCPT TO:b@contoso.test\r\nDATA\r\nhi\r\n.\r\n"),
          "250 mx.contoso.test Hello [127.0.0.1]\n" SENDER_OK "550 5.7.1 Unable to relay for refused@example.net\n"
          "550 5.1.1 unknown@contoso.test... User unknown\n451 4.3.0 Directory unavailable, try again later\n"
          "503 5.5.2 Need rcpt command\n250 2.1.5 b@contoso.test\n" START TAKEN(1),
          "helo 'h'\nmail a@example.org\nrcpt b@contoso.test\nmessage \"hi\r\n\"\nreset\n");
    /* A refused sender leaves no transaction. */
    check(STR("HELO h\r\nMAIL FROM:<refused@x.test>\r\nRCPT TO:<b@contoso.test>\r\nMAIL FROM:<a@example.org>\r\n"),
          "250 mx.contoso.test Hello [127.0.0.1]\n550 5.7.1 Unable to relay for refused@x.test\n503 5.5.2 Need mail "
          "command\n" SENDER_OK,
          "helo 'h'\nmail a@example.org\nreset\n");
}

static void test_the_envelope(void **state)
{
    (void)state;
    harness_run(scenario_envelope, NULL);
}

static void scenario_bad_arguments(void *argument)
{
    (void)argument;
    check(STR("HELO h\r\nMAIL FROM:<a@b@c>\r\nMAIL <a@example.org>\r\nMAIL FROM:<a@example.org> FOO=BAR\r\n"
              "MAIL FROM:<a@example.org> SIZE=many\r\nMAIL FROM:<\xc3\xa4@example.org>\r\nMAIL FROM:<a@example.org> "
              "SIZE=1001\r\n"
              "MAIL FROM:<a@example.org> SIZE=99999999999999999999\r\n"),
          "250 mx.contoso.test Hello [127.0.0.1]\n501 5.5.4 Invalid Address\n501 5.5.4 Invalid Address\n"
          "555 5.5.4 Unsupported option: FOO\n501 5.5.4 Invalid option: SIZE\n553 5.6.7 Address requires "
          "SMTPUTF8\n" TOO_BIG TOO_BIG,
          "helo 'h'\n");
    check(STR("HELO h\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<>\r\nRCPT TO:<b@contoso.test\r\nRCPT "
              "TO:<b@contoso.test> NOTIFY=MAYBE\r\n"
              "RCPT TO:<b@contoso.test> X\r\nRCPT TO:<\xc3\xa4@contoso.test>\r\n"),
          "250 mx.contoso.test Hello [127.0.0.1]\n" SENDER_OK "501 5.5.4 Invalid Address\n501 5.5.4 Invalid Address\n"
          "501 5.5.4 Invalid option: NOTIFY\n555 5.5.4 Unsupported option: X\n553 5.6.7 Address requires SMTPUTF8\n",
          "helo 'h'\nmail a@example.org\nreset\n");
    check(STR("EHLO c\r\nMAIL FROM:<a@example.org> SMTPUTF8\r\nRCPT TO:<\xc3\xa4@contoso.test>\r\n"),
          EHLO_REPLY SENDER_OK "250 2.1.5 \xc3\xa4@contoso.test\n", NULL);
}

static void test_bad_arguments(void **state)
{
    (void)state;
    harness_run(scenario_bad_arguments, NULL);
}

static void scenario_sequence(void *argument)
{
    (void)argument;
    check(STR("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@contoso.test>\r\nDATA\r\nBDAT 0 LAST\r\n"),
          "503 5.5.1 Send hello first\n503 5.5.1 Send hello first\n503 5.5.1 Send hello first\n503 5.5.1 Send hello "
          "first\n",
          "");
    check(STR("HELO h\r\nRCPT TO:<b@contoso.test>\r\nDATA\r\nBDAT 2 LAST\r\nxyMAIL "
              "FROM:<a@example.org>\r\nDATA\r\nBDAT 2\r\nxy"
              "MAIL FROM:<a@example.org>\r\n"),
          "250 mx.contoso.test Hello [127.0.0.1]\n503 5.5.2 Need mail command\n503 5.5.2 Need mail command\n503 5.5.2 "
          "Need mail command\n" SENDER_OK
          "503 5.5.2 Need rcpt command\n503 5.5.2 Need rcpt command\n503 5.5.1 Sender already specified\n",
          "helo 'h'\nmail a@example.org\nreset\n");
    /* A second hello begins afresh, RSET too; NOOP, HELP and VRFY change nothing. */
    check(STR(OPEN "EHLO c\r\nRCPT TO:<b@contoso.test>\r\n"), OPENED EHLO_REPLY "503 5.5.2 Need mail command\n",
          OPEN_EVENTS "reset\nehlo 'c'\n");
    check(STR(OPEN "RSET\r\nDATA\r\n"), OPENED "250 2.0.0 Resetting\n503 5.5.2 Need mail command\n",
          OPEN_EVENTS "reset\n");
    check(STR(OPEN "NOOP\r\nVRFY x\r\nDATA\r\n.\r\n"),
          OPENED
          "250 2.0.0 OK\n252 2.1.5 Cannot VRFY user, but will take message for <x@contoso.test>\n" START TAKEN(1),
          NULL);
    check(STR(OPEN "QUIT\r\n"), OPENED "221 2.0.0 mx.contoso.test Service closing transmission channel\n",
          OPEN_EVENTS "reset\n");
}

static void test_commands_out_of_sequence(void **state)
{
    (void)state;
    harness_run(scenario_sequence, NULL);
}

/* ---- DATA ---- */

static void check_data(struct str message, const char *replies, const char *event)
{
    struct buf input, expected_replies, expected_events;

    buf_init(&input, 1 << 20);
    buf_init(&expected_replies, 1 << 20);
    buf_init(&expected_events, 1 << 20);
    buf_append_str(&input, STR(OPEN "DATA\r\n"));
    buf_append_str(&input, message);
    buf_append_str(&input, STR("NOOP\r\n"));
    buf_printf(&expected_replies, "%s%s%s250 2.0.0 OK\n%c", OPENED, START, replies, 0);
    buf_printf(&expected_events, "%s%sreset\n%c", OPEN_EVENTS, event, 0);
    check(buf_str(&input), expected_replies.data, expected_events.data);
    buf_release(&input);
    buf_release(&expected_replies);
    buf_release(&expected_events);
}

static void scenario_data(void *argument)
{
    (void)argument;
    check_data(STR("Subject: x\r\n\r\nhi\r\n.\r\n"), TAKEN(1), "message \"Subject: x\r\n\r\nhi\r\n\"\n");
    check_data(STR(".\r\n"), TAKEN(1), "message \"\"\n");
    check_data(STR("..\r\n...\r\n.x\r\na.\r\n\r\n.\r\n"), TAKEN(1), "message \".\r\n..\r\nx\r\na.\r\n\r\n\"\n");
    /* Commands in a message are text. */
    check_data(STR("QUIT\r\nMAIL FROM:<x@y>\r\nRSET\r\n.\r\n"), TAKEN(1),
               "message \"QUIT\r\nMAIL FROM:<x@y>\r\nRSET\r\n\"\n");
}

static void test_data(void **state)
{
    (void)state;
    harness_run(scenario_data, NULL);
}

static void scenario_smuggling(void *argument)
{
    (void)argument;
    check_data(STR("a\n.\nMAIL FROM:<x@y>\r\n.\r\n"), BARE_DATA, "");
    check_data(STR("a\r\n.\nMAIL FROM:<x@y>\r\n.\r\n"), BARE_DATA, "");
    check_data(STR("a\n.\r\nMAIL FROM:<x@y>\r\n.\r\n"), BARE_DATA, "");
    check_data(STR("a\r.\rMAIL FROM:<x@y>\r\n.\r\n"), BARE_DATA, "");
    check_data(STR("a\r\n.\rMAIL FROM:<x@y>\r\n.\r\n"), BARE_DATA, "");
    check_data(STR("a\r\n.\r\r\nMAIL FROM:<x@y>\r\n.\r\n"), BARE_DATA, "");
    check_data(STR("a\r\r\n.\r\n"), BARE_DATA, "");
    check_data(STR("a\0b\r\n.\r\n"), "550 5.6.0 Message contains NUL\n", "");
    check_data(STR("a\r\n\0.\r\nb\n\r\n.\r\n"), "550 5.6.0 Message contains NUL\n", "");
}

/* Whatever another server takes for the end of a message, here only CRLF.CRLF is one, and such a message is not taken at all. */
static void test_smuggling(void **state)
{
    (void)state;
    harness_run(scenario_smuggling, NULL);
}

static void scenario_normalize(void *argument)
{
    struct session session;

    (void)argument;
    session_init(&session);
    session.settings.normalize_newlines = true;
    check_with(&session, STR(OPEN "DATA\r\na\nb\rc\r\n.\nQUIT\n.\r\nd\r\n.\r\n"), OPENED START TAKEN(1),
               OPEN_EVENTS "message \"a\r\nb\r\nc\r\n.\r\nQUIT\r\n.\r\nd\r\n\"\nreset\n");
    check_with(&session, STR(OPEN "DATA\r\na\0\n\r\n.\r\n"), OPENED START "550 5.6.0 Message contains NUL\n",
               OPEN_EVENTS "reset\n");
    session_release(&session);
}

static void test_normalized_newlines(void **state)
{
    (void)state;
    harness_run(scenario_normalize, NULL);
}

/* ---- sizes ---- */

static void append_times(struct buf *b, char c, size_t count)
{
    while (count-- > 0)
        buf_append_char(b, c);
}

/* A message of `length` bytes, with its CRLF, by DATA or in one chunk. */
static void check_size(size_t length, bool by_chunk, bool fits)
{
    struct session session;
    struct buf input;
    char event[128];

    session_init(&session);
    session.keep_body = false;
    buf_init(&input, 1 << 24);
    buf_append_str(&input, STR(OPEN));
    if (by_chunk)
        buf_printf(&input, "BDAT %zu LAST\r\n", length);
    else
        buf_append_str(&input, STR("DATA\r\n"));
    append_times(&input, 'x', length - 2);
    buf_append_str(&input, by_chunk ? STR("\r\n") : STR("\r\n.\r\n"));
    buf_append_str(&input, STR("NOOP\r\n"));
    snprintf(event, sizeof(event), "%smessage %zu\nreset\n", OPEN_EVENTS, length);
    if (by_chunk)
        check_with(&session, buf_str(&input), fits ? OPENED TAKEN(1) "250 2.0.0 OK\n" : OPENED TOO_BIG "250 2.0.0 OK\n",
                   fits ? event : OPEN_EVENTS "reset\n");
    else
        check_with(&session, buf_str(&input),
                   fits ? OPENED START TAKEN(1) "250 2.0.0 OK\n" : OPENED START TOO_BIG "250 2.0.0 OK\n",
                   fits ? event : OPEN_EVENTS "reset\n");
    buf_release(&input);
    session_release(&session);
}

static void scenario_sizes(void *argument)
{
    (void)argument;
    for (int by_chunk = 0; by_chunk < 2; by_chunk++) {
        check_size(1000, by_chunk, true);
        check_size(1001, by_chunk, false);
        check_size(20000, by_chunk, false);
    }
}

/* The limit is what was announced, to the byte; and whoever exceeds it can go on with the next message. */
static void test_messages_at_the_limit(void **state)
{
    (void)state;
    harness_run(scenario_sizes, NULL);
}

static void scenario_big(void *argument)
{
    struct session session;
    struct buf input;

    (void)argument;
    session_init(&session);
    session.keep_body = false;
    session.settings.message_bytes_max = 32 << 20;
    buf_init(&input, 64 << 20);
    buf_append_str(&input, STR(OPEN "DATA\r\n"));
    for (unsigned i = 0; i < 100000; i++)
        buf_append_str(&input, STR("..0123456789012345678901234567890123456789012345678901234567890123456789\r\n"));
    buf_append_str(&input, STR(".\r\nQUIT\r\n"));
    session_play(&session, buf_str(&input), SIZE_MAX);
    check_text("the events", buf_str(&session.events), OPEN_EVENTS "message 7300000\nreset\n", SIZE_MAX);
    buf_release(&input);
    session_release(&session);
}

static void test_a_message_over_many_buffers(void **state)
{
    (void)state;
    harness_run(scenario_big, NULL);
}

/* ---- BDAT ---- */

static void scenario_chunks(void *argument)
{
    (void)argument;
    check(STR(OPEN "BDAT 9\r\nSubject: BDAT 5 LAST\r\nx\r\n\r\nNOOP\r\n"),
          OPENED "250 2.0.0 9 octets received\n" TAKEN(1) "250 2.0.0 OK\n",
          OPEN_EVENTS "message \"Subject: x\r\n\r\n\"\nreset\n");
    /* Dots are data, and so is CRLF.CRLF; CR and LF may stand in different chunks. */
    check(STR(OPEN "BDAT 6\r\n.a\r\n.\rBDAT 4\r\n\n..\rBDAT 1 LAST\r\n\n"),
          OPENED "250 2.0.0 6 octets received\n250 2.0.0 4 octets received\n" TAKEN(1),
          OPEN_EVENTS "message \".a\r\n.\r\n..\r\n\"\nreset\n");
    check(STR(OPEN "BDAT 0\r\nBDAT 3\r\nabcBDAT 0 LAST\r\n"),
          OPENED "250 2.0.0 0 octets received\n250 2.0.0 3 octets received\n" TAKEN(1),
          OPEN_EVENTS "message \"abc\"\nreset\n");
    check(STR(OPEN "BDAT 0 LAST\r\n"), OPENED TAKEN(1), OPEN_EVENTS "message \"\"\nreset\n");
    /* In a message of chunks nothing else begins; RSET drops it. */
    check(STR(OPEN "BDAT 1\r\naDATA\r\nMAIL FROM:<x@y.test>\r\nRCPT TO:<x@y.test>\r\nNOOP\r\nRSET\r\nBDAT 1 LAST\r\nb"),
          OPENED "250 2.0.0 1 octets received\n503 5.5.1 Message already begun\n503 5.5.1 Sender already specified\n"
                 "503 5.5.1 Message already begun\n250 2.0.0 OK\n250 2.0.0 Resetting\n503 5.5.2 Need mail command\n",
          OPEN_EVENTS "reset\n");
    /* The client goes in the middle of one. */
    check(STR(OPEN "BDAT 10 LAST\r\nabc"), OPENED, OPEN_EVENTS "reset\n");
}

static void test_chunks(void **state)
{
    (void)state;
    harness_run(scenario_chunks, NULL);
}

static void scenario_bad_chunks(void *argument)
{
    (void)argument;
    check(STR(OPEN "BDAT 4 LAST\r\na\nb\nNOOP\r\n"), OPENED BARE_DATA "250 2.0.0 OK\n", OPEN_EVENTS "reset\n");
    check(STR(OPEN "BDAT 2 LAST\r\na\rNOOP\r\n"), OPENED BARE_DATA "250 2.0.0 OK\n", OPEN_EVENTS "reset\n");
    check(STR(OPEN "BDAT 3 LAST\r\na\0bNOOP\r\n"), OPENED "550 5.6.0 Message contains NUL\n250 2.0.0 OK\n",
          OPEN_EVENTS "reset\n");
    /* What can't be counted can't be skipped: the connection ends. */
    check(STR(OPEN "BDAT x\r\nNOOP\r\n"), OPENED "501 5.5.4 Invalid option: BDAT\n", OPEN_EVENTS "reset\n");
    check(STR(OPEN "BDAT\r\n"), OPENED "501 5.5.4 Invalid option: BDAT\n", OPEN_EVENTS "reset\n");
    check(STR(OPEN "BDAT 99999999999999999999 LAST\r\n"), OPENED "501 5.5.4 Invalid option: BDAT\n",
          OPEN_EVENTS "reset\n");
    check(STR(OPEN "BDAT 18446744073709551615 LAST\r\nabc\r\n"), OPENED TOO_BIG, OPEN_EVENTS "reset\n");
    /* Too big together: the chunk that is one too many is read and dropped, and its bytes are no commands. */
    check(STR(OPEN "BDAT 5\r\nabcdeBDAT 996 LAST\r\nNOOP\r\n"), OPENED "250 2.0.0 5 octets received\n" TOO_BIG,
          OPEN_EVENTS "reset\n");
    /* A chunk is read although its command is refused, also before the hello. */
    check(STR("BDAT 6 LAST\r\nNOOP\r\nNOOP\r\n"), "503 5.5.1 Send hello first\n250 2.0.0 OK\n", "");
}

static void test_bad_chunks(void **state)
{
    (void)state;
    harness_run(scenario_bad_chunks, NULL);
}

static void scenario_refused_begin(void *argument)
{
    struct session session;

    (void)argument;
    session_init(&session);
    session.begin_code = 452;
    check_with(&session, STR(OPEN "DATA\r\nRCPT TO:<b@contoso.test>\r\n"),
               OPENED "452 4.3.1 Out of storage\n503 5.5.2 Need mail command\n", OPEN_EVENTS "reset\n");
    check_with(&session, STR(OPEN "BDAT 6\r\nQUIT\r\nNOOP\r\n"), OPENED "452 4.3.1 Out of storage\n250 2.0.0 OK\n",
               OPEN_EVENTS "reset\n");
    session_release(&session);
}

static void test_a_full_disk(void **state)
{
    (void)state;
    harness_run(scenario_refused_begin, NULL);
}

/* ---- bad lines ---- */

static void check_line_length(size_t length, const char *reply)
{
    struct buf input;

    buf_init(&input, 1 << 20);
    buf_append_str(&input, STR("NOOP "));
    append_times(&input, 'x', length - 7);
    buf_append_str(&input, STR("\r\nRSET\r\n"));

    char replies[256];

    snprintf(replies, sizeof(replies), "%s250 2.0.0 Resetting\n", reply);
    check(buf_str(&input), replies, "");
    buf_release(&input);
}

static void scenario_bad_lines(void *argument)
{
    (void)argument;
    check(STR("NOOP\nNO\rOP\r\nNOOP\r\r\n\rNOOP\r\nNOOP\r\n"), BARE BARE BARE BARE "250 2.0.0 OK\n", "");
    check(STR("NO\0OP\r\nNOOP\0\r\n\0\r\n"),
          "500 5.5.2 Command contains NUL\n500 5.5.2 Command contains NUL\n500 5.5.2 Command contains NUL\n", "");
    check(STR("\x80\xff\x1b[2J\x07\r\n"), "500 5.3.3 Unrecognized command\n", "");
    check_line_length(2047, "250 2.0.0 OK\n");
    check_line_length(2048, "250 2.0.0 OK\n");
    check_line_length(2049, "500 5.5.2 Line too long\n");
    check_line_length(20000, "500 5.5.2 Line too long\n");
    /* Half a command is none. */
    check(STR("HELO h\r\nMAIL FROM:<a@example.org>"), "250 mx.contoso.test Hello [127.0.0.1]\n", "helo 'h'\n");
}

static void test_bad_lines(void **state)
{
    (void)state;
    harness_run(scenario_bad_lines, NULL);
}

/* ---- limits ---- */

static void scenario_limits(void *argument)
{
    struct session session;

    (void)argument;
    session_init(&session);
    session.settings.errors_max = 3;
    check_with(&session, STR("FOO\r\nDATA\r\nNOOP\r\nNO\rOP\r\nNOOP\r\n"),
               "500 5.3.3 Unrecognized command\n503 5.5.1 Send hello first\n250 2.0.0 OK\n" TOO_MANY_ERRORS, "");
    /* The last error is a chunk: its bytes are not waited for. */
    check_with(&session, STR("FOO\r\nFOO\r\nBDAT 100000000\r\n"),
               "500 5.3.3 Unrecognized command\n500 5.3.3 Unrecognized command\n" TOO_MANY_ERRORS, "");
    session.settings.errors_max = 10;

    session.settings.unknown_recipients_max = 2;
    check_with(&session,
               STR(OPEN "RCPT TO:<unknown@x.test>\r\nRCPT TO:<refused@x.test>\r\nRCPT TO:<unknown@x.test>\r\nNOOP\r\n"),
               OPENED
               "550 5.1.1 unknown@x.test... User unknown\n550 5.7.1 Unable to relay for refused@x.test\n"
               "550 5.1.1 unknown@x.test... User unknown\n421 4.7.0 mx.contoso.test Too many unknown recipients\n",
               OPEN_EVENTS "reset\n");
    session.settings.unknown_recipients_max = 0;

    session.settings.recipients_max = 2;
    check_with(&session, STR(OPEN "RCPT TO:<c@contoso.test>\r\nRCPT TO:<d@contoso.test>\r\nDATA\r\nx\r\n.\r\n"),
               OPENED "250 2.1.5 c@contoso.test\n452 4.5.3 Too many recipients\n" START TAKEN(1),
               OPEN_EVENTS "rcpt c@contoso.test\nmessage \"x\r\n\"\nreset\n");

    session.settings.messages_max = 1;
    check_with(&session, STR(OPEN "DATA\r\n.\r\nMAIL FROM:<a@example.org>\r\nNOOP\r\n"),
               OPENED START TAKEN(1) "421 4.7.0 mx.contoso.test Too many messages in this session\n",
               OPEN_EVENTS "message \"\"\nreset\n");
    session_release(&session);
}

static void test_limits(void **state)
{
    (void)state;
    harness_run(scenario_limits, NULL);
}

static void scenario_refused_client(void *argument)
{
    struct session session;

    (void)argument;
    session_init(&session);
    session.connect_code = 554;
    session_play(&session, STR("EHLO c\r\n"), 1);
    CHECK(str_equal(buf_str(&session.output), STR("554 5.7.1 Client may not connect\r\n")));
    CHECK(session.events.length == 0);
    session_release(&session);
}

static void test_a_client_that_may_not_connect(void **state)
{
    (void)state;
    harness_run(scenario_refused_client, NULL);
}

static void scenario_early_talker(void *argument)
{
    struct session session;

    (void)argument;
    session_init(&session);
    session_connect(&session);
    CHECK(send(session.fd, "EHLO c\r\n", 8, MSG_NOSIGNAL) == 8);
    session_begin(&session);
    session_finish(&session);
    CHECK(session.output.length == 0 && session.events.length == 0);
    session_release(&session);
}

/* Whoever talks before the banner is no mail server. */
static void test_input_before_the_banner(void **state)
{
    (void)state;
    harness_run(scenario_early_talker, NULL);
}

/* ---- time ---- */

static void scenario_timeouts(void *argument)
{
    static const char *const inputs[] = {"", "NOO", OPEN, OPEN "DATA\r\nabc", OPEN "BDAT 5\r\nabc"};
    struct session session;

    (void)argument;
    session_init(&session);
    session.settings.idle_timeout_ms = 20;
    for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++) {
        session_connect(&session);
        session_begin(&session);
        session_await_lines(&session, 1);
        session_send(&session, str_from_cstr(inputs[i]), SIZE_MAX);
        while (!session_has_ended(&session))
            session_turn(&session);
        session_finish(&session);
        CHECK(str_ends_with(session_replies(&session),
                            STR("421 4.4.2 mx.contoso.test Timeout waiting for client input\n")));
        CHECK(session.messages == 0);
    }
    session_release(&session);
}

static void test_a_client_that_says_nothing(void **state)
{
    (void)state;
    harness_run(scenario_timeouts, NULL);
}

static void scenario_slow_data(void *argument)
{
    struct session session;

    (void)argument;
    session_init(&session);
    session.settings.idle_timeout_ms = 100;
    session_connect(&session);
    session_begin(&session);
    session_await_lines(&session, 1);
    session_send(&session, STR(OPEN "DATA\r\n"), SIZE_MAX);
    /* Never idle for long, and never done. */
    while (!session_has_ended(&session)) {
        session_send(&session, STR("x"), SIZE_MAX);
        CHECK(fiber_wait(loop_now_ms() + 10) == WAIT_TIMEOUT);
    }
    session_finish(&session);
    CHECK(
        str_ends_with(session_replies(&session), STR("421 4.4.2 mx.contoso.test Timeout waiting for client input\n")));
    session_release(&session);
}

/* A byte now and then keeps under every idle timeout: the message as a whole has to get on. */
static void test_a_message_that_comes_too_slowly(void **state)
{
    (void)state;
    harness_run(scenario_slow_data, NULL);
}

static void scenario_tarpit(void *argument)
{
    struct session session;
    uint64_t before_ms;

    (void)argument;
    session_init(&session);
    session.settings.tarpit_ms = 30;
    session_connect(&session);
    session_begin(&session);
    session_await_lines(&session, 1);
    before_ms = loop_now_ms();
    session_send(&session, STR("NOOP\r\nFOO\r\n"), SIZE_MAX);
    session_await_lines(&session, 2); /* what was said before does not wait with it */
    session_await_lines(&session, 3);
    CHECK(loop_now_ms() >= before_ms + 30);
    session_finish(&session);
    check_text("the replies", session_replies(&session), "250 2.0.0 OK\n500 5.3.3 Unrecognized command\n", SIZE_MAX);
    /* Clients that may relay never wait. */
    session.settings.tarpit_ms = 10 * HARNESS_PATIENCE_MS;
    session.is_trusted = true;
    session_play(&session, STR("FOO\r\n"), SIZE_MAX);
    check_text("the replies", session_replies(&session), "500 5.3.3 Unrecognized command\n", SIZE_MAX);
    session_release(&session);
}

static void test_tarpit(void **state)
{
    (void)state;
    harness_run(scenario_tarpit, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_banner),
        cmocka_unit_test(test_commands_of_one_line),
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_the_envelope),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_commands_out_of_sequence),
        cmocka_unit_test(test_data),
        cmocka_unit_test(test_smuggling),
        cmocka_unit_test(test_normalized_newlines),
        cmocka_unit_test(test_messages_at_the_limit),
        cmocka_unit_test(test_a_message_over_many_buffers),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_bad_chunks),
        cmocka_unit_test(test_a_full_disk),
        cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_a_client_that_may_not_connect),
        cmocka_unit_test(test_input_before_the_banner),
        cmocka_unit_test(test_a_client_that_says_nothing),
        cmocka_unit_test(test_a_message_that_comes_too_slowly),
        cmocka_unit_test(test_tarpit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
