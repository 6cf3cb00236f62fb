/* SPDX-License-Identifier: Apache-2.0 */
/* What conn.c and conn_tls.c share. */
#ifndef POSTERN_NET_CONN_PRIVATE_H
#define POSTERN_NET_CONN_PRIVATE_H

#include "net/conn.h"

#include <sys/types.h>
#include <uv.h>

struct conn_tls;
struct fiber;

struct conn {
    uv_poll_t poll;
    int fd;
    int registered; /* what the poll handle watches: UV_READABLE | UV_WRITABLE */
    int ready;      /* reported, and not yet used up */
    int wanted;     /* what `waiter` waits for */
    int blocked_on; /* after EAGAIN from the transport: what to wait for */
    int errno_value;
    struct fiber *waiter;
    struct conn_tls *tls; /* NULL: none */
    char *input;          /* a block, or NULL: bytes input_start .. input_end are unread */
    char *output;
    uint32_t input_start, input_end;
    uint32_t scanned; /* bytes of the unread input that are known to have no LF */
    uint32_t output_end;
    unsigned reads_in_a_row; /* from the socket */
    bool dropping_line;      /* an over-long line is being skipped */
    bool eof;
    struct net_address peer, local;
    uint64_t bytes_read;
};

/* ---- conn.c ---- */

enum conn_status conn_wait_for(struct conn *conn, int event, uint64_t deadline_ms);
/* Keeps the error, and says what it means. */
enum conn_status conn_failed(struct conn *conn, int errno_value);

/*
 * The socket: as recv and send, EAGAIN included, for which `blocked_on` is set. Reading asks the system only if there may be something, and
 * remembers from a short read that there is no more.
 */
ssize_t conn_socket_read(struct conn *conn, void *data, size_t length);
ssize_t conn_socket_write(struct conn *conn, const void *data, size_t length);

/* ---- conn_tls.c: the same through TLS ---- */

/* A direction that TLS asks for may be the other one. 0: the peer has said that this is the end. */
ssize_t conn_tls_read(struct conn *conn, void *data, size_t length);
/* After an EAGAIN the same data must be written again, or none ever after (conn_tls_give_up). */
ssize_t conn_tls_write(struct conn *conn, const void *data, size_t length);
/* What has been read from the socket may hold more input, or there will be none: do not wait for an event. */
bool conn_tls_holds_input(const struct conn *conn);
/* Whether conn_tls_read would return anything but EAGAIN. */
bool conn_tls_has_input(struct conn *conn);
/* Nothing more is sent or received, since part of something was. */
void conn_tls_give_up(struct conn *conn);
/* Tells the peer that this is the end, if that is possible at once. */
void conn_tls_say_end(struct conn *conn);
void conn_tls_release(struct conn *conn);

#endif
