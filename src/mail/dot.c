/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Almost all of a message is clean: every LF after a CR, every CR before an LF, no line that begins with a dot. So the input is looked
 * at in blocks of 64 bytes, as bit masks of where the four interesting bytes are; a block in which they stand right is passed over
 * as a whole. Only a block with something to do goes through the state machine, byte by byte.
 */
#include "mail/dot.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define BLOCK_BYTES 64u

/* Bit i: byte i of the block is that byte. */
struct block {
    uint64_t cr;
    uint64_t lf;
    uint64_t nul;
    uint64_t dot;
};

#ifdef __SSE2__

static inline uint64_t equal_mask(const __m128i lanes[4], char c)
{
    const __m128i wanted = _mm_set1_epi8(c);
    uint64_t mask = 0;

#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++)
        mask |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(lanes[i], wanted)) << (16 * i);
    return mask;
}

static inline struct block read_full_block(const char *p)
{
    __m128i lanes[4];

#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++)
        lanes[i] = _mm_loadu_si128((const __m128i *)(const void *)(p + (size_t)i * 16));
    return (struct block){equal_mask(lanes, '\r'), equal_mask(lanes, '\n'), equal_mask(lanes, '\0'),
                          equal_mask(lanes, '.')};
}

#else

static inline struct block read_full_block(const char *p)
{
    struct block block = {0};

    for (unsigned i = 0; i < BLOCK_BYTES; i++) {
        block.cr |= (uint64_t)(p[i] == '\r') << i;
        block.lf |= (uint64_t)(p[i] == '\n') << i;
        block.nul |= (uint64_t)(p[i] == '\0') << i;
        block.dot |= (uint64_t)(p[i] == '.') << i;
    }
    return block;
}

#endif

/* `length` is at least 1 and at most BLOCK_BYTES. */
static inline struct block read_block(const char *p, size_t length)
{
    if (length == BLOCK_BYTES)
        return read_full_block(p);

    char padded[BLOCK_BYTES] = {0};
    struct block block;

    memcpy(padded, p, length);
    block = read_full_block(padded);
    block.nul &= (UINT64_C(1) << length) - 1;
    return block;
}

static inline size_t block_length(const char *p, const char *end)
{
    const size_t left = (size_t)(end - p);

    return left < BLOCK_BYTES ? left : BLOCK_BYTES;
}

/* Output under way: what stands from `start` on in the input is to be emitted, unless `start` is NULL. */
struct run {
    const struct dot_decoder *decoder;
    dot_emit *emit;
    void *context;
    const char *start;
};

static void emit_text(const struct run *run, struct str text)
{
    if (run->emit && text.length > 0 && !dot_decoder_is_refused(run->decoder))
        run->emit(run->context, text);
}

/* Emits the run up to `end` and stops it. */
static void end_run(struct run *run, const char *end)
{
    if (run->start)
        emit_text(run, str_make(run->start, (size_t)(end - run->start)));
    run->start = NULL;
}

/* Puts `text`, one that input bytes did not give, in front of `p`. */
static void insert_text(struct run *run, const char *p, struct str text)
{
    end_run(run, p);
    emit_text(run, text);
    run->start = p;
}

void dot_decoder_init_data(struct dot_decoder *decoder, enum dot_bare_newlines bare_newlines)
{
    *decoder = (struct dot_decoder){.bare_newlines = bare_newlines, .state = DOT_LINE_START};
}

void dot_decoder_init_bdat(struct dot_decoder *decoder, enum dot_bare_newlines bare_newlines)
{
    *decoder = (struct dot_decoder){.bare_newlines = bare_newlines, .is_bdat = true, .state = DOT_LINE_START};
}

/* A byte that no newline or dot stands before. */
static void step_in_line(struct dot_decoder *d, struct run *run, const char *p)
{
    d->state = DOT_LINE;
    if (*p == '\r') {
        d->state = DOT_CR;
    } else if (*p == '\n') {
        d->has_bare_newline = true;
        insert_text(run, p, STR("\r"));
    } else if (*p == '\0') {
        d->has_nul = true;
    }
}

/* The byte after a line's leading dot, which is dropped unless the line turns out to be that dot and a bare newline. */
static void step_after_dot(struct dot_decoder *d, struct run *run, const char *p)
{
    if (*p == '\r') {
        d->state = DOT_DOT_CR;
        return;
    }
    run->start = p;
    if (*p == '\n') {
        d->has_bare_newline = true;
        insert_text(run, p, STR(".\r"));
    }
    d->has_nul |= *p == '\0';
    d->state = DOT_LINE;
}

static void step(struct dot_decoder *d, struct run *run, const char *p)
{
    switch (d->state) {
    case DOT_LINE:
        step_in_line(d, run, p);
        break;
    case DOT_LINE_START:
        if (*p == '.' && !d->is_bdat) {
            end_run(run, p);
            d->state = DOT_DOT;
        } else {
            step_in_line(d, run, p);
        }
        break;
    case DOT_CR:
        if (*p == '\n') {
            d->state = DOT_LINE_START;
        } else {
            d->has_bare_newline = true;
            insert_text(run, p, STR("\n"));
            step_in_line(d, run, p);
        }
        break;
    case DOT_DOT:
        step_after_dot(d, run, p);
        break;
    case DOT_DOT_CR:
        if (*p == '\n') {
            d->state = DOT_END;
        } else {
            d->has_bare_newline = true;
            insert_text(run, p, STR(".\r\n"));
            step_in_line(d, run, p);
        }
        break;
    case DOT_END:
        break;
    }
}

/* Passes over the blocks in which there is nothing to do, and returns where the first other one begins. */
static const char *pass_clean_blocks(struct dot_decoder *d, const char *p, const char *end)
{
    uint64_t after_cr = d->state == DOT_CR;
    uint64_t after_lf = d->state == DOT_LINE_START;
    const uint64_t dots = d->is_bdat ? 0 : UINT64_MAX;

    if (d->state == DOT_DOT || d->state == DOT_DOT_CR)
        return p;
    while (p < end) {
        const size_t length = block_length(p, end);
        const struct block block = read_block(p, length);

        if (block.nul != 0 || block.lf != (block.cr << 1 | after_cr) ||
            (block.dot & dots & (block.lf << 1 | after_lf)) != 0)
            break;
        after_cr = block.cr >> (length - 1) & 1;
        after_lf = block.lf >> (length - 1) & 1;
        p += length;
    }
    d->state = after_cr ? DOT_CR : after_lf ? DOT_LINE_START : DOT_LINE;
    return p;
}

size_t dot_decoder_feed(struct dot_decoder *decoder, struct str input, dot_emit *emit, void *context)
{
    const char *p = input.data;
    const char *const end = p + input.length;
    const bool is_dot_pending = decoder->state == DOT_DOT || decoder->state == DOT_DOT_CR;
    struct run run = {decoder, emit, context, is_dot_pending ? NULL : p};

    while (p < end && decoder->state != DOT_END) {
        p = pass_clean_blocks(decoder, p, end);

        const char *const block_end = p + block_length(p, end);

        while (p < block_end && decoder->state != DOT_END)
            step(decoder, &run, p++);
    }
    end_run(&run, p);
    return (size_t)(p - input.data);
}

void dot_decoder_finish_bdat(struct dot_decoder *decoder, dot_emit *emit, void *context)
{
    const struct run run = {decoder, emit, context, NULL};

    if (decoder->state != DOT_CR)
        return;
    decoder->has_bare_newline = true;
    decoder->state = DOT_LINE;
    emit_text(&run, STR("\n"));
}

void dot_encoder_init(struct dot_encoder *encoder)
{
    *encoder = (struct dot_encoder){0};
}

static void remember_last(struct dot_encoder *encoder, struct str input)
{
    encoder->last[0] = input.length > 1 ? input.data[input.length - 2] : encoder->last[1];
    encoder->last[1] = input.data[input.length - 1];
    encoder->is_started = true;
}

void dot_encoder_feed(struct dot_encoder *encoder, struct str input, dot_emit *emit, void *context)
{
    const char *const end = input.data + input.length;
    const char *start = input.data;
    /* After any LF: the spool has none without a CR, and a dot too many would do less harm than one too few. */
    uint64_t after_lf = !encoder->is_started || encoder->last[1] == '\n';

    if (input.length == 0)
        return;
    for (const char *p = start; p < end;) {
        const size_t length = block_length(p, end);
        const struct block block = read_block(p, length);

        for (uint64_t dots = block.dot & (block.lf << 1 | after_lf); dots != 0; dots &= dots - 1) {
            const char *dot = p + __builtin_ctzll(dots);

            /* Once as the end of this piece, once as the start of the next. */
            emit(context, str_make(start, (size_t)(dot + 1 - start)));
            start = dot;
        }
        after_lf = block.lf >> (length - 1) & 1;
        p += length;
    }
    emit(context, str_make(start, (size_t)(end - start)));
    remember_last(encoder, input);
}

void dot_encoder_finish(struct dot_encoder *encoder, dot_emit *emit, void *context)
{
    if (encoder->is_started && !(encoder->last[0] == '\r' && encoder->last[1] == '\n'))
        emit(context, STR("\r\n"));
    emit(context, STR(".\r\n"));
}
