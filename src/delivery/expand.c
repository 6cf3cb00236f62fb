/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An alias or a list: a copy of the message, with an envelope of its own, to those that it stands for. The sender stays, or is the list's owner, who then gets
 * its reports (RFC 5321 3.9). The null sender stays too: an owner that is the list itself, or leads to it, would get reports about reports for ever.
 *
 * Delivery status notifications (RFC 3461 5.2.7): what one address stands for inherits NOTIFY and ORCPT; several, or a list with an owner, do not ask for reports
 * of success, since each of them would be one for the same recipient.
 */
#include "base/log.h"
#include "delivery/body_copy.h"
#include "delivery/delivery_private.h"
#include "mail/address.h"
#include "mail/dsn.h"

#include <stdio.h>

/* ORCPT stands beside each target: with more of them the envelope could become too long for the spool. */
#define ORCPT_TARGETS_MAX 1000

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
    struct str copy = STR("");

    if (expansion->recipient->orcpt.length > 0)
        return expansion->recipient->orcpt;
    buf_init(&orcpt, DSN_ORCPT_OCTETS_MAX);
    if (dsn_orcpt_encode(&orcpt, expansion->recipient->address))
        copy = arena_copy(&expansion->arena, buf_str(&orcpt));
    buf_release(&orcpt);
    return copy;
}

static bool add_targets(struct expansion *expansion)
{
    const struct directory_recipient *found = expansion->found;
    struct envelope *envelope = &expansion->envelope;
    bool keeps_dsn = found->owner.length == 0;
    struct str orcpt = keeps_dsn && found->target_count <= ORCPT_TARGETS_MAX ? original_recipient(expansion) : STR("");
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

static void log_expanded(const struct expansion *expansion, const struct queue_item *item, struct str id)
{
    char original[MESSAGE_ID_TEXT_BYTES];

    LOG_INFO("expanded", log_str("id", message_id_format(queue_item_id(item), original)), log_str("as", id),
             log_str("to", expansion->recipient->address), log_str("from", expansion->envelope.sender),
             log_u64("recipients", expansion->envelope.recipient_count));
}

/*
 * Who tells of success (RFC 3461 5.2.7): for one address, whoever delivers to it; a list has taken the message, and what it does with it is its own; of
 * what an alias stands for the sender learns no more than that the message went on.
 */
static enum queue_success success_of(const struct directory_recipient *found)
{
    if (found->owner.length > 0)
        return QUEUE_FINAL;
    return found->target_count > 1 ? QUEUE_EXPANDED : QUEUE_PASSED_ON;
}

/* The copy, stored and queued. */
static bool store(struct delivery *delivery, const struct queue_item *item, spool_id id, struct str envelope)
{
    struct body_copy *copy = body_copy_create(delivery, queue_item_id(item), NULL, NULL);
    struct spool_write write = {.type = SPOOL_WRITE_MESSAGE, .id = id, .envelope = envelope};
    bool is_stored = body_copy_run(copy) == 0 && body_copy_submit(copy, &write);

    if (is_stored)
        queue_add(delivery->queue, id, envelope, body_copy_bytes(copy));
    body_copy_destroy(&copy);
    return is_stored;
}

bool expand_message(struct delivery *delivery, const struct queue_item *item, size_t recipient,
                    const struct directory_recipient *found, struct queue_outcome *outcome)
{
    const struct envelope *original = queue_item_envelope(item);
    struct expansion expansion = {.original = original, .recipient = &original->recipients[recipient], .found = found};
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
    /* Many lists in one message are many copies: they stop where new mail is refused too. */
    if (spool_is_full(delivery->options.spool, queue_item_body_bytes(item))) {
        delivery_outcome_set(outcome, QUEUE_DEFERRED, "4.3.1", "No space is left for a copy for an alias");
        goto done;
    }
    if (!store(delivery, item, id, buf_str(&encoded))) {
        delivery_outcome_set(outcome, QUEUE_DEFERRED, "4.3.0", "The copy for an alias could not be stored");
        goto done;
    }
    log_expanded(&expansion, item, str_from_cstr(id_text));
    events_tell_expanded(delivery, item, recipient, id);
    snprintf(text, sizeof(text), "Sent on to %zu %s as %s", expansion.envelope.recipient_count,
             expansion.envelope.recipient_count == 1 ? "address" : "addresses", id_text);
    delivery_outcome_set(outcome, QUEUE_DELIVERED, "2.0.0", text);
    outcome->success = success_of(found);
    is_done = true;
done:
    buf_release(&encoded);
    arena_release(&expansion.arena);
    return is_done;
}
