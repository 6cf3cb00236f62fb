/* SPDX-License-Identifier: Apache-2.0 */
#include "os/vfs.h"

#include "base/buf.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Parts handed to one pwritev; IOV_MAX is 1,024, this keeps the array on the stack at 4 KiB. */
#define WRITE_PARTS_MAX    256
#define ZEROES_BYTES       65536
#define ZEROES_PARTS       16
#define READ_FILE_STEP_MIN 4096

struct system_file {
    struct vfs_file file;
    int fd;
};

static int file_fd(const struct vfs_file *file)
{
    return ((const struct system_file *)file)->fd;
}

static int system_open(const struct vfs *vfs, const char *path, int flags, struct vfs_file **file)
{
    int open_flags = O_CLOEXEC;
    struct system_file *opened;
    int fd;

    if ((flags & VFS_READ) && (flags & VFS_WRITE))
        open_flags |= O_RDWR;
    else
        open_flags |= flags & VFS_WRITE ? O_WRONLY : O_RDONLY;
    if (flags & VFS_CREATE)
        open_flags |= O_CREAT;
    if (flags & VFS_EXCLUSIVE)
        open_flags |= O_EXCL;
    do {
        fd = open(path, open_flags, 0600);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return -errno;
    opened = mem_alloc(sizeof(*opened));
    opened->file.vfs = vfs;
    opened->fd = fd;
    *file = &opened->file;
    return 0;
}

static void system_close(struct vfs_file *file)
{
    close(file_fd(file)); /* Linux frees the descriptor even on EINTR; what matters was synced before */
    free(file);
}

static ssize_t system_read_at(struct vfs_file *file, void *data, size_t length, uint64_t offset)
{
    size_t done = 0;

    while (done < length) {
        ssize_t count = pread(file_fd(file), (char *)data + done, length - done, (off_t)(offset + done));

        if (count < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        if (count == 0)
            break;
        done += (size_t)count;
    }
    return (ssize_t)done;
}

static ssize_t system_read_at_nowait(struct vfs_file *file, void *data, size_t length, uint64_t offset)
{
    size_t done = 0;

    /* A short count may mean that the rest is not in memory: only a following 0 says that the file ends there. */
    while (done < length) {
        struct iovec part = {(char *)data + done, length - done};
        ssize_t count = preadv2(file_fd(file), &part, 1, (off_t)(offset + done), RWF_NOWAIT);

        if (count < 0) {
            if (errno == EINTR)
                continue;
            return errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL ? -EAGAIN : -errno;
        }
        if (count == 0)
            break;
        done += (size_t)count;
    }
    return (ssize_t)done;
}

/* Fills `window` with what follows the first `skip` bytes of the parts; returns how many it used. */
static int next_window(const struct iovec *parts, int part_count, size_t skip, struct iovec *window)
{
    int used = 0;

    for (int i = 0; i < part_count && used < WRITE_PARTS_MAX; i++) {
        if (skip >= parts[i].iov_len) {
            skip -= parts[i].iov_len;
            continue;
        }
        window[used++] = (struct iovec){(char *)parts[i].iov_base + skip, parts[i].iov_len - skip};
        skip = 0;
    }
    return used;
}

static int system_write_at(struct vfs_file *file, const struct iovec *parts, int part_count, uint64_t offset)
{
    struct iovec window[WRITE_PARTS_MAX];
    size_t skip = 0; /* bytes of the remaining parts that are written already */
    int used;

    while ((used = next_window(parts, part_count, skip, window)) > 0) {
        ssize_t count = pwritev(file_fd(file), window, used, (off_t)offset);

        if (count < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        if (count == 0)
            return -EIO;
        offset += (uint64_t)count;
        skip += (size_t)count;
        /* Leaves whole parts behind, so that a list of thousands is not walked from its start each time. */
        while (part_count > 0 && skip >= parts->iov_len) {
            skip -= parts->iov_len;
            parts++;
            part_count--;
        }
    }
    return 0;
}

static int system_sync_data(struct vfs_file *file)
{
    /* No retry, not even on EINTR: after a failed sync the kernel may have dropped the pages and would report success.
     */
    return fdatasync(file_fd(file)) < 0 ? -errno : 0;
}

static int system_allocate(struct vfs_file *file, uint64_t offset, uint64_t length)
{
    static char zeroes[ZEROES_BYTES];
    int error;

    if (length == 0)
        return 0;
    do {
        error = posix_fallocate(file_fd(file), (off_t)offset, (off_t)length);
    } while (error == EINTR);
    if (error != 0)
        return -error;
    /* Blocks that are only reserved are converted at the first write, which costs each later sync a journal commit. */
    while (length > 0) {
        struct iovec parts[ZEROES_PARTS];
        uint64_t step = 0;
        int used = 0;

        for (; used < ZEROES_PARTS && step < length; used++) {
            uint64_t left = length - step;
            size_t bytes = left < ZEROES_BYTES ? (size_t)left : ZEROES_BYTES;

            parts[used] = (struct iovec){zeroes, bytes};
            step += bytes;
        }
        error = system_write_at(file, parts, used, offset);
        if (error < 0)
            return error;
        offset += step;
        length -= step;
    }
    return 0;
}

static int system_truncate(struct vfs_file *file, uint64_t length)
{
    int result;

    do {
        result = ftruncate(file_fd(file), (off_t)length);
    } while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}

static int64_t system_size(struct vfs_file *file)
{
    struct stat status;

    if (fstat(file_fd(file), &status) < 0)
        return -errno;
    return status.st_size;
}

static int system_lock(struct vfs_file *file)
{
    int result;

    do {
        result = flock(file_fd(file), LOCK_EX | LOCK_NB);
    } while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}

static int system_rename(const struct vfs *vfs, const char *from, const char *to)
{
    (void)vfs;
    return rename(from, to) < 0 ? -errno : 0;
}

static int system_remove(const struct vfs *vfs, const char *path)
{
    (void)vfs;
    return unlink(path) < 0 ? -errno : 0;
}

static int system_make_directory(const struct vfs *vfs, const char *path)
{
    (void)vfs;
    return mkdir(path, 0700) < 0 ? -errno : 0;
}

static int system_sync_directory(const struct vfs *vfs, const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = 0;

    (void)vfs;
    if (fd < 0)
        return -errno;
    if (fsync(fd) < 0)
        result = -errno;
    close(fd);
    return result;
}

static int system_list(const struct vfs *vfs, const char *path, vfs_list_fn *fn, void *context)
{
    DIR *directory = opendir(path);
    int result = 0;

    (void)vfs;
    if (!directory)
        return -errno;
    while (result == 0) {
        const struct dirent *entry;

        errno = 0;
        entry = readdir(directory);
        if (!entry) {
            result = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            result = fn(context, entry->d_name);
    }
    closedir(directory);
    return result;
}

static int64_t system_free_bytes(const struct vfs *vfs, const char *path)
{
    struct statvfs status;
    int result;
    uint64_t bytes;

    (void)vfs;
    do {
        result = statvfs(path, &status);
    } while (result < 0 && errno == EINTR);
    if (result < 0)
        return -errno;
    if (__builtin_mul_overflow((uint64_t)status.f_bavail, (uint64_t)status.f_frsize, &bytes) || bytes > INT64_MAX)
        return INT64_MAX;
    return (int64_t)bytes;
}

static const struct vfs system_vfs = {
    .open = system_open,
    .close = system_close,
    .read_at = system_read_at,
    .read_at_nowait = system_read_at_nowait,
    .write_at = system_write_at,
    .sync_data = system_sync_data,
    .allocate = system_allocate,
    .truncate = system_truncate,
    .size = system_size,
    .lock = system_lock,
    .rename = system_rename,
    .remove = system_remove,
    .make_directory = system_make_directory,
    .sync_directory = system_sync_directory,
    .list = system_list,
    .free_bytes = system_free_bytes,
};

const struct vfs *vfs_system(void)
{
    return &system_vfs;
}

static int sync_parent(const struct vfs *vfs, const char *path)
{
    struct str whole = str_from_cstr(path);
    size_t slash;
    char *parent;
    int result;

    while (whole.length > 1 && whole.data[whole.length - 1] == '/')
        whole.length--;
    slash = str_find_last(whole, '/');
    if (slash == STR_NONE)
        return vfs->sync_directory(vfs, ".");
    parent = mem_copy_str(str_take(whole, slash > 0 ? slash : 1));
    result = vfs->sync_directory(vfs, parent);
    free(parent);
    return result;
}

static int stop_listing(void *context, const char *name)
{
    (void)context;
    (void)name;
    return 1;
}

/* One level. An existing directory is fine, another kind of file is not. */
static int make_directory(const struct vfs *vfs, const char *path)
{
    int result = vfs->make_directory(vfs, path);

    if (result == 0)
        return sync_parent(vfs, path);
    if (result != -EEXIST)
        return result;
    result = vfs->list(vfs, path, stop_listing, NULL);
    /* A directory above that we may pass through and not read is no fault. */
    return result == -ENOTDIR ? result : 0;
}

int vfs_make_directories(const struct vfs *vfs, const char *path)
{
    char *partial = mem_copy_str(str_from_cstr(path));
    int result = 0;

    for (char *at = partial; *at && result == 0; at++) {
        if (*at == '/' && at > partial) {
            *at = '\0';
            result = make_directory(vfs, partial);
            *at = '/';
        }
    }
    if (result == 0)
        result = make_directory(vfs, path);
    free(partial);
    return result;
}

int vfs_read_file(const struct vfs *vfs, const char *path, size_t length_max, char **data, size_t *length)
{
    struct vfs_file *file;
    struct buf content;
    int result = vfs->open(vfs, path, VFS_READ, &file);

    if (result < 0)
        return result;
    /* Reads to the end instead of asking for the size: files of /proc say 0. One byte more tells "too long" from "just
     * fits". */
    buf_init(&content, length_max < SIZE_MAX ? length_max + 1 : SIZE_MAX);
    for (;;) {
        size_t left = content.length_max - content.length;
        size_t step = content.length < READ_FILE_STEP_MIN ? READ_FILE_STEP_MIN : content.length;
        ssize_t count;

        step = step < left ? step : left;
        if (step == 0) {
            result = -EFBIG;
            break;
        }
        count = vfs->read_at(file, buf_reserve(&content, step), step, content.length);
        if (count < 0) {
            result = (int)count;
            break;
        }
        content.length += (size_t)count;
        if ((size_t)count < step) {
            *length = content.length;
            *data = mem_copy_str(buf_str(&content));
            break;
        }
    }
    buf_release(&content);
    vfs->close(file);
    return result;
}

int vfs_write_file(const struct vfs *vfs, const char *path, const void *data, size_t length)
{
    char *temporary = mem_printf("%s.tmp", path);
    struct iovec part = {(void *)(uintptr_t)data, length};
    struct vfs_file *file;
    int result = vfs->open(vfs, temporary, VFS_WRITE | VFS_CREATE, &file);

    if (result < 0)
        goto done;
    result = vfs->truncate(file, 0);
    if (result == 0)
        result = vfs->write_at(file, &part, 1, 0);
    if (result == 0)
        result = vfs->sync_data(file);
    vfs->close(file);
    if (result == 0)
        result = vfs->rename(vfs, temporary, path);
    if (result < 0) {
        vfs->remove(vfs, temporary);
        goto done;
    }
    result = sync_parent(vfs, path);
done:
    free(temporary);
    return result;
}
