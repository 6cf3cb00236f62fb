/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/answer.h"

#include "base/mem.h"
#include "mail/address.h"

/* ---- gathering ---- */

void directory_found_init(struct directory_found *found)
{
    *found = (struct directory_found){0};
    arena_init(&found->arena, DIRECTORY_FOUND_BYTES_MAX);
}

void directory_found_release(struct directory_found *found)
{
    arena_release(&found->arena);
    free(found->groups.items);
    free(found->addresses.items);
    free(found->targets.items);
    *found = (struct directory_found){0};
}

static struct str copy(struct directory_found *found, struct str text)
{
    struct str copied = arena_copy(&found->arena, text);

    if (!copied.data)
        found->fault = "the answer is too big";
    return copied;
}

static void add(struct directory_found *found, struct directory_strings *list, size_t count_max, struct str text)
{
    struct str copied = copy(found, text);

    if (list->count == count_max)
        found->fault = "the answer has too many values";
    if (found->fault)
        return;
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? list->capacity * 2 : 8;
        list->items = mem_resize_array(list->items, list->capacity, sizeof(list->items[0]));
    }
    list->items[list->count++] = copied;
}

void directory_found_set_name(struct directory_found *found, struct str name)
{
    if (name.length == 0 || name.length > DIRECTORY_NAME_BYTES_MAX)
        found->fault = "the user's name is empty or too long";
    else
        found->name = copy(found, name);
}

void directory_found_add_group(struct directory_found *found, struct str group)
{
    if (group.length == 0 || group.length > DIRECTORY_NAME_BYTES_MAX)
        found->groups_unknown = true; /* a rule may name it; cut, it would be another's */
    else
        add(found, &found->groups, DIRECTORY_GROUPS_MAX, group);
}

void directory_found_add_normal_address(struct directory_found *found, struct str normal)
{
    for (size_t i = 0; i < found->addresses.count; i++)
        if (str_equal(found->addresses.items[i], normal))
            return;
    add(found, &found->addresses, DIRECTORY_ADDRESSES_MAX, normal);
}

void directory_found_add_address(struct directory_found *found, struct str address)
{
    struct address parsed;
    char key[ADDRESS_KEY_BYTES];

    if (address_parse_stored(&parsed, address) && !parsed.is_null && address_domain(&parsed).length > 0)
        directory_found_add_normal_address(found, str_make(key, address_key(&parsed, key)));
}

/* Of a target that can't be sent to the others must not profit silently: somebody would miss mail. */
void directory_found_add_target(struct directory_found *found, struct str address)
{
    struct address parsed;

    if (!address_parse_stored(&parsed, address) || parsed.is_null || address_domain(&parsed).length == 0)
        found->fault = "a target is no address";
    else
        add(found, &found->targets, DIRECTORY_TARGETS_MAX, address_text(&parsed));
}

void directory_found_set_owner(struct directory_found *found, struct str address)
{
    struct address parsed;

    if (!address_parse_stored(&parsed, address) || parsed.is_null || address_domain(&parsed).length == 0)
        found->fault = "the list's owner is no address";
    else
        found->owner = copy(found, address_text(&parsed));
}

/* ---- one allocation ---- */

static size_t bytes_of(const struct directory_strings *list)
{
    size_t bytes = list->count * sizeof(struct str);

    for (size_t i = 0; i < list->count; i++)
        bytes += list->items[i].length + 1;
    return bytes;
}

static struct str put_text(char **free_bytes, struct str text)
{
    struct str put = {*free_bytes, text.length};

    if (text.length > 0)
        memcpy(*free_bytes, text.data, text.length);
    (*free_bytes)[text.length] = '\0';
    *free_bytes += text.length + 1;
    return put;
}

/* Lists first, so that they stand aligned; then bytes. */
static const struct str *put_list(struct str **free_list, char **free_bytes, const struct directory_strings *list)
{
    struct str *put = *free_list;

    for (size_t i = 0; i < list->count; i++)
        put[i] = put_text(free_bytes, list->items[i]);
    *free_list += list->count;
    return put;
}

static struct answer *make(size_t bytes)
{
    struct answer *answer = mem_alloc(sizeof(*answer) + bytes);

    atomic_init(&answer->references, 1);
    answer->bytes = sizeof(*answer) + bytes;
    return answer;
}

struct answer *answer_make_user(const struct directory_found *found)
{
    struct answer *answer = make(bytes_of(&found->groups) + bytes_of(&found->addresses) + found->name.length + 1);
    struct str *list = (struct str *)(void *)(answer + 1);
    char *bytes = (char *)(list + found->groups.count + found->addresses.count);

    answer->user.name = put_text(&bytes, found->name);
    answer->user.groups_unknown = found->groups_unknown;
    answer->user.is_disabled = found->is_disabled;
    answer->user.group_count = found->groups.count;
    answer->user.groups = put_list(&list, &bytes, &found->groups);
    answer->user.address_count = found->addresses.count;
    answer->user.addresses = put_list(&list, &bytes, &found->addresses);
    return answer;
}

struct answer *answer_make_recipient(const struct directory_found *found)
{
    struct answer *answer = make(bytes_of(&found->targets) + found->owner.length + 1);
    struct str *list = (struct str *)(void *)(answer + 1);
    char *bytes = (char *)(list + found->targets.count);

    answer->recipient.owner = put_text(&bytes, found->owner);
    answer->recipient.target_count = found->targets.count;
    answer->recipient.targets = put_list(&list, &bytes, &found->targets);
    return answer;
}

struct answer *answer_retain(struct answer *answer)
{
    atomic_fetch_add(&answer->references, 1);
    return answer;
}

void answer_release(struct answer *answer)
{
    if (answer && atomic_fetch_sub(&answer->references, 1) == 1)
        free(answer);
}
