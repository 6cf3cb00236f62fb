/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/mailboxes.h"

/* One entry taken apart: the bytes of its address without comments and white space. */
struct entry {
    char spec[ADDRESS_TEXT_OCTETS_MAX]; /* between angle brackets; or, as long as there are none, all of the entry */
    size_t length;
    bool has_angle;
    bool in_angle;
    bool is_bad;
    bool has_group; /* a group's name stood in front */
};

static void put(struct entry *entry, char c)
{
    if (entry->has_angle && !entry->in_angle)
        entry->is_bad = true; /* something behind the closing bracket */
    else if (entry->length == sizeof(entry->spec))
        entry->is_bad = true;
    else
        entry->spec[entry->length++] = c;
}

/* Skips a comment, nested ones in it; at its "(". One without an end is bad. */
static size_t skip_comment(struct str field, size_t i, struct entry *entry)
{
    size_t depth = 0;

    for (; i < field.length; i++) {
        char c = field.data[i];

        if (c == '\\')
            i++;
        else if (c == '(')
            depth++;
        else if (c == ')' && --depth == 0)
            return i + 1;
    }
    entry->is_bad = true;
    return field.length;
}

/* Copies a quoted string, quotes and all; at its first quote. */
static size_t copy_quoted(struct str field, size_t i, struct entry *entry)
{
    put(entry, '"');
    for (i++; i < field.length; i++) {
        char c = field.data[i];

        if (c == '\r' || c == '\n')
            continue; /* a fold */
        put(entry, c);
        if (c == '"')
            return i + 1;
        if (c == '\\' && i + 1 < field.length)
            put(entry, field.data[++i]);
    }
    entry->is_bad = true;
    return field.length;
}

/* A display name, or the start of an address, ends. What is too long only as a display name is not bad. */
static void open_angle(struct entry *entry)
{
    bool is_second = entry->has_angle;

    *entry = (struct entry){.has_angle = true, .in_angle = true, .has_group = entry->has_group};
    entry->is_bad = is_second;
}

static void take_char(struct entry *entry, char c)
{
    switch (c) {
    case ' ':
    case '\t':
    case '\r':
    case '\n':
        break;
    case '<':
        open_angle(entry);
        break;
    case '>':
        entry->is_bad = entry->is_bad || !entry->in_angle;
        entry->in_angle = false;
        break;
    case ':':
        if (entry->in_angle)
            put(entry, c); /* of a source route */
        else
            *entry = (struct entry){.is_bad = entry->has_group || entry->has_angle, .has_group = true};
        break;
    default:
        put(entry, c);
        break;
    }
}

/* From `*start` to behind the entry's end; white space and separators in front are passed over. false: there is none. */
static bool take_entry(struct str field, size_t *start, size_t *end, struct entry *entry)
{
    size_t i = *start;

    while (i < field.length && strchr(" \t\r\n,;", field.data[i]) && field.data[i] != '\0')
        i++;
    *start = i;
    *entry = (struct entry){0};
    while (i < field.length) {
        char c = field.data[i];

        if ((c == ',' || c == ';') && !entry->in_angle)
            break;
        if (c == '(')
            i = skip_comment(field, i, entry);
        else if (c == '"')
            i = copy_quoted(field, i, entry);
        else
            take_char(entry, field.data[i++]);
    }
    *end = i;
    return i > *start;
}

bool mailboxes_next(struct str *rest, struct mailbox *mailbox)
{
    struct entry entry;
    size_t start = 0, end = 0;

    while (take_entry(*rest, &start, &end, &entry)) {
        mailbox->text = str_trim(str_make(rest->data + start, end - start));
        *rest = str_skip(*rest, end);
        start = 0;
        /* "undisclosed-recipients:;", or a comment alone */
        if (entry.length == 0 && !entry.is_bad && !entry.has_angle)
            continue;
        mailbox->is_valid = !entry.is_bad && !entry.in_angle &&
                            address_parse_stored(&mailbox->address, str_make(entry.spec, entry.length)) &&
                            !mailbox->address.is_null && mailbox->address.domain_kind != ADDRESS_DOMAIN_NONE;
        return true;
    }
    *rest = str_skip(*rest, rest->length);
    return false;
}
