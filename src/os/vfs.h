/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vfs: the file system, as a table of operations that tests replace (one that fails at the Nth write, one that forgets
 * what was not synced). All calls return 0 or a count, or a negative errno. All may block, except where it is said:
 * never call them on a loop thread. Thread-safe, but one file's size-changing calls belong to one thread at a time.
 */
#ifndef POSTERN_OS_VFS_H
#define POSTERN_OS_VFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct vfs;

/* Each implementation embeds it as the first member of its own file structure. */
struct vfs_file {
    const struct vfs *vfs;
};

enum vfs_open_flags {
    VFS_READ = 1,
    VFS_WRITE = 2,
    VFS_CREATE = 4,    /* mode 0600 */
    VFS_EXCLUSIVE = 8, /* with VFS_CREATE: -EEXIST if it exists */
};

/* Called for each name in a directory, "." and ".." left out; non-zero stops the listing. */
typedef int vfs_list_fn(void *context, const char *name);

struct vfs {
    void *context;
    int (*open)(const struct vfs *vfs, const char *path, int flags, struct vfs_file **file);
    void (*close)(struct vfs_file *file); /* the caller's pointer is dead after it */
    /* Fewer bytes than asked only at the end of the file. */
    ssize_t (*read_at)(struct vfs_file *file, void *data, size_t length, uint64_t offset);
    /* The same without waiting for a disk: -EAGAIN if not all is in memory, or the file system can't tell. May be
     * called on a loop thread. */
    ssize_t (*read_at_nowait)(struct vfs_file *file, void *data, size_t length, uint64_t offset);
    /* All or an error; after an error what is in the file is unknown. */
    int (*write_at)(struct vfs_file *file, const struct iovec *parts, int part_count, uint64_t offset);
    int (*sync_data)(struct vfs_file *file); /* fdatasync */
    /* Reserves and zeroes blocks (written zeroes, not only fallocate), and makes the size at least offset + length. */
    int (*allocate)(struct vfs_file *file, uint64_t offset, uint64_t length);
    int (*truncate)(struct vfs_file *file, uint64_t length);
    int64_t (*size)(struct vfs_file *file);
    /* Exclusive advisory lock for the life of the open file; -EWOULDBLOCK if another process has it. */
    int (*lock)(struct vfs_file *file);
    int (*rename)(const struct vfs *vfs, const char *from, const char *to);
    int (*remove)(const struct vfs *vfs, const char *path);         /* a file, not a directory */
    int (*make_directory)(const struct vfs *vfs, const char *path); /* mode 0700; -EEXIST */
    int (*sync_directory)(const struct vfs *vfs, const char *path);
    int (*list)(const struct vfs *vfs, const char *path, vfs_list_fn *fn, void *context);
    /* Bytes that an unprivileged process may still use on the file system of `path`. */
    int64_t (*free_bytes)(const struct vfs *vfs, const char *path);
};

/* The operating system's. */
const struct vfs *vfs_system(void);

/* Makes the directory and its missing parents, each synced into its own parent; an existing one is fine. */
int vfs_make_directories(const struct vfs *vfs, const char *path);
/* The whole file, NUL-terminated after `*length` bytes, freed by the caller; -EFBIG over `length_max`. */
int vfs_read_file(const struct vfs *vfs, const char *path, size_t length_max, char **data, size_t *length);
/* Writes a new file `path`.tmp, syncs, renames it over `path`, syncs the directory. */
int vfs_write_file(const struct vfs *vfs, const char *path, const void *data, size_t length);

#endif
