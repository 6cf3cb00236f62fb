/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postern explain --batch: questions as lines on the standard input, answers on the standard output. All that one read brings is
 * answered and written before the next read, so that a program may hold a conversation over two pipes.
 */
#include "base/mem.h"
#include "cmd/tool.h"
#include "policy/explain_batch.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define INPUT_BYTES  (1u << 20)
#define OUTPUT_BYTES (1u << 18)

_Static_assert(INPUT_BYTES > EXPLAIN_LINE_BYTES_MAX, "a whole line must fit");

struct batch_run {
    struct explain_batch *batch;
    char *input;
    size_t length;    /* of what is in `input` */
    bool is_skipping; /* the rest of a line that is too long */
    bool has_faults;
    bool has_failed;
    struct buf output;
};

static void flush_output(struct batch_run *run)
{
    if (fwrite(run->output.data, 1, run->output.length, stdout) != run->output.length || fflush(stdout) != 0)
        run->has_failed = true;
    buf_clear(&run->output);
}

static void answer(struct batch_run *run, struct str line)
{
    if (!explain_batch_answer(run->batch, line, &run->output))
        run->has_faults = true;
    if (run->output.length >= OUTPUT_BYTES)
        flush_output(run);
}

static void refuse_long(struct batch_run *run)
{
    explain_batch_refuse_long(run->batch, &run->output);
    run->has_faults = true;
    run->is_skipping = true;
}

/* Answers the whole lines of the input, and keeps the part of one at its end. */
static void answer_lines(struct batch_run *run)
{
    struct str rest = str_make(run->input, run->length);

    for (;;) {
        size_t end = str_find(rest, '\n');

        if (end == STR_NONE)
            break;
        if (!run->is_skipping)
            answer(run, str_take(rest, end));
        run->is_skipping = false;
        rest = str_skip(rest, end + 1);
    }
    if (!run->is_skipping && rest.length > EXPLAIN_LINE_BYTES_MAX)
        refuse_long(run);
    run->length = run->is_skipping ? 0 : rest.length;
    memmove(run->input, rest.data, run->length);
}

/* false at the end, and after an error. */
static bool read_more(struct batch_run *run)
{
    ssize_t count = read(STDIN_FILENO, run->input + run->length, INPUT_BYTES - run->length);

    if (count < 0 && errno == EINTR)
        return true;
    if (count < 0) {
        fprintf(stderr, "postern: standard input: %s\n", strerrordesc_np(errno));
        run->has_failed = true;
    }
    if (count <= 0)
        return false;
    run->length += (size_t)count;
    return true;
}

static enum exit_code run_batch(struct batch_run *run)
{
    while (!run->has_failed && read_more(run)) {
        answer_lines(run);
        flush_output(run);
    }
    if (run->has_failed)
        return EXIT_COULD_NOT;
    /* The last line may have no end. */
    if (run->length > 0)
        answer(run, str_make(run->input, run->length));
    flush_output(run);
    return run->has_faults ? EXIT_USAGE : EXIT_DONE;
}

enum exit_code tool_explain_batch(const struct tool_options *options)
{
    const struct config *config;
    struct batch_run run = {0};
    enum exit_code code;

    if (options->seen & ~(1u << TOOL_BATCH))
        return tool_usage("with --batch each question says all; leave the other options out");
    config = tool_load_config(options->config_path);
    if (!config)
        return EXIT_COULD_NOT;
    run.batch = explain_batch_create(config->policy);
    run.input = mem_alloc(INPUT_BYTES);
    buf_init(&run.output, OUTPUT_BYTES + EXPLAIN_ANSWER_BYTES_MAX);
    code = run_batch(&run);
    buf_release(&run.output);
    free(run.input);
    explain_batch_destroy(&run.batch);
    config_release(&config);
    return code;
}
