/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/compact.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "os/clock.h"
#include "spool/apply.h"
#include "spool/commit.h"
#include "spool/keeper.h"
#include "spool/scan.h"
#include "spool/shard.h"
#include "spool/space.h"

#include <errno.h>
#include <stdlib.h>

struct compaction {
    struct shard *shard;
    struct segment *source;
    uint64_t scan_from; /* of the source: the frames between these */
    uint64_t scan_end;
    uint64_t needed_max; /* bytes to copy before it is given up as not worth it */
    uint64_t needed;
    bool is_rescue; /* the source stays */
    bool has_failed;
    bool is_full; /* it failed for want of room */

    struct list_link step; /* copies not yet submitted */
    uint64_t step_bytes;

    pthread_mutex_t mutex;
    pthread_cond_t cond;
    size_t outstanding;
};

/* A copy and what it points to, in one piece of memory. */
struct compact_copy {
    struct spool_copy copy;
    struct compaction *compaction;
    char data[];
};

static void copy_done(struct spool_write *write)
{
    struct spool_copy *copy = LIST_ENTRY(write, struct spool_copy, write);
    struct compact_copy *self = LIST_ENTRY(copy, struct compact_copy, copy);
    struct compaction *c = self->compaction;

    pthread_mutex_lock(&c->mutex);
    if (write->status != SPOOL_DONE)
        c->has_failed = true;
    if (write->status == SPOOL_FULL)
        c->is_full = true;
    if (--c->outstanding == 0)
        pthread_cond_signal(&c->cond);
    pthread_mutex_unlock(&c->mutex);
    free(self);
}

/* Submits what was gathered and waits until it is on the disk. */
static void run_step(struct compaction *c)
{
    struct list_link *link;

    for (link = c->step.next; link != &c->step; link = link->next)
        c->outstanding++;
    while ((link = list_take_first(&c->step)))
        commit_submit(c->shard, LIST_ENTRY(link, struct spool_write, link));
    c->step_bytes = 0;
    if (!c->shard->has_threads) {
        commit_run(c->shard);
        return;
    }
    pthread_mutex_lock(&c->mutex);
    while (c->outstanding > 0)
        pthread_cond_wait(&c->cond, &c->mutex);
    pthread_mutex_unlock(&c->mutex);
    keeper_tend(c->shard);
}

/* Whether a record has to outlive the segment that it stands in. */
static bool record_is_needed(const struct compaction *c, const struct format_record *record)
{
    const struct segment *home;

    if (index_find(&c->shard->index, record->id))
        return true;
    if (!record->dead)
        return false;
    home = shard_find_segment(c->shard, record->home);
    return home && (home != c->source || c->is_rescue);
}

/* Copies the records that are needed to `out`; returns their length. */
static size_t select_records(const struct compaction *c, struct str section, char *out)
{
    struct str rest = section;
    struct format_record record;
    size_t length = 0;

    pthread_mutex_lock(&c->shard->mutex);
    for (;;) {
        const char *start = rest.data;

        if (format_record_next(&rest, &record) <= 0)
            break;
        if (record_is_needed(c, &record)) {
            memcpy(out + length, start, (size_t)(rest.data - start));
            length += (size_t)(rest.data - start);
        }
    }
    pthread_mutex_unlock(&c->shard->mutex);
    return length;
}

static bool message_is_needed(const struct compaction *c, uint64_t id, uint64_t offset)
{
    const struct index_entry *entry;
    bool needed;

    pthread_mutex_lock(&c->shard->mutex);
    entry = index_find(&c->shard->index, id);
    needed = entry && apply_segment_of(c->shard, entry) == c->source &&
             (uint64_t)entry->frame_units * FORMAT_ALIGNMENT == offset;
    pthread_mutex_unlock(&c->shard->mutex);
    return needed;
}

static struct compact_copy *make_copy(struct compaction *c, const struct format_frame *frame, uint64_t offset,
                                      size_t bytes)
{
    struct compact_copy *self = mem_alloc(sizeof(*self) + bytes);

    self->compaction = c;
    self->copy.frame = *frame;
    self->copy.source = c->source;
    self->copy.source_offset = offset;
    self->copy.write.type = frame->type == FORMAT_MESSAGE ? SPOOL_WRITE_MESSAGE : SPOOL_WRITE_RESULTS;
    self->copy.write.own.is_copy = true;
    self->copy.write.done = copy_done;
    return self;
}

static void add_to_step(struct compaction *c, struct compact_copy *self, uint64_t bytes)
{
    list_append(&c->step, &self->copy.write.link);
    c->step_bytes += bytes;
    c->needed += bytes;
    if (c->step_bytes >= COMPACT_STEP_BYTES)
        run_step(c);
}

/* The whole frame, with all its records. The body's checksum is carried over, so that damage stays visible at delivery. */
static void copy_message(struct compaction *c, const struct format_frame *frame, uint64_t offset, struct str envelope,
                         struct str results)
{
    size_t body_bytes = (size_t)format_frame_inline_bytes(frame);
    struct compact_copy *self = make_copy(c, frame, offset, envelope.length + results.length + body_bytes);
    char *body = self->data + envelope.length + results.length;
    struct vfs_file *file = c->source->file;

    memcpy(self->data, envelope.data, envelope.length);
    memcpy(self->data + envelope.length, results.data, results.length);
    self->copy.write.envelope = str_make(self->data, envelope.length);
    self->copy.records = str_make(self->data + envelope.length, results.length);
    self->copy.body = (struct iovec){body, body_bytes};
    if (file->vfs->read_at(file, body, body_bytes, offset + format_frame_body_at(frame)) != (ssize_t)body_bytes) {
        c->has_failed = true;
        free(self);
        return;
    }
    add_to_step(c, self, frame->frame_bytes);
}

static void copy_records(struct compaction *c, const struct format_frame *frame, uint64_t offset, struct str results)
{
    const struct format_frame header = {.type = FORMAT_RESULTS, .epoch = frame->epoch};
    struct compact_copy *self = make_copy(c, &header, offset, results.length);
    size_t length = select_records(c, results, self->data);

    if (length == 0) {
        free(self);
        return;
    }
    self->copy.records = str_make(self->data, length);
    self->copy.frame.results_bytes = (uint32_t)length;
    self->copy.frame.results_checksum = crc32c(0, self->data, length);
    add_to_step(c, self, length);
}

static int visit_frame(void *context, uint64_t offset, const struct format_frame *frame, struct str envelope,
                       struct str results, bool in_tail, bool body_is_good)
{
    struct compaction *c = context;

    (void)in_tail;
    (void)body_is_good;
    if (offset < c->scan_from)
        return 0;
    if (frame->type == FORMAT_MESSAGE && message_is_needed(c, frame->id, offset))
        copy_message(c, frame, offset, envelope, results);
    else if (results.length > 0)
        copy_records(c, frame, offset, results);
    return c->has_failed || c->needed > c->needed_max || atomic_load(&c->shard->stops);
}

static void visit_damage(void *context, uint64_t from, uint64_t to, const struct format_frame *frame, const char *what)
{
    /* Recovery has set it aside; nothing of it is live. */
    (void)context;
    (void)from;
    (void)to;
    (void)frame;
    (void)what;
}

/* Copies all that is needed; whether that is done. */
static bool run(struct compaction *c)
{
    const struct scan_source source = {
        .file = c->source->file,
        .binding = c->source->binding,
        .bytes = c->source->bytes,
        .end = c->scan_end,
    };
    const struct scan_visitor visitor = {.context = c, .frame = visit_frame, .damage = visit_damage};
    struct scan_result result;

    pthread_mutex_init(&c->mutex, NULL);
    pthread_cond_init(&c->cond, NULL);
    list_init(&c->step);
    scan_segment(&source, &visitor, &result);
    if (!list_is_empty(&c->step))
        run_step(c);
    pthread_mutex_destroy(&c->mutex);
    pthread_cond_destroy(&c->cond);
    return !result.is_stopped && !c->has_failed;
}

static bool is_candidate(const struct segment *segment, uint64_t newest, bool is_short)
{
    uint64_t divisor = is_short ? COMPACT_LIVE_DIVISOR_SHORT : COMPACT_LIVE_DIVISOR;
    uint64_t age = is_short ? 0 : COMPACT_AGE_SEGMENTS;

    return segment->state == SEGMENT_SEALED && !segment->is_compacted && segment->copies_of.count == 0 &&
           segment->binding.number + age < newest && segment->live_bytes <= segment->bytes / divisor &&
           (segment->live_count > 0 || segment->holds_on.count > 0) &&
           clock_monotonic_ms() >= segment->compact_after_ms;
}

/*
 * The oldest that is worth it: what holds on to it is the younger ones, so that they follow by themselves. On a full disk the
 * one with the least to copy, since there is little room to copy it to.
 */
static bool is_better(const struct segment *segment, const struct segment *chosen, bool is_short)
{
    if (!chosen)
        return true;
    return is_short ? segment->live_bytes < chosen->live_bytes : segment->binding.number < chosen->binding.number;
}

static struct segment *choose(struct shard *shard)
{
    bool is_short = !space_admits_file(shard->spool, shard->spool->segment_bytes, false);
    struct segment *chosen = NULL;
    uint64_t newest = 0;

    for (uint32_t i = 0; i < shard->segment_slots; i++) {
        const struct segment *segment = shard->segments[i];

        if (segment && segment->binding.number > newest)
            newest = segment->binding.number;
    }
    for (uint32_t i = 0; i < shard->segment_slots; i++) {
        struct segment *segment = shard->segments[i];

        if (segment && is_candidate(segment, newest, is_short) && is_better(segment, chosen, is_short))
            chosen = segment;
    }
    return chosen;
}

bool compact_run(struct shard *shard)
{
    struct compaction c = {.shard = shard};
    bool is_done;

    pthread_mutex_lock(&shard->mutex);
    c.source = choose(shard);
    if (c.source)
        c.source->pins++;
    pthread_mutex_unlock(&shard->mutex);
    if (!c.source)
        return false;
    c.scan_end = c.source->end;
    c.needed_max = c.source->bytes / 2;
    is_done = run(&c);
    pthread_mutex_lock(&shard->mutex);
    if (is_done)
        c.source->is_compacted = true;
    else
        c.source->compact_after_ms = clock_monotonic_ms() + COMPACT_RETRY_MS;
    shard_unpin(shard, c.source);
    pthread_mutex_unlock(&shard->mutex);
    if (is_done)
        commit_want_checkpoint(shard);
    return true;
}

int compact_rescue(struct shard *shard, struct segment *segment, uint64_t from, uint64_t to)
{
    struct compaction c = {
        .shard = shard,
        .source = segment,
        .scan_from = from,
        .scan_end = to,
        .needed_max = UINT64_MAX,
        .is_rescue = true,
    };

    if (run(&c))
        return 0;
    return c.is_full ? -ENOSPC : -EIO;
}
