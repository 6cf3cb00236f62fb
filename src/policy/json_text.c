/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/json_text.h"

#include "mail/text.h"

static const char *skip_space(struct json_reader *reader)
{
    while (reader->at < reader->end &&
           (*reader->at == ' ' || *reader->at == '\t' || *reader->at == '\r' || *reader->at == '\n'))
        reader->at++;
    return reader->at;
}

bool json_take(struct json_reader *reader, char c)
{
    if (skip_space(reader) == reader->end || *reader->at != c)
        return false;
    reader->at++;
    return true;
}

bool json_take_word(struct json_reader *reader, struct str word)
{
    skip_space(reader);
    if ((size_t)(reader->end - reader->at) < word.length || memcmp(reader->at, word.data, word.length) != 0)
        return false;
    reader->at += word.length;
    return true;
}

bool json_at_end(struct json_reader *reader)
{
    return skip_space(reader) == reader->end;
}

/* Four hex digits; -1 if they aren't. */
static int32_t take_hex(struct json_reader *reader)
{
    int32_t value = 0;

    if (reader->end - reader->at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = ascii_lower(*reader->at++);

        if (ascii_is_digit(c))
            value = value << 4 | (c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (c - 'a' + 10);
        else
            return -1;
    }
    return value;
}

static char *put_utf8(char *to, int32_t code)
{
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
        *to++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *to++ = (char)(0xe0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    } else {
        *to++ = (char)(0xf0 | code >> 18);
        *to++ = (char)(0x80 | (code >> 12 & 0x3f));
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    }
    return to;
}

/* After "\u". Half a surrogate pair is no character. */
static bool take_code(struct json_reader *reader, char **to)
{
    int32_t code = take_hex(reader);

    if (code >= 0xd800 && code < 0xdc00) {
        int32_t low;

        if (reader->end - reader->at < 2 || reader->at[0] != '\\' || reader->at[1] != 'u')
            return false;
        reader->at += 2;
        low = take_hex(reader);
        if (low < 0xdc00 || low > 0xdfff)
            return false;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code < 0 || (code >= 0xdc00 && code <= 0xdfff)) {
        return false;
    }
    *to = put_utf8(*to, code);
    return true;
}

/* After the backslash. An escape is never shorter than what it stands for, so there is room. */
static bool take_escape(struct json_reader *reader, char **to)
{
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    const char *found;

    if (reader->at == reader->end)
        return false;
    if (*reader->at == 'u') {
        reader->at++;
        return take_code(reader, to);
    }
    found = memchr(names, *reader->at, sizeof(names) - 1);
    if (!found)
        return false;
    reader->at++;
    *(*to)++ = values[found - names];
    return true;
}

/* From the first escape on. */
static bool take_escaped(struct json_reader *reader, const char *start, struct str *string)
{
    char *begin = reader->unescaped;
    char *to = begin;

    memcpy(to, start, (size_t)(reader->at - start));
    to += reader->at - start;
    while (reader->at < reader->end && (unsigned char)*reader->at >= ' ') {
        char c = *reader->at++;

        if (c == '"') {
            *string = str_make(begin, (size_t)(to - begin));
            reader->unescaped = to;
            return true;
        }
        if (c != '\\')
            *to++ = c;
        else if (!take_escape(reader, &to))
            return false;
    }
    return false;
}

bool json_take_string(struct json_reader *reader, struct str *string)
{
    const char *start;

    if (!json_take(reader, '"'))
        return false;
    for (start = reader->at; reader->at < reader->end; reader->at++) {
        if (*reader->at == '"') {
            *string = str_make(start, (size_t)(reader->at++ - start));
            return true;
        }
        if (*reader->at == '\\')
            return take_escaped(reader, start, string);
        if ((unsigned char)*reader->at < ' ')
            return false;
    }
    return false;
}

/* ---- writing ---- */

static bool is_plain(char c)
{
    return c >= ' ' && c <= '~' && c != '"' && c != '\\';
}

void json_append_string(struct buf *out, struct str string)
{
    static const char digits[] = "0123456789abcdef";

    buf_append_char(out, '"');
    while (string.length > 0) {
        size_t length = 0;
        char c = string.data[0];

        while (length < string.length && is_plain(string.data[length]))
            length++;
        if (length == 0 && (unsigned char)c >= 0x80)
            length = text_utf8_length(string);
        if (length > 0) {
            buf_append_str(out, str_take(string, length));
        } else if ((unsigned char)c >= 0x80) {
            buf_append_str(out, STR("\xef\xbf\xbd"));
            length = 1;
        } else {
            char escape[6] = {'\\', 'u', '0', '0', digits[(unsigned char)c >> 4], digits[c & 0xf]};

            if (c == '"' || c == '\\')
                escape[1] = c;
            buf_append(out, escape, c == '"' || c == '\\' ? 2 : 6);
            length = 1;
        }
        string = str_skip(string, length);
    }
    buf_append_char(out, '"');
}
