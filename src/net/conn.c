/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The poll handle stays registered for reading from the first wait on, since starting and stopping it for each wait costs system calls
 * (docs/PERFORMANCE.md). An event that nobody waits for switches that direction off until somebody does, so that a level-triggered
 * event is not reported again and again; `ready` remembers it.
 */
#include "net/conn.h"

#include "base/mem.h"
#include "loop/fiber.h"
#include "loop/loop.h"
#include "net/conn_private.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

_Static_assert(CONN_LINE_BYTES_MAX < LOOP_BLOCK_BYTES, "the longest line must fit into a block");

/* A peer that sends faster than its input is worked off never lets its fiber wait: after so many reads the others get their turn. */
#define CONN_READS_IN_A_ROW_MAX 16

const char *conn_status_text(enum conn_status status)
{
    switch (status) {
    case CONN_OK:
        return "ok";
    case CONN_CLOSED:
        return "connection closed";
    case CONN_TIMEOUT:
        return "timed out";
    case CONN_CANCELLED:
        return "cancelled";
    case CONN_FAILED:
        return "connection failed";
    case CONN_LINE_TOO_LONG:
        return "line too long";
    }
    return "?";
}

/* ---- events ---- */

static void on_event(uv_poll_t *poll, int status, int events);

static void watch(struct conn *conn, int events)
{
    if (conn->registered == events)
        return;
    conn->registered = events;
    if (events == 0)
        uv_poll_stop(&conn->poll);
    else
        uv_poll_start(&conn->poll, events, on_event);
}

static void on_event(uv_poll_t *poll, int status, int events)
{
    struct conn *conn = poll->data;
    struct loop *loop = loop_current();

    if (status < 0) {
        /* libuv has stopped watching; the next read or write tells the error itself. */
        conn->registered = 0;
        events = UV_READABLE | UV_WRITABLE;
    }
    conn->ready |= events;
    if (conn->waiter && (events & conn->wanted))
        fiber_wake(conn->waiter);
    watch(conn, conn->registered & ~(events & ~conn->wanted));
    loop_run_ready(loop); /* may free the connection */
}

enum conn_status conn_wait_for(struct conn *conn, int event, uint64_t deadline_ms)
{
    enum wait_result result = WAIT_READY;

    conn->waiter = fiber_current();
    conn->wanted = event;
    conn->reads_in_a_row = 0;
    while (!(conn->ready & event)) {
        watch(conn, conn->registered | event);
        result = fiber_wait(deadline_ms);
        if (result != WAIT_READY)
            break;
    }
    conn->wanted = 0;
    conn->waiter = NULL;
    if (conn->ready & event)
        return CONN_OK;
    return result == WAIT_TIMEOUT ? CONN_TIMEOUT : CONN_CANCELLED;
}

/* ---- the socket ---- */

ssize_t conn_socket_read(struct conn *conn, void *data, size_t length)
{
    ssize_t count;

    conn->blocked_on = UV_READABLE;
    if (!(conn->ready & UV_READABLE)) {
        errno = EAGAIN;
        return -1;
    }
    conn->reads_in_a_row++;
    do
        count = recv(conn->fd, data, length, 0);
    while (count < 0 && errno == EINTR);
    /* A short read means that the socket is drained: the next one waits at once instead of asking in vain. */
    if (count > 0 ? (size_t)count < length : count < 0 && errno == EAGAIN)
        conn->ready &= ~UV_READABLE;
    return count;
}

ssize_t conn_socket_write(struct conn *conn, const void *data, size_t length)
{
    ssize_t count;

    do
        count = send(conn->fd, data, length, MSG_NOSIGNAL);
    while (count < 0 && errno == EINTR);
    if (count < 0 && errno == EAGAIN) {
        conn->blocked_on = UV_WRITABLE;
        conn->ready &= ~UV_WRITABLE;
    }
    return count;
}

static ssize_t transport_read(struct conn *conn, void *data, size_t length)
{
    return conn->tls ? conn_tls_read(conn, data, length) : conn_socket_read(conn, data, length);
}

static ssize_t transport_write(struct conn *conn, const void *data, size_t length)
{
    return conn->tls ? conn_tls_write(conn, data, length) : conn_socket_write(conn, data, length);
}

/* Without an event there is nothing to read. */
static bool transport_is_drained(const struct conn *conn)
{
    return !(conn->ready & UV_READABLE) && !(conn->tls && conn_tls_holds_input(conn));
}

enum conn_status conn_failed(struct conn *conn, int errno_value)
{
    conn->errno_value = errno_value;
    return errno_value == ECONNRESET || errno_value == EPIPE || errno_value == ENOTCONN ? CONN_CLOSED : CONN_FAILED;
}

/* ---- life ---- */

struct conn *conn_create(int fd, const struct net_address *peer)
{
    struct conn *conn = mem_alloc(sizeof(*conn));
    struct sockaddr_storage local;
    socklen_t local_bytes = sizeof(local);
    int on = 1;

    conn->fd = fd;
    conn->peer = *peer;
    if (getsockname(fd, (struct sockaddr *)&local, &local_bytes) == 0)
        net_address_from_sockaddr((struct sockaddr *)&local, &conn->local);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (uv_poll_init(loop_uv(loop_current()), &conn->poll, fd) != 0) {
        /* Only for a descriptor that epoll can't watch: no socket of ours. */
        close(fd);
        free(conn);
        return NULL;
    }
    conn->poll.data = conn;
    return conn;
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void conn_close(struct conn **pointer)
{
    struct conn *conn = *pointer;

    if (!conn)
        return;
    *pointer = NULL;
    assert(!conn->waiter);
    if (conn->tls)
        conn_tls_say_end(conn);
    conn_tls_release(conn);
    if (conn->input)
        loop_block_give(conn->input);
    if (conn->output)
        loop_block_give(conn->output);
    conn->input = conn->output = NULL;
    uv_close((uv_handle_t *)&conn->poll, on_closed);
    close(conn->fd);
}

static int connect_error(struct error *error, int errno_value, const struct net_address *peer)
{
    char text[NET_ADDRESS_TEXT_BYTES];

    net_address_format(peer, text);
    return error_set_errno(error, errno_value, "connecting to %s", text);
}

/* Until the connection stands: 0, or an errno. */
static int wait_connected(struct conn *conn, uint64_t deadline_ms)
{
    enum conn_status status = conn_wait_for(conn, UV_WRITABLE, deadline_ms);
    struct sockaddr_storage local;
    socklen_t local_bytes = sizeof(local);
    int socket_error = 0;
    socklen_t socket_error_bytes = sizeof(socket_error);

    if (status != CONN_OK)
        return status == CONN_TIMEOUT ? ETIMEDOUT : ECANCELED;
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &socket_error, &socket_error_bytes) != 0)
        socket_error = errno;
    /* The local address is known only now. */
    if (getsockname(conn->fd, (struct sockaddr *)&local, &local_bytes) == 0)
        net_address_from_sockaddr((struct sockaddr *)&local, &conn->local);
    return socket_error;
}

int conn_connect(const struct net_address *peer, const struct net_address *source, uint64_t deadline_ms,
                 struct conn **out, struct error *error)
{
    struct sockaddr_storage address;
    socklen_t address_bytes = net_address_to_sockaddr(peer, &address);
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct conn *conn = NULL;
    int socket_error;

    if (fd < 0)
        return connect_error(error, errno, peer);
    if (source) {
        struct sockaddr_storage from;
        socklen_t from_bytes = net_address_to_sockaddr(source, &from);

        if (bind(fd, (struct sockaddr *)&from, from_bytes) != 0) {
            connect_error(error, errno, peer);
            close(fd);
            return error_add_context(error, "source address");
        }
    }
    if (connect(fd, (struct sockaddr *)&address, address_bytes) != 0 && errno != EINPROGRESS) {
        connect_error(error, errno, peer);
        close(fd);
        return -1;
    }
    conn = conn_create(fd, peer);
    if (!conn)
        return connect_error(error, EMFILE, peer);
    socket_error = wait_connected(conn, deadline_ms);
    if (socket_error != 0) {
        conn_close(&conn);
        return connect_error(error, socket_error, peer);
    }
    *out = conn;
    return 0;
}

int conn_connect_unix(const char *path, uint64_t deadline_ms, struct conn **out, struct error *error)
{
    const struct net_address nobody = {0};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct conn *conn = NULL;
    int fd, result = 0;

    if (strlen(path) >= sizeof(address.sun_path))
        return error_set_errno(error, ENAMETOOLONG, "connecting to %s", path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set_errno(error, errno, "connecting to %s", path);
    /* EAGAIN: its backlog is full. */
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0 && errno != EINPROGRESS) {
        error_set_errno(error, errno, "connecting to %s", path);
        close(fd);
        return -1;
    }
    conn = conn_create(fd, &nobody);
    if (!conn)
        return error_set_errno(error, EMFILE, "connecting to %s", path);
    result = wait_connected(conn, deadline_ms);
    if (result != 0) {
        conn_close(&conn);
        return error_set_errno(error, result, "connecting to %s", path);
    }
    *out = conn;
    return 0;
}

const struct net_address *conn_peer(const struct conn *conn)
{
    return &conn->peer;
}

void conn_set_peer(struct conn *conn, const struct net_address *peer)
{
    conn->peer = *peer;
}

const struct net_address *conn_local(const struct conn *conn)
{
    return &conn->local;
}

int conn_errno(const struct conn *conn)
{
    return conn->errno_value;
}

uint64_t conn_bytes_read(const struct conn *conn)
{
    return conn->bytes_read;
}

/* ---- input ---- */

struct str conn_buffered(const struct conn *conn)
{
    return str_make(conn->input ? conn->input + conn->input_start : NULL, conn->input_end - conn->input_start);
}

bool conn_has_input(struct conn *conn)
{
    char byte;

    if (conn->input_end > conn->input_start)
        return true;
    if (conn->tls)
        return conn_tls_has_input(conn);
    return recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
}

void conn_consume(struct conn *conn, size_t length)
{
    assert(length <= conn->input_end - conn->input_start);
    conn->input_start += (uint32_t)length;
    conn->scanned = conn->scanned > length ? conn->scanned - (uint32_t)length : 0;
}

/* An idle connection holds no buffer. */
static void release_input(struct conn *conn)
{
    if (conn->input && conn->input_start == conn->input_end) {
        loop_block_give(conn->input);
        conn->input = NULL;
        conn->input_start = conn->input_end = 0;
    }
}

void conn_rest(struct conn *conn)
{
    release_input(conn);
}

static void make_input_room(struct conn *conn)
{
    if (!conn->input) {
        conn->input = loop_block_take();
        conn->input_start = conn->input_end = 0;
    } else if (conn->input_start > 0) {
        memmove(conn->input, conn->input + conn->input_start, conn->input_end - conn->input_start);
        conn->input_end -= conn->input_start;
        conn->input_start = 0;
    }
}

static enum conn_status await_input(struct conn *conn, int event, uint64_t deadline_ms)
{
    enum conn_status status = conn_flush(conn, deadline_ms);

    release_input(conn);
    return status == CONN_OK ? conn_wait_for(conn, event, deadline_ms) : status;
}

/* Reads more; what is to be sent goes out before it waits. */
static enum conn_status fill(struct conn *conn, uint64_t deadline_ms)
{
    int awaited = transport_is_drained(conn) ? UV_READABLE : 0;

    for (;;) {
        size_t room;
        ssize_t count;

        if (conn->eof)
            return CONN_CLOSED;
        if (awaited != 0) {
            enum conn_status status = await_input(conn, awaited, deadline_ms);

            if (status != CONN_OK)
                return status;
        }
        if (conn->reads_in_a_row >= CONN_READS_IN_A_ROW_MAX) {
            conn->reads_in_a_row = 0;
            fiber_yield();
        }
        make_input_room(conn);
        room = LOOP_BLOCK_BYTES - conn->input_end;
        assert(room > 0);
        count = transport_read(conn, conn->input + conn->input_end, room);
        if (count > 0) {
            conn->input_end += (uint32_t)count;
            conn->bytes_read += (uint64_t)count;
            return CONN_OK;
        }
        if (count == 0) {
            conn->eof = true;
            return CONN_CLOSED;
        }
        if (errno != EAGAIN)
            return conn_failed(conn, errno);
        /* Under TLS there may be more to read all the same: what came was no data. */
        awaited = conn->blocked_on & ~conn->ready;
    }
}

enum conn_status conn_read_some(struct conn *conn, uint64_t deadline_ms, struct str *data)
{
    if (conn->input_start == conn->input_end) {
        enum conn_status status = fill(conn, deadline_ms);

        if (status != CONN_OK)
            return status;
    }
    *data = conn_buffered(conn);
    return CONN_OK;
}

enum conn_status conn_read_line(struct conn *conn, size_t length_max, uint64_t deadline_ms, struct conn_line *line)
{
    assert(length_max <= CONN_LINE_BYTES_MAX);
    for (;;) {
        struct str input = conn_buffered(conn);
        size_t scanned = conn->scanned;
        const char *end = input.length > scanned ? memchr(input.data + scanned, '\n', input.length - scanned) : NULL;
        enum conn_status status;

        if (end) {
            size_t length = (size_t)(end - input.data) + 1;
            bool too_long = length > length_max || conn->dropping_line;

            conn->dropping_line = false;
            conn->scanned = 0;
            conn_consume(conn, length);
            if (too_long)
                return CONN_LINE_TOO_LONG;
            line->crlf = length >= 2 && input.data[length - 2] == '\r';
            line->text = str_take(input, length - (line->crlf ? 2 : 1));
            return CONN_OK;
        }
        conn->scanned = (uint32_t)input.length;
        if (input.length >= length_max) {
            conn->dropping_line = true;
            conn_consume(conn, input.length);
        }
        status = fill(conn, deadline_ms);
        if (status != CONN_OK)
            return status;
    }
}

/* ---- output ---- */

static enum conn_status send_all(struct conn *conn, const char *data, size_t length, uint64_t deadline_ms)
{
    while (length > 0) {
        ssize_t count = transport_write(conn, data, length);

        if (count >= 0) {
            data += count;
            length -= (size_t)count;
            continue;
        }
        if (errno != EAGAIN)
            return conn_failed(conn, errno);

        enum conn_status status = conn_wait_for(conn, conn->blocked_on, deadline_ms);

        if (status != CONN_OK) {
            if (conn->tls)
                conn_tls_give_up(conn);
            return status;
        }
    }
    return CONN_OK;
}

enum conn_status conn_flush(struct conn *conn, uint64_t deadline_ms)
{
    enum conn_status status;

    if (!conn->output)
        return CONN_OK;
    status = send_all(conn, conn->output, conn->output_end, deadline_ms);
    /* Whatever happened, this output is through: after a failure nobody knows how much of it was sent. */
    conn->output_end = 0;
    loop_block_give(conn->output);
    conn->output = NULL;
    return status;
}

enum conn_status conn_write(struct conn *conn, struct str data, uint64_t deadline_ms)
{
    while (data.length > 0) {
        size_t count = data.length;

        if (!conn->output && data.length >= LOOP_BLOCK_BYTES)
            return send_all(conn, data.data, data.length, deadline_ms);
        if (!conn->output)
            conn->output = loop_block_take();
        if (count > LOOP_BLOCK_BYTES - conn->output_end)
            count = LOOP_BLOCK_BYTES - conn->output_end;
        memcpy(conn->output + conn->output_end, data.data, count);
        conn->output_end += (uint32_t)count;
        data = str_skip(data, count);
        if (conn->output_end == LOOP_BLOCK_BYTES) {
            enum conn_status status = conn_flush(conn, deadline_ms);

            if (status != CONN_OK)
                return status;
        }
    }
    return CONN_OK;
}

void conn_linger(struct conn *conn, uint64_t deadline_ms)
{
    uint64_t dropped = 0;
    ssize_t count = 0;

    if (conn->tls)
        conn_tls_say_end(conn);
    if (shutdown(conn->fd, SHUT_WR) != 0)
        return;
    conn_consume(conn, conn_buffered(conn).length);
    /* What is dropped need not be decrypted. */
    do {
        make_input_room(conn);
        count = conn_socket_read(conn, conn->input, LOOP_BLOCK_BYTES);
        if (count > 0)
            dropped += (uint64_t)count;
        release_input(conn);
        if (count < 0 && errno == EAGAIN && conn_wait_for(conn, UV_READABLE, deadline_ms) == CONN_OK)
            count = 1;
    } while (count > 0 && dropped < CONN_LINGER_BYTES_MAX);
}
