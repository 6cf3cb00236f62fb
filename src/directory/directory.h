/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory: who the users are, which groups they are in, and which addresses exist. One interface before three backends: sqlite (embedded), ldap, file.
 * "Not answering" is a result of its own everywhere, and never a yes or a no.
 *
 * A directory is made from a configuration, reference counted, and used by any thread. It has worker threads of its own, one pool for questions and one for
 * passwords; what blocks runs there. A bounded cache answers repeated questions about users and recipients, positive and negative ones each for their
 * time, but of sqlite and file not longer than a second after their content has changed; "not answering" is not kept, nor is anything about passwords.
 *
 * DIAGNOSTICS: the log has directory-unavailable once for a stretch in which the backend does not answer, and directory-available after it;
 * directory-entry for an entry that is of no use; directory-read and directory-file-refused for the file that was read again.
 *
 * Two ways to ask:
 *   directory_find_*, directory_check_*   block (at most the directory's timeout): worker threads and programs without loops
 *   directory_ask_*                       wait in a fiber, with a deadline; a cached answer comes without a switch
 *
 * Names of users compare without case. An address is compared in its normal form: domain without case; the local part without case too, as mailboxes
 * are named (delivery/route.h).
 */
#ifndef POSTERN_DIRECTORY_DIRECTORY_H
#define POSTERN_DIRECTORY_DIRECTORY_H

#include "base/arena.h"
#include "base/error.h"
#include "config/config.h"
#include "loop/worker.h"

struct directory;

enum directory_status { DIRECTORY_YES, DIRECTORY_NO, DIRECTORY_UNAVAILABLE };

/* Bounds on what any backend may say; what is beyond them makes the answer UNAVAILABLE and is logged. */
#define DIRECTORY_GROUPS_MAX    4096
#define DIRECTORY_ADDRESSES_MAX 4096
#define DIRECTORY_TARGETS_MAX   10000
/* Octets of a user's or group's name. */
#define DIRECTORY_NAME_BYTES_MAX 256

/* What is known of a user. Immutable, since others may have the same one from the cache; given back with directory_user_free. */
struct directory_user {
    struct str name;  /* as the directory has it */
    bool is_disabled; /* may not sign in, whatever proves who it is; still gets mail */
    const struct str *groups;
    size_t group_count;
    bool groups_unknown; /* the directory could not say all of them */
    const struct str
        *addresses; /* that are the user's, in normal form: for sender-match; USER@default-domain among them */
    size_t address_count;
};

/* For SCRAM-SHA-256 (RFC 5802, RFC 7677). */
struct directory_scram_keys {
    unsigned iterations;
    unsigned char salt[64];
    size_t salt_bytes;
    unsigned char stored_key[32], server_key[32];
};

/* An address that exists. Immutable, given back with directory_recipient_free. */
struct directory_recipient {
    /* An alias or list stands for these addresses, of one level: they are not looked up as aliases again. None: the address is a mailbox. */
    const struct str *targets;
    size_t target_count;
    struct str owner; /* of a list: who gets its reports, as the sender of what it sends on; empty: the sender stays */
};

struct directory_statistics {
    uint64_t lookups, cache_hits, unavailable;
};

/* Opens nothing yet but what is local: a directory that can't be reached is no error. The configuration is not kept. NULL and an error. Blocks. */
struct directory *directory_create(const struct config *config, struct error *error);
/* Whether one made from this configuration would be the same: a reload then keeps it, with its connections and cache. */
bool directory_matches(const struct directory *directory, const struct config *config);
struct directory *directory_retain(struct directory *directory);
/* The last release ends the threads, which blocks: not on one of them, nor on a loop. Sets the pointer to NULL, which it may be. */
void directory_release(struct directory **directory);
/* The same on a loop, too: there a thread of `reaper`, a pool that is none of the directory's, waits for the end. */
void directory_release_on(struct directory **directory, struct worker_pool *reaper);
void directory_get_statistics(const struct directory *directory, struct directory_statistics *statistics);

/* ---- blocking: on worker threads ---- */

/* The pool that authentication runs on, so that passwords take no thread from others. */
struct worker_pool *directory_pool(struct directory *directory);

/* YES: the user, to be freed by the caller. `name` as the client gave it, completed with a domain or bare: USER and USER@default-domain are one user
 * unless the backend has them as two. */
enum directory_status directory_find_user(struct directory *directory, struct str name, struct directory_user **user);
/* Whether this is the user's password. Takes as long for an unknown user as for a wrong password. */
enum directory_status directory_check_password(struct directory *directory, struct str name, struct str password);
/* Whether SCRAM can be verified at all: not with LDAP's bind, nor where only hashes of another kind are kept. Does not block: loops may ask. */
bool directory_has_scram(const struct directory *directory);
/* NO also for a user without SCRAM keys. For an unknown user the caller goes on with keys made up (directory_fake_scram_keys), so that nobody learns. */
enum directory_status directory_find_scram_keys(struct directory *directory, struct str name,
                                                struct directory_scram_keys *keys);
/* Always the same for a name, as a real user's would be; nobody knows a password for them. */
void directory_fake_scram_keys(struct directory *directory, struct str name, struct directory_scram_keys *keys);
/* The user whose TLS client certificate has this fingerprint (EXTERNAL). */
enum directory_status directory_find_certificate(struct directory *directory, const unsigned char sha256[32],
                                                 struct directory_user **user);
/* `address` is a whole one, LOCAL@DOMAIN, one in an alias domain under the domain that it stands for (policy_mailbox_key). */
enum directory_status directory_find_recipient(struct directory *directory, struct str address,
                                               struct directory_recipient **recipient);

void directory_user_free(struct directory_user **user);
void directory_recipient_free(struct directory_recipient **recipient);

/* ---- in a fiber ---- */

/* As above; UNAVAILABLE also at the deadline, when too many wait, and when the fiber is cancelled. */
enum directory_status directory_ask_user(struct directory *directory, struct str name, uint64_t deadline_ms,
                                         struct directory_user **user);
enum directory_status directory_ask_recipient(struct directory *directory, struct str address, uint64_t deadline_ms,
                                              struct directory_recipient **recipient);
/* The same. `*has_fault`, with UNAVAILABLE: the directory does answer, and this entry alone is of no use: others need not wait. */
enum directory_status directory_resolve_recipient(struct directory *directory, struct str address, uint64_t deadline_ms,
                                                  struct directory_recipient **recipient, bool *has_fault);

#endif
