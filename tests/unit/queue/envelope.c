/* SPDX-License-Identifier: Apache-2.0 */
/* What envelopes lose or invent, a recipient would see: mail to the wrong place, or a message that no restart can read again. */
#include "queue/envelope.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct envelope_recipient two_recipients[] = {
    {STR_INIT("Bob@Example.NET"), STR_INIT("example.net"), STR_INIT("rfc822;bob+40x"),
     ENVELOPE_NOTIFY_SUCCESS | ENVELOPE_NOTIFY_DELAY},
    {STR_INIT("carol@sub.example.org"), STR_INIT("sub.example.org"), STR_INIT(""), 0},
};

static struct envelope full_envelope(void)
{
    return (struct envelope){
        .arrived_at_ms = 1790000000123,
        .flags = ENVELOPE_8BITMIME | ENVELOPE_RET_HEADERS,
        .sender = STR("alice@contoso.test"),
        .sender_domain = STR("contoso.test"),
        .envid = STR("QQ314159"),
        .client = STR("2001:db8::1"),
        .helo = STR("client.contoso.test"),
        .user = STR("alice"),
        .server = STR("internet"),
        .rule = STR("servers.internet.relay.only[0]"),
        .rule_at = STR("postern.yaml:31"),
        .message_id = STR("<1@contoso.test>"),
        .recipients = two_recipients,
        .recipient_count = 2,
    };
}

static struct buf encode(const struct envelope *envelope)
{
    struct buf out;

    buf_init(&out, 1 << 20);
    assert_true(envelope_encode(envelope, &out));
    return out;
}

static void assert_str(struct str a, struct str b)
{
    assert_int_equal(a.length, b.length);
    assert_memory_equal(a.data ? a.data : "", b.data ? b.data : "", a.length);
}

static void assert_envelopes_equal(const struct envelope *a, const struct envelope *b)
{
    assert_int_equal(a->arrived_at_ms, b->arrived_at_ms);
    assert_int_equal(a->flags, b->flags);
    assert_str(a->sender, b->sender);
    assert_str(a->sender_domain, b->sender_domain);
    assert_str(a->envid, b->envid);
    assert_str(a->client, b->client);
    assert_str(a->helo, b->helo);
    assert_str(a->user, b->user);
    assert_str(a->server, b->server);
    assert_str(a->rule, b->rule);
    assert_str(a->rule_at, b->rule_at);
    assert_str(a->message_id, b->message_id);
    assert_int_equal(a->recipient_count, b->recipient_count);
    for (size_t i = 0; i < a->recipient_count; i++) {
        assert_str(a->recipients[i].address, b->recipients[i].address);
        assert_str(a->recipients[i].domain, b->recipients[i].domain);
        assert_str(a->recipients[i].orcpt, b->recipients[i].orcpt);
        assert_int_equal(a->recipients[i].notify, b->recipients[i].notify);
    }
}

static void test_everything_comes_back(void **state)
{
    struct envelope envelope = full_envelope(), decoded;
    struct buf data = encode(&envelope);
    struct arena arena;
    int64_t arrived_at_ms;
    size_t count;

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_true(envelope_decode(buf_str(&data), &arena, &decoded));
    assert_envelopes_equal(&envelope, &decoded);
    assert_true(envelope_peek(buf_str(&data), &arrived_at_ms, &count));
    assert_int_equal(arrived_at_ms, envelope.arrived_at_ms);
    assert_int_equal(count, 2);
    arena_release(&arena);
    buf_release(&data);
}

/* A report has no sender and no client: empty texts are no error. */
static void test_empty_texts(void **state)
{
    struct envelope_recipient recipient = {.address = STR("a@b"), .domain = STR("b")};
    struct envelope envelope = {.flags = ENVELOPE_REPORT, .recipients = &recipient, .recipient_count = 1}, decoded;
    struct buf data = encode(&envelope);
    struct arena arena;

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_true(envelope_decode(buf_str(&data), &arena, &decoded));
    assert_envelopes_equal(&envelope, &decoded);
    arena_release(&arena);
    buf_release(&data);
}

/* An envelope that is cut anywhere, or has bytes too many, is not half an envelope. The exact allocation lets ASan see a read beyond. */
static void test_every_cut_is_refused(void **state)
{
    struct envelope envelope = full_envelope(), decoded;
    struct buf data = encode(&envelope);

    (void)state;
    for (size_t length = 0; length < data.length; length++) {
        char *copy = mem_copy_str(str_take(buf_str(&data), length));
        struct arena arena;

        arena_init(&arena, 1 << 20);
        copy = mem_resize(copy, length ? length : 1);
        assert_false(envelope_decode(str_make(copy, length), &arena, &decoded));
        arena_release(&arena);
        free(copy);
    }
    buf_append_char(&data, 'x');
    struct arena arena;

    arena_init(&arena, 1 << 20);
    assert_false(envelope_decode(buf_str(&data), &arena, &decoded));
    arena_release(&arena);
    data.data[0] = 2; /* a later version's */
    data.length--;
    assert_false(envelope_decode(buf_str(&data), &arena, &decoded));
    arena_release(&arena);
    buf_release(&data);
}

/* A damaged count must not make the queue ask for gigabytes. */
static void test_counts_are_bounded(void **state)
{
    static const char huge[] = {1, 0, (char)0xff, (char)0xff, (char)0xff, (char)0xff, 0x7f, 0};
    static const char more_than_bytes[] = {1, 0, 3, 0, 0, 0, 0, 0};
    int64_t arrived_at_ms;
    size_t count;

    (void)state;
    assert_false(envelope_peek(str_make(huge, sizeof(huge)), &arrived_at_ms, &count));
    assert_false(envelope_peek(str_make(more_than_bytes, sizeof(more_than_bytes)), &arrived_at_ms, &count));
}

static void test_encode_respects_the_maximum(void **state)
{
    struct envelope envelope = full_envelope();
    struct buf out;

    (void)state;
    buf_init(&out, 40);
    assert_false(envelope_encode(&envelope, &out));
    buf_release(&out);
}

/* The most recipients there may be go through. */
static void test_most_recipients(void **state)
{
    struct envelope envelope = full_envelope(), decoded;
    struct buf data;
    struct arena arena;

    (void)state;
    envelope.recipient_count = ENVELOPE_RECIPIENTS_MAX;
    envelope.recipients = mem_alloc_array(ENVELOPE_RECIPIENTS_MAX, sizeof(struct envelope_recipient));
    for (size_t i = 0; i < ENVELOPE_RECIPIENTS_MAX; i++)
        envelope.recipients[i] = two_recipients[i % 2];
    buf_init(&data, 16 << 20);
    assert_true(envelope_encode(&envelope, &data));
    arena_init(&arena, 16 << 20);
    assert_true(envelope_decode(buf_str(&data), &arena, &decoded));
    assert_envelopes_equal(&envelope, &decoded);
    arena_release(&arena);
    buf_release(&data);
    free(envelope.recipients);
}

/* Ids are what people copy from a log into a command. */
static void test_ids(void **state)
{
    static const struct {
        uint64_t id;
        const char *text;
    } cases[] = {{1, "1"}, {0x1a, "1A"}, {0x10, "10"}, {0xdeadbeef00, "DEADBEEF00"}, {UINT64_MAX, "FFFFFFFFFFFFFFFF"}};
    static const char *const bad[] = {"", "0", "00", "G", "1 ", " 1", "-1", "0x1", "10000000000000000"};
    char text[MESSAGE_ID_TEXT_BYTES];
    uint64_t id;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_str(message_id_format(cases[i].id, text), str_from_cstr(cases[i].text));
        assert_true(message_id_parse(str_from_cstr(cases[i].text), &id));
        assert_true(id == cases[i].id);
    }
    assert_true(message_id_parse(STR("deadBEEF"), &id));
    assert_true(id == 0xdeadbeef);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(message_id_parse(str_from_cstr(bad[i]), &id));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_comes_back),
        cmocka_unit_test(test_empty_texts),
        cmocka_unit_test(test_every_cut_is_refused),
        cmocka_unit_test(test_counts_are_bounded),
        cmocka_unit_test(test_encode_respects_the_maximum),
        cmocka_unit_test(test_most_recipients),
        cmocka_unit_test(test_ids),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
