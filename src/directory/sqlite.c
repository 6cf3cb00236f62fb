/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite: the embedded directory's backend. It reads; the commands write (store.h), also while it runs.
 *
 * A question takes a connection that nobody uses, or opens one: so there are as many as threads that ask at once. A connection whose file is not the one that
 * stands at the path any more is closed. A file that is not there is an empty directory; one that can't be read, or is damaged, is unavailable.
 */
#include "base/list.h"
#include "base/mem.h"
#include "directory/database.h"
#include "directory/directory_private.h"
#include "os/clock.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sys/stat.h>

enum query {
    QUERY_BEGIN,
    QUERY_COMMIT,
    QUERY_USER,
    QUERY_GROUPS,
    QUERY_ADDRESSES,
    QUERY_CERTIFICATE,
    QUERY_EXACT,
    QUERY_PATTERN,
    QUERY_TARGETS,
    QUERY_CHAIN,
    QUERY_META,
    QUERY_COUNT,
};

#define USER_COLUMNS "users.id, users.name, users.disabled, users.hash, users.scram"

static const char *const queries[QUERY_COUNT] = {
    [QUERY_BEGIN] = "BEGIN",
    [QUERY_COMMIT] = "COMMIT",
    [QUERY_USER] = "SELECT " USER_COLUMNS " FROM users WHERE key = ?1",
    [QUERY_GROUPS] = "SELECT name FROM memberships WHERE user = ?1",
    [QUERY_ADDRESSES] = "SELECT address FROM addresses WHERE user = ?1",
    [QUERY_CERTIFICATE] = "SELECT " USER_COLUMNS " FROM certificates JOIN users ON users.id = user WHERE sha256 = ?1",
    [QUERY_EXACT] = "SELECT id, owner FROM recipients WHERE domain = ?1 AND is_pattern = 0 AND local = ?2",
    [QUERY_PATTERN] = "SELECT id, owner FROM recipients WHERE domain = ?1 AND is_pattern = 1"
                      " AND local = substr(?2, 1, length(local)) ORDER BY length(local) DESC LIMIT 1",
    [QUERY_TARGETS] = "SELECT address FROM targets WHERE recipient = ?1",
    [QUERY_CHAIN] = "SELECT 1 FROM targets JOIN recipients ON recipients.domain = targets.domain AND is_pattern = 0"
                    " AND recipients.local = targets.local WHERE targets.recipient = ?1 AND recipients.id <> ?1"
                    " AND EXISTS (SELECT 1 FROM targets AS others WHERE others.recipient = recipients.id)"
                    " AND NOT EXISTS (SELECT 1 FROM targets AS own WHERE own.recipient = recipients.id"
                    " AND own.domain = recipients.domain AND own.local = recipients.local) LIMIT 1",
    [QUERY_META] = "SELECT value FROM meta WHERE key = ?1",
};

struct connection {
    struct list_link link;
    sqlite3 *database;
    dev_t device;
    ino_t inode;
    bool is_broken;
    sqlite3_stmt *statements[QUERY_COUNT];
};

struct sqlite {
    const struct directory_settings *settings;
    pthread_mutex_t mutex;
    struct list_link idle;
};

/* ---- connections ---- */

static void connection_close(struct connection *connection)
{
    for (size_t i = 0; i < QUERY_COUNT; i++)
        sqlite3_finalize(connection->statements[i]);
    database_close(connection->database);
    free(connection);
}

static struct connection *take_idle(struct sqlite *sqlite)
{
    struct list_link *link;

    pthread_mutex_lock(&sqlite->mutex);
    link = list_take_first(&sqlite->idle);
    pthread_mutex_unlock(&sqlite->mutex);
    return link ? LIST_ENTRY(link, struct connection, link) : NULL;
}

static uint64_t left_ms(uint64_t deadline_ms)
{
    uint64_t now_ms = clock_monotonic_ms();

    return deadline_ms > now_ms ? deadline_ms - now_ms : 0;
}

static enum directory_status open_connection(struct sqlite *sqlite, const struct stat *file, uint64_t deadline_ms,
                                             struct connection **out, struct error *error)
{
    struct connection *connection;
    sqlite3 *database;
    int result =
        database_open(&database, sqlite->settings->config.path.data, DATABASE_READ, left_ms(deadline_ms), error);

    if (result != 0)
        return result == -ENOENT ? DIRECTORY_NO : DIRECTORY_UNAVAILABLE;
    connection = mem_alloc(sizeof(*connection));
    connection->database = database;
    connection->device = file->st_dev;
    connection->inode = file->st_ino;
    list_init(&connection->link);
    *out = connection;
    return DIRECTORY_YES;
}

/* YES: a connection, to be given back. NO: there is no database. */
static enum directory_status take(struct sqlite *sqlite, uint64_t deadline_ms, struct connection **out,
                                  struct error *error)
{
    const char *path = sqlite->settings->config.path.data;
    struct connection *connection;
    struct stat file;
    uint64_t timeout_ms = left_ms(deadline_ms);
    bool is_missing = stat(path, &file) != 0;

    if (is_missing && errno != ENOENT && errno != ENOTDIR) {
        error_set_errno(error, errno, "%s", path);
        return DIRECTORY_UNAVAILABLE;
    }
    while ((connection = take_idle(sqlite))) {
        if (!is_missing && connection->inode == file.st_ino && connection->device == file.st_dev) {
            sqlite3_busy_timeout(connection->database, timeout_ms < INT_MAX ? (int)timeout_ms : INT_MAX);
            *out = connection;
            return DIRECTORY_YES;
        }
        connection_close(connection);
    }
    return is_missing ? DIRECTORY_NO : open_connection(sqlite, &file, deadline_ms, out, error);
}

static void give_back(struct sqlite *sqlite, struct connection *connection)
{
    if (connection->is_broken) {
        connection_close(connection);
        return;
    }
    pthread_mutex_lock(&sqlite->mutex);
    list_prepend(&sqlite->idle, &connection->link);
    pthread_mutex_unlock(&sqlite->mutex);
}

/* ---- statements ---- */

/* With its values, ready to be stepped through; NULL and an error. One that fails leaves the connection broken, and it will be closed. */
static sqlite3_stmt *start(struct connection *connection, enum query query, const struct database_value *values,
                           size_t count, struct error *error)
{
    sqlite3_stmt **statement = &connection->statements[query];

    if (!*statement && sqlite3_prepare_v3(connection->database, queries[query], -1, SQLITE_PREPARE_PERSISTENT,
                                          statement, NULL) != SQLITE_OK)
        goto failed;
    sqlite3_reset(*statement);
    if (database_bind(*statement, values, count) == 0)
        return *statement;
failed:
    connection->is_broken = true;
    database_error(connection->database, "cannot be read", error);
    return NULL;
}

/* YES: a row; NO: no more, and the statement is reset. */
static enum directory_status step(struct connection *connection, sqlite3_stmt *statement, struct error *error)
{
    int result = statement ? sqlite3_step(statement) : SQLITE_ERROR;

    if (result == SQLITE_ROW)
        return DIRECTORY_YES;
    if (result == SQLITE_DONE) {
        sqlite3_reset(statement);
        return DIRECTORY_NO;
    }
    if (statement)
        database_error(connection->database, "cannot be read", error);
    connection->is_broken = true;
    return DIRECTORY_UNAVAILABLE;
}

static enum directory_status run(struct connection *connection, enum query query, struct error *error)
{
    return step(connection, start(connection, query, NULL, 0, error), error) == DIRECTORY_UNAVAILABLE
               ? DIRECTORY_UNAVAILABLE
               : DIRECTORY_YES;
}

/* Each row's first column goes to `add`. YES, or UNAVAILABLE. */
static enum directory_status collect(struct connection *connection, enum query query, int64_t id,
                                     void (*add)(struct directory_found *, struct str), struct directory_found *found,
                                     struct error *error)
{
    struct database_value value = database_number(id);
    sqlite3_stmt *statement = start(connection, query, &value, 1, error);
    enum directory_status status;

    while ((status = step(connection, statement, error)) == DIRECTORY_YES && !found->fault)
        add(found, database_column(statement, 0));
    if (statement)
        sqlite3_reset(statement);
    return status == DIRECTORY_UNAVAILABLE ? DIRECTORY_UNAVAILABLE : DIRECTORY_YES;
}

/* ---- questions ---- */

/* What is asked of a connection, within one transaction, so that it is of one moment. */
struct sqlite_question {
    enum directory_status (*ask)(struct connection *connection, const struct sqlite_question *question,
                                 struct error *error);
    const struct directory_settings *settings;
    const struct directory_name *name;
    const struct directory_address *address;
    const unsigned char *sha256;
    struct directory_found *found;
    char *hash;
    struct directory_scram_keys *keys;
    struct str meta_key;
    unsigned char *secret;
    uint64_t *changes;
};

static enum directory_status ask(struct sqlite *sqlite, struct sqlite_question *question, uint64_t deadline_ms,
                                 struct error *error)
{
    struct connection *connection = NULL;
    enum directory_status status = take(sqlite, deadline_ms, &connection, error);

    if (status != DIRECTORY_YES)
        return status;
    question->settings = sqlite->settings;
    status = run(connection, QUERY_BEGIN, error);
    if (status == DIRECTORY_YES)
        status = question->ask(connection, question, error);
    if (!connection->is_broken && run(connection, QUERY_COMMIT, error) != DIRECTORY_YES)
        status = DIRECTORY_UNAVAILABLE;
    give_back(sqlite, connection);
    return status;
}

/* YES: `*statement` stands on the first form's row that there is; reset it. */
static enum directory_status find_row(struct connection *connection, const struct directory_name *name,
                                      sqlite3_stmt **statement, struct error *error)
{
    enum directory_status status = DIRECTORY_NO;

    for (size_t i = 0; i < name->form_count && status == DIRECTORY_NO; i++) {
        struct database_value value = database_text(name->forms[i]);

        *statement = start(connection, QUERY_USER, &value, 1, error);
        status = step(connection, *statement, error);
    }
    return status;
}

/* The row of QUERY_USER or QUERY_CERTIFICATE, which is reset. */
static enum directory_status take_user(struct connection *connection, sqlite3_stmt *statement,
                                       struct directory_found *found, struct error *error)
{
    int64_t id = sqlite3_column_int64(statement, 0);
    enum directory_status status;

    directory_found_set_name(found, database_column(statement, 1));
    found->is_disabled = sqlite3_column_int64(statement, 2) != 0;
    sqlite3_reset(statement);
    status = collect(connection, QUERY_GROUPS, id, directory_found_add_group, found, error);
    if (status == DIRECTORY_YES)
        status = collect(connection, QUERY_ADDRESSES, id, directory_found_add_address, found, error);
    return status;
}

static enum directory_status ask_user(struct connection *connection, const struct sqlite_question *question,
                                      struct error *error)
{
    sqlite3_stmt *statement = NULL;
    enum directory_status status = find_row(connection, question->name, &statement, error);

    return status == DIRECTORY_YES ? take_user(connection, statement, question->found, error) : status;
}

static enum directory_status ask_certificate(struct connection *connection, const struct sqlite_question *question,
                                             struct error *error)
{
    struct database_value value = database_blob(question->sha256, 32);
    sqlite3_stmt *statement = start(connection, QUERY_CERTIFICATE, &value, 1, error);
    enum directory_status status = step(connection, statement, error);

    if (status != DIRECTORY_YES)
        return status;
    if (sqlite3_column_int64(statement, 2) != 0) {
        sqlite3_reset(statement);
        return DIRECTORY_NO;
    }
    return take_user(connection, statement, question->found, error);
}

/* The hash, or the keys, of a user who may sign in. */
static enum directory_status ask_secret(struct connection *connection, const struct sqlite_question *question,
                                        struct error *error)
{
    sqlite3_stmt *statement = NULL;
    enum directory_status status = find_row(connection, question->name, &statement, error);
    struct str text;

    if (status != DIRECTORY_YES)
        return status;
    text = database_column(statement, question->hash ? 3 : 4);
    if (sqlite3_column_int64(statement, 2) != 0 || text.length == 0) {
        status = DIRECTORY_NO;
    } else if (question->hash && text.length < PASSWORD_HASH_BYTES) {
        snprintf(question->hash, PASSWORD_HASH_BYTES, "%.*s", STR_ARG(text));
    } else if (!question->keys || !password_parse_scram(text, question->keys)) {
        status = DIRECTORY_UNAVAILABLE;
        error_set(error, "a user's password entry is damaged");
    }
    sqlite3_reset(statement);
    return status;
}

/* Users are recipients: as USER@default-domain, or by their whole name. */
static enum directory_status ask_user_recipient(struct connection *connection, const struct sqlite_question *question,
                                                struct error *error)
{
    const struct directory_address *address = question->address;
    struct directory_name name = {.forms = {address->normal, address->local}, .form_count = 1};
    sqlite3_stmt *statement = NULL;
    enum directory_status status;

    if (str_equal(address->domain, question->settings->default_domain))
        name.form_count = 2;
    status = find_row(connection, &name, &statement, error);
    if (status == DIRECTORY_YES)
        sqlite3_reset(statement);
    return status;
}

static enum directory_status refuse_chain(struct connection *connection, int64_t id, struct directory_found *found,
                                          struct error *error)
{
    struct database_value value = database_number(id);
    sqlite3_stmt *statement = start(connection, QUERY_CHAIN, &value, 1, error);
    enum directory_status status = step(connection, statement, error);

    if (status == DIRECTORY_UNAVAILABLE)
        return status;
    if (status == DIRECTORY_YES) {
        found->fault = "an alias names an alias: of one level only, or it may go round in a loop";
        sqlite3_reset(statement);
    }
    return DIRECTORY_YES;
}

/* By the row of a recipient, which is reset. */
static enum directory_status take_recipient(struct connection *connection, sqlite3_stmt *statement,
                                            struct directory_found *found, struct error *error)
{
    int64_t id = sqlite3_column_int64(statement, 0);
    struct str owner = database_column(statement, 1);
    enum directory_status status;

    if (owner.length > 0)
        directory_found_set_owner(found, owner);
    sqlite3_reset(statement);
    status = collect(connection, QUERY_TARGETS, id, directory_found_add_target, found, error);
    return status == DIRECTORY_YES ? refuse_chain(connection, id, found, error) : status;
}

/* What is exact beats the longest pattern, which beats the one that catches all. */
static enum directory_status ask_recipient(struct connection *connection, const struct sqlite_question *question,
                                           struct error *error)
{
    const struct directory_address *address = question->address;
    const struct database_value values[] = {database_text(address->domain), database_text(address->local)};
    sqlite3_stmt *statement = start(connection, QUERY_EXACT, values, 2, error);
    enum directory_status status = step(connection, statement, error);

    if (status == DIRECTORY_YES)
        return take_recipient(connection, statement, question->found, error);
    if (status == DIRECTORY_NO)
        status = ask_user_recipient(connection, question, error);
    if (status != DIRECTORY_NO)
        return status;
    statement = start(connection, QUERY_PATTERN, values, 2, error);
    status = step(connection, statement, error);
    return status == DIRECTORY_YES ? take_recipient(connection, statement, question->found, error) : status;
}

static enum directory_status ask_meta(struct connection *connection, const struct sqlite_question *question,
                                      struct error *error)
{
    struct database_value value = database_text(question->meta_key);
    sqlite3_stmt *statement = start(connection, QUERY_META, &value, 1, error);
    enum directory_status status = step(connection, statement, error);
    struct str secret;

    if (status != DIRECTORY_YES)
        return status;
    secret = database_column(statement, 0);
    if (question->changes)
        /* Another file is another content, whatever it counts. */
        *question->changes = (uint64_t)sqlite3_column_int64(statement, 0) ^ ((uint64_t)connection->inode << 32);
    else if (secret.length == 32)
        memcpy(question->secret, secret.data, 32);
    else
        status = DIRECTORY_NO;
    sqlite3_reset(statement);
    return status;
}

/* ---- the table ---- */

static void *sqlite_create(const struct directory_settings *settings, struct error *error)
{
    struct sqlite *sqlite;

    if (!sqlite3_threadsafe()) {
        error_set(error, "this system's SQLite can't be used by threads");
        return NULL;
    }
    sqlite = mem_alloc(sizeof(*sqlite));
    sqlite->settings = settings;
    pthread_mutex_init(&sqlite->mutex, NULL);
    list_init(&sqlite->idle);
    return sqlite;
}

static void sqlite_destroy(void *backend)
{
    struct sqlite *sqlite = backend;
    struct connection *connection;

    while ((connection = take_idle(sqlite)))
        connection_close(connection);
    pthread_mutex_destroy(&sqlite->mutex);
    free(sqlite);
}

static bool sqlite_has_scram(void *backend)
{
    (void)backend;
    return true;
}

static bool sqlite_find_version(void *backend, uint64_t *version)
{
    struct sqlite *sqlite = backend;
    struct sqlite_question question = {.ask = ask_meta, .meta_key = STR("changes"), .changes = version};
    struct error error;
    enum directory_status status;

    *version = 0; /* of no database */
    status = ask(sqlite, &question, clock_monotonic_ms() + sqlite->settings->config.timeout_ms, &error);
    return status != DIRECTORY_UNAVAILABLE;
}

static enum directory_status sqlite_find_user(void *backend, const struct directory_name *name, uint64_t deadline_ms,
                                              struct directory_found *found, struct error *error)
{
    struct sqlite_question question = {.ask = ask_user, .name = name, .found = found};

    return ask(backend, &question, deadline_ms, error);
}

static enum directory_status sqlite_find_hash(void *backend, const struct directory_name *name, uint64_t deadline_ms,
                                              char hash[PASSWORD_HASH_BYTES], struct error *error)
{
    struct sqlite_question question = {.ask = ask_secret, .name = name, .hash = hash};

    return ask(backend, &question, deadline_ms, error);
}

static enum directory_status sqlite_find_scram_keys(void *backend, const struct directory_name *name,
                                                    uint64_t deadline_ms, struct directory_scram_keys *keys,
                                                    struct error *error)
{
    struct sqlite_question question = {.ask = ask_secret, .name = name, .keys = keys};

    return ask(backend, &question, deadline_ms, error);
}

/* Iterations and salt are as we make all keys. */
static bool sqlite_find_scram_model(void *backend, unsigned char secret[32], unsigned *iterations, size_t *salt_bytes)
{
    struct sqlite *sqlite = backend;
    struct sqlite_question question = {.ask = ask_meta, .meta_key = STR("secret"), .secret = secret};
    struct error error;

    (void)iterations;
    (void)salt_bytes;
    return ask(sqlite, &question, clock_monotonic_ms() + sqlite->settings->config.timeout_ms, &error) == DIRECTORY_YES;
}

static enum directory_status sqlite_find_certificate(void *backend, const unsigned char sha256[32],
                                                     uint64_t deadline_ms, struct directory_found *found,
                                                     struct error *error)
{
    struct sqlite_question question = {.ask = ask_certificate, .sha256 = sha256, .found = found};

    return ask(backend, &question, deadline_ms, error);
}

static enum directory_status sqlite_find_recipient(void *backend, const struct directory_address *address,
                                                   uint64_t deadline_ms, struct directory_found *found,
                                                   struct error *error)
{
    struct sqlite_question question = {.ask = ask_recipient, .address = address, .found = found};

    return ask(backend, &question, deadline_ms, error);
}

const struct directory_backend_operations directory_sqlite = {
    .name = "sqlite",
    .create = sqlite_create,
    .destroy = sqlite_destroy,
    .has_scram = sqlite_has_scram,
    .find_version = sqlite_find_version,
    .find_user = sqlite_find_user,
    .find_hash = sqlite_find_hash,
    .find_scram_keys = sqlite_find_scram_keys,
    .find_scram_model = sqlite_find_scram_model,
    .find_certificate = sqlite_find_certificate,
    .find_recipient = sqlite_find_recipient,
};
