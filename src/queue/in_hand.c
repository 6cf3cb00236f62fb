/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/in_hand.h"

#include "base/mem.h"
#include "queue/queue.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define VERSION     1u
#define IN_HAND_BIT (1ull << 63)
#define SUSPECT_BIT (1ull << 62)
#define ID_MASK     (SUSPECT_BIT - 1)
/* For the signal handler, also when a fiber's own stack is used up. */
#define SIGNAL_STACK_BYTES 65536

struct in_hand_file {
    char magic[8];
    uint32_t version;
    _Atomic uint32_t crashed;
    _Atomic uint64_t slots[IN_HAND_SLOTS];
};

struct suspect {
    spool_id id;
    unsigned slot; /* IN_HAND_NONE: forgotten, or tried */
    bool is_guilty;
};

struct in_hand {
    char *path;
    struct in_hand_file *file;
    pthread_mutex_t mutex;
    unsigned free_slots[IN_HAND_SLOTS];
    unsigned free_count;
    struct suspect *suspects; /* by id */
    size_t suspect_count;
};

static const char magic[8] = {'P', 'O', 'S', 'T', 'H', 'A', 'N', 'D'};
/* Of the process: there is one queue whose crashes are caught. */
static _Atomic(struct in_hand_file *) noted_file;

/* ---- the start ---- */

static int compare_suspects(const void *a, const void *b)
{
    spool_id left = ((const struct suspect *)a)->id, right = ((const struct suspect *)b)->id;

    return left < right ? -1 : left > right;
}

static void take_stock(struct in_hand *in_hand)
{
    struct in_hand_file *file = in_hand->file;
    bool crashed = atomic_load(&file->crashed) != 0;

    in_hand->suspects = mem_alloc_array(IN_HAND_SLOTS, sizeof(*in_hand->suspects));
    for (unsigned i = IN_HAND_SLOTS; i-- > 0;) {
        uint64_t slot = atomic_load(&file->slots[i]);
        bool is_suspect = (slot & SUSPECT_BIT) != 0, was_in_hand = (slot & IN_HAND_BIT) != 0;

        if (is_suspect || (crashed && was_in_hand)) {
            in_hand->suspects[in_hand->suspect_count++] =
                (struct suspect){slot & ID_MASK, i, is_suspect && was_in_hand && crashed};
            atomic_store(&file->slots[i], (slot & ID_MASK) | SUSPECT_BIT);
            continue;
        }
        atomic_store(&file->slots[i], 0);
        in_hand->free_slots[in_hand->free_count++] = i;
    }
    qsort(in_hand->suspects, in_hand->suspect_count, sizeof(*in_hand->suspects), compare_suspects);
    atomic_store(&file->crashed, 0);
}

static int map_file(struct in_hand *in_hand, int fd)
{
    struct in_hand_file *file;
    struct stat status;

    /* Allocated: with a full disk a hole would be a SIGBUS in the middle of a delivery. */
    if (fstat(fd, &status) != 0)
        return -errno;
    if (status.st_size < (off_t)sizeof(*file)) {
        int result = posix_fallocate(fd, 0, (off_t)sizeof(*file));

        if (result != 0)
            return -result;
    }
    file = mmap(NULL, sizeof(*file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (file == MAP_FAILED)
        return -errno;
    if (memcmp(file->magic, magic, sizeof(magic)) != 0 || file->version != VERSION) {
        memset(file, 0, sizeof(*file));
        memcpy(file->magic, magic, sizeof(magic));
        file->version = VERSION;
    }
    in_hand->file = file;
    return 0;
}

int in_hand_open(struct in_hand **out, const char *path, struct error *error)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct in_hand *in_hand;
    int result;

    if (fd < 0)
        return error_set_errno(error, errno, "opening %s", path);
    in_hand = mem_alloc(sizeof(*in_hand));
    result = map_file(in_hand, fd);
    close(fd);
    if (result != 0) {
        free(in_hand);
        return error_set_errno(error, -result, "mapping %s", path);
    }
    in_hand->path = mem_copy_str(str_from_cstr(path));
    pthread_mutex_init(&in_hand->mutex, NULL);
    take_stock(in_hand);
    atomic_store(&noted_file, in_hand->file);
    *out = in_hand;
    return 0;
}

void in_hand_close(struct in_hand **pointer)
{
    struct in_hand *in_hand = *pointer;
    struct in_hand_file *noted;
    bool has_suspects = false;

    if (!in_hand)
        return;
    *pointer = NULL;
    for (unsigned i = 0; i < IN_HAND_SLOTS; i++) {
        uint64_t slot = atomic_load(&in_hand->file->slots[i]);

        has_suspects |= (slot & SUSPECT_BIT) != 0;
        atomic_store(&in_hand->file->slots[i], slot & SUSPECT_BIT ? slot & ~IN_HAND_BIT : 0);
    }
    if (!has_suspects)
        unlink(in_hand->path);
    noted = in_hand->file;
    atomic_compare_exchange_strong(&noted_file, &noted, NULL);
    munmap(in_hand->file, sizeof(*in_hand->file));
    pthread_mutex_destroy(&in_hand->mutex);
    free(in_hand->suspects);
    free(in_hand->path);
    free(in_hand);
}

/* ---- suspects ---- */

static struct suspect *find_suspect(struct in_hand *in_hand, spool_id id)
{
    const struct suspect key = {.id = id};
    struct suspect *suspect = NULL;

    if (in_hand->suspect_count > 0)
        suspect = bsearch(&key, in_hand->suspects, in_hand->suspect_count, sizeof(key), compare_suspects);
    return suspect && suspect->slot != IN_HAND_NONE ? suspect : NULL;
}

enum in_hand_verdict in_hand_verdict(struct in_hand *in_hand, spool_id id)
{
    const struct suspect *suspect;
    enum in_hand_verdict verdict = IN_HAND_INNOCENT;

    if (!in_hand)
        return verdict;
    pthread_mutex_lock(&in_hand->mutex);
    suspect = find_suspect(in_hand, id);
    if (suspect)
        verdict = suspect->is_guilty ? IN_HAND_GUILTY : IN_HAND_SUSPECT;
    pthread_mutex_unlock(&in_hand->mutex);
    return verdict;
}

bool in_hand_next_suspect(struct in_hand *in_hand, size_t *position, spool_id *id)
{
    if (!in_hand || *position >= in_hand->suspect_count)
        return false;
    *id = in_hand->suspects[(*position)++].id;
    return true;
}

static void free_slot(struct in_hand *in_hand, unsigned slot)
{
    atomic_store_explicit(&in_hand->file->slots[slot], 0, memory_order_relaxed);
    in_hand->free_slots[in_hand->free_count++] = slot;
}

void in_hand_forget(struct in_hand *in_hand, spool_id id)
{
    struct suspect *suspect;

    if (!in_hand)
        return;
    pthread_mutex_lock(&in_hand->mutex);
    suspect = find_suspect(in_hand, id);
    if (suspect) {
        free_slot(in_hand, suspect->slot);
        suspect->slot = IN_HAND_NONE;
    }
    pthread_mutex_unlock(&in_hand->mutex);
}

/* ---- the handling ---- */

/* A fiber that has used up its stack can't run a handler on it: each thread that handles messages gets a stack for that, for its life. */
static void ensure_signal_stack(void)
{
    static _Thread_local bool is_set;
    stack_t stack = {.ss_size = SIGNAL_STACK_BYTES};

    if (is_set)
        return;
    is_set = true;
    stack.ss_sp =
        mmap(NULL, SIGNAL_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack.ss_sp != MAP_FAILED)
        sigaltstack(&stack, NULL);
}

unsigned in_hand_enter(struct in_hand *in_hand, spool_id id)
{
    struct suspect *suspect;
    unsigned slot = IN_HAND_NONE;

    if (!in_hand)
        return slot;
    ensure_signal_stack();
    pthread_mutex_lock(&in_hand->mutex);
    suspect = find_suspect(in_hand, id);
    if (suspect) {
        slot = suspect->slot;
        suspect->slot = IN_HAND_NONE;
        atomic_store_explicit(&in_hand->file->slots[slot], id | SUSPECT_BIT | IN_HAND_BIT, memory_order_relaxed);
    } else if (in_hand->free_count > 0) {
        slot = in_hand->free_slots[--in_hand->free_count];
        atomic_store_explicit(&in_hand->file->slots[slot], id | IN_HAND_BIT, memory_order_relaxed);
    }
    pthread_mutex_unlock(&in_hand->mutex);
    return slot;
}

void in_hand_leave(struct in_hand *in_hand, unsigned slot)
{
    if (!in_hand || slot == IN_HAND_NONE)
        return;
    pthread_mutex_lock(&in_hand->mutex);
    free_slot(in_hand, slot);
    pthread_mutex_unlock(&in_hand->mutex);
}

/* ---- crashes ---- */

static const int crash_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
#define CRASH_SIGNALS (sizeof(crash_signals) / sizeof(crash_signals[0]))
static struct sigaction actions_before[CRASH_SIGNALS];

void in_hand_note_crash(void)
{
    struct in_hand_file *file = atomic_load(&noted_file);

    if (file)
        atomic_store(&file->crashed, 1);
}

/* With the old action back in place the instruction faults again, and abort raises again: the signal takes its course. */
static void on_crash(int number, siginfo_t *info, void *context)
{
    (void)context;
    in_hand_note_crash();
    for (size_t i = 0; i < CRASH_SIGNALS; i++) {
        if (crash_signals[i] == number)
            sigaction(number, &actions_before[i], NULL);
    }
    /* From a process, not from a fault: nothing would raise it again. */
    if (info->si_code <= 0)
        raise(number);
}

void queue_catch_crashes(void)
{
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_ONSTACK | SA_SIGINFO};

    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < CRASH_SIGNALS; i++)
        sigaction(crash_signals[i], &action, &actions_before[i]);
}
