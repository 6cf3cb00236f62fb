/* SPDX-License-Identifier: Apache-2.0 */
/* read_password: a new password from whoever runs the command: a terminal is asked twice and shows nothing; otherwise it is the first line of the standard
 * input. Never from the command line, which all users of the machine can see. */
#ifndef POSTERN_CMD_READ_PASSWORD_H
#define POSTERN_CMD_READ_PASSWORD_H

#include "directory/password.h"

/* Shorter ones are refused: whoever may try as often as the brakes allow finds them. */
#define READ_PASSWORD_BYTES_MIN 8
/* Shorter ones get a warning. */
#define READ_PASSWORD_BYTES_ADVISED 12

/* The length, and the password, NUL-terminated, for the caller to clear; -1: a message has gone to the standard error. */
int read_new_password(const char *user, char password[PASSWORD_BYTES_MAX + 1]);

#endif
