/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/sasl.h"

#include "base/mem.h"
#include "mail/text.h"
#include "smtp/sasl_private.h"

#include <gsasl.h>

/* Strongest first: what proves without telling the password, then what is bound to nothing, then passwords. */
static const struct {
    struct str name;
    enum sasl_mechanism mechanism;
} mechanisms[] = {
    {STR_INIT("GSSAPI"), SASL_GSSAPI},
    {STR_INIT("EXTERNAL"), SASL_EXTERNAL},
    {STR_INIT("SCRAM-SHA-256-PLUS"), SASL_SCRAM_SHA_256_PLUS},
    {STR_INIT("SCRAM-SHA-256"), SASL_SCRAM_SHA_256},
    {STR_INIT("PLAIN"), SASL_PLAIN},
    {STR_INIT("LOGIN"), SASL_LOGIN},
};

#define MECHANISM_COUNT (sizeof(mechanisms) / sizeof(mechanisms[0]))

enum sasl_mechanism sasl_mechanism_find(struct str name)
{
    for (size_t i = 0; i < MECHANISM_COUNT; i++)
        if (str_equal_nocase(name, mechanisms[i].name))
            return mechanisms[i].mechanism;
    return 0;
}

const char *sasl_mechanism_name(enum sasl_mechanism mechanism)
{
    for (size_t i = 0; i < MECHANISM_COUNT; i++)
        if (mechanisms[i].mechanism == mechanism)
            return mechanisms[i].name.data;
    return "";
}

void sasl_mechanism_list(unsigned set, struct buf *out)
{
    const char *separator = "";

    for (size_t i = 0; i < MECHANISM_COUNT; i++) {
        if ((set & mechanisms[i].mechanism) == 0)
            continue;
        buf_append_str(out, str_from_cstr(separator));
        buf_append_str(out, mechanisms[i].name);
        separator = " ";
    }
}

unsigned sasl_mechanisms_parse(struct str list)
{
    unsigned set = 0;

    while (list.data)
        set |= sasl_mechanism_find(str_split(&list, ' '));
    return set;
}

void sasl_clear(struct buf *b)
{
    if (b->data)
        explicit_bzero(b->data, b->capacity);
    buf_clear(b);
}

/* ---- preparation ---- */

static bool is_printable_ascii(struct str text)
{
    for (size_t i = 0; i < text.length; i++)
        if (text.data[i] < ' ' || text.data[i] > '~')
            return false;
    return true;
}

static bool is_utf8(struct str text)
{
    while (text.length > 0) {
        size_t length = text_utf8_length(text);

        if (length == 0 || text.data[0] == '\0')
            return false;
        text = str_skip(text, length);
    }
    return true;
}

/* The library wants and gives C strings. */
static bool prepare_unicode(struct str text, size_t bytes_max, struct buf *out)
{
    char *copy = mem_copy_str(text);
    char *prepared = NULL;
    bool result = gsasl_saslprep(copy, GSASL_ALLOW_UNASSIGNED, &prepared, NULL) == GSASL_OK;
    struct str s = str_from_cstr(prepared);

    result = result && s.length > 0 && s.length <= bytes_max && buf_append_str(out, s);
    explicit_bzero(copy, text.length);
    free(copy);
    if (prepared)
        explicit_bzero(prepared, s.length);
    gsasl_free(prepared);
    return result;
}

bool sasl_prepare(struct str text, size_t bytes_max, struct buf *out)
{
    /* Preparation shortens at most by a bit: what is far longer is not looked at. */
    if (text.length == 0 || text.length > 4 * bytes_max)
        return false;
    /* For which preparation changes nothing: no copies of most passwords. */
    if (is_printable_ascii(text))
        return text.length <= bytes_max && buf_append_str(out, text);
    return is_utf8(text) && prepare_unicode(text, bytes_max, out);
}

/* ---- what both sides keep ---- */

static void keep(struct sasl_binding *binding, struct str data)
{
    if (data.length == 0 || data.length > sizeof(binding->data))
        return;
    memcpy(binding->data, data.data, data.length);
    binding->length = data.length;
}

void sasl_bindings_keep(struct sasl_bindings *bindings, const struct sasl_channel *channel)
{
    keep(&bindings->unique, channel->binding_unique);
    keep(&bindings->exporter, channel->binding_exporter);
}
