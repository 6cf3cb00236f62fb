/* SPDX-License-Identifier: Apache-2.0 */
/* The front's life, and what the log says of the backend's health. */
#include "base/log.h"
#include "base/mem.h"
#include "directory/front.h"
#include "os/clock.h"
#include "os/random.h"

/* A backend is well again once nothing has failed for so long: between, one line in the log is enough. */
#define RECOVERED_AFTER_MS 5000
/* An entry that is of no use is named in the log this often at most. */
#define FAULT_LOG_MS 10000

static const struct directory_backend_operations *const backends[] = {
    [CONFIG_DIRECTORY_SQLITE] = &directory_sqlite,
    [CONFIG_DIRECTORY_LDAP] = &directory_ldap,
    [CONFIG_DIRECTORY_FILE] = &directory_file,
};

/* ---- life ---- */

static int start_pools(struct directory *directory, struct error *error)
{
    unsigned threads = (unsigned)directory->settings->config.workers;

    if (worker_pool_create(&directory->lookup_pool, "directory", threads, error) != 0)
        return -1;
    return worker_pool_create(&directory->password_pool, "password", threads, error);
}

struct directory *front_create(const struct config *config, const struct directory_backend_operations *operations,
                               struct error *error)
{
    struct directory *directory = mem_alloc(sizeof(*directory));
    const struct config_directory *settings = &config->directory;

    atomic_init(&directory->references, 1);
    pthread_mutex_init(&directory->health.mutex, NULL);
    random_bytes(directory->secret, sizeof(directory->secret));
    directory->settings = directory_settings_create(config);
    directory->operations = operations;
    directory->cache = cache_create(settings->cache_entries, settings->cache_positive_ms, settings->cache_negative_ms);
    directory->backend = directory->operations->create(directory->settings, error);
    if (!directory->backend || start_pools(directory, error) != 0)
        directory_release(&directory);
    return directory;
}

struct directory *directory_create(const struct config *config, struct error *error)
{
    return front_create(config, backends[config->directory.backend], error);
}

bool directory_matches(const struct directory *directory, const struct config *config)
{
    return directory_settings_match(directory->settings, config);
}

struct directory *directory_retain(struct directory *directory)
{
    atomic_fetch_add(&directory->references, 1);
    return directory;
}

void directory_release(struct directory **pointer)
{
    struct directory *directory = *pointer;

    *pointer = NULL;
    if (!directory || atomic_fetch_sub(&directory->references, 1) != 1)
        return;
    worker_pool_destroy(&directory->lookup_pool);
    worker_pool_destroy(&directory->password_pool);
    if (directory->backend)
        directory->operations->destroy(directory->backend);
    cache_destroy(&directory->cache);
    directory_settings_destroy(&directory->settings);
    pthread_mutex_destroy(&directory->health.mutex);
    explicit_bzero(directory->secret, sizeof(directory->secret));
    free(directory);
}

/* Waits for the threads in a loop's place. */
struct reap_job {
    struct worker_job job;
    struct directory *directory;
};

static void reap_run(struct worker_job *job)
{
    directory_release(&LIST_ENTRY(job, struct reap_job, job)->directory);
}

static void reap_destroy(struct worker_job *job)
{
    struct reap_job *reap = LIST_ENTRY(job, struct reap_job, job);

    directory_release(&reap->directory);
    free(reap);
}

void directory_release_on(struct directory **pointer, struct worker_pool *reaper)
{
    struct reap_job *reap;

    if (!*pointer || !loop_current()) {
        directory_release(pointer);
        return;
    }
    reap = mem_alloc(sizeof(*reap));
    worker_job_init(&reap->job, reap_run, reap_destroy);
    reap->directory = *pointer;
    *pointer = NULL;
    worker_submit(reaper, &reap->job);
}

void directory_get_statistics(const struct directory *directory, struct directory_statistics *statistics)
{
    *statistics = (struct directory_statistics){
        .lookups = atomic_load(&directory->lookups),
        .cache_hits = atomic_load(&directory->cache_hits),
        .unavailable = atomic_load(&directory->unavailable),
    };
}

struct worker_pool *directory_pool(struct directory *directory)
{
    return directory->password_pool;
}

/* ---- health ---- */

static void note_failure(struct directory *directory, const struct error *error)
{
    struct health *health = &directory->health;
    bool was_announced;

    pthread_mutex_lock(&health->mutex);
    was_announced = health->is_announced;
    health->is_announced = true;
    health->last_failure_ms = clock_monotonic_ms();
    pthread_mutex_unlock(&health->mutex);
    if (!was_announced)
        LOG_WARNING("directory-unavailable", log_cstr("backend", directory->operations->name), log_error(error));
}

static void note_success(struct directory *directory)
{
    struct health *health = &directory->health;
    bool is_over;

    pthread_mutex_lock(&health->mutex);
    is_over = health->is_announced && clock_monotonic_ms() - health->last_failure_ms >= RECOVERED_AFTER_MS;
    if (is_over)
        health->is_announced = false;
    pthread_mutex_unlock(&health->mutex);
    if (is_over)
        LOG_INFO("directory-available", log_cstr("backend", directory->operations->name));
}

void front_note_fault(struct directory *directory, struct str about, const char *fault)
{
    struct health *health = &directory->health;
    uint64_t now_ms = clock_monotonic_ms();
    bool is_due;

    atomic_fetch_add(&directory->unavailable, 1);
    pthread_mutex_lock(&health->mutex);
    is_due = health->last_fault_ms == 0 || now_ms - health->last_fault_ms >= FAULT_LOG_MS;
    if (is_due)
        health->last_fault_ms = now_ms;
    pthread_mutex_unlock(&health->mutex);
    if (is_due)
        LOG_WARNING("directory-entry", log_str("about", about), log_cstr("fault", fault));
}

enum directory_status front_note(struct directory *directory, enum directory_status status, const struct error *error)
{
    if (status == DIRECTORY_UNAVAILABLE) {
        atomic_fetch_add(&directory->unavailable, 1);
        note_failure(directory, error);
    } else {
        note_success(directory);
    }
    return status;
}

uint64_t front_deadline_ms(const struct directory *directory)
{
    return clock_monotonic_ms() + directory->settings->config.timeout_ms;
}
