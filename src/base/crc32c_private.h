/* SPDX-License-Identifier: Apache-2.0 */
/* crc32c without the CPU's help, so that a test can compare it with the instruction on a machine that has one. */
#ifndef POSTERN_BASE_CRC32C_PRIVATE_H
#define POSTERN_BASE_CRC32C_PRIVATE_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t length);

#endif
