/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/ldap_filter.h"

/* ---- making one ---- */

static bool is_plain(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c) || c == '@' || c == '.' || c == '-' || c == '_' || c == '+';
}

void ldap_filter_escape(struct buf *out, struct str value)
{
    for (size_t i = 0; i < value.length; i++) {
        if (is_plain(value.data[i]))
            buf_append_char(out, value.data[i]);
        else
            buf_printf(out, "\\%02x", (unsigned char)value.data[i]);
    }
}

void ldap_filter_append(struct buf *out, struct str template, struct str value)
{
    template = str_trim(template); /* libldap takes white space inside, but not around */
    for (size_t i = 0; i < template.length; i++) {
        if (template.data[i] != '%') {
            buf_append_char(out, template.data[i]);
            continue;
        }
        i++; /* the check saw to it that one follows */
        if (template.data[i] == 's')
            ldap_filter_escape(out, value);
        else
            buf_append_char(out, '%');
    }
}

/* ---- checking a template: the grammar of RFC 4515 section 3, by recursive descent ---- */

struct parser {
    struct str text;
    size_t at;
    size_t place_count;
    const char *fault; /* the first; nothing is read on after it */
};

static void parse_filter(struct parser *p, unsigned depth);

static char next(const struct parser *p)
{
    return p->at < p->text.length ? p->text.data[p->at] : '\0';
}

static bool take(struct parser *p, char c)
{
    if (next(p) != c || p->at >= p->text.length)
        return false;
    p->at++;
    return true;
}

static void fail(struct parser *p, const char *fault)
{
    if (!p->fault)
        p->fault = fault;
}

/* Not in the grammar, but long filters are written in several lines. */
static void skip_space(struct parser *p)
{
    while (take(p, ' ') || take(p, '\t') || take(p, '\n'))
        continue;
}

static bool is_name_char(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c) || c == '-';
}

static size_t take_name(struct parser *p)
{
    const size_t start = p->at;

    while (is_name_char(next(p)))
        p->at++;
    return p->at - start;
}

/* 1.2.840, without leading zeros */
static void parse_number(struct parser *p)
{
    do {
        const size_t start = p->at;

        while (ascii_is_digit(next(p)))
            p->at++;
        if (p->at == start || (p->text.data[start] == '0' && p->at - start > 1))
            fail(p, "a number of an object identifier is wanted");
    } while (!p->fault && take(p, '.'));
}

/* The name of an attribute or a matching rule, or its number. */
static void parse_identifier(struct parser *p)
{
    if (ascii_is_digit(next(p)))
        parse_number(p);
    else if (ascii_is_alpha(next(p)))
        take_name(p);
    else
        fail(p, "an attribute's name is wanted");
}

static bool is_hex(char c)
{
    return ascii_is_digit(c) || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'f');
}

static void parse_escape(struct parser *p)
{
    for (int i = 0; i < 2; i++)
        if (is_hex(next(p)))
            p->at++;
        else
            fail(p, "\\ wants two hexadecimal digits");
}

static void parse_place(struct parser *p)
{
    if (take(p, '%'))
        return;
    if (!take(p, 's'))
        fail(p, "after % only s and % may stand");
    else if (++p->place_count > LDAP_FILTER_PLACES_MAX)
        fail(p, "%s stands too often");
}

/* An assertion value, or with `may_have_stars` the parts of a substring filter. */
static void parse_value(struct parser *p, bool may_have_stars)
{
    bool after_star = false;

    while (!p->fault && p->at < p->text.length && next(p) != ')') {
        const char c = next(p);

        if (c == '\0' || c == '(' || (c == '*' && (!may_have_stars || after_star))) {
            fail(p, c == '('   ? "( in a value must be written \\28"
                    : c == '*' ? "* in a value must be written \\2a"
                               : "a NUL");
            return;
        }
        p->at++;
        after_star = c == '*';
        if (c == '\\')
            parse_escape(p);
        else if (c == '%')
            parse_place(p);
    }
}

/* [attribute][:dn][:rule]:=value, with the attribute read already. */
static void parse_extensible(struct parser *p, bool has_attribute)
{
    bool has_rule = false;

    if (str_starts_with_nocase(str_skip(p->text, p->at), STR("dn:")))
        p->at += 3;
    if (next(p) != '=') {
        parse_identifier(p);
        has_rule = true;
        if (!p->fault && !take(p, ':'))
            fail(p, ":= is wanted");
    }
    if (!p->fault && !take(p, '='))
        fail(p, ":= is wanted");
    if (!has_attribute && !has_rule)
        fail(p, "an attribute or a matching rule is wanted");
    parse_value(p, false);
}

static void parse_item(struct parser *p)
{
    if (take(p, ':')) {
        parse_extensible(p, false);
        return;
    }
    parse_identifier(p);
    while (!p->fault && take(p, ';'))
        if (take_name(p) == 0)
            fail(p, "an attribute's option is wanted");
    if (p->fault)
        return;
    if (take(p, ':')) {
        parse_extensible(p, true);
        return;
    }
    if (take(p, '=')) {
        parse_value(p, true);
        return;
    }
    if (!take(p, '~') && !take(p, '<') && !take(p, '>'))
        fail(p, "=, ~=, <=, >= or := is wanted");
    else if (!take(p, '='))
        fail(p, "= is wanted");
    parse_value(p, false);
}

static void parse_list(struct parser *p, unsigned depth)
{
    do {
        parse_filter(p, depth);
        skip_space(p);
    } while (!p->fault && next(p) == '(');
}

static void parse_filter(struct parser *p, unsigned depth)
{
    skip_space(p);
    if (!take(p, '('))
        fail(p, "( is wanted");
    else if (depth == 0)
        fail(p, "the filter is nested too deeply");
    if (p->fault)
        return;
    if (take(p, '&') || take(p, '|')) {
        parse_list(p, depth - 1);
    } else if (take(p, '!')) {
        parse_filter(p, depth - 1);
        skip_space(p);
    } else {
        parse_item(p);
    }
    if (!p->fault && !take(p, ')'))
        fail(p, ") is wanted");
}

int ldap_filter_check(struct str template, struct error *error)
{
    struct parser p = {.text = template};

    if (template.length > LDAP_FILTER_TEMPLATE_BYTES_MAX)
        return error_set(error, "the filter is longer than %u octets", LDAP_FILTER_TEMPLATE_BYTES_MAX);
    parse_filter(&p, LDAP_FILTER_DEPTH_MAX);
    if (!p.fault) {
        skip_space(&p);
        if (p.at < template.length)
            fail(&p, "nothing may follow the filter's last )");
    }
    if (p.fault)
        return error_set(error, "the filter is wrong at character %zu: %s", p.at + 1, p.fault);
    if (p.place_count == 0)
        return error_set(error, "the filter has no %%s: it would find the same for everybody");
    return 0;
}
