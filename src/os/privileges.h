/* SPDX-License-Identifier: Apache-2.0 */
/*
 * privileges: who the process is. It begins as root where low ports are to be bound, and goes on as an ordinary user. Main thread, before
 * any other starts.
 */
#ifndef POSTERN_OS_PRIVILEGES_H
#define POSTERN_OS_PRIVILEGES_H

#include "base/error.h"

#include <stdbool.h>

/* Whether the process runs as root and so has to become somebody. */
bool privileges_are_root(void);
/* Becomes `user` for good, with that user's groups and no capability. -1 too if there is no such user. */
int privileges_become(const char *user, struct error *error);
/* Makes the directory if it is missing; one that is made here is given to `user` (NULL: leave it). */
int privileges_make_directory(const char *path, const char *user, struct error *error);
/* As many descriptors as the system allows this process. */
void privileges_raise_descriptor_limit(void);

#endif
