/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line that we wrote has its time first, and every field as "NAME":"VALUE": so a few searches for bytes tell nearly all lines that don't match. (A value
 * can't counterfeit a field: a quote in it has a backslash in front.) Only what is left is parsed, and judged by its fields.
 */
#include "control/tracking_search.h"

#include "base/mem.h"
#include "control/daily.h"
#include "queue/control.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CHUNK_BYTES (1u << 20)
#define TIME_BYTES  25 /* "2026-11-21T10:00:00.123Z" */

struct tracking_search {
    const struct vfs *vfs;
    char *directory;
    struct tracking_filter filter;
    char *sender, *recipient;                  /* the filter's texts */
    char id[MESSAGE_ID_TEXT_BYTES + 2];        /* in quotes */
    char since[TIME_BYTES], until[TIME_BYTES]; /* empty: none */
    struct daily_file *files;
    size_t file_count, next_file;
    struct vfs_file *file;
    uint64_t offset; /* of what comes behind the chunk */
    char *chunk;
    size_t length;    /* of what is in the chunk */
    size_t position;  /* what of it is done */
    bool is_skipping; /* a line that is longer than a chunk */
};

/* ---- the filter ---- */

static void format_time(int64_t at_ms, char text[TIME_BYTES])
{
    const time_t seconds = (time_t)(at_ms / 1000);
    char head[20];
    struct tm tm;

    text[0] = '\0';
    if (at_ms <= 0 || !gmtime_r(&seconds, &tm) || strftime(head, sizeof(head), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        return;
    snprintf(text, TIME_BYTES, "%s.%03uZ", head, (unsigned)(at_ms % 1000));
}

static bool is_in_time(const struct tracking_search *search, struct str line)
{
    const struct str head = STR("{\"time\":\"");
    const char *time = line.data + head.length;

    if (line.length < head.length + TIME_BYTES || !str_starts_with(line, head))
        return false;
    return (!search->since[0] || memcmp(time, search->since, TIME_BYTES - 1) >= 0) &&
           (!search->until[0] || memcmp(time, search->until, TIME_BYTES - 1) < 0);
}

/* The raw value of a text field, or false. */
static bool find_field(struct str line, const char *name, size_t name_length, struct str *value)
{
    const char *at = memmem(line.data, line.length, name, name_length);
    const char *end;

    if (!at)
        return false;
    at += name_length;
    end = memchr(at, '"', line.length - (size_t)(at - line.data));
    *value = str_make(at, end ? (size_t)(end - at) : 0);
    return end != NULL;
}

/* A value with a backslash is left to the parser. */
static bool may_match(struct str line, const char *field, struct str pattern)
{
    struct str value;

    return pattern.length == 0 || (find_field(line, field, strlen(field), &value) &&
                                   (str_find(value, '\\') != STR_NONE || queue_pattern_matches(pattern, value)));
}

static bool may_be_kind(const struct tracking_search *search, struct str line)
{
    enum mail_event_kind kind;
    struct str name;

    return search->filter.kinds == 0 || (find_field(line, "\"event\":\"", 9, &name) && mail_event_parse(name, &kind) &&
                                         (search->filter.kinds & (1u << kind)) != 0);
}

static bool has_text(const json_t *object, const char *key, struct str pattern)
{
    const char *text = json_string_value(json_object_get(object, key));

    return pattern.length == 0 || (text && queue_pattern_matches(pattern, str_from_cstr(text)));
}

static bool has_id(const struct tracking_search *search, const json_t *object)
{
    const struct str id = str_make(search->id + 1, strlen(search->id) - 2);

    return search->filter.id == 0 || has_text(object, "id", id) || has_text(object, "other", id);
}

static bool matches(const struct tracking_search *search, struct str line)
{
    json_t *object;
    bool result;

    if (!is_in_time(search, line) || !may_be_kind(search, line) ||
        (search->id[0] && !memmem(line.data, line.length, search->id, strlen(search->id))) ||
        !may_match(line, "\"sender\":\"", search->filter.sender) ||
        !may_match(line, "\"recipient\":\"", search->filter.recipient))
        return false;
    object = json_loadb(line.data, line.length, 0, NULL);
    result = json_is_object(object) && json_is_string(json_object_get(object, "event")) && has_id(search, object) &&
             has_text(object, "sender", search->filter.sender) &&
             has_text(object, "recipient", search->filter.recipient);
    json_decref(object);
    return result;
}

/* ---- the files ---- */

static void close_file(struct tracking_search *search)
{
    if (search->file)
        search->file->vfs->close(search->file);
    search->file = NULL;
    search->length = search->position = 0;
    search->is_skipping = false;
}

static bool is_file_in_time(const struct tracking_search *search, const struct daily_file *file)
{
    const struct tracking_filter *filter = &search->filter;

    return (filter->since_at_ms <= 0 || file->day >= daily_day(filter->since_at_ms)) &&
           (filter->until_at_ms <= 0 || file->day <= daily_day(filter->until_at_ms));
}

/* 1: one is open. 0: there are no more. One that was removed meanwhile is passed over. */
static int open_next(struct tracking_search *search)
{
    while (search->next_file < search->file_count) {
        const struct daily_file *file = &search->files[search->next_file++];
        char name[DAILY_NAME_BYTES];
        char *path;
        int result;

        if (!is_file_in_time(search, file))
            continue;
        daily_name(DAILY_NAMES_ISO, file, name);
        path = mem_printf("%s/%s", search->directory, name);
        result = search->vfs->open(search->vfs, path, VFS_READ, &search->file);
        free(path);
        search->offset = 0;
        if (result == 0)
            return 1;
        search->file = NULL;
        if (result != -ENOENT)
            return result;
    }
    return 0;
}

/* Moves what is left to the front and reads behind it. The number of bytes read, 0 at the end, or a negative errno. */
static ssize_t fill(struct tracking_search *search)
{
    ssize_t count;

    assert(search->file); /* open_next has said so */
    search->length -= search->position;
    memmove(search->chunk, search->chunk + search->position, search->length);
    search->position = 0;
    if (search->length == CHUNK_BYTES) {
        search->length = 0;
        search->is_skipping = true;
    }
    count = search->file->vfs->read_at(search->file, search->chunk + search->length, CHUNK_BYTES - search->length,
                                       search->offset);
    if (count > 0) {
        search->offset += (uint64_t)count;
        search->length += (size_t)count;
    }
    return count;
}

/* Whole lines of what is in the chunk, until enough was found. */
static void look_through(struct tracking_search *search, struct buf *found)
{
    while (search->position < search->length && found->length < TRACKING_SEARCH_FOUND_BYTES) {
        const char *start = search->chunk + search->position;
        const char *end = memchr(start, '\n', search->length - search->position);
        struct str line;

        if (!end)
            return;
        line = str_make(start, (size_t)(end - start));
        search->position += line.length + 1;
        if (!search->is_skipping && matches(search, line)) {
            buf_append_str(found, line);
            buf_append_char(found, '\n');
        }
        search->is_skipping = false;
    }
}

int tracking_search_next(struct tracking_search *search, struct buf *found)
{
    uint64_t looked_at = 0;

    while (looked_at < TRACKING_SEARCH_STEP_BYTES) {
        size_t before = search->position;
        ssize_t count;

        if (!search->file) {
            int result = open_next(search);

            if (result <= 0)
                return result;
        }
        look_through(search, found);
        looked_at += search->position - before;
        if (found->length >= TRACKING_SEARCH_FOUND_BYTES)
            return 1;
        count = fill(search);
        if (count < 0)
            return (int)count;
        if (count == 0)
            close_file(search);
    }
    return 1;
}

int tracking_search_create(struct tracking_search **out, const struct vfs *vfs, const char *directory,
                           const struct tracking_filter *filter)
{
    struct tracking_search *search = mem_alloc(sizeof(*search));
    char id[MESSAGE_ID_TEXT_BYTES];
    int result;

    search->vfs = vfs;
    search->directory = mem_copy_str(str_from_cstr(directory));
    search->filter = *filter;
    search->sender = mem_copy_str(filter->sender);
    search->recipient = mem_copy_str(filter->recipient);
    search->filter.sender = str_make(search->sender, filter->sender.length);
    search->filter.recipient = str_make(search->recipient, filter->recipient.length);
    search->chunk = mem_alloc(CHUNK_BYTES);
    if (filter->id) {
        message_id_format(filter->id, id);
        snprintf(search->id, sizeof(search->id), "\"%s\"", id);
    }
    format_time(filter->since_at_ms, search->since);
    format_time(filter->until_at_ms, search->until);
    result = daily_list(vfs, directory, DAILY_NAMES_ISO, &search->files, &search->file_count);
    if (result != 0)
        tracking_search_destroy(&search);
    *out = search;
    return result;
}

void tracking_search_destroy(struct tracking_search **pointer)
{
    struct tracking_search *search = *pointer;

    *pointer = NULL;
    if (!search)
        return;
    close_file(search);
    free(search->directory);
    free(search->sender);
    free(search->recipient);
    free(search->files);
    free(search->chunk);
    free(search);
}
