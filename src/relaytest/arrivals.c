/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes to the catch, sorted. A token stands in two addresses: ...-u-TOKEN receives, ...-s-TOKEN sends. What arrives for a recipient in the
 * external domain was relayed; what arrives for a sender may be a report about it. The two are never taken for each other.
 */
#include "mail/address.h"
#include "relaytest/relaytest_private.h"

#include <stdio.h>

#define TAG_LENGTH 3

/* The last of our tokens in the text, with the letter before it: 's' or 'u'; '\0' if there is none. */
static char find_token(struct str text, const char *token)
{
    size_t length = strlen(token);

    if (length == 0)
        return '\0';
    for (size_t i = TAG_LENGTH; i + length <= text.length; i++) {
        const char *tag = text.data + i - TAG_LENGTH;

        if (tag[0] != '-' || tag[2] != '-' ||
            !str_equal_nocase(str_make(text.data + i, length), str_make(token, length)))
            continue;
        if (ascii_lower(tag[1]) == 's' || ascii_lower(tag[1]) == 'u')
            return ascii_lower(tag[1]);
    }
    return '\0';
}

/* Where our domain follows the token in something that is no address ("u@X@", "u@X@host"): some server still sent it on its way. */
static bool names_external(struct str text, const char *external)
{
    struct str rest = text;

    while (rest.length > 0) {
        str_split(&rest, '@');
        if (rest.length > 0 && str_starts_with_nocase(rest, str_from_cstr(external)))
            return true;
    }
    return false;
}

/* By the domain that the address leads to; of a bang path that came as it was, by what precedes the mark. */
static bool is_for_external(struct str recipient, const char *external)
{
    struct address address, wanted;
    char model[RELAYTEST_NAME_BYTES + 2];
    size_t bang;

    snprintf(model, sizeof(model), "x@%s", external);
    if (!address_parse(&wanted, str_from_cstr(model), STR("")))
        return false;
    if (!address_parse(&address, recipient, STR("")))
        return names_external(recipient, external);
    if (address.domain_kind != ADDRESS_DOMAIN_NONE)
        return str_equal(address_domain(&address), address_domain(&wanted));
    bang = str_find(address_text(&address), '!');
    return bang != STR_NONE && str_equal_nocase(str_take(address_text(&address), bang), str_from_cstr(external));
}

static uint64_t since_acceptance(const struct relaytest_outcome *outcome)
{
    uint64_t now_ms = loop_now_ms();

    return outcome->is_accepted && now_ms > outcome->accepted_at_ms ? now_ms - outcome->accepted_at_ms : 0;
}

static void take_for_recipient(struct run *run, struct relaytest_outcome *outcome, struct str recipient)
{
    if (is_for_external(recipient, run->result->external)) {
        if (!outcome->has_arrived)
            outcome->arrived_after_ms = since_acceptance(outcome);
        outcome->has_arrived = true;
        run_copy_text(outcome->arrived_recipient, sizeof(outcome->arrived_recipient), recipient);
    } else {
        outcome->is_passed_on = true;
        run_copy_text(outcome->passed_on_recipient, sizeof(outcome->passed_on_recipient), recipient);
    }
}

static void take_for_sender(struct run *run, struct relaytest_outcome *outcome, const struct catch_message *message)
{
    struct probe_names names;
    struct buf local_parts;
    struct ndr report;

    if (outcome->has_report)
        return;
    buf_init(&local_parts, 2 * RELAYTEST_ADDRESS_BYTES);
    names_fill(run, outcome->token, &names, &local_parts);
    ndr_recognise(&report, message->sender, message->content,
                  &(struct ndr_question){.token = str_from_cstr(outcome->token),
                                         .recipient_local = names.recipient_local,
                                         .external = names.external});
    buf_release(&local_parts);
    outcome->has_delay_notice |= report.kind == NDR_DELAYED;
    if (report.kind != NDR_FAILED)
        return;
    outcome->has_report = true;
    outcome->report = report;
    outcome->report_after_ms = since_acceptance(outcome);
}

static bool take_for(struct run *run, struct relaytest_outcome *outcome, struct str recipient,
                     const struct catch_message *message)
{
    char role = find_token(recipient, outcome->token);

    if (role == 'u')
        take_for_recipient(run, outcome, recipient);
    else if (role == 's')
        take_for_sender(run, outcome, message);
    return role != '\0';
}

void arrivals_take(void *context, const struct catch_message *message)
{
    struct run *run = context;
    struct relaytest_result *result = run->result;
    bool is_ours = false;

    for (size_t i = 0; i < message->recipient_count; i++) {
        for (size_t row = 0; row < result->row_count; row++) {
            is_ours |= take_for(run, &result->rows[row].first, message->recipients[i], message);
            is_ours |= take_for(run, &result->rows[row].repeat, message->recipients[i], message);
        }
    }
    if (!is_ours)
        result->strays++;
    run->is_woken = true;
    fiber_wake(run->fiber);
}

bool arrivals_explain(const struct relaytest_row *row)
{
    const struct relaytest_outcome *first = &row->first, *repeat = &row->repeat;

    return first->has_arrived || repeat->has_arrived || first->has_report || repeat->has_report ||
           first->is_passed_on || repeat->is_passed_on;
}
