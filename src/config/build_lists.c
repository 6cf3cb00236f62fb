/* SPDX-License-Identifier: Apache-2.0 */
/* Client entries, user entries, and the named lists of the former. */
#include "base/mem.h"
#include "config/build.h"
#include "mail/domain.h"

#include <errno.h>

/* list: in a list in a list ... */
#define LIST_DEPTH_MAX 8
/* Client entries in all, those of files included. */
#define ENTRIES_MAX 1000000

enum list_state { LIST_UNREAD, LIST_READING, LIST_READ };

struct build_list {
    const struct schema_named *named;
    struct policy_client_list *list;
    enum list_state state;
    unsigned height; /* of the lists below it, itself included */
};

/* One reading of entries into a list. */
struct entries {
    struct build *b;
    struct policy_client_list *list;
    const char *path;
    size_t count;
    unsigned depth;
    unsigned height; /* of what has been read so far */
};

static void read_named_list(struct build *b, struct build_list *list, const struct config_place *place, unsigned depth);

static void add_reference(struct entries *e, struct str name, const struct config_place *place)
{
    struct build *b = e->b;
    struct build_list *other = hash_table_get(&b->lists, name);

    if (!other) {
        config_errors_add(b->errors, place, "%s[%zu]: there is no list \"%.*s\"; define it under lists:", e->path,
                          e->count, STR_ARG(str_take(name, 80)));
        return;
    }
    if (other->state == LIST_READING) {
        config_errors_add(b->errors, place, "%s[%zu]: the list \"%.*s\" contains itself", e->path, e->count,
                          STR_ARG(name));
        return;
    }
    read_named_list(b, other, place, e->depth + 1);
    if (other->height >= e->height)
        e->height = other->height + 1;
    policy_client_list_add_list(e->list, other->list, build_rule(b, place, "%s[%zu]", e->path, e->count));
}

static void add_certificate(struct entries *e, struct str hex, const struct config_place *place)
{
    unsigned char sha256[32];

    if (!policy_parse_certificate(hex, sha256))
        config_errors_add(e->b->errors, place, "%s[%zu]: wants cert: and the SHA-256 of the certificate, 64 hex digits",
                          e->path, e->count);
    else
        policy_client_list_add_certificate(e->list, sha256, build_rule(e->b, place, "%s[%zu]", e->path, e->count));
}

static void add_domain(struct entries *e, struct str text, const struct config_place *place)
{
    char name[DOMAIN_TEXT_BYTES];
    size_t length = domain_normalize(text, name);

    if (length == 0)
        config_errors_add(e->b->errors, place,
                          "%s[%zu]: domain:%.*s has no domain name; domain:NAME is NAME and every name below it",
                          e->path, e->count, STR_ARG(str_take(text, 80)));
    else
        policy_client_list_add_domain(e->list, str_make(name, length),
                                      build_rule(e->b, place, "%s[%zu]", e->path, e->count));
}

static void add_entry(struct entries *e, struct str text, const struct config_place *place)
{
    struct build *b = e->b;
    struct cidr_range range;
    struct error error;

    if (b->entry_count++ == ENTRIES_MAX)
        config_errors_add(b->errors, place, "%s[%zu]: more than %d client entries in all", e->path, e->count,
                          ENTRIES_MAX);
    if (b->entry_count > ENTRIES_MAX)
        return;
    if (str_starts_with(text, STR("list:")))
        add_reference(e, str_skip(text, 5), place);
    else if (str_starts_with(text, STR("domain:")))
        add_domain(e, str_skip(text, 7), place);
    else if (str_starts_with(text, STR("cert:")))
        add_certificate(e, str_skip(text, 5), place);
    else if (cidr_parse_network(text, &range, &error) == 0)
        policy_client_list_add_network(e->list, &range, build_rule(b, place, "%s[%zu]", e->path, e->count));
    else
        config_errors_add(b->errors, place, "%s[%zu]: %.*s %s", e->path, e->count, STR_ARG(str_take(text, 80)),
                          error.text);
    e->count++;
}

/* Whether the node is a list of scalars; what is not is reported. */
static bool is_scalar_list(struct build *b, const struct config_node *node, const char *path)
{
    bool good = true;

    if (node->type != CONFIG_NODE_LIST) {
        config_errors_add(b->errors, &node->place, "%s: wants a list, as in [10.1.0.0/16, 192.0.2.7]", path);
        return false;
    }
    for (size_t i = 0; i < node->list.count; i++)
        if (node->list.items[i]->type != CONFIG_NODE_SCALAR) {
            config_errors_add(b->errors, &node->list.items[i]->place, "%s[%zu]: wants a single value", path, i);
            good = false;
        }
    return good;
}

static void read_entries(struct entries *e, const struct config_node *node)
{
    if (!is_scalar_list(e->b, node, e->path))
        return;
    for (size_t i = 0; i < node->list.count; i++)
        add_entry(e, node->list.items[i]->text, &node->list.items[i]->place);
}

/* One entry a line; "#" begins a comment. */
static void read_file(struct entries *e, const struct config_node *node)
{
    struct build *b = e->b;
    struct config_place place = {.file = config_tree_path(b->tree, node->place.file, node->text), .column = 1};
    char *data = NULL;
    size_t length = 0;
    struct str rest;
    struct error error;
    int result = vfs_read_file(b->vfs, place.file, CONFIG_FILE_BYTES_MAX, &data, &length);

    if (result != 0) {
        error_set_errno(&error, -result, "%s: cannot read %s", e->path, place.file);
        config_errors_add(b->errors, &node->place, "%s%s", error.text, result == -EFBIG ? " (the most are 8 MiB)" : "");
        return;
    }
    for (rest = str_make(data, length); rest.data && rest.length > 0;) {
        struct str line = str_split(&rest, '\n');

        place.line++;
        line = str_trim(str_take(line, str_find(line, '#') == STR_NONE ? line.length : str_find(line, '#')));
        if (line.length > 0)
            add_entry(e, line, &place);
    }
    free(data);
}

static void read_list_value(struct entries *e, const struct config_node *value)
{
    const struct config_entry *file = value->type == CONFIG_NODE_MAP ? config_map_find(value, STR("file")) : NULL;

    if (value->type == CONFIG_NODE_LIST)
        read_entries(e, value);
    else if (file && value->map.count == 1 && file->value->type == CONFIG_NODE_SCALAR && file->value->text.length > 0)
        read_file(e, file->value);
    else
        config_errors_add(e->b->errors, &value->place, "%s: wants a list of entries, or { file: PATH }", e->path);
}

static void read_named_list(struct build *b, struct build_list *list, const struct config_place *place, unsigned depth)
{
    char path[BUILD_PATH_BYTES];
    struct entries e = {.b = b, .list = list->list, .path = path, .depth = depth, .height = 1};

    if (list->state != LIST_UNREAD)
        return;
    snprintf(path, sizeof(path), "lists.%.*s", STR_ARG(list->named->name));
    if (depth > LIST_DEPTH_MAX) {
        config_errors_add(b->errors, place, "%s: lists are nested more than %d deep", path, LIST_DEPTH_MAX);
        return;
    }
    list->state = LIST_READING;
    read_list_value(&e, list->named->value);
    list->state = LIST_READ;
    list->height = e.height;
    /* One that was read before, from above, is not seen by the depth. */
    if (e.height > LIST_DEPTH_MAX)
        config_errors_add(b->errors, place, "%s: lists are nested more than %d deep", path, LIST_DEPTH_MAX);
}

void build_lists(struct build *b)
{
    const struct schema_named *names = b->settings->lists.items;
    struct build_list *lists = arena_alloc(&b->tree->arena, b->settings->lists.count * sizeof(*lists));

    if (!lists)
        abort(); /* bounded by the number of nodes */
    for (size_t i = 0; i < b->settings->lists.count; i++) {
        lists[i] = (struct build_list){&names[i], policy_client_list_create(b->model), LIST_UNREAD, 0};
        hash_table_put(&b->lists, names[i].name, &lists[i]);
    }
    for (size_t i = 0; i < b->settings->lists.count; i++)
        read_named_list(b, &lists[i], &names[i].place, 1);
}

struct policy_client_list *build_client_list(struct build *b, const struct config_node *node, const char *path)
{
    struct entries e = {.b = b, .list = policy_client_list_create(b->model), .path = path};

    if (node)
        read_entries(&e, node);
    return e.list;
}

static void add_user_entry(struct build *b, struct policy_user_list *list, const struct config_node *item,
                           const char *path, size_t index)
{
    bool is_user = str_starts_with(item->text, STR("user:"));
    bool is_group = str_starts_with(item->text, STR("group:"));
    struct str name = str_skip(item->text, is_user ? 5 : 6);
    struct policy_rule rule = build_rule(b, &item->place, "%s[%zu]", path, index);

    if ((!is_user && !is_group) || name.length == 0)
        config_errors_add(b->errors, &item->place, "%s[%zu]: wants user:NAME or group:NAME, not \"%.*s\"", path, index,
                          STR_ARG(str_take(item->text, 80)));
    else if (name.length > POLICY_USER_NAME_BYTES_MAX)
        config_errors_add(b->errors, &item->place, "%s[%zu]: a name has at most %d octets", path, index,
                          POLICY_USER_NAME_BYTES_MAX);
    else if (is_user)
        policy_user_list_add_user(list, name, rule);
    else
        policy_user_list_add_group(list, name, rule);
}

struct policy_user_list *build_user_list(struct build *b, const struct config_node *node, const char *path)
{
    struct policy_user_list *list;

    if (!node || !is_scalar_list(b, node, path))
        return NULL;
    list = policy_user_list_create(b->model, build_rule(b, &node->place, "%s", path));
    for (size_t i = 0; i < node->list.count; i++)
        add_user_entry(b, list, node->list.items[i], path, i);
    return list;
}
