/* SPDX-License-Identifier: Apache-2.0 */
/* The client's message on its way out: straight from the reader through the dots into the connection. */
#include "base/mem.h"
#include "loop/loop.h"
#include "mail/dot.h"
#include "smtp/client_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How much of a body is sent between two looks at whether the server has refused it already. */
#define BODY_LOOK_BYTES (64u << 10)
/* A body that is longer than a block of the loop is read and sent in pieces of this size, for fewer system calls. */
#define BODY_LARGE_BLOCK_BYTES (64u << 10)

static void emit_body(void *context, struct str data)
{
    client_write(context, data);
}

/* The server answers before it has the dot: it wants no more of this. It may only be a refusal. */
static void read_early_reply(struct smtp_client *client, struct smtp_client_transaction *transaction)
{
    const struct reply *reply =
        client_read_reply(client, CLIENT_EXPECT_FINAL, "the unfinished message", client->command_timeout_ms);

    if (!reply)
        return;
    if (reply->code >= 400) {
        /* By LMTP it would be one recipient's. */
        if (!client->is_lmtp)
            client_refuse_rest_by(transaction, reply);
        client_end_with(client, CLIENT_END_BODY, "4.5.0", "The server refused a message before its end");
    } else {
        client_end_with(client, CLIENT_END_OUT_OF_STEP, "4.5.0", "The server accepted a message before its end");
    }
}

static void end_unreadable(struct smtp_client *client, ssize_t error)
{
    char text[160];
    const char *reason = error == 0 ? "it is shorter than it was" : strerrordesc_np((int)-error);

    snprintf(text, sizeof(text), "The stored message can't be read: %s", reason ? reason : "unknown error");
    client_end_with(client, CLIENT_END_BODY, "4.3.0", text);
    if (error == -EILSEQ)
        client_result_set(&client->failure, "5.3.0", true, "The stored message is damaged");
}

/* All of the body, without the dot, through a block of memory. */
static void write_body(struct smtp_client *client, struct smtp_client_transaction *transaction,
                       struct dot_encoder *encoder, char *block, size_t block_bytes)
{
    uint64_t body_deadline_ms =
        loop_now_ms() + client->data_timeout_ms + transaction->body_bytes / SMTP_CLIENT_BODY_RATE_MIN * 1000;
    uint64_t sent = 0;
    uint64_t look_at = BODY_LOOK_BYTES;

    while (client->conn && sent < transaction->body_bytes) {
        uint64_t left = transaction->body_bytes - sent;
        ssize_t count = transaction->read_body(transaction, block, left < block_bytes ? left : block_bytes);

        if (count <= 0) {
            end_unreadable(client, count);
            break;
        }
        sent += (uint64_t)count;
        client->write_deadline_ms = loop_now_ms() + client->command_timeout_ms;
        if (client->write_deadline_ms > body_deadline_ms)
            client->write_deadline_ms = body_deadline_ms;
        dot_encoder_feed(encoder, str_make(block, (size_t)count), emit_body, client);
        if (sent >= look_at && client->conn) {
            look_at = sent + BODY_LOOK_BYTES;
            if (conn_has_input(client->conn))
                read_early_reply(client, transaction);
        }
    }
    if (client->conn && conn_buffered(client->conn).length > 0)
        read_early_reply(client, transaction);
}

bool client_write_message(struct smtp_client *client, struct smtp_client_transaction *transaction, size_t accepted)
{
    struct dot_encoder encoder;

    if (accepted == 0) {
        client->write_deadline_ms = loop_now_ms() + client->command_timeout_ms;
        client_write(client, STR(".\r\n"));
        return true;
    }
    dot_encoder_init(&encoder);
    if (transaction->body_bytes <= LOOP_BLOCK_BYTES) {
        char *block = loop_block_take();

        write_body(client, transaction, &encoder, block, LOOP_BLOCK_BYTES);
        loop_block_give(block);
    } else {
        char *block = mem_resize(NULL, BODY_LARGE_BLOCK_BYTES);

        write_body(client, transaction, &encoder, block, BODY_LARGE_BLOCK_BYTES);
        free(block);
    }
    if (!client->conn)
        return false;
    dot_encoder_finish(&encoder, emit_body, client);
    return true;
}
