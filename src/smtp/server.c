/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/server.h"

#include "loop/loop.h"
#include "mail/date.h"
#include "os/clock.h"
#include "smtp/server_private.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

/* ---- state ---- */

static bool transition_is_allowed(enum smtp_state from, enum smtp_state to)
{
    switch (to) {
    case SMTP_START:
        return from == SMTP_START || from == SMTP_READY;
    case SMTP_READY:
        return from != SMTP_CLOSING;
    case SMTP_AUTH:
    case SMTP_MAIL:
        return from == SMTP_READY;
    case SMTP_RCPT:
        return from == SMTP_MAIL || from == SMTP_RCPT;
    case SMTP_DATA:
        return from == SMTP_RCPT;
    case SMTP_CHUNKS:
        return from == SMTP_RCPT || from == SMTP_CHUNKS;
    case SMTP_CLOSING:
        return true;
    }
    return false;
}

void smtp_server_set_state(struct smtp_server *server, enum smtp_state state)
{
    assert(transition_is_allowed(server->state, state));
    server->state = state;
}

void smtp_server_reset(struct smtp_server *server)
{
    server->hooks->reset(server->context);
    server->recipient_count = 0;
    server->smtputf8 = false;
    if (server->state != SMTP_START && server->state != SMTP_CLOSING)
        smtp_server_set_state(server, SMTP_READY);
}

uint64_t smtp_server_deadline(const struct smtp_server *server)
{
    return loop_now_ms() + server->settings->idle_timeout_ms;
}

enum conn_status smtp_server_read_line(struct smtp_server *server, struct conn_line *line)
{
    bool between = server->state == SMTP_START || server->state == SMTP_READY || server->state == SMTP_AUTH;
    enum conn_status status = CONN_CANCELLED;

    if (!server->stopping || !between) {
        server->awaits_command = between;
        status = conn_read_line(server->conn, CONN_LINE_BYTES_MAX, smtp_server_deadline(server), line);
        server->awaits_command = false;
        /* A command came together with the stop: begun now, its message would meet a cancelled fiber. */
        if (server->stopping && between && status == CONN_OK)
            status = CONN_CANCELLED;
    }
    return status;
}

void smtp_server_lost(struct smtp_server *server, enum conn_status status)
{
    struct str host = server->settings->hostname;

    smtp_server_set_state(server, SMTP_CLOSING);
    if (status == CONN_TIMEOUT) {
        smtp_server_say(server, 421, "4.4.2", "%.*s Timeout waiting for client input", STR_ARG(host));
    } else if (status == CONN_CANCELLED) {
        fiber_clear_cancel();
        smtp_server_say(server, 421, "4.3.2", "%.*s Service shutting down", STR_ARG(host));
    }
}

/* ---- replies ---- */

void smtp_reply_set(struct smtp_reply *reply, int code, const char *enhanced, const char *format, ...)
{
    va_list arguments;

    reply->code = code;
    reply->enhanced = enhanced;
    va_start(arguments, format);
    vsnprintf(reply->text, sizeof(reply->text), format, arguments);
    va_end(arguments);
}

/* Dictionary harvesting gets slow: nothing is held meanwhile but the session itself. The end of the daemon does not wait for it. */
static void tarpit(struct smtp_server *server)
{
    uint64_t until_ms = loop_now_ms() + server->settings->tarpit_ms;

    if (server->settings->tarpit_ms == 0 || server->stopping || server->hooks->is_trusted(server->context))
        return;
    if (conn_flush(server->conn, smtp_server_deadline(server)) != CONN_OK)
        return;
    conn_rest(server->conn);
    server->awaits_command = true;
    while (fiber_wait(until_ms) == WAIT_READY) {
    }
    server->awaits_command = false;
    if (server->stopping)
        fiber_clear_cancel();
}

static void write_line(struct smtp_server *server, int code, char separator, const char *enhanced, const char *text)
{
    char line[SMTP_REPLY_TEXT_BYTES + 32];
    int length = snprintf(line, sizeof(line), "%d%c%s%s%s\r\n", code, separator, enhanced ? enhanced : "",
                          enhanced ? " " : "", text);
    enum conn_status status = conn_write(server->conn, str_make(line, (size_t)length), smtp_server_deadline(server));

    assert(length > 0 && (size_t)length < sizeof(line));
    server->reply_code = code;
    server->reply_bytes += (uint64_t)length;
    if (status != CONN_OK && server->state != SMTP_CLOSING)
        smtp_server_set_state(server, SMTP_CLOSING);
}

void smtp_server_reply(struct smtp_server *server, const struct smtp_reply *reply)
{
    if (reply->code >= 500)
        tarpit(server);
    write_line(server, reply->code, ' ', reply->enhanced, reply->text);
}

static __attribute__((format(printf, 4, 0))) void
reply_format(struct smtp_server *server, int code, const char *enhanced, const char *format, va_list arguments)
{
    struct smtp_reply reply = {.code = code, .enhanced = enhanced};

    vsnprintf(reply.text, sizeof(reply.text), format, arguments);
    smtp_server_reply(server, &reply);
}

void smtp_server_say(struct smtp_server *server, int code, const char *enhanced, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    reply_format(server, code, enhanced, format, arguments);
    va_end(arguments);
}

void smtp_server_complain(struct smtp_server *server, int code, const char *enhanced, const char *format, ...)
{
    va_list arguments;

    if (++server->error_count >= server->settings->errors_max) {
        smtp_server_say(server, 421, "4.7.0", "%.*s Too many errors", STR_ARG(server->settings->hostname));
        smtp_server_set_state(server, SMTP_CLOSING);
        return;
    }
    va_start(arguments, format);
    reply_format(server, code, enhanced, format, arguments);
    va_end(arguments);
}

/* ---- commands without arguments that matter ---- */

/* At least as many as on_hello lists. */
#define KEYWORDS_MAX 12

static void on_hello(struct smtp_server *server, const struct command *command)
{
    bool is_esmtp = command->verb == COMMAND_EHLO;
    char ip[NET_ADDRESS_TEXT_BYTES];
    char text[SMTP_REPLY_TEXT_BYTES];
    char auth[SMTP_REPLY_TEXT_BYTES];
    const char *keywords[KEYWORDS_MAX];
    size_t count = 0;

    if (server->state == SMTP_START)
        smtp_server_set_state(server, SMTP_READY);
    smtp_server_reset(server);
    server->hooks->hello(server->context, command->argument, is_esmtp);
    net_address_format_ip(conn_peer(server->conn), ip);
    snprintf(text, sizeof(text), "%.*s Hello [%s]", STR_ARG(server->settings->hostname), ip);
    write_line(server, 250, is_esmtp ? '-' : ' ', NULL, text);
    if (!is_esmtp)
        return;
    snprintf(text, sizeof(text), "SIZE %llu", (unsigned long long)server->settings->message_bytes_max);
    keywords[count++] = "PIPELINING";
    keywords[count++] = text;
    keywords[count++] = "8BITMIME";
    keywords[count++] = "SMTPUTF8";
    keywords[count++] = "ENHANCEDSTATUSCODES";
    keywords[count++] = "DSN";
    keywords[count++] = "CHUNKING";
    if (server->settings->etrn)
        keywords[count++] = "ETRN";
    if (smtp_server_offers_tls(server))
        keywords[count++] = "STARTTLS";
    if (smtp_server_offers_auth(server)) {
        snprintf(auth, sizeof(auth), "AUTH %s", server->hooks->auth_mechanisms(server->context));
        keywords[count++] = auth;
    }
    for (size_t i = 0; i < count; i++)
        write_line(server, 250, i + 1 < count ? '-' : ' ', NULL, keywords[i]);
}

static void on_rset(struct smtp_server *server, const struct command *command)
{
    (void)command;
    smtp_server_reset(server);
    smtp_server_say(server, 250, "2.0.0", "Resetting");
}

static void on_noop(struct smtp_server *server, const struct command *command)
{
    (void)command;
    smtp_server_say(server, 250, "2.0.0", "OK");
}

static void on_quit(struct smtp_server *server, const struct command *command)
{
    (void)command;
    smtp_server_set_state(server, SMTP_CLOSING);
    smtp_server_say(server, 221, "2.0.0", "%.*s Service closing transmission channel",
                    STR_ARG(server->settings->hostname));
}

static void on_help(struct smtp_server *server, const struct command *command)
{
    char text[SMTP_REPLY_TEXT_BYTES];

    (void)command;
    snprintf(text, sizeof(text), "EHLO HELO%s%s MAIL RCPT DATA BDAT RSET NOOP VRFY%s HELP QUIT",
             smtp_server_offers_tls(server) ? " STARTTLS" : "", smtp_server_offers_auth(server) ? " AUTH" : "",
             server->settings->etrn ? " ETRN" : "");
    write_line(server, 214, '-', "2.0.0", "This server supports the following commands:");
    write_line(server, 214, ' ', "2.0.0", text);
}

static void on_unknown(struct smtp_server *server, const struct command *command)
{
    (void)command;
    smtp_server_complain(server, 500, "5.3.3", "Unrecognized command");
}

/* ---- the envelope ---- */

/* The reply that a parse that is not OK means. */
static void complain_of_parse(struct smtp_server *server, enum command_status status, struct str option)
{
    switch (status) {
    case COMMAND_OK:
        return;
    case COMMAND_SYNTAX:
    case COMMAND_INVALID_ADDRESS:
        smtp_server_complain(server, 501, "5.5.4", "Invalid Address");
        return;
    case COMMAND_NEEDS_SMTPUTF8:
        smtp_server_complain(server, 553, "5.6.7", "Address requires SMTPUTF8");
        return;
    case COMMAND_UNSUPPORTED_OPTION:
        smtp_server_complain(server, 555, "5.5.4", "Unsupported option: %.*s", STR_ARG(option));
        return;
    case COMMAND_INVALID_OPTION:
        smtp_server_complain(server, 501, "5.5.4", "Invalid option: %.*s", STR_ARG(option));
        return;
    }
}

static bool too_many_messages(struct smtp_server *server)
{
    if (server->settings->messages_max == 0 || server->message_count < server->settings->messages_max)
        return false;
    smtp_server_say(server, 421, "4.7.0", "%.*s Too many messages in this session",
                    STR_ARG(server->settings->hostname));
    smtp_server_set_state(server, SMTP_CLOSING);
    return true;
}

static void on_mail(struct smtp_server *server, const struct command *command)
{
    struct command_mail mail;
    struct smtp_reply reply;
    enum command_status status;

    if (server->state == SMTP_START) {
        smtp_server_complain(server, 503, "5.5.1", "Send hello first");
        return;
    }
    if (server->state != SMTP_READY) {
        smtp_server_complain(server, 503, "5.5.1", "Sender already specified");
        return;
    }
    if (too_many_messages(server))
        return;
    status = command_parse_mail(&mail, command, server->settings->default_domain);
    if (status != COMMAND_OK) {
        complain_of_parse(server, status, mail.option);
        return;
    }
    if (mail.has_size && mail.size > server->settings->message_bytes_max) {
        smtp_server_say(server, 552, "5.3.4", "Message size exceeds fixed maximum message size");
        return;
    }
    server->hooks->mail(server->context, &mail, &reply);
    if (reply.code / 100 == 2) {
        server->smtputf8 = mail.smtputf8;
        server->recipient_count = 0;
        smtp_server_set_state(server, SMTP_MAIL);
    }
    smtp_server_reply(server, &reply);
}

/* Guessing for addresses ends here; ordinary refusals do not count. */
static void count_unknown_recipient(struct smtp_server *server)
{
    if (server->settings->unknown_recipients_max == 0 ||
        ++server->unknown_recipient_count < server->settings->unknown_recipients_max)
        return;
    smtp_server_say(server, 421, "4.7.0", "%.*s Too many unknown recipients", STR_ARG(server->settings->hostname));
    smtp_server_set_state(server, SMTP_CLOSING);
}

static void on_rcpt(struct smtp_server *server, const struct command *command)
{
    struct command_rcpt rcpt;
    struct smtp_reply reply = {0};
    enum command_status status;

    if (server->state == SMTP_START) {
        smtp_server_complain(server, 503, "5.5.1", "Send hello first");
        return;
    }
    if (server->state != SMTP_MAIL && server->state != SMTP_RCPT) {
        smtp_server_complain(server, 503, server->state == SMTP_READY ? "5.5.2" : "5.5.1",
                             server->state == SMTP_READY ? "Need mail command" : "Message already begun");
        return;
    }
    status = command_parse_rcpt(&rcpt, command, server->settings->default_domain, server->smtputf8);
    if (status != COMMAND_OK && (status != COMMAND_INVALID_ADDRESS || !server->hooks->odd_rcpt)) {
        complain_of_parse(server, status, rcpt.option);
        return;
    }
    if (server->recipient_count >= server->settings->recipients_max) {
        smtp_server_say(server, 452, "4.5.3", "Too many recipients");
        return;
    }
    if (status == COMMAND_OK)
        server->hooks->rcpt(server->context, &rcpt, &reply);
    else
        server->hooks->odd_rcpt(server->context, command->argument, &reply);
    if (reply.code / 100 == 2) {
        server->recipient_count++;
        smtp_server_set_state(server, SMTP_RCPT);
    }
    smtp_server_reply(server, &reply);
    if (reply.is_unknown_recipient)
        count_unknown_recipient(server);
}

static void on_vrfy(struct smtp_server *server, const struct command *command)
{
    struct address address;
    struct smtp_reply reply = {0};

    if (!address_parse(&address, command->argument, server->settings->default_domain) || address.is_null) {
        smtp_server_complain(server, 501, "5.5.4", "Invalid Address");
        return;
    }
    if (address.needs_smtputf8) {
        smtp_server_complain(server, 553, "5.6.7", "Address requires SMTPUTF8");
        return;
    }
    server->hooks->verify(server->context, &address, &reply);
    smtp_server_reply(server, &reply);
}

/* RFC 1985. Whom it is not for does not learn that it exists. */
static void on_etrn(struct smtp_server *server, const struct command *command)
{
    struct smtp_reply reply = {0};

    if (!server->settings->etrn) {
        on_unknown(server, command);
        return;
    }
    if (server->state != SMTP_READY) {
        smtp_server_complain(server, 503, "5.5.1",
                             server->state == SMTP_START ? "Send hello first" : "Message already begun");
        return;
    }
    if (command->argument.length == 0) {
        smtp_server_complain(server, 501, "5.5.4", "Syntax: ETRN DOMAIN");
        return;
    }
    server->hooks->etrn(server->context, command->argument, &reply);
    smtp_server_reply(server, &reply);
}

/* ---- the session ---- */

typedef void command_fn(struct smtp_server *server, const struct command *command);

static command_fn *const command_table[COMMAND_VERB_COUNT] = {
    [COMMAND_UNKNOWN] = on_unknown,    [COMMAND_EHLO] = on_hello,
    [COMMAND_HELO] = on_hello,         [COMMAND_MAIL] = on_mail,
    [COMMAND_RCPT] = on_rcpt,          [COMMAND_DATA] = smtp_server_data,
    [COMMAND_BDAT] = smtp_server_bdat, [COMMAND_RSET] = on_rset,
    [COMMAND_NOOP] = on_noop,          [COMMAND_QUIT] = on_quit,
    [COMMAND_VRFY] = on_vrfy,          [COMMAND_EXPN] = on_unknown,
    [COMMAND_HELP] = on_help,          [COMMAND_ETRN] = on_etrn,
    [COMMAND_TURN] = on_unknown,       [COMMAND_STARTTLS] = smtp_server_starttls,
    [COMMAND_AUTH] = smtp_server_auth,
};

/* Apart from the loop, so that what parsing and deciding need of the stack is given back before the next wait. */
static __attribute__((noinline)) void dispatch(struct smtp_server *server, const struct conn_line *line)
{
    struct command command;

    command_parse(&command, line->text);
    if (line->text.length + strlen("\r\n") > SMTP_COMMAND_BYTES_MAX && command.verb != COMMAND_AUTH) {
        smtp_server_complain(server, 500, "5.5.2", "Line too long");
        return;
    }
    if (!line->crlf || command.has_bare_newline) {
        smtp_server_complain(server, 500, "5.5.2", "Line must end in CRLF, and have no CR or LF in it");
        return;
    }
    if (command.has_nul) {
        smtp_server_complain(server, 500, "5.5.2", "Command contains NUL");
        return;
    }
    command_table[command.verb](server, &command);
}

static __attribute__((noinline)) void dispatch_watched(struct smtp_server *server, const struct conn_line *line)
{
    struct command_watch watch;

    smtp_server_watch(server, line, &watch);
    dispatch(server, line);
    smtp_server_tell(server, &watch);
}

static __attribute__((noinline)) bool greet(struct smtp_server *server)
{
    struct smtp_reply reply = {0};
    char date[DATE_RFC5322_BYTES];
    struct str banner = server->settings->banner;

    server->hooks->connected(server->context, &reply);
    if (reply.code != 220) {
        smtp_server_set_state(server, SMTP_CLOSING);
        smtp_server_reply(server, &reply);
        return false;
    }
    if (conn_has_input(server->conn)) {
        /* Whoever talks before the greeting does not speak SMTP, or does not listen. */
        smtp_server_set_state(server, SMTP_CLOSING);
        return false;
    }
    date_format_rfc5322(clock_real_ms(), date);
    smtp_server_say(server, 220, NULL, "%.*s %.*s%sready at %s", STR_ARG(server->settings->hostname), STR_ARG(banner),
                    banner.length > 0 ? " " : "", date);
    return true;
}

/* A close with unread input resets the connection, and may take the last reply with it. */
static void say_goodbye(struct smtp_server *server)
{
    if (conn_flush(server->conn, loop_now_ms() + SMTP_GOODBYE_TIMEOUT_MS) == CONN_OK && conn_has_input(server->conn))
        conn_linger(server->conn, loop_now_ms() + SMTP_LINGER_TIMEOUT_MS);
}

void smtp_server_run(struct smtp_server **out, const struct smtp_server_options *options)
{
    struct smtp_server server = {
        .conn = options->conn,
        .settings = options->settings,
        .hooks = options->hooks,
        .context = options->context,
        .fiber = fiber_current(),
        .state = SMTP_START,
    };

    *out = &server;
    if (!options->settings->tls_is_implicit || smtp_server_begin_tls(&server))
        greet(&server);
    while (server.state != SMTP_CLOSING) {
        struct conn_line line;
        enum conn_status status = smtp_server_read_line(&server, &line);

        if (status == CONN_OK && server.hooks->log_command)
            dispatch_watched(&server, &line);
        else if (status == CONN_OK)
            dispatch(&server, &line);
        else if (status == CONN_LINE_TOO_LONG)
            smtp_server_complain(&server, 500, "5.5.2", "Line too long");
        else
            smtp_server_lost(&server, status);
    }
    server.hooks->reset(server.context);
    say_goodbye(&server);
    *out = NULL;
}

void smtp_server_stop(struct smtp_server *server)
{
    server->stopping = true;
    if (server->awaits_command)
        fiber_cancel(server->fiber);
}
