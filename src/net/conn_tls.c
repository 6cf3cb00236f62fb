/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS on a connection. OpenSSL reads and writes by way of a BIO of ours, so that the socket is used in one way only: never a signal for
 * a peer that has gone, readiness remembered (conn_socket_read), and every byte counted that brings no data.
 *
 * The error queue is the thread's, so all fibers of a loop share it: it is emptied before each operation, and read before anybody
 * else can run.
 */
#include "base/mem.h"
#include "loop/loop.h"
#include "net/conn_private.h"
#include "net/tls_private.h"

#include <errno.h>
#include <openssl/err.h>
#include <pthread.h>

struct conn_tls {
    SSL *ssl;
    struct tls_context *context;
    struct tls_client_link link; /* a client's */
    struct tls_facts facts;
    char *early; /* a block: came before the handshake was begun; bytes early_start .. early_end are unread */
    uint32_t early_start, early_end;
    size_t silent_bytes_left; /* may be read before a handshake is through, or data comes */
    int errno_value;          /* of the last failure on the socket */
    bool is_over;             /* no more SSL calls make sense */
    bool is_flooded;          /* silent_bytes_left was not enough */
    bool has_ended;           /* the socket has: nothing will come */
};

/* ---- the BIO ---- */

static size_t take_early(struct conn_tls *tls, void *data, size_t length)
{
    size_t count = tls->early_end - tls->early_start;

    if (count > length)
        count = length;
    memcpy(data, tls->early + tls->early_start, count);
    tls->early_start += (uint32_t)count;
    if (tls->early_start == tls->early_end) {
        loop_block_give(tls->early);
        tls->early = NULL;
    }
    return count;
}

static int bio_read(BIO *bio, char *data, int length)
{
    struct conn *conn = BIO_get_data(bio);
    struct conn_tls *tls = conn->tls;
    ssize_t count;

    BIO_clear_retry_flags(bio);
    if (tls->silent_bytes_left == 0) {
        tls->is_flooded = true;
        return -1;
    }
    if ((size_t)length > tls->silent_bytes_left)
        length = (int)tls->silent_bytes_left;
    count = tls->early ? (ssize_t)take_early(tls, data, (size_t)length) : conn_socket_read(conn, data, (size_t)length);
    if (count > 0)
        tls->silent_bytes_left -= (size_t)count;
    else if (count < 0 && errno == EAGAIN)
        BIO_set_retry_read(bio);
    else if (count < 0)
        tls->errno_value = errno;
    else
        tls->has_ended = true;
    return (int)count;
}

static int bio_write(BIO *bio, const char *data, int length)
{
    struct conn *conn = BIO_get_data(bio);
    ssize_t count = conn_socket_write(conn, data, (size_t)length);

    BIO_clear_retry_flags(bio);
    if (count < 0 && errno == EAGAIN)
        BIO_set_retry_write(bio);
    else if (count < 0)
        conn->tls->errno_value = errno;
    return (int)count;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    const struct conn *conn = BIO_get_data(bio);

    (void)number;
    (void)pointer;
    if (command == BIO_CTRL_EOF)
        return conn->tls && conn->tls->has_ended;
    return command == BIO_CTRL_FLUSH; /* nothing is held back */
}

static BIO_METHOD *bio_method;

static void bio_method_create(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "connection");
    if (!bio_method || BIO_meth_set_read(bio_method, bio_read) != 1 || BIO_meth_set_write(bio_method, bio_write) != 1 ||
        BIO_meth_set_ctrl(bio_method, bio_control) != 1)
        abort(); /* only for want of memory */
}

static BIO *bio_create(struct conn *conn)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    BIO *bio;

    pthread_once(&once, bio_method_create);
    bio = BIO_new(bio_method);
    if (!bio)
        abort(); /* only for want of memory */
    BIO_set_data(bio, conn);
    BIO_set_init(bio, 1);
    return bio;
}

/* ---- results ---- */

/* After an operation that returned `result`: sets errno as the socket's functions do; 0: the peer's close_notify. */
static ssize_t outcome(struct conn *conn, int result)
{
    struct conn_tls *tls = conn->tls;

    switch (SSL_get_error(tls->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        conn->blocked_on = UV_READABLE;
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_WANT_WRITE:
        conn->blocked_on = UV_WRITABLE;
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        tls->is_over = true;
        /* A close without close_notify may be anybody's: for SMTP, which frames all it sends, it is as good as a reset. */
        if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
            errno = ECONNRESET;
        else
            errno = tls->errno_value != 0 ? tls->errno_value : EPROTO;
        return -1;
    }
}

static ssize_t refuse_use(struct conn_tls *tls)
{
    errno = tls->errno_value != 0 ? tls->errno_value : ECONNRESET;
    return -1;
}

/* ---- data ---- */

ssize_t conn_tls_read(struct conn *conn, void *data, size_t length)
{
    struct conn_tls *tls = conn->tls;
    size_t count;
    int result;

    if (tls->is_over)
        return refuse_use(tls);
    tls_clear_errors();
    result = SSL_read_ex(tls->ssl, data, length, &count);
    if (result != 1)
        return outcome(conn, result);
    tls->silent_bytes_left = CONN_TLS_SILENT_BYTES_MAX;
    return (ssize_t)count;
}

ssize_t conn_tls_write(struct conn *conn, const void *data, size_t length)
{
    struct conn_tls *tls = conn->tls;
    size_t count;
    int result;

    if (tls->is_over)
        return refuse_use(tls);
    tls_clear_errors();
    result = SSL_write_ex(tls->ssl, data, length, &count);
    if (result == 1)
        return (ssize_t)count;
    if (outcome(conn, result) == 0) /* not in answer to a write; never taken for progress */
        errno = EPIPE;
    return -1;
}

bool conn_tls_holds_input(const struct conn *conn)
{
    const struct conn_tls *tls = conn->tls;

    return tls->early || tls->is_over || SSL_has_pending(tls->ssl) == 1;
}

bool conn_tls_has_input(struct conn *conn)
{
    struct conn_tls *tls = conn->tls;
    char byte;
    size_t count;
    int result;

    if (tls->is_over)
        return true;
    conn->ready |= UV_READABLE; /* look, whatever has been reported */
    tls_clear_errors();
    result = SSL_peek_ex(tls->ssl, &byte, 1, &count);
    return result == 1 || outcome(conn, result) == 0 || errno != EAGAIN;
}

void conn_tls_give_up(struct conn *conn)
{
    conn->tls->is_over = true;
}

void conn_tls_say_end(struct conn *conn)
{
    struct conn_tls *tls = conn->tls;

    if (tls->is_over || SSL_in_init(tls->ssl))
        return;
    tls_clear_errors();
    SSL_shutdown(tls->ssl);
    tls_clear_errors();
    tls->is_over = true;
}

void conn_tls_release(struct conn *conn)
{
    struct conn_tls *tls = conn->tls;

    if (!tls)
        return;
    conn->tls = NULL;
    SSL_free(tls->ssl);
    tls_context_release(&tls->context);
    if (tls->early)
        loop_block_give(tls->early);
    free(tls);
}

/* ---- the handshake ---- */

static void begin(struct conn *conn, struct tls_context *context)
{
    struct conn_tls *tls = mem_alloc(sizeof(*tls));

    tls->context = tls_context_retain(context);
    tls->silent_bytes_left = CONN_TLS_HANDSHAKE_BYTES_MAX;
    if (conn->input && conn->input_end > conn->input_start) {
        tls->early = conn->input;
        tls->early_start = conn->input_start;
        tls->early_end = conn->input_end;
        conn->input = NULL;
        conn->input_start = conn->input_end = conn->scanned = 0;
    }
    conn->tls = tls;
}

static void attach(struct conn *conn, SSL *ssl)
{
    BIO *bio = bio_create(conn);

    SSL_set_bio(ssl, bio, bio);
    conn->tls->ssl = ssl;
}

static enum conn_status explain(struct conn *conn, int errno_value, struct error *error)
{
    const struct conn_tls *tls = conn->tls;
    const char *refusal = SSL_is_server(tls->ssl) ? NULL : tls_client_refusal(tls->ssl);
    enum conn_status status = conn_failed(conn, errno_value);

    if (tls->is_flooded)
        error_set(error, "TLS: the peer's handshake is too long");
    else if (refusal)
        error_set(error, "TLS: %s", refusal);
    else if (tls->errno_value != 0 && status != CONN_CLOSED)
        error_set_errno(error, tls->errno_value, "TLS");
    else if (tls->errno_value != 0 || ERR_peek_error() == 0)
        error_set(error, "TLS: the peer closed the connection");
    else
        error_set(error, "TLS: %s", tls_error_words());
    tls_clear_errors();
    return status;
}

/* A function of its own, so that the stack that the mathematics takes is given back before each wait. */
static __attribute__((noinline)) ssize_t step(struct conn *conn)
{
    int result;

    tls_clear_errors();
    result = SSL_do_handshake(conn->tls->ssl);
    return result == 1 ? 1 : outcome(conn, result);
}

static enum conn_status shake_hands(struct conn *conn, uint64_t deadline_ms, struct error *error)
{
    struct conn_tls *tls = conn->tls;
    ssize_t result;

    while ((result = step(conn)) != 1) {
        enum conn_status status;

        if (result == 0) { /* a close_notify in the middle */
            tls->is_over = true;
            error_set(error, "TLS: the peer closed the connection");
            return CONN_CLOSED;
        }
        if (errno != EAGAIN)
            return explain(conn, errno, error);
        status = conn_wait_for(conn, conn->blocked_on, deadline_ms);
        if (status != CONN_OK) {
            tls->is_over = true;
            error_set(error, "TLS: %s", conn_status_text(status));
            return status;
        }
    }
    tls->silent_bytes_left = CONN_TLS_SILENT_BYTES_MAX;
    tls_collect_facts(tls->ssl, SSL_is_server(tls->ssl) ? NULL : &tls->link, &tls->facts);
    return CONN_OK;
}

/* NULL: as it must be. */
static const char *misuse(const struct conn *conn)
{
    if (conn->tls)
        return "TLS: there is TLS already";
    return conn->output ? "TLS: plaintext has not been sent yet" : NULL;
}

enum conn_status conn_accept_tls(struct conn *conn, struct tls_context *context, uint64_t deadline_ms,
                                 struct error *error)
{
    const char *fault = misuse(conn);

    if (fault) {
        error_set(error, "%s", fault);
        return conn_failed(conn, EPROTO);
    }
    begin(conn, context);
    attach(conn, tls_server_start(context));
    return shake_hands(conn, deadline_ms, error);
}

enum conn_status conn_connect_tls(struct conn *conn, const struct tls_client_options *options, uint64_t deadline_ms,
                                  struct error *error)
{
    const char *fault = misuse(conn);
    enum conn_status status;
    SSL *ssl;

    if (!fault && conn->input_end > conn->input_start)
        fault = "TLS: the server sent plaintext behind its reply to STARTTLS";
    if (fault) {
        error_set(error, "%s", fault);
        return conn_failed(conn, EPROTO);
    }
    begin(conn, options->context);
    ssl = tls_client_start(options, &conn->tls->link, error);
    if (!ssl) {
        error_add_context(error, "TLS");
        conn_tls_release(conn);
        return conn_failed(conn, EPROTO);
    }
    attach(conn, ssl);
    status = shake_hands(conn, deadline_ms, error);
    /* Whatever it was, it must not fail the next attempt again. */
    if (status != CONN_OK && conn->tls->link.keeps_sessions)
        tls_sessions_forget(conn->tls->link.sessions, conn->tls->link.session_key);
    return status;
}

const struct tls_facts *conn_tls(const struct conn *conn)
{
    return conn->tls && conn->tls->facts.protocol ? &conn->tls->facts : NULL;
}

size_t conn_tls_binding(struct conn *conn, enum tls_binding kind, unsigned char data[TLS_BINDING_BYTES_MAX])
{
    return conn_tls(conn) && !conn->tls->is_over ? tls_binding_data(conn->tls->ssl, kind, data) : 0;
}
