/* SPDX-License-Identifier: Apache-2.0 */
/* The cache: one that forgets to forget keeps a dismissed user's groups, one without bounds lets strangers fill the memory by asking. */
#include "directory/cache.h"

#include "fixture.h"
#include "os/clock.h"

#include <pthread.h>

static uint64_t now_ms = 1000000;

static uint64_t fake_monotonic_ms(void)
{
    return now_ms;
}

static int64_t fake_real_ms(void)
{
    return 0;
}

static const struct clock_source fake_clock = {fake_monotonic_ms, fake_real_ms};

static struct answer *make_answer(const char *name, size_t group_count)
{
    struct directory_found found;
    struct answer *answer;
    char group[DIRECTORY_NAME_BYTES_MAX];

    memset(group, 'g', sizeof(group));
    directory_found_init(&found);
    directory_found_set_name(&found, str_from_cstr(name));
    for (size_t i = 0; i < group_count; i++)
        directory_found_add_group(&found, str_make(group, sizeof(group)));
    assert_null(found.fault);
    answer = answer_make_user(&found);
    directory_found_release(&found);
    return answer;
}

static void put(struct cache *cache, const char *key, const char *name)
{
    struct answer *answer = name ? make_answer(name, 0) : NULL;

    cache_put(cache, str_from_cstr(key), answer, cache_epoch(cache));
    answer_release(answer);
}

/* The name, "" for NO, NULL if it is not there. */
static const char *get(struct cache *cache, const char *key)
{
    static char name[300];
    struct answer *answer;
    enum directory_status status = cache_get(cache, str_from_cstr(key), &answer);

    if (status == DIRECTORY_UNAVAILABLE)
        return NULL;
    snprintf(name, sizeof(name), "%s", answer ? answer->user.name.data : "");
    assert_int_equal(status, answer ? DIRECTORY_YES : DIRECTORY_NO);
    answer_release(answer);
    return name;
}

static void test_answers_expire_each_in_its_time(void **state)
{
    struct cache *cache = cache_create(10, 5000, 1000);

    (void)state;
    put(cache, "yes", "alice");
    put(cache, "no", NULL);
    now_ms += 999;
    assert_string_equal(get(cache, "yes"), "alice");
    assert_string_equal(get(cache, "no"), "");
    now_ms += 1;
    assert_null(get(cache, "no"));
    assert_string_equal(get(cache, "yes"), "alice");
    now_ms += 4000;
    assert_null(get(cache, "yes"));
    assert_int_equal(cache_count(cache), 0);
    cache_destroy(&cache);
    assert_null(cache);
}

static void test_a_time_of_zero_keeps_nothing(void **state)
{
    struct cache *cache = cache_create(10, 0, 0);

    (void)state;
    put(cache, "yes", "alice");
    put(cache, "no", NULL);
    assert_int_equal(cache_count(cache), 0);
    cache_destroy(&cache);
    cache = cache_create(0, 1000, 1000);
    put(cache, "yes", "alice");
    assert_int_equal(cache_count(cache), 0);
    cache_destroy(&cache);
}

static void test_the_least_recently_used_makes_room(void **state)
{
    struct cache *cache = cache_create(3, 5000, 5000);

    (void)state;
    put(cache, "a", "a");
    put(cache, "b", NULL);
    put(cache, "c", "c");
    assert_string_equal(get(cache, "a"), "a");
    put(cache, "d", "d");
    assert_int_equal(cache_count(cache), 3);
    assert_null(get(cache, "b"));
    assert_string_equal(get(cache, "a"), "a");
    /* The newest answer to a question counts. */
    put(cache, "a", NULL);
    assert_string_equal(get(cache, "a"), "");
    assert_int_equal(cache_count(cache), 3);
    cache_destroy(&cache);
}

/* Entries may be few and each of a megabyte. */
static void test_bytes_are_bounded(void **state)
{
    struct cache *cache = cache_create(100000, 5000, 5000);
    struct answer *big = make_answer("big", DIRECTORY_GROUPS_MAX);
    size_t fit = CACHE_BYTES_MAX / big->bytes;
    char key[32];

    (void)state;
    for (size_t i = 0; i < fit + 10; i++) {
        snprintf(key, sizeof(key), "%zu", i);
        cache_put(cache, str_from_cstr(key), big, cache_epoch(cache));
    }
    assert_in_range(cache_count(cache), fit - 2, fit);
    assert_null(get(cache, "0"));
    assert_non_null(get(cache, key));
    answer_release(big);
    cache_destroy(&cache);
}

/* An answer that was under way when the content changed must not stand for the new one. */
static void test_what_was_asked_before_a_change_is_not_kept(void **state)
{
    struct cache *cache = cache_create(10, 5000, 5000);
    uint64_t epoch = cache_epoch(cache);

    (void)state;
    put(cache, "old", "old");
    cache_clear(cache);
    assert_null(get(cache, "old"));
    cache_put(cache, STR("late"), NULL, epoch);
    assert_null(get(cache, "late"));
    put(cache, "new", NULL);
    assert_string_equal(get(cache, "new"), "");
    assert_int_equal(cache_count(cache), 1);
    cache_destroy(&cache);
}

/* For the thread sanitizer: all of it at once. An answer that a thread holds outlives the cache's entry. */
static void *use_cache(void *argument)
{
    struct cache *cache = argument;
    char key[32];

    for (unsigned i = 0; i < 20000; i++) {
        struct answer *answer = NULL;

        snprintf(key, sizeof(key), "%u", (i * 7919u) % 50);
        if (cache_get(cache, str_from_cstr(key), &answer) == DIRECTORY_UNAVAILABLE) {
            answer = i % 3 == 0 ? NULL : make_answer(key, i % 5);
            cache_put(cache, str_from_cstr(key), answer, cache_epoch(cache));
        }
        if (i % 1000 == 0)
            cache_clear(cache);
        if (answer && strcmp(answer->user.name.data, key) != 0)
            abort();
        answer_release(answer);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct cache *cache = cache_create(20, 5000, 5000);
    pthread_t threads[4];

    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_cache, cache), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_in_range(cache_count(cache), 0, 20);
    cache_destroy(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_expire_each_in_its_time),
        cmocka_unit_test(test_a_time_of_zero_keeps_nothing),
        cmocka_unit_test(test_the_least_recently_used_makes_room),
        cmocka_unit_test(test_bytes_are_bounded),
        cmocka_unit_test(test_what_was_asked_before_a_change_is_not_kept),
        cmocka_unit_test(test_threads),
    };

    clock_use(&fake_clock);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
