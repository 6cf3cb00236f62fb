/* SPDX-License-Identifier: Apache-2.0 */
/* Who a user is, and whether a recipient exists: by way of the cache, from threads that may block and from fibers. */
#include "base/mem.h"
#include "directory/front.h"
#include "os/clock.h"

/* How often at most a backend is asked whether its content has changed. */
#define VERSION_CHECK_MS 1000

/* One question. Its key is "u" or "r", and the normal form. */
struct question {
    bool is_user;
    struct directory_name_forms name;
    struct directory_address_key address;
    bool has_fault; /* the backend is well, and this answer alone of no use */
    size_t key_length;
    char key[1 + DIRECTORY_FORM_BYTES + ADDRESS_KEY_BYTES];
};

static struct str question_key(const struct question *question)
{
    return str_make(question->key, question->key_length);
}

static void make_key(struct question *question, char kind, struct str normal)
{
    question->key[0] = kind;
    memcpy(question->key + 1, normal.data, normal.length);
    question->key_length = normal.length + 1;
}

static bool question_user(const struct directory *directory, struct question *question, struct str name)
{
    question->is_user = true;
    if (!directory_name_init(&question->name, name, directory->settings->default_domain))
        return false;
    make_key(question, 'u', question->name.name.forms[0]);
    return true;
}

static bool question_recipient(struct question *question, struct str address)
{
    question->is_user = false;
    if (!directory_address_init(&question->address, address))
        return false;
    make_key(question, 'r', question->address.address.normal);
    return true;
}

/* USER@default-domain is the user's, or the name itself where it is an address. */
static void add_own_address(const struct directory *directory, struct directory_found *found)
{
    struct directory_name_forms forms;
    struct directory_address_key key;

    if (!directory_name_init(&forms, found->name, directory->settings->default_domain))
        return;
    for (size_t i = 0; i < forms.name.form_count; i++)
        if (str_find(forms.name.forms[i], '@') != STR_NONE && directory_address_init(&key, forms.name.forms[i]))
            directory_found_add_normal_address(found, key.address.normal);
}

/* Whatever is wrong with this answer alone makes it UNAVAILABLE. */
static enum directory_status check_fault(struct directory *directory, struct str about,
                                         const struct directory_found *found)
{
    if (!found->fault)
        return DIRECTORY_YES;
    front_note_fault(directory, about, found->fault);
    return DIRECTORY_UNAVAILABLE;
}

enum directory_status front_finish_user(struct directory *directory, struct str about, struct directory_found *found,
                                        struct answer **answer)
{
    enum directory_status status;

    add_own_address(directory, found);
    status = check_fault(directory, about, found);
    if (status == DIRECTORY_YES)
        *answer = answer_make_user(found);
    return status;
}

static enum directory_status finish_recipient(struct directory *directory, struct str about,
                                              const struct directory_found *found, struct answer **answer)
{
    enum directory_status status = check_fault(directory, about, found);

    if (status == DIRECTORY_YES)
        *answer = answer_make_recipient(found);
    return status;
}

static enum directory_status ask_backend(struct directory *directory, struct question *question, uint64_t deadline_ms,
                                         struct answer **answer)
{
    const struct directory_backend_operations *operations = directory->operations;
    struct str about = str_skip(question_key(question), 1);
    struct directory_found found;
    struct error error = {0};
    enum directory_status status;

    directory_found_init(&found);
    if (question->is_user)
        status = operations->find_user(directory->backend, &question->name.name, deadline_ms, &found, &error);
    else
        status =
            operations->find_recipient(directory->backend, &question->address.address, deadline_ms, &found, &error);
    status = front_note(directory, status, &error);
    if (status == DIRECTORY_YES && question->is_user)
        status = front_finish_user(directory, about, &found, answer);
    else if (status == DIRECTORY_YES)
        status = finish_recipient(directory, about, &found, answer);
    question->has_fault = found.fault != NULL;
    directory_found_release(&found);
    return status;
}

static bool version_is_due(const struct directory *directory)
{
    uint64_t checked_ms = atomic_load(&directory->version_checked_ms);

    return directory->operations->find_version &&
           (checked_ms == 0 || clock_monotonic_ms() - checked_ms >= VERSION_CHECK_MS);
}

/* One thread asks; for the others its answer is as good. May block. */
static void check_version(struct directory *directory)
{
    uint_fast64_t checked_ms = atomic_load(&directory->version_checked_ms);
    uint64_t version;

    if (!version_is_due(directory) ||
        !atomic_compare_exchange_strong(&directory->version_checked_ms, &checked_ms, clock_monotonic_ms()))
        return;
    if (directory->operations->find_version(directory->backend, &version) &&
        atomic_exchange(&directory->version, version) != version)
        cache_clear(directory->cache);
}

static enum directory_status look_in_cache(struct directory *directory, const struct question *question,
                                           struct answer **answer)
{
    enum directory_status status = cache_get(directory->cache, question_key(question), answer);

    if (status != DIRECTORY_UNAVAILABLE)
        atomic_fetch_add(&directory->cache_hits, 1);
    return status;
}

/* On a thread that may block. */
static enum directory_status answer_question(struct directory *directory, struct question *question,
                                             uint64_t deadline_ms, struct answer **answer)
{
    enum directory_status status;
    uint64_t epoch;

    check_version(directory);
    status = look_in_cache(directory, question, answer);
    if (status != DIRECTORY_UNAVAILABLE)
        return status;
    epoch = cache_epoch(directory->cache);
    status = ask_backend(directory, question, deadline_ms, answer);
    if (status != DIRECTORY_UNAVAILABLE)
        cache_put(directory->cache, question_key(question), *answer, epoch);
    return status;
}

static void give_user(struct answer *answer, struct directory_user **user)
{
    *user = answer ? &answer->user : NULL;
}

static void give_recipient(struct answer *answer, struct directory_recipient **recipient)
{
    *recipient = answer ? &answer->recipient : NULL;
}

enum directory_status directory_find_user(struct directory *directory, struct str name, struct directory_user **user)
{
    enum directory_status status = DIRECTORY_NO;
    struct answer *answer = NULL;
    struct question question;

    atomic_fetch_add(&directory->lookups, 1);
    if (question_user(directory, &question, name))
        status = answer_question(directory, &question, front_deadline_ms(directory), &answer);
    give_user(answer, user);
    return status;
}

enum directory_status directory_find_recipient(struct directory *directory, struct str address,
                                               struct directory_recipient **recipient)
{
    enum directory_status status = DIRECTORY_NO;
    struct answer *answer = NULL;
    struct question question;

    atomic_fetch_add(&directory->lookups, 1);
    if (question_recipient(&question, address))
        status = answer_question(directory, &question, front_deadline_ms(directory), &answer);
    give_recipient(answer, recipient);
    return status;
}

void directory_user_free(struct directory_user **user)
{
    if (*user)
        answer_release(LIST_ENTRY(*user, struct answer, user));
    *user = NULL;
}

void directory_recipient_free(struct directory_recipient **recipient)
{
    if (*recipient)
        answer_release(LIST_ENTRY(*recipient, struct answer, recipient));
    *recipient = NULL;
}

/* ---- in a fiber ---- */

struct ask_job {
    struct worker_job job;
    struct directory *directory; /* whose pool runs it, and so outlives it */
    uint64_t deadline_ms;
    enum directory_status status;
    struct answer *answer;
    struct question question;
};

static void ask_run(struct worker_job *job)
{
    struct ask_job *ask = LIST_ENTRY(job, struct ask_job, job);

    /* Who asked has given up: another one's question is worth more. */
    if (clock_monotonic_ms() >= ask->deadline_ms)
        return;
    ask->status = answer_question(ask->directory, &ask->question, ask->deadline_ms, &ask->answer);
}

static void ask_destroy(struct worker_job *job)
{
    struct ask_job *ask = LIST_ENTRY(job, struct ask_job, job);

    answer_release(ask->answer);
    free(ask);
}

static struct ask_job *ask_create(struct directory *directory, uint64_t deadline_ms)
{
    struct ask_job *ask = mem_alloc(sizeof(*ask));
    uint64_t own_deadline_ms = front_deadline_ms(directory);

    worker_job_init(&ask->job, ask_run, ask_destroy);
    ask->directory = directory;
    ask->deadline_ms = deadline_ms < own_deadline_ms ? deadline_ms : own_deadline_ms;
    ask->status = DIRECTORY_UNAVAILABLE;
    atomic_fetch_add(&directory->lookups, 1);
    return ask;
}

/* Takes the job over. What the cache has is as good as its last check. */
static enum directory_status ask_answer(struct ask_job *ask, struct answer **answer, bool *has_fault)
{
    struct directory *directory = ask->directory;
    enum directory_status status = DIRECTORY_UNAVAILABLE;

    *has_fault = false;
    if (!version_is_due(directory))
        status = look_in_cache(directory, &ask->question, answer);
    if (status == DIRECTORY_UNAVAILABLE) {
        if (worker_run(directory->lookup_pool, &ask->job, ask->deadline_ms) == WAIT_READY) {
            status = ask->status;
            *answer = ask->answer;
            *has_fault = ask->question.has_fault;
            ask->answer = NULL;
        } else {
            atomic_fetch_add(&directory->unavailable, 1);
        }
    }
    worker_job_release(&ask->job);
    return status;
}

enum directory_status directory_ask_user(struct directory *directory, struct str name, uint64_t deadline_ms,
                                         struct directory_user **user)
{
    struct ask_job *ask = ask_create(directory, deadline_ms);
    enum directory_status status = DIRECTORY_NO;
    struct answer *answer = NULL;
    bool has_fault;

    if (question_user(directory, &ask->question, name))
        status = ask_answer(ask, &answer, &has_fault);
    else
        worker_job_release(&ask->job);
    give_user(answer, user);
    return status;
}

enum directory_status directory_ask_recipient(struct directory *directory, struct str address, uint64_t deadline_ms,
                                              struct directory_recipient **recipient)
{
    bool has_fault;

    return directory_resolve_recipient(directory, address, deadline_ms, recipient, &has_fault);
}

enum directory_status directory_resolve_recipient(struct directory *directory, struct str address, uint64_t deadline_ms,
                                                  struct directory_recipient **recipient, bool *has_fault)
{
    struct ask_job *ask = ask_create(directory, deadline_ms);
    enum directory_status status = DIRECTORY_NO;
    struct answer *answer = NULL;

    *has_fault = false;
    if (question_recipient(&ask->question, address))
        status = ask_answer(ask, &answer, has_fault);
    else
        worker_job_release(&ask->job);
    give_recipient(answer, recipient);
    return status;
}
