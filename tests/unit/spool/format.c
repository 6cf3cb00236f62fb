/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes on the disk: a version that reads them differently would lose the mail of everybody who upgrades. */
#include "spool/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct format_binding binding = {.number = 7, .salt = 0x1122334455667788};

static void segment_header_round_trip(void **state)
{
    const struct format_segment segment = {binding, 64u << 20, 3};
    unsigned char page[FORMAT_PAGE_BYTES];
    struct format_segment read;

    (void)state;
    format_segment_encode(&segment, page);
    assert_int_equal(page[4], 1);
    assert_memory_equal(page + 8, "POSTERN\n", 8);
    assert_int_equal(page[16], 7);
    assert_int_equal(page[24], 0x88); /* little endian */
    assert_int_equal(format_segment_decode(&read, page), FORMAT_OK);
    assert_true(read.binding.number == 7 && read.binding.salt == binding.salt && read.bytes == 64u << 20);
    assert_int_equal(read.shard, 3);
    page[20] ^= 1; /* the copy stands in for it */
    assert_int_equal(format_segment_decode(&read, page), FORMAT_OK);
    page[FORMAT_SEGMENT_HEADER_COPY_AT + 20] ^= 1;
    assert_int_equal(format_segment_decode(&read, page), FORMAT_BAD);
}

static void batch_header_round_trip(void **state)
{
    const struct format_batch batch = {8192, 5000, 5000, 77, 99, 4000, 5};
    unsigned char header[FORMAT_BATCH_HEADER_BYTES];
    struct format_batch read;

    (void)state;
    format_batch_encode(&batch, &binding, header);
    assert_int_equal(format_batch_decode(&read, &binding, 8192, 1u << 20, header), FORMAT_OK);
    assert_memory_equal(&read, &batch, sizeof(read));
    assert_int_equal(format_batch_decode(&read, &binding, 4096, 1u << 20, header), FORMAT_BAD);
    assert_int_equal(format_batch_decode(&read, &binding, 8192, 8192 + 3999, header), FORMAT_BAD);
    assert_int_equal(format_batch_decode(&read, &binding, 8192, 4096, header), FORMAT_BAD);
}

/* What an earlier use of the file left, or a copy at another place, must never be taken for a frame. */
static void frames_are_bound(void **state)
{
    const struct format_frame frame = {
        .type = FORMAT_MESSAGE,
        .id = 0x1234,
        .epoch = 5,
        .envelope_bytes = 10,
        .results_bytes = 40,
        .body_bytes = 3,
        .frame_bytes = 120,
    };
    const struct format_binding other_number = {8, binding.salt};
    const struct format_binding other_salt = {7, binding.salt + 1};
    unsigned char header[FORMAT_FRAME_HEADER_BYTES];
    struct format_frame read;

    (void)state;
    assert_int_equal(format_frame_bytes(10, 40, 3), 120);
    format_frame_encode(&frame, &binding, 8256, header);
    assert_int_equal(format_frame_decode(&read, &binding, 8256, 120, header), FORMAT_OK);
    assert_true(read.type == FORMAT_MESSAGE && read.id == 0x1234 && read.epoch == 5 && read.frame_bytes == 120);
    assert_true(read.envelope_bytes == 10 && read.results_bytes == 40 && read.body_bytes == 3);
    assert_int_equal(format_frame_body_at(&read), 114);
    assert_int_equal(format_frame_decode(&read, &binding, 8256, 119, header), FORMAT_BAD);
    assert_int_equal(format_frame_decode(&read, &binding, 8264, 120, header), FORMAT_BAD);
    assert_int_equal(format_frame_decode(&read, &other_number, 8256, 120, header), FORMAT_BAD);
    assert_int_equal(format_frame_decode(&read, &other_salt, 8256, 120, header), FORMAT_BAD);
    for (size_t i = 0; i < sizeof(header); i++) {
        header[i] ^= 0x10;
        assert_int_equal(format_frame_decode(&read, &binding, 8256, 120, header), FORMAT_BAD);
        header[i] ^= 0x10;
    }
}

/* A valid checksum does not make nonsense sensible: it may be a bug of a later version. */
static void inconsistent_frames_are_bad(void **state)
{
    static const struct format_frame frames[] = {
        {.type = FORMAT_MESSAGE, .id = 0, .frame_bytes = 64},
        {.type = FORMAT_RESULTS, .id = 1, .frame_bytes = 64},
        {.type = FORMAT_RESULTS, .body_bytes = 8, .frame_bytes = 72},
        {.type = 0, .frame_bytes = 64},
        {.type = 4, .frame_bytes = 64},
        {.type = FORMAT_MESSAGE, .id = 1, .body_bytes = UINT64_MAX, .frame_bytes = 64},
        {.type = FORMAT_MESSAGE, .id = 1, .envelope_bytes = UINT32_MAX, .frame_bytes = 64},
        {.type = FORMAT_MESSAGE, .id = 1, .frame_bytes = 72},
        {.type = FORMAT_MESSAGE, .id = 1, .frame_bytes = 0},
    };
    unsigned char header[FORMAT_FRAME_HEADER_BYTES];
    struct format_frame read;

    (void)state;
    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        format_frame_encode(&frames[i], &binding, 0, header);
        assert_int_equal(format_frame_decode(&read, &binding, 0, UINT64_MAX, header), FORMAT_BAD);
    }
}

static void records_follow_each_other(void **state)
{
    const struct format_record first = {1, 2, 3, STR("hello"), false};
    const struct format_record second = {4, 5, 6, STR(""), true};
    char section[FORMAT_RECORD_HEADER_BYTES * 2 + 8] = {0};
    struct format_record read;
    struct str rest;

    (void)state;
    assert_int_equal(format_record_bytes(5), 40);
    format_record_encode(&first, (unsigned char *)section);
    memcpy(section + 32, "hello", 5);
    format_record_encode(&second, (unsigned char *)section + 40);
    rest = str_make(section, 72);
    assert_int_equal(format_record_next(&rest, &read), 1);
    assert_true(read.id == 1 && read.epoch == 2 && read.home == 3 && !read.dead);
    assert_true(str_equal(read.payload, STR("hello")));
    assert_int_equal(format_record_next(&rest, &read), 1);
    assert_true(read.id == 4 && read.dead && read.payload.length == 0);
    assert_int_equal(format_record_next(&rest, &read), 0);
    rest = str_make(section, 71);
    assert_int_equal(format_record_next(&rest, &read), 1);
    assert_int_equal(format_record_next(&rest, &read), -1);
    rest = str_make(section, 39);
    assert_int_equal(format_record_next(&rest, &read), -1);
}

static void refuses_a_newer_version(void **state)
{
    /* Version 2 with its checksum, as a later release may write it. */
    unsigned char page[FORMAT_PAGE_BYTES] = {0xfb, 0x1b, 0x26, 0x83, 2,   0,   0,   0,
                                             'P',  'O',  'S',  'T',  'E', 'R', 'N', '\n'};
    struct format_segment read;

    (void)state;
    assert_int_equal(format_segment_decode(&read, page), FORMAT_NEWER_VERSION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segment_header_round_trip), cmocka_unit_test(batch_header_round_trip),
        cmocka_unit_test(frames_are_bound),          cmocka_unit_test(inconsistent_frames_are_bad),
        cmocka_unit_test(records_follow_each_other), cmocka_unit_test(refuses_a_newer_version),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
