/* SPDX-License-Identifier: Apache-2.0 */
/* check_text: what `postern check` says to people: a table of who may send to where, for each server. One thread. */
#ifndef POSTERN_CMD_CHECK_TEXT_H
#define POSTERN_CMD_CHECK_TEXT_H

#include "config/config.h"
#include "policy/compare.h"

/* To the standard output. */
void check_text_print_proof(const struct config *config);
void check_text_print_comparison(const struct policy_comparison *comparison, const char *old_path);

#endif
