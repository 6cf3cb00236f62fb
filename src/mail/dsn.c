/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/dsn.h"

#include "mail/text.h"

static int hex_value(char c)
{
    if (ascii_is_digit(c))
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* With `out` NULL the decoders only check. */
static bool put(struct buf *out, const char *data, size_t length)
{
    return !out || buf_append(out, data, length);
}

static bool is_xchar(char c)
{
    return c > ' ' && c < 0x7f && c != '+' && c != '=';
}

bool dsn_xtext_decode(struct buf *out, struct str xtext)
{
    for (size_t i = 0; i < xtext.length; i++) {
        char c = xtext.data[i];

        if (c == '+') {
            if (i + 2 >= xtext.length)
                return false;

            const int high = hex_value(xtext.data[i + 1]);
            const int low = hex_value(xtext.data[i + 2]);

            if (high < 0 || low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (!is_xchar(c)) {
            return false;
        }
        if (!put(out, &c, 1))
            return false;
    }
    return true;
}

void dsn_xtext_encode(struct buf *out, struct str text)
{
    static const char digits[] = "0123456789ABCDEF";

    for (size_t i = 0; i < text.length; i++) {
        const unsigned char c = (unsigned char)text.data[i];

        if (is_xchar((char)c)) {
            buf_append_char(out, (char)c);
        } else {
            buf_append_char(out, '+');
            buf_append_char(out, digits[c >> 4]);
            buf_append_char(out, digits[c & 15]);
        }
    }
}

static size_t utf8_encode(uint32_t value, char out[4])
{
    if (value < 0x80) {
        out[0] = (char)value;
        return 1;
    }
    if (value < 0x800) {
        out[0] = (char)(0xc0 | value >> 6);
        out[1] = (char)(0x80 | (value & 0x3f));
        return 2;
    }
    if (value < 0x10000) {
        out[0] = (char)(0xe0 | value >> 12);
        out[1] = (char)(0x80 | (value >> 6 & 0x3f));
        out[2] = (char)(0x80 | (value & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | value >> 18);
    out[1] = (char)(0x80 | (value >> 12 & 0x3f));
    out[2] = (char)(0x80 | (value >> 6 & 0x3f));
    out[3] = (char)(0x80 | (value & 0x3f));
    return 4;
}

/* "\x{E9}", RFC 6533's EmbeddedUnicodeChar: appends the character and returns the escape's length, 0 if it is none. */
static size_t decode_embedded(struct buf *out, struct str s)
{
    const size_t end = str_find(str_take(s, 10), '}');
    uint32_t value = 0;
    char utf8[4];

    if (!str_starts_with(s, STR("\\x{")) || end == STR_NONE || end < 5)
        return 0;
    for (size_t i = 3; i < end; i++) {
        const int digit = hex_value(s.data[i]);

        if (digit < 0)
            return 0;
        value = value << 4 | (uint32_t)digit;
    }
    if (value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
        return 0;
    return put(out, utf8, utf8_encode(value, utf8)) ? end + 1 : 0;
}

static bool utf8_address_decode(struct buf *out, struct str s)
{
    while (s.length > 0) {
        size_t length;

        if (s.data[0] == '\\') {
            length = decode_embedded(out, s);
        } else {
            length = text_utf8_length(s);
            if (length == 1 && (s.data[0] <= ' ' || s.data[0] == 0x7f))
                return false;
            if (length > 0 && !put(out, s.data, length))
                return false;
        }
        if (length == 0)
            return false;
        s = str_skip(s, length);
    }
    return true;
}

static bool is_address_type(struct str type)
{
    for (size_t i = 0; i < type.length; i++)
        if (!ascii_is_alpha(type.data[i]) && !ascii_is_digit(type.data[i]) && type.data[i] != '-')
            return false;
    return type.length > 0;
}

bool dsn_orcpt_decode(struct buf *out, struct str value, struct str *type)
{
    struct str address = value;

    *type = str_split(&address, ';');
    if (value.length > DSN_ORCPT_OCTETS_MAX || !is_address_type(*type) || str_is_empty(address))
        return false;
    return str_equal_nocase(*type, STR("utf-8")) ? utf8_address_decode(out, address) : dsn_xtext_decode(out, address);
}

/* RFC 6533 3: QCHAR, and what else stands there escaped. */
static void embed(struct buf *out, struct str s)
{
    while (s.length > 0) {
        size_t length = text_utf8_length(s);
        unsigned char first = (unsigned char)s.data[0];
        uint32_t value = length <= 1 ? first : first & (0x7fu >> length);

        if (length == 0)
            length = 1; /* no UTF-8: it can't be told from the character of that number */
        for (size_t i = 1; i < length; i++)
            value = value << 6 | ((unsigned char)s.data[i] & 0x3f);
        if (length == 1 && is_xchar((char)first) && first != '\\')
            buf_append_char(out, (char)first);
        else
            buf_printf(out, "\\x{%02X}", value);
        s = str_skip(s, length);
    }
}

bool dsn_orcpt_encode(struct buf *out, struct str address)
{
    size_t before = out->length;

    if (text_is_ascii(address)) {
        buf_append_str(out, STR("rfc822;"));
        dsn_xtext_encode(out, address);
    } else {
        buf_append_str(out, STR("utf-8;"));
        embed(out, address);
    }
    return !out->overflowed && out->length - before <= DSN_ORCPT_OCTETS_MAX;
}

bool dsn_is_orcpt(struct str value)
{
    struct str type;

    return dsn_orcpt_decode(NULL, value, &type);
}

bool dsn_is_envid(struct str value)
{
    return value.length > 0 && value.length <= DSN_ENVID_OCTETS_MAX && dsn_xtext_decode(NULL, value);
}

bool dsn_parse_return(struct str value, enum dsn_return *result)
{
    if (str_equal_nocase(value, STR("FULL")))
        *result = DSN_RETURN_FULL;
    else if (str_equal_nocase(value, STR("HDRS")))
        *result = DSN_RETURN_HEADERS;
    else
        return false;
    return true;
}

static unsigned notify_flag(struct str word)
{
    static const struct {
        struct str word;
        unsigned flag;
    } words[] = {
        {STR_INIT("NEVER"), DSN_NOTIFY_NEVER},
        {STR_INIT("SUCCESS"), DSN_NOTIFY_SUCCESS},
        {STR_INIT("FAILURE"), DSN_NOTIFY_FAILURE},
        {STR_INIT("DELAY"), DSN_NOTIFY_DELAY},
    };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (str_equal_nocase(word, words[i].word))
            return words[i].flag;
    return 0;
}

bool dsn_parse_notify(struct str value, unsigned *flags)
{
    struct str rest = value;

    *flags = 0;
    do {
        const unsigned flag = notify_flag(str_split(&rest, ','));

        if (flag == 0)
            return false;
        *flags |= flag;
    } while (rest.data != NULL);
    return (*flags & DSN_NOTIFY_NEVER) == 0 || *flags == DSN_NOTIFY_NEVER;
}
