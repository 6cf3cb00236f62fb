/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ldap_result: what a result code (RFC 4511, appendix A) means for who asked. Only what the server says of the user or the address is a yes or a
 * no; all else is no answer, so that nobody is turned away, and no mail returned, because a directory is being repaired. Pure, any thread.
 */
#ifndef POSTERN_DIRECTORY_LDAP_RESULT_H
#define POSTERN_DIRECTORY_LDAP_RESULT_H

#include "base/str.h"

enum ldap_verdict {
    LDAP_VERDICT_YES,
    LDAP_VERDICT_NO,
    LDAP_VERDICT_QUESTION_FAILED, /* this question got no answer; another may: the server is up */
    LDAP_VERDICT_SERVER_FAILED    /* no answer from this server: the next may have one */
};

/*
 * YES: the search came to its end, or to its bound; the entries say what was found. Never NO. A base that is not there, or that the service
 * account may not see, is the server's failure: by it nobody would exist, and all mail would go back. So is a referral instead of a result; it
 * is not followed, because it leads to where nobody configured that passwords may be sent.
 */
enum ldap_verdict ldap_result_of_search(int code);
/* Of a user's bind. NO: it is not the user's password, or the account may not sign in. */
enum ldap_verdict ldap_result_of_bind(int code);

/* Why an account may not sign in, for the log, where the refusal says that it is not just the password; NULL otherwise. Active Directory says it
 * by a number in the diagnostic message ("..., data 533, v2580"). */
const char *ldap_result_account_reason(int code, struct str diagnostic);

#endif
