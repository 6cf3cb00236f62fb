/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postern track and why: what became of messages. Asked of the daemon; where none answers, the tracking log's files are read here, if this user may.
 */
#include "cmd/daemon_tool.h"

#include "base/mem.h"
#include "cmd/track_text.h"
#include "config/value.h"
#include "control/tracking_search.h"
#include "os/clock.h"

#include <stdlib.h>
#include <string.h>

#define FOUND_BYTES_MAX (TRACKING_SEARCH_FOUND_BYTES + (2u << 20))

/* ---- times ---- */

/* A duration back from now, a date, or a date and a time, in UTC. false: it was said what is wrong. */
static bool read_time(const char *name, const char *text, int64_t *at_ms)
{
    struct error error;
    char *whole;
    uint64_t back_ms;

    *at_ms = 0;
    if (!text)
        return true;
    if (value_duration(str_from_cstr(text), &back_ms, &error) == 0) {
        *at_ms = clock_real_ms() - (int64_t)back_ms;
        return true;
    }
    whole = mem_printf("%s%s", text, strchr(text, 'T') ? "" : "T00:00:00");
    *at_ms = daemon_parse_time(whole);
    free(whole);
    if (*at_ms > 0)
        return true;
    tool_usage("--%s: wants 2026-11-21, 2026-11-21T10:00:00 (UTC), or how long ago, like 4h, not \"%s\"", name, text);
    return false;
}

/* ---- without a daemon ---- */

static bool read_kinds(const struct daemon_options *options, unsigned *kinds)
{
    struct str rest = str_from_cstr(options->event);

    while (options->event && rest.data) {
        struct str name = str_trim(str_split(&rest, ','));
        enum mail_event_kind kind;

        if (!mail_event_parse(name, &kind)) {
            tool_usage("--event: there is no event \"%.*s\"", STR_ARG(name));
            return false;
        }
        *kinds |= 1u << kind;
    }
    return true;
}

/* Hands on what stands in `found`. false: no more is wanted. */
static bool hand_lines(struct str found, uint64_t *limit, daemon_item_fn *item, void *context)
{
    while (found.length > 0 && *limit > 0) {
        struct str line = str_split(&found, '\n');
        json_t *value = json_loadb(line.data, line.length, 0, NULL);
        bool goes_on = item(context, value);

        json_decref(value);
        --*limit;
        if (!goes_on)
            return false;
    }
    return *limit > 0;
}

static enum exit_code search_files(const struct daemon_options *options, const struct tracking_filter *filter,
                                   uint64_t limit, daemon_item_fn *item, void *context)
{
    struct config_places places = {0};
    struct tracking_search *search = NULL;
    char *directory;
    struct buf found;
    int result;

    if (!daemon_places(options, &places))
        return EXIT_COULD_NOT;
    buf_init(&found, FOUND_BYTES_MAX);
    directory = mem_printf("%s/tracking", places.data_dir);
    result = tracking_search_create(&search, vfs_system(), directory, filter);
    if (result == 0)
        result = 1;
    while (result > 0) {
        buf_clear(&found);
        result = tracking_search_next(search, &found);
        if (result >= 0 && !hand_lines(buf_str(&found), &limit, item, context))
            break;
    }
    if (result < 0)
        fprintf(stderr, "postern: no daemon answers, and %s can't be read: %s\n", directory, strerrordesc_np(-result));
    tracking_search_destroy(&search);
    buf_release(&found);
    free(directory);
    config_places_release(&places);
    return result < 0 ? EXIT_COULD_NOT : EXIT_DONE;
}

/* ---- track ---- */

struct tracked {
    bool json;
    uint64_t count;
};

static bool take_event(void *context, json_t *item)
{
    struct tracked *tracked = context;

    tracked->count++;
    if (tracked->json)
        tool_print_json(json_incref(item));
    else
        track_text_print_event(item);
    return fflush(stdout) == 0;
}

static void set_text(json_t *object, const char *key, const char *text)
{
    if (text)
        json_object_set_new(object, key, tool_json_text(str_from_cstr(text)));
}

static json_t *make_request(const struct daemon_options *options, const struct tracking_filter *filter, uint64_t limit)
{
    json_t *request = json_object();

    json_object_set_new(request, "command", json_string("track"));
    set_text(request, "message", options->id);
    set_text(request, "sender", options->sender);
    set_text(request, "recipient", options->recipient);
    if (options->event)
        json_object_set_new(request, "events", daemon_split(options->event));
    if (filter->since_at_ms)
        json_object_set_new(request, "since_at_ms", json_integer(filter->since_at_ms));
    if (filter->until_at_ms)
        json_object_set_new(request, "until_at_ms", json_integer(filter->until_at_ms));
    if (limit < INT64_MAX)
        json_object_set_new(request, "limit", json_integer((json_int_t)limit));
    return request;
}

static bool read_options(const struct daemon_options *options, struct tracking_filter *filter, uint64_t *limit)
{
    *filter = (struct tracking_filter){.sender = str_from_cstr(options->sender),
                                       .recipient = str_from_cstr(options->recipient)};
    *limit = INT64_MAX;
    if (options->id && !message_id_parse(str_from_cstr(options->id), &filter->id)) {
        tool_usage("--id: \"%s\" is not the id of a message", options->id);
        return false;
    }
    if (options->limit && (!str_to_u64(str_from_cstr(options->limit), limit) || *limit == 0 || *limit > INT64_MAX)) {
        tool_usage("--limit: wants a number, not \"%s\"", options->limit);
        return false;
    }
    return read_kinds(options, &filter->kinds) && read_time("since", options->since, &filter->since_at_ms) &&
           read_time("until", options->until, &filter->until_at_ms);
}

enum exit_code daemon_tool_track(const struct daemon_options *options, char *const *arguments)
{
    struct tracked tracked = {.json = options->json};
    struct tracking_filter filter;
    bool is_absent = true;
    enum exit_code code;
    uint64_t limit;

    (void)arguments;
    if (!read_options(options, &filter, &limit))
        return EXIT_USAGE;
    code = daemon_try(options, make_request(options, &filter, limit), take_event, &tracked, NULL, &is_absent);
    if (is_absent)
        code = search_files(options, &filter, limit, take_event, &tracked);
    if (code == EXIT_DONE && tracked.count == 0)
        return EXIT_NO;
    return code;
}

/* ---- why ---- */

struct known {
    json_t *queued; /* NULL: it is not in the queue, or nobody could ask it */
    json_t *events;
};

/* From the daemon: {"queued": ...}, or an event; from the files events alone. */
static bool take_known(void *context, json_t *item)
{
    struct known *known = context;
    json_t *queued = json_object_get(item, "queued");

    if (queued)
        known->queued = json_incref(queued);
    else
        json_array_append(known->events, item);
    return true;
}

static enum exit_code print_known(const struct daemon_options *options, const struct known *known, const char *id)
{
    if (!known->queued && json_array_size(known->events) == 0) {
        fprintf(stderr, "postern: nothing is known of %s\n", id);
        return EXIT_NO;
    }
    if (options->json)
        tool_print_json(json_pack("{s:O?, s:O}", "queued", known->queued, "events", known->events));
    else
        track_text_print_story(id, known->queued, known->events);
    return EXIT_DONE;
}

enum exit_code daemon_tool_why(const struct daemon_options *options, char *const *arguments)
{
    struct known known = {.events = json_array()};
    struct tracking_filter filter = {.id = 0};
    bool is_absent = true;
    enum exit_code code;

    if (!message_id_parse(str_from_cstr(arguments[0]), &filter.id)) {
        json_decref(known.events);
        return tool_usage("\"%s\" is not the id of a message", arguments[0]);
    }
    code = daemon_try(options, json_pack("{s:s, s:s}", "command", "why", "message", arguments[0]), take_known, &known,
                      NULL, &is_absent);
    if (is_absent) {
        code = search_files(options, &filter, UINT64_MAX, take_known, &known);
        if (code == EXIT_DONE)
            fprintf(stderr, "postern: no daemon answers; this is from the tracking log alone\n");
    }
    if (code == EXIT_DONE)
        code = print_known(options, &known, arguments[0]);
    json_decref(known.queued);
    json_decref(known.events);
    return code;
}
