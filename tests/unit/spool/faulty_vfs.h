/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faulty_vfs: a file system in memory that can fail and lose power, repeatably from a seed. It keeps two images: what a program
 * sees, and what is certainly on the disk. When the power is cut, each page written and not synced is kept, dropped or
 * garbled, and of the changes to a directory that were not synced a random first part is kept. What a failed sync did not
 * write no later sync writes either, though it can still be read: as Linux does. Any thread.
 */
#ifndef POSTERN_TESTS_SPOOL_FAULTY_VFS_H
#define POSTERN_TESTS_SPOOL_FAULTY_VFS_H

#include "os/vfs.h"

struct faulty_vfs;

enum faulty_kind {
    FAULTY_ANY,   /* any operation that changes something */
    FAULTY_WRITE, /* write_at, allocate */
    FAULTY_SYNC,
    FAULTY_READ,
};

struct faulty_vfs *faulty_create(uint64_t seed, uint64_t capacity_bytes);
void faulty_destroy(struct faulty_vfs **faulty);
const struct vfs *faulty_table(struct faulty_vfs *faulty);

/* Operations of a kind so far. */
uint64_t faulty_count(struct faulty_vfs *faulty, enum faulty_kind kind);
/* The operation of this kind after `skip` more fails with `error` (positive), and `times` - 1 after it. */
void faulty_fail(struct faulty_vfs *faulty, enum faulty_kind kind, uint64_t skip, uint64_t times, int error);
/* The power is cut at the operation (of any kind that changes something) after `skip` more: it and all that
 * follow fail with EIO, except reading: the program is told nothing new by that. */
void faulty_cut_power(struct faulty_vfs *faulty, uint64_t skip);
bool faulty_is_dark(struct faulty_vfs *faulty);
/* All files must be closed. Applies the loss, and goes on without faults. */
void faulty_restart(struct faulty_vfs *faulty);
/* The process ended, the machine went on: nothing is lost; what was not synced still is not. */
void faulty_clear_faults(struct faulty_vfs *faulty);

void faulty_set_capacity(struct faulty_vfs *faulty, uint64_t capacity_bytes);
/* Inverts a byte, on the disk too. False if there is no such file or byte. */
bool faulty_flip(struct faulty_vfs *faulty, const char *path, uint64_t offset);
uint64_t faulty_next_random(struct faulty_vfs *faulty);

#endif
