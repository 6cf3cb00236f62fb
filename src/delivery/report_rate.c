/* SPDX-License-Identifier: Apache-2.0 */
#include "delivery/report_rate.h"

#include "base/hash.h"
#include "base/mem.h"

#include <stdlib.h>

/* `used`: tokens that are missing, times the period, so that refilling needs no fractions: each ms gives back `count`. */
struct bucket {
    uint64_t used;
    uint64_t at_ms;
};

struct domain_bucket {
    struct bucket bucket;
    size_t length;
    char name[];
};

struct report_rate {
    struct bucket all;
    struct hash_table domains;
};

struct report_rate *report_rate_create(void)
{
    struct report_rate *rate = mem_alloc(sizeof(*rate));

    hash_table_init(&rate->domains);
    return rate;
}

static void free_domains(struct report_rate *rate)
{
    size_t position = 0;
    struct str key;
    void *value;

    while (hash_table_next(&rate->domains, &position, &key, &value))
        free(value);
    hash_table_release(&rate->domains);
}

void report_rate_destroy(struct report_rate **rate)
{
    if (!*rate)
        return;
    free_domains(*rate);
    mem_free(rate);
}

static bool is_limited(const struct config_rate *limit)
{
    return limit->count > 0 && limit->period_ms > 0;
}

static void refill(struct bucket *bucket, const struct config_rate *limit, uint64_t now_ms)
{
    uint64_t elapsed_ms = now_ms > bucket->at_ms ? now_ms - bucket->at_ms : 0;

    /* After a whole period everything is back; short of it the product can't overflow: both are configured numbers. */
    if (elapsed_ms >= limit->period_ms || elapsed_ms * limit->count >= bucket->used)
        bucket->used = 0;
    else
        bucket->used -= elapsed_ms * limit->count;
    bucket->at_ms = now_ms;
}

/* When a token will be there: now, or later. */
static uint64_t ready_at_ms(const struct bucket *bucket, const struct config_rate *limit, uint64_t now_ms)
{
    uint64_t capacity = limit->count * limit->period_ms;
    uint64_t missing = bucket->used + limit->period_ms;

    return missing <= capacity ? now_ms : now_ms + (missing - capacity + limit->count - 1) / limit->count;
}

/* Forgets what is full again; if nothing is, everything: limits are generous then, and memory is bounded. */
static void make_room(struct report_rate *rate, const struct config_rate *limit, uint64_t now_ms)
{
    struct hash_table kept;
    size_t position = 0;
    struct str key;
    void *value;

    hash_table_init(&kept);
    while (hash_table_next(&rate->domains, &position, &key, &value)) {
        struct domain_bucket *domain = value;

        refill(&domain->bucket, limit, now_ms);
        if (domain->bucket.used > 0)
            hash_table_put(&kept, key, value);
        else
            free(value);
    }
    hash_table_release(&rate->domains);
    rate->domains = kept;
    if (kept.count >= REPORT_RATE_DOMAINS_MAX) {
        free_domains(rate);
        hash_table_init(&rate->domains);
    }
}

static struct bucket *find_bucket(struct report_rate *rate, const struct config_rate *limit, struct str name,
                                  uint64_t now_ms)
{
    struct domain_bucket *domain = hash_table_get(&rate->domains, name);

    if (!domain) {
        if (rate->domains.count >= REPORT_RATE_DOMAINS_MAX)
            make_room(rate, limit, now_ms);
        domain = mem_alloc(sizeof(*domain) + name.length);
        domain->length = name.length;
        if (name.length > 0)
            memcpy(domain->name, name.data, name.length);
        hash_table_put(&rate->domains, str_make(domain->name, domain->length), domain);
    }
    return &domain->bucket;
}

bool report_rate_take(struct report_rate *rate, const struct config_ndr *limits, struct str domain, uint64_t now_ms,
                      uint64_t *retry_at_ms)
{
    struct bucket *of_domain = NULL;
    uint64_t at_ms = now_ms;

    if (is_limited(&limits->rate)) {
        refill(&rate->all, &limits->rate, now_ms);
        at_ms = ready_at_ms(&rate->all, &limits->rate, now_ms);
    }
    if (is_limited(&limits->rate_per_domain)) {
        uint64_t domain_at_ms;

        of_domain = find_bucket(rate, &limits->rate_per_domain, domain, now_ms);
        refill(of_domain, &limits->rate_per_domain, now_ms);
        domain_at_ms = ready_at_ms(of_domain, &limits->rate_per_domain, now_ms);
        at_ms = domain_at_ms > at_ms ? domain_at_ms : at_ms;
    }
    *retry_at_ms = at_ms;
    if (at_ms > now_ms)
        return false;
    if (is_limited(&limits->rate))
        rate->all.used += limits->rate.period_ms;
    if (of_domain)
        of_domain->used += limits->rate_per_domain.period_ms;
    return true;
}
