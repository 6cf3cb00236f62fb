/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's side of SASL with its simple mechanisms. Whoever gets through here relays in somebody's name: each way to be taken for another, to get in with
 * an empty password, or to bring the server out of step is tried.
 */
#include "sasl_fixture.h"

#define NO_INPUT   ((struct str){0})
#define NO_CHANNEL ((struct sasl_channel){0})

static void test_names(void **state)
{
    struct buf list;

    (void)state;
    assert_int_equal(sasl_mechanism_find(STR("PLAIN")), SASL_PLAIN);
    assert_int_equal(sasl_mechanism_find(STR("scram-sha-256-plus")), SASL_SCRAM_SHA_256_PLUS);
    assert_int_equal(sasl_mechanism_find(STR("SCRAM-SHA-1")), 0);
    assert_int_equal(sasl_mechanism_find(STR("")), 0);
    assert_string_equal(sasl_mechanism_name(SASL_GSSAPI), "GSSAPI");
    buf_init(&list, 100);
    sasl_mechanism_list(SASL_PLAIN | SASL_LOGIN | SASL_SCRAM_SHA_256, &list);
    assert_true(str_equal(buf_str(&list), STR("SCRAM-SHA-256 PLAIN LOGIN")));
    buf_clear(&list);
    sasl_mechanism_list(0, &list);
    assert_int_equal(list.length, 0);
    buf_release(&list);
    assert_int_equal(sasl_mechanisms_parse(STR("PLAIN XOAUTH2  login")), SASL_PLAIN | SASL_LOGIN);
    assert_int_equal(sasl_mechanisms_parse(STR("")), 0);
}

/* RFC 4013 3, and what must never pass for a name. */
static void test_preparation(void **state)
{
    static const struct {
        struct str text, prepared; /* empty: refused */
    } cases[] = {
        {STR_INIT("user"), STR_INIT("user")},
        {STR_INIT("USER"), STR_INIT("USER")},
        {STR_INIT("I\xc2\xadX"), STR_INIT("IX")},
        {STR_INIT("\xc2\xaa"), STR_INIT("a")},
        {STR_INIT("\xe2\x85\xa8"), STR_INIT("IX")},
        {STR_INIT("two\xc2\xa0words"), STR_INIT("two words")},
        {STR_INIT("\x07"), STR_INIT("")},
        {STR_INIT("\xd8\xa7\x31"), STR_INIT("")},
        {STR_INIT(""), STR_INIT("")},
        {STR_INIT("\xc2\xad"), STR_INIT("")},
        {STR_INIT("al\0ice"), STR_INIT("")},
        {STR_INIT("j\xf6rg"), STR_INIT("")},
        {STR_INIT("\xc0\xaf"), STR_INIT("")},
        {STR_INIT("\xed\xa0\x80"), STR_INIT("")},
        {STR_INIT("12345678901"), STR_INIT("")},
        {STR_INIT("1234567890"), STR_INIT("1234567890")},
    };
    struct buf out;

    (void)state;
    buf_init(&out, 100);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(sasl_prepare(cases[i].text, 10, &out), cases[i].prepared.length > 0);
        assert_true(str_equal(buf_str(&out), cases[i].prepared));
        buf_clear(&out);
    }
    buf_release(&out);
}

/* ---- one message ---- */

struct expected {
    struct str message;
    enum sasl_status status;
    const char *user;
    const char *reason;
    unsigned questions;
};

static void check_messages(enum sasl_mechanism mechanism, const struct expected *cases, size_t count)
{
    struct fake fake;
    struct buf out;

    buf_init(&out, SASL_MESSAGE_BYTES_MAX);
    for (size_t i = 0; i < count; i++) {
        struct sasl_server *server;

        fake_init(&fake);
        server = fake_server(&fake, mechanism, NO_CHANNEL);
        assert_int_equal(sasl_server_step(server, cases[i].message, &out), cases[i].status);
        assert_int_equal(out.length, 0);
        assert_true(str_equal(sasl_server_user(server), str_from_cstr(cases[i].user)));
        if (cases[i].reason)
            assert_string_equal(sasl_server_reason(server), cases[i].reason);
        assert_int_equal(fake.questions, cases[i].questions);
        /* Over is over. */
        if (cases[i].status != SASL_CONTINUE)
            assert_int_equal(sasl_server_step(server, STR("\0alice\0" PASSWORD), &out), SASL_MALFORMED);
        sasl_server_destroy(&server);
        assert_null(server);
    }
    buf_release(&out);
}

static void test_plain(void **state)
{
    static const struct expected cases[] = {
        {STR_INIT("\0alice\0" PASSWORD), SASL_DONE, "alice", NULL, 1},
        {STR_INIT("\0Alice\0" PASSWORD), SASL_DONE, "Alice", NULL, 1},
        {STR_INIT("alice\0alice\0" PASSWORD), SASL_DONE, "alice", NULL, 1},
        {STR_INIT("alice@contoso.test\0alice\0" PASSWORD), SASL_DONE, "alice", NULL, 1},
        {STR_INIT("\0alice\0wrong"), SASL_REFUSED, "alice", "credentials", 1},
        {STR_INIT("\0bob\0" PASSWORD), SASL_REFUSED, "bob", "credentials", 1},
        {STR_INIT("\0later\0" PASSWORD), SASL_UNAVAILABLE, "later", NULL, 1},
        /* for another */
        {STR_INIT("bob\0alice\0" PASSWORD), SASL_REFUSED, "alice", "not-permitted", 0},
        {STR_INIT("alice@contoso.test\0bob\0" PASSWORD), SASL_REFUSED, "bob", "not-permitted", 0},
        /* nobody is asked about what can't be right */
        {STR_INIT("\0alice\0"), SASL_REFUSED, "alice", "credentials", 0},
        {STR_INIT("\0\0" PASSWORD), SASL_REFUSED, "", "credentials", 0},
        {STR_INIT("\0ali\xff\0" PASSWORD), SASL_REFUSED, "", "credentials", 0},
        {STR_INIT("\0alice\0pen\xff"), SASL_REFUSED, "alice", "credentials", 0},
        {STR_INIT("\0alice\0pen\ncil"), SASL_REFUSED, "alice", "credentials", 0},
        {STR_INIT(""), SASL_MALFORMED, "", "malformed", 0},
        {STR_INIT("alice"), SASL_MALFORMED, "", "malformed", 0},
        {STR_INIT("\0alice"), SASL_MALFORMED, "", "malformed", 0},
        {STR_INIT("\0alice\0pen\0cil"), SASL_MALFORMED, "", "malformed", 0},
        {STR_INIT("\0alice\0" PASSWORD "\0"), SASL_MALFORMED, "", "malformed", 0},
        {{NULL, 0}, SASL_CONTINUE, "", NULL, 0},
    };

    (void)state;
    check_messages(SASL_PLAIN, cases, sizeof(cases) / sizeof(cases[0]));
}

static void test_external(void **state)
{
    static const struct expected cases[] = {
        {STR_INIT(""), SASL_DONE, "alice", NULL, 1},
        {STR_INIT("ALICE"), SASL_DONE, "alice", NULL, 1},
        {STR_INIT("bob"), SASL_REFUSED, "bob", "credentials", 1},
        {STR_INIT("later"), SASL_UNAVAILABLE, "later", NULL, 1},
        {STR_INIT("a\0b"), SASL_REFUSED, "", "credentials", 0},
        {{NULL, 0}, SASL_CONTINUE, "", NULL, 0},
    };

    (void)state;
    check_messages(SASL_EXTERNAL, cases, sizeof(cases) / sizeof(cases[0]));
}

/* At the bound of a user's name and a password, in octets after preparation. */
static void test_lengths(void **state)
{
    char message[2 + SASL_USER_BYTES_MAX + 1 + SASL_PASSWORD_BYTES_MAX + 1];
    struct fake fake;
    struct buf out;

    (void)state;
    buf_init(&out, SASL_MESSAGE_BYTES_MAX);
    for (size_t user = SASL_USER_BYTES_MAX; user <= SASL_USER_BYTES_MAX + 1; user++) {
        for (size_t password = SASL_PASSWORD_BYTES_MAX; password <= SASL_PASSWORD_BYTES_MAX + 1; password++) {
            bool fits = user == SASL_USER_BYTES_MAX && password == SASL_PASSWORD_BYTES_MAX;
            struct sasl_server *server;

            fake_init(&fake);
            server = fake_server(&fake, SASL_PLAIN, NO_CHANNEL);
            memset(message, 'a', sizeof(message));
            message[0] = message[1 + user] = '\0';
            assert_int_equal(sasl_server_step(server, str_make(message, 2 + user + password), &out), SASL_REFUSED);
            assert_int_equal(fake.questions, fits);
            sasl_server_destroy(&server);
        }
    }
    buf_release(&out);
}

static void test_message_of_nonsense(void **state)
{
    static char message[SASL_MESSAGE_BYTES_MAX + 1];
    struct fake fake;
    struct sasl_server *server;
    struct buf out;

    (void)state;
    fake_init(&fake);
    buf_init(&out, SASL_MESSAGE_BYTES_MAX);
    for (unsigned mechanism = SASL_PLAIN; mechanism <= SASL_EXTERNAL; mechanism <<= 1) {
        if (mechanism == SASL_GSSAPI)
            continue;
        server = fake_server(&fake, mechanism, NO_CHANNEL);
        assert_int_equal(sasl_server_step(server, str_make(message, sizeof(message)), &out), SASL_MALFORMED);
        sasl_server_destroy(&server);
    }
    assert_int_equal(fake.questions, 0);
    buf_release(&out);
}

/* ---- LOGIN ---- */

static enum sasl_status login(struct fake *fake, const struct str *messages, size_t count, bool has_initial)
{
    struct sasl_server *server = fake_server(fake, SASL_LOGIN, NO_CHANNEL);
    enum sasl_status status = SASL_CONTINUE;
    struct buf out;

    buf_init(&out, SASL_MESSAGE_BYTES_MAX);
    if (!has_initial) {
        assert_int_equal(sasl_server_step(server, NO_INPUT, &out), SASL_CONTINUE);
        assert_true(str_equal(buf_str(&out), STR("Username:")));
    }
    for (size_t i = 0; i < count && status == SASL_CONTINUE; i++) {
        status = sasl_server_step(server, messages[i], &out);
        assert_true(str_equal(buf_str(&out), status == SASL_CONTINUE ? STR("Password:") : STR("")));
    }
    if (status == SASL_DONE)
        assert_true(str_equal(sasl_server_user(server), STR("alice")));
    sasl_server_destroy(&server);
    buf_release(&out);
    return status;
}

static void test_login(void **state)
{
    const struct {
        struct str messages[2];
        enum sasl_status status;
        unsigned questions;
    } cases[] = {
        {{STR("alice"), STR(PASSWORD)}, SASL_DONE, 1},        {{STR("alice"), STR("wrong")}, SASL_REFUSED, 1},
        {{STR("alice"), STR("")}, SASL_REFUSED, 0},           {{STR("bob"), STR(PASSWORD)}, SASL_REFUSED, 1},
        {{STR("later"), STR(PASSWORD)}, SASL_UNAVAILABLE, 1}, {{STR(""), STR(PASSWORD)}, SASL_REFUSED, 0},
        {{STR("al\0ice"), STR(PASSWORD)}, SASL_MALFORMED, 0}, {{STR("alice"), STR(PASSWORD "\0")}, SASL_MALFORMED, 0},
    };
    struct fake fake;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int has_initial = 0; has_initial <= 1; has_initial++) {
            fake_init(&fake);
            assert_int_equal(login(&fake, cases[i].messages, 2, has_initial), cases[i].status);
            assert_int_equal(fake.questions, cases[i].questions);
        }
    }
}

/* A password is compared as it was prepared when it was stored: whichever keyboard it comes from. */
static void test_passwords_are_prepared(void **state)
{
    struct fake fake;
    struct sasl_server *server;
    struct buf out;

    (void)state;
    fake_init(&fake);
    buf_init(&out, SASL_MESSAGE_BYTES_MAX);
    server = fake_server(&fake, SASL_PLAIN, NO_CHANNEL);
    assert_int_equal(sasl_server_step(server,
                                      STR("\0al\xc2\xadice\0pen\xc2\xad"
                                          "cil"),
                                      &out),
                     SASL_DONE);
    assert_string_equal(fake.user, "alice");
    assert_string_equal(fake.password, PASSWORD);
    sasl_server_destroy(&server);
    buf_release(&out);
}

/* A keytab that is not there, or is none: an administrator reads why in the log, and nobody is offered GSSAPI. */
static void test_keytabs_that_do_not_work(void **state)
{
    struct error error = {0};

    (void)state;
    assert_false(sasl_server_can(SASL_GSSAPI, STR("/nonexistent/keytab"), &error));
    assert_non_null(strstr(error.text, "/nonexistent/keytab"));
    assert_false(sasl_server_can(SASL_GSSAPI, STR("/dev/null"), &error));
    assert_true(sasl_server_can(SASL_PLAIN, STR(""), &error));
    assert_true(sasl_server_can(SASL_SCRAM_SHA_256_PLUS, STR(""), &error));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_preparation),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_external),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_message_of_nonsense),
        cmocka_unit_test(test_login),
        cmocka_unit_test(test_passwords_are_prepared),
        cmocka_unit_test(test_keytabs_that_do_not_work),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
