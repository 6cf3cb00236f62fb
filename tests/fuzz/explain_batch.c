/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of any bytes for `explain --batch`: each gets one line of JSON back, whatever it was. */
#include "policy/explain_batch.h"
#include "config/config.h"

#include <jansson.h>
#include <stdlib.h>

static const char text[] =
    "domains:\n"
    "  contoso.test: { type: local, default: true, recipients: [alice] }\n"
    "  '*.fabrikam.test': { type: allowed }\n"
    "lists: { office: [10.1.0.0/16, 'domain:branch.test'] }\n"
    "servers:\n"
    "  s:\n"
    "    listen: ['192.0.2.25:25']\n"
    "    recipients: { lookup: at-rcpt }\n"
    "    connect: { except: [10.9.0.0/16] }\n"
    "    relay: { only: ['list:office', 'cert:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'] }\n"
    "    permissions: { submit: { deny: ['user:eve'] }, relay: { deny: ['group:temps'] } }\n"
    "connectors: { c: { address-spaces: ['*.partner.test'], smart-hosts: [h.test], allow-relay: true } }\n";

static struct explain_batch *make_batch(void)
{
    static const struct cidr_address own = {{[10] = 0xff, 0xff, 192, 0, 2, 25}};
    static const struct config_machine machine = {"mail.contoso.test", &own, 1};
    static const struct config *config;
    struct config_errors errors;

    config_errors_init(&errors);
    if (config_load_text(vfs_system(), "fuzz.yaml", str_from_cstr(text), &machine, &config, &errors) != 0)
        abort();
    config_errors_release(&errors);
    return explain_batch_create(config->policy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct explain_batch *batch;
    static struct buf out;
    struct str rest = str_make((const char *)data, size);

    if (!batch) {
        batch = make_batch();
        buf_init(&out, EXPLAIN_ANSWER_BYTES_MAX);
    }
    while (rest.data) {
        bool answered = explain_batch_answer(batch, str_split(&rest, '\n'), &out);
        json_t *answer = json_loadb(out.data, out.length, 0, NULL);

        /* Exactly one line, which says either what is decided or what is wrong. */
        if (out.overflowed || memchr(out.data, '\n', out.length) != out.data + out.length - 1 ||
            !json_is_object(answer) || answered == (json_object_get(answer, "error") != NULL) ||
            answered != (json_object_get(answer, "verdict") != NULL))
            abort();
        json_decref(answer);
        buf_clear(&out);
    }
    return 0;
}
