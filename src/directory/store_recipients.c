/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/store_private.h"

#define LIST_BYTES_MAX (64u << 20)

/* ?1 domain, ?2 local part or prefix, ?3 whether it is a pattern: the row of a recipient. */
struct row_key {
    struct directory_address_key address;
    bool is_pattern;
    struct database_value values[3];
};

static bool make_row_key(struct row_key *key, struct str address)
{
    if (!directory_recipient_init(&key->address, address, &key->is_pattern))
        return false;
    key->values[0] = database_text(key->address.address.domain);
    key->values[1] = database_text(key->address.address.local);
    key->values[2] = database_number(key->is_pattern);
    return true;
}

static enum store_result delete_row(struct store *store, const struct row_key *key, int *changed, struct error *error)
{
    return store_run(store, "DELETE FROM recipients WHERE domain = ?1 AND local = ?2 AND is_pattern = ?3", key->values,
                     3, changed, error);
}

/* ---- one level of indirection ----
 *
 * What an alias or list names is not looked up as one again. So it must be none; but one that names itself is a mailbox too, which may be named. */

static enum store_result refuse_chain(const struct store_recipient *recipient, struct str other, bool is_named,
                                      struct error *error)
{
    struct str from = is_named ? other : recipient->address, to = is_named ? recipient->address : other;

    error_set(error, "\"%.*s\" names \"%.*s\", which would be an alias or list itself; name what it stands for",
              STR_ARG(str_take(from, 200)), STR_ARG(str_take(to, 200)));
    return STORE_NO;
}

/* The alias, of this target's address, that is another than `id`. */
static enum store_result check_target(struct store *store, int64_t id, const struct store_recipient *recipient,
                                      const struct directory_address_key *target, struct error *error)
{
    const struct database_value values[] = {database_text(target->address.domain), database_text(target->address.local),
                                            database_number(id)};
    int64_t other;
    enum store_result result = store_find_id(store,
                                             "SELECT id FROM recipients WHERE domain = ?1 AND local = ?2 AND is_pattern"
                                             " = 0 AND id <> ?3 AND EXISTS (SELECT 1 FROM targets WHERE recipient = id)"
                                             " AND NOT EXISTS (SELECT 1 FROM targets WHERE recipient = id"
                                             " AND domain = ?1 AND local = ?2)",
                                             values, 3, &other, error);

    if (result == STORE_NO)
        return STORE_DONE;
    return result == STORE_DONE ? refuse_chain(recipient, target->address.normal, false, error) : result;
}

/* Another alias that names this one, which has just become an alias. */
static enum store_result check_named(struct store *store, int64_t id, const struct store_recipient *recipient,
                                     const struct row_key *key, struct error *error)
{
    const struct database_value values[] = {key->values[0], key->values[1], database_number(id)};
    sqlite3_stmt *statement;
    enum store_result result = STORE_DONE;
    int step;

    if (key->is_pattern || recipient->targets.count == 0)
        return STORE_DONE;
    statement = store_prepare(store,
                              "SELECT recipients.local || CASE is_pattern WHEN 1 THEN '*' ELSE '' END || '@' ||"
                              " recipients.domain FROM targets JOIN recipients ON recipients.id = recipient"
                              " WHERE targets.domain = ?1 AND targets.local = ?2 AND recipient <> ?3"
                              " AND NOT EXISTS (SELECT 1 FROM targets WHERE recipient = ?3 AND domain = ?1"
                              " AND local = ?2) LIMIT 1",
                              values, 3, error);
    if (!statement)
        return STORE_FAILED;
    step = sqlite3_step(statement);
    if (step == SQLITE_ROW)
        result = refuse_chain(recipient, database_column(statement, 0), true, error);
    else if (step != SQLITE_DONE)
        result = store_fail(store, error);
    sqlite3_finalize(statement);
    return result;
}

/* ---- adding ---- */

static enum store_result add_target(struct store *store, int64_t id, const struct store_recipient *recipient,
                                    struct str target, struct error *error)
{
    struct directory_address_key key;
    enum store_result result;

    if (!directory_address_init(&key, target)) {
        error_set(error, "\"%.*s\" is not an address", STR_ARG(str_take(target, 200)));
        return STORE_NO;
    }
    result = check_target(store, id, recipient, &key, error);
    if (result == STORE_DONE) {
        const struct database_value values[] = {database_number(id), database_text(key.address.domain),
                                                database_text(key.address.local), database_text(target)};

        result = store_run(store,
                           "INSERT OR IGNORE INTO targets (recipient, domain, local, address) VALUES (?1, ?2, ?3, ?4)",
                           values, 4, NULL, error);
    }
    return result;
}

static enum store_result add_row(struct store *store, const struct store_recipient *recipient,
                                 const struct row_key *key, int64_t *id, struct error *error)
{
    const struct database_value values[] = {key->values[0], key->values[1], key->values[2],
                                            recipient->owner.length > 0 ? database_text(recipient->owner)
                                                                        : database_null()};
    int changed = 0;
    enum store_result result =
        store_run(store, "INSERT OR IGNORE INTO recipients (domain, local, is_pattern, owner) VALUES (?1, ?2, ?3, ?4)",
                  values, 4, &changed, error);

    if (result == STORE_DONE && changed == 0) {
        error_set(error, "\"%.*s\" is known already", STR_ARG(str_take(recipient->address, 300)));
        return STORE_NO;
    }
    *id = sqlite3_last_insert_rowid(store->database);
    return result;
}

enum store_result store_add_recipient(struct store *store, const struct store_recipient *recipient, bool replace,
                                      struct error *error)
{
    struct row_key key;
    enum store_result result;
    int64_t id = 0;

    if (!make_row_key(&key, recipient->address) || recipient->targets.count > DIRECTORY_TARGETS_MAX) {
        error_set(error, "a list has at most %d addresses", DIRECTORY_TARGETS_MAX);
        return STORE_NO;
    }
    result = store_begin(store, error);
    if (result != STORE_DONE)
        return result;
    if (replace)
        result = delete_row(store, &key, NULL, error);
    if (result == STORE_DONE)
        result = add_row(store, recipient, &key, &id, error);
    for (size_t i = 0; i < recipient->targets.count && result == STORE_DONE; i++)
        result = add_target(store, id, recipient, recipient->targets.items[i], error);
    if (result == STORE_DONE)
        result = check_named(store, id, recipient, &key, error);
    return store_end(store, result, error);
}

enum store_result store_delete_recipient(struct store *store, struct str address, struct error *error)
{
    struct row_key key;
    enum store_result result = store_begin(store, error);
    int changed = 0;

    if (result != STORE_DONE)
        return result;
    if (make_row_key(&key, address))
        result = delete_row(store, &key, &changed, error);
    if (result == STORE_DONE && changed == 0) {
        error_set(error, "there is no recipient \"%.*s\"", STR_ARG(str_take(address, 300)));
        result = STORE_NO;
    }
    return store_end(store, result, error);
}

/* ---- listing ---- */

static enum store_result show_recipient(struct store *store, sqlite3_stmt *row,
                                        void (*show)(void *context, const struct store_recipient *recipient),
                                        void *context, struct error *error)
{
    struct store_recipient recipient = {.address = database_column(row, 1), .owner = database_column(row, 2)};
    struct arena arena;
    enum store_result result;

    arena_init(&arena, LIST_BYTES_MAX);
    result = store_collect(store, "SELECT address FROM targets WHERE recipient = ?1 ORDER BY domain, local",
                           sqlite3_column_int64(row, 0), &arena, &recipient.targets, error);
    if (result == STORE_DONE)
        show(context, &recipient);
    arena_release(&arena);
    return result;
}

enum store_result store_list_recipients(struct store *store,
                                        void (*show)(void *context, const struct store_recipient *recipient),
                                        void *context, struct error *error)
{
    sqlite3_stmt *statement =
        store_prepare(store,
                      "SELECT id, local || CASE is_pattern WHEN 1 THEN '*' ELSE '' END || '@' || domain, owner"
                      " FROM recipients ORDER BY domain, is_pattern, local",
                      NULL, 0, error);
    enum store_result result = statement ? STORE_DONE : STORE_FAILED;
    int step = SQLITE_DONE;

    while (result == STORE_DONE && (step = sqlite3_step(statement)) == SQLITE_ROW)
        result = show_recipient(store, statement, show, context, error);
    if (result == STORE_DONE && step != SQLITE_DONE)
        result = store_fail(store, error);
    sqlite3_finalize(statement);
    return result;
}
