/* SPDX-License-Identifier: Apache-2.0 */
#include "control/tracking.h"

#include "base/log.h"
#include "base/mem.h"
#include "control/daily.h"
#include "os/clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define FIELDS_MAX       32
#define RULE_AT_BYTES    1024
#define FLUSH_TIMEOUT_MS 1000

struct tracking {
    struct daily *daily;
    struct mail_event_sink sink;
    atomic_bool is_on, has_refusals;
};

/* One line while its fields are gathered; what is empty is left out. */
struct record {
    struct log_field fields[FIELDS_MAX];
    size_t count;
};

static void add(struct record *record, struct log_field field)
{
    if (record->count < FIELDS_MAX)
        record->fields[record->count++] = field;
}

static void add_text(struct record *record, const char *name, struct str text)
{
    if (text.length > 0)
        add(record, log_str(name, text));
}

static void add_cstr(struct record *record, const char *name, const char *text)
{
    if (text)
        add_text(record, name, str_from_cstr(text));
}

static void add_number(struct record *record, const char *name, uint64_t number)
{
    if (number > 0)
        add(record, log_u64(name, number));
}

/* A client that was refused at connection has named no sender; whoever else has none sends from the null one. */
static bool has_sender(const struct mail_event *event)
{
    return event->kind != MAIL_EVENT_REFUSED || !event->stage || strcmp(event->stage, "connect") != 0;
}

static void add_envelope(struct record *record, const struct mail_event *event)
{
    const struct envelope *envelope = event->envelope;

    if (has_sender(event))
        add_text(record, "sender", envelope->sender.length > 0 ? envelope->sender : STR("<>"));
    if (event->recipient < envelope->recipient_count)
        add_text(record, "recipient", envelope->recipients[event->recipient].address);
    add_text(record, "server", envelope->server);
    add_text(record, "client", envelope->client);
    add_text(record, "client_name", event->client_name);
    add_text(record, "helo", envelope->helo);
    add_text(record, "user", envelope->user);
    add_text(record, "message_id", envelope->message_id);
    add_number(record, "recipients", envelope->recipient_count);
}

static void add_rule(struct record *record, const struct mail_event *event, char at[RULE_AT_BYTES])
{
    struct str rule = event->rule;

    at[0] = '\0';
    if (event->rule_file)
        snprintf(at, RULE_AT_BYTES, "%s:%u", event->rule_file, event->rule_line);
    add_text(record, "rule", rule);
    add_cstr(record, "rule_at", at);
}

/* Times of the future, as the log writes its own. */
static void add_time(struct record *record, const char *name, int64_t at_ms, char text[32])
{
    const time_t seconds = (time_t)(at_ms / 1000);
    struct tm tm;

    if (at_ms <= 0 || !gmtime_r(&seconds, &tm) || strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        return;
    add_cstr(record, name, text);
}

static void add_outcome(struct record *record, const struct mail_event *event, int64_t now_ms)
{
    const bool is_attempt = event->kind == MAIL_EVENT_DELIVERED || event->kind == MAIL_EVENT_DEFERRED ||
                            event->kind == MAIL_EVENT_FAILED || event->kind == MAIL_EVENT_EXPIRED;

    add_cstr(record, "stage", event->stage);
    add_number(record, "code", (uint64_t)event->code);
    add_cstr(record, "report", event->report);
    add_cstr(record, "status", event->status);
    add_text(record, "reply", event->reply);
    add_cstr(record, "remote", event->remote);
    add_cstr(record, "by", event->by);
    add_number(record, "attempts", event->attempts);
    if (is_attempt && event->envelope && now_ms >= event->envelope->arrived_at_ms)
        add(record, log_i64("latency_ms", now_ms - event->envelope->arrived_at_ms));
}

static void tell(void *context, const struct mail_event *event)
{
    /* Not on the stack: fibers have little of it, and none switches in here. */
    static _Thread_local char line[LOG_LINE_BYTES_MAX], rule_at[RULE_AT_BYTES];
    struct tracking *tracking = context;
    const int64_t now_ms = clock_real_ms();
    char id[MESSAGE_ID_TEXT_BYTES], other[MESSAGE_ID_TEXT_BYTES], next[32];
    struct record record = {.count = 0};
    size_t length;

    if (!atomic_load_explicit(&tracking->is_on, memory_order_relaxed) ||
        (event->kind == MAIL_EVENT_REFUSED && !atomic_load_explicit(&tracking->has_refusals, memory_order_relaxed)))
        return;
    if (event->id)
        add_text(&record, "id", message_id_format(event->id, id));
    if (event->other)
        add_text(&record, "other", message_id_format(event->other, other));
    if (event->envelope)
        add_envelope(&record, event);
    add_number(&record, "size", event->size_bytes);
    add_rule(&record, event, rule_at);
    add_outcome(&record, event, now_ms);
    add_time(&record, "next_attempt", event->next_attempt_at_ms, next);
    length = log_format_record(line, sizeof(line), now_ms, mail_event_name(event->kind), record.fields, record.count);
    daily_write(tracking->daily, str_make(line, length), now_ms);
}

struct tracking *tracking_create(const struct vfs *vfs, const char *data_directory)
{
    struct tracking *tracking = mem_alloc(sizeof(*tracking));
    char *directory = mem_printf("%s/%s", data_directory, TRACKING_DIRECTORY);
    const struct daily_options options = {
        .vfs = vfs, .directory = directory, .what = "tracking", .names = DAILY_NAMES_ISO};

    tracking->daily = daily_create(&options);
    tracking->sink = (struct mail_event_sink){.context = tracking, .tell = tell};
    free(directory);
    return tracking;
}

int tracking_configure(struct tracking *tracking, const struct config_tracking *config, struct error *error)
{
    const struct daily_settings settings = {.keep_ms = config->keep_ms, .bytes_max = config->bytes_max};

    if (config->enabled && daily_enable(tracking->daily, &settings, error) != 0)
        return -1;
    atomic_store(&tracking->has_refusals, config->refusals);
    atomic_store(&tracking->is_on, config->enabled);
    return 0;
}

void tracking_destroy(struct tracking **pointer)
{
    struct tracking *tracking = *pointer;

    *pointer = NULL;
    if (!tracking)
        return;
    daily_destroy(&tracking->daily);
    free(tracking);
}

const struct mail_event_sink *tracking_sink(struct tracking *tracking)
{
    return &tracking->sink;
}

void tracking_flush(struct tracking *tracking)
{
    daily_flush(tracking->daily, FLUSH_TIMEOUT_MS);
}

void tracking_get_statistics(struct tracking *tracking, struct tracking_statistics *statistics)
{
    statistics->written = daily_written(tracking->daily);
    statistics->lost = daily_lost(tracking->daily);
}
