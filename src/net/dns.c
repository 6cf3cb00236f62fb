/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns.h"

#include "base/log.h"
#include "base/mem.h"
#include "net/dns_private.h"

#include <pthread.h>

/* The module's thread answers in time; a loop that hears nothing goes on after so much more. */
#define DNS_LATE_MS 1000

struct use_task {
    struct loop_task task;
    struct dns *dns;
    struct dns_resolver *resolver;
};

/* ---- life ---- */

static void on_use(struct loop_task *task)
{
    struct use_task *use = LIST_ENTRY(task, struct use_task, task);
    struct dns *dns = use->dns;

    if (dns->resolver)
        dns_resolver_retire(dns->resolver);
    dns->resolver = use->resolver;
    dns_resolver_open(dns->resolver, dns);
    free(use);
}

static void on_stop(struct loop_task *task)
{
    struct dns *dns = LIST_ENTRY(task, struct dns, stop_task);

    dns->is_stopping = true;
    dns_jobs_end(dns);
    dns_records_end(dns);
    dns_resolvers_close_retired(dns);
    if (dns->resolver)
        dns_resolver_close(dns->resolver);
    dns->resolver = NULL;
}

struct dns *dns_create(void)
{
    struct dns *dns = mem_alloc(sizeof(*dns));

    list_init(&dns->retired);
    list_init(&dns->job_links);
    list_init(&dns->records_asked);
    list_init(&dns->records_waiting);
    hash_table_init(&dns->jobs);
    atomic_init(&dns->is_used, false);
    dns->stop_task.run = on_stop;
    return dns;
}

static int start_thread(struct dns *dns, struct error *error)
{
    if (loop_create(&dns->loop, "dns", error) == 0 && loop_start(dns->loop, error) == 0)
        return 0;
    loop_destroy(&dns->loop);
    return -1;
}

int dns_use(struct dns *dns, struct dns_resolver **resolver, struct error *error)
{
    struct use_task *use;

    if (!dns->loop && start_thread(dns, error) != 0) {
        dns_resolver_destroy(resolver);
        return -1;
    }
    use = mem_alloc(sizeof(*use));
    *use = (struct use_task){.task = {.run = on_use}, .dns = dns, .resolver = *resolver};
    *resolver = NULL;
    loop_post(dns->loop, &use->task);
    atomic_store(&dns->is_used, true);
    return 0;
}

void dns_destroy(struct dns **pointer)
{
    struct dns *dns = *pointer;

    if (!dns)
        return;
    *pointer = NULL;
    if (dns->loop) {
        loop_post(dns->loop, &dns->stop_task);
        loop_stop(dns->loop);
        loop_join(dns->loop);
        loop_destroy(&dns->loop);
    }
    hash_table_release(&dns->jobs);
    free(dns);
}

/* ---- lookups ---- */

static void unreference(struct dns_lookup *lookup)
{
    if (--lookup->references == 0)
        free(lookup);
}

static void on_begin(struct loop_task *task)
{
    struct dns_lookup *lookup = LIST_ENTRY(task, struct dns_lookup, task);

    dns_job_take(lookup->dns, lookup);
}

/* Back on the loop that asked. */
static void on_end(struct loop_task *task)
{
    struct dns_lookup *lookup = LIST_ENTRY(task, struct dns_lookup, task);

    lookup->is_done = true;
    if (lookup->waiter)
        fiber_wake(lookup->waiter);
    unreference(lookup);
}

static void send_back(struct dns_lookup *lookup)
{
    lookup->task.run = on_end;
    loop_post(lookup->loop, &lookup->task);
}

struct dns_lookup *dns_lookup_start(struct dns *dns, const struct net_address *client, uint64_t timeout_ms)
{
    struct dns_lookup *lookup = mem_alloc(sizeof(*lookup));

    lookup->dns = dns;
    lookup->client = *client;
    lookup->timeout_ms = timeout_ms;
    lookup->answered = send_back;
    lookup->loop = loop_current();
    lookup->deadline_ms = loop_now_ms() + timeout_ms + DNS_LATE_MS;
    lookup->references = 1;
    list_init(&lookup->link);
    if (!atomic_load(&dns->is_used)) {
        lookup->name.state = DNS_NAME_TEMPFAIL;
        lookup->is_done = true;
        return lookup;
    }
    lookup->references++;
    lookup->task.run = on_begin;
    loop_post(dns->loop, &lookup->task);
    return lookup;
}

const struct dns_name *dns_lookup_result(const struct dns_lookup *lookup)
{
    return lookup->is_done ? &lookup->name : NULL;
}

const struct dns_name *dns_lookup_wait(struct dns_lookup *lookup, uint64_t deadline_ms)
{
    if (deadline_ms > lookup->deadline_ms)
        deadline_ms = lookup->deadline_ms;
    lookup->waiter = fiber_current();
    while (!lookup->is_done && fiber_wait(deadline_ms) == WAIT_READY) {
    }
    lookup->waiter = NULL;
    return dns_lookup_result(lookup);
}

void dns_lookup_release(struct dns_lookup **pointer)
{
    struct dns_lookup *lookup = *pointer;

    if (!lookup)
        return;
    *pointer = NULL;
    unreference(lookup);
}

/* ---- without a loop ---- */

struct blocking_lookup {
    struct dns_lookup lookup;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_done;
};

static void wake_caller(struct dns_lookup *lookup)
{
    struct blocking_lookup *blocking = LIST_ENTRY(lookup, struct blocking_lookup, lookup);

    pthread_mutex_lock(&blocking->mutex);
    blocking->is_done = true;
    pthread_cond_signal(&blocking->changed);
    pthread_mutex_unlock(&blocking->mutex);
}

int dns_look_up_now(const struct dns_settings *settings, const struct net_address *client, uint64_t timeout_ms,
                    struct dns_name *name, struct error *error)
{
    struct blocking_lookup blocking = {
        .lookup = {.task = {.run = on_begin}, .answered = wake_caller, .client = *client, .timeout_ms = timeout_ms},
        .mutex = PTHREAD_MUTEX_INITIALIZER,
        .changed = PTHREAD_COND_INITIALIZER,
    };
    struct dns_resolver *resolver = dns_resolver_create(settings, error);
    struct dns *dns;
    int result = -1;

    if (!resolver)
        return -1;
    dns = dns_create();
    if (dns_use(dns, &resolver, error) != 0)
        goto done;
    blocking.lookup.dns = dns;
    loop_post(dns->loop, &blocking.lookup.task);
    pthread_mutex_lock(&blocking.mutex);
    while (!blocking.is_done)
        pthread_cond_wait(&blocking.changed, &blocking.mutex);
    pthread_mutex_unlock(&blocking.mutex);
    *name = blocking.lookup.name;
    result = 0;
done:
    dns_destroy(&dns);
    return result;
}
