/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/table.h"

#include "base/hash.h"
#include "base/mem.h"

#include <assert.h>
#include <stdlib.h>

/* Longer ones are told apart by these bytes. */
#define LOWER_BYTES_MAX 512

struct table_entry {
    uint32_t offset; /* of the id from the row's base */
    uint32_t sender;
    uint64_t domains;
    struct message *message;
};

struct table_row {
    spool_id base; /* of the first entry, or lower */
    uint32_t count;
    struct table_entry entries[TABLE_ROW_MESSAGES];
};

/* ---- tags ---- */

static uint64_t lower_hash(struct str text)
{
    char lower[LOWER_BYTES_MAX];
    size_t length = text.length < sizeof(lower) ? text.length : sizeof(lower);

    for (size_t i = 0; i < length; i++)
        lower[i] = ascii_lower(text.data[i]);
    return hash_bytes(lower, length);
}

/* Four of 64: one in 600,000 other domains has the same. */
uint64_t table_domain_bits(struct str domain)
{
    uint64_t hash = lower_hash(domain);

    return 1ull << (hash & 63) | 1ull << (hash >> 6 & 63) | 1ull << (hash >> 12 & 63) | 1ull << (hash >> 18 & 63);
}

uint32_t table_sender_hash(struct str sender)
{
    return (uint32_t)lower_hash(sender);
}

void table_tags_of(const struct envelope *envelope, struct table_tags *tags)
{
    struct str last = {0};

    tags->domains = 0;
    tags->sender = table_sender_hash(envelope->sender);
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        struct str domain = envelope->recipients[i].domain;

        if (i > 0 && str_equal(domain, last))
            continue;
        last = domain;
        tags->domains |= table_domain_bits(domain);
        for (size_t dot; (dot = str_find(domain, '.')) != STR_NONE;) {
            domain = str_skip(domain, dot + 1);
            if (str_find(domain, '.') != STR_NONE)
                tags->domains |= table_domain_bits(domain);
        }
    }
}

/* ---- rows ---- */

void message_table_release(struct message_table *table)
{
    for (size_t i = 0; i < table->row_count; i++)
        free(table->rows[i]);
    free(table->rows);
    *table = (struct message_table){0};
}

static struct table_row *insert_row(struct message_table *table, size_t place, spool_id base)
{
    struct table_row *row = mem_alloc(sizeof(*row));

    if (table->row_count == table->row_capacity) {
        table->row_capacity = table->row_capacity ? table->row_capacity * 2 : 16;
        table->rows = mem_resize_array(table->rows, table->row_capacity, sizeof(*table->rows));
    }
    memmove(&table->rows[place + 1], &table->rows[place], (table->row_count - place) * sizeof(*table->rows));
    table->rows[place] = row;
    table->row_count++;
    row->base = base;
    return row;
}

static void remove_row(struct message_table *table, size_t place)
{
    free(table->rows[place]);
    table->row_count--;
    memmove(&table->rows[place], &table->rows[place + 1], (table->row_count - place) * sizeof(*table->rows));
    if (table->row_count == 0)
        message_table_release(table);
}

/* The last row whose base is not above the id; the first if there is none such. */
static size_t find_row(const struct message_table *table, spool_id id)
{
    size_t low = 0, high = table->row_count;

    if (high > 0 && table->rows[high - 1]->base <= id)
        return high - 1;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (table->rows[middle]->base <= id)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The place of the first entry whose id is not below. */
static uint32_t find_entry(const struct table_row *row, spool_id id)
{
    uint32_t low = 0, high = row->count;

    if (id <= row->base)
        return 0;
    if (high > 0 && row->base + row->entries[high - 1].offset < id)
        return high;
    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (row->base + row->entries[middle].offset < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct table_entry *find(const struct message_table *table, spool_id id)
{
    struct table_row *row;
    uint32_t place;

    if (table->row_count == 0)
        return NULL;
    row = table->rows[find_row(table, id)];
    place = find_entry(row, id);
    if (place == row->count || row->base + row->entries[place].offset != id)
        return NULL;
    return &row->entries[place];
}

static bool has_room(const struct table_row *row, spool_id id)
{
    return row->count < TABLE_ROW_MESSAGES && id >= row->base && id - row->base <= UINT32_MAX;
}

/* The upper half of a full row becomes a row of its own. */
static void split_row(struct message_table *table, size_t place)
{
    struct table_row *low = table->rows[place];
    uint32_t half = low->count / 2;
    spool_id base = low->base + low->entries[half].offset;
    struct table_row *high = insert_row(table, place + 1, base);

    high->count = low->count - half;
    low->count = half;
    for (uint32_t i = 0; i < high->count; i++) {
        high->entries[i] = low->entries[half + i];
        high->entries[i].offset -= (uint32_t)(base - low->base);
    }
}

/* A row that takes the id, at the right place. */
static struct table_row *make_room(struct message_table *table, spool_id id)
{
    size_t place = table->row_count > 0 ? find_row(table, id) : 0;
    struct table_row *row = table->row_count > 0 ? table->rows[place] : NULL;

    if (row && has_room(row, id))
        return row;
    if (row && id < row->base)
        return insert_row(table, place, id);
    if (row && find_entry(row, id) < row->count) {
        split_row(table, place);
        return table->rows[find_row(table, id)];
    }
    return insert_row(table, row ? place + 1 : 0, id);
}

bool message_table_add(struct message_table *table, spool_id id, const struct table_tags *tags, struct message *message)
{
    struct table_row *row;
    uint32_t place;

    if (find(table, id))
        return false;
    row = make_room(table, id);
    place = find_entry(row, id);
    memmove(&row->entries[place + 1], &row->entries[place], (row->count - place) * sizeof(row->entries[0]));
    row->entries[place] = (struct table_entry){(uint32_t)(id - row->base), tags->sender, tags->domains, message};
    row->count++;
    table->count++;
    return true;
}

struct message *message_table_find(const struct message_table *table, spool_id id)
{
    const struct table_entry *entry = find(table, id);

    return entry ? entry->message : NULL;
}

void message_table_set(struct message_table *table, spool_id id, struct message *message)
{
    struct table_entry *entry = find(table, id);

    assert(entry);
    entry->message = message;
}

static void merge_with_next(struct message_table *table, size_t place)
{
    struct table_row *low = table->rows[place];
    struct table_row *high = place + 1 < table->row_count ? table->rows[place + 1] : NULL;

    if (!high || low->count + high->count > TABLE_ROW_MESSAGES / 2 ||
        high->base + high->entries[high->count - 1].offset - low->base > UINT32_MAX)
        return;
    for (uint32_t i = 0; i < high->count; i++) {
        low->entries[low->count] = high->entries[i];
        low->entries[low->count++].offset += (uint32_t)(high->base - low->base);
    }
    remove_row(table, place + 1);
}

void message_table_remove(struct message_table *table, spool_id id)
{
    size_t place = find_row(table, id);
    struct table_row *row = table->rows[place];
    uint32_t entry = find_entry(row, id);

    assert(entry < row->count && row->base + row->entries[entry].offset == id);
    row->count--;
    memmove(&row->entries[entry], &row->entries[entry + 1], (row->count - entry) * sizeof(row->entries[0]));
    table->count--;
    if (row->count == 0)
        remove_row(table, place);
    else
        merge_with_next(table, place);
}

/* ---- searching ---- */

static bool may_be_meant(const struct table_entry *entry, const struct table_filter *filter)
{
    return (entry->domains & filter->domains) == filter->domains &&
           (!filter->has_sender || entry->sender == filter->sender);
}

struct message *message_table_next(const struct message_table *table, spool_id *after,
                                   const struct table_filter *filter, size_t *budget)
{
    size_t place = table->row_count > 0 ? find_row(table, *after + 1) : 0;

    for (; place < table->row_count; place++) {
        const struct table_row *row = table->rows[place];

        for (uint32_t i = find_entry(row, *after + 1); i < row->count; i++) {
            if (*budget == 0)
                return NULL;
            --*budget;
            *after = row->base + row->entries[i].offset;
            if (may_be_meant(&row->entries[i], filter))
                return row->entries[i].message;
        }
    }
    return NULL;
}
