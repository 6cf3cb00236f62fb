/* SPDX-License-Identifier: Apache-2.0 */
/* One line of the log. Plain copying instead of printf: a busy relay writes several lines for each message. */
#include "base/log_private.h"

#include <string.h>
#include <time.h>

#define TIME_BYTES   24 /* 2026-11-21T10:00:00.123Z */
#define SECOND_BYTES 20 /* up to and with the "." */
#define ESCAPE_BYTES 6  /* the longest: \u001f */

/* Text that is being put together; nothing is ever written at or after `limit`. */
struct line {
    char *data;
    size_t length;
    size_t limit;
};

static bool put(struct line *line, const char *data, size_t length)
{
    if (length > line->limit - line->length)
        return false;
    memcpy(line->data + line->length, data, length);
    line->length += length;
    return true;
}

static bool put_cstr(struct line *line, const char *text)
{
    return put(line, text, strlen(text));
}

static bool put_u64(struct line *line, uint64_t value)
{
    char digits[20];
    size_t start = sizeof(digits);

    do {
        digits[--start] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return put(line, digits + start, sizeof(digits) - start);
}

static bool put_i64(struct line *line, int64_t value)
{
    if (value >= 0)
        return put_u64(line, (uint64_t)value);
    return put(line, "-", 1) && put_u64(line, 0 - (uint64_t)value);
}

/* The second's part is made once a second and thread: gmtime_r and the digits cost more than the rest of the line. */
static void put_time(struct line *line, time_t now, long ms)
{
    static _Thread_local char second_text[SECOND_BYTES + 1];
    static _Thread_local time_t second = -1;
    char text[TIME_BYTES];

    if (now != second) {
        struct tm parts;

        gmtime_r(&now, &parts);
        strftime(second_text, sizeof(second_text), "%Y-%m-%dT%H:%M:%S.", &parts);
        second = now;
    }
    memcpy(text, second_text, SECOND_BYTES);
    text[SECOND_BYTES] = (char)('0' + ms / 100);
    text[SECOND_BYTES + 1] = (char)('0' + ms / 10 % 10);
    text[SECOND_BYTES + 2] = (char)('0' + ms % 10);
    text[SECOND_BYTES + 3] = 'Z';
    put(line, text, sizeof(text));
}

static bool is_continuation(unsigned char byte)
{
    return (byte & 0xc0) == 0x80;
}

/*
 * The length of the character at the start, or 0 if it must be escaped: a control (C1 too, terminals obey those) or no
 * valid UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF).
 */
static size_t printable_length(struct str s)
{
    const unsigned char *b = (const unsigned char *)s.data;

    if (b[0] < 0x80)
        return b[0] >= 0x20 && b[0] != 0x7f ? 1 : 0;
    if (s.length < 2 || !is_continuation(b[1]))
        return 0;
    if (b[0] < 0xe0)
        return b[0] >= 0xc2 && !(b[0] == 0xc2 && b[1] < 0xa0) ? 2 : 0;
    if (s.length < 3 || !is_continuation(b[2]))
        return 0;
    if (b[0] < 0xf0)
        return (b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xed && b[1] >= 0xa0) ? 0 : 3;
    if (s.length < 4 || !is_continuation(b[3]))
        return 0;
    return b[0] > 0xf4 || (b[0] == 0xf0 && b[1] < 0x90) || (b[0] == 0xf4 && b[1] >= 0x90) ? 0 : 4;
}

/* Puts the escape for one byte. Text says \xNN; JSON has no bytes, so what is no UTF-8 becomes the replacement
 * character there. */
static bool put_escaped(struct line *line, unsigned char byte, enum log_format format)
{
    static const char hex[] = "0123456789abcdef";
    char text[ESCAPE_BYTES] = {'\\', 'x', hex[byte >> 4], hex[byte & 15]};

    if (byte == '"' || byte == '\\') {
        text[1] = (char)byte;
        return put(line, text, 2);
    }
    if (format == LOG_FORMAT_TEXT)
        return put(line, text, 4);
    if (byte >= 0x80)
        return put(line, "\\ufffd", 6);
    memcpy(text, "\\u00", 4);
    text[4] = hex[byte >> 4];
    text[5] = hex[byte & 15];
    return put(line, text, sizeof(text));
}

/* How many bytes at the start stand for themselves and are one character each. */
static size_t plain_length(struct str s)
{
    size_t i = 0;

    while (i < s.length && s.data[i] >= ' ' && s.data[i] < 0x7f && s.data[i] != '"' && s.data[i] != '\\')
        i++;
    return i;
}

/* The value's bytes, escaped, until its end or the limit. Nearly all of nearly every value is plain, and copied whole.
 */
static void put_content(struct line *line, struct str value, enum log_format format)
{
    bool fits = true;

    while (value.length > 0 && fits) {
        size_t length = plain_length(str_take(value, line->limit - line->length));

        if (length > 0) {
            put(line, value.data, length);
        } else if ((length = printable_length(value)) > 1) {
            fits = put(line, value.data, length);
        } else {
            length = 1;
            /* At the limit even a plain byte ends up here, where nothing fits any more. */
            fits = put_escaped(line, (unsigned char)value.data[0], format);
        }
        value = str_skip(value, length);
    }
}

static bool needs_quotes(struct str value)
{
    for (size_t i = 0; i < value.length; i++) {
        unsigned char c = (unsigned char)value.data[i];

        if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
            return true;
    }
    return value.length == 0;
}

static bool put_text_value(struct line *line, struct str value, enum log_format format)
{
    const bool quoted = format == LOG_FORMAT_JSON || needs_quotes(value);
    size_t limit = line->limit;
    size_t room;

    if (limit - line->length < 2 + ESCAPE_BYTES)
        return false;
    if (quoted)
        put(line, "\"", 1);
    room = limit - line->length - 1; /* the closing quote's place */
    line->limit = line->length + (room < LOG_VALUE_BYTES_MAX ? room : LOG_VALUE_BYTES_MAX);
    put_content(line, value, format);
    line->limit = limit;
    if (quoted)
        put(line, "\"", 1);
    return true;
}

static bool put_value(struct line *line, const struct log_field *field, enum log_format format)
{
    switch (field->type) {
    case LOG_FIELD_STR:
        return put_text_value(line, field->text, format);
    case LOG_FIELD_U64:
        return put_u64(line, (uint64_t)field->number);
    case LOG_FIELD_I64:
        return put_i64(line, field->number);
    case LOG_FIELD_BOOL:
        return put_cstr(line, field->number ? "true" : "false");
    }
    return false;
}

static bool put_field(struct line *line, const struct log_field *field, enum log_format format)
{
    bool named;

    if (format == LOG_FORMAT_JSON)
        named = put(line, ",\"", 2) && put_cstr(line, field->name) && put(line, "\":", 2);
    else
        named = put(line, " ", 1) && put_cstr(line, field->name) && put(line, "=", 1);
    return named && put_value(line, field, format);
}

/* As many as there is room for. */
static void put_fields(struct line *line, const struct log_field *fields, size_t field_count, enum log_format format)
{
    for (size_t i = 0; i < field_count; i++) {
        size_t before = line->length;

        if (!put_field(line, &fields[i], format)) {
            line->length = before;
            break;
        }
    }
}

size_t log_line_format(char *data, size_t room, enum log_format format, enum log_level level, const char *event,
                       const struct log_field *fields, size_t field_count)
{
    static const char *const level_names[] = {"debug", "info", "warning", "error"};
    const bool is_json = format == LOG_FORMAT_JSON;
    struct line line = {data, 0, room - 2}; /* the closing brace and the newline always fit */
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (is_json)
        put_cstr(&line, "{\"time\":\"");
    put_time(&line, now.tv_sec, now.tv_nsec / 1000000);
    put_cstr(&line, is_json ? "\",\"level\":\"" : " ");
    put_cstr(&line, level_names[level]);
    put_cstr(&line, is_json ? "\",\"event\":\"" : " ");
    put_cstr(&line, event);
    if (is_json)
        put_cstr(&line, "\"");
    put_fields(&line, fields, field_count, format);
    if (is_json)
        line.data[line.length++] = '}';
    line.data[line.length++] = '\n';
    return line.length;
}

size_t log_format_record(char *data, size_t room, int64_t at_ms, const char *event, const struct log_field *fields,
                         size_t field_count)
{
    struct line line = {data, 0, room - 2};

    put_cstr(&line, "{\"time\":\"");
    put_time(&line, (time_t)(at_ms / 1000), (long)(at_ms % 1000));
    put_cstr(&line, "\",\"event\":\"");
    put_cstr(&line, event);
    put_cstr(&line, "\"");
    put_fields(&line, fields, field_count, LOG_FORMAT_JSON);
    line.data[line.length++] = '}';
    line.data[line.length++] = '\n';
    return line.length;
}
