/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which `domain:` entries complete a grant: for which there is a client that relays with a verified host name at or below the
 * entry's, and would not without. Such a client needs an address and a name, and any address may have any name, so that for an
 * entry of relay.only it must connect (by its address, or because some connect.only entry matches one of the entry's names) from
 * an address that relay.only does not name; for an entry of connect.only the two change places.
 */
#include "base/mem.h"
#include "policy/prove_private.h"

#include <stdlib.h>

/* The `domain:` entries of one list and of those it names. */
struct names {
    struct policy_grants grants;
    struct hash_table set;       /* their names */
    struct hash_table ancestors; /* all that they are below */
};

static void add_grant(struct policy_grants *grants, struct str name, const struct policy_rule *rule)
{
    if (grants->count == grants->capacity) {
        grants->capacity = grants->capacity ? grants->capacity * 2 : 8;
        grants->items = mem_resize_array(grants->items, grants->capacity, sizeof(grants->items[0]));
    }
    grants->items[grants->count++] = (struct policy_grant){name, rule};
}

static void collect_own(struct policy_grants *grants, const struct policy_client_list *list,
                        enum policy_entry_type type)
{
    for (size_t i = 0; i < list->entry_count; i++)
        if (list->entries[i].type == type)
            add_grant(grants, list->entries[i].name, &list->entries[i].rule);
}

static void collect(struct policy_grants *grants, const struct policy_client_list *list, enum policy_entry_type type)
{
    collect_own(grants, list, type);
    for (size_t i = 0; i < list->sublist_count; i++)
        collect_own(grants, list->sublists[i].list, type);
}

static void names_init(struct names *names, const struct policy_client_list *list)
{
    *names = (struct names){0};
    hash_table_init(&names->set);
    hash_table_init(&names->ancestors);
    if (!list)
        return;
    collect(&names->grants, list, POLICY_ENTRY_DOMAIN);
    for (size_t i = 0; i < names->grants.count; i++) {
        struct str name = names->grants.items[i].name;

        hash_table_put(&names->set, name, names);
        for (str_split(&name, '.'); name.length > 0; str_split(&name, '.'))
            hash_table_put(&names->ancestors, name, names);
    }
}

static void names_release(struct names *names)
{
    free(names->grants.items);
    hash_table_release(&names->set);
    hash_table_release(&names->ancestors);
}

/* Whether every name at or below `name` is matched. */
static bool names_cover(const struct names *names, struct str name)
{
    for (; name.length > 0; str_split(&name, '.'))
        if (hash_table_get(&names->set, name))
            return true;
    return false;
}

/* Whether some name at or below `name` is matched. */
static bool names_meet(const struct names *names, struct str name)
{
    return names_cover(names, name) || hash_table_get(&names->ancestors, name);
}

/* One of the two lists that a client must pass. */
struct gate {
    enum policy_list_mode mode;
    struct names names;
    struct space named; /* the addresses that the list names; empty for NONE */
};

static void gate_init(struct gate *gate, enum policy_list_mode mode, const struct policy_client_list *list)
{
    gate->mode = mode;
    names_init(&gate->names, list);
    space_init(&gate->named);
    if (list)
        policy_list_space(list, &gate->named);
}

static void gate_release(struct gate *gate)
{
    names_release(&gate->names);
    space_release(&gate->named);
}

/* Whether an address that `other` lets pass is not in `named`. */
static bool passes_outside(const struct gate *other, const struct space *named)
{
    struct space allowed;
    struct space rest;
    bool found;

    if (other->mode == POLICY_LIST_ONLY) {
        space_difference(&other->named, named, &rest);
    } else {
        space_complement(&other->named, &allowed);
        space_difference(&allowed, named, &rest);
        space_release(&allowed);
    }
    found = !space_is_empty(&rest);
    space_release(&rest);
    return found;
}

static bool is_everything(const struct space *set)
{
    struct space rest;
    bool empty;

    space_complement(set, &rest);
    empty = space_is_empty(&rest);
    space_release(&rest);
    return empty;
}

/* The entries of `gate`, an ONLY list, that complete a grant when the client must pass `other` too. */
static void complete(struct policy_grants *out, struct hash_table *seen, const struct gate *gate,
                     const struct gate *other)
{
    bool by_address = passes_outside(other, &gate->named);
    bool has_room = !is_everything(&gate->named);

    for (size_t i = 0; i < gate->names.grants.count; i++) {
        const struct policy_grant *grant = &gate->names.grants.items[i];
        bool completes =
            other->mode == POLICY_LIST_EXCEPT ? by_address && !names_cover(&other->names, grant->name) : by_address;

        if (other->mode == POLICY_LIST_ONLY && has_room && names_meet(&other->names, grant->name))
            completes = true;
        if (completes && !hash_table_put(seen, grant->name, out))
            add_grant(out, grant->name, grant->rule);
    }
}

/* In hex, since they are read by people only; the proof's memory. */
static void list_certificates(struct policy_server_proof *proof)
{
    collect(&proof->certificates, proof->server->relay, POLICY_ENTRY_CERTIFICATE);
    for (size_t i = 0; i < proof->certificates.count; i++) {
        struct str *name = &proof->certificates.items[i].name;
        char *hex = mem_alloc(2 * name->length + 1);

        for (size_t j = 0; j < name->length; j++) {
            hex[2 * j] = "0123456789abcdef"[(unsigned char)name->data[j] >> 4];
            hex[2 * j + 1] = "0123456789abcdef"[(unsigned char)name->data[j] & 0xf];
        }
        *name = str_make(hex, 2 * name->length);
    }
}

void policy_prove_names(struct policy_server_proof *proof)
{
    const struct policy_server *server = proof->server;
    struct hash_table seen;
    struct gate connect;
    struct gate relay;

    if (!server->anonymous)
        return;
    hash_table_init(&seen);
    gate_init(&connect, server->connect_mode, server->connect);
    gate_init(&relay, server->relay_mode, server->relay);
    if (relay.mode == POLICY_LIST_ONLY) {
        complete(&proof->domains, &seen, &relay, &connect);
        list_certificates(proof);
    }
    if (connect.mode == POLICY_LIST_ONLY)
        complete(&proof->domains, &seen, &connect, &relay);
    gate_release(&connect);
    gate_release(&relay);
    hash_table_release(&seen);
}
