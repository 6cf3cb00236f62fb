/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delivery/report_rate: how many reports may leave, for each domain that they go to and in all (ndr.rate-per-domain,
 * ndr.rate): a bucket of `count` tokens that fills up once in `period_ms`. Pure: the time is given. One thread at a
 * time.
 */
#ifndef POSTERN_DELIVERY_REPORT_RATE_H
#define POSTERN_DELIVERY_REPORT_RATE_H

#include "base/str.h"
#include "config/config.h"

/* Domains that are kept in mind; with more, those whose buckets are full again are forgotten, or else all. */
#define REPORT_RATE_DOMAINS_MAX 10000

struct report_rate;

struct report_rate *report_rate_create(void);
void report_rate_destroy(struct report_rate **rate);

/* True: a token of both was there, and is taken. False: none is taken, and `*retry_at_ms` is when it may be worth asking again. */
bool report_rate_take(struct report_rate *rate, const struct config_ndr *limits, struct str domain, uint64_t now_ms,
                      uint64_t *retry_at_ms);

#endif
