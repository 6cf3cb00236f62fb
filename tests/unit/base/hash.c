/* SPDX-License-Identifier: Apache-2.0 */
/* Destinations, domains and recipients are found through this table: an entry lost is mail sent the wrong way. */
#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define KEYS 2000

static char names[KEYS][16];
static int values[KEYS];

static struct str name(size_t i)
{
    return str_from_cstr(names[i]);
}

static int make_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < KEYS; i++)
        snprintf(names[i], sizeof(names[i]), "host%zu", i);
    return 0;
}

/* The empty message from the authors' SipHash-1-3 vectors; the others under the zero key, as CPython's own siphash13
 * says. */
static void test_known_answers(void **state)
{
    unsigned char key[16] = {0};

    (void)state;
    hash_set_key(key);
    assert_true(hash_bytes("a", 1) == 0x407448d2b89b1813);
    assert_true(hash_bytes("12345678", 8) == 0x3489982430560a87);
    assert_true(hash_bytes("contoso.test", 12) == 0x53a41cd4a3836188);
    assert_true(hash_bytes("alice@contoso.test", 18) == 0xe5c3213e7ce1f297);
    for (size_t i = 0; i < sizeof(key); i++)
        key[i] = (unsigned char)i;
    hash_set_key(key);
    assert_true(hash_bytes(NULL, 0) == 0xabac0158050fc4dc);
}

static void test_every_length_counts(void **state)
{
    static const char text[40] = {0};
    uint64_t seen[40];

    (void)state;
    for (size_t length = 0; length < 40; length++) {
        seen[length] = hash_bytes(text, length);
        for (size_t i = 0; i < length; i++)
            assert_true(seen[i] != seen[length]);
    }
}

static void test_put_get_remove(void **state)
{
    struct hash_table t;
    int a = 1;
    int b = 2;

    (void)state;
    hash_table_init(&t);
    assert_null(hash_table_get(&t, STR("x")));
    assert_null(hash_table_remove(&t, STR("x")));
    assert_null(hash_table_put(&t, STR("x"), &a));
    assert_ptr_equal(hash_table_get(&t, STR("x")), &a);
    assert_ptr_equal(hash_table_put(&t, STR("x"), &b), &a);
    assert_int_equal(t.count, 1);
    assert_null(hash_table_put(&t, STR(""), &a));
    assert_ptr_equal(hash_table_get(&t, (struct str){NULL, 0}), &a);
    assert_ptr_equal(hash_table_remove(&t, STR("x")), &b);
    assert_null(hash_table_get(&t, STR("x")));
    assert_ptr_equal(hash_table_get(&t, STR("")), &a);
    hash_table_release(&t);
    assert_null(hash_table_get(&t, STR("")));
}

/* Replacing must take the new key's bytes too: the old ones may be freed right after. */
static void test_replacing_takes_the_new_key(void **state)
{
    struct hash_table t;
    char old_key[] = "key";
    size_t position = 0;
    struct str key;
    void *value;

    (void)state;
    hash_table_init(&t);
    hash_table_put(&t, str_from_cstr(old_key), &values[0]);
    hash_table_put(&t, STR("key"), &values[1]);
    old_key[0] = 'X';
    assert_true(hash_table_next(&t, &position, &key, &value));
    assert_true(str_equal(key, STR("key")));
    assert_ptr_equal(value, &values[1]);
    hash_table_release(&t);
}

/* Removal shifts entries back: after each one, all others must still be found, and exactly once. */
static void test_many_and_shrinking(void **state)
{
    struct hash_table t;
    size_t capacity_full;

    (void)state;
    hash_table_init(&t);
    for (size_t i = 0; i < KEYS; i++)
        assert_null(hash_table_put(&t, name(i), &values[i]));
    assert_int_equal(t.count, KEYS);
    capacity_full = t.capacity;
    for (size_t i = 0; i < KEYS; i++) {
        size_t removed = i * 7 % KEYS; /* 7 and 2,000 have no common factor: each once */
        size_t position = 0;
        size_t visited = 0;
        struct str key;
        void *value;

        assert_ptr_equal(hash_table_remove(&t, name(removed)), &values[removed]);
        assert_null(hash_table_get(&t, name(removed)));
        while (hash_table_next(&t, &position, &key, &value)) {
            assert_ptr_equal(hash_table_get(&t, key), value);
            visited++;
        }
        assert_int_equal(visited, KEYS - 1 - i);
    }
    assert_int_equal(t.count, 0);
    assert_true(t.capacity < capacity_full / 16);
    hash_table_release(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),      cmocka_unit_test(test_every_length_counts),
        cmocka_unit_test(test_put_get_remove),     cmocka_unit_test(test_replacing_takes_the_new_key),
        cmocka_unit_test(test_many_and_shrinking),
    };

    return cmocka_run_group_tests(tests, make_names, NULL);
}
