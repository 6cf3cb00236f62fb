/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of client entries, and the three-valued question to them. Each kind of entry has an index of its own, so that ten
 * thousand networks cost a binary search and a domain list one hash lookup a label. The lists that a list names, and that those
 * name, are gathered once, so that no shape of nesting makes a question expensive. Of the entries that match the first one
 * decides, in the order of the configuration, since people read it so.
 */
#include "base/mem.h"
#include "policy/model_private.h"

#include <assert.h>
#include <stdlib.h>

struct policy_client_list *policy_client_list_create(struct policy_model *model)
{
    struct policy_client_list *list = policy_model_alloc(model, sizeof(*list));

    list->model = model;
    list->first_domain = SIZE_MAX;
    cidr_set_init(&list->networks);
    hash_table_init(&list->domains);
    hash_table_init(&list->certificates);
    list->next = model->client_lists;
    model->client_lists = list;
    return list;
}

void policy_client_list_release(struct policy_client_list *list)
{
    cidr_set_release(&list->networks);
    hash_table_release(&list->domains);
    hash_table_release(&list->certificates);
    mem_free(&list->entries);
    mem_free(&list->sublists);
}

void policy_client_list_finish(struct policy_client_list *list)
{
    cidr_set_finish(&list->networks);
}

static struct policy_client_entry *add_entry(struct policy_client_list *list, enum policy_entry_type type,
                                             struct policy_rule rule)
{
    struct policy_client_entry *entry;

    if (list->entry_count == list->entry_capacity) {
        list->entry_capacity = list->entry_capacity ? list->entry_capacity * 2 : 8;
        list->entries = mem_resize_array(list->entries, list->entry_capacity, sizeof(list->entries[0]));
    }
    entry = &list->entries[list->entry_count++];
    *entry = (struct policy_client_entry){.type = type, .rule = rule};
    return entry;
}

/* How many leading bits all addresses of the network share. */
static unsigned shared_bits(const struct cidr_range *range)
{
    unsigned bits = 0;

    while (bits < 128 && !((range->first.bytes[bits / 8] ^ range->last.bytes[bits / 8]) & 0x80u >> bits % 8))
        bits++;
    return bits;
}

void policy_client_list_add_network(struct policy_client_list *list, const struct cidr_range *range,
                                    struct policy_rule rule)
{
    assert(list->entry_count < CIDR_NO_ENTRY);
    cidr_set_add(&list->networks, range, (uint32_t)list->entry_count);
    add_entry(list, POLICY_ENTRY_NETWORK, rule)->network_bits = shared_bits(range);
}

/* The first of several entries with the same key stays in the index. */
static void add_key(struct policy_client_list *list, struct hash_table *table, struct str key)
{
    size_t position = list->entry_count - 1;

    list->entries[position].name = policy_model_text(list->model, key);
    if (!hash_table_get(table, key))
        hash_table_put(table, list->entries[position].name, (void *)(position + 1));
}

/* SIZE_MAX: none. */
static size_t find_key(const struct hash_table *table, struct str key)
{
    return (size_t)hash_table_get(table, key) - 1;
}

void policy_client_list_add_domain(struct policy_client_list *list, struct str name, struct policy_rule rule)
{
    if (list->first_domain == SIZE_MAX)
        list->first_domain = list->entry_count;
    add_entry(list, POLICY_ENTRY_DOMAIN, rule);
    add_key(list, &list->domains, name);
}

void policy_client_list_add_certificate(struct policy_client_list *list, const unsigned char sha256[32],
                                        struct policy_rule rule)
{
    add_entry(list, POLICY_ENTRY_CERTIFICATE, rule);
    add_key(list, &list->certificates, str_make((const char *)sha256, 32));
}

void policy_client_list_add_list(struct policy_client_list *list, struct policy_client_list *other,
                                 struct policy_rule rule)
{
    assert(list != other);
    other->is_nested = true;
    add_entry(list, POLICY_ENTRY_LIST, rule)->list = other;
}

/* ---- gathering ---- */

static void add_sublist(struct policy_client_list *list, const struct policy_client_list *other, size_t position)
{
    if (list->sublist_count == list->sublist_capacity) {
        list->sublist_capacity = list->sublist_capacity ? list->sublist_capacity * 2 : 4;
        list->sublists = mem_resize_array(list->sublists, list->sublist_capacity, sizeof(list->sublists[0]));
    }
    list->sublists[list->sublist_count++] = (struct policy_sublist){other, position};
}

/* What `from` names, in its order, each before what it names itself. Depth is bounded: config refuses lists that contain
 * themselves, and nesting beyond a few levels. */
static void gather(struct policy_client_list *list, const struct policy_client_list *from, size_t mark)
{
    for (size_t i = 0; i < from->entry_count; i++) {
        struct policy_client_list *other = (struct policy_client_list *)(uintptr_t)from->entries[i].list;

        if (from->entries[i].type != POLICY_ENTRY_LIST || other->mark == mark)
            continue;
        other->mark = mark;
        add_sublist(list, other, from == list ? i : list->sublists[list->sublist_count - 1].position);
        gather(list, other, mark);
    }
}

void policy_client_list_gather(struct policy_client_list *list, size_t mark)
{
    gather(list, list, mark);
}

/* ---- asking ---- */

/* `domain:NAME` matches NAME and what is below it: every suffix of the client's name at a label's border. */
static size_t match_name(const struct policy_client_list *list, struct str name)
{
    size_t position = SIZE_MAX;

    while (name.length > 0) {
        size_t found = find_key(&list->domains, name);

        if (found < position)
            position = found;
        str_split(&name, '.');
    }
    return position;
}

/* The first of the list's own entries that answers yes; SIZE_MAX: none. */
static size_t match_own_entries(const struct policy_client_list *list, const struct policy_facts *facts)
{
    uint32_t network = cidr_set_find(&list->networks, &facts->client);
    size_t position = network == CIDR_NO_ENTRY ? SIZE_MAX : network;
    size_t found = SIZE_MAX;

    if (list->first_domain < position && facts->client_name_state == POLICY_NAME_VERIFIED)
        found = match_name(list, facts->client_name);
    if (found < position)
        position = found;
    if (list->certificates.count > 0 && facts->has_certificate) {
        found = find_key(&list->certificates, str_make((const char *)facts->certificate_sha256, 32));
        if (found < position)
            position = found;
    }
    return position;
}

/* `inner` is NULL, or the list named by the entry at `position`, whose own entry `inner_position` answers. */
static struct policy_match_result result_at(enum policy_match match, const struct policy_client_list *list,
                                            size_t position, const struct policy_client_list *inner,
                                            size_t inner_position)
{
    struct policy_match_result result = {.match = match, .rule = &list->entries[position].rule};

    result.entry = inner ? &inner->entries[inner_position] : &list->entries[position];
    if (inner)
        result.inner = &result.entry->rule;
    return result;
}

/* The first `domain:` entry, which nobody can answer now. */
static struct policy_match_result unanswered(const struct policy_client_list *list)
{
    for (size_t i = 0; i < list->sublist_count && list->sublists[i].position < list->first_domain; i++)
        if (list->sublists[i].list->first_domain != SIZE_MAX)
            return result_at(POLICY_MATCH_UNKNOWN, list, list->sublists[i].position, list->sublists[i].list,
                             list->sublists[i].list->first_domain);
    if (list->first_domain != SIZE_MAX)
        return result_at(POLICY_MATCH_UNKNOWN, list, list->first_domain, NULL, 0);
    return (struct policy_match_result){.match = POLICY_MATCH_NO};
}

struct policy_match_result policy_client_list_match(const struct policy_client_list *list,
                                                    const struct policy_facts *facts)
{
    size_t position = match_own_entries(list, facts);

    for (size_t i = 0; i < list->sublist_count && list->sublists[i].position < position; i++) {
        size_t inner = match_own_entries(list->sublists[i].list, facts);

        if (inner != SIZE_MAX)
            return result_at(POLICY_MATCH_YES, list, list->sublists[i].position, list->sublists[i].list, inner);
    }
    if (position != SIZE_MAX)
        return result_at(POLICY_MATCH_YES, list, position, NULL, 0);
    if (facts->client_name_state == POLICY_NAME_TEMPFAIL)
        return unanswered(list);
    return (struct policy_match_result){.match = POLICY_MATCH_NO};
}

/* ---- what a list holds ---- */

bool policy_parse_certificate(struct str hex, unsigned char sha256[32])
{
    if (hex.length != 64)
        return false;
    for (size_t i = 0; i < 64; i++) {
        char c = ascii_lower(hex.data[i]);
        int digit = ascii_is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

        if (digit < 0)
            return false;
        sha256[i / 2] = (unsigned char)(i % 2 == 0 ? digit << 4 : sha256[i / 2] | digit);
    }
    return true;
}

bool policy_client_list_has_domain(const struct policy_client_list *list)
{
    bool found = list->first_domain != SIZE_MAX;

    for (size_t i = 0; i < list->sublist_count; i++)
        found = found || list->sublists[i].list->first_domain != SIZE_MAX;
    return found;
}

bool policy_client_list_has_certificate(const struct policy_client_list *list)
{
    bool found = list->certificates.count > 0;

    for (size_t i = 0; i < list->sublist_count; i++)
        found = found || list->sublists[i].list->certificates.count > 0;
    return found;
}

bool policy_client_list_is_empty(const struct policy_client_list *list, bool with_certificates)
{
    bool empty = list->networks.count == 0;

    for (size_t i = 0; i < list->sublist_count; i++)
        empty = empty && list->sublists[i].list->networks.count == 0;
    return empty && !policy_client_list_has_domain(list) &&
           !(with_certificates && policy_client_list_has_certificate(list));
}
