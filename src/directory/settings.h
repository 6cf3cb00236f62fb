/* SPDX-License-Identifier: Apache-2.0 */
/* settings: what of a configuration a directory depends on, copied, so that the configuration need not be kept. */
#ifndef POSTERN_DIRECTORY_SETTINGS_H
#define POSTERN_DIRECTORY_SETTINGS_H

#include "directory/directory_private.h"

struct directory_settings *directory_settings_create(const struct config *config);
void directory_settings_destroy(struct directory_settings **settings);
bool directory_settings_match(const struct directory_settings *settings, const struct config *config);

/* The default local domain in normal form; empty if there is none. As long as the configuration. */
struct str directory_default_domain(const struct config *config);

#endif
