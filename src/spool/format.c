/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/format.h"

#include "base/crc32c.h"

#include <endian.h>

#define BATCH_MAGIC 0x54414250u
#define FRAME_MAGIC 0x4d46u
#define RECORD_DEAD 1u

static const char segment_magic[8] = {'P', 'O', 'S', 'T', 'E', 'R', 'N', '\n'};

static void put_u16(unsigned char *out, uint16_t value)
{
    value = htole16(value);
    memcpy(out, &value, sizeof(value));
}

static void put_u32(unsigned char *out, uint32_t value)
{
    value = htole32(value);
    memcpy(out, &value, sizeof(value));
}

static void put_u64(unsigned char *out, uint64_t value)
{
    value = htole64(value);
    memcpy(out, &value, sizeof(value));
}

static uint16_t get_u16(const unsigned char *in)
{
    uint16_t value;

    memcpy(&value, in, sizeof(value));
    return le16toh(value);
}

static uint32_t get_u32(const unsigned char *in)
{
    uint32_t value;

    memcpy(&value, in, sizeof(value));
    return le32toh(value);
}

static uint64_t get_u64(const unsigned char *in)
{
    uint64_t value;

    memcpy(&value, in, sizeof(value));
    return le64toh(value);
}

uint64_t format_align(uint64_t bytes)
{
    return (bytes + FORMAT_ALIGNMENT - 1) & ~(uint64_t)(FORMAT_ALIGNMENT - 1);
}

uint64_t format_page_align(uint64_t bytes)
{
    return (bytes + FORMAT_PAGE_BYTES - 1) & ~(uint64_t)(FORMAT_PAGE_BYTES - 1);
}

static uint32_t bound_checksum(const struct format_binding *binding, uint64_t offset, const unsigned char *header,
                               size_t length)
{
    unsigned char start[24];

    put_u64(start, binding->number);
    put_u64(start + 8, binding->salt);
    put_u64(start + 16, offset);
    return crc32c(crc32c(0, start, sizeof(start)), header + 4, length - 4);
}

void format_segment_encode(const struct format_segment *segment, unsigned char page[FORMAT_PAGE_BYTES])
{
    memset(page, 0, FORMAT_PAGE_BYTES);
    put_u32(page + 4, FORMAT_VERSION);
    memcpy(page + 8, segment_magic, sizeof(segment_magic));
    put_u64(page + 16, segment->binding.number);
    put_u64(page + 24, segment->binding.salt);
    put_u64(page + 32, segment->bytes);
    put_u32(page + 40, segment->shard);
    put_u32(page, crc32c(0, page + 4, FORMAT_SEGMENT_HEADER_BYTES - 4));
    memcpy(page + FORMAT_SEGMENT_HEADER_COPY_AT, page, FORMAT_SEGMENT_HEADER_BYTES);
}

static enum format_status segment_decode_copy(struct format_segment *segment, const unsigned char *in)
{
    if (memcmp(in + 8, segment_magic, sizeof(segment_magic)) != 0)
        return FORMAT_BAD;
    if (get_u32(in) != crc32c(0, in + 4, FORMAT_SEGMENT_HEADER_BYTES - 4))
        return FORMAT_BAD;
    if (get_u32(in + 4) > FORMAT_VERSION)
        return FORMAT_NEWER_VERSION;
    segment->binding.number = get_u64(in + 16);
    segment->binding.salt = get_u64(in + 24);
    segment->bytes = get_u64(in + 32);
    segment->shard = get_u32(in + 40);
    return segment->binding.number == 0 || segment->binding.number > FORMAT_NUMBER_MAX ? FORMAT_BAD : FORMAT_OK;
}

enum format_status format_segment_decode(struct format_segment *segment, const unsigned char page[FORMAT_PAGE_BYTES])
{
    enum format_status status = segment_decode_copy(segment, page);

    return status == FORMAT_BAD ? segment_decode_copy(segment, page + FORMAT_SEGMENT_HEADER_COPY_AT) : status;
}

void format_batch_encode(const struct format_batch *batch, const struct format_binding *binding,
                         unsigned char out[FORMAT_BATCH_HEADER_BYTES])
{
    memset(out, 0, FORMAT_BATCH_HEADER_BYTES);
    put_u32(out + 4, BATCH_MAGIC);
    put_u64(out + 8, batch->offset);
    put_u64(out + 16, batch->synced);
    put_u64(out + 24, batch->previous_end);
    put_u64(out + 32, batch->next_sequence);
    put_u64(out + 40, batch->next_epoch);
    put_u32(out + 48, batch->bytes);
    put_u32(out + 52, batch->frame_count);
    put_u32(out, bound_checksum(binding, batch->offset, out, FORMAT_BATCH_HEADER_BYTES));
}

enum format_status format_batch_decode(struct format_batch *batch, const struct format_binding *binding,
                                       uint64_t offset, uint64_t segment_bytes,
                                       const unsigned char in[FORMAT_BATCH_HEADER_BYTES])
{
    if (get_u32(in + 4) != BATCH_MAGIC || get_u64(in + 8) != offset)
        return FORMAT_BAD;
    if (get_u32(in) != bound_checksum(binding, offset, in, FORMAT_BATCH_HEADER_BYTES))
        return FORMAT_BAD;
    batch->offset = offset;
    batch->synced = get_u64(in + 16);
    batch->previous_end = get_u64(in + 24);
    batch->next_sequence = get_u64(in + 32);
    batch->next_epoch = get_u64(in + 40);
    batch->bytes = get_u32(in + 48);
    batch->frame_count = get_u32(in + 52);
    if (batch->synced > offset || batch->previous_end > offset || offset > segment_bytes)
        return FORMAT_BAD;
    if (batch->next_sequence > FORMAT_SEQUENCE_MAX || batch->next_epoch > FORMAT_NUMBER_MAX)
        return FORMAT_BAD;
    if (batch->bytes < FORMAT_BATCH_HEADER_BYTES || batch->bytes > segment_bytes - offset)
        return FORMAT_BAD;
    return FORMAT_OK;
}

uint64_t format_frame_bytes(uint64_t envelope_bytes, uint64_t results_bytes, uint64_t body_bytes)
{
    return format_align(FORMAT_FRAME_HEADER_BYTES + envelope_bytes + results_bytes + body_bytes);
}

void format_frame_encode(const struct format_frame *frame, const struct format_binding *binding, uint64_t offset,
                         unsigned char out[FORMAT_FRAME_HEADER_BYTES])
{
    put_u16(out + 4, FRAME_MAGIC);
    out[6] = (unsigned char)frame->type;
    out[7] = 0;
    put_u64(out + 8, frame->id);
    put_u64(out + 16, frame->epoch);
    put_u32(out + 24, frame->envelope_bytes);
    put_u32(out + 28, frame->results_bytes);
    put_u64(out + 32, frame->body_bytes);
    put_u64(out + 40, frame->body_name);
    put_u32(out + 48, frame->envelope_checksum);
    put_u32(out + 52, frame->results_checksum);
    put_u32(out + 56, frame->body_checksum);
    put_u32(out + 60, frame->frame_bytes);
    put_u32(out, bound_checksum(binding, offset, out, FORMAT_FRAME_HEADER_BYTES));
}

uint64_t format_frame_inline_bytes(const struct format_frame *frame)
{
    return frame->body_name == 0 ? frame->body_bytes : 0;
}

uint64_t format_frame_body_at(const struct format_frame *frame)
{
    return (uint64_t)FORMAT_FRAME_HEADER_BYTES + frame->envelope_bytes + frame->results_bytes;
}

static bool frame_is_consistent(const struct format_frame *frame, unsigned type, uint64_t room)
{
    uint64_t inline_bytes = format_frame_inline_bytes(frame);

    if (type < FORMAT_MESSAGE || type > FORMAT_CHECKPOINT)
        return false;
    if ((type == FORMAT_MESSAGE) != (frame->id != 0))
        return false;
    if (frame->id >> 8 >= FORMAT_SEQUENCE_MAX || frame->epoch >= FORMAT_NUMBER_MAX)
        return false;
    if (type != FORMAT_MESSAGE && (frame->body_bytes != 0 || frame->body_name != 0))
        return false;
    if (inline_bytes > UINT32_MAX || frame->frame_bytes > room)
        return false;
    return frame->frame_bytes == format_frame_bytes(frame->envelope_bytes, frame->results_bytes, inline_bytes);
}

enum format_status format_frame_decode(struct format_frame *frame, const struct format_binding *binding,
                                       uint64_t offset, uint64_t room,
                                       const unsigned char in[FORMAT_FRAME_HEADER_BYTES])
{
    unsigned type = in[6];

    if (get_u16(in + 4) != FRAME_MAGIC)
        return FORMAT_BAD;
    if (get_u32(in) != bound_checksum(binding, offset, in, FORMAT_FRAME_HEADER_BYTES))
        return FORMAT_BAD;
    frame->type = (enum format_frame_type)type;
    frame->id = get_u64(in + 8);
    frame->epoch = get_u64(in + 16);
    frame->envelope_bytes = get_u32(in + 24);
    frame->results_bytes = get_u32(in + 28);
    frame->body_bytes = get_u64(in + 32);
    frame->body_name = get_u64(in + 40);
    frame->envelope_checksum = get_u32(in + 48);
    frame->results_checksum = get_u32(in + 52);
    frame->body_checksum = get_u32(in + 56);
    frame->frame_bytes = get_u32(in + 60);
    return frame_is_consistent(frame, type, room) ? FORMAT_OK : FORMAT_BAD;
}

void format_record_encode(const struct format_record *record, unsigned char out[FORMAT_RECORD_HEADER_BYTES])
{
    put_u64(out, record->id);
    put_u64(out + 8, record->epoch);
    put_u64(out + 16, record->home);
    put_u32(out + 24, (uint32_t)record->payload.length);
    put_u32(out + 28, record->dead ? RECORD_DEAD : 0);
}

uint64_t format_record_bytes(size_t payload_bytes)
{
    return FORMAT_RECORD_HEADER_BYTES + format_align(payload_bytes);
}

int format_record_next(struct str *section, struct format_record *record)
{
    const unsigned char *in = (const unsigned char *)section->data;
    uint32_t payload_bytes;
    uint64_t record_bytes;

    if (section->length == 0)
        return 0;
    if (section->length < FORMAT_RECORD_HEADER_BYTES)
        return -1;
    payload_bytes = get_u32(in + 24);
    record_bytes = format_record_bytes(payload_bytes);
    if (record_bytes > section->length)
        return -1;
    record->id = get_u64(in);
    record->epoch = get_u64(in + 8);
    record->home = get_u64(in + 16);
    record->payload = str_make(section->data + FORMAT_RECORD_HEADER_BYTES, payload_bytes);
    record->dead = (get_u32(in + 28) & RECORD_DEAD) != 0;
    if (record->epoch >= FORMAT_NUMBER_MAX)
        return -1;
    *section = str_skip(*section, record_bytes);
    return 1;
}

void format_checkpoint_encode(const struct format_checkpoint_entry *entry,
                              unsigned char out[FORMAT_CHECKPOINT_ENTRY_BYTES])
{
    put_u64(out, entry->number);
    put_u64(out + 8, entry->end);
}

int format_checkpoint_next(struct str *section, struct format_checkpoint_entry *entry)
{
    const unsigned char *in = (const unsigned char *)section->data;

    if (section->length == 0)
        return 0;
    if (section->length < FORMAT_CHECKPOINT_ENTRY_BYTES)
        return -1;
    entry->number = get_u64(in);
    entry->end = get_u64(in + 8);
    *section = str_skip(*section, FORMAT_CHECKPOINT_ENTRY_BYTES);
    return 1;
}
