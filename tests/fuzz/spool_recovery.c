/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as the segment files of a spool: it opens, reports, reads back what it reported, takes a message, and finds that again.
 * The first byte: 1 repairs the headers' checksums, 2 those of the sections too, so that the fuzzer gets past them; 4 makes two
 * segments of the rest.
 */
#include "base/crc32c.h"
#include "spool/format.h"
#include "spool/spool.h"

#include "../unit/spool/faulty_vfs.c" /* the same file system in memory as the unit tests', not linked to this program otherwise */

#define SEGMENT_BYTES    (32u << 10)
#define INPUT_BYTES_MAX  (2 * SEGMENT_BYTES)
#define REPAIRS_HEADERS  1u
#define REPAIRS_SECTIONS 2u
#define TWO_SEGMENTS     4u
#define DATA             "data"
#define DIRECTORY        DATA "/spool"
#define SHARD            DIRECTORY "/shard-00"

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            __builtin_trap();                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    spool_id ids[4096];
    size_t count;
    bool has_new;
    spool_id new_id;
};

static uint32_t get_u32(const unsigned char *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return value;
}

static void put_u32(unsigned char *at, uint32_t value)
{
    memcpy(at, &value, sizeof(value));
}

static void put_checksum(unsigned char *segment, uint64_t offset)
{
    unsigned char start[24];

    memcpy(start, segment + 16, 16); /* number and salt */
    memcpy(start + 16, &offset, sizeof(offset));
    put_u32(segment + offset, crc32c(crc32c(0, start, sizeof(start)), segment + offset + 4, 60));
}

static void repair_sections(unsigned char *segment, uint64_t offset)
{
    unsigned char *frame = segment + offset;
    uint64_t envelope_bytes = get_u32(frame + 24);
    uint64_t results_bytes = get_u32(frame + 28);

    if (offset + 64 + envelope_bytes + results_bytes > SEGMENT_BYTES)
        return;
    put_u32(frame + 48, crc32c(0, frame + 64, envelope_bytes));
    put_u32(frame + 52, crc32c(0, frame + 64 + envelope_bytes, results_bytes));
}

static void repair(unsigned char *segment, unsigned flags)
{
    if (flags & REPAIRS_HEADERS) {
        memcpy(segment + 8, "POSTERN\n", 8);
        put_u32(segment, crc32c(0, segment + 4, 60));
    }
    for (uint64_t offset = 4096; offset + 64 <= SEGMENT_BYTES; offset += 8) {
        bool is_batch = offset % 4096 == 0 && memcmp(segment + offset + 4, "PBAT", 4) == 0;
        bool is_frame = memcmp(segment + offset + 4, "FM", 2) == 0;

        if (is_frame && (flags & REPAIRS_SECTIONS))
            repair_sections(segment, offset);
        if ((is_batch || is_frame) && (flags & REPAIRS_HEADERS))
            put_checksum(segment, offset);
    }
}

static void make_file(const struct vfs *vfs, const char *path, const uint8_t *data, size_t size, unsigned flags)
{
    unsigned char *segment = mem_alloc(SEGMENT_BYTES);
    struct iovec part = {segment, SEGMENT_BYTES};
    struct vfs_file *file;

    if (size > 0)
        memcpy(segment, data, size < SEGMENT_BYTES ? size : SEGMENT_BYTES);
    repair(segment, flags);
    CHECK(vfs->open(vfs, path, VFS_READ | VFS_WRITE | VFS_CREATE, &file) == 0);
    CHECK(vfs->write_at(file, &part, 1, 0) == 0);
    vfs->close(file);
    free(segment);
}

static void saw_message(void *context, spool_id id, struct str envelope, uint64_t body_bytes)
{
    struct seen *seen = context;

    (void)body_bytes;
    for (size_t i = 0; i < seen->count; i++)
        CHECK(seen->ids[i] != id);
    if (seen->count < sizeof(seen->ids) / sizeof(seen->ids[0]))
        seen->ids[seen->count++] = id;
    if (seen->new_id != 0 && id == seen->new_id) {
        CHECK(str_equal(envelope, STR("new envelope")));
        seen->has_new = true;
    }
}

static void saw_result(void *context, spool_id id, struct str payload)
{
    const struct seen *seen = context;

    (void)payload;
    CHECK(seen->count > 0 &&
          (seen->ids[seen->count - 1] == id || seen->count == sizeof(seen->ids) / sizeof(seen->ids[0])));
}

static void saw_damage(void *context, const char *where, const char *what)
{
    (void)context;
    CHECK(strlen(where) > 0 && strlen(what) > 0);
}

static void read_all(struct spool *spool, const struct seen *seen)
{
    for (size_t i = 0; i < seen->count; i++) {
        struct spool_reader *reader = spool_reader_open(spool, seen->ids[i]);
        char *envelope = NULL;
        uint64_t offset = 0;
        char data[512];
        size_t length;
        ssize_t count;

        CHECK(reader);
        while ((count = spool_reader_read(reader, data, sizeof(data), offset, false)) > 0)
            offset += (uint64_t)count;
        spool_reader_close(&reader);
        CHECK(spool_read_envelope(spool, seen->ids[i], &envelope, &length) == 0);
        free(envelope);
    }
}

static pthread_mutex_t done_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done_cond = PTHREAD_COND_INITIALIZER;
static bool is_done;

static void write_done(struct spool_write *write)
{
    (void)write;
    pthread_mutex_lock(&done_mutex);
    is_done = true;
    pthread_cond_signal(&done_cond);
    pthread_mutex_unlock(&done_mutex);
}

/* A message as after any start; its id, or 0 if there was no room. */
static spool_id add_message(struct spool *spool)
{
    struct iovec body = {(void *)(uintptr_t) "body", 4};
    struct spool_write write = {
        .type = SPOOL_WRITE_MESSAGE,
        .envelope = STR("new envelope"),
        .body = &body,
        .body_part_count = 1,
        .done = write_done,
        .id = spool_reserve_id(spool, 0),
    };

    is_done = false;
    spool_submit(spool, &write);
    pthread_mutex_lock(&done_mutex);
    while (!is_done)
        pthread_cond_wait(&done_cond, &done_mutex);
    pthread_mutex_unlock(&done_mutex);
    return write.status == SPOOL_DONE ? write.id : 0;
}

static void run(struct faulty_vfs *faulty, struct seen *seen, bool is_first)
{
    const struct spool_options options = {
        .vfs = faulty_table(faulty),
        .directory = DIRECTORY,
        .badmail_directory = DATA "/badmail",
        .shard_count = 1,
        .segment_bytes = SEGMENT_BYTES,
        .reserve_bytes = SEGMENT_BYTES / 2,
    };
    const struct spool_recovery recovery = {seen, saw_message, saw_result, saw_damage};
    struct spool *spool = spool_create(&options);
    struct error error;

    seen->count = 0;
    if (spool_open(spool, &recovery, &error) == 0) {
        read_all(spool, seen);
        if (is_first)
            seen->new_id = add_message(spool);
        else
            CHECK(seen->new_id == 0 || seen->has_new);
    }
    spool_close(&spool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct spool_check_report report;
    struct faulty_vfs *faulty;
    struct seen *seen;
    const struct vfs *vfs;
    unsigned flags;
    size_t half;

    if (size < 1 || size > INPUT_BYTES_MAX)
        return 0;
    flags = data[0];
    data++;
    size--;
    half = flags & TWO_SEGMENTS ? size / 2 : size;
    faulty = faulty_create(1, 64u << 20);
    vfs = faulty_table(faulty);
    seen = mem_alloc(sizeof(*seen));
    CHECK(vfs_make_directories(vfs, SHARD) == 0);
    make_file(vfs, SHARD "/00000001.seg", data, half, flags);
    if (flags & TWO_SEGMENTS)
        make_file(vfs, SHARD "/00000002.seg", data + half, size - half, flags);
    spool_check(vfs, DIRECTORY, &report, NULL, NULL, NULL);
    run(faulty, seen, true);
    run(faulty, seen, false);
    free(seen);
    faulty_destroy(&faulty);
    return 0;
}
