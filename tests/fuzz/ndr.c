/* SPDX-License-Identifier: Apache-2.0 */
/* What comes to the catch from a server that is not trusted: the first byte says whether the sender is null. What is shown must be clean, and a
 * message of the tester's own is never a report. */
#include "relaytest/ndr.h"

#include <stdint.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            __builtin_trap();                                                                                          \
    } while (0)

static void check_text(const char *text, size_t size)
{
    CHECK(memchr(text, '\0', size) != NULL);
    for (; *text; text++)
        CHECK(*text >= ' ' && *text < 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct ndr_question question = {STR("abcdefgh23456789"), STR("relaytest-u-abcdefgh23456789"),
                                          STR("outside.test")};
    struct ndr ndr;

    if (size == 0)
        return 0;
    const struct str message = {(const char *)data + 1, size - 1};

    ndr_recognise(&ndr, data[0] % 2 ? STR("alice@contoso.test") : STR(""), message, &question);
    check_text(ndr.status, sizeof(ndr.status));
    check_text(ndr.diagnostic, sizeof(ndr.diagnostic));
    CHECK((ndr.kind == NDR_NONE) == (ndr.format[0] == '\0'));
    CHECK(ndr.kind == NDR_NONE || !ndr_is_own_copy(message, question.token));
    return 0;
}
