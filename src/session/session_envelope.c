/* SPDX-License-Identifier: Apache-2.0 */
#include "session/session_private.h"

/* All texts of a transaction: the largest allowed number of recipients with DSN parameters. */
#define SESSION_TRANSACTION_BYTES_MAX (SPOOL_ENVELOPE_BYTES_MAX - 65536)

/* More From than this is nobody's. */
#define SESSION_FROM_BYTES_MAX 65536

void session_on_reset(void *context)
{
    struct session *session = context;
    struct transaction *transaction = session->transaction;

    if (!transaction)
        return;
    session->transaction = NULL;
    session->facts.sender = NULL;
    session->facts.recipient = NULL;
    draft_release(&transaction->draft);
    buf_release(&transaction->from);
    free(transaction->envelope.recipients);
    free(transaction->rules);
    arena_release(&transaction->arena);
    free(transaction);
}

static void open_transaction(struct session *session, const struct command_mail *mail)
{
    struct transaction *transaction = mem_alloc(sizeof(*transaction));
    struct envelope *envelope = &transaction->envelope;

    arena_init(&transaction->arena, SESSION_TRANSACTION_BYTES_MAX);
    buf_init(&transaction->from, SESSION_FROM_BYTES_MAX);
    transaction->sender = mail->sender;
    envelope->sender = transaction->sender.is_null ? STR("") : address_text(&transaction->sender);
    envelope->sender_domain = address_domain(&transaction->sender);
    envelope->envid = arena_copy(&transaction->arena, mail->envid);
    if (mail->body == COMMAND_BODY_8BITMIME)
        envelope->flags |= ENVELOPE_8BITMIME;
    if (mail->smtputf8)
        envelope->flags |= ENVELOPE_SMTPUTF8;
    if (mail->dsn_return == DSN_RETURN_FULL)
        envelope->flags |= ENVELOPE_RET_FULL;
    if (mail->dsn_return == DSN_RETURN_HEADERS)
        envelope->flags |= ENVELOPE_RET_HEADERS;
    if (session->facts.is_authenticated)
        envelope->user = session->facts.user;
    session->transaction = transaction;
}

void session_on_mail(void *context, const struct command_mail *mail, struct smtp_reply *reply)
{
    struct session *session = context;
    struct policy_decision decision;

    session->facts.sender = &mail->sender;
    if (session->server->policy->sender_match != POLICY_SENDER_MATCH_OFF)
        session->facts.sender_match =
            session_owns_address(session, &mail->sender) ? POLICY_ANSWER_YES : POLICY_ANSWER_NO;
    session_decide(session, POLICY_STAGE_MAIL, &decision);
    session_reply_from_decision(reply, &decision);
    if (decision.verdict != POLICY_ACCEPT)
        session_log_refusal(session, &decision);
    session->facts.sender = NULL;
    if (decision.verdict != POLICY_ACCEPT)
        return;
    if (mail->has_size && spool_is_full(session->store->spool, mail->size)) {
        session_out_of_storage(reply);
        return;
    }
    open_transaction(session, mail);
    session->facts.sender = &session->transaction->sender;
}

/* false: the transaction's memory is used up. */
static bool add_recipient(struct transaction *transaction, const struct command_rcpt *rcpt,
                          const struct policy_decision *decision)
{
    struct envelope *envelope = &transaction->envelope;
    struct envelope_recipient recipient = {
        .address = arena_copy(&transaction->arena, address_text(&rcpt->recipient)),
        .domain = arena_copy(&transaction->arena, address_domain(&rcpt->recipient)),
        .orcpt = arena_copy(&transaction->arena, rcpt->orcpt),
        .notify = rcpt->notify,
    };

    if (!recipient.address.data || !recipient.domain.data || !recipient.orcpt.data)
        return false;
    if (envelope->recipient_count == transaction->recipient_capacity) {
        transaction->recipient_capacity = transaction->recipient_capacity ? transaction->recipient_capacity * 2 : 2;
        envelope->recipients =
            mem_resize_array(envelope->recipients, transaction->recipient_capacity, sizeof(envelope->recipients[0]));
        transaction->rules =
            mem_resize_array(transaction->rules, transaction->recipient_capacity, sizeof(transaction->rules[0]));
    }
    if (envelope->recipient_count == 0 && decision->rule) {
        envelope->rule = str_from_cstr(decision->rule->path);
        if (decision->rule->file)
            envelope->rule_at = arena_printf(&transaction->arena, "%s:%u", decision->rule->file, decision->rule->line);
    }
    transaction->rules[envelope->recipient_count] = decision->rule;
    envelope->recipients[envelope->recipient_count++] = recipient;
    return true;
}

void session_on_rcpt(void *context, const struct command_rcpt *rcpt, struct smtp_reply *reply)
{
    struct session *session = context;
    struct policy_decision decision;

    session->facts.recipient = &rcpt->recipient;
    session->facts.recipient_known = session_ask_recipient(session);
    session_decide(session, POLICY_STAGE_RCPT, &decision);
    session_reply_from_decision(reply, &decision);
    if (decision.verdict != POLICY_ACCEPT) {
        reply->is_unknown_recipient = decision.verdict == POLICY_REJECT && strcmp(decision.enhanced, "5.1.1") == 0;
        session_log_refusal(session, &decision);
    } else if (!add_recipient(session->transaction, rcpt, &decision)) {
        smtp_reply_set(reply, 452, "4.5.3", "Too many recipients");
    }
    session->facts.recipient = NULL;
}

void session_on_verify(void *context, const struct address *address, struct smtp_reply *reply)
{
    struct session *session = context;
    struct policy_server without_lookup = *session->server->policy;
    struct policy_decision decision;

    without_lookup.lookup = POLICY_LOOKUP_AFTER_ACCEPT;
    session->facts.server = &without_lookup;
    session->facts.recipient = address;
    session_decide(session, POLICY_STAGE_RCPT, &decision);
    session->facts.recipient = NULL;
    session->facts.server = session->server->policy;
    session_reply_from_decision(reply, &decision);
    if (decision.verdict == POLICY_ACCEPT)
        smtp_reply_set(reply, 252, "2.1.5", "Cannot VRFY user, but will take message for <%.*s>",
                       STR_ARG(address_text(address)));
}
