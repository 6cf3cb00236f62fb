/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn: one TCP (or local) connection, for a fiber that reads lines and chunks and writes. Output is gathered and goes out when the fiber is about
 * to wait for input, when a buffer is full, or by conn_flush: so the replies to pipelined commands leave in one write. No buffer is
 * held while nothing is in it. One fiber at a time, on the loop that made the connection.
 *
 * Every call that may wait takes a deadline (monotonic ms). After any status but CONN_OK and CONN_LINE_TOO_LONG only conn_close makes
 * sense, except that after CONN_TIMEOUT and CONN_CANCELLED a last word may still be written and flushed.
 *
 * TLS stands between the buffers and the socket: transport_read and transport_write are the only places that touch the latter.
 */
#ifndef POSTERN_NET_CONN_H
#define POSTERN_NET_CONN_H

#include "base/error.h"
#include "base/str.h"
#include "net/address.h"
#include "net/tls.h"

#include <stdint.h>
#include <sys/uio.h>

struct conn;

enum conn_status {
    CONN_OK,
    CONN_CLOSED, /* by the peer, or reset; under TLS with or without its leave */
    CONN_TIMEOUT,
    CONN_CANCELLED,
    CONN_FAILED,        /* errno in conn_errno */
    CONN_LINE_TOO_LONG, /* read up to its end and dropped; the next line can be read */
};

/* The longest line that can be asked for: AUTH's, CRLF included. */
#define CONN_LINE_BYTES_MAX 12290

/* What a peer may send in a handshake. OpenSSL takes no more than half of it for one message. */
#define CONN_TLS_HANDSHAKE_BYTES_MAX (256u << 10)
/* ... and afterwards before a byte of data comes of it: tickets, changes of keys, the part of a record. */
#define CONN_TLS_SILENT_BYTES_MAX (64u << 10)

/* Takes over the non-blocking socket. Loop thread. */
struct conn *conn_create(int fd, const struct net_address *peer);
/* Connects from `source` (NULL: any). 0 and a connection, or -1; waits. */
int conn_connect(const struct net_address *peer, const struct net_address *source, uint64_t deadline_ms,
                 struct conn **conn, struct error *error);
/* The same to a UNIX socket; the peer has no address. */
int conn_connect_unix(const char *path, uint64_t deadline_ms, struct conn **conn, struct error *error);
/* Unsent output is dropped: flush first. Sets the pointer to NULL. */
void conn_close(struct conn **conn);

const struct net_address *conn_peer(const struct conn *conn);
/* The peer speaks for somebody else, who is taken for it from now on. */
void conn_set_peer(struct conn *conn, const struct net_address *peer);
/* The address that the peer connected to. */
const struct net_address *conn_local(const struct conn *conn);
int conn_errno(const struct conn *conn);
uint64_t conn_bytes_read(const struct conn *conn);

struct conn_line {
    struct str text; /* without its end; valid until the next read */
    bool crlf;       /* ended by CRLF, not by a bare LF */
};

/* A line of at most `length_max` bytes, its end included. A longer one is CONN_LINE_TOO_LONG once its end has come. */
enum conn_status conn_read_line(struct conn *conn, size_t length_max, uint64_t deadline_ms, struct conn_line *line);
/* All that is buffered, at least one byte; take it with conn_consume. Valid until the next call. */
enum conn_status conn_read_some(struct conn *conn, uint64_t deadline_ms, struct str *data);
void conn_consume(struct conn *conn, size_t length);
/* Before a long wait for something else: gives the input buffer back if nothing is in it. What was read from it is not valid after it. */
void conn_rest(struct conn *conn);
/* What is buffered already, without waiting or reading; may be empty. */
struct str conn_buffered(const struct conn *conn);
/* Whether the peer has sent something before it was its turn, or has closed (looks at the socket without waiting). */
bool conn_has_input(struct conn *conn);

/* ---- TLS ---- */

/*
 * The handshake, as server or as client, on a connection without TLS: waits. What is to be sent must have been flushed. What is buffered already
 * is taken by the server's handshake as its beginning (it came behind a PROXY header), so it is never taken for protected; whoever wants to
 * tell the peer that plaintext behind STARTTLS is no good looks at conn_buffered first. A client refuses it. Anything but CONN_OK: only conn_close
 * and conn_linger, and `error` says why in words for a log or a report ("TLS: the certificate has expired"), without anything secret.
 */
enum conn_status conn_accept_tls(struct conn *conn, struct tls_context *context, uint64_t deadline_ms,
                                 struct error *error);
enum conn_status conn_connect_tls(struct conn *conn, const struct tls_client_options *options, uint64_t deadline_ms,
                                  struct error *error);
/* NULL without TLS, and before its handshake is through. Valid as long as the connection. */
const struct tls_facts *conn_tls(const struct conn *conn);
/* The channel's binding data; 0 if this connection has none of that kind. */
size_t conn_tls_binding(struct conn *conn, enum tls_binding kind, unsigned char data[TLS_BINDING_BYTES_MAX]);

/* ---- output ---- */

/* Gathers; waits only when a buffer is full. */
enum conn_status conn_write(struct conn *conn, struct str data, uint64_t deadline_ms);
/* Waits until all is with the kernel. */
enum conn_status conn_flush(struct conn *conn, uint64_t deadline_ms);

/* Ends the sending side and drops what the peer still sends until it closes too, or the deadline, or CONN_LINGER_BYTES_MAX: so that it
 * can read what was flushed. Then only conn_close. */
#define CONN_LINGER_BYTES_MAX (1u << 20)
void conn_linger(struct conn *conn, uint64_t deadline_ms);

const char *conn_status_text(enum conn_status status);

#endif
