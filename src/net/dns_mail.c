/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lookup goes to the module's thread, is asked there or waits for its turn, and comes back with its records:
 *
 *   start ──task──> WAITING ──a question is over──> ASKED ──answer, or time over──> task ──> done
 *
 * Until its end the lookup is the thread's; records are filled in there, and not touched after it. A question lives longer than its lookup
 * if libunbound is slower than the timeout.
 */
#include "net/dns_mail.h"

#include "base/mem.h"
#include "net/dns_private.h"

#include <stdio.h>
#include <stdlib.h>

/* The module's thread answers in time; a loop that hears nothing goes on after so much more. */
#define LATE_MS  1000
#define SERVFAIL 2
#define REFUSED  5

struct records_query {
    struct dns_query query;
    struct dns *dns;
    struct dns_records_lookup *lookup; /* NULL: its time was over */
};

struct dns_records_lookup {
    struct loop_task task; /* on its way to the thread, later on its way back */
    struct dns *dns;
    char name[DNS_NAME_BYTES];
    enum dns_record_type type;
    bool asks_hosts;
    bool has_bad_name;
    uint64_t timeout_ms;
    struct dns_records records;
    void *memory; /* the records' */

    /* the thread's */
    struct list_link link;
    struct loop_timer timer;
    struct records_query *query; /* NULL: waiting */

    /* its own loop's */
    struct loop *loop;
    struct fiber *waiter;
    uint64_t deadline_ms;
    unsigned references; /* whoever started it, and the thread until the answer is back */
    bool is_done;
    struct dns_records none; /* for a wait that ended before */
};

static void ask_next(struct dns *dns);

/* ---- records ---- */

/* What others wrote comes into our log and reports. */
static void set_error(struct dns_records *records, const char *text)
{
    size_t length = 0;

    records->state = DNS_RECORDS_FAILED;
    for (; *text && length < sizeof(records->error) - 1; text++)
        records->error[length++] = *text >= ' ' && *text <= '~' ? *text : '?';
    records->error[length] = '\0';
}

static void set_failure(struct dns_records *records, const struct dns_answer *answer)
{
    char text[sizeof(records->error)];

    records->is_bogus = answer->bogus_reason != NULL;
    if (answer->bogus_reason)
        snprintf(text, sizeof(text), "its DNSSEC signatures are bogus: %s", answer->bogus_reason);
    else if (answer->code == SERVFAIL)
        snprintf(text, sizeof(text), "the DNS server failed (SERVFAIL)");
    else if (answer->code == REFUSED)
        snprintf(text, sizeof(text), "the DNS server refused to answer (REFUSED)");
    else if (answer->code < 0)
        snprintf(text, sizeof(text), "the resolver failed (%d)", answer->code);
    else
        snprintf(text, sizeof(text), "the DNS server answered with code %d", answer->code);
    set_error(records, text);
}

static size_t answer_count(const struct dns_answer *answer)
{
    size_t count = 0;

    while (count < DNS_RECORDS_MAX && answer->data[count])
        count++;
    return count;
}

static struct str rdata_of(const struct dns_answer *answer, size_t i)
{
    return str_make(answer->data[i], (size_t)answer->lengths[i]);
}

static void take_mx(struct dns_records_lookup *lookup, const struct dns_answer *answer, size_t count)
{
    struct dns_mx *mx = lookup->memory = mem_alloc_array(count, sizeof(*mx));

    for (size_t i = 0; i < count; i++)
        if (dns_parse_mx(rdata_of(answer, i), &mx[lookup->records.count]))
            lookup->records.count++;
    lookup->records.mx = mx;
}

static void take_addresses(struct dns_records_lookup *lookup, const struct dns_answer *answer, size_t count)
{
    struct net_address *addresses = lookup->memory = mem_alloc_array(count, sizeof(*addresses));

    for (size_t i = 0; i < count; i++)
        if (dns_parse_address(rdata_of(answer, i), lookup->type, &addresses[lookup->records.count]))
            lookup->records.count++;
    lookup->records.addresses = addresses;
}

/* The data stand behind the array. */
static void take_tlsa(struct dns_records_lookup *lookup, const struct dns_answer *answer, size_t count)
{
    struct dns_tlsa *tlsa;
    size_t bytes = 0;
    char *data;

    for (size_t i = 0; i < count; i++)
        bytes += (size_t)answer->lengths[i];
    tlsa = lookup->memory = mem_alloc(count * sizeof(*tlsa) + bytes);
    data = (char *)(tlsa + count);
    for (size_t i = 0; i < count; i++) {
        struct dns_tlsa *record = &tlsa[lookup->records.count];

        if (!dns_parse_tlsa(rdata_of(answer, i), record))
            continue;
        memcpy(data, record->data.data, record->data.length);
        record->data.data = data;
        data += record->data.length;
        lookup->records.count++;
    }
    lookup->records.tlsa = tlsa;
}

static void take_records(struct dns_records_lookup *lookup, const struct dns_answer *answer)
{
    size_t count = answer_count(answer);

    lookup->records.state = DNS_RECORDS_FOUND;
    switch (lookup->type) {
    case DNS_RECORD_MX:
        take_mx(lookup, answer, count);
        break;
    case DNS_RECORD_A:
    case DNS_RECORD_AAAA:
        take_addresses(lookup, answer, count);
        break;
    case DNS_RECORD_TLSA:
        take_tlsa(lookup, answer, count);
        break;
    case DNS_RECORD_CNAME: /* that there is one, and whether it is signed, is all that is asked */
        break;
    }
}

static void take_answer(struct dns_records_lookup *lookup, const struct dns_answer *answer)
{
    struct dns_records *records = &lookup->records;

    records->is_secure = answer->is_secure;
    if (answer->canonical && !dns_parse_text_name(answer->canonical, records->canonical)) {
        set_error(records, "a CNAME leads to what is no host's name");
        return;
    }
    switch (answer->state) {
    case DNS_ANSWER_DATA:
        take_records(lookup, answer);
        break;
    case DNS_ANSWER_EMPTY:
        records->state = answer->is_no_name ? DNS_RECORDS_NO_NAME : DNS_RECORDS_NONE;
        break;
    case DNS_ANSWER_FAILED:
        set_failure(records, answer);
        break;
    }
}

/* Whether /etc/hosts has the name, which settles it. */
static bool take_hosts(struct dns_records_lookup *lookup, const struct dns_hosts *hosts)
{
    const struct net_address *found;
    size_t count = dns_hosts_find(hosts, lookup->name, &found);
    struct net_address *addresses;

    if (count == 0)
        return false;
    addresses = lookup->memory = mem_alloc_array(count, sizeof(*addresses));
    for (size_t i = 0; i < count; i++)
        if (lookup->type == (net_address_is_ipv4(&found[i]) ? DNS_RECORD_A : DNS_RECORD_AAAA))
            addresses[lookup->records.count++] = found[i];
    lookup->records.addresses = addresses;
    lookup->records.state = lookup->records.count > 0 ? DNS_RECORDS_FOUND : DNS_RECORDS_NONE;
    return true;
}

/* ---- on the thread ---- */

static void on_end(struct loop_task *task);

static void finish(struct dns_records_lookup *lookup)
{
    if (lookup->query)
        lookup->query->lookup = NULL;
    lookup->query = NULL;
    loop_timer_stop(&lookup->timer);
    list_remove(&lookup->link);
    lookup->task.run = on_end;
    loop_post(lookup->loop, &lookup->task);
}

static void on_time_over(struct loop_timer *timer)
{
    struct dns_records_lookup *lookup = LIST_ENTRY(timer, struct dns_records_lookup, timer);

    set_error(&lookup->records, "no answer in time");
    finish(lookup);
}

static void on_records_answer(struct dns_query *query, const struct dns_answer *answer)
{
    struct records_query *asked = LIST_ENTRY(query, struct records_query, query);
    struct dns *dns = asked->dns;
    struct dns_resolver *resolver = query->resolver;
    struct dns_records_lookup *lookup = asked->lookup;

    dns->records_query_count--;
    if (lookup && answer)
        take_answer(lookup, answer);
    if (lookup)
        finish(lookup);
    free(asked);
    if (!answer) /* the resolver is being closed, and asks nothing more */
        return;
    ask_next(dns);
    dns_resolver_drop(resolver);
}

static void ask(struct dns *dns, struct dns_records_lookup *lookup)
{
    struct records_query *query = mem_alloc(sizeof(*query));
    char name[DNS_NAME_BYTES + 1];

    query->query.answered = on_records_answer;
    query->dns = dns;
    query->lookup = lookup;
    /* With the root's dot: nothing is to be searched in other domains. */
    snprintf(name, sizeof(name), "%s.", lookup->name);
    if (!dns_resolver_ask(dns->resolver, name, (int)lookup->type, &query->query)) {
        free(query);
        set_error(&lookup->records, "too many questions are under way");
        finish(lookup);
        return;
    }
    dns_resolver_hold(dns->resolver); /* until the answer: a reload does not end it */
    dns->records_query_count++;
    lookup->query = query;
    list_remove(&lookup->link);
    list_append(&dns->records_asked, &lookup->link);
}

static void ask_next(struct dns *dns)
{
    while (dns->records_query_count < DNS_RECORD_QUERIES_MAX && !list_is_empty(&dns->records_waiting))
        ask(dns, LIST_ENTRY(dns->records_waiting.next, struct dns_records_lookup, link));
}

static void on_begin(struct loop_task *task)
{
    struct dns_records_lookup *lookup = LIST_ENTRY(task, struct dns_records_lookup, task);
    struct dns *dns = lookup->dns;

    list_append(&dns->records_waiting, &lookup->link);
    if (dns->is_stopping || lookup->has_bad_name) {
        set_error(&lookup->records, lookup->has_bad_name ? "it is no host's name" : "the resolver has ended");
        finish(lookup);
        return;
    }
    if (lookup->asks_hosts && take_hosts(lookup, dns_resolver_hosts(dns->resolver))) {
        finish(lookup);
        return;
    }
    lookup->timer.run = on_time_over;
    loop_timer_start(&lookup->timer, loop_now_ms() + lookup->timeout_ms);
    ask_next(dns);
}

void dns_records_end(struct dns *dns)
{
    struct list_link *lists[] = {&dns->records_waiting, &dns->records_asked};

    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        while (!list_is_empty(lists[i])) {
            struct dns_records_lookup *lookup = LIST_ENTRY(lists[i]->next, struct dns_records_lookup, link);

            set_error(&lookup->records, "the resolver has ended");
            finish(lookup);
        }
    }
}

/* ---- on the loop that asks ---- */

static void unreference(struct dns_records_lookup *lookup)
{
    if (--lookup->references > 0)
        return;
    free(lookup->memory);
    free(lookup);
}

static void on_end(struct loop_task *task)
{
    struct dns_records_lookup *lookup = LIST_ENTRY(task, struct dns_records_lookup, task);

    lookup->is_done = true;
    if (lookup->waiter)
        fiber_wake(lookup->waiter);
    unreference(lookup);
}

struct dns_records_lookup *dns_records_start(struct dns *dns, const struct dns_question *question, uint64_t timeout_ms)
{
    struct dns_records_lookup *lookup = mem_alloc(sizeof(*lookup));

    lookup->dns = dns;
    lookup->type = question->type;
    lookup->asks_hosts = question->asks_hosts;
    lookup->timeout_ms = timeout_ms;
    lookup->has_bad_name = !dns_parse_text_name(question->name, lookup->name);
    if (!lookup->has_bad_name)
        memcpy(lookup->records.canonical, lookup->name, sizeof(lookup->name));
    lookup->loop = loop_current();
    lookup->deadline_ms = loop_now_ms() + timeout_ms + LATE_MS;
    lookup->references = 1;
    list_init(&lookup->link);
    set_error(&lookup->none, "no answer in time");
    if (!atomic_load(&dns->is_used)) {
        set_error(&lookup->records, "there is no resolver");
        lookup->is_done = true;
        return lookup;
    }
    lookup->references++;
    lookup->task.run = on_begin;
    loop_post(dns->loop, &lookup->task);
    return lookup;
}

const struct dns_records *dns_records_wait(struct dns_records_lookup *lookup)
{
    lookup->waiter = fiber_current();
    while (!lookup->is_done && fiber_wait(lookup->deadline_ms) == WAIT_READY) {
    }
    lookup->waiter = NULL;
    return lookup->is_done ? &lookup->records : &lookup->none;
}

void dns_records_release(struct dns_records_lookup **pointer)
{
    struct dns_records_lookup *lookup = *pointer;

    if (!lookup)
        return;
    *pointer = NULL;
    unreference(lookup);
}
