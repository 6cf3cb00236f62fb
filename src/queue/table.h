/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table: the messages of the index, by id. Ordered, so that a reader who remembers only an id can go on behind it whatever has happened
 * meanwhile; with each message some bits of its domains and its sender, so that a million of them are searched without touching one. Rows
 * of up to TABLE_ROW_MESSAGES, 24 bytes a message. Ids come nearly in order: adding is at the end of the last row, as a rule.
 *
 * One thread at a time.
 */
#ifndef POSTERN_QUEUE_TABLE_H
#define POSTERN_QUEUE_TABLE_H

#include "queue/envelope.h"
#include "spool/spool.h"

#define TABLE_ROW_MESSAGES 256

struct message;

/*
 * What a message is found by. `domains` is a Bloom filter: some bits of each recipient's domain and of each domain above it that has a dot.
 * `sender` is a hash of the address, in lower case.
 */
struct table_tags {
    uint64_t domains;
    uint32_t sender;
};

/* Which messages may be meant; a message that is meant is always found, others are seldom. Zero: all. */
struct table_filter {
    uint64_t domains; /* table_domain_bits of the one domain */
    uint32_t sender;
    bool has_sender;
};

/* Pure. */
uint64_t table_domain_bits(struct str domain);
uint32_t table_sender_hash(struct str sender);
void table_tags_of(const struct envelope *envelope, struct table_tags *tags);

struct table_row;

/* Zero-initialise. */
struct message_table {
    struct table_row **rows;
    size_t row_count, row_capacity;
    size_t count;
};

void message_table_release(struct message_table *table); /* not the messages */
/* false if the id is there already. */
bool message_table_add(struct message_table *table, spool_id id, const struct table_tags *tags,
                       struct message *message);
/* NULL if there is none. */
struct message *message_table_find(const struct message_table *table, spool_id id);
/* The message of that id, which is there, is now here. */
void message_table_set(struct message_table *table, spool_id id, struct message *message);
void message_table_remove(struct message_table *table, spool_id id);

/*
 * The first message behind the id `*after` that the filter may mean, and `*after` is its id; looks at no more than `*budget` entries, which it counts
 * down. NULL: there is none, or the budget is used up, which is then 0 and `*after` the id that it got to.
 */
struct message *message_table_next(const struct message_table *table, spool_id *after,
                                   const struct table_filter *filter, size_t *budget);

#endif
