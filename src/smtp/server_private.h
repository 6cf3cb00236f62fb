/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the SMTP server share. */
#ifndef POSTERN_SMTP_SERVER_PRIVATE_H
#define POSTERN_SMTP_SERVER_PRIVATE_H

#include "loop/fiber.h"
#include "mail/dot.h"
#include "smtp/server.h"

/* RFC 5321 4.5.3.1.4 asks for 512; parameters add to it. CRLF included. AUTH's may have CONN_LINE_BYTES_MAX (RFC 4954 4). */
#define SMTP_COMMAND_BYTES_MAX 2048
/* On average over a message, after as long as a client may be idle. */
#define SMTP_DATA_BYTES_PER_SECOND_MIN 1024
/* A refused chunk up to this is read and dropped, so that the session can go on (RFC 3030 2). */
#define SMTP_CHUNK_DROP_BYTES_MAX (256u << 20)

/* A message that has gone so far beyond the limit is not read to its end any more. */
#define SMTP_DATA_EXCESS_BYTES_MAX (256u << 20)
/* For the last reply, and for what a client still sends while it should be reading it. */
#define SMTP_GOODBYE_TIMEOUT_MS 10000
#define SMTP_LINGER_TIMEOUT_MS  1000
/* Or the idle timeout, if that is shorter. */
#define SMTP_HANDSHAKE_TIMEOUT_MS 60000

enum smtp_state { SMTP_START, SMTP_READY, SMTP_AUTH, SMTP_MAIL, SMTP_RCPT, SMTP_DATA, SMTP_CHUNKS, SMTP_CLOSING };

struct smtp_server {
    struct conn *conn;
    const struct smtp_server_settings *settings;
    const struct smtp_server_hooks *hooks;
    void *context;
    struct fiber *fiber;
    enum smtp_state state;
    bool awaits_command; /* or the tarpit's end: nothing that a stop would cut off */
    bool stopping;
    bool is_authenticated;
    bool smtputf8; /* of the transaction */
    uint64_t recipient_count;
    uint64_t error_count;
    uint64_t unknown_recipient_count;
    uint64_t message_count;
    int reply_code;       /* of the last reply; kept for the log, as is what follows */
    uint64_t reply_bytes; /* of all replies */

    /* the message under way */
    struct dot_decoder decoder;
    uint64_t message_bytes;
    uint64_t data_bytes; /* received, dots included: for the rate */
    uint64_t data_started_at_ms;
};

void smtp_server_set_state(struct smtp_server *server, enum smtp_state state);
/* Sends a reply; a 5xx waits for the tarpit first, and the client's line is not valid after it. */
void smtp_server_reply(struct smtp_server *server, const struct smtp_reply *reply);
void smtp_server_say(struct smtp_server *server, int code, const char *enhanced, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The same for a mistake of the client: too many end the session. */
void smtp_server_complain(struct smtp_server *server, int code, const char *enhanced, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* What a status that ends the connection calls for: a last word after a timeout or a stop. */
void smtp_server_lost(struct smtp_server *server, enum conn_status status);
uint64_t smtp_server_deadline(const struct smtp_server *server);
/* The client's next line, until the idle timeout. Cancelled at once if the session is to stop and is between transactions. */
enum conn_status smtp_server_read_line(struct smtp_server *server, struct conn_line *line);
/* Drops the transaction, if any: READY, or START before the first hello. */
void smtp_server_reset(struct smtp_server *server);

/* server_tls.c */
/* TLS can still begin with STARTTLS. */
bool smtp_server_offers_tls(const struct smtp_server *server);
void smtp_server_starttls(struct smtp_server *server, const struct command *command);
/* The handshake. false: the session is at its end. */
bool smtp_server_begin_tls(struct smtp_server *server);

/* server_auth.c */
/* There is a mechanism that can be used now. */
bool smtp_server_offers_auth(const struct smtp_server *server);
void smtp_server_auth(struct smtp_server *server, const struct command *command);

/* server_log.c */
/* What is there before a command, so that what it did can be told after it. */
struct command_watch {
    struct smtp_command_log entry;
    char *argument;
    uint64_t started_at_ms;
};
void smtp_server_watch(struct smtp_server *server, const struct conn_line *line, struct command_watch *watch);
void smtp_server_tell(struct smtp_server *server, struct command_watch *watch);

/* server_data.c */
void smtp_server_data(struct smtp_server *server, const struct command *command);
void smtp_server_bdat(struct smtp_server *server, const struct command *command);

#endif
