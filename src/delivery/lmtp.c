/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LMTP (RFC 2033) to where the mailboxes are, over a UNIX socket; to a host it is like any other (connect_host.c). It is the same client, queue and
 * outbound fiber as for SMTP: what differs stands in smtp/client.
 */
#include "base/log.h"
#include "delivery/body.h"
#include "delivery/connect_private.h"
#include "delivery/delivery_private.h"
#include "delivery/mail_loop.h"
#include "delivery/route.h"

#include <stdio.h>

/* A socket's path is nobody's business but the administrator's: the log has it, reports don't. */
#define SOCKET_REMOTE "localhost"

/* As much of a header section as is looked at. */
#define HEADER_BYTES_MAX (64u << 10)

static void read_header(struct delivery *delivery, spool_id id, struct buf *header)
{
    struct delivery_body body;
    ssize_t count = 1;

    delivery_body_init(&body, delivery->options.spool, delivery->options.disk_pool, id);
    while (count > 0 && header->length < HEADER_BYTES_MAX) {
        size_t wanted = HEADER_BYTES_MAX - header->length;

        count = delivery_body_read(&body, buf_reserve(header, wanted), wanted);
        header->length += count > 0 ? (size_t)count : 0;
    }
    delivery_body_release(&body);
}

bool lmtp_refuse_loops(struct delivery *delivery, const struct config *config, struct queue_item *item)
{
    size_t count = queue_item_recipient_count(item);
    char mailbox[ROUTE_MAILBOX_BYTES];
    bool has_loop = false;
    struct buf header;

    buf_init(&header, HEADER_BYTES_MAX);
    read_header(delivery, queue_item_id(item), &header);
    for (size_t i = 0; i < count; i++) {
        struct queue_outcome *outcome = queue_item_outcome(item, i);

        if (route_mailbox(config, queue_item_envelope(item), queue_item_recipient(item, i), mailbox) &&
            mail_loop_found(config, buf_str(&header), mailbox)) {
            delivery_outcome_set(outcome, QUEUE_FAILED, "5.4.6", MAIL_LOOP_TEXT);
            has_loop = true;
        }
    }
    for (size_t i = 0; has_loop && i < count; i++) {
        struct queue_outcome *outcome = queue_item_outcome(item, i);

        if (outcome->kind == QUEUE_FAILED)
            continue;
        delivery_outcome_set(outcome, QUEUE_RESOLVED, "2.0.0", "");
        outcome->resolution = QUEUE_RESOLVED_KNOWN;
    }
    buf_release(&header);
    return has_loop;
}

int connect_socket(struct attempt *attempt, const char *path)
{
    struct error error = {0};
    struct conn *conn = NULL;
    struct smtp_client_result result;

    attempt->tried_count++;
    if (conn_connect_unix(path, loop_now_ms() + attempt->connector->timeouts.connect_ms, &conn, &error) != 0) {
        LOG_WARNING("lmtp-error", log_cstr("socket", path), log_cstr("error", error.text));
        connect_fail(attempt, CONNECT_FAILURE_TEMPORARY, "4.4.1", "", "The mailbox server can't be reached");
        return -1;
    }
    if (connect_open_client(attempt, conn, NULL, &result) != SMTP_CLIENT_OPENED) {
        connect_fail(attempt, result.code != 0 ? CONNECT_FAILURE_REPLY : CONNECT_FAILURE_TEMPORARY,
                     result.permanent ? "4.3.2" : result.status, SOCKET_REMOTE, result.text);
        return -1;
    }
    snprintf(attempt->connection->remote, sizeof(attempt->connection->remote), SOCKET_REMOTE);
    return 0;
}
