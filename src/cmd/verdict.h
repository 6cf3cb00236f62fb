/* SPDX-License-Identifier: Apache-2.0 */
/* verdict: what the daemon does with the proof of who may relay: it refuses an open relay that nobody has asked for, and it says
 * in the log what it runs with. Main thread. */
#ifndef POSTERN_CMD_VERDICT_H
#define POSTERN_CMD_VERDICT_H

#include "config/config.h"

/* Whether every server that is OPEN has its allow-open-relay. Why not is logged, or at the start, before there is a log, printed
 * to the standard error. */
bool verdict_permits(const struct config *config, bool starting);
/* One event "relay-verdict" for each server. */
void verdict_log(const struct config *config);

#endif
