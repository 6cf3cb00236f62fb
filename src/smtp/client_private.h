/* SPDX-License-Identifier: Apache-2.0 */
/* What client.c (transactions), client_secure.c (TLS, AUTH) and client_wire.c (commands out, replies in, results) share. */
#ifndef POSTERN_SMTP_CLIENT_PRIVATE_H
#define POSTERN_SMTP_CLIENT_PRIVATE_H

#include "base/buf.h"
#include "smtp/client.h"
#include "smtp/reply.h"

/* One command line: an address (ADDRESS_TEXT_OCTETS_MAX), ORCPT or ENVID, keywords. */
#define CLIENT_COMMAND_BYTES_MAX 4096
/* For the reply to QUIT: a courtesy, nobody waits for it longer. */
#define CLIENT_QUIT_TIMEOUT_MS 1000

#define CLIENT_REASON_BYTES 256

/* Why a connection ended. */
enum client_end {
    CLIENT_END_NONE,
    CLIENT_END_LOST, /* by the peer, the network, or our own shutdown */
    CLIENT_END_TIMEOUT,
    CLIENT_END_CLOSING,     /* 421 */
    CLIENT_END_OUT_OF_STEP, /* no reply at all, or not one that can stand there */
    CLIENT_END_BODY,        /* the body could not be read; or the server refused it before its end */
    CLIENT_END_UNSAFE,      /* TLS or authentication failed */
};

struct smtp_client {
    struct conn *conn; /* NULL once it has ended */
    unsigned command_timeout_ms;
    unsigned data_timeout_ms;
    bool is_lmtp;
    struct reply_capabilities capabilities;
    bool is_reset_owed; /* the server still has a transaction that we gave up */
    bool is_reset_sent; /* and RSET's reply is the next one */
    enum client_end end;
    struct smtp_client_result failure; /* with `end`: for those who wait for a result */
    char plaintext_reason[CLIENT_REASON_BYTES];
    struct buf command;
    uint64_t write_deadline_ms;
    struct reply_parser parser;
};

/* Which replies can stand there, beside 4xx and 5xx; another ends the connection. */
enum client_expect {
    CLIENT_EXPECT_FINAL, /* 2xx */
    CLIENT_EXPECT_EHLO,  /* 2xx, with capabilities */
    CLIENT_EXPECT_DATA,  /* 3xx */
    CLIENT_EXPECT_AUTH,  /* 2xx, or 3xx with a challenge */
};

/* ---- results ---- */

void client_result_set(struct smtp_client_result *result, const char *status, bool permanent, const char *text);
/* Everything but `delivered`, which only the reply to the dot sets. */
void client_result_from_reply(struct smtp_client_result *result, const struct reply *reply);
/* Refused by a reply: what happens later doesn't change it. */
static inline bool client_result_is_refusal(const struct smtp_client_result *result)
{
    return result->code >= 400;
}
static inline bool client_result_is_accepted(const struct smtp_client_result *result)
{
    return result->code >= 200 && result->code < 300;
}

/* For all who aren't refused or delivered yet: an acceptance turns into the transaction's refusal. */
void client_refuse_rest(struct smtp_client_transaction *transaction, const struct smtp_client_result *result);
void client_refuse_rest_by(struct smtp_client_transaction *transaction, const struct reply *reply);

/* ---- wire ---- */

/* Closes the connection, and keeps `text` as the failure of whoever still waits. */
void client_end_with(struct smtp_client *client, enum client_end end, const char *status, const char *text);
/* These do nothing once the connection has ended. */
void client_write(struct smtp_client *client, struct str data);
void client_write_mail(struct smtp_client *client, const struct smtp_client_transaction *transaction);
void client_write_recipient(struct smtp_client *client, const struct smtp_client_recipient *recipient);
/* Sends what was gathered and waits for the next reply; NULL if the connection has ended, a 421 included. `about` names what is answered. */
const struct reply *client_read_reply(struct smtp_client *client, enum client_expect expect, const char *about,
                                      unsigned timeout_ms);

/* Sends a command that is a word and perhaps an argument, and reads its reply. */
const struct reply *client_ask(struct smtp_client *client, struct str command, struct str argument,
                               enum client_expect expect, const char *about);
/* EHLO, or HELO where that is unknown: 0, or -1 with the failure filled in. */
int client_hello(struct smtp_client *client, struct str helo_name);

/* ---- TLS and AUTH ---- */

/* The handshake: the connection stands under TLS, and nothing that was said before counts; or has ended. */
enum smtp_client_opened client_handshake(struct smtp_client *client, const struct tls_client_options *tls);
/* STARTTLS where it is wanted and offered, and EHLO again. */
enum smtp_client_opened client_secure(struct smtp_client *client, const struct smtp_client_options *options);
/* 0, or -1 with the failure filled in. */
int client_authenticate(struct smtp_client *client, const struct smtp_client_auth *auth);

/* ---- body ---- */

/* Body and dot, or a dot alone where the server has nobody to give the message to. True if the dot is out, or may be. */
bool client_write_message(struct smtp_client *client, struct smtp_client_transaction *transaction, size_t accepted);

#endif
