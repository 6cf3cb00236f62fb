/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client against a server that follows a script: a list of lines, "S:" bytes that the server sends, "C:" bytes
 * that it must get next, "EOF" the client's end of the connection, "REST" whatever comes before it, "REST x" the same
 * of x's only. At the script's end the server closes. Every script is played twice: with whole writes, and with the
 * server's bytes one by one.
 */
#ifndef POSTERN_TESTS_SMTP_CLIENT_FIXTURE_H
#define POSTERN_TESTS_SMTP_CLIENT_FIXTURE_H

#include "base/str.h"
#include "loop/fiber.h"
#include "loop/loop.h"
#include "mail/dsn.h"
#include "net/conn.h"
#include "smtp/client.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#define RECIPIENTS_MAX   SMTP_CLIENT_RECIPIENTS_MAX
#define TRANSACTIONS_MAX 4
#define SERVER_WAIT_S    20

/* ---- the server ---- */

struct server {
    int fd;
    const char *const *script;
    bool bytewise;
    char failure[512]; /* what the client did wrong */
};

static void send_text(struct server *server, const char *text)
{
    size_t length = strlen(text);
    size_t step = server->bytewise ? 1 : length;

    for (size_t i = 0; i < length; i += step)
        if (send(server->fd, text + i, step, MSG_NOSIGNAL) < 0)
            return; /* a client that has gone may be what is tested */
}

static bool expect_text(struct server *server, const char *text)
{
    size_t length = strlen(text), got = 0;
    char *data = calloc(1, length + 1);
    bool equal;

    while (got < length) {
        ssize_t count = recv(server->fd, data + got, length - got, 0);

        if (count <= 0)
            break;
        got += (size_t)count;
    }
    equal = got == length && memcmp(data, text, length) == 0;
    if (!equal)
        snprintf(server->failure, sizeof(server->failure), "expected \"%.200s\", got \"%.200s\"", text, data);
    free(data);
    return equal;
}

/* Reads on to the end; with `only`, there must be nothing but that byte. */
static bool expect_rest(struct server *server, char only)
{
    char data[4096];
    ssize_t count;

    while ((count = recv(server->fd, data, sizeof(data), 0)) > 0) {
        for (ssize_t i = 0; i < count && only; i++) {
            if (data[i] != only) {
                snprintf(server->failure, sizeof(server->failure), "got more than the body's start");
                return false;
            }
        }
    }
    return true;
}

static bool expect_end(struct server *server)
{
    char data[200];
    ssize_t count = recv(server->fd, data, sizeof(data) - 1, 0);

    if (count <= 0 && errno != EAGAIN)
        return true;
    data[count > 0 ? count : 0] = '\0';
    snprintf(server->failure, sizeof(server->failure), "expected the end, got \"%s\"", data);
    return false;
}

static void *run_server(void *argument)
{
    struct server *server = argument;
    struct timeval timeout = {.tv_sec = SERVER_WAIT_S};

    setsockopt(server->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    for (const char *const *line = server->script; *line; line++) {
        bool is_right = true;

        if (strncmp(*line, "S:", 2) == 0)
            send_text(server, *line + 2);
        else if (strncmp(*line, "C:", 2) == 0)
            is_right = expect_text(server, *line + 2);
        else if (strcmp(*line, "EOF") == 0)
            is_right = expect_end(server);
        else
            is_right = expect_rest(server, strcmp(*line, "REST x") == 0 ? 'x' : '\0');
        if (!is_right)
            break;
    }
    close(server->fd);
    return NULL;
}

/* ---- the client ---- */

struct message {
    struct smtp_client_transaction transaction;
    struct smtp_client_recipient recipients[RECIPIENTS_MAX];
    const char *body;
    size_t body_length;
    size_t offset;
    size_t chunk;    /* at most so much in a read; 0: all that is asked for */
    size_t error_at; /* where reading fails, if error is not 0 */
    int error;
};

struct session {
    int fd;
    struct smtp_client_options options;
    struct message messages[TRANSACTIONS_MAX];
    size_t message_count, next;
    bool chain; /* the next message is at hand before the last one is through */
    /* out */
    bool opened, usable, should_back_off;
    bool is_in_order;                 /* each message was finished once, in order */
    struct smtp_client_result result; /* of the opening */
    size_t finished;
    struct loop *loop;
};

static struct session session;

static ssize_t read_body(struct smtp_client_transaction *transaction, void *data, size_t length)
{
    struct message *message = (struct message *)transaction;
    size_t left = message->body_length - message->offset;

    if (message->error && message->offset >= message->error_at)
        return message->error;
    if (message->error && left > message->error_at - message->offset)
        left = message->error_at - message->offset;
    if (length > left)
        length = left;
    if (message->chunk && length > message->chunk)
        length = message->chunk;
    memcpy(data, message->body + message->offset, length);
    message->offset += length;
    return (ssize_t)length;
}

static struct smtp_client_transaction *next_message(void *context, bool wait)
{
    (void)context;
    if (session.next == session.message_count || (!wait && !session.chain))
        return NULL;
    return &session.messages[session.next++].transaction;
}

static void message_finished(void *context, struct smtp_client_transaction *transaction)
{
    (void)context;
    session.is_in_order = session.is_in_order && transaction == &session.messages[session.finished].transaction;
    session.finished++;
}

static void run_client(void *argument)
{
    const struct smtp_client_source source = {.next = next_message, .finished = message_finished};
    struct net_address peer = {.port = 25};
    struct conn *conn = conn_create(session.fd, &peer);
    struct smtp_client *client = NULL;

    (void)argument;
    session.opened = smtp_client_open(&client, conn, &session.options, &session.result) == 0;
    if (session.opened) {
        session.usable = smtp_client_run(client, &source);
        session.should_back_off = smtp_client_should_back_off(client);
    }
    smtp_client_quit(&client);
    loop_stop(session.loop);
}

static void start_client(struct loop_task *task)
{
    (void)task;
    if (fiber_start(run_client, NULL) != 0)
        abort(); /* on another thread than cmocka's */
}

static void play_once(const char *const *script, bool bytewise)
{
    struct server server = {.script = script, .bytewise = bytewise};
    struct loop_task task = {.run = start_client};
    struct error error = {0};
    pthread_t thread;
    int fds[2];

    session.next = session.finished = 0;
    session.is_in_order = true;
    session.opened = session.usable = session.should_back_off = false;
    memset(&session.result, 0, sizeof(session.result));
    for (size_t i = 0; i < session.message_count; i++) {
        session.messages[i].offset = 0;
        session.messages[i].transaction.untried = false;
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    session.fd = fds[0];
    server.fd = fds[1];
    assert_int_equal(pthread_create(&thread, NULL, run_server, &server), 0);
    assert_int_equal(loop_create(&session.loop, "client", &error), 0);
    assert_int_equal(loop_start(session.loop, &error), 0);
    loop_post(session.loop, &task);
    loop_join(session.loop);
    loop_destroy(&session.loop);
    pthread_join(thread, NULL);
    assert_true(session.is_in_order);
    assert_int_equal(session.finished, session.next);
    if (server.failure[0])
        fail_msg("%s: %s", bytewise ? "bytewise" : "whole", server.failure);
}

/* Plays the script both ways and runs the checks after each. */
static void play(const char *const *script, void (*check)(void))
{
    for (int bytewise = 0; bytewise < 2; bytewise++) {
        play_once(script, bytewise == 1);
        check();
    }
}

#define PLAY(check, ...) play((const char *const[]){__VA_ARGS__, NULL}, check)

/* ---- messages ---- */

static int set_up(void **state)
{
    (void)state;
    memset(&session, 0, sizeof(session));
    session.options = (struct smtp_client_options){
        .helo_name = STR("me.test"), .command_timeout_ms = 15000, .data_timeout_ms = 15000};
    return 0;
}

static struct message *add(const char *sender, const char *body, const char *recipient)
{
    struct message *message = &session.messages[session.message_count++];

    message->body = body;
    message->body_length = strlen(body);
    message->recipients[0].address = str_from_cstr(recipient);
    message->transaction = (struct smtp_client_transaction){
        .sender = str_from_cstr(sender),
        .body_bytes = message->body_length,
        .recipients = message->recipients,
        .recipient_count = 1,
        .read_body = read_body,
    };
    return message;
}

static void add_recipient(struct message *message, const char *recipient)
{
    message->recipients[message->transaction.recipient_count++].address = str_from_cstr(recipient);
}

#define RESULT(m, r) (&session.messages[m].recipients[r].result)

static void check_result(size_t m, size_t r, int code, const char *status, const char *text)
{
    const struct smtp_client_result *result = RESULT(m, r);

    assert_int_equal(result->code, code);
    assert_string_equal(result->status, status);
    assert_non_null(strstr(result->text, text));
}

static void check_delivered(size_t m, size_t r)
{
    assert_true(RESULT(m, r)->delivered);
    assert_false(RESULT(m, r)->permanent);
    assert_false(session.messages[m].transaction.untried);
}

static void check_deferred(size_t m, size_t r)
{
    assert_false(RESULT(m, r)->delivered);
    assert_false(RESULT(m, r)->permanent);
}

static void check_failed(size_t m, size_t r)
{
    assert_false(RESULT(m, r)->delivered);
    assert_true(RESULT(m, r)->permanent);
}

#define HELLO       "S:220 them.test ESMTP\r\n", "C:EHLO me.test\r\n"
#define PIPELINED   HELLO, "S:250-them.test\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES\r\n"
#define PLAIN       HELLO, "S:250 them.test\r\n"
#define BODY        "Subject: x\r\n\r\nhello\r\n"
#define ENVELOPE(n) "MAIL FROM:<s" #n "@a.test>\r\nRCPT TO:<r" #n "@b.test>\r\nDATA\r\n"
#define GO_AHEAD    "250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n"
#define BYE         "C:QUIT\r\n", "S:221 bye\r\n"

static void add_two(void)
{
    add("s1@a.test", BODY, "r1@b.test");
    add("s2@a.test", BODY, "r2@b.test");
}

#endif
