/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

bool str_equal_nocase(struct str a, struct str b)
{
    if (a.length != b.length)
        return false;
    for (size_t i = 0; i < a.length; i++) {
        if (ascii_lower(a.data[i]) != ascii_lower(b.data[i]))
            return false;
    }
    return true;
}

bool str_starts_with(struct str s, struct str prefix)
{
    return s.length >= prefix.length && str_equal(str_take(s, prefix.length), prefix);
}

bool str_starts_with_nocase(struct str s, struct str prefix)
{
    return s.length >= prefix.length && str_equal_nocase(str_take(s, prefix.length), prefix);
}

bool str_ends_with(struct str s, struct str suffix)
{
    return s.length >= suffix.length && str_equal(str_skip(s, s.length - suffix.length), suffix);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct str str_trim(struct str s)
{
    while (s.length > 0 && is_blank(s.data[s.length - 1]))
        s.length--;
    while (s.length > 0 && is_blank(s.data[0]))
        s = str_skip(s, 1);
    return s;
}

size_t str_find(struct str s, char c)
{
    const char *at = s.length > 0 ? memchr(s.data, c, s.length) : NULL;

    return at ? (size_t)(at - s.data) : STR_NONE;
}

size_t str_find_last(struct str s, char c)
{
    const char *at = s.length > 0 ? memrchr(s.data, c, s.length) : NULL;

    return at ? (size_t)(at - s.data) : STR_NONE;
}

struct str str_split(struct str *rest, char separator)
{
    struct str whole = *rest;
    size_t at = str_find(whole, separator);

    if (at == STR_NONE) {
        *rest = (struct str){NULL, 0};
        return whole;
    }
    *rest = str_skip(whole, at + 1);
    return str_take(whole, at);
}

bool str_to_u64(struct str s, uint64_t *value)
{
    uint64_t result = 0;

    if (s.length == 0)
        return false;
    for (size_t i = 0; i < s.length; i++) {
        uint64_t digit;

        if (!ascii_is_digit(s.data[i]))
            return false;
        digit = (uint64_t)(s.data[i] - '0');
        if (result > (UINT64_MAX - digit) / 10)
            return false;
        result = result * 10 + digit;
    }
    *value = result;
    return true;
}

int str_compare(struct str a, struct str b)
{
    size_t common = a.length < b.length ? a.length : b.length;
    int order = common > 0 ? memcmp(a.data, b.data, common) : 0;

    if (order != 0)
        return order;
    return (a.length > b.length) - (a.length < b.length);
}
