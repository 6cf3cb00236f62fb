/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole session of the SMTP server: the client's bytes come over a socket in pieces of every size. Whatever they are, the hooks must be
 * called in an order that a session can rely on, what is handed over as a message must be clean, and the replies must be replies.
 *
 * Input: a byte of settings, a byte that the sizes of the pieces come from, and what the client sends.
 */
#include "base/buf.h"
#include "loop/fiber.h"
#include "loop/loop.h"
#include "smtp/server.h"

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGE_BYTES_MAX 500
#define REPLY_BYTES_MAX   (4u << 20)

enum settings {
    NORMALIZE = 1,
    UTF8_DOMAIN = 2,
    REFUSE_BEGIN = 4,
    REFUSE_CONNECT = 8,
    FEW_ERRORS = 16,
    FEW_MESSAGES = 32
};

struct session {
    struct loop_task task;
    sem_t done;
    struct str input;
    unsigned settings;
    unsigned piece_seed;
    int fd; /* the client's */
    struct conn *conn;
    struct smtp_server *server;
    bool is_over;

    bool has_hello, in_transaction, in_message;
    unsigned recipients;
    struct buf message;
    struct buf replies;
};

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* ---- hooks ---- */

static void on_connected(void *context, struct smtp_reply *reply)
{
    const struct session *session = context;

    if (session->settings & REFUSE_CONNECT)
        smtp_reply_set(reply, 554, "5.7.1", "No");
    else
        reply->code = 220;
}

static void on_hello(void *context, struct str name, bool is_esmtp)
{
    struct session *session = context;

    (void)name;
    (void)is_esmtp;
    require(!session->in_transaction);
    session->has_hello = true;
}

/* Refuses whoever's name begins with an r, and does not know who begins with a u. */
static void answer(const struct address *address, struct smtp_reply *reply)
{
    struct str text = address_text(address);

    require(text.length > 0);
    *reply = (struct smtp_reply){0};
    if (text.data[0] == 'r')
        smtp_reply_set(reply, 550, "5.7.1", "Unable to relay for %.*s", STR_ARG(text));
    else if (text.data[0] == 'u')
        smtp_reply_set(reply, 550, "5.1.1", "%.*s... User unknown", STR_ARG(text));
    else
        smtp_reply_set(reply, 250, "2.1.5", "%.*s", STR_ARG(text));
    reply->is_unknown_recipient = text.data[0] == 'u';
}

static void on_mail(void *context, const struct command_mail *mail, struct smtp_reply *reply)
{
    struct session *session = context;

    require(session->has_hello && !session->in_transaction);
    require(!mail->has_size || mail->size <= MESSAGE_BYTES_MAX);
    answer(&mail->sender, reply);
    session->in_transaction = reply->code == 250;
    session->recipients = 0;
}

static void on_rcpt(void *context, const struct command_rcpt *rcpt, struct smtp_reply *reply)
{
    struct session *session = context;

    require(session->in_transaction && !session->in_message && !rcpt->recipient.is_null);
    answer(&rcpt->recipient, reply);
    session->recipients += reply->code == 250;
}

static void on_verify(void *context, const struct address *address, struct smtp_reply *reply)
{
    (void)context;
    answer(address, reply);
}

static void on_message_begin(void *context, struct smtp_reply *reply)
{
    struct session *session = context;

    require(session->in_transaction && session->recipients > 0 && !session->in_message);
    if (session->settings & REFUSE_BEGIN) {
        smtp_reply_set(reply, 452, "4.3.1", "Out of storage");
        return;
    }
    reply->code = 354;
    session->in_message = true;
    buf_clear(&session->message);
}

static void on_message_data(void *context, struct str piece)
{
    struct session *session = context;

    require(session->in_message && piece.length > 0);
    require(buf_append_str(&session->message, piece));
}

static void on_message_end(void *context, struct smtp_reply *reply)
{
    struct session *session = context;
    const char *data = session->message.data;
    size_t length = session->message.length;

    require(session->in_message);
    for (size_t i = 0; i < length; i++) {
        require(data[i] != '\0');
        require(data[i] != '\n' || (i > 0 && data[i - 1] == '\r'));
        require(data[i] != '\r' || (i + 1 < length && data[i + 1] == '\n'));
    }
    session->in_message = false;
    smtp_reply_set(reply, 250, "2.6.0", "Queued");
}

static void on_reset(void *context)
{
    struct session *session = context;

    session->in_transaction = session->in_message = false;
}

static bool on_is_trusted(void *context)
{
    (void)context;
    return false;
}

static const struct smtp_server_hooks hooks = {
    .connected = on_connected,
    .hello = on_hello,
    .mail = on_mail,
    .rcpt = on_rcpt,
    .verify = on_verify,
    .message_begin = on_message_begin,
    .message_data = on_message_data,
    .message_end = on_message_end,
    .reset = on_reset,
    .is_trusted = on_is_trusted,
};

/* ---- both sides ---- */

static void server_main(void *argument)
{
    struct session *session = argument;
    struct smtp_server_settings settings = {
        .hostname = STR("mx.contoso.test"),
        .banner = STR("Postern ESMTP"),
        .default_domain = session->settings & UTF8_DOMAIN ? STR("b\xc3\xbc.test") : STR("contoso.test"),
        .normalize_newlines = session->settings & NORMALIZE,
        .message_bytes_max = MESSAGE_BYTES_MAX,
        .recipients_max = 5,
        .idle_timeout_ms = 600000,
        .messages_max = session->settings & FEW_MESSAGES ? 2 : 0,
        .errors_max = session->settings & FEW_ERRORS ? 3 : 1000,
        .unknown_recipients_max = 4,
    };
    const struct smtp_server_options options = {session->conn, &settings, &hooks, session};

    smtp_server_run(&session->server, &options);
    require(!session->in_transaction);
    conn_close(&session->conn);
    session->is_over = true;
}

static void turn(struct session *session)
{
    char room[4096];
    ssize_t count;

    fiber_yield();
    while ((count = recv(session->fd, room, sizeof(room), 0)) > 0)
        require(buf_append(&session->replies, room, (size_t)count));
}

static void check_replies(const struct session *session)
{
    struct str rest = buf_str(&session->replies);

    while (rest.length > 0) {
        struct str line = str_split(&rest, '\n');

        require(rest.data != NULL); /* ended by LF */
        require(line.length > 4 && line.length <= SMTP_REPLY_TEXT_BYTES + 32 && line.data[line.length - 1] == '\r');
        require(line.data[0] >= '2' && line.data[0] <= '5' && ascii_is_digit(line.data[1]) &&
                ascii_is_digit(line.data[2]));
        require(line.data[3] == ' ' || line.data[3] == '-');
        for (size_t i = 0; i + 1 < line.length; i++)
            require((unsigned char)line.data[i] >= ' ' && line.data[i] != 0x7f);
    }
}

static void client_main(void *argument)
{
    struct session *session = argument;
    struct str input = session->input;

    /* Who speaks before the banner is not listened to. */
    while (session->replies.length == 0 && !session->is_over)
        turn(session);
    while (input.length > 0 && !session->is_over) {
        size_t length = session->piece_seed % 3 == 0 ? session->piece_seed % 61 + 1 : session->piece_seed % 3;
        struct str piece = session->piece_seed == 0 ? input : str_take(input, length);
        ssize_t count = send(session->fd, piece.data, piece.length, MSG_NOSIGNAL);

        if (count < 0 && errno != EAGAIN)
            break;
        if (count > 0)
            input = str_skip(input, (size_t)count);
        if (session->piece_seed != 0)
            session->piece_seed = (session->piece_seed * 1103515245u + 12345u) >> 1 | 1u;
        turn(session);
    }
    shutdown(session->fd, SHUT_WR);
    while (!session->is_over)
        turn(session);
    turn(session);
    close(session->fd);
    check_replies(session);
    sem_post(&session->done);
}

static void begin(struct loop_task *task)
{
    struct session *session = (struct session *)task;
    const struct net_address peer = {.ip = {[10] = 0xff, 0xff, 127, 0, 0, 1}};
    int fds[2];

    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    session->fd = fds[0];
    session->conn = conn_create(fds[1], &peer);
    require(session->conn && fiber_start(server_main, session) == 0 && fiber_start(client_main, session) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct loop *loop;
    struct session session = {.task = {.run = begin}};

    if (size < 2)
        return 0;
    if (!loop)
        require(loop_create(&loop, "fuzz", NULL) == 0 && loop_start(loop, NULL) == 0);
    session.settings = data[0];
    session.piece_seed = data[1];
    session.input = str_make((const char *)data + 2, size - 2);
    buf_init(&session.message, MESSAGE_BYTES_MAX);
    buf_init(&session.replies, REPLY_BYTES_MAX);
    sem_init(&session.done, 0, 0);
    loop_post(loop, &session.task);
    while (sem_wait(&session.done) != 0) {
    }
    sem_destroy(&session.done);
    buf_release(&session.message);
    buf_release(&session.replies);
    return 0;
}
