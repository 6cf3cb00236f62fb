/* SPDX-License-Identifier: Apache-2.0 */
/* The front, with a backend that does what the test says: what the cache keeps, how long anybody waits, and what the log says when nobody answers. */
#include "directory/directory.h"

#include "../loop/harness.h"
#include "directory/front.h"
#include "fixture.h"
#include "os/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

/* ---- the backend ---- */

static struct {
    atomic_int status; /* what it says */
    atomic_uint asked;
    atomic_uint version;
    atomic_size_t groups;  /* how many a user has */
    atomic_bool is_faulty; /* what it finds is of no use */
    atomic_bool is_closed; /* questions wait until it is opened again */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned waiting;
} fake = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void *fake_create(const struct directory_settings *settings, struct error *error)
{
    (void)settings;
    (void)error;
    return &fake;
}

static void fake_destroy(void *backend)
{
    (void)backend;
}

static void pass_gate(void)
{
    pthread_mutex_lock(&fake.mutex);
    fake.waiting++;
    pthread_cond_broadcast(&fake.changed);
    while (atomic_load(&fake.is_closed))
        pthread_cond_wait(&fake.changed, &fake.mutex);
    fake.waiting--;
    pthread_mutex_unlock(&fake.mutex);
}

static void open_gate(void)
{
    pthread_mutex_lock(&fake.mutex);
    atomic_store(&fake.is_closed, false);
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.mutex);
}

static void wait_for_waiting(unsigned count)
{
    pthread_mutex_lock(&fake.mutex);
    while (fake.waiting < count)
        pthread_cond_wait(&fake.changed, &fake.mutex);
    pthread_mutex_unlock(&fake.mutex);
}

static enum directory_status answer(struct error *error)
{
    atomic_fetch_add(&fake.asked, 1);
    pass_gate();
    if (atomic_load(&fake.status) == DIRECTORY_UNAVAILABLE)
        error_set(error, "nobody is at home");
    return (enum directory_status)atomic_load(&fake.status);
}

static enum directory_status fake_find_user(void *backend, const struct directory_name *name, uint64_t deadline_ms,
                                            struct directory_found *found, struct error *error)
{
    (void)backend;
    (void)deadline_ms;
    directory_found_set_name(found, name->given);
    for (size_t i = 0; i < atomic_load(&fake.groups); i++)
        directory_found_add_group(found, STR("group"));
    return answer(error);
}

static enum directory_status fake_check_password(void *backend, const struct directory_name *name, struct str password,
                                                 uint64_t deadline_ms, struct error *error)
{
    (void)backend;
    (void)name;
    (void)deadline_ms;
    assert_int_not_equal(password.length, 0);
    return answer(error);
}

static enum directory_status fake_find_recipient(void *backend, const struct directory_address *address,
                                                 uint64_t deadline_ms, struct directory_found *found,
                                                 struct error *error)
{
    (void)backend;
    (void)address;
    (void)deadline_ms;
    directory_found_add_target(found, atomic_load(&fake.is_faulty) ? STR("no address") : STR("Target@example.org"));
    return answer(error);
}

static bool fake_find_version(void *backend, uint64_t *version)
{
    (void)backend;
    *version = atomic_load(&fake.version);
    return true;
}

static struct directory_backend_operations operations = {
    .name = "fake",
    .create = fake_create,
    .destroy = fake_destroy,
    .find_user = fake_find_user,
    .check_password = fake_check_password,
    .find_recipient = fake_find_recipient,
};

/* ---- time that the test moves ---- */

static atomic_uint_fast64_t shift_ms;

static uint64_t shifted_monotonic_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 + atomic_load(&shift_ms);
}

static int64_t shifted_real_ms(void)
{
    return (int64_t)shifted_monotonic_ms();
}

static const struct clock_source shifted_clock = {shifted_monotonic_ms, shifted_real_ms};

static struct fixture fixture;

static struct directory *begin(enum directory_status status)
{
    struct directory *directory;
    struct error error = {0};

    atomic_store(&shift_ms, 0); /* loops know nothing of it */
    atomic_store(&fake.status, (int)status);
    atomic_store(&fake.asked, 0);
    atomic_store(&fake.groups, 0);
    atomic_store(&fake.is_closed, false);
    fixture_begin(&fixture, "  timeout: 200ms\n");
    directory = front_create(fixture.config, &operations, &error);
    assert_non_null(directory);
    return directory;
}

static void end(struct directory **directory)
{
    directory_release(directory);
    assert_null(*directory);
    fixture_end(&fixture);
    operations.find_version = NULL;
}

/* ---- what is kept ---- */

static void test_yes_and_no_are_kept_each_for_its_time(void **state)
{
    struct directory *directory = begin(DIRECTORY_YES);
    struct directory_statistics statistics;

    (void)state;
    assert_string_equal(fixture_ask_user(directory, "Alice"), "YES Alice:; alice@contoso.test");
    assert_string_equal(fixture_ask_user(directory, "ALICE"), "YES Alice:; alice@contoso.test");
    assert_int_equal(atomic_load(&fake.asked), 1);
    assert_string_equal(fixture_ask(directory, "x@contoso.test"), "YES Target@example.org");
    assert_string_equal(fixture_ask(directory, "X@Contoso.test"), "YES Target@example.org");
    assert_int_equal(atomic_load(&fake.asked), 2);
    /* A user and a recipient of one name are two questions. */
    atomic_store(&fake.status, DIRECTORY_NO);
    assert_string_equal(fixture_ask_user(directory, "x@contoso.test"), "NO");
    assert_string_equal(fixture_ask_user(directory, "x@contoso.test"), "NO");
    assert_int_equal(atomic_load(&fake.asked), 3);
    atomic_fetch_add(&shift_ms, 31000); /* negative answers are gone, positive ones stay */
    assert_string_equal(fixture_ask_user(directory, "x@contoso.test"), "NO");
    assert_string_equal(fixture_ask_user(directory, "alice"), "YES Alice:; alice@contoso.test");
    assert_int_equal(atomic_load(&fake.asked), 4);
    atomic_fetch_add(&shift_ms, 300000);
    assert_string_equal(fixture_ask_user(directory, "alice"), "NO");
    directory_get_statistics(directory, &statistics);
    assert_int_equal(statistics.lookups, 9);
    assert_int_equal(statistics.cache_hits, 4);
    assert_int_equal(statistics.unavailable, 0);
    end(&directory);
}

/* Kept, a moment's silence would refuse mail for minutes; taken for a no, it would bounce it. */
static void test_silence_is_not_kept(void **state)
{
    struct directory *directory = begin(DIRECTORY_UNAVAILABLE);
    struct directory_statistics statistics;

    (void)state;
    assert_string_equal(fixture_ask_user(directory, "alice"), "UNAVAILABLE");
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "UNAVAILABLE");
    atomic_store(&fake.status, DIRECTORY_YES);
    assert_string_equal(fixture_ask_user(directory, "alice"), "YES alice:; alice@contoso.test");
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "YES Target@example.org");
    directory_get_statistics(directory, &statistics);
    assert_int_equal(statistics.unavailable, 2);
    end(&directory);
}

static void test_passwords_are_not_kept(void **state)
{
    struct directory *directory = begin(DIRECTORY_YES);

    (void)state;
    assert_int_equal(fixture_check(directory, "alice", "secret"), DIRECTORY_YES);
    atomic_store(&fake.status, DIRECTORY_NO);
    assert_int_equal(fixture_check(directory, "alice", "secret"), DIRECTORY_NO);
    assert_int_equal(atomic_load(&fake.asked), 2);
    /* To LDAP an empty password is a bind as nobody, which succeeds. */
    atomic_store(&fake.status, DIRECTORY_YES);
    assert_int_equal(fixture_check(directory, "alice", ""), DIRECTORY_NO);
    assert_int_equal(directory_check_password(directory, STR("alice"), STR("a\0b")), DIRECTORY_NO);
    assert_int_equal(fixture_check(directory, "no name", "secret"), DIRECTORY_NO);
    assert_int_equal(atomic_load(&fake.asked), 2);
    assert_false(directory_has_scram(directory));
    end(&directory);
}

static void test_more_than_there_may_be_is_no_answer(void **state)
{
    struct directory *directory = begin(DIRECTORY_YES);

    (void)state;
    atomic_store(&fake.groups, DIRECTORY_GROUPS_MAX + 1);
    assert_string_equal(fixture_ask_user(directory, "alice"), "UNAVAILABLE");
    atomic_store(&fake.groups, DIRECTORY_GROUPS_MAX);
    assert_int_not_equal(strcmp(fixture_ask_user(directory, "bob"), "UNAVAILABLE"), 0);
    end(&directory);
}

/* A user who has left must not be one for five minutes more, where the backend can say that something has changed. */
static void test_a_change_is_seen_within_a_second(void **state)
{
    struct directory *directory;

    (void)state;
    operations.find_version = fake_find_version;
    directory = begin(DIRECTORY_YES);
    assert_string_equal(fixture_ask_user(directory, "alice"), "YES alice:; alice@contoso.test");
    atomic_store(&fake.status, DIRECTORY_NO);
    atomic_fetch_add(&shift_ms, 1001);
    assert_string_equal(fixture_ask_user(directory, "alice"), "YES alice:; alice@contoso.test");
    atomic_fetch_add(&fake.version, 1);
    atomic_fetch_add(&shift_ms, 1001);
    assert_string_equal(fixture_ask_user(directory, "alice"), "NO");
    end(&directory);
}

/* ---- in fibers ---- */

static void ask_in_a_fiber(void *argument)
{
    struct directory *directory = argument;
    struct directory_user *user;
    struct directory_recipient *recipient;

    CHECK(directory_ask_user(directory, STR("Alice"), harness_deadline(), &user) == DIRECTORY_YES);
    CHECK(str_equal(user->name, STR("Alice")));
    directory_user_free(&user);
    CHECK(directory_ask_recipient(directory, STR("a@contoso.test"), harness_deadline(), &recipient) == DIRECTORY_YES);
    CHECK(recipient->target_count == 1);
    directory_recipient_free(&recipient);
    CHECK(atomic_load(&fake.asked) == 2);
    /* What is known comes without a wait, though the backend would not answer, and though the deadline is over. */
    atomic_store(&fake.is_closed, true);
    CHECK(directory_ask_user(directory, STR("ALICE"), 0, &user) == DIRECTORY_YES);
    directory_user_free(&user);
    CHECK(directory_ask_recipient(directory, STR("A@contoso.test"), 0, &recipient) == DIRECTORY_YES);
    directory_recipient_free(&recipient);
    /* Neither a name nor an address: nobody is asked. */
    CHECK(directory_ask_user(directory, STR("a b"), 0, &user) == DIRECTORY_NO && !user);
    CHECK(directory_ask_recipient(directory, STR("a"), 0, &recipient) == DIRECTORY_NO && !recipient);
    open_gate();
}

static void test_fibers_ask(void **state)
{
    struct directory *directory = begin(DIRECTORY_YES);

    (void)state;
    harness_run(ask_in_a_fiber, directory);
    end(&directory);
}

/* Its last jobs come home to the loop, so that it goes before the loop does. */
static void release_within(struct directory **directory)
{
    open_gate();
    directory_release(directory);
}

static void ask_who_does_not_answer(void *argument)
{
    struct directory *directory = argument;
    struct directory_user *user;
    uint64_t began_ms = clock_monotonic_ms();

    CHECK(directory_ask_user(directory, STR("slow"), harness_deadline(), &user) == DIRECTORY_UNAVAILABLE);
    CHECK(!user);
    CHECK(clock_monotonic_ms() - began_ms >= 150); /* the directory's own timeout, of 200 ms */
    CHECK(clock_monotonic_ms() - began_ms < HARNESS_PATIENCE_MS);
    CHECK(directory_ask_user(directory, STR("slow"), loop_now_ms() + 1, &user) == DIRECTORY_UNAVAILABLE);
    release_within(&directory);
}

static void give_up_the_last_reference(void *argument)
{
    struct directory *directory = argument;
    struct worker_pool *reaper;
    struct directory_user *user;
    struct error error;

    CHECK(worker_pool_create(&reaper, "reaper", 1, &error) == 0);
    atomic_store(&fake.is_closed, true);
    CHECK(directory_ask_user(directory, STR("slow"), loop_now_ms() + 1, &user) == DIRECTORY_UNAVAILABLE);
    /* Otherwise it would not come back: who opens the gate is behind it. */
    directory_release_on(&directory, reaper);
    CHECK(!directory);
    open_gate();
    worker_pool_destroy(&reaper);
}

/* After a reload the last to have the old directory may be a fiber: its loop serves others and must not wait for a server that does not answer. */
static void test_a_loop_does_not_wait_for_its_end(void **state)
{
    (void)state;
    harness_run(give_up_the_last_reference, begin(DIRECTORY_YES));
    fixture_end(&fixture);
}

static void ask_for_what_is_of_no_use(void *argument)
{
    struct directory *directory = argument;
    struct directory_recipient *recipient;
    bool has_fault;

    atomic_store(&fake.is_faulty, true);
    CHECK(directory_resolve_recipient(directory, STR("a@contoso.test"), harness_deadline(), &recipient, &has_fault) ==
          DIRECTORY_UNAVAILABLE);
    CHECK(has_fault && !recipient);
    atomic_store(&fake.is_faulty, false);
    CHECK(directory_resolve_recipient(directory, STR("a@contoso.test"), harness_deadline(), &recipient, &has_fault) ==
          DIRECTORY_YES);
    CHECK(!has_fault);
    directory_recipient_free(&recipient);
    atomic_store(&fake.status, DIRECTORY_UNAVAILABLE);
    CHECK(directory_resolve_recipient(directory, STR("b@contoso.test"), harness_deadline(), &recipient, &has_fault) ==
          DIRECTORY_UNAVAILABLE);
    CHECK(!has_fault);
}

/* One list that is too long must not hold up everybody's mail, as a directory that does not answer does. */
static void test_a_fault_is_told_from_silence(void **state)
{
    struct directory *directory = begin(DIRECTORY_YES);

    (void)state;
    harness_run(ask_for_what_is_of_no_use, directory);
    end(&directory);
}

/* The threads hang in the backend; nobody waits for them beyond the deadline, and what they say at last is still of use. */
static void test_nobody_waits_beyond_the_deadline(void **state)
{
    struct directory *directory = begin(DIRECTORY_YES);

    (void)state;
    atomic_store(&fake.is_closed, true);
    harness_run(ask_who_does_not_answer, directory);
    fixture_end(&fixture);
}

static struct harness_latch cancelled;

static void wait_to_be_cancelled(void *argument)
{
    struct directory_recipient *recipient;

    CHECK(directory_ask_recipient(argument, STR("slow@contoso.test"), harness_deadline(), &recipient) ==
          DIRECTORY_UNAVAILABLE);
    harness_arrive(&cancelled);
}

static void fill_the_pool(void *argument)
{
    struct directory *directory = argument;
    struct directory_user *user;

    cancelled = (struct harness_latch){0};
    /* Its four threads, and as many more that wait for one and are dropped unasked. */
    for (unsigned i = 0; i < 8; i++)
        CHECK(fiber_start(wait_to_be_cancelled, directory) == 0);
    harness_wait(&cancelled, 8);
    wait_for_waiting(4);
    CHECK(atomic_load(&fake.asked) == 4);
    open_gate();
    CHECK(directory_ask_user(directory, STR("alice"), harness_deadline(), &user) != DIRECTORY_NO);
    directory_user_free(&user);
    release_within(&directory);
}

/* After a stretch of silence the questions of those who have left must not stand before those of who is there. */
static void test_questions_that_nobody_waits_for_are_not_asked(void **state)
{
    struct directory *directory = begin(DIRECTORY_YES);

    (void)state;
    atomic_store(&fake.is_closed, true);
    harness_run(fill_the_pool, directory);
    assert_in_range(atomic_load(&fake.asked), 4, 5);
    fixture_end(&fixture);
}

/* ---- reload ---- */

static void check_matches(const struct directory *directory, const char *text, bool expected)
{
    const struct config *config = fixture_load(&fixture, text);

    assert_int_equal(directory_matches(directory, config), expected);
    config_release(&config);
}

static void test_a_reload_keeps_what_has_not_changed(void **state)
{
    static const char ldap[] = "  backend: ldap\n"
                               "  ldap: { url: 'ldaps://a.test', base: 'dc=a', bind-dn: 'cn=a', bind-password: %s }\n";
    struct directory *directory = begin(DIRECTORY_YES);
    char text[512];

    (void)state;
    check_matches(directory, "  timeout: 200ms\n", true);
    check_matches(directory, "  timeout: 201ms\n", false);
    check_matches(directory, "  timeout: 200ms\n  cache: { entries: 1 }\n", false);
    check_matches(directory, "  timeout: 200ms\n  cache: { negative: 1s }\n", false);
    snprintf(text, sizeof(text), ldap, "one");
    check_matches(directory, text, false);
    end(&directory);

    fixture_begin(&fixture, text);
    directory = front_create(fixture.config, &operations, NULL);
    check_matches(directory, text, true);
    snprintf(text, sizeof(text), ldap, "two");
    check_matches(directory, text, false);
    end(&directory);
}

/* ---- the log ---- */

static unsigned count_in(const char *path, const char *what)
{
    char *data = NULL;
    size_t length;
    unsigned count = 0;

    assert_int_equal(vfs_read_file(vfs_system(), path, 1 << 20, &data, &length), 0);
    for (const char *at = data; (at = strstr(at, what)); at++)
        count++;
    free(data);
    return count;
}

static void test_a_stretch_of_silence_is_said_once(void **state)
{
    struct directory *directory = begin(DIRECTORY_UNAVAILABLE);
    char path[128];
    int fd;

    (void)state;
    snprintf(path, sizeof(path), "%s/log", fixture.path);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    log_start(fd, LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
    for (unsigned i = 0; i < 100; i++) {
        assert_string_equal(fixture_ask_user(directory, "alice"), "UNAVAILABLE");
        atomic_fetch_add(&shift_ms, 1000);
    }
    /* One answer between is no recovery yet. */
    atomic_store(&fake.status, DIRECTORY_UNAVAILABLE);
    assert_string_equal(fixture_ask_user(directory, "alice"), "UNAVAILABLE");
    atomic_store(&fake.status, DIRECTORY_NO);
    assert_string_equal(fixture_ask_user(directory, "bob"), "NO");
    atomic_store(&fake.status, DIRECTORY_UNAVAILABLE);
    assert_string_equal(fixture_ask_user(directory, "alice"), "UNAVAILABLE");
    atomic_fetch_add(&shift_ms, 5000);
    atomic_store(&fake.status, DIRECTORY_YES);
    assert_string_equal(fixture_ask_user(directory, "alice"), "YES alice:; alice@contoso.test");
    assert_string_equal(fixture_ask_user(directory, "carol"), "YES carol:; carol@contoso.test");
    log_stop();
    close(fd);
    assert_int_equal(count_in(path, "directory-unavailable backend=fake error=\"nobody is at home\""), 1);
    assert_int_equal(count_in(path, "directory-available"), 1);
    end(&directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_yes_and_no_are_kept_each_for_its_time),
        cmocka_unit_test(test_silence_is_not_kept),
        cmocka_unit_test(test_passwords_are_not_kept),
        cmocka_unit_test(test_more_than_there_may_be_is_no_answer),
        cmocka_unit_test(test_a_change_is_seen_within_a_second),
        cmocka_unit_test(test_fibers_ask),
        cmocka_unit_test(test_a_loop_does_not_wait_for_its_end),
        cmocka_unit_test(test_a_fault_is_told_from_silence),
        cmocka_unit_test(test_nobody_waits_beyond_the_deadline),
        cmocka_unit_test(test_questions_that_nobody_waits_for_are_not_asked),
        cmocka_unit_test(test_a_reload_keeps_what_has_not_changed),
        cmocka_unit_test(test_a_stretch_of_silence_is_said_once),
    };

    clock_use(&shifted_clock);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
