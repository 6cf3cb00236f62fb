/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fiber that empties the ready list of the destination "directory": recipients that the directory has to be asked about, since they were accepted without a
 * look (`lookup: after-accept`), or since only it knows what an alias stands for.
 *
 *   mailbox ──> resolved, known: routed to where its domain's mail goes
 *   unknown ──> resolved, unknown: reported, or sent to the host for unresolved recipients
 *   alias or list ──> a copy of the message for those that it stands for; delivered
 *   no answer ──> the whole destination backs off: nothing is ever returned because a directory did not answer
 *   an entry that is of no use ──> deferred by itself: what is wrong with one address holds up no other's mail
 *
 * One level of indirection: in a copy, an alias that stands for itself is a mailbox, and one that stands for others is a loop.
 */
#include "base/log.h"
#include "delivery/delivery_private.h"
#include "loop/fiber.h"
#include "mail/address.h"

#define RESOLVE_ITEMS_MAX 16

static void set_resolved(struct queue_outcome *outcome, enum queue_resolution resolution)
{
    delivery_outcome_set(outcome, QUEUE_RESOLVED, "2.0.0", "");
    outcome->resolution = resolution;
}

static bool stands_for_itself(const struct config *config, const struct directory_recipient *found,
                              const struct address *recipient)
{
    struct address target;

    for (size_t i = 0; i < found->target_count; i++) {
        if (address_parse_stored(&target, found->targets[i]) &&
            policy_same_mailbox(config->policy, STR(""), &target, recipient))
            return true;
    }
    return false;
}

static void use_answer(struct delivery *delivery, const struct queue_item *item, size_t recipient,
                       const struct directory_recipient *found, bool is_mailbox, struct queue_outcome *outcome)
{
    if (is_mailbox)
        set_resolved(outcome, QUEUE_RESOLVED_KNOWN);
    else if (queue_item_envelope(item)->flags & ENVELOPE_EXPANDED)
        delivery_outcome_set(outcome, QUEUE_FAILED, "5.4.6", "An alias leads to another alias: that may be a loop");
    else
        expand_message(delivery, item, recipient, found, outcome);
}

/* The i-th recipient of an item. false: the directory does not answer. */
static bool resolve(struct delivery *delivery, const struct config *config, struct directory *directory,
                    struct queue_item *item, size_t i)
{
    const struct envelope *envelope = queue_item_envelope(item);
    size_t recipient = queue_item_recipient(item, i);
    struct queue_outcome *outcome = queue_item_outcome(item, i);
    struct directory_recipient *found = NULL;
    enum directory_status status = DIRECTORY_NO;
    struct policy_route route;
    struct address address;
    char text[ADDRESS_TEXT_OCTETS_MAX];
    bool is_mailbox, has_fault = false;

    if (!address_parse_stored(&address, envelope->recipients[recipient].address) || address.is_null) {
        delivery_outcome_set(outcome, QUEUE_FAILED, "5.1.3", "The recipient's address is malformed");
        return true;
    }
    policy_route(config->policy, envelope->server, &address, &route);
    if (directory)
        status = directory_resolve_recipient(directory, str_make(text, policy_mailbox_text(&route, &address, text)),
                                             loop_now_ms() + config->directory.timeout_ms, &found, &has_fault);
    switch (status) {
    case DIRECTORY_YES:
        is_mailbox = found->target_count == 0 ||
                     ((envelope->flags & ENVELOPE_EXPANDED) && stands_for_itself(config, found, &address));
        use_answer(delivery, item, recipient, found, is_mailbox, outcome);
        directory_recipient_free(&found);
        return true;
    case DIRECTORY_NO:
        set_resolved(outcome, QUEUE_RESOLVED_UNKNOWN);
        return true;
    case DIRECTORY_UNAVAILABLE:
        delivery_outcome_set(outcome, QUEUE_DEFERRED, "4.3.0",
                             has_fault ? "The directory's entry is of no use" : "The directory does not answer");
        return has_fault;
    }
    return true;
}

struct resolver {
    struct delivery *delivery;
    struct queue_worker *worker;
    bool is_connected; /* told the queue that the directory answers */
};

/* false: the directory does not answer. What was done for some recipients of an item is settled, never done again. */
static bool resolve_item(struct resolver *resolver, const struct config *config, struct directory *directory,
                         struct queue_item *item)
{
    size_t count = queue_item_recipient_count(item);
    size_t done = 0;
    struct queue_outcome why;

    while (done < count && resolve(resolver->delivery, config, directory, item, done))
        done++;
    if (done < count) {
        why = *queue_item_outcome(item, done);
        queue_worker_failed(resolver->worker, &why);
    } else if (!resolver->is_connected) {
        queue_worker_connected(resolver->worker);
        resolver->is_connected = true;
    }
    if (done > 0)
        queue_settle(item);
    else
        queue_give_back_last(item);
    return done == count;
}

static bool resolve_items(struct resolver *resolver, struct queue_item **items, size_t count)
{
    struct delivery_options *options = &resolver->delivery->options;
    const struct config *config = options->config(options->config_context);
    struct directory *directory = options->directory(options->config_context);
    bool is_answering = true;

    for (size_t i = 0; i < count; i++) {
        if (is_answering)
            is_answering = resolve_item(resolver, config, directory, items[i]);
        else
            queue_give_back(items[i]);
    }
    directory_release_on(&directory, options->disk_pool);
    config_release(&config);
    return is_answering;
}

void resolve_run(struct delivery *delivery, struct queue_worker *worker)
{
    struct resolver resolver = {.delivery = delivery, .worker = worker};
    struct queue_item *items[RESOLVE_ITEMS_MAX];
    size_t count;

    do
        count = queue_take(worker, items, RESOLVE_ITEMS_MAX, loop_now_ms() + DELIVERY_LINGER_MS);
    while (count > 0 && resolve_items(&resolver, items, count));
    queue_worker_end(worker);
}
