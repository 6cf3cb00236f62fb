/* SPDX-License-Identifier: Apache-2.0 */
/*
 * value: the scalars of a configuration, from text. Each returns 0, or -1 and in `error` what is wrong with what would be
 * right, to stand after the key's name. Pure, any thread.
 */
#ifndef POSTERN_CONFIG_VALUE_H
#define POSTERN_CONFIG_VALUE_H

#include "config/config.h"

/* Only these two words: what else YAML readers take for a truth value differs between them. */
int value_bool(struct str text, bool *value, struct error *error);
int value_integer(struct str text, uint64_t *value, struct error *error);
/* 500ms 90s 15m 4h 2d */
int value_duration(struct str text, uint64_t *value_ms, struct error *error);
/* 1000 64KiB 36MiB 1GiB */
int value_size(struct str text, uint64_t *bytes, struct error *error);
/* 60/m: so many in a second, minute, hour or day */
int value_rate(struct str text, struct config_rate *rate, struct error *error);
/* 127.0.0.1:25 [::]:25; views into `text` */
int value_listen(struct str text, struct config_listen *listen, struct error *error);
/* NAME, ADDRESS or [ADDRESS], then :PORT or nothing for port 25; views into `text`, which is not normalised. */
int value_smart_host(struct str text, struct config_smart_host *host, struct error *error);
/* No control characters, at most `length_max` octets. */
int value_text(struct str text, size_t length_max, struct error *error);

/* "500ms", "15m", "36MiB": the shortest form, for messages. */
void value_format_duration(uint64_t value_ms, char text[32]);
void value_format_size(uint64_t bytes, char text[32]);

#endif
