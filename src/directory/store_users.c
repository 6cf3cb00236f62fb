/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/store_private.h"

/* What one user has, listed. */
#define LIST_BYTES_MAX (64u << 20)

static enum store_result unknown(struct str name, struct error *error)
{
    error_set(error, "there is no user \"%.*s\"", STR_ARG(name));
    return STORE_NO;
}

static enum store_result find_user(struct store *store, struct str name, int64_t *id, struct error *error)
{
    char normal[DIRECTORY_FORM_BYTES];
    struct database_value key =
        database_text(str_make(normal, directory_normal_name(name, store->default_domain, normal)));
    enum store_result result = store_find_id(store, "SELECT id FROM users WHERE key = ?1", &key, 1, id, error);

    return result == STORE_NO ? unknown(name, error) : result;
}

static struct database_value hash_value(const struct store_secrets *secrets)
{
    return secrets->hash ? database_text(str_from_cstr(secrets->hash)) : database_null();
}

static struct database_value scram_value(const struct store_secrets *secrets, char text[PASSWORD_SCRAM_TEXT_BYTES])
{
    if (!secrets->scram)
        return database_null();
    password_format_scram(secrets->scram, text);
    return database_text(str_from_cstr(text));
}

/* One statement about one user, ?1. */
static enum store_result update(struct store *store, struct str name, const char *sql, struct database_value *values,
                                size_t count, struct error *error)
{
    enum store_result result = store_begin(store, error);
    int64_t id = 0;

    if (result != STORE_DONE)
        return result;
    result = find_user(store, name, &id, error);
    values[0] = database_number(id);
    if (result == STORE_DONE)
        result = store_run(store, sql, values, count, NULL, error);
    return store_end(store, result, error);
}

enum store_result store_set_secrets(struct store *store, struct str name, const struct store_secrets *secrets,
                                    struct error *error)
{
    char scram[PASSWORD_SCRAM_TEXT_BYTES];
    struct database_value values[] = {database_null(), hash_value(secrets), scram_value(secrets, scram)};
    enum store_result result =
        update(store, name, "UPDATE users SET hash = ?2, scram = ?3 WHERE id = ?1", values, 3, error);

    explicit_bzero(scram, sizeof(scram));
    return result;
}

enum store_result store_set_disabled(struct store *store, struct str name, bool is_disabled, struct error *error)
{
    struct database_value values[] = {database_null(), database_number(is_disabled)};

    return update(store, name, "UPDATE users SET disabled = ?2 WHERE id = ?1", values, 2, error);
}

enum store_result store_delete_user(struct store *store, struct str name, struct error *error)
{
    struct database_value values[] = {database_null()};

    return update(store, name, "DELETE FROM users WHERE id = ?1", values, 1, error);
}

/* ---- groups, addresses, certificates ---- */

static const struct {
    const char *add, *remove, *count;
    int64_t count_max;
} attributes[] = {
    [STORE_GROUP] = {"INSERT OR IGNORE INTO memberships (user, name) VALUES (?1, ?2)",
                     "DELETE FROM memberships WHERE user = ?1 AND name = ?2",
                     "SELECT count(*) FROM memberships WHERE user = ?1", DIRECTORY_GROUPS_MAX},
    [STORE_ADDRESS] = {"INSERT OR IGNORE INTO addresses (user, address) VALUES (?1, ?2)",
                       "DELETE FROM addresses WHERE user = ?1 AND address = ?2",
                       "SELECT count(*) FROM addresses WHERE user = ?1", DIRECTORY_ADDRESSES_MAX - 1},
    [STORE_CERTIFICATE] = {"INSERT OR IGNORE INTO certificates (user, sha256) VALUES (?1, ?2)",
                           "DELETE FROM certificates WHERE user = ?1 AND sha256 = ?2",
                           "SELECT count(*) FROM certificates WHERE user = ?1", 1000},
};

static enum store_result check_certificate(struct store *store, int64_t id, struct database_value sha256,
                                           struct error *error)
{
    int64_t owner = 0;
    enum store_result result =
        store_find_id(store, "SELECT user FROM certificates WHERE sha256 = ?1", &sha256, 1, &owner, error);

    if (result == STORE_DONE && owner != id) {
        error_set(error, "the certificate is another user's");
        return STORE_NO;
    }
    return result == STORE_FAILED ? STORE_FAILED : STORE_DONE;
}

static enum store_result change(struct store *store, int64_t id, const struct store_change *change, struct error *error)
{
    struct directory_address_key key;
    unsigned char sha256[32];
    struct database_value values[] = {database_number(id), database_text(change->value)};
    enum store_result result = STORE_DONE;
    int64_t count = 0;

    if (change->attribute == STORE_ADDRESS && directory_address_init(&key, change->value))
        values[1] = database_text(key.address.normal);
    if (change->attribute == STORE_CERTIFICATE && policy_parse_certificate(change->value, sha256))
        values[1] = database_blob(sha256, sizeof(sha256));
    if (change->remove)
        return store_run(store, attributes[change->attribute].remove, values, 2, NULL, error);
    if (change->attribute == STORE_CERTIFICATE)
        result = check_certificate(store, id, values[1], error);
    if (result == STORE_DONE)
        result = store_run(store, attributes[change->attribute].add, values, 2, NULL, error);
    if (result == STORE_DONE)
        result = store_find_id(store, attributes[change->attribute].count, values, 1, &count, error);
    if (result == STORE_DONE && count > attributes[change->attribute].count_max) {
        error_set(error, "a user may have %lld of these at most", (long long)attributes[change->attribute].count_max);
        result = STORE_NO;
    }
    return result;
}

static enum store_result insert_user(struct store *store, struct str name, const struct store_secrets *secrets,
                                     struct error *error)
{
    char normal[DIRECTORY_FORM_BYTES];
    char scram[PASSWORD_SCRAM_TEXT_BYTES];
    size_t length = directory_normal_name(name, store->default_domain, normal);
    const struct database_value values[] = {database_text(str_make(normal, length)), database_text(name),
                                            hash_value(secrets), scram_value(secrets, scram)};
    int changed = 0;
    enum store_result result =
        store_run(store, "INSERT OR IGNORE INTO users (key, name, hash, scram) VALUES (?1, ?2, ?3, ?4)", values, 4,
                  &changed, error);

    if (result == STORE_DONE && changed == 0) {
        error_set(error, "there is a user \"%.*s\" already", STR_ARG(name));
        result = STORE_NO;
    }
    explicit_bzero(scram, sizeof(scram));
    return result;
}

enum store_result store_add_user(struct store *store, struct str name, const struct store_secrets *secrets,
                                 const struct store_change *changes, size_t count, struct error *error)
{
    enum store_result result = store_begin(store, error);
    int64_t id;

    if (result != STORE_DONE)
        return result;
    result = insert_user(store, name, secrets, error);
    id = sqlite3_last_insert_rowid(store->database);
    for (size_t i = 0; i < count && result == STORE_DONE; i++)
        result = change(store, id, &changes[i], error);
    return store_end(store, result, error);
}

enum store_result store_change_user(struct store *store, struct str name, const struct store_change *changes,
                                    size_t count, struct error *error)
{
    enum store_result result = store_begin(store, error);
    int64_t id = 0;

    if (result != STORE_DONE)
        return result;
    result = find_user(store, name, &id, error);
    for (size_t i = 0; i < count && result == STORE_DONE; i++)
        result = change(store, id, &changes[i], error);
    return store_end(store, result, error);
}

/* ---- listing ---- */

static enum store_result show_user(struct store *store, sqlite3_stmt *row,
                                   void (*show)(void *context, const struct store_user *user), void *context,
                                   struct error *error)
{
    struct store_user user = {
        .name = database_column(row, 1),
        .is_disabled = sqlite3_column_int(row, 2) != 0,
        .has_password = sqlite3_column_int(row, 3) != 0,
        .has_scram = sqlite3_column_int(row, 4) != 0,
    };
    int64_t id = sqlite3_column_int64(row, 0);
    struct arena arena;
    enum store_result result;

    arena_init(&arena, LIST_BYTES_MAX);
    result = store_collect(store, "SELECT name FROM memberships WHERE user = ?1 ORDER BY name", id, &arena,
                           &user.groups, error);
    if (result == STORE_DONE)
        result = store_collect(store, "SELECT address FROM addresses WHERE user = ?1 ORDER BY address", id, &arena,
                               &user.addresses, error);
    if (result == STORE_DONE)
        result = store_collect(store, "SELECT lower(hex(sha256)) FROM certificates WHERE user = ?1 ORDER BY 1", id,
                               &arena, &user.certificates, error);
    if (result == STORE_DONE)
        show(context, &user);
    arena_release(&arena);
    return result;
}

enum store_result store_list_users(struct store *store, struct str name,
                                   void (*show)(void *context, const struct store_user *user), void *context,
                                   struct error *error)
{
    char normal[DIRECTORY_FORM_BYTES] = "";
    size_t length = directory_normal_name(name, store->default_domain, normal);
    struct database_value key = database_text(str_make(normal, length));
    sqlite3_stmt *statement = store_prepare(store,
                                            "SELECT id, name, disabled, hash IS NOT NULL, scram IS NOT NULL FROM users"
                                            " WHERE ?1 = '' OR key = ?1 ORDER BY key",
                                            &key, 1, error);
    enum store_result result = statement ? STORE_DONE : STORE_FAILED;
    size_t count = 0;
    int step = SQLITE_DONE;

    while (result == STORE_DONE && (step = sqlite3_step(statement)) == SQLITE_ROW) {
        result = show_user(store, statement, show, context, error);
        count++;
    }
    if (result == STORE_DONE && step != SQLITE_DONE)
        result = store_fail(store, error);
    sqlite3_finalize(statement);
    if (result == STORE_DONE && count == 0 && name.length > 0)
        return unknown(name, error);
    return result;
}
