/* SPDX-License-Identifier: Apache-2.0 */
/* The whole test: each probe once, what was deferred once more, and then the wait for what comes to the catch. */
#include "base/mem.h"
#include "os/clock.h"
#include "relaytest/secure.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PROGRESS_EVERY_MS 500
/* A server that defers without saying for how long. */
#define RETRY_PAUSE_MS_DEFAULT 10000
/* After the last report: what a slower way may still bring. Twice what the slowest report took, at least. */
#define SETTLE_MS_MIN 2000
/* For the catch's sessions to end. */
#define CATCH_END_TIMEOUT_MS 2000
#define COMMAND_BYTES_MAX    CONN_LINE_BYTES_MAX
#define SEEN_BYTES_MAX       4096

/* ---- small services ---- */

void run_copy_text(char *out, size_t size, struct str text)
{
    size_t length = text.length < size ? text.length : size - 1;

    if (length > 0)
        memcpy(out, text.data, length);
    out[length] = '\0';
}

static void show_progress(struct run *run)
{
    const struct relaytest_watch *watch = &run->settings->watch;
    const struct relaytest_progress progress = {
        .doing = run->doing,
        .done = run->done,
        .total = (unsigned)run->result->row_count,
        .waited_ms = loop_now_ms() - run->doing_since_ms,
    };

    if (watch->progress && run->doing)
        watch->progress(watch->context, &progress);
}

static void on_timer(struct loop_timer *timer)
{
    struct run *run = LIST_ENTRY(timer, struct run, timer);

    show_progress(run);
    loop_timer_start(timer, loop_now_ms() + PROGRESS_EVERY_MS);
}

void run_progress(struct run *run, const char *doing)
{
    run->doing = doing;
    run->doing_since_ms = loop_now_ms();
}

void run_fail(struct run *run, const char *format, ...)
{
    char text[ERROR_TEXT_BYTES];
    va_list arguments;

    if (run->is_over)
        return;
    run->is_over = true;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    error_set(&run->result->error, "%s", text);
    run->result->is_incomplete = true;
}

bool run_pause(struct run *run, uint64_t until_ms, bool ends_on_arrival)
{
    if (until_ms > run->deadline_ms)
        until_ms = run->deadline_ms;
    run->is_woken = false;
    while (!(ends_on_arrival && run->is_woken) && loop_now_ms() < until_ms)
        if (fiber_wait(until_ms) == WAIT_CANCELLED)
            break;
    if (loop_now_ms() >= run->deadline_ms)
        run_fail(run, "the test took too long");
    return !run->is_over;
}

/* ---- the catch ---- */

static bool open_catch(struct run *run)
{
    struct net_address address = run->settings->catch_address;
    struct error error;

    run->catch_fd = -1;
    if (!run->settings->has_catch || run->settings->envelope_only)
        return true;
    if (catch_open(&address, &run->catch_fd, &error) != 0) {
        run_fail(run, "%s", error.text);
        return false;
    }
    net_address_format(&address, run->result->catch_address);
    return true;
}

static void start_catch(struct run *run)
{
    const struct catch_settings settings = {
        .host_name = str_from_cstr(run->result->client_name),
        .arrived = arrivals_take,
        .context = run,
    };

    if (run->catch_fd >= 0)
        run->catch = catch_create(run->catch_fd, &settings);
}

static void end_catch(struct run *run)
{
    uint64_t deadline_ms = loop_now_ms() + CATCH_END_TIMEOUT_MS;

    if (!run->catch)
        return;
    catch_stop(run->catch);
    while (catch_session_count(run->catch) > 0 && loop_now_ms() < deadline_ms)
        fiber_wait(loop_now_ms() + 10);
    catch_destroy(&run->catch);
}

/* ---- rows ---- */

static void expand_shown(const struct run *run, struct relaytest_row *row)
{
    struct probe_names names;
    struct buf text;

    names_fill_shown(run, &names);
    buf_init(&text, RELAYTEST_ADDRESS_BYTES - 1);
    probe_expand(&text, row->probe->sender, &names);
    run_copy_text(row->sender, sizeof(row->sender), buf_str(&text));
    buf_clear(&text);
    probe_expand(&text, row->probe->recipient, &names);
    run_copy_text(row->recipient, sizeof(row->recipient), buf_str(&text));
    buf_release(&text);
}

static void select_rows(struct relaytest_result *result, const struct relaytest_settings *settings)
{
    result->rows = mem_alloc_array(probe_count, sizeof(*result->rows));
    for (size_t i = 0; i < probe_count; i++) {
        struct relaytest_row *row = &result->rows[result->row_count];

        if (!settings->selected[probes[i].number])
            continue;
        row->probe = &probes[i];
        row->first.verdict = row->repeat.verdict = RELAYTEST_UNTESTED;
        result->row_count++;
    }
}

/*
 * An acceptance is explained by the report that an external sender gets. And where the sender was refused, the recipient has not been tested at
 * all: it is, from another sender, unless that would be the standard probe over again.
 */
static bool needs_repeat(const struct run *run, const struct relaytest_row *row)
{
    if (probe_has_external_sender(row->probe))
        return false;
    if (row->first.verdict == RELAYTEST_REFUSED && row->first.stage == RELAYTEST_STAGE_MAIL)
        return !probe_has_plain_recipient(row->probe);
    return row->first.is_accepted && run->catch;
}

static void run_repeat(struct run *run, struct relaytest_row *row)
{
    if (!needs_repeat(run, row) || run->is_over)
        return;
    row->has_repeat = true;
    attempt_run(run, row, &row->repeat, PROBE_EXTERNAL_SENDER);
}

static void run_row(struct run *run, struct relaytest_row *row)
{
    attempt_run(run, row, &row->first, row->probe->sender);
    row->is_run = true;
    run_repeat(run, row);
}

/* ---- what was deferred ---- */

/* One that was cut off by 421 has had its further tries already. */
static bool is_deferred(const struct relaytest_outcome *outcome)
{
    return outcome->token[0] && outcome->verdict == RELAYTEST_DEFERRED && outcome->code > 0 && !outcome->is_retried;
}

/* The longest pause that a server asked for, as far as the wait allows; false if there is nothing to retry. */
static bool find_retry_pause(const struct run *run, uint64_t *pause_ms)
{
    const struct relaytest_result *result = run->result;
    bool found = false;

    *pause_ms = 0;
    for (size_t i = 0; i < result->row_count; i++) {
        const struct relaytest_outcome *outcomes[] = {&result->rows[i].first, &result->rows[i].repeat};

        for (size_t n = 0; n < 2; n++) {
            uint64_t hinted_ms = attempt_hinted_ms(str_from_cstr(outcomes[n]->reply));

            if (!is_deferred(outcomes[n]))
                continue;
            if (hinted_ms == 0)
                hinted_ms =
                    RETRY_PAUSE_MS_DEFAULT < run->settings->wait_ms ? RETRY_PAUSE_MS_DEFAULT : run->settings->wait_ms;
            if (hinted_ms > run->settings->wait_ms)
                continue;
            found = true;
            *pause_ms = hinted_ms > *pause_ms ? hinted_ms : *pause_ms;
        }
    }
    return found;
}

static void retry(struct run *run, struct relaytest_row *row, struct relaytest_outcome *outcome, const char *sender)
{
    if (!is_deferred(outcome) || attempt_hinted_ms(str_from_cstr(outcome->reply)) > run->settings->wait_ms)
        return;
    outcome->is_retried = true;
    attempt_run(run, row, outcome, sender);
}

static void retry_deferred(struct run *run)
{
    struct relaytest_result *result = run->result;
    uint64_t pause_ms;

    if (run->is_over || !find_retry_pause(run, &pause_ms))
        return;
    wire_quit(run);
    run_progress(run, "the end of the pause that the server asked for");
    run_pause(run, loop_now_ms() + pause_ms, false);
    for (size_t i = 0; i < result->row_count && !run->is_over; i++) {
        struct relaytest_row *row = &result->rows[i];

        retry(run, row, &row->first, row->probe->sender);
        if (!row->has_repeat)
            run_repeat(run, row);
        else
            retry(run, row, &row->repeat, PROBE_EXTERNAL_SENDER);
    }
}

/* A repetition that was deferred just now, at the end of the first round of retries, gets its own pause. */
static void retry_all(struct run *run)
{
    retry_deferred(run);
    retry_deferred(run);
}

/* ---- the wait ---- */

/* Until when something may be expected: 0 if there is nothing to wait for. */
static uint64_t wait_until(const struct run *run)
{
    const struct relaytest_result *result = run->result;
    uint64_t last_ms = 0, slowest_ms = 0, all_explained_at_ms;
    bool is_explained = true;

    for (size_t i = 0; i < result->row_count; i++) {
        const struct relaytest_row *row = &result->rows[i];
        const struct relaytest_outcome *outcomes[] = {&row->first, &row->repeat};

        for (size_t n = 0; n < 2; n++) {
            if (outcomes[n]->accepted_at_ms > last_ms)
                last_ms = outcomes[n]->accepted_at_ms;
            if (outcomes[n]->report_after_ms > slowest_ms)
                slowest_ms = outcomes[n]->report_after_ms;
        }
        if (row->first.is_accepted && !arrivals_explain(row))
            is_explained = false;
    }
    if (last_ms == 0)
        return 0;
    all_explained_at_ms = last_ms + 2 * slowest_ms + SETTLE_MS_MIN;
    if (!is_explained || all_explained_at_ms > last_ms + run->settings->wait_ms)
        return last_ms + run->settings->wait_ms;
    return all_explained_at_ms;
}

static void wait_for_arrivals(struct run *run)
{
    uint64_t until_ms;

    if (!run->catch)
        return;
    run_progress(run, "what comes to the catch");
    while ((until_ms = wait_until(run)) > loop_now_ms())
        if (!run_pause(run, until_ms, true))
            break;
}

/* ---- the run ---- */

static void run_all(struct run *run)
{
    struct relaytest_result *result = run->result;

    for (size_t i = 0; i < result->row_count && !run->is_over; i++) {
        run_row(run, &result->rows[i]);
        run->done++;
    }
    retry_all(run);
    wire_quit(run);
    wait_for_arrivals(run);
}

static void run_fiber(void *argument)
{
    struct run *run = argument;

    run->fiber = fiber_current();
    run->deadline_ms = loop_now_ms() + RELAYTEST_RUN_MS_MAX;
    run->timer.run = on_timer;
    loop_timer_start(&run->timer, loop_now_ms() + PROGRESS_EVERY_MS);
    start_catch(run);
    run_all(run);
    for (size_t i = 0; i < run->result->row_count && run->has_names; i++)
        expand_shown(run, &run->result->rows[i]);
    end_catch(run);
    loop_timer_stop(&run->timer);
    loop_stop(run->loop);
}

struct start_task {
    struct loop_task task;
    struct run *run;
};

static void on_start(struct loop_task *task)
{
    struct run *run = LIST_ENTRY(task, struct start_task, task)->run;

    if (fiber_start(run_fiber, run) != 0) {
        run_fail(run, "no memory for a stack");
        loop_stop(run->loop);
    }
}

static void run_on_loop(struct run *run)
{
    struct start_task start = {.task = {.run = on_start}, .run = run};
    struct error error;

    if (loop_create(&run->loop, "relaytest", &error) != 0) {
        run_fail(run, "%s", error.text);
        return;
    }
    if (loop_start(run->loop, &error) == 0) {
        loop_post(run->loop, &start.task);
        loop_join(run->loop);
    } else {
        run_fail(run, "%s", error.text);
    }
    loop_destroy(&run->loop);
}

static void find_client_name(struct run *run)
{
    char name[RELAYTEST_NAME_BYTES] = "";

    if (run->settings->client_name.length > 0) {
        run_copy_text(run->result->client_name, sizeof(run->result->client_name), run->settings->client_name);
        return;
    }
    if (gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0')
        snprintf(name, sizeof(name), "localhost");
    run_copy_text(run->result->client_name, sizeof(run->result->client_name), str_from_cstr(name));
}

void relaytest_run(const struct relaytest_settings *settings, struct relaytest_result *result)
{
    struct run *run = mem_alloc(sizeof(*run));
    uint64_t started_ms = clock_monotonic_ms();
    struct error error;

    memset(result, 0, sizeof(*result));
    result->started_at_ms = clock_real_ms();
    result->wait_ms = settings->wait_ms;
    run->settings = settings;
    run->result = result;
    buf_init(&run->command, COMMAND_BYTES_MAX);
    buf_init(&run->seen, SEEN_BYTES_MAX);
    select_rows(result, settings);
    find_client_name(run);
    if (secure_prepare(run, &error) != 0)
        run_fail(run, "%s", error.text);
    else if (open_catch(run))
        run_on_loop(run);
    secure_release(run);
    verdict_settle(result, settings);
    result->duration_ms = clock_monotonic_ms() - started_ms;
    buf_release(&run->command);
    buf_release(&run->seen);
    free(run);
}

void relaytest_release(struct relaytest_result *result)
{
    mem_free(&result->rows);
    result->row_count = 0;
}
