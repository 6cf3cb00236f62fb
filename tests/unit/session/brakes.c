/* SPDX-License-Identifier: Apache-2.0 */
/* Whoever guesses passwords is slowed and then locked out; those who have one are not, whatever others do in their name or beside them; and no
 * flood of addresses and names frees who is locked, or costs more memory. */
#include "session/brakes.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define MINUTE 60000ULL
/* Some time, at the beginning of a window of ten minutes. */
#define START (1000 * 10 * MINUTE)

static const struct config_brakes defaults = {.failures_per_client = 10,
                                              .failures_per_network = 50,
                                              .failures_per_user = 50,
                                              .window_ms = 10 * MINUTE,
                                              .lock_ms = 15 * MINUTE};

struct fixture {
    struct brakes *brakes;
    struct config_brakes settings;
    uint64_t now_ms;
};

static int set_up(void **state)
{
    static struct fixture f;

    f = (struct fixture){.brakes = brakes_create(), .settings = defaults, .now_ms = START};
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    brakes_destroy(&f->brakes);
    assert_null(f->brakes);
    brakes_destroy(&f->brakes);
    return 0;
}

static struct net_address parsed(const char *ip)
{
    struct net_address address;

    assert_true(net_address_parse_ip(str_from_cstr(ip), &address));
    return address;
}

/* 10.x.y.z or, from the 2^24th on, 2001:db8:…::1 with another /64 each. */
static struct net_address numbered(uint32_t number)
{
    struct net_address address = parsed(number < 1 << 24 ? "10.0.0.0" : "2001:db8::1");
    unsigned char *to = number < 1 << 24 ? address.ip + 13 : address.ip + 5;

    to[0] = (unsigned char)(number >> 16);
    to[1] = (unsigned char)(number >> 8);
    to[2] = (unsigned char)number;
    return address;
}

static enum brakes_verdict check(struct fixture *f, const char *ip, const char *user)
{
    struct net_address address = parsed(ip);

    return brakes_check(f->brakes, &f->settings, &address, str_from_cstr(user), f->now_ms);
}

static unsigned failed(struct fixture *f, const char *ip, const char *user, bool *locks)
{
    struct net_address address = parsed(ip);

    return brakes_failed(f->brakes, &f->settings, &address, str_from_cstr(user), f->now_ms, locks);
}

static void fail_times(struct fixture *f, const char *ip, const char *user, unsigned times)
{
    bool locks;

    while (times-- > 0)
        failed(f, ip, user, &locks);
}

static void succeed(struct fixture *f, const char *ip, const char *user)
{
    struct net_address address = parsed(ip);

    brakes_succeeded(f->brakes, &f->settings, &address, str_from_cstr(user), f->now_ms);
}

/* The limit's own failure locks, the one before does not; the lock ends by itself. */
static void test_client_limit(void **state)
{
    struct fixture *f = *state;
    bool locks;

    for (unsigned i = 0; i < 9; i++) {
        failed(f, "192.0.2.1", "bob", &locks);
        assert_false(locks);
        assert_int_equal(check(f, "192.0.2.1", "bob"), BRAKES_FREE);
    }
    failed(f, "192.0.2.1", "alice", &locks);
    assert_true(locks);
    assert_int_equal(check(f, "192.0.2.1", "carol"), BRAKES_LOCKED_CLIENT);
    assert_int_equal(check(f, "192.0.2.1", ""), BRAKES_LOCKED_CLIENT);
    assert_int_equal(check(f, "192.0.2.2", "bob"), BRAKES_FREE);
    /* What was under way is not told as another lock, and does not make the lock longer. */
    f->now_ms += MINUTE;
    failed(f, "192.0.2.1", "bob", &locks);
    assert_false(locks);
    f->now_ms = START + 15 * MINUTE - 1;
    assert_int_equal(check(f, "192.0.2.1", "bob"), BRAKES_LOCKED_CLIENT);
    f->now_ms = START + 15 * MINUTE;
    assert_int_equal(check(f, "192.0.2.1", "bob"), BRAKES_FREE);
}

/* One host that takes a new address for each guess is stopped by its network's limit. */
static void test_network_limit(void **state)
{
    struct fixture *f = *state;
    char ip[64];
    bool locks;

    for (unsigned i = 0; i < 50; i++) {
        snprintf(ip, sizeof(ip), "2001:db8:0:7:%x::%x", i, i);
        assert_int_equal(check(f, ip, "bob"), BRAKES_FREE);
        failed(f, ip, "", &locks);
        assert_int_equal(locks, i == 49);
    }
    assert_int_equal(check(f, "2001:db8:0:7::ffff", "bob"), BRAKES_LOCKED_CLIENT);
    assert_int_equal(check(f, "2001:db8:0:8::ffff", "bob"), BRAKES_FREE);
    for (unsigned i = 0; i < 50; i++) {
        snprintf(ip, sizeof(ip), "::ffff:198.51.100.%u", i);
        failed(f, ip, "", &locks);
    }
    assert_int_equal(check(f, "198.51.100.250", "bob"), BRAKES_LOCKED_CLIENT);
    assert_int_equal(check(f, "198.51.101.1", "bob"), BRAKES_FREE);
}

/* Guessing at one user from everywhere, in any case of letters, whether there is such a user or not. */
static void test_user_limit(void **state)
{
    struct fixture *f = *state;
    bool locks;

    for (uint32_t i = 0; i < 50; i++) {
        struct net_address client = numbered(i << 8);

        assert_int_equal(check(f, "192.0.2.1", "bob@contoso.test"), BRAKES_FREE);
        brakes_failed(f->brakes, &f->settings, &client, i % 2 ? STR("BOB@contoso.test") : STR("bob@Contoso.test"),
                      f->now_ms, &locks);
        assert_int_equal(locks, i == 49);
    }
    assert_int_equal(check(f, "192.0.2.1", "bob@contoso.test"), BRAKES_LOCKED_USER);
    assert_int_equal(check(f, "192.0.2.1", "Bob@contoso.test"), BRAKES_LOCKED_USER);
    assert_int_equal(check(f, "192.0.2.1", "bob@contoso.tes"), BRAKES_FREE);
    assert_int_equal(check(f, "192.0.2.1", ""), BRAKES_FREE);
}

/* Somebody who guesses at bob must not be able to keep bob out. */
static void test_known_addresses_get_in(void **state)
{
    struct fixture *f = *state;

    succeed(f, "192.0.2.1", "bob");
    succeed(f, "2001:db8:0:1::1", "bob");
    f->now_ms += 29ULL * 24 * 60 * MINUTE;
    for (unsigned i = 0; i < 50; i++) {
        struct net_address client = numbered(i << 8);
        bool locks;

        brakes_failed(f->brakes, &f->settings, &client, STR("bob"), f->now_ms, &locks);
    }
    assert_int_equal(check(f, "203.0.113.1", "bob"), BRAKES_LOCKED_USER);
    assert_int_equal(check(f, "192.0.2.1", "bob"), BRAKES_FREE);
    assert_int_equal(check(f, "192.0.2.2", "bob"), BRAKES_LOCKED_USER);
    assert_int_equal(check(f, "2001:db8:0:1:9::9", "bob"), BRAKES_FREE);
    /* ... but from there nobody guesses without end either. */
    fail_times(f, "192.0.2.1", "bob", 10);
    assert_int_equal(check(f, "192.0.2.1", "bob"), BRAKES_LOCKED_CLIENT);
}

/* A neighbour in the network must not keep bob out, but being bob opens the network for bob only. */
static void test_known_in_a_locked_network(void **state)
{
    struct fixture *f = *state;
    char ip[32];

    succeed(f, "192.0.2.1", "bob");
    for (unsigned i = 0; i < 50; i++) {
        snprintf(ip, sizeof(ip), "192.0.2.%u", 100 + i);
        fail_times(f, ip, "mallory", 1);
    }
    assert_int_equal(check(f, "192.0.2.1", "bob"), BRAKES_FREE);
    assert_int_equal(check(f, "192.0.2.1", "carol"), BRAKES_LOCKED_CLIENT);
    assert_int_equal(check(f, "192.0.2.2", "bob"), BRAKES_LOCKED_CLIENT);
}

static void lock_user(struct fixture *f)
{
    for (unsigned i = 0; i < 50; i++) {
        struct net_address client = numbered(i << 8);
        bool locks;

        brakes_failed(f->brakes, &f->settings, &client, STR("bob"), f->now_ms, &locks);
    }
}

/* Being known wears off, and is kept for a bounded number of addresses: those seen last. */
static void test_known_is_bounded(void **state)
{
    struct fixture *f = *state;
    char ip[32];

    for (unsigned i = 0; i <= BRAKES_KNOWN_ADDRESSES_MAX; i++) {
        f->now_ms++;
        snprintf(ip, sizeof(ip), "192.0.2.%u", 1 + i);
        succeed(f, ip, "bob");
        succeed(f, "192.0.2.2", "bob");
    }
    lock_user(f);
    assert_int_equal(check(f, "192.0.2.1", "bob"), BRAKES_LOCKED_USER);
    assert_int_equal(check(f, "192.0.2.2", "bob"), BRAKES_FREE);
    assert_int_equal(check(f, ip, "bob"), BRAKES_FREE);
    f->now_ms += BRAKES_KNOWN_MS;
    lock_user(f);
    assert_int_equal(check(f, ip, "bob"), BRAKES_LOCKED_USER);
    /* One who has not been seen for long makes room for another. */
    succeed(f, "192.0.2.9", "bob");
    for (unsigned i = 0; i < BRAKES_KNOWN_MAX; i++) {
        assert_int_equal(check(f, "192.0.2.9", "bob"), BRAKES_FREE);
        snprintf(ip, sizeof(ip), "user-%u", i);
        succeed(f, "192.0.2.9", ip);
    }
    assert_int_equal(check(f, "192.0.2.9", "bob"), BRAKES_LOCKED_USER);
}

/* Who mistypes and then gets in starts afresh. */
static void test_success_forgives_its_own(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 20; i++) {
        fail_times(f, "192.0.2.1", "bob", 9);
        assert_int_equal(check(f, "192.0.2.1", "bob"), BRAKES_FREE);
        succeed(f, "192.0.2.1", "bob");
        f->now_ms += MINUTE;
    }
}

/* Whoever has one account can't guess at others between its own logins. */
static void test_success_forgives_no_other(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 9; i++) {
        assert_int_equal(check(f, "192.0.2.1", "bob"), BRAKES_FREE);
        fail_times(f, "192.0.2.1", "bob", 1);
        fail_times(f, "192.0.2.1", "mallory", i % 2);
        succeed(f, "192.0.2.1", "mallory");
    }
    fail_times(f, "192.0.2.1", "bob", 1);
    assert_int_equal(check(f, "192.0.2.1", "mallory"), BRAKES_LOCKED_CLIENT);
    /* ... nor pay with failures of its own that a lock has already cost: */
    f->settings.lock_ms = MINUTE;
    fail_times(f, "203.0.113.1", "mallory", 5);
    fail_times(f, "203.0.113.1", "bob", 5);
    f->now_ms += MINUTE;
    assert_int_equal(check(f, "203.0.113.1", "bob"), BRAKES_FREE);
    succeed(f, "203.0.113.1", "mallory");
    fail_times(f, "203.0.113.1", "bob", 1);
    assert_int_equal(check(f, "203.0.113.1", "bob"), BRAKES_LOCKED_CLIENT);
}

/* Two bursts around the end of a window are one; and a slow trickle is none. */
static void test_window_slides(void **state)
{
    struct fixture *f = *state;

    f->now_ms = START + 10 * MINUTE - 1;
    fail_times(f, "192.0.2.1", "bob", 9);
    f->now_ms += 2;
    assert_int_equal(check(f, "192.0.2.1", "bob"), BRAKES_FREE);
    /* Of the nine of the window before, eight and a bit count. */
    fail_times(f, "192.0.2.1", "bob", 1);
    assert_int_equal(check(f, "192.0.2.1", "bob"), BRAKES_FREE);
    fail_times(f, "192.0.2.1", "bob", 1);
    assert_int_equal(check(f, "192.0.2.1", "bob"), BRAKES_LOCKED_CLIENT);
    for (unsigned i = 0; i < 200; i++) {
        fail_times(f, "203.0.113.1", "carol", 1);
        f->now_ms += 2 * MINUTE;
        assert_int_equal(check(f, "203.0.113.1", "carol"), BRAKES_FREE);
    }
    /* After two windows nothing is left. */
    fail_times(f, "203.0.113.2", "dave", 9);
    f->now_ms += 20 * MINUTE;
    fail_times(f, "203.0.113.2", "dave", 9);
    assert_int_equal(check(f, "203.0.113.2", "dave"), BRAKES_FREE);
}

/* Loops read their clocks at different moments: one that is a little behind must not wipe out what another has counted. */
static void test_clocks_differ(void **state)
{
    struct fixture *f = *state;

    f->now_ms = START;
    fail_times(f, "192.0.2.1", "bob", 5);
    f->now_ms = START - 1;
    fail_times(f, "192.0.2.1", "bob", 4);
    assert_int_equal(check(f, "192.0.2.1", "bob"), BRAKES_FREE);
    f->now_ms = START;
    fail_times(f, "192.0.2.1", "bob", 1);
    assert_int_equal(check(f, "192.0.2.1", "bob"), BRAKES_LOCKED_CLIENT);
}

static void test_delay_grows(void **state)
{
    struct fixture *f = *state;
    bool locks;

    assert_int_equal(failed(f, "192.0.2.1", "bob", &locks), 250);
    assert_int_equal(failed(f, "192.0.2.1", "carol", &locks), 500);
    assert_int_equal(failed(f, "192.0.2.1", "", &locks), 1000);
    /* The name's failures count from elsewhere. */
    assert_int_equal(failed(f, "203.0.113.1", "bob", &locks), 500);
    for (unsigned i = 0; i < 5; i++)
        failed(f, "192.0.2.1", "bob", &locks);
    assert_int_equal(failed(f, "192.0.2.1", "bob", &locks), BRAKES_DELAY_MS_MAX);
    assert_int_equal(failed(f, "192.0.2.1", "bob", &locks), BRAKES_DELAY_MS_MAX);
    f->settings.failures_per_client = f->settings.failures_per_user = UINT64_MAX;
    for (unsigned i = 0; i < 200; i++)
        assert_true(failed(f, "192.0.2.1", "bob", &locks) == BRAKES_DELAY_MS_MAX);
}

/* 0 is no limit, and one that a reload takes away frees who was locked by it. */
static void test_no_limits(void **state)
{
    struct fixture *f = *state;
    bool locks;

    f->settings.failures_per_client = f->settings.failures_per_network = f->settings.failures_per_user = 0;
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(failed(f, "192.0.2.1", "bob", &locks), 0);
        assert_false(locks);
    }
    assert_int_equal(check(f, "192.0.2.1", "bob"), BRAKES_FREE);
    assert_int_equal(brakes_count(f->brakes), 0);
    f->settings.failures_per_client = 1;
    failed(f, "192.0.2.1", "bob", &locks);
    assert_true(locks);
    assert_int_equal(check(f, "192.0.2.1", "bob"), BRAKES_LOCKED_CLIENT);
    f->settings.failures_per_client = 0;
    assert_int_equal(check(f, "192.0.2.1", "bob"), BRAKES_FREE);
}

/* Another window by a reload: counting begins afresh, locks stay. */
static void test_reload_of_the_window(void **state)
{
    struct fixture *f = *state;

    fail_times(f, "192.0.2.1", "bob", 10);
    fail_times(f, "203.0.113.1", "carol", 9);
    f->settings.window_ms = 3 * MINUTE;
    fail_times(f, "203.0.113.1", "carol", 9);
    assert_int_equal(check(f, "203.0.113.1", "carol"), BRAKES_FREE);
    assert_int_equal(check(f, "192.0.2.1", "bob"), BRAKES_LOCKED_CLIENT);
}

/* 100,000 failures, each with an address, a network and a name never seen before: memory stays, and whoever was locked before stays so. */
static void test_flood_frees_nobody(void **state)
{
    struct fixture *f = *state;
    char user[32];
    bool locks;

    fail_times(f, "192.0.2.1", "alice", 10);
    lock_user(f);
    fail_times(f, "203.0.113.7", "carol", 9);
    for (uint32_t i = 0; i < 100000; i++) {
        struct net_address client = numbered((1 << 24) + i);

        snprintf(user, sizeof(user), "user-%u", i);
        brakes_failed(f->brakes, &f->settings, &client, str_from_cstr(user), f->now_ms, &locks);
        assert_false(locks);
    }
    assert_int_equal(brakes_count(f->brakes), BRAKES_ENTRIES_MAX);
    assert_int_equal(check(f, "192.0.2.1", "dave"), BRAKES_LOCKED_CLIENT);
    assert_int_equal(check(f, "198.18.0.1", "bob"), BRAKES_LOCKED_USER);
    /* Nor does it wipe out who has failed more than once: the next is carol's tenth. */
    failed(f, "203.0.113.7", "carol", &locks);
    assert_true(locks);
    assert_int_equal(check(f, "203.0.113.7", "carol"), BRAKES_LOCKED_CLIENT);
}

/* When there is nothing but locks the oldest goes; what has ended goes before all. */
static void test_flood_of_locks(void **state)
{
    struct fixture *f = *state;
    bool locks;

    f->settings = (struct config_brakes){.failures_per_client = 1, .window_ms = MINUTE, .lock_ms = 30 * MINUTE};
    failed(f, "192.0.2.1", "", &locks);
    failed(f, "192.0.2.2", "", &locks);
    for (uint32_t i = 0; i < BRAKES_ENTRIES_MAX - 1; i++) {
        struct net_address client = numbered(i);

        assert_int_equal(check(f, "192.0.2.1", ""), BRAKES_LOCKED_CLIENT);
        brakes_failed(f->brakes, &f->settings, &client, STR(""), f->now_ms, &locks);
        assert_true(locks);
    }
    assert_int_equal(brakes_count(f->brakes), BRAKES_ENTRIES_MAX);
    assert_int_equal(check(f, "192.0.2.1", ""), BRAKES_FREE);
    assert_int_equal(check(f, "192.0.2.2", ""), BRAKES_LOCKED_CLIENT);
    /* A count comes and goes where only locks are; it takes the place of the oldest, once. */
    f->settings.failures_per_client = 2;
    failed(f, "192.0.2.3", "", &locks);
    failed(f, "192.0.2.4", "", &locks);
    assert_int_equal(check(f, "192.0.2.2", ""), BRAKES_FREE);
    assert_int_equal(check(f, "10.0.0.0", ""), BRAKES_LOCKED_CLIENT);
    f->now_ms += 31 * MINUTE;
    failed(f, "192.0.2.5", "", &locks);
    for (uint32_t i = 0; i < BRAKES_ENTRIES_MAX - 2; i++) {
        struct net_address client = numbered(i | 1 << 23);

        brakes_failed(f->brakes, &f->settings, &client, STR(""), f->now_ms, &locks);
    }
    failed(f, "192.0.2.5", "", &locks);
    assert_true(locks);
}

/* Names of any length and any bytes. */
static void test_names(void **state)
{
    struct fixture *f = *state;
    const struct net_address client = parsed("192.0.2.1");
    static char name[12288];
    bool locks;

    f->settings.failures_per_client = f->settings.failures_per_network = 0;
    f->settings.failures_per_user = 1;
    memset(name, 'x', sizeof(name));
    brakes_failed(f->brakes, &f->settings, &client, str_make(name, sizeof(name)), f->now_ms, &locks);
    assert_true(locks);
    assert_int_equal(brakes_check(f->brakes, &f->settings, &client, str_make(name, sizeof(name)), f->now_ms),
                     BRAKES_LOCKED_USER);
    brakes_failed(f->brakes, &f->settings, &client, str_make("a\0b", 3), f->now_ms, &locks);
    assert_int_equal(brakes_check(f->brakes, &f->settings, &client, str_make("a\0b", 3), f->now_ms),
                     BRAKES_LOCKED_USER);
    assert_int_equal(check(f, "192.0.2.1", "a"), BRAKES_FREE);
}

struct guesser {
    struct fixture *fixture;
    uint32_t number;
};

static void *guess(void *context)
{
    const struct guesser *guesser = context;
    struct fixture *f = guesser->fixture;
    char user[32];
    bool locks;

    for (uint32_t i = 0; i < 20000; i++) {
        struct net_address client = numbered(guesser->number << 20 | i);
        struct str name;

        snprintf(user, sizeof(user), "user-%u", i % 777);
        name = str_from_cstr(user);
        brakes_check(f->brakes, &f->settings, &client, name, f->now_ms + i);
        if (i % 3 == 0)
            brakes_succeeded(f->brakes, &f->settings, &client, name, f->now_ms + i);
        else
            brakes_failed(f->brakes, &f->settings, &client, name, f->now_ms + i, &locks);
    }
    return NULL;
}

static void test_many_threads(void **state)
{
    struct fixture *f = *state;
    struct guesser guessers[4];
    pthread_t threads[4];

    fail_times(f, "192.0.2.1", "bob", 10);
    for (uint32_t i = 0; i < 4; i++) {
        guessers[i] = (struct guesser){f, i};
        assert_int_equal(pthread_create(&threads[i], NULL, guess, &guessers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(check(f, "192.0.2.1", "bob"), BRAKES_LOCKED_CLIENT);
    assert_true(brakes_count(f->brakes) <= BRAKES_ENTRIES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_client_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_network_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_user_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_known_addresses_get_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_known_in_a_locked_network, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_known_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_success_forgives_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_success_forgives_no_other, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_window_slides, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_clocks_differ, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_delay_grows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_limits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reload_of_the_window, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_flood_frees_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_flood_of_locks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_threads, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
