/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/address.h"

#include "mail/text.h"

#include <arpa/inet.h>
#include <stdio.h>

/* The longest text between a literal's brackets: an IPv6 address with its tag. */
#define LITERAL_OCTETS_MAX (INET6_ADDRSTRLEN + 5)

static const unsigned char ipv4_mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* RFC 5322 atext, and the dot. What is not ASCII is looked at elsewhere. */
static const bool local_bytes[256] = {
    ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true, ['#' ... '\''] = true, ['^' ... '`'] = true,
    ['{' ... '~'] = true, ['!'] = true,         ['*'] = true,         ['+'] = true,          ['-'] = true,
    ['.'] = true,         ['/'] = true,         ['='] = true,         ['?'] = true,
};

/* A hop of a source route is thrown away, so only its end has to be found. */
static size_t route_hop_length(struct str s)
{
    size_t i = 0;

    if (s.length > 0 && s.data[0] == '[') {
        const size_t end = str_find(s, ']');

        return end == STR_NONE ? 0 : end + 1;
    }
    while (i < s.length && (ascii_is_alpha(s.data[i]) || ascii_is_digit(s.data[i]) || s.data[i] == '-' ||
                            s.data[i] == '_' || s.data[i] == '.' || (unsigned char)s.data[i] >= 0x80))
        i++;
    return i;
}

/* Drops "@a,@b:" (RFC 5321 appendix C). */
static bool drop_source_route(struct str *path)
{
    struct str rest = *path;

    if (rest.length == 0 || rest.data[0] != '@')
        return true;
    while (rest.length > 0 && rest.data[0] == '@') {
        const size_t hop = route_hop_length(str_skip(rest, 1));
        const char after = 1 + hop < rest.length ? rest.data[1 + hop] : '\0';

        if (hop == 0 || (after != ',' && after != ':'))
            return false;
        rest = str_skip(rest, 1 + hop + 1);
        if (after == ':') {
            *path = rest;
            return true;
        }
    }
    return false;
}

static bool put_local(struct address *a, const char *data, size_t length)
{
    if (a->local_length + length > sizeof(a->local))
        return false;
    memcpy(a->local + a->local_length, data, length);
    a->local_length = (uint16_t)(a->local_length + length);
    return true;
}

/* Both take the local part off the front of `*path`, up to its "@" or its end. */
static bool take_bare_local(struct address *a, struct str *path)
{
    size_t i = 0;

    while (i < path->length && path->data[i] != '@') {
        const size_t length = local_bytes[(unsigned char)path->data[i]] ? 1 : text_utf8_length(str_skip(*path, i));

        if (length == 0 || (length == 1 && !local_bytes[(unsigned char)path->data[i]]))
            return false;
        i += length;
    }
    if (!put_local(a, path->data, i))
        return false;
    *path = str_skip(*path, i);
    return true;
}

static bool take_quoted_local(struct address *a, struct str *path)
{
    size_t i = 1;

    while (i < path->length && path->data[i] != '"') {
        const bool is_pair = path->data[i] == '\\';
        const struct str rest = str_skip(*path, is_pair ? ++i : i);
        const size_t length = text_utf8_length(rest);

        if (length == 0 || (is_pair && length > 1) || (length == 1 && (rest.data[0] < ' ' || rest.data[0] == 0x7f)))
            return false;
        if (!put_local(a, rest.data, length))
            return false;
        i += length;
    }
    if (i >= path->length)
        return false;
    *path = str_skip(*path, i + 1);
    a->is_quoted = true;
    return path->length == 0 || path->data[0] == '@';
}

static void set_ipv4(struct address *a, const unsigned char ipv4[4])
{
    a->domain_kind = ADDRESS_DOMAIN_IPV4;
    memcpy(a->ip, ipv4_mapped_prefix, sizeof(ipv4_mapped_prefix));
    memcpy(a->ip + sizeof(ipv4_mapped_prefix), ipv4, 4);
    a->domain_length =
        (uint16_t)snprintf(a->domain, sizeof(a->domain), "[%u.%u.%u.%u]", ipv4[0], ipv4[1], ipv4[2], ipv4[3]);
}

static void set_ipv6(struct address *a, const unsigned char ipv6[16])
{
    char text[INET6_ADDRSTRLEN];

    /* As everywhere in Postern, an IPv4-mapped address is the IPv4 address. */
    if (memcmp(ipv6, ipv4_mapped_prefix, sizeof(ipv4_mapped_prefix)) == 0) {
        set_ipv4(a, ipv6 + sizeof(ipv4_mapped_prefix));
        return;
    }
    a->domain_kind = ADDRESS_DOMAIN_IPV6;
    memcpy(a->ip, ipv6, sizeof(a->ip));
    inet_ntop(AF_INET6, ipv6, text, sizeof(text));
    a->domain_length = (uint16_t)snprintf(a->domain, sizeof(a->domain), "[IPv6:%s]", text);
}

/* An IP address in dots or colons, without brackets. */
static bool parse_ip(int family, struct str text, unsigned char ip[16])
{
    char terminated[LITERAL_OCTETS_MAX + 1];

    if (text.length >= sizeof(terminated) || memchr(text.data, '\0', text.length))
        return false;
    memcpy(terminated, text.data, text.length);
    terminated[text.length] = '\0';
    return inet_pton(family, terminated, ip) == 1;
}

static bool parse_literal(struct address *a, struct str literal)
{
    unsigned char ip[16];

    if (literal.length < 2 || literal.data[literal.length - 1] != ']')
        return false;
    const struct str inner = str_make(literal.data + 1, literal.length - 2);

    if (str_starts_with_nocase(inner, STR("IPv6:"))) {
        if (!parse_ip(AF_INET6, str_skip(inner, 5), ip))
            return false;
        set_ipv6(a, ip);
        return true;
    }
    if (!parse_ip(AF_INET, inner, ip))
        return false;
    set_ipv4(a, ip);
    return true;
}

static bool parse_domain(struct address *a, struct str domain)
{
    unsigned char ip[16];

    if (str_is_empty(domain))
        return false;
    if (domain.data[0] == '[')
        return parse_literal(a, domain);
    if (ascii_is_digit(domain.data[0]) && parse_ip(AF_INET, domain, ip)) {
        a->is_literal_bare = true;
        set_ipv4(a, ip);
        return true;
    }
    a->domain_kind = ADDRESS_DOMAIN_NAME;
    a->domain_length = (uint16_t)domain_normalize(domain, a->domain);
    return a->domain_length > 0;
}

static void put_text(struct address *a, struct str s)
{
    memcpy(a->text + a->text_length, s.data, s.length);
    a->text_length = (uint16_t)(a->text_length + s.length);
}

/* `default_domain` was checked to fit. */
static void qualify(struct address *a, struct str default_domain)
{
    a->is_unqualified = true;
    if (str_is_empty(default_domain))
        return;
    a->domain_kind = ADDRESS_DOMAIN_NAME;
    memcpy(a->domain, default_domain.data, default_domain.length);
    a->domain_length = (uint16_t)default_domain.length;
    put_text(a, STR("@"));
    put_text(a, default_domain);
}

static void reset(struct address *a)
{
    /* The big arrays are left as they are: this runs for each recipient. */
    memset(a, 0, offsetof(struct address, local));
}

static void set_null(struct address *a)
{
    reset(a);
    a->is_null = true;
    put_text(a, STR("<>"));
}

/* LOCAL, LOCAL@DOMAIN or ROUTE:LOCAL@DOMAIN, without angle brackets. */
static bool parse_mailbox(struct address *a, struct str path, struct str default_domain)
{
    reset(a);
    if (default_domain.length > DOMAIN_OCTETS_MAX || !drop_source_route(&path) || str_is_empty(path))
        return false;

    const struct str text = path;

    if (path.data[0] == '"' ? !take_quoted_local(a, &path) : !take_bare_local(a, &path))
        return false;
    /* Only of stored text may it be longer than that, by quoted pairs that nobody's client can have sent. */
    if (a->local_length == 0 || text.length - path.length > ADDRESS_PATH_OCTETS_MAX)
        return false;
    a->local_text_length = (uint16_t)(text.length - path.length);
    a->needs_smtputf8 = !text_is_ascii(text);
    put_text(a, text);
    if (str_is_empty(path)) {
        qualify(a, default_domain);
        return true;
    }
    return parse_domain(a, str_skip(path, 1));
}

static bool parse_bracketed(struct address *a, struct str path, struct str default_domain, size_t octets_max)
{
    path = text_trim_blanks(path);
    if (path.length > 0 && path.data[0] == '<') {
        if (path.length < 2 || path.data[path.length - 1] != '>')
            return false;
        path = str_make(path.data + 1, path.length - 2);
        if (str_is_empty(path)) {
            set_null(a);
            return true;
        }
    }
    return path.length <= octets_max && parse_mailbox(a, path, default_domain);
}

bool address_parse(struct address *address, struct str path, struct str default_domain)
{
    return parse_bracketed(address, path, default_domain, ADDRESS_PATH_OCTETS_MAX);
}

bool address_parse_stored(struct address *address, struct str text)
{
    return parse_bracketed(address, text, (struct str){0}, sizeof(address->text));
}

/* The length of the path that starts `s`: to the ">" or, without brackets, to the first blank, neither of them within quotes. */
static size_t path_length(struct str s)
{
    const bool is_bracketed = s.length > 0 && s.data[0] == '<';
    bool is_quoted = false;

    for (size_t i = 0; i < s.length; i++) {
        const char c = s.data[i];

        if (c == '"')
            is_quoted = !is_quoted;
        else if (is_quoted && c == '\\')
            i++;
        else if (!is_quoted && is_bracketed && c == '>')
            return i + 1;
        else if (!is_quoted && !is_bracketed && (c == ' ' || c == '\t'))
            return i;
    }
    return s.length;
}

bool address_parse_path(struct address *address, struct str argument, struct str default_domain, struct str *rest)
{
    const struct str trimmed = text_trim_blanks(argument);
    const size_t length = path_length(trimmed);
    const struct str after = str_skip(trimmed, length);

    *rest = text_trim_blanks(after);
    if (rest->length > 0 && rest->length == after.length) /* something sticks to the ">" */
        return false;
    return address_parse(address, str_take(trimmed, length), default_domain);
}

bool address_is_postmaster(const struct address *address)
{
    return str_equal_nocase(address_local(address), STR("postmaster"));
}

static bool same_domain(const struct address *a, const struct address *b)
{
    return a->is_null == b->is_null && str_equal(address_domain(a), address_domain(b));
}

bool address_equal(const struct address *a, const struct address *b)
{
    return same_domain(a, b) && str_equal(address_local(a), address_local(b));
}

bool address_equal_nocase(const struct address *a, const struct address *b)
{
    return same_domain(a, b) && str_equal_nocase(address_local(a), address_local(b));
}

size_t address_key(const struct address *address, char key[ADDRESS_KEY_BYTES])
{
    size_t length = 0;

    for (size_t i = 0; i < address->local_length; i++)
        key[length++] = ascii_lower(address->local[i]);
    if (address->domain_length > 0)
        key[length++] = '@';
    memcpy(key + length, address->domain, address->domain_length);
    length += address->domain_length;
    key[length] = '\0';
    return length;
}
