/* SPDX-License-Identifier: Apache-2.0 */
/* secure: STARTTLS and AUTH in the dialogue with the target: what an encrypted session, and what a user, can do. */
#ifndef POSTERN_RELAYTEST_SECURE_H
#define POSTERN_RELAYTEST_SECURE_H

#include "relaytest/relaytest_private.h"

/* Before the loop runs, since files are read: run->tls and run->pool, where they will be needed. 0 or -1. */
int secure_prepare(struct run *run, struct error *error);
void secure_release(struct run *run);

/* After EHLO, where it is wanted; greets again. The certificate is not judged: an encrypted line is all that is needed here. false: run_fail has
 * been called, or run->end says why. */
bool secure_start_tls(struct run *run);
/* Logs in, where a user is given. A password goes over a line without TLS only to this very machine, or where it can't be read from what goes over
 * (SCRAM). false: as above. */
bool secure_log_in(struct run *run);

#endif
