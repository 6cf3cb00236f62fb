/* SPDX-License-Identifier: Apache-2.0 */
/* Result codes. If these break, an outage bounces mail and makes clients throw their passwords away, or a wrong password is taken for an outage. */
#include "directory/ldap_result.h"

#include <ldap.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void test_search(void **state)
{
    static const int down[] = {LDAP_SERVER_DOWN, LDAP_TIMEOUT,        LDAP_CONNECT_ERROR, LDAP_BUSY,
                               LDAP_UNAVAILABLE, LDAP_NO_SUCH_OBJECT, LDAP_REFERRAL,      LDAP_UNWILLING_TO_PERFORM};
    static const int failed[] = {
        LDAP_OPERATIONS_ERROR, LDAP_TIMELIMIT_EXCEEDED, LDAP_ADMINLIMIT_EXCEEDED, LDAP_OTHER, LDAP_FILTER_ERROR, 4711};

    (void)state;
    assert_int_equal(ldap_result_of_search(LDAP_SUCCESS), LDAP_VERDICT_YES);
    assert_int_equal(ldap_result_of_search(LDAP_SIZELIMIT_EXCEEDED), LDAP_VERDICT_YES);
    for (size_t i = 0; i < sizeof(down) / sizeof(down[0]); i++)
        assert_int_equal(ldap_result_of_search(down[i]), LDAP_VERDICT_SERVER_FAILED);
    for (size_t i = 0; i < sizeof(failed) / sizeof(failed[0]); i++)
        assert_int_equal(ldap_result_of_search(failed[i]), LDAP_VERDICT_QUESTION_FAILED);
    /* A search alone never says that somebody does not exist; only its having no entries does. */
    for (int code = -20; code < 200; code++)
        assert_int_not_equal(ldap_result_of_search(code), LDAP_VERDICT_NO);
}

static void test_bind(void **state)
{
    static const int refused[] = {LDAP_INVALID_CREDENTIALS, LDAP_NO_SUCH_OBJECT, LDAP_CONSTRAINT_VIOLATION,
                                  LDAP_UNWILLING_TO_PERFORM, LDAP_INAPPROPRIATE_AUTH};
    static const int none[] = {LDAP_SERVER_DOWN,          LDAP_TIMEOUT,  LDAP_BUSY, LDAP_UNAVAILABLE, LDAP_OTHER,
                               LDAP_STRONG_AUTH_REQUIRED, LDAP_REFERRAL, 4711};

    (void)state;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        assert_int_equal(ldap_result_of_bind(refused[i]), LDAP_VERDICT_NO);
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        assert_true(ldap_result_of_bind(none[i]) > LDAP_VERDICT_NO);
    /* Nothing but success lets in. */
    for (int code = -20; code < 200; code++)
        assert_true((ldap_result_of_bind(code) == LDAP_VERDICT_YES) == (code == LDAP_SUCCESS));
}

static void check_reason(int code, struct str diagnostic, const char *expected)
{
    const char *reason = ldap_result_account_reason(code, diagnostic);

    if (expected)
        assert_string_equal(reason ? reason : "(none)", expected);
    else
        assert_null(reason);
}

static void test_reasons(void **state)
{
    (void)state;
    check_reason(LDAP_INVALID_CREDENTIALS,
                 STR("80090308: LdapErr: DSID-0C09041C, comment: AcceptSecurityContext error, data 533, v3839"),
                 "the account is disabled");
    check_reason(LDAP_INVALID_CREDENTIALS, STR("x, data 701, v1"), "the account has expired");
    check_reason(LDAP_INVALID_CREDENTIALS, STR("x, data 773, v1"), "the password must be changed first");
    check_reason(LDAP_INVALID_CREDENTIALS, STR("x, data 775"), "the account is locked");
    check_reason(LDAP_INVALID_CREDENTIALS, STR("x, data 52e, v1"), NULL); /* just a wrong password */
    check_reason(LDAP_INVALID_CREDENTIALS, STR(", data "), NULL);
    check_reason(LDAP_INVALID_CREDENTIALS, STR(", data fffffffffffffffffffff"), NULL);
    check_reason(LDAP_INVALID_CREDENTIALS, STR(""), NULL);
    check_reason(LDAP_INVALID_CREDENTIALS, (struct str){0}, NULL);
    check_reason(LDAP_UNWILLING_TO_PERFORM, STR(""), "the directory is unwilling");
    check_reason(LDAP_SUCCESS, STR(", data 533"), NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_search), cmocka_unit_test(test_bind),
                                       cmocka_unit_test(test_reasons)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
