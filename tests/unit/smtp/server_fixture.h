/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One SMTP session on a loopback connection, with hooks that write down what they are asked and answer by rules of their own:
 *
 *   sender or recipient      answer
 *   refused@...              550 5.7.1
 *   unknown@...              550 5.1.1, an unknown recipient
 *   later@...                451 4.3.0
 *   anything else            250
 */
#ifndef POSTERN_TESTS_SMTP_SERVER_FIXTURE_H
#define POSTERN_TESTS_SMTP_SERVER_FIXTURE_H

#include "../net/sockets.h"
#include "base/buf.h"
#include "smtp/server.h"

#include <string.h>

#define SESSION_TEXT_BYTES_MAX (64u << 20)

struct session {
    struct smtp_server_settings settings;
    int connect_code; /* 220, or what refuses */
    int begin_code;   /* 354, or what refuses */
    bool is_trusted;
    bool keep_body;                        /* in `events`; else only its length */
    const struct smtp_server_hooks *hooks; /* NULL: those below */

    struct buf events;
    struct buf body;
    bool in_transaction, in_message;
    unsigned messages;
    struct buf output;
    int fd; /* the client's */
    struct conn *conn;
    struct smtp_server *server;
    struct harness_latch ended;
};

/* ---- hooks ---- */

static inline void hook_connected(void *context, struct smtp_reply *reply)
{
    const struct session *session = context;

    if (session->connect_code == 220)
        reply->code = 220;
    else
        smtp_reply_set(reply, session->connect_code, "5.7.1", "Client may not connect");
}

static inline void hook_hello(void *context, struct str name, bool is_esmtp)
{
    struct session *session = context;

    CHECK(!session->in_transaction);
    buf_printf(&session->events, "%s '%.*s'\n", is_esmtp ? "ehlo" : "helo", STR_ARG(name));
}

/* false: the answer is a refusal. */
static inline bool answer(const struct address *address, struct smtp_reply *reply)
{
    struct str text = address_text(address);

    *reply = (struct smtp_reply){0};
    if (str_starts_with(text, STR("refused@")))
        smtp_reply_set(reply, 550, "5.7.1", "Unable to relay for %.*s", STR_ARG(text));
    else if (str_starts_with(text, STR("unknown@")))
        smtp_reply_set(reply, 550, "5.1.1", "%.*s... User unknown", STR_ARG(text));
    else if (str_starts_with(text, STR("later@")))
        smtp_reply_set(reply, 451, "4.3.0", "Directory unavailable, try again later");
    else
        return true;
    reply->is_unknown_recipient = strcmp(reply->enhanced, "5.1.1") == 0;
    return false;
}

static inline void hook_mail(void *context, const struct command_mail *mail, struct smtp_reply *reply)
{
    struct session *session = context;
    struct str text = address_text(&mail->sender);

    CHECK(!session->in_transaction);
    if (!answer(&mail->sender, reply))
        return;
    session->in_transaction = true;
    buf_printf(&session->events, "mail %.*s%s%s", STR_ARG(text), mail->body == COMMAND_BODY_8BITMIME ? " 8bit" : "",
               mail->smtputf8 ? " utf8" : "");
    if (mail->has_size)
        buf_printf(&session->events, " size %llu", (unsigned long long)mail->size);
    if (mail->envid.length > 0)
        buf_printf(&session->events, " envid %.*s", STR_ARG(mail->envid));
    buf_append_char(&session->events, '\n');
    smtp_reply_set(reply, 250, "2.1.0", "%.*s....Sender OK", STR_ARG(text));
}

static inline void hook_rcpt(void *context, const struct command_rcpt *rcpt, struct smtp_reply *reply)
{
    struct session *session = context;
    struct str text = address_text(&rcpt->recipient);

    CHECK(session->in_transaction && !session->in_message);
    if (!answer(&rcpt->recipient, reply))
        return;
    buf_printf(&session->events, "rcpt %.*s", STR_ARG(text));
    if (rcpt->notify != 0)
        buf_printf(&session->events, " notify %u", rcpt->notify);
    if (rcpt->orcpt.length > 0)
        buf_printf(&session->events, " orcpt %.*s", STR_ARG(rcpt->orcpt));
    buf_append_char(&session->events, '\n');
    smtp_reply_set(reply, 250, "2.1.5", "%.*s", STR_ARG(text));
}

static inline void hook_verify(void *context, const struct address *address, struct smtp_reply *reply)
{
    (void)context;
    if (answer(address, reply))
        smtp_reply_set(reply, 252, "2.1.5", "Cannot VRFY user, but will take message for <%.*s>",
                       STR_ARG(address_text(address)));
}

static inline void hook_message_begin(void *context, struct smtp_reply *reply)
{
    struct session *session = context;

    CHECK(session->in_transaction && !session->in_message);
    if (session->begin_code != 354) {
        smtp_reply_set(reply, session->begin_code, "4.3.1", "Out of storage");
        return;
    }
    session->in_message = true;
    buf_clear(&session->body);
    reply->code = 354;
}

static inline void hook_message_data(void *context, struct str piece)
{
    struct session *session = context;

    CHECK(session->in_message && piece.length > 0);
    CHECK(buf_append_str(&session->body, piece));
}

static inline void hook_message_end(void *context, struct smtp_reply *reply)
{
    struct session *session = context;

    CHECK(session->in_message);
    if (session->keep_body)
        buf_printf(&session->events, "message \"%.*s\"\n", STR_ARG(buf_str(&session->body)));
    else
        buf_printf(&session->events, "message %zu\n", session->body.length);
    session->messages++;
    smtp_reply_set(reply, 250, "2.6.0", "<m%u@here> Queued mail for delivery (%u)", session->messages,
                   session->messages);
}

static inline void hook_reset(void *context)
{
    struct session *session = context;

    if (session->in_transaction)
        buf_append_str(&session->events, STR("reset\n"));
    session->in_transaction = session->in_message = false;
}

static inline bool hook_is_trusted(void *context)
{
    return ((struct session *)context)->is_trusted;
}

static const struct smtp_server_hooks session_hooks = {
    .connected = hook_connected,
    .hello = hook_hello,
    .mail = hook_mail,
    .rcpt = hook_rcpt,
    .verify = hook_verify,
    .message_begin = hook_message_begin,
    .message_data = hook_message_data,
    .message_end = hook_message_end,
    .reset = hook_reset,
    .is_trusted = hook_is_trusted,
};

/* ---- the session ---- */

static inline void session_init(struct session *session)
{
    *session = (struct session){
        .settings =
            {
                .hostname = STR("mx.contoso.test"),
                .banner = STR("Postern ESMTP"),
                .default_domain = STR("contoso.test"),
                .message_bytes_max = 1000,
                .recipients_max = 5,
                .idle_timeout_ms = HARNESS_PATIENCE_MS,
                .errors_max = 10,
                .unknown_recipients_max = 100,
            },
        .connect_code = 220,
        .begin_code = 354,
        .keep_body = true,
    };
    buf_init(&session->events, SESSION_TEXT_BYTES_MAX);
    buf_init(&session->output, SESSION_TEXT_BYTES_MAX);
    buf_init(&session->body, SESSION_TEXT_BYTES_MAX);
}

static inline void session_release(struct session *session)
{
    buf_release(&session->events);
    buf_release(&session->output);
    buf_release(&session->body);
}

static inline void session_main(void *argument)
{
    struct session *session = argument;
    const struct smtp_server_options options = {session->conn, &session->settings,
                                                session->hooks ? session->hooks : &session_hooks, session};

    smtp_server_run(&session->server, &options);
    CHECK(session->server == NULL && !session->in_transaction);
    conn_close(&session->conn);
    harness_arrive(&session->ended);
}

static inline void session_connect(struct session *session)
{
    struct net_address peer;
    int ours;

    socket_pair(&ours, &session->fd);
    peer = socket_address(session->fd);
    session->conn = conn_create(ours, &peer);
    session->ended = (struct harness_latch){0};
    session->messages = 0;
    buf_clear(&session->events);
    buf_clear(&session->output);
}

static inline void session_begin(struct session *session)
{
    CHECK(fiber_start(session_main, session) == 0);
}

static inline bool session_has_ended(const struct session *session)
{
    return session->ended.count > 0;
}

/* Takes what the server has sent by now. */
static inline void session_receive(struct session *session)
{
    char room[4096];
    ssize_t count;

    while ((count = recv(session->fd, room, sizeof(room), 0)) > 0)
        CHECK(buf_append(&session->output, room, (size_t)count));
}

/* Lets the others run once. */
static inline void session_turn(struct session *session)
{
    session_receive(session);
    fiber_yield();
    session_receive(session);
}

/* Until the output has so many lines, or the session is over. */
static inline void session_await_lines(struct session *session, unsigned count)
{
    for (;;) {
        unsigned lines = 0;

        for (size_t i = 0; i < session->output.length; i++)
            lines += session->output.data[i] == '\n';
        if (lines >= count || session_has_ended(session))
            return;
        session_turn(session);
    }
}

/* In pieces of `step` bytes, each when the server has taken the one before; ends early when the session does. */
static inline void session_send(struct session *session, struct str input, size_t step)
{
    uint64_t sent = session->conn ? conn_bytes_read(session->conn) : 0;

    while (input.length > 0 && !session_has_ended(session)) {
        struct str piece = str_take(input, step);
        ssize_t count = send(session->fd, piece.data, piece.length, MSG_NOSIGNAL);

        if (count < 0 && errno != EAGAIN)
            break;
        if (count > 0) {
            sent += (uint64_t)count;
            input = str_skip(input, (size_t)count);
        }
        do
            session_turn(session);
        while (!session_has_ended(session) && conn_bytes_read(session->conn) < sent && step < 1000);
    }
}

/* The client hangs up; waits for the server to end. */
static inline void session_finish(struct session *session)
{
    shutdown(session->fd, SHUT_WR);
    while (!session_has_ended(session))
        session_turn(session);
    session_receive(session);
    close(session->fd);
}

static inline void session_play(struct session *session, struct str input, size_t step)
{
    session_connect(session);
    session_begin(session);
    session_await_lines(session, 1);
    session_send(session, input, step);
    session_finish(session);
}

/* The replies after the banner, their CRLF as LF. */
static inline struct str session_replies(struct session *session)
{
    struct str rest = buf_str(&session->output);
    size_t length = 0;

    str_split(&rest, '\n');
    for (size_t i = 0; i < rest.length; i++) {
        if (rest.data[i] == '\r' && i + 1 < rest.length && rest.data[i + 1] == '\n')
            continue;
        CHECK(rest.data[i] != '\r' && (rest.data[i] != '\n' || (i > 0 && rest.data[i - 1] == '\r')));
        length++;
    }

    char *text = session->output.data;

    length = 0;
    for (size_t i = 0; i < rest.length; i++)
        if (rest.data[i] != '\r')
            text[length++] = rest.data[i];
    return str_make(text, length);
}

#define START     "354 Start mail input; end with <CRLF>.<CRLF>\n"
#define TAKEN(n)  "250 2.6.0 <m" #n "@here> Queued mail for delivery (" #n ")\n"
#define SENDER_OK "250 2.1.0 a@example.org....Sender OK\n"
/* A transaction up to where the message begins, and its replies. */
#define OPEN        "HELO h\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@contoso.test>\r\n"
#define OPENED      "250 mx.contoso.test Hello [127.0.0.1]\n" SENDER_OK "250 2.1.5 b@contoso.test\n"
#define OPEN_EVENTS "helo 'h'\nmail a@example.org\nrcpt b@contoso.test\n"

static inline void check_text(const char *what, struct str seen, const char *expected, size_t step)
{
    if (str_equal(seen, str_from_cstr(expected)))
        return;
    fprintf(stderr, "in pieces of %zu, %s are:\n%.*s\ninstead of:\n%s\n", step, what, STR_ARG(seen), expected);
    CHECK(!"as expected");
}

#endif
