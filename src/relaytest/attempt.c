/* SPDX-License-Identifier: Apache-2.0 */
/* One probe in one transaction: MAIL, RCPT, DATA, the message. */
#include "mail/date.h"
#include "os/clock.h"
#include "os/random.h"
#include "relaytest/relaytest_private.h"

#include <stdio.h>

#define MESSAGE_BYTES_MAX 8192

/* ---- hints ---- */

struct unit {
    struct str name;
    uint64_t ms;
};

/* The longest first. */
static const struct unit units[] = {
    {STR_INIT("seconds"), 1000}, {STR_INIT("second"), 1000},   {STR_INIT("secs"), 1000},    {STR_INIT("sec"), 1000},
    {STR_INIT("s"), 1000},       {STR_INIT("minutes"), 60000}, {STR_INIT("minute"), 60000}, {STR_INIT("mins"), 60000},
    {STR_INIT("min"), 60000},    {STR_INIT("m"), 60000},
};

static uint64_t unit_ms(struct str text)
{
    if (text.length > 0 && (text.data[0] == ' ' || text.data[0] == '-'))
        text = str_skip(text, 1);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        struct str after = str_skip(text, units[i].name.length);

        if (str_starts_with_nocase(text, units[i].name) && (after.length == 0 || !ascii_is_alpha(after.data[0])))
            return units[i].ms;
    }
    return 0;
}

/* "00:04:59" at the start, as milter-greylist writes it. */
static uint64_t clock_ms(struct str text)
{
    uint64_t seconds = 0;

    if (text.length < 8 || text.data[2] != ':' || text.data[5] != ':')
        return 0;
    for (unsigned i = 0; i < 3; i++) {
        uint64_t part;

        if (!str_to_u64(str_take(str_skip(text, i * 3), 2), &part))
            return 0;
        seconds = seconds * 60 + part;
    }
    return seconds * 1000;
}

uint64_t attempt_hinted_ms(struct str reply)
{
    for (size_t i = 4; i < reply.length; i++) {
        struct str rest = str_skip(reply, i);
        size_t digits = 0;
        uint64_t number, ms;

        if (!ascii_is_digit(rest.data[0]) || ascii_is_digit(reply.data[i - 1]) || reply.data[i - 1] == '.')
            continue;
        while (digits < rest.length && ascii_is_digit(rest.data[digits]))
            digits++;
        ms = clock_ms(rest);
        if (ms > 0)
            return ms;
        ms = unit_ms(str_skip(rest, digits));
        if (ms > 0 && digits < 8 && str_to_u64(str_take(rest, digits), &number))
            return number * ms;
    }
    return 0;
}

/* ---- what is sent ---- */

static void make_token(char token[RELAYTEST_TOKEN_BYTES])
{
    static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789"; /* 32, none that looks like another */

    for (size_t i = 0; i < RELAYTEST_TOKEN_BYTES - 1; i++)
        token[i] = letters[random_below(sizeof(letters) - 1)];
    token[RELAYTEST_TOKEN_BYTES - 1] = '\0';
}

static void expand(char out[RELAYTEST_ADDRESS_BYTES], const char *pattern, const struct probe_names *names)
{
    struct buf text;

    buf_init(&text, RELAYTEST_ADDRESS_BYTES - 1);
    probe_expand(&text, pattern, names);
    run_copy_text(out, RELAYTEST_ADDRESS_BYTES, buf_str(&text));
    buf_release(&text);
}

/* A retry is the same transaction: greylisting goes by the envelope. */
static void prepare(struct run *run, const struct relaytest_row *row, struct relaytest_outcome *outcome,
                    const char *sender)
{
    struct probe_names names;
    struct buf local_parts;

    if (outcome->token[0])
        return;
    make_token(outcome->token);
    buf_init(&local_parts, 2 * RELAYTEST_ADDRESS_BYTES);
    names_fill(run, outcome->token, &names, &local_parts);
    expand(outcome->sender, sender, &names);
    expand(outcome->recipient, row->probe->recipient, &names);
    buf_release(&local_parts);
}

static void compose(const struct run *run, const struct relaytest_row *row, const struct relaytest_outcome *outcome,
                    struct buf *out)
{
    const struct relaytest_result *result = run->result;
    char date[DATE_RFC5322_BYTES];
    char id[16];

    date_format_rfc5322(clock_real_ms(), date);
    snprintf(id, sizeof(id), row->probe->letter ? "%u%c" : "%u", row->probe->number, row->probe->letter);
    buf_printf(out,
               "From: \"Relay test\" <" RELAYTEST_LOCAL_PART "@%s>\r\n"
               "To: <" RELAYTEST_LOCAL_PART "@%s>\r\n"
               "Subject: Relay test %s\r\n"
               "Date: %s\r\n"
               "Message-ID: <%s@%s>\r\n" NDR_TOKEN_FIELD ": %s\r\n"
               "MIME-Version: 1.0\r\n"
               "Content-Type: text/plain; charset=us-ascii\r\n\r\n",
               result->external, result->external, outcome->token, date, outcome->token, result->client_name,
               outcome->token);
    buf_printf(
        out,
        "The host %s is testing whether the mail server at\r\n%s relays for strangers (postern relaytest).\r\n\r\n"
        "Probe %s, %s:\r\n  MAIL FROM:%s\r\n  RCPT TO:%s\r\n\r\n"
        "Nobody needs to answer this message.\r\n\r\nToken: %s\r\n",
        result->client_name, result->address, id, row->probe->name, outcome->sender, outcome->recipient,
        outcome->token);
}

/* ---- what is answered ---- */

static bool has_word(const struct reply *reply, const char *word)
{
    char text[RELAYTEST_REPLY_BYTES];

    run_copy_text(text, sizeof(text), reply_text(reply));
    return strcasestr(text, word) != NULL;
}

/* A server that wants TLS or a user first says so in many ways; 530 is the one of RFC 3207 and RFC 4954. */
static void note_demands(struct run *run, const struct reply *reply)
{
    bool is_session_tls = run->result->tls[0] != '\0';
    bool is_demand = reply->code == 530 || reply->code == 523 || reply->code == 538;

    if (!is_demand &&
        !(reply->code / 100 == 5 && (has_word(reply, "STARTTLS first") || has_word(reply, "Must issue a STARTTLS"))))
        return;
    if (!is_session_tls && (has_word(reply, "STARTTLS") || has_word(reply, "TLS")))
        run->result->demands_tls = true;
    else if (run->settings->user.length == 0)
        run->result->demands_auth = true;
}

static void set_reply(struct relaytest_outcome *outcome, enum relaytest_stage stage, const struct reply *reply)
{
    outcome->stage = stage;
    outcome->code = reply->code;
    run_copy_text(outcome->reply, sizeof(outcome->reply), reply_text(reply));
}

/* Postfix's "454 4.7.1 Relay access denied", its default since 2.10: temporary only so that a mistake in the configuration bounces nothing. */
static bool is_refusal_for_now(const struct reply *reply)
{
    return reply->has_enhanced && reply->enhanced[1] == 7 && reply->enhanced[2] == 1 && has_word(reply, "relay");
}

enum step {
    STEP_ON,   /* taken: the next command */
    STEP_DONE, /* the verdict stands */
    STEP_LOST, /* the connection is gone */
};

/* What a reply to a step means; `wanted` is the class that goes on. */
static enum step judge(struct run *run, struct relaytest_outcome *outcome, enum relaytest_stage stage,
                       const struct reply *reply, int wanted)
{
    if (!reply)
        return STEP_LOST;
    set_reply(outcome, stage, reply);
    if (reply->code / 100 == wanted)
        return STEP_ON;
    if (reply->code < 400) {
        wire_close(run, WIRE_END_GARBAGE, "the server's reply is out of place: %.*s",
                   STR_ARG(str_take(reply_text(reply), 200)));
        return STEP_LOST;
    }
    note_demands(run, reply);
    outcome->verdict = reply->code < 500 && !is_refusal_for_now(reply) ? RELAYTEST_DEFERRED : RELAYTEST_REFUSED;
    return STEP_DONE;
}

static enum step envelope(struct run *run, struct relaytest_outcome *outcome)
{
    enum step step;

    if (run->is_reset_owed) {
        const struct reply *reply;

        buf_clear(&run->command);
        buf_append_str(&run->command, STR("RSET"));
        reply = wire_ask(run, "RSET", NULL);
        if (reply && reply->code / 100 != 2)
            wire_close(run, WIRE_END_LOST, "the server does not reset: %.*s", STR_ARG(reply_text(reply)));
        if (!run->conn)
            return STEP_LOST;
    }
    run->is_reset_owed = true;
    buf_clear(&run->command);
    buf_printf(&run->command, "MAIL FROM:%s", outcome->sender);
    step = judge(run, outcome, RELAYTEST_STAGE_MAIL, wire_ask(run, "MAIL", NULL), 2);
    if (step != STEP_ON)
        return step;
    buf_clear(&run->command);
    buf_printf(&run->command, "RCPT TO:%s", outcome->recipient);
    return judge(run, outcome, RELAYTEST_STAGE_RCPT, wire_ask(run, "RCPT", NULL), 2);
}

static enum step message(struct run *run, const struct relaytest_row *row, struct relaytest_outcome *outcome)
{
    struct buf content;
    const struct reply *reply = NULL;
    enum step step;

    buf_clear(&run->command);
    buf_append_str(&run->command, STR("DATA"));
    step = judge(run, outcome, RELAYTEST_STAGE_DATA, wire_ask(run, "DATA", NULL), 3);
    if (step != STEP_ON)
        return step;
    buf_init(&content, MESSAGE_BYTES_MAX);
    compose(run, row, outcome, &content);
    wire_tell(run, '*', STR("the message"));
    /* From here on the target may have it, whatever becomes of the connection. */
    outcome->is_accepted = true;
    outcome->accepted_at_ms = loop_now_ms();
    outcome->stage = RELAYTEST_STAGE_MESSAGE;
    if (wire_write(run, buf_str(&content)) && wire_write(run, STR(".\r\n")))
        reply = wire_read(run, "the message", false);
    buf_release(&content);
    step = judge(run, outcome, RELAYTEST_STAGE_MESSAGE, reply, 2);
    if (step == STEP_DONE)
        outcome->is_accepted = false;
    else
        outcome->verdict = RELAYTEST_SILENT;
    if (step == STEP_ON)
        run->is_reset_owed = false;
    return step;
}

static enum step transact(struct run *run, const struct relaytest_row *row, struct relaytest_outcome *outcome)
{
    enum step step = envelope(run, outcome);

    if (step != STEP_ON)
        return step;
    if (run->settings->envelope_only) {
        outcome->verdict = RELAYTEST_UNPROVEN;
        return STEP_DONE;
    }
    step = message(run, row, outcome);
    return step == STEP_ON ? STEP_DONE : step;
}

/* ---- again, if the connection went ---- */

static void set_lost(struct run *run, struct relaytest_outcome *outcome)
{
    outcome->code = 0;
    run_copy_text(outcome->reply, sizeof(outcome->reply), str_from_cstr(run->end_text));
    if (run->end == WIRE_END_CLOSING) {
        outcome->is_accepted = false; /* 421 is an answer, and no yes */
        outcome->verdict = RELAYTEST_DEFERRED;
    } else {
        /* Accepted, perhaps: only what arrives can tell. */
        outcome->verdict = outcome->is_accepted ? RELAYTEST_SILENT : RELAYTEST_UNTESTED;
    }
}

/* Whether the transaction may be begun again. */
static bool take_loss(struct run *run, struct relaytest_outcome *outcome)
{
    set_lost(run, outcome);
    run->failures_in_a_row++;
    switch (run->end) {
    case WIRE_END_GARBAGE:
    case WIRE_END_OVER:
        run_fail(run, "%s", run->end_text);
        return false;
    case WIRE_END_TIMEOUT: /* each costs so much time that a second one in a row ends it all */
        run->failures_in_a_row += RUN_FAILURES_IN_A_ROW_MAX - 3;
        return false;
    case WIRE_END_LOST:
    case WIRE_END_CLOSING:
        return !outcome->is_accepted;
    case WIRE_END_NONE:
        break;
    }
    return false;
}

/* Many servers refuse a sender whose domain does not exist, which says nothing about relaying. */
static void note_refused_sender(struct run *run, const struct relaytest_outcome *outcome, const char *sender)
{
    bool is_demand = run->result->demands_tls || run->result->demands_auth;

    if (outcome->verdict == RELAYTEST_REFUSED && outcome->stage == RELAYTEST_STAGE_MAIL && !is_demand &&
        strcmp(sender, PROBE_EXTERNAL_SENDER) == 0)
        run->result->refuses_external = true;
}

void attempt_run(struct run *run, struct relaytest_row *row, struct relaytest_outcome *outcome, const char *sender)
{
    outcome->verdict = RELAYTEST_UNTESTED;
    for (unsigned tries = 0; tries < RUN_TRIES_MAX && !run->is_over;) {
        if (!wire_open(run)) {
            if (!run->is_over)
                take_loss(run, outcome);
            if (run->end == WIRE_END_TIMEOUT) /* before a word was said: the next connection would not do better */
                run_fail(run, "%s", run->end_text);
            continue;
        }
        prepare(run, row, outcome, sender);
        run->transactions++;
        if (transact(run, row, outcome) != STEP_LOST) {
            run->failures_in_a_row = 0;
            note_refused_sender(run, outcome, sender);
            return;
        }
        tries++;
        if (!take_loss(run, outcome))
            return;
    }
}
