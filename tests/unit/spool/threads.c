/* SPDX-License-Identifier: Apache-2.0 */
/* Loops submit and read from many threads at once: under ThreadSanitizer this finds what a lock forgot. */
#include "harness.h"

#include <semaphore.h>

#define SEGMENT_BYTES  (256u << 10)
#define CAPACITY_BYTES (64u << 20)
#define THREADS        8
#define ROUNDS         150

struct client {
    struct spool *spool;
    pthread_t thread;
    unsigned number;
    sem_t is_done;
    unsigned failed;
};

struct client_write {
    struct spool_write write;
    struct client *client;
};

static void write_done(struct spool_write *write)
{
    struct client_write *self = LIST_ENTRY(write, struct client_write, write);

    sem_post(&self->client->is_done);
}

static void submit(struct client *client, struct client_write *write)
{
    write->client = client;
    write->write.done = write_done;
    spool_submit(client->spool, &write->write);
    sem_wait(&client->is_done);
    if (write->write.status != SPOOL_DONE)
        client->failed++;
}

static void read_back(struct client *client, spool_id id, const char *body, size_t length)
{
    struct spool_reader *reader = spool_reader_open(client->spool, id);
    char data[4096];

    CHECK(reader);
    CHECK(spool_reader_read(reader, data, sizeof(data), 0, true) == (ssize_t)length);
    CHECK(memcmp(data, body, length) == 0);
    spool_reader_close(&reader);
}

/* What a session and then a delivery do, over and over. */
static void *run_client(void *context)
{
    struct client *client = context;
    char body[3000];

    memset(body, (int)('a' + client->number), sizeof(body));
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct iovec part = {body, sizeof(body)};
        struct client_write message = {
            .write = {.type = SPOOL_WRITE_MESSAGE,
                      .envelope = STR("envelope"),
                      .body = &part,
                      .body_part_count = 1,
                      .id = spool_reserve_id(client->spool, 0)},
        };
        struct spool_result records[2] = {
            {.id = message.write.id, .payload = STR("250 ok")},
            {.id = message.write.id, .dead = round % 16 != 0},
        };
        struct client_write results = {
            .write = {.type = SPOOL_WRITE_RESULTS, .results = records, .result_count = 2},
        };
        struct spool_statistics statistics;
        char *envelope;
        size_t length;

        submit(client, &message);
        read_back(client, message.write.id, body, sizeof(body));
        CHECK(spool_read_envelope(client->spool, message.write.id, &envelope, &length) == 0 && length == 8);
        free(envelope);
        CHECK(!spool_is_full(client->spool, sizeof(body)));
        spool_get_statistics(client->spool, &statistics);
        submit(client, &results);
    }
    return NULL;
}

static void run_clients(unsigned shard_count)
{
    struct client clients[THREADS];
    struct harness h;
    const struct spool_recovery recovery = {0};
    struct spool_statistics statistics;
    struct error error;

    harness_init(&h, 1, CAPACITY_BYTES, SEGMENT_BYTES);
    h.options.shard_count = shard_count;
    h.spool = spool_create(&h.options);
    CHECK(spool_open(h.spool, &recovery, &error) == 0);
    for (unsigned i = 0; i < THREADS; i++) {
        clients[i] = (struct client){.spool = h.spool, .number = i};
        sem_init(&clients[i].is_done, 0, 0);
        CHECK(pthread_create(&clients[i].thread, NULL, run_client, &clients[i]) == 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(clients[i].thread, NULL);
        sem_destroy(&clients[i].is_done);
        CHECK(clients[i].failed == 0);
    }
    spool_get_statistics(h.spool, &statistics);
    CHECK(statistics.live_messages == THREADS * ((ROUNDS + 15) / 16));
    spool_close(&h.spool);
    harness_release(&h);
}

static void serves_many_threads(void **state)
{
    (void)state;
    run_clients(1);
}

static void serves_many_threads_and_shards(void **state)
{
    (void)state;
    run_clients(3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(serves_many_threads),
        cmocka_unit_test(serves_many_threads_and_shards),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
