/* SPDX-License-Identifier: Apache-2.0 */
/* The postmaster's hands on the queue. */
#include "base/log.h"
#include "base/mem.h"
#include "control/control_private.h"
#include "os/clock.h"

#include <stdio.h>
#include <string.h>

#define ROUND_TIMEOUT_MS 60000
/* How often long work says that it goes on. */
#define PROGRESS_MS 1000

/* ---- messages as JSON ---- */

static void set_text(json_t *object, const char *key, struct str text)
{
    if (text.length > 0)
        json_object_set_new(object, key, control_json_text(text));
}

static json_t *json_recipient(const struct queue_shown *shown, size_t i)
{
    const struct queue_shown_recipient *recipient = &shown->recipients[i];
    json_t *object = json_object();

    json_object_set_new(object, "address", control_json_text(shown->envelope->recipients[i].address));
    json_object_set_new(object, "state", json_string(queue_state_name(recipient->state)));
    json_object_set_new(object, "attempts", json_integer(recipient->attempts));
    if (recipient->next_attempt_at_ms)
        json_object_set_new(object, "next_attempt", control_json_time(recipient->next_attempt_at_ms));
    set_text(object, "status", recipient->status);
    set_text(object, "reason", recipient->text);
    set_text(object, "remote", recipient->remote);
    set_text(object, "destination", recipient->destination);
    if (recipient->is_delay_told)
        json_object_set_new(object, "delay_told", json_true());
    return object;
}

static void set_origin(json_t *object, const struct envelope *envelope)
{
    set_text(object, "message_id", envelope->message_id);
    set_text(object, "server", envelope->server);
    set_text(object, "client", envelope->client);
    set_text(object, "helo", envelope->helo);
    set_text(object, "user", envelope->user);
    set_text(object, "rule", envelope->rule);
    set_text(object, "rule_at", envelope->rule_at);
    if (envelope->flags & ENVELOPE_REPORT)
        json_object_set_new(object, "report", json_true());
}

json_t *control_json_message(const struct queue_shown *shown, bool is_full)
{
    const struct envelope *envelope = shown->envelope;
    json_t *object = json_object(), *recipients = json_array();
    char id[MESSAGE_ID_TEXT_BYTES];

    json_object_set_new(object, "message", control_json_text(message_id_format(shown->id, id)));
    json_object_set_new(object, "arrived", control_json_time(envelope->arrived_at_ms));
    json_object_set_new(object, "size", json_integer((json_int_t)shown->body_bytes));
    json_object_set_new(object, "sender", control_json_text(envelope->sender));
    if (shown->is_unreadable)
        json_object_set_new(object, "unreadable", json_true());
    if (shown->is_held) {
        json_object_set_new(object, "held", control_json_text(shown->held_text));
        json_object_set_new(object, "held_at", control_json_time(shown->held_at_ms));
        json_object_set_new(object, "quarantined", json_boolean(shown->is_quarantined));
    }
    if (is_full)
        set_origin(object, envelope);
    json_object_set_new(object, "recipient_count", json_integer((json_int_t)shown->recipient_count));
    for (size_t i = 0; i < shown->recipient_count; i++)
        if (is_full || shown->recipients[i].is_match)
            json_array_append_new(recipients, json_recipient(shown, i));
    json_object_set_new(object, "recipients", recipients);
    return object;
}

/* ---- looking ---- */

static bool read_filter(struct control_peer *peer, const json_t *body, struct control_filter *filter)
{
    char fault[CONTROL_FAULT_BYTES];

    if (control_filter_parse(json_object_get(body, "filter"), clock_real_ms(), filter, fault))
        return true;
    control_answer_error(peer, CONTROL_BAD_ARGUMENT, "%s", fault);
    return false;
}

static bool read_after(struct control_peer *peer, const json_t *body, spool_id *after)
{
    const json_t *value = json_object_get(body, "after");

    *after = 0;
    if (!value || json_is_null(value) ||
        (json_is_string(value) && message_id_parse(str_from_cstr(json_string_value(value)), after)))
        return true;
    control_answer_error(peer, CONTROL_BAD_ARGUMENT, "\"after\" is not the id of a message");
    return false;
}

/* Sends what the cursor has, at most `limit`; what a round found goes out before the next is looked for. */
static int64_t send_round(struct control_peer *peer, struct queue_cursor *cursor, int64_t limit, bool is_full)
{
    int64_t sent = 0;

    for (size_t i = 0; i < queue_cursor_count(cursor) && sent < limit; i++) {
        if (!control_answer_item(peer, control_json_message(queue_cursor_get(cursor, i), is_full)))
            return sent;
        sent++;
    }
    control_flush(peer);
    return sent;
}

void control_queue_list(struct control_peer *peer, const struct control_request *request)
{
    static const char *const keys[] = {"filter", "limit", "after", "full", NULL};
    struct control_filter filter;
    struct queue_cursor *cursor;
    enum wait_result result;
    int64_t limit, sent = 0;
    spool_id after;
    json_t *done;

    if (!control_check_keys(peer, request->body, keys) || !read_filter(peer, request->body, &filter) ||
        !control_read_number(peer, request->body, "limit", INT64_MAX, &limit) ||
        !read_after(peer, request->body, &after))
        return;
    cursor = queue_cursor_create(peer->control->options.queue, &filter.filter, after);
    do {
        result = queue_cursor_next(cursor, loop_now_ms() + ROUND_TIMEOUT_MS);
        if (result == WAIT_READY && queue_cursor_count(cursor) > 0)
            sent += send_round(peer, cursor, limit - sent, control_read_flag(request->body, "full"));
    } while (result == WAIT_READY && !peer->is_broken && sent < limit && queue_cursor_count(cursor) > 0);
    queue_cursor_destroy(&cursor);
    if (result != WAIT_READY) {
        control_answer_wait(peer, result);
        return;
    }
    done = json_object();
    json_object_set_new(done, "count", json_integer(sent));
    control_answer_done(peer, done);
}

void control_queue_show(struct control_peer *peer, const struct control_request *request)
{
    static const char *const keys[] = {"message", NULL};
    struct queue_cursor *cursor;
    enum wait_result result;
    spool_id id;

    if (!control_check_keys(peer, request->body, keys) || !control_read_message(peer, request->body, &id))
        return;
    cursor = queue_cursor_create_one(peer->control->options.queue, id);
    result = queue_cursor_next(cursor, loop_now_ms() + ROUND_TIMEOUT_MS);
    if (result != WAIT_READY)
        control_answer_wait(peer, result);
    else if (queue_cursor_count(cursor) == 0)
        control_answer_error(peer, CONTROL_NOT_FOUND, "there is no such message in the queue");
    else
        control_answer_done(peer, control_json_message(queue_cursor_get(cursor, 0), true));
    queue_cursor_destroy(&cursor);
}

/* ---- acting ---- */

static json_t *json_done(const struct queue_done *done)
{
    json_t *object = json_object();

    json_object_set_new(object, "messages", json_integer((json_int_t)done->messages));
    json_object_set_new(object, "recipients", json_integer((json_int_t)done->recipients));
    json_object_set_new(object, "unwritten", json_integer((json_int_t)done->unwritten));
    return object;
}

static enum wait_result act_on_filter(struct control_peer *peer, const struct queue_filter *filter,
                                      const struct queue_order *order, struct queue_done *done)
{
    struct queue_cursor *cursor = queue_cursor_create(peer->control->options.queue, filter, 0);
    enum wait_result result;

    /* A deadline that passes is only an occasion to see whether the client still waits. */
    do
        result = queue_cursor_act(cursor, order, done, loop_now_ms() + PROGRESS_MS);
    while (result == WAIT_TIMEOUT && control_answer_progress(peer, json_done(done)));
    queue_cursor_destroy(&cursor);
    return result;
}

static enum wait_result act_on_message(struct control_peer *peer, spool_id id, const struct queue_order *order,
                                       struct queue_done *done)
{
    return queue_act(peer->control->options.queue, id, order, done, loop_now_ms() + ROUND_TIMEOUT_MS);
}

static bool is_in_queue(struct control_peer *peer, spool_id id)
{
    struct queue_cursor *cursor = queue_cursor_create_one(peer->control->options.queue, id);
    bool result =
        queue_cursor_next(cursor, loop_now_ms() + ROUND_TIMEOUT_MS) == WAIT_READY && queue_cursor_count(cursor) > 0;

    queue_cursor_destroy(&cursor);
    return result;
}

/* One of "message", "filter" and "all": an action that names nothing is an accident. */
static bool check_selection(struct control_peer *peer, const json_t *body)
{
    const json_t *filter = json_object_get(body, "filter");
    const bool has_message = json_object_get(body, "message") != NULL;
    const bool has_filter = json_object_size(filter) > 0;
    const bool is_all = control_read_flag(body, "all");

    if (has_message + has_filter + is_all == 1)
        return true;
    control_answer_error(peer, CONTROL_BAD_ARGUMENT,
                         "say on what: one of \"message\", a \"filter\" with conditions, or \"all\"");
    return false;
}

static void log_order(const struct control_peer *peer, const char *command, const struct queue_done *done)
{
    LOG_INFO("queue-order", log_cstr("what", command), log_cstr("by", peer->who), log_u64("messages", done->messages),
             log_u64("recipients", done->recipients));
}

static void act(struct control_peer *peer, const struct control_request *request, enum queue_action action)
{
    static const char *const keys[] = {"message", "filter", "all", NULL};
    static const char *const keys_of_bounce[] = {"message", "filter", "all", "text", NULL};
    const char *text = json_string_value(json_object_get(request->body, "text"));
    const struct queue_order order = {
        .action = action, .by = str_from_cstr(peer->who), .text = str_from_cstr(text ? text : "")};
    struct queue_done done = {0};
    struct control_filter filter;
    enum wait_result result;
    spool_id id = 0;

    if (!control_check_keys(peer, request->body, action == QUEUE_ACTION_BOUNCE ? keys_of_bounce : keys) ||
        !check_selection(peer, request->body) || !read_filter(peer, request->body, &filter))
        return;
    if (json_object_get(request->body, "message")) {
        if (!control_read_message(peer, request->body, &id))
            return;
        if (!is_in_queue(peer, id)) {
            control_answer_error(peer, CONTROL_NOT_FOUND, "there is no such message in the queue");
            return;
        }
        result = act_on_message(peer, id, &order, &done);
    } else {
        result = act_on_filter(peer, &filter.filter, &order, &done);
    }
    log_order(peer, request->command, &done);
    if (result == WAIT_READY)
        control_answer_done(peer, json_done(&done));
    else
        control_answer_wait(peer, result);
}

void control_queue_hold(struct control_peer *peer, const struct control_request *request)
{
    act(peer, request, QUEUE_ACTION_HOLD);
}

void control_queue_release(struct control_peer *peer, const struct control_request *request)
{
    act(peer, request, QUEUE_ACTION_RELEASE);
}

void control_queue_retry(struct control_peer *peer, const struct control_request *request)
{
    act(peer, request, QUEUE_ACTION_RETRY);
}

void control_queue_delete(struct control_peer *peer, const struct control_request *request)
{
    act(peer, request, QUEUE_ACTION_DELETE);
}

void control_queue_bounce(struct control_peer *peer, const struct control_request *request)
{
    act(peer, request, QUEUE_ACTION_BOUNCE);
}
