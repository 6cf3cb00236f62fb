/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/store.h"

#include "base/mem.h"
#include "directory/store_private.h"
#include "mail/text.h"

#include <errno.h>
#include <sys/stat.h>

int store_open(struct store **out, const char *path, struct str default_domain, bool may_create, struct error *error)
{
    mode_t before = umask(0077);
    sqlite3 *database = NULL;
    int result = database_open(&database, path, may_create ? DATABASE_WRITE : DATABASE_READ, STORE_TIMEOUT_MS, error);

    umask(before);
    *out = NULL;
    if (result == -ENOENT && !may_create)
        return 0;
    if (result != 0)
        return -1;
    *out = mem_alloc(sizeof(**out));
    (*out)->database = database;
    (*out)->default_domain = default_domain;
    return 0;
}

void store_close(struct store **store)
{
    if (*store)
        database_close((*store)->database);
    mem_free(store);
}

/* ---- what may be kept ---- */

int store_check_name(struct str name, struct error *error)
{
    size_t at = str_find_last(name, '@');
    char normal[DOMAIN_TEXT_BYTES];

    if (!directory_is_name(name))
        return error_set(error, "a name has 1 to %d octets of UTF-8, without spaces and control characters",
                         DIRECTORY_NAME_BYTES_MAX);
    if (at != STR_NONE && (at == 0 || domain_normalize(str_skip(name, at + 1), normal) == 0))
        return error_set(error, "\"%.*s\" is neither a name nor an address", STR_ARG(name));
    return 0;
}

int store_check_group(struct str group, struct error *error)
{
    size_t length = 0;

    for (struct str rest = group; rest.length > 0; rest = str_skip(rest, length)) {
        length = text_utf8_length(rest);
        if (length == 0 || (unsigned char)rest.data[0] < ' ' || rest.data[0] == 0x7f)
            return error_set(error, "a group's name is UTF-8 without control characters");
    }
    if (group.length == 0 || group.length > DIRECTORY_NAME_BYTES_MAX)
        return error_set(error, "a group's name has 1 to %d octets", DIRECTORY_NAME_BYTES_MAX);
    return 0;
}

int store_check_address(struct str address, struct error *error)
{
    struct directory_address_key key;

    if (!directory_address_init(&key, address))
        return error_set(error, "\"%.*s\" is not an address; write LOCAL@DOMAIN", STR_ARG(str_take(address, 300)));
    return 0;
}

int store_check_recipient(struct str address, struct error *error)
{
    struct directory_address_key key;
    bool is_pattern;

    if (!directory_recipient_init(&key, address, &is_pattern))
        return error_set(error, "\"%.*s\" is not an address; write LOCAL@DOMAIN, PREFIX*@DOMAIN or *@DOMAIN",
                         STR_ARG(str_take(address, 300)));
    return 0;
}

/* ---- statements ---- */

enum store_result store_fail(struct store *store, struct error *error)
{
    database_error(store->database, "cannot be read or written", error);
    return STORE_FAILED;
}

sqlite3_stmt *store_prepare(struct store *store, const char *sql, const struct database_value *values, size_t count,
                            struct error *error)
{
    sqlite3_stmt *statement = NULL;

    if (sqlite3_prepare_v2(store->database, sql, -1, &statement, NULL) == SQLITE_OK &&
        database_bind(statement, values, count) == 0)
        return statement;
    store_fail(store, error);
    sqlite3_finalize(statement);
    return NULL;
}

enum store_result store_run(struct store *store, const char *sql, const struct database_value *values, size_t count,
                            int *changed, struct error *error)
{
    sqlite3_stmt *statement = store_prepare(store, sql, values, count, error);
    enum store_result result = STORE_DONE;

    if (!statement)
        return STORE_FAILED;
    if (sqlite3_step(statement) != SQLITE_DONE)
        result = store_fail(store, error);
    else if (changed)
        *changed = sqlite3_changes(store->database);
    sqlite3_finalize(statement);
    return result;
}

enum store_result store_find_id(struct store *store, const char *sql, const struct database_value *values, size_t count,
                                int64_t *id, struct error *error)
{
    sqlite3_stmt *statement = store_prepare(store, sql, values, count, error);
    enum store_result result = STORE_DONE;
    int step;

    if (!statement)
        return STORE_FAILED;
    step = sqlite3_step(statement);
    if (step == SQLITE_ROW)
        *id = sqlite3_column_int64(statement, 0);
    else
        result = step == SQLITE_DONE ? STORE_NO : store_fail(store, error);
    sqlite3_finalize(statement);
    return result;
}

/* Doubles what there is room for when it is full; what was there stays in the arena until it goes. */
static bool append(struct arena *arena, struct str **items, size_t count, struct str item)
{
    bool is_full = (count & (count - 1)) == 0;
    struct str *grown = is_full ? arena_alloc(arena, (count == 0 ? 1 : count * 2) * sizeof(*grown)) : *items;

    if (!grown)
        return false;
    if (is_full && count > 0)
        memcpy(grown, *items, count * sizeof(*grown));
    grown[count] = arena_copy(arena, item);
    *items = grown;
    return grown[count].data != NULL;
}

enum store_result store_collect(struct store *store, const char *sql, int64_t id, struct arena *arena,
                                struct store_list *list, struct error *error)
{
    struct database_value value = database_number(id);
    sqlite3_stmt *statement = store_prepare(store, sql, &value, 1, error);
    struct str *items = NULL;
    int step;

    *list = (struct store_list){0};
    if (!statement)
        return STORE_FAILED;
    while ((step = sqlite3_step(statement)) == SQLITE_ROW &&
           append(arena, &items, list->count, database_column(statement, 0)))
        list->count++;
    list->items = items;
    if (step == SQLITE_ROW)
        error_set(error, "the list is too long to be shown");
    else if (step != SQLITE_DONE)
        store_fail(store, error);
    sqlite3_finalize(statement);
    return step == SQLITE_DONE ? STORE_DONE : STORE_FAILED;
}

/* ---- transactions ---- */

enum store_result store_begin(struct store *store, struct error *error)
{
    return database_run(store->database, "BEGIN IMMEDIATE", error) == 0 ? STORE_DONE : STORE_FAILED;
}

enum store_result store_end(struct store *store, enum store_result result, struct error *error)
{
    if (result == STORE_DONE &&
        (database_run(store->database, "UPDATE meta SET value = value + 1 WHERE key = 'changes'", error) != 0 ||
         database_run(store->database, "COMMIT", error) != 0))
        result = STORE_FAILED;
    if (result != STORE_DONE)
        sqlite3_exec(store->database, "ROLLBACK", NULL, NULL, NULL);
    return result;
}
