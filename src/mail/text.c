/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/text.h"

bool text_is_ascii(struct str s)
{
    unsigned char seen = 0;

    for (size_t i = 0; i < s.length; i++)
        seen |= (unsigned char)s.data[i];
    return seen < 0x80;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct str text_trim_blanks(struct str s)
{
    while (s.length > 0 && is_blank(s.data[0]))
        s = str_skip(s, 1);
    while (s.length > 0 && is_blank(s.data[s.length - 1]))
        s.length--;
    return s;
}

static bool is_continuation(unsigned char c)
{
    return (c & 0xc0) == 0x80;
}

size_t text_utf8_length(struct str s)
{
    const unsigned char *p = (const unsigned char *)s.data;
    size_t length;
    uint32_t value;
    uint32_t value_min;

    if (s.length == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        length = 2;
        value = p[0] & 0x1fu;
        value_min = 0xa0; /* 0x80 to 0x9f are the C1 controls */
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        length = 3;
        value = p[0] & 0x0fu;
        value_min = 0x800;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        length = 4;
        value = p[0] & 0x07u;
        value_min = 0x10000;
    } else {
        return 0;
    }
    if (s.length < length)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if (!is_continuation(p[i]))
            return 0;
        value = value << 6 | (p[i] & 0x3fu);
    }
    if (value < value_min || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
        return 0;
    return length;
}

void text_append_clean(struct buf *out, struct str s, size_t octets_max, bool ascii_only)
{
    size_t used = 0;

    for (size_t i = 0; i < s.length && used < octets_max;) {
        const unsigned char c = (unsigned char)s.data[i];
        const size_t length = text_utf8_length(str_skip(s, i));

        if (length > 1 && !ascii_only) {
            if (used + length > octets_max)
                return;
            buf_append(out, s.data + i, length);
            used += length;
        } else {
            if (c == '\t')
                buf_append_char(out, ' ');
            else
                buf_append_char(out, length != 1 || c < 0x20 || c == 0x7f ? '?' : (char)c);
            used++;
        }
        i += length > 0 ? length : 1;
    }
}
