/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: changes to the embedded directory, for the commands; the daemon may run, and sees each change whole, within a second. One thread; blocks.
 *
 * Names, addresses and patterns are as people write them, and have been checked by store_check_*; here they are brought to their normal form.
 */
#ifndef POSTERN_DIRECTORY_STORE_H
#define POSTERN_DIRECTORY_STORE_H

#include "directory/password.h"

struct store;

/* NO: what is to be added is there already, what is to be changed is not; the error says so. */
enum store_result { STORE_DONE, STORE_NO, STORE_FAILED };

/* Makes the file (mode 0600, the process's user) if it is missing and `may_create`; otherwise there is nothing: *store is NULL, and it is no error. */
int store_open(struct store **store, const char *path, struct str default_domain, bool may_create, struct error *error);
/* NULL is allowed inside; sets it to NULL. */
void store_close(struct store **store);

/* ---- what may be kept ---- */

/* 0; -1 and an error that says what would be right. */
int store_check_name(struct str name, struct error *error);
int store_check_group(struct str group, struct error *error);
int store_check_address(struct str address, struct error *error);
/* LOCAL@DOMAIN, PREFIX*@DOMAIN or *@DOMAIN. */
int store_check_recipient(struct str address, struct error *error);

/* ---- users ---- */

struct store_secrets {
    const char *hash;                         /* NULL: no password */
    const struct directory_scram_keys *scram; /* NULL: no keys */
};

enum store_result store_set_secrets(struct store *store, struct str name, const struct store_secrets *secrets,
                                    struct error *error);
enum store_result store_set_disabled(struct store *store, struct str name, bool is_disabled, struct error *error);
enum store_result store_delete_user(struct store *store, struct str name, struct error *error);

/* What a user has several of. A certificate is 64 hex digits. To add what is there, and to remove what is not, is done already. Of
 * several changes all are made or none. */
enum store_attribute { STORE_GROUP, STORE_ADDRESS, STORE_CERTIFICATE };
struct store_change {
    enum store_attribute attribute;
    bool remove;
    struct str value;
};
enum store_result store_add_user(struct store *store, struct str name, const struct store_secrets *secrets,
                                 const struct store_change *changes, size_t count, struct error *error);
enum store_result store_change_user(struct store *store, struct str name, const struct store_change *changes,
                                    size_t count, struct error *error);

struct store_list {
    const struct str *items;
    size_t count;
};
struct store_user {
    struct str name;
    bool is_disabled, has_password, has_scram;
    struct store_list groups, addresses, certificates;
};
/* Calls `show` for each, by name; for one alone if `name` is not empty (NO: there is none). The user lives through the call. */
enum store_result store_list_users(struct store *store, struct str name,
                                   void (*show)(void *context, const struct store_user *user), void *context,
                                   struct error *error);

/* ---- recipients ---- */

struct store_recipient {
    struct str address; /* in normal form, a pattern with its star */
    struct store_list targets;
    struct str owner; /* empty: none */
};
/* NO too for an alias of an alias, and for one that an alias names already. `replace`: what stands there goes. */
enum store_result store_add_recipient(struct store *store, const struct store_recipient *recipient, bool replace,
                                      struct error *error);
enum store_result store_delete_recipient(struct store *store, struct str address, struct error *error);
enum store_result store_list_recipients(struct store *store,
                                        void (*show)(void *context, const struct store_recipient *recipient),
                                        void *context, struct error *error);

#endif
