/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/ldap_servers.h"

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "directory/ldap_health.h"
#include "os/clock.h"

#include <pthread.h>

/* A server that had less than this part of its time is not to blame for a timeout. */
#define HURRY_SHARE 4

/* A resting connection; the last to rest is the first to work, so that those too many grow old. */
struct nest {
    struct ldap_link **links;
    size_t count;
};

struct server {
    struct ldap_place place;
    struct ldap_health health;
    char reason[ERROR_TEXT_BYTES]; /* why it is down */
    struct nest nests[LDAP_USE_COUNT];
};

struct ldap_servers {
    pthread_mutex_t mutex; /* of all servers' health, reasons and nests */
    const struct config_ldap *config;
    size_t nest_size;
    size_t server_count;
    struct server servers[];
};

struct ldap_servers *ldap_servers_create(const struct config_ldap *config, size_t thread_count, struct error *error)
{
    struct ldap_servers *s = mem_alloc(sizeof(*s) + config->url_count * sizeof(s->servers[0]));

    pthread_mutex_init(&s->mutex, NULL);
    s->config = config;
    s->nest_size = thread_count;
    for (size_t i = 0; i < config->url_count; i++) {
        struct server *server = &s->servers[i];

        if (ldap_place_parse(&server->place, config->urls[i], config->start_tls, error) != 0) {
            ldap_servers_destroy(&s);
            return NULL;
        }
        s->server_count++;
        for (size_t use = 0; use < LDAP_USE_COUNT; use++)
            server->nests[use].links = mem_alloc_array(thread_count, sizeof(struct ldap_link *));
    }
    return s;
}

void ldap_servers_destroy(struct ldap_servers **pointer)
{
    struct ldap_servers *s = *pointer;

    if (!s)
        return;
    *pointer = NULL;
    for (size_t i = 0; i < s->server_count; i++) {
        for (size_t use = 0; use < LDAP_USE_COUNT; use++) {
            struct nest *nest = &s->servers[i].nests[use];

            while (nest->count > 0)
                ldap_link_close(&nest->links[--nest->count]);
            free(nest->links);
        }
        ldap_place_release(&s->servers[i].place);
    }
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

/* ---- connections that rest ---- */

static struct ldap_link *take_last(struct ldap_servers *s, struct nest *nest)
{
    struct ldap_link *link = NULL;

    pthread_mutex_lock(&s->mutex);
    if (nest->count > 0)
        link = nest->links[--nest->count];
    pthread_mutex_unlock(&s->mutex);
    return link;
}

/* NULL: none that is worth a try. */
static struct ldap_link *take_rested(struct ldap_servers *s, struct nest *nest)
{
    struct ldap_link *link = take_last(s, nest);

    while (link &&
           (clock_monotonic_ms() - ldap_link_idle_since_ms(link) > LDAP_REST_MS_MAX || !ldap_link_is_quiet(link))) {
        ldap_link_close(&link);
        link = take_last(s, nest);
    }
    return link;
}

static void put_to_rest(struct ldap_servers *s, struct nest *nest, struct ldap_link *link)
{
    ldap_link_rest(link);
    pthread_mutex_lock(&s->mutex);
    if (nest->count < s->nest_size) {
        nest->links[nest->count++] = link;
        link = NULL;
    }
    pthread_mutex_unlock(&s->mutex);
    ldap_link_close(&link);
}

/* One that was cut while it rested is seldom the only one. */
static void close_all(struct ldap_servers *s, struct nest *nest)
{
    struct ldap_link *link = take_last(s, nest);

    for (; link; link = take_last(s, nest))
        ldap_link_close(&link);
}

/* ---- health ---- */

static bool may_ask(struct ldap_servers *s, struct server *server, uint64_t *generation, struct error *error)
{
    bool may;

    pthread_mutex_lock(&s->mutex);
    may = ldap_health_may_ask(&server->health, clock_monotonic_ms(), generation);
    if (!may)
        error_set(error, "%s", server->reason);
    pthread_mutex_unlock(&s->mutex);
    return may;
}

static void note_failure(struct ldap_servers *s, struct server *server, uint64_t generation, const struct error *error)
{
    bool is_news;

    pthread_mutex_lock(&s->mutex);
    snprintf(server->reason, sizeof(server->reason), "%s", error->text);
    is_news = ldap_health_failed(&server->health, generation, clock_monotonic_ms());
    pthread_mutex_unlock(&s->mutex);
    if (is_news)
        LOG_WARNING("ldap-server-down", log_cstr("server", server->place.url), log_error(error));
}

static void note_nothing(struct ldap_servers *s, struct server *server, uint64_t generation)
{
    pthread_mutex_lock(&s->mutex);
    ldap_health_undecided(&server->health, generation);
    pthread_mutex_unlock(&s->mutex);
}

static void note_answer(struct ldap_servers *s, struct server *server, uint64_t generation)
{
    uint64_t down_ms;
    bool is_news;

    pthread_mutex_lock(&s->mutex);
    down_ms = clock_monotonic_ms() - server->health.down_since_ms;
    is_news = ldap_health_answered(&server->health, generation);
    pthread_mutex_unlock(&s->mutex);
    if (is_news)
        LOG_INFO("ldap-server-up", log_cstr("server", server->place.url), log_u64("down_ms", down_ms));
}

/* ---- asking ---- */

static bool is_answer(enum ldap_verdict verdict)
{
    return verdict == LDAP_VERDICT_YES || verdict == LDAP_VERDICT_NO;
}

/* Runs the operation and sees to the link: one on which something failed is not used again. */
static enum ldap_verdict run_on(struct ldap_servers *s, struct nest *nest, struct ldap_link *link,
                                const struct ldap_operation *operation, uint64_t deadline_ms, struct error *error)
{
    const enum ldap_verdict verdict = operation->run(link, operation->context, deadline_ms, error);

    if (is_answer(verdict))
        put_to_rest(s, nest, link);
    else
        ldap_link_close(&link);
    return verdict;
}

static enum ldap_verdict ask_server(struct ldap_servers *s, struct server *server,
                                    const struct ldap_operation *operation, uint64_t deadline_ms, struct error *error)
{
    struct nest *nest = &server->nests[operation->use];
    struct ldap_link *link = take_rested(s, nest);

    if (link) {
        const enum ldap_verdict verdict = run_on(s, nest, link, operation, deadline_ms, error);

        /* A connection may be cut at the very moment that it is taken; a server that is merely slow has had its time. */
        if (verdict != LDAP_VERDICT_SERVER_FAILED || ldap_time_left_ms(deadline_ms) == 0)
            return verdict;
        close_all(s, nest);
    }
    link = ldap_link_open(&server->place, s->config, operation->use, deadline_ms, error);
    return link ? run_on(s, nest, link, operation, deadline_ms, error) : LDAP_VERDICT_SERVER_FAILED;
}

/* A question that waited long for its turn says nothing about a server that had no time left for it. */
static bool was_hurried(const struct ldap_servers *s, uint64_t started_ms, uint64_t deadline_ms)
{
    return ldap_time_left_ms(deadline_ms) == 0 && deadline_ms < started_ms + s->config->timeout_ms / HURRY_SHARE;
}

/* Of what is left for the question the server gets at most its own time. */
static enum ldap_verdict try_server(struct ldap_servers *s, struct server *server,
                                    const struct ldap_operation *operation, uint64_t question_deadline_ms,
                                    struct error *error)
{
    const uint64_t started_ms = clock_monotonic_ms(), own_deadline_ms = started_ms + s->config->timeout_ms;
    const uint64_t deadline_ms = own_deadline_ms < question_deadline_ms ? own_deadline_ms : question_deadline_ms;
    enum ldap_verdict verdict;
    uint64_t generation;

    if (!may_ask(s, server, &generation, error))
        return LDAP_VERDICT_SERVER_FAILED;
    verdict = ask_server(s, server, operation, deadline_ms, error);
    if (!is_answer(verdict))
        error_add_context(error, "%s", server->place.url);
    if (verdict == LDAP_VERDICT_SERVER_FAILED && was_hurried(s, started_ms, deadline_ms))
        note_nothing(s, server, generation);
    else if (verdict == LDAP_VERDICT_SERVER_FAILED)
        note_failure(s, server, generation, error);
    else
        note_answer(s, server, generation);
    return verdict;
}

enum directory_status ldap_servers_ask(struct ldap_servers *s, const struct ldap_operation *operation,
                                       uint64_t deadline_ms, struct error *error)
{
    enum ldap_verdict verdict = LDAP_VERDICT_SERVER_FAILED;

    for (size_t i = 0; i < s->server_count && verdict == LDAP_VERDICT_SERVER_FAILED; i++) {
        if (ldap_time_left_ms(deadline_ms) == 0) {
            error_set(error, "the time for the question is over");
            break;
        }
        verdict = try_server(s, &s->servers[i], operation, deadline_ms, error);
    }
    if (!is_answer(verdict))
        return DIRECTORY_UNAVAILABLE;
    return verdict == LDAP_VERDICT_YES ? DIRECTORY_YES : DIRECTORY_NO;
}
