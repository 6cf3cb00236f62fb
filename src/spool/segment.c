/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/segment.h"

#include "base/mem.h"
#include "os/random.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

bool segment_set_has(const struct segment_set *set, uint64_t number)
{
    /* From the end: what was added last is asked for most. */
    for (size_t i = set->count; i-- > 0;) {
        if (set->numbers[i] == number)
            return true;
    }
    return false;
}

void segment_set_add(struct segment_set *set, uint64_t number)
{
    if (segment_set_has(set, number))
        return;
    if (set->count == set->capacity) {
        set->capacity = set->capacity ? set->capacity * 2 : 8;
        set->numbers = mem_resize_array(set->numbers, set->capacity, sizeof(*set->numbers));
    }
    set->numbers[set->count++] = number;
}

void segment_set_add_all(struct segment_set *set, const struct segment_set *other)
{
    for (size_t i = 0; i < other->count; i++)
        segment_set_add(set, other->numbers[i]);
}

void segment_set_remove(struct segment_set *set, uint64_t number)
{
    for (size_t i = 0; i < set->count; i++) {
        if (set->numbers[i] == number) {
            set->numbers[i] = set->numbers[--set->count];
            return;
        }
    }
}

void segment_set_release(struct segment_set *set)
{
    mem_free(&set->numbers);
    *set = (struct segment_set){0};
}

static int zero_file(const struct vfs *vfs, struct vfs_file *file, uint64_t bytes, const atomic_bool *cancel)
{
    for (uint64_t offset = 0; offset < bytes; offset += SEGMENT_ZERO_STEP_BYTES) {
        uint64_t step = bytes - offset < SEGMENT_ZERO_STEP_BYTES ? bytes - offset : SEGMENT_ZERO_STEP_BYTES;
        int result;

        if (cancel && atomic_load(cancel))
            return -ECANCELED;
        result = vfs->allocate(file, offset, step);
        if (result == 0)
            result = vfs->sync_data(file);
        if (result < 0)
            return result;
    }
    return 0;
}

int segment_create(const struct vfs *vfs, const char *directory, const char *path, uint64_t bytes,
                   const atomic_bool *cancel, struct segment **segment)
{
    struct vfs_file *file;
    int result = vfs->open(vfs, path, VFS_READ | VFS_WRITE | VFS_CREATE | VFS_EXCLUSIVE, &file);

    if (result < 0)
        return result;
    result = zero_file(vfs, file, bytes, cancel);
    if (result == 0)
        result = vfs->sync_directory(vfs, directory);
    if (result < 0) {
        vfs->close(file);
        vfs->remove(vfs, path);
        return result;
    }
    *segment = segment_adopt(file, mem_copy_str(str_from_cstr(path)), bytes);
    return 0;
}

struct segment *segment_adopt(struct vfs_file *file, char *path, uint64_t bytes)
{
    struct segment *segment = mem_alloc(sizeof(*segment));

    segment->file = file;
    segment->path = path;
    segment->bytes = bytes;
    segment->state = SEGMENT_SPARE;
    list_init(&segment->link);
    return segment;
}

void segment_set_state(struct segment *segment, enum segment_state state)
{
    static const bool allowed[5][5] = {
        [SEGMENT_SPARE][SEGMENT_ACTIVE] = true,     [SEGMENT_ACTIVE][SEGMENT_SEALED] = true,
        [SEGMENT_SEALED][SEGMENT_CONDEMNED] = true, [SEGMENT_CONDEMNED][SEGMENT_SEALED] = true,
        [SEGMENT_CONDEMNED][SEGMENT_FREED] = true,
    };

    assert(allowed[segment->state][state]);
    segment->state = state;
}

void segment_activate(struct segment *segment, uint64_t number, uint32_t slot)
{
    segment_set_state(segment, SEGMENT_ACTIVE);
    segment->binding = (struct format_binding){.number = number, .salt = random_u64()};
    segment->position = FORMAT_PAGE_BYTES;
    segment->synced = FORMAT_PAGE_BYTES;
    segment->end = FORMAT_PAGE_BYTES;
    segment->slot = slot;
}

struct segment *segment_recycle(struct segment **segment)
{
    struct segment *old = *segment;
    struct segment *fresh;

    assert(old->state == SEGMENT_FREED && old->pins == 0 && !old->is_broken);
    fresh = segment_adopt(old->file, old->path, old->bytes);
    old->file = NULL;
    old->path = NULL;
    segment_destroy(segment);
    return fresh;
}

void segment_destroy(struct segment **segment)
{
    struct segment *old = *segment;

    if (!old)
        return;
    if (old->file)
        old->file->vfs->close(old->file);
    free(old->path);
    segment_set_release(&old->holds_on);
    segment_set_release(&old->copies_of);
    segment_set_release(&old->moved_to);
    mem_free(segment);
}
