/* SPDX-License-Identifier: Apache-2.0 */
/* AUTH (RFC 4954): its wire. Who the client is the hooks find out. */
#include "smtp/base64.h"
#include "smtp/sasl.h"
#include "smtp/server_private.h"

/* One AUTH command. What passes through is worth a password: it is cleared at the end, in the connection's buffer too. */
struct exchange {
    struct smtp_server *server;
    struct buf message; /* the client's, decoded */
    struct buf challenge;
    struct smtp_reply reply;
};

bool smtp_server_offers_auth(const struct smtp_server *server)
{
    const char *mechanisms = NULL;

    if (server->hooks->auth_mechanisms)
        mechanisms = server->hooks->auth_mechanisms(server->context);
    return mechanisms && mechanisms[0] != '\0' && !server->is_authenticated;
}

static bool is_implemented(const struct smtp_server *server)
{
    return server->hooks->auth_mechanisms && server->hooks->auth_mechanisms(server->context);
}

/* The view is of the connection's buffer, and ours until the next read. */
static void wipe(struct str line)
{
    if (line.data)
        explicit_bzero((char *)(uintptr_t)line.data, line.length);
}

static bool decode(struct exchange *exchange, struct str text)
{
    sasl_clear(&exchange->message);
    /* At once as large as it can get: growing would leave copies behind. The room is also what tells empty from none. */
    return buf_reserve(&exchange->message, SASL_MESSAGE_BYTES_MAX) && base64_decode(text, &exchange->message);
}

static void send_challenge(struct exchange *exchange)
{
    struct smtp_server *server = exchange->server;
    struct buf line;

    buf_init(&line, sizeof("334 \r\n") + BASE64_ENCODED_BYTES(SASL_MESSAGE_BYTES_MAX));
    buf_append_str(&line, STR("334 "));
    base64_append(&line, buf_str(&exchange->challenge));
    buf_append_str(&line, STR("\r\n"));
    if (conn_write(server->conn, buf_str(&line), smtp_server_deadline(server)) != CONN_OK)
        smtp_server_set_state(server, SMTP_CLOSING);
    sasl_clear(&line);
    buf_release(&line);
    sasl_clear(&exchange->challenge);
}

/* Reads and decodes the client's answer. false: the exchange has come to its end, and the client knows why. */
static bool read_response(struct exchange *exchange)
{
    struct smtp_server *server = exchange->server;
    struct conn_line line;
    enum conn_status status = smtp_server_read_line(server, &line);
    bool decoded;

    if (status == CONN_LINE_TOO_LONG) {
        smtp_server_complain(server, 500, "5.5.6", "Authentication line too long");
        return false;
    }
    if (status != CONN_OK) {
        smtp_server_lost(server, status);
        return false;
    }
    if (!line.crlf) {
        smtp_server_complain(server, 500, "5.5.2", "Line must end in CRLF, and have no CR or LF in it");
        return false;
    }
    if (str_equal(line.text, STR("*"))) {
        smtp_server_complain(server, 501, "5.7.0", "Authentication cancelled");
        return false;
    }
    decoded = decode(exchange, line.text);
    wipe(line.text);
    if (!decoded)
        smtp_server_complain(server, 501, "5.5.2", "Cannot decode response");
    return decoded;
}

static void conclude(struct exchange *exchange, enum smtp_auth_status status)
{
    struct smtp_server *server = exchange->server;
    const struct smtp_reply *reply = &exchange->reply;

    if (status == SMTP_AUTH_CLOSE)
        smtp_server_set_state(server, SMTP_CLOSING);
    server->is_authenticated = status == SMTP_AUTH_DONE;
    /* What is not the client's fault does not count against it. */
    if (status == SMTP_AUTH_FAILED && reply->code >= 500)
        smtp_server_complain(server, reply->code, reply->enhanced, "%s", reply->text);
    else
        smtp_server_reply(server, reply);
}

/* `initial` NULL data: none. */
static void run_exchange(struct exchange *exchange, struct str mechanism, struct str initial)
{
    struct smtp_server *server = exchange->server;
    enum smtp_auth_status status =
        server->hooks->auth_begin(server->context, mechanism, initial, &exchange->challenge, &exchange->reply);

    while (status == SMTP_AUTH_CONTINUE) {
        send_challenge(exchange);
        if (server->state == SMTP_CLOSING || !read_response(exchange)) {
            server->hooks->auth_abort(server->context);
            return;
        }
        status = server->hooks->auth_continue(server->context, buf_str(&exchange->message), &exchange->challenge,
                                              &exchange->reply);
    }
    conclude(exchange, status);
}

/* MECHANISM [INITIAL-RESPONSE], "=" for an empty one. */
static void begin(struct smtp_server *server, struct str argument)
{
    struct exchange exchange = {.server = server};
    struct str rest = argument;
    struct str mechanism = str_split(&rest, ' ');
    struct str initial = str_trim(rest);
    bool decoded;

    buf_init(&exchange.message, SASL_MESSAGE_BYTES_MAX);
    buf_init(&exchange.challenge, SASL_MESSAGE_BYTES_MAX);
    decoded = decode(&exchange, str_equal(initial, STR("=")) ? STR("") : initial);
    wipe(initial);
    if (mechanism.length == 0)
        smtp_server_complain(server, 501, "5.5.4", "Wanted: AUTH mechanism [initial-response]");
    else if (!decoded)
        smtp_server_complain(server, 501, "5.5.2", "Cannot decode response");
    else
        run_exchange(&exchange, mechanism, initial.length > 0 ? buf_str(&exchange.message) : (struct str){0});
    sasl_clear(&exchange.message);
    sasl_clear(&exchange.challenge);
    buf_release(&exchange.message);
    buf_release(&exchange.challenge);
}

void smtp_server_auth(struct smtp_server *server, const struct command *command)
{
    if (!is_implemented(server)) {
        smtp_server_complain(server, 502, "5.5.1", "Command not implemented");
    } else if (server->state == SMTP_START) {
        smtp_server_complain(server, 503, "5.5.1", "Send hello first");
    } else if (server->is_authenticated) {
        smtp_server_complain(server, 503, "5.5.1", "Already authenticated");
    } else if (server->state != SMTP_READY) {
        smtp_server_complain(server, 503, "5.5.1", "Not within a mail transaction");
    } else {
        smtp_server_set_state(server, SMTP_AUTH);
        begin(server, command->argument);
        if (server->state != SMTP_CLOSING)
            smtp_server_set_state(server, SMTP_READY);
    }
}
