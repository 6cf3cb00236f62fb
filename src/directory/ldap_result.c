/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/ldap_result.h"

#include <ldap.h>

enum ldap_verdict ldap_result_of_search(int code)
{
    switch (code) {
    case LDAP_SUCCESS:
    case LDAP_SIZELIMIT_EXCEEDED:
        return LDAP_VERDICT_YES;
    case LDAP_NO_SUCH_OBJECT: /* not the user, the base */
    case LDAP_REFERRAL:
    case LDAP_BUSY:
    case LDAP_UNAVAILABLE:
    case LDAP_UNWILLING_TO_PERFORM:
    case LDAP_STRONG_AUTH_REQUIRED:
    case LDAP_CONFIDENTIALITY_REQUIRED:
    case LDAP_INSUFFICIENT_ACCESS:
    case LDAP_SERVER_DOWN:
    case LDAP_TIMEOUT:
    case LDAP_CONNECT_ERROR:
    case LDAP_DECODING_ERROR:
        return LDAP_VERDICT_SERVER_FAILED;
    default:
        /* An administrative limit, an error inside: the server may be well, and a stranger may have found out how to provoke it. */
        return LDAP_VERDICT_QUESTION_FAILED;
    }
}

enum ldap_verdict ldap_result_of_bind(int code)
{
    switch (code) {
    case LDAP_SUCCESS:
        return LDAP_VERDICT_YES;
    case LDAP_INVALID_CREDENTIALS:
    case LDAP_NO_SUCH_OBJECT:
    case LDAP_CONSTRAINT_VIOLATION:
    case LDAP_UNWILLING_TO_PERFORM:
    case LDAP_INAPPROPRIATE_AUTH: /* an entry without a password */
    case LDAP_INSUFFICIENT_ACCESS:
        return LDAP_VERDICT_NO;
    case LDAP_OPERATIONS_ERROR:
    case LDAP_OTHER:
    case LDAP_INVALID_DN_SYNTAX:
    case LDAP_INVALID_SYNTAX:
        return LDAP_VERDICT_QUESTION_FAILED;
    default:
        return LDAP_VERDICT_SERVER_FAILED;
    }
}

/* The hexadecimal number after "data " in Active Directory's messages; 0: there is none. */
static unsigned active_directory_code(struct str diagnostic)
{
    static const struct str mark = STR_INIT(", data ");
    unsigned code = 0;
    const char *found =
        diagnostic.length > 0 ? memmem(diagnostic.data, diagnostic.length, mark.data, mark.length) : NULL;
    struct str rest;

    if (!found)
        return 0;
    rest = str_skip(diagnostic, (size_t)(found - diagnostic.data) + mark.length);
    for (size_t i = 0; i < rest.length && i < 6; i++) {
        const char c = ascii_lower(rest.data[i]);

        if (ascii_is_digit(c))
            code = code * 16 + (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            code = code * 16 + (unsigned)(c - 'a') + 10;
        else
            break;
    }
    return code;
}

static const char *active_directory_reason(unsigned code)
{
    switch (code) {
    case 0x530:
        return "may not sign in at this time";
    case 0x531:
        return "may not sign in from here";
    case 0x532:
        return "the password has expired";
    case 0x533:
        return "the account is disabled";
    case 0x701:
        return "the account has expired";
    case 0x773:
        return "the password must be changed first";
    case 0x775:
        return "the account is locked";
    default:
        return NULL;
    }
}

const char *ldap_result_account_reason(int code, struct str diagnostic)
{
    switch (code) {
    case LDAP_INVALID_CREDENTIALS:
        return active_directory_reason(active_directory_code(diagnostic));
    case LDAP_CONSTRAINT_VIOLATION:
        return "the directory's rules for the account forbid it";
    case LDAP_UNWILLING_TO_PERFORM:
        return "the directory is unwilling";
    case LDAP_INAPPROPRIATE_AUTH:
        return "the account has no password";
    case LDAP_INSUFFICIENT_ACCESS:
        return "the directory's access rules forbid it";
    default:
        return NULL;
    }
}
