/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/reason.h"

#include "base/mem.h"

#include <assert.h>

/* The three texts with NULs between them are the key, too: texts are cut at a NUL, so no two reasons share one. */
#define REASON_BYTES_MAX                                                                                               \
    (sizeof(((struct queue_outcome *)0)->status) + sizeof(((struct queue_outcome *)0)->remote) + QUEUE_REPLY_BYTES_MAX)

struct reason {
    uint32_t references;
    uint32_t number;
    uint16_t status_length;
    uint16_t remote_length;
    uint32_t length; /* of all bytes */
    char bytes[];
};

void reason_table_release(struct reason_table *table)
{
    assert(table->reasons.count == 0);
    hash_table_release(&table->reasons);
    mem_free(&table->numbered);
    mem_free(&table->free_numbers);
    *table = (struct reason_table){0};
}

static struct str clean(struct str text, size_t size)
{
    size_t end = str_find(text, '\0');

    return str_take(text, end < size ? end : size - 1);
}

static struct str reason_key(const struct reason *reason)
{
    return str_make(reason->bytes, reason->length);
}

/* ---- numbers ---- */

static void add_number(struct reason_table *table, struct reason *reason)
{
    if (table->free_count > 0) {
        reason->number = table->free_numbers[--table->free_count];
    } else {
        if (table->number_count == table->number_capacity) {
            table->number_capacity = table->number_capacity ? table->number_capacity * 2 : 64;
            table->numbered = mem_resize_array(table->numbered, table->number_capacity, sizeof(struct reason *));
            table->free_numbers =
                mem_resize_array(table->free_numbers, table->number_capacity, sizeof(*table->free_numbers));
        }
        reason->number = ++table->number_count;
    }
    table->numbered[reason->number - 1] = reason;
}

static void remove_number(struct reason_table *table, const struct reason *reason)
{
    table->numbered[reason->number - 1] = NULL;
    table->free_numbers[table->free_count++] = reason->number;
}

uint32_t reason_number(const struct reason *reason)
{
    return reason ? reason->number : 0;
}

struct reason *reason_at(const struct reason_table *table, uint32_t number)
{
    return number ? table->numbered[number - 1] : NULL;
}

void reason_release_number(struct reason_table *table, uint32_t *number)
{
    struct reason *reason = reason_at(table, *number);

    *number = 0;
    reason_release(table, &reason);
}

/* ---- reasons ---- */

struct reason *reason_take(struct reason_table *table, struct str status, struct str remote, struct str text)
{
    char key[REASON_BYTES_MAX];
    size_t length = 0;
    struct reason *reason;

    status = clean(status, sizeof(((struct queue_outcome *)0)->status));
    remote = clean(remote, sizeof(((struct queue_outcome *)0)->remote));
    text = clean(text, QUEUE_REPLY_BYTES_MAX);
    for (int i = 0; i < 3; i++) {
        struct str part = i == 0 ? status : i == 1 ? remote : text;

        if (i > 0)
            key[length++] = '\0';
        if (part.length > 0)
            memcpy(key + length, part.data, part.length);
        length += part.length;
    }
    reason = hash_table_get(&table->reasons, str_make(key, length));
    if (!reason) {
        reason = mem_alloc(sizeof(*reason) + length);
        reason->status_length = (uint16_t)status.length;
        reason->remote_length = (uint16_t)remote.length;
        reason->length = (uint32_t)length;
        memcpy(reason->bytes, key, length);
        hash_table_put(&table->reasons, reason_key(reason), reason);
        add_number(table, reason);
    }
    return reason_retain(reason);
}

static struct str field(const char *text, size_t size)
{
    return str_make(text, strnlen(text, size));
}

struct reason *reason_take_outcome(struct reason_table *table, const struct queue_outcome *outcome)
{
    return reason_take(table, field(outcome->status, sizeof(outcome->status)),
                       field(outcome->remote, sizeof(outcome->remote)), field(outcome->text, sizeof(outcome->text)));
}

struct reason *reason_retain(struct reason *reason)
{
    if (reason)
        reason->references++;
    return reason;
}

void reason_release(struct reason_table *table, struct reason **pointer)
{
    struct reason *reason = *pointer;

    *pointer = NULL;
    if (!reason || --reason->references > 0)
        return;
    hash_table_remove(&table->reasons, reason_key(reason));
    remove_number(table, reason);
    free(reason);
}

struct str reason_status(const struct reason *reason)
{
    return str_make(reason->bytes, reason->status_length);
}

struct str reason_remote(const struct reason *reason)
{
    return str_make(reason->bytes + reason->status_length + 1, reason->remote_length);
}

struct str reason_text(const struct reason *reason)
{
    return str_skip(reason_key(reason), (size_t)reason->status_length + reason->remote_length + 2);
}

static void put_field(char *out, struct str text)
{
    if (text.length > 0)
        memcpy(out, text.data, text.length);
    out[text.length] = '\0';
}

void reason_to_outcome(const struct reason *reason, struct queue_outcome *outcome)
{
    put_field(outcome->status, reason ? reason_status(reason) : STR(""));
    put_field(outcome->remote, reason ? reason_remote(reason) : STR(""));
    put_field(outcome->text, reason ? reason_text(reason) : STR(""));
}
