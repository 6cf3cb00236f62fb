/* SPDX-License-Identifier: Apache-2.0 */
/* The fiber that empties the ready list of the destination "maildir": batches of messages into jobs for the disk pool. */
#include "base/arena.h"
#include "base/log.h"
#include "base/mem.h"
#include "delivery/delivery_private.h"
#include "delivery/mail_loop.h"
#include "delivery/route.h"
#include "loop/fiber.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Messages of a job; they share the syncs of directories. */
#define JOB_MESSAGES_MAX 64
/* Two addresses for each of them. */
#define JOB_ARENA_BYTES_MAX (1u << 20)

/* All that the thread touches is the job's own, since the fiber may be cancelled while it runs. */
struct maildir_job {
    struct worker_job job;
    struct delivery *delivery;
    const struct config *config;
    struct arena arena;
    size_t count;
    struct maildir_message messages[JOB_MESSAGES_MAX];
    struct job_body {
        struct spool *spool;
        spool_id id;
        struct spool_reader *reader;
        const struct config *config;
        const char *mailbox;
    } bodies[JOB_MESSAGES_MAX];
    /* The fiber's: where each result goes. */
    struct queue_outcome *outcomes[JOB_MESSAGES_MAX];
};

static ssize_t read_body(void *context, void *data, size_t length, uint64_t offset)
{
    struct job_body *body = context;

    if (!body->reader)
        body->reader = spool_reader_open(body->spool, body->id);
    return body->reader ? spool_reader_read(body->reader, data, length, offset, false) : -ENOENT;
}

static bool is_loop(void *context, struct str header)
{
    const struct job_body *body = context;

    return mail_loop_found(body->config, header, body->mailbox);
}

static void job_run(struct worker_job *job)
{
    struct maildir_job *maildir = LIST_ENTRY(job, struct maildir_job, job);

    maildir_deliver(maildir->delivery->mailboxes, maildir->messages, maildir->count);
    for (size_t i = 0; i < maildir->count; i++) {
        if (maildir->bodies[i].reader)
            spool_reader_close(&maildir->bodies[i].reader);
    }
}

static void job_destroy(struct worker_job *job)
{
    struct maildir_job *maildir = LIST_ENTRY(job, struct maildir_job, job);

    arena_release(&maildir->arena);
    config_release(&maildir->config);
    free(maildir);
}

static struct maildir_job *job_create(struct delivery *delivery, const struct config *config)
{
    struct maildir_job *maildir = mem_alloc(sizeof(*maildir));

    worker_job_init(&maildir->job, job_run, job_destroy);
    maildir->delivery = delivery;
    maildir->config = config_retain(config);
    arena_init(&maildir->arena, JOB_ARENA_BYTES_MAX);
    return maildir;
}

static void set_outcome(struct queue_outcome *outcome, const struct maildir_message *message)
{
    char text[QUEUE_REPLY_BYTES_MAX];

    switch (message->error) {
    case 0:
        snprintf(text, sizeof(text), "Delivered to the mailbox %s", message->mailbox);
        delivery_outcome_set(outcome, QUEUE_DELIVERED, "2.0.0", text);
        outcome->success = QUEUE_FINAL;
        return;
    case -ENOSPC:
        delivery_outcome_set(outcome, QUEUE_DEFERRED, "4.3.1", "No space is left for mailboxes");
        return;
    case -EDQUOT:
        delivery_outcome_set(outcome, QUEUE_DEFERRED, "4.2.2", "The mailbox is full");
        return;
    case -EILSEQ:
        delivery_outcome_set(outcome, QUEUE_FAILED, "5.3.0", "The stored message is damaged");
        return;
    case -ELOOP:
        delivery_outcome_set(outcome, QUEUE_FAILED, "5.4.6", MAIL_LOOP_TEXT);
        return;
    default:
        break;
    }
    snprintf(text, sizeof(text), "The mailbox could not be written: %s", strerrordesc_np(-message->error));
    delivery_outcome_set(outcome, QUEUE_DEFERRED, "4.3.0", text);
    LOG_WARNING("mailbox-error", log_cstr("mailbox", message->mailbox), log_cstr("error", text));
}

/* Runs what has been gathered, and takes in its results. */
static void job_flush(struct maildir_job **pointer)
{
    struct maildir_job *maildir = *pointer;
    bool is_done;

    if (!maildir)
        return;
    *pointer = NULL;
    is_done = worker_run(maildir->delivery->options.disk_pool, &maildir->job,
                         loop_now_ms() + DELIVERY_DISK_TIMEOUT_MS) == WAIT_READY;
    /* Otherwise the outcomes stay deferred; should the thread deliver after all, the same names make the next attempt harmless. */
    for (size_t i = 0; i < maildir->count && is_done; i++)
        set_outcome(maildir->outcomes[i], &maildir->messages[i]);
    worker_job_release(&maildir->job);
}

/* One recipient of an item, into the job. */
static void job_add(struct maildir_job *maildir, const struct config *config, struct queue_item *item, size_t i)
{
    const struct envelope *envelope = queue_item_envelope(item);
    size_t index = queue_item_recipient(item, i);
    struct str address = envelope->recipients[index].address;
    struct maildir_message *message = &maildir->messages[maildir->count];
    struct job_body *body = &maildir->bodies[maildir->count];

    maildir->outcomes[maildir->count] = queue_item_outcome(item, i);
    if (!route_mailbox(config, envelope, index, message->mailbox)) {
        delivery_outcome_set(maildir->outcomes[maildir->count], QUEUE_DEFERRED, "4.3.5",
                             "The configuration has changed, and the recipient is not local any more");
        return;
    }
    message->sender = arena_copy(&maildir->arena, envelope->sender);
    message->recipient = arena_copy(&maildir->arena, address);
    if (!message->sender.data || !message->recipient.data)
        return; /* addresses longer than any can be: the outcome stays deferred */
    maildir_name(envelope->arrived_at_ms, queue_item_id(item), index, config->hostname, message->name);
    message->may_exist = envelope->arrived_at_ms < maildir->delivery->started_at_ms;
    *body = (struct job_body){.spool = maildir->delivery->options.spool,
                              .id = queue_item_id(item),
                              .config = maildir->config,
                              .mailbox = message->mailbox};
    message->body_context = body;
    message->read_body = read_body;
    message->is_loop = is_loop;
    maildir->count++;
}

static void deliver_items(struct delivery *delivery, struct queue_item **items, size_t count)
{
    const struct config *config = delivery->options.config(delivery->options.config_context);
    struct maildir_job *maildir = NULL;

    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < queue_item_recipient_count(items[i]); j++) {
            if (!maildir)
                maildir = job_create(delivery, config);
            job_add(maildir, config, items[i], j);
            if (maildir->count == JOB_MESSAGES_MAX)
                job_flush(&maildir);
        }
    }
    job_flush(&maildir);
    for (size_t i = 0; i < count; i++)
        queue_settle(items[i]);
    config_release(&config);
}

void maildir_run(struct delivery *delivery, struct queue_worker *worker)
{
    struct queue_item *items[JOB_MESSAGES_MAX];
    size_t count;

    queue_worker_connected(worker);
    do {
        count = queue_take(worker, items, JOB_MESSAGES_MAX, loop_now_ms() + DELIVERY_LINGER_MS);
        deliver_items(delivery, items, count);
    } while (count > 0);
    queue_worker_end(worker);
}
