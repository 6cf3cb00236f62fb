/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about the daemon as a whole, and what all commands share. */
#include "base/mem.h"
#include "control/control_private.h"
#include "os/clock.h"

#include <unistd.h>

#define RELOAD_TIMEOUT_MS 120000
/* How often a drain that is waited for says how far it is. */
#define DRAIN_LOOK_MS    200
#define DRAIN_SAY_MS     1000
#define DOWN_MAX         QUEUE_ROUND_MESSAGES
#define QUEUE_TIMEOUT_MS 30000

/* ---- arguments ---- */

bool control_check_keys(struct control_peer *peer, const json_t *body, const char *const *keys)
{
    const char *culprit;

    if (control_request_has_only(body, keys, &culprit))
        return true;
    control_answer_error(peer, CONTROL_BAD_ARGUMENT, "this command has no \"%.80s\"", culprit);
    return false;
}

bool control_read_number(struct control_peer *peer, const json_t *body, const char *key, int64_t fallback,
                         int64_t *number)
{
    const json_t *value = json_object_get(body, key);

    *number = fallback;
    if (!value || json_is_null(value))
        return true;
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        control_answer_error(peer, CONTROL_BAD_ARGUMENT, "%s is not a number", key);
        return false;
    }
    *number = json_integer_value(value);
    return true;
}

bool control_read_flag(const json_t *body, const char *key)
{
    return json_is_true(json_object_get(body, key));
}

bool control_read_message(struct control_peer *peer, const json_t *body, spool_id *id)
{
    const char *text = json_string_value(json_object_get(body, "message"));

    if (text && message_id_parse(str_from_cstr(text), id))
        return true;
    control_answer_error(peer, CONTROL_BAD_ARGUMENT, "\"message\" is not the id of a message");
    return false;
}

void control_answer_wait(struct control_peer *peer, enum wait_result result)
{
    if (result == WAIT_CANCELLED)
        control_answer_error(peer, CONTROL_STOPPING, "the daemon is stopping");
    else
        control_answer_error(peer, CONTROL_TIMEOUT, "the queue does not answer");
}

void control_ping(struct control_peer *peer, const struct control_request *request)
{
    static const char *const keys[] = {NULL};

    if (control_check_keys(peer, request->body, keys))
        control_answer_done(peer, json_object());
}

/* ---- status ---- */

static void set_count(json_t *object, const char *key, uint64_t count)
{
    json_object_set_new(object, key, json_integer((json_int_t)count));
}

static json_t *json_queue(const struct control *control)
{
    struct queue_statistics s;
    json_t *object = json_object();

    queue_get_statistics(control->options.queue, &s);
    set_count(object, "messages", s.messages);
    set_count(object, "messages_held", s.messages_held);
    set_count(object, "recipients_waiting", s.recipients_waiting);
    set_count(object, "recipients_ready", s.recipients_ready);
    set_count(object, "recipients_taken", s.recipients_taken);
    set_count(object, "envelopes_in_memory", s.envelopes_in_memory);
    set_count(object, "destinations", s.destinations);
    set_count(object, "workers", s.workers);
    return object;
}

static json_t *json_delivery(const struct control *control)
{
    struct queue_statistics s;
    struct delivery_statistics d;
    json_t *object = json_object();

    queue_get_statistics(control->options.queue, &s);
    delivery_get_statistics(control->options.delivery, &d);
    set_count(object, "delivered", s.delivered);
    set_count(object, "deferred", s.deferred);
    set_count(object, "failed", s.failed);
    set_count(object, "expired", s.expired);
    set_count(object, "deleted", s.deleted);
    set_count(object, "reports", d.reports);
    set_count(object, "reports_waiting", d.reports_waiting);
    set_count(object, "reports_suppressed", d.reports_suppressed);
    set_count(object, "badmail", d.badmail);
    return object;
}

static json_t *json_spool(const struct control *control)
{
    struct spool_statistics s;
    json_t *object = json_object();

    spool_get_statistics(control->options.spool, &s);
    set_count(object, "live_messages", s.live_messages);
    set_count(object, "segments", s.segments);
    set_count(object, "segments_free", s.segments_free);
    set_count(object, "bytes_on_disk", s.bytes_on_disk);
    set_count(object, "syncs", s.syncs);
    set_count(object, "frames", s.frames);
    set_count(object, "write_errors", s.write_errors);
    json_object_set_new(object, "full", json_boolean(spool_is_full(control->options.spool, 0)));
    return object;
}

static json_t *json_directory(const struct control *control)
{
    struct runtime *runtime = service_runtime(control->options.service);
    struct directory_statistics s;
    json_t *object = json_null();

    if (runtime->directory) {
        directory_get_statistics(runtime->directory, &s);
        object = json_object();
        set_count(object, "lookups", s.lookups);
        set_count(object, "cache_hits", s.cache_hits);
        set_count(object, "unavailable", s.unavailable);
    }
    runtime_release(&runtime);
    return object;
}

static json_t *json_sessions(const struct control *control)
{
    struct service_statistics s;
    json_t *object = json_object();

    service_get_statistics(control->options.service, &s);
    set_count(object, "now", s.sessions);
    set_count(object, "accepted", s.accepted);
    set_count(object, "turned_away", s.turned_away);
    return object;
}

static json_t *json_tracking(const struct control *control)
{
    struct tracking_statistics s;
    json_t *object = json_object();

    tracking_get_statistics(control->options.tracking, &s);
    set_count(object, "written", s.written);
    set_count(object, "lost", s.lost);
    return object;
}

/* With the mutex held. */
static json_t *json_report(const struct control_report *report)
{
    json_t *object;

    if (report->at_ms == 0)
        return json_null();
    object = json_object();
    json_object_set_new(object, "at", control_json_time(report->at_ms));
    json_object_set_new(object, "done", json_boolean(report->is_done));
    json_object_set_new(object, "reason",
                        report->reason ? control_json_text(str_from_cstr(report->reason)) : json_null());
    return object;
}

static json_t *json_destination(const struct queue_shown_destination *d)
{
    json_t *object = json_object();

    json_object_set_new(object, "destination", control_json_text(str_from_cstr(d->name)));
    set_count(object, "ready", d->ready);
    set_count(object, "waiting", d->waiting);
    set_count(object, "taken", d->taken);
    set_count(object, "workers", d->workers);
    set_count(object, "idle", d->idle);
    set_count(object, "connected", d->connected);
    set_count(object, "limit", d->limit);
    set_count(object, "limit_max", d->limit_max);
    set_count(object, "failures", d->failures);
    json_object_set_new(object, "down_until", control_json_time(d->backed_off_until_at_ms));
    json_object_set_new(object, "status", control_json_text(str_from_cstr(d->last.status)));
    json_object_set_new(object, "reason", control_json_text(str_from_cstr(d->last.text)));
    json_object_set_new(object, "remote", control_json_text(str_from_cstr(d->last.remote)));
    return object;
}

/* Calls `take` for each until it says no. */
static enum wait_result for_destinations(struct control_peer *peer, bool (*take)(void *context, json_t *destination),
                                         void *context, bool only_down)
{
    struct queue_shown_destination *list = mem_alloc_array(DOWN_MAX, sizeof(*list));
    enum wait_result result;
    size_t position = 0, count = 0;
    bool goes_on = true;

    do {
        result = queue_list_destinations(peer->control->options.queue, &position, list, DOWN_MAX, &count,
                                         loop_now_ms() + QUEUE_TIMEOUT_MS);
        for (size_t i = 0; result == WAIT_READY && goes_on && i < count; i++)
            if (!only_down || list[i].backed_off_until_at_ms > 0)
                goes_on = take(context, json_destination(&list[i]));
    } while (result == WAIT_READY && goes_on && count > 0);
    free(list);
    return result;
}

static bool add_to_list(void *context, json_t *destination)
{
    json_array_append_new(context, destination);
    return json_array_size(context) < DOWN_MAX;
}

static json_t *describe_daemon(struct control *control)
{
    const struct config *config = service_config(control->options.service);
    const int64_t now_ms = clock_real_ms();
    json_t *object = json_object();

    json_object_set_new(object, "version", json_string(POSTERN_VERSION));
    json_object_set_new(object, "hostname", control_json_text(config->hostname));
    set_count(object, "pid", (uint64_t)getpid());
    json_object_set_new(object, "started", control_json_time(control->started_at_ms));
    json_object_set_new(object, "uptime_s", json_integer((now_ms - control->started_at_ms) / 1000));
    json_object_set_new(object, "configuration", control_json_text(str_from_cstr(control->options.config_path)));
    json_object_set_new(object, "draining", json_boolean(atomic_load(&control->is_draining)));
    pthread_mutex_lock(&control->mutex);
    json_object_set_new(object, "listening",
                        control_json_text(str_from_cstr(control->addresses ? control->addresses : "")));
    json_object_set_new(object, "last_reload", json_report(&control->report));
    pthread_mutex_unlock(&control->mutex);
    config_release(&config);
    return object;
}

void control_status(struct control_peer *peer, const struct control_request *request)
{
    static const char *const keys[] = {NULL};
    struct control *control = peer->control;
    json_t *object, *down;
    enum wait_result result;

    if (!control_check_keys(peer, request->body, keys))
        return;
    down = json_array();
    result = for_destinations(peer, add_to_list, down, true);
    if (result != WAIT_READY) {
        json_decref(down);
        control_answer_wait(peer, result);
        return;
    }
    object = describe_daemon(control);
    json_object_set_new(object, "sessions", json_sessions(control));
    json_object_set_new(object, "queue", json_queue(control));
    json_object_set_new(object, "destinations_down", down);
    json_object_set_new(object, "delivery", json_delivery(control));
    json_object_set_new(object, "spool", json_spool(control));
    json_object_set_new(object, "directory", json_directory(control));
    json_object_set_new(object, "tracking", json_tracking(control));
    control_answer_done(peer, object);
}

static bool answer_destination(void *context, json_t *destination)
{
    return control_answer_item(context, destination);
}

void control_queue_destinations(struct control_peer *peer, const struct control_request *request)
{
    static const char *const keys[] = {NULL};
    enum wait_result result;

    if (!control_check_keys(peer, request->body, keys))
        return;
    result = for_destinations(peer, answer_destination, peer, false);
    if (result == WAIT_READY)
        control_answer_done(peer, json_object());
    else
        control_answer_wait(peer, result);
}

/* ---- reload ---- */

/* Whether a reload that began after our wish has come to its end. */
static bool is_reloaded(struct control *control, uint64_t ticket)
{
    bool result;

    pthread_mutex_lock(&control->mutex);
    result = control->report.at_ms != 0 && control->report.ticket >= ticket;
    pthread_mutex_unlock(&control->mutex);
    return result;
}

static void answer_report(struct control_peer *peer)
{
    struct control *control = peer->control;
    json_t *messages;
    bool is_done;
    char *reason;

    pthread_mutex_lock(&control->mutex);
    messages = json_deep_copy(control->report.messages);
    is_done = control->report.is_done;
    reason = mem_copy_str(str_from_cstr(control->report.reason));
    pthread_mutex_unlock(&control->mutex);
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (!control_answer_item(peer, json_incref(json_array_get(messages, i))))
            break;
    if (is_done)
        control_answer_done(peer, json_object());
    else
        control_answer_error(peer, CONTROL_REFUSED, "%s", reason);
    json_decref(messages);
    free(reason);
}

void control_reload(struct control_peer *peer, const struct control_request *request)
{
    static const char *const keys[] = {NULL};
    struct control *control = peer->control;
    const uint64_t deadline_ms = loop_now_ms() + RELOAD_TIMEOUT_MS;
    enum wait_result result = WAIT_READY;
    uint64_t ticket;

    if (!control_check_keys(peer, request->body, keys))
        return;
    ticket = atomic_fetch_add(&control->reload_tickets, 1) + 1;
    control->options.ask(control->options.context, CONTROL_WISH_RELOAD);
    while (result == WAIT_READY && !is_reloaded(control, ticket))
        result = fiber_wait(deadline_ms);
    if (is_reloaded(control, ticket))
        answer_report(peer);
    else if (result == WAIT_CANCELLED)
        control_answer_error(peer, CONTROL_STOPPING, "the daemon is stopping");
    else
        control_answer_error(peer, CONTROL_TIMEOUT, "the reload takes too long; the log will tell what came of it");
}

/* ---- drain ---- */

struct remains {
    uint64_t sessions, messages, held;
};

static struct remains look_at_remains(const struct control *control)
{
    struct service_statistics service;
    struct queue_statistics queue;

    /* In this order: what a session had when it was counted is in the queue when that is. */
    service_get_statistics(control->options.service, &service);
    queue_get_statistics(control->options.queue, &queue);
    return (struct remains){service.sessions, queue.messages, queue.messages_held};
}

static bool is_drained(const struct remains *remains)
{
    return remains->sessions == 0 && remains->messages <= remains->held;
}

static json_t *json_remains(const struct remains *remains)
{
    json_t *object = json_object();

    set_count(object, "sessions", remains->sessions);
    set_count(object, "messages", remains->messages);
    set_count(object, "messages_held", remains->held);
    json_object_set_new(object, "drained", json_boolean(is_drained(remains)));
    return object;
}

static enum wait_result wait_until(uint64_t deadline_ms)
{
    enum wait_result result;

    do
        result = fiber_wait(deadline_ms);
    while (result == WAIT_READY);
    return result;
}

/* Until nothing is left, or the client is gone; says how much is left each second. */
static enum wait_result wait_for_drain(struct control_peer *peer)
{
    enum wait_result result = WAIT_TIMEOUT;
    struct remains remains = look_at_remains(peer->control);
    uint64_t say_at_ms = loop_now_ms();

    while (result == WAIT_TIMEOUT && !peer->is_broken && !is_drained(&remains)) {
        if (loop_now_ms() >= say_at_ms) {
            control_answer_progress(peer, json_remains(&remains));
            say_at_ms = loop_now_ms() + DRAIN_SAY_MS;
        }
        result = wait_until(loop_now_ms() + DRAIN_LOOK_MS);
        remains = look_at_remains(peer->control);
    }
    return result;
}

void control_drain(struct control_peer *peer, const struct control_request *request)
{
    static const char *const keys[] = {"wait", NULL};
    struct control *control = peer->control;
    const uint64_t deadline_ms = loop_now_ms() + RELOAD_TIMEOUT_MS;
    enum wait_result result = WAIT_READY;
    struct remains remains;

    if (!control_check_keys(peer, request->body, keys))
        return;
    control->options.ask(control->options.context, CONTROL_WISH_DRAIN);
    while (result == WAIT_READY && !atomic_load(&control->is_draining))
        result = fiber_wait(deadline_ms);
    if (result == WAIT_READY && control_read_flag(request->body, "wait"))
        result = wait_for_drain(peer);
    if (result == WAIT_CANCELLED) {
        control_answer_error(peer, CONTROL_STOPPING, "the daemon is stopping");
        return;
    }
    remains = look_at_remains(control);
    control_answer_done(peer, json_remains(&remains));
}
