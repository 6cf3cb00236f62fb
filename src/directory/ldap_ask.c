/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked on a link: a search, and a user's bind. */
#include "base/mem.h"
#include "directory/ldap_link_private.h"

/* Room for what is read of an answer that LDAP_ANSWER_BYTES_MAX lets in. */
#define FOUND_BYTES_MAX (4u * LDAP_ANSWER_BYTES_MAX)

/* Of attributes asked for by name; options make more of one. */
#define ATTRIBUTES_MAX 64

/* ---- reading entries ---- */

static struct str copy_bytes(struct arena *arena, const struct berval *bytes)
{
    return arena_copy(arena, str_make(bytes->bv_val, bytes->bv_len));
}

/* "memberOf;range=0-1499" is the first part of memberOf. Of other options (languages) none was asked for. false: not one of ours. */
static bool read_name(struct arena *arena, const struct berval *text, struct ldap_attribute *attribute)
{
    struct str rest = str_make(text->bv_val, text->bv_len);
    const struct str name = str_split(&rest, ';');

    attribute->is_range = str_starts_with_nocase(rest, STR("range=")) && !str_ends_with(rest, STR("-*"));
    attribute->name = arena_copy(arena, name);
    return !rest.data || str_starts_with_nocase(rest, STR("range="));
}

static bool read_values(struct arena *arena, const struct berval *values, struct ldap_attribute *attribute)
{
    size_t count = 0;

    while (values[count].bv_val)
        count++;
    attribute->values = arena_alloc(arena, count * sizeof(*attribute->values));
    for (size_t i = 0; attribute->values && i < count; i++) {
        attribute->values[i] = copy_bytes(arena, &values[i]);
        if (!attribute->values[i].data)
            return false;
        attribute->value_count++;
    }
    return attribute->values != NULL;
}

/* false: it can't be read, or there is too much of it. */
static bool read_entry(LDAP *handle, LDAPMessage *message, struct arena *arena, struct ldap_entry *entry)
{
    struct berval dn = {0}, name = {0}, *values = NULL;
    BerElement *cursor = NULL;
    bool is_read = ldap_get_dn_ber(handle, message, &cursor, &dn) == LDAP_SUCCESS;

    *entry = (struct ldap_entry){.dn = copy_bytes(arena, &dn)};
    entry->attributes = arena_alloc(arena, ATTRIBUTES_MAX * sizeof(*entry->attributes));
    is_read = is_read && entry->dn.data && entry->attributes;
    while (is_read && ldap_get_attribute_ber(handle, message, cursor, &name, &values) == LDAP_SUCCESS && name.bv_val) {
        struct ldap_attribute *attribute = &entry->attributes[entry->attribute_count];

        if (entry->attribute_count == ATTRIBUTES_MAX)
            is_read = false;
        /* Next to a part Active Directory sends the attribute itself, empty. */
        else if (values && values[0].bv_val && read_name(arena, &name, attribute)) {
            is_read = attribute->name.data && read_values(arena, values, attribute);
            entry->attribute_count++;
        }
        ber_memfree(values);
        values = NULL;
    }
    ber_free(cursor, 0);
    return is_read;
}

/* ---- searching ---- */

static void take_entry(struct ldap_link *link, LDAPMessage *message, struct ldap_found *found, int *code)
{
    if (found->entry_count == LDAP_ENTRIES_MAX) {
        *code = LDAP_SIZELIMIT_EXCEEDED; /* the server does not keep to the bound that it was given */
        return;
    }
    if (found->entry_count++ == 0 && !read_entry(link->handle, message, &found->arena, &found->entry))
        *code = LDAP_DECODING_ERROR;
}

/* The result's code; or why there is none. */
static int take_messages(struct ldap_link *link, int id, uint64_t deadline_ms, struct ldap_found *found)
{
    int code = LDAP_SUCCESS;

    for (bool is_over = false; code == LDAP_SUCCESS && !is_over;) {
        LDAPMessage *message = NULL;

        code = ldap_link_wait(link, id, deadline_ms, &message);
        if (code != LDAP_SUCCESS)
            break;
        switch (ldap_msgtype(message)) {
        case LDAP_RES_SEARCH_ENTRY:
            take_entry(link, message, found, &code);
            break;
        case LDAP_RES_SEARCH_REFERENCE:
            if (++found->reference_count > LDAP_REFERENCES_MAX)
                code = LDAP_REFERRAL;
            break;
        case LDAP_RES_SEARCH_RESULT:
            is_over = true;
            if (ldap_parse_result(link->handle, message, &code, NULL, NULL, NULL, NULL, 0) != LDAP_SUCCESS)
                code = LDAP_DECODING_ERROR;
            break;
        default: /* intermediate responses, which nothing of ours asks for */
            break;
        }
        ldap_msgfree(message);
    }
    return code;
}

/* What must go over TLS goes over TLS, whatever libldap did with the connection. */
static bool is_safe(const struct ldap_link *link, struct error *error)
{
    if (!(link->place->is_tls || link->place->is_start_tls) || ldap_tls_inplace(link->handle))
        return true;
    error_set(error, "the connection lost its TLS");
    return false;
}

static const char *search_of(int code)
{
    if (code == LDAP_REFERRAL)
        return "search (another server has the base; referrals are not followed)";
    return code == LDAP_NO_SUCH_OBJECT ? "search (is there such a base, and may bind-dn see it?)" : "search";
}

enum ldap_verdict ldap_link_search(struct ldap_link *link, const struct ldap_query *query, uint64_t deadline_ms,
                                   struct ldap_found *found, struct error *error)
{
    const uint64_t left_ms = ldap_time_left_ms(deadline_ms);
    struct timeval time = {.tv_sec = (time_t)((left_ms + 999) / 1000)};
    enum ldap_verdict verdict;
    int id, code;

    *found = (struct ldap_found){0};
    arena_init(&found->arena, FOUND_BYTES_MAX);
    if (!is_safe(link, error))
        return LDAP_VERDICT_SERVER_FAILED;
    link->stream.deadline_ms = deadline_ms;
    if (left_ms == 0)
        code = LDAP_TIMEOUT;
    else
        code = ldap_search_ext(link->handle, query->base, LDAP_SCOPE_SUBTREE, query->filter, query->attributes, 0, NULL,
                               NULL, &time, LDAP_ENTRIES_MAX, &id);
    if (code == LDAP_SUCCESS)
        code = take_messages(link, id, deadline_ms, found);
    verdict = ldap_result_of_search(code);
    /* A bound below ours, an administrator's: how many there are is not known. */
    if (code == LDAP_SIZELIMIT_EXCEEDED && found->entry_count == 0)
        verdict = LDAP_VERDICT_QUESTION_FAILED;
    if (code == LDAP_SIZELIMIT_EXCEEDED && found->entry_count > 0)
        found->entry_count = LDAP_ENTRIES_MAX;
    if (verdict != LDAP_VERDICT_YES)
        ldap_link_fail(link->handle, code, search_of(code), error);
    return verdict;
}

/* ---- binding ---- */

/* draft-behera-ldap-password-policy: servers that know the control say why a bind failed, which the result code hides. */
static const char *policy_reason(LDAP *handle, LDAPControl **controls)
{
    LDAPControl *control = controls ? ldap_control_find(LDAP_CONTROL_PASSWORDPOLICYRESPONSE, controls, NULL) : NULL;
    LDAPPasswordPolicyError policy_error = PP_noError;
    ber_int_t expire, grace;

    if (!control || ldap_parse_passwordpolicy_control(handle, control, &expire, &grace, &policy_error) != LDAP_SUCCESS)
        return NULL;
    if (policy_error == PP_accountLocked)
        return "the account is locked";
    return policy_error == PP_passwordExpired ? "the password has expired" : NULL;
}

static int take_bind_result(struct ldap_link *link, LDAPMessage *message, struct ldap_bound *bound)
{
    LDAPControl **controls = NULL;
    char *diagnostic = NULL;
    int code = LDAP_OTHER;

    if (ldap_parse_result(link->handle, message, &code, NULL, &diagnostic, NULL, &controls, 0) != LDAP_SUCCESS)
        code = LDAP_DECODING_ERROR;
    bound->reason = ldap_result_account_reason(code, str_from_cstr(diagnostic));
    if (code != LDAP_SUCCESS && !bound->reason)
        bound->reason = policy_reason(link->handle, controls);
    ldap_memfree(diagnostic);
    ldap_controls_free(controls);
    return code;
}

enum ldap_verdict ldap_link_bind(struct ldap_link *link, struct str dn, struct str password, uint64_t deadline_ms,
                                 struct ldap_bound *bound, struct error *error)
{
    struct berval secret = {.bv_len = password.length, .bv_val = (char *)(uintptr_t)password.data};
    LDAPControl control = {.ldctl_oid = (char *)(uintptr_t)LDAP_CONTROL_PASSWORDPOLICYREQUEST},
                *controls[] = {&control, NULL};
    char *name = mem_copy_str(dn);
    LDAPMessage *message = NULL;
    enum ldap_verdict verdict = LDAP_VERDICT_SERVER_FAILED;
    int id, code;

    *bound = (struct ldap_bound){0};
    if (!is_safe(link, error))
        goto done;
    link->stream.deadline_ms = deadline_ms;
    code = ldap_sasl_bind(link->handle, name, LDAP_SASL_SIMPLE, &secret, controls, NULL, &id);
    if (code == LDAP_SUCCESS)
        code = ldap_link_wait(link, id, deadline_ms, &message);
    if (code == LDAP_SUCCESS)
        code = take_bind_result(link, message, bound);
    verdict = ldap_result_of_bind(code);
    if (verdict == LDAP_VERDICT_QUESTION_FAILED || verdict == LDAP_VERDICT_SERVER_FAILED)
        ldap_link_fail(link->handle, code, "bind", error);
done:
    ldap_msgfree(message);
    free(name);
    return verdict;
}
