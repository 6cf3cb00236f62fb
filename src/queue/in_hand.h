/* SPDX-License-Identifier: Apache-2.0 */
/*
 * in_hand: which messages are being handled right now, in a small file that is mapped and never synced. It survives a crash of the process, and not
 * a power cut, which is no message's fault; nor is a SIGKILL: only if queue_catch_crashes has noted the crash, a start takes the messages that it
 * finds there for suspects. A suspect that is handled without harm is none any more. One that is in hand at a second crash is guilty.
 *
 * The file: 8 bytes "POSTHAND", 4 bytes version (1), 4 bytes "the process crashed" (0 or 1), then IN_HAND_SLOTS slots of 8 bytes in the machine's own order: the
 * message's id, with bit 63 "in hand" and bit 62 "a suspect"; 0 is a free slot. A file that is not of this form is started afresh.
 *
 * Threads: in_hand_enter and in_hand_leave any; the rest before the loops start, or the queue's owner.
 */
#ifndef POSTERN_QUEUE_IN_HAND_H
#define POSTERN_QUEUE_IN_HAND_H

#include "spool/spool.h"

#define IN_HAND_SLOTS 8190
/* Not noted: the slots are all in use, or there is no file. */
#define IN_HAND_NONE UINT32_MAX

struct in_hand;

/* Maps the file, and takes stock of what the last process left in it. */
int in_hand_open(struct in_hand **in_hand, const char *path, struct error *error);
/* An orderly end: nothing is in hand any more; suspects that were not tried stay suspects. Without any the file is removed. NULL inside is
 * allowed. */
void in_hand_close(struct in_hand **in_hand);

enum in_hand_verdict { IN_HAND_INNOCENT, IN_HAND_SUSPECT, IN_HAND_GUILTY };
/* As of the start. NULL: all are innocent. */
enum in_hand_verdict in_hand_verdict(struct in_hand *in_hand, spool_id id);
/* The suspects of the start, from *position 0; false at the end. */
bool in_hand_next_suspect(struct in_hand *in_hand, size_t *position, spool_id *id);
/* It has been put on hold, or is gone. */
void in_hand_forget(struct in_hand *in_hand, spool_id id);

/* Around each handling. NULL is allowed. */
unsigned in_hand_enter(struct in_hand *in_hand, spool_id id);
void in_hand_leave(struct in_hand *in_hand, unsigned slot);

/* The note that queue_catch_crashes makes; async-signal-safe. */
void in_hand_note_crash(void);

#endif
