/* SPDX-License-Identifier: Apache-2.0 */
/* The postmaster: runs calls of queue/control.h in a fiber and waits for them, so that a test reads them like plain calls. */
#ifndef POSTERN_TESTS_QUEUE_CONTROL_FIXTURE_H
#define POSTERN_TESTS_QUEUE_CONTROL_FIXTURE_H

#include "fixture.h"

#include "queue/control.h"

#define SEEN_MAX 512

struct seen_recipient {
    char address[64], text[64], status[12], destination[64];
    enum queue_state state;
    bool is_match, is_delay_told;
    unsigned attempts;
    int64_t next_attempt_at_ms;
};

struct seen {
    spool_id id;
    uint64_t body_bytes;
    char sender[64], held_text[80];
    bool is_held, is_quarantined, is_unreadable;
    int64_t held_at_ms;
    size_t recipient_count, unsettled_count;
    struct seen_recipient recipients[8];
};

struct errand {
    struct loop_task task;
    struct fixture *fixture;
    void (*run)(struct errand *errand);
    bool is_done;

    struct queue_filter filter;
    spool_id id;
    bool only_one;
    struct queue_order order;
    struct queue_done done;
    enum wait_result result;
    struct seen *seen;
    size_t seen_count;
    struct queue_shown_destination *destinations;
    size_t destination_count;
};

#define ERRAND_DEADLINE_MS 20000

static inline void copy_seen_text(char *out, size_t size, struct str text)
{
    snprintf(out, size, "%.*s", STR_ARG(text));
}

static inline void see(struct seen *seen, const struct queue_shown *shown)
{
    *seen = (struct seen){
        .id = shown->id,
        .body_bytes = shown->body_bytes,
        .is_held = shown->is_held,
        .is_quarantined = shown->is_quarantined,
        .is_unreadable = shown->is_unreadable,
        .held_at_ms = shown->held_at_ms,
        .recipient_count = shown->recipient_count,
        .unsettled_count = shown->unsettled_count,
    };
    copy_seen_text(seen->sender, sizeof(seen->sender), shown->envelope->sender);
    copy_seen_text(seen->held_text, sizeof(seen->held_text), shown->held_text);
    for (size_t i = 0; i < shown->recipient_count && i < 8; i++) {
        const struct queue_shown_recipient *of = &shown->recipients[i];
        struct seen_recipient *recipient = &seen->recipients[i];

        copy_seen_text(recipient->address, sizeof(recipient->address), shown->envelope->recipients[i].address);
        copy_seen_text(recipient->text, sizeof(recipient->text), of->text);
        copy_seen_text(recipient->status, sizeof(recipient->status), of->status);
        copy_seen_text(recipient->destination, sizeof(recipient->destination), of->destination);
        recipient->state = of->state;
        recipient->is_match = of->is_match;
        recipient->is_delay_told = of->is_delay_told;
        recipient->attempts = of->attempts;
        recipient->next_attempt_at_ms = of->next_attempt_at_ms;
    }
}

static inline struct queue_cursor *errand_cursor(struct errand *errand)
{
    return errand->only_one ? queue_cursor_create_one(errand->fixture->queue, errand->id)
                            : queue_cursor_create(errand->fixture->queue, &errand->filter, errand->id);
}

static inline void run_list(struct errand *errand)
{
    struct queue_cursor *cursor = errand_cursor(errand);

    while ((errand->result = queue_cursor_next(cursor, loop_now_ms() + ERRAND_DEADLINE_MS)) == WAIT_READY &&
           queue_cursor_count(cursor) > 0)
        for (size_t i = 0; i < queue_cursor_count(cursor) && errand->seen_count < SEEN_MAX; i++)
            see(&errand->seen[errand->seen_count++], queue_cursor_get(cursor, i));
    queue_cursor_destroy(&cursor);
}

static inline void run_act(struct errand *errand)
{
    struct queue_cursor *cursor = errand_cursor(errand);

    errand->result = queue_cursor_act(cursor, &errand->order, &errand->done, loop_now_ms() + ERRAND_DEADLINE_MS);
    queue_cursor_destroy(&cursor);
}

static inline void run_destinations(struct errand *errand)
{
    size_t position = 0, count = 0;

    do {
        errand->result =
            queue_list_destinations(errand->fixture->queue, &position, errand->destinations + errand->destination_count,
                                    1, &count, loop_now_ms() + ERRAND_DEADLINE_MS);
        errand->destination_count += count;
    } while (errand->result == WAIT_READY && count > 0);
}

static inline void errand_fiber(void *argument)
{
    struct errand *errand = argument;

    errand->run(errand);
    pthread_mutex_lock(&errand->fixture->lock);
    errand->is_done = true;
    pthread_cond_broadcast(&errand->fixture->changed);
    pthread_mutex_unlock(&errand->fixture->lock);
}

static inline void errand_start(struct loop_task *task)
{
    if (fiber_start(errand_fiber, LIST_ENTRY(task, struct errand, task)) != 0)
        abort();
}

static inline void errand_run(struct errand *errand, struct fixture *fixture, void (*run)(struct errand *))
{
    errand->fixture = fixture;
    errand->run = run;
    errand->task.run = errand_start;
    loop_post(fixture->loops[0], &errand->task);
    pthread_mutex_lock(&fixture->lock);
    while (!errand->is_done)
        pthread_cond_wait(&fixture->changed, &fixture->lock);
    pthread_mutex_unlock(&fixture->lock);
}

/* What the filter finds; the caller frees. */
static inline struct seen *postmaster_list(struct fixture *fixture, struct queue_filter filter, size_t *count)
{
    struct errand errand = {.filter = filter, .seen = mem_alloc_array(SEEN_MAX, sizeof(struct seen))};

    errand_run(&errand, fixture, run_list);
    assert_int_equal(errand.result, WAIT_READY);
    *count = errand.seen_count;
    return errand.seen;
}

static inline size_t postmaster_count(struct fixture *fixture, struct queue_filter filter)
{
    size_t count;

    free(postmaster_list(fixture, filter, &count));
    return count;
}

/* One message; false: there is none. */
static inline bool postmaster_show(struct fixture *fixture, spool_id id, struct seen *seen)
{
    struct errand errand = {.id = id, .only_one = true, .seen = seen};

    errand_run(&errand, fixture, run_list);
    assert_int_equal(errand.result, WAIT_READY);
    return errand.seen_count == 1;
}

static inline struct queue_done postmaster_order(struct fixture *fixture, struct queue_filter filter,
                                                 enum queue_action action)
{
    struct errand errand = {
        .filter = filter,
        .order = {action, STR("the test"), action == QUEUE_ACTION_BOUNCE ? STR("enough\r\nof it") : STR("")}};

    errand_run(&errand, fixture, run_act);
    assert_int_equal(errand.result, WAIT_READY);
    return errand.done;
}

static inline struct queue_done postmaster_order_one(struct fixture *fixture, spool_id id, enum queue_action action)
{
    struct errand errand = {.id = id, .only_one = true, .order = {action, STR("the test"), STR("")}};

    errand_run(&errand, fixture, run_act);
    assert_int_equal(errand.result, WAIT_READY);
    return errand.done;
}

#endif
