/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of tls share with each other and with conn_tls.c, which alone calls OpenSSL for a connection. */
#ifndef POSTERN_NET_TLS_PRIVATE_H
#define POSTERN_NET_TLS_PRIVATE_H

#include "base/hash.h"
#include "net/tls.h"

#include <openssl/ssl.h>
#include <stdatomic.h>

#define TLS_SESSION_KEY_BYTES 32

struct tls_sessions;

/* A server's certificate that answers to a name. */
struct tls_named {
    char *name; /* lower case, without the "*" of a wildcard: ".contoso.test" */
    SSL_CTX *ssl_context;
};

struct tls_context {
    atomic_uint references;
    SSL_CTX *ssl_context; /* server: the default certificate's */
    /* server */
    struct tls_tickets *tickets;
    struct tls_named *named;
    size_t named_count;
    struct hash_table names; /* struct tls_named by name */
    /* client */
    struct tls_sessions *sessions;
    enum tls_protocol protocol_min;
};

/* A client's connection, for the callbacks of OpenSSL; lives as long as its SSL. */
struct tls_client_link {
    struct tls_sessions *sessions;
    unsigned char session_key[TLS_SESSION_KEY_BYTES];
    bool keeps_sessions;
    enum tls_verification verification;
};

/* ---- tls.c ---- */

/* Empties this thread's error queue, which all fibers of a loop share: before each operation, and after those that fail. */
void tls_clear_errors(void);
/* The words of the oldest error in the queue. Static or thread-local. */
const char *tls_error_words(void);
/* One reference, with a new SSL_CTX that holds what servers and clients have in common. */
struct tls_context *tls_context_create(const SSL_METHOD *method);
void tls_configure_common(SSL_CTX *ssl_context);
int tls_protocol_version(enum tls_protocol protocol);
/* After a handshake. */
void tls_collect_facts(SSL *ssl, const struct tls_client_link *link, struct tls_facts *facts);
size_t tls_binding_data(SSL *ssl, enum tls_binding kind, unsigned char data[TLS_BINDING_BYTES_MAX]);

/* ---- tls_files.c ---- */

/* Certificate, chain and key. -1 and an error that names the file. */
int tls_files_use(SSL_CTX *ssl_context, const struct tls_files *files, struct error *error);
/* Trusted roots; `path` NULL: the system's, and it is no error if there are none. */
int tls_files_trust(SSL_CTX *ssl_context, const char *path, struct error *error);

/* ---- tls_tickets.c ---- */

void tls_tickets_serve(SSL_CTX *ssl_context);

/* ---- tls_sessions.c: what clients may resume; any thread ---- */

struct tls_sessions *tls_sessions_create(void);
void tls_sessions_destroy(struct tls_sessions **sessions);
/* Takes over the session. */
void tls_sessions_put(struct tls_sessions *sessions, const unsigned char key[TLS_SESSION_KEY_BYTES],
                      SSL_SESSION *session);
/* The caller's own, or NULL. A session of TLS 1.3 is used once (RFC 8446 C.4), older ones stay. */
SSL_SESSION *tls_sessions_take(struct tls_sessions *sessions, const unsigned char key[TLS_SESSION_KEY_BYTES]);
void tls_sessions_forget(struct tls_sessions *sessions, const unsigned char key[TLS_SESSION_KEY_BYTES]);

/* ---- for conn_tls.c ---- */

/* Ready for SSL_do_handshake but for its BIO. */
SSL *tls_server_start(struct tls_context *context);
/* NULL if what is demanded can't be: `error` says why. `link` is filled. */
SSL *tls_client_start(const struct tls_client_options *options, struct tls_client_link *link, struct error *error);
/* Why the certificate is not accepted; NULL if it is not that. */
const char *tls_client_refusal(const SSL *ssl);

#endif
