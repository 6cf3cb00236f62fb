/* SPDX-License-Identifier: Apache-2.0 */
/* The spool trusts this to tell a whole frame from a torn one, also when it moves to a machine with another CPU. */
#include "base/crc32c.h"

#include "base/crc32c_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

typedef uint32_t checksum_fn(uint32_t crc, const void *data, size_t length);
static checksum_fn *const implementations[] = {crc32c, crc32c_portable};

/* RFC 3720 B.4, and the customary check value. */
static void test_known_answers(void **state)
{
    unsigned char data[32];

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        checksum_fn *checksum = implementations[i];

        assert_int_equal(checksum(0, "123456789", 9), 0xe3069283);
        assert_int_equal(checksum(0, NULL, 0), 0);
        memset(data, 0, sizeof(data));
        assert_int_equal(checksum(0, data, sizeof(data)), 0x8a9136aa);
        memset(data, 0xff, sizeof(data));
        assert_int_equal(checksum(0, data, sizeof(data)), 0x62a8ab43);
        for (size_t n = 0; n < sizeof(data); n++)
            data[n] = (unsigned char)n;
        assert_int_equal(checksum(0, data, sizeof(data)), 0x46dd794e);
    }
}

/* Every start, every length, every place to continue from: the instruction and the tables must agree. */
static void test_implementations_agree(void **state)
{
    unsigned char data[80];

    (void)state;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char)(i * 37 + 11);
    for (size_t start = 0; start < 9; start++) {
        for (size_t length = 0; start + length <= sizeof(data); length++) {
            uint32_t whole = crc32c(0, data + start, length);
            size_t half = length / 2;

            assert_int_equal(whole, crc32c_portable(0, data + start, length));
            assert_int_equal(whole, crc32c(crc32c(0, data + start, half), data + start + half, length - half));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_implementations_agree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
