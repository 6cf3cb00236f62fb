/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/client: the sending side of SMTP (RFC 5321), over a conn. It knows the wire; what is sent where, and what a
 * result means for the queue, its caller knows. One fiber at a time.
 *
 * Calling sequence: smtp_client_open (banner, EHLO or HELO, STARTTLS and EHLO again, AUTH); then smtp_client_run, which takes transactions from
 * a source, one after the other over the same connection; smtp_client_quit.
 *
 * When the server offers PIPELINING (RFC 2920), MAIL, RCPT and DATA leave in one write, and the next transaction's
 * envelope is chained behind the dot of the one before, so that a message costs one write and one read. The order of
 * the replies is kept by the 354, which no other command has: anything that a server says out of turn ends the
 * connection. LMTP (RFC 2033) is the same but for the greeting and the replies to the dot, one for each recipient that was accepted; there nothing
 * is chained, since a server that gives fewer of them would have the next envelope's reply taken for a delivery.
 *
 * A message is never changed, and never ends early: when its body can't be read on, the connection is dropped without
 * the dot.
 */
#ifndef POSTERN_SMTP_CLIENT_H
#define POSTERN_SMTP_CLIENT_H

#include "base/str.h"
#include "loop/worker.h"
#include "net/conn.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct smtp_client;

#define SMTP_CLIENT_RECIPIENTS_MAX 100 /* per transaction: more are sent in a further one (RFC 5321 4.5.3.1.8) */
#define SMTP_CLIENT_TEXT_BYTES     512

#define SMTP_CLIENT_COMMAND_TIMEOUT_MS_DEFAULT (5u * 60 * 1000)
#define SMTP_CLIENT_DATA_TIMEOUT_MS_DEFAULT    (10u * 60 * 1000)
/* A server that takes a body more slowly than this on the whole is given up. */
#define SMTP_CLIENT_BODY_RATE_MIN 1024 /* bytes a second */

/* As whom to authenticate (RFC 4954). */
struct smtp_client_auth {
    struct str user, password;
    unsigned mechanisms;      /* enum sasl_mechanism bits: what may be used */
    bool without_tls;         /* the password may go over a connection without TLS */
    struct worker_pool *pool; /* where the exchange is computed */
};

/* Needed while smtp_client_open runs. */
struct smtp_client_options {
    struct str helo_name;
    unsigned command_timeout_ms;          /* for each reply, and each piece of a body; 0: the default, 5 m */
    unsigned data_timeout_ms;             /* after the dot; 0: the default, 10 m */
    const struct tls_client_options *tls; /* NULL: without TLS */
    bool tls_is_required; /* otherwise a server that does not offer it, or refuses it in words, gets plaintext */
    bool tls_at_once;     /* the connection begins with it (RFC 8314 3.3) */
    const struct smtp_client_auth *auth; /* NULL: nobody */
    bool is_lmtp;                        /* RFC 2033: LHLO, and behind the dot a reply for each recipient */
};

enum smtp_client_opened {
    SMTP_CLIENT_OPENED,
    SMTP_CLIENT_REFUSED,    /* the server does not take us, or not as we would be taken */
    SMTP_CLIENT_TLS_FAILED, /* TLS had begun: another connection, without it, may do better */
};

/* What the server, or the lack of it, said to one recipient. */
struct smtp_client_result {
    int code;       /* SMTP reply code; 0 if there was none (connection lost, timeout, a refusal of ours) */
    bool permanent; /* fail now; otherwise, unless delivered, try again */
    bool delivered;
    char status[12]; /* enhanced status, the server's or ours; NUL-terminated */
    char text
        [SMTP_CLIENT_TEXT_BYTES]; /* one line, printable, NUL-terminated; the reply with its code if there was one */
};

struct smtp_client_recipient {
    struct str address;               /* what stands between the angle brackets */
    struct str orcpt;                 /* xtext, or empty; sent if the server offers DSN */
    unsigned notify;                  /* DSN_NOTIFY_* (mail/dsn.h), 0 for none */
    struct smtp_client_result result; /* out */
};

/* One mail transaction. The source owns it and everything in it until `finished`. */
struct smtp_client_transaction {
    struct str sender; /* empty: null */
    struct str envid;
    bool ret_full, ret_headers;
    bool needs_8bitmime,
        needs_smtputf8;  /* refused with 5.6.3 / 5.6.7 if the server lacks them, the message is not changed */
    uint64_t body_bytes; /* exactly what read_body gives */
    struct smtp_client_recipient *recipients;
    size_t recipient_count; /* 1 to SMTP_CLIENT_RECIPIENTS_MAX */
    /* Reads the body in order, from its start: count, 0 at the end, negative errno (-EILSEQ: damaged for good). May wait (fiber). */
    ssize_t (*read_body)(struct smtp_client_transaction *transaction, void *data, size_t length);
    /* Out: the connection ended, or the server closed it with 421, before this transaction's dot. The results say how. */
    bool untried;
};

struct smtp_client_source {
    void *context;
    /* The next transaction, or NULL. `wait` false: only one that is at hand (asked while another is in its last part). */
    struct smtp_client_transaction *(*next)(void *context, bool wait);
    /* All results are filled in. Called in order. */
    void (*finished)(void *context, struct smtp_client_transaction *transaction);
};

/* Takes over the connection, greets. Unless OPENED `*result` says why, and the connection is closed. */
enum smtp_client_opened smtp_client_open(struct smtp_client **client, struct conn *conn,
                                         const struct smtp_client_options *options, struct smtp_client_result *result);
/* Whether the server takes requests for reports (RFC 3461), so that what it accepts is its to report. */
bool smtp_client_offers_dsn(const struct smtp_client *client);
/* NULL: the connection has no TLS, or has ended. */
const struct tls_facts *smtp_client_tls(const struct smtp_client *client);
/* Why TLS was not used although it was wanted; empty if it was, or wasn't wanted. As long as the client. */
const char *smtp_client_plaintext_reason(const struct smtp_client *client);
/* Until the source has none left, or the connection is no longer usable (false). Each transaction taken is finished. */
bool smtp_client_run(struct smtp_client *client, const struct smtp_client_source *source);
/* After a run that ended with false: the server sent 421, or does not answer. A reason not to come again at once. */
bool smtp_client_should_back_off(const struct smtp_client *client);
/* QUIT, if the connection still stands, without waiting long; frees. NULL inside is fine. */
void smtp_client_quit(struct smtp_client **client);

#endif
