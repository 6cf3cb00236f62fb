/* SPDX-License-Identifier: Apache-2.0 */
#include "session/session.h"

#include "base/log.h"
#include "base/mem.h"
#include "loop/fiber.h"
#include "loop/loop.h"
#include "mail/received.h"
#include "os/clock.h"
#include "session/client_name.h"

/* All texts of a transaction: the largest allowed number of recipients with DSN parameters. */
#define SESSION_TRANSACTION_BYTES_MAX (SPOOL_ENVELOPE_BYTES_MAX - 65536)

/* FILE:LINE in a log line; a longer path is cut. */
#define SESSION_RULE_AT_BYTES 1024
/* What the Received line alone waits for a host name, once a session. */
#define SESSION_TRACE_NAME_WAIT_MS 200

/* Between MAIL and the end of the message; an idle session has none. */
struct transaction {
    struct arena arena;
    struct address sender;
    struct envelope envelope;
    const struct policy_rule **rules; /* of each recipient: what let it in */
    size_t recipient_capacity;
    struct draft *draft;
    spool_id id;
};

struct session {
    const struct draft_store *store;
    const struct config *config;
    const struct config_server *server;
    struct conn *conn;
    struct smtp_server *smtp;
    struct fiber *fiber;
    struct smtp_server_settings settings;
    struct policy_facts facts;
    struct client_name name;
    bool trace_waited; /* SESSION_TRACE_NAME_WAIT_MS have been spent */
    struct str helo;   /* heap */
    bool is_esmtp;
    bool stopping;
    char client_text[NET_ADDRESS_TEXT_BYTES];
    struct transaction *transaction;
};

static struct str client_text(const struct session *session)
{
    return str_from_cstr(session->client_text);
}

static void reply_from_decision(struct smtp_reply *reply, const struct policy_decision *decision)
{
    smtp_reply_set(reply, decision->code, decision->enhanced, "%.*s", (int)decision->text_length, decision->text);
}

static void log_refusal(const struct session *session, const struct policy_decision *decision)
{
    LOG_INFO("refused", log_str("server", session->server->name), log_str("client", client_text(session)),
             log_str("helo", session->helo), log_cstr("stage", policy_stage_name(decision->stage)),
             log_i64("code", decision->code), log_str("text", str_make(decision->text, decision->text_length)),
             log_cstr("rule", decision->rule ? decision->rule->path : ""));
}

/* A decision taken without the name stands, whatever the name turns out to be, unless it defers; but a local sender is refused where
 * nobody says yes for the client. */
static bool needs_name(const struct session *session, const struct policy_decision *decision)
{
    if (!client_name_is_pending(&session->name))
        return false;
    return decision->verdict == POLICY_DEFER ||
           (decision->verdict == POLICY_REJECT &&
            decision->rule == &session->server->policy->anonymous_local_sender_rule);
}

/* Waits for the client's host name if, and only if, the decision depends on it. */
static void decide(struct session *session, enum policy_stage stage, struct policy_decision *decision)
{
    policy_decide(session->config->policy, stage, &session->facts, decision, NULL);
    if (!needs_name(session, decision))
        return;
    client_name_settle(&session->name, &session->facts, DEADLINE_NEVER);
    policy_decide(session->config->policy, stage, &session->facts, decision, NULL);
}

/* Unknown is no, so that an answer of yes needs no name. */
static bool grants_relay(struct session *session)
{
    if (policy_grants_relay(&session->facts))
        return true;
    if (!policy_client_list_has_domain(session->server->policy->relay) || !client_name_is_pending(&session->name))
        return false;
    client_name_settle(&session->name, &session->facts, DEADLINE_NEVER);
    return policy_grants_relay(&session->facts);
}

/* ---- greeting ---- */

static void on_connected(void *context, struct smtp_reply *reply)
{
    struct session *session = context;
    struct policy_decision decision;

    decide(session, POLICY_STAGE_CONNECT, &decision);
    if (decision.verdict == POLICY_ACCEPT) {
        reply->code = 220;
        return;
    }
    log_refusal(session, &decision);
    reply_from_decision(reply, &decision);
}

static void on_hello(void *context, struct str name, bool is_esmtp)
{
    struct session *session = context;

    free((char *)(uintptr_t)session->helo.data);
    session->helo = str_make(mem_copy_str(name), name.length);
    session->is_esmtp = is_esmtp;
}

static bool on_is_trusted(void *context)
{
    return grants_relay(context);
}

/* ---- the envelope ---- */

static void on_reset(void *context)
{
    struct session *session = context;
    struct transaction *transaction = session->transaction;

    if (!transaction)
        return;
    session->transaction = NULL;
    session->facts.sender = NULL;
    session->facts.recipient = NULL;
    draft_release(&transaction->draft);
    free(transaction->envelope.recipients);
    free(transaction->rules);
    arena_release(&transaction->arena);
    free(transaction);
}

static void out_of_storage(struct smtp_reply *reply)
{
    smtp_reply_set(reply, 452, "4.3.1", "Out of storage");
}

static void open_transaction(struct session *session, const struct command_mail *mail)
{
    struct transaction *transaction = mem_alloc(sizeof(*transaction));
    struct envelope *envelope = &transaction->envelope;

    arena_init(&transaction->arena, SESSION_TRANSACTION_BYTES_MAX);
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
    session->transaction = transaction;
}

static void on_mail(void *context, const struct command_mail *mail, struct smtp_reply *reply)
{
    struct session *session = context;
    struct policy_decision decision;

    session->facts.sender = &mail->sender;
    decide(session, POLICY_STAGE_MAIL, &decision);
    session->facts.sender = NULL;
    reply_from_decision(reply, &decision);
    if (decision.verdict != POLICY_ACCEPT) {
        log_refusal(session, &decision);
        return;
    }
    if (mail->has_size && spool_is_full(session->store->spool, mail->size)) {
        out_of_storage(reply);
        return;
    }
    open_transaction(session, mail);
    session->facts.sender = &session->transaction->sender;
}

/* The embedded directory comes with authentication; until then it knows nobody (relay-behaviour.md section 2). */
static enum policy_answer ask_directory(const struct session *session)
{
    return policy_needs_directory(session->config->policy, &session->facts) ? POLICY_ANSWER_NO
                                                                            : POLICY_ANSWER_NOT_ASKED;
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

static void on_rcpt(void *context, const struct command_rcpt *rcpt, struct smtp_reply *reply)
{
    struct session *session = context;
    struct policy_decision decision;

    session->facts.recipient = &rcpt->recipient;
    session->facts.recipient_known = ask_directory(session);
    decide(session, POLICY_STAGE_RCPT, &decision);
    session->facts.recipient = NULL;
    reply_from_decision(reply, &decision);
    if (decision.verdict != POLICY_ACCEPT) {
        reply->is_unknown_recipient = decision.verdict == POLICY_REJECT && strcmp(decision.enhanced, "5.1.1") == 0;
        log_refusal(session, &decision);
    } else if (!add_recipient(session->transaction, rcpt, &decision)) {
        smtp_reply_set(reply, 452, "4.5.3", "Too many recipients");
    }
}

static void on_verify(void *context, const struct address *address, struct smtp_reply *reply)
{
    struct session *session = context;
    struct policy_server without_lookup = *session->server->policy;
    struct policy_decision decision;

    without_lookup.lookup = POLICY_LOOKUP_AFTER_ACCEPT;
    session->facts.server = &without_lookup;
    session->facts.recipient = address;
    decide(session, POLICY_STAGE_RCPT, &decision);
    session->facts.recipient = NULL;
    session->facts.server = session->server->policy;
    reply_from_decision(reply, &decision);
    if (decision.verdict == POLICY_ACCEPT)
        smtp_reply_set(reply, 252, "2.1.5", "Cannot VRFY user, but will take message for <%.*s>",
                       STR_ARG(address_text(address)));
}

/* ---- the message ---- */

/* Empty if there is none, or if it is not known by now. */
static struct str name_for_trace(struct session *session)
{
    if (client_name_is_pending(&session->name) && !session->trace_waited) {
        session->trace_waited = true;
        client_name_settle(&session->name, &session->facts, loop_now_ms() + SESSION_TRACE_NAME_WAIT_MS);
    }
    return session->facts.client_name_state == POLICY_NAME_VERIFIED ? session->facts.client_name : STR("");
}

static void on_message_begin(void *context, struct smtp_reply *reply)
{
    struct session *session = context;
    struct transaction *transaction = session->transaction;
    struct envelope *envelope = &transaction->envelope;
    char id_text[MESSAGE_ID_TEXT_BYTES];
    struct buf received, message_id;
    struct received_facts facts;

    if (spool_is_full(session->store->spool, 0)) {
        out_of_storage(reply);
        return;
    }
    transaction->id = spool_reserve_id(session->store->spool, 0);
    envelope->arrived_at_ms = clock_real_ms();
    facts = (struct received_facts){
        .helo = session->helo,
        .client_name = name_for_trace(session),
        .client_ip = client_text(session),
        .host = session->config->hostname,
        .id = message_id_format(transaction->id, id_text),
        .recipient = envelope->recipient_count == 1 ? envelope->recipients[0].address : STR(""),
        .received_at_ms = envelope->arrived_at_ms,
        .is_esmtp = session->is_esmtp,
        .is_utf8 = envelope->flags & ENVELOPE_SMTPUTF8,
    };
    buf_init(&received, RECEIVED_BYTES_MAX);
    buf_init(&message_id, RECEIVED_BYTES_MAX);
    received_compose(&received, &facts);
    received_append_message_id(&message_id, facts.id, envelope->arrived_at_ms, session->config->hostname);
    transaction->draft = draft_create(session->store, buf_str(&received), buf_str(&message_id));
    envelope->message_id = arena_copy(&transaction->arena, buf_str(&message_id));
    buf_release(&received);
    buf_release(&message_id);
    reply->code = 354;
}

static void on_message_data(void *context, struct str piece)
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

    LOG_INFO("received", log_str("id", id), log_str("server", envelope->server), log_str("client", envelope->client),
             log_str("client_name",
                     session->facts.client_name_state == POLICY_NAME_VERIFIED ? session->facts.client_name : STR("")),
             log_str("helo", envelope->helo), log_str("from", envelope->sender),
             log_str("to", envelope->recipients[0].address), log_u64("recipients", envelope->recipient_count),
             log_u64("size", draft_body_bytes(transaction->draft)), log_str("message_id", envelope->message_id),
             log_str("rule", envelope->rule), log_str("rule_at", envelope->rule_at));
    for (size_t i = 1; i < envelope->recipient_count; i++)
        log_recipient(session, id, i);
}

/* Reports return a whole message to those only who may relay, and ask for it. */
static bool may_get_full_report(struct session *session, const struct envelope *envelope)
{
    return envelope->flags & ENVELOPE_RET_FULL ? grants_relay(session) : policy_grants_relay(&session->facts);
}

static void complete_envelope(struct session *session, const struct header_scan *scan)
{
    struct transaction *transaction = session->transaction;
    struct envelope *envelope = &transaction->envelope;
    struct str message_id = header_scan_message_id(scan);

    envelope->client = client_text(session);
    envelope->helo = session->helo;
    envelope->server = session->server->name;
    if (!str_is_empty(message_id))
        envelope->message_id = message_id;
    if (draft_has_8bit(transaction->draft))
        envelope->flags |= ENVELOPE_8BITMIME;
    if (may_get_full_report(session, envelope))
        envelope->flags |= ENVELOPE_RELAY_GRANTED;
}

static void on_message_end(void *context, struct smtp_reply *reply)
{
    struct session *session = context;
    struct transaction *transaction = session->transaction;
    const struct header_scan *scan = draft_finish(transaction->draft);
    char id_text[MESSAGE_ID_TEXT_BYTES];

    if (scan->received_count > session->server->limits.received_hops_max) {
        smtp_reply_set(reply, 554, "5.4.6", "Hop count exceeded - possible mail loop");
        return;
    }
    complete_envelope(session, scan);
    switch (draft_commit(transaction->draft, transaction->id, &transaction->envelope)) {
    case DRAFT_STORED:
        smtp_reply_set(reply, 250, "2.6.0", "<%.*s> Queued mail for delivery (%.*s)",
                       STR_ARG(transaction->envelope.message_id), STR_ARG(message_id_format(transaction->id, id_text)));
        log_received(session);
        break;
    case DRAFT_FULL:
        out_of_storage(reply);
        break;
    case DRAFT_FAILED:
        smtp_reply_set(reply, 451, "4.3.0", "Could not store the message, try again later");
        break;
    case DRAFT_HEADER_TOO_LONG:
        smtp_reply_set(reply, 554, "5.6.0", "Message header too long");
        break;
    }
}

/* ---- life ---- */

static const struct smtp_server_hooks session_hooks = {
    .connected = on_connected,
    .hello = on_hello,
    .mail = on_mail,
    .rcpt = on_rcpt,
    .verify = on_verify,
    .message_begin = on_message_begin,
    .message_data = on_message_data,
    .message_end = on_message_end,
    .reset = on_reset,
    .is_trusted = on_is_trusted,
};

static void fill_settings(struct session *session)
{
    const struct config_server *server = session->server;
    const struct policy_domain *default_domain = policy_default_domain(session->config->policy);

    session->settings = (struct smtp_server_settings){
        .hostname = session->config->hostname,
        .banner = server->banner,
        .default_domain = default_domain ? default_domain->name : STR(""),
        .normalize_newlines = server->bare_newline == CONFIG_BARE_NEWLINE_NORMALIZE,
        .tarpit_ms = server->tarpit_ms,
        .message_bytes_max = server->limits.message_bytes_max,
        .recipients_max = server->limits.recipients_max,
        .idle_timeout_ms = server->limits.idle_timeout_ms,
        .messages_max = server->limits.messages_per_connection_max,
        .errors_max = server->limits.errors_max,
        .unknown_recipients_max = server->limits.unknown_recipients_max,
    };
}

struct session *session_create(const struct session_options *options)
{
    struct session *session = mem_alloc(sizeof(*session));

    session->store = options->store;
    session->config = options->config;
    session->server = options->server;
    session->conn = options->conn;
    net_address_format_ip(&options->client, session->client_text);
    session->facts.server = session->server->policy;
    memcpy(session->facts.client.bytes, options->client.ip, sizeof(session->facts.client.bytes));
    client_name_begin(&session->name, options->dns, session->config, session->server, &options->client,
                      &session->facts);
    fill_settings(session);
    return session;
}

void session_run(struct session *session)
{
    const struct smtp_server_options options = {
        .conn = session->conn,
        .settings = &session->settings,
        .hooks = &session_hooks,
        .context = session,
    };

    session->fiber = fiber_current();
    if (!session->stopping)
        smtp_server_run(&session->smtp, &options);
    conn_close(&session->conn);
    client_name_end(&session->name);
    free((char *)(uintptr_t)session->helo.data);
    config_release(&session->config);
    free(session);
}

void session_stop(struct session *session)
{
    session->stopping = true;
    if (session->smtp)
        smtp_server_stop(session->smtp);
}

void session_abort(struct session *session)
{
    session->stopping = true;
    if (session->fiber)
        fiber_cancel(session->fiber);
}
