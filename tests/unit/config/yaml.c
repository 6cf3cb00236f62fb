/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From text to a tree. Whoever mistypes a configuration wants the line and column; whoever hands us a hostile one must get no more
 * than a message.
 */
#include "config/tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct config_node *parse(struct config_tree *tree, struct config_errors *errors, struct str text)
{
    config_errors_init(errors);
    config_tree_init(tree, errors);
    return config_tree_parse(tree, "t.yaml", text);
}

static void release(struct config_tree *tree, struct config_errors *errors)
{
    config_tree_release(tree);
    config_errors_release(errors);
}

static const struct config_node *get(const struct config_node *map, const char *key)
{
    const struct config_entry *entry = config_map_find(map, str_from_cstr(key));

    assert_non_null(entry);
    return entry->value;
}

/* Scalars stay bytes, with their places; JSON is read as well. */
static void test_tree(void **state)
{
    struct config_tree tree;
    struct config_errors errors;
    const struct config_node *root =
        parse(&tree, &errors, STR("a: off\nb:\n  - 010\n  - \"x y\"\n\"c\": {\"d\": [1, 2], \"e\": null}\n"));

    (void)state;
    assert_non_null(root);
    assert_true(str_equal(get(root, "a")->text, STR("off")));
    assert_int_equal(get(root, "b")->type, CONFIG_NODE_LIST);
    assert_true(str_equal(get(root, "b")->list.items[0]->text, STR("010")));
    assert_int_equal(get(root, "b")->list.items[1]->place.line, 4);
    assert_int_equal(get(root, "b")->list.items[1]->place.column, 5);
    assert_int_equal(get(get(root, "c"), "d")->list.count, 2);
    assert_true(str_equal(get(get(root, "c"), "e")->text, STR("null")));
    release(&tree, &errors);
}

static void check_wrong(struct str text, unsigned line, unsigned column, const char *message_part)
{
    struct config_tree tree;
    struct config_errors errors;

    parse(&tree, &errors, text);
    assert_int_equal(errors.error_count, 1);
    if (errors.messages[0].line != line || errors.messages[0].column != column ||
        !strstr(errors.messages[0].text, message_part))
        fail_msg("%.*s: got %u:%u: %s", STR_ARG(text), errors.messages[0].line, errors.messages[0].column,
                 errors.messages[0].text);
    release(&tree, &errors);
}

static void test_wrong(void **state)
{
    (void)state;
    check_wrong(STR("a: 1\nb: 2\na: 3\n"), 3, 1, "on line 1 already");
    check_wrong(STR("a: {x: 1, x: 2}\n"), 1, 11, "second time");
    check_wrong(STR("a: &x 1\n"), 1, 4, "anchors");
    check_wrong(STR("a: [*x]\n"), 1, 5, "aliases");
    check_wrong(STR("*x : 1\n"), 1, 1, "quotes");
    check_wrong(STR("a: *.northwind.test\n"), 1, 5, "quotes");
    check_wrong(STR("a: !!str 1\n"), 1, 4, "tags");
    check_wrong(STR("? [a]\n: b\n"), 1, 3, "a key must be a name");
    check_wrong(STR("a: 1\n---\nb: 2\n"), 2, 1, "second document");
    check_wrong(STR("- a\n- b\n"), 1, 1, "keys with values");
    check_wrong(STR("just text\n"), 1, 1, "keys with values");
    check_wrong(STR("a:\n\tb: 1\n"), 2, 1, "tabs");
    check_wrong(STR("a: [1, 2\nb: 3\n"), 2, 2, "not valid YAML");
    check_wrong(STR("a: 1\n b: 2\n"), 2, 3, "not valid YAML");
    check_wrong(STR("a: \"x\n"), 2, 1, "not valid YAML");
    check_wrong(STR("a: 1\nb: x\0y\n"), 2, 5, "NUL");
    check_wrong(STR("a: \"x\\0y\"\n"), 1, 4, "NUL");
    check_wrong(STR("\"x\\0y\": 1\n"), 1, 1, "NUL");
    check_wrong(STR("a: \x1b[2J\n"), 1, 4, "control character 0x1b");
    check_wrong(STR("a: \xc3\xa4\xff\n"), 1, 5, "0xff is not valid UTF-8");
    check_wrong(STR("a: \xc0\xaf\n"), 1, 4, "UTF-8");
    check_wrong(STR("a: \xed\xa0\x80\n"), 1, 4, "UTF-8");
    check_wrong(STR("\xff\xfe"
                    "a\0:\0"),
                1, 1, "UTF-8");
}

/* Nothing in it, or nothing but comments: an empty map, which includes may be. */
static void test_empty(void **state)
{
    static const struct str texts[] = {STR_INIT(""),
                                       STR_INIT("\n"),
                                       STR_INIT("# comment\n"),
                                       STR_INIT("---\n"),
                                       STR_INIT("\xef\xbb\xbf# after a byte order mark\n"),
                                       STR_INIT("{}\n")};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct config_tree tree;
        struct config_errors errors;
        const struct config_node *root = parse(&tree, &errors, texts[i]);

        assert_non_null(root);
        assert_int_equal(root->type, CONFIG_NODE_MAP);
        assert_int_equal(root->map.count, 0);
        release(&tree, &errors);
    }
}

/* Depth at the bound is read, one more is refused, a million more don't take the stack. */
static void test_depth(void **state)
{
    struct buf text;
    struct config_tree tree;
    struct config_errors errors;

    (void)state;
    for (size_t depth = CONFIG_DEPTH_MAX - 2; depth <= 1000000; depth = depth < 100 ? depth + 1 : depth * 10) {
        buf_init(&text, 4u << 20);
        buf_append_str(&text, STR("a: "));
        for (size_t i = 0; i < depth; i++)
            buf_append_char(&text, '[');
        for (size_t i = 0; i < depth; i++)
            buf_append_char(&text, ']');
        /* The map around it is a level too. */
        if (depth < CONFIG_DEPTH_MAX)
            assert_non_null(parse(&tree, &errors, buf_str(&text)));
        else
            assert_null(parse(&tree, &errors, buf_str(&text)));
        release(&tree, &errors);
        buf_release(&text);
    }
}

/* The number of values is bounded before memory is. */
static void test_node_count(void **state)
{
    struct buf text;
    struct config_tree tree;
    struct config_errors errors;

    (void)state;
    buf_init(&text, 8u << 20);
    buf_append_str(&text, STR("a: ["));
    for (size_t i = 0; i < CONFIG_NODES_MAX; i++)
        buf_append_str(&text, STR("1,"));
    buf_append_str(&text, STR("1]"));
    assert_null(parse(&tree, &errors, buf_str(&text)));
    assert_int_equal(errors.error_count, 1);
    assert_non_null(strstr(errors.messages[0].text, "more than 2000000 values"));
    release(&tree, &errors);
    buf_release(&text);
}

/* A map with very many keys is found in, and its duplicates are, without a search through all for each. */
static void test_large_map(void **state)
{
    struct buf text;
    struct config_tree tree;
    struct config_errors errors;
    const struct config_node *root;

    (void)state;
    buf_init(&text, 8u << 20);
    for (unsigned i = 0; i < 100000; i++)
        buf_printf(&text, "d%u.test: %u\n", i, i);
    buf_append_str(&text, STR("d77777.test: again\n"));
    root = parse(&tree, &errors, buf_str(&text));
    assert_non_null(root);
    assert_int_equal(root->map.count, 100000);
    assert_true(str_equal(get(root, "d77777.test")->text, STR("77777")));
    assert_int_equal(errors.error_count, 1);
    assert_int_equal(errors.messages[0].line, 100001);
    release(&tree, &errors);
    buf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree),  cmocka_unit_test(test_wrong),      cmocka_unit_test(test_empty),
        cmocka_unit_test(test_depth), cmocka_unit_test(test_node_count), cmocka_unit_test(test_large_map),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
