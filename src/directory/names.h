/* SPDX-License-Identifier: Apache-2.0 */
/* names: users' names and addresses in the forms that they are compared in. Pure, any thread, no allocation. */
#ifndef POSTERN_DIRECTORY_NAMES_H
#define POSTERN_DIRECTORY_NAMES_H

#include "directory/directory_private.h"
#include "mail/address.h"

/* A form of a name, its domain as A-labels and the default domain added. */
#define DIRECTORY_FORM_BYTES (DIRECTORY_NAME_BYTES_MAX + 1 + DOMAIN_TEXT_BYTES)

/* `name` is valid as long as this is, and is not moved. */
struct directory_name_forms {
    struct directory_name name;
    char text[DIRECTORY_NAME_FORMS_MAX][DIRECTORY_FORM_BYTES];
};

/* UTF-8 without spaces and control characters, of 1 to DIRECTORY_NAME_BYTES_MAX octets. */
bool directory_is_name(struct str name);
/* false: it is no name, and nobody's. */
bool directory_name_init(struct directory_name_forms *forms, struct str given, struct str default_domain);

/* The normal form of a name that is kept: lower case (ASCII), a domain in normal form; USER for USER@default-domain. The length; 0: no name. */
size_t directory_normal_name(struct str given, struct str default_domain, char normal[DIRECTORY_FORM_BYTES]);

struct directory_address_key {
    struct directory_address address;
    char text[ADDRESS_KEY_BYTES];
};

/* false: it is no address, or has no domain by name. */
bool directory_address_init(struct directory_address_key *key, struct str address);
/* An entry's address: that, or a pattern PREFIX*@DOMAIN, of which the star is left out (`local` is the prefix, which may be empty). false too for a bare star
 * anywhere else; one in quotes is an ordinary character. */
bool directory_recipient_init(struct directory_address_key *key, struct str text, bool *is_pattern);

#endif
