/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch: the bytes of one write, as a list of parts that mostly point into the submitters' memory. Its buffers are kept
 * from batch to batch. The commit thread's own.
 *
 * Calling sequence: batch_begin, then for each frame batch_fits and batch_add_*, then batch_finish; then the parts are
 * ready to be written.
 */
#ifndef POSTERN_SPOOL_BATCH_H
#define POSTERN_SPOOL_BATCH_H

#include "base/list.h"
#include "spool/format.h"

#include <sys/uio.h>

/* A batch takes no further frame once it is this long or holds this many; one frame it always takes. */
#define BATCH_BYTES_MAX  (4u << 20)
#define BATCH_FRAMES_MAX 2048u

struct segment;
struct spool_write;
struct spool_copy;
struct index;

struct batch {
    struct segment *segment;
    uint64_t write_at;  /* offset in the file: before `start` if the segment header goes along */
    uint64_t start;     /* of the batch header */
    uint64_t length;    /* so far, from `start` */
    uint64_t write_end; /* padded, once finished */
    uint32_t frame_count;
    bool has_checkpoint;
    bool has_content; /* anything but a checkpoint */

    struct iovec *parts;
    size_t part_count;
    size_t part_capacity;
    unsigned char *scratch; /* headers and padding */
    size_t scratch_used;
    size_t scratch_capacity;
    unsigned char *checkpoint;
    size_t checkpoint_capacity;
    unsigned char header[FORMAT_BATCH_HEADER_BYTES];
    unsigned char checkpoint_header[FORMAT_FRAME_HEADER_BYTES];
    unsigned char segment_page[FORMAT_PAGE_BYTES];

    struct list_link placed; /* writes */
};

void batch_init(struct batch *batch);
void batch_release(struct batch *batch);

/* Starts at the segment's position; `shard` is for the header of a segment that has none yet. */
void batch_begin(struct batch *batch, struct segment *segment, uint32_t shard);
/* Before any other frame. */
void batch_add_checkpoint(struct batch *batch, const struct format_checkpoint_entry *entries, size_t count);

/* Whether a frame of this length still goes into the batch, and into the segment. */
bool batch_fits(const struct batch *batch, uint64_t frame_bytes);
bool batch_fits_segment(const struct batch *batch, uint64_t frame_bytes);

/* How a record finds the segment where its message stands: 0 if the message does not live. */
typedef uint64_t batch_home_fn(void *context, uint64_t id);

/* Adds the frame of a measured write; takes epochs from `next_epoch`, and sets its place. */
void batch_add_write(struct batch *batch, struct spool_write *write, uint64_t *next_epoch, batch_home_fn *home_of,
                     void *context);
void batch_add_copy(struct batch *batch, struct spool_copy *copy);

/* Completes header and padding. */
void batch_finish(struct batch *batch, uint64_t next_sequence, uint64_t next_epoch);

#endif
