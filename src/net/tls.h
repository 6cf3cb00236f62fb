/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls: what TLS connections have in common (OpenSSL 3): certificates by server name, protocol versions, session tickets, trust. conn.h has the
 * calls that turn a connection into a TLS one.
 *
 * A context is immutable, reference counted, and used by any thread without a lock. A reload makes new ones; connections keep theirs. Ticket keys
 * live apart (tls_tickets), since they outlast a reload: a client resumes across it.
 *
 * Blocking: the create functions read files; not on a loop thread.
 */
#ifndef POSTERN_NET_TLS_H
#define POSTERN_NET_TLS_H

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tls_context;
struct tls_tickets;

enum tls_protocol { TLS_PROTOCOL_1_0, TLS_PROTOCOL_1_1, TLS_PROTOCOL_1_2, TLS_PROTOCOL_1_3 };

/*
 * PEM files; the certificate's with its chain. The key has no passphrase, and nobody but its owner may read it; a group may if it is root's (that
 * is how keys are handed to daemons).
 */
struct tls_files {
    /* SNI that it answers: exact, or "*.NAME" for one label in front. Of the default: not looked at. */
    const char *name;
    const char *certificate;
    const char *key;
};

struct tls_server_settings {
    /* The first is the default: for clients that name no server, or an unknown one. */
    const struct tls_files *certificates;
    size_t certificate_count;       /* at least one */
    enum tls_protocol protocol_min; /* below 1.2: for older devices; weaker ciphers and signatures too */
    /* The client may show one; its key is proved, its issuer and its dates are not judged (cert:SHA256, EXTERNAL). */
    bool asks_certificate;
};

/* Keys for stateless tickets (RFC 5077, RFC 8446 2.2), made at random and changed as they age; one generation back still resumes. Any thread. */
struct tls_tickets *tls_tickets_create(void);
/* After the last context that uses it. */
void tls_tickets_destroy(struct tls_tickets **tickets);

/* One reference; NULL and an error that names the file. The tickets outlive the context. */
struct tls_context *tls_server_create(const struct tls_server_settings *settings, struct tls_tickets *tickets,
                                      struct error *error);

struct tls_client_settings {
    const char *ca_file;  /* trusted roots, PEM; NULL: the system's */
    struct tls_files own; /* shown to servers that ask; NULL inside: none */
    enum tls_protocol protocol_min;
};

/* One reference. Keeps sessions for resumption by server, bounded. */
struct tls_context *tls_client_create(const struct tls_client_settings *settings, struct error *error);

struct tls_context *tls_context_retain(struct tls_context *context);
/* Sets the pointer to NULL, which it may be. */
void tls_context_release(struct tls_context **context);

/* ---- what a client demands of the server ---- */

enum tls_verification {
    TLS_VERIFY_NONE, /* encrypted, to whomever: `may` and `required` */
    TLS_VERIFY_NAME, /* a chain to a trusted root, and the name */
    TLS_VERIFY_DANE, /* one of the TLSA records (RFC 7672), usages 2 and 3 */
};

struct tls_dane_record {
    uint8_t usage, selector, matching_type;
    struct str data;
};

/* Of usage 2 or 3, and well-formed (RFC 7672 3.1). If no record of a server is, it can't be verified by DANE: conn_connect_tls refuses. Any thread. */
bool tls_dane_is_usable(const struct tls_dane_record *record);

struct tls_client_options {
    struct tls_context *context;
    struct str server_name; /* SNI and the name to verify; an IP address is verified, and not sent; empty: none */
    struct str dane_base;   /* DANE, may be empty: the next-hop domain, which a usage 2 chain may bear instead */
    enum tls_verification verification;
    const struct tls_dane_record *records; /* DANE */
    size_t record_count;
    struct str session_key; /* connections with equal keys may resume each other's sessions; empty: never */
};

/* ---- what became of a handshake ---- */

#define TLS_BINDING_BYTES_MAX 64

struct tls_facts {
    const char *protocol; /* "TLSv1.3", static */
    const char *cipher;   /* "TLS_AES_256_GCM_SHA384", static */
    int cipher_bits;
    bool is_resumed;
    bool is_verified;     /* client: something was demanded (not TLS_VERIFY_NONE), and is fulfilled */
    bool has_certificate; /* the peer proved the key of one */
    unsigned char certificate_sha256[32];
    /* Server: SNI as the client sent it, whatever is in it; NULL for none. Valid as long as the connection. */
    const char *server_name;
};

/* RFC 5929 tls-unique (up to TLS 1.2) and RFC 9266 tls-exporter; neither before TLS 1.3 without the extended master secret (RFC 7627). */
enum tls_binding { TLS_BINDING_UNIQUE, TLS_BINDING_EXPORTER };

#endif
