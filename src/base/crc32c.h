/* SPDX-License-Identifier: Apache-2.0 */
/* crc32c: CRC-32C (Castagnoli, RFC 3720 B.4), by the CPU's instruction where it has one. Pure, any thread. */
#ifndef POSTERN_BASE_CRC32C_H
#define POSTERN_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 at the start) over the bytes: crc32c(crc32c(0, a), b) is the checksum of ab. */
uint32_t crc32c(uint32_t crc, const void *data, size_t length);

#endif
