/* SPDX-License-Identifier: Apache-2.0 */
/* Who the client is: by TLS, by AUTH, and what the directory says of it and of recipients. */
#include "session/session_private.h"

/* ---- TLS ---- */

void session_on_secured(void *context)
{
    struct session *session = context;
    const struct tls_facts *tls = conn_tls(session->conn);

    session->facts.is_authenticated = false;
    session->facts.user = STR("");
    session->facts.groups = NULL;
    session->facts.group_count = 0;
    session->facts.groups_unknown = false;
    auth_forget(session->auth);
    free((char *)(uintptr_t)session->helo.data);
    session->helo = (struct str){0};
    session->facts.has_tls = true;
    session->facts.has_certificate = tls->has_certificate;
    memcpy(session->facts.certificate_sha256, tls->certificate_sha256, sizeof(session->facts.certificate_sha256));
    LOG_DEBUG("tls", log_str("server", session->server->name), log_str("client", session_client_text(session)),
              log_cstr("protocol", tls->protocol), log_cstr("cipher", tls->cipher),
              log_bool("resumed", tls->is_resumed), log_bool("certificate", tls->has_certificate));
}

void session_on_tls_failed(void *context, const struct error *error)
{
    const struct session *session = context;

    LOG_INFO("tls-failed", log_str("server", session->server->name), log_str("client", session_client_text(session)),
             log_error(error));
}

/* ---- AUTH ---- */

const char *session_on_auth_mechanisms(void *context)
{
    return auth_mechanisms(((struct session *)context)->auth);
}

/* What a success means for the decisions from now on. */
static enum smtp_auth_status take_identity(struct session *session, enum smtp_auth_status status)
{
    const struct auth_identity *identity = status == SMTP_AUTH_DONE ? auth_identity(session->auth) : NULL;

    if (!identity)
        return status;
    session->facts.is_authenticated = true;
    session->facts.user = identity->user->name;
    session->facts.groups = identity->user->groups;
    session->facts.group_count = identity->user->group_count;
    session->facts.groups_unknown = identity->user->groups_unknown;
    return status;
}

enum smtp_auth_status session_on_auth_begin(void *context, struct str mechanism, struct str initial,
                                            struct buf *challenge, struct smtp_reply *reply)
{
    struct session *session = context;

    return take_identity(session, auth_begin(session->auth, mechanism, initial, challenge, reply));
}

enum smtp_auth_status session_on_auth_continue(void *context, struct str response, struct buf *challenge,
                                               struct smtp_reply *reply)
{
    struct session *session = context;

    return take_identity(session, auth_continue(session->auth, response, challenge, reply));
}

void session_on_auth_abort(void *context)
{
    auth_abort(((struct session *)context)->auth);
}

/* ---- addresses ---- */

bool session_owns_address(const struct session *session, const struct address *address)
{
    const struct auth_identity *identity = auth_identity(session->auth);

    for (size_t i = 0; identity && i < identity->user->address_count; i++) {
        struct address own;

        if (address_parse_stored(&own, identity->user->addresses[i]) &&
            policy_same_mailbox(session->config->policy, session->server->name, &own, address))
            return true;
    }
    return false;
}

enum policy_answer session_ask_recipient(struct session *session)
{
    struct directory_recipient *found = NULL;
    char text[ADDRESS_TEXT_OCTETS_MAX];
    enum directory_status status;
    struct policy_route route;

    if (!policy_needs_directory(session->config->policy, &session->facts))
        return POLICY_ANSWER_NOT_ASKED;
    policy_route(session->config->policy, session->server->name, session->facts.recipient, &route);
    status = directory_ask_recipient(session->runtime->directory,
                                     str_make(text, policy_mailbox_text(&route, session->facts.recipient, text)),
                                     loop_now_ms() + session->config->directory.timeout_ms, &found);
    directory_recipient_free(&found);
    switch (status) {
    case DIRECTORY_YES:
        return POLICY_ANSWER_YES;
    case DIRECTORY_NO:
        return POLICY_ANSWER_NO;
    case DIRECTORY_UNAVAILABLE:
        break;
    }
    return POLICY_ANSWER_UNAVAILABLE;
}
