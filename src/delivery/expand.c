/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An alias or a list: a copy of the message, with an envelope of its own, to those that it stands for. The sender stays, or is the list's owner, who then gets
 * its reports (RFC 5321 3.9). The null sender stays too: an owner that is the list itself, or leads to it, would get reports about reports for ever.
 *
 * Delivery status notifications (RFC 3461 5.2.7): what one address stands for inherits NOTIFY and ORCPT; several, or a list with an owner, do not ask for reports
 * of success, since each of them would be one for the same recipient.
 */
#include "base/log.h"
#include "base/mem.h"
#include "delivery/delivery_private.h"
#include "mail/address.h"
#include "mail/dsn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define COPY_BLOCK_BYTES (64u << 10)
/* "rfc822;" and an address of which each octet may take three. */
#define ORCPT_BYTES_MAX (8 + 3 * ADDRESS_TEXT_OCTETS_MAX)

/* A copy of the body for a message of its own: in memory, or in a file where the spool wants it so. The job owns both while it runs. */
struct copy_job {
    struct worker_job job;
    struct spool *spool;
    spool_id id;
    struct buf content;
    struct spool_body_file *file; /* NULL: in `content` */
    uint64_t body_bytes;
    bool is_discarding;
    int result;
};

static int copy_to_file(struct copy_job *copy, struct spool_reader *reader)
{
    char *block = mem_alloc(COPY_BLOCK_BYTES);
    uint64_t offset = 0;
    ssize_t count;
    int result = spool_body_file_create(copy->spool, &copy->file);

    while (result == 0 && (count = spool_reader_read(reader, block, COPY_BLOCK_BYTES, offset, false)) != 0) {
        result = count < 0 ? (int)count : spool_body_file_append(copy->file, block, (size_t)count);
        offset += count > 0 ? (uint64_t)count : 0;
    }
    if (result == 0)
        result = spool_body_file_finish(copy->file);
    free(block);
    return result;
}

static int copy_to_memory(struct copy_job *copy, struct spool_reader *reader)
{
    while (copy->content.length < copy->body_bytes) {
        size_t wanted = copy->body_bytes - copy->content.length;
        char *room = buf_reserve(&copy->content, wanted);
        ssize_t count = spool_reader_read(reader, room, wanted, copy->content.length, false);

        if (count <= 0)
            return count < 0 ? (int)count : -EILSEQ;
        copy->content.length += (size_t)count;
    }
    return 0;
}

static void copy_run(struct worker_job *job)
{
    struct copy_job *copy = LIST_ENTRY(job, struct copy_job, job);
    struct spool_reader *reader;

    if (copy->is_discarding) {
        spool_body_file_discard(&copy->file);
        return;
    }
    reader = spool_reader_open(copy->spool, copy->id);
    if (!reader) {
        copy->result = -ENOENT;
        return;
    }
    copy->body_bytes = spool_reader_body_bytes(reader);
    copy->result =
        copy->body_bytes > SPOOL_INLINE_BODY_BYTES ? copy_to_file(copy, reader) : copy_to_memory(copy, reader);
    spool_reader_close(&reader);
    if (copy->result != 0 && copy->file)
        spool_body_file_discard(&copy->file);
}

static void copy_destroy(struct worker_job *job)
{
    struct copy_job *copy = LIST_ENTRY(job, struct copy_job, job);

    if (copy->file)
        spool_body_file_discard(&copy->file); /* after a cancel only: the process is ending */
    buf_release(&copy->content);
    free(copy);
}

static struct copy_job *copy_create(struct delivery *delivery, spool_id id)
{
    struct copy_job *copy = mem_alloc(sizeof(*copy));

    worker_job_init(&copy->job, copy_run, copy_destroy);
    copy->spool = delivery->options.spool;
    copy->id = id;
    buf_init(&copy->content, SPOOL_INLINE_BODY_BYTES);
    return copy;
}

static bool copy_wait(struct delivery *delivery, struct copy_job *copy)
{
    return worker_run(delivery->options.disk_pool, &copy->job, loop_now_ms() + DELIVERY_DISK_TIMEOUT_MS) == WAIT_READY;
}

/* ---- the envelope ---- */

struct expansion {
    const struct envelope *original;
    const struct envelope_recipient *recipient; /* the alias or list */
    const struct directory_recipient *found;
    struct arena arena;
    struct envelope envelope;
};

static struct str original_recipient(struct expansion *expansion)
{
    struct buf orcpt;
    struct str copy;

    if (expansion->recipient->orcpt.length > 0)
        return expansion->recipient->orcpt;
    buf_init(&orcpt, ORCPT_BYTES_MAX);
    buf_append_str(&orcpt, STR("rfc822;"));
    dsn_xtext_encode(&orcpt, expansion->recipient->address);
    copy = arena_copy(&expansion->arena, buf_str(&orcpt));
    buf_release(&orcpt);
    return copy;
}

static bool add_targets(struct expansion *expansion)
{
    const struct directory_recipient *found = expansion->found;
    struct envelope *envelope = &expansion->envelope;
    bool keeps_dsn = found->owner.length == 0;
    struct str orcpt = keeps_dsn ? original_recipient(expansion) : STR("");
    unsigned notify = keeps_dsn ? expansion->recipient->notify : 0;

    /* None left is not "not given". */
    if (found->target_count > 1 && (notify & ENVELOPE_NOTIFY_SUCCESS))
        notify =
            notify == ENVELOPE_NOTIFY_SUCCESS ? ENVELOPE_NOTIFY_NEVER : notify & ~(unsigned)ENVELOPE_NOTIFY_SUCCESS;
    envelope->recipients = arena_alloc(&expansion->arena, found->target_count * sizeof(*envelope->recipients));
    for (size_t i = 0; envelope->recipients && i < found->target_count; i++) {
        struct address address;

        if (!address_parse_stored(&address, found->targets[i]) || address.is_null)
            continue;
        envelope->recipients[envelope->recipient_count++] = (struct envelope_recipient){
            .address = found->targets[i],
            .domain = arena_copy(&expansion->arena, address_domain(&address)),
            .orcpt = orcpt,
            .notify = notify,
        };
    }
    return envelope->recipient_count > 0;
}

static bool make_envelope(struct expansion *expansion, struct buf *encoded)
{
    struct envelope *envelope = &expansion->envelope;
    struct str owner = expansion->found->owner;
    struct address address;

    *envelope = *expansion->original;
    envelope->recipients = NULL;
    envelope->recipient_count = 0;
    envelope->flags |= ENVELOPE_EXPANDED;
    if (owner.length > 0 && envelope->sender.length > 0 && address_parse_stored(&address, owner) && !address.is_null) {
        envelope->sender = owner;
        envelope->sender_domain = arena_copy(&expansion->arena, address_domain(&address));
        envelope->envid = STR("");
        envelope->flags &= ~(unsigned)(ENVELOPE_RET_FULL | ENVELOPE_RET_HEADERS);
    }
    return add_targets(expansion) && envelope_encode(envelope, encoded);
}

/* ---- into the spool ---- */

static bool write_copy(struct delivery *delivery, struct copy_job *copy, spool_id id, struct str envelope)
{
    struct iovec part = {.iov_base = copy->content.data, .iov_len = copy->content.length};
    struct spool_write write = {.type = SPOOL_WRITE_MESSAGE, .id = id, .envelope = envelope};
    bool is_written;

    if (copy->file) {
        write.body_file = copy->file;
    } else {
        write.body = &part;
        write.body_part_count = 1;
    }
    is_written = delivery_spool_write(delivery->options.spool, &write) == SPOOL_DONE;
    if (is_written) {
        copy->file = NULL;
    } else if (copy->file) {
        struct copy_job *discard = copy_create(delivery, id);

        discard->file = copy->file;
        discard->is_discarding = true;
        copy->file = NULL;
        copy_wait(delivery, discard);
        worker_job_release(&discard->job);
    }
    return is_written;
}

static void log_expanded(const struct expansion *expansion, const struct queue_item *item, struct str id)
{
    char original[MESSAGE_ID_TEXT_BYTES];

    LOG_INFO("expanded", log_str("id", message_id_format(queue_item_id(item), original)), log_str("as", id),
             log_str("to", expansion->recipient->address), log_str("from", expansion->envelope.sender),
             log_u64("recipients", expansion->envelope.recipient_count));
}

bool expand_message(struct delivery *delivery, const struct queue_item *item, size_t recipient,
                    const struct directory_recipient *found, struct queue_outcome *outcome)
{
    const struct envelope *original = queue_item_envelope(item);
    struct expansion expansion = {.original = original, .recipient = &original->recipients[recipient], .found = found};
    struct copy_job *copy = copy_create(delivery, queue_item_id(item));
    spool_id id = spool_reserve_id(delivery->options.spool, queue_item_id(item));
    char id_text[MESSAGE_ID_TEXT_BYTES], text[128];
    struct buf encoded;
    bool is_done = false;

    arena_init(&expansion.arena, SPOOL_ENVELOPE_BYTES_MAX);
    buf_init(&encoded, SPOOL_ENVELOPE_BYTES_MAX);
    message_id_format(id, id_text);
    if (!make_envelope(&expansion, &encoded)) {
        delivery_outcome_set(outcome, QUEUE_DEFERRED, "4.3.5", "What the alias stands for can't be sent to");
        goto done;
    }
    if (!copy_wait(delivery, copy) || copy->result != 0 || !write_copy(delivery, copy, id, buf_str(&encoded))) {
        delivery_outcome_set(outcome, QUEUE_DEFERRED, "4.3.0", "The copy for an alias could not be stored");
        goto done;
    }
    queue_add(delivery->queue, id, buf_str(&encoded), copy->body_bytes);
    log_expanded(&expansion, item, str_from_cstr(id_text));
    snprintf(text, sizeof(text), "Sent on to %zu %s as %s", expansion.envelope.recipient_count,
             expansion.envelope.recipient_count == 1 ? "address" : "addresses", id_text);
    delivery_outcome_set(outcome, QUEUE_DELIVERED, "2.0.0", text);
    is_done = true;
done:
    worker_job_release(&copy->job);
    buf_release(&encoded);
    arena_release(&expansion.arena);
    return is_done;
}
