/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/header.h"

#include "mail/text.h"

void header_scan_init(struct header_scan *scan)
{
    memset(scan, 0, sizeof(*scan));
    scan->state = HEADER_SCAN_LINE_START;
}

/* A colon ends the name: notes which field it is, and says how to go on. */
static enum header_scan_state end_name(struct header_scan *scan)
{
    const struct str name = text_trim_blanks(str_make(scan->name, scan->name_length)); /* "Received :" (RFC 5322 4.5) */

    if (str_equal_nocase(name, STR("received"))) {
        scan->received_count++;
    } else if (str_equal_nocase(name, STR("date"))) {
        scan->has_date = true;
    } else if (str_equal_nocase(name, STR("from"))) {
        scan->has_from = true;
        scan->in_from = scan->from != NULL;
        if (scan->in_from)
            return HEADER_SCAN_FROM;
    } else if (str_equal_nocase(name, STR("message-id")) && !scan->has_message_id) {
        scan->has_message_id = true;
        scan->in_message_id = true;
        return HEADER_SCAN_VALUE;
    }
    return HEADER_SCAN_SKIP;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static void put_message_id(struct header_scan *scan, char c)
{
    if (is_blank(c) && (scan->message_id_length == 0 || scan->message_id_length == sizeof(scan->message_id)))
        return;
    if (scan->message_id_length == sizeof(scan->message_id) || (!is_blank(c) && (c < 0x21 || c > 0x7e)))
        scan->message_id_unusable = true;
    else
        scan->message_id[scan->message_id_length++] = is_blank(c) ? ' ' : c;
}

static void put_from(struct header_scan *scan, char c)
{
    if (!buf_append_char(scan->from, c))
        scan->from_overflows = true;
}

/* The section, or the next field, begins. */
static void end_field(struct header_scan *scan)
{
    if (scan->in_from)
        put_from(scan, '\n');
    scan->in_from = false;
    scan->in_message_id = false;
}

static enum header_scan_state continuation_state(const struct header_scan *scan)
{
    if (scan->in_from)
        return HEADER_SCAN_FROM;
    return scan->in_message_id ? HEADER_SCAN_VALUE : HEADER_SCAN_SKIP;
}

static void step_line_start(struct header_scan *scan, char c)
{
    if (c == '\n') {
        end_field(scan);
        scan->is_complete = true;
    } else if (c == '\r') {
        scan->state = HEADER_SCAN_EMPTY_CR;
    } else if (c == ' ' || c == '\t') {
        scan->state = continuation_state(scan);
    } else {
        end_field(scan);
        scan->name[0] = c;
        scan->name_length = 1;
        scan->state = c == ':' ? HEADER_SCAN_SKIP : HEADER_SCAN_NAME;
    }
}

static void step(struct header_scan *scan, char c)
{
    switch (scan->state) {
    case HEADER_SCAN_LINE_START:
        step_line_start(scan, c);
        break;
    case HEADER_SCAN_EMPTY_CR:
        end_field(scan);
        if (c == '\n')
            scan->is_complete = true;
        else
            scan->state = HEADER_SCAN_SKIP;
        break;
    case HEADER_SCAN_NAME:
        if (c == ':')
            scan->state = end_name(scan);
        else if (c == '\n')
            scan->state = HEADER_SCAN_LINE_START;
        else if (is_blank(c) && is_blank(scan->name[scan->name_length - 1]))
            break; /* however many stand before the colon, it is that field still */
        else if (scan->name_length == sizeof(scan->name))
            scan->state = HEADER_SCAN_SKIP;
        else
            scan->name[scan->name_length++] = c;
        break;
    case HEADER_SCAN_VALUE:
        if (c == '\n')
            scan->state = HEADER_SCAN_LINE_START;
        else if (c != '\r')
            put_message_id(scan, c);
        break;
    case HEADER_SCAN_FROM:
        if (c == '\n')
            scan->state = HEADER_SCAN_LINE_START;
        else if (c != '\r')
            put_from(scan, c);
        break;
    case HEADER_SCAN_SKIP:
        if (c == '\n')
            scan->state = HEADER_SCAN_LINE_START;
        break;
    }
}

void header_scan_feed(struct header_scan *scan, struct str piece)
{
    size_t i = 0;

    while (i < piece.length && !scan->is_complete) {
        if (scan->state == HEADER_SCAN_SKIP) {
            const char *newline = memchr(piece.data + i, '\n', piece.length - i);

            if (!newline) {
                i = piece.length;
                break;
            }
            i = (size_t)(newline - piece.data);
        }
        step(scan, piece.data[i++]);
    }
    scan->header_bytes += i;
}

struct str header_scan_message_id(const struct header_scan *scan)
{
    struct str id = text_trim_blanks(str_make(scan->message_id, scan->message_id_length));

    if (id.length >= 2 && id.data[0] == '<' && id.data[id.length - 1] == '>')
        id = str_make(id.data + 1, id.length - 2);
    if (scan->message_id_unusable || id.length > HEADER_MESSAGE_ID_OCTETS_MAX)
        return (struct str){0};
    return id;
}

/* Takes a line off the front of `*rest`, its newline included. */
static struct str take_line(struct str *rest)
{
    const size_t newline = str_find(*rest, '\n');
    const struct str line = str_take(*rest, newline == STR_NONE ? rest->length : newline + 1);

    *rest = str_skip(*rest, line.length);
    return line;
}

static bool is_continuation(struct str rest)
{
    return rest.length > 0 && (rest.data[0] == ' ' || rest.data[0] == '\t');
}

bool header_find(struct str header, struct str name, struct str *value)
{
    while (header.length > 0) {
        const struct str line = take_line(&header);
        const size_t colon = str_find(line, ':');

        if (str_is_empty(str_trim(line)) && !is_continuation(line))
            return false;
        if (colon == STR_NONE || !str_equal_nocase(text_trim_blanks(str_take(line, colon)), name) ||
            is_continuation(line))
            continue;

        const char *start = line.data + colon + 1;

        while (is_continuation(header))
            take_line(&header);
        /* What is left of the header starts where the field ends. */
        *value = str_trim(str_make(start, (size_t)(header.data - start)));
        return true;
    }
    return false;
}

void header_append_unfolded(struct buf *out, struct str value, size_t octets_max)
{
    size_t used = 0;

    while (value.length > 0 && used < octets_max) {
        const struct str line = str_trim(take_line(&value));

        if (str_is_empty(line))
            continue;
        if (used > 0) {
            buf_append_char(out, ' ');
            used++;
        }

        const size_t before = out->length;

        text_append_clean(out, line, octets_max - used, false);
        used += out->length - before;
    }
}
