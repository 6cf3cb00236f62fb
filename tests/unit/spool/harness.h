/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A spool on a faulty_vfs together with a model of what it has promised. Each open compares what recovery reports with the model, to
 * the byte, and the model learns what became of the writes whose end it could not know.
 */
#ifndef POSTERN_TESTS_SPOOL_HARNESS_H
#define POSTERN_TESTS_SPOOL_HARNESS_H

#include "faulty_vfs.h"
#include "spool/spool.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* cmocka's assertions may jump out of a spool that has threads running; this one says where it is and ends the program. */
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not true: %s (%s)\n", __FILE__, __LINE__, #condition, harness_where);              \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* Which seed and step a failure belongs to. */
extern char harness_where[128];

#define MODEL_RESULTS_MAX 8
#define MODEL_NONE        SIZE_MAX

/* What is known of a write. */
enum fate {
    FATE_NONE,    /* never submitted */
    FATE_PENDING, /* submitted, or ended in a crash: it may be there or not */
    FATE_DONE,    /* it must be there */
    FATE_GONE,    /* it must not */
};

struct model_message {
    spool_id id;
    size_t envelope_bytes;
    size_t body_bytes;
    bool has_body_file;
    enum fate fate;
    enum fate death;
    size_t death_by; /* the report that settles it; MODEL_NONE: a record of its own */
    enum fate results[MODEL_RESULTS_MAX];
    size_t result_count;
    bool is_seen; /* by this recovery */
    size_t seen_results;
    size_t last_seen_result;
};

struct harness {
    struct faulty_vfs *faulty;
    struct spool_options options;
    struct spool *spool;
    struct model_message *messages;
    size_t message_count;
    size_t damage_count;
    char last_damage[512];
    bool expects_damage;    /* messages may be missing: counted, not checked */
    bool tolerates_revival; /* what was settled may be back: its dead record was damaged */
    size_t missing_count;

    pthread_mutex_t mutex;
    pthread_cond_t cond;
    size_t outstanding;
    size_t full_count;
    size_t failed_count;
    size_t done_count;
};

void harness_init(struct harness *h, uint64_t seed, uint64_t capacity_bytes, uint64_t segment_bytes);
void harness_release(struct harness *h);

/* Opens and compares: 0, or -1 if the disk failed. */
int harness_open(struct harness *h);
void harness_close(struct harness *h);
/* The process dies: what was submitted may be on the disk, nothing is closed properly. The disk stays as the process saw it. */
void harness_kill(struct harness *h);

/* Submits, and returns at once. The message's place in the model. `settles`: a message that this one reports the end of. */
size_t harness_message(struct harness *h, size_t envelope_bytes, size_t body_bytes, bool body_file, size_t settles);
void harness_result(struct harness *h, size_t message);
void harness_dead(struct harness *h, size_t message);
/* Until everything submitted has ended. */
void harness_wait(struct harness *h);

/* One of all these, at random. */
void harness_random_step(struct harness *h);

/* Whether the model says that it lives. */
bool harness_is_live(const struct harness *h, size_t message);
/* Reads the body back and compares: 0, or the reader's error. */
int harness_read(struct harness *h, size_t message);
/* The same, and bytes that differ are allowed if the end says that the body is damaged. */
int harness_read_any(struct harness *h, size_t message);
void harness_read_all(struct harness *h);
/* Names in a directory of the faulty_vfs. */
size_t harness_count_files(struct harness *h, const char *directory);
/* The path of one; false if there is none. */
bool harness_first_file(struct harness *h, const char *directory, char *path, size_t path_bytes);
/* spool_check on the closed spool: the count of damaged frames and bodies. */
int64_t harness_check(struct harness *h, struct spool_check_report *report);

#endif
