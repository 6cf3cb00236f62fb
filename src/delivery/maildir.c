/* SPDX-License-Identifier: Apache-2.0 */
#include "delivery/maildir.h"

#include "base/buf.h"
#include "base/hash.h"
#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY_CHUNK_BYTES  (128u << 10)
#define TRACE_BYTES_MAX   4096
#define MAILDIR_TRIES_MAX 2

struct maildir_set {
    const struct vfs *vfs;
    char *drop_directory;
    pthread_mutex_t mutex;
    struct hash_table ready; /* names of Maildirs that stand and are synced; key and value are one allocation */
};

/* ---- directories ---- */

struct maildir_set *maildir_set_create(const struct vfs *vfs, const char *drop_directory)
{
    struct maildir_set *set = mem_alloc(sizeof(*set));

    set->vfs = vfs;
    set->drop_directory = mem_copy_str(str_from_cstr(drop_directory));
    pthread_mutex_init(&set->mutex, NULL);
    hash_table_init(&set->ready);
    return set;
}

static void clear_ready(struct maildir_set *set)
{
    size_t position = 0;
    struct str key;
    void *value;

    while (hash_table_next(&set->ready, &position, &key, &value))
        free(value);
    hash_table_release(&set->ready);
    hash_table_init(&set->ready);
}

void maildir_set_destroy(struct maildir_set **set)
{
    struct maildir_set *old = *set;

    if (!old)
        return;
    *set = NULL;
    clear_ready(old);
    hash_table_release(&old->ready);
    pthread_mutex_destroy(&old->mutex);
    mem_free(&old->drop_directory);
    free(old);
}

static bool is_ready(struct maildir_set *set, const char *mailbox)
{
    bool found;

    pthread_mutex_lock(&set->mutex);
    found = hash_table_get(&set->ready, str_from_cstr(mailbox)) != NULL;
    pthread_mutex_unlock(&set->mutex);
    return found;
}

static void set_ready(struct maildir_set *set, const char *mailbox, bool ready)
{
    struct str key = str_from_cstr(mailbox);

    pthread_mutex_lock(&set->mutex);
    free(hash_table_remove(&set->ready, key));
    if (set->ready.count >= MAILDIR_SET_COUNT_MAX)
        clear_ready(set);
    if (ready) {
        char *copy = mem_copy_str(key);

        hash_table_put(&set->ready, str_from_cstr(copy), copy);
    }
    pthread_mutex_unlock(&set->mutex);
}

static char *make_path(const struct maildir_set *set, const char *mailbox, const char *folder, const char *name)
{
    return mem_printf("%s/%s%s%s%s%s", set->drop_directory, mailbox, folder ? "/" : "", folder ? folder : "",
                      name ? "/" : "", name ? name : "");
}

/* Makes the Maildir and syncs what names it. Once in the life of the process, since another one may have died between the two. */
static int make_mailbox(struct maildir_set *set, const char *mailbox)
{
    static const char *const folders[] = {NULL, "tmp", "new", "cur"};
    char *path;
    int result = 0;

    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]) && result == 0; i++) {
        path = make_path(set, mailbox, folders[i], NULL);
        result = set->vfs->make_directory(set->vfs, path);
        if (result == -EEXIST)
            result = 0;
        free(path);
    }
    if (result == 0) {
        path = make_path(set, mailbox, NULL, NULL);
        result = set->vfs->sync_directory(set->vfs, path);
        free(path);
    }
    if (result == 0)
        result = set->vfs->sync_directory(set->vfs, set->drop_directory);
    if (result == 0)
        set_ready(set, mailbox, true);
    return result;
}

/* ---- one message ---- */

void maildir_name(int64_t arrived_at_ms, spool_id id, size_t recipient, struct str host, char name[MAILDIR_NAME_BYTES])
{
    int length = snprintf(name, MAILDIR_NAME_BYTES, "%lld.M%03lld000I%llXR%zu.", (long long)(arrived_at_ms / 1000),
                          (long long)(arrived_at_ms % 1000), (unsigned long long)id, recipient);
    char *end = name + length;

    for (size_t i = 0; i < host.length && end < name + MAILDIR_NAME_BYTES - 1; i++) {
        /* A slash ends a name, a colon separates the reader's flags, and a space or worse confuses people. */
        if ((unsigned char)host.data[i] > ' ' && host.data[i] != '/' && host.data[i] != ':' && host.data[i] != 0x7f)
            *end++ = host.data[i];
    }
    *end = '\0';
}

static int write_parts(struct vfs_file *file, struct str first, struct str second, uint64_t offset)
{
    struct iovec parts[2] = {
        {.iov_base = (void *)(uintptr_t)first.data, .iov_len = first.length},
        {.iov_base = (void *)(uintptr_t)second.data, .iov_len = second.length},
    };

    return first.length > 0 ? file->vfs->write_at(file, parts, 2, offset)
                            : file->vfs->write_at(file, parts + 1, 1, offset);
}

static int write_content(struct vfs_file *file, struct maildir_message *message, char *chunk)
{
    uint64_t body_offset = 0, file_offset = 0;
    struct str trace;
    struct buf head;
    ssize_t count;
    int result = 0;

    buf_init(&head, TRACE_BYTES_MAX);
    buf_printf(&head, "Return-Path: <%.*s>\r\nDelivered-To: %.*s\r\n", STR_ARG(message->sender),
               STR_ARG(message->recipient));
    trace = buf_str(&head);
    do {
        count = message->read_body(message->body_context, chunk, BODY_CHUNK_BYTES, body_offset);
        if (count < 0) {
            result = (int)count;
            break;
        }
        if (body_offset == 0 && message->is_loop &&
            message->is_loop(message->body_context, str_make(chunk, (size_t)count))) {
            result = -ELOOP;
            break;
        }
        if (trace.length > 0 || count > 0)
            result = write_parts(file, trace, str_make(chunk, (size_t)count), file_offset);
        body_offset += (uint64_t)count;
        file_offset += trace.length + (uint64_t)count;
        trace.length = 0;
    } while (count > 0 && result == 0);
    buf_release(&head);
    return result;
}

static int create_file(const struct vfs *vfs, const char *path, struct vfs_file **file)
{
    int flags = VFS_WRITE | VFS_CREATE | VFS_EXCLUSIVE;
    int result = vfs->open(vfs, path, flags, file);

    /* A delivery that a crash cut off. */
    if (result == -EEXIST) {
        result = vfs->remove(vfs, path);
        if (result == 0)
            result = vfs->open(vfs, path, flags, file);
    }
    return result;
}

/* Into tmp/, synced. On failure nothing of it is left there. */
static int write_file(struct maildir_set *set, struct maildir_message *message, char *chunk)
{
    char *path = make_path(set, message->mailbox, "tmp", message->name);
    struct vfs_file *file = NULL;
    int result = 0;

    for (int try = 0; try < MAILDIR_TRIES_MAX && !file; try++) {
        if (!is_ready(set, message->mailbox))
            result = make_mailbox(set, message->mailbox);
        if (result == 0)
            result = create_file(set->vfs, path, &file);
        if (result != -ENOENT)
            break;
        /* Somebody has removed the Maildir since: it is made again. */
        set_ready(set, message->mailbox, false);
        result = 0;
    }
    if (!file) {
        free(path);
        return result == 0 ? -ENOENT : result;
    }
    result = write_content(file, message, chunk);
    if (result == 0)
        result = file->vfs->sync_data(file);
    file->vfs->close(file);
    if (result != 0)
        set->vfs->remove(set->vfs, path);
    free(path);
    return result;
}

/* ---- many ---- */

/* Where a message of the batch stands. */
enum stage { STAGE_FAILED, STAGE_FOUND /* in cur/, from before */, STAGE_WRITTEN, STAGE_RENAMED };

struct batch {
    struct maildir_set *set;
    struct maildir_message *messages;
    size_t count;
    enum stage *stages;
    const char *mailbox; /* while a directory is listed */
};

static bool is_in_mailbox(const struct batch *batch, size_t i, const char *mailbox)
{
    return strcmp(batch->messages[i].mailbox, mailbox) == 0;
}

static int look_at_name(void *context, const char *name)
{
    struct batch *batch = context;

    for (size_t i = 0; i < batch->count; i++) {
        const struct maildir_message *message = &batch->messages[i];
        size_t length = strlen(message->name);

        if (message->may_exist && strncmp(name, message->name, length) == 0 &&
            (name[length] == '\0' || name[length] == ':') && is_in_mailbox(batch, i, batch->mailbox))
            batch->stages[i] = STAGE_FOUND;
    }
    return 0;
}

/* Marks what a mail reader has moved into cur/ already. One listing for each mailbox; without one, nothing is found. */
static void find_delivered(struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        bool is_first = batch->messages[i].may_exist;
        char *path;

        for (size_t j = 0; j < i && is_first; j++)
            is_first = !(batch->messages[j].may_exist && is_in_mailbox(batch, j, batch->messages[i].mailbox));
        if (!is_first)
            continue;
        batch->mailbox = batch->messages[i].mailbox;
        path = make_path(batch->set, batch->mailbox, "cur", NULL);
        batch->set->vfs->list(batch->set->vfs, path, look_at_name, batch);
        free(path);
    }
}

static void write_all(struct batch *batch)
{
    char *chunk = mem_alloc(BODY_CHUNK_BYTES);

    for (size_t i = 0; i < batch->count; i++) {
        struct maildir_message *message = &batch->messages[i];

        message->error = 0;
        if (batch->stages[i] == STAGE_FOUND)
            continue;
        message->error = write_file(batch->set, message, chunk);
        if (message->error == 0)
            batch->stages[i] = STAGE_WRITTEN;
    }
    free(chunk);
}

static void rename_all(struct batch *batch)
{
    const struct vfs *vfs = batch->set->vfs;

    for (size_t i = 0; i < batch->count; i++) {
        struct maildir_message *message = &batch->messages[i];
        char *from, *to;

        if (batch->stages[i] != STAGE_WRITTEN)
            continue;
        from = make_path(batch->set, message->mailbox, "tmp", message->name);
        to = make_path(batch->set, message->mailbox, "new", message->name);
        message->error = vfs->rename(vfs, from, to);
        if (message->error == 0)
            batch->stages[i] = STAGE_RENAMED;
        else
            vfs->remove(vfs, from);
        free(from);
        free(to);
    }
}

/* What is not surely in new/ is taken out again, so that the next attempt does not make a second one beside what a reader has moved. */
static void withdraw(struct batch *batch, size_t i, int error)
{
    char *path = make_path(batch->set, batch->messages[i].mailbox, "new", batch->messages[i].name);

    batch->set->vfs->remove(batch->set->vfs, path);
    free(path);
    batch->stages[i] = STAGE_FAILED;
    batch->messages[i].error = error;
}

/* Each new/ once. */
static void sync_all(struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        const char *mailbox = batch->messages[i].mailbox;
        bool is_first = batch->stages[i] == STAGE_RENAMED;
        char *path;
        int result;

        for (size_t j = 0; j < i && is_first; j++)
            is_first = !(batch->stages[j] == STAGE_RENAMED && is_in_mailbox(batch, j, mailbox));
        if (!is_first)
            continue;
        path = make_path(batch->set, mailbox, "new", NULL);
        result = batch->set->vfs->sync_directory(batch->set->vfs, path);
        free(path);
        for (size_t j = i; j < batch->count && result != 0; j++) {
            if (batch->stages[j] == STAGE_RENAMED && is_in_mailbox(batch, j, mailbox))
                withdraw(batch, j, result);
        }
    }
}

void maildir_deliver(struct maildir_set *set, struct maildir_message *messages, size_t count)
{
    struct batch batch = {.set = set, .messages = messages, .count = count};

    batch.stages = mem_alloc_array(count, sizeof(*batch.stages));
    find_delivered(&batch);
    write_all(&batch);
    rename_all(&batch);
    sync_all(&batch);
    free(batch.stages);
}
