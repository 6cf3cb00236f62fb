/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file: the text map's backend. The file is looked at once a second, and read again when it has changed; one that is no good, or may not be read, changes nothing
 * and is logged. A file that is missing is unavailable: nobody is told that a user does not exist because somebody moves a file.
 */
#include "base/log.h"
#include "base/mem.h"
#include "directory/file_map.h"
#include "os/clock.h"
#include "os/vfs.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define CHECK_INTERVAL_MS 1000
/* A file that changed so short a time ago may still be being written. */
#define SETTLED_AFTER_MS 1000

struct file {
    const struct directory_settings *settings;
    pthread_mutex_t mutex;
    struct file_map *map; /* NULL: not read yet, or not readable now */
    struct stat read;     /* of what was read last, good or bad; zero: nothing */
    struct error error;   /* why there is no map */
    uint64_t checked_ms;  /* 0: never */
    uint64_t version;
    atomic_bool has_scram; /* of the map, without the mutex: loops ask */
};

/* ---- reading ---- */

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static bool is_settled(const struct stat *status)
{
    int64_t changed_ms = (int64_t)status->st_mtim.tv_sec * 1000 + status->st_mtim.tv_nsec / 1000000;
    int64_t now_ms = clock_real_ms();

    return now_ms < changed_ms || now_ms - changed_ms >= SETTLED_AFTER_MS;
}

static struct file_map *read_map(struct file *file, struct error *error)
{
    const char *path = file->settings->config.path.data;
    struct file_map *map;
    char *text = NULL;
    size_t length = 0;
    int result = vfs_read_file(vfs_system(), path, FILE_MAP_BYTES_MAX, &text, &length);

    if (result != 0) {
        error_set_errno(error, -result, "%s", path);
        return NULL;
    }
    map = file_map_parse(path, str_make(text, length), file->settings->default_domain, error);
    explicit_bzero(text, length);
    free(text);
    return map;
}

static void lose_map(struct file *file, int errno_value)
{
    error_set_errno(&file->error, errno_value, "%s", file->settings->config.path.data);
    file_map_release(&file->map);
    file->read = (struct stat){0};
    file->version++;
}

/* The file changed: its map, or what is wrong with it. */
static void replace_map(struct file *file, const struct stat *status)
{
    struct error error = {0};
    struct file_map *map = read_map(file, &error);

    file->read = *status;
    if (map) {
        LOG_INFO("directory-read", log_str("file", file->settings->config.path),
                 log_u64("users", file_map_user_count(map)), log_u64("recipients", file_map_recipient_count(map)));
        file_map_release(&file->map);
        file->map = map;
        file->version++;
        atomic_store(&file->has_scram, file_map_scram_model(map) != NULL);
    } else if (file->map) {
        LOG_ERROR("directory-file-refused", log_error(&error), log_cstr("kept", "the one before"));
    } else {
        file->error = error;
    }
}

/* With the mutex: whoever comes while a big file is read waits for it, since what was there may be wrong by now. */
static void refresh(struct file *file)
{
    uint64_t now_ms = clock_monotonic_ms();
    struct stat status;

    if (file->checked_ms != 0 && now_ms - file->checked_ms < CHECK_INTERVAL_MS)
        return;
    file->checked_ms = now_ms;
    if (stat(file->settings->config.path.data, &status) != 0)
        lose_map(file, errno);
    else if (!is_same(&status, &file->read) && (!file->map || is_settled(&status)))
        replace_map(file, &status);
}

/* A reference; NULL and an error. */
static struct file_map *take_map(struct file *file, struct error *error)
{
    struct file_map *map;

    pthread_mutex_lock(&file->mutex);
    refresh(file);
    map = file->map ? file_map_retain(file->map) : NULL;
    if (!map)
        *error = file->error;
    pthread_mutex_unlock(&file->mutex);
    return map;
}

/* ---- the table ---- */

static void *file_create(const struct directory_settings *settings, struct error *error)
{
    struct file *file = mem_alloc(sizeof(*file));

    (void)error; /* a bad file is one that does not answer, as it would be later */
    file->settings = settings;
    pthread_mutex_init(&file->mutex, NULL);
    pthread_mutex_lock(&file->mutex);
    refresh(file);
    pthread_mutex_unlock(&file->mutex);
    return file;
}

static void file_destroy(void *backend)
{
    struct file *file = backend;

    file_map_release(&file->map);
    pthread_mutex_destroy(&file->mutex);
    free(file);
}

static bool file_has_scram(void *backend)
{
    struct file *file = backend;

    return atomic_load(&file->has_scram);
}

static bool file_find_version(void *backend, uint64_t *version)
{
    struct file *file = backend;

    pthread_mutex_lock(&file->mutex);
    refresh(file);
    *version = file->version;
    pthread_mutex_unlock(&file->mutex);
    return true;
}

static void take_user(const struct file_user *user, struct directory_found *found)
{
    directory_found_set_name(found, user->name);
    found->is_disabled = user->is_disabled;
    for (size_t i = 0; i < user->groups.count; i++)
        directory_found_add_group(found, user->groups.items[i]);
    for (size_t i = 0; i < user->addresses.count; i++)
        directory_found_add_address(found, user->addresses.items[i]);
}

static enum directory_status file_find_user(void *backend, const struct directory_name *name, uint64_t deadline_ms,
                                            struct directory_found *found, struct error *error)
{
    struct file_map *map = take_map(backend, error);
    const struct file_user *user;

    (void)deadline_ms;
    if (!map)
        return DIRECTORY_UNAVAILABLE;
    user = file_map_find_user(map, name);
    if (user)
        take_user(user, found);
    file_map_release(&map);
    return user ? DIRECTORY_YES : DIRECTORY_NO;
}

/* Maps hold hashes of several kinds: an unknown user gets one of somebody's, so that none takes another time than a known one's. */
static enum directory_status file_find_hash(void *backend, const struct directory_name *name, uint64_t deadline_ms,
                                            char hash[PASSWORD_HASH_BYTES], struct error *error)
{
    struct file_map *map = take_map(backend, error);
    const struct file_user *user, *shown;

    (void)deadline_ms;
    if (!map)
        return DIRECTORY_UNAVAILABLE;
    user = file_map_find_user(map, name);
    if (user && (user->is_disabled || user->hash[0] == '\0'))
        user = NULL;
    shown = user ? user : file_map_hash_model(map, name->forms[0]);
    if (shown)
        memcpy(hash, shown->hash, PASSWORD_HASH_BYTES);
    file_map_release(&map);
    return user ? DIRECTORY_YES : DIRECTORY_NO;
}

static enum directory_status file_find_scram_keys(void *backend, const struct directory_name *name,
                                                  uint64_t deadline_ms, struct directory_scram_keys *keys,
                                                  struct error *error)
{
    struct file_map *map = take_map(backend, error);
    const struct file_user *user;

    (void)deadline_ms;
    if (!map)
        return DIRECTORY_UNAVAILABLE;
    user = file_map_find_user(map, name);
    if (user && (user->is_disabled || !user->scram))
        user = NULL;
    if (user)
        *keys = *user->scram;
    file_map_release(&map);
    return user ? DIRECTORY_YES : DIRECTORY_NO;
}

/* What the first user's keys are secret by is secret enough, and outlives restarts. */
static bool file_find_scram_model(void *backend, unsigned char secret[32], unsigned *iterations, size_t *salt_bytes)
{
    struct error error;
    struct file_map *map = take_map(backend, &error);
    const struct file_user *model = map ? file_map_scram_model(map) : NULL;

    if (model) {
        memcpy(secret, model->scram->server_key, 32);
        *iterations = model->scram->iterations;
        *salt_bytes = model->scram->salt_bytes;
    }
    file_map_release(&map);
    return model != NULL;
}

static enum directory_status file_find_certificate(void *backend, const unsigned char sha256[32], uint64_t deadline_ms,
                                                   struct directory_found *found, struct error *error)
{
    struct file_map *map = take_map(backend, error);
    const struct file_user *user;

    (void)deadline_ms;
    if (!map)
        return DIRECTORY_UNAVAILABLE;
    user = file_map_find_certificate(map, sha256);
    if (user && user->is_disabled)
        user = NULL;
    if (user)
        take_user(user, found);
    file_map_release(&map);
    return user ? DIRECTORY_YES : DIRECTORY_NO;
}

static enum directory_status file_find_recipient(void *backend, const struct directory_address *address,
                                                 uint64_t deadline_ms, struct directory_found *found,
                                                 struct error *error)
{
    struct file_map *map = take_map(backend, error);
    const struct file_recipient *recipient;
    bool is_user;

    (void)deadline_ms;
    if (!map)
        return DIRECTORY_UNAVAILABLE;
    recipient = file_map_find_recipient(map, address, &is_user);
    for (size_t i = 0; recipient && i < recipient->targets.count; i++)
        directory_found_add_target(found, recipient->targets.items[i]);
    if (recipient && recipient->owner.length > 0)
        directory_found_set_owner(found, recipient->owner);
    file_map_release(&map);
    return recipient || is_user ? DIRECTORY_YES : DIRECTORY_NO;
}

const struct directory_backend_operations directory_file = {
    .name = "file",
    .create = file_create,
    .destroy = file_destroy,
    .has_scram = file_has_scram,
    .find_version = file_find_version,
    .find_user = file_find_user,
    .find_hash = file_find_hash,
    .find_scram_keys = file_find_scram_keys,
    .find_scram_model = file_find_scram_model,
    .find_certificate = file_find_certificate,
    .find_recipient = file_find_recipient,
};
