/* SPDX-License-Identifier: Apache-2.0 */
/* Passwords: a hash that is taken wrongly lets somebody in, one that is refused wrongly keeps everybody out, and one that is not computed at all tells a stranger
 * that there is no such user. */
#include "directory/password.h"

#include "fixture.h"

#include <crypt.h>
#include <dlfcn.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdatomic.h>

/* ---- how often a hash is computed, and with which setting ---- */

static atomic_uint computed;
static char last_setting[PASSWORD_HASH_BYTES];

char *crypt_ra(const char *phrase, const char *setting, void **data, int *size)
{
    static char *(*real)(const char *, const char *, void **, int *);

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "crypt_ra");
    atomic_fetch_add(&computed, 1);
    snprintf(last_setting, sizeof(last_setting), "%s", setting);
    return real(phrase, setting, data, size);
}

static void test_a_hash_is_yescrypt_and_verifies(void **state)
{
    char hash[PASSWORD_HASH_BYTES], other[PASSWORD_HASH_BYTES];
    struct error error;

    (void)state;
    assert_int_equal(password_hash(STR("correct horse"), hash, &error), 0);
    assert_int_equal(password_hash(STR("correct horse"), other, &error), 0);
    assert_true(str_starts_with(str_from_cstr(hash), STR("$y$")));
    assert_string_not_equal(hash, other);
    assert_true(password_hash_is_known(str_from_cstr(hash)));
    assert_true(password_verify(STR("correct horse"), hash));
    assert_false(password_verify(STR("correct horsf"), hash));
    assert_false(password_verify(STR("correct hors"), hash));
    assert_false(password_verify(STR("correct horse "), hash));
}

/* Made by crypt(3) of other systems. */
static void test_other_kinds_of_hashes_are_taken(void **state)
{
    static const char *const prefixes[] = {"$6$", "$2b$", "$2y$", "$y$"};

    (void)state;
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        char setting[CRYPT_GENSALT_OUTPUT_SIZE];
        struct crypt_data data = {0};
        const char *hash;

        assert_non_null(crypt_gensalt_rn(prefixes[i], 0, NULL, 0, setting, sizeof(setting)));
        hash = crypt_r("secret", setting, &data);
        assert_true(password_hash_is_known(str_from_cstr(hash)));
        assert_true(password_verify(STR("secret"), hash));
        assert_false(password_verify(STR("Secret"), hash));
    }
}

/* DES, MD5, plain text, nothing, crypt(3)'s own error text. */
static void test_weak_and_broken_hashes_verify_nothing(void **state)
{
    static const char *const hashes[] = {
        "",    "*",    "*0",      "!",      "abJnggxhB/yWI", "$1$abcdefgh$irWbblnpmw.5z7wgBnprh0", "secret", "$y$",
        "$6$", "$2b$", "$y$j9T$", "$y$!!!", "$6$salt$"};

    (void)state;
    for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++) {
        assert_false(password_verify(STR("secret"), hashes[i]));
        assert_false(password_verify(STR(""), hashes[i]));
    }
    assert_false(password_hash_is_known(STR("abJnggxhB/yWI")));
    assert_false(password_hash_is_known(STR("")));
}

static void test_passwords_at_their_bounds(void **state)
{
    char hash[PASSWORD_HASH_BYTES];
    char longest[PASSWORD_BYTES_MAX + 1];
    struct directory_scram_keys keys;
    struct error error;

    (void)state;
    memset(longest, 'x', sizeof(longest));
    assert_int_equal(password_hash(str_make(longest, PASSWORD_BYTES_MAX), hash, &error), 0);
    assert_true(password_verify(str_make(longest, PASSWORD_BYTES_MAX), hash));
    assert_false(password_verify(str_make(longest, PASSWORD_BYTES_MAX + 1), hash));
    assert_false(password_verify(str_make(longest, PASSWORD_BYTES_MAX - 1), hash));
    assert_int_equal(password_hash(str_make(longest, PASSWORD_BYTES_MAX + 1), hash, &error), -1);
    assert_int_equal(password_hash(STR(""), hash, &error), -1);
    /* Cut at the NUL it would be another password. */
    assert_int_equal(password_hash(STR("a\0b"), hash, &error), -1);
    assert_int_equal(password_scram_keys(STR("a\0b"), &keys, &error), -1);
    assert_int_equal(password_hash(STR("a"), hash, &error), 0);
    assert_false(password_verify(STR("a\0b"), hash));
}

/* Counted instead of timed: one hash, of the same cost, whether there is a user or not. */
static void test_no_hash_costs_as_much_as_a_wrong_password(void **state)
{
    char hash[PASSWORD_HASH_BYTES];
    struct error error;

    (void)state;
    assert_int_equal(password_hash(STR("right"), hash, &error), 0);
    atomic_store(&computed, 0);
    assert_false(password_verify(STR("wrong"), hash));
    assert_int_equal(atomic_load(&computed), 1);
    assert_int_equal(strncmp(last_setting, hash, 7), 0);
    atomic_store(&computed, 0);
    assert_false(password_verify(STR("wrong"), ""));
    assert_int_equal(atomic_load(&computed), 1);
    assert_int_equal(strncmp(last_setting, hash, 7), 0); /* "$y$j9T$": the same kind and cost */
    assert_int_equal(strlen(last_setting), strlen(hash));
}

static void test_the_directory_verifies_whoever_asks(void **state)
{
    struct fixture fixture;
    struct directory *directory;
    struct store *store;

    (void)state;
    fixture_begin(&fixture, "");
    store = fixture_store(&fixture);
    fixture_add_user(store, "alice", "correct horse");
    fixture_add_user(store, "nopassword", NULL);
    fixture_add_user(store, "gone", "correct horse");
    assert_int_equal(store_set_disabled(store, STR("gone"), true, NULL), STORE_DONE);
    store_close(&store);
    directory = fixture_directory(&fixture);
    atomic_store(&computed, 0);
    assert_int_equal(fixture_check(directory, "alice", "correct horse"), DIRECTORY_YES);
    assert_int_equal(fixture_check(directory, "alice", "wrong"), DIRECTORY_NO);
    assert_int_equal(fixture_check(directory, "nobody", "wrong"), DIRECTORY_NO);
    assert_int_equal(fixture_check(directory, "nopassword", "wrong"), DIRECTORY_NO);
    assert_int_equal(fixture_check(directory, "gone", "correct horse"), DIRECTORY_NO);
    assert_int_equal(atomic_load(&computed), 5);
    /* No password is nobody's. */
    assert_int_equal(fixture_check(directory, "alice", ""), DIRECTORY_NO);
    assert_int_equal(fixture_check(directory, "nopassword", ""), DIRECTORY_NO);
    directory_release(&directory);
    fixture_end(&fixture);
}

/* ---- SCRAM ---- */

/* RFC 5802 section 3, written down once more. */
static void reference_keys(struct str password, struct directory_scram_keys *keys)
{
    unsigned char salted[32], client_key[32];

    PKCS5_PBKDF2_HMAC(password.data, (int)password.length, keys->salt, (int)keys->salt_bytes, (int)keys->iterations,
                      EVP_sha256(), 32, salted);
    HMAC(EVP_sha256(), salted, 32, (const unsigned char *)"Client Key", 10, client_key, NULL);
    EVP_Digest(client_key, 32, keys->stored_key, NULL, EVP_sha256(), NULL);
    HMAC(EVP_sha256(), salted, 32, (const unsigned char *)"Server Key", 10, keys->server_key, NULL);
}

/* The exchange of RFC 7677 section 3: user "user", password "pencil". */
static const char rfc_7677[] =
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

static void test_scram_keys_are_those_of_the_rfc(void **state)
{
    struct directory_scram_keys keys, reference;
    char text[PASSWORD_SCRAM_TEXT_BYTES];
    struct error error;

    (void)state;
    assert_true(password_parse_scram(str_from_cstr(rfc_7677), &keys));
    reference = keys;
    reference_keys(STR("pencil"), &reference);
    assert_memory_equal(keys.stored_key, reference.stored_key, 32);
    assert_memory_equal(keys.server_key, reference.server_key, 32);
    password_format_scram(&keys, text);
    assert_string_equal(text, rfc_7677);

    assert_int_equal(password_scram_keys(STR("pencil"), &keys, &error), 0);
    assert_int_equal(keys.iterations, PASSWORD_SCRAM_ITERATIONS);
    assert_int_equal(keys.salt_bytes, PASSWORD_SCRAM_SALT_BYTES);
    reference = keys;
    reference_keys(STR("pencil"), &reference);
    assert_memory_equal(keys.stored_key, reference.stored_key, 32);
    assert_memory_equal(keys.server_key, reference.server_key, 32);
}

/* A client normalizes what was typed (RFC 4013): the soft hyphen goes, and a Roman numeral is letters. */
static void test_scram_passwords_are_prepared(void **state)
{
    struct directory_scram_keys keys, reference;
    struct error error;

    (void)state;
    assert_int_equal(password_scram_keys(STR("I\xc2\xadX \xe2\x85\xa8"), &keys, &error), 0);
    reference = keys;
    reference_keys(STR("IX IX"), &reference);
    assert_memory_equal(keys.stored_key, reference.stored_key, 32);
}

static void test_scram_text_that_is_none(void **state)
{
    static const char *const bad[] = {
        "",
        "SCRAM-SHA-256$",
        "SCRAM-SHA-1$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        "SCRAM-SHA-256$4095:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        "SCRAM-SHA-256$4294967297:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        "SCRAM-SHA-256$4096:$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ=$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        "SCRAM-SHA-256$4096: "
        "22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbs=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=",
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=x",
        "SCRAM-SHA-256$4096:====$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
    };
    struct directory_scram_keys keys;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (password_parse_scram(str_from_cstr(bad[i]), &keys))
            fail_msg("taken: %s", bad[i]);
}

/* A stranger asks for the salts of names: what is made up must look like what is real, at any time, in any spelling. */
static void test_made_up_keys_tell_nothing(void **state)
{
    struct directory_scram_keys real, first, again, other;
    struct fixture fixture;
    struct directory *directory;
    struct store *store;

    (void)state;
    fixture_begin(&fixture, "");
    store = fixture_store(&fixture);
    fixture_add_user(store, "alice", "pencil");
    store_close(&store);
    directory = fixture_directory(&fixture);
    assert_true(directory_has_scram(directory));
    assert_int_equal(directory_find_scram_keys(directory, STR("Alice@CONTOSO.test"), &real), DIRECTORY_YES);
    assert_int_equal(directory_find_scram_keys(directory, STR("nobody"), &first), DIRECTORY_NO);
    directory_fake_scram_keys(directory, STR("nobody"), &first);
    directory_fake_scram_keys(directory, STR("NoBody@contoso.test"), &again);
    directory_fake_scram_keys(directory, STR("somebody"), &other);
    assert_int_equal(first.iterations, real.iterations);
    assert_int_equal(first.salt_bytes, real.salt_bytes);
    assert_memory_equal(&first, &again, sizeof(first));
    assert_memory_not_equal(first.salt, other.salt, first.salt_bytes);
    assert_memory_not_equal(first.stored_key, other.stored_key, 32);
    directory_release(&directory);
    /* After a restart too. */
    directory = fixture_directory(&fixture);
    directory_fake_scram_keys(directory, STR("nobody"), &again);
    assert_memory_equal(&first, &again, sizeof(first));
    directory_release(&directory);
    fixture_end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_hash_is_yescrypt_and_verifies),
        cmocka_unit_test(test_other_kinds_of_hashes_are_taken),
        cmocka_unit_test(test_weak_and_broken_hashes_verify_nothing),
        cmocka_unit_test(test_passwords_at_their_bounds),
        cmocka_unit_test(test_no_hash_costs_as_much_as_a_wrong_password),
        cmocka_unit_test(test_the_directory_verifies_whoever_asks),
        cmocka_unit_test(test_scram_keys_are_those_of_the_rfc),
        cmocka_unit_test(test_scram_passwords_are_prepared),
        cmocka_unit_test(test_scram_text_that_is_none),
        cmocka_unit_test(test_made_up_keys_tell_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
