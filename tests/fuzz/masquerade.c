/* SPDX-License-Identifier: Apache-2.0 */
/* Header sections as strangers write them: changed once they stay as they are, and without a local domain in them they stay as they were. */
#include "delivery/masquerade.h"

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            __builtin_trap();                                                                                          \
    } while (0)

static const struct policy_model *make_model(void)
{
    static struct policy_model *model;

    if (!model) {
        const struct policy_domain domain = {.name = STR("a.b"), .is_default = true, .type = POLICY_DOMAIN_LOCAL};

        model = policy_model_create();
        policy_model_add_domain(model, &domain, NULL, 0);
        policy_model_finish(model);
    }
    return model;
}

static struct buf change(const struct masquerade *masquerade, struct str header)
{
    struct buf out;

    buf_init(&out, 1u << 20);
    masquerade_header(masquerade, header, &out);
    CHECK(!out.overflowed);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct str input = str_make((const char *)data, size);
    const struct masquerade other = {.model = make_model(), .domain = STR("c.example")};
    const struct masquerade same = {.model = make_model(), .domain = STR("a.b")};
    struct buf once = change(&other, input), twice = change(&other, buf_str(&once)), unchanged = change(&same, input);
    struct buf address;

    CHECK(str_equal(buf_str(&once), buf_str(&twice)));
    CHECK(unchanged.length <= size); /* names below it become shorter */
    buf_init(&address, 1u << 20);
    masquerade_address(&other, input, &address);
    buf_release(&address);
    buf_release(&once);
    buf_release(&twice);
    buf_release(&unchanged);
    return 0;
}
