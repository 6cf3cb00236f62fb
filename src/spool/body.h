/* SPDX-License-Identifier: Apache-2.0 */
/*
 * body: bodies over SPOOL_INLINE_BODY_BYTES, in files of their own. The public part stands in spool.h.
 */
#ifndef POSTERN_SPOOL_BODY_H
#define POSTERN_SPOOL_BODY_H

#include "spool/spool_private.h"

struct spool_body_file {
    struct spool *spool;
    struct vfs_file *file; /* NULL once finished */
    uint64_t name;
    uint64_t bytes;
    uint32_t checksum;
    bool is_finished;
};

/* Its message is on the disk: the file is the spool's. */
void body_file_handed_over(struct spool_body_file **file);

/* A body file's name from its hex digits; 0 if it is none. */
uint64_t body_parse_name(const char *text);

#endif
