/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reason: why a recipient has not been delivered: status, who said so, text. Kept once for all recipients that have it in common, since
 * a destination that is down says the same of each of its messages. Counted references. One thread at a time.
 */
#ifndef POSTERN_QUEUE_REASON_H
#define POSTERN_QUEUE_REASON_H

#include "base/hash.h"
#include "queue/queue.h"

struct reason;

/* Zero-initialise; every reason must be released before. */
struct reason_table {
    struct hash_table reasons;
    struct reason **numbered; /* by number - 1; NULL where the number is free */
    uint32_t *free_numbers;
    uint32_t number_count, number_capacity, free_count;
};

void reason_table_release(struct reason_table *table);

/* The one reason with these words, a reference taken. Texts are cut to the sizes of struct queue_outcome. */
struct reason *reason_take(struct reason_table *table, struct str status, struct str remote, struct str text);
struct reason *reason_take_outcome(struct reason_table *table, const struct queue_outcome *outcome);
struct reason *reason_retain(struct reason *reason); /* NULL gives NULL */
/* Sets the pointer to NULL; safe on NULL. */
void reason_release(struct reason_table *table, struct reason **reason);

/* A reference may be kept as a number, half as long as a pointer: 0 is none. */
uint32_t reason_number(const struct reason *reason);
struct reason *reason_at(const struct reason_table *table, uint32_t number);
/* Sets the number to 0; safe on 0. */
void reason_release_number(struct reason_table *table, uint32_t *number);

struct str reason_status(const struct reason *reason);
struct str reason_remote(const struct reason *reason);
struct str reason_text(const struct reason *reason);
/* Fills status, remote and text; all empty for NULL. */
void reason_to_outcome(const struct reason *reason, struct queue_outcome *outcome);

#endif
