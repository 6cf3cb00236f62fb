/* SPDX-License-Identifier: Apache-2.0 */
/* Normal forms: two spellings of one name that compare as two let a denied user in, two names that compare as one let him be somebody else. */
#include "directory/names.h"

#include "fixture.h"

/* The forms, separated by a space; "-" for no name. */
static const char *forms_of(const char *given, size_t length, struct str domain)
{
    static char text[2048];
    struct directory_name_forms forms;

    if (!directory_name_init(&forms, str_make(given, length), domain))
        return "-";
    if (forms.name.form_count == 1)
        snprintf(text, sizeof(text), "%.*s", STR_ARG(forms.name.forms[0]));
    else
        snprintf(text, sizeof(text), "%.*s %.*s", STR_ARG(forms.name.forms[0]), STR_ARG(forms.name.forms[1]));
    return text;
}

#define CHECK_FORMS(given, expected)                                                                                   \
    assert_string_equal(forms_of(given, sizeof(given) - 1, STR("contoso.test")), expected)

static void test_forms_of_a_name(void **state)
{
    (void)state;
    CHECK_FORMS("Alice", "alice alice@contoso.test");
    CHECK_FORMS("ALICE@CONTOSO.TEST.", "alice@contoso.test alice");
    CHECK_FORMS("alice@fabrikam.test", "alice@fabrikam.test");
    CHECK_FORMS("alice@B\xc3\xbc"
                "cher.test",
                "alice@xn--bcher-kva.test");
    CHECK_FORMS("CONTOSO\\Alice", "contoso\\alice contoso\\alice@contoso.test");
    CHECK_FORMS("J\xc3\x9crgen", "j\xc3\x9crgen j\xc3\x9crgen@contoso.test");
    CHECK_FORMS("a@b@contoso.test", "a@b@contoso.test a@b");
    CHECK_FORMS("alice@not a domain", "-");
    CHECK_FORMS("Alice@-X-", "alice@-x-");
    CHECK_FORMS("@contoso.test", "@contoso.test");
    CHECK_FORMS("", "-");
    CHECK_FORMS("a b", "-");
    CHECK_FORMS("a\0b", "-");
    CHECK_FORMS("a\nb", "-");
    CHECK_FORMS("a\x7f", "-");
    CHECK_FORMS("a\xff", "-");
    assert_string_equal(forms_of("Alice", 5, STR("")), "alice");
}

static void test_names_at_their_bound(void **state)
{
    char name[DIRECTORY_NAME_BYTES_MAX + 1];
    char normal[DIRECTORY_FORM_BYTES];

    (void)state;
    memset(name, 'x', sizeof(name));
    assert_true(directory_is_name(str_make(name, DIRECTORY_NAME_BYTES_MAX)));
    assert_false(directory_is_name(str_make(name, DIRECTORY_NAME_BYTES_MAX + 1)));
    assert_int_equal(strlen(forms_of(name, DIRECTORY_NAME_BYTES_MAX, STR("contoso.test"))),
                     2 * DIRECTORY_NAME_BYTES_MAX + 1 + strlen("@contoso.test"));
    assert_int_equal(directory_normal_name(str_make(name, sizeof(name)), STR(""), normal), 0);
    assert_int_equal(directory_normal_name(STR("A@Contoso.test"), STR("contoso.test"), normal), 1);
    assert_string_equal(normal, "a");
}

static const char *recipient_of(const char *text)
{
    static char shown[1024];
    struct directory_address_key key;
    bool is_pattern;

    if (!directory_recipient_init(&key, str_from_cstr(text), &is_pattern))
        return "-";
    assert_int_equal(key.address.local.length + 1 + key.address.domain.length, key.address.normal.length);
    assert_int_equal(key.address.normal.data[key.address.local.length], '@');
    snprintf(shown, sizeof(shown), "%s%s", is_pattern ? "pattern " : "", key.address.normal.data);
    return shown;
}

static void test_addresses_and_patterns(void **state)
{
    (void)state;
    assert_string_equal(recipient_of("A.B@Contoso.Test"), "a.b@contoso.test");
    assert_string_equal(recipient_of("\"a b@c\"@contoso.test"), "a b@c@contoso.test");
    assert_string_equal(recipient_of("*@contoso.test"), "pattern @contoso.test");
    assert_string_equal(recipient_of("Sales-*@Contoso.test"), "pattern sales-@contoso.test");
    assert_string_equal(recipient_of("\"*\"@contoso.test"), "*@contoso.test");
    assert_string_equal(recipient_of("**@contoso.test"), "-");
    assert_string_equal(recipient_of("*a@contoso.test"), "-");
    assert_string_equal(recipient_of("a@*.contoso.test"), "-");
    assert_string_equal(recipient_of("a@[192.0.2.1]"), "-");
    assert_string_equal(recipient_of("a"), "-");
    assert_string_equal(recipient_of("<>"), "-");
    assert_string_equal(recipient_of(""), "-");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms_of_a_name),
        cmocka_unit_test(test_names_at_their_bound),
        cmocka_unit_test(test_addresses_and_patterns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
