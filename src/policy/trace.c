/* SPDX-License-Identifier: Apache-2.0 */
/* The trace of a decision, and the words that programs and people read for its enumerations. */
#include "policy/model_private.h"

#include <stdarg.h>

void policy_trace_add(struct policy_trace *trace, const struct policy_rule *rule, const char *format, ...)
{
    struct policy_trace_step *step;
    va_list arguments;

    if (!trace || trace->count == POLICY_TRACE_STEPS_MAX)
        return;
    step = &trace->steps[trace->count++];
    step->rule = rule;
    va_start(arguments, format);
    vsnprintf(step->text, sizeof(step->text), format, arguments);
    va_end(arguments);
}

const char *policy_verdict_name(enum policy_verdict verdict)
{
    static const char *const names[] = {
        [POLICY_ACCEPT] = "accept", [POLICY_REJECT] = "reject", [POLICY_DEFER] = "defer"};

    return names[verdict];
}

const char *policy_stage_name(enum policy_stage stage)
{
    static const char *const names[] = {
        [POLICY_STAGE_CONNECT] = "connect", [POLICY_STAGE_MAIL] = "mail", [POLICY_STAGE_RCPT] = "rcpt"};

    return names[stage];
}

const char *policy_class_name(enum policy_class recipient_class)
{
    static const char *const names[] = {[POLICY_CLASS_NONE] = NULL,
                                        [POLICY_CLASS_LOCAL] = "local",
                                        [POLICY_CLASS_ALLOWED] = "allowed",
                                        [POLICY_CLASS_CONNECTOR] = "connector",
                                        [POLICY_CLASS_EXTERNAL] = "external"};

    return names[recipient_class];
}
