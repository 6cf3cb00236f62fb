/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/domain.h"

#include "mail/text.h"

#include <idn2.h>
#include <stdlib.h>

static bool is_label_byte(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c) || c == '-' || c == '_';
}

static bool is_label(struct str label)
{
    return label.length > 0 && label.length <= DOMAIN_LABEL_OCTETS_MAX && label.data[0] != '-' &&
           label.data[label.length - 1] != '-';
}

/* What inet_aton takes for a part of an address: 10, 010, 0xa. */
static bool is_number(struct str label)
{
    const bool is_hex = label.length > 2 && label.data[0] == '0' && label.data[1] == 'x';

    for (size_t i = is_hex ? 2 : 0; i < label.length; i++) {
        const char c = label.data[i];

        if (!ascii_is_digit(c) && !(is_hex && c >= 'a' && c <= 'f'))
            return false;
    }
    return true;
}

/* Checks an ASCII name and writes it in lower case. */
static size_t normalize_ascii(struct str name, char normal[DOMAIN_TEXT_BYTES])
{
    size_t label_start = 0;

    if (name.length > 0 && name.data[name.length - 1] == '.')
        name.length--;
    if (name.length == 0 || name.length > DOMAIN_OCTETS_MAX)
        return 0;
    for (size_t i = 0; i < name.length; i++) {
        const char c = name.data[i];

        if (c == '.') {
            if (!is_label(str_make(normal + label_start, i - label_start)))
                return 0;
            label_start = i + 1;
        } else if (!is_label_byte(c)) {
            return 0;
        }
        normal[i] = ascii_lower(c);
    }
    const struct str last = str_make(normal + label_start, name.length - label_start);

    if (!is_label(last) || is_number(last))
        return 0;
    normal[name.length] = '\0';
    return name.length;
}

size_t domain_normalize(struct str domain, char normal[DOMAIN_TEXT_BYTES])
{
    char text[DOMAIN_INPUT_OCTETS_MAX + 1];
    char *a_labels = NULL;
    size_t length;

    if (text_is_ascii(domain))
        return normalize_ascii(domain, normal);
    if (domain.length > DOMAIN_INPUT_OCTETS_MAX || memchr(domain.data, '\0', domain.length))
        return 0;
    memcpy(text, domain.data, domain.length);
    text[domain.length] = '\0';
    if (idn2_to_ascii_8z(text, &a_labels, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK)
        return 0;
    length = normalize_ascii(str_from_cstr(a_labels), normal);
    idn2_free(a_labels);
    return length;
}

bool domain_is_below(struct str domain, struct str ancestor)
{
    if (str_is_empty(ancestor))
        return !str_is_empty(domain);
    if (domain.length <= ancestor.length + 1)
        return false;
    const size_t dot = domain.length - ancestor.length - 1;

    return domain.data[dot] == '.' && memcmp(domain.data + dot + 1, ancestor.data, ancestor.length) == 0;
}

bool domain_matches(struct str domain, struct str pattern)
{
    if (str_starts_with(pattern, STR("*.")))
        return domain_is_below(domain, str_skip(pattern, 2));
    return str_equal(domain, pattern);
}
