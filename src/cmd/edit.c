/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/edit.h"

#include "directory/names.h"
#include "directory/settings.h"
#include "os/privileges.h"

enum exit_code edit_begin(struct edit *edit, const struct tool_options *options)
{
    *edit = (struct edit){.options = options, .config = tool_load_config(options->config_path)};
    if (!edit->config)
        return EXIT_COULD_NOT;
    switch (edit->config->directory.backend) {
    case CONFIG_DIRECTORY_SQLITE:
        return EXIT_DONE;
    case CONFIG_DIRECTORY_LDAP:
        fprintf(stderr, "postern: users and recipients are in the LDAP directory %.*s; make them there\n",
                STR_ARG(edit->config->directory.ldap.urls[0]));
        return EXIT_COULD_NOT;
    case CONFIG_DIRECTORY_FILE:
        fprintf(stderr, "postern: users and recipients are in the file %.*s; edit that, it is read again by itself\n",
                STR_ARG(edit->config->directory.path));
        return EXIT_COULD_NOT;
    }
    return EXIT_COULD_NOT;
}

static int become_user(const struct edit *edit, bool may_create, struct error *error)
{
    const char *user = edit->config->user.data;
    bool is_root = privileges_are_root();

    if (may_create && privileges_make_directory(edit->config->data_dir.data, is_root ? user : NULL, error) != 0)
        return -1;
    return is_root ? privileges_become(user, error) : 0;
}

static enum exit_code open_store(struct edit *edit, bool may_create)
{
    struct error error = {0};

    if (become_user(edit, may_create, &error) == 0 &&
        store_open(&edit->store, edit->config->directory.path.data, directory_default_domain(edit->config), may_create,
                   &error) == 0)
        return EXIT_DONE;
    fprintf(stderr, "postern: %s\n", error.text);
    return EXIT_COULD_NOT;
}

enum exit_code edit_open(struct edit *edit)
{
    return open_store(edit, true);
}

enum exit_code edit_open_to_read(struct edit *edit)
{
    return open_store(edit, false);
}

void edit_end(struct edit *edit)
{
    store_close(&edit->store);
    config_release(&edit->config);
}

enum exit_code edit_report(const struct edit *edit, enum store_result result, const struct error *error,
                           const char *done, struct str about)
{
    if (edit->options->json && result == STORE_DONE)
        tool_print_json(json_pack("{s:b, s:o}", "done", true, "about", tool_json_text(about)));
    else if (edit->options->json)
        tool_print_json(json_pack("{s:b, s:o, s:o}", "done", false, "about", tool_json_text(about), "error",
                                  tool_json_text(str_from_cstr(error->text))));
    else if (result == STORE_DONE)
        printf("%.*s: %s\n", STR_ARG(about), done);
    else
        fprintf(stderr, "postern: %s\n", error->text);
    return result == STORE_DONE ? EXIT_DONE : result == STORE_NO ? EXIT_NO : EXIT_COULD_NOT;
}

/* ---- names and addresses ---- */

static void warn_if_not_asked(const struct policy_domain *domain, struct str given)
{
    if (domain->recipients != POLICY_RECIPIENTS_DIRECTORY)
        fprintf(stderr,
                "postern: warning: \"recipients\" of %s%.*s is not \"directory\": the directory is not asked about "
                "%.*s\n",
                domain->is_wildcard ? "*." : "", STR_ARG(domain->name), STR_ARG(given));
}

int edit_take_address(const struct edit *edit, struct str given, bool must_be_asked,
                      char taken[ADDRESS_TEXT_OCTETS_MAX + 1])
{
    const struct policy_domain *domain = NULL;
    struct address address;
    struct str name;

    if (!address_parse(&address, given, directory_default_domain(edit->config)) ||
        address.domain_kind != ADDRESS_DOMAIN_NAME) {
        fprintf(stderr, "postern: \"%.*s\" is not an address; write LOCAL@DOMAIN\n", STR_ARG(str_take(given, 300)));
        return -1;
    }
    name = address_domain(&address);
    domain = policy_find_domain(edit->config->policy, name);
    domain = domain ? policy_resolve_domain(domain) : NULL;
    if (domain && domain->type == POLICY_DOMAIN_LOCAL && !domain->is_wildcard)
        name = domain->name;
    if (must_be_asked && !domain) {
        fprintf(stderr, "postern: %.*s is none of the configuration's domains: nobody would ask for %.*s\n",
                STR_ARG(name), STR_ARG(given));
        return -1;
    }
    if (must_be_asked)
        warn_if_not_asked(domain, given);
    snprintf(taken, ADDRESS_TEXT_OCTETS_MAX + 1, "%.*s@%.*s", STR_ARG(address_local_text(&address)), STR_ARG(name));
    return 0;
}

static int refuse_name(const struct error *error)
{
    fprintf(stderr, "postern: %s\n", error->text);
    return -1;
}

int edit_take_name(const struct edit *edit, const char *given, char taken[ADDRESS_TEXT_OCTETS_MAX + 1])
{
    struct str name = str_from_cstr(given);
    const struct policy_domain *domain;
    char normal[DOMAIN_TEXT_BYTES];
    struct error error;
    size_t at, length;

    if (store_check_name(name, &error) != 0)
        return refuse_name(&error);
    snprintf(taken, ADDRESS_TEXT_OCTETS_MAX + 1, "%s", given);
    at = str_find_last(name, '@');
    if (at == STR_NONE)
        return 0;
    length = domain_normalize(str_skip(name, at + 1), normal);
    domain = policy_find_domain(edit->config->policy, str_make(normal, length));
    domain = domain ? policy_resolve_domain(domain) : NULL;
    if (!domain || domain->type != POLICY_DOMAIN_LOCAL) {
        error_set(&error, "%s is no local domain: a user is USER, or USER@DOMAIN with a local domain", normal);
        return refuse_name(&error);
    }
    if (domain->is_default)
        snprintf(taken, ADDRESS_TEXT_OCTETS_MAX + 1, "%.*s", STR_ARG(str_take(name, at)));
    else if (!domain->is_wildcard)
        snprintf(taken, ADDRESS_TEXT_OCTETS_MAX + 1, "%.*s@%.*s", STR_ARG(str_take(name, at)), STR_ARG(domain->name));
    return 0;
}
