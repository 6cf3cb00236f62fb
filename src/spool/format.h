/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format: the bytes of the spool, version 1. The same text, for people, stands in docs/spool-format.md. Pure, any
 * thread.
 *
 *     DIR/lock                 locked by the process that uses the spool
 *     DIR/shard-NN/NNNNNNNN.seg  segments (the number in a file's name says nothing: files are recycled)
 *     DIR/body/XXXXXXXXXXXXXXXX  bodies over 256 KiB, a name of 16 hex digits drawn at random
 *
 * All integers are little endian. All checksums are CRC-32C. Offsets count from the start of the segment.
 *
 * A segment is a page with the segment header, then batches. A batch is what one write and one sync brought to the
 * disk: it starts at a page border, so that no byte of it shares a page with bytes of an earlier sync, and it is padded
 * with zeros to the next page border. A batch is a batch header and frames without gaps; a frame is a frame header,
 * then the sections envelope, results, body without gaps, then zeros to a multiple of 8 bytes.
 *
 *     segment header, 64 bytes, at 0 and again at 2048
 *        0 u32 checksum of bytes 4..63          24 u64 salt, random, new with each use of the file
 *        4 u32 version, 1                       32 u64 bytes of the segment
 *        8 8 bytes "POSTERN\n"                  40 u32 shard
 *       16 u64 number, rises with each use      44 zeros
 *
 *     batch header, 64 bytes
 *        0 u32 bound checksum of bytes 4..63    32 u64 a sequence number above all given
 *        4 u32 0x54414250 ("PBAT")              40 u64 the next epoch after this batch
 *        8 u64 own offset                       48 u32 bytes of the batch, header included, padding not
 *       16 u64 synced: the sync before this     52 u32 count of frames
 *              batch reached up to here         56 zeros
 *       24 u64 previous end: the log before this batch ends here
 *
 *     frame header, 64 bytes
 *        0 u32 bound checksum of bytes 4..63    32 u64 body bytes
 *        4 u16 0x4d46 ("FM")                    40 u64 body file's name, 0: the body is in the frame
 *        6 u8 type: 1 message, 2 results,       48 u32 checksum of the envelope
 *             3 checkpoint                      52 u32 checksum of the results
 *        7 u8 zero                              56 u32 checksum of the body
 *        8 u64 message id, 0 if none            60 u32 bytes of the frame, padding included
 *       16 u64 epoch
 *       24 u32 envelope bytes
 *       28 u32 results bytes
 *
 *     result record, 32 bytes, then its payload, then zeros to a multiple of 8 bytes; the results section is a row of
 * them 0 u64 message id                       24 u32 payload bytes 8 u64 epoch                            28 u32 flags:
 * 1 dead 16 u64 home: number of the segment where the message's frame stood when the record was made
 *
 *     checkpoint: the envelope section is a row of entries of 16 bytes, by rising number
 *        0 u64 number of a sealed segment       8 u64 its end
 *
 * A bound checksum is started with the segment's number, its salt and the offset of what it covers (three u64), so that
 * what an earlier use of the file left behind is never taken for part of the log, nor a copy at another place.
 *
 * A message id is its sequence number times 256 plus its shard. Epochs number messages and results in the order in
 * which they were first written; a copy that the compactor makes keeps the epoch, and by it is known as a copy.
 *
 * What counts
 * -----------
 * The log of a shard is its segments by rising number. The last valid checkpoint of the log lists the segments before
 * its own that still stand, with the offset where each ends; a segment that it does not list is free. Its own segment
 * and later ones are open. Each segment's first frame is a checkpoint, so at most one open segment holds anything.
 *
 * The synced position of a sealed segment is its end; of an open one, the highest that any of its valid batch headers
 * states. A bad frame (a checksum is wrong, a length goes over the batch) at or above it is a torn tail: the log ends
 * there, and nothing after it counts. Above it bodies are checked too, since pages reach the disk in any order. A bad
 * frame below it is damage: it alone does not count.
 *
 * After a torn tail the log goes on behind the torn batch; the header of the next batch says, by its previous end, that
 * what lies between is void.
 *
 * A message is live if a valid frame of it stands and no dead record for it. The frame in the latest place counts.
 */
#ifndef POSTERN_SPOOL_FORMAT_H
#define POSTERN_SPOOL_FORMAT_H

#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

#define FORMAT_VERSION                1u
#define FORMAT_PAGE_BYTES             4096u
#define FORMAT_SEGMENT_HEADER_BYTES   64u
#define FORMAT_SEGMENT_HEADER_COPY_AT 2048u
#define FORMAT_BATCH_HEADER_BYTES     64u
#define FORMAT_FRAME_HEADER_BYTES     64u
#define FORMAT_RECORD_HEADER_BYTES    32u
#define FORMAT_CHECKPOINT_ENTRY_BYTES 16u
#define FORMAT_ALIGNMENT              8u

/* No log gets there by counting: what goes over is not valid, so that nothing wraps because of one wrong number. */
#define FORMAT_SEQUENCE_MAX (1ull << 54) /* of message ids */
#define FORMAT_NUMBER_MAX   (1ull << 62) /* segments, epochs */

/* What the checksums of a segment are bound to. */
struct format_binding {
    uint64_t number;
    uint64_t salt;
};

struct format_segment {
    struct format_binding binding;
    uint64_t bytes;
    uint32_t shard;
};

struct format_batch {
    uint64_t offset;
    uint64_t synced;
    uint64_t previous_end;
    uint64_t next_sequence;
    uint64_t next_epoch;
    uint32_t bytes;
    uint32_t frame_count;
};

enum format_frame_type { FORMAT_MESSAGE = 1, FORMAT_RESULTS = 2, FORMAT_CHECKPOINT = 3 };

struct format_frame {
    enum format_frame_type type;
    uint64_t id;
    uint64_t epoch;
    uint32_t envelope_bytes;
    uint32_t results_bytes;
    uint64_t body_bytes;
    uint64_t body_name; /* 0: the body is in the frame */
    uint32_t envelope_checksum;
    uint32_t results_checksum;
    uint32_t body_checksum;
    uint32_t frame_bytes;
};

struct format_record {
    uint64_t id;
    uint64_t epoch;
    uint64_t home;
    struct str payload;
    bool dead;
};

struct format_checkpoint_entry {
    uint64_t number;
    uint64_t end;
};

enum format_status { FORMAT_OK, FORMAT_BAD, FORMAT_NEWER_VERSION };

/* Rounded up to a frame's alignment, and to a page. */
uint64_t format_align(uint64_t bytes);
uint64_t format_page_align(uint64_t bytes);

/* The whole first page of a segment. */
void format_segment_encode(const struct format_segment *segment, unsigned char page[FORMAT_PAGE_BYTES]);
/* Takes whichever copy is valid. */
enum format_status format_segment_decode(struct format_segment *segment, const unsigned char page[FORMAT_PAGE_BYTES]);

void format_batch_encode(const struct format_batch *batch, const struct format_binding *binding,
                         unsigned char out[FORMAT_BATCH_HEADER_BYTES]);
/* `segment_bytes` bounds its length. */
enum format_status format_batch_decode(struct format_batch *batch, const struct format_binding *binding,
                                       uint64_t offset, uint64_t segment_bytes,
                                       const unsigned char in[FORMAT_BATCH_HEADER_BYTES]);

/* Bytes of a frame with sections of these lengths; `body_bytes` is 0 for a body in a file. */
uint64_t format_frame_bytes(uint64_t envelope_bytes, uint64_t results_bytes, uint64_t body_bytes);
void format_frame_encode(const struct format_frame *frame, const struct format_binding *binding, uint64_t offset,
                         unsigned char out[FORMAT_FRAME_HEADER_BYTES]);
/* `room` is what is left of the batch from `offset` on. The sections' checksums are the caller's to verify. */
enum format_status format_frame_decode(struct format_frame *frame, const struct format_binding *binding,
                                       uint64_t offset, uint64_t room,
                                       const unsigned char in[FORMAT_FRAME_HEADER_BYTES]);
/* Where the body starts, counted from the frame's start. */
uint64_t format_frame_body_at(const struct format_frame *frame);
/* Bytes of the body that stand in the frame. */
uint64_t format_frame_inline_bytes(const struct format_frame *frame);

/* The header of a record whose payload follows. */
void format_record_encode(const struct format_record *record, unsigned char out[FORMAT_RECORD_HEADER_BYTES]);
uint64_t format_record_bytes(size_t payload_bytes);
/* Takes the first record off `*section`: 1, 0 at the end, -1 malformed. */
int format_record_next(struct str *section, struct format_record *record);

void format_checkpoint_encode(const struct format_checkpoint_entry *entry,
                              unsigned char out[FORMAT_CHECKPOINT_ENTRY_BYTES]);
/* Takes the first entry off `*section`: 1, 0 at the end, -1 malformed. */
int format_checkpoint_next(struct str *section, struct format_checkpoint_entry *entry);

#endif
