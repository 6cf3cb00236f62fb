/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One file's text to a tree, by libyaml's events. Recursion follows the file's nesting, which is bounded. Whatever is not
 * refused here means the same in every YAML reader; what differs between them (tags, anchors, merge keys) is refused.
 */
#include "base/mem.h"
#include "config/tree.h"
#include "config/utf8.h"

#include <yaml.h>

struct reader {
    struct config_tree *tree;
    const char *file;
    struct str text;
    yaml_parser_t parser;
    yaml_event_t event; /* the current one */
    bool has_event;
    unsigned depth;
};

static struct config_place place_of_mark(const struct reader *r, const yaml_mark_t *mark)
{
    return (struct config_place){r->file, (unsigned)mark->line + 1, (unsigned)mark->column + 1};
}

static struct config_place place_of_event(const struct reader *r)
{
    return place_of_mark(r, &r->event.start_mark);
}

/* Columns in characters, as editors and libyaml count. */
static struct config_place place_of_offset(const struct reader *r, size_t offset)
{
    struct config_place place = {r->file, 1, 1};

    for (size_t i = 0; i < offset; i++) {
        if (r->text.data[i] == '\n') {
            place.line++;
            place.column = 1;
        } else if (((unsigned char)r->text.data[i] & 0xc0) != 0x80) {
            place.column++;
        }
    }
    return place;
}

/* Before libyaml sees it, which names neither line nor byte. */
static int check_text(const struct reader *r)
{
    size_t at = utf8_find_invalid(r->text);
    struct config_place place;
    unsigned char byte;

    if (at == STR_NONE)
        return 0;
    place = place_of_offset(r, at);
    byte = (unsigned char)r->text.data[at];
    if (byte == 0)
        return config_errors_add(r->tree->errors, &place, "a NUL byte; the file must be UTF-8 text");
    if (byte < 0x20 || byte == 0x7f)
        return config_errors_add(r->tree->errors, &place, "the control character 0x%02x; the file must be UTF-8 text",
                                 byte);
    return config_errors_add(r->tree->errors, &place, "the byte 0x%02x is not valid UTF-8; save the file as UTF-8",
                             byte);
}

/* What people stumble over, in their words. */
static const char *syntax_hint(const struct reader *r, size_t offset)
{
    char at = offset < r->text.length ? r->text.data[offset] : '\0';

    if (at == '\t')
        return "; indent with spaces, not with tabs";
    if (at == '*' || (r->parser.context && strstr(r->parser.context, "alias")))
        return "; put a value that begins with * into quotes";
    if (at == '%' || at == '@' || at == '`' || at == '&' || at == '!')
        return "; put a value that begins with such a character into quotes";
    return "";
}

static int report_syntax(struct reader *r)
{
    const yaml_mark_t *mark = &r->parser.problem_mark;
    const char *problem = r->parser.problem ? r->parser.problem : "it cannot be read";
    const char *context = r->parser.context;
    struct config_place place = place_of_mark(r, mark);

    if (r->parser.error == YAML_READER_ERROR) {
        place =
            place_of_offset(r, r->parser.problem_offset < r->text.length ? r->parser.problem_offset : r->text.length);
        return config_errors_add(r->tree->errors, &place, "not text that YAML allows: %s", problem);
    }
    return config_errors_add(r->tree->errors, &place, "not valid YAML: %s%s%s%s", problem, context ? ", " : "",
                             context ? context : "", syntax_hint(r, mark->index));
}

static void drop_event(struct reader *r)
{
    if (r->has_event)
        yaml_event_delete(&r->event);
    r->has_event = false;
}

static int next_event(struct reader *r)
{
    drop_event(r);
    if (!yaml_parser_parse(&r->parser, &r->event))
        return report_syntax(r);
    r->has_event = true;
    return 0;
}

static struct config_node *new_node(struct reader *r, enum config_node_type type)
{
    struct config_place place = place_of_event(r);
    struct config_node *node;

    if (r->tree->node_count == CONFIG_NODES_MAX) {
        config_errors_add(r->tree->errors, &place,
                          "more than %d values in all files; split what is generated off into lists", CONFIG_NODES_MAX);
        return NULL;
    }
    node = arena_alloc(&r->tree->arena, sizeof(*node));
    if (!node) {
        config_errors_add(r->tree->errors, &place, "the configuration takes more than %zu bytes of memory",
                          CONFIG_TREE_BYTES_MAX);
        return NULL;
    }
    r->tree->node_count++;
    node->type = type;
    node->place = place;
    return node;
}

static int refuse_decoration(struct reader *r, const yaml_char_t *anchor, const yaml_char_t *tag)
{
    struct config_place place = place_of_event(r);

    if (anchor)
        return config_errors_add(r->tree->errors, &place,
                                 "anchors (&%s) are not supported; write the value out where it is "
                                 "used, or put it into quotes if it is text",
                                 (const char *)anchor);
    if (tag)
        return config_errors_add(r->tree->errors, &place,
                                 "tags (%s) are not supported; the key says what type its value has",
                                 (const char *)tag);
    return 0;
}

static struct config_node *read_value(struct reader *r);

static struct config_node *read_scalar(struct reader *r)
{
    struct str text = {(const char *)r->event.data.scalar.value, r->event.data.scalar.length};
    struct config_place place = place_of_event(r);
    struct config_node *node;

    if (refuse_decoration(r, r->event.data.scalar.anchor, r->event.data.scalar.tag) != 0)
        return NULL;
    /* An escape in double quotes can make one that the file doesn't hold. */
    if (str_find(text, '\0') != STR_NONE) {
        config_errors_add(r->tree->errors, &place, "a NUL in a value");
        return NULL;
    }
    node = new_node(r, CONFIG_NODE_SCALAR);
    if (!node)
        return NULL;
    node->is_plain = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    node->text = arena_copy(&r->tree->arena, text);
    return node->text.data ? node : NULL;
}

static struct config_node *read_list(struct reader *r)
{
    struct config_node *node = NULL;
    struct config_node *list;
    struct config_node **items = NULL;
    size_t count = 0;
    size_t capacity = 0;

    if (refuse_decoration(r, r->event.data.sequence_start.anchor, r->event.data.sequence_start.tag) != 0)
        return NULL;
    list = new_node(r, CONFIG_NODE_LIST);
    if (!list)
        return NULL;
    for (;;) {
        if (next_event(r) != 0)
            goto done;
        if (r->event.type == YAML_SEQUENCE_END_EVENT)
            break;
        if (count == capacity) {
            capacity = capacity ? capacity * 2 : 8;
            items = mem_resize_array(items, capacity, sizeof(struct config_node *));
        }
        items[count] = read_value(r);
        if (!items[count++])
            goto done;
    }
    list->list.items = arena_alloc(&r->tree->arena, count * sizeof(struct config_node *));
    if (!list->list.items && count > 0)
        goto done;
    if (count > 0)
        memcpy(list->list.items, items, count * sizeof(struct config_node *));
    list->list.count = count;
    node = list;
done:
    free(items);
    return node;
}

static int read_key(struct reader *r, struct config_entry *entry)
{
    entry->place = place_of_event(r);
    if (r->event.type == YAML_ALIAS_EVENT)
        return config_errors_add(r->tree->errors, &entry->place,
                                 "aliases (*%s) are not supported; put a name that begins with * into quotes",
                                 (const char *)r->event.data.alias.anchor);
    if (r->event.type != YAML_SCALAR_EVENT)
        return config_errors_add(r->tree->errors, &entry->place, "a key must be a name, not a list or a map");
    if (refuse_decoration(r, r->event.data.scalar.anchor, r->event.data.scalar.tag) != 0)
        return -1;
    entry->key =
        arena_copy(&r->tree->arena, str_make((const char *)r->event.data.scalar.value, r->event.data.scalar.length));
    if (!entry->key.data || str_find(entry->key, '\0') != STR_NONE)
        return config_errors_add(r->tree->errors, &entry->place, "a NUL in a key");
    return 0;
}

static struct config_node *read_map(struct reader *r)
{
    struct config_node *map;

    if (refuse_decoration(r, r->event.data.mapping_start.anchor, r->event.data.mapping_start.tag) != 0)
        return NULL;
    map = new_node(r, CONFIG_NODE_MAP);
    if (!map)
        return NULL;
    for (;;) {
        struct config_entry entry = {0};

        if (next_event(r) != 0)
            return NULL;
        if (r->event.type == YAML_MAPPING_END_EVENT)
            return map;
        if (read_key(r, &entry) != 0 || next_event(r) != 0)
            return NULL;
        entry.value = read_value(r);
        if (!entry.value)
            return NULL;
        if (!config_map_add(r->tree, map, &entry))
            config_errors_add(r->tree->errors, &entry.place,
                              "the key %.*s stands here a second time; it is on line %u already", STR_ARG(entry.key),
                              config_map_find(map, entry.key)->place.line);
    }
}

/* The value whose first event is the current one; its last event is the current one afterwards. */
static struct config_node *read_value(struct reader *r)
{
    struct config_place place = place_of_event(r);
    struct config_node *node = NULL;

    if (r->depth == CONFIG_DEPTH_MAX) {
        config_errors_add(r->tree->errors, &place, "nested more than %d levels deep", CONFIG_DEPTH_MAX);
        return NULL;
    }
    r->depth++;
    if (r->event.type == YAML_SCALAR_EVENT)
        node = read_scalar(r);
    else if (r->event.type == YAML_SEQUENCE_START_EVENT)
        node = read_list(r);
    else if (r->event.type == YAML_MAPPING_START_EVENT)
        node = read_map(r);
    else
        config_errors_add(r->tree->errors, &place,
                          "aliases (*%s) are not supported; put a value that begins with * into quotes",
                          r->event.type == YAML_ALIAS_EVENT ? (const char *)r->event.data.alias.anchor : "");
    r->depth--;
    return node;
}

static struct config_node *empty_map(struct reader *r)
{
    return new_node(r, CONFIG_NODE_MAP);
}

/* The stream's one document, whose root must be a map; an empty file is an empty one. */
static struct config_node *read_stream(struct reader *r)
{
    struct config_node *root;
    struct config_place place;

    if (next_event(r) != 0 || next_event(r) != 0) /* stream start, then the document or the end */
        return NULL;
    if (r->event.type == YAML_STREAM_END_EVENT)
        return empty_map(r);
    if (next_event(r) != 0)
        return NULL;
    root = read_value(r);
    if (!root)
        return NULL;
    if (root->type == CONFIG_NODE_SCALAR && root->is_plain && str_is_empty(root->text))
        root = empty_map(r);
    if (root && root->type != CONFIG_NODE_MAP) {
        config_errors_add(r->tree->errors, &root->place,
                          "the file must hold keys with values, as in \"hostname: mail.contoso.test\"");
        return NULL;
    }
    if (next_event(r) != 0 || next_event(r) != 0) /* document end, then the next document or the end */
        return NULL;
    if (r->event.type != YAML_STREAM_END_EVENT) {
        place = place_of_event(r);
        config_errors_add(r->tree->errors, &place,
                          "a second document begins here; a file holds one (remove the line ---)");
        return NULL;
    }
    return root;
}

struct config_node *config_tree_parse(struct config_tree *tree, const char *file, struct str text)
{
    struct reader r = {.tree = tree, .file = file, .text = text};
    struct config_node *root;

    if (check_text(&r) != 0)
        return NULL;
    if (!yaml_parser_initialize(&r.parser))
        abort(); /* out of memory */
    /* Said, since libyaml would read UTF-16 as well, and what was checked above is UTF-8. */
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text.data, text.length);
    root = read_stream(&r);
    drop_event(&r);
    yaml_parser_delete(&r.parser);
    return root;
}
