/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server: the receiving side of SMTP on one connection (RFC 5321 with PIPELINING, SIZE, 8BITMIME, SMTPUTF8, ENHANCEDSTATUSCODES, DSN,
 * CHUNKING). It knows the wire: lines, sequence, framing, limits, deadlines, and the texts of relay-behaviour.md sections 4 and 8 that need no
 * decision. Whether a client, a sender, a recipient or a message is taken it asks of its hooks, which the session module provides.
 *
 * One session, one fiber: smtp_server_run greets and returns when the connection is to be closed. All hooks run in that fiber and may wait.
 *
 * The state, changed by set_state alone:
 *
 *   START ──EHLO/HELO──> READY ──MAIL──> MAIL ──RCPT──> RCPT ──DATA──> DATA ──dot──> READY
 *                          ^               │ RSET, EHLO    └───BDAT──> CHUNKS ──LAST──> READY
 *                          └───────────────┘<── a refused message, a failed chunk
 *   READY ──AUTH──> AUTH ──235, 5xx, 4xx, "*"──> READY;   READY ──STARTTLS──> START
 *   any ──QUIT, limits, errors──> CLOSING
 */
#ifndef POSTERN_SMTP_SERVER_H
#define POSTERN_SMTP_SERVER_H

#include "base/buf.h"
#include "base/str.h"
#include "net/conn.h"
#include "net/tls.h"
#include "smtp/command.h"

struct smtp_server;

#define SMTP_REPLY_TEXT_BYTES 1280

struct smtp_reply {
    int code;
    const char *enhanced;             /* "2.1.5", static; NULL for none */
    bool is_unknown_recipient;        /* counts towards unknown_recipients_max */
    char text[SMTP_REPLY_TEXT_BYTES]; /* NUL-terminated, no CR or LF */
};

void smtp_reply_set(struct smtp_reply *reply, int code, const char *enhanced, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

struct smtp_server_settings {
    struct str hostname;
    struct str banner;         /* the text after HOST */
    struct str default_domain; /* completes unqualified addresses; may be empty */
    bool normalize_newlines;   /* bare-newline: normalize */
    uint64_t tarpit_ms;
    uint64_t message_bytes_max;
    uint64_t recipients_max;
    uint64_t idle_timeout_ms;
    uint64_t messages_max; /* 0: no limit */
    uint64_t errors_max;
    uint64_t unknown_recipients_max; /* 0: no limit */
    struct tls_context *tls;         /* NULL: none, STARTTLS is not offered */
    bool tls_is_implicit;            /* the connection begins with the handshake */
    bool etrn;                       /* this client may ask for queued mail (RFC 1985) */
};

enum smtp_auth_status {
    SMTP_AUTH_CONTINUE, /* `challenge` is sent, and an answer awaited */
    SMTP_AUTH_DONE,     /* `reply` is 235 */
    SMTP_AUTH_FAILED,   /* `reply` says why: 535, 454, 501, 504, 538 */
    SMTP_AUTH_CLOSE,    /* `reply` is a 421: the connection ends */
};

/* A command and its last reply, for a protocol log. Nothing of what authenticates is in it. Valid during the call. */
struct smtp_command_log {
    struct str
        method; /* "EHLO"; "UNKNOWN" for what is no command, which is not shown: it may be a password that went astray */
    struct str argument;     /* as the client wrote it, of AUTH the mechanism alone */
    int code;                /* 0: the connection ended without a reply */
    uint64_t bytes_received; /* the message included */
    uint64_t bytes_sent;
    uint64_t taken_ms;
};

/*
 * Each hook that has a reply sets it. What it does not accept leaves no trace of its own in the transaction.
 */
struct smtp_server_hooks {
    /* Before the banner. A code other than 220 is sent and the connection closed. The text of 220 is the server's own. */
    void (*connected)(void *context, struct smtp_reply *reply);
    void (*hello)(void *context, struct str name, bool is_esmtp);
    /* TLS has begun: conn_tls tells of it. What was said before is forgotten (RFC 3207 4.2), the hello included. With implicit TLS it comes before
     * `connected`. */
    void (*secured)(void *context);
    /* TLS did not come about: for the log. The connection ends. With implicit TLS nothing else is called but `reset`. */
    void (*tls_failed)(void *context, const struct error *error);
    /* The mechanisms that are offered now, separated by spaces. NULL: there is no AUTH (502). Empty: none may be used now, and EHLO does not list any, but
     * auth_begin says why (538). Valid until the next call. The hook itself may be NULL. */
    const char *(*auth_mechanisms)(void *context);
    /* `initial`: the decoded initial response, NULL data for none, as opposed to an empty one. The server does the wire: base64, "*", lengths, sequence,
     * once a session. Both may wait. `challenge` is empty at the call; what was in it and in the responses is cleared from memory afterwards. */
    enum smtp_auth_status (*auth_begin)(void *context, struct str mechanism, struct str initial, struct buf *challenge,
                                        struct smtp_reply *reply);
    enum smtp_auth_status (*auth_continue)(void *context, struct str response, struct buf *challenge,
                                           struct smtp_reply *reply);
    /* The exchange is over without a result: "*", a malformed line, the connection's end. */
    void (*auth_abort)(void *context);
    /* 2xx opens a transaction. */
    void (*mail)(void *context, const struct command_mail *mail, struct smtp_reply *reply);
    /* 2xx adds the recipient. */
    void (*rcpt)(void *context, const struct command_rcpt *rcpt, struct smtp_reply *reply);
    /* RCPT's argument where its address is none; 2xx adds the recipient all the same. NULL: 501. */
    void (*odd_rcpt)(void *context, struct str argument, struct smtp_reply *reply);
    void (*verify)(void *context, const struct address *address, struct smtp_reply *reply);
    /* The message's first byte is about to be asked for: 354 goes on, another code refuses and ends the transaction. */
    void (*message_begin)(void *context, struct smtp_reply *reply);
    /* A piece of it, valid during the call. Problems are told by message_end. */
    void (*message_data)(void *context, struct str piece);
    /* It is complete and within all limits of the wire; 250 means that it is durable. The transaction is over either way. */
    void (*message_end)(void *context, struct smtp_reply *reply);
    /* The transaction is dropped, if there is one. */
    void (*reset)(void *context);
    /* Granted relay or authenticated: no tarpit. */
    bool (*is_trusted)(void *context);
    /* Only where settings->etrn; `node` is a domain, @DOMAIN or #QUEUE, not empty. Waits. */
    void (*etrn)(void *context, struct str node, struct smtp_reply *reply);
    /* After each command. NULL: nobody wants to know. */
    void (*log_command)(void *context, const struct smtp_command_log *entry);
};

/* What stands behind the pointers outlives the session. */
struct smtp_server_options {
    struct conn *conn;
    const struct smtp_server_settings *settings;
    const struct smtp_server_hooks *hooks;
    void *context;
};

/* In a fiber. `*server` is valid while it runs, for smtp_server_stop. */
void smtp_server_run(struct smtp_server **server, const struct smtp_server_options *options);

/* On the same loop: ends the session as soon as no transaction is under way, at once when it waits for a command. */
void smtp_server_stop(struct smtp_server *server);

#endif
