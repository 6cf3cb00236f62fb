/* SPDX-License-Identifier: Apache-2.0 */
#include "session/session_private.h"

struct str session_client_text(const struct session *session)
{
    return str_from_cstr(session->client_text);
}

void session_reply_from_decision(struct smtp_reply *reply, const struct policy_decision *decision)
{
    smtp_reply_set(reply, decision->code, decision->enhanced, "%.*s", (int)decision->text_length, decision->text);
}

void session_log_refusal(const struct session *session, const struct policy_decision *decision)
{
    LOG_INFO("refused", log_str("server", session->server->name), log_str("client", session_client_text(session)),
             log_str("helo", session->helo), log_str("user", session->facts.user),
             log_cstr("stage", policy_stage_name(decision->stage)), log_i64("code", decision->code),
             log_str("text", str_make(decision->text, decision->text_length)),
             log_cstr("rule", decision->rule ? decision->rule->path : ""));
    session_tell_refused(session, decision);
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

void session_decide(struct session *session, enum policy_stage stage, struct policy_decision *decision)
{
    policy_decide(session->config->policy, stage, &session->facts, decision, NULL);
    if (!needs_name(session, decision))
        return;
    client_name_settle(&session->name, &session->facts, DEADLINE_NEVER);
    policy_decide(session->config->policy, stage, &session->facts, decision, NULL);
}

bool session_grants_relay(struct session *session)
{
    if (policy_grants_relay(&session->facts))
        return true;
    if (!policy_client_list_has_domain(session->server->policy->relay) || !client_name_is_pending(&session->name))
        return false;
    client_name_settle(&session->name, &session->facts, DEADLINE_NEVER);
    return policy_grants_relay(&session->facts);
}

void session_out_of_storage(struct smtp_reply *reply)
{
    smtp_reply_set(reply, 452, "4.3.1", "Out of storage");
}

/* ---- greeting ---- */

static void on_connected(void *context, struct smtp_reply *reply)
{
    struct session *session = context;
    struct policy_decision decision;

    session_decide(session, POLICY_STAGE_CONNECT, &decision);
    if (decision.verdict == POLICY_ACCEPT) {
        reply->code = 220;
        return;
    }
    session_log_refusal(session, &decision);
    session_reply_from_decision(reply, &decision);
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
    return session_grants_relay(context);
}

/* ---- life ---- */

static const struct smtp_server_hooks session_hooks = {
    .connected = on_connected,
    .hello = on_hello,
    .mail = session_on_mail,
    .rcpt = session_on_rcpt,
    .verify = session_on_verify,
    .message_begin = session_on_message_begin,
    .message_data = session_on_message_data,
    .message_end = session_on_message_end,
    .reset = session_on_reset,
    .is_trusted = on_is_trusted,
    .secured = session_on_secured,
    .tls_failed = session_on_tls_failed,
    .auth_mechanisms = session_on_auth_mechanisms,
    .auth_begin = session_on_auth_begin,
    .auth_continue = session_on_auth_continue,
    .auth_abort = session_on_auth_abort,
    .etrn = session_on_etrn,
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
        .tls = runtime_server_tls(session->runtime, server),
        .tls_is_implicit = server->tls.mode == CONFIG_TLS_IMPLICIT,
        .etrn = session_may_etrn(session),
    };
}

struct session *session_create(const struct session_options *options)
{
    struct session *session = mem_alloc(sizeof(*session));
    struct auth_options auth;

    session->store = options->store;
    session->runtime = options->runtime;
    session->config = options->runtime->config;
    session->server = options->server;
    session->conn = options->conn;
    net_address_format_ip(&options->client, session->client_text);
    session->facts.server = session->server->policy;
    memcpy(session->facts.client.bytes, options->client.ip, sizeof(session->facts.client.bytes));
    auth = (struct auth_options){
        .runtime = session->runtime, .server = session->server, .brakes = options->brakes, .conn = session->conn};
    session->auth = auth_create(&auth);
    client_name_begin(&session->name, options->dns, session->config, session->server, &options->client,
                      &session->facts);
    fill_settings(session);
    session->hooks = session_hooks;
    if (session->config->session_log.format != CONFIG_SESSION_LOG_NONE && session->store && session->store->command_log)
        session->hooks.log_command = session_on_log_command;
    return session;
}

void session_run(struct session *session)
{
    const struct smtp_server_options options = {
        .conn = session->conn,
        .settings = &session->settings,
        .hooks = &session->hooks,
        .context = session,
    };

    session->fiber = fiber_current();
    if (!session->stopping)
        smtp_server_run(&session->smtp, &options);
    auth_destroy(&session->auth);
    conn_close(&session->conn);
    client_name_end(&session->name);
    free((char *)(uintptr_t)session->helo.data);
    runtime_release(&session->runtime);
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
