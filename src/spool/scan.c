/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/scan.h"

#include "base/crc32c.h"
#include "base/mem.h"

#include <stdlib.h>

#define WINDOW_BYTES (256u << 10)

/* A piece of the file in memory, moved forward as the scan goes. */
struct window {
    struct vfs_file *file;
    uint64_t file_bytes;
    char *data;
    size_t capacity;
    uint64_t offset;
    size_t length;
    bool has_failed; /* the last window_get: the disk did not answer, so nobody knows what stands there */
};

struct scan {
    const struct scan_source *source;
    const struct scan_visitor *visitor;
    struct scan_result *result;
    struct window window;
    struct format_batch *batches;
    size_t batch_count;
    size_t batch_capacity;
};

enum frame_verdict { FRAME_GOOD, FRAME_BAD_HEADER, FRAME_BAD_CONTENT };

static bool window_fill(struct window *w, size_t length, uint64_t offset)
{
    ssize_t count = w->file->vfs->read_at(w->file, w->data, length, offset);

    w->offset = offset;
    w->length = count > 0 ? (size_t)count : 0;
    w->has_failed = count < 0;
    return count >= 0;
}

/* The bytes, or NULL if they can't be read. Valid until the next call. */
static const char *window_get(struct window *w, uint64_t offset, size_t length)
{
    size_t ahead;

    w->has_failed = false;
    if (offset >= w->offset && offset + length <= w->offset + w->length)
        return w->data + (offset - w->offset);
    if (offset + length > w->file_bytes)
        return NULL;
    ahead = length > WINDOW_BYTES ? length : WINDOW_BYTES;
    if (ahead > w->file_bytes - offset)
        ahead = (size_t)(w->file_bytes - offset);
    if (ahead > w->capacity) {
        mem_free(&w->data);
        w->data = mem_alloc(ahead);
        w->capacity = ahead;
    }
    /* A bad sector further on must not hide what stands before it. */
    if (!window_fill(w, ahead, offset))
        window_fill(w, length, offset);
    return w->length >= length ? w->data : NULL;
}

static const unsigned char *window_header(struct window *w, uint64_t offset)
{
    return (const unsigned char *)window_get(w, offset, FORMAT_FRAME_HEADER_BYTES);
}

static uint64_t scan_limit(const struct scan_source *source)
{
    return source->end != 0 && source->end < source->bytes ? source->end : source->bytes;
}

/* Follows the batches from header to header; where one is missing, looks for the next at every page border. */
static void collect_batches(struct scan *s)
{
    const struct scan_source *source = s->source;
    uint64_t limit = scan_limit(source);
    uint64_t offset = FORMAT_PAGE_BYTES;

    while (offset + FORMAT_BATCH_HEADER_BYTES <= limit) {
        const unsigned char *header = window_header(&s->window, offset);
        struct format_batch batch;

        if (!header || format_batch_decode(&batch, &source->binding, offset, source->bytes, header) != FORMAT_OK) {
            offset += FORMAT_PAGE_BYTES;
            continue;
        }
        if (s->batch_count == s->batch_capacity) {
            s->batch_capacity = s->batch_capacity ? s->batch_capacity * 2 : 64;
            s->batches = mem_resize_array(s->batches, s->batch_capacity, sizeof(*s->batches));
        }
        s->batches[s->batch_count++] = batch;
        offset = format_page_align(offset + batch.bytes);
    }
}

static void summarize_batches(struct scan *s)
{
    struct scan_result *result = s->result;

    result->synced = s->source->end;
    for (size_t i = 0; i < s->batch_count; i++) {
        const struct format_batch *batch = &s->batches[i];

        if (s->source->end == 0 && batch->synced > result->synced)
            result->synced = batch->synced;
        if (batch->next_sequence > result->next_sequence)
            result->next_sequence = batch->next_sequence;
        if (batch->next_epoch > result->next_epoch)
            result->next_epoch = batch->next_epoch;
    }
    result->batch_count = s->batch_count;
}

static bool body_is_good(struct scan *s, const struct format_frame *frame, uint64_t offset)
{
    uint64_t left = format_frame_inline_bytes(frame);
    uint32_t checksum = 0;

    offset += format_frame_body_at(frame);
    while (left > 0) {
        size_t step = left < WINDOW_BYTES ? (size_t)left : WINDOW_BYTES;
        const char *data = window_get(&s->window, offset, step);

        if (!data)
            return false;
        checksum = crc32c(checksum, data, step);
        offset += step;
        left -= step;
    }
    return frame->body_name != 0 || checksum == frame->body_checksum;
}

static bool results_are_well_formed(struct str section)
{
    struct format_record record;
    int status;

    while ((status = format_record_next(&section, &record)) > 0)
        ;
    return status == 0;
}

/* Whether the header at `offset` is one. */
static bool decode_frame(struct scan *s, uint64_t offset, uint64_t stop, struct format_frame *frame)
{
    const unsigned char *header;

    if (offset + FORMAT_FRAME_HEADER_BYTES > stop)
        return false;
    header = window_header(&s->window, offset);
    return header && format_frame_decode(frame, &s->source->binding, offset, stop - offset, header) == FORMAT_OK;
}

/* Reads and checks the sections that recovery needs; the views are valid until the window moves. */
static enum frame_verdict read_frame(struct scan *s, uint64_t offset, uint64_t stop, struct format_frame *frame,
                                     struct str *envelope, struct str *results)
{
    size_t length;
    const char *data;

    if (!decode_frame(s, offset, stop, frame))
        return FRAME_BAD_HEADER;
    length = (size_t)format_frame_body_at(frame);
    data = window_get(&s->window, offset, length);
    if (!data)
        return FRAME_BAD_CONTENT;
    *envelope = str_make(data + FORMAT_FRAME_HEADER_BYTES, frame->envelope_bytes);
    *results = str_make(data + FORMAT_FRAME_HEADER_BYTES + frame->envelope_bytes, frame->results_bytes);
    if (crc32c(0, envelope->data, envelope->length) != frame->envelope_checksum ||
        crc32c(0, results->data, results->length) != frame->results_checksum || !results_are_well_formed(*results))
        return FRAME_BAD_CONTENT;
    return FRAME_GOOD;
}

/* Hands a frame to the visitor. The body is checked first, then the sections are fetched again: the window may have
 * moved. */
static enum frame_verdict visit_frame(struct scan *s, uint64_t offset, uint64_t stop, struct format_frame *frame)
{
    bool in_tail = offset >= s->result->synced;
    bool good_body = true;
    struct str envelope;
    struct str results;
    enum frame_verdict verdict = read_frame(s, offset, stop, frame, &envelope, &results);

    if (verdict != FRAME_GOOD)
        return verdict;
    if (frame->type == FORMAT_MESSAGE && (in_tail || s->source->verify_bodies)) {
        good_body = body_is_good(s, frame, offset);
        if (!good_body && in_tail)
            return FRAME_BAD_CONTENT;
        verdict = read_frame(s, offset, stop, frame, &envelope, &results);
        if (verdict != FRAME_GOOD)
            return verdict;
    }
    s->result->frame_count++;
    if (s->visitor->frame(s->visitor->context, offset, frame, envelope, results, in_tail, good_body) != 0)
        s->result->is_stopped = true;
    return FRAME_GOOD;
}

/* The next place in the range where a frame begins, or its end. */
static uint64_t find_frame(struct scan *s, uint64_t offset, uint64_t stop)
{
    struct format_frame frame;

    for (offset = format_align(offset); offset < stop; offset += FORMAT_ALIGNMENT) {
        if (decode_frame(s, offset, stop, &frame))
            return offset;
    }
    return stop;
}

static void report_damage(struct scan *s, uint64_t from, uint64_t to, const struct format_frame *frame,
                          const char *what)
{
    s->visitor->damage(s->visitor->context, from, to, frame, what);
}

/* The log ends here. What can't be read is no torn tail but damage: it may have been synced. */
static void end_log(struct scan *s, uint64_t offset, uint64_t stop)
{
    s->result->end = offset;
    if (s->window.has_failed) {
        s->result->is_unreadable = true;
        report_damage(s, offset, stop, NULL, "could not be read");
    }
}

/* The frames of a range. Returns false if the log ends inside: result->end says where. */
static bool scan_frames(struct scan *s, uint64_t offset, uint64_t stop)
{
    while (offset < stop && !s->result->is_stopped) {
        struct format_frame frame;
        enum frame_verdict verdict = visit_frame(s, offset, stop, &frame);
        uint64_t next;

        if (verdict == FRAME_GOOD) {
            offset += frame.frame_bytes;
            continue;
        }
        if (offset >= s->result->synced) {
            end_log(s, offset, stop);
            return false;
        }
        if (verdict == FRAME_BAD_CONTENT) {
            next = offset + frame.frame_bytes;
            report_damage(s, offset, next, &frame, "envelope or results damaged");
        } else {
            next = find_frame(s, offset + FORMAT_ALIGNMENT, stop);
            report_damage(s, offset, next, NULL, "frame header damaged");
        }
        offset = next;
    }
    s->result->end = stop;
    return true;
}

/* What stands between the known batches: nothing, or batches whose headers are damaged. False: the log ends there. */
static bool scan_gap(struct scan *s, uint64_t from, uint64_t to)
{
    if (from >= to)
        return true;
    if (from >= s->result->synced) {
        s->result->end = from;
        return false;
    }
    return scan_frames(s, from, to);
}

/* Where the frames of a batch end: the next batch's header knows of what was torn. */
static uint64_t batch_stop(const struct scan *s, size_t i)
{
    uint64_t stop = s->batches[i].offset + s->batches[i].bytes;
    uint64_t limit = scan_limit(s->source);

    if (i + 1 < s->batch_count) {
        uint64_t stated = s->batches[i + 1].previous_end;

        if (stated >= s->batches[i].offset && stated < stop)
            stop = stated;
    }
    return stop < limit ? stop : limit;
}

static void walk(struct scan *s)
{
    struct scan_result *result = s->result;
    uint64_t gap_from = FORMAT_PAGE_BYTES;

    result->end = FORMAT_PAGE_BYTES;
    for (size_t i = 0; i < s->batch_count && !result->is_stopped; i++) {
        const struct format_batch *batch = &s->batches[i];

        if (!scan_gap(s, gap_from, batch->previous_end))
            return;
        if (!scan_frames(s, batch->offset + FORMAT_BATCH_HEADER_BYTES, batch_stop(s, i))) {
            result->is_torn = true;
            return;
        }
        gap_from = format_page_align(batch->offset + batch->bytes);
    }
    if (result->is_stopped)
        return;
    if (s->source->end != 0)
        scan_gap(s, gap_from, s->source->end);
    else if (gap_from + FORMAT_PAGE_BYTES <= s->source->bytes && !window_header(&s->window, gap_from))
        end_log(s, gap_from, gap_from + FORMAT_PAGE_BYTES); /* a batch may stand there */
}

void scan_segment(const struct scan_source *source, const struct scan_visitor *visitor, struct scan_result *result)
{
    struct scan s = {.source = source, .visitor = visitor, .result = result};

    memset(result, 0, sizeof(*result));
    s.window.file = source->file;
    s.window.file_bytes = source->bytes;
    collect_batches(&s);
    summarize_batches(&s);
    result->position = FORMAT_PAGE_BYTES;
    if (s.batch_count > 0) {
        const struct format_batch *last = &s.batches[s.batch_count - 1];

        result->position = format_page_align(last->offset + last->bytes);
    }
    walk(&s);
    mem_free(&s.window.data);
    mem_free(&s.batches);
}
