/* SPDX-License-Identifier: Apache-2.0 */
/*
 * confine: the daemon's sandbox (os/sandbox.h): which files it will want to reach, whether what stands is enough, and a clear word to whoever reloads a
 * configuration that wants more.
 *
 * Granted to read: the directories of all files that the configuration names at start, with what is below them, and what libraries open late (/etc, /usr,
 * resolver and trust anchors). Granted to write: data-dir, run-dir, the directory of the log file and that of the SQLite directory.
 *
 * Calling sequence, on the main thread: confinement_create; config_load with confinement_vfs, which notes what is read; confinement_apply once, after the
 * change of user and before any thread; then confinement_vfs and confinement_reaches for each reload.
 */
#ifndef POSTERN_CMD_CONFINE_H
#define POSTERN_CMD_CONFINE_H

#include "config/config.h"

struct confinement;

struct confinement *confinement_create(void);
void confinement_destroy(struct confinement **confinement);

/* The system's files. Before confinement_apply what is opened is noted; after it, what can't be opened because it was not granted gets a line in the log. */
const struct vfs *confinement_vfs(struct confinement *confinement);
/* As the configuration's `sandbox` says; logs what stands. -1 if something is missing and all is required. Sets environment variables of libraries that
 * would write outside. */
int confinement_apply(struct confinement *confinement, const struct config *config, struct error *error);
/* -1 if this configuration names files, beyond those read while it was loaded, that the sandbox does not let through. */
int confinement_reaches(struct confinement *confinement, const struct config *config, struct error *error);

#endif
