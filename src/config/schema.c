/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a tree into structures, as the table says. A mistake is reported and its key keeps the default, so that all are found. */
#include "config/schema.h"

#include "config/value.h"
#include "mail/domain.h"

#define PATH_BYTES 512

struct reader {
    struct config_tree *tree;
    size_t path_length;
    char path[PATH_BYTES]; /* the key being read, for messages: servers.internet.limits.errors */
};

static void read_map(struct reader *r, const struct schema_map *map, const struct config_node *node, void *structure);

static void *allocate(struct reader *r, size_t size)
{
    void *memory = arena_alloc(&r->tree->arena, size);

    /* Bounded by the number of nodes, and that is checked before. */
    if (!memory)
        abort();
    return memory;
}

/* ---- the path ---- */

static size_t path_push(struct reader *r, struct str name)
{
    size_t before = r->path_length;
    int written = snprintf(r->path + before, PATH_BYTES - before, "%s%.*s", before > 0 ? "." : "",
                           STR_ARG(str_take(name, PATH_BYTES)));

    if (written > 0)
        r->path_length = (size_t)written < PATH_BYTES - before ? before + (size_t)written : PATH_BYTES - 1;
    return before;
}

static void path_pop(struct reader *r, size_t before)
{
    r->path_length = before;
    r->path[before] = '\0';
}

/* ---- scalars ---- */

static size_t scalar_size(enum schema_type type)
{
    static const size_t sizes[] = {
        [SCHEMA_BOOL] = sizeof(bool),
        [SCHEMA_INTEGER] = sizeof(uint64_t),
        [SCHEMA_DURATION] = sizeof(uint64_t),
        [SCHEMA_SIZE] = sizeof(uint64_t),
        [SCHEMA_RATE] = sizeof(struct config_rate),
        [SCHEMA_ENUM] = sizeof(int),
        [SCHEMA_TEXT] = sizeof(struct str),
        [SCHEMA_PATH] = sizeof(struct str),
        [SCHEMA_DOMAIN] = sizeof(struct str),
        [SCHEMA_ADDRESS] = sizeof(struct schema_address),
        [SCHEMA_LISTEN] = sizeof(struct config_listen),
        [SCHEMA_SMART_HOST] = sizeof(struct config_smart_host),
    };

    return sizes[type];
}

static int check_range(const struct schema_key *key, uint64_t value, struct error *error)
{
    char low[32];
    char high[32];

    if (value >= key->minimum && (!key->maximum || value <= key->maximum))
        return 0;
    if (key->type == SCHEMA_DURATION) {
        value_format_duration(key->minimum, low);
        value_format_duration(key->maximum, high);
    } else if (key->type == SCHEMA_SIZE) {
        value_format_size(key->minimum, low);
        value_format_size(key->maximum, high);
    } else {
        snprintf(low, sizeof(low), "%llu", (unsigned long long)key->minimum);
        snprintf(high, sizeof(high), "%llu", (unsigned long long)key->maximum);
    }
    return error_set(error, "must be from %s to %s", low, high);
}

static int read_number(const struct schema_key *key, struct str text, uint64_t *value, struct error *error)
{
    int result;

    if (key->type == SCHEMA_DURATION)
        result = value_duration(text, value, error);
    else if (key->type == SCHEMA_SIZE)
        result = value_size(text, value, error);
    else
        result = value_integer(text, value, error);
    return result == 0 ? check_range(key, *value, error) : -1;
}

static int read_word(const struct schema_key *key, struct str text, int *value, struct error *error)
{
    struct buf words;

    for (const struct schema_word *word = key->words; word->name; word++) {
        if (!str_equal(text, str_from_cstr(word->name)))
            continue;
        if (word->unavailable)
            return error_set(error, "\"%s\" needs %s, which is not available in this version", word->name,
                             word->unavailable);
        *value = word->value;
        return 0;
    }
    buf_init(&words, 256);
    for (const struct schema_word *word = key->words; word->name; word++)
        buf_printf(&words, "%s%s", word == key->words ? "" : word[1].name ? ", " : " or ", word->name);
    error_set(error, "wants %.*s, not \"%.*s\"", STR_ARG(buf_str(&words)), STR_ARG(str_take(text, 80)));
    buf_release(&words);
    return -1;
}

static int read_domain(struct reader *r, struct str text, struct str *domain, struct error *error)
{
    char normal[DOMAIN_TEXT_BYTES];
    size_t length = domain_normalize(text, normal);

    if (length == 0)
        return error_set(error, "wants a domain name like mail.contoso.test, not \"%.*s\"",
                         STR_ARG(str_take(text, 80)));
    *domain = arena_copy(&r->tree->arena, str_make(normal, length));
    return 0;
}

static int read_path(struct reader *r, const struct schema_key *key, struct str text, const char *file,
                     struct str *path, struct error *error)
{
    if (text.length < key->minimum)
        return error_set(error, "wants a path");
    if (value_text(text, 4000, error) != 0)
        return -1;
    *path = text.length > 0 ? str_from_cstr(config_tree_path(r->tree, file, text)) : text;
    return 0;
}

static int read_text(const struct schema_key *key, struct str text, struct str *value, struct error *error)
{
    *value = text;
    if (text.length < key->minimum)
        return error_set(error, "must not be empty");
    return value_text(text, key->maximum ? key->maximum : SIZE_MAX, error);
}

/* One scalar into the field. `text` lives as long as the tree, or for ever. */
static int read_scalar(struct reader *r, const struct schema_key *key, struct str text, const char *file, void *field,
                       struct error *error)
{
    bool may_be_empty = !key->is_list && (!key->fallback || key->fallback[0] == '\0');
    struct schema_address *address = field;

    switch (key->type) {
    case SCHEMA_BOOL:
        return value_bool(text, field, error);
    case SCHEMA_INTEGER:
    case SCHEMA_DURATION:
    case SCHEMA_SIZE:
        return read_number(key, text, field, error);
    case SCHEMA_RATE:
        return value_rate(text, field, error);
    case SCHEMA_ENUM:
        return read_word(key, text, field, error);
    case SCHEMA_TEXT:
        return read_text(key, text, field, error);
    case SCHEMA_PATH:
        return read_path(r, key, text, file, field, error);
    case SCHEMA_DOMAIN:
        return text.length == 0 && may_be_empty ? 0 : read_domain(r, text, field, error);
    case SCHEMA_ADDRESS:
        address->is_set = text.length > 0 || !may_be_empty;
        if (address->is_set && !cidr_parse_address(text, &address->address))
            return error_set(error, "wants an address like 192.0.2.7 or 2001:db8::7, not \"%.*s\"",
                             STR_ARG(str_take(text, 80)));
        return 0;
    case SCHEMA_LISTEN:
        return value_listen(text, field, error);
    case SCHEMA_SMART_HOST:
        return text.length == 0 && may_be_empty ? 0 : value_smart_host(text, field, error);
    case SCHEMA_MAP:
    case SCHEMA_NAMED:
    case SCHEMA_NODE:
        break;
    }
    abort();
}

static const char *node_noun(const struct config_node *node)
{
    if (node->type == CONFIG_NODE_MAP)
        return "a map";
    return node->type == CONFIG_NODE_LIST ? "a list" : "a single value";
}

static void read_scalar_node(struct reader *r, const struct schema_key *key, const struct config_node *node,
                             void *field)
{
    struct error error;

    if (node->type != CONFIG_NODE_SCALAR)
        config_errors_add(r->tree->errors, &node->place, "%s: wants a single value, not %s", r->path, node_noun(node));
    else if (node->is_plain && str_is_empty(node->text))
        config_errors_add(r->tree->errors, &node->place, "%s: has no value; give one, or remove the key", r->path);
    else if (key->unavailable && !str_equal(node->text, str_from_cstr(key->fallback ? key->fallback : "")))
        config_errors_add(r->tree->errors, &node->place, "%s: %s is not available in this version; remove the key",
                          r->path, key->unavailable);
    else if (read_scalar(r, key, node->text, node->place.file, field, &error) != 0)
        config_errors_add(r->tree->errors, &node->place, "%s: %s", r->path, error.text);
}

/* ---- lists of scalars ---- */

static void default_list(struct reader *r, const struct schema_key *key, struct schema_list *list)
{
    struct str rest = str_from_cstr(key->fallback);
    size_t size = scalar_size(key->type);
    size_t count = key->fallback ? 1 : 0;

    for (size_t i = 0; i < rest.length; i++)
        count += rest.data[i] == ' ';
    list->items = allocate(r, count * size);
    while (rest.data && count > 0) {
        struct str word = str_split(&rest, ' ');

        if (read_scalar(r, key, word, "", (char *)list->items + list->count++ * size, NULL) != 0)
            abort(); /* the table is wrong */
    }
}

static void read_list(struct reader *r, const struct schema_key *key, const struct config_node *node,
                      struct schema_list *list)
{
    size_t size = scalar_size(key->type);

    if (node->type != CONFIG_NODE_LIST) {
        config_errors_add(r->tree->errors, &node->place, "%s: wants a list, as in [...], not %s", r->path,
                          node_noun(node));
        return;
    }
    if (key->unavailable && node->list.count > 0) {
        config_errors_add(r->tree->errors, &node->place, "%s: %s is not available in this version; remove the key",
                          r->path, key->unavailable);
        return;
    }
    if (node->list.count < key->count_min || (key->count_max && node->list.count > key->count_max)) {
        config_errors_add(r->tree->errors, &node->place, "%s: wants from %zu to %zu entries, not %zu", r->path,
                          key->count_min, key->count_max, node->list.count);
        return;
    }
    list->node = node;
    list->items = allocate(r, node->list.count * size);
    list->count = node->list.count;
    for (size_t i = 0; i < list->count; i++) {
        char index[24];
        size_t before = r->path_length;

        snprintf(index, sizeof(index), "[%zu]", i);
        if (before + strlen(index) < PATH_BYTES)
            memcpy(r->path + before, index, strlen(index) + 1);
        read_scalar_node(r, key, node->list.items[i], (char *)list->items + i * size);
        path_pop(r, before);
    }
}

/* ---- maps ---- */

static bool is_name(struct str name)
{
    if (name.length == 0 || name.length > 64)
        return false;
    for (size_t i = 0; i < name.length; i++)
        if (!ascii_is_alpha(name.data[i]) && !ascii_is_digit(name.data[i]) && !strchr("-_.", name.data[i]))
            return false;
    return true;
}

static void read_named(struct reader *r, const struct schema_key *key, const struct config_node *node,
                       struct schema_list *list)
{
    size_t size = key->map ? key->map->size : sizeof(struct schema_named);

    if (node->type != CONFIG_NODE_MAP) {
        config_errors_add(r->tree->errors, &node->place, "%s: wants names, each with its settings, not %s", r->path,
                          node_noun(node));
        return;
    }
    list->node = node;
    list->items = allocate(r, node->map.count * size);
    for (size_t i = 0; i < node->map.count; i++) {
        const struct config_entry *entry = &node->map.entries[i];
        struct schema_named *named = (struct schema_named *)(void *)((char *)list->items + list->count * size);
        size_t before;

        if (key->names == SCHEMA_SHAPE_NAMES && !is_name(entry->key)) {
            config_errors_add(r->tree->errors, &entry->place,
                              "%s: the name \"%.*s\" must be of 1 to 64 letters, digits, dots, hyphens and underscores",
                              r->path, STR_ARG(str_take(entry->key, 80)));
            continue;
        }
        list->count++;
        named->name = entry->key;
        named->place = entry->place;
        named->value = entry->value;
        before = path_push(r, entry->key);
        if (key->map)
            read_map(r, key->map, entry->value, named);
        path_pop(r, before);
    }
}

static void read_default(struct reader *r, const struct schema_key *key, void *field)
{
    if (key->type == SCHEMA_MAP)
        read_map(r, key->map, NULL, field);
    else if (key->type == SCHEMA_NAMED || key->type == SCHEMA_NODE)
        return;
    else if (key->is_list)
        default_list(r, key, field);
    else if (key->fallback && read_scalar(r, key, str_from_cstr(key->fallback), "", field, NULL) != 0)
        abort(); /* the table is wrong */
    else if (!key->fallback && key->type == SCHEMA_ENUM)
        *(int *)field = -1;
    else if (!key->fallback && (key->type == SCHEMA_TEXT || key->type == SCHEMA_PATH || key->type == SCHEMA_DOMAIN))
        *(struct str *)field = STR("");
}

static void read_key(struct reader *r, const struct schema_key *key, const struct config_node *node, void *field)
{
    if (key->type == SCHEMA_MAP) {
        read_map(r, key->map, node, field);
    } else if (key->type == SCHEMA_NAMED) {
        read_named(r, key, node, field);
    } else if (key->type == SCHEMA_NODE) {
        if (key->unavailable && !(node->type == CONFIG_NODE_LIST && node->list.count == 0))
            config_errors_add(r->tree->errors, &node->place, "%s: %s is not available in this version; remove the key",
                              r->path, key->unavailable);
        *(const struct config_node **)field = node;
    } else {
        read_default(r, key, field);
        if (key->is_list)
            read_list(r, key, node, field);
        else
            read_scalar_node(r, key, node, field);
    }
}

/* Edit distance, for names of keys; long ones are far from everything. */
static size_t distance(struct str a, struct str b)
{
    size_t row[64];

    if (b.length >= sizeof(row) / sizeof(row[0]) || a.length >= sizeof(row) / sizeof(row[0]))
        return SIZE_MAX;
    for (size_t j = 0; j <= b.length; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.length; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= b.length; j++) {
            size_t above = row[j];
            size_t best = diagonal + (ascii_lower(a.data[i - 1]) != ascii_lower(b.data[j - 1]));

            if (above + 1 < best)
                best = above + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
            diagonal = above;
        }
    }
    return row[b.length];
}

static void report_unknown(struct reader *r, const struct schema_map *map, const struct config_entry *entry)
{
    const char *nearest = NULL;
    size_t best = entry->key.length / 3 + 1;
    struct buf known;

    for (size_t i = 0; i < map->count; i++) {
        size_t d = distance(entry->key, str_from_cstr(map->keys[i].name));

        if (d <= best) {
            best = d;
            nearest = map->keys[i].name;
        }
    }
    buf_init(&known, 512);
    for (size_t i = 0; !nearest && i < map->count; i++)
        buf_printf(&known, "%s%s", i ? ", " : "", map->keys[i].name);
    if (nearest)
        config_errors_add(r->tree->errors, &entry->place, "%s%sunknown key \"%.*s\"; did you mean \"%s\"?", r->path,
                          r->path_length ? ": " : "", STR_ARG(str_take(entry->key, 80)), nearest);
    else
        config_errors_add(r->tree->errors, &entry->place, "%s%sunknown key \"%.*s\"; the keys here are %.*s", r->path,
                          r->path_length ? ": " : "", STR_ARG(str_take(entry->key, 80)), STR_ARG(buf_str(&known)));
    buf_release(&known);
}

static bool has_key(const struct schema_map *map, struct str name)
{
    for (size_t i = 0; i < map->count; i++)
        if (str_equal(name, str_from_cstr(map->keys[i].name)))
            return true;
    return false;
}

static void read_map(struct reader *r, const struct schema_map *map, const struct config_node *node, void *structure)
{
    if (node && node->type != CONFIG_NODE_MAP) {
        config_errors_add(
            r->tree->errors, &node->place, "%s: wants keys with values, as in { key: value }, not %s", r->path,
            node->type == CONFIG_NODE_SCALAR && str_is_empty(node->text) ? "nothing; write {}, or remove it"
                                                                         : node_noun(node));
        node = NULL;
    }
    ((struct schema_map_head *)structure)->node = node;
    for (size_t i = 0; node && i < node->map.count; i++)
        if (!has_key(map, node->map.entries[i].key))
            report_unknown(r, map, &node->map.entries[i]);
    for (size_t i = 0; i < map->count; i++) {
        const struct schema_key *key = &map->keys[i];
        const struct config_entry *entry = node ? config_map_find(node, str_from_cstr(key->name)) : NULL;
        void *field = (char *)structure + key->offset;
        size_t before = path_push(r, str_from_cstr(key->name));

        if (entry)
            read_key(r, key, entry->value, field);
        else
            read_default(r, key, field);
        path_pop(r, before);
        if (node && !entry && key->is_required)
            config_errors_add(r->tree->errors, &node->place, "%s%sthe key \"%s\" is missing: %s", r->path,
                              r->path_length ? ": " : "", key->name, key->about);
    }
}

void schema_read(struct config_tree *tree, const struct schema_map *map, const struct config_node *node,
                 void *structure)
{
    struct reader r = {.tree = tree};

    read_map(&r, map, node, structure);
}
