/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sasl: the mechanisms of SMTP AUTH (RFC 4954), both sides: what to say next, and at the end whether, and as whom. It knows no wire and no directory: the
 * server side asks its verifier. Octets here are decoded; base64 is the caller's.
 *
 * SCRAM (RFC 5802, RFC 7677, RFC 9266) is GNU SASL's; GSSAPI (RFC 4752) is MIT Kerberos' own; PLAIN (RFC 4616), LOGIN and EXTERNAL (RFC 4422 A) are
 * done here, where passwords can be cleared from memory as soon as they have been used. Security layers are not offered: that is TLS' work.
 *
 * Threads: an exchange is used by one thread at a time, any. Not on a loop: a server's step blocks as long as its verifier does, a client's step of SCRAM
 * computes for milliseconds, and both may take more stack than a fiber has.
 */
#ifndef POSTERN_SMTP_SASL_H
#define POSTERN_SMTP_SASL_H

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

#include <stdbool.h>

enum sasl_mechanism {
    SASL_PLAIN = 1,
    SASL_LOGIN = 2,
    SASL_SCRAM_SHA_256 = 4,
    SASL_SCRAM_SHA_256_PLUS = 8,
    SASL_GSSAPI = 16,
    SASL_EXTERNAL = 32,
};

/* 0 if we have none of that name. Compares without case. */
enum sasl_mechanism sasl_mechanism_find(struct str name);
const char *sasl_mechanism_name(enum sasl_mechanism mechanism);
/* Separated by spaces, strongest first. */
void sasl_mechanism_list(unsigned mechanisms, struct buf *out);

/* Of a challenge and of a response, decoded. */
#define SASL_MESSAGE_BYTES_MAX  9216
#define SASL_USER_BYTES_MAX     256
#define SASL_PASSWORD_BYTES_MAX 1024
#define SASL_STEPS_MAX          16
/* What a server may make our client compute for SCRAM: fewer are refused as a downgrade (RFC 7677 4), more as an attack. */
#define SASL_ITERATIONS_MIN 4096
#define SASL_ITERATIONS_MAX 1000000

/*
 * Appends a user's name or a password as it is compared and kept (SASLprep, RFC 4013, unassigned code points allowed). Whoever stores a password prepares
 * it likewise. false, and nothing appended: not UTF-8, control or other prohibited characters, nothing left, or more than `bytes_max` octets.
 */
bool sasl_prepare(struct str text, size_t bytes_max, struct buf *out);
/* Empties a buffer that has held a secret, and overwrites its memory. */
void sasl_clear(struct buf *b);

enum sasl_status {
    SASL_CONTINUE, /* `out`, which may be empty, goes to the peer, who has to answer */
    SASL_DONE, /* server: the peer is who sasl_server_user says; `out` is empty. Client: `out` goes to the server, who has nothing more to ask */
    SASL_REFUSED,     /* wrong name, password or proof: 535 */
    SASL_UNAVAILABLE, /* the directory does not answer: 454 */
    SASL_MALFORMED,   /* not what the mechanism allows: 501 */
};

/* The channel that the exchange goes over. `binding`: empty where there is none (RFC 5929, RFC 9266). */
struct sasl_channel {
    struct str binding_unique, binding_exporter;
};

struct sasl_scram_keys {
    unsigned iterations;
    struct str salt, stored_key, server_key;
};

enum sasl_answer { SASL_YES, SASL_NO, SASL_NO_ANSWER };

/* What the server side asks. On the thread of the step; all may block. */
struct sasl_verifier {
    void *context;
    enum sasl_answer (*check_password)(void *context, struct str user, struct str password);
    /* Never NO for an unknown user: keys made up, so that the exchange fails at its end like one with a wrong password. The views are copied at once. */
    enum sasl_answer (*find_scram_keys)(void *context, struct str user, struct sasl_scram_keys *keys);
    /* GSSAPI: the principal, as "alice@CONTOSO.TEST", to a user's name. */
    enum sasl_answer (*map_principal)(void *context, struct str principal, struct buf *user);
    /* EXTERNAL: whether the client's certificate is `user`'s; for an empty one whose it is. Appends the name. */
    enum sasl_answer (*find_certificate)(void *context, struct str user, struct buf *name);
    /* Whether an authorization identity is the one that has been authenticated in other words. NULL: if it is the same without case. */
    bool (*is_same_user)(void *context, struct str authorization, struct str user);
};

struct sasl_server;

struct sasl_server_options {
    struct str keytab; /* GSSAPI: path, copied; empty: the system's. Any key for a service "smtp" in it will do */
    const struct sasl_verifier *verifier; /* outlives the exchange */
    struct sasl_channel
        channel; /* copied. For SCRAM without PLUS: only where PLUS is offered too, to tell a downgrade */
};

/* Whether a mechanism can work here at all (GSSAPI: the keytab has a key for a service "smtp"). Blocks: files. */
bool sasl_server_can(enum sasl_mechanism mechanism, struct str keytab, struct error *error);
/* NULL and an error if the mechanism can't begin. */
struct sasl_server *sasl_server_create(enum sasl_mechanism mechanism, const struct sasl_server_options *options,
                                       struct error *error);
/* `input` NULL data: no initial response. Replaces `out`. After anything but CONTINUE the exchange is over. */
enum sasl_status sasl_server_step(struct sasl_server *server, struct str input, struct buf *out);
/* Who was tried, as far as it is known, prepared, for the brakes and the log; after DONE who it is. Valid as long as the exchange. An authorization identity
 * other than the authentication's is refused: nobody acts for another here. */
struct str sasl_server_user(const struct sasl_server *server);
/* For the log, after REFUSED or MALFORMED: "credentials", "not-permitted" (to act for another), "malformed". Static. */
const char *sasl_server_reason(const struct sasl_server *server);
/* NULL inside is allowed. */
void sasl_server_destroy(struct sasl_server **server);

struct sasl_client;

struct sasl_client_options {
    struct str user, password;   /* copied. EXTERNAL: the user may be empty, the server takes the certificate's */
    struct str host;             /* whose server it is, for errors' texts; may be empty */
    struct sasl_channel channel; /* copied. Give it whenever there is TLS */
};

/* The strongest of `offered` (a bit set) that is also in `allowed`; 0 if none. PLUS only with a binding; GSSAPI never. EXTERNAL only if nothing else is
 * allowed: whether the server knows our certificate can't be seen. */
enum sasl_mechanism sasl_client_choose(unsigned offered, unsigned allowed, const struct sasl_channel *channel);
/* Of a list as EHLO has it, separated by spaces. */
unsigned sasl_mechanisms_parse(struct str list);
/* NULL and an error: a user or password that can't be sent, or a mechanism that is no client's. */
struct sasl_client *sasl_client_create(enum sasl_mechanism mechanism, const struct sasl_client_options *options,
                                       struct error *error);
/* Whether the mechanism begins with an initial response; LOGIN does not: some servers know no other way. */
bool sasl_client_has_initial(const struct sasl_client *client);
/*
 * The first call has an `input` of NULL data and gives the initial response, which may be empty ("=" on the wire). One that does not fit the command line
 * is sent as the answer to an empty first challenge, which then is not passed to this. Without an initial response `out` is empty.
 * REFUSED: the server could not prove that it knows the password, or wants a weaker exchange than it may.
 */
enum sasl_status sasl_client_step(struct sasl_client *client, struct str input, struct buf *out);
/* Whether the server has proved all that the mechanism lets it prove: to be asked when it says 235, which is not to be believed otherwise. */
bool sasl_client_is_satisfied(const struct sasl_client *client);
/* NULL inside is allowed. */
void sasl_client_destroy(struct sasl_client **client);

#endif
