/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SCRAM, our client against our server, with and without channel binding, and each against one that cheats. What breaks here lets somebody in the middle in,
 * tells strangers which users exist, or makes a server that knows nothing look like one that does.
 */
#include "base/buf.h"
#include "sasl_fixture.h"

#define NO_INPUT ((struct str){0})

static const struct sasl_channel no_channel;
static const struct sasl_channel tls_1_2 = {.binding_unique = STR_INIT("twelve bytes"),
                                            .binding_exporter = STR_INIT("0123456789abcdef0123456789abcdef")};
static const struct sasl_channel tls_1_3 = {.binding_exporter = STR_INIT("0123456789abcdef0123456789abcdef")};
static const struct sasl_channel other_tls = {.binding_exporter = STR_INIT("fedcba9876543210fedcba9876543210")};

struct run {
    enum sasl_status server_status, client_status;
    unsigned messages; /* the client's */
    bool is_satisfied;
    char reason[32];
};

/* Until one of them has had enough. */
static struct run run(struct sasl_server *server, struct sasl_client *client)
{
    struct run result = {SASL_CONTINUE, SASL_CONTINUE, 0, false, ""};
    struct buf to_server, to_client;

    buf_init(&to_server, SASL_MESSAGE_BYTES_MAX);
    buf_init(&to_client, SASL_MESSAGE_BYTES_MAX);
    result.client_status = sasl_client_step(client, NO_INPUT, &to_server);
    while (result.client_status == SASL_CONTINUE || result.client_status == SASL_DONE) {
        result.messages++;
        result.server_status =
            sasl_server_step(server, to_server.length > 0 ? buf_str(&to_server) : STR(""), &to_client);
        if (result.server_status != SASL_CONTINUE)
            break;
        result.client_status = sasl_client_step(client, buf_str(&to_client), &to_server);
    }
    result.is_satisfied = sasl_client_is_satisfied(client);
    snprintf(result.reason, sizeof(result.reason), "%s", sasl_server_reason(server));
    buf_release(&to_server);
    buf_release(&to_client);
    return result;
}

struct sides {
    enum sasl_mechanism mechanism;
    struct sasl_channel server, client;
    const char *user, *password;
};

static struct run meet(struct fake *fake, const struct sides *sides)
{
    struct sasl_server *server = fake_server(fake, sides->mechanism, sides->server);
    struct sasl_client *client = fake_client(sides->mechanism, sides->user, sides->password, sides->client);
    struct run result = run(server, client);

    if (result.server_status == SASL_DONE)
        assert_true(str_equal_nocase(sasl_server_user(server), STR("alice")));
    sasl_server_destroy(&server);
    sasl_client_destroy(&client);
    return result;
}

static void test_success(void **state)
{
    const struct sides cases[] = {
        {SASL_SCRAM_SHA_256, no_channel, no_channel, "alice", PASSWORD},
        {SASL_SCRAM_SHA_256, no_channel, tls_1_3, "alice", PASSWORD},
        {SASL_SCRAM_SHA_256, tls_1_3, no_channel, "alice", PASSWORD}, /* the client can't bind */
        {SASL_SCRAM_SHA_256_PLUS, tls_1_3, tls_1_3, "alice", PASSWORD},
        {SASL_SCRAM_SHA_256_PLUS, tls_1_2, tls_1_2, "alice", PASSWORD},
        {SASL_SCRAM_SHA_256_PLUS, tls_1_2, tls_1_3, "alice", PASSWORD},
        {SASL_SCRAM_SHA_256, no_channel, no_channel, "Al\xc2\xadice",
         "pen\xc2\xad"
         "cil"},
    };
    struct fake fake;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct run result;

        fake_init(&fake);
        result = meet(&fake, &cases[i]);
        assert_int_equal(result.server_status, SASL_DONE);
        assert_int_equal(result.client_status, SASL_DONE);
        assert_true(result.is_satisfied);
        assert_int_equal(result.messages, 3);
        assert_int_equal(fake.questions, 1);
    }
}

/* An unknown user goes the whole way, like a wrong password. */
static void test_refusals(void **state)
{
    const struct {
        struct sides sides;
        enum sasl_status status;
        unsigned messages;
    } cases[] = {
        {{SASL_SCRAM_SHA_256, no_channel, no_channel, "alice", "wrong"}, SASL_REFUSED, 2},
        {{SASL_SCRAM_SHA_256, no_channel, no_channel, "bob", PASSWORD}, SASL_REFUSED, 2},
        {{SASL_SCRAM_SHA_256, no_channel, no_channel, "later", PASSWORD}, SASL_UNAVAILABLE, 1},
        {{SASL_SCRAM_SHA_256_PLUS, tls_1_3, tls_1_3, "alice", "wrong"}, SASL_REFUSED, 2},
        /* somebody in the middle, with a certificate of his own */
        {{SASL_SCRAM_SHA_256_PLUS, tls_1_3, other_tls, "alice", PASSWORD}, SASL_REFUSED, 2},
        {{SASL_SCRAM_SHA_256_PLUS, tls_1_3, tls_1_2, "alice", PASSWORD}, SASL_REFUSED, 1},
    };
    struct fake fake;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct run result;

        fake_init(&fake);
        result = meet(&fake, &cases[i].sides);
        assert_int_equal(result.server_status, cases[i].status);
        assert_int_equal(result.messages, cases[i].messages);
        assert_false(result.is_satisfied);
        if (cases[i].status == SASL_REFUSED)
            assert_string_equal(result.reason, "credentials");
    }
}

/* The template with the nonce for its $. */
static void fill(char *out, size_t size, const char *template, const char *nonce)
{
    struct str rest = str_from_cstr(template);
    struct str before = str_split(&rest, '$');

    if (rest.data)
        snprintf(out, size, "%.*s%s%.*s", STR_ARG(before), nonce, STR_ARG(rest));
    else
        snprintf(out, size, "%s", template);
}

/* ---- clients that cheat ---- */

static enum sasl_status first_message(enum sasl_mechanism mechanism, struct sasl_channel channel, struct str message,
                                      const char *reason)
{
    struct fake fake;
    struct sasl_server *server;
    struct buf out;
    enum sasl_status status;

    fake_init(&fake);
    buf_init(&out, SASL_MESSAGE_BYTES_MAX);
    server = fake_server(&fake, mechanism, channel);
    status = sasl_server_step(server, message, &out);
    if (reason)
        assert_string_equal(sasl_server_reason(server), reason);
    if (status != SASL_CONTINUE)
        assert_int_equal(out.length, 0);
    sasl_server_destroy(&server);
    buf_release(&out);
    return status;
}

static void test_first_messages(void **state)
{
    static const struct {
        struct str message;
        enum sasl_status status;
    } cases[] = {
        {STR_INIT("n,,n=alice,r=nonce"), SASL_CONTINUE},
        {STR_INIT("n,a=alice,n=alice,r=nonce"), SASL_CONTINUE},
        {STR_INIT("n,a=bob,n=alice,r=nonce"), SASL_CONTINUE}, /* refused at the end */
        {STR_INIT("n,,n=al=2Cice=3D,r=nonce"), SASL_CONTINUE},
        {STR_INIT(""), SASL_MALFORMED},
        {STR_INIT("n,,"), SASL_MALFORMED},
        {STR_INIT("n,,n=alice"), SASL_MALFORMED},
        {STR_INIT("n,,n=alice,r=nonce\0"), SASL_MALFORMED},
        {STR_INIT("n,,n=al\0ice,r=nonce"), SASL_MALFORMED},
        {STR_INIT("n,,m=x,n=alice,r=nonce"), SASL_MALFORMED},
        {STR_INIT("x,,n=alice,r=nonce"), SASL_MALFORMED},
        {STR_INIT("\xff\xfe"), SASL_MALFORMED},
        {STR_INIT("n,,n=ali\xff,r=nonce"), SASL_REFUSED},
        {STR_INIT("n,,n=\xc2\xad,r=nonce"), SASL_REFUSED},
        {STR_INIT("n,,n=later,r=nonce"), SASL_UNAVAILABLE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(first_message(SASL_SCRAM_SHA_256, no_channel, cases[i].message, NULL), cases[i].status);
    /* A client that could bind, and was not offered it: in order, or the work of somebody in the middle who has taken PLUS out of the list. */
    assert_int_equal(first_message(SASL_SCRAM_SHA_256, no_channel, STR("y,,n=alice,r=nonce"), NULL), SASL_CONTINUE);
    assert_int_equal(first_message(SASL_SCRAM_SHA_256, tls_1_3, STR("y,,n=alice,r=nonce"), "credentials"),
                     SASL_REFUSED);
    assert_int_equal(first_message(SASL_SCRAM_SHA_256_PLUS, tls_1_3, STR("n,,n=alice,r=nonce"), "credentials"),
                     SASL_REFUSED);
    assert_int_equal(
        first_message(SASL_SCRAM_SHA_256_PLUS, tls_1_3, STR("p=tls-server-end-point,,n=alice,r=nonce"), "credentials"),
        SASL_REFUSED);
}

/* Computed by a client of the library, whose authorization identity ours never has. */
static struct run meet_authorized(const char *authorization)
{
    struct fake fake;
    struct sasl_server *server;
    struct run result = {SASL_CONTINUE, SASL_CONTINUE, 0, false, ""};
    struct buf out;
    Gsasl *library;
    Gsasl_session *client;
    char *text = NULL;
    size_t length = 0;

    fake_init(&fake);
    buf_init(&out, SASL_MESSAGE_BYTES_MAX);
    server = fake_server(&fake, SASL_SCRAM_SHA_256, no_channel);
    assert_int_equal(gsasl_init(&library), GSASL_OK);
    assert_int_equal(gsasl_client_start(library, "SCRAM-SHA-256", &client), GSASL_OK);
    gsasl_property_set(client, GSASL_AUTHID, "alice");
    gsasl_property_set(client, GSASL_AUTHZID, authorization);
    gsasl_property_set(client, GSASL_PASSWORD, PASSWORD);
    while (result.server_status == SASL_CONTINUE) {
        gsasl_step(client, out.data, out.length, &text, &length);
        result.server_status = sasl_server_step(server, str_make(text ? text : "", length), &out);
        gsasl_free(text);
    }
    snprintf(result.reason, sizeof(result.reason), "%s", sasl_server_reason(server));
    gsasl_finish(client);
    gsasl_done(library);
    sasl_server_destroy(&server);
    buf_release(&out);
    return result;
}

static void test_nobody_acts_for_another(void **state)
{
    struct run result;

    (void)state;
    assert_int_equal(meet_authorized("alice").server_status, SASL_DONE);
    assert_int_equal(meet_authorized("alice@contoso.test").server_status, SASL_DONE);
    result = meet_authorized("bob");
    assert_int_equal(result.server_status, SASL_REFUSED);
    assert_string_equal(result.reason, "not-permitted");
}

/* The last message proves the password; this one was computed for another. */
static void test_proofs_that_are_none(void **state)
{
    static const char *const proofs[] = {
        "c=biws,r=$,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", /* of the right length */
        "c=biws,r=$,p=AAAA",
        "c=biws,r=$X,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "c=eSws,r=$,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "c=biws,r=$",
        "c=biws,r=$,p=",
        "c=biws,r=$,p=***",
        "r=$",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(proofs) / sizeof(proofs[0]); i++) {
        struct fake fake;
        struct sasl_server *server;
        struct buf out;
        struct str rest;
        char nonce[200], message[400];
        enum sasl_status status;

        fake_init(&fake);
        buf_init(&out, SASL_MESSAGE_BYTES_MAX);
        server = fake_server(&fake, SASL_SCRAM_SHA_256, no_channel);
        assert_int_equal(sasl_server_step(server, STR("n,,n=alice,r=nonce"), &out), SASL_CONTINUE);
        rest = buf_str(&out);
        snprintf(nonce, sizeof(nonce), "%.*s", STR_ARG(str_skip(str_split(&rest, ','), 2)));
        fill(message, sizeof(message), proofs[i], nonce);
        status = sasl_server_step(server, str_from_cstr(message), &out);
        assert_true(status == SASL_REFUSED || status == SASL_MALFORMED);
        assert_int_equal(out.length, 0);
        sasl_server_destroy(&server);
        buf_release(&out);
    }
}

/* ---- servers that cheat ---- */

/* Plays the server's messages; in them $ is the client's nonce. Gives the client's status after the last. */
static enum sasl_status cheat(const char *const *messages, size_t count, bool *is_satisfied)
{
    struct sasl_client *client = fake_client(SASL_SCRAM_SHA_256, "alice", PASSWORD, no_channel);
    enum sasl_status status;
    struct buf out;
    char nonce[200], message[600];
    struct str found;

    buf_init(&out, SASL_MESSAGE_BYTES_MAX);
    assert_int_equal(sasl_client_step(client, NO_INPUT, &out), SASL_CONTINUE);
    found = str_skip(buf_str(&out), str_find_last(buf_str(&out), ',') + 3);
    snprintf(nonce, sizeof(nonce), "%.*s", STR_ARG(found));
    status = SASL_CONTINUE;
    for (size_t i = 0; i < count && status == SASL_CONTINUE; i++) {
        fill(message, sizeof(message), messages[i], nonce);
        status = sasl_client_step(client, str_from_cstr(message), &out);
    }
    *is_satisfied = sasl_client_is_satisfied(client);
    sasl_client_destroy(&client);
    buf_release(&out);
    return status;
}

static void test_servers_that_cheat(void **state)
{
    static const struct {
        const char *messages[2];
        enum sasl_status status;
    } cases[] = {
        /* proves nothing, and would be believed */
        {{"r=$X,s=MDEyMw==,i=4096", "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}, SASL_REFUSED},
        {{"r=$X,s=MDEyMw==,i=4096", "v="}, SASL_MALFORMED},
        {{"r=$X,s=MDEyMw==,i=4096", ""}, SASL_MALFORMED},
        {{"r=$X,s=MDEyMw==,i=4096", "e=other-error"}, SASL_REFUSED},
        {{"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", ""}, SASL_MALFORMED},
        {{"r=another,s=MDEyMw==,i=4096", ""}, SASL_REFUSED},
        /* wants a weaker proof, or all our time */
        {{"r=$X,s=MDEyMw==,i=4095", ""}, SASL_REFUSED},
        {{"r=$X,s=MDEyMw==,i=1", ""}, SASL_REFUSED},
        {{"r=$X,s=MDEyMw==,i=1000001", ""}, SASL_REFUSED},
        {{"r=$X,s=MDEyMw==,i=4294967295", ""}, SASL_REFUSED},
        {{"r=$X,s=MDEyMw==,i=99999999999999999999", ""}, SASL_MALFORMED},
        {{"r=$X,s=MDEyMw==", ""}, SASL_MALFORMED},
        {{"nonsense", ""}, SASL_MALFORMED},
        {{"", ""}, SASL_MALFORMED},
    };
    static const char *const first[] = {"r=$X,s=MDEyMw==,i=4096"};
    bool is_satisfied;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(cheat(cases[i].messages, 2, &is_satisfied), cases[i].status);
        assert_false(is_satisfied);
    }
    /* 235 before the proof. */
    assert_int_equal(cheat(first, 1, &is_satisfied), SASL_CONTINUE);
    assert_false(is_satisfied);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_success),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_first_messages),
        cmocka_unit_test(test_nobody_acts_for_another),
        cmocka_unit_test(test_proofs_that_are_none),
        cmocka_unit_test(test_servers_that_cheat),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
