/* SPDX-License-Identifier: Apache-2.0 */
/* The embedded directory: whoever it does not find gets no mail and may not sign in, and whoever it finds wrongly gets somebody else's. */
#include "fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

/* Answers must be of this moment: what the cache does is tested elsewhere. */
#define NO_CACHE "  cache: { positive: 0s, negative: 0s }\n"

static void test_users_have_two_names(void **state)
{
    struct fixture fixture;
    struct directory *directory;
    struct store *store;
    const struct store_change changes[] = {{STORE_GROUP, false, STR("Staff")},
                                           {STORE_GROUP, false, STR("printers")},
                                           {STORE_ADDRESS, false, STR("A.Smith@Contoso.test")}};

    (void)state;
    fixture_begin(&fixture, NO_CACHE);
    store = fixture_store(&fixture);
    fixture_add_user(store, "Alice", "secret");
    fixture_add_user(store, "bob@fabrikam.test", "secret");
    assert_int_equal(store_change_user(store, STR("alice"), changes, 3, NULL), STORE_DONE);
    directory = fixture_directory(&fixture);
    assert_string_equal(fixture_ask_user(directory, "alice"),
                        "YES Alice: printers Staff; a.smith@contoso.test alice@contoso.test");
    assert_string_equal(fixture_ask_user(directory, "ALICE@Contoso.Test."),
                        "YES Alice: printers Staff; a.smith@contoso.test alice@contoso.test");
    assert_string_equal(fixture_ask_user(directory, "alice@fabrikam.test"), "NO");
    assert_string_equal(fixture_ask_user(directory, "bob@FABRIKAM.test"), "YES bob@fabrikam.test:; bob@fabrikam.test");
    assert_string_equal(fixture_ask_user(directory, "bob"), "NO");
    assert_string_equal(fixture_ask_user(directory, ""), "NO");
    assert_string_equal(fixture_ask_user(directory, "alice' OR '1'='1"), "NO");
    assert_string_equal(fixture_ask_user(directory, "al ice"), "NO");
    assert_string_equal(fixture_ask_user(directory, "\xff"), "NO");
    assert_int_equal(fixture_check(directory, "Alice@contoso.test", "secret"), DIRECTORY_YES);
    assert_int_equal(fixture_check(directory, "bob", "secret"), DIRECTORY_NO);
    directory_release(&directory);
    store_close(&store);
    fixture_end(&fixture);
}

static void test_recipients_from_the_exact_to_the_one_that_catches_all(void **state)
{
    struct fixture fixture;
    struct directory *directory;
    struct store *store;

    (void)state;
    fixture_begin(&fixture, NO_CACHE);
    store = fixture_store(&fixture);
    directory = fixture_directory(&fixture);
    fixture_add_user(store, "alice", NULL);
    fixture_add_user(store, "sales-bob", NULL);
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "YES");
    assert_string_equal(fixture_ask(directory, "\"ALICE\"@CONTOSO.test"), "YES");
    assert_string_equal(fixture_ask(directory, "alice@fabrikam.test"), "NO");
    assert_string_equal(fixture_ask(directory, "nobody@contoso.test"), "NO");

    fixture_add_recipient(store, "*@contoso.test", "all@example.org", NULL);
    fixture_add_recipient(store, "Sales-*@contoso.test", "sales@example.org", NULL);
    fixture_add_recipient(store, "sales-eu-*@contoso.test", "eu@example.org", NULL);
    fixture_add_recipient(store, "sales-eu-berlin@contoso.test", "berlin@example.org", NULL);
    fixture_add_recipient(store, "box@contoso.test", NULL, NULL);
    assert_string_equal(fixture_ask(directory, "SALES-EU-Berlin@contoso.test"), "YES berlin@example.org");
    assert_string_equal(fixture_ask(directory, "sales-eu-paris@contoso.test"), "YES eu@example.org");
    assert_string_equal(fixture_ask(directory, "sales-us@contoso.test"), "YES sales@example.org");
    assert_string_equal(fixture_ask(directory, "sales-@contoso.test"), "YES sales@example.org");
    assert_string_equal(fixture_ask(directory, "sales@contoso.test"), "YES all@example.org");
    assert_string_equal(fixture_ask(directory, "nobody@contoso.test"), "YES all@example.org");
    assert_string_equal(fixture_ask(directory, "nobody@fabrikam.test"), "NO");
    /* A user and a mailbox are exact too. */
    assert_string_equal(fixture_ask(directory, "sales-bob@contoso.test"), "YES");
    assert_string_equal(fixture_ask(directory, "box@contoso.test"), "YES");
    /* What a stranger writes is no pattern. */
    assert_string_equal(fixture_ask(directory, "*@fabrikam.test"), "NO");
    assert_string_equal(fixture_ask(directory, "sales-%@fabrikam.test"), "NO");
    directory_release(&directory);
    store_close(&store);
    fixture_end(&fixture);
}

static void test_aliases_and_lists(void **state)
{
    struct fixture fixture;
    struct directory *directory;
    struct store *store;

    (void)state;
    fixture_begin(&fixture, NO_CACHE);
    store = fixture_store(&fixture);
    directory = fixture_directory(&fixture);
    fixture_add_user(store, "alice", NULL);
    fixture_add_recipient(store, "info@contoso.test", "alice@contoso.test", NULL);
    fixture_add_recipient(store, "team@contoso.test", "alice@contoso.test,Bob.B@Example.ORG", "Owner@contoso.test");
    assert_string_equal(fixture_ask(directory, "info@contoso.test"), "YES alice@contoso.test");
    assert_string_equal(fixture_ask(directory, "TEAM@contoso.test"),
                        "YES alice@contoso.test Bob.B@Example.ORG (Owner@contoso.test)");
    /* A mailbox that is kept, and sent on too: no alias of an alias. */
    fixture_add_recipient(store, "alice@contoso.test", "alice@contoso.test,alice@example.net", NULL);
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "YES alice@contoso.test alice@example.net");
    assert_string_equal(fixture_ask(directory, "info@contoso.test"), "YES alice@contoso.test");
    assert_int_equal(store_delete_recipient(store, STR("Alice@Contoso.test"), NULL), STORE_DONE);
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "YES");
    directory_release(&directory);
    store_close(&store);
    fixture_end(&fixture);
}

static void test_an_alias_of_an_alias_is_refused_from_either_side(void **state)
{
    struct fixture fixture;
    struct directory *directory;
    struct store *store;
    struct error error = {0};

    (void)state;
    fixture_begin(&fixture, NO_CACHE);
    store = fixture_store(&fixture);
    directory = fixture_directory(&fixture);
    fixture_add_recipient(store, "a@contoso.test", "b@contoso.test", NULL);
    assert_int_equal(fixture_try_recipient(store, "B@contoso.test", "c@contoso.test", NULL, &error), STORE_NO);
    assert_non_null(strstr(error.text, "a@contoso.test"));
    assert_int_equal(fixture_try_recipient(store, "z@contoso.test", "A@contoso.test", NULL, &error), STORE_NO);
    assert_int_equal(fixture_try_recipient(store, "*@contoso.test", "a@contoso.test", NULL, &error), STORE_NO);
    assert_int_equal(fixture_try_recipient(store, "b@contoso.test", "a@contoso.test", NULL, &error), STORE_NO);
    assert_string_equal(fixture_ask(directory, "z@contoso.test"), "NO");
    assert_string_equal(fixture_ask(directory, "b@contoso.test"), "NO");
    /* A mailbox is none. */
    fixture_add_recipient(store, "b@contoso.test", NULL, NULL);
    assert_int_equal(fixture_try_recipient(store, "b@contoso.test", NULL, NULL, &error), STORE_NO);
    store_close(&store);
    directory_release(&directory);
    fixture_end(&fixture);
}

static void run_sql(const struct fixture *fixture, const char *sql)
{
    sqlite3 *database;
    char *message = NULL;

    assert_int_equal(sqlite3_open(fixture->config->directory.path.data, &database), SQLITE_OK);
    if (sqlite3_exec(database, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s", message);
    sqlite3_close(database);
}

/* Somebody edits the database by hand: mail must wait for him, not go round and round. */
static void test_a_loop_that_is_met_is_no_answer(void **state)
{
    struct fixture fixture;
    struct directory *directory;
    struct store *store;

    (void)state;
    fixture_begin(&fixture, NO_CACHE);
    store = fixture_store(&fixture);
    directory = fixture_directory(&fixture);
    fixture_add_recipient(store, "a@contoso.test", "b@contoso.test", NULL);
    fixture_add_recipient(store, "ok@contoso.test", "c@contoso.test", NULL);
    run_sql(&fixture, "INSERT INTO recipients VALUES (100, 'contoso.test', 0, 'b', NULL);"
                      "INSERT INTO targets VALUES (100, 'contoso.test', 'a', 'a@contoso.test')");
    assert_string_equal(fixture_ask(directory, "a@contoso.test"), "UNAVAILABLE");
    assert_string_equal(fixture_ask(directory, "b@contoso.test"), "UNAVAILABLE");
    assert_string_equal(fixture_ask(directory, "ok@contoso.test"), "YES c@contoso.test");
    run_sql(&fixture, "INSERT INTO targets VALUES (100, 'contoso.test', 'x', 'no address at all')");
    assert_string_equal(fixture_ask(directory, "b@contoso.test"), "UNAVAILABLE");
    store_close(&store);
    directory_release(&directory);
    fixture_end(&fixture);
}

static void test_what_is_kept_is_bounded(void **state)
{
    static struct str targets[DIRECTORY_TARGETS_MAX + 1];
    struct store_recipient recipient = {.address = STR("big@contoso.test"),
                                        .targets = {targets, DIRECTORY_TARGETS_MAX}};
    struct directory_recipient *found;
    struct fixture fixture;
    struct directory *directory;
    struct store *store;

    (void)state;
    for (size_t i = 0; i <= DIRECTORY_TARGETS_MAX; i++)
        targets[i] = str_from_cstr(mem_printf("user%zu@example.org", i));
    fixture_begin(&fixture, NO_CACHE);
    store = fixture_store(&fixture);
    directory = fixture_directory(&fixture);
    assert_int_equal(store_add_recipient(store, &recipient, false, NULL), STORE_DONE);
    assert_int_equal(directory_find_recipient(directory, STR("big@contoso.test"), &found), DIRECTORY_YES);
    assert_int_equal(found->target_count, DIRECTORY_TARGETS_MAX);
    directory_recipient_free(&found);
    recipient.targets.count++;
    assert_int_equal(store_add_recipient(store, &recipient, true, NULL), STORE_NO);
    /* By hand: nobody may be left out of a list silently. */
    run_sql(&fixture, "INSERT INTO targets SELECT id, 'example.org', 'more', 'more@example.org' FROM recipients");
    assert_string_equal(fixture_ask(directory, "big@contoso.test"), "UNAVAILABLE");
    for (size_t i = 0; i <= DIRECTORY_TARGETS_MAX; i++)
        free((char *)targets[i].data);
    store_close(&store);
    directory_release(&directory);
    fixture_end(&fixture);
}

static const unsigned char fingerprint[32] = {0xab, 0xcd};
#define FINGERPRINT_HEX "abcd000000000000000000000000000000000000000000000000000000000000"

static void test_certificates(void **state)
{
    struct fixture fixture;
    struct directory *directory;
    struct directory_user *user;
    struct store *store;
    const struct store_change add = {STORE_CERTIFICATE, false, STR(FINGERPRINT_HEX)};

    (void)state;
    fixture_begin(&fixture, NO_CACHE);
    store = fixture_store(&fixture);
    directory = fixture_directory(&fixture);
    fixture_add_user(store, "alice", NULL);
    fixture_add_user(store, "bob", NULL);
    assert_int_equal(directory_find_certificate(directory, fingerprint, &user), DIRECTORY_NO);
    assert_null(user);
    assert_int_equal(store_change_user(store, STR("alice"), &add, 1, NULL), STORE_DONE);
    assert_int_equal(store_change_user(store, STR("alice"), &add, 1, NULL), STORE_DONE);
    assert_int_equal(store_change_user(store, STR("bob"), &add, 1, NULL), STORE_NO);
    assert_int_equal(directory_find_certificate(directory, fingerprint, &user), DIRECTORY_YES);
    assert_string_equal(user->name.data, "alice");
    assert_int_equal(user->address_count, 1);
    directory_user_free(&user);
    /* One who may not sign in may not do so with a certificate. */
    assert_int_equal(store_set_disabled(store, STR("alice"), true, NULL), STORE_DONE);
    assert_int_equal(directory_find_certificate(directory, fingerprint, &user), DIRECTORY_NO);
    assert_int_equal(store_set_disabled(store, STR("alice"), false, NULL), STORE_DONE);
    assert_int_equal(store_delete_user(store, STR("alice"), NULL), STORE_DONE);
    assert_int_equal(directory_find_certificate(directory, fingerprint, &user), DIRECTORY_NO);
    store_close(&store);
    directory_release(&directory);
    fixture_end(&fixture);
}

/* ---- the file ---- */

static void remove_database(const struct fixture *fixture)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    char path[128];

    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/directory.db%s", fixture->path, suffixes[i]);
        unlink(path);
    }
}

/* A fresh installation: nobody is known until somebody is added, and nothing needs a restart. */
static void test_a_missing_database_is_empty_and_may_appear(void **state)
{
    struct fixture fixture;
    struct directory *directory;
    struct store *store = NULL;
    struct stat status;
    struct error error;

    (void)state;
    fixture_begin(&fixture, NO_CACHE);
    directory = fixture_directory(&fixture);
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "NO");
    assert_int_equal(fixture_check(directory, "alice", "secret"), DIRECTORY_NO);
    assert_int_equal(store_open(&store, fixture.config->directory.path.data, STR(""), false, &error), 0);
    assert_null(store);
    assert_int_not_equal(stat(fixture.config->directory.path.data, &status), 0);
    store = fixture_store(&fixture);
    assert_int_equal(stat(fixture.config->directory.path.data, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    fixture_add_user(store, "alice", "secret");
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "YES");
    assert_int_equal(fixture_check(directory, "alice", "secret"), DIRECTORY_YES);
    store_close(&store);
    /* Restored from a backup: another file in its place. */
    remove_database(&fixture);
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "NO");
    store = fixture_store(&fixture);
    fixture_add_user(store, "bob", NULL);
    assert_string_equal(fixture_ask(directory, "bob@contoso.test"), "YES");
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "NO");
    store_close(&store);
    directory_release(&directory);
    fixture_end(&fixture);
}

static void write_file(const char *path, const char *text, size_t length)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, length, file), length);
    fclose(file);
}

static void test_a_damaged_database_is_no_answer(void **state)
{
    static const char rubbish[4096] = "this is no database";
    struct fixture fixture;
    struct directory *directory;
    struct store *store = NULL;
    struct error error;
    const char *path;

    (void)state;
    fixture_begin(&fixture, NO_CACHE);
    path = fixture.config->directory.path.data;
    directory = fixture_directory(&fixture);
    write_file(path, rubbish, sizeof(rubbish));
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "UNAVAILABLE");
    assert_string_equal(fixture_ask_user(directory, "alice"), "UNAVAILABLE");
    assert_int_equal(fixture_check(directory, "alice", "secret"), DIRECTORY_UNAVAILABLE);
    assert_int_equal(store_open(&store, path, STR(""), true, &error), -1);
    assert_null(store);
    unlink(path);
    /* An empty file is what an interrupted first command may leave. */
    write_file(path, "", 0);
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "NO");
    store = fixture_store(&fixture);
    fixture_add_user(store, "alice", NULL);
    store_close(&store);
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "YES");
    /* A path that is a directory can't be read either. */
    remove_database(&fixture);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "UNAVAILABLE");
    rmdir(path);
    directory_release(&directory);
    fixture_end(&fixture);
}

static void test_other_databases_are_not_ours(void **state)
{
    struct fixture fixture;
    struct directory *directory;
    struct store *store = NULL;
    struct error error;

    (void)state;
    fixture_begin(&fixture, NO_CACHE);
    directory = fixture_directory(&fixture);
    run_sql(&fixture, "CREATE TABLE users (a); PRAGMA application_id = 1");
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "UNAVAILABLE");
    assert_int_equal(store_open(&store, fixture.config->directory.path.data, STR(""), true, &error), -1);
    assert_non_null(strstr(error.text, "another program's"));
    remove_database(&fixture);
    /* One of a later version: an older program must not write into it. */
    store = fixture_store(&fixture);
    store_close(&store);
    run_sql(&fixture, "PRAGMA user_version = 2");
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "UNAVAILABLE");
    assert_int_equal(store_open(&store, fixture.config->directory.path.data, STR(""), true, &error), -1);
    assert_non_null(strstr(error.text, "version 2"));
    directory_release(&directory);
    fixture_end(&fixture);
}

/* ---- at once ---- */

struct racers {
    struct fixture *fixture;
    struct directory *directory;
    atomic_uint wrong;
    atomic_bool stop;
};

/* A user and a group are there together or not at all. */
static void *reader(void *argument)
{
    struct racers *racers = argument;

    while (!atomic_load(&racers->stop)) {
        struct directory_user *user;
        enum directory_status status = directory_find_user(racers->directory, STR("flicker"), &user);

        if (status == DIRECTORY_UNAVAILABLE || (status == DIRECTORY_YES && user->group_count != 2))
            atomic_fetch_add(&racers->wrong, 1);
        directory_user_free(&user);
    }
    return NULL;
}

static void *writer(void *argument)
{
    struct racers *racers = argument;
    struct store *store = NULL;
    struct store_change changes[] = {{STORE_GROUP, false, STR("a")}, {STORE_GROUP, false, STR("b")}};

    if (store_open(&store, racers->fixture->config->directory.path.data, STR("contoso.test"), true, NULL) != 0)
        abort();
    for (unsigned i = 0; i < 50; i++) {
        changes[0].remove = changes[1].remove = i % 2 == 0;
        if (store_change_user(store, STR("other"), changes, 2, NULL) != STORE_DONE)
            atomic_fetch_add(&racers->wrong, 1);
    }
    store_close(&store);
    return NULL;
}

static void test_commands_and_the_daemon_at_once(void **state)
{
    struct fixture fixture;
    struct racers racers = {.fixture = &fixture};
    const struct store_change groups[] = {{STORE_GROUP, false, STR("a")}, {STORE_GROUP, false, STR("b")}};
    pthread_t readers[4], writers[2];
    struct store *store;

    (void)state;
    fixture_begin(&fixture, NO_CACHE);
    store = fixture_store(&fixture);
    fixture_add_user(store, "flicker", NULL);
    fixture_add_user(store, "other", NULL);
    assert_int_equal(store_change_user(store, STR("flicker"), groups, 2, NULL), STORE_DONE);
    racers.directory = fixture_directory(&fixture);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, reader, &racers), 0);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, writer, &racers), 0);
    for (size_t i = 0; i < 2; i++)
        pthread_join(writers[i], NULL);
    atomic_store(&racers.stop, true);
    for (size_t i = 0; i < 4; i++)
        pthread_join(readers[i], NULL);
    assert_int_equal(atomic_load(&racers.wrong), 0);
    store_close(&store);
    directory_release(&racers.directory);
    fixture_end(&fixture);
}

static void test_store_refuses_what_is_there_and_what_is_not(void **state)
{
    struct fixture fixture;
    struct store *store;
    const struct store_secrets none = {0};
    const struct store_change group = {STORE_GROUP, false, STR("g")};
    struct error error;

    (void)state;
    fixture_begin(&fixture, NO_CACHE);
    store = fixture_store(&fixture);
    fixture_add_user(store, "alice", NULL);
    assert_int_equal(store_add_user(store, STR("ALICE@contoso.test"), &none, &group, 1, &error), STORE_NO);
    assert_int_equal(store_set_secrets(store, STR("bob"), &none, &error), STORE_NO);
    assert_int_equal(store_set_disabled(store, STR("bob"), true, &error), STORE_NO);
    assert_int_equal(store_delete_user(store, STR("bob"), &error), STORE_NO);
    assert_int_equal(store_change_user(store, STR("bob"), &group, 1, &error), STORE_NO);
    assert_int_equal(store_delete_recipient(store, STR("bob@contoso.test"), &error), STORE_NO);
    assert_string_equal(error.text, "there is no recipient \"bob@contoso.test\"");
    assert_int_equal(store_check_name(STR("alice"), &error), 0);
    assert_int_equal(store_check_name(STR("CONTOSO\\alice"), &error), 0);
    assert_int_equal(store_check_name(STR("j\xc3\xbcrgen"), &error), 0);
    assert_int_equal(store_check_name(STR("al ice"), &error), -1);
    assert_int_equal(store_check_name(STR(""), &error), -1);
    assert_int_equal(store_check_name(STR("alice@"), &error), -1);
    assert_int_equal(store_check_name(STR("@contoso.test"), &error), -1);
    assert_int_equal(store_check_recipient(STR("*@contoso.test"), &error), 0);
    assert_int_equal(store_check_recipient(STR("a-*@contoso.test"), &error), 0);
    assert_int_equal(store_check_recipient(STR("*-a@contoso.test"), &error), -1);
    assert_int_equal(store_check_recipient(STR("a*b*@contoso.test"), &error), -1);
    assert_int_equal(store_check_recipient(STR("\"a*b\"@contoso.test"), &error), 0);
    assert_int_equal(store_check_recipient(STR("a@[192.0.2.1]"), &error), -1);
    assert_int_equal(store_check_recipient(STR("alice"), &error), -1);
    store_close(&store);
    fixture_end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_users_have_two_names),
        cmocka_unit_test(test_recipients_from_the_exact_to_the_one_that_catches_all),
        cmocka_unit_test(test_aliases_and_lists),
        cmocka_unit_test(test_an_alias_of_an_alias_is_refused_from_either_side),
        cmocka_unit_test(test_a_loop_that_is_met_is_no_answer),
        cmocka_unit_test(test_what_is_kept_is_bounded),
        cmocka_unit_test(test_certificates),
        cmocka_unit_test(test_a_missing_database_is_empty_and_may_appear),
        cmocka_unit_test(test_a_damaged_database_is_no_answer),
        cmocka_unit_test(test_other_databases_are_not_ours),
        cmocka_unit_test(test_commands_and_the_daemon_at_once),
        cmocka_unit_test(test_store_refuses_what_is_there_and_what_is_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
