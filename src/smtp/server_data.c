/* SPDX-License-Identifier: Apache-2.0 */
/* The message itself: DATA (RFC 5321 4.1.1.4) and BDAT (RFC 3030). */
#include "loop/loop.h"
#include "smtp/server_private.h"

#include <inttypes.h>

/* A client that keeps under the idle timeout with a byte now and then still has to be done some day. */
static uint64_t data_deadline(const struct smtp_server *server)
{
    uint64_t idle_ms = smtp_server_deadline(server);
    uint64_t rate_ms = server->data_started_at_ms + server->settings->idle_timeout_ms +
                       server->data_bytes * 1000 / SMTP_DATA_BYTES_PER_SECOND_MIN;

    return idle_ms < rate_ms ? idle_ms : rate_ms;
}

static void take_piece(void *context, struct str piece)
{
    struct smtp_server *server = context;

    server->message_bytes += piece.length;
    if (server->message_bytes <= server->settings->message_bytes_max)
        server->hooks->message_data(server->context, piece);
}

/* Checks the sequence (relay-behaviour.md section 4). */
static bool may_begin(struct smtp_server *server)
{
    if (server->state == SMTP_RCPT)
        return true;
    if (server->state == SMTP_START)
        smtp_server_complain(server, 503, "5.5.1", "Send hello first");
    else if (server->state == SMTP_CHUNKS)
        smtp_server_complain(server, 503, "5.5.1", "Message already begun");
    else
        smtp_server_complain(server, 503, "5.5.2",
                             server->state == SMTP_READY ? "Need mail command" : "Need rcpt command");
    return false;
}

static void reply_too_big(struct smtp_server *server)
{
    smtp_server_say(server, 552, "5.3.4", "Message size exceeds fixed maximum message size");
}

/* Who goes on and on is not waited for. */
static bool is_far_too_big(const struct smtp_server *server)
{
    return server->message_bytes > server->settings->message_bytes_max &&
           server->message_bytes - server->settings->message_bytes_max > SMTP_DATA_EXCESS_BYTES_MAX;
}

static bool begin(struct smtp_server *server)
{
    struct smtp_reply reply = {0};

    server->hooks->message_begin(server->context, &reply);
    if (reply.code != 354) {
        smtp_server_reset(server);
        smtp_server_reply(server, &reply);
        return false;
    }
    server->message_bytes = 0;
    server->data_bytes = 0;
    server->data_started_at_ms = loop_now_ms();
    return true;
}

/* All of the message has come. */
static void finish(struct smtp_server *server)
{
    struct smtp_reply reply = {0};

    if (server->decoder.has_nul)
        smtp_reply_set(&reply, 550, "5.6.0", "Message contains NUL");
    else if (dot_decoder_is_refused(&server->decoder))
        smtp_reply_set(&reply, 550, "5.6.0", "Message contains bare CR or LF");
    else if (server->message_bytes > server->settings->message_bytes_max)
        smtp_reply_set(&reply, 552, "5.3.4", "Message size exceeds fixed maximum message size");
    else
        server->hooks->message_end(server->context, &reply);
    if (reply.code / 100 == 2)
        server->message_count++;
    smtp_server_reset(server);
    smtp_server_reply(server, &reply);
}

static enum dot_bare_newlines bare_newlines(const struct smtp_server *server)
{
    return server->settings->normalize_newlines ? DOT_BARE_NORMALIZE : DOT_BARE_REJECT;
}

void smtp_server_data(struct smtp_server *server, const struct command *command)
{
    (void)command;
    if (!may_begin(server) || !begin(server))
        return;
    smtp_server_set_state(server, SMTP_DATA);
    dot_decoder_init_data(&server->decoder, bare_newlines(server));
    smtp_server_say(server, 354, NULL, "Start mail input; end with <CRLF>.<CRLF>");
    while (server->state == SMTP_DATA && !dot_decoder_is_done(&server->decoder)) {
        struct str input;
        enum conn_status status = conn_read_some(server->conn, data_deadline(server), &input);

        if (status != CONN_OK) {
            smtp_server_lost(server, status);
            return;
        }
        size_t count = dot_decoder_feed(&server->decoder, input, take_piece, server);

        server->data_bytes += count;
        conn_consume(server->conn, count);
        if (is_far_too_big(server))
            smtp_server_set_state(server, SMTP_CLOSING);
    }
    if (server->state == SMTP_DATA)
        finish(server);
    else
        reply_too_big(server);
}

/* Reads a chunk and, if it is not wanted, drops it. false: the session is at its end. */
static bool read_chunk(struct smtp_server *server, uint64_t size, bool wanted)
{
    while (size > 0) {
        struct str input;
        enum conn_status status = conn_read_some(server->conn, data_deadline(server), &input);

        if (status != CONN_OK) {
            smtp_server_lost(server, status);
            return false;
        }
        input = str_take(input, size < SIZE_MAX ? (size_t)size : SIZE_MAX);
        if (wanted)
            dot_decoder_feed(&server->decoder, input, take_piece, server);
        server->data_bytes += input.length;
        size -= input.length;
        conn_consume(server->conn, input.length);
    }
    return true;
}

/* The client sends the chunk whatever we think of the command: without reading it, its bytes would be taken for commands. */
static void drop_chunk(struct smtp_server *server, uint64_t size)
{
    if (server->state == SMTP_CLOSING)
        return;
    if (size > SMTP_CHUNK_DROP_BYTES_MAX) {
        smtp_server_set_state(server, SMTP_CLOSING);
        return;
    }
    server->data_bytes = 0;
    server->data_started_at_ms = loop_now_ms();
    read_chunk(server, size, false);
}

void smtp_server_bdat(struct smtp_server *server, const struct command *command)
{
    uint64_t size;
    bool is_last;

    if (!command_parse_bdat(command->argument, &size, &is_last)) {
        /* Nobody knows how many bytes follow: they can't be told from commands. */
        smtp_server_say(server, 501, "5.5.4", "Invalid option: BDAT");
        smtp_server_set_state(server, SMTP_CLOSING);
        return;
    }
    if (server->state != SMTP_CHUNKS) {
        if (!may_begin(server) || !begin(server)) {
            drop_chunk(server, size);
            return;
        }
        smtp_server_set_state(server, SMTP_CHUNKS);
        dot_decoder_init_bdat(&server->decoder, bare_newlines(server));
    }
    if (size > server->settings->message_bytes_max ||
        server->message_bytes > server->settings->message_bytes_max - size) {
        smtp_server_reset(server);
        reply_too_big(server);
        drop_chunk(server, size);
        return;
    }
    if (!read_chunk(server, size, true))
        return;
    if (!is_last) {
        smtp_server_say(server, 250, "2.0.0", "%" PRIu64 " octets received", size);
        return;
    }
    dot_decoder_finish_bdat(&server->decoder, take_piece, server);
    finish(server);
}
