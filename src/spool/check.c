/* SPDX-License-Identifier: Apache-2.0 */
/* The offline check: what recovery would find, with bodies, and without changing anything. */
#include "base/crc32c.h"
#include "base/mem.h"
#include "spool/recover_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define READ_BYTES (256u << 10)
#define LINE_BYTES 512

struct check {
    const struct vfs *vfs;
    const char *directory;
    struct spool_check_report *report;
    void (*line)(void *context, const char *text);
    void *context;
    struct found_bodies bodies;
};

static void say(const struct check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(const struct check *c, const char *format, ...)
{
    char text[LINE_BYTES];
    va_list arguments;

    if (!c->line)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    c->line(c->context, text);
}

/* A live message's body file against the checksum in its frame. */
static bool body_file_is_good(const struct check *c, const struct found_message *message)
{
    char *path = mem_printf("%s/body/%016llx", c->directory, (unsigned long long)message->body_name);
    char *data = mem_alloc(READ_BYTES);
    uint32_t checksum = 0;
    uint64_t offset = 0;
    struct vfs_file *file = NULL;
    ssize_t count = c->vfs->open(c->vfs, path, VFS_READ, &file);

    while (count >= 0 && file) {
        count = c->vfs->read_at(file, data, READ_BYTES, offset);
        if (count <= 0)
            break;
        checksum = crc32c(checksum, data, (size_t)count);
        offset += (uint64_t)count;
    }
    if (file)
        c->vfs->close(file);
    free(data);
    free(path);
    return count >= 0 && offset == message->body_bytes && checksum == message->body_checksum;
}

static void check_message(const struct check *c, const struct found_shard *found, const struct found_group *group)
{
    const struct found_message *message = group->frames;
    const struct found_segment *segment = &found->segments[message->segment];
    bool is_good = message->body_name != 0 ? body_file_is_good(c, message) : message->body_is_good != 0;

    if (group->dead) {
        c->report->dead_messages++;
        return;
    }
    c->report->live_messages++;
    if (is_good)
        return;
    c->report->damaged_bodies++;
    say(c, "%s offset %llu: body of message %llX damaged", segment->path,
        (unsigned long long)message->frame_units * FORMAT_ALIGNMENT, (unsigned long long)message->id);
}

static void check_segments(const struct check *c, const struct found_shard *found)
{
    for (size_t i = 0; i < found->segment_count; i++) {
        const struct found_segment *segment = &found->segments[i];

        if (segment->state == FOUND_BAD) {
            c->report->damaged_frames++;
            say(c, "%s: segment header damaged", segment->path);
        }
        if (segment->state != FOUND_SEALED && segment->state != FOUND_OPEN)
            continue;
        c->report->segments++;
        c->report->frames += segment->scan.frame_count;
        if (segment->scan.is_torn) {
            c->report->torn_tails++;
            say(c, "%s offset %llu: torn tail, the log ends here", segment->path,
                (unsigned long long)segment->scan.end);
        }
    }
    for (size_t i = 0; i < found->missing_count; i++) {
        c->report->damaged_frames++;
        say(c, "%s: segment %llu is missing", found->directory, (unsigned long long)found->missing[i]);
    }
}

static int check_shard(struct check *c, unsigned number, struct error *error)
{
    char *directory = mem_printf("%s/shard-%02u", c->directory, number);
    struct found_position position = {0};
    struct found_shard found = {0};
    struct found_group group;
    int result = found_read(&found, c->vfs, directory, number, &c->bodies, true, error);

    if (result < 0)
        goto done;
    check_segments(c, &found);
    for (size_t i = 0; i < found.damage_count; i++) {
        const struct found_damage *damage = &found.damages[i];

        c->report->damaged_frames++;
        say(c, "%s offset %llu: %s, %llu bytes", found.segments[damage->segment].path, (unsigned long long)damage->from,
            damage->what, (unsigned long long)(damage->to - damage->from));
    }
    while (found_next(&found, &position, &group))
        check_message(c, &found, &group);
done:
    found_release(&found);
    free(directory);
    return result;
}

static int see_shard(void *context, const char *name)
{
    bool *shards = context;
    struct str text = str_from_cstr(name);
    uint64_t number;

    if (str_starts_with(text, STR("shard-")) && str_to_u64(str_skip(text, 6), &number) && number < SPOOL_SHARDS_MAX)
        shards[number] = true;
    return 0;
}

/* A spool in use changes under our eyes. A copy of one may have no lock file. */
static int take_lock(const struct check *c, struct vfs_file **lock, struct error *error)
{
    char *path = mem_printf("%s/lock", c->directory);
    int result = c->vfs->open(c->vfs, path, VFS_READ, lock);

    free(path);
    if (result < 0)
        return 0;
    if (c->vfs->lock(*lock) == -EWOULDBLOCK)
        return error_set(error, "%s is in use by another process", c->directory);
    return 0;
}

int64_t spool_check(const struct vfs *vfs, const char *directory, struct spool_check_report *report,
                    void (*line)(void *context, const char *text), void *context, struct error *error)
{
    struct check c = {.vfs = vfs, .directory = directory, .report = report, .line = line, .context = context};
    char *bodies = mem_printf("%s/body", directory);
    bool shards[SPOOL_SHARDS_MAX] = {false};
    struct vfs_file *lock = NULL;
    int64_t damaged = -1;
    int result;

    *report = (struct spool_check_report){0};
    result = vfs->list(vfs, directory, see_shard, shards);
    if (result < 0) {
        error_set_errno(error, -result, "%s", directory);
        goto done;
    }
    if (take_lock(&c, &lock, error) < 0 || found_bodies_list(&c.bodies, vfs, bodies, error) < 0)
        goto done;
    for (unsigned i = 0; i < SPOOL_SHARDS_MAX; i++) {
        if (shards[i] && check_shard(&c, i, error) < 0)
            goto done;
    }
    damaged = (int64_t)(report->damaged_frames + report->damaged_bodies);
done:
    if (lock)
        vfs->close(lock);
    found_bodies_release(&c.bodies);
    free(bodies);
    return damaged;
}
