/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ldap_filter: search filters (RFC 4515) made from templates of the configuration and values that strangers chose. A value goes in escaped, so
 * that it stays one assertion value whatever it holds; a template is checked once, when the directory is made, so that what comes out of it is
 * always a filter.
 *
 * In a template %s stands for the value, as often as one likes, wherever an assertion value may have text; %% for a percent sign. Pure, any
 * thread.
 */
#ifndef POSTERN_DIRECTORY_LDAP_FILTER_H
#define POSTERN_DIRECTORY_LDAP_FILTER_H

#include "base/buf.h"
#include "base/error.h"

#define LDAP_FILTER_TEMPLATE_BYTES_MAX 4096
#define LDAP_FILTER_DEPTH_MAX          32
/* Places for the value in one template. */
#define LDAP_FILTER_PLACES_MAX 32

/* 0; -1 and what is wrong, with the column. A template without %s is wrong too: it would find the same for everybody. */
int ldap_filter_check(struct str template, struct error *error);
/* `template` is one that was checked; `value` is not empty. */
void ldap_filter_append(struct buf *out, struct str template, struct str value);
/* An assertion value with every octet as \XX that is no letter, no digit and none of "@.-_+": more than RFC 4515 asks for, so that nothing hangs
 * on which server reads which octet how. */
void ldap_filter_escape(struct buf *out, struct str value);

#endif
