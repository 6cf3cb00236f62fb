/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of sasl share. sasl.c: names, preparation. sasl_server.c: the server's exchange, and its mechanisms that need no library. sasl_client.c: the
 * client's. sasl_scram.c: both sides of SCRAM. sasl_gssapi.c: the server's GSSAPI.
 */
#ifndef POSTERN_SMTP_SASL_PRIVATE_H
#define POSTERN_SMTP_SASL_PRIVATE_H

#include "smtp/sasl.h"

/* tls-unique is at most 36 octets in TLS 1.2 and tls-exporter is 32. */
#define SASL_BINDING_BYTES_MAX 64

/* sasl_channel, kept. */
struct sasl_binding {
    unsigned char data[SASL_BINDING_BYTES_MAX];
    size_t length; /* 0: none */
};

struct sasl_bindings {
    struct sasl_binding unique, exporter;
};

void sasl_bindings_keep(struct sasl_bindings *bindings, const struct sasl_channel *channel);

/* ---- the server's side ---- */

struct sasl_scram;
struct sasl_gssapi;

struct sasl_server {
    enum sasl_mechanism mechanism;
    const struct sasl_verifier *verifier;
    struct sasl_bindings bindings;
    char *keytab;
    unsigned step_count;
    bool is_over;
    struct buf user; /* prepared; empty before it is known */
    const char *reason;
    struct sasl_scram *scram;
    struct sasl_gssapi *gssapi;
};

enum sasl_status sasl_server_refuse(struct sasl_server *server, const char *reason);
enum sasl_status sasl_server_malformed(struct sasl_server *server);
/* What an answer of the verifier comes to. */
enum sasl_status sasl_server_conclude(struct sasl_server *server, enum sasl_answer answer);
/* Keeps the prepared name. false: it can be nobody's. */
bool sasl_server_set_user(struct sasl_server *server, struct str user);
/* Whether the client wants to be only who it is. Empty: it does not say. */
bool sasl_server_permits(const struct sasl_server *server, struct str authorization);

/* ---- SCRAM ---- */

/* Whether the library has what we need. */
bool sasl_scram_can(struct error *error);
/* NULL and an error. The server outlives it. */
struct sasl_scram *sasl_scram_create_server(struct sasl_server *server, struct error *error);
enum sasl_status sasl_scram_step_server(struct sasl_server *server, struct str input, struct buf *out);
/* The texts are copied. NULL and an error. */
struct sasl_scram *sasl_scram_create_client(bool is_plus, const char *user, const char *password,
                                            const struct sasl_bindings *bindings, struct error *error);
/* DONE: the server has proved itself. */
enum sasl_status sasl_scram_step_client(struct sasl_scram *scram, struct str input, struct buf *out);
void sasl_scram_destroy(struct sasl_scram **scram);

/* ---- GSSAPI ---- */

bool sasl_gssapi_can(const char *keytab, struct error *error);
struct sasl_gssapi *sasl_gssapi_create(const char *keytab, struct error *error);
enum sasl_status sasl_gssapi_step(struct sasl_server *server, struct str input, struct buf *out);
void sasl_gssapi_destroy(struct sasl_gssapi **gssapi);

#endif
