/* SPDX-License-Identifier: Apache-2.0 */
/* Several files as one. Whoever splits a configuration must get the same policy, or an error; never half of it. */
#include "base/mem.h"
#include "config/tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[] = "/tmp/postern-include-XXXXXX";
static struct config_tree tree;
static struct config_errors errors;

static char *path_of(const char *name)
{
    return mem_printf("%s/%s", directory, name);
}

static void put(const char *name, const char *text)
{
    char *path = path_of(name);

    assert_int_equal(vfs_write_file(vfs_system(), path, text, strlen(text)), 0);
    free(path);
}

static int load(const char *name)
{
    char *path = path_of(name);
    int result;

    config_errors_init(&errors);
    config_tree_init(&tree, &errors);
    result = config_tree_load(&tree, vfs_system(), path, NULL);
    free(path);
    return result;
}

static void unload(void)
{
    config_tree_release(&tree);
    config_errors_release(&errors);
}

static struct str value(const char *map, const char *key)
{
    const struct config_entry *outer = config_map_find(tree.root, str_from_cstr(map));
    const struct config_entry *inner;

    assert_non_null(outer);
    inner = config_map_find(outer->value, str_from_cstr(key));
    assert_non_null(inner);
    return inner->value->text;
}

static void test_merge(void **state)
{
    (void)state;
    put("main.yaml", "include: [conf.d/*.yaml, extra.yaml]\nlog: { level: info }\n");
    put("conf.d/a.yaml", "domains: { a.test: one }\nlog: { format: json }\n");
    put("conf.d/b.yaml", "domains: { b.test: two }\n");
    put("conf.d/.hidden.yaml", "broken: [\n");
    put("conf.d/c.txt", "broken: [\n");
    put("extra.yaml", "domains: { c.test: three }\n");
    assert_int_equal(load("main.yaml"), 0);
    assert_int_equal(errors.error_count, 0);
    assert_true(str_equal(value("domains", "a.test"), STR("one")));
    assert_true(str_equal(value("domains", "b.test"), STR("two")));
    assert_true(str_equal(value("domains", "c.test"), STR("three")));
    assert_true(str_equal(value("log", "level"), STR("info")));
    assert_true(str_equal(value("log", "format"), STR("json")));
    assert_null(config_map_find(tree.root, STR("include")));
    unload();
}

/* The same setting in two files: neither silently wins, and both places are named. */
static void test_same_leaf(void **state)
{
    (void)state;
    put("main.yaml", "include: [one.yaml]\nlog:\n  level: info\nlists: { l: [10.0.0.1] }\n");
    put("one.yaml", "log:\n  level: debug\nlists: { l: [10.0.0.2] }\n");
    load("main.yaml");
    assert_int_equal(errors.error_count, 2);
    assert_int_equal(errors.messages[0].line, 2);
    assert_non_null(strstr(errors.messages[0].file, "one.yaml"));
    assert_non_null(strstr(errors.messages[0].text, "main.yaml:3"));
    assert_int_equal(errors.messages[1].line, 3);
    unload();
}

static void check_fails(const char *message_part)
{
    assert_int_equal(load("main.yaml"), -1);
    assert_int_equal(errors.error_count, 1);
    if (!strstr(errors.messages[0].text, message_part))
        fail_msg("%s", errors.messages[0].text);
    unload();
}

static void test_failures(void **state)
{
    (void)state;
    put("main.yaml", "include: [missing.yaml]\n");
    check_fails("missing.yaml: No such file");
    put("main.yaml", "include: [missing.d/*.yaml]\n");
    check_fails("cannot list the directory");
    put("main.yaml", "include: one.yaml\n");
    check_fails("wants a list");
    put("main.yaml", "include: ['*/x.yaml']\n");
    check_fails("only the last part");
    put("main.yaml", "include: [main.yaml]\n");
    check_fails("includes itself");
    put("main.yaml", "include: [one.yaml]\n");
    put("one.yaml", "include: [two.yaml]\n");
    put("two.yaml", "include: [one.yaml]\n");
    check_fails("includes itself");
    put("one.yaml", "a: [\n");
    check_fails("not valid YAML");
    assert_int_equal(load("nowhere.yaml"), -1);
    assert_non_null(strstr(errors.messages[0].text, "cannot read"));
    unload();
}

/* An empty conf.d is normal. */
static void test_no_match(void **state)
{
    (void)state;
    put("main.yaml", "include: [conf.d/*.none]\nuser: u\n");
    assert_int_equal(load("main.yaml"), 0);
    assert_non_null(config_map_find(tree.root, STR("user")));
    unload();
}

/* A file of 50 MB is refused by its size, before it is read into anything. */
static void test_too_large(void **state)
{
    char *path = path_of("large.yaml");
    FILE *file = fopen(path, "w");

    (void)state;
    assert_non_null(file);
    assert_int_equal(ftruncate(fileno(file), 50 << 20), 0);
    fclose(file);
    free(path);
    assert_int_equal(load("large.yaml"), -1);
    assert_non_null(strstr(errors.messages[0].text, "larger than 8 MiB"));
    unload();
}

static int set_up(void **state)
{
    char *inner;

    (void)state;
    if (!mkdtemp(directory))
        return -1;
    inner = path_of("conf.d");
    vfs_make_directories(vfs_system(), inner);
    free(inner);
    return 0;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"conf.d/a.yaml", "conf.d/b.yaml", "conf.d/.hidden.yaml", "conf.d/c.txt",
                                        "conf.d",        "main.yaml",     "extra.yaml",          "one.yaml",
                                        "two.yaml",      "large.yaml"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char *path = path_of(names[i]);

        remove(path);
        free(path);
    }
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merge),    cmocka_unit_test(test_same_leaf), cmocka_unit_test(test_failures),
        cmocka_unit_test(test_no_match), cmocka_unit_test(test_too_large),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
