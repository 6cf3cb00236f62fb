/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory_private: what the front (directory.c: cache, pools, statistics, health, normal forms) and its three backends share. A backend only
 * answers questions; it keeps no answers.
 *
 * A backend's functions run on any thread but a loop's, several at once, and block until `deadline_ms` (clock_monotonic_ms) at most; then
 * they answer UNAVAILABLE. With every UNAVAILABLE they set `error` (never NULL), in words for the log: who did not answer, and why. They log
 * nothing about it themselves: the front says it once for a whole stretch. No password, hash or key ever stands in an error.
 *
 * Whether what was found is absurdly much is the front's to judge: directory_found_* takes what it is given and remembers an excess.
 */
#ifndef POSTERN_DIRECTORY_DIRECTORY_PRIVATE_H
#define POSTERN_DIRECTORY_DIRECTORY_PRIVATE_H

#include "directory/directory.h"
#include "directory/password.h"

/* Of the directory's own, as long as the backend lives. */
struct directory_settings {
    struct arena arena;
    struct config_directory config; /* a deep copy; strings are NUL-terminated */
    struct str default_domain;      /* in normal form; empty: there is none */
};

/* ---- what is asked ---- */

/* A user's name may stand for two: USER and USER@default-domain are one user, unless the backend has both. */
#define DIRECTORY_NAME_FORMS_MAX 2

/*
 * A user's name that a client gave: valid UTF-8 without spaces and control characters, 1 to DIRECTORY_NAME_BYTES_MAX octets. The first form that
 * the backend has is the user: first what was given, then the other form, if there is one. Forms are in lower case (ASCII), a domain in normal form.
 */
struct directory_name {
    struct str given; /* case and all */
    struct str forms[DIRECTORY_NAME_FORMS_MAX];
    size_t form_count; /* at least 1 */
};

/* An address in normal form (mail/address.h, address_key): the local part in lower case (ASCII) and unquoted, so that it may hold anything but a NUL. */
struct directory_address {
    struct str normal; /* local@domain */
    struct str local;
    struct str domain;
};

/* ---- what is found ---- */

struct directory_strings {
    struct str *items;
    size_t count, capacity;
};

/* What a backend has found so far. The front makes one before the question, and an answer of it after; YES needs a name set, or for recipients nothing. */
struct directory_found {
    struct arena arena; /* strings are copied into it; bounded */
    struct str name;
    struct directory_strings groups, addresses, targets;
    bool groups_unknown;
    bool is_disabled; /* a user that may not sign in */
    struct str owner;
    /* In words: why this one answer is of no use though the backend is well: too much of it, an alias of an alias. The front then makes it UNAVAILABLE and
     * logs that, apart from the backend's health. NULL: nothing is wrong. Once it is set the backend may stop looking. */
    const char *fault;
};

void directory_found_set_name(struct directory_found *found, struct str name);
void directory_found_add_group(struct directory_found *found, struct str group);
/* An address of the user's own; NAME@default-domain is added by the front. One that is none is passed over. */
void directory_found_add_address(struct directory_found *found, struct str address);
void directory_found_add_target(struct directory_found *found, struct str address);
void directory_found_set_owner(struct directory_found *found, struct str address);

/* ---- backends ---- */

struct directory_backend_operations {
    const char *name;

    /* Nothing is opened yet but what is local; what can't be reached is no error. NULL and an error. Blocks. */
    void *(*create)(const struct directory_settings *settings, struct error *error);
    /* No question is under way any more. */
    void (*destroy)(void *backend);

    /* Whether SCRAM keys are kept at all. Any thread, a loop's too: does not block. */
    bool (*has_scram)(void *backend);

    /* A number that is another one after the content has changed; the front then forgets what it has cached. Asked at most once a second. false: not
     * now. NULL: can't be told. */
    bool (*find_version)(void *backend, uint64_t *version);

    /* YES: fills `found`. */
    enum directory_status (*find_user)(void *backend, const struct directory_name *name, uint64_t deadline_ms,
                                       struct directory_found *found, struct error *error);

    /* Of these two a backend has one, the other is NULL. NO: an unknown user, one who may not sign in, one without a password. The front then verifies
     * all the same, and says no: against `hash`, in which the backend may leave one like those that others have, or a made-up one. A backend that checks passwords itself must take as long for an unknown user as for a
     * wrong password, and must never send an empty password on (to LDAP it is a bind as nobody, which succeeds). */
    enum directory_status (*find_hash)(void *backend, const struct directory_name *name, uint64_t deadline_ms,
                                       char hash[PASSWORD_HASH_BYTES], struct error *error);
    enum directory_status (*check_password)(void *backend, const struct directory_name *name, struct str password,
                                            uint64_t deadline_ms, struct error *error);

    /* NULL: never any. NO: an unknown user, one who may not sign in, one without keys. */
    enum directory_status (*find_scram_keys)(void *backend, const struct directory_name *name, uint64_t deadline_ms,
                                             struct directory_scram_keys *keys, struct error *error);
    /* What keys that are made up look like: of the kind that real ones are, and for a secret that outlives restarts, since a salt that changes would tell.
     * false: not now. NULL together with find_scram_keys. */
    bool (*find_scram_model)(void *backend, unsigned char secret[32], unsigned *iterations, size_t *salt_bytes);
    /* NULL: none is known. The user must be one who may sign in. */
    enum directory_status (*find_certificate)(void *backend, const unsigned char sha256[32], uint64_t deadline_ms,
                                              struct directory_found *found, struct error *error);
    /* Each user is a recipient too, as NAME@default-domain, or as NAME where the name is a whole address: the backend sees to it. */
    enum directory_status (*find_recipient)(void *backend, const struct directory_address *address,
                                            uint64_t deadline_ms, struct directory_found *found, struct error *error);
};

extern const struct directory_backend_operations directory_sqlite, directory_ldap, directory_file;

#endif
