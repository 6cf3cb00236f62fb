/* SPDX-License-Identifier: Apache-2.0 */
/* date: RFC 5322 dates, in UTC. Pure, any thread. */
#ifndef POSTERN_MAIL_DATE_H
#define POSTERN_MAIL_DATE_H

#include "base/str.h"

/* "Sat, 21 Nov 2026 10:00:00 +0000" and a NUL. */
#define DATE_RFC5322_BYTES 32

/* Milliseconds since 1970 UTC; clamped to the years 1900 to 9999. NUL-terminated; returns a view of `out`. */
struct str date_format_rfc5322(int64_t real_ms, char out[DATE_RFC5322_BYTES]);

#endif
