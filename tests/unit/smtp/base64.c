/* SPDX-License-Identifier: Apache-2.0 */
/* base64 of AUTH. What is decoded too generously would be a second spelling of a password; what is decoded wrongly locks people out. */
#include "smtp/base64.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct {
    struct str data, text;
} pairs[] = {
    /* RFC 4648 10 */
    {STR_INIT(""), STR_INIT("")},
    {STR_INIT("f"), STR_INIT("Zg==")},
    {STR_INIT("fo"), STR_INIT("Zm8=")},
    {STR_INIT("foo"), STR_INIT("Zm9v")},
    {STR_INIT("foob"), STR_INIT("Zm9vYg==")},
    {STR_INIT("fooba"), STR_INIT("Zm9vYmE=")},
    {STR_INIT("foobar"), STR_INIT("Zm9vYmFy")},
    {STR_INIT("\0alice\0secret"), STR_INIT("AGFsaWNlAHNlY3JldA==")},
    {STR_INIT("\xff\xfe\xfd\xfb\xef"), STR_INIT("//79++8=")},
};

static void test_both_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct buf out;

        buf_init(&out, 100);
        assert_true(base64_append(&out, pairs[i].data));
        assert_true(str_equal(buf_str(&out), pairs[i].text));
        buf_clear(&out);
        assert_true(base64_decode(pairs[i].text, &out));
        assert_true(str_equal(buf_str(&out), pairs[i].data));
        buf_release(&out);
    }
}

static void test_every_octet_comes_back(void **state)
{
    unsigned char octets[256 * 3];
    struct buf text, out;

    (void)state;
    for (size_t i = 0; i < sizeof(octets); i++)
        octets[i] = (unsigned char)(i * 7 + i / 256);
    buf_init(&text, 2000);
    buf_init(&out, sizeof(octets));
    for (size_t length = sizeof(octets) - 3; length <= sizeof(octets); length++) {
        buf_clear(&text);
        buf_clear(&out);
        assert_true(base64_append(&text, str_make((const char *)octets, length)));
        assert_int_equal(text.length, BASE64_ENCODED_BYTES(length));
        assert_true(base64_decode(buf_str(&text), &out));
        assert_int_equal(out.length, length);
        assert_memory_equal(out.data, octets, length);
    }
    buf_release(&text);
    buf_release(&out);
}

static void test_what_is_not_base64(void **state)
{
    static const struct str wrong[] = {STR_INIT("Z"),    STR_INIT("Zg"),      STR_INIT("Zg="),     STR_INIT("Zg==="),
                                       STR_INIT("===="), STR_INIT("="),       STR_INIT("Z==="),    STR_INIT("Zg==Zg=="),
                                       STR_INIT("Zm=v"), STR_INIT("Zm 9v"),   STR_INIT("Zm9v\n"),  STR_INIT("Zm9\0"),
                                       STR_INIT("Zm9-"), STR_INIT("Zm9_"),    STR_INIT("*"),       STR_INIT("Zh=="),
                                       STR_INIT("Zm9="), STR_INIT("Zm9\xc3"), STR_INIT("Zm9v ===")};
    struct buf out;

    (void)state;
    buf_init(&out, 100);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_false(base64_decode(wrong[i], &out));
        assert_int_equal(out.length, 0);
    }
    buf_release(&out);
}

static void test_the_maximum(void **state)
{
    struct buf out;

    (void)state;
    buf_init(&out, 4);
    assert_true(base64_append(&out, STR("foo")));
    assert_false(base64_append(&out, STR("f")));
    buf_release(&out);
    buf_init(&out, 3);
    assert_true(base64_decode(STR("Zm9v"), &out));
    assert_false(base64_decode(STR("Zg=="), &out));
    assert_int_equal(out.length, 3);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways),
        cmocka_unit_test(test_every_octet_comes_back),
        cmocka_unit_test(test_what_is_not_base64),
        cmocka_unit_test(test_the_maximum),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
