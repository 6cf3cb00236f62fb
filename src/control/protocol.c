/* SPDX-License-Identifier: Apache-2.0 */
#include "control/protocol.h"

#include "mail/domain.h"

#include <stdio.h>

static const char *const code_names[] = {
    [CONTROL_BAD_REQUEST] = "bad-request",
    [CONTROL_UNKNOWN_COMMAND] = "unknown-command",
    [CONTROL_BAD_ARGUMENT] = "bad-argument",
    [CONTROL_NOT_PERMITTED] = "not-permitted",
    [CONTROL_NOT_FOUND] = "not-found",
    [CONTROL_REFUSED] = "refused",
    [CONTROL_BUSY] = "busy",
    [CONTROL_TIMEOUT] = "timeout",
    [CONTROL_FAILED] = "failed",
    [CONTROL_STOPPING] = "stopping",
};

const char *control_code_name(enum control_code code)
{
    return code_names[code];
}

/* ---- requests ---- */

/* A parser that recurses must not be asked to recurse deeply. */
static bool is_shallow(struct str line)
{
    bool in_string = false;
    unsigned depth = 0;

    for (size_t i = 0; i < line.length; i++) {
        const char c = line.data[i];

        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > CONTROL_DEPTH_MAX)
                return false;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}

const char *control_request_parse(struct str line, struct control_request *request)
{
    const json_t *id, *command;

    *request = (struct control_request){.id = 0};
    if (!is_shallow(line))
        return "it is nested too deeply";
    request->body = json_loadb(line.data ? line.data : "", line.length, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(request->body)) {
        control_request_release(request);
        return "a request is one JSON object on a line";
    }
    id = json_object_get(request->body, "id");
    command = json_object_get(request->body, "command");
    if (!json_is_integer(id) || !json_is_string(command)) {
        control_request_release(request);
        return "a request has an \"id\", an integer, and a \"command\", a string";
    }
    request->id = json_integer_value(id);
    request->command = json_string_value(command);
    return NULL;
}

void control_request_release(struct control_request *request)
{
    json_decref(request->body);
    request->body = NULL;
    request->command = NULL;
}

static bool is_among(const char *key, const char *const *keys)
{
    for (; *keys; keys++)
        if (strcmp(key, *keys) == 0)
            return true;
    return false;
}

bool control_request_has_only(const json_t *object, const char *const *keys, const char **culprit)
{
    static const char *const always[] = {"id", "command", NULL};

    for (void *at = json_object_iter((json_t *)(uintptr_t)object); at;
         at = json_object_iter_next((json_t *)(uintptr_t)object, at)) {
        const char *key = json_object_iter_key(at);

        if (is_among(key, always) || is_among(key, keys))
            continue;
        *culprit = key;
        return false;
    }
    return true;
}

/* ---- filters ---- */

static bool complain(char fault[CONTROL_FAULT_BYTES], const char *text, const char *what)
{
    snprintf(fault, CONTROL_FAULT_BYTES, "%s%.100s", text, what);
    return false;
}

static bool read_text(const json_t *json, const char *key, struct str *text, char fault[CONTROL_FAULT_BYTES])
{
    const json_t *value = json_object_get(json, key);

    if (!value || json_is_null(value))
        return true;
    if (!json_is_string(value) || json_string_length(value) == 0)
        return complain(fault, "not a text that can be looked for: ", key);
    *text = str_make(json_string_value(value), json_string_length(value));
    return true;
}

/* In normal form; a pattern is taken as it is, and so is a literal. */
static bool normalize_domain(struct control_filter *out, char fault[CONTROL_FAULT_BYTES])
{
    struct str text = out->filter.domain;
    const size_t prefix = str_starts_with(text, STR("*.")) ? 2 : str_starts_with(text, STR("@")) ? 1 : 0;
    const struct str name = str_skip(text, prefix);

    if (text.length == 0 || str_find(name, '*') != STR_NONE || str_starts_with(name, STR("[")))
        return true;
    memcpy(out->domain, text.data, prefix);
    if (domain_normalize(name, out->domain + prefix) == 0)
        return complain(fault, "not a domain: ", text.data);
    out->filter.domain = str_from_cstr(out->domain);
    return true;
}

static bool read_age(const json_t *json, int64_t now_ms, struct queue_filter *filter, char fault[CONTROL_FAULT_BYTES])
{
    const json_t *value = json_object_get(json, "older_than_ms");

    if (!value || json_is_null(value))
        return true;
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) >= now_ms)
        return complain(fault, "not a time in milliseconds: ", "older_than_ms");
    filter->arrived_before_at_ms = now_ms - json_integer_value(value);
    return true;
}

static bool read_states(const json_t *json, unsigned *states, char fault[CONTROL_FAULT_BYTES])
{
    const json_t *list = json_object_get(json, "states");
    enum queue_state state;

    if (!list || json_is_null(list))
        return true;
    if (!json_is_array(list) || json_array_size(list) == 0)
        return complain(fault, "not a list of states: ", "states");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));

        if (!name || !queue_state_parse(str_from_cstr(name), &state))
            return complain(fault, "no state of the queue: ", name ? name : "states");
        *states |= state;
    }
    return true;
}

bool control_filter_parse(const json_t *json, int64_t now_ms, struct control_filter *filter,
                          char fault[CONTROL_FAULT_BYTES])
{
    static const char *const keys[] = {"domain", "sender", "recipient", "older_than_ms", "states", NULL};
    const char *culprit;

    memset(filter, 0, sizeof(*filter));
    if (!json)
        return true;
    if (!json_is_object(json))
        return complain(fault, "not an object: ", "filter");
    if (!control_request_has_only(json, keys, &culprit))
        return complain(fault, "no condition of a filter: ", culprit);
    return read_text(json, "domain", &filter->filter.domain, fault) && normalize_domain(filter, fault) &&
           read_text(json, "sender", &filter->filter.sender, fault) &&
           read_text(json, "recipient", &filter->filter.recipient, fault) &&
           read_age(json, now_ms, &filter->filter, fault) && read_states(json, &filter->filter.states, fault);
}
