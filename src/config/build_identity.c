/* SPDX-License-Identifier: Apache-2.0 */
/* Who clients are, and how that is proved: TLS and authentication of a server; the directory; the brakes on guessing. */
#include "config/build.h"
#include "mail/domain.h"

#include <limits.h>

/* A password's file; a trailing line end does not belong to it. */
#define SECRET_BYTES_MAX 4096

struct str build_secret(struct build *b, const struct config_node *map, const char *key, struct str inline_text,
                        struct str path)
{
    char file_key[64];
    const struct config_place *place;
    char *data = NULL;
    size_t length = 0;
    int result;
    struct str secret;

    snprintf(file_key, sizeof(file_key), "%s-file", key);
    place = build_key_place(map, file_key);
    if (path.length == 0)
        return build_copy(b, inline_text);
    if (inline_text.length > 0)
        config_errors_add(b->errors, place, "%s and %s exclude each other; keep one", key, file_key);
    result = vfs_read_file(b->vfs, path.data, SECRET_BYTES_MAX, &data, &length);
    if (result != 0) {
        config_errors_add(b->errors, place, "%s: %.*s: %s", file_key, STR_ARG(path), strerrordesc_np(-result));
        return STR("");
    }
    while (length > 0 && (data[length - 1] == '\n' || data[length - 1] == '\r'))
        length--;
    secret = build_copy(b, str_make(data, length));
    explicit_bzero(data, length);
    free(data);
    return secret;
}

/* ---- TLS ---- */

static void check_readable(struct build *b, const struct config_place *place, struct str path, const char *what)
{
    char *data = NULL;
    size_t length;
    int result = vfs_read_file(b->vfs, path.data, CONFIG_PEM_BYTES_MAX, &data, &length);

    if (result != 0)
        config_errors_add(b->errors, place, "%s: %.*s: %s", what, STR_ARG(path), strerrordesc_np(-result));
    else
        explicit_bzero(data, length);
    free(data);
}

static struct config_certificate copy_certificate(struct build *b, const struct config_node *map,
                                                  struct str certificate, struct str key)
{
    check_readable(b, build_key_place(map, "certificate"), certificate, "certificate");
    check_readable(b, build_key_place(map, "key"), key, "key");
    return (struct config_certificate){
        .name = STR(""), .certificate = build_copy(b, certificate), .key = build_copy(b, key)};
}

static struct str normal_name(struct build *b, const struct schema_named *named)
{
    bool is_wildcard = str_starts_with(named->name, STR("*."));
    char normal[DOMAIN_TEXT_BYTES + 2] = "*.";
    size_t length = domain_normalize(str_skip(named->name, is_wildcard ? 2 : 0), normal + 2);

    if (length == 0)
        config_errors_add(b->errors, &named->place,
                          "\"%.*s\" is not a host name; name one like mail.contoso.test or *.contoso.test",
                          STR_ARG(str_take(named->name, 80)));
    return build_copy(b, is_wildcard ? str_make(normal, length + 2) : str_make(normal + 2, length));
}

void build_server_tls(struct build *b, const struct settings_server *s, struct config_server_tls *tls)
{
    const struct settings_tls *from = &s->tls;
    const struct settings_certificate *names = from->names.items;
    struct config_certificate *certificates;

    *tls = (struct config_server_tls){.mode = (enum config_tls_mode)from->mode,
                                      .version_min = (enum config_tls_version)from->version_min,
                                      .client_certificates = from->client_certificates};
    if (tls->mode == CONFIG_TLS_NONE)
        return;
    if (from->certificate.length == 0 || from->key.length == 0) {
        config_errors_add(b->errors, build_key_place(from->head.node, "mode"),
                          "servers.%.*s.tls: wants a certificate and a key, or mode: none", STR_ARG(s->named.name));
        return;
    }
    certificates = build_alloc(b, (from->names.count + 1) * sizeof(*certificates));
    certificates[0] = copy_certificate(b, from->head.node, from->certificate, from->key);
    for (size_t i = 0; i < from->names.count; i++) {
        if (names[i].certificate.length == 0 || names[i].key.length == 0)
            continue; /* told already */
        certificates[i + 1] = copy_certificate(b, names[i].named.head.node, names[i].certificate, names[i].key);
        certificates[i + 1].name = normal_name(b, &names[i].named);
    }
    tls->certificates = certificates;
    tls->certificate_count = from->names.count + 1;
}

/* ---- authentication ---- */

static const struct {
    const char *name;
    enum config_mechanism mechanism;
} mechanism_names[] = {
    {"PLAIN", CONFIG_MECHANISM_PLAIN},
    {"LOGIN", CONFIG_MECHANISM_LOGIN},
    {"SCRAM-SHA-256", CONFIG_MECHANISM_SCRAM_SHA_256},
    {"SCRAM-SHA-256-PLUS", CONFIG_MECHANISM_SCRAM_SHA_256_PLUS},
    {"GSSAPI", CONFIG_MECHANISM_GSSAPI},
    {"EXTERNAL", CONFIG_MECHANISM_EXTERNAL},
};

static unsigned mechanism_of(struct str name)
{
    for (size_t i = 0; i < sizeof(mechanism_names) / sizeof(mechanism_names[0]); i++)
        if (str_equal_nocase(name, str_from_cstr(mechanism_names[i].name)))
            return mechanism_names[i].mechanism;
    return 0;
}

unsigned build_mechanisms(struct build *b, const struct schema_list *list, const char *path, unsigned allowed)
{
    const struct str *names = list->items;
    unsigned mechanisms = 0;
    char wanted[128] = "";
    size_t length = 0;

    for (size_t i = 0; i < sizeof(mechanism_names) / sizeof(mechanism_names[0]); i++)
        if (mechanism_names[i].mechanism & allowed)
            length += (size_t)snprintf(wanted + length, sizeof(wanted) - length, "%s%s", length > 0 ? ", " : "",
                                       mechanism_names[i].name);
    for (size_t i = 0; i < list->count; i++) {
        unsigned mechanism = mechanism_of(names[i]) & allowed;

        if (mechanism == 0)
            config_errors_add(b->errors, list->node ? &list->node->list.items[i]->place : NULL,
                              "%s[%zu]: wants one of %s, not \"%.*s\"", path, i, wanted,
                              STR_ARG(str_take(names[i], 80)));
        mechanisms |= mechanism;
    }
    return mechanisms;
}

void build_server_auth(struct build *b, const struct settings_server *s, struct config_server_auth *auth)
{
    const struct settings_auth *from = &s->auth;
    char path[BUILD_PATH_BYTES];

    *auth = (struct config_server_auth){
        .require_tls = from->require_tls, .keytab = build_copy(b, from->keytab), .realm = build_copy(b, from->realm)};
    snprintf(path, sizeof(path), "servers.%.*s.auth.mechanisms", STR_ARG(s->named.name));
    auth->mechanisms = build_mechanisms(b, &from->mechanisms, path, UINT_MAX);
}

/* ---- the directory ---- */

static void build_ldap(struct build *b, struct config_ldap *ldap)
{
    const struct settings_ldap *s = &b->settings->directory.ldap;
    struct str rest = s->url;
    size_t count = 1;
    struct str *urls, *attributes;

    for (size_t i = 0; i < s->url.length; i++)
        count += s->url.data[i] == ' ';
    urls = build_alloc(b, count * sizeof(*urls));
    for (struct str url; rest.data;) {
        url = str_split(&rest, ' ');
        if (url.length == 0)
            continue;
        if (!str_starts_with(url, STR("ldaps://")) && !str_starts_with(url, STR("ldap://")) &&
            !str_starts_with(url, STR("ldapi://")))
            config_errors_add(b->errors, build_key_place(s->head.node, "url"),
                              "directory.ldap.url: wants ldaps://HOST, ldap://HOST or ldapi://SOCKET, not \"%.*s\"",
                              STR_ARG(str_take(url, 80)));
        urls[ldap->url_count++] = build_copy(b, url);
    }
    if (ldap->url_count == 0 || s->base.length == 0)
        config_errors_add(b->errors, build_key_place(b->settings->directory.head.node, "backend"),
                          "directory.backend: ldap wants directory.ldap.url and directory.ldap.base");
    attributes = build_alloc(b, s->address_attributes.count * sizeof(*attributes));
    for (size_t i = 0; i < s->address_attributes.count; i++)
        attributes[i] = build_copy(b, ((const struct str *)s->address_attributes.items)[i]);
    ldap->urls = urls;
    ldap->start_tls = s->start_tls;
    ldap->ca_file = build_copy(b, s->ca_file);
    ldap->bind_dn = build_copy(b, s->bind_dn);
    ldap->bind_password = build_secret(b, s->head.node, "bind-password", s->bind_password, s->bind_password_file);
    ldap->base = build_copy(b, s->base);
    ldap->user_filter = build_copy(b, s->user_filter);
    ldap->recipient_filter = build_copy(b, s->recipient_filter);
    ldap->certificate_filter = build_copy(b, s->certificate_filter);
    ldap->user_attribute = build_copy(b, s->user_attribute);
    ldap->group_attribute = build_copy(b, s->group_attribute);
    ldap->address_attributes = attributes;
    ldap->address_attribute_count = s->address_attributes.count;
    ldap->timeout_ms = s->timeout_ms;
}

void build_directory(struct build *b)
{
    const struct settings_directory *s = &b->settings->directory;
    struct config_directory *directory = &b->config->directory;
    char path[4200];

    *directory = (struct config_directory){.backend = (enum config_directory_backend)s->backend,
                                           .timeout_ms = s->timeout_ms,
                                           .cache_entries = s->cache.entries,
                                           .cache_positive_ms = s->cache.positive_ms,
                                           .cache_negative_ms = s->cache.negative_ms,
                                           .workers = s->workers};
    switch (directory->backend) {
    case CONFIG_DIRECTORY_SQLITE:
        snprintf(path, sizeof(path), "%s/directory.db", b->config->data_dir.data);
        directory->path = build_copy(b, str_from_cstr(path));
        break;
    case CONFIG_DIRECTORY_FILE:
        directory->path = build_copy(b, s->file);
        if (s->file.length == 0)
            config_errors_add(b->errors, build_key_place(s->head.node, "backend"),
                              "directory.backend: file wants directory.file, the map's path");
        break;
    case CONFIG_DIRECTORY_LDAP:
        directory->path = STR("");
        break;
    }
    if (directory->backend == CONFIG_DIRECTORY_LDAP)
        build_ldap(b, &directory->ldap);
    b->config->brakes = b->settings->brakes.brakes;
    b->config->sandbox = (enum config_sandbox)b->settings->sandbox;
}
