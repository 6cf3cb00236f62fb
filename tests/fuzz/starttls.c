/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session of the SMTP server whose client has a real TLS library, and a network in between that cuts, drops and changes what it sends. Whatever
 * happens: nothing that came in plaintext is carried out after TLS has begun, nothing that the client's TLS did not send is taken for data,
 * a message that was cut off is none, and the hooks are called in an order that a session can rely on.
 *
 * Input: a byte of settings, then steps: a byte with its kind in the lower three bits and a number in the others, and what the kind says.
 */
#include "base/buf.h"
#include "loop/fiber.h"
#include "loop/loop.h"
#include "smtp/server.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define MESSAGE_BYTES_MAX 500
#define OUTPUT_BYTES_MAX  (4u << 20)
#define HANDSHAKE_TURNS   40

enum settings { IMPLICIT = 1, TLS_1_2 = 2, NORMALIZE = 4 };

enum step_kind {
    STEP_TEXT,  /* a length byte and so much text, by TLS once that has begun */
    STEP_RAW,   /* number + 1 bytes, past TLS */
    STEP_CUT,   /* from now on packets are of so many bytes; 0: of any */
    STEP_TURN,  /* the others run number + 1 times */
    STEP_START, /* the client's handshake begins */
    STEP_DROP,  /* number + 1 bytes of what is sent next are lost */
    STEP_FLIP,  /* the byte at that place of what is sent next is changed */
    STEP_END,   /* 1: close_notify, 2: the socket's end, 4: a change of keys */
};

struct session {
    struct loop_task task;
    sem_t done;
    struct str input;
    unsigned settings;
    int fd; /* the client's */
    struct conn *conn;
    struct smtp_server *server;
    bool is_over;

    SSL *ssl; /* NULL: the client has not begun */
    BIO *from_server, *to_server;
    uint64_t tls_bytes_sent;
    size_t cut, drop, flip; /* flip: place + 1, or 0 */
    bool has_ended;

    bool is_secured, has_hello, in_transaction, in_message;
    uint64_t bytes_read_before; /* TLS */
    unsigned recipients;
    struct buf raw, replies; /* of the server: as it came, and decrypted */
};

static SSL_CTX *client_context;
static struct tls_context *server_tls;

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* ---- hooks ---- */

/* What the server has read as data since TLS began is what the client has sent by TLS, or the beginning of it. */
static void check_origin(const struct session *session)
{
    if (session->is_secured)
        require(conn_bytes_read(session->conn) - session->bytes_read_before <= session->tls_bytes_sent);
}

static void on_connected(void *context, struct smtp_reply *reply)
{
    const struct session *session = context;

    require(session->is_secured == ((session->settings & IMPLICIT) != 0));
    reply->code = 220;
}

static void on_hello(void *context, struct str name, bool is_esmtp)
{
    struct session *session = context;

    (void)name;
    (void)is_esmtp;
    check_origin(session);
    require(!session->in_transaction);
    session->has_hello = true;
}

static void on_secured(void *context)
{
    struct session *session = context;

    require(!session->is_secured && !session->in_transaction && session->ssl);
    require(conn_tls(session->conn) && conn_buffered(session->conn).length == 0);
    session->is_secured = true;
    session->has_hello = false;
    session->bytes_read_before = conn_bytes_read(session->conn);
}

static void on_tls_failed(void *context, const struct error *error)
{
    const struct session *session = context;

    require(!session->is_secured && !session->in_transaction && !conn_tls(session->conn));
    require(strncmp(error->text, "TLS: ", 5) == 0);
}

static void on_mail(void *context, const struct command_mail *mail, struct smtp_reply *reply)
{
    struct session *session = context;

    (void)mail;
    check_origin(session);
    require(session->has_hello && !session->in_transaction);
    session->in_transaction = true;
    session->recipients = 0;
    smtp_reply_set(reply, 250, "2.1.0", "OK");
}

static void on_rcpt(void *context, const struct command_rcpt *rcpt, struct smtp_reply *reply)
{
    struct session *session = context;

    (void)rcpt;
    check_origin(session);
    require(session->in_transaction && !session->in_message);
    session->recipients++;
    smtp_reply_set(reply, 250, "2.1.5", "OK");
}

static void on_verify(void *context, const struct address *address, struct smtp_reply *reply)
{
    (void)address;
    check_origin(context);
    smtp_reply_set(reply, 252, "2.1.5", "OK");
}

static void on_message_begin(void *context, struct smtp_reply *reply)
{
    struct session *session = context;

    check_origin(session);
    require(session->in_transaction && session->recipients > 0 && !session->in_message);
    session->in_message = true;
    reply->code = 354;
}

static void on_message_data(void *context, struct str piece)
{
    const struct session *session = context;

    check_origin(session);
    require(session->in_message && piece.length > 0);
}

static void on_message_end(void *context, struct smtp_reply *reply)
{
    struct session *session = context;

    check_origin(session);
    require(session->in_message);
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
    .secured = on_secured,
    .tls_failed = on_tls_failed,
    .mail = on_mail,
    .rcpt = on_rcpt,
    .verify = on_verify,
    .message_begin = on_message_begin,
    .message_data = on_message_data,
    .message_end = on_message_end,
    .reset = on_reset,
    .is_trusted = on_is_trusted,
};

static void server_main(void *argument)
{
    struct session *session = argument;
    struct smtp_server_settings settings = {
        .hostname = STR("mx.contoso.test"),
        .banner = STR("Postern ESMTP"),
        .default_domain = STR("contoso.test"),
        .normalize_newlines = session->settings & NORMALIZE,
        .message_bytes_max = MESSAGE_BYTES_MAX,
        .recipients_max = 5,
        .idle_timeout_ms = 600000,
        .errors_max = 1000,
        .unknown_recipients_max = 4,
        .tls = server_tls,
        .tls_is_implicit = session->settings & IMPLICIT,
    };
    const struct smtp_server_options options = {session->conn, &settings, &hooks, session};

    smtp_server_run(&session->server, &options);
    require(!session->in_transaction);
    conn_close(&session->conn);
    session->is_over = true;
}

/* ---- the client and the network ---- */

static void turn(struct session *session)
{
    char room[4096];
    ssize_t count;

    fiber_yield();
    while ((count = recv(session->fd, room, sizeof(room), 0)) > 0) {
        require(buf_append(&session->raw, room, (size_t)count));
        if (session->ssl)
            require(BIO_write(session->from_server, room, (int)count) == count);
    }
    if (!session->ssl || !SSL_is_init_finished(session->ssl))
        return;
    ERR_clear_error();
    while ((count = SSL_read(session->ssl, room, sizeof(room))) > 0)
        require(buf_append(&session->replies, room, (size_t)count));
}

static void send_bytes(struct session *session, struct str data)
{
    while (data.length > 0 && !session->is_over && !session->has_ended) {
        struct str piece = session->cut > 0 ? str_take(data, session->cut) : data;
        ssize_t count = send(session->fd, piece.data, piece.length, MSG_NOSIGNAL);

        if (count < 0 && errno != EAGAIN)
            return;
        if (count > 0)
            data = str_skip(data, (size_t)count);
        if (session->cut > 0 || count < 0)
            turn(session);
    }
}

/* What the client's TLS wants sent, as the network passes it on. */
static void pass_on(struct session *session)
{
    struct buf packet;
    char *data;
    long length = BIO_get_mem_data(session->to_server, &data);

    if (length <= 0)
        return;
    /* Taken out at once: while it is sent, the client may want to send more. */
    buf_init(&packet, OUTPUT_BYTES_MAX);
    require(buf_append(&packet, data, (size_t)length) && BIO_reset(session->to_server) == 1);
    if (session->flip > 0 && session->flip <= packet.length) {
        packet.data[session->flip - 1] ^= 0x10;
        session->flip = 0;
    }
    buf_consume(&packet, session->drop < packet.length ? session->drop : packet.length);
    session->drop = 0;
    send_bytes(session, buf_str(&packet));
    buf_release(&packet);
}

static void shake_hands(struct session *session, unsigned turns)
{
    while (turns-- > 0 && !session->is_over && !SSL_is_init_finished(session->ssl)) {
        ERR_clear_error();
        SSL_do_handshake(session->ssl);
        pass_on(session);
        turn(session);
    }
    pass_on(session);
}

static void start(struct session *session, unsigned turns)
{
    if (!session->ssl) {
        session->ssl = SSL_new(client_context);
        session->from_server = BIO_new(BIO_s_mem());
        session->to_server = BIO_new(BIO_s_mem());
        require(session->ssl && session->from_server && session->to_server);
        BIO_set_mem_eof_return(session->from_server, -1);
        SSL_set_bio(session->ssl, session->from_server, session->to_server);
        SSL_set_connect_state(session->ssl);
        if (session->settings & TLS_1_2)
            SSL_set_max_proto_version(session->ssl, TLS1_2_VERSION);
    }
    shake_hands(session, turns);
}

static void say(struct session *session, struct str text)
{
    if (!session->ssl) {
        send_bytes(session, text);
        return;
    }
    ERR_clear_error();
    if (SSL_is_init_finished(session->ssl) && text.length > 0 &&
        SSL_write(session->ssl, text.data, (int)text.length) == (int)text.length)
        session->tls_bytes_sent += text.length;
    pass_on(session);
}

static void end(struct session *session, unsigned what)
{
    ERR_clear_error();
    if (session->ssl && (what & 4))
        SSL_key_update(session->ssl, what & 8 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
    if (session->ssl && (what & 1))
        SSL_shutdown(session->ssl);
    if (session->ssl)
        pass_on(session);
    if (what & 2) {
        shutdown(session->fd, SHUT_WR);
        session->has_ended = true;
    }
}

static struct str take(struct session *session, size_t length)
{
    struct str taken = str_take(session->input, length);

    session->input = str_skip(session->input, length);
    return taken;
}

static void take_step(struct session *session)
{
    const unsigned char code = (unsigned char)take(session, 1).data[0];
    const unsigned number = code >> 3;
    struct str length;

    switch ((enum step_kind)(code & 7)) {
    case STEP_TEXT:
        length = take(session, 1);
        say(session, take(session, length.length > 0 ? (unsigned char)length.data[0] : 0));
        return;
    case STEP_RAW:
        send_bytes(session, take(session, number + 1));
        return;
    case STEP_CUT:
        session->cut = number;
        return;
    case STEP_TURN:
        for (unsigned i = 0; i <= number && !session->is_over; i++)
            turn(session);
        return;
    case STEP_START:
        start(session, number == 31 ? HANDSHAKE_TURNS : number);
        return;
    case STEP_DROP:
        session->drop = number + 1;
        return;
    case STEP_FLIP:
        session->flip = number + 1;
        return;
    case STEP_END:
        end(session, number);
        return;
    }
}

/* ---- what must have come of it ---- */

static void check_lines(struct str rest)
{
    while (rest.length > 0) {
        struct str line = str_split(&rest, '\n');

        if (!rest.data)
            return; /* cut off by the client's end */
        require(line.length > 4 && line.data[line.length - 1] == '\r');
        require(line.data[0] >= '2' && line.data[0] <= '5' && (line.data[3] == ' ' || line.data[3] == '-'));
    }
}

/* Replies in plaintext up to the one that ends them, and after that nothing but records. */
static void check_replies(const struct session *session)
{
    static const struct str ready = STR_INIT("220 2.0.0 Ready to start TLS\r\n");
    struct str raw = buf_str(&session->raw);
    const char *found = raw.length > 0 ? memmem(raw.data, raw.length, ready.data, ready.length) : NULL;
    size_t plain = session->settings & IMPLICIT ? 0 : found ? (size_t)(found - raw.data) + ready.length : raw.length;

    check_lines(str_take(raw, plain));
    raw = str_skip(raw, plain);
    require(raw.length == 0 || (raw.data[0] >= 0x14 && raw.data[0] <= 0x17));
    check_lines(buf_str(&session->replies));
}

static void client_main(void *argument)
{
    struct session *session = argument;

    while (!(session->settings & IMPLICIT) && session->raw.length == 0 && !session->is_over)
        turn(session);
    while (session->input.length > 0 && !session->is_over)
        take_step(session);
    shutdown(session->fd, SHUT_WR);
    session->has_ended = true;
    while (!session->is_over)
        turn(session);
    turn(session);
    close(session->fd);
    check_replies(session);
    if (session->ssl)
        SSL_free(session->ssl);
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

/* ---- start ---- */

static void make_contexts(void)
{
    char directory[] = "/tmp/fuzz-starttls-XXXXXX", certificate_path[64], key_path[64];
    const struct tls_files files = {NULL, certificate_path, key_path};
    const struct tls_server_settings settings = {
        .certificates = &files, .certificate_count = 1, .protocol_min = TLS_PROTOCOL_1_2};
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    FILE *file;

    require(key && certificate && mkdtemp(directory));
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 24 * 3600);
    X509_set_pubkey(certificate, key);
    require(X509_sign(certificate, key, EVP_sha256()) > 0);
    snprintf(certificate_path, sizeof(certificate_path), "%s/cert.pem", directory);
    snprintf(key_path, sizeof(key_path), "%s/key.pem", directory);
    file = fopen(certificate_path, "we");
    require(file && PEM_write_X509(file, certificate) == 1 && fclose(file) == 0);
    file = fopen(key_path, "we");
    require(file && fchmod(fileno(file), 0600) == 0);
    require(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1 && fclose(file) == 0);
    server_tls = tls_server_create(&settings, tls_tickets_create(), NULL);
    require(server_tls);
    client_context = SSL_CTX_new(TLS_client_method());
    require(client_context);
    unlink(certificate_path);
    unlink(key_path);
    rmdir(directory);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct loop *loop;
    struct session session = {.task = {.run = begin}};

    if (size < 1)
        return 0;
    if (!loop) {
        make_contexts();
        require(loop_create(&loop, "fuzz", NULL) == 0 && loop_start(loop, NULL) == 0);
    }
    session.settings = data[0];
    session.input = str_make((const char *)data + 1, size - 1);
    buf_init(&session.raw, OUTPUT_BYTES_MAX);
    buf_init(&session.replies, OUTPUT_BYTES_MAX);
    sem_init(&session.done, 0, 0);
    loop_post(loop, &session.task);
    while (sem_wait(&session.done) != 0) {
    }
    sem_destroy(&session.done);
    buf_release(&session.raw);
    buf_release(&session.replies);
    return 0;
}
