/* SPDX-License-Identifier: Apache-2.0 */
/* Reading live messages back. A reader pins its segment: the file is not used again before the reader is closed. */
#include "base/crc32c.h"
#include "base/mem.h"
#include "spool/apply.h"
#include "spool/shard.h"

#include <errno.h>
#include <stdlib.h>

struct spool_reader {
    struct shard *shard;
    struct segment *segment;    /* of an inline body; pinned */
    struct vfs_file *body_file; /* of a body file; opened by the first read that may wait */
    uint64_t body_name;
    uint64_t body_bytes;
    uint64_t body_offset; /* of an inline body, in the segment */
    uint32_t body_checksum;
    uint32_t checksum; /* of what was read from the start without a gap */
    uint64_t checked_bytes;
};

static struct shard *shard_of(struct spool *spool, spool_id id)
{
    unsigned number = spool_shard_of(id);

    return number < spool->shard_count ? &spool->shards[number] : NULL;
}

struct spool_reader *spool_reader_open(struct spool *spool, spool_id id)
{
    struct shard *shard = shard_of(spool, id);
    const struct index_entry *entry;
    struct spool_reader *reader;

    if (!shard)
        return NULL;
    reader = mem_alloc(sizeof(*reader));
    reader->shard = shard;
    pthread_mutex_lock(&shard->mutex);
    entry = index_find(&shard->index, id);
    if (entry) {
        reader->body_name = entry->body_name;
        reader->body_bytes = entry->body_bytes;
        reader->body_offset = (uint64_t)entry->frame_units * FORMAT_ALIGNMENT + entry->body_at;
        reader->body_checksum = entry->body_checksum;
        reader->segment = apply_segment_of(shard, entry);
        reader->segment->pins++;
    }
    pthread_mutex_unlock(&shard->mutex);
    if (!reader->segment)
        mem_free(&reader);
    return reader;
}

uint64_t spool_reader_body_bytes(const struct spool_reader *reader)
{
    return reader->body_bytes;
}

static int open_body_file(struct spool_reader *reader, bool nowait)
{
    const struct vfs *vfs = reader->shard->spool->vfs;
    char *path;
    int result;

    if (reader->body_file)
        return 0;
    if (nowait)
        return -EAGAIN;
    path = spool_body_path(reader->shard->spool, reader->body_name);
    result = vfs->open(vfs, path, VFS_READ, &reader->body_file);
    free(path);
    return result;
}

/* What is left to be compared once all was read in order. */
static int check_read(struct spool_reader *reader, const void *data, size_t length, uint64_t offset)
{
    if (offset != reader->checked_bytes)
        return 0;
    reader->checksum = crc32c(reader->checksum, data, length);
    reader->checked_bytes += length;
    return reader->checked_bytes == reader->body_bytes && reader->checksum != reader->body_checksum ? -EILSEQ : 0;
}

ssize_t spool_reader_read(struct spool_reader *reader, void *data, size_t length, uint64_t offset, bool nowait)
{
    struct vfs_file *file = reader->segment->file;
    uint64_t start = reader->body_offset;
    ssize_t count;
    int result;

    if (offset >= reader->body_bytes)
        return 0;
    if (length > reader->body_bytes - offset)
        length = (size_t)(reader->body_bytes - offset);
    if (reader->body_name != 0) {
        result = open_body_file(reader, nowait);
        if (result < 0)
            return result;
        file = reader->body_file;
        start = 0;
    }
    count = nowait ? file->vfs->read_at_nowait(file, data, length, start + offset)
                   : file->vfs->read_at(file, data, length, start + offset);
    if (count < 0)
        return count;
    if (count == 0 && length > 0)
        return -EILSEQ; /* the file is shorter than the body */
    result = check_read(reader, data, (size_t)count, offset);
    return result < 0 ? result : count;
}

void spool_reader_close(struct spool_reader **reader)
{
    struct spool_reader *old = *reader;

    if (!old)
        return;
    if (old->body_file)
        old->body_file->vfs->close(old->body_file);
    pthread_mutex_lock(&old->shard->mutex);
    shard_unpin(old->shard, old->segment);
    pthread_mutex_unlock(&old->shard->mutex);
    mem_free(reader);
}

/* Reads header and envelope of the frame at `offset`, and checks them. */
static int read_envelope(const struct segment *segment, spool_id id, uint64_t offset, uint32_t envelope_bytes,
                         char **data)
{
    size_t length = (size_t)FORMAT_FRAME_HEADER_BYTES + envelope_bytes;
    char *bytes = mem_alloc(length + 1);
    struct format_frame frame;
    ssize_t count = segment->file->vfs->read_at(segment->file, bytes, length, offset);
    int result = 0;

    if (count < 0)
        result = (int)count;
    else if ((size_t)count < length ||
             format_frame_decode(&frame, &segment->binding, offset, segment->bytes - offset,
                                 (const unsigned char *)bytes) != FORMAT_OK ||
             frame.id != id || frame.envelope_bytes != envelope_bytes ||
             crc32c(0, bytes + FORMAT_FRAME_HEADER_BYTES, envelope_bytes) != frame.envelope_checksum)
        result = -EILSEQ;
    if (result < 0) {
        free(bytes);
        return result;
    }
    memmove(bytes, bytes + FORMAT_FRAME_HEADER_BYTES, envelope_bytes);
    bytes[envelope_bytes] = '\0';
    *data = bytes;
    return 0;
}

int spool_read_envelope(struct spool *spool, spool_id id, char **data, size_t *length)
{
    struct shard *shard = shard_of(spool, id);
    const struct index_entry *entry;
    struct segment *segment = NULL;
    uint32_t envelope_bytes = 0;
    uint64_t offset = 0;
    int result;

    if (!shard)
        return -ENOENT;
    pthread_mutex_lock(&shard->mutex);
    entry = index_find(&shard->index, id);
    if (entry) {
        offset = (uint64_t)entry->frame_units * FORMAT_ALIGNMENT;
        envelope_bytes = entry->envelope_bytes;
        segment = apply_segment_of(shard, entry);
        segment->pins++;
    }
    pthread_mutex_unlock(&shard->mutex);
    if (!segment)
        return -ENOENT;
    result = read_envelope(segment, id, offset, envelope_bytes, data);
    if (result == 0)
        *length = envelope_bytes;
    pthread_mutex_lock(&shard->mutex);
    shard_unpin(shard, segment);
    pthread_mutex_unlock(&shard->mutex);
    return result;
}
