/* SPDX-License-Identifier: Apache-2.0 */
/*
 * password: hashes of passwords (crypt(3)) and keys for SCRAM-SHA-256 (RFC 5802, RFC 7677). All of it costs milliseconds of processor time and more stack
 * than a fiber has: on worker threads and in programs. Any thread. What is secret is cleared from our memory.
 */
#ifndef POSTERN_DIRECTORY_PASSWORD_H
#define POSTERN_DIRECTORY_PASSWORD_H

#include "directory/directory.h"

/* A hash in crypt(3)'s form, NUL included (CRYPT_OUTPUT_SIZE of libxcrypt). */
#define PASSWORD_HASH_BYTES 384
/* Of passwords, libxcrypt's own bound; longer ones are wrong without being hashed. */
#define PASSWORD_BYTES_MAX 511
/* What a yescrypt hash costs (crypt_gensalt(3), 1 to 11); 5 is Debian's: about 16 MiB and 40 ms. */
#define PASSWORD_YESCRYPT_COST 5
/* RFC 7677 asks for at least 4096. 10000 rounds cost 3 to 5 ms. */
#define PASSWORD_SCRAM_ITERATIONS 10000
#define PASSWORD_SCRAM_SALT_BYTES 16

/* yescrypt, with a salt of its own. 0; -1 and an error: a password that is empty, too long, or has a NUL. */
int password_hash(struct str password, char hash[PASSWORD_HASH_BYTES], struct error *error);
/* Whether a hash is of a kind that is taken: yescrypt ($y$), SHA-512 ($6$), bcrypt ($2b$, $2y$). */
bool password_hash_is_known(struct str hash);
/* Whether this is the password; compares in constant time. With an empty hash, or one of an unknown kind, it takes as long as with one of password_hash, and is
 * false. */
bool password_verify(struct str password, const char *hash);

/* With a new salt. The password goes through SASLprep (RFC 4013) as the clients' does. */
int password_scram_keys(struct str password, struct directory_scram_keys *keys, struct error *error);
/* Fills in salt and keys for which nobody has a password, always the same for a secret and a name. `iterations` and `salt_bytes` are as the caller set them. */
void password_fake_scram_keys(const unsigned char secret[32], struct str name, struct directory_scram_keys *keys);

/* "SCRAM-SHA-256$ITERATIONS:SALT$STORED:SERVER", the last three in base64: the form of RFC 5803 that PostgreSQL keeps too. */
#define PASSWORD_SCRAM_TEXT_BYTES 256
void password_format_scram(const struct directory_scram_keys *keys, char text[PASSWORD_SCRAM_TEXT_BYTES]);
/* false: it is none, or one with fewer than 4096 iterations or without a salt. */
bool password_parse_scram(struct str text, struct directory_scram_keys *keys);

#endif
