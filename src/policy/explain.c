/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/explain.h"

#include "policy/model_private.h"

#include <stdio.h>

/* What smtp/server answers before it asks anybody (relay-behaviour.md section 3). */
static void refuse_address(enum policy_stage stage, struct policy_decision *decision, struct policy_trace *trace)
{
    decision->verdict = POLICY_REJECT;
    decision->stage = stage;
    decision->recipient_class = POLICY_CLASS_NONE;
    decision->code = 501;
    decision->enhanced = "5.5.4";
    decision->rule = NULL;
    decision->connector = NULL;
    decision->domain = NULL;
    decision->text_length = (size_t)snprintf(decision->text, sizeof(decision->text), "Invalid Address");
    if (trace)
        trace->stage = stage;
    policy_trace_add(trace, NULL, "this is not an address (RFC 5321 section 4.1.2)");
    policy_trace_reply(trace, decision);
}

void policy_explain(const struct policy_model *model, const struct policy_question *question,
                    struct policy_decision *decision, struct policy_trace *trace)
{
    const struct policy_domain *default_domain = policy_default_domain(model);
    struct str domain = default_domain ? default_domain->name : STR("");
    struct policy_facts facts = question->facts;
    struct address sender;
    struct address recipient;

    policy_decide(model, POLICY_STAGE_CONNECT, &facts, decision, trace);
    if (decision->verdict != POLICY_ACCEPT)
        return;
    if (!address_parse(&sender, str_is_empty(question->from) ? STR("<>") : question->from, domain)) {
        refuse_address(POLICY_STAGE_MAIL, decision, trace);
        return;
    }
    facts.sender = &sender;
    policy_decide(model, POLICY_STAGE_MAIL, &facts, decision, trace);
    if (decision->verdict != POLICY_ACCEPT)
        return;
    if (!address_parse(&recipient, question->to, domain) || recipient.is_null) {
        refuse_address(POLICY_STAGE_RCPT, decision, trace);
        return;
    }
    facts.recipient = &recipient;
    policy_decide(model, POLICY_STAGE_RCPT, &facts, decision, trace);
}
