/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/database.h"

#include "os/random.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

/* "PSTN", so that file(1) and we know a database of ours. */
#define APPLICATION_ID 0x5053544e

/* From version N to N + 1. Never changed once released: what differs comes as another step. */
static const char *const migrations[DATABASE_VERSION] = {
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE users (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, name TEXT NOT NULL,"
    "  disabled INTEGER NOT NULL DEFAULT 0, hash TEXT, scram TEXT);"
    "CREATE TABLE memberships (user INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,"
    "  name TEXT NOT NULL COLLATE NOCASE, PRIMARY KEY (user, name)) WITHOUT ROWID;"
    "CREATE TABLE addresses (user INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,"
    "  address TEXT NOT NULL, PRIMARY KEY (user, address)) WITHOUT ROWID;"
    "CREATE TABLE certificates (sha256 BLOB PRIMARY KEY,"
    "  user INTEGER NOT NULL REFERENCES users ON DELETE CASCADE) WITHOUT ROWID;"
    "CREATE INDEX certificates_by_user ON certificates (user);"
    "CREATE TABLE recipients (id INTEGER PRIMARY KEY, domain TEXT NOT NULL, is_pattern INTEGER NOT NULL,"
    "  local TEXT NOT NULL, owner TEXT, UNIQUE (domain, is_pattern, local));"
    "CREATE TABLE targets (recipient INTEGER NOT NULL REFERENCES recipients ON DELETE CASCADE,"
    "  domain TEXT NOT NULL, local TEXT NOT NULL, address TEXT NOT NULL,"
    "  PRIMARY KEY (recipient, domain, local)) WITHOUT ROWID;"
    "CREATE INDEX targets_by_address ON targets (domain, local);",
};

int database_error(sqlite3 *database, const char *what, struct error *error)
{
    const char *path = database ? sqlite3_db_filename(database, "main") : NULL;

    return error_set(error, "%s: %s: %s", path && path[0] ? path : "the directory's database", what,
                     database ? sqlite3_errmsg(database) : "out of memory");
}

int database_run(sqlite3 *database, const char *sql, struct error *error)
{
    if (sqlite3_exec(database, sql, NULL, NULL, NULL) != SQLITE_OK)
        return database_error(database, "cannot be read or written", error);
    return 0;
}

int database_bind(sqlite3_stmt *statement, const struct database_value *values, size_t count)
{
    int result = SQLITE_OK;

    for (size_t i = 0; i < count && result == SQLITE_OK; i++) {
        const struct database_value *value = &values[i];
        const char *bytes = value->bytes.data ? value->bytes.data : "";
        int index = (int)i + 1;

        switch (value->type) {
        case DATABASE_NULL:
            result = sqlite3_bind_null(statement, index);
            break;
        case DATABASE_NUMBER:
            result = sqlite3_bind_int64(statement, index, value->number);
            break;
        case DATABASE_TEXT:
            result = sqlite3_bind_text(statement, index, bytes, (int)value->bytes.length, SQLITE_STATIC);
            break;
        case DATABASE_BLOB:
            result = sqlite3_bind_blob(statement, index, bytes, (int)value->bytes.length, SQLITE_STATIC);
            break;
        }
    }
    return result == SQLITE_OK ? 0 : -1;
}

struct str database_column(sqlite3_stmt *statement, int column)
{
    const char *data = sqlite3_column_blob(statement, column);

    return data ? str_make(data, (size_t)sqlite3_column_bytes(statement, column)) : STR("");
}

/* ---- the schema ---- */

static int read_number(sqlite3 *database, const char *sql, int64_t *number, struct error *error)
{
    sqlite3_stmt *statement = NULL;
    int result = -1;

    if (sqlite3_prepare_v2(database, sql, -1, &statement, NULL) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW) {
        *number = sqlite3_column_int64(statement, 0);
        result = 0;
    } else {
        database_error(database, "cannot be read", error);
    }
    sqlite3_finalize(statement);
    return result;
}

static int read_version(sqlite3 *database, int64_t *version, struct error *error)
{
    int64_t application;

    if (read_number(database, "PRAGMA user_version", version, error) != 0 ||
        read_number(database, "PRAGMA application_id", &application, error) != 0)
        return -1;
    if (application != APPLICATION_ID && (application != 0 || *version != 0))
        return error_set(error, "%s: is another program's database", sqlite3_db_filename(database, "main"));
    if (*version < 0 || *version > DATABASE_VERSION)
        return error_set(error, "%s: is of version %lld; this program knows up to %d",
                         sqlite3_db_filename(database, "main"), (long long)*version, DATABASE_VERSION);
    return 0;
}

static int begin_meta(sqlite3 *database, struct error *error)
{
    sqlite3_stmt *statement = NULL;
    unsigned char secret[32] = {0};
    struct database_value value = database_blob(secret, sizeof(secret));
    int result = -1;

    random_bytes(secret, sizeof(secret));
    if (sqlite3_prepare_v2(database, "INSERT INTO meta VALUES ('changes', 0), ('secret', ?1)", -1, &statement, NULL) ==
            SQLITE_OK &&
        database_bind(statement, &value, 1) == 0 && sqlite3_step(statement) == SQLITE_DONE)
        result = 0;
    else
        database_error(database, "cannot be written", error);
    sqlite3_finalize(statement);
    return result;
}

/* In a transaction: another process may do the same at this moment. */
static int migrate_within(sqlite3 *database, struct error *error)
{
    char pragmas[96];
    int64_t version;

    if (read_version(database, &version, error) != 0)
        return -1;
    for (int64_t i = version; i < DATABASE_VERSION; i++)
        if (database_run(database, migrations[i], error) != 0)
            return -1;
    if (version == 0 && begin_meta(database, error) != 0)
        return -1;
    snprintf(pragmas, sizeof(pragmas), "PRAGMA user_version = %d; PRAGMA application_id = %d", DATABASE_VERSION,
             APPLICATION_ID);
    return database_run(database, pragmas, error);
}

static int migrate(sqlite3 *database, struct error *error)
{
    if (database_run(database, "PRAGMA journal_mode = WAL; BEGIN IMMEDIATE", error) != 0)
        return -1;
    if (migrate_within(database, error) == 0 && database_run(database, "COMMIT", error) == 0)
        return 0;
    sqlite3_exec(database, "ROLLBACK", NULL, NULL, NULL);
    return -1;
}

/* ---- opening ---- */

static int prepare(sqlite3 *database, enum database_mode mode, uint64_t timeout_ms, struct error *error)
{
    int64_t version;

    sqlite3_extended_result_codes(database, 1);
    sqlite3_busy_timeout(database, timeout_ms < INT_MAX ? (int)timeout_ms : INT_MAX);
    /* What a damaged or planted file may make SQLite do is kept small. */
    sqlite3_db_config(database, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(database, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    if (database_run(database, "PRAGMA foreign_keys = ON; PRAGMA cell_size_check = ON", error) != 0 ||
        read_version(database, &version, error) != 0)
        return -1;
    if (version == 0 && mode == DATABASE_READ)
        return -ENOENT;
    return version == DATABASE_VERSION ? 0 : migrate(database, error);
}

int database_open(sqlite3 **out, const char *path, enum database_mode mode, uint64_t timeout_ms, struct error *error)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (mode == DATABASE_WRITE ? SQLITE_OPEN_CREATE : 0);
    sqlite3 *database = NULL;
    struct stat status;
    int result;

    *out = NULL;
    if (mode == DATABASE_READ && stat(path, &status) != 0 && (errno == ENOENT || errno == ENOTDIR))
        return -ENOENT;
    if (sqlite3_open_v2(path, &database, flags, NULL) != SQLITE_OK)
        result = database_error(database, "cannot be opened", error);
    else
        result = prepare(database, mode, timeout_ms, error);
    if (result == 0)
        *out = database;
    else
        database_close(database);
    return result;
}

void database_close(sqlite3 *database)
{
    sqlite3_close_v2(database);
}
