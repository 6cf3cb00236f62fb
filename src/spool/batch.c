/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/batch.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "spool/spool_private.h"

#include <assert.h>
#include <stdlib.h>

#define SCRATCH_BYTES_START (64u << 10)
#define PARTS_START         1024u

static const unsigned char zeroes[FORMAT_PAGE_BYTES];

void batch_init(struct batch *batch)
{
    *batch = (struct batch){0};
    batch->scratch_capacity = SCRATCH_BYTES_START;
    batch->scratch = mem_alloc(SCRATCH_BYTES_START);
    batch->part_capacity = PARTS_START;
    batch->parts = mem_alloc_array(PARTS_START, sizeof(*batch->parts));
    list_init(&batch->placed);
}

void batch_release(struct batch *batch)
{
    mem_free(&batch->scratch);
    mem_free(&batch->parts);
    mem_free(&batch->checkpoint);
}

/* A larger scratch buffer: the parts that point into the old one follow. */
static void grow_scratch(struct batch *batch, size_t needed)
{
    size_t capacity = batch->scratch_capacity;
    unsigned char *larger;

    while (capacity < needed)
        capacity *= 2;
    larger = mem_alloc(capacity);
    memcpy(larger, batch->scratch, batch->scratch_used);
    for (size_t i = 0; i < batch->part_count; i++) {
        uintptr_t at = (uintptr_t)batch->parts[i].iov_base;
        uintptr_t first = (uintptr_t)batch->scratch;

        if (at >= first && at < first + batch->scratch_used)
            batch->parts[i].iov_base = larger + (at - first);
    }
    free(batch->scratch);
    batch->scratch = larger;
    batch->scratch_capacity = capacity;
}

/* Room for a frame, so that pointers into the scratch buffer stay good until the frame is complete. */
static void reserve(struct batch *batch, size_t scratch_bytes, size_t part_count)
{
    if (batch->scratch_used + scratch_bytes > batch->scratch_capacity)
        grow_scratch(batch, batch->scratch_used + scratch_bytes);
    if (batch->part_count + part_count > batch->part_capacity) {
        while (batch->part_count + part_count > batch->part_capacity)
            batch->part_capacity *= 2;
        batch->parts = mem_resize_array(batch->parts, batch->part_capacity, sizeof(*batch->parts));
    }
}

static void add_part(struct batch *batch, const void *data, size_t length)
{
    struct iovec *last = batch->part_count > 0 ? &batch->parts[batch->part_count - 1] : NULL;

    if (length == 0)
        return;
    batch->length += length;
    if (last && (const char *)last->iov_base + last->iov_len == (const char *)data) {
        last->iov_len += length;
        return;
    }
    assert(batch->parts && batch->part_count < batch->part_capacity);
    batch->parts[batch->part_count++] = (struct iovec){(void *)(uintptr_t)data, length};
}

static unsigned char *add_scratch(struct batch *batch, size_t length)
{
    unsigned char *at = batch->scratch + batch->scratch_used;

    assert(batch->scratch_used + length <= batch->scratch_capacity);
    batch->scratch_used += length;
    add_part(batch, at, length);
    return at;
}

static void add_padding(struct batch *batch, size_t length)
{
    memset(add_scratch(batch, length), 0, length);
}

void batch_begin(struct batch *batch, struct segment *segment, uint32_t shard)
{
    bool is_first = segment->position == FORMAT_PAGE_BYTES;

    batch->segment = segment;
    batch->start = segment->position;
    batch->write_at = is_first ? 0 : batch->start;
    batch->frame_count = 0;
    batch->has_checkpoint = false;
    batch->has_content = false;
    batch->part_count = 0;
    batch->scratch_used = 0;
    if (is_first) {
        const struct format_segment header = {segment->binding, segment->bytes, shard};

        format_segment_encode(&header, batch->segment_page);
        add_part(batch, batch->segment_page, FORMAT_PAGE_BYTES);
    }
    batch->length = 0;
    reserve(batch, 0, 2);
    add_part(batch, batch->header, FORMAT_BATCH_HEADER_BYTES);
}

void batch_add_checkpoint(struct batch *batch, const struct format_checkpoint_entry *entries, size_t count)
{
    size_t length = count * FORMAT_CHECKPOINT_ENTRY_BYTES;
    struct format_frame frame = {.type = FORMAT_CHECKPOINT, .envelope_bytes = (uint32_t)length};

    if (length > batch->checkpoint_capacity) {
        batch->checkpoint_capacity = length * 2;
        batch->checkpoint = mem_resize(batch->checkpoint, batch->checkpoint_capacity);
    }
    for (size_t i = 0; i < count; i++)
        format_checkpoint_encode(&entries[i], batch->checkpoint + i * FORMAT_CHECKPOINT_ENTRY_BYTES);
    frame.envelope_checksum = crc32c(0, batch->checkpoint, length);
    frame.frame_bytes = (uint32_t)format_frame_bytes(length, 0, 0);
    format_frame_encode(&frame, &batch->segment->binding, batch->start + batch->length, batch->checkpoint_header);
    reserve(batch, 0, 3);
    add_part(batch, batch->checkpoint_header, FORMAT_FRAME_HEADER_BYTES);
    add_part(batch, batch->checkpoint, length); /* entries keep the frame aligned */
    batch->has_checkpoint = true;
    batch->frame_count++;
}

bool batch_fits_segment(const struct batch *batch, uint64_t frame_bytes)
{
    return format_page_align(batch->start + batch->length + frame_bytes) <= batch->segment->bytes;
}

bool batch_fits(const struct batch *batch, uint64_t frame_bytes)
{
    if (!batch_fits_segment(batch, frame_bytes))
        return false;
    if (list_is_empty(&batch->placed))
        return true;
    return batch->length + frame_bytes <= BATCH_BYTES_MAX && batch->frame_count < BATCH_FRAMES_MAX;
}

/* The records of a write, those of messages that live; returns the section's checksum. */
static uint32_t add_records(struct batch *batch, const struct spool_write *write, uint64_t *next_epoch,
                            batch_home_fn *home_of, void *context)
{
    uint32_t checksum = 0;

    for (size_t i = 0; i < write->result_count; i++) {
        const struct spool_result *result = &write->results[i];
        size_t padding = format_align(result->payload.length) - result->payload.length;
        struct format_record record = {.id = result->id, .payload = result->payload, .dead = result->dead};
        unsigned char *header;

        record.home = home_of(context, result->id);
        if (record.home == 0)
            continue;
        record.epoch = (*next_epoch)++;
        header = add_scratch(batch, FORMAT_RECORD_HEADER_BYTES);
        format_record_encode(&record, header);
        checksum = crc32c(checksum, header, FORMAT_RECORD_HEADER_BYTES);
        add_part(batch, result->payload.data, result->payload.length);
        checksum = crc32c(checksum, result->payload.data, result->payload.length);
        add_padding(batch, padding);
        checksum = crc32c(checksum, zeroes, padding);
    }
    return checksum;
}

static void add_body(struct batch *batch, const struct iovec *parts, int count)
{
    for (int i = 0; i < count; i++)
        add_part(batch, parts[i].iov_base, parts[i].iov_len);
}

/* Ends a frame that began at `start`. */
static void finish_frame(struct batch *batch, struct spool_write *write, const struct format_frame *frame,
                         uint64_t start, unsigned char *header)
{
    add_padding(batch, format_align(batch->length) - batch->length);
    assert(batch->start + batch->length == start + frame->frame_bytes);
    format_frame_encode(frame, &batch->segment->binding, start, header);
    write->own.offset = start;
    list_append(&batch->placed, &write->link);
    batch->has_content = true;
    batch->frame_count++;
}

void batch_add_write(struct batch *batch, struct spool_write *write, uint64_t *next_epoch, batch_home_fn *home_of,
                     void *context)
{
    uint64_t start = batch->start + batch->length;
    size_t headers = FORMAT_FRAME_HEADER_BYTES + FORMAT_ALIGNMENT;
    struct format_frame frame = {
        .type = write->type == SPOOL_WRITE_MESSAGE ? FORMAT_MESSAGE : FORMAT_RESULTS,
        .id = write->type == SPOOL_WRITE_MESSAGE ? write->id : 0,
        .envelope_bytes = (uint32_t)write->envelope.length,
        .results_bytes = write->own.results_bytes,
        .body_bytes = write->own.body_bytes,
        .body_name = write->own.body_name,
        .envelope_checksum = write->own.envelope_checksum,
        .body_checksum = write->own.body_checksum,
        .frame_bytes = (uint32_t)write->own.frame_bytes,
    };
    unsigned char *header;

    headers += write->result_count * (FORMAT_RECORD_HEADER_BYTES + FORMAT_ALIGNMENT);
    reserve(batch, headers, 4 + (size_t)write->body_part_count + 3 * write->result_count);
    frame.epoch = (*next_epoch)++;
    write->own.epoch = frame.epoch;
    header = add_scratch(batch, FORMAT_FRAME_HEADER_BYTES);
    add_part(batch, write->envelope.data, write->envelope.length);
    frame.results_checksum = add_records(batch, write, next_epoch, home_of, context);
    add_body(batch, write->body, write->body_part_count);
    finish_frame(batch, write, &frame, start, header);
}

void batch_add_copy(struct batch *batch, struct spool_copy *copy)
{
    uint64_t start = batch->start + batch->length;
    struct format_frame frame = copy->frame;
    unsigned char *header;

    reserve(batch, FORMAT_FRAME_HEADER_BYTES + FORMAT_ALIGNMENT, 5);
    header = add_scratch(batch, FORMAT_FRAME_HEADER_BYTES);
    add_part(batch, copy->write.envelope.data, copy->write.envelope.length);
    add_part(batch, copy->records.data, copy->records.length);
    add_part(batch, copy->body.iov_base, copy->body.iov_len);
    finish_frame(batch, &copy->write, &frame, start, header);
}

void batch_finish(struct batch *batch, uint64_t next_sequence, uint64_t next_epoch)
{
    const struct format_batch header = {
        .offset = batch->start,
        .synced = batch->segment->synced,
        .previous_end = batch->segment->end,
        .next_sequence = next_sequence,
        .next_epoch = next_epoch,
        .bytes = (uint32_t)batch->length,
        .frame_count = batch->frame_count,
    };
    uint64_t end = batch->start + batch->length;

    format_batch_encode(&header, &batch->segment->binding, batch->header);
    batch->write_end = format_page_align(end);
    reserve(batch, 0, 1);
    add_part(batch, zeroes, batch->write_end - end);
    batch->length = end - batch->start;
}
