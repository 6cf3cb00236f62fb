/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/password.h"

#include "base/mem.h"
#include "os/random.h"

#include <crypt.h>
#include <gsasl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#define YESCRYPT "$y$"
/* Of RFC 7677, and what we are ready to compute for a key that somebody else made (a client does as much). */
#define SCRAM_ITERATIONS_MIN 4096
#define SCRAM_ITERATIONS_MAX 10000000
#define KEY_BYTES            32

/* Verified against where there is no hash: of cost PASSWORD_YESCRYPT_COST, as those of password_hash. */
static const char nobodys_hash[] = YESCRYPT "j9T$yFnDVPLxXkdOWOwfJCCJx1$...........................................";

/* ---- crypt(3) ---- */

/* A terminated copy, since crypt(3) takes one; NULL if it can be no password. */
static char *take_phrase(struct str password)
{
    if (password.length == 0 || password.length > PASSWORD_BYTES_MAX || memchr(password.data, '\0', password.length))
        return NULL;
    return mem_copy_str(password);
}

static void clear(void *data, size_t size)
{
    if (data)
        explicit_bzero(data, size);
    free(data);
}

int password_hash(struct str password, char hash[PASSWORD_HASH_BYTES], struct error *error)
{
    char *phrase = take_phrase(password);
    char *setting = NULL;
    void *work = NULL;
    int work_bytes = 0;
    const char *text;
    int result = -1;

    if (!phrase)
        return error_set(error, "a password has 1 to %d octets, none of them NUL", PASSWORD_BYTES_MAX);
    setting = crypt_gensalt_ra(YESCRYPT, PASSWORD_YESCRYPT_COST, NULL, 0);
    text = setting ? crypt_ra(phrase, setting, &work, &work_bytes) : NULL;
    if (!text || strlen(text) >= PASSWORD_HASH_BYTES) {
        error_set(error, "this system's crypt(3) has no yescrypt");
        goto done;
    }
    snprintf(hash, PASSWORD_HASH_BYTES, "%s", text);
    result = 0;
done:
    clear(phrase, password.length);
    clear(work, (size_t)work_bytes);
    free(setting);
    return result;
}

bool password_hash_is_known(struct str hash)
{
    static const struct str kinds[] = {STR_INIT(YESCRYPT), STR_INIT("$6$"), STR_INIT("$2b$"), STR_INIT("$2y$")};

    if (hash.length >= PASSWORD_HASH_BYTES)
        return false;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (str_starts_with(hash, kinds[i]))
            return true;
    return false;
}

bool password_verify(struct str password, const char *hash)
{
    bool is_known = password_hash_is_known(str_from_cstr(hash));
    const char *expected = is_known ? hash : nobodys_hash;
    char *phrase = take_phrase(password);
    void *work = NULL;
    int work_bytes = 0;
    const char *text;
    bool is_right = false;

    if (!phrase)
        return false; /* whoever the user is, so it tells nothing */
    text = crypt_ra(phrase, expected, &work, &work_bytes);
    if (text && strlen(text) == strlen(expected))
        is_right = CRYPTO_memcmp(text, expected, strlen(expected)) == 0;
    clear(phrase, password.length);
    clear(work, (size_t)work_bytes);
    return is_right && is_known;
}

/* ---- SCRAM ---- */

static void hmac(const void *key, size_t key_bytes, struct str text, unsigned char out[KEY_BYTES])
{
    unsigned length = KEY_BYTES;

    if (!HMAC(EVP_sha256(), key, (int)key_bytes, (const unsigned char *)text.data, text.length, out, &length))
        abort(); /* out of memory: there is no other way for it to fail */
}

static void sha256(const unsigned char *data, size_t length, unsigned char out[KEY_BYTES])
{
    unsigned out_bytes = KEY_BYTES;

    if (!EVP_Digest(data, length, out, &out_bytes, EVP_sha256(), NULL))
        abort();
}

/* RFC 5802 section 3. */
static bool derive(struct str password, struct directory_scram_keys *keys)
{
    unsigned char salted[KEY_BYTES], client_key[KEY_BYTES];
    int done = PKCS5_PBKDF2_HMAC(password.data, (int)password.length, keys->salt, (int)keys->salt_bytes,
                                 (int)keys->iterations, EVP_sha256(), sizeof(salted), salted);

    hmac(salted, sizeof(salted), STR("Client Key"), client_key);
    sha256(client_key, sizeof(client_key), keys->stored_key);
    hmac(salted, sizeof(salted), STR("Server Key"), keys->server_key);
    OPENSSL_cleanse(salted, sizeof(salted));
    OPENSSL_cleanse(client_key, sizeof(client_key));
    return done == 1;
}

int password_scram_keys(struct str password, struct directory_scram_keys *keys, struct error *error)
{
    char *phrase = take_phrase(password);
    char *prepared = NULL;
    int result = 0;

    if (!phrase)
        return error_set(error, "a password has 1 to %d octets, none of them NUL", PASSWORD_BYTES_MAX);
    /* What SASLprep forbids a client may send as it is, or not at all: then the password works with PLAIN alone. */
    if (gsasl_saslprep(phrase, 0, &prepared, NULL) != GSASL_OK)
        prepared = NULL;
    *keys =
        (struct directory_scram_keys){.iterations = PASSWORD_SCRAM_ITERATIONS, .salt_bytes = PASSWORD_SCRAM_SALT_BYTES};
    random_bytes(keys->salt, keys->salt_bytes);
    if (!derive(prepared ? str_from_cstr(prepared) : password, keys))
        result = error_set(error, "OpenSSL has no PBKDF2 with SHA-256");
    clear(phrase, password.length);
    clear(prepared, prepared ? strlen(prepared) : 0);
    return result;
}

void password_fake_scram_keys(const unsigned char secret[32], struct str name, struct directory_scram_keys *keys)
{
    unsigned char of_name[KEY_BYTES], salt[2 * KEY_BYTES];

    hmac(secret, 32, name, of_name);
    hmac(of_name, sizeof(of_name), STR("salt"), salt);
    hmac(of_name, sizeof(of_name), STR("more salt"), salt + KEY_BYTES);
    memcpy(keys->salt, salt, sizeof(keys->salt));
    hmac(of_name, sizeof(of_name), STR("stored key"), keys->stored_key);
    hmac(of_name, sizeof(of_name), STR("server key"), keys->server_key);
    OPENSSL_cleanse(of_name, sizeof(of_name));
}

/* ---- SCRAM keys as text ---- */

void password_format_scram(const struct directory_scram_keys *keys, char text[PASSWORD_SCRAM_TEXT_BYTES])
{
    char salt[96], stored[48], server[48];

    EVP_EncodeBlock((unsigned char *)salt, keys->salt, (int)keys->salt_bytes);
    EVP_EncodeBlock((unsigned char *)stored, keys->stored_key, KEY_BYTES);
    EVP_EncodeBlock((unsigned char *)server, keys->server_key, KEY_BYTES);
    snprintf(text, PASSWORD_SCRAM_TEXT_BYTES, "SCRAM-SHA-256$%u:%s$%s:%s", keys->iterations, salt, stored, server);
}

/* The number of octets; 0 if it is no base64, or of more than `size_max`. EVP_DecodeBlock takes whole groups and counts the padding as octets; it skips
 * spaces, and then counts less. */
static size_t decode_base64(struct str text, unsigned char *out, size_t size_max)
{
    unsigned char decoded[96 + 3];
    size_t padding = 0;
    size_t length;

    if (text.length == 0 || text.length % 4 != 0 || text.length > 96)
        return 0;
    while (padding < 2 && text.data[text.length - 1 - padding] == '=')
        padding++;
    if (str_find(str_take(text, text.length - padding), '=') != STR_NONE ||
        EVP_DecodeBlock(decoded, (const unsigned char *)text.data, (int)text.length) != (int)text.length / 4 * 3)
        return 0;
    length = text.length / 4 * 3 - padding;
    if (length > size_max)
        return 0;
    memcpy(out, decoded, length);
    return length;
}

bool password_parse_scram(struct str text, struct directory_scram_keys *keys)
{
    static const struct str prefix = STR_INIT("SCRAM-SHA-256$");
    struct str rest = str_skip(text, prefix.length);
    struct str iterations, salt, stored;
    uint64_t number;

    *keys = (struct directory_scram_keys){0};
    if (!str_starts_with(text, prefix))
        return false;
    iterations = str_split(&rest, ':');
    salt = str_split(&rest, '$');
    stored = str_split(&rest, ':');
    if (!str_to_u64(iterations, &number) || number < SCRAM_ITERATIONS_MIN || number > SCRAM_ITERATIONS_MAX)
        return false;
    keys->iterations = (unsigned)number;
    keys->salt_bytes = decode_base64(salt, keys->salt, sizeof(keys->salt));
    return keys->salt_bytes > 0 && decode_base64(stored, keys->stored_key, KEY_BYTES) == KEY_BYTES &&
           decode_base64(rest, keys->server_key, KEY_BYTES) == KEY_BYTES;
}
