/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is shipped beside the program says what the program does: the example loads, as it is and with all that is commented out,
 * and it, the manual and the JSON Schema know every key. Otherwise a newcomer's first copy and paste fails.
 */
#include "base/mem.h"
#include "config/config.h"
#include "config/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* A file of the source tree, whose root is where this test's path begins. */
static char *read_shipped(const char *name)
{
    static const char own[] = "tests/unit/config/shipped.c";
    char *path = mem_printf("%.*s%s", (int)(sizeof(__FILE__) - sizeof(own)), __FILE__, name);
    char *data = NULL;
    size_t length = 0;
    int result = vfs_read_file(vfs_system(), path, 1u << 20, &data, &length);

    if (result != 0)
        fail_msg("%s: %s", path, strerror(-result));
    free(path);
    return data;
}

static void check_loads(struct str text)
{
    const struct config *config;
    struct config_errors errors;

    config_errors_init(&errors);
    config_load_text(vfs_system(), "postern.yaml", text, NULL, &config, &errors);
    for (size_t i = 0; i < errors.count; i++)
        print_message("%u:%u: %s\n", errors.messages[i].line, errors.messages[i].column, errors.messages[i].text);
    assert_int_equal(errors.error_count, 0);
    config_release(&config);
    config_errors_release(&errors);
}

/* "# key: ..." is a setting, "# Words" is prose; `include` and `file` would read other files. */
static bool is_setting(struct str line, size_t *hash)
{
    struct str rest;
    size_t length = 0;

    *hash = str_find(line, '#');
    if (*hash == STR_NONE || str_trim(str_take(line, *hash)).length > 0)
        return false;
    rest = str_trim(str_skip(line, *hash + 1));
    while (length < rest.length && ((rest.data[length] >= 'a' && rest.data[length] <= 'z') || rest.data[length] == '-'))
        length++;
    return length > 0 && length < rest.length && rest.data[length] == ':' && !str_starts_with(rest, STR("include")) &&
           !str_starts_with(rest, STR("devices")) && !str_starts_with(rest, STR("yaml-language-server"));
}

static void test_example(void **state)
{
    char *text = read_shipped("etc/postern.yaml");
    struct str rest = str_from_cstr(text);
    struct buf all;
    size_t settings = 0;

    (void)state;
    check_loads(rest);
    buf_init(&all, 1u << 20);
    while (rest.data) {
        struct str line = str_split(&rest, '\n');
        size_t hash;

        if (is_setting(line, &hash)) {
            buf_append_str(&all, str_take(line, hash));
            line = str_skip(line, hash + 2);
            settings++;
        }
        buf_append_str(&all, line);
        buf_append_char(&all, '\n');
    }
    assert_true(settings > 40);
    check_loads(buf_str(&all));
    buf_release(&all);
    free(text);
}

static bool is_available(const struct schema_key *key)
{
    if (key->unavailable)
        return false;
    if (key->type != SCHEMA_MAP)
        return true;
    for (size_t i = 0; i < key->map->count; i++)
        if (is_available(&key->map->keys[i]))
            return true;
    return false;
}

static void check_mentions(const struct schema_map *map, const char *example, const char *manual)
{
    for (size_t i = 0; i < map->count; i++) {
        const struct schema_key *key = &map->keys[i];
        char *in_example = mem_printf("%s:", key->name);

        /* Routing by the DNS has a value that is available, and that is the default. */
        if (is_available(key) && strcmp(key->name, "route") != 0) {
            if (!strstr(example, in_example))
                fail_msg("etc/postern.yaml lacks %s", key->name);
            if (!strstr(manual, key->name))
                fail_msg("man/postern.yaml.5 lacks %s", key->name);
            if (key->map)
                check_mentions(key->map, example, manual);
        }
        free(in_example);
    }
}

static void test_every_key(void **state)
{
    char *example = read_shipped("etc/postern.yaml");
    char *manual = read_shipped("man/postern.yaml.5");

    (void)state;
    check_mentions(&schema_root, example, manual);
    free(example);
    free(manual);
}

/* After a change to the table: postern schema > etc/postern.schema.json */
static void test_json_schema(void **state)
{
    char *shipped = read_shipped("etc/postern.schema.json");
    struct buf made;

    (void)state;
    buf_init(&made, 1u << 20);
    schema_write_json(&made);
    assert_true(str_equal(buf_str(&made), str_from_cstr(shipped)));
    buf_release(&made);
    free(shipped);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_example), cmocka_unit_test(test_every_key),
                                       cmocka_unit_test(test_json_schema)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
