/* SPDX-License-Identifier: Apache-2.0 */
/* Queue ids, Maildir names and the hash key: repeated bytes would let names collide or be guessed. */
#include "os/random.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define DRAWS 1000

static void assert_all_different(const uint64_t *draws, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++)
            assert_true(draws[i] != draws[j]);
    }
}

/* Across many refills of the buffer, and from a request larger than it. */
static void test_draws_differ(void **state)
{
    uint64_t draws[DRAWS];
    uint64_t big[500];

    (void)state;
    for (size_t i = 0; i < DRAWS; i++) {
        unsigned char odd[3];

        draws[i] = random_u64();
        random_bytes(odd, sizeof(odd));
    }
    assert_all_different(draws, DRAWS);
    random_bytes(big, sizeof(big));
    assert_all_different(big, 500);
    random_bytes(NULL, 0);
}

static void *draw_in_thread(void *context)
{
    uint64_t *draws = context;

    for (size_t i = 0; i < DRAWS / 2; i++)
        draws[i] = random_u64();
    return NULL;
}

static void test_threads_draw_different_values(void **state)
{
    uint64_t draws[DRAWS];
    pthread_t threads[2];

    (void)state;
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, draw_in_thread, draws + i * DRAWS / 2), 0);
    for (size_t i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_all_different(draws, DRAWS);
}

static void test_below(void **state)
{
    unsigned seen = 0;

    (void)state;
    assert_int_equal(random_below(1), 0);
    for (size_t i = 0; i < DRAWS; i++) {
        uint64_t value = random_below(5);

        assert_true(value < 5);
        seen |= 1u << value;
    }
    assert_int_equal(seen, 0x1f);
    for (size_t i = 0; i < DRAWS; i++)
        assert_true(random_below((UINT64_MAX >> 1) + 2) <= (UINT64_MAX >> 1) + 1);
}

/* A failing simulation is repeated by its seed. */
static void test_seed_repeats(void **state)
{
    unsigned char first[50];
    unsigned char second[50];
    uint64_t other;

    (void)state;
    random_use_seed(7);
    random_bytes(first, sizeof(first));
    random_use_seed(7);
    random_bytes(second, sizeof(second));
    assert_memory_equal(first, second, sizeof(first));
    random_use_seed(8);
    random_bytes(second, sizeof(second));
    assert_memory_not_equal(first, second, sizeof(first));
    random_use_seed(0);
    other = random_u64();
    assert_true(other != random_u64());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draws_differ),
        cmocka_unit_test(test_threads_draw_different_values),
        cmocka_unit_test(test_below),
        cmocka_unit_test(test_seed_repeats),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
