/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/settings.h"

#include "base/mem.h"

/* A configuration file's own bound is far below. */
#define SETTINGS_BYTES_MAX (64u << 20)

struct str directory_default_domain(const struct config *config)
{
    const struct policy_domain *domain = policy_default_domain(config->policy);

    return domain ? domain->name : STR("");
}

/* Every string of it, and where it stands: what is copied is also what is compared. */
static size_t texts_of(struct config_directory *directory, struct str *texts[static 16])
{
    struct config_ldap *ldap = &directory->ldap;
    struct str *const all[] = {
        &directory->path,      &ldap->ca_file,         &ldap->bind_dn,          &ldap->bind_password,
        &ldap->base,           &ldap->user_filter,     &ldap->recipient_filter, &ldap->certificate_filter,
        &ldap->user_attribute, &ldap->group_attribute,
    };

    memcpy(texts, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static const struct str *copy_list(struct arena *arena, const struct str *list, size_t count)
{
    struct str *copies = arena_alloc(arena, (count + 1) * sizeof(*copies));

    for (size_t i = 0; i < count; i++)
        copies[i] = arena_copy(arena, list[i]);
    return copies;
}

struct directory_settings *directory_settings_create(const struct config *config)
{
    struct directory_settings *settings = mem_alloc(sizeof(*settings));
    struct config_ldap *ldap = &settings->config.ldap;
    struct str *texts[16];
    size_t count;

    arena_init(&settings->arena, SETTINGS_BYTES_MAX);
    settings->config = config->directory;
    settings->default_domain = arena_copy(&settings->arena, directory_default_domain(config));
    count = texts_of(&settings->config, texts);
    for (size_t i = 0; i < count; i++)
        *texts[i] = arena_copy(&settings->arena, *texts[i]);
    ldap->urls = copy_list(&settings->arena, ldap->urls, ldap->url_count);
    ldap->address_attributes = copy_list(&settings->arena, ldap->address_attributes, ldap->address_attribute_count);
    return settings;
}

void directory_settings_destroy(struct directory_settings **pointer)
{
    struct directory_settings *settings = *pointer;

    if (!settings)
        return;
    *pointer = NULL;
    explicit_bzero((char *)settings->config.ldap.bind_password.data, settings->config.ldap.bind_password.length);
    arena_release(&settings->arena);
    free(settings);
}

static bool lists_equal(const struct str *a, size_t a_count, const struct str *b, size_t b_count)
{
    if (a_count != b_count)
        return false;
    for (size_t i = 0; i < a_count; i++)
        if (!str_equal(a[i], b[i]))
            return false;
    return true;
}

static bool numbers_equal(const struct config_directory *a, const struct config_directory *b)
{
    return a->backend == b->backend && a->timeout_ms == b->timeout_ms && a->cache_entries == b->cache_entries &&
           a->cache_positive_ms == b->cache_positive_ms && a->cache_negative_ms == b->cache_negative_ms &&
           a->workers == b->workers && a->ldap.start_tls == b->ldap.start_tls &&
           a->ldap.timeout_ms == b->ldap.timeout_ms;
}

bool directory_settings_match(const struct directory_settings *settings, const struct config *config)
{
    struct config_directory ours = settings->config, theirs = config->directory;
    struct str *our_texts[16], *their_texts[16];
    size_t count = texts_of(&ours, our_texts);

    texts_of(&theirs, their_texts);
    for (size_t i = 0; i < count; i++)
        if (!str_equal(*our_texts[i], *their_texts[i]))
            return false;
    return numbers_equal(&ours, &theirs) && str_equal(settings->default_domain, directory_default_domain(config)) &&
           lists_equal(ours.ldap.urls, ours.ldap.url_count, theirs.ldap.urls, theirs.ldap.url_count) &&
           lists_equal(ours.ldap.address_attributes, ours.ldap.address_attribute_count, theirs.ldap.address_attributes,
                       theirs.ldap.address_attribute_count);
}
