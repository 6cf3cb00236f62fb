/* SPDX-License-Identifier: Apache-2.0 */
/* ask_directory: for `postern explain`, what the live server would ask the directory about one case, and nothing more. Blocks, at most the directory's timeout for
 * each question. */
#ifndef POSTERN_CMD_ASK_DIRECTORY_H
#define POSTERN_CMD_ASK_DIRECTORY_H

#include "directory/directory.h"
#include "policy/explain.h"

/* Zero before the first call. */
struct ask_directory {
    struct directory *directory; /* NULL: it was not needed */
    struct directory_user *user;
    bool has_asked_user;
    enum directory_status user_status;
};

/* Fills in the question's facts: the groups of a user where none are given, sender_match, recipient_known. What it fills in lives until ask_directory_end. */
void ask_directory(struct ask_directory *asked, const struct config *config, struct policy_question *question);
void ask_directory_end(struct ask_directory *asked);

/* Where a user's groups come from, in words. */
const char *ask_directory_user_words(const struct ask_directory *asked);

#endif
