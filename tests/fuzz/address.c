/* SPDX-License-Identifier: Apache-2.0 */
/* The argument of MAIL and RCPT, any bytes: what is taken must be within its bounds, clean, and read back as the same address. */
#include "mail/address.h"
#include "mail/text.h"

#include <stdint.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            __builtin_trap();                                                                                          \
    } while (0)

static void check_domain(struct str input)
{
    char normal[DOMAIN_TEXT_BYTES];
    char again[DOMAIN_TEXT_BYTES];
    const size_t length = domain_normalize(input, normal);

    CHECK(length <= DOMAIN_OCTETS_MAX);
    if (length == 0)
        return;
    CHECK(normal[length] == '\0' && memchr(normal, '\0', length) == NULL);
    CHECK(domain_normalize(str_make(normal, length), again) == length);
    CHECK(memcmp(normal, again, length) == 0);
    CHECK(domain_matches(str_make(normal, length), str_make(normal, length)));
    CHECK(!domain_is_below(str_make(normal, length), str_make(normal, length)));
}

static void check_address(const struct address *a)
{
    struct address again;
    char key[ADDRESS_KEY_BYTES];
    const struct str text = address_text(a);

    CHECK(a->text_length > 0 && a->text_length <= ADDRESS_TEXT_OCTETS_MAX);
    for (size_t i = 0; i < text.length;) {
        const size_t length = text_utf8_length(str_skip(text, i));

        CHECK(length > 0 && (length > 1 || (text.data[i] >= ' ' && text.data[i] != 0x7f)));
        i += length;
    }
    CHECK(a->needs_smtputf8 == !text_is_ascii(text));
    CHECK(text_is_ascii(address_domain(a)) && str_find(address_domain(a), '@') == STR_NONE);
    CHECK(a->is_null == (a->local_length == 0));
    CHECK(address_key(a, key) < sizeof(key));
    CHECK(address_parse_stored(&again, text));
    CHECK(address_equal(a, &again) && address_equal_nocase(a, &again));
    CHECK(str_equal(address_text(&again), text) && a->domain_kind == again.domain_kind);
    CHECK(str_equal(address_local_text(a), address_local_text(&again)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct str input = {(const char *)data, size};
    const struct str default_domain = size % 2 == 0 ? STR("contoso.test") : STR("");
    struct address a;
    struct str rest;

    check_domain(input);
    if (address_parse_path(&a, input, default_domain, &rest)) {
        CHECK(rest.length <= size);
        check_address(&a);
    }
    if (address_parse(&a, input, default_domain))
        check_address(&a);
    if (address_parse_stored(&a, input))
        check_address(&a);
    return 0;
}
