/* SPDX-License-Identifier: Apache-2.0 */
/* From what was seen to what it means, and to words. */
#include "relaytest/relaytest_private.h"

#include <stdio.h>

static const struct {
    const char *name; /* for programs */
    const char *text;
    const char *counted; /* in the last sentence */
} verdicts[RELAYTEST_VERDICT_COUNT] = {
    [RELAYTEST_REFUSED] = {"refused", "refused", "refused"},
    [RELAYTEST_UNDELIVERABLE] = {"undeliverable", "accepted, then reported undeliverable",
                                 "accepted and reported undeliverable"},
    [RELAYTEST_DEFERRED] = {"deferred", "deferred", "deferred"},
    [RELAYTEST_UNPROVEN] = {"unproven", "accepted, not proven", "accepted, which proves nothing yet"},
    [RELAYTEST_SILENT] = {"silent", "accepted, nothing arrived", "accepted without a trace of what became of it"},
    [RELAYTEST_PASSED_ON] = {"passed-on", "accepted, passed on", "accepted and passed on to another server"},
    [RELAYTEST_ATTEMPTED] = {"attempted", "accepted, tried to send it outside",
                             "accepted and sent outside, where the way did not work"},
    [RELAYTEST_UNTESTED] = {"untested", "could not be tested", "not tested"},
    [RELAYTEST_RELAYED] = {"relayed", "RELAYED", "RELAYED"},
};

const char *relaytest_verdict_text(enum relaytest_verdict verdict)
{
    return verdicts[verdict].text;
}

const char *relaytest_verdict_name(enum relaytest_verdict verdict)
{
    return verdicts[verdict].name;
}

const char *relaytest_stage_name(enum relaytest_stage stage)
{
    switch (stage) {
    case RELAYTEST_STAGE_NONE:
        return NULL;
    case RELAYTEST_STAGE_MAIL:
        return "mail";
    case RELAYTEST_STAGE_RCPT:
        return "rcpt";
    case RELAYTEST_STAGE_DATA:
        return "data";
    case RELAYTEST_STAGE_MESSAGE:
        return "message";
    }
    return NULL;
}

/* ---- verdicts ---- */

/* Of one transaction, with what came to the catch. An arrival outweighs whatever the server said. */
static enum relaytest_verdict judge_outcome(const struct relaytest_outcome *outcome)
{
    if (outcome->has_arrived)
        return RELAYTEST_RELAYED;
    if (outcome->is_passed_on)
        return RELAYTEST_PASSED_ON;
    if (!outcome->is_accepted || !outcome->has_report)
        return outcome->verdict;
    return outcome->report.tried_outside ? RELAYTEST_ATTEMPTED : RELAYTEST_UNDELIVERABLE;
}

static enum relaytest_verdict worse(enum relaytest_verdict a, enum relaytest_verdict b)
{
    return a > b ? a : b;
}

static enum relaytest_verdict judge_row(struct relaytest_row *row)
{
    row->first.verdict = judge_outcome(&row->first);
    if (!row->has_repeat)
        return row->first.verdict;
    row->repeat.verdict = judge_outcome(&row->repeat);
    if (!row->first.is_accepted) /* the sender was refused: the repetition is the test */
        return worse(row->first.verdict, row->repeat.verdict);
    if (row->first.verdict != RELAYTEST_SILENT)
        return worse(row->first.verdict, row->repeat.has_arrived ? RELAYTEST_RELAYED : RELAYTEST_REFUSED);
    /* The repetition was made to explain the first: what became of it explains, that it was not taken does not. */
    return row->repeat.is_accepted || row->repeat.has_arrived ? row->repeat.verdict : RELAYTEST_SILENT;
}

void verdict_settle(struct relaytest_result *result, const struct relaytest_settings *settings)
{
    bool has_catch = settings->has_catch && !settings->envelope_only;
    unsigned number = 0;
    enum relaytest_verdict worst = RELAYTEST_REFUSED;

    for (size_t i = 0; i < result->row_count; i++) {
        struct relaytest_row *row = &result->rows[i];

        row->verdict = judge_row(row);
        if (row->verdict == RELAYTEST_SILENT && !has_catch)
            row->verdict = row->first.verdict = RELAYTEST_UNPROVEN;
        if (row->verdict == RELAYTEST_UNTESTED)
            result->is_incomplete = true;
        worst = row->probe->number == number ? worse(worst, row->verdict) : row->verdict;
        number = row->probe->number;
        if (i + 1 == result->row_count || row[1].probe->number != number) {
            result->probe_count++;
            result->counts[worst]++;
        }
    }
}

int relaytest_exit(const struct relaytest_result *result)
{
    if (result->counts[RELAYTEST_RELAYED] > 0)
        return 1;
    if (result->is_incomplete || result->row_count == 0)
        return 3;
    if (result->counts[RELAYTEST_REFUSED] + result->counts[RELAYTEST_UNDELIVERABLE] < result->probe_count)
        return 2;
    return 0;
}

/* ---- words ---- */

static void explain_arrival(const struct relaytest_row *row, const struct relaytest_outcome *outcome, struct buf *out)
{
    buf_printf(out, "arrived as <%s> after %llu.%llu s%s", outcome->arrived_recipient,
               (unsigned long long)(outcome->arrived_after_ms / 1000),
               (unsigned long long)(outcome->arrived_after_ms / 100 % 10),
               outcome == &row->repeat ? ", when sent by an external sender" : "");
}

static void explain_report(const struct relaytest_outcome *outcome, struct buf *out)
{
    const struct ndr *report = &outcome->report;
    bool has_status = report->status[0] && !strstr(report->diagnostic, report->status);

    buf_printf(out, "report (%s)%s%s%s%s%s", report->format, report->status[0] || report->diagnostic[0] ? ": " : "",
               has_status ? report->status : "", has_status && report->diagnostic[0] ? " " : "", report->diagnostic,
               report->tried_outside ? ", on the way outside" : "");
}

static void explain_reply(const struct relaytest_row *row, struct buf *out)
{
    if (row->has_repeat)
        buf_printf(out, "from an external sender: %s", row->repeat.reply);
    else
        buf_printf(out, "%s", row->first.reply);
}

static void explain_silence(const struct relaytest_row *row, struct buf *out)
{
    if (row->has_repeat && !row->repeat.is_accepted)
        explain_reply(row, out);
    else if (row->first.has_delay_notice || row->repeat.has_delay_notice)
        buf_append_str(out, STR("delayed, says a notice"));
    else
        buf_printf(out, "%s", row->first.reply);
}

void relaytest_explain(const struct relaytest_row *row, struct buf *out)
{
    switch (row->verdict) {
    case RELAYTEST_RELAYED:
        explain_arrival(row, row->first.has_arrived ? &row->first : &row->repeat, out);
        return;
    case RELAYTEST_UNDELIVERABLE:
    case RELAYTEST_ATTEMPTED:
        explain_report(row->first.has_report && row->first.verdict == row->verdict ? &row->first : &row->repeat, out);
        return;
    case RELAYTEST_PASSED_ON:
        buf_printf(out, "passed on as <%s>: what the next server does with it decides",
                   row->first.is_passed_on ? row->first.passed_on_recipient : row->repeat.passed_on_recipient);
        return;
    case RELAYTEST_SILENT:
        explain_silence(row, out);
        return;
    case RELAYTEST_REFUSED:
    case RELAYTEST_DEFERRED:
    case RELAYTEST_UNPROVEN:
    case RELAYTEST_UNTESTED:
    case RELAYTEST_VERDICT_COUNT:
        explain_reply(row, out);
        return;
    }
}

static void summarise_outcome(const struct relaytest_result *result, struct buf *out)
{
    if (result->counts[RELAYTEST_RELAYED] > 0)
        buf_append_str(out, STR(" The server relays for strangers."));
    else if (result->is_incomplete)
        buf_append_str(out, STR(" The test is not complete."));
    else if (relaytest_exit(result) == 2)
        buf_append_str(out, STR(" Nothing was seen to be relayed, but that is not proven."));
    else
        buf_append_str(out, STR(" Nothing was relayed."));
    if (result->demands_tls)
        buf_append_str(out, STR(" The server wants TLS first: test again with --starttls."));
    if (result->refuses_external)
        buf_append_str(out, STR(" The server refuses the external sender as such: an --external address whose domain "
                                "exists would test more."));
    if (result->demands_auth)
        buf_append_str(out, STR(" The server wants authentication: strangers can send nothing."));
}

void relaytest_summarise(const struct relaytest_result *result, struct buf *out)
{
    bool is_first = true;

    buf_printf(out, "%u probe%s:", result->probe_count, result->probe_count == 1 ? "" : "s");
    for (unsigned i = 0; i < RELAYTEST_VERDICT_COUNT; i++) {
        if (result->counts[i] == 0)
            continue;
        buf_printf(out, "%s %u %s", is_first ? "" : ",", result->counts[i], verdicts[i].counted);
        is_first = false;
    }
    buf_append_char(out, '.');
    summarise_outcome(result, out);
}

/* ---- addresses ---- */

bool relaytest_is_private(const struct net_address *address)
{
    static const unsigned char loopback[16] = {[15] = 1};
    const unsigned char *ip = address->ip;

    if (net_address_is_ipv4(address)) {
        ip += 12;
        return ip[0] == 127 || ip[0] == 10 || (ip[0] == 172 && (ip[1] & 0xf0) == 16) ||
               (ip[0] == 192 && ip[1] == 168) || (ip[0] == 169 && ip[1] == 254) ||
               (ip[0] == 100 && (ip[1] & 0xc0) == 64);
    }
    return memcmp(ip, loopback, sizeof(loopback)) == 0 || (ip[0] & 0xfe) == 0xfc ||
           (ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80);
}
