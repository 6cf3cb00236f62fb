/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/names.h"

#include "mail/text.h"

bool directory_is_name(struct str name)
{
    if (name.length == 0 || name.length > DIRECTORY_NAME_BYTES_MAX)
        return false;
    while (name.length > 0) {
        size_t length = text_utf8_length(name);

        if (length == 0 || (unsigned char)name.data[0] <= ' ' || name.data[0] == 0x7f)
            return false;
        name = str_skip(name, length);
    }
    return true;
}

/* Lower case, and the domain in normal form; what only looks like one is left as it is. */
static size_t fold(struct str given, char folded[DIRECTORY_FORM_BYTES])
{
    size_t at = str_find_last(given, '@');
    size_t length = 0;

    for (size_t i = 0; i < given.length; i++)
        folded[length++] = ascii_lower(given.data[i]);
    if (at != STR_NONE) {
        size_t domain_length = domain_normalize(str_skip(given, at + 1), folded + at + 1);

        if (domain_length > 0)
            return at + 1 + domain_length;
        for (size_t i = at; i < given.length; i++)
            folded[i] = ascii_lower(given.data[i]);
    }
    folded[length] = '\0';
    return length;
}

/* The length of USER in USER@default-domain; 0 if it is another name. */
static size_t bare_length(struct str folded, struct str default_domain)
{
    size_t at = str_find_last(folded, '@');

    if (at == STR_NONE || default_domain.length == 0 || !str_equal(str_skip(folded, at + 1), default_domain))
        return 0;
    return at;
}

bool directory_name_init(struct directory_name_forms *forms, struct str given, struct str default_domain)
{
    struct directory_name *name = &forms->name;
    size_t bare;

    if (!directory_is_name(given))
        return false;
    *name = (struct directory_name){.given = given, .form_count = 1};
    name->forms[0] = str_make(forms->text[0], fold(given, forms->text[0]));
    bare = bare_length(name->forms[0], default_domain);
    if (bare > 0) {
        memcpy(forms->text[1], forms->text[0], bare);
        forms->text[1][bare] = '\0';
        name->forms[name->form_count++] = str_make(forms->text[1], bare);
    } else if (default_domain.length > 0 && str_find(name->forms[0], '@') == STR_NONE) {
        int length = snprintf(forms->text[1], sizeof(forms->text[1]), "%.*s@%.*s", STR_ARG(name->forms[0]),
                              STR_ARG(default_domain));

        name->forms[name->form_count++] = str_make(forms->text[1], (size_t)length);
    }
    return true;
}

size_t directory_normal_name(struct str given, struct str default_domain, char normal[DIRECTORY_FORM_BYTES])
{
    size_t length, bare;

    if (!directory_is_name(given))
        return 0;
    length = fold(given, normal);
    bare = bare_length(str_make(normal, length), default_domain);
    if (bare > 0)
        length = bare;
    normal[length] = '\0';
    return length;
}

static void set_key(struct directory_address_key *key, size_t local_length, size_t length)
{
    key->address = (struct directory_address){
        .normal = str_make(key->text, length),
        .local = str_make(key->text, local_length),
        .domain = str_make(key->text + local_length + 1, length - local_length - 1),
    };
}

bool directory_address_init(struct directory_address_key *key, struct str address)
{
    struct address parsed;

    if (!address_parse_stored(&parsed, address) || parsed.domain_kind != ADDRESS_DOMAIN_NAME)
        return false;
    set_key(key, parsed.local_length, address_key(&parsed, key->text));
    return true;
}

bool directory_recipient_init(struct directory_address_key *key, struct str text, bool *is_pattern)
{
    struct str local, rest;
    size_t star;

    *is_pattern = false;
    if (!directory_address_init(key, text))
        return false;
    local = key->address.local;
    star = str_find(local, '*');
    if (text.data[0] == '"' || star == STR_NONE)
        return true;
    if (star + 1 != local.length)
        return false;
    *is_pattern = true;
    rest = str_skip(key->address.normal, local.length); /* "@domain" */
    memmove(key->text + star, rest.data, rest.length + 1);
    set_key(key, star, star + rest.length);
    return true;
}
