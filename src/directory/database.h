/* SPDX-License-Identifier: Apache-2.0 */
/*
 * database: the embedded directory's SQLite file: its schema, its versions, and the few calls that the backend (sqlite.c) and the store (store.c) share. A
 * connection is used by one thread at a time. All of it blocks.
 *
 *   users        a user; `key` is the name in normal form, USER for USER@default-domain
 *   memberships  the groups that a user is in, by name; a group is there as long as it has a member
 *   addresses    a user's own beside USER@default-domain, for sender-match, in normal form
 *   certificates the SHA-256 of a client certificate, and whose it is
 *   recipients   an address that exists; of a pattern (PREFIX*@domain, the empty prefix catches all) `local` is the prefix. In normal form
 *   targets      what an alias or list stands for; `address` as it was written, and its normal form
 *   meta         `changes`, counted up by each change; `secret`, for made-up SCRAM keys
 *
 * PRAGMA user_version is the version of the schema; 0 is a file that nobody has written to, an empty directory. WAL, so that readers wait for nobody.
 */
#ifndef POSTERN_DIRECTORY_DATABASE_H
#define POSTERN_DIRECTORY_DATABASE_H

#include "base/error.h"
#include "base/str.h"

#include <sqlite3.h>

#define DATABASE_VERSION 1

enum database_mode {
    DATABASE_READ,  /* writes nothing but what WAL needs, and a newer version of the schema */
    DATABASE_WRITE, /* made if it is missing */
};

/* 0; -ENOENT: there is none, or it is empty (DATABASE_READ only); -1 and an error. `timeout_ms`: for other connections' locks. */
int database_open(sqlite3 **database, const char *path, enum database_mode mode, uint64_t timeout_ms,
                  struct error *error);
/* NULL is allowed. */
void database_close(sqlite3 *database);

/* "directory.db: WHAT: SQLITE'S WORDS". -1. */
int database_error(sqlite3 *database, const char *what, struct error *error);

struct database_value {
    enum { DATABASE_NULL, DATABASE_NUMBER, DATABASE_TEXT, DATABASE_BLOB } type;
    int64_t number;
    struct str bytes;
};

static inline struct database_value database_number(int64_t number)
{
    return (struct database_value){.type = DATABASE_NUMBER, .number = number};
}

static inline struct database_value database_text(struct str text)
{
    return (struct database_value){.type = DATABASE_TEXT, .bytes = text};
}

static inline struct database_value database_blob(const void *data, size_t length)
{
    return (struct database_value){.type = DATABASE_BLOB, .bytes = {data, length}};
}

static inline struct database_value database_null(void)
{
    return (struct database_value){.type = DATABASE_NULL};
}

/* Values are not copied: they must live until the statement is reset. */
int database_bind(sqlite3_stmt *statement, const struct database_value *values, size_t count);
/* A column's bytes, valid until the next step. */
struct str database_column(sqlite3_stmt *statement, int column);
/* Runs statements without values, and without results. */
int database_run(sqlite3 *database, const char *sql, struct error *error);

#endif
