/* SPDX-License-Identifier: Apache-2.0 */
/* The text map: a line that is taken for another one gives somebody a stranger's rights or mail, and a bad edit must not take the mail of everybody else down. */
#include "directory/file_map.h"

#include "directory/names.h"
#include "fixture.h"
#include "os/clock.h"

#include <time.h>

#define HASH "$y$j9T$2ND88KF0hYmqrHDyTUsM51$4UfKgwJmVYpf.1b/FPFptFrL90ioMbSjoYzvA8n0Q7C"
#define SCRAM                                                                                                          \
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"                        \
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define SHA256 "ab00000000000000000000000000000000000000000000000000000000000001"

/* ---- the parser ---- */

static struct file_map *parse(const char *text)
{
    struct error error = {0};
    struct file_map *map = file_map_parse("map", str_from_cstr(text), STR("contoso.test"), &error);

    if (!map)
        fail_msg("%s", error.text);
    return map;
}

static void check_error(const char *text, const char *expected)
{
    struct error error = {0};
    struct file_map *map = file_map_parse("map", str_from_cstr(text), STR("contoso.test"), &error);

    if (map)
        fail_msg("taken: %s", text);
    if (strncmp(error.text, expected, strlen(expected)) != 0)
        fail_msg("\"%s\" for: %s", error.text, text);
}

static const struct file_user *find_user(const struct file_map *map, const char *name)
{
    struct directory_name_forms forms;

    assert_true(directory_name_init(&forms, str_from_cstr(name), STR("contoso.test")));
    return file_map_find_user(map, &forms.name);
}

static const struct file_recipient *find_recipient(const struct file_map *map, const char *address, bool *is_user)
{
    struct directory_address_key key;

    assert_true(directory_address_init(&key, str_from_cstr(address)));
    return file_map_find_recipient(map, &key.address, is_user);
}

static void check_alice(const struct file_map *map)
{
    static const unsigned char sha256[32] = {[0] = 0xab, [31] = 1};
    const struct file_user *alice = find_user(map, "ALICE@contoso.test");

    assert_non_null(alice);
    assert_string_equal(alice->name.data, "Alice");
    assert_string_equal(alice->hash, HASH);
    assert_false(alice->is_disabled);
    assert_int_equal(alice->groups.count, 2);
    assert_string_equal(alice->groups.items[1].data, "printers");
    assert_int_equal(alice->addresses.count, 1);
    assert_string_equal(alice->addresses.items[0].data, "a.smith@contoso.test");
    assert_ptr_equal(file_map_find_certificate(map, sha256), alice);
    assert_int_equal(alice->scram->iterations, 4096);
    assert_ptr_equal(file_map_scram_model(map), alice);
    assert_ptr_equal(file_map_hash_model(map, STR("nobody")), alice);
}

static void test_everything_that_a_map_may_hold(void **state)
{
    struct file_map *map = parse("# people\n"
                                 "user Alice " HASH " groups=staff,printers addresses=A.Smith@contoso.test\n"
                                 "  \n"
                                 "# a comment does not end it\n"
                                 "\tcertificates=" SHA256 "\r\n"
                                 "  scram=" SCRAM "\n"
                                 "\n"
                                 "user bob@fabrikam.test -\n"
                                 "   disabled\n"
                                 "recipient box@contoso.test\n"
                                 "alias info@contoso.test alice@contoso.test\n"
                                 "list Team@contoso.test owner@contoso.test Alice@contoso.test,x@example.org\n"
                                 "list all@contoso.test - alice@contoso.test");
    const struct file_recipient *found;
    bool is_user;

    (void)state;
    assert_int_equal(file_map_user_count(map), 2);
    assert_int_equal(file_map_recipient_count(map), 4);
    check_alice(map);
    assert_true(find_user(map, "bob@Fabrikam.test")->is_disabled);
    assert_string_equal(find_user(map, "bob@fabrikam.test")->hash, "");
    assert_null(find_user(map, "bob"));
    found = find_recipient(map, "TEAM@contoso.test", &is_user);
    assert_int_equal(found->targets.count, 2);
    assert_string_equal(found->targets.items[0].data, "Alice@contoso.test");
    assert_string_equal(found->owner.data, "owner@contoso.test");
    assert_int_equal(find_recipient(map, "all@contoso.test", &is_user)->owner.length, 0);
    assert_int_equal(find_recipient(map, "box@contoso.test", &is_user)->targets.count, 0);
    assert_null(find_recipient(map, "alice@contoso.test", &is_user));
    assert_true(is_user);
    assert_null(find_recipient(map, "bob@fabrikam.test", &is_user));
    assert_true(is_user);
    assert_null(find_recipient(map, "bob@contoso.test", &is_user));
    assert_false(is_user);
    file_map_release(&map);
    assert_null(map);
}

/* Nothing, and nothing but comments, is a map of nobody. */
static void test_maps_of_nobody(void **state)
{
    static const char *const texts[] = {"", "\n", "  \n\n", "#", "# x\n", "   # not in the first column\n"};

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        struct file_map *map = parse(texts[i]);

        assert_int_equal(file_map_user_count(map) + file_map_recipient_count(map), 0);
        assert_null(file_map_scram_model(map));
        assert_null(file_map_hash_model(map, STR("x")));
        file_map_release(&map);
    }
    check_error(texts[5], "map:1:4: ");
}

static void test_exact_beats_the_longest_pattern_beats_the_one_that_catches_all(void **state)
{
    struct file_map *map = parse("alias *@contoso.test all@example.org\n"
                                 "alias sales-*@contoso.test sales@example.org\n"
                                 "alias sales-eu-*@contoso.test eu@example.org\n"
                                 "alias sales-eu-berlin@contoso.test berlin@example.org\n"
                                 "user sales-eu-bob -\n");
    static const struct {
        const char *address, *target;
    } cases[] = {
        {"sales-eu-berlin@contoso.test", "berlin@example.org"},
        {"Sales-EU-paris@contoso.test", "eu@example.org"},
        {"sales-us@contoso.test", "sales@example.org"},
        {"sales-@contoso.test", "sales@example.org"},
        {"sales@contoso.test", "all@example.org"},
        {"x@contoso.test", "all@example.org"},
        {"x@fabrikam.test", NULL},
        {"sales-eu-bob@contoso.test", NULL},
        {"\"*\"@fabrikam.test", NULL},
    };
    bool is_user;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct file_recipient *found = find_recipient(map, cases[i].address, &is_user);

        if (cases[i].target)
            assert_string_equal(found->targets.items[0].data, cases[i].target);
        else
            assert_null(found);
    }
    file_map_release(&map);
}

static void test_mistakes_are_named_with_their_place(void **state)
{
    (void)state;
    check_error("usr alice -\n", "map:1:1: wants user, recipient, alias or list, not \"usr\"");
    check_error("\n\nuser\n", "map:3:5: wants the name of a user");
    check_error("user alice\n", "map:1:11: wants a hash");
    check_error("user alice secret\n", "map:1:12: wants a hash");
    check_error("user alice abJnggxhB/yWI\n", "map:1:12: wants a hash");
    check_error("user alice - staff\n", "map:1:14: wants disabled, groups=");
    check_error("user alice - groups=\n", "map:1:21: wants a list");
    check_error("user alice - groups=a groups=b\n", "map:1:23: wants disabled");
    check_error("user alice - groups=a,\n", "map:1:23: wants the name of a group");
    check_error("user alice - addresses=alice\n", "map:1:24: \"alice\" is not an address");
    check_error("user alice - certificates=12\n", "map:1:27: wants the SHA-256");
    check_error("user alice - scram=x\n", "map:1:20: wants SCRAM-SHA-256$");
    check_error("user a -\nuser b -\n  disabled\nuser A@contoso.test -\n", "map:4:6: the user \"A@contoso.test\"");
    check_error("user a - certificates=" SHA256 "\nuser b - certificates=" SHA256 "\n", "map:2:23: this certificate");
    check_error("recipient a@contoso.test x\n", "map:1:26: there is nothing more");
    check_error("recipient a@contoso.test\nrecipient A@contoso.test\n",
                "map:2:11: \"A@contoso.test\" stands here twice");
    check_error("recipient *@contoso.test\nalias *@contoso.test a@b.test\n", "map:2:7: \"*@contoso.test\" stands");
    check_error("recipient a*b@contoso.test\n", "map:1:11: \"a*b@contoso.test\" is not an address");
    check_error("recipient\n", "map:1:10: \"\" is not an address");
    check_error("alias a@contoso.test\n", "map:1:21: wants a list");
    check_error("alias a@contoso.test b@contoso.test, c@contoso.test\n", "map:1:37: \"\" is not an address");
    check_error("list a@contoso.test x@y.test\n", "map:1:29: wants a list");
    check_error("list a@contoso.test x y@y.test\n", "map:1:21: \"x\" is not an address");
    check_error("user a -\n\x01", "map:2:1: wants UTF-8 text");
    check_error("user \xff -\n", "map:1:6: wants UTF-8 text");
}

static void test_an_alias_of_an_alias_is_a_mistake(void **state)
{
    struct file_map *map;

    (void)state;
    check_error("alias a@contoso.test b@contoso.test\nalias b@contoso.test c@contoso.test\n",
                "map: \"a@contoso.test\" names \"b@contoso.test\", which is an alias");
    check_error("alias a@contoso.test B@contoso.test\nlist b@contoso.test - a@contoso.test\n", "map: \"");
    check_error("alias *@contoso.test a@contoso.test\nalias a@contoso.test b@x.test\n", "map: \"@contoso.test\"");
    /* A mailbox may be named, and so may one whose mail is also sent on. */
    map = parse("alias a@contoso.test b@contoso.test\nrecipient b@contoso.test\n"
                "alias c@contoso.test d@contoso.test\nalias d@contoso.test d@contoso.test,x@example.org\n");
    file_map_release(&map);
}

static void test_a_map_at_its_bounds(void **state)
{
    size_t length = FILE_MAP_LINES_MAX + 1;
    char *text = malloc(length + 1);
    struct error error;
    struct file_map *map;

    (void)state;
    memset(text, '\n', length);
    map = file_map_parse("map", str_make(text, FILE_MAP_LINES_MAX), STR(""), &error);
    assert_non_null(map);
    file_map_release(&map);
    assert_null(file_map_parse("map", str_make(text, length), STR(""), &error));
    assert_string_equal(error.text, "map: has over 1000000 lines");
    free(text);
}

/* ---- the backend ---- */

static uint64_t shift_ms; /* what the test adds to the time */

static uint64_t shifted_monotonic_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 + shift_ms;
}

static int64_t shifted_real_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + (int64_t)shift_ms;
}

static const struct clock_source shifted_clock = {shifted_monotonic_ms, shifted_real_ms};

static void map_path(const struct fixture *fixture, char path[128])
{
    snprintf(path, 128, "%s/map", fixture->path);
}

/* As an editor does: another file in its place. */
static void write_map(const struct fixture *fixture, const char *text)
{
    char path[128], temporary[160];
    FILE *file;

    map_path(fixture, path);
    snprintf(temporary, sizeof(temporary), "%s.new", path);
    file = fopen(temporary, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(temporary, path), 0);
    shift_ms += 3000; /* it has settled, and is looked at again */
}

static void begin(struct fixture *fixture)
{
    char path[128];
    char *text;

    fixture_begin(fixture, "");
    map_path(fixture, path);
    config_release(&fixture->config);
    text = mem_printf("  backend: file\n  file: %s\n", path);
    fixture->config = fixture_load(fixture, text);
    free(text);
}

/* The cache is on: what changed must be seen all the same. */
static void test_it_is_read_again_when_it_changes(void **state)
{
    struct fixture fixture;
    struct directory *directory;

    (void)state;
    begin(&fixture);
    write_map(&fixture, "user alice " HASH " groups=staff\n");
    directory = fixture_directory(&fixture);
    assert_string_equal(fixture_ask_user(directory, "alice"), "YES alice: staff; alice@contoso.test");
    assert_string_equal(fixture_ask(directory, "bob@contoso.test"), "NO");
    assert_false(directory_has_scram(directory));
    assert_int_equal(fixture_check(directory, "alice", "xxxxxxxxxxxxxxx"), DIRECTORY_YES);
    assert_int_equal(fixture_check(directory, "alice", "xxxxxxxxxxxxxx"), DIRECTORY_NO);
    assert_int_equal(fixture_check(directory, "bob", "xxxxxxxxxxxxxxx"), DIRECTORY_NO);
    write_map(&fixture, "user alice " HASH " disabled\nuser bob - scram=" SCRAM "\n");
    assert_string_equal(fixture_ask_user(directory, "alice"), "YES alice:; alice@contoso.test");
    assert_string_equal(fixture_ask(directory, "bob@contoso.test"), "YES");
    assert_int_equal(fixture_check(directory, "alice", "xxxxxxxxxxxxxxx"), DIRECTORY_NO);
    assert_int_equal(fixture_check(directory, "bob", ""), DIRECTORY_NO);
    assert_true(directory_has_scram(directory));
    directory_release(&directory);
    fixture_end(&fixture);
}

static void test_a_bad_file_changes_nothing(void **state)
{
    struct fixture fixture;
    struct directory *directory;

    (void)state;
    begin(&fixture);
    write_map(&fixture, "user alice " HASH "\n");
    directory = fixture_directory(&fixture);
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "YES");
    write_map(&fixture, "user bob " HASH "\nuser al ice\n");
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "YES");
    assert_string_equal(fixture_ask(directory, "bob@contoso.test"), "NO");
    write_map(&fixture, "user bob " HASH "\n");
    assert_string_equal(fixture_ask(directory, "bob@contoso.test"), "YES");
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "NO");
    directory_release(&directory);
    fixture_end(&fixture);
}

static void test_a_missing_file_is_no_answer(void **state)
{
    struct fixture fixture;
    struct directory *directory;
    char path[128];

    (void)state;
    begin(&fixture);
    map_path(&fixture, path);
    directory = fixture_directory(&fixture);
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "UNAVAILABLE");
    assert_int_equal(fixture_check(directory, "alice", "xxxxxxxxxxxxxxx"), DIRECTORY_UNAVAILABLE);
    /* One that is bad from the start has nothing to fall back on. */
    write_map(&fixture, "rubbish\n");
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "UNAVAILABLE");
    write_map(&fixture, "user alice " HASH "\n");
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "YES");
    assert_int_equal(unlink(path), 0);
    shift_ms += 3000;
    assert_string_equal(fixture_ask(directory, "alice@contoso.test"), "UNAVAILABLE");
    assert_string_equal(fixture_ask_user(directory, "alice"), "UNAVAILABLE");
    directory_release(&directory);
    fixture_end(&fixture);
}

/* Written in place, slowly: half a file is not to be believed while it may still grow. */
static void test_a_file_that_is_being_written_is_not_read(void **state)
{
    struct fixture fixture;
    struct directory *directory;
    char path[128];
    FILE *file;

    (void)state;
    begin(&fixture);
    map_path(&fixture, path);
    write_map(&fixture, "user alice -\nuser bob -\n");
    directory = fixture_directory(&fixture);
    assert_string_equal(fixture_ask(directory, "bob@contoso.test"), "YES");
    shift_ms = 0; /* the file's time is the system's */
    clock_use(&shifted_clock);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs("user alice -\n", file);
    fflush(file);
    assert_string_equal(fixture_ask(directory, "bob@contoso.test"), "YES");
    fputs("user bob - groups=new\n", file);
    fclose(file);
    shift_ms += 3000;
    assert_string_equal(fixture_ask_user(directory, "bob"), "YES bob: new; bob@contoso.test");
    directory_release(&directory);
    fixture_end(&fixture);
}

/* Keys that others made have other counts: made-up ones must look like those. */
static void test_made_up_keys_are_like_the_real_ones(void **state)
{
    struct fixture fixture;
    struct directory *directory;
    struct directory_scram_keys keys, again;

    (void)state;
    begin(&fixture);
    write_map(&fixture, "user alice - scram=" SCRAM "\nuser gone - disabled scram=" SCRAM "\n");
    directory = fixture_directory(&fixture);
    assert_int_equal(directory_find_scram_keys(directory, STR("Alice"), &keys), DIRECTORY_YES);
    assert_int_equal(keys.iterations, 4096);
    assert_int_equal(directory_find_scram_keys(directory, STR("gone"), &keys), DIRECTORY_NO);
    assert_int_equal(directory_find_scram_keys(directory, STR("nobody"), &keys), DIRECTORY_NO);
    directory_fake_scram_keys(directory, STR("nobody"), &keys);
    assert_int_equal(keys.iterations, 4096);
    assert_int_equal(keys.salt_bytes, 16);
    directory_release(&directory);
    directory = fixture_directory(&fixture);
    directory_fake_scram_keys(directory, STR("NOBODY@contoso.test"), &again);
    assert_memory_equal(&keys, &again, sizeof(keys));
    directory_release(&directory);
    fixture_end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_that_a_map_may_hold),
        cmocka_unit_test(test_maps_of_nobody),
        cmocka_unit_test(test_exact_beats_the_longest_pattern_beats_the_one_that_catches_all),
        cmocka_unit_test(test_mistakes_are_named_with_their_place),
        cmocka_unit_test(test_an_alias_of_an_alias_is_a_mistake),
        cmocka_unit_test(test_a_map_at_its_bounds),
        cmocka_unit_test(test_it_is_read_again_when_it_changes),
        cmocka_unit_test(test_a_bad_file_changes_nothing),
        cmocka_unit_test(test_a_missing_file_is_no_answer),
        cmocka_unit_test(test_a_file_that_is_being_written_is_not_read),
        cmocka_unit_test(test_made_up_keys_are_like_the_real_ones),
    };

    clock_use(&shifted_clock);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
