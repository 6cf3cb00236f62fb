/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include "base/mem.h"

#include <errno.h>

#define DIRECTORY "data/spool"
#define BADMAIL   "data/badmail"

char harness_where[128] = "start";

struct pending {
    struct spool_write write;
    struct harness *harness;
    size_t message;
    size_t settles;
    size_t result;
    struct spool_result records[1];
    struct iovec body[3];
    char record_text[16];
    char *envelope;
    char *content;
};

void harness_init(struct harness *h, uint64_t seed, uint64_t capacity_bytes, uint64_t segment_bytes)
{
    *h = (struct harness){0};
    h->faulty = faulty_create(seed, capacity_bytes);
    h->options = (struct spool_options){
        .vfs = faulty_table(h->faulty),
        .directory = DIRECTORY,
        .badmail_directory = BADMAIL,
        .shard_count = 1,
        .segment_bytes = segment_bytes,
        .reserve_bytes = segment_bytes / 4,
    };
    pthread_mutex_init(&h->mutex, NULL);
    pthread_cond_init(&h->cond, NULL);
}

void harness_release(struct harness *h)
{
    CHECK(!h->spool);
    faulty_destroy(&h->faulty);
    mem_free(&h->messages);
    pthread_mutex_destroy(&h->mutex);
    pthread_cond_destroy(&h->cond);
}

/* Bytes that tell which message they belong to, and where in it. */
static char content_at(size_t message, size_t offset)
{
    return (char)((message * 131 + offset * 7 + (offset >> 8)) & 0xff);
}

static char *make_content(size_t message, size_t bytes)
{
    char *content = mem_alloc(bytes);

    for (size_t i = 0; i < bytes; i++)
        content[i] = content_at(message, i);
    return content;
}

/* The envelope starts with the message's place in the model. */
static char *make_envelope(size_t message, size_t bytes)
{
    char *envelope = make_content(message, bytes);

    CHECK(bytes >= sizeof(message));
    memcpy(envelope, &message, sizeof(message));
    return envelope;
}

static void saw_message(void *context, spool_id id, struct str envelope, uint64_t body_bytes)
{
    struct harness *h = context;
    struct model_message *message;
    char *expected;
    size_t place;

    CHECK(envelope.length >= sizeof(place));
    memcpy(&place, envelope.data, sizeof(place));
    CHECK(place < h->message_count);
    message = &h->messages[place];
    CHECK(message->id == id);
    CHECK(message->fate == FATE_DONE || message->fate == FATE_PENDING);
    CHECK(message->death != FATE_DONE || h->tolerates_revival);
    CHECK(!message->is_seen);
    CHECK(message->envelope_bytes == envelope.length && message->body_bytes == body_bytes);
    expected = make_envelope(place, envelope.length);
    CHECK(memcmp(expected, envelope.data, envelope.length) == 0);
    free(expected);
    message->is_seen = true;
    message->seen_results = 0;
    message->last_seen_result = 0;
}

static size_t find_message(const struct harness *h, spool_id id)
{
    for (size_t i = h->message_count; i-- > 0;) {
        if (h->messages[i].id == id)
            return i;
    }
    return MODEL_NONE;
}

static void saw_result(void *context, spool_id id, struct str payload)
{
    struct harness *h = context;
    size_t place = find_message(h, id);
    struct model_message *message;
    size_t number;

    CHECK(place != MODEL_NONE);
    message = &h->messages[place];
    CHECK(message->is_seen);
    CHECK(payload.length == sizeof(number));
    memcpy(&number, payload.data, sizeof(number));
    CHECK(number < message->result_count);
    CHECK(message->results[number] == FATE_DONE || message->results[number] == FATE_PENDING || h->tolerates_revival);
    CHECK(message->seen_results == 0 || number > message->last_seen_result);
    /* None that is certain was left out. */
    for (size_t i = message->seen_results ? message->last_seen_result + 1 : 0; i < number; i++) {
        CHECK(message->results[i] != FATE_DONE || h->expects_damage);
        message->results[i] = FATE_GONE;
    }
    message->results[number] = FATE_DONE;
    message->last_seen_result = number;
    message->seen_results++;
}

static void saw_damage(void *context, const char *where, const char *what)
{
    struct harness *h = context;

    h->damage_count++;
    snprintf(h->last_damage, sizeof(h->last_damage), "%s: %s", where, what);
}

/* What recovery did not report. */
static void compare_message(struct harness *h, size_t place)
{
    struct model_message *m = &h->messages[place];

    if (m->is_seen) {
        for (size_t i = m->seen_results ? m->last_seen_result + 1 : 0; i < m->result_count; i++) {
            CHECK(m->results[i] != FATE_DONE || h->expects_damage);
            m->results[i] = FATE_GONE;
        }
        m->fate = FATE_DONE;
        if (m->death == FATE_PENDING || m->death == FATE_DONE)
            m->death = FATE_GONE;
        return;
    }
    if (m->fate == FATE_DONE && m->death != FATE_DONE && m->death != FATE_PENDING) {
        CHECK(h->expects_damage);
        h->missing_count++;
    }
    if (m->fate == FATE_PENDING)
        m->fate = FATE_GONE;
    m->death = FATE_DONE;
}

/* A report and the end of the message that it is about are one: both or neither. */
static void compare_report(struct harness *h, size_t place)
{
    const struct model_message *m = &h->messages[place];
    const struct model_message *report;

    if (m->death_by == MODEL_NONE || m->death == FATE_NONE || m->fate != FATE_DONE || h->expects_damage)
        return;
    report = &h->messages[m->death_by];
    if (m->death == FATE_PENDING && !m->is_seen)
        CHECK(report->is_seen || report->death == FATE_PENDING || report->death == FATE_DONE);
    if (m->is_seen)
        CHECK(!report->is_seen);
}

static void compare(struct harness *h)
{
    for (size_t i = 0; i < h->message_count; i++)
        compare_report(h, i);
    for (size_t i = 0; i < h->message_count; i++)
        compare_message(h, i);
}

int harness_open(struct harness *h)
{
    const struct spool_recovery recovery = {h, saw_message, saw_result, saw_damage};
    struct spool_statistics statistics;
    struct error error;
    uint64_t live = 0;

    for (size_t i = 0; i < h->message_count; i++)
        h->messages[i].is_seen = false;
    h->spool = spool_create(&h->options);
    if (spool_open(h->spool, &recovery, &error) < 0) {
        /* Nothing else can keep it from opening. */
        CHECK(faulty_is_dark(h->faulty) || error.errno_value != 0);
        spool_close(&h->spool);
        return -1;
    }
    compare(h);
    for (size_t i = 0; i < h->message_count; i++)
        live += h->messages[i].is_seen;
    spool_get_statistics(h->spool, &statistics);
    /* One whose envelope could not be read is reported as damage and stays for the next start. */
    CHECK(statistics.live_messages == live || h->expects_damage);
    return 0;
}

void harness_close(struct harness *h)
{
    harness_wait(h);
    spool_close(&h->spool);
}

void harness_kill(struct harness *h)
{
    /* From here on nothing reaches the disk, the shutdown's own writes neither. */
    faulty_cut_power(h->faulty, 0);
    harness_close(h);
    faulty_clear_faults(h->faulty);
}

/* The end of a write. One that failed may have reached the disk all the same. */
static void write_done(struct spool_write *write)
{
    struct pending *pending = LIST_ENTRY(write, struct pending, write);
    struct harness *h = pending->harness;
    bool is_done = write->status == SPOOL_DONE;
    enum fate fate = is_done ? FATE_DONE : write->status == SPOOL_FULL ? FATE_GONE : FATE_PENDING;

    if (!is_done && write->body_file)
        spool_body_file_discard(&write->body_file);
    pthread_mutex_lock(&h->mutex);
    if (write->status == SPOOL_FULL)
        h->full_count++;
    else if (!is_done)
        h->failed_count++;
    else
        h->done_count++;
    if (write->type == SPOOL_WRITE_MESSAGE) {
        h->messages[pending->message].fate = fate;
        if (pending->settles != MODEL_NONE)
            h->messages[pending->settles].death = fate;
    } else if (write->results->dead) {
        h->messages[pending->message].death = fate;
    } else {
        h->messages[pending->message].results[pending->result] = fate;
    }
    h->outstanding--;
    pthread_cond_signal(&h->cond);
    pthread_mutex_unlock(&h->mutex);
    free(pending->envelope);
    free(pending->content);
    free(pending);
}

static struct pending *make_pending(struct harness *h, enum spool_write_type type, size_t message)
{
    struct pending *pending = mem_alloc(sizeof(*pending));

    pending->harness = h;
    pending->message = message;
    pending->settles = MODEL_NONE;
    pending->write.type = type;
    pending->write.done = write_done;
    return pending;
}

static void submit(struct harness *h, struct pending *pending)
{
    pthread_mutex_lock(&h->mutex);
    h->outstanding++;
    pthread_mutex_unlock(&h->mutex);
    spool_submit(h->spool, &pending->write);
}

/* False if the disk does not take it. */
static bool add_body_file(struct harness *h, struct pending *pending, size_t bytes)
{
    struct spool_body_file *file;

    if (spool_body_file_create(h->spool, &file) < 0)
        return false;
    if (spool_body_file_append(file, pending->content, bytes / 3) < 0 ||
        spool_body_file_append(file, pending->content + bytes / 3, bytes - bytes / 3) < 0 ||
        spool_body_file_finish(file) < 0) {
        spool_body_file_discard(&file);
        return false;
    }
    pending->write.body_file = file;
    return true;
}

size_t harness_message(struct harness *h, size_t envelope_bytes, size_t body_bytes, bool body_file, size_t settles)
{
    struct pending *pending;
    struct model_message *message;
    size_t place;

    pthread_mutex_lock(&h->mutex);
    place = h->message_count;
    if ((place & (place - 1)) == 0)
        h->messages = mem_resize_array(h->messages, place ? place * 2 : 1, sizeof(*h->messages));
    message = &h->messages[h->message_count++];
    *message = (struct model_message){
        .id = spool_reserve_id(h->spool, settles == MODEL_NONE ? 0 : h->messages[settles].id),
        .envelope_bytes = envelope_bytes,
        .body_bytes = body_bytes,
        .has_body_file = body_file,
        .fate = FATE_PENDING,
        .death_by = MODEL_NONE,
    };
    for (size_t i = 0; i < place; i++)
        CHECK(h->messages[i].id != message->id || h->messages[i].fate == FATE_GONE);
    pending = make_pending(h, SPOOL_WRITE_MESSAGE, place);
    pending->write.id = message->id;
    if (settles != MODEL_NONE) {
        h->messages[settles].death = FATE_PENDING;
        h->messages[settles].death_by = place;
        pending->settles = settles;
        pending->records[0] = (struct spool_result){.id = h->messages[settles].id, .dead = true};
        pending->write.results = pending->records;
        pending->write.result_count = 1;
    }
    pthread_mutex_unlock(&h->mutex);
    pending->envelope = make_envelope(place, envelope_bytes);
    pending->content = make_content(place, body_bytes);
    pending->write.envelope = str_make(pending->envelope, envelope_bytes);
    if (!body_file) {
        pending->body[0] = (struct iovec){pending->content, body_bytes / 2};
        pending->body[1] = (struct iovec){pending->content + body_bytes / 2, 0};
        pending->body[2] = (struct iovec){pending->content + body_bytes / 2, body_bytes - body_bytes / 2};
        pending->write.body = pending->body;
        pending->write.body_part_count = 3;
    } else if (!add_body_file(h, pending, body_bytes)) {
        pthread_mutex_lock(&h->mutex);
        h->messages[place].fate = FATE_GONE;
        if (settles != MODEL_NONE)
            h->messages[settles].death = FATE_NONE;
        pthread_mutex_unlock(&h->mutex);
        free(pending->envelope);
        free(pending->content);
        free(pending);
        return place;
    }
    submit(h, pending);
    return place;
}

void harness_result(struct harness *h, size_t place)
{
    struct pending *pending = make_pending(h, SPOOL_WRITE_RESULTS, place);
    struct model_message *message;

    pthread_mutex_lock(&h->mutex);
    message = &h->messages[place];
    CHECK(message->result_count < MODEL_RESULTS_MAX);
    pending->result = message->result_count++;
    message->results[pending->result] = FATE_PENDING;
    memcpy(pending->record_text, &pending->result, sizeof(pending->result));
    pending->records[0].id = message->id;
    pending->records[0].payload = str_make(pending->record_text, sizeof(pending->result));
    pthread_mutex_unlock(&h->mutex);
    pending->write.results = pending->records;
    pending->write.result_count = 1;
    submit(h, pending);
}

void harness_dead(struct harness *h, size_t place)
{
    struct pending *pending = make_pending(h, SPOOL_WRITE_RESULTS, place);

    pthread_mutex_lock(&h->mutex);
    h->messages[place].death = FATE_PENDING;
    h->messages[place].death_by = MODEL_NONE;
    pending->records[0] = (struct spool_result){.id = h->messages[place].id, .dead = true};
    pthread_mutex_unlock(&h->mutex);
    pending->write.results = pending->records;
    pending->write.result_count = 1;
    submit(h, pending);
}

void harness_wait(struct harness *h)
{
    pthread_mutex_lock(&h->mutex);
    while (h->outstanding > 0)
        pthread_cond_wait(&h->cond, &h->mutex);
    pthread_mutex_unlock(&h->mutex);
}

bool harness_is_live(const struct harness *h, size_t place)
{
    const struct model_message *message = &h->messages[place];

    return message->fate == FATE_DONE && (message->death == FATE_NONE || message->death == FATE_GONE);
}

int harness_read_any(struct harness *h, size_t place)
{
    const struct model_message *message = &h->messages[place];
    struct spool_reader *reader = spool_reader_open(h->spool, message->id);
    bool is_equal = true;
    char data[1000];
    size_t offset = 0;
    ssize_t count = -ENOENT;

    while (reader && (count = spool_reader_read(reader, data, sizeof(data), offset, false)) > 0) {
        for (ssize_t i = 0; i < count; i++)
            is_equal = is_equal && data[i] == content_at(place, offset + (size_t)i);
        offset += (size_t)count;
    }
    if (count == 0)
        CHECK(is_equal && offset == message->body_bytes && spool_reader_body_bytes(reader) == offset);
    spool_reader_close(&reader);
    return (int)count;
}

int harness_read(struct harness *h, size_t place)
{
    int result = harness_read_any(h, place);

    CHECK(result != -EILSEQ);
    return result;
}

void harness_read_all(struct harness *h)
{
    for (size_t i = 0; i < h->message_count; i++) {
        if (harness_is_live(h, i))
            CHECK(harness_read(h, i) == 0);
    }
}

static int count_name(void *context, const char *name)
{
    size_t *count = context;

    (void)name;
    ++*count;
    return 0;
}

size_t harness_count_files(struct harness *h, const char *directory)
{
    size_t count = 0;

    h->options.vfs->list(h->options.vfs, directory, count_name, &count);
    return count;
}

struct first_name {
    char *path;
    size_t path_bytes;
    const char *directory;
};

static int take_first(void *context, const char *name)
{
    const struct first_name *first = context;

    snprintf(first->path, first->path_bytes, "%s/%s", first->directory, name);
    return 1;
}

bool harness_first_file(struct harness *h, const char *directory, char *path, size_t path_bytes)
{
    struct first_name first = {path, path_bytes, directory};

    return h->options.vfs->list(h->options.vfs, directory, take_first, &first) == 1;
}

int64_t harness_check(struct harness *h, struct spool_check_report *report)
{
    return spool_check(h->options.vfs, DIRECTORY, report, NULL, NULL, NULL);
}

/* A live message: mostly a young one, as mail goes, and now and then one that has waited long. */
static size_t random_live(struct harness *h)
{
    size_t place = MODEL_NONE;
    size_t skip = (size_t)(faulty_next_random(h->faulty) % 6);

    pthread_mutex_lock(&h->mutex);
    if (faulty_next_random(h->faulty) % 16 == 0)
        skip = (size_t)(faulty_next_random(h->faulty) % (h->message_count + 1));
    for (size_t i = h->message_count; i-- > 0;) {
        if (!harness_is_live(h, i))
            continue;
        place = i;
        if (skip-- == 0)
            break;
    }
    pthread_mutex_unlock(&h->mutex);
    return place;
}

void harness_random_step(struct harness *h)
{
    uint64_t choice = faulty_next_random(h->faulty) % 16;
    size_t envelope_bytes = 8 + (size_t)(faulty_next_random(h->faulty) % 300);
    size_t body_bytes = (size_t)(faulty_next_random(h->faulty) % 6000);
    size_t place = random_live(h);

    if (choice < 4)
        harness_message(h, envelope_bytes, body_bytes, false, MODEL_NONE);
    else if (choice == 4)
        harness_message(h, envelope_bytes, body_bytes * 4, true, MODEL_NONE);
    else if (place == MODEL_NONE)
        return;
    else if (choice == 5)
        harness_message(h, envelope_bytes, body_bytes, false, place);
    else if (choice < 8 && h->messages[place].result_count < MODEL_RESULTS_MAX)
        harness_result(h, place);
    else if (choice < 14)
        harness_dead(h, place);
    else
        harness_wait(h);
}
