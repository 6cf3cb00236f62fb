/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/recover.h"

#include "base/mem.h"
#include "spool/apply.h"
#include "spool/commit.h"
#include "spool/compact.h"
#include "spool/keeper.h"
#include "spool/recover_private.h"
#include "spool/shard.h"

#include <errno.h>
#include <stdlib.h>

#define SEQUENCE_JUMP (1ull << 32)
/* Of each kind of number, when a spool is opened: more than a life's worth. */
#define NUMBERS_LEFT_MIN (1ull << 48)

/* A live message, on its way to be reported. */
struct live {
    uint64_t epoch;
    const struct found_message *message;
    const struct found_record *records;
    size_t record_count;
};

struct recovery {
    struct spool *spool;
    const struct spool_recovery *callbacks;
    struct shard *shard;
    struct found_shard found;
    struct found_bodies *bodies;
    struct segment **segments; /* by place in found.segments; NULL: not part of the log */
    struct live *live;
    size_t live_count;
    bool *has_damage; /* of the whole spool */
};

static void report_damage(struct recovery *r, const char *where, const char *what)
{
    *r->has_damage = true;
    if (r->callbacks->damage)
        r->callbacks->damage(r->callbacks->context, where, what);
}

static bool file_exists(const struct vfs *vfs, const char *path)
{
    struct vfs_file *file;

    if (vfs->open(vfs, path, VFS_READ, &file) < 0)
        return false;
    vfs->close(file);
    return true;
}

/* Writes the damaged bytes, as far as they can be read, to a file in the badmail directory. */
static int write_aside(const struct vfs *vfs, struct vfs_file *from_file, uint64_t from, uint64_t to, const char *path)
{
    size_t length = to - from < RECOVER_ASIDE_BYTES_MAX ? (size_t)(to - from) : RECOVER_ASIDE_BYTES_MAX;
    char *data = mem_alloc(length);
    int result;

    for (size_t at = 0; at < length; at += FORMAT_PAGE_BYTES) {
        size_t step = length - at < FORMAT_PAGE_BYTES ? length - at : FORMAT_PAGE_BYTES;

        from_file->vfs->read_at(from_file, data + at, step, from + at); /* zeroes stand for what can't be read */
    }
    result = vfs_write_file(vfs, path, data, length);
    free(data);
    return result;
}

/* Once for each piece: it is found again at every start until its segment goes. */
static void set_aside(struct recovery *r, const struct found_damage *damage)
{
    const struct found_segment *segment = &r->found.segments[damage->segment];
    const struct vfs *vfs = r->spool->vfs;
    char *where = mem_printf("%s offset %llu", segment->path ? segment->path : r->segments[damage->segment]->path,
                             (unsigned long long)damage->from);
    char *aside = mem_printf("%s/spool-%02u-%llu-%llu.frame", r->spool->badmail_directory, r->shard->number,
                             (unsigned long long)segment->header.binding.number, (unsigned long long)damage->from);
    struct vfs_file *file = segment->file ? segment->file : r->segments[damage->segment]->file;
    char *what;
    int result;

    if (file_exists(vfs, aside)) {
        *r->has_damage = true;
        goto done;
    }
    result = vfs_make_directories(vfs, r->spool->badmail_directory);
    if (result == 0)
        result = write_aside(vfs, file, damage->from, damage->to, aside);
    what = result == 0 ? mem_printf("%s, set aside as %s", damage->what, aside)
                       : mem_printf("%s, could not be set aside as %s: %s", damage->what, aside, strerror(-result));
    report_damage(r, where, what);
    free(what);
done:
    free(aside);
    free(where);
}

static bool is_dead(const struct found_shard *found, uint64_t id)
{
    struct found_position position = {0};
    size_t low = 0;
    size_t high = found->record_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (found->records[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    for (position.record = low; position.record < found->record_count; position.record++) {
        if (found->records[position.record].id != id)
            return false;
        if (found->records[position.record].dead)
            return true;
    }
    return false;
}

/* A damaged frame of a message that was settled anyway is no loss. */
static void set_damages_aside(struct recovery *r)
{
    for (size_t i = 0; i < r->found.damage_count; i++) {
        const struct found_damage *damage = &r->found.damages[i];

        if (damage->id == 0 || !is_dead(&r->found, damage->id))
            set_aside(r, damage);
    }
    for (size_t i = 0; i < r->found.missing_count; i++) {
        char *where = mem_printf("%s segment %llu", r->shard->directory, (unsigned long long)r->found.missing[i]);

        report_damage(r, where, "segment is missing or its header is damaged");
        free(where);
    }
}

/* A file whose header can't be read may hold anything: it is kept under another name, and not used. */
static void keep_bad_file(struct recovery *r, struct found_segment *segment)
{
    const struct vfs *vfs = r->spool->vfs;
    char *aside = mem_printf("%s.bad", segment->path);

    vfs->close(segment->file);
    segment->file = NULL;
    if (vfs->rename(vfs, segment->path, aside) == 0)
        report_damage(r, aside, "segment header damaged, file set aside");
    else
        report_damage(r, segment->path, "segment header damaged");
    free(aside);
}

/* Takes the segments that count into the shard's table: the newest open one goes on, the others are sealed. */
static void adopt_segments(struct recovery *r)
{
    struct shard *shard = r->shard;

    r->segments = mem_alloc_array(r->found.segment_count, sizeof(struct segment *));
    for (size_t i = 0; i < r->found.segment_count; i++) {
        struct found_segment *found = &r->found.segments[i];
        struct segment *segment;

        if (found->state == FOUND_BAD)
            keep_bad_file(r, found);
        if (found->state != FOUND_SEALED && found->state != FOUND_OPEN)
            continue;
        segment = segment_adopt(found->file, found->path, found->bytes);
        found->file = NULL;
        found->path = NULL;
        r->segments[i] = segment;
        segment_activate(segment, 1, shard_add_segment(shard, segment));
        segment->binding = found->header.binding;
        segment->position = found->scan.position;
        segment->synced = found->scan.synced > FORMAT_PAGE_BYTES ? found->scan.synced : FORMAT_PAGE_BYTES;
        segment->end = found->scan.end;
        if (found->state == FOUND_OPEN && !shard->active && !found->scan.is_unreadable)
            shard->active = segment;
        else
            segment_set_state(segment, SEGMENT_SEALED);
        if (found->state == FOUND_SEALED)
            segment->end = found->listed_end;
    }
}

/* Files that count for nothing: a header of theirs that is newer than the log must not be found again. */
static void adopt_free_files(struct recovery *r)
{
    uint64_t newest = r->shard->active ? r->shard->active->binding.number : 0;

    for (size_t i = 0; i < r->found.segment_count; i++) {
        struct found_segment *found = &r->found.segments[i];
        static const unsigned char zeroes[FORMAT_PAGE_BYTES];
        const struct iovec page = {(void *)(uintptr_t)zeroes, sizeof(zeroes)};
        struct segment *segment;
        int result = 0;

        if (found->state != FOUND_FREE)
            continue;
        if (found->header.binding.number > newest) {
            result = found->file->vfs->write_at(found->file, &page, 1, 0);
            if (result == 0)
                result = found->file->vfs->sync_data(found->file);
        }
        segment = segment_adopt(found->file, found->path, found->bytes);
        found->file = NULL;
        found->path = NULL;
        if (result == 0 && keeper_keep(r->shard, segment))
            continue;
        r->spool->vfs->remove(r->spool->vfs, segment->path);
        segment_destroy(&segment);
    }
}

static bool body_file_is_whole(const struct recovery *r, const struct found_message *message)
{
    const struct vfs *vfs = r->spool->vfs;
    size_t place = found_bodies_find(r->bodies, message->body_name);
    struct vfs_file *file;
    int64_t size;
    char *path;
    int result;

    if (place == SIZE_MAX)
        return false;
    path = spool_body_path(r->spool, message->body_name);
    result = vfs->open(vfs, path, VFS_READ, &file);
    free(path);
    if (result < 0)
        return false;
    size = file->vfs->size(file);
    vfs->close(file);
    r->bodies->used[place] = true;
    return size >= 0 && (uint64_t)size == message->body_bytes;
}

static void add_live(struct recovery *r, const struct found_group *group)
{
    const struct found_message *message = group->frames;
    const struct format_frame frame = {
        .envelope_bytes = message->envelope_bytes,
        .results_bytes = message->body_at - FORMAT_FRAME_HEADER_BYTES - message->envelope_bytes,
        .body_bytes = message->body_bytes,
        .body_name = message->body_name,
        .body_checksum = message->body_checksum,
    };
    uint64_t offset = (uint64_t)message->frame_units * FORMAT_ALIGNMENT;

    if (message->body_name != 0 && !body_file_is_whole(r, message)) {
        const struct found_damage damage = {
            .segment = message->segment,
            .from = offset,
            .to = offset + message->body_at,
            .what = "body file missing or cut",
        };

        set_aside(r, &damage);
        return;
    }
    apply_place(index_add(&r->shard->index, message->id), r->segments[message->segment], &frame, offset);
    atomic_fetch_add(&r->spool->live_messages, 1);
    r->live[r->live_count++] = (struct live){message->epoch, message, group->records, group->record_count};
}

/* Which segments must outlive which, by what stands in them about one message. */
static void add_holds(struct recovery *r, const struct found_group *group)
{
    for (size_t i = 0; i < group->frame_count; i++) {
        struct segment *newer = r->segments[group->frames[i].segment];

        for (size_t j = i + 1; j < group->frame_count; j++) {
            const struct segment *older = r->segments[group->frames[j].segment];

            if (older != newer)
                segment_set_add(&newer->copies_of, older->binding.number);
        }
    }
    for (size_t i = 0; i < group->record_count; i++) {
        struct segment *segment = r->segments[group->records[i].segment];

        if (group->dead && !group->records[i].dead)
            continue; /* the result of a message that is settled is of no use */
        for (size_t j = 0; j < group->frame_count; j++) {
            const struct segment *home = r->segments[group->frames[j].segment];

            if (home != segment)
                segment_set_add(&segment->holds_on, home->binding.number);
        }
    }
}

static int compare_live(const void *a, const void *b)
{
    uint64_t left = ((const struct live *)a)->epoch;
    uint64_t right = ((const struct live *)b)->epoch;

    return left < right ? -1 : left > right;
}

static void merge(struct recovery *r)
{
    struct found_position position = {0};
    struct found_group group;

    r->live = mem_alloc_array(r->found.message_count, sizeof(*r->live));
    while (found_next(&r->found, &position, &group)) {
        add_holds(r, &group);
        if (!group.dead)
            add_live(r, &group);
    }
    if (r->live_count > 1)
        qsort(r->live, r->live_count, sizeof(*r->live), compare_live);
}

/* Numbers go on above all that was ever stated. Where they near their end, something wrong was stated with a right checksum. */
static int take_numbers(struct recovery *r, struct error *error)
{
    struct shard *shard = r->shard;

    for (size_t i = 0; i < r->found.segment_count; i++) {
        const struct scan_result *scan = &r->found.segments[i].scan;

        if (r->found.segments[i].header.binding.number >= shard->next_number)
            shard->next_number = r->found.segments[i].header.binding.number + 1;
        if (scan->next_epoch > shard->next_epoch)
            shard->next_epoch = scan->next_epoch;
        /* What an unreadable file stated is not known: jump beyond whatever it may have been. */
        if (r->found.segments[i].state == FOUND_BAD)
            atomic_fetch_add(&r->spool->next_sequence, SEQUENCE_JUMP);
        if (scan->next_sequence > atomic_load(&r->spool->next_sequence))
            atomic_store(&r->spool->next_sequence, scan->next_sequence);
    }
    if (atomic_load(&r->spool->next_sequence) > FORMAT_SEQUENCE_MAX - NUMBERS_LEFT_MIN ||
        shard->next_epoch > FORMAT_NUMBER_MAX - NUMBERS_LEFT_MIN ||
        shard->next_number > FORMAT_NUMBER_MAX - NUMBERS_LEFT_MIN)
        return error_set(error, "%s: ids or epochs are used up", shard->directory);
    return 0;
}

static int recover_shard(struct recovery *r, struct error *error)
{
    int result;

    /* A file made by a process that was killed may have a name in memory only: what is written to it must not go with the name. */
    result = r->spool->vfs->sync_directory(r->spool->vfs, r->shard->directory);
    if (result < 0)
        return error_set_errno(error, -result, "%s", r->shard->directory);
    if (found_read(&r->found, r->spool->vfs, r->shard->directory, r->shard->number, r->bodies, false, error) < 0)
        return -1;
    atomic_store(&r->shard->next_file, r->found.next_file);
    if (take_numbers(r, error) < 0)
        return -1;
    adopt_segments(r);
    set_damages_aside(r);
    merge(r);
    adopt_free_files(r);
    return 0;
}

static int settle_once(struct recovery *r)
{
    for (size_t i = 0; i < r->found.segment_count; i++) {
        const struct found_segment *found = &r->found.segments[i];
        uint64_t from = found->scan.synced > FORMAT_PAGE_BYTES ? found->scan.synced : FORMAT_PAGE_BYTES;
        int result;

        if (found->state != FOUND_OPEN || found->scan.end <= from)
            continue;
        result = compact_rescue(r->shard, r->segments[i], from, found->scan.end);
        if (result < 0)
            return result;
    }
    return commit_checkpoint(r->shard, SPOOL_ID_LEASE);
}

/*
 * Makes sure of what was found, and that the log can be written. After an error the segment is given up, so there is a second
 * try in another. A full disk is no reason not to start: old mail can still go out, and that is what makes room.
 */
static int settle_shard(struct recovery *r, struct error *error)
{
    int result = settle_once(r);

    if (result < 0 && result != -ENOSPC)
        result = settle_once(r);
    if (result < 0 && result != -ENOSPC)
        return error_set_errno(error, -result, "%s: could not write", r->shard->directory);
    return 0;
}

/* What a damaged frame's body might be is kept with it; all others without a message are left-overs. */
static void sweep_bodies(struct spool *spool, const struct found_bodies *bodies, bool has_damage)
{
    const struct vfs *vfs = spool->vfs;

    for (size_t i = 0; i < bodies->count; i++) {
        char *path;

        if (bodies->used[i])
            continue;
        path = spool_body_path(spool, bodies->names[i]);
        if (has_damage) {
            char *aside =
                mem_printf("%s/spool-body-%016llx", spool->badmail_directory, (unsigned long long)bodies->names[i]);

            if (vfs_make_directories(vfs, spool->badmail_directory) == 0)
                vfs->rename(vfs, path, aside);
            free(aside);
        } else {
            vfs->remove(vfs, path);
        }
        free(path);
    }
}

static void report_results(struct recovery *r, const struct live *live)
{
    uint64_t seen_epoch = 0; /* epochs start at 1 */

    for (size_t i = 0; i < live->record_count; i++) {
        const struct found_record *record = &live->records[i];
        struct vfs_file *file = r->segments[record->segment]->file;
        char *payload;

        if (record->epoch == seen_epoch)
            continue; /* a copy */
        seen_epoch = record->epoch;
        payload = mem_alloc(record->payload_bytes);
        if (file->vfs->read_at(file, payload, record->payload_bytes, record->payload_at) ==
            (ssize_t)record->payload_bytes)
            r->callbacks->result(r->callbacks->context, record->id, str_make(payload, record->payload_bytes));
        else
            report_damage(r, r->segments[record->segment]->path, "a result could not be read");
        free(payload);
    }
}

static void report_live(struct recovery *r)
{
    for (size_t i = 0; i < r->live_count; i++) {
        const struct live *live = &r->live[i];
        struct vfs_file *file = r->segments[live->message->segment]->file;
        size_t length = live->message->envelope_bytes;
        uint64_t offset = (uint64_t)live->message->frame_units * FORMAT_ALIGNMENT + FORMAT_FRAME_HEADER_BYTES;
        char *envelope = mem_alloc(length);

        if (file->vfs->read_at(file, envelope, length, offset) == (ssize_t)length) {
            if (r->callbacks->message)
                r->callbacks->message(r->callbacks->context, live->message->id, str_make(envelope, length),
                                      live->message->body_bytes);
            if (r->callbacks->result)
                report_results(r, live);
        } else {
            /* It was read a moment ago: it stays, for a start when the disk answers. */
            report_damage(r, r->segments[live->message->segment]->path, "an envelope could not be read");
        }
        free(envelope);
    }
}

int recover_spool(struct spool *spool, const struct spool_recovery *recovery, struct error *error)
{
    struct recovery *all = mem_alloc_array(spool->shard_count, sizeof(*all));
    struct found_bodies bodies = {0};
    bool has_damage = false;
    int result = found_bodies_list(&bodies, spool->vfs, spool->body_directory, error);

    for (unsigned i = 0; i < spool->shard_count && result == 0; i++) {
        all[i] = (struct recovery){
            .spool = spool,
            .callbacks = recovery,
            .shard = &spool->shards[i],
            .bodies = &bodies,
            .has_damage = &has_damage,
        };
        result = recover_shard(&all[i], error);
    }
    for (unsigned i = 0; i < spool->shard_count && result == 0; i++)
        result = settle_shard(&all[i], error);
    if (result == 0) {
        for (unsigned i = 0; i < spool->shard_count; i++)
            report_live(&all[i]);
        sweep_bodies(spool, &bodies, has_damage);
    }
    for (unsigned i = 0; i < spool->shard_count; i++) {
        found_release(&all[i].found);
        free(all[i].segments);
        free(all[i].live);
    }
    found_bodies_release(&bodies);
    free(all);
    return result;
}
