/* SPDX-License-Identifier: Apache-2.0 */
/* The index decides which message a reader gets: a wrong entry is somebody else's mail. */
#include "spool/index.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define IDS 50000u

static uint64_t id_of(uint64_t i)
{
    return (i + 1) << 8 | i % 3;
}

static void finds_what_was_added(void **state)
{
    struct index index;

    (void)state;
    index_init(&index);
    for (uint64_t i = 0; i < IDS; i++)
        index_add(&index, id_of(i))->body_bytes = i;
    assert_int_equal(index.count, IDS);
    for (uint64_t i = 0; i < IDS; i++) {
        const struct index_entry *entry = index_find(&index, id_of(i));

        assert_non_null(entry);
        assert_int_equal(entry->body_bytes, i);
    }
    assert_null(index_find(&index, id_of(IDS)));
    assert_null(index_find(&index, 0));
    index_release(&index);
}

/* Entries keep their address while others come and go, and places are used again. */
static void removes_without_moving(void **state)
{
    struct index_entry *kept;
    struct index index;
    uint32_t chunks;

    (void)state;
    index_init(&index);
    kept = index_add(&index, id_of(IDS));
    for (uint64_t i = 0; i < IDS; i++)
        index_add(&index, id_of(i));
    chunks = index.chunk_count;
    for (uint64_t round = 0; round < 3; round++) {
        for (uint64_t i = round % 2; i < IDS; i += 2)
            index_remove(&index, index_find(&index, id_of(i)));
        for (uint64_t i = round % 2; i < IDS; i += 2) {
            assert_null(index_find(&index, id_of(i)));
            index_add(&index, id_of(i));
        }
    }
    assert_ptr_equal(index_find(&index, id_of(IDS)), kept);
    assert_int_equal(index.chunk_count, chunks);
    assert_int_equal(index.count, IDS + 1);
    index_release(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_was_added),
        cmocka_unit_test(removes_without_moving),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
