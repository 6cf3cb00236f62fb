/* SPDX-License-Identifier: Apache-2.0 */
/*
 * explain_batch: `postern explain --batch` line by line: a JSON object that is a question in, one that is the answer out
 * (interfaces.md section 4.1). No directory and no DNS is asked: what the line does not say is unknown, and grants nothing. Pure;
 * one thread at a time.
 */
#ifndef POSTERN_POLICY_EXPLAIN_BATCH_H
#define POSTERN_POLICY_EXPLAIN_BATCH_H

#include "base/buf.h"
#include "policy/decide.h"

#define EXPLAIN_LINE_BYTES_MAX 65536
#define EXPLAIN_GROUPS_MAX     1000
/* No answer is longer: texts of POLICY_TEXT_BYTES, every byte of them escaped, and the names of a rule. */
#define EXPLAIN_ANSWER_BYTES_MAX 65536

struct explain_batch;

/* The model must outlive it. */
struct explain_batch *explain_batch_create(const struct policy_model *model);
void explain_batch_destroy(struct explain_batch **batch);

/*
 * Answers the line (without its line end) with one line in `out`, its line end included. A question that cannot be read gets
 * {"line":N,"error":"..."} in its place, and false is returned.
 */
bool explain_batch_answer(struct explain_batch *batch, struct str line, struct buf *out);
/* The same for a line over EXPLAIN_LINE_BYTES_MAX, which the caller has thrown away. */
void explain_batch_refuse_long(struct explain_batch *batch, struct buf *out);

/* none, verified, unverified, tempfail: false if it is anything else. */
bool explain_parse_name_state(struct str word, enum policy_name_state *state);

#endif
