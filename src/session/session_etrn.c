/* SPDX-License-Identifier: Apache-2.0 */
/* ETRN (RFC 1985): whoever is named for it has the mail that waits for a domain tried now, as a line that was down is up again. */
#include "mail/domain.h"
#include "queue/control.h"
#include "session/session_private.h"

#include <inttypes.h>

/* A queue that does not answer for so long: 458. */
#define ETRN_TIMEOUT_MS 30000

bool session_may_etrn(const struct session *session)
{
    /* The question that a connect list answers, asked of this list. */
    struct policy_server question = *session->server->policy;
    struct policy_facts facts = {.server = &question, .client = session->facts.client};
    struct policy_decision decision;

    if (!session->server->etrn)
        return false;
    question.connect_mode = POLICY_LIST_ONLY;
    question.connect = session->server->etrn;
    policy_decide(session->config->policy, POLICY_STAGE_CONNECT, &facts, &decision, NULL);
    return decision.verdict == POLICY_ACCEPT;
}

/* Those who wait for this domain, or with "@" for any below it too, are tried now. */
static enum wait_result retry(const struct session *session, struct str condition, struct queue_done *done)
{
    const struct queue_filter filter = {.domain = condition, .states = QUEUE_STATE_WAITING | QUEUE_STATE_READY};
    const struct queue_order order = {.action = QUEUE_ACTION_RETRY, .by = STR("ETRN")};
    struct queue_cursor *cursor = queue_cursor_create(session->store->queue, &filter, 0);
    enum wait_result result = queue_cursor_act(cursor, &order, done, loop_now_ms() + ETRN_TIMEOUT_MS);

    queue_cursor_destroy(&cursor);
    return result;
}

void session_on_etrn(void *context, struct str node, struct smtp_reply *reply)
{
    struct session *session = context;
    const bool has_below = str_starts_with(node, STR("@"));
    char condition[DOMAIN_TEXT_BYTES + 1] = "@";
    struct queue_done done = {0};

    if (node.data[0] == '#') {
        smtp_reply_set(reply, 459, "4.7.0", "Node not allowed: there are no named queues here");
        return;
    }
    if (domain_normalize(str_skip(node, has_below), condition + 1) == 0) {
        smtp_reply_set(reply, 501, "5.5.4", "Invalid domain");
        return;
    }
    if (retry(session, str_from_cstr(has_below ? condition : condition + 1), &done) != WAIT_READY)
        smtp_reply_set(reply, 458, "4.3.0", "Unable to queue messages for node %s", condition + 1);
    else if (done.messages == 0)
        smtp_reply_set(reply, 251, "2.0.0", "OK, no messages waiting for node %s", condition + 1);
    else
        smtp_reply_set(reply, 253, "2.0.0", "OK, %" PRIu64 " pending messages for node %s started", done.messages,
                       condition + 1);
    LOG_INFO("etrn", log_str("server", session->server->name), log_str("client", session_client_text(session)),
             log_cstr("domain", condition + 1), log_i64("code", reply->code), log_u64("messages", done.messages));
}
