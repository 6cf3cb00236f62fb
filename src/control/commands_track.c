/* SPDX-License-Identifier: Apache-2.0 */
/* What became of messages: searches of the tracking log, a step at a time on a worker thread, as fast as the client reads. */
#include "base/mem.h"
#include "control/control_private.h"
#include "control/tracking_search.h"
#include "os/vfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STEP_TIMEOUT_MS 60000
#define PROGRESS_MS     1000
#define FOUND_BYTES_MAX (TRACKING_SEARCH_FOUND_BYTES + (2u << 20))

/* The thread's while it runs. */
struct search_job {
    struct worker_job job;
    struct tracking *tracking;
    char *directory;
    struct tracking_filter filter;
    char *sender, *recipient;
    struct tracking_search *search; /* NULL before the first step */
    struct buf found;
    int result;
};

static void step_run(struct worker_job *job)
{
    struct search_job *step = LIST_ENTRY(job, struct search_job, job);

    buf_clear(&step->found);
    if (!step->search) {
        tracking_flush(step->tracking);
        step->result = tracking_search_create(&step->search, vfs_system(), step->directory, &step->filter);
        if (step->result != 0)
            return;
    }
    step->result = tracking_search_next(step->search, &step->found);
}

static void step_destroy(struct worker_job *job)
{
    struct search_job *step = LIST_ENTRY(job, struct search_job, job);

    tracking_search_destroy(&step->search);
    buf_release(&step->found);
    free(step->directory);
    free(step->sender);
    free(step->recipient);
    free(step);
}

static struct search_job *job_create(struct control *control, const struct tracking_filter *filter)
{
    struct search_job *step = mem_alloc(sizeof(*step));

    worker_job_init(&step->job, step_run, step_destroy);
    step->tracking = control->options.tracking;
    step->directory = mem_printf("%s/%s", control->options.data_directory, TRACKING_DIRECTORY);
    step->filter = *filter;
    step->sender = mem_copy_str(filter->sender);
    step->recipient = mem_copy_str(filter->recipient);
    step->filter.sender = str_make(step->sender, filter->sender.length);
    step->filter.recipient = str_make(step->recipient, filter->recipient.length);
    buf_init(&step->found, FOUND_BYTES_MAX);
    return step;
}

/* The next step's job: what the last one holds goes over to it, since a job runs once. */
static struct search_job *job_follow(struct search_job *before, struct control *control)
{
    struct search_job *step = job_create(control, &before->filter);

    step->search = before->search;
    before->search = NULL;
    return step;
}

static bool send_lines(struct control_peer *peer, struct str found, int64_t limit, int64_t *sent)
{
    while (found.length > 0 && *sent < limit) {
        if (!control_answer_item_text(peer, str_split(&found, '\n')))
            return false;
        ++*sent;
    }
    return control_flush(peer);
}

/* 0: done. 1: an error was answered, or the client is gone. */
static int search(struct control_peer *peer, const struct tracking_filter *filter, int64_t limit, int64_t *sent)
{
    struct search_job *step = job_create(peer->control, filter);
    uint64_t say_at_ms = loop_now_ms() + PROGRESS_MS;
    int result = 1;

    *sent = 0;
    for (;;) {
        enum wait_result wait = worker_run(peer->control->options.pool, &step->job, loop_now_ms() + STEP_TIMEOUT_MS);
        struct search_job *next;

        if (wait != WAIT_READY) {
            control_answer_error(peer, wait == WAIT_CANCELLED ? CONTROL_STOPPING : CONTROL_TIMEOUT,
                                 wait == WAIT_CANCELLED ? "the daemon is stopping" : "the disk does not answer");
            break;
        }
        if (step->result < 0) {
            control_answer_error(peer, CONTROL_FAILED, "the tracking log can't be read: %s",
                                 strerrordesc_np(-step->result));
            break;
        }
        if (step->found.length > 0)
            say_at_ms = loop_now_ms() + PROGRESS_MS;
        if (!send_lines(peer, buf_str(&step->found), limit, sent))
            break;
        if (step->result == 0 || *sent >= limit) {
            result = 0;
            break;
        }
        if (loop_now_ms() >= say_at_ms) {
            if (!control_answer_progress(peer, json_object()))
                break;
            say_at_ms = loop_now_ms() + PROGRESS_MS;
        }
        next = job_follow(step, peer->control);
        worker_job_release(&step->job);
        step = next;
    }
    worker_job_release(&step->job);
    return result;
}

/* Not too many at a time: they take turns on the disk's threads. */
static int search_bounded(struct control_peer *peer, const struct tracking_filter *filter, int64_t limit, int64_t *sent)
{
    struct control *control = peer->control;
    int result;

    if (control->search_count >= CONTROL_SEARCHES_MAX) {
        control_answer_error(peer, CONTROL_BUSY, "too many searches are under way, try again later");
        return 1;
    }
    control->search_count++;
    result = search(peer, filter, limit, sent);
    control->search_count--;
    return result;
}

/* ---- arguments ---- */

static bool read_text(struct control_peer *peer, const json_t *body, const char *key, struct str *text)
{
    const json_t *value = json_object_get(body, key);

    if (!value || json_is_null(value))
        return true;
    if (!json_is_string(value) || json_string_length(value) == 0) {
        control_answer_error(peer, CONTROL_BAD_ARGUMENT, "\"%s\" is not a text that can be looked for", key);
        return false;
    }
    *text = str_make(json_string_value(value), json_string_length(value));
    return true;
}

static bool read_kinds(struct control_peer *peer, const json_t *body, unsigned *kinds)
{
    const json_t *list = json_object_get(body, "events");
    enum mail_event_kind kind;

    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));

        if (!name || !mail_event_parse(str_from_cstr(name), &kind)) {
            control_answer_error(peer, CONTROL_BAD_ARGUMENT, "there is no event \"%.80s\"", name ? name : "");
            return false;
        }
        *kinds |= 1u << kind;
    }
    return true;
}

static void answer_count(struct control_peer *peer, int64_t count)
{
    json_t *done = json_object();

    json_object_set_new(done, "count", json_integer(count));
    control_answer_done(peer, done);
}

void control_track(struct control_peer *peer, const struct control_request *request)
{
    static const char *const keys[] = {"message", "sender",      "recipient",   "events",
                                       "limit",   "since_at_ms", "until_at_ms", NULL};
    const json_t *body = request->body;
    struct tracking_filter filter = {.id = 0};
    int64_t limit, sent;

    if (!control_check_keys(peer, body, keys) ||
        (json_object_get(body, "message") && !control_read_message(peer, body, &filter.id)) ||
        !read_text(peer, body, "sender", &filter.sender) || !read_text(peer, body, "recipient", &filter.recipient) ||
        !read_kinds(peer, body, &filter.kinds) || !control_read_number(peer, body, "limit", INT64_MAX, &limit) ||
        !control_read_number(peer, body, "since_at_ms", 0, &filter.since_at_ms) ||
        !control_read_number(peer, body, "until_at_ms", 0, &filter.until_at_ms))
        return;
    if (search_bounded(peer, &filter, limit, &sent) == 0)
        answer_count(peer, sent);
}

/* The message as it is in the queue, if it is there. false: an error was answered. */
static bool send_queued(struct control_peer *peer, spool_id id, int64_t *sent)
{
    struct queue_cursor *cursor = queue_cursor_create_one(peer->control->options.queue, id);
    enum wait_result result = queue_cursor_next(cursor, loop_now_ms() + STEP_TIMEOUT_MS);
    json_t *item;

    if (result != WAIT_READY) {
        control_answer_wait(peer, result);
    } else if (queue_cursor_count(cursor) > 0) {
        item = json_object();
        json_object_set_new(item, "queued", control_json_message(queue_cursor_get(cursor, 0), true));
        control_answer_item(peer, item);
        ++*sent;
    }
    queue_cursor_destroy(&cursor);
    return result == WAIT_READY;
}

void control_why(struct control_peer *peer, const struct control_request *request)
{
    static const char *const keys[] = {"message", NULL};
    struct tracking_filter filter = {.id = 0};
    int64_t queued = 0, sent;
    spool_id id;

    if (!control_check_keys(peer, request->body, keys) || !control_read_message(peer, request->body, &id) ||
        !send_queued(peer, id, &queued))
        return;
    filter.id = id;
    if (search_bounded(peer, &filter, INT64_MAX, &sent) != 0)
        return;
    if (queued + sent == 0)
        control_answer_error(peer, CONTROL_NOT_FOUND, "nothing is known of this message");
    else
        answer_count(peer, queued + sent);
}
