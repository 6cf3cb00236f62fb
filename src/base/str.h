/* SPDX-License-Identifier: Apache-2.0 */
/*
 * str: a view of bytes with a length. It owns nothing and needs no terminator; it is valid as long as what it points
 * into. Text from the network is carried only this way, so a NUL inside it ends nothing. Pure, any thread.
 */
#ifndef POSTERN_BASE_STR_H
#define POSTERN_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *data;
    size_t length;
};

/* A view of a string literal. */
#define STR(literal) ((struct str){"" literal, sizeof(literal) - 1})
/* The same in a static initializer. */
/* clang-format off */
#define STR_INIT(literal) {"" literal, sizeof(literal) - 1}
/* clang-format on */
/* For printf: "%.*s", STR_ARG(s). Views over INT_MAX are never printed: callers bound them. */
#define STR_ARG(s) ((int)(s).length), ((s).data ? (s).data : "")

static inline struct str str_make(const char *data, size_t length)
{
    return (struct str){data, length};
}

static inline struct str str_from_cstr(const char *text)
{
    return (struct str){text, text ? strlen(text) : 0};
}

static inline bool str_is_empty(struct str s)
{
    return s.length == 0;
}

static inline bool str_equal(struct str a, struct str b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

/* The bytes from `start` (clamped to the length) to the end; and the first `length` bytes (clamped). */
static inline struct str str_skip(struct str s, size_t start)
{
    if (start > s.length)
        start = s.length;
    /* An empty view's data may be NULL, to which nothing may be added, not even 0. */
    return start == 0 ? s : (struct str){s.data + start, s.length - start};
}

static inline struct str str_take(struct str s, size_t length)
{
    return (struct str){s.data, length < s.length ? length : s.length};
}

/* ASCII only, whatever the locale: SMTP's case folding never touches other bytes. */
static inline char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static inline bool ascii_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline bool ascii_is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool str_equal_nocase(struct str a, struct str b);
bool str_starts_with(struct str s, struct str prefix);
bool str_starts_with_nocase(struct str s, struct str prefix);
bool str_ends_with(struct str s, struct str suffix);
/* Without leading and trailing spaces, tabs, CR and LF. */
struct str str_trim(struct str s);

#define STR_NONE SIZE_MAX
/* Position of the first (last) `c`, or STR_NONE. */
size_t str_find(struct str s, char c);
size_t str_find_last(struct str s, char c);

/* Cuts `*rest` at the first `separator`: returns what stands before it, leaves what follows in `*rest`. Without one,
 * returns all and leaves `*rest` empty with data NULL, which tells the end from an empty last part. */
struct str str_split(struct str *rest, char separator);

/* Whole decimal numbers, no sign, no spaces: false on an empty string, another byte or overflow. */
bool str_to_u64(struct str s, uint64_t *value);

/* Bytes-wise order as memcmp, the shorter first on a tie: <0, 0, >0. */
int str_compare(struct str a, struct str b);

#endif
