/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/apply.h"

#include "spool/keeper.h"
#include "spool/shard.h"

struct segment *apply_segment_of(const struct shard *shard, const struct index_entry *entry)
{
    return shard->segments[entry->segment];
}

uint64_t apply_frame_bytes(const struct index_entry *entry)
{
    return format_align(entry->body_at + (entry->body_name == 0 ? entry->body_bytes : 0));
}

void apply_place(struct index_entry *entry, struct segment *segment, const struct format_frame *frame, uint64_t offset)
{
    entry->segment = segment->slot;
    entry->frame_units = (uint32_t)(offset / FORMAT_ALIGNMENT);
    entry->envelope_bytes = frame->envelope_bytes;
    entry->body_at = (uint32_t)format_frame_body_at(frame);
    entry->body_bytes = frame->body_bytes;
    entry->body_name = frame->body_name;
    entry->body_checksum = frame->body_checksum;
    segment->live_count++;
    segment->live_bytes += apply_frame_bytes(entry);
}

static void leave(struct shard *shard, const struct index_entry *entry)
{
    struct segment *segment = apply_segment_of(shard, entry);

    segment->live_count--;
    segment->live_bytes -= apply_frame_bytes(entry);
}

static void apply_record(struct shard *shard, struct segment *segment, uint64_t id, bool dead)
{
    struct index_entry *entry = index_find(&shard->index, id);
    struct segment *home;

    if (!entry)
        return;
    home = apply_segment_of(shard, entry);
    if (home != segment)
        segment_set_add(&segment->holds_on, home->binding.number);
    if (!dead)
        return;
    leave(shard, entry);
    if (entry->body_name != 0)
        keeper_remove_body(shard, entry->body_name);
    index_remove(&shard->index, entry);
    atomic_fetch_sub_explicit(&shard->spool->live_messages, 1, memory_order_relaxed);
}

static void apply_message(struct shard *shard, struct segment *segment, const struct spool_write *write)
{
    const struct format_frame frame = {
        .envelope_bytes = (uint32_t)write->envelope.length,
        .results_bytes = write->own.results_bytes,
        .body_bytes = write->own.body_bytes,
        .body_name = write->own.body_name,
        .body_checksum = write->own.body_checksum,
    };

    apply_place(index_add(&shard->index, write->id), segment, &frame, write->own.offset);
    atomic_fetch_add_explicit(&shard->spool->live_messages, 1, memory_order_relaxed);
}

/* A record that was copied: it concerns its message wherever that stands now, or stood when it died. */
static void apply_copied_records(struct shard *shard, struct segment *segment, struct str records)
{
    struct format_record record;

    while (format_record_next(&records, &record) > 0) {
        const struct index_entry *entry = index_find(&shard->index, record.id);
        const struct segment *home = NULL;

        if (entry)
            home = apply_segment_of(shard, entry);
        else if (record.dead)
            home = shard_find_segment(shard, record.home);
        if (home && home != segment)
            segment_set_add(&segment->holds_on, home->binding.number);
    }
}

static void apply_copy(struct shard *shard, struct segment *segment, const struct spool_copy *copy)
{
    struct segment *source = copy->source;

    if (copy->frame.type == FORMAT_MESSAGE) {
        struct index_entry *entry = index_find(&shard->index, copy->frame.id);

        /* It may have died in the very batch that copied it: then a dead copy stands, and its dead record beside it. */
        if (entry) {
            leave(shard, entry);
            apply_place(entry, segment, &copy->frame, copy->write.own.offset);
        }
        if (source != segment) {
            segment_set_add(&segment->copies_of, source->binding.number);
            segment_set_add(&source->moved_to, segment->binding.number);
        }
    }
    apply_copied_records(shard, segment, copy->records);
}

void apply_write(struct shard *shard, struct segment *segment, struct spool_write *write)
{
    if (write->own.is_copy) {
        apply_copy(shard, segment, LIST_ENTRY(write, struct spool_copy, write));
        return;
    }
    if (write->type == SPOOL_WRITE_MESSAGE)
        apply_message(shard, segment, write);
    for (size_t i = 0; i < write->result_count; i++)
        apply_record(shard, segment, write->results[i].id, write->results[i].dead);
}
