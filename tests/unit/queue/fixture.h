/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A queue with everything around it: an owner loop, two loops with delivery fibers, and a spool that only remembers, on a thread of its own as the real
 * one's commits are. What becomes of a recipient is written in its address, LOCAL@DESTINATION:
 *
 *   ok...     delivered            fail...   failed, 5.1.1
 *   defer...  deferred, 4.2.1      once...   deferred the first time, then delivered
 *   stuck...  waits until fixture->released, then as the rest of the name says; stuck@... is delivered
 *
 *   @down...     refuses connections while fixture->is_down
 *   @nowhere     no route, 5.1.2    @later   no route for now, 4.4.3
 *
 * Everything that happened is counted under `lock`; fixture_wait waits until the counts say what the test wants.
 */
#ifndef POSTERN_TESTS_QUEUE_FIXTURE_H
#define POSTERN_TESTS_QUEUE_FIXTURE_H

#include "base/mem.h"
#include "loop/fiber.h"
#include "os/clock.h"
#include "queue/queue_private.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define FIXTURE_WAIT_S  30
#define FIXTURE_LOG_MAX 4096
#define FIXTURE_TAKE    8
#define FIXTURE_STORED  4096 /* envelopes that the spool can give back, of the first ids */

struct logged_event {
    spool_id id;
    size_t recipient;
    enum queue_event_kind kind;
    char status[12];
    char text[64];
    int64_t at_ms;
    int64_t next_at_ms;
};

struct logged_result {
    spool_id id;
    bool dead;
    struct result_entry entries[8];
    size_t entry_count;
};

struct logged_report {
    spool_id id;
    enum queue_report_kind kind;
    enum queue_report_kind kinds[8];
    bool last;
    size_t failure_count;
    size_t recipients[8];
    char statuses[8][12];
    char texts[8][64];
    bool expired[8];
};

struct fixture {
    struct queue *queue;
    struct queue_settings settings;
    struct loop *owner;
    struct loop *loops[2];
    struct worker_pool *disk_pool;
    unsigned next_loop;
    unsigned idle_ms;           /* how long a delivery fiber waits for items */
    bool is_quiet;              /* count, but don't log */
    enum queue_success success; /* of what is delivered */
    unsigned notify;            /* of all recipients that are added */
    const char *sender;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct logged_event events[FIXTURE_LOG_MAX];
    struct logged_result results[FIXTURE_LOG_MAX];
    struct logged_report reports[FIXTURE_LOG_MAX];
    size_t event_count, result_count, report_count, dead_count, record_count, start_count, attempt_count,
        give_back_count;
    bool released, is_down, is_stopped, is_stop_asked, is_drained;
    unsigned report_failures; /* so many reports can't be written */
    spool_id last_id;

    /* the spool */
    pthread_t spool_thread;
    struct list_link spool_writes;
    bool spool_ends;
    struct buf stored[FIXTURE_STORED]; /* envelopes, by id >> 8 */
    bool envelopes_are_lost;
    size_t lost_read_count;
    unsigned spool_failures;         /* so many writes fail ... */
    enum spool_status spool_failure; /* ... this way */
};

static struct fixture *the_fixture; /* of spool_submit, which gets no context */

/* ---- the spool ---- */

void spool_submit(struct spool *spool, struct spool_write *write)
{
    (void)spool;
    pthread_mutex_lock(&the_fixture->lock);
    list_append(&the_fixture->spool_writes, &write->link);
    pthread_cond_broadcast(&the_fixture->changed);
    pthread_mutex_unlock(&the_fixture->lock);
}

/* On a thread of the pool, as the real one. */
int spool_read_envelope(struct spool *spool, spool_id id, char **data, size_t *length)
{
    struct buf *stored = &the_fixture->stored[id >> 8];
    int result = -ENOENT;

    (void)spool;
    assert_true(id >> 8 < FIXTURE_STORED);
    pthread_mutex_lock(&the_fixture->lock);
    if (stored->length > 0 && !the_fixture->envelopes_are_lost) {
        *data = mem_alloc(stored->length);
        memcpy(*data, stored->data, stored->length);
        *length = stored->length;
        result = 0;
    }
    the_fixture->lost_read_count += result != 0;
    pthread_cond_broadcast(&the_fixture->changed);
    pthread_mutex_unlock(&the_fixture->lock);
    return result;
}

/* So that it can be read back. */
static inline void fixture_store(struct fixture *fixture, spool_id id, struct str envelope)
{
    struct buf *stored = &fixture->stored[id >> 8];

    if (id >> 8 >= FIXTURE_STORED)
        return;
    pthread_mutex_lock(&fixture->lock);
    buf_init(stored, 65536);
    buf_append_str(stored, envelope);
    pthread_mutex_unlock(&fixture->lock);
}

static inline void fixture_log_result(struct fixture *fixture, const struct spool_result *result)
{
    struct logged_result *log = &fixture->results[fixture->result_count];
    struct str rest;

    fixture->dead_count += result->dead;
    fixture->record_count += !result->dead;
    if (fixture->is_quiet || fixture->result_count == FIXTURE_LOG_MAX)
        return;
    *log = (struct logged_result){.id = result->id, .dead = result->dead};
    if (result->payload.length > 0 && result_open(result->payload, &rest)) {
        while (log->entry_count < 8 && result_next(&rest, &log->entries[log->entry_count]) == 1) {
            struct result_entry *entry = &log->entries[log->entry_count++];

            entry->status = entry->remote = entry->text = STR(""); /* views into what is freed soon */
        }
    }
    fixture->result_count++;
}

static inline void fixture_commit(struct fixture *fixture, struct spool_write *write)
{
    write->status = SPOOL_DONE;
    if (fixture->spool_failures > 0) {
        fixture->spool_failures--;
        write->status = fixture->spool_failure;
        return;
    }
    for (size_t i = 0; i < write->result_count; i++)
        fixture_log_result(fixture, &write->results[i]);
}

static inline void *fixture_spool_main(void *argument)
{
    struct fixture *fixture = argument;

    pthread_mutex_lock(&fixture->lock);
    while (!fixture->spool_ends || !list_is_empty(&fixture->spool_writes)) {
        struct list_link *link = list_take_first(&fixture->spool_writes);

        if (!link) {
            pthread_cond_wait(&fixture->changed, &fixture->lock);
            continue;
        }
        fixture_commit(fixture, LIST_ENTRY(link, struct spool_write, link));
        pthread_cond_broadcast(&fixture->changed);
        pthread_mutex_unlock(&fixture->lock);
        LIST_ENTRY(link, struct spool_write, link)->done(LIST_ENTRY(link, struct spool_write, link));
        pthread_mutex_lock(&fixture->lock);
    }
    pthread_mutex_unlock(&fixture->lock);
    return NULL;
}

/* ---- hooks ---- */

static inline void fixture_route(void *context, const struct envelope *envelope, size_t recipient,
                                 enum queue_resolution resolution, struct queue_route *route)
{
    struct str domain = envelope->recipients[recipient].domain;

    (void)context;
    if (str_equal(domain, STR("asked")) && resolution == QUEUE_RESOLVED_KNOWN)
        domain = STR("found");
    if (str_equal(domain, STR("nowhere")) ||
        (str_equal(domain, STR("asked")) && resolution == QUEUE_RESOLVED_UNKNOWN)) {
        route->kind = QUEUE_ROUTE_FAIL;
        snprintf(route->status, sizeof(route->status), "5.1.2");
        snprintf(route->text, sizeof(route->text), "no such domain");
    } else if (str_equal(domain, STR("later"))) {
        route->kind = QUEUE_ROUTE_DEFER;
        snprintf(route->status, sizeof(route->status), "4.4.3");
        snprintf(route->text, sizeof(route->text), "names are not to be had now");
    } else {
        route->kind = QUEUE_ROUTE_DELIVER;
        snprintf(route->destination, sizeof(route->destination), "%.*s", STR_ARG(domain));
        route->concurrency = 4;
    }
}

static inline void fixture_event(void *context, const struct queue_event *event)
{
    struct fixture *fixture = context;
    struct logged_event *logged;

    pthread_mutex_lock(&fixture->lock);
    if (!fixture->is_quiet && fixture->event_count < FIXTURE_LOG_MAX) {
        logged = &fixture->events[fixture->event_count++];
        *logged = (struct logged_event){event->id,       event->recipient,         event->kind, "", "",
                                        clock_real_ms(), event->next_attempt_at_ms};
        snprintf(logged->status, sizeof(logged->status), "%s", event->outcome->status);
        snprintf(logged->text, sizeof(logged->text), "%.*s", 63, event->outcome->text);
    }
    pthread_cond_broadcast(&fixture->changed);
    pthread_mutex_unlock(&fixture->lock);
}

static inline void fixture_log_report(struct fixture *fixture, const struct queue_report *report)
{
    struct logged_report *log = &fixture->reports[fixture->report_count];

    if (fixture->is_quiet || fixture->report_count == FIXTURE_LOG_MAX)
        return;
    *log = (struct logged_report){
        .id = report->id, .kind = report->kind, .last = report->last, .failure_count = report->failure_count};
    for (size_t i = 0; i < report->failure_count && i < 8; i++) {
        log->kinds[i] = report->failures[i].kind;
        log->recipients[i] = report->failures[i].recipient;
        log->expired[i] = report->failures[i].expired;
        snprintf(log->statuses[i], sizeof(log->statuses[i]), "%s", report->failures[i].outcome->status);
        snprintf(log->texts[i], sizeof(log->texts[i]), "%.*s", 63, report->failures[i].outcome->text);
    }
    fixture->report_count++;
}

static inline void fixture_report(void *context, struct queue_report *report)
{
    struct fixture *fixture = context;
    bool written;

    pthread_mutex_lock(&fixture->lock);
    written = fixture->report_failures == 0;
    if (!written)
        fixture->report_failures--;
    else
        for (size_t i = 0; i < report->result_count; i++)
            fixture_log_result(fixture, &report->results[i]);
    fixture_log_report(fixture, report);
    pthread_cond_broadcast(&fixture->changed);
    pthread_mutex_unlock(&fixture->lock);
    queue_reported(report, written);
}

/* ---- delivery fibers ---- */

struct fixture_start {
    struct loop_task task;
    struct fixture *fixture;
    struct queue_worker *worker;
    bool is_down_destination;
    bool is_asking; /* the destination "asked": recipients are looked up there, not delivered */
};

static inline bool fixture_flag(struct fixture *fixture, const bool *flag)
{
    bool value;

    pthread_mutex_lock(&fixture->lock);
    value = *flag;
    pthread_mutex_unlock(&fixture->lock);
    return value;
}

static inline void fixture_set(struct fixture *fixture, bool *flag, bool value)
{
    pthread_mutex_lock(&fixture->lock);
    *flag = value;
    pthread_mutex_unlock(&fixture->lock);
}

static inline bool fixture_was_deferred(struct fixture *fixture, spool_id id, size_t recipient)
{
    bool found = false;

    pthread_mutex_lock(&fixture->lock);
    for (size_t i = 0; i < fixture->event_count; i++)
        found |= fixture->events[i].id == id && fixture->events[i].recipient == recipient;
    pthread_mutex_unlock(&fixture->lock);
    return found;
}

static inline void fixture_deliver(struct fixture *fixture, struct queue_item *item, size_t i)
{
    size_t recipient = queue_item_recipient(item, i);
    struct str address = queue_item_envelope(item)->recipients[recipient].address;
    struct queue_outcome *outcome = queue_item_outcome(item, i);

    while (str_starts_with(address, STR("stuck")) && !fixture_flag(fixture, &fixture->released))
        fiber_wait(loop_now_ms() + 2);
    if (str_starts_with(address, STR("stuck")))
        address = str_skip(address, 5);
    if (str_starts_with(address, STR("fail"))) {
        outcome->kind = QUEUE_FAILED;
        snprintf(outcome->status, sizeof(outcome->status), "5.1.1");
        snprintf(outcome->text, sizeof(outcome->text), "%.*s is unknown", STR_ARG(address));
    } else if (str_starts_with(address, STR("defer")) ||
               (str_starts_with(address, STR("once")) &&
                !fixture_was_deferred(fixture, queue_item_id(item), recipient))) {
        outcome->kind = QUEUE_DEFERRED;
        snprintf(outcome->status, sizeof(outcome->status), "4.2.1");
        snprintf(outcome->text, sizeof(outcome->text), "busy");
    } else {
        outcome->kind = QUEUE_DELIVERED;
        outcome->success = fixture->success;
    }
}

static inline void fixture_resolve(struct queue_item *item, size_t i)
{
    struct str address = queue_item_envelope(item)->recipients[queue_item_recipient(item, i)].address;
    struct queue_outcome *outcome = queue_item_outcome(item, i);

    outcome->kind = QUEUE_RESOLVED;
    outcome->resolution = str_starts_with(address, STR("unknown")) ? QUEUE_RESOLVED_UNKNOWN : QUEUE_RESOLVED_KNOWN;
}

static inline void fixture_settle(struct fixture *fixture, struct queue_item *item, bool is_asking)
{
    pthread_mutex_lock(&fixture->lock);
    fixture->attempt_count += queue_item_recipient_count(item);
    pthread_cond_broadcast(&fixture->changed);
    pthread_mutex_unlock(&fixture->lock);
    for (size_t i = 0; i < queue_item_recipient_count(item); i++) {
        if (is_asking)
            fixture_resolve(item, i);
        else
            fixture_deliver(fixture, item, i);
    }
    queue_settle(item);
}

static inline void fixture_refuse(struct fixture *fixture, struct queue_worker *worker, struct queue_item **items,
                                  size_t count)
{
    const struct queue_outcome refused = {
        .kind = QUEUE_DEFERRED, .status = "4.4.1", .text = "connection refused", .remote = "192.0.2.1"};

    pthread_mutex_lock(&fixture->lock);
    fixture->give_back_count += count;
    pthread_mutex_unlock(&fixture->lock);
    queue_worker_failed(worker, &refused);
    while (count > 0)
        queue_give_back(items[--count]);
}

static inline void fixture_fiber(void *argument)
{
    struct fixture_start *start = argument;
    struct fixture *fixture = start->fixture;
    struct queue_item *items[FIXTURE_TAKE];
    bool is_connected = false;
    size_t count;

    while ((count = queue_take(start->worker, items, FIXTURE_TAKE, loop_now_ms() + fixture->idle_ms)) > 0) {
        if (start->is_down_destination && fixture_flag(fixture, &fixture->is_down)) {
            fixture_refuse(fixture, start->worker, items, count);
            break;
        }
        if (!is_connected)
            queue_worker_connected(start->worker);
        is_connected = true;
        for (size_t i = 0; i < count; i++)
            fixture_settle(fixture, items[i], start->is_asking);
    }
    queue_worker_end(start->worker);
    free(start);
}

static inline void fixture_on_start(struct loop_task *task)
{
    struct fixture_start *start = LIST_ENTRY(task, struct fixture_start, task);

    if (fiber_start(fixture_fiber, start) != 0)
        abort();
}

static inline void fixture_start_worker(void *context, struct queue_worker *worker, const char *destination)
{
    struct fixture *fixture = context;
    struct fixture_start *start = mem_alloc(sizeof(*start));

    start->task.run = fixture_on_start;
    start->fixture = fixture;
    start->worker = worker;
    start->is_asking = strcmp(destination, "asked") == 0;
    start->is_down_destination = str_starts_with(str_from_cstr(destination), STR("down"));
    pthread_mutex_lock(&fixture->lock);
    fixture->start_count++;
    pthread_mutex_unlock(&fixture->lock);
    loop_post(fixture->loops[fixture->next_loop++ % 2], &start->task);
}

/* ---- life ---- */

/* Retries after 20 ms, expiry after a day, reports gathered for 10 s. Change what the test needs, then fixture_start. */
static inline struct fixture *fixture_create(void)
{
    struct fixture *fixture = mem_alloc(sizeof(*fixture));
    const struct queue_hooks hooks = {fixture, fixture_route, fixture_start_worker, fixture_report, fixture_event};

    the_fixture = fixture;
    fixture->settings =
        (struct queue_settings){.retry_ms = {20}, .retry_count = 1, .expire_ms = 86400000, .report_gather_ms = 10000};
    fixture->idle_ms = 50;
    fixture->sender = "alice@contoso.test";
    pthread_mutex_init(&fixture->lock, NULL);
    pthread_cond_init(&fixture->changed, NULL);
    list_init(&fixture->spool_writes);
    assert_int_equal(loop_create(&fixture->owner, "owner", NULL), 0);
    assert_int_equal(loop_create(&fixture->loops[0], "loop0", NULL), 0);
    assert_int_equal(loop_create(&fixture->loops[1], "loop1", NULL), 0);
    assert_int_equal(queue_create(&fixture->queue, fixture->owner, NULL, &fixture->settings, &hooks), 0);
    assert_int_equal(worker_pool_create(&fixture->disk_pool, "disk", 1, NULL), 0);
    queue_set_resources(fixture->queue, fixture->disk_pool, NULL);
    fixture->queue->delays = (struct queue_delays){20, 20, 20, 20};
    return fixture;
}

static inline void fixture_start(struct fixture *fixture)
{
    fixture->queue->settings = fixture->settings;
    assert_int_equal(pthread_create(&fixture->spool_thread, NULL, fixture_spool_main, fixture), 0);
    assert_int_equal(loop_start(fixture->owner, NULL), 0);
    assert_int_equal(loop_start(fixture->loops[0], NULL), 0);
    assert_int_equal(loop_start(fixture->loops[1], NULL), 0);
}

static inline bool fixture_wait(struct fixture *fixture, bool (*condition)(struct fixture *fixture))
{
    struct timespec until;
    bool holds;
    int result = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += FIXTURE_WAIT_S;
    pthread_mutex_lock(&fixture->lock);
    while (!(holds = condition(fixture)) && result == 0)
        result = pthread_cond_timedwait(&fixture->changed, &fixture->lock, &until);
    pthread_mutex_unlock(&fixture->lock);
    return holds;
}

static inline void fixture_stopped(void *context)
{
    struct fixture *fixture = context;

    pthread_mutex_lock(&fixture->lock);
    fixture->is_stopped = true;
    pthread_cond_broadcast(&fixture->changed);
    pthread_mutex_unlock(&fixture->lock);
}

static inline bool fixture_is_stopped(struct fixture *fixture)
{
    return fixture->is_stopped;
}

static inline void fixture_end_loop(struct loop **loop)
{
    loop_stop(*loop);
    loop_join(*loop);
    loop_destroy(loop);
}

static inline void fixture_ask_stop(struct fixture *fixture)
{
    if (!fixture->is_stop_asked)
        queue_stop(fixture->queue, fixture_stopped, fixture);
    fixture->is_stop_asked = true;
}

static inline void fixture_destroy(struct fixture *fixture)
{
    fixture_ask_stop(fixture);
    assert_true(fixture_wait(fixture, fixture_is_stopped));
    fixture_set(fixture, &fixture->spool_ends, true);
    pthread_cond_broadcast(&fixture->changed);
    pthread_join(fixture->spool_thread, NULL);
    fixture_end_loop(&fixture->loops[0]);
    fixture_end_loop(&fixture->loops[1]);
    fixture_end_loop(&fixture->owner);
    queue_destroy(&fixture->queue);
    worker_pool_destroy(&fixture->disk_pool);
    for (size_t i = 0; i < FIXTURE_STORED; i++)
        buf_release(&fixture->stored[i]);
    pthread_cond_destroy(&fixture->changed);
    pthread_mutex_destroy(&fixture->lock);
    free(fixture);
}

/* ---- messages ---- */

/* An encoded envelope for recipients that are separated by spaces. */
static inline struct buf fixture_envelope(const char *sender, const char *recipients, int64_t arrived_at_ms)
{
    struct envelope_recipient list[8] = {0};
    struct str rest = str_from_cstr(recipients);
    struct envelope envelope = {.arrived_at_ms = arrived_at_ms,
                                .sender = str_from_cstr(sender),
                                .client = STR("192.0.2.9"),
                                .server = STR("internet"),
                                .recipients = list};
    struct buf data;

    while (rest.data && envelope.recipient_count < 8) {
        struct str address = str_split(&rest, ' ');

        list[envelope.recipient_count].notify = the_fixture ? the_fixture->notify : 0;
        list[envelope.recipient_count].address = address;
        list[envelope.recipient_count++].domain = str_skip(address, str_find_last(address, '@') + 1);
    }
    buf_init(&data, 65536);
    assert_true(envelope_encode(&envelope, &data));
    return data;
}

static inline spool_id fixture_add(struct fixture *fixture, const char *recipients)
{
    struct buf data = fixture_envelope(fixture->sender, recipients, clock_real_ms());
    spool_id id = ++fixture->last_id << 8;

    fixture_store(fixture, id, buf_str(&data));
    queue_add(fixture->queue, id, buf_str(&data), 1000);
    buf_release(&data);
    return id;
}

/* ---- conditions ---- */

static inline bool fixture_all_dead(struct fixture *fixture)
{
    return fixture->dead_count >= fixture->last_id;
}

#endif
