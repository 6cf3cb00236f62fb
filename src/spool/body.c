/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/body.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "os/random.h"
#include "spool/space.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define NAME_DIGITS 16

int spool_body_file_create(struct spool *spool, struct spool_body_file **file)
{
    const struct vfs *vfs = spool->vfs;
    struct vfs_file *opened = NULL;
    uint64_t name;
    int result;

    space_sample(spool, false);
    if (!space_admits_file(spool, 0, false))
        return -ENOSPC;
    do {
        char *path;

        do
            name = random_u64();
        while (name == 0); /* 0 stands for a body in the frame */
        path = spool_body_path(spool, name);
        result = vfs->open(vfs, path, VFS_READ | VFS_WRITE | VFS_CREATE | VFS_EXCLUSIVE, &opened);
        free(path);
    } while (result == -EEXIST);
    if (result < 0)
        return result;
    *file = mem_alloc(sizeof(**file));
    **file = (struct spool_body_file){.spool = spool, .file = opened, .name = name};
    return 0;
}

int spool_body_file_append(struct spool_body_file *file, const void *data, size_t length)
{
    struct iovec part = {(void *)(uintptr_t)data, length};
    int result;

    assert(!file->is_finished);
    if (length == 0)
        return 0;
    space_sample(file->spool, false);
    if (!space_admits_file(file->spool, length, false))
        return -ENOSPC;
    result = file->file->vfs->write_at(file->file, &part, 1, file->bytes);
    if (result < 0)
        return result;
    file->checksum = crc32c(file->checksum, data, length);
    file->bytes += length;
    return 0;
}

int spool_body_file_finish(struct spool_body_file *file)
{
    const struct vfs *vfs = file->spool->vfs;
    int result;

    assert(!file->is_finished);
    result = vfs->sync_data(file->file);
    if (result == 0)
        result = vfs->sync_directory(vfs, file->spool->body_directory);
    if (result < 0)
        return result; /* only discarding is left: a second sync could succeed without the data */
    vfs->close(file->file);
    file->file = NULL;
    file->is_finished = true;
    return 0;
}

void spool_body_file_discard(struct spool_body_file **file)
{
    struct spool_body_file *gone = *file;
    char *path;

    if (!gone)
        return;
    if (gone->file)
        gone->file->vfs->close(gone->file);
    path = spool_body_path(gone->spool, gone->name);
    gone->spool->vfs->remove(gone->spool->vfs, path);
    free(path);
    mem_free(file);
}

void body_file_handed_over(struct spool_body_file **file)
{
    mem_free(file);
}

uint64_t body_parse_name(const char *text)
{
    uint64_t name = 0;

    for (int i = 0; i < NAME_DIGITS; i++) {
        char c = text[i];
        unsigned digit;

        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a') + 10;
        else
            return 0;
        name = name << 4 | digit;
    }
    return text[NAME_DIGITS] == '\0' ? name : 0;
}
