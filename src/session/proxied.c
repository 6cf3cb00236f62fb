/* SPDX-License-Identifier: Apache-2.0 */
#include "session/proxied.h"

#include "base/buf.h"
#include "loop/loop.h"

bool proxied_is_proxy(const struct config *config, const struct config_server *server, const struct net_address *peer)
{
    /* The question that a connect list answers, asked of the proxies' list. */
    struct policy_server question = *server->policy;
    struct policy_facts facts = {.server = &question};
    struct policy_decision decision;

    if (!server->proxies)
        return false;
    question.connect_mode = POLICY_LIST_ONLY;
    question.connect = server->proxies;
    memcpy(facts.client.bytes, peer->ip, sizeof(facts.client.bytes));
    policy_decide(config->policy, POLICY_STAGE_CONNECT, &facts, &decision, NULL);
    return decision.verdict == POLICY_ACCEPT;
}

/* What stands behind the header stays with the connection. */
static enum proxy_status take_input(struct conn *conn, struct str piece, struct buf *input, struct proxy_header *header)
{
    size_t before = input->length;
    enum proxy_status status;

    buf_append_str(input, str_take(piece, PROXY_HEADER_BYTES_MAX - before));
    status = proxy_parse(buf_str(input), header);
    conn_consume(conn, status == PROXY_DONE ? header->length - before : piece.length);
    return status;
}

const char *proxied_receive(struct conn *conn, struct proxy_header *header)
{
    uint64_t deadline_ms = loop_now_ms() + PROXIED_HEADER_TIMEOUT_MS;
    enum proxy_status status = PROXY_INCOMPLETE;
    const char *problem = NULL;
    struct buf input;

    buf_init(&input, PROXY_HEADER_BYTES_MAX);
    while (status == PROXY_INCOMPLETE && !problem) {
        struct str piece;
        enum conn_status read = conn_read_some(conn, deadline_ms, &piece);

        if (read == CONN_OK)
            status = take_input(conn, piece, &input, header);
        else
            problem = conn_status_text(read);
    }
    buf_release(&input);
    return status == PROXY_MALFORMED ? "malformed PROXY header" : problem;
}
