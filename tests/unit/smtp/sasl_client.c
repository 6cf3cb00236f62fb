/* SPDX-License-Identifier: Apache-2.0 */
/* The client's side of SASL with its simple mechanisms, and its choice: smart hosts and relaytest log in by it, with passwords that must go nowhere else. */
#include "sasl_fixture.h"

#define NO_INPUT   ((struct str){0})
#define NO_CHANNEL ((struct sasl_channel){0})

static void test_choice(void **state)
{
    const struct sasl_channel tls = {.binding_exporter = STR("0123456789abcdef0123456789abcdef")};
    const struct sasl_channel none = {0};
    const unsigned all =
        SASL_PLAIN | SASL_LOGIN | SASL_SCRAM_SHA_256 | SASL_SCRAM_SHA_256_PLUS | SASL_GSSAPI | SASL_EXTERNAL;

    (void)state;
    assert_int_equal(sasl_client_choose(all, all, &tls), SASL_SCRAM_SHA_256_PLUS);
    assert_int_equal(sasl_client_choose(all, all, &none), SASL_SCRAM_SHA_256);
    assert_int_equal(sasl_client_choose(SASL_PLAIN | SASL_LOGIN, all, &none), SASL_PLAIN);
    assert_int_equal(sasl_client_choose(SASL_LOGIN, all, &none), SASL_LOGIN);
    assert_int_equal(sasl_client_choose(all, SASL_EXTERNAL, &tls), SASL_EXTERNAL);
    assert_int_equal(sasl_client_choose(SASL_GSSAPI, all, &tls), 0);
    assert_int_equal(sasl_client_choose(SASL_SCRAM_SHA_256_PLUS, all, &none), 0);
    assert_int_equal(sasl_client_choose(SASL_PLAIN, SASL_SCRAM_SHA_256, &none), 0);
    assert_int_equal(sasl_client_choose(0, all, &none), 0);
}

static void test_plain(void **state)
{
    struct sasl_client *client = fake_client(SASL_PLAIN, "alice", PASSWORD, NO_CHANNEL);
    struct buf out;

    (void)state;
    buf_init(&out, SASL_MESSAGE_BYTES_MAX);
    assert_true(sasl_client_has_initial(client));
    assert_false(sasl_client_is_satisfied(client));
    assert_int_equal(sasl_client_step(client, NO_INPUT, &out), SASL_DONE);
    assert_true(str_equal(buf_str(&out), STR("\0alice\0" PASSWORD)));
    assert_true(sasl_client_is_satisfied(client));
    /* A server that goes on asking gets nothing, and is not to be believed after that. */
    assert_int_equal(sasl_client_step(client, STR("and?"), &out), SASL_MALFORMED);
    assert_int_equal(out.length, 0);
    assert_false(sasl_client_is_satisfied(client));
    sasl_client_destroy(&client);
    buf_release(&out);
}

static void test_login(void **state)
{
    struct sasl_client *client = fake_client(SASL_LOGIN, "alice", PASSWORD, NO_CHANNEL);
    struct buf out;

    (void)state;
    buf_init(&out, SASL_MESSAGE_BYTES_MAX);
    assert_false(sasl_client_has_initial(client));
    assert_int_equal(sasl_client_step(client, NO_INPUT, &out), SASL_CONTINUE);
    assert_int_equal(out.length, 0);
    assert_int_equal(sasl_client_step(client, STR("User Name\0"), &out), SASL_CONTINUE);
    assert_true(str_equal(buf_str(&out), STR("alice")));
    assert_false(sasl_client_is_satisfied(client));
    assert_int_equal(sasl_client_step(client, STR("Password:"), &out), SASL_DONE);
    assert_true(str_equal(buf_str(&out), STR(PASSWORD)));
    assert_true(sasl_client_is_satisfied(client));
    sasl_client_destroy(&client);
    buf_release(&out);
}

static void test_external(void **state)
{
    struct sasl_client *client = fake_client(SASL_EXTERNAL, "", "", NO_CHANNEL);
    struct buf out;

    (void)state;
    buf_init(&out, SASL_MESSAGE_BYTES_MAX);
    assert_true(sasl_client_has_initial(client));
    assert_int_equal(sasl_client_step(client, NO_INPUT, &out), SASL_DONE);
    assert_int_equal(out.length, 0);
    sasl_client_destroy(&client);
    buf_release(&out);
}

static void check_refused(enum sasl_mechanism mechanism, struct str user, struct str password)
{
    const struct sasl_client_options options = {.user = user, .password = password, .host = STR("relay.test")};
    struct error error = {0};

    assert_null(sasl_client_create(mechanism, &options, &error));
    assert_non_null(strstr(error.text, "relay.test"));
    if (password.length > 1)
        assert_null(strstr(error.text, password.data));
}

static void test_what_can_not_be_sent(void **state)
{
    static char text[SASL_PASSWORD_BYTES_MAX + 1];

    (void)state;
    memset(text, 'a', sizeof(text));
    check_refused(SASL_PLAIN, STR("al\0ice"), STR(PASSWORD));
    check_refused(SASL_PLAIN, STR("alice"), STR("pen\0cil"));
    check_refused(SASL_PLAIN, STR(""), STR(PASSWORD));
    check_refused(SASL_LOGIN, STR("alice"), STR(""));
    check_refused(SASL_PLAIN, str_make(text, SASL_USER_BYTES_MAX + 1), STR("p"));
    check_refused(SASL_GSSAPI, STR("alice"), STR(PASSWORD));
    check_refused(0, STR("alice"), STR(PASSWORD));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_login),
        cmocka_unit_test(test_external),
        cmocka_unit_test(test_what_can_not_be_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
