/* SPDX-License-Identifier: Apache-2.0 */
/* Segment files as they are found: which there are, which of them count, and what stands in them. */
#include "base/mem.h"
#include "spool/body.h"
#include "spool/recover_private.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define FILE_SUFFIX     ".seg"
#define SEGMENTS_MAX    (1u << 20)
#define FILE_NUMBER_MAX 99999999u

/* Room for one more element of a growing array. */
static void *grow(void *array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return array;
    *capacity = *capacity ? *capacity * 2 : 64;
    return mem_resize_array(array, *capacity, size);
}

static int compare_names(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;

    return left < right ? -1 : left > right;
}

static int add_body_name(void *context, const char *name)
{
    struct found_bodies *bodies = context;
    uint64_t value = body_parse_name(name);

    if (value == 0)
        return 0;
    bodies->names = grow(bodies->names, bodies->count, &bodies->capacity, sizeof(*bodies->names));
    bodies->names[bodies->count++] = value;
    return 0;
}

int found_bodies_list(struct found_bodies *bodies, const struct vfs *vfs, const char *directory, struct error *error)
{
    int result = vfs->list(vfs, directory, add_body_name, bodies);

    if (result < 0 && result != -ENOENT)
        return error_set_errno(error, -result, "%s", directory);
    if (bodies->count > 1)
        qsort(bodies->names, bodies->count, sizeof(*bodies->names), compare_names);
    bodies->used = mem_alloc_array(bodies->count, sizeof(*bodies->used));
    return 0;
}

size_t found_bodies_find(const struct found_bodies *bodies, uint64_t name)
{
    const uint64_t *at = NULL;

    if (bodies->count > 0)
        at = bsearch(&name, bodies->names, bodies->count, sizeof(*bodies->names), compare_names);
    return at ? (size_t)(at - bodies->names) : SIZE_MAX;
}

void found_bodies_release(struct found_bodies *bodies)
{
    mem_free(&bodies->names);
    mem_free(&bodies->used);
}

/* A segment file's name: digits and the suffix. 0 if it is none. */
static uint64_t parse_file_name(const char *name)
{
    struct str rest = str_from_cstr(name);
    struct str suffix = STR(FILE_SUFFIX);
    uint64_t number;

    if (!str_ends_with(rest, suffix) || !str_to_u64(str_take(rest, rest.length - suffix.length), &number))
        return 0;
    return number <= FILE_NUMBER_MAX ? number : 0;
}

static int add_file(void *context, const char *name)
{
    struct found_shard *found = context;
    uint64_t number = parse_file_name(name);
    struct found_segment *segment;

    if (number == 0)
        return 0;
    if (found->segment_count >= SEGMENTS_MAX)
        return -EFBIG;
    found->segments = grow(found->segments, found->segment_count, &found->segment_capacity, sizeof(*found->segments));
    segment = &found->segments[found->segment_count++];
    *segment = (struct found_segment){.path = mem_printf("%s/%s", found->directory, name)};
    if (number >= found->next_file)
        found->next_file = number + 1;
    return 0;
}

static bool is_zero(const unsigned char *data, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (data[i] != 0)
            return false;
    }
    return true;
}

static int open_file(struct found_shard *found, struct found_segment *segment, bool is_read_only, struct error *error)
{
    unsigned char page[FORMAT_PAGE_BYTES];
    enum format_status status;
    int64_t size;
    ssize_t count;
    int result =
        found->vfs->open(found->vfs, segment->path, is_read_only ? VFS_READ : VFS_READ | VFS_WRITE, &segment->file);

    if (result < 0)
        return error_set_errno(error, -result, "%s", segment->path);
    size = segment->file->vfs->size(segment->file);
    if (size < 0)
        return error_set_errno(error, (int)-size, "%s", segment->path);
    segment->bytes = (uint64_t)size > SEGMENT_BYTES_MAX ? SEGMENT_BYTES_MAX : (uint64_t)size;
    memset(page, 0, sizeof(page));
    count = segment->file->vfs->read_at(segment->file, page, sizeof(page), 0);
    if (count < 0)
        return error_set_errno(error, (int)-count, "%s: could not read the header", segment->path);
    status = format_segment_decode(&segment->header, page);
    if (status == FORMAT_NEWER_VERSION)
        return error_set(error, "%s was written by a newer version", segment->path);
    if (status == FORMAT_BAD)
        segment->header = (struct format_segment){0};
    /* A file of zeroes was never used. One whose header is damaged must not be used, whatever it held. */
    segment->state = status == FORMAT_BAD && !is_zero(page, sizeof(page)) ? FOUND_BAD : FOUND_FREE;
    if (status == FORMAT_OK && segment->header.bytes < segment->bytes)
        segment->bytes = segment->header.bytes;
    return 0;
}

static int compare_segments(const void *a, const void *b)
{
    uint64_t left = ((const struct found_segment *)a)->header.binding.number;
    uint64_t right = ((const struct found_segment *)b)->header.binding.number;

    return left > right ? -1 : left < right;
}

static void add_message(struct found_segment *segment, uint64_t offset, const struct format_frame *frame,
                        bool body_is_good)
{
    struct found_message *message;

    segment->messages =
        grow(segment->messages, segment->message_count, &segment->message_capacity, sizeof(*segment->messages));
    message = &segment->messages[segment->message_count++];
    *message = (struct found_message){
        .id = frame->id,
        .epoch = frame->epoch,
        .body_bytes = frame->body_bytes,
        .body_name = frame->body_name,
        .segment = segment->place,
        .frame_units = (uint32_t)(offset / FORMAT_ALIGNMENT),
        .envelope_bytes = frame->envelope_bytes,
        .body_at = (uint32_t)format_frame_body_at(frame),
        .body_checksum = frame->body_checksum,
        .body_is_good = body_is_good,
    };
}

static void see_epoch(struct found_segment *segment, uint64_t epoch)
{
    if (epoch >= segment->scan.next_epoch)
        segment->scan.next_epoch = epoch + 1;
}

static void add_records(struct found_segment *segment, uint64_t section_at, struct str section)
{
    const char *start = section.data;
    struct format_record record;

    while (format_record_next(&section, &record) > 0) {
        if (spool_shard_of(record.id) != segment->shard)
            continue;
        see_epoch(segment, record.epoch);
        segment->records =
            grow(segment->records, segment->record_count, &segment->record_capacity, sizeof(*segment->records));
        segment->records[segment->record_count++] = (struct found_record){
            .id = record.id,
            .epoch = record.epoch,
            .payload_at = section_at + (uint64_t)(record.payload.data - start),
            .payload_bytes = (uint32_t)record.payload.length,
            .segment = segment->place,
            .dead = record.dead,
        };
    }
}

static void set_checkpoint(struct found_segment *segment, struct str section)
{
    struct format_checkpoint_entry entry;
    size_t capacity = section.length / FORMAT_CHECKPOINT_ENTRY_BYTES;

    segment->has_checkpoint = true;
    segment->checkpoint_count = 0;
    segment->checkpoint = mem_resize_array(segment->checkpoint, capacity + 1, sizeof(entry));
    while (format_checkpoint_next(&section, &entry) > 0)
        segment->checkpoint[segment->checkpoint_count++] = entry;
}

static void visit_damage(void *context, uint64_t from, uint64_t to, const struct format_frame *frame, const char *what)
{
    struct found_segment *segment = context;

    segment->damages =
        grow(segment->damages, segment->damage_count, &segment->damage_capacity, sizeof(*segment->damages));
    segment->damages[segment->damage_count++] = (struct found_damage){
        .segment = segment->place,
        .from = from,
        .to = to,
        .id = frame && frame->type == FORMAT_MESSAGE ? frame->id : 0,
        .what = what,
    };
}

static int visit_frame(void *context, uint64_t offset, const struct format_frame *frame, struct str envelope,
                       struct str results, bool in_tail, bool body_is_good)
{
    struct found_segment *segment = context;

    if (frame->type == FORMAT_CHECKPOINT) {
        set_checkpoint(segment, envelope);
        return 0;
    }
    if (frame->type == FORMAT_MESSAGE && spool_shard_of(frame->id) != segment->shard) {
        visit_damage(segment, offset, offset + frame->frame_bytes, NULL, "frame of another shard");
        return 0;
    }
    /* A body file is synced before its frame: in the tail, one without was refused and its file discarded. */
    if (in_tail && frame->body_name != 0 && found_bodies_find(segment->bodies, frame->body_name) == SIZE_MAX)
        return 0;
    see_epoch(segment, frame->epoch);
    if (frame->type == FORMAT_MESSAGE) {
        uint64_t sequence = frame->id >> 8;

        if (sequence >= segment->scan.next_sequence)
            segment->scan.next_sequence = sequence + 1;
        add_message(segment, offset, frame, body_is_good);
    }
    add_records(segment, offset + FORMAT_FRAME_HEADER_BYTES + frame->envelope_bytes, results);
    return 0;
}

static void scan(struct found_segment *segment, bool verify_bodies)
{
    const struct scan_source source = {
        .file = segment->file,
        .binding = segment->header.binding,
        .bytes = segment->bytes,
        .end = segment->state == FOUND_SEALED ? segment->listed_end : 0,
        .verify_bodies = verify_bodies,
    };
    const struct scan_visitor visitor = {.context = segment, .frame = visit_frame, .damage = visit_damage};

    scan_segment(&source, &visitor, &segment->scan);
}

/* Whether nothing was ever stated in it: its first batch did not reach the disk whole, or was never written. */
static bool is_empty(const struct found_segment *segment)
{
    return segment->scan.frame_count == 0 && segment->damage_count == 0 && segment->scan.synced <= FORMAT_PAGE_BYTES;
}

/* The segments from the newest down to the one with the last checkpoint; returns it, or NULL. */
static const struct found_segment *scan_open(struct found_shard *found)
{
    for (size_t i = 0; i < found->segment_count; i++) {
        struct found_segment *segment = &found->segments[i];

        if (segment->header.binding.number == 0)
            break;
        segment->state = FOUND_OPEN;
        scan(segment, found->verify_bodies);
        if (is_empty(segment))
            segment->state = FOUND_FREE;
        if (segment->has_checkpoint)
            return segment;
    }
    return NULL;
}

static int compare_number_to_segment(const void *key, const void *element)
{
    uint64_t number = *(const uint64_t *)key;
    uint64_t other = ((const struct found_segment *)element)->header.binding.number;

    return number > other ? -1 : number < other;
}

/* Marks what the checkpoint lists. */
static void mark_listed(struct found_shard *found, const struct found_segment *last)
{
    found->missing = mem_alloc_array(last->checkpoint_count, sizeof(*found->missing));
    for (size_t i = 0; i < last->checkpoint_count; i++) {
        const struct format_checkpoint_entry *entry = &last->checkpoint[i];
        struct found_segment *segment = bsearch(&entry->number, found->segments, found->segment_count,
                                                sizeof(*found->segments), compare_number_to_segment);

        if (!segment || entry->number == 0) {
            found->missing[found->missing_count++] = entry->number;
        } else if (segment->header.binding.number < last->header.binding.number) {
            segment->state = FOUND_SEALED;
            segment->listed_end = entry->end;
        }
    }
}

struct scan_pool {
    struct found_shard *found;
    atomic_size_t next;
};

static void *scan_sealed(void *context)
{
    struct scan_pool *pool = context;

    for (;;) {
        size_t i = atomic_fetch_add(&pool->next, 1);

        if (i >= pool->found->segment_count)
            return NULL;
        if (pool->found->segments[i].state == FOUND_SEALED)
            scan(&pool->found->segments[i], pool->found->verify_bodies);
    }
}

/* Scans are independent of each other, and each waits for the disk most of the time. */
static void scan_sealed_in_threads(struct found_shard *found, size_t sealed_count)
{
    struct scan_pool pool = {.found = found};
    pthread_t threads[RECOVER_THREADS_MAX];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t wanted = cores > 1 ? (size_t)cores : 1;
    size_t started = 0;

    if (wanted > sealed_count)
        wanted = sealed_count;
    if (wanted > RECOVER_THREADS_MAX)
        wanted = RECOVER_THREADS_MAX;
    while (started + 1 < wanted && pthread_create(&threads[started], NULL, scan_sealed, &pool) == 0)
        started++;
    scan_sealed(&pool);
    for (size_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
}

static int compare_messages(const void *a, const void *b)
{
    const struct found_message *left = a;
    const struct found_message *right = b;

    if (left->id != right->id)
        return left->id < right->id ? -1 : 1;
    if (left->segment != right->segment)
        return left->segment < right->segment ? -1 : 1; /* by falling number: the latest first */
    return left->frame_units > right->frame_units ? -1 : left->frame_units < right->frame_units;
}

static int compare_records(const void *a, const void *b)
{
    const struct found_record *left = a;
    const struct found_record *right = b;

    if (left->id != right->id)
        return left->id < right->id ? -1 : 1;
    return left->epoch < right->epoch ? -1 : left->epoch > right->epoch;
}

/* Moves `count` elements behind those of `*all`. */
static void *append(void *all, size_t *all_count, void **part, size_t count, size_t size)
{
    if (count > 0) {
        all = mem_resize_array(all, *all_count + count, size);
        memcpy((char *)all + *all_count * size, *part, count * size);
        *all_count += count;
    }
    free(*part);
    *part = NULL;
    return all;
}

static void join(struct found_shard *found)
{
    for (size_t i = 0; i < found->segment_count; i++) {
        struct found_segment *segment = &found->segments[i];
        void *part = segment->messages;

        found->messages =
            append(found->messages, &found->message_count, &part, segment->message_count, sizeof(*found->messages));
        segment->messages = NULL;
        part = segment->records;
        found->records =
            append(found->records, &found->record_count, &part, segment->record_count, sizeof(*found->records));
        segment->records = NULL;
        part = segment->damages;
        found->damages =
            append(found->damages, &found->damage_count, &part, segment->damage_count, sizeof(*found->damages));
        segment->damages = NULL;
    }
    if (found->message_count > 1)
        qsort(found->messages, found->message_count, sizeof(*found->messages), compare_messages);
    if (found->record_count > 1)
        qsort(found->records, found->record_count, sizeof(*found->records), compare_records);
}

int found_read(struct found_shard *found, const struct vfs *vfs, const char *directory, unsigned number,
               const struct found_bodies *bodies, bool verify_bodies, struct error *error)
{
    const struct found_segment *last;
    size_t sealed_count = 0;
    int result;

    found->vfs = vfs;
    found->directory = directory;
    found->number = number;
    found->verify_bodies = verify_bodies;
    found->next_file = 1;
    result = vfs->list(vfs, directory, add_file, found);
    if (result < 0)
        return error_set_errno(error, -result, "%s", directory);
    for (size_t i = 0; i < found->segment_count; i++) {
        if (open_file(found, &found->segments[i], verify_bodies, error) < 0)
            return -1;
    }
    if (found->segment_count > 1)
        qsort(found->segments, found->segment_count, sizeof(*found->segments), compare_segments);
    for (size_t i = 0; i < found->segment_count; i++) {
        found->segments[i].place = (uint32_t)i;
        found->segments[i].bodies = bodies;
        found->segments[i].shard = number;
    }
    last = scan_open(found);
    found->has_checkpoint = last != NULL;
    if (last)
        mark_listed(found, last);
    for (size_t i = 0; i < found->segment_count; i++)
        sealed_count += found->segments[i].state == FOUND_SEALED;
    if (sealed_count > 0)
        scan_sealed_in_threads(found, sealed_count);
    join(found);
    return 0;
}

void found_release(struct found_shard *found)
{
    for (size_t i = 0; i < found->segment_count; i++) {
        struct found_segment *segment = &found->segments[i];

        if (segment->file)
            segment->file->vfs->close(segment->file);
        free(segment->path);
        free(segment->checkpoint);
        free(segment->messages);
        free(segment->records);
        free(segment->damages);
    }
    mem_free(&found->segments);
    mem_free(&found->missing);
    mem_free(&found->messages);
    mem_free(&found->records);
    mem_free(&found->damages);
}

bool found_next(const struct found_shard *found, struct found_position *position, struct found_group *group)
{
    size_t first = position->message;
    uint64_t id;

    if (first >= found->message_count)
        return false;
    id = found->messages[first].id;
    while (position->message < found->message_count && found->messages[position->message].id == id)
        position->message++;
    while (position->record < found->record_count && found->records[position->record].id < id)
        position->record++;
    *group = (struct found_group){
        .frames = &found->messages[first],
        .frame_count = position->message - first,
        .records = found->records ? &found->records[position->record] : NULL,
    };
    while (position->record < found->record_count && found->records[position->record].id == id) {
        group->dead = group->dead || found->records[position->record].dead;
        group->record_count++;
        position->record++;
    }
    return true;
}
