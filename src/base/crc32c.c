/* SPDX-License-Identifier: Apache-2.0 */
/* By the SSE4.2 instruction where the CPU has it, else by eight tables of 256 entries, eight bytes at a time ("slicing
 * by 8"). */
#include "base/crc32c.h"

#include "base/crc32c_private.h"

#include <endian.h>
#include <string.h>

#define CRC32C_POLYNOMIAL 0x82f63b78u /* bits reflected */

static uint32_t tables[8][256];

typedef uint32_t crc32c_fn(uint32_t crc, const void *data, size_t length);
static crc32c_fn *crc32c_best = crc32c_portable;

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t length)
{
    const unsigned char *bytes = data;

    crc = ~crc;
    for (; length >= 8; bytes += 8, length -= 8) {
        uint64_t word;

        memcpy(&word, bytes, sizeof(word));
        word = le64toh(word) ^ crc;
        crc = tables[7][word & 0xff] ^ tables[6][(word >> 8) & 0xff] ^ tables[5][(word >> 16) & 0xff] ^
              tables[4][(word >> 24) & 0xff] ^ tables[3][(word >> 32) & 0xff] ^ tables[2][(word >> 40) & 0xff] ^
              tables[1][(word >> 48) & 0xff] ^ tables[0][word >> 56];
    }
    for (; length > 0; bytes++, length--)
        crc = (crc >> 8) ^ tables[0][(crc ^ *bytes) & 0xff];
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const void *data, size_t length)
{
    const unsigned char *bytes = data;
    uint64_t wide = (uint32_t)~crc;
    uint32_t narrow;

    for (; length >= 8; bytes += 8, length -= 8) {
        unsigned long long word;

        memcpy(&word, bytes, sizeof(word));
        wide = __builtin_ia32_crc32di(wide, word);
    }
    narrow = (uint32_t)wide;
    for (; length > 0; bytes++, length--)
        narrow = __builtin_ia32_crc32qi(narrow, *bytes);
    return ~narrow;
}
#endif

/* Before main, so that no call needs to ask whether the tables are ready. */
__attribute__((constructor)) static void crc32c_prepare(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;

        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? CRC32C_POLYNOMIAL : 0);
        tables[0][i] = crc;
    }
    for (size_t t = 1; t < 8; t++) {
        for (size_t i = 0; i < 256; i++)
            tables[t][i] = (tables[t - 1][i] >> 8) ^ tables[0][tables[t - 1][i] & 0xff];
    }
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("sse4.2"))
        crc32c_best = crc32c_sse42;
#endif
}

uint32_t crc32c(uint32_t crc, const void *data, size_t length)
{
    return crc32c_best(crc, data, length);
}
