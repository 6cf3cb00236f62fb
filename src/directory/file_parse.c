/* SPDX-License-Identifier: Apache-2.0 */
/* The parser of the text map: words of logical lines, each with its place. */
#include "base/mem.h"
#include "config/utf8.h"
#include "directory/file_map_private.h"
#include "directory/names.h"

#include <stdarg.h>

/* All that is made of a file, several times its size at the worst: short lines become structures. */
#define MAP_BYTES_MAX (1u << 30)

struct parser {
    const char *path;
    struct str text;
    size_t at;
    struct file_map *map;
    struct error *error;
};

/* ---- places and words ---- */

/* "PATH:LINE:COLUMN: ...", columns in octets. Only counted out for an error. */
static int fail(struct parser *parser, const char *position, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(struct parser *parser, const char *position, const char *format, ...)
{
    char words[256];
    unsigned line = 1;
    const char *line_start = parser->text.data;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(words, sizeof(words), format, arguments);
    va_end(arguments);
    for (const char *c = parser->text.data; c < position; c++)
        if (*c == '\n') {
            line++;
            line_start = c + 1;
        }
    return error_set(parser->error, "%s:%u:%zu: %s", parser->path, line, (size_t)(position - line_start) + 1, words);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static bool at_end(const struct parser *parser)
{
    return parser->at == parser->text.length;
}

static char peek(const struct parser *parser)
{
    return at_end(parser) ? '\0' : parser->text.data[parser->at];
}

static void skip_line(struct parser *parser)
{
    while (!at_end(parser) && peek(parser) != '\n')
        parser->at++;
    if (!at_end(parser))
        parser->at++;
}

static void skip_blanks(struct parser *parser)
{
    while (is_blank(peek(parser)))
        parser->at++;
}

/* The next word of this logical line: physical ones that begin with a blank belong to it, and comments in between don't end it. Empty at its end. */
static struct str next_word(struct parser *parser)
{
    const char *start;
    size_t mark;

    for (;;) {
        skip_blanks(parser);
        if (peek(parser) != '\n')
            break;
        mark = parser->at++;
        while (peek(parser) == '#')
            skip_line(parser);
        if (!is_blank(peek(parser))) {
            parser->at = mark;
            break;
        }
    }
    start = parser->text.data + parser->at;
    while (!at_end(parser) && !is_blank(peek(parser)) && peek(parser) != '\n')
        parser->at++;
    return str_make(start, (size_t)(parser->text.data + parser->at - start));
}

/* ---- values ---- */

static struct str keep(struct parser *parser, struct str text)
{
    return arena_copy(&parser->map->arena, text);
}

/* The number of items of a list separated by commas; memory for as many. */
static int begin_list(struct parser *parser, struct str list, size_t count_max, struct directory_strings *strings)
{
    size_t count = 1;

    if (list.length == 0)
        return fail(parser, list.data, "wants a list, separated by commas without spaces");
    for (size_t i = 0; i < list.length; i++)
        count += list.data[i] == ',';
    if (count > count_max)
        return fail(parser, list.data, "the list has %zu items; at most %zu are allowed", count, count_max);
    strings->items = arena_alloc(&parser->map->arena, count * sizeof(strings->items[0]));
    strings->capacity = count;
    return strings->items ? 0 : fail(parser, list.data, "the map is too big");
}

static int parse_groups(struct parser *parser, struct str list, struct directory_strings *groups)
{
    if (begin_list(parser, list, DIRECTORY_GROUPS_MAX, groups) != 0)
        return -1;
    while (list.data) {
        struct str group = str_split(&list, ',');

        if (!directory_is_name(group))
            return fail(parser, group.data, "wants the name of a group, of 1 to %d octets", DIRECTORY_NAME_BYTES_MAX);
        groups->items[groups->count++] = keep(parser, group);
    }
    return 0;
}

static int parse_address(struct parser *parser, struct str text, struct directory_address_key *key)
{
    if (!directory_address_init(key, text))
        return fail(parser, text.data, "\"%.*s\" is not an address; write LOCAL@DOMAIN", STR_ARG(str_take(text, 80)));
    return 0;
}

/* In normal form where they are compared, as they are written where mail goes to them. */
static int parse_addresses(struct parser *parser, struct str list, size_t count_max, bool normal,
                           struct directory_strings *addresses)
{
    struct directory_address_key key;

    if (begin_list(parser, list, count_max, addresses) != 0)
        return -1;
    while (list.data) {
        struct str address = str_split(&list, ',');

        if (parse_address(parser, address, &key) != 0)
            return -1;
        addresses->items[addresses->count++] = keep(parser, normal ? key.address.normal : address);
    }
    return 0;
}

static int parse_certificates(struct parser *parser, struct str list, struct file_user *user)
{
    while (list.data) {
        struct str hex = str_split(&list, ',');
        unsigned char sha256[32];
        struct str key;

        if (!policy_parse_certificate(hex, sha256))
            return fail(parser, hex.data, "wants the SHA-256 of a certificate, 64 hex digits");
        key = keep(parser, str_make((const char *)sha256, sizeof(sha256)));
        if (hash_table_get(&parser->map->certificates, key))
            return fail(parser, hex.data, "this certificate is another user's already");
        hash_table_put(&parser->map->certificates, key, user);
    }
    return 0;
}

static int parse_scram(struct parser *parser, struct str text, struct file_user *user)
{
    struct directory_scram_keys *keys = arena_alloc(&parser->map->arena, sizeof(*keys));

    if (!password_parse_scram(text, keys))
        return fail(parser, text.data,
                    "wants SCRAM-SHA-256$ITERATIONS:SALT$KEY:KEY, as \"postern user hash\" prints it");
    user->scram = keys;
    if (!parser->map->scram_model)
        parser->map->scram_model = user;
    return 0;
}

static int parse_hash(struct parser *parser, struct str hash, struct file_user *user)
{
    struct file_map *map = parser->map;

    if (str_equal(hash, STR("-")))
        return 0;
    if (!password_hash_is_known(hash))
        return fail(parser, hash.data,
                    "wants a hash of crypt(3), $y$, $6$, $2b$ or $2y$, as \"postern user hash\" prints it, or -");
    snprintf(user->hash, sizeof(user->hash), "%.*s", STR_ARG(hash));
    if (map->with_hash_count == map->with_hash_capacity) {
        map->with_hash_capacity = map->with_hash_capacity ? map->with_hash_capacity * 2 : 16;
        map->with_hash = mem_resize_array(map->with_hash, map->with_hash_capacity, sizeof(map->with_hash[0]));
    }
    map->with_hash[map->with_hash_count++] = user;
    return 0;
}

/* ---- entries ---- */

static int parse_user_word(struct parser *parser, struct str word, struct file_user *user)
{
    struct str value = word;
    struct str key = str_split(&value, '=');

    if (str_equal(word, STR("disabled")))
        user->is_disabled = true;
    else if (value.data && str_equal(key, STR("groups")) && user->groups.count == 0)
        return parse_groups(parser, value, &user->groups);
    else if (value.data && str_equal(key, STR("addresses")) && user->addresses.count == 0)
        return parse_addresses(parser, value, DIRECTORY_ADDRESSES_MAX, true, &user->addresses);
    else if (value.data && str_equal(key, STR("certificates")))
        return parse_certificates(parser, value, user);
    else if (value.data && str_equal(key, STR("scram")) && !user->scram)
        return parse_scram(parser, value, user);
    else
        return fail(parser, word.data, "wants disabled, groups=, addresses=, certificates= or scram=, each once");
    return 0;
}

static int parse_user(struct parser *parser, struct str keyword)
{
    struct file_map *map = parser->map;
    struct file_user *user = arena_alloc(&map->arena, sizeof(*user));
    struct str name = next_word(parser);
    struct str hash = next_word(parser);
    char normal[DIRECTORY_FORM_BYTES];
    size_t length = directory_normal_name(name, map->default_domain, normal);
    struct str key = keep(parser, str_make(normal, length));

    if (!user || !key.data)
        return fail(parser, keyword.data, "the map is too big");
    if (length == 0)
        return fail(parser, name.data, "wants the name of a user, of 1 to %d octets", DIRECTORY_NAME_BYTES_MAX);
    if (hash_table_get(&map->users, key))
        return fail(parser, name.data, "the user \"%.*s\" stands here twice", STR_ARG(str_take(name, 80)));
    user->name = keep(parser, name);
    if (parse_hash(parser, hash, user) != 0)
        return -1;
    hash_table_put(&map->users, key, user);
    for (struct str word = next_word(parser); word.length > 0; word = next_word(parser))
        if (parse_user_word(parser, word, user) != 0)
            return -1;
    return 0;
}

static int parse_recipient(struct parser *parser, struct str keyword, struct file_recipient **out)
{
    struct file_map *map = parser->map;
    struct file_recipient *recipient = arena_alloc(&map->arena, sizeof(*recipient));
    struct str text = next_word(parser);
    struct directory_address_key key;
    struct hash_table *table;
    bool is_pattern;

    if (text.length == 0 || !directory_recipient_init(&key, text, &is_pattern))
        return fail(parser, text.data, "\"%.*s\" is not an address; write LOCAL@DOMAIN, PREFIX*@DOMAIN or *@DOMAIN",
                    STR_ARG(str_take(text, 80)));
    table = is_pattern ? &map->patterns : &map->recipients;
    if (hash_table_get(table, key.address.normal))
        return fail(parser, text.data, "\"%.*s\" stands here twice", STR_ARG(str_take(text, 80)));
    if (!recipient || !(recipient->address = keep(parser, key.address.normal)).data)
        return fail(parser, keyword.data, "the map is too big");
    if (is_pattern && key.address.local.length > map->prefix_bytes_max)
        map->prefix_bytes_max = key.address.local.length;
    hash_table_put(table, recipient->address, recipient);
    *out = recipient;
    return 0;
}

static int parse_owner(struct parser *parser, struct file_recipient *recipient)
{
    struct str owner = next_word(parser);
    struct directory_address_key key;

    if (str_equal(owner, STR("-")))
        return 0;
    if (parse_address(parser, owner, &key) != 0)
        return -1;
    recipient->owner = keep(parser, owner);
    return 0;
}

static int end_line(struct parser *parser)
{
    struct str word = next_word(parser);

    if (word.length > 0)
        return fail(parser, word.data,
                    "there is nothing more to say on this line; items of a list are separated by commas alone");
    skip_line(parser);
    return 0;
}

static int parse_line(struct parser *parser)
{
    struct str keyword = next_word(parser);
    struct file_recipient *recipient = NULL;
    bool is_list = str_equal(keyword, STR("list"));
    int result;

    if (keyword.length == 0)
        return end_line(parser);
    if (str_equal(keyword, STR("user")))
        return parse_user(parser, keyword) == 0 ? end_line(parser) : -1;
    if (!is_list && !str_equal(keyword, STR("alias")) && !str_equal(keyword, STR("recipient")))
        return fail(parser, keyword.data, "wants user, recipient, alias or list, not \"%.*s\"",
                    STR_ARG(str_take(keyword, 80)));
    result = parse_recipient(parser, keyword, &recipient);
    if (result == 0 && is_list)
        result = parse_owner(parser, recipient);
    if (result == 0 && !str_equal(keyword, STR("recipient")))
        result = parse_addresses(parser, next_word(parser), DIRECTORY_TARGETS_MAX, false, &recipient->targets);
    return result == 0 ? end_line(parser) : -1;
}

/* ---- the whole ---- */

static int check_size(struct parser *parser)
{
    size_t invalid = utf8_find_invalid(parser->text);
    size_t lines = 0;

    if (parser->text.length > FILE_MAP_BYTES_MAX)
        return error_set(parser->error, "%s: is over %u MiB", parser->path, FILE_MAP_BYTES_MAX >> 20);
    if (invalid != STR_NONE)
        return fail(parser, parser->text.data + invalid, "wants UTF-8 text without control characters");
    for (size_t i = 0; i < parser->text.length; i++)
        lines += parser->text.data[i] == '\n';
    if (lines > FILE_MAP_LINES_MAX)
        return error_set(parser->error, "%s: has over %d lines", parser->path, FILE_MAP_LINES_MAX);
    return 0;
}

/* An alias that names itself is a mailbox, whose mail is also sent on. */
static bool is_mailbox(const struct file_recipient *recipient)
{
    struct directory_address_key key;

    for (size_t i = 0; i < recipient->targets.count; i++)
        if (directory_address_init(&key, recipient->targets.items[i]) &&
            str_equal(key.address.normal, recipient->address))
            return true;
    return recipient->targets.count == 0;
}

/* One level of indirection: what is named is a mailbox, or somewhere else. */
static int check_targets(struct parser *parser, const struct hash_table *recipients)
{
    size_t position = 0;
    struct directory_address_key key;
    struct str address;
    void *value;

    while (hash_table_next(recipients, &position, &address, &value)) {
        const struct file_recipient *recipient = value;

        for (size_t i = 0; i < recipient->targets.count; i++) {
            const struct file_recipient *target;

            if (!directory_address_init(&key, recipient->targets.items[i]))
                continue; /* was checked where it was read */
            target = hash_table_get(&parser->map->recipients, key.address.normal);
            if (target && target != recipient && !is_mailbox(target))
                return error_set(
                    parser->error,
                    "%s: \"%.*s\" names \"%.*s\", which is an alias or list itself; name what it stands for",
                    parser->path, STR_ARG(recipient->address), STR_ARG(key.address.normal));
        }
    }
    return 0;
}

static int parse_all(struct parser *parser)
{
    if (check_size(parser) != 0)
        return -1;
    while (!at_end(parser)) {
        if (peek(parser) == '#')
            skip_line(parser);
        else if (parse_line(parser) != 0)
            return -1;
    }
    if (check_targets(parser, &parser->map->recipients) != 0)
        return -1;
    return check_targets(parser, &parser->map->patterns);
}

struct file_map *file_map_parse(const char *path, struct str text, struct str default_domain, struct error *error)
{
    struct file_map *map = mem_alloc(sizeof(*map));
    struct parser parser = {.path = path, .text = text, .map = map, .error = error};

    atomic_init(&map->references, 1);
    arena_init(&map->arena, MAP_BYTES_MAX);
    hash_table_init(&map->users);
    hash_table_init(&map->recipients);
    hash_table_init(&map->patterns);
    hash_table_init(&map->certificates);
    map->default_domain = arena_copy(&map->arena, default_domain);
    if (parse_all(&parser) != 0)
        file_map_release(&map);
    return map;
}
