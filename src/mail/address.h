/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address: mailboxes of the envelope, as real clients write them (relay-behaviour.md section 3; RFC 5321 4.1.2, RFC 6531 3.3).
 * Pure, any thread, no allocation of ours; a struct address holds everything and may be copied.
 *
 * An address has two lives. Its text is what the client wrote (case, quotes, brackets of a literal), without angle brackets and
 * source route, with the default domain appended: that is what replies show and what is sent on. Its local part (unquoted) and its
 * domain in normal form are for comparing and routing. The local part is never re-interpreted: `%`, `!` and a quoted `@` in it are
 * ordinary characters.
 *
 * Stricter than RFC 5322: no comments, no folding, no mix of quoted and bare words. Laxer than RFC 5321: dots stand
 * anywhere in a local part, since there are mailboxes like that. A quoted local part with nothing in it is empty, thus invalid.
 */
#ifndef POSTERN_MAIL_ADDRESS_H
#define POSTERN_MAIL_ADDRESS_H

#include "base/str.h"
#include "mail/domain.h"

/* A path without its angle brackets, as written, source route included (RFC 5321 4.5.3.1.3: 256 with them). */
#define ADDRESS_PATH_OCTETS_MAX 254
/* The longest text: all of that, "@" and a default domain. */
#define ADDRESS_TEXT_OCTETS_MAX (ADDRESS_PATH_OCTETS_MAX + 1 + DOMAIN_OCTETS_MAX)
/* The longest key (address_key), NUL included. */
#define ADDRESS_KEY_BYTES (ADDRESS_TEXT_OCTETS_MAX + 1)

enum address_domain_kind {
    ADDRESS_DOMAIN_NONE, /* the null sender, or unqualified where there is no default domain */
    ADDRESS_DOMAIN_NAME,
    ADDRESS_DOMAIN_IPV4, /* a literal, written with brackets or without */
    ADDRESS_DOMAIN_IPV6,
};

/* Read by accessors and flags; only address_* writes it. Text fields are not NUL-terminated. */
struct address {
    enum address_domain_kind domain_kind;
    bool is_null;         /* <> */
    bool is_unqualified;  /* written without a domain: local, whatever is configured */
    bool is_literal_bare; /* an IPv4 literal written without brackets */
    bool is_quoted;       /* the local part was written in quotes */
    bool needs_smtputf8;  /* a byte of it is not ASCII */
    unsigned char ip[16]; /* of a literal, network order, IPv4 as ::ffff:a.b.c.d */
    uint16_t text_length;
    uint16_t local_text_length; /* the local part as written starts the text */
    uint16_t local_length;
    uint16_t domain_length;
    char local[ADDRESS_PATH_OCTETS_MAX];
    char domain[DOMAIN_TEXT_BYTES];
    char text[ADDRESS_TEXT_OCTETS_MAX];
};

/*
 * Parses a whole path: with or without angle brackets, spaces around it are ignored. `<>` is the null sender (whether that may stand
 * here is the caller's to ask); empty text is invalid. `default_domain` is in normal form; if it is empty, an unqualified
 * address stays without a domain. false: `501 5.5.4 Invalid Address`; `*address` then holds nothing of use.
 */
bool address_parse(struct address *address, struct str path, struct str default_domain);

/*
 * The same for what follows `FROM:` or `TO:`: takes the path off the front, with regard to quotes in it, and leaves the ESMTP
 * parameters in `*rest`, trimmed.
 */
bool address_parse_path(struct address *address, struct str argument, struct str default_domain, struct str *rest);

/* Text that address_text once gave (an envelope in the spool): the same rules, but the default domain may have made it longer
 * than a path may be. "<>" is the null sender. */
bool address_parse_stored(struct address *address, struct str text);

/* ADDR of the replies: as written, "<>" for the null sender. */
static inline struct str address_text(const struct address *address)
{
    return (struct str){address->text, address->text_length};
}

/* The local part without quotes and quoted pairs. */
static inline struct str address_local(const struct address *address)
{
    return (struct str){address->local, address->local_length};
}

/* The local part as written, quotes included. */
static inline struct str address_local_text(const struct address *address)
{
    return (struct str){address->text, address->is_null ? 0 : address->local_text_length};
}

/* The domain in normal form; of a literal "[192.0.2.1]" or "[IPv6:2001:db8::1]", however it was written. Empty for KIND_NONE. */
static inline struct str address_domain(const struct address *address)
{
    return (struct str){address->domain, address->domain_length};
}

static inline bool address_is_literal(const struct address *address)
{
    return address->domain_kind == ADDRESS_DOMAIN_IPV4 || address->domain_kind == ADDRESS_DOMAIN_IPV6;
}

/* The local part is `postmaster`, in any case. */
bool address_is_postmaster(const struct address *address);

/* The same mailbox, as far as a stranger may tell (RFC 5321 2.4): domains in normal form, local parts byte by byte. */
bool address_equal(const struct address *a, const struct address *b);
/* The same for mailboxes whose domain is ours: local parts without case (ASCII). */
bool address_equal_nocase(const struct address *a, const struct address *b);

/* LOCAL@DOMAIN in lower case (ASCII) and unquoted: what local recipients are looked up and their Maildirs named by. The last "@"
 * separates, since a domain has none. NUL-terminated (a local part has no NUL); returns the length. */
size_t address_key(const struct address *address, char key[ADDRESS_KEY_BYTES]);

#endif
