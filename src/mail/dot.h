/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dot: the transparency of DATA (RFC 5321 4.5.2) in both directions, and the rule that a message has no newline but CRLF
 * (relay-behaviour.md section 8), for DATA and for BDAT (RFC 3030). Streams: input comes in whatever pieces, output goes out as
 * views into it wherever possible; nothing is buffered or allocated. Pure; one thread at a time.
 *
 * The only end of data is CRLF "." CRLF, whatever is done about bare newlines, so that nobody can end a message here and go on as
 * a command (SMTP smuggling). After a bare CR or LF or a NUL:
 *   DOT_BARE_REJECT     `has_bare_newline` / `has_nul` is set, nothing more is emitted, and decoding goes on to the real end,
 *                       so that the refusal is the answer to the whole message.
 *   DOT_BARE_NORMALIZE  each bare CR or LF becomes CRLF. A line that began after one is not dot-stuffed as far as anybody
 *                       can tell, so its leading dot is data and is kept; "." alone between a real CRLF and a bare newline too. A
 *                       NUL is refused as above: no device needs one.
 * So what was emitted while both flags are clear is a message in CRLF lines, and one with a flag set must be thrown away (NORMALIZE:
 * only for `has_nul`; `has_bare_newline` just tells).
 */
#ifndef POSTERN_MAIL_DOT_H
#define POSTERN_MAIL_DOT_H

#include "base/str.h"

enum dot_bare_newlines { DOT_BARE_REJECT, DOT_BARE_NORMALIZE };

/* Takes a piece of output; the view is valid during the call. */
typedef void dot_emit(void *context, struct str data);

enum dot_state {
    DOT_LINE,       /* within a line, or after a bare newline: a dot is data */
    DOT_LINE_START, /* after CRLF, or at the very start */
    DOT_CR,         /* after CR, which has been emitted */
    DOT_DOT,        /* after a dot at a line's start, which has not */
    DOT_DOT_CR,     /* after such a dot and CR, neither emitted */
    DOT_END,
};

struct dot_decoder {
    enum dot_bare_newlines bare_newlines;
    bool is_bdat; /* no dots, no end of data */
    bool has_bare_newline;
    bool has_nul;
    enum dot_state state; /* private */
};

void dot_decoder_init_data(struct dot_decoder *decoder, enum dot_bare_newlines bare_newlines);
void dot_decoder_init_bdat(struct dot_decoder *decoder, enum dot_bare_newlines bare_newlines);

/*
 * Decodes a piece and returns how many bytes belong to the message: fewer than it has only when the end of data is among them; what
 * follows is the next command. `emit` may be NULL to read on without output (a message that is too big). For BDAT, feed
 * the chunks' octets, whatever their borders.
 */
size_t dot_decoder_feed(struct dot_decoder *decoder, struct str input, dot_emit *emit, void *context);
/* After the LAST chunk of BDAT: a CR at the very end is a bare one. Not for DATA. */
void dot_decoder_finish_bdat(struct dot_decoder *decoder, dot_emit *emit, void *context);

static inline bool dot_decoder_is_done(const struct dot_decoder *decoder)
{
    return decoder->state == DOT_END;
}

/* Nothing of this message may be kept. */
static inline bool dot_decoder_is_refused(const struct dot_decoder *decoder)
{
    return decoder->has_nul || (decoder->has_bare_newline && decoder->bare_newlines == DOT_BARE_REJECT);
}

/* Sends a stored message with DATA: doubles each dot that begins a line. */
struct dot_encoder {
    bool is_started;
    char last[2]; /* the last two bytes, 0 where there was none */
};

void dot_encoder_init(struct dot_encoder *encoder);
void dot_encoder_feed(struct dot_encoder *encoder, struct str input, dot_emit *emit, void *context);
/* The end of data, after a CRLF where the message does not end in one: DATA can't say otherwise. */
void dot_encoder_finish(struct dot_encoder *encoder, dot_emit *emit, void *context);

#endif
