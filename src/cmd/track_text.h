/* SPDX-License-Identifier: Apache-2.0 */
/* track_text: events of the tracking log in words, to the standard output. One thread. */
#ifndef POSTERN_CMD_TRACK_TEXT_H
#define POSTERN_CMD_TRACK_TEXT_H

#include <jansson.h>

/* One line. */
void track_text_print_event(const json_t *event);
/* What let the message in, and what became of each recipient. `queued` (may be NULL): as it is in the queue. */
void track_text_print_story(const char *id, const json_t *queued, const json_t *events);

#endif
