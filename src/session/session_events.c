/* SPDX-License-Identifier: Apache-2.0 */
#include "session/session_private.h"

static struct str verified_name(const struct session *session)
{
    return session->facts.client_name_state == POLICY_NAME_VERIFIED ? session->facts.client_name : STR("");
}

static void set_rule(struct mail_event *event, const struct policy_rule *rule)
{
    if (!rule)
        return;
    event->rule = str_from_cstr(rule->path);
    event->rule_file = rule->file;
    event->rule_line = rule->line;
}

void session_tell_received(const struct session *session)
{
    const struct transaction *transaction = session->transaction;
    struct mail_event event = {.kind = MAIL_EVENT_RECEIVED,
                               .id = transaction->id,
                               .envelope = &transaction->envelope,
                               .size_bytes = draft_body_bytes(transaction->draft),
                               .client_name = verified_name(session)};

    for (size_t i = 0; session->store->events && i < transaction->envelope.recipient_count; i++) {
        event.recipient = i;
        set_rule(&event, transaction->rules[i]);
        mail_event_tell(session->store->events, &event);
    }
}

/* An envelope as far as it is known when somebody is refused. */
static struct envelope known_envelope(const struct session *session)
{
    return (struct envelope){.client = session_client_text(session),
                             .helo = session->helo,
                             .user = session->facts.is_authenticated ? session->facts.user : STR(""),
                             .server = session->server->name};
}

void session_tell_refused(const struct session *session, const struct policy_decision *decision)
{
    const struct policy_facts *facts = &session->facts;
    struct envelope_recipient recipient = {0};
    struct envelope envelope = known_envelope(session);
    struct mail_event event = {.kind = MAIL_EVENT_REFUSED,
                               .envelope = &envelope,
                               .client_name = verified_name(session),
                               .stage = policy_stage_name(decision->stage),
                               .code = decision->code,
                               .status = decision->enhanced,
                               .reply = str_make(decision->text, decision->text_length)};

    if (facts->sender && !facts->sender->is_null)
        envelope.sender = address_text(facts->sender);
    if (facts->recipient) {
        recipient.address = address_text(facts->recipient);
        envelope.recipients = &recipient;
        envelope.recipient_count = 1;
    }
    set_rule(&event, decision->rule);
    mail_event_tell(session->store->events, &event);
}

void session_tell_message_refused(const struct session *session, const struct smtp_reply *reply,
                                  const struct policy_rule *rule)
{
    const struct transaction *transaction = session->transaction;
    struct envelope envelope = known_envelope(session);
    struct mail_event event = {.kind = MAIL_EVENT_REFUSED,
                               .id = transaction->id,
                               .envelope = &envelope,
                               .size_bytes = draft_body_bytes(transaction->draft),
                               .client_name = verified_name(session),
                               .stage = "data",
                               .code = reply->code,
                               .status = reply->enhanced,
                               .reply = str_from_cstr(reply->text)};

    envelope.sender = transaction->envelope.sender;
    envelope.recipients = transaction->envelope.recipients;
    envelope.recipient_count = transaction->envelope.recipient_count;
    set_rule(&event, rule);
    for (size_t i = 0; session->store->events && i < envelope.recipient_count; i++) {
        event.recipient = i;
        mail_event_tell(session->store->events, &event);
    }
}

void session_on_log_command(void *context, const struct smtp_command_log *command)
{
    const struct session *session = context;
    const struct command_log_entry entry = {
        .server = session->server->name,
        .hostname = session->config->hostname,
        .client = session_client_text(session),
        .helo = session->helo,
        .user = session->facts.is_authenticated ? session->facts.user : STR(""),
        .local = conn_local(session->conn),
        .command = command,
    };

    session->store->command_log->tell(session->store->command_log->context, &entry);
}
