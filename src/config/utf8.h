/* SPDX-License-Identifier: Apache-2.0 */
/* utf8: where a file stops being text. Pure, any thread. */
#ifndef POSTERN_CONFIG_UTF8_H
#define POSTERN_CONFIG_UTF8_H

#include "base/str.h"

/* Position of the first byte that isn't part of well-formed UTF-8 (RFC 3629: shortest form, no surrogates), or is a control
 * character other than tab, LF and CR; STR_NONE if there is none. */
size_t utf8_find_invalid(struct str text);

#endif
