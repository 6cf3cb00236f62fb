/* SPDX-License-Identifier: Apache-2.0 */
/* store_private: what store.c (opening, transactions), store_users.c and store_recipients.c share. */
#ifndef POSTERN_DIRECTORY_STORE_PRIVATE_H
#define POSTERN_DIRECTORY_STORE_PRIVATE_H

#include "base/arena.h"
#include "directory/database.h"
#include "directory/names.h"
#include "directory/store.h"

struct store {
    sqlite3 *database;
    struct str default_domain;
};

/* For other processes' changes. */
#define STORE_TIMEOUT_MS 10000

enum store_result store_begin(struct store *store, struct error *error);
/* Counts the change and commits; rolls back unless `result` is DONE. Returns what has become of it. */
enum store_result store_end(struct store *store, enum store_result result, struct error *error);

/* NULL and an error. To be finalized. */
sqlite3_stmt *store_prepare(struct store *store, const char *sql, const struct database_value *values, size_t count,
                            struct error *error);
/* Runs one statement that gives no rows. `changed` (may be NULL): rows that it changed. */
enum store_result store_run(struct store *store, const char *sql, const struct database_value *values, size_t count,
                            int *changed, struct error *error);
/* The first column of the first row; NO: there is none, and no error is set. */
enum store_result store_find_id(struct store *store, const char *sql, const struct database_value *values, size_t count,
                                int64_t *id, struct error *error);

/* STORE_FAILED with SQLite's words. */
enum store_result store_fail(struct store *store, struct error *error);

/* Each row's first column; a list in the arena. */
enum store_result store_collect(struct store *store, const char *sql, int64_t id, struct arena *arena,
                                struct store_list *list, struct error *error);

#endif
