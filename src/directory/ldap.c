/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ldap: the directory in Active Directory, OpenLDAP and their like. Users and recipients are found by the filters of the configuration, with the
 * rights of the service account; a password is right if its owner's entry may bind with it, on a connection of its own.
 *
 * Two entries for one name are nobody: which of them a rule means can't be known. A recipient may have several.
 */
#include "base/log.h"
#include "base/mem.h"
#include "directory/ldap_filter.h"
#include "directory/ldap_servers.h"
#include "os/random.h"

#include <inttypes.h>

/* Of several templates and their values. */
#define FILTER_BYTES_MAX (256u << 10)

/* RFC 4511, 4.5.1.8: for when it is enough that there is an entry. */
#define LDAP_NO_ATTRIBUTES "1.1"

struct backend {
    const struct directory_settings *settings;
    const struct config_ldap *config;
    struct ldap_servers *servers;
    char **user_attributes, **no_attributes; /* NULL ends each */
    char *nobody;                            /* the name of an entry that does not exist */
};

/* ---- made from a configuration ---- */

static void add_attribute(char ***list, size_t *count, const char *name)
{
    for (size_t i = 0; i < *count; i++)
        if (strcasecmp((*list)[i], name) == 0)
            return;
    *list = mem_resize_array(*list, *count + 2, sizeof(**list));
    (*list)[(*count)++] = mem_copy_str(str_from_cstr(name));
    (*list)[*count] = NULL;
}

static void add_attributes(char ***list, size_t *count, const char *const *names)
{
    for (; *names; names++)
        add_attribute(list, count, *names);
}

/* Only these are asked for: an entry may hold pictures. */
static char **user_attributes(const struct config_ldap *config)
{
    char **list = NULL;
    size_t count = 0;

    if (config->user_attribute.length > 0)
        add_attribute(&list, &count, config->user_attribute.data);
    else
        add_attributes(&list, &count, ldap_entry_name_attributes);
    if (config->group_attribute.length > 0)
        add_attribute(&list, &count, config->group_attribute.data);
    for (size_t i = 0; i < config->address_attribute_count; i++)
        if (config->address_attributes[i].length > 0)
            add_attribute(&list, &count, config->address_attributes[i].data);
    add_attributes(&list, &count, ldap_entry_disabled_attributes);
    return list;
}

static void free_attributes(char **list)
{
    for (size_t i = 0; list && list[i]; i++)
        free(list[i]);
    free(list);
}

static int check_filter(struct str filter, const char *key, struct error *error)
{
    if (ldap_filter_check(filter, error) == 0)
        return 0;
    return error_add_context(error, "directory.ldap.%s", key);
}

static int check_config(const struct config_ldap *config, struct error *error)
{
    if (check_filter(config->user_filter, "user-filter", error) != 0 ||
        check_filter(config->recipient_filter, "recipient-filter", error) != 0 ||
        (config->certificate_filter.length > 0 &&
         check_filter(config->certificate_filter, "certificate-filter", error) != 0))
        return -1;
    /* A bind with a name and no password succeeds as nobody (RFC 4513, 5.1.2), and then finds nothing. */
    if ((config->bind_dn.length > 0) != (config->bind_password.length > 0))
        return error_set(error, "directory.ldap: bind-dn and a bind-password go together");
    return 0;
}

static void backend_destroy(void *context)
{
    struct backend *backend = context;

    ldap_servers_destroy(&backend->servers);
    free_attributes(backend->user_attributes);
    free_attributes(backend->no_attributes);
    free(backend->nobody);
    free(backend);
}

static void *backend_create(const struct directory_settings *settings, struct error *error)
{
    static const char *const nothing[] = {LDAP_NO_ATTRIBUTES, NULL};
    struct backend *backend = mem_alloc(sizeof(*backend));
    size_t count = 0;

    ldap_link_prepare();
    backend->settings = settings;
    backend->config = &settings->config.ldap;
    if (check_config(backend->config, error) == 0)
        backend->servers = ldap_servers_create(backend->config, 2 * settings->config.workers, error);
    if (!backend->servers) {
        backend_destroy(backend);
        return NULL;
    }
    backend->user_attributes = user_attributes(backend->config);
    add_attributes(&backend->no_attributes, &count, nothing);
    backend->nobody =
        mem_printf("cn=nobody-%016" PRIx64 "%016" PRIx64 ",%s", random_u64(), random_u64(), backend->config->base.data);
    return backend;
}

static bool backend_has_scram(void *context)
{
    (void)context; /* a bind wants the password itself */
    return false;
}

/* ---- searching ---- */

struct search {
    struct ldap_query query;
    struct ldap_found *found;
};

static enum ldap_verdict run_search(struct ldap_link *link, void *context, uint64_t deadline_ms, struct error *error)
{
    struct search *search = context;

    arena_release(&search->found->arena); /* of another server that broke off */
    return ldap_link_search(link, &search->query, deadline_ms, search->found, error);
}

/* YES: at least one entry. `filter` is finished here. */
static enum directory_status find_entries(const struct backend *backend, struct buf *filter, char **attributes,
                                          uint64_t deadline_ms, struct ldap_found *found, struct error *error)
{
    struct search search = {{backend->config->base.data, NULL, attributes}, found};
    const struct ldap_operation operation = {LDAP_USE_SEARCH, run_search, &search};
    enum directory_status status = DIRECTORY_UNAVAILABLE;

    *found = (struct ldap_found){0};
    buf_append_char(filter, '\0');
    if (filter->overflowed)
        error_set(error, "the filter became too long");
    search.query.filter = filter->data;
    if (!filter->overflowed)
        status = ldap_servers_ask(backend->servers, &operation, deadline_ms, error);
    return status == DIRECTORY_YES && found->entry_count == 0 ? DIRECTORY_NO : status;
}

static void log_two_entries(struct str name)
{
    LOG_WARNING("ldap-two-entries", log_str("user", name),
                log_cstr("reason", "more than one entry; user-filter must find one"));
}

/* Both forms in one search, so that an unknown name takes as long as a known one. */
static enum directory_status find_forms(const struct backend *backend, const struct str *forms, size_t form_count,
                                        char **attributes, uint64_t deadline_ms, struct ldap_found *found,
                                        struct error *error)
{
    struct buf filter;
    enum directory_status status;

    buf_init(&filter, FILTER_BYTES_MAX);
    if (form_count > 1)
        buf_append_str(&filter, STR("(|"));
    for (size_t i = 0; i < form_count; i++)
        ldap_filter_append(&filter, backend->config->user_filter, forms[i]);
    if (form_count > 1)
        buf_append_char(&filter, ')');
    status = find_entries(backend, &filter, attributes, deadline_ms, found, error);
    buf_release(&filter);
    return status;
}

/* YES: the one entry. The caller releases `found`'s arena in any case. */
static enum directory_status find_user_entry(const struct backend *backend, const struct directory_name *name,
                                             char **attributes, uint64_t deadline_ms, struct ldap_found *found,
                                             struct error *error)
{
    enum directory_status status =
        find_forms(backend, name->forms, name->form_count, attributes, deadline_ms, found, error);

    /* USER and USER@default-domain may be two: then the form that was given says which. */
    if (status == DIRECTORY_YES && found->entry_count > 1 && name->form_count > 1) {
        arena_release(&found->arena);
        status = find_forms(backend, name->forms, 1, attributes, deadline_ms, found, error);
        if (status == DIRECTORY_NO) {
            log_two_entries(name->given);
            return DIRECTORY_NO;
        }
    }
    if (status == DIRECTORY_YES && found->entry_count > 1) {
        log_two_entries(name->given);
        return DIRECTORY_NO;
    }
    return status;
}

static enum directory_status describe(const struct backend *backend, const struct ldap_found *entries,
                                      struct directory_found *found)
{
    if (ldap_entry_describe(&entries->entry, backend->config, found))
        return DIRECTORY_YES;
    LOG_WARNING("ldap-no-name", log_str("dn", entries->entry.dn),
                log_cstr("reason", "the entry has no user-attribute that names it in rules"));
    return DIRECTORY_NO;
}

static enum directory_status backend_find_user(void *context, const struct directory_name *name, uint64_t deadline_ms,
                                               struct directory_found *found, struct error *error)
{
    const struct backend *backend = context;
    struct ldap_found entries;
    enum directory_status status =
        find_user_entry(backend, name, backend->user_attributes, deadline_ms, &entries, error);

    if (status == DIRECTORY_YES)
        status = describe(backend, &entries, found);
    arena_release(&entries.arena);
    return status;
}

/* ---- passwords ---- */

struct proof {
    struct str dn, password;
    struct ldap_bound bound;
};

static enum ldap_verdict run_bind(struct ldap_link *link, void *context, uint64_t deadline_ms, struct error *error)
{
    struct proof *proof = context;

    return ldap_link_bind(link, proof->dn, proof->password, deadline_ms, &proof->bound, error);
}

/* Whoever is unknown, or two, binds as nobody: the same steps, on the same connection, as with a wrong password. */
static enum directory_status backend_check_password(void *context, const struct directory_name *name,
                                                    struct str password, uint64_t deadline_ms, struct error *error)
{
    const struct backend *backend = context;
    struct proof proof = {.password = password};
    const struct ldap_operation operation = {LDAP_USE_BIND, run_bind, &proof};
    struct ldap_found entries;
    enum directory_status status;
    bool is_known;

    if (password.length == 0)
        return DIRECTORY_NO; /* a bind as nobody, which succeeds */
    status = find_user_entry(backend, name, backend->no_attributes, deadline_ms, &entries, error);
    is_known = status == DIRECTORY_YES && ldap_value_is_clean(entries.entry.dn);
    if (status != DIRECTORY_UNAVAILABLE) {
        proof.dn = is_known ? entries.entry.dn : str_from_cstr(backend->nobody);
        status = ldap_servers_ask(backend->servers, &operation, deadline_ms, error);
    }
    if (status == DIRECTORY_NO && proof.bound.reason && is_known)
        LOG_INFO("ldap-refused", log_str("user", name->given), log_cstr("reason", proof.bound.reason));
    arena_release(&entries.arena);
    return status == DIRECTORY_YES && !is_known ? DIRECTORY_NO : status;
}

/* ---- certificates ---- */

static void append_fingerprint(struct buf *filter, struct str template, const unsigned char sha256[32])
{
    char text[2 * 32 + 1];

    for (size_t i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", sha256[i]);
    ldap_filter_append(filter, template, str_make(text, 2 * 32));
}

static enum directory_status backend_find_certificate(void *context, const unsigned char sha256[32],
                                                      uint64_t deadline_ms, struct directory_found *found,
                                                      struct error *error)
{
    const struct backend *backend = context;
    struct ldap_found entries;
    enum directory_status status;
    struct buf filter;

    if (backend->config->certificate_filter.length == 0)
        return DIRECTORY_NO;
    buf_init(&filter, FILTER_BYTES_MAX);
    append_fingerprint(&filter, backend->config->certificate_filter, sha256);
    status = find_entries(backend, &filter, backend->user_attributes, deadline_ms, &entries, error);
    buf_release(&filter);
    if (status == DIRECTORY_YES && entries.entry_count > 1) {
        log_two_entries(STR("(by certificate)"));
        status = DIRECTORY_NO;
    } else if (status == DIRECTORY_YES && ldap_entry_is_disabled(&entries.entry)) {
        LOG_INFO("ldap-refused", log_str("dn", entries.entry.dn), log_cstr("reason", "the account is disabled"));
        status = DIRECTORY_NO;
    }
    if (status == DIRECTORY_YES)
        status = describe(backend, &entries, found);
    arena_release(&entries.arena);
    return status;
}

/* ---- recipients ---- */

/* Directories compare without regard to spaces in places, which no mailbox's name has: "  alice"@ would be alice@. And a local part that looks like an address,
 * "alice@contoso.test"@contoso.test, would be found by the filter as alice, who is somebody else. */
static bool may_be_mailbox(struct str local)
{
    return str_find(local, ' ') == STR_NONE && str_find(local, '@') == STR_NONE && ldap_value_is_clean(local);
}

/* By its own attributes, or as a user's name; in one search. */
static enum directory_status backend_find_recipient(void *context, const struct directory_address *address,
                                                    uint64_t deadline_ms, struct directory_found *found,
                                                    struct error *error)
{
    const struct backend *backend = context;
    const struct config_ldap *config = backend->config;
    struct ldap_found entries;
    enum directory_status status;
    struct buf filter;

    (void)found; /* a mailbox: what an alias stands for is the next hop's business */
    if (!may_be_mailbox(address->local))
        return DIRECTORY_NO;
    buf_init(&filter, FILTER_BYTES_MAX);
    buf_append_str(&filter, STR("(|"));
    ldap_filter_append(&filter, config->recipient_filter, address->normal);
    ldap_filter_append(&filter, config->user_filter, address->normal);
    if (str_equal(address->domain, backend->settings->default_domain))
        ldap_filter_append(&filter, config->user_filter, address->local);
    buf_append_char(&filter, ')');
    status = find_entries(backend, &filter, backend->no_attributes, deadline_ms, &entries, error);
    buf_release(&filter);
    arena_release(&entries.arena);
    return status;
}

const struct directory_backend_operations directory_ldap = {
    .name = "ldap",
    .create = backend_create,
    .destroy = backend_destroy,
    .has_scram = backend_has_scram,
    .find_user = backend_find_user,
    .check_password = backend_check_password,
    .find_certificate = backend_find_certificate,
    .find_recipient = backend_find_recipient,
};
