/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/mailboxes.h"
#include "mail/received.h"
#include "mail/text.h"
#include "os/clock.h"
#include "session/session_private.h"

/* FILE:LINE in a log line; a longer path is cut. */
#define SESSION_RULE_AT_BYTES 1024
/* What the Received line alone waits for a host name, once a session. */
#define SESSION_TRACE_NAME_WAIT_MS 200

/* Empty if there is none, or if it is not known by now. */
static struct str name_for_trace(struct session *session)
{
    if (client_name_is_pending(&session->name) && !session->trace_waited) {
        session->trace_waited = true;
        client_name_settle(&session->name, &session->facts, loop_now_ms() + SESSION_TRACE_NAME_WAIT_MS);
    }
    return session->facts.client_name_state == POLICY_NAME_VERIFIED ? session->facts.client_name : STR("");
}

void session_on_message_begin(void *context, struct smtp_reply *reply)
{
    struct session *session = context;
    struct transaction *transaction = session->transaction;
    struct envelope *envelope = &transaction->envelope;
    char id_text[MESSAGE_ID_TEXT_BYTES];
    struct buf received, message_id;
    struct received_facts facts;

    if (spool_is_full(session->store->spool, 0)) {
        session_out_of_storage(reply);
        return;
    }
    transaction->id = spool_reserve_id(session->store->spool, 0);
    envelope->arrived_at_ms = clock_real_ms();
    facts = (struct received_facts){
        .helo = session->helo,
        .client_name = name_for_trace(session),
        .client_ip = session_client_text(session),
        .host = session->config->hostname,
        .id = message_id_format(transaction->id, id_text),
        .recipient = envelope->recipient_count == 1 ? envelope->recipients[0].address : STR(""),
        .received_at_ms = envelope->arrived_at_ms,
        .is_esmtp = session->is_esmtp,
        .is_utf8 = envelope->flags & ENVELOPE_SMTPUTF8,
        .has_tls = session->facts.has_tls,
        .is_authenticated = session->facts.is_authenticated,
    };
    buf_init(&received, RECEIVED_BYTES_MAX);
    buf_init(&message_id, RECEIVED_BYTES_MAX);
    received_compose(&received, &facts);
    received_append_message_id(&message_id, facts.id, envelope->arrived_at_ms, session->config->hostname);
    transaction->draft = draft_create(session->store, buf_str(&received), buf_str(&message_id));
    if (session->facts.is_authenticated &&
        session->server->policy->sender_match == POLICY_SENDER_MATCH_ENVELOPE_AND_HEADER)
        draft_keep_from(transaction->draft, &transaction->from);
    envelope->message_id = arena_copy(&transaction->arena, buf_str(&message_id));
    buf_release(&received);
    buf_release(&message_id);
    reply->code = 354;
}

void session_on_message_data(void *context, struct str piece)
{
    struct session *session = context;

    draft_append(session->transaction->draft, piece);
}

/* The first recipient stands in the line of the message; what let each of the others in, in one of its own. */
static void log_recipient(const struct session *session, struct str id, size_t index)
{
    const struct policy_rule *rule = session->transaction->rules[index];
    char at[SESSION_RULE_AT_BYTES] = "";

    if (rule && rule->file)
        snprintf(at, sizeof(at), "%s:%u", rule->file, rule->line);
    LOG_INFO("recipient", log_str("id", id), log_str("to", session->transaction->envelope.recipients[index].address),
             log_cstr("rule", rule ? rule->path : ""), log_cstr("rule_at", at));
}

static void log_received(const struct session *session)
{
    const struct transaction *transaction = session->transaction;
    const struct envelope *envelope = &transaction->envelope;
    char id_text[MESSAGE_ID_TEXT_BYTES];
    struct str id = message_id_format(transaction->id, id_text);
    const struct tls_facts *tls = conn_tls(session->conn);

    LOG_INFO("received", log_str("id", id), log_str("server", envelope->server), log_str("client", envelope->client),
             log_str("client_name",
                     session->facts.client_name_state == POLICY_NAME_VERIFIED ? session->facts.client_name : STR("")),
             log_str("helo", envelope->helo), log_str("user", envelope->user),
             log_cstr("tls", tls ? tls->protocol : ""), log_str("from", envelope->sender),
             log_str("to", envelope->recipients[0].address), log_u64("recipients", envelope->recipient_count),
             log_u64("size", draft_body_bytes(transaction->draft)), log_str("message_id", envelope->message_id),
             log_str("rule", envelope->rule), log_str("rule_at", envelope->rule_at));
    for (size_t i = 1; i < envelope->recipient_count; i++)
        log_recipient(session, id, i);
}

/* Reports return a whole message to those only who may relay, and ask for it. */
static bool may_get_full_report(struct session *session, const struct envelope *envelope)
{
    return envelope->flags & ENVELOPE_RET_FULL ? session_grants_relay(session) : policy_grants_relay(&session->facts);
}

static void complete_envelope(struct session *session, const struct header_scan *scan)
{
    struct transaction *transaction = session->transaction;
    struct envelope *envelope = &transaction->envelope;
    struct str message_id = header_scan_message_id(scan);

    envelope->client = session_client_text(session);
    envelope->helo = session->helo;
    envelope->server = session->server->name;
    if (!str_is_empty(message_id))
        envelope->message_id = message_id;
    if (draft_has_8bit(transaction->draft))
        envelope->flags |= ENVELOPE_8BITMIME;
    if (may_get_full_report(session, envelope))
        envelope->flags |= ENVELOPE_RELAY_GRANTED;
}

/* relay-behaviour.md section 2, step 2 d, for the header: what the recipient will see. false: the reply says whose it is not. */
static bool check_from(const struct session *session, const struct header_scan *scan, struct smtp_reply *reply)
{
    struct str rest = buf_str(&session->transaction->from);
    struct str culprit = scan->from && scan->from_overflows ? STR("From") : (struct str){0};
    struct mailbox mailbox;
    struct buf text;

    while (!culprit.data && rest.length > 0) {
        struct str field = str_split(&rest, '\n');
        struct str whole = str_trim(field);
        bool is_empty = true;

        while (!culprit.data && mailboxes_next(&field, &mailbox)) {
            is_empty = false;
            if (!mailbox.is_valid || !session_owns_address(session, &mailbox.address))
                culprit = mailbox.is_valid ? address_text(&mailbox.address) : mailbox.text;
        }
        /* A group's name or a comment alone is shown as the sender, and may look like anybody. */
        if (is_empty && whole.length > 0)
            culprit = whole;
    }
    if (!culprit.data)
        return true;
    buf_init(&text, SMTP_REPLY_TEXT_BYTES);
    text_append_clean(&text, culprit, ADDRESS_TEXT_OCTETS_MAX, true);
    smtp_reply_set(reply, 550, "5.7.1", "Sender %.*s not permitted", STR_ARG(buf_str(&text)));
    buf_release(&text);
    return false;
}

static void log_from_refusal(const struct session *session, const struct smtp_reply *reply)
{
    LOG_INFO("refused", log_str("server", session->server->name), log_str("client", session_client_text(session)),
             log_str("helo", session->helo), log_str("user", session->facts.user), log_cstr("stage", "data"),
             log_i64("code", reply->code), log_cstr("text", reply->text),
             log_cstr("rule", session->server->policy->sender_match_rule.path));
}

void session_on_message_end(void *context, struct smtp_reply *reply)
{
    struct session *session = context;
    struct transaction *transaction = session->transaction;
    const struct header_scan *scan = draft_finish(transaction->draft);
    char id_text[MESSAGE_ID_TEXT_BYTES];

    if (scan->received_count > session->server->limits.received_hops_max) {
        smtp_reply_set(reply, 554, "5.4.6", "Hop count exceeded - possible mail loop");
        session_tell_message_refused(session, reply, NULL);
        return;
    }
    if (!check_from(session, scan, reply)) {
        log_from_refusal(session, reply);
        session_tell_message_refused(session, reply, &session->server->policy->sender_match_rule);
        return;
    }
    complete_envelope(session, scan);
    switch (draft_commit(transaction->draft, transaction->id, &transaction->envelope)) {
    case DRAFT_STORED:
        smtp_reply_set(reply, 250, "2.6.0", "<%.*s> Queued mail for delivery (%.*s)",
                       STR_ARG(transaction->envelope.message_id), STR_ARG(message_id_format(transaction->id, id_text)));
        log_received(session);
        session_tell_received(session);
        break;
    case DRAFT_FULL:
        session_out_of_storage(reply);
        break;
    case DRAFT_FAILED:
        smtp_reply_set(reply, 451, "4.3.0", "Could not store the message, try again later");
        break;
    case DRAFT_HEADER_TOO_LONG:
        smtp_reply_set(reply, 554, "5.6.0", "Message header too long");
        break;
    }
}
