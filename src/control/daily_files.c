/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/mem.h"
#include "control/daily_private.h"
#include "os/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define DAY_MS 86400000
/* A file is at most this share of all. */
#define PARTS_MIN 8
/* Of the files that are listed; more would be somebody else's doing. */
#define FILES_MAX 100000
/* So many parts of one day, then they grow. */
#define PARTS_MAX 999999

/* ---- names ---- */

int64_t daily_day(int64_t at_ms)
{
    return at_ms / DAY_MS;
}

void daily_name(enum daily_names names, const struct daily_file *file, char name[DAILY_NAME_BYTES])
{
    const time_t seconds = (time_t)(file->day * (DAY_MS / 1000));
    char date[40], part[16] = "";
    struct tm tm;

    gmtime_r(&seconds, &tm);
    if (names == DAILY_NAMES_ISO)
        snprintf(date, sizeof(date), "%04d-%02d-%02d", (tm.tm_year + 1900) % 10000, tm.tm_mon + 1, tm.tm_mday);
    else
        snprintf(date, sizeof(date), "%02d%02d%02d", tm.tm_year % 100, tm.tm_mon + 1, tm.tm_mday);
    if (file->part > 1)
        snprintf(part, sizeof(part), "-%u", file->part);
    snprintf(name, DAILY_NAME_BYTES, names == DAILY_NAMES_ISO ? "%s%s.jsonl" : "ex%s%s.log", date, part);
}

static bool take_number(struct str *text, size_t digits, int *value)
{
    uint64_t number;

    if (text->length < digits || !str_to_u64(str_take(*text, digits), &number))
        return false;
    *value = (int)number;
    *text = str_skip(*text, digits);
    return true;
}

static bool take_text(struct str *text, struct str wanted)
{
    if (!str_starts_with(*text, wanted))
        return false;
    *text = str_skip(*text, wanted.length);
    return true;
}

static bool take_date(enum daily_names names, struct str *rest, int64_t *day)
{
    struct tm tm = {0};
    bool is_date;

    if (names == DAILY_NAMES_ISO)
        is_date = take_number(rest, 4, &tm.tm_year) && take_text(rest, STR("-")) && take_number(rest, 2, &tm.tm_mon) &&
                  take_text(rest, STR("-")) && take_number(rest, 2, &tm.tm_mday);
    else
        is_date = take_text(rest, STR("ex")) && take_number(rest, 2, &tm.tm_year) && take_number(rest, 2, &tm.tm_mon) &&
                  take_number(rest, 2, &tm.tm_mday);
    if (!is_date)
        return false;
    tm.tm_year += names == DAILY_NAMES_ISO ? -1900 : 100;
    tm.tm_mon -= 1;
    *day = daily_day((int64_t)timegm(&tm) * 1000);
    return true;
}

bool daily_parse_name(enum daily_names names, struct str name, struct daily_file *file)
{
    const struct str suffix = names == DAILY_NAMES_ISO ? STR(".jsonl") : STR(".log");
    char again[DAILY_NAME_BYTES];
    struct str rest = name;
    uint64_t part = 1;

    if (!str_ends_with(rest, suffix))
        return false;
    rest = str_take(rest, rest.length - suffix.length);
    if (!take_date(names, &rest, &file->day))
        return false;
    if (rest.length > 0 && (!take_text(&rest, STR("-")) || !str_to_u64(rest, &part) || part < 2 || part > PARTS_MAX))
        return false;
    file->part = (unsigned)part;
    /* A date that does not exist, leading zeros: what we would not call it is not ours. */
    daily_name(names, file, again);
    return str_equal(name, str_from_cstr(again));
}

int daily_compare(const struct daily_file *a, const struct daily_file *b)
{
    if (a->day != b->day)
        return a->day < b->day ? -1 : 1;
    return a->part < b->part ? -1 : a->part > b->part;
}

static int compare_files(const void *a, const void *b)
{
    return daily_compare(a, b);
}

struct listing {
    enum daily_names names;
    struct daily_file *files;
    size_t count, capacity;
};

static int add_file(void *context, const char *name)
{
    struct listing *listing = context;
    struct daily_file file;

    if (!daily_parse_name(listing->names, str_from_cstr(name), &file))
        return 0;
    if (listing->count == listing->capacity) {
        listing->capacity = listing->capacity ? listing->capacity * 2 : 64;
        listing->files = mem_resize_array(listing->files, listing->capacity, sizeof(*listing->files));
    }
    listing->files[listing->count++] = file;
    return listing->count == FILES_MAX;
}

int daily_list(const struct vfs *vfs, const char *directory, enum daily_names names, struct daily_file **files,
               size_t *count)
{
    struct listing listing = {.names = names};
    int result = vfs->list(vfs, directory, add_file, &listing);

    if (listing.count > 0)
        qsort(listing.files, listing.count, sizeof(*listing.files), compare_files);
    *files = listing.files;
    *count = listing.count;
    return result < 0 && result != -ENOENT ? result : 0;
}

/* ---- the open file ---- */

static char *path_of(const struct daily_files *files, const struct daily_file *file)
{
    char name[DAILY_NAME_BYTES];

    daily_name(files->names, file, name);
    return mem_printf("%s/%s", files->directory, name);
}

static uint64_t part_bytes_max(const struct daily_files *files)
{
    return files->settings.bytes_max > 0 ? files->settings.bytes_max / PARTS_MIN : UINT64_MAX;
}

void daily_files_close(struct daily_files *files)
{
    if (files->file)
        files->file->vfs->close(files->file);
    files->file = NULL;
}

static int write_all(struct daily_files *files, struct str data)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)data.data, .iov_len = data.length};
    int result = data.length > 0 ? files->file->vfs->write_at(files->file, &part, 1, files->offset) : 0;

    if (result == 0)
        files->offset += data.length;
    return result;
}

/* The last line of another process may be torn. */
static int begin_file(struct daily_files *files)
{
    struct buf head;
    char last = '\n';
    int result;

    if (files->offset > 0 && files->file->vfs->read_at(files->file, &last, 1, files->offset - 1) != 1)
        return -EIO;
    buf_init(&head, DAILY_LINE_BYTES_MAX);
    if (last != '\n')
        buf_append_char(&head, '\n');
    if (files->head)
        files->head(&head, clock_real_ms());
    result = write_all(files, buf_str(&head));
    buf_release(&head);
    return result;
}

static int open_part(struct daily_files *files, const struct daily_file *file)
{
    char *path = path_of(files, file);
    int result = files->vfs->open(files->vfs, path, VFS_READ | VFS_WRITE | VFS_CREATE, &files->file);
    int64_t size;

    free(path);
    if (result != 0) {
        files->file = NULL;
        return result;
    }
    files->current = *file;
    size = files->file->vfs->size(files->file);
    files->offset = size > 0 ? (uint64_t)size : 0;
    result = size < 0 ? (int)size : begin_file(files);
    if (result != 0)
        daily_files_close(files);
    return result;
}

/* The last part of that day that is there, or its first. */
static int open_day(struct daily_files *files, int64_t day)
{
    struct daily_file *found = NULL, file = {.day = day, .part = 1};
    size_t count = 0;
    int result = daily_list(files->vfs, files->directory, files->names, &found, &count);

    for (size_t i = 0; i < count; i++)
        if (found[i].day == day)
            file.part = found[i].part;
    free(found);
    return result == 0 ? open_part(files, &file) : result;
}

int daily_files_append(struct daily_files *files, int64_t day, struct str lines)
{
    int result = 0;

    if (files->file && files->current.day != day)
        daily_files_close(files);
    if (!files->file) {
        result = open_day(files, day);
        if (result == 0)
            daily_files_clean(files, clock_real_ms());
    }
    if (result == 0 && files->offset + lines.length > part_bytes_max(files) && files->current.part < PARTS_MAX) {
        struct daily_file next = {.day = day, .part = files->current.part + 1};

        daily_files_close(files);
        result = open_part(files, &next);
        if (result == 0)
            daily_files_clean(files, clock_real_ms());
    }
    if (result == 0)
        result = write_all(files, lines);
    /* What is in the file after an error is unknown: opened again, it is looked at. */
    if (result != 0)
        daily_files_close(files);
    return result;
}

/* ---- cleaning up ---- */

static uint64_t size_of(const struct daily_files *files, const struct daily_file *file)
{
    char *path = path_of(files, file);
    struct vfs_file *opened;
    int64_t size = 0;

    if (files->vfs->open(files->vfs, path, VFS_READ, &opened) == 0) {
        size = opened->vfs->size(opened);
        opened->vfs->close(opened);
    }
    free(path);
    return size > 0 ? (uint64_t)size : 0;
}

static void remove_file(const struct daily_files *files, const struct daily_file *file)
{
    char *path = path_of(files, file);
    int result = files->vfs->remove(files->vfs, path);

    if (result != 0)
        LOG_WARNING("daily-remove-failed", log_cstr("what", files->what), log_cstr("file", path),
                    log_cstr("reason", strerrordesc_np(-result)));
    free(path);
}

static bool is_too_old(const struct daily_files *files, const struct daily_file *file, int64_t now_ms)
{
    int64_t ended_at_ms = (file->day + 1) * DAY_MS;

    return files->settings.keep_ms > 0 && ended_at_ms <= now_ms &&
           (uint64_t)(now_ms - ended_at_ms) >= files->settings.keep_ms;
}

/* Newest first: what no longer fits beside the newer ones and a full current one goes. */
void daily_files_clean(struct daily_files *files, int64_t now_ms)
{
    struct daily_file *found = NULL;
    uint64_t bytes = part_bytes_max(files);
    size_t count = 0;

    daily_list(files->vfs, files->directory, files->names, &found, &count);
    for (size_t i = count; i-- > 0;) {
        if (files->file && daily_compare(&found[i], &files->current) == 0)
            continue;
        if (files->settings.bytes_max > 0)
            bytes += size_of(files, &found[i]);
        if (is_too_old(files, &found[i], now_ms) ||
            (files->settings.bytes_max > 0 && bytes > files->settings.bytes_max))
            remove_file(files, &found[i]);
    }
    free(found);
}
