/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LDAP filters: any template that the check takes, with any value in it. libldap must read the filter, and read the same filter as with a
 * harmless value: the same operators, attributes and rules, and in the value's places exactly the value's octets. The input is a template up to
 * its first NUL, then the value; an empty template stands for the default ones.
 */
#include "directory/ldap_filter.h"
#include "base/mem.h"

#include <lber.h>
#include <stdint.h>
#include <stdlib.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            __builtin_trap();                                                                                          \
    } while (0)

#define VALUE_BYTES_MAX 512
/* Stands for the value; no template that holds its beginning is tried, so that it can be found again. */
#define HARMLESS           STR("Q7Harmless")
#define HARMLESS_BEGINNING STR("Q7")

/* libldap's own parser, which it exports without a header. */
int ldap_pvt_put_filter(BerElement *ber, const char *text);

/* The filter as libldap would send it. */
static struct berval *encode(struct str template, struct str value)
{
    BerElement *ber = ber_alloc_t(LBER_USE_DER);
    struct berval *encoded = NULL;
    struct buf text;

    buf_init(&text, 1 << 20);
    ldap_filter_append(&text, template, value);
    CHECK(buf_append_char(&text, '\0'));
    CHECK(memchr(text.data, '\0', text.length) == text.data + text.length - 1);
    CHECK(ldap_pvt_put_filter(ber, text.data) != -1);
    CHECK(ber_flatten(ber, &encoded) == 0);
    ber_free(ber, 1);
    buf_release(&text);
    return encoded;
}

/* One element of BER, short or long form; moves past it. */
static struct str take_element(struct str *rest, unsigned char *tag)
{
    size_t length, head = 2;
    struct str content;

    CHECK(rest->length >= 2);
    *tag = (unsigned char)rest->data[0];
    length = (unsigned char)rest->data[1];
    if (length & 0x80) {
        const size_t octets = length & 0x7f;

        CHECK(octets > 0 && octets <= 4 && rest->length >= 2 + octets);
        length = 0;
        for (size_t i = 0; i < octets; i++)
            length = length << 8 | (unsigned char)rest->data[2 + i];
        head += octets;
    }
    CHECK(rest->length - head >= length);
    content = str_take(str_skip(*rest, head), length);
    *rest = str_skip(*rest, head + length);
    return content;
}

/* What the harmless value became, with the real one in its place. */
static void check_text(struct str harmless, struct str real, struct str value)
{
    struct buf expected;

    buf_init(&expected, 1 << 20);
    while (harmless.length > 0) {
        if (str_starts_with(harmless, HARMLESS)) {
            buf_append_str(&expected, value);
            harmless = str_skip(harmless, HARMLESS.length);
        } else {
            buf_append_char(&expected, harmless.data[0]);
            harmless = str_skip(harmless, 1);
        }
    }
    CHECK(!expected.overflowed && str_equal(buf_str(&expected), real));
    buf_release(&expected);
}

static void check_same(struct str harmless, struct str real, struct str value)
{
    while (harmless.length > 0) {
        unsigned char harmless_tag, real_tag;
        const struct str harmless_content = take_element(&harmless, &harmless_tag);
        const struct str real_content = take_element(&real, &real_tag);

        CHECK(harmless_tag == real_tag);
        if (harmless_tag & 0x20)
            check_same(harmless_content, real_content, value);
        else
            check_text(harmless_content, real_content, value);
    }
    CHECK(real.length == 0);
}

static void check(struct str template, struct str value)
{
    struct berval *harmless = encode(template, HARMLESS);
    struct berval *real = encode(template, value);

    check_same(str_make(harmless->bv_val, harmless->bv_len), str_make(real->bv_val, real->bv_len), value);
    ber_bvfree(harmless);
    ber_bvfree(real);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct str defaults[] = {
        STR_INIT("(&(objectClass=person)(|(sAMAccountName=%s)(uid=%s)(userPrincipalName=%s)(mail=%s)))"),
        STR_INIT("(|(mail=%s)(proxyAddresses=smtp:%s)(mailAlternateAddress=%s))"),
        STR_INIT("(&(uid=*%s*x*%s)(cn>=%s)(cn:caseExactMatch:=%s)(ou:dn:=%s)(!(description=%s)))"),
    };
    struct str rest = {(const char *)data, size};
    const struct str template = str_split(&rest, '\0');
    const struct str value = str_take(rest, VALUE_BYTES_MAX);

    if (!rest.data || value.length == 0)
        return 0;
    if (template.length == 0) {
        for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++)
            check(defaults[i], value);
    } else if (!memmem(template.data, template.length, HARMLESS_BEGINNING.data, HARMLESS_BEGINNING.length) &&
               ldap_filter_check(template, NULL) == 0) {
        check(template, value);
    }
    return 0;
}
