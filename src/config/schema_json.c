/* SPDX-License-Identifier: Apache-2.0 */
/* The same table as a JSON Schema, so that an editor completes keys and underlines mistakes while one types. */
#include "config/schema.h"
#include "config/settings.h"

#include <jansson.h>

static json_t *map_schema(const struct schema_map *map);

static json_t *string_schema(void)
{
    return json_pack("{s:s}", "type", "string");
}

static json_t *pattern_schema(const char *pattern)
{
    return json_pack("{s:s, s:s}", "type", "string", "pattern", pattern);
}

static json_t *number_schema(const struct schema_key *key)
{
    json_t *schema = json_pack("{s:s, s:I}", "type", "integer", "minimum", (json_int_t)key->minimum);

    if (key->maximum)
        json_object_set_new(schema, "maximum", json_integer((json_int_t)key->maximum));
    return schema;
}

static json_t *text_schema(const struct schema_key *key)
{
    json_t *schema = string_schema();

    if (key->minimum)
        json_object_set_new(schema, "minLength", json_integer((json_int_t)key->minimum));
    if (key->maximum)
        json_object_set_new(schema, "maxLength", json_integer((json_int_t)key->maximum));
    return schema;
}

/* Words that this version refuses are left out: an editor should not offer them. */
static json_t *words_schema(const struct schema_key *key)
{
    json_t *words = json_array();

    for (const struct schema_word *word = key->words; word->name; word++)
        if (!word->unavailable)
            json_array_append_new(words, json_string(word->name));
    return json_pack("{s:o}", "enum", words);
}

static json_t *list_of(json_t *items)
{
    return json_pack("{s:s, s:o}", "type", "array", "items", items);
}

static json_t *either(json_t *one, json_t *other)
{
    return json_pack("{s:[o, o]}", "anyOf", one, other);
}

static json_t *shape_schema(enum schema_shape shape)
{
    switch (shape) {
    case SCHEMA_SHAPE_CLIENT_ENTRIES:
    case SCHEMA_SHAPE_INCLUDE:
        return list_of(string_schema());
    case SCHEMA_SHAPE_CLIENT_LIST:
        return either(list_of(string_schema()),
                      json_pack("{s:s, s:{s:o}, s:[s], s:b}", "type", "object", "properties", "file", string_schema(),
                                "required", "file", "additionalProperties", 0));
    case SCHEMA_SHAPE_USER_ENTRIES:
        return list_of(pattern_schema("^(user|group):."));
    case SCHEMA_SHAPE_RECIPIENTS:
        return either(json_pack("{s:[s, s]}", "enum", "any", "directory"), list_of(string_schema()));
    case SCHEMA_SHAPE_DELIVER:
        return pattern_schema("^(maildir|(smtp|lmtp):.+)$");
    case SCHEMA_SHAPE_ADDRESS_SPACES:
        return list_of(
            either(string_schema(), json_pack("{s:s, s:{s:o, s:{s:s, s:i}}, s:[s], s:b}", "type", "object",
                                              "properties", "domain", string_schema(), "cost", "type", "integer",
                                              "minimum", 0, "required", "domain", "additionalProperties", 0)));
    case SCHEMA_SHAPE_NONE:
    case SCHEMA_SHAPE_NAMES:
    case SCHEMA_SHAPE_DOMAINS:
        break;
    }
    return json_object();
}

static json_t *scalar_schema(const struct schema_key *key)
{
    switch (key->type) {
    case SCHEMA_BOOL:
        return json_pack("{s:s}", "type", "boolean");
    case SCHEMA_INTEGER:
        return number_schema(key);
    case SCHEMA_DURATION:
        return pattern_schema("^[0-9]+(ms|s|m|h|d)$");
    case SCHEMA_SIZE:
        return json_pack("{s:[s, s], s:s}", "type", "string", "integer", "pattern", "^[0-9]+(KiB|MiB|GiB)?$");
    case SCHEMA_RATE:
        return pattern_schema("^[1-9][0-9]*/[smhd]$");
    case SCHEMA_ENUM:
        return words_schema(key);
    case SCHEMA_TEXT:
        return text_schema(key);
    case SCHEMA_LISTEN:
        return pattern_schema("^.+:[0-9]+$");
    case SCHEMA_PATH:
    case SCHEMA_DOMAIN:
    case SCHEMA_ADDRESS:
    case SCHEMA_SMART_HOST:
        return string_schema();
    case SCHEMA_MAP:
        return map_schema(key->map);
    case SCHEMA_NODE:
        return shape_schema(key->shape);
    case SCHEMA_NAMED:
        break;
    }
    return json_object();
}

static json_t *named_schema(const struct schema_key *key)
{
    json_t *schema = json_pack("{s:s, s:o}", "type", "object", "additionalProperties",
                               key->map ? map_schema(key->map) : shape_schema(key->shape));

    if (key->names == SCHEMA_SHAPE_NAMES)
        json_object_set_new(schema, "propertyNames", pattern_schema("^[A-Za-z0-9._-]{1,64}$"));
    return schema;
}

static json_t *scalar_default(const struct schema_key *key, struct str text)
{
    uint64_t number;

    if (key->type == SCHEMA_BOOL)
        return json_boolean(str_equal(text, STR("true")));
    if (key->type == SCHEMA_INTEGER && str_to_u64(text, &number))
        return json_integer((json_int_t)number);
    return json_stringn(text.data, text.length);
}

static json_t *default_value(const struct schema_key *key)
{
    struct str rest = str_from_cstr(key->fallback);
    json_t *list;

    if (!key->is_list)
        return scalar_default(key, rest);
    list = json_array();
    while (rest.data)
        json_array_append_new(list, scalar_default(key, str_split(&rest, ' ')));
    return list;
}

static json_t *key_schema(const struct schema_key *key)
{
    json_t *schema = key->type == SCHEMA_NAMED ? named_schema(key) : scalar_schema(key);

    if (key->is_list)
        schema = list_of(schema);
    if (key->is_list && key->count_min)
        json_object_set_new(schema, "minItems", json_integer((json_int_t)key->count_min));
    if (key->is_list && key->count_max)
        json_object_set_new(schema, "maxItems", json_integer((json_int_t)key->count_max));
    if (key->fallback)
        json_object_set_new(schema, "default", default_value(key));
    if (key->unavailable)
        json_object_set_new(schema, "description",
                            json_sprintf("%s (Not available in this version: %s.)", key->about, key->unavailable));
    else
        json_object_set_new(schema, "description", json_string(key->about));
    return schema;
}

static json_t *map_schema(const struct schema_map *map)
{
    json_t *properties = json_object();
    json_t *required = json_array();
    json_t *schema;

    for (size_t i = 0; i < map->count; i++) {
        json_object_set_new(properties, map->keys[i].name, key_schema(&map->keys[i]));
        if (map->keys[i].is_required)
            json_array_append_new(required, json_string(map->keys[i].name));
    }
    schema = json_pack("{s:s, s:b, s:o}", "type", "object", "additionalProperties", 0, "properties", properties);
    if (json_array_size(required) > 0)
        json_object_set(schema, "required", required);
    json_decref(required);
    return schema;
}

void schema_write_json(struct buf *out)
{
    json_t *schema = json_pack("{s:s, s:s}", "$schema", "https://json-schema.org/draft/2020-12/schema", "title",
                               "Postern configuration");
    json_t *root = map_schema(&schema_root);
    char *text;

    /* An included file may hold any part, so that nothing is required of a file by itself. */
    json_object_del(root, "required");
    json_object_update(schema, root);
    json_decref(root);
    text = json_dumps(schema, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    json_decref(schema);
    if (!text)
        abort(); /* out of memory */
    buf_append_str(out, str_from_cstr(text));
    buf_append_char(out, '\n');
    free(text);
}
