/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One delivery fiber to another server: connects, and sends what the queue has for the destination over that
 * connection until there is nothing left or the connection ends. It never connects twice: the queue starts another
 * fiber if there is more.
 *
 * What an ended connection means for those that it did not get to: they go back to the queue untried, and are none the
 * worse for it. But the first on a connection may be the very reason why it ended, so its attempt counts; otherwise
 * one message that a server chokes on would be tried for ever, in front of all others.
 */
#include "base/mem.h"
#include "delivery/body.h"
#include "delivery/connect.h"
#include "delivery/delivery_private.h"
#include "delivery/masquerade.h"
#include "loop/fiber.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Items taken from the queue at a time. */
#define OUTBOUND_ITEMS_MAX 16
/* Transactions that smtp/client may hold: one on the wire and the one chained behind it. */
#define OUTBOUND_TRANSACTIONS 2

/* An item and how far it is. */
struct outbound_item {
    struct queue_item *item;
    size_t started;  /* recipients that have been given to transactions */
    size_t finished; /* recipients whose transaction is through */
    bool is_tried;   /* by at least one transaction */
};

struct outbound_transaction {
    struct smtp_client_transaction transaction; /* first: smtp/client's view of it */
    struct outbound_item *item;
    size_t first_recipient;       /* of the item */
    struct masqueraded_body body; /* changed only where the connector says so */
    struct buf sender;
    struct smtp_client_recipient *recipients; /* kept from one transaction to the next */
    size_t recipient_capacity;
};

struct outbound {
    struct delivery *delivery;
    struct queue_worker *worker;
    struct runtime *runtime;
    const struct config *config; /* the runtime's */
    /* A ring: while the last transaction of one take is on the wire, the next take begins. */
    struct outbound_item items[OUTBOUND_ITEMS_MAX + OUTBOUND_TRANSACTIONS];
    size_t item_first, item_count; /* taken and not yet all started; the first is the next to be sent */
    struct outbound_transaction transactions[OUTBOUND_TRANSACTIONS];
    unsigned transaction_next;
    bool has_settled; /* an item, which is progress of a kind */
    bool has_reply;   /* to a transaction: the connection has been good for something */
    struct queue_outcome last_outcome;
    struct connection connection;
};

#define RING_SIZE (OUTBOUND_ITEMS_MAX + OUTBOUND_TRANSACTIONS)

/* ---- transactions out ---- */

static ssize_t read_body(struct smtp_client_transaction *transaction, void *data, size_t length)
{
    return masqueraded_body_read(&((struct outbound_transaction *)transaction)->body, data, length);
}

static bool is_masqueraded(const struct outbound *outbound)
{
    return outbound->connection.connector->masquerade.length > 0;
}

static void open_body(struct outbound *outbound, struct outbound_transaction *out)
{
    const struct delivery_options *options = &outbound->delivery->options;
    struct smtp_client_transaction *transaction = &out->transaction;
    const struct masquerade masquerade = {.model = outbound->config->policy,
                                          .domain = outbound->connection.connector->masquerade};

    out->body = (struct masqueraded_body){0};
    delivery_body_init(&out->body.body, options->spool, options->disk_pool, queue_item_id(out->item->item));
    buf_init(&out->sender, QUEUE_REPLY_BYTES_MAX * 2);
    if (!is_masqueraded(outbound))
        return;
    buf_append_str(&out->sender, transaction->sender);
    masqueraded_body_open(&out->body, &masquerade, &out->sender, &transaction->body_bytes);
    transaction->sender = buf_str(&out->sender);
}

static void fill_recipients(struct outbound_transaction *out, const struct envelope *envelope, size_t count)
{
    if (out->recipient_capacity < count) {
        out->recipients = mem_resize_array(out->recipients, count, sizeof(*out->recipients));
        out->recipient_capacity = count;
    }
    for (size_t i = 0; i < count; i++) {
        const struct envelope_recipient *recipient =
            &envelope->recipients[queue_item_recipient(out->item->item, out->first_recipient + i)];

        out->recipients[i].address = recipient->address;
        out->recipients[i].orcpt = recipient->orcpt;
        out->recipients[i].notify = recipient->notify;
    }
}

/* The next recipients of an item, as many as fit into a transaction. */
static struct smtp_client_transaction *start_transaction(struct outbound *outbound, struct outbound_item *item)
{
    struct outbound_transaction *out = &outbound->transactions[outbound->transaction_next];
    const struct envelope *envelope = queue_item_envelope(item->item);
    size_t left = queue_item_recipient_count(item->item) - item->started;
    size_t count = left < SMTP_CLIENT_RECIPIENTS_MAX ? left : SMTP_CLIENT_RECIPIENTS_MAX;

    outbound->transaction_next = (outbound->transaction_next + 1) % OUTBOUND_TRANSACTIONS;
    out->item = item;
    out->first_recipient = item->started;
    item->started += count;
    fill_recipients(out, envelope, count);
    out->transaction = (struct smtp_client_transaction){
        .sender = envelope->sender,
        .envid = envelope->envid,
        .ret_full = (envelope->flags & ENVELOPE_RET_FULL) != 0,
        .ret_headers = (envelope->flags & ENVELOPE_RET_HEADERS) != 0,
        .needs_8bitmime = (envelope->flags & ENVELOPE_8BITMIME) != 0,
        .needs_smtputf8 = (envelope->flags & ENVELOPE_SMTPUTF8) != 0,
        .body_bytes = queue_item_body_bytes(item->item),
        .recipients = out->recipients,
        .recipient_count = count,
        .read_body = read_body,
    };
    open_body(outbound, out);
    return &out->transaction;
}

static bool is_config_current(const struct outbound *outbound)
{
    const struct delivery_options *options = &outbound->delivery->options;
    const struct config *now = options->config(options->config_context);
    bool is_current = now == outbound->config;

    config_release(&now);
    return is_current;
}

static void take_items(struct outbound *outbound)
{
    struct queue_item *taken[OUTBOUND_ITEMS_MAX];
    size_t count;

    /* After a reload the next connection begins under the new configuration. */
    if (!is_config_current(outbound))
        return;
    count = queue_take(outbound->worker, taken, OUTBOUND_ITEMS_MAX, loop_now_ms() + DELIVERY_LINGER_MS);
    outbound->item_count = 0;
    for (size_t i = 0; i < count; i++) {
        size_t end = (outbound->item_first + outbound->item_count) % RING_SIZE;

        if (outbound->connection.is_lmtp && lmtp_refuse_loops(outbound->delivery, outbound->config, taken[i])) {
            outbound->has_settled = true;
            queue_settle(taken[i]);
            continue;
        }
        outbound->items[end] = (struct outbound_item){.item = taken[i]};
        outbound->item_count++;
    }
}

static struct smtp_client_transaction *next_transaction(void *context, bool wait)
{
    struct outbound *outbound = context;
    struct smtp_client_transaction *transaction;
    struct outbound_item *item;

    /* Asking the queue takes a turn of its owner's loop, and reading a header section perhaps one of the disk: not while a message stands there
     * without its end. */
    if (outbound->item_count == 0 && wait)
        take_items(outbound);
    if (outbound->item_count == 0 || (!wait && is_masqueraded(outbound)))
        return NULL;
    item = &outbound->items[outbound->item_first];
    transaction = start_transaction(outbound, item);
    if (item->started == queue_item_recipient_count(item->item)) {
        outbound->item_first = (outbound->item_first + 1) % RING_SIZE;
        outbound->item_count--;
    }
    return transaction;
}

/* ---- results in ---- */

/* Who tells a sender that has asked to be told (RFC 3461 5.2.2, 5.2.3). */
static enum queue_success success_of(const struct outbound *outbound)
{
    if (smtp_client_offers_dsn(outbound->connection.client))
        return QUEUE_PASSED_ON;
    return outbound->connection.is_lmtp ? QUEUE_FINAL : QUEUE_RELAYED;
}

static void copy_result(const struct outbound *outbound, struct queue_outcome *outcome,
                        const struct smtp_client_result *result)
{
    outcome->kind = result->delivered ? QUEUE_DELIVERED : result->permanent ? QUEUE_FAILED : QUEUE_DEFERRED;
    outcome->success = success_of(outbound);
    memcpy(outcome->status, result->status, sizeof(outcome->status));
    if (result->code != 0) {
        size_t length = strnlen(result->text, sizeof(outcome->text) - 1);

        memcpy(outcome->text, result->text, length);
        outcome->text[length] = '\0';
        memcpy(outcome->remote, outbound->connection.remote, sizeof(outcome->remote));
    } else { /* our own words: the server said nothing */
        int room = (int)(sizeof(outcome->text) - sizeof(outbound->connection.remote));

        snprintf(outcome->text, sizeof(outcome->text), "%s: %.*s", outbound->connection.remote, room - 3, result->text);
        outcome->remote[0] = '\0';
    }
}

static void finish_item(struct outbound *outbound, struct outbound_item *item)
{
    /* A shutdown is nobody's fault. */
    bool is_blameless = outbound->has_settled || fiber_is_cancelled(fiber_current());

    if (!item->is_tried && is_blameless) {
        queue_give_back(item->item);
        return;
    }
    outbound->has_settled = true;
    queue_settle(item->item);
}

static void transaction_finished(void *context, struct smtp_client_transaction *transaction)
{
    struct outbound *outbound = context;
    struct outbound_transaction *out = (struct outbound_transaction *)transaction;
    struct outbound_item *item = out->item;

    masqueraded_body_release(&out->body);
    buf_release(&out->sender);
    for (size_t i = 0; i < transaction->recipient_count; i++)
        copy_result(outbound, queue_item_outcome(item->item, out->first_recipient + i),
                    &transaction->recipients[i].result);
    copy_result(outbound, &outbound->last_outcome, &transaction->recipients[0].result);
    if (!transaction->untried) {
        item->is_tried = true;
        outbound->has_reply = outbound->has_reply || transaction->recipients[0].result.code != 0;
    }
    item->finished += transaction->recipient_count;
    /* An item of which a part can't be sent any more is finished by finish_rest. */
    if (item->finished == queue_item_recipient_count(item->item))
        finish_item(outbound, item);
}

/* The connection is gone: the items that are left, the last one first, so that they stand in the queue in their order. */
static void finish_rest(struct outbound *outbound)
{
    while (outbound->item_count > 0) {
        struct outbound_item *item = &outbound->items[(outbound->item_first + outbound->item_count - 1) % RING_SIZE];

        outbound->item_count--;
        if (item->started > 0)
            finish_item(outbound, item);
        else
            queue_give_back(item->item);
    }
}

/* ---- the fiber ---- */

static void run_connection(struct outbound *outbound, struct smtp_client *client)
{
    const struct smtp_client_source source = {
        .context = outbound, .next = next_transaction, .finished = transaction_finished};

    queue_worker_connected(outbound->worker);
    if (!smtp_client_run(client, &source)) {
        finish_rest(outbound);
        if (!outbound->has_reply && smtp_client_should_back_off(client)) {
            outbound->last_outcome.kind = QUEUE_DEFERRED;
            queue_worker_failed(outbound->worker, &outbound->last_outcome);
        }
    }
    smtp_client_quit(&client);
}

/* All mail of the destination has the same outcome: it is gone from the configuration, and each message gets another route at its
 * next attempt; or it takes no mail at all. */
static void settle_all(struct outbound *outbound)
{
    struct queue_item *items[OUTBOUND_ITEMS_MAX];
    size_t count;

    queue_worker_connected(outbound->worker);
    do {
        count = queue_take(outbound->worker, items, OUTBOUND_ITEMS_MAX, loop_now_ms() + DELIVERY_LINGER_MS);
        for (size_t i = 0; i < count; i++) {
            for (size_t j = 0; j < queue_item_recipient_count(items[i]); j++)
                *queue_item_outcome(items[i], j) = outbound->last_outcome;
            queue_settle(items[i]);
        }
    } while (count > 0);
}

void outbound_run(struct delivery *delivery, struct queue_worker *worker, const char *destination)
{
    struct outbound *outbound = mem_alloc(sizeof(*outbound));
    enum connect_result result;

    outbound->delivery = delivery;
    outbound->worker = worker;
    outbound->runtime = delivery->options.runtime(delivery->options.config_context);
    outbound->config = outbound->runtime->config;
    result =
        connect_destination(delivery, outbound->runtime, destination, &outbound->connection, &outbound->last_outcome);
    switch (result) {
    case CONNECT_OK:
        run_connection(outbound, outbound->connection.client);
        break;
    case CONNECT_FAILED:
        queue_worker_failed(worker, &outbound->last_outcome);
        break;
    case CONNECT_REFUSED:
    case CONNECT_NO_ROUTE:
        settle_all(outbound);
        break;
    }
    runtime_release(&outbound->runtime);
    for (size_t i = 0; i < OUTBOUND_TRANSACTIONS; i++)
        free(outbound->transactions[i].recipients);
    free(outbound);
    queue_worker_end(worker);
}
