/* SPDX-License-Identifier: Apache-2.0 */
#include "faulty_vfs.h"

#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES   4096u
#define SECTOR_BYTES 512u

enum page_state { PAGE_CLEAN, PAGE_DIRTY, PAGE_LOST /* a sync of it failed */ };

struct node {
    char *seen;
    char *durable;
    unsigned char *pages; /* enum page_state */
    size_t capacity;
    size_t seen_bytes;
    size_t durable_bytes;
    int references; /* names (of both images) and open files */
    bool is_locked;
};

struct entry {
    char *path;
    struct node *node; /* NULL: a directory */
};

enum change_type { CHANGE_CREATE, CHANGE_REMOVE, CHANGE_RENAME };

/* A change to the names that is not synced. */
struct change {
    enum change_type type;
    char *path;
    char *to;
    struct node *node;
};

struct names {
    struct entry *entries;
    size_t count;
};

struct fault {
    uint64_t skip;
    uint64_t times;
    int error;
};

struct faulty_vfs {
    struct vfs vfs;
    pthread_mutex_t mutex;
    uint64_t random;
    uint64_t capacity_bytes;
    struct names seen;
    struct names durable;
    struct change *changes;
    size_t change_count;
    uint64_t counts[4];
    struct fault faults[4];
    bool has_cut;
    uint64_t cut_skip;
    bool is_dark;
};

struct faulty_file {
    struct vfs_file file;
    struct faulty_vfs *faulty;
    struct node *node;
    bool has_lock;
};

static struct faulty_vfs *of_vfs(const struct vfs *vfs)
{
    return vfs->context;
}

static struct faulty_file *of_file(struct vfs_file *file)
{
    return (struct faulty_file *)file;
}

static uint64_t next_random(struct faulty_vfs *f)
{
    uint64_t x = (f->random += 0x9e3779b97f4a7c15u);

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void node_release(struct node *node)
{
    if (!node || --node->references > 0)
        return;
    free(node->seen);
    free(node->durable);
    free(node->pages);
    free(node);
}

static void node_grow(struct node *node, size_t bytes)
{
    size_t capacity = (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;

    if (capacity <= node->capacity)
        return;
    if (capacity < node->capacity * 2)
        capacity = node->capacity * 2;
    node->seen = mem_resize(node->seen, capacity);
    node->durable = mem_resize(node->durable, capacity);
    node->pages = mem_resize(node->pages, capacity / PAGE_BYTES);
    memset(node->seen + node->capacity, 0, capacity - node->capacity);
    memset(node->durable + node->capacity, 0, capacity - node->capacity);
    memset(node->pages + node->capacity / PAGE_BYTES, 0, (capacity - node->capacity) / PAGE_BYTES);
    node->capacity = capacity;
}

static struct entry *find(const struct names *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->entries[i].path, path) == 0)
            return &names->entries[i];
    }
    return NULL;
}

static void names_remove(struct names *names, const char *path)
{
    struct entry *entry = find(names, path);

    if (!entry)
        return;
    free(entry->path);
    node_release(entry->node);
    *entry = names->entries[--names->count];
}

static void names_add(struct names *names, const char *path, struct node *node)
{
    names_remove(names, path);
    names->entries = mem_resize_array(names->entries, names->count + 1, sizeof(*names->entries));
    names->entries[names->count++] = (struct entry){mem_copy_str(str_from_cstr(path)), node};
    if (node)
        node->references++;
}

static void apply_change(struct names *names, const struct change *change)
{
    struct entry *entry;

    if (change->type == CHANGE_CREATE) {
        names_add(names, change->path, change->node);
    } else if (change->type == CHANGE_REMOVE) {
        names_remove(names, change->path);
    } else if ((entry = find(names, change->path))) {
        struct node *node = entry->node;

        if (node)
            node->references++;
        names_remove(names, change->path);
        names_add(names, change->to, node);
        node_release(node);
    }
}

static void change_release(struct change *change)
{
    free(change->path);
    free(change->to);
    node_release(change->node);
}

static void add_change(struct faulty_vfs *f, enum change_type type, const char *path, const char *to, struct node *node)
{
    struct change *change;

    f->changes = mem_resize_array(f->changes, f->change_count + 1, sizeof(*f->changes));
    change = &f->changes[f->change_count++];
    *change = (struct change){.type = type, .path = mem_copy_str(str_from_cstr(path)), .node = node};
    if (to)
        change->to = mem_copy_str(str_from_cstr(to));
    if (node)
        node->references++;
    apply_change(&f->seen, change);
}

/* Counts the operation, and says whether it fails: 0 or a negative errno. `*applies`: it may have happened all the same. */
static int begin(struct faulty_vfs *f, enum faulty_kind kind, bool *applies)
{
    int result = 0;

    *applies = false;
    if (f->is_dark && kind != FAULTY_READ)
        return -EIO;
    for (int i = FAULTY_ANY; i <= FAULTY_READ; i++) {
        struct fault *fault = &f->faults[i];

        if (i != (int)kind && (i != FAULTY_ANY || kind == FAULTY_READ))
            continue;
        f->counts[i]++;
        if (fault->times == 0)
            continue;
        if (fault->skip > 0) {
            fault->skip--;
            continue;
        }
        fault->times--;
        *applies = fault->error != ENOSPC;
        result = -fault->error;
    }
    if (f->has_cut && kind != FAULTY_READ && f->cut_skip-- == 0) {
        f->is_dark = true;
        *applies = true;
        return -EIO;
    }
    if (result == 0)
        *applies = true;
    return result;
}

static uint64_t used_bytes(const struct faulty_vfs *f)
{
    uint64_t used = 0;

    for (size_t i = 0; i < f->seen.count; i++) {
        if (f->seen.entries[i].node)
            used += f->seen.entries[i].node->seen_bytes;
    }
    return used;
}

static bool has_room(const struct faulty_vfs *f, const struct node *node, uint64_t end)
{
    return end <= node->seen_bytes || used_bytes(f) + (end - node->seen_bytes) <= f->capacity_bytes;
}

static void mark(struct node *node, size_t offset, size_t length)
{
    for (size_t page = offset / PAGE_BYTES; length > 0 && page <= (offset + length - 1) / PAGE_BYTES; page++)
        node->pages[page] = PAGE_DIRTY;
}

static void put(struct node *node, const void *data, size_t length, size_t offset)
{
    node_grow(node, offset + length);
    memcpy(node->seen + offset, data, length);
    mark(node, offset, length);
    if (offset + length > node->seen_bytes)
        node->seen_bytes = offset + length;
}

static int faulty_open(const struct vfs *vfs, const char *path, int flags, struct vfs_file **file)
{
    struct faulty_vfs *f = of_vfs(vfs);
    struct faulty_file *opened;
    struct entry *entry;
    bool applies = true;
    int result = 0;

    pthread_mutex_lock(&f->mutex);
    entry = find(&f->seen, path);
    if (entry && !entry->node)
        result = -EISDIR;
    else if (entry && (flags & VFS_EXCLUSIVE))
        result = -EEXIST;
    else if (!entry && !(flags & VFS_CREATE))
        result = -ENOENT;
    if (result == 0 && !entry) {
        result = begin(f, FAULTY_ANY, &applies);
        if (applies) {
            struct node *node = mem_alloc(sizeof(*node));

            add_change(f, CHANGE_CREATE, path, NULL, node);
            entry = find(&f->seen, path);
        }
    }
    if (result == 0) {
        opened = mem_alloc(sizeof(*opened));
        *opened = (struct faulty_file){.file = {vfs}, .faulty = f, .node = entry->node};
        entry->node->references++;
        *file = &opened->file;
    }
    pthread_mutex_unlock(&f->mutex);
    return result;
}

static void faulty_close(struct vfs_file *file)
{
    struct faulty_file *closing = of_file(file);
    struct faulty_vfs *f = closing->faulty;

    pthread_mutex_lock(&f->mutex);
    if (closing->has_lock)
        closing->node->is_locked = false;
    node_release(closing->node);
    pthread_mutex_unlock(&f->mutex);
    free(closing);
}

static ssize_t faulty_read_at(struct vfs_file *file, void *data, size_t length, uint64_t offset)
{
    struct faulty_file *self = of_file(file);
    struct node *node = self->node;
    bool applies;
    ssize_t result;

    pthread_mutex_lock(&self->faulty->mutex);
    result = begin(self->faulty, FAULTY_READ, &applies);
    if (result == 0 && offset < node->seen_bytes) {
        if (length > node->seen_bytes - offset)
            length = node->seen_bytes - (size_t)offset;
        memcpy(data, node->seen + offset, length);
        result = (ssize_t)length;
    }
    pthread_mutex_unlock(&self->faulty->mutex);
    return result;
}

static int faulty_write_at(struct vfs_file *file, const struct iovec *parts, int part_count, uint64_t offset)
{
    struct faulty_file *self = of_file(file);
    struct faulty_vfs *f = self->faulty;
    uint64_t end = offset;
    bool applies;
    int result;

    pthread_mutex_lock(&f->mutex);
    result = begin(f, FAULTY_WRITE, &applies);
    for (int i = 0; i < part_count; i++)
        end += parts[i].iov_len;
    if (result == 0 && !has_room(f, self->node, end)) {
        result = -ENOSPC;
        applies = false;
    }
    for (int i = 0; i < part_count && applies; i++) {
        put(self->node, parts[i].iov_base, parts[i].iov_len, (size_t)offset);
        offset += parts[i].iov_len;
    }
    pthread_mutex_unlock(&f->mutex);
    return result;
}

static void sync_node(struct node *node, bool succeeds)
{
    for (size_t page = 0; page < node->capacity / PAGE_BYTES; page++) {
        if (node->pages[page] != PAGE_DIRTY)
            continue;
        node->pages[page] = succeeds ? PAGE_CLEAN : PAGE_LOST;
        if (succeeds)
            memcpy(node->durable + page * PAGE_BYTES, node->seen + page * PAGE_BYTES, PAGE_BYTES);
    }
    if (succeeds)
        node->durable_bytes = node->seen_bytes;
}

static int faulty_sync_data(struct vfs_file *file)
{
    struct faulty_file *self = of_file(file);
    bool applies;
    int result;

    pthread_mutex_lock(&self->faulty->mutex);
    result = begin(self->faulty, FAULTY_SYNC, &applies);
    if (!self->faulty->is_dark)
        sync_node(self->node, result == 0);
    pthread_mutex_unlock(&self->faulty->mutex);
    return result;
}

static int faulty_allocate(struct vfs_file *file, uint64_t offset, uint64_t length)
{
    char *zeroes = mem_alloc((size_t)length);
    struct iovec part = {zeroes, (size_t)length};
    int result = faulty_write_at(file, &part, 1, offset);

    free(zeroes);
    return result;
}

static int faulty_truncate(struct vfs_file *file, uint64_t length)
{
    struct faulty_file *self = of_file(file);
    bool applies;
    int result;

    pthread_mutex_lock(&self->faulty->mutex);
    result = begin(self->faulty, FAULTY_ANY, &applies);
    if (applies) {
        node_grow(self->node, (size_t)length);
        if (length < self->node->seen_bytes)
            memset(self->node->seen + length, 0, self->node->seen_bytes - (size_t)length);
        self->node->seen_bytes = (size_t)length;
    }
    pthread_mutex_unlock(&self->faulty->mutex);
    return result;
}

static int64_t faulty_size(struct vfs_file *file)
{
    struct faulty_file *self = of_file(file);
    int64_t size;

    pthread_mutex_lock(&self->faulty->mutex);
    size = (int64_t)self->node->seen_bytes;
    pthread_mutex_unlock(&self->faulty->mutex);
    return size;
}

static int faulty_lock(struct vfs_file *file)
{
    struct faulty_file *self = of_file(file);
    int result = 0;

    pthread_mutex_lock(&self->faulty->mutex);
    if (self->node->is_locked)
        result = -EWOULDBLOCK;
    else
        self->node->is_locked = self->has_lock = true;
    pthread_mutex_unlock(&self->faulty->mutex);
    return result;
}

static int faulty_rename(const struct vfs *vfs, const char *from, const char *to)
{
    struct faulty_vfs *f = of_vfs(vfs);
    bool applies;
    int result;

    pthread_mutex_lock(&f->mutex);
    result = begin(f, FAULTY_ANY, &applies);
    if (result == 0 && !find(&f->seen, from))
        result = -ENOENT;
    else if (applies && find(&f->seen, from))
        add_change(f, CHANGE_RENAME, from, to, NULL);
    pthread_mutex_unlock(&f->mutex);
    return result;
}

static int faulty_remove(const struct vfs *vfs, const char *path)
{
    struct faulty_vfs *f = of_vfs(vfs);
    bool applies;
    int result;

    pthread_mutex_lock(&f->mutex);
    result = begin(f, FAULTY_ANY, &applies);
    if (result == 0 && !find(&f->seen, path))
        result = -ENOENT;
    else if (applies && find(&f->seen, path))
        add_change(f, CHANGE_REMOVE, path, NULL, NULL);
    pthread_mutex_unlock(&f->mutex);
    return result;
}

static int faulty_make_directory(const struct vfs *vfs, const char *path)
{
    struct faulty_vfs *f = of_vfs(vfs);
    bool applies;
    int result;

    pthread_mutex_lock(&f->mutex);
    result = find(&f->seen, path) ? -EEXIST : begin(f, FAULTY_ANY, &applies);
    if (result == 0)
        add_change(f, CHANGE_CREATE, path, NULL, NULL);
    pthread_mutex_unlock(&f->mutex);
    return result;
}

/* Whether a path names something right in the directory. */
static const char *name_in(const char *path, const char *directory)
{
    size_t length = strlen(directory);

    if (strncmp(path, directory, length) != 0 || path[length] != '/' || strchr(path + length + 1, '/'))
        return NULL;
    return path + length + 1;
}

static int faulty_sync_directory(const struct vfs *vfs, const char *path)
{
    struct faulty_vfs *f = of_vfs(vfs);
    size_t kept = 0;
    bool applies;
    int result;

    pthread_mutex_lock(&f->mutex);
    result = begin(f, FAULTY_SYNC, &applies);
    for (size_t i = 0; i < f->change_count; i++) {
        struct change *change = &f->changes[i];
        bool is_here =
            name_in(change->path, path) || (change->to && name_in(change->to, path)) || strcmp(path, ".") == 0;

        if (result != 0 || !is_here) {
            f->changes[kept++] = *change;
            continue;
        }
        apply_change(&f->durable, change);
        change_release(change);
    }
    f->change_count = kept;
    pthread_mutex_unlock(&f->mutex);
    return result;
}

static int faulty_list(const struct vfs *vfs, const char *path, vfs_list_fn *fn, void *context)
{
    struct faulty_vfs *f = of_vfs(vfs);
    char **names;
    size_t count = 0;
    int result = 0;

    pthread_mutex_lock(&f->mutex);
    if (!find(&f->seen, path)) {
        pthread_mutex_unlock(&f->mutex);
        return -ENOENT;
    }
    names = mem_alloc_array(f->seen.count, sizeof(*names));
    for (size_t i = 0; i < f->seen.count; i++) {
        const char *name = name_in(f->seen.entries[i].path, path);

        if (name)
            names[count++] = mem_copy_str(str_from_cstr(name));
    }
    pthread_mutex_unlock(&f->mutex);
    for (size_t i = 0; i < count; i++) {
        if (result == 0)
            result = fn(context, names[i]);
        free(names[i]);
    }
    free(names);
    return result;
}

static int64_t faulty_free_bytes(const struct vfs *vfs, const char *path)
{
    struct faulty_vfs *f = of_vfs(vfs);
    uint64_t used;
    int64_t left;

    (void)path;
    pthread_mutex_lock(&f->mutex);
    used = used_bytes(f);
    left = f->capacity_bytes > used ? (int64_t)(f->capacity_bytes - used) : 0;
    pthread_mutex_unlock(&f->mutex);
    return left;
}

static const struct vfs faulty_operations = {
    .open = faulty_open,
    .close = faulty_close,
    .read_at = faulty_read_at,
    .read_at_nowait = faulty_read_at,
    .write_at = faulty_write_at,
    .sync_data = faulty_sync_data,
    .allocate = faulty_allocate,
    .truncate = faulty_truncate,
    .size = faulty_size,
    .lock = faulty_lock,
    .rename = faulty_rename,
    .remove = faulty_remove,
    .make_directory = faulty_make_directory,
    .sync_directory = faulty_sync_directory,
    .list = faulty_list,
    .free_bytes = faulty_free_bytes,
};

struct faulty_vfs *faulty_create(uint64_t seed, uint64_t capacity_bytes)
{
    struct faulty_vfs *f = mem_alloc(sizeof(*f));

    f->vfs = faulty_operations;
    f->vfs.context = f;
    f->random = seed;
    f->capacity_bytes = capacity_bytes;
    pthread_mutex_init(&f->mutex, NULL);
    return f;
}

static void names_release(struct names *names)
{
    while (names->count > 0)
        names_remove(names, names->entries[0].path);
    mem_free(&names->entries);
}

static void forget_changes(struct faulty_vfs *f)
{
    for (size_t i = 0; i < f->change_count; i++)
        change_release(&f->changes[i]);
    f->change_count = 0;
}

void faulty_destroy(struct faulty_vfs **faulty)
{
    struct faulty_vfs *f = *faulty;

    forget_changes(f);
    free(f->changes);
    names_release(&f->seen);
    names_release(&f->durable);
    pthread_mutex_destroy(&f->mutex);
    mem_free(faulty);
}

const struct vfs *faulty_table(struct faulty_vfs *faulty)
{
    return &faulty->vfs;
}

uint64_t faulty_count(struct faulty_vfs *f, enum faulty_kind kind)
{
    uint64_t count;

    pthread_mutex_lock(&f->mutex);
    count = f->counts[kind];
    pthread_mutex_unlock(&f->mutex);
    return count;
}

void faulty_fail(struct faulty_vfs *f, enum faulty_kind kind, uint64_t skip, uint64_t times, int error)
{
    pthread_mutex_lock(&f->mutex);
    f->faults[kind] = (struct fault){skip, times, error};
    pthread_mutex_unlock(&f->mutex);
}

void faulty_cut_power(struct faulty_vfs *f, uint64_t skip)
{
    pthread_mutex_lock(&f->mutex);
    f->has_cut = true;
    f->cut_skip = skip;
    pthread_mutex_unlock(&f->mutex);
}

bool faulty_is_dark(struct faulty_vfs *f)
{
    bool is_dark;

    pthread_mutex_lock(&f->mutex);
    is_dark = f->is_dark;
    pthread_mutex_unlock(&f->mutex);
    return is_dark;
}

void faulty_clear_faults(struct faulty_vfs *f)
{
    pthread_mutex_lock(&f->mutex);
    memset(f->faults, 0, sizeof(f->faults));
    f->has_cut = false;
    f->is_dark = false;
    pthread_mutex_unlock(&f->mutex);
}

/* Each sector is the new, the old or neither. */
static void garble(struct faulty_vfs *f, char *durable, const char *seen)
{
    for (size_t at = 0; at < PAGE_BYTES; at += SECTOR_BYTES) {
        uint64_t choice = next_random(f) % 8;

        if (choice < 4)
            memcpy(durable + at, seen + at, SECTOR_BYTES);
        else if (choice == 4)
            for (size_t i = 0; i < SECTOR_BYTES; i++)
                durable[at + i] = (char)next_random(f);
    }
}

static void lose_pages(struct faulty_vfs *f, struct node *node)
{
    /* Now and then all or nothing, so that whole batches come through or not at all. */
    uint64_t mood = next_random(f) % 5;

    for (size_t page = 0; page < node->capacity / PAGE_BYTES; page++) {
        char *durable = node->durable + page * PAGE_BYTES;
        const char *seen = node->seen + page * PAGE_BYTES;
        uint64_t choice = mood < 3 ? next_random(f) % 3 : mood - 3;

        if (node->pages[page] == PAGE_CLEAN)
            continue;
        if (choice == 0)
            memcpy(durable, seen, PAGE_BYTES);
        else if (choice == 2)
            garble(f, durable, seen);
        node->pages[page] = PAGE_CLEAN;
    }
    if (next_random(f) % 2)
        node->durable_bytes = node->seen_bytes;
    node->seen_bytes = node->durable_bytes;
    if (node->capacity > 0)
        memcpy(node->seen, node->durable, node->capacity);
    node->is_locked = false;
}

void faulty_restart(struct faulty_vfs *f)
{
    size_t kept;

    faulty_clear_faults(f);
    pthread_mutex_lock(&f->mutex);
    kept = (size_t)(next_random(f) % (f->change_count + 1));
    for (size_t i = 0; i < kept; i++)
        apply_change(&f->durable, &f->changes[i]);
    forget_changes(f);
    names_release(&f->seen);
    for (size_t i = 0; i < f->durable.count; i++) {
        struct entry *entry = &f->durable.entries[i];

        names_add(&f->seen, entry->path, entry->node);
        if (entry->node)
            lose_pages(f, entry->node);
    }
    pthread_mutex_unlock(&f->mutex);
}

void faulty_set_capacity(struct faulty_vfs *f, uint64_t capacity_bytes)
{
    pthread_mutex_lock(&f->mutex);
    f->capacity_bytes = capacity_bytes;
    pthread_mutex_unlock(&f->mutex);
}

bool faulty_flip(struct faulty_vfs *f, const char *path, uint64_t offset)
{
    const struct entry *entry;
    bool flips;

    pthread_mutex_lock(&f->mutex);
    entry = find(&f->seen, path);
    flips = entry && entry->node && offset < entry->node->seen_bytes;
    if (flips) {
        entry->node->seen[offset] = (char)~entry->node->seen[offset];
        entry->node->durable[offset] = (char)~entry->node->durable[offset];
    }
    pthread_mutex_unlock(&f->mutex);
    return flips;
}

uint64_t faulty_next_random(struct faulty_vfs *f)
{
    uint64_t value;

    pthread_mutex_lock(&f->mutex);
    value = next_random(f);
    pthread_mutex_unlock(&f->mutex);
    return value;
}
