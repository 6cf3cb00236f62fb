/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A job finds the verified name of one address, for all lookups that ask for it meanwhile:
 *
 *   PTR ──names──> A or AAAA of each, all at once ──> the first name, in the PTR's order, that has the address
 *
 * It ends when that is known or its time is over, and its lookups are answered then. It stays in memory until the last of its
 * questions is over, which libunbound decides.
 */
#include "base/mem.h"
#include "net/dns_private.h"

#include <assert.h>

enum candidate_state { CANDIDATE_ASKED, CANDIDATE_HAS_ADDRESS, CANDIDATE_HAS_NOT, CANDIDATE_FAILED };

struct dns_candidate {
    enum candidate_state state;
    char name[DNS_NAME_BYTES];
};

struct dns_job {
    struct list_link link; /* dns->job_links */
    struct dns *dns;
    struct dns_resolver *resolver; /* until it has ended */
    struct net_address client;
    struct loop_timer timer;
    struct list_link lookups;
    unsigned references; /* its queries', and its own until it has ended */
    bool has_ended;
    size_t candidate_count;
    struct dns_candidate candidates[DNS_NAMES_MAX];
};

struct job_query {
    struct dns_query query;
    struct dns_job *job;
    struct dns_candidate *candidate; /* NULL: the PTR */
};

static struct str job_key(const struct net_address *client)
{
    return str_make((const char *)client->ip, sizeof(client->ip));
}

static void job_unreference(struct dns_job *job)
{
    if (--job->references == 0)
        free(job);
}

static void answer_lookup(struct dns_lookup *lookup, enum dns_name_state state, const char *text)
{
    lookup->name.state = state;
    if (text)
        memcpy(lookup->name.text, text, sizeof(lookup->name.text));
    lookup->answered(lookup);
}

static void job_end(struct dns_job *job, enum dns_name_state state, const char *text)
{
    struct list_link *link;

    job->has_ended = true;
    loop_timer_stop(&job->timer);
    list_remove(&job->link);
    if (hash_table_get(&job->dns->jobs, job_key(&job->client)) == job)
        hash_table_remove(&job->dns->jobs, job_key(&job->client));
    while ((link = list_take_first(&job->lookups)))
        answer_lookup(LIST_ENTRY(link, struct dns_lookup, link), state, text);
    dns_resolver_drop(job->resolver);
    job->resolver = NULL;
    job_unreference(job);
}

/* Ends the job if it is clear how. A name that comes later does not count before one that is still asked about, so that the answer does
 * not depend on which server is faster. */
static void job_conclude(struct dns_job *job, bool time_is_over)
{
    bool has_failed = time_is_over;

    for (size_t i = 0; i < job->candidate_count; i++) {
        struct dns_candidate *candidate = &job->candidates[i];

        if (candidate->state == CANDIDATE_HAS_ADDRESS) {
            job_end(job, DNS_NAME_VERIFIED, candidate->name);
            return;
        }
        if (candidate->state == CANDIDATE_ASKED && !time_is_over)
            return;
        has_failed = has_failed || candidate->state == CANDIDATE_FAILED;
    }
    job_end(job, has_failed ? DNS_NAME_TEMPFAIL : DNS_NAME_UNVERIFIED, NULL);
}

static void on_time_over(struct loop_timer *timer)
{
    job_conclude(LIST_ENTRY(timer, struct dns_job, timer), true);
}

static void job_on_answer(struct dns_query *query, const struct dns_answer *answer);

static bool job_ask(struct dns_job *job, const char *name, int type, struct dns_candidate *candidate)
{
    struct job_query *query = mem_alloc(sizeof(*query));

    query->query.answered = job_on_answer;
    query->job = job;
    query->candidate = candidate;
    if (!dns_resolver_ask(job->resolver, name, type, &query->query)) {
        free(query);
        return false;
    }
    job->references++;
    return true;
}

/* ---- answers ---- */

static void take_addresses(struct dns_job *job, struct dns_candidate *candidate, const struct dns_answer *answer)
{
    candidate->state = answer->state == DNS_ANSWER_FAILED ? CANDIDATE_FAILED : CANDIDATE_HAS_NOT;
    for (size_t i = 0; answer->state == DNS_ANSWER_DATA && answer->data[i]; i++) {
        if (dns_is_address(str_make(answer->data[i], (size_t)answer->lengths[i]), &job->client)) {
            candidate->state = CANDIDATE_HAS_ADDRESS;
            break;
        }
    }
    job_conclude(job, false);
}

static void ask_for_addresses(struct dns_job *job)
{
    int type = net_address_is_ipv4(&job->client) ? DNS_TYPE_A : DNS_TYPE_AAAA;
    char name[DNS_NAME_BYTES + 1];

    for (size_t i = 0; i < job->candidate_count; i++) {
        /* With the root's dot: nothing is to be searched in other domains. */
        snprintf(name, sizeof(name), "%s.", job->candidates[i].name);
        if (!job_ask(job, name, type, &job->candidates[i]))
            job->candidates[i].state = CANDIDATE_FAILED;
    }
}

static void take_names(struct dns_job *job, const struct dns_answer *answer)
{
    if (answer->state != DNS_ANSWER_DATA) {
        job_end(job, answer->state == DNS_ANSWER_EMPTY ? DNS_NAME_NONE : DNS_NAME_TEMPFAIL, NULL);
        return;
    }
    for (size_t i = 0; i < DNS_NAMES_MAX && answer->data[i]; i++) {
        struct dns_candidate *candidate = &job->candidates[job->candidate_count];

        if (dns_parse_name(str_make(answer->data[i], (size_t)answer->lengths[i]), candidate->name))
            job->candidate_count++;
    }
    ask_for_addresses(job);
    job_conclude(job, false);
}

static void job_on_answer(struct dns_query *query, const struct dns_answer *answer)
{
    struct job_query *job_query = LIST_ENTRY(query, struct job_query, query);
    struct dns_job *job = job_query->job;

    if (!job->has_ended && answer) {
        if (job_query->candidate)
            take_addresses(job, job_query->candidate, answer);
        else
            take_names(job, answer);
    }
    free(job_query);
    job_unreference(job);
}

/* ---- beginning and end ---- */

static void job_begin(struct dns *dns, struct dns_lookup *lookup)
{
    struct dns_job *job = mem_alloc(sizeof(*job));
    char name[DNS_REVERSE_BYTES];

    job->dns = dns;
    job->resolver = dns->resolver;
    job->client = lookup->client;
    job->references = 1;
    list_init(&job->lookups);
    list_append(&job->lookups, &lookup->link);
    list_append(&dns->job_links, &job->link);
    hash_table_put(&dns->jobs, job_key(&job->client), job);
    dns_resolver_hold(job->resolver);
    job->timer.run = on_time_over;
    loop_timer_start(&job->timer, loop_now_ms() + lookup->timeout_ms);
    dns_reverse_name(&job->client, name);
    if (!job_ask(job, name, DNS_TYPE_PTR, NULL))
        job_end(job, DNS_NAME_TEMPFAIL, NULL);
}

void dns_job_take(struct dns *dns, struct dns_lookup *lookup)
{
    struct dns_job *job = hash_table_get(&dns->jobs, job_key(&lookup->client));

    if (dns->is_stopping)
        answer_lookup(lookup, DNS_NAME_TEMPFAIL, NULL);
    else if (job && job->resolver == dns->resolver)
        list_append(&job->lookups, &lookup->link);
    else
        job_begin(dns, lookup);
}

void dns_jobs_end(struct dns *dns)
{
    while (!list_is_empty(&dns->job_links))
        job_end(LIST_ENTRY(dns->job_links.next, struct dns_job, link), DNS_NAME_TEMPFAIL, NULL);
}
