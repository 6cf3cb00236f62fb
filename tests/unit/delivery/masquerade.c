/* SPDX-License-Identifier: Apache-2.0 */
/* What is changed in other people's mail must be what was asked for, and not one byte more. */
#include "delivery/masquerade.h"

#include "config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct config *config;
static struct masquerade masquerade;

static int set_up(void **state)
{
    static const char yaml[] = "hostname: mail.contoso.test\n"
                               "domains:\n"
                               "  corp.test: { type: local, default: true, recipients: any }\n"
                               "  old.test: { type: alias, of: corp.test }\n"
                               "  \"*.wild.test\": { type: local, recipients: any }\n"
                               "  friend.test: { type: allowed }\n"
                               "servers: { one: { listen: ['127.0.0.1:25'] } }\n";
    const struct config_machine machine = {.hostname = "mail.contoso.test"};
    struct config_errors errors;

    (void)state;
    config_errors_init(&errors);
    if (config_load_text(vfs_system(), "test.yaml", str_from_cstr(yaml), &machine, &config, &errors) != 0)
        fail_msg("%s", errors.messages[0].text);
    config_errors_release(&errors);
    masquerade = (struct masquerade){.model = config->policy, .domain = STR("contoso.test")};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    config_release(&config);
    return 0;
}

static void test_addresses(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"alice@corp.test", "alice@contoso.test"},
        {"Alice@Corp.TEST", "Alice@contoso.test"},
        {"\"a b\"@corp.test", "\"a b\"@contoso.test"},
        {"\"a@corp.test\"@example.net", "\"a@corp.test\"@example.net"},
        {"alice@host.lab.corp.test", "alice@contoso.test"},
        {"alice@old.test", "alice@contoso.test"},
        {"alice@x.wild.test", "alice@contoso.test"},
        {"alice@wild.test", "alice@wild.test"},
        {"alice@friend.test", "alice@friend.test"},
        {"alice@notcorp.test", "alice@notcorp.test"},
        {"alice@corp.test.example.net", "alice@corp.test.example.net"},
        {"alice@[127.0.0.1]", "alice@[127.0.0.1]"},
        {"alice", "alice"},
        {"<>", "<>"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf out;

        buf_init(&out, 1024);
        masquerade_address(&masquerade, str_from_cstr(rows[i].in), &out);
        if (!str_equal(buf_str(&out), str_from_cstr(rows[i].out)))
            fail_msg("%s became %.*s", rows[i].in, STR_ARG(buf_str(&out)));
        buf_release(&out);
    }
}

static void check(const char *in, const char *expected)
{
    struct buf out;

    buf_init(&out, 4096);
    masquerade_header(&masquerade, str_from_cstr(in), &out);
    if (!str_equal(buf_str(&out), str_from_cstr(expected)))
        fail_msg("%s\nbecame\n%.*s", in, STR_ARG(buf_str(&out)));
    buf_release(&out);
}

#define END "\r\nbody alice@corp.test\r\n"

static void test_fields(void **state)
{
    (void)state;
    check("From: a@corp.test\r\n" END, "From: a@contoso.test\r\n" END);
    check("FROM : A <a@x.corp.test>, B <b@example.net>\r\nReply-to:c@old.test\r\nsender:\ta@corp.test\r\n" END,
          "FROM : A <a@contoso.test>, B <b@example.net>\r\nReply-to:c@contoso.test\r\nsender:\ta@contoso.test\r\n" END);
    check("To: a@corp.test\r\nCc: a@corp.test\r\nX-From: a@corp.test\r\nMessage-ID: <1@corp.test>\r\n" END,
          "To: a@corp.test\r\nCc: a@corp.test\r\nX-From: a@corp.test\r\nMessage-ID: <1@corp.test>\r\n" END);
    check("Subject: From: a@corp.test\r\n From: a@corp.test\r\n" END,
          "Subject: From: a@corp.test\r\n From: a@corp.test\r\n" END);
    check("From: A\r\n\t<a@corp.test>,\r\n b@corp.test\r\nTo: x\r\n" END,
          "From: A\r\n\t<a@contoso.test>,\r\n b@contoso.test\r\nTo: x\r\n" END);
    check("From: a@corp.test\nTo: x\n\nb", "From: a@contoso.test\nTo: x\n\nb");
    check("", "");
    check("\r\nFrom: a@corp.test\r\n\r\n", "\r\nFrom: a@corp.test\r\n\r\n");
    check("no field\r\nFrom: a@corp.test\r\n\r\n", "no field\r\nFrom: a@contoso.test\r\n\r\n");
    check("From: a@corp.test\r\n", "From: a@corp.test\r\n"); /* it may go on */
    check("From: a@corp.test", "From: a@corp.test");
}

static void test_inside_of_fields(void **state)
{
    (void)state;
    check("From: \"a@corp.test\" <a@corp.test>\r\n" END, "From: \"a@corp.test\" <a@contoso.test>\r\n" END);
    check("From: \"q\\\"a@corp.test\" <a@corp.test>\r\n" END, "From: \"q\\\"a@corp.test\" <a@contoso.test>\r\n" END);
    check("From: a@corp.test (a@corp.test (b@corp.test) \\) c@corp.test)\r\n" END,
          "From: a@contoso.test (a@corp.test (b@corp.test) \\) c@corp.test)\r\n" END);
    check("From: a@corp.test <a@corp.test>\r\n" END, "From: a@contoso.test <a@contoso.test>\r\n" END);
    check("From: a @ corp.test\r\n" END, "From: a @ contoso.test\r\n" END);
    check("From: g: a@corp.test, b@friend.test;\r\n" END, "From: g: a@contoso.test, b@friend.test;\r\n" END);
    check("From: a@[127.0.0.1], b@\r\n" END, "From: a@[127.0.0.1], b@\r\n" END);
    check("From: (a@corp.test\r\nSender: a@corp.test\r\n" END, "From: (a@corp.test\r\nSender: a@contoso.test\r\n" END);
    check("From: \"a@corp.test\r\nSender: a@corp.test\r\n" END,
          "From: \"a@corp.test\r\nSender: a@contoso.test\r\n" END);
    check("From: \"x\\", "From: \"x\\");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_addresses), cmocka_unit_test(test_fields),
                                       cmocka_unit_test(test_inside_of_fields)};

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
