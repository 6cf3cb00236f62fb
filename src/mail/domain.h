/* SPDX-License-Identifier: Apache-2.0 */
/*
 * domain: the one form in which domain names are compared and routed: lower case, A-labels (RFC 5890), no trailing dot, within the
 * DNS's lengths. Pure, any thread.
 *
 * A name that is ASCII already is only checked and lower-cased: its A-labels are what the DNS has, and a malformed one is a name
 * that does not resolve. Other names go through libidn2 (IDNA2008 with UTS 46's non-transitional mapping), and what comes out is
 * checked like any other. Underscores are let through (they exist); a label that is empty, over 63 octets, or begins or ends with a
 * hyphen is not, nor is a name whose last label is a number (all digits, or 0x and hex digits): resolvers take such names for
 * addresses (127.1, 2130706433), and no top-level domain is one.
 */
#ifndef POSTERN_MAIL_DOMAIN_H
#define POSTERN_MAIL_DOMAIN_H

#include "base/str.h"

/* The longest name in normal form (RFC 1035 2.3.4, in text without the root's dot), and a label of it. */
#define DOMAIN_OCTETS_MAX       253
#define DOMAIN_LABEL_OCTETS_MAX 63
/* Longer input is not looked at: U-labels in UTF-8, decomposed, are longer than what they become. */
#define DOMAIN_INPUT_OCTETS_MAX 1024
#define DOMAIN_TEXT_BYTES       (DOMAIN_OCTETS_MAX + 1)

/* Writes the normal form, NUL-terminated, and returns its length; 0 if it is not a domain name. An IP address is none. */
size_t domain_normalize(struct str domain, char normal[DOMAIN_TEXT_BYTES]);

/* All of the following take names in normal form. */

/* Below `ancestor`, at any depth, and not `ancestor` itself. Everything is below the empty name. */
bool domain_is_below(struct str domain, struct str ancestor);
/* `*.x` matches what is below x; another pattern matches itself alone. */
bool domain_matches(struct str domain, struct str pattern);

#endif
