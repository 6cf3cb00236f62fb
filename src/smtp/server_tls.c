/* SPDX-License-Identifier: Apache-2.0 */
/* TLS on the receiving side: STARTTLS (RFC 3207) and from the first byte on (RFC 8314 3.3). */
#include "loop/loop.h"
#include "smtp/server_private.h"

bool smtp_server_offers_tls(const struct smtp_server *server)
{
    return server->settings->tls && !conn_tls(server->conn);
}

bool smtp_server_begin_tls(struct smtp_server *server)
{
    uint64_t idle_ms = server->settings->idle_timeout_ms;
    uint64_t timeout_ms = idle_ms < SMTP_HANDSHAKE_TIMEOUT_MS ? idle_ms : SMTP_HANDSHAKE_TIMEOUT_MS;
    struct error error;
    enum conn_status status;

    server->awaits_command = true; /* nothing is under way that smtp_server_stop should let finish */
    status = conn_accept_tls(server->conn, server->settings->tls, loop_now_ms() + timeout_ms, &error);
    server->awaits_command = false;
    if (status != CONN_OK) {
        /* No last word: in plaintext it would be taken for a part of the handshake. */
        server->hooks->tls_failed(server->context, &error);
        smtp_server_set_state(server, SMTP_CLOSING);
        return false;
    }
    server->is_authenticated = false;
    server->hooks->secured(server->context);
    return true;
}

void smtp_server_starttls(struct smtp_server *server, const struct command *command)
{
    if (!server->settings->tls) {
        smtp_server_complain(server, 502, "5.5.1", "Command not implemented");
    } else if (conn_tls(server->conn)) {
        smtp_server_complain(server, 503, "5.5.1", "TLS already active");
    } else if (command->argument.length > 0) {
        smtp_server_complain(server, 501, "5.5.4", "STARTTLS takes no arguments");
    } else if (server->state != SMTP_START && server->state != SMTP_READY) {
        smtp_server_complain(server, 503, "5.5.1", "Not within a mail transaction");
    } else if (conn_buffered(server->conn).length > 0) {
        /* Sent before there was TLS, to be taken for protected once there is (command injection). */
        smtp_server_say(server, 501, "5.5.1", "Nothing may follow STARTTLS");
        smtp_server_set_state(server, SMTP_CLOSING);
    } else {
        smtp_server_reset(server);
        smtp_server_set_state(server, SMTP_START);
        smtp_server_say(server, 220, "2.0.0", "Ready to start TLS");
        if (server->state != SMTP_CLOSING && conn_flush(server->conn, smtp_server_deadline(server)) == CONN_OK)
            smtp_server_begin_tls(server);
        else if (server->state != SMTP_CLOSING)
            smtp_server_set_state(server, SMTP_CLOSING);
    }
}
