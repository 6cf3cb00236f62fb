/* SPDX-License-Identifier: Apache-2.0 */
/*
 * explain: one client, one sender and one recipient through all three stages, as the live server would take them, with the same
 * decision function. Pure; any thread.
 */
#ifndef POSTERN_POLICY_EXPLAIN_H
#define POSTERN_POLICY_EXPLAIN_H

#include "policy/decide.h"

/* What is asked. `facts` without sender and recipient, which are given as text, without or with angle brackets; an empty sender
 * is the null sender. SMTPUTF8 is taken to be asked for where an address needs it. */
struct policy_question {
    struct policy_facts facts;
    struct str from;
    struct str to;
};

/* The first stage that does not accept decides, else RCPT. `trace`, which is added to, may be NULL. The rule of the decision is
 * NULL for an invalid address. */
void policy_explain(const struct policy_model *model, const struct policy_question *question,
                    struct policy_decision *decision, struct policy_trace *trace);

#endif
