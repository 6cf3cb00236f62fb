/* SPDX-License-Identifier: Apache-2.0 */
/* The main file and what it includes, merged: maps into maps; the same leaf twice is an error. */
#include "base/error.h"
#include "base/mem.h"
#include "config/tree.h"

#include <errno.h>
#include <fnmatch.h>

/* The files that are being read, innermost first: an include of any of them would never end. */
struct chain {
    const char *path;
    const struct chain *outer;
    unsigned depth;
};

#define INCLUDE_DEPTH_MAX 16

static void merge(struct config_tree *tree, struct config_node *into, const struct config_node *from)
{
    for (size_t i = 0; i < from->map.count; i++) {
        const struct config_entry *entry = &from->map.entries[i];
        const struct config_entry *old;

        if (config_map_add(tree, into, entry))
            continue;
        old = config_map_find(into, entry->key);
        if (old->value->type == CONFIG_NODE_MAP && entry->value->type == CONFIG_NODE_MAP)
            merge(tree, old->value, entry->value);
        else
            config_errors_add(tree->errors, &entry->place,
                              "%.*s is set here and at %s:%u; a value may stand in one file only", STR_ARG(entry->key),
                              old->place.file, old->place.line);
    }
}

static int load_file(struct config_tree *tree, const struct vfs *vfs, const char *path, const struct str *given,
                     const struct config_place *place, const struct chain *outer);

struct name_list {
    const char *pattern;
    char **names;
    size_t count;
};

static int collect_name(void *context, const char *name)
{
    struct name_list *list = context;

    if (fnmatch(list->pattern, name, FNM_PERIOD) != 0)
        return 0;
    list->names = mem_resize_array(list->names, list->count + 1, sizeof(char *));
    list->names[list->count++] = mem_copy_str(str_from_cstr(name));
    return list->count > CONFIG_FILES_MAX;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All files of a directory that match, in the order of their names. No match is fine: an empty conf.d is. */
static int load_matches(struct config_tree *tree, const struct vfs *vfs, struct str directory, const char *pattern,
                        const struct config_place *place, const struct chain *chain)
{
    struct name_list list = {.pattern = pattern};
    struct error error;
    char *directory_path = mem_copy_str(directory);
    int result = vfs->list(vfs, directory_path, collect_name, &list);

    if (result < 0) {
        error_set_errno(&error, -result, "cannot list the directory %s", directory_path);
        result = config_errors_add(tree->errors, place, "%s", error.text);
        goto done;
    }
    if (list.count > 1)
        qsort(list.names, list.count, sizeof(char *), compare_names);
    result = 0;
    for (size_t i = 0; i < list.count && result == 0; i++) {
        struct str path = arena_printf(&tree->arena, "%s/%s", directory_path, list.names[i]);

        result = load_file(tree, vfs, path.data, NULL, place, chain);
    }
done:
    for (size_t i = 0; i < list.count; i++)
        free(list.names[i]);
    free(list.names);
    free(directory_path);
    return result;
}

static bool has_wildcard(struct str text)
{
    return str_find(text, '*') != STR_NONE || str_find(text, '?') != STR_NONE || str_find(text, '[') != STR_NONE;
}

static int load_pattern(struct config_tree *tree, const struct vfs *vfs, const struct config_node *node,
                        const struct chain *chain)
{
    const char *path;
    size_t slash;
    struct str directory = STR(".");
    const char *name;

    if (node->type != CONFIG_NODE_SCALAR || str_is_empty(node->text))
        return config_errors_add(tree->errors, &node->place, "include wants file names, as in [conf.d/*.yaml]");
    path = config_tree_path(tree, chain->path, node->text);
    slash = str_find_last(str_from_cstr(path), '/');
    name = path;
    if (slash != STR_NONE) {
        directory = slash == 0 ? STR("/") : str_make(path, slash);
        name = path + slash + 1;
    }
    if (has_wildcard(directory))
        return config_errors_add(tree->errors, &node->place,
                                 "only the last part of an include may have a wildcard, as in conf.d/*.yaml");
    if (has_wildcard(str_from_cstr(name)))
        return load_matches(tree, vfs, directory, name, &node->place, chain);
    return load_file(tree, vfs, path, NULL, &node->place, chain);
}

static int load_includes(struct config_tree *tree, const struct vfs *vfs, const struct config_node *root,
                         const struct chain *chain)
{
    const struct config_entry *entry = config_map_find(root, STR("include"));

    if (!entry)
        return 0;
    if (entry->value->type != CONFIG_NODE_LIST)
        return config_errors_add(tree->errors, &entry->value->place, "include wants a list, as in [conf.d/*.yaml]");
    for (size_t i = 0; i < entry->value->list.count; i++)
        if (load_pattern(tree, vfs, entry->value->list.items[i], chain) != 0)
            return -1;
    return 0;
}

/* Everything but `include`, which has done its work. */
static void merge_root(struct config_tree *tree, const struct config_node *root)
{
    struct config_node rest = *root;

    rest.map.entries = mem_alloc_array(root->map.count, sizeof(rest.map.entries[0]));
    rest.map.count = 0;
    for (size_t i = 0; i < root->map.count; i++)
        if (!str_equal(root->map.entries[i].key, STR("include")))
            rest.map.entries[rest.map.count++] = root->map.entries[i];
    merge(tree, tree->root, &rest);
    free(rest.map.entries);
}

static int read_text(struct config_tree *tree, const struct vfs *vfs, const char *path,
                     const struct config_place *place, char **data, size_t *length)
{
    struct error error;
    int result = vfs_read_file(vfs, path, CONFIG_FILE_BYTES_MAX, data, length);

    if (result == -EFBIG)
        return config_errors_add(tree->errors, place,
                                 "%s is larger than %u MiB; put long lists into files of their own, as in "
                                 "devices: { file: /etc/postern/devices.txt }",
                                 path, CONFIG_FILE_BYTES_MAX >> 20);
    if (result == 0)
        return 0;
    error_set_errno(&error, -result, "cannot read %s", path);
    return config_errors_add(tree->errors, place, "%s", error.text);
}

static int load_file(struct config_tree *tree, const struct vfs *vfs, const char *path, const struct str *given,
                     const struct config_place *place, const struct chain *outer)
{
    struct chain chain = {path, outer, outer ? outer->depth + 1 : 0};
    struct config_node *root;
    char *data = NULL;
    size_t length = 0;

    for (const struct chain *c = outer; c; c = c->outer)
        if (strcmp(c->path, path) == 0)
            return config_errors_add(tree->errors, place, "%s includes itself, by way of this line", path);
    if (chain.depth > INCLUDE_DEPTH_MAX)
        return config_errors_add(tree->errors, place, "includes are nested more than %d files deep", INCLUDE_DEPTH_MAX);
    if (tree->file_count++ == CONFIG_FILES_MAX)
        return config_errors_add(tree->errors, place, "more than %d files", CONFIG_FILES_MAX);
    if (!given && read_text(tree, vfs, path, place, &data, &length) != 0)
        return -1;
    tree->byte_count += given ? given->length : length;
    if (tree->byte_count > CONFIG_ALL_BYTES_MAX) {
        free(data);
        return config_errors_add(tree->errors, place, "all files together are larger than %u MiB",
                                 CONFIG_ALL_BYTES_MAX >> 20);
    }
    root = config_tree_parse(tree, path, given ? *given : str_make(data, length));
    free(data);
    if (!root)
        return -1;
    merge_root(tree, root);
    return load_includes(tree, vfs, root, &chain);
}

int config_tree_load(struct config_tree *tree, const struct vfs *vfs, const char *path, const struct str *text)
{
    struct config_place place = {0};
    const char *name = arena_copy(&tree->arena, str_from_cstr(path)).data;

    tree->root = arena_alloc(&tree->arena, sizeof(*tree->root));
    tree->root->type = CONFIG_NODE_MAP;
    tree->root->place = (struct config_place){name, 1, 1};
    if (text && text->length > CONFIG_FILE_BYTES_MAX)
        return config_errors_add(tree->errors, &tree->root->place, "larger than %u MiB", CONFIG_FILE_BYTES_MAX >> 20);
    return load_file(tree, vfs, name, text, &place, NULL);
}
