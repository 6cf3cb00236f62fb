/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the queue to where mail goes, with everything real but the receiving side. What must hold for whoever sends
 * through us: each recipient gets the message once, byte by byte, or the sender gets a report, or the message lies in
 * badmail with its reason; nothing is left behind in the spool, and nothing is said to be done before it is.
 */
#include "fixture.h"

#include <jansson.h>

#define HEADER "Received: from x\r\nSubject: hello\r\nMessage-ID: <1@example.org>\r\n"
#define BODY   HEADER "\r\nbody text\r\n.leading dot\r\n\x80 8-bit\r\n"

static void begin(const char *delivery_lines)
{
    relay_load_config(delivery_lines);
    next_server_start(&relay.next);
    relay_start();
}

static void check_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" is missing in:\n%s", part, text);
}

static void check_lacks(const char *text, const char *part)
{
    if (strstr(text, part))
        fail_msg("\"%s\" stands in:\n%s", part, text);
}

/* ---- Maildir ---- */

static void test_delivers_to_maildir(void **state)
{
    char *mail;

    (void)state;
    begin("");
    relay_submit("carol@example.org", "Alice@contoso.test bob@contoso.test", 0, 0, BODY);
    relay_wait_empty();
    mail = read_mail("alice@contoso.test");
    assert_string_equal(mail, "Return-Path: <carol@example.org>\r\nDelivered-To: Alice@contoso.test\r\n" BODY);
    free(mail);
    mail = read_mail("bob@contoso.test");
    check_contains(mail, "Delivered-To: bob@contoso.test\r\n" BODY);
    free(mail);
}

/* More than one job's worth, from a spool that is closed and opened in between. */
static void test_delivers_many_once(void **state)
{
    (void)state;
    begin("");
    for (unsigned i = 0; i < 150; i++)
        relay_submit("carol@example.org", "alice@contoso.test", 0, 0, BODY);
    relay_stop();
    relay_start();
    for (unsigned i = 0; i < 150; i++)
        relay_submit("carol@example.org", "alice@contoso.test", 0, 0, BODY);
    relay_wait_empty();
    assert_int_equal(count_files("drop/alice@contoso.test/new"), 300);
    assert_int_equal(count_files("drop/alice@contoso.test/tmp"), 0);
}

/* ---- to the next server ---- */

static void check_taken_once(unsigned count)
{
    assert_int_equal(relay.next.message_count, count);
    for (unsigned i = 0; i < count; i++) {
        assert_string_equal(relay.next.messages[i].body, HEADER "\r\nbody text\r\n..leading dot\r\n\x80 8-bit\r\n");
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(relay.next.messages[i].recipients, relay.next.messages[j].recipients);
    }
}

static void submit_numbered(unsigned count, const char *domain)
{
    char recipient[64];

    for (unsigned i = 0; i < count; i++) {
        snprintf(recipient, sizeof(recipient), "r%u@%s", i, domain);
        relay_submit("carol@example.org", recipient, ENVELOPE_8BITMIME, 0, BODY);
    }
}

static void test_relays_many_once(void **state)
{
    (void)state;
    begin("");
    submit_numbered(200, "next.test");
    relay_wait_empty();
    check_taken_once(200);
    assert_true(relay.next.connection_count < 100);
}

static void test_relays_step_by_step(void **state)
{
    (void)state;
    relay.next.no_pipelining = true;
    begin("");
    submit_numbered(20, "next.test");
    relay_wait_empty();
    check_taken_once(20);
}

/* Servers that take so many messages and no more, politely or not: nothing is deferred for it, nothing comes twice. */
static void test_relays_over_many_connections(void **state)
{
    struct queue_statistics statistics;

    (void)state;
    relay.next.messages_per_connection = 3;
    begin("");
    submit_numbered(50, "next.test");
    relay_wait_empty();
    check_taken_once(50);
    queue_get_statistics(relay.queue, &statistics);
    assert_int_equal(statistics.deferred, 0);
}

static void test_relays_past_dropped_connections(void **state)
{
    (void)state;
    relay.next.drop_after = 3;
    begin("");
    submit_numbered(50, "next.test");
    relay_wait_empty();
    check_taken_once(50);
}

/* A server that breaks the connection at DATA: the message waits for its next attempt, and does not come back at once for ever. */
static void test_defers_when_dropped_at_once(void **state)
{
    struct queue_statistics statistics;

    (void)state;
    relay.next.drop_in_data = true;
    atomic_store(&relay.next.drops_left, 1);
    begin("");
    submit_numbered(1, "next.test");
    relay_wait_empty();
    check_taken_once(1);
    queue_get_statistics(relay.queue, &statistics);
    assert_int_equal(statistics.deferred, 1);
    assert_int_equal(relay.next.connection_count, 2);
}

/* More recipients than a transaction may have (RFC 5321 4.5.3.1.8), some refused, one deferred: all settled, each taken once. */
static void test_relays_to_many_recipients(void **state)
{
    char recipients[16384] = "defer@next.test fail1@next.test";
    size_t length = strlen(recipients);
    unsigned taken = 0;
    char *report;

    (void)state;
    begin("");
    for (unsigned i = 0; i < 248; i++)
        length += (size_t)snprintf(recipients + length, sizeof(recipients) - length, " r%u@next.test", i);
    relay_submit("alice@contoso.test", recipients, 0, 0, BODY);
    relay_wait_empty();
    for (unsigned i = 0; i < relay.next.message_count; i++) {
        assert_true(relay.next.messages[i].recipient_count <= 100);
        taken += relay.next.messages[i].recipient_count;
    }
    assert_int_equal(taken, 249);
    assert_int_equal(relay.next.message_count, 4);
    report = read_mail("alice@contoso.test");
    check_contains(report, "fail1@next.test");
    check_contains(report, "550 5.1.1 no such mailbox");
    check_lacks(report, "r7@next.test");
    free(report);
}

/* Bodies of more than a buffer and more than a frame, from memory and from the disk: byte by byte the same. */
static void test_relays_big_bodies(void **state)
{
    static const size_t sizes[] = {20000, 200000, 2000000};
    char *body = mem_alloc(2000001);

    (void)state;
    for (relay.reads_block = false;; relay.reads_block = true) {
        config_release(&relay.config);
        relay_load_config("");
        if (!relay.reads_block)
            next_server_start(&relay.next);
        relay_start();
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            unsigned before = next_server_count(&relay.next);

            for (size_t j = 0; j < sizes[i]; j++)
                body[j] = j % 80 == 78 ? '\r' : j % 80 == 79 ? '\n' : (char)('a' + j / 80 % 26);
            memcpy(body + sizes[i] - 2, "\r\n", 3);
            relay_submit("carol@example.org", i == 0 ? "a@next.test alice@contoso.test" : "a@next.test", 0, 0, body);
            relay_wait_empty();
            assert_int_equal(next_server_count(&relay.next), before + 1);
            assert_string_equal(relay.next.messages[before].body, body);
        }
        relay_stop();
        if (relay.reads_block)
            break;
    }
    assert_int_equal(count_files("drop/alice@contoso.test/new"), 2);
    relay_start();
    free(body);
}

static bool is_deferred(void)
{
    struct queue_statistics statistics;

    queue_get_statistics(relay.queue, &statistics);
    return statistics.deferred > 0;
}

/* A connector that a reload takes away: its mail is deferred, and finds another route at its next attempt. */
static void test_lost_connector(void **state)
{
    struct queue_statistics statistics;
    char lines[200];

    (void)state;
    snprintf(lines, sizeof(lines), "  other: { address-spaces: [lost.test], smart-hosts: [\"127.0.0.1:%u\"] }\n",
             relay.next.port);
    relay.reloaded = relay_parse_config(lines);
    relay_load_config("  lost: { address-spaces: [lost.test], smart-hosts: [\"127.0.0.1:1\"] }\n");
    next_server_start(&relay.next);
    relay_start();
    relay_submit("alice@contoso.test", "a@lost.test", ENVELOPE_8BITMIME, 0, BODY);
    assert_true(fixture_wait(is_deferred));
    pthread_mutex_lock(&relay.config_lock);
    config_release(&relay.config);
    relay.config = config_retain(relay.reloaded);
    pthread_mutex_unlock(&relay.config_lock);
    relay_wait_empty();
    check_taken_once(1);
    queue_get_statistics(relay.queue, &statistics);
    assert_int_equal(statistics.failed, 0);
}

static void test_looks_up_names(void **state)
{
    (void)state;
    begin("");
    submit_numbered(3, "named.test");
    relay_wait_empty();
    check_taken_once(3);
}

/* Smart hosts in their order: the second when the first does not answer. */
static void test_fails_over(void **state)
{
    (void)state;
    begin("");
    submit_numbered(3, "over.test");
    relay_wait_empty();
    check_taken_once(3);
}

static unsigned wanted_connections, wanted_messages;

static bool is_asked(void)
{
    bool is_so;

    pthread_mutex_lock(&relay.next.lock);
    is_so = relay.next.connection_count >= wanted_connections && relay.next.message_count >= wanted_messages;
    pthread_mutex_unlock(&relay.next.lock);
    return is_so;
}

/* No connection, or a server that wants none: mail waits, nobody is told of a failure. */
static void test_waits_for_unreachable_servers(void **state)
{
    (void)state;
    atomic_store(&relay.next.banner, "554 no service here\r\n");
    begin("");
    relay_submit("alice@contoso.test", "a@dead.test", 0, 0, BODY);
    relay_submit("alice@contoso.test", "a@next.test", 0, 0, BODY);
    wanted_connections = 1;
    wanted_messages = 0;
    assert_true(fixture_wait(is_asked));
    relay_stop();
    assert_int_equal(count_files("drop"), 0);
    /* Another life of the process, and of the server: what waited is delivered. */
    atomic_store(&relay.next.banner, NULL);
    relay_start();
    wanted_messages = 1;
    assert_true(fixture_wait(is_asked));
}

static void test_forwards_unresolved_recipients(void **state)
{
    char lines[128];

    (void)state;
    snprintf(lines, sizeof(lines), "delivery: { unresolved-recipients-host: \"127.0.0.1:%u\" }\n", relay.next.port);
    begin(lines);
    relay_submit("carol@example.org", "unknown@contoso.test", ENVELOPE_8BITMIME, 0, BODY);
    relay_wait_empty();
    check_taken_once(1);
    assert_string_equal(relay.next.messages[0].recipients, "unknown@contoso.test ");
}

/* ---- reports ---- */

/* Who writes to nobody is told, in a report that programs can read (RFC 3464), with the header only. */
static void test_reports_unknown_user(void **state)
{
    char *report;

    (void)state;
    begin("");
    relay_submit("bob@contoso.test", "v%example.net@contoso.test", 0, 0, BODY);
    relay_wait_empty();
    report = read_mail("bob@contoso.test");
    check_contains(report, "Return-Path: <>\r\n");
    check_contains(report, "\r\nTo: ");
    check_contains(report, "multipart/report");
    check_contains(report, "report-type=delivery-status");
    check_contains(report, "\r\nReporting-MTA: dns; mail.contoso.test\r\n");
    check_contains(report, "\r\nFinal-Recipient: rfc822; v%example.net@contoso.test\r\n");
    check_contains(report, "\r\nAction: failed\r\n");
    check_contains(report, "\r\nStatus: 5.1.1\r\n");
    check_contains(report, "User unknown");
    check_contains(report, "\r\nSubject: hello\r\n");
    check_lacks(report, "body text");
    assert_int_equal(count_files("drop"), 1);
    free(report);
}

/* Many bad recipients make one report, even when it is too long for a frame of the spool. */
static void test_one_report_for_many(void **state)
{
    size_t size = 1u << 20, length = 0;
    char *recipients = mem_alloc(size);
    struct delivery_statistics statistics;
    char local[200];
    char *report;

    (void)state;
    begin("");
    memset(local, 'x', sizeof(local));
    for (unsigned i = 0; i < 600; i++)
        length += (size_t)snprintf(recipients + length, size - length, "%s%.*s%u@contoso.test", i ? " " : "",
                                   (int)sizeof(local), local, i);
    relay_submit("bob@contoso.test", recipients, 0, 0, BODY);
    relay_wait_empty();
    report = read_mail("bob@contoso.test");
    assert_true(strlen(report) > SPOOL_INLINE_BODY_BYTES);
    check_contains(report, "x0@contoso.test");
    check_contains(report, "x599@contoso.test");
    delivery_get_statistics(relay.delivery, &statistics);
    assert_int_equal(statistics.reports, 1);
    free(report);
    free(recipients);
}

/* NOTIFY=NEVER: nobody asked, nobody is told, and nothing is kept. FAILURE, or nothing: told. SUCCESS alone: not. */
static void test_heeds_notify(void **state)
{
    (void)state;
    begin("");
    relay_submit("bob@contoso.test", "nobody@contoso.test", 0, ENVELOPE_NOTIFY_NEVER, BODY);
    relay_submit("bob@contoso.test", "nobody@contoso.test", 0, ENVELOPE_NOTIFY_SUCCESS, BODY);
    relay_wait_empty();
    assert_int_equal(count_files("drop"), 0);
    assert_int_equal(count_files("badmail"), 0);
    relay_submit("bob@contoso.test", "nobody@contoso.test", 0, ENVELOPE_NOTIFY_FAILURE, BODY);
    relay_wait_empty();
    assert_int_equal(count_files("drop/bob@contoso.test/new"), 1);
}

static void test_copies_reports(void **state)
{
    char *report;

    (void)state;
    begin("delivery: { ndr: { copy-to: alice@contoso.test } }\n");
    relay_submit("bob@contoso.test", "nobody@contoso.test", 0, 0, BODY);
    relay_wait_empty();
    report = read_mail("alice@contoso.test");
    check_contains(report, "multipart/report");
    free(report);
    report = read_mail("bob@contoso.test");
    free(report);
}

/* A report that can't be delivered makes no report, nor does mail without a sender: badmail keeps both, with the reason. */
static void test_badmail(void **state)
{
    char id_text[MESSAGE_ID_TEXT_BYTES];
    char *path, *text;
    json_t *json;
    spool_id id;

    (void)state;
    begin("");
    id = relay_submit("", "nobody@contoso.test", 0, 0, BODY);
    relay_wait_empty();
    message_id_format(id, id_text);
    path = mem_printf("badmail/%s.eml", id_text);
    text = read_file(path);
    assert_non_null(text);
    assert_string_equal(text, BODY);
    free(text);
    free(path);
    path = mem_printf("badmail/%s.json", id_text);
    text = read_file(path);
    assert_non_null(text);
    json = json_loads(text, 0, NULL);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "id")), id_text);
    assert_non_null(json_string_value(json_object_get(json, "reason")));
    assert_string_equal(
        json_string_value(json_object_get(json_array_get(json_object_get(json, "failures"), 0), "status")), "5.1.1");
    json_decref(json);
    free(text);
    free(path);
    /* The sender does not exist either. */
    relay_submit("nobody@contoso.test", "unknown@contoso.test", 0, 0, BODY);
    relay_wait_empty();
    assert_int_equal(count_files("badmail"), 4);
    assert_int_equal(count_files("drop"), 0);
}

static bool is_rest_waiting(void)
{
    struct delivery_statistics statistics;

    delivery_get_statistics(relay.delivery, &statistics);
    return statistics.reports == 2 && statistics.reports_waiting == 3;
}

/* Under delivery.ndr.rate reports wait; a stop hands them back, and the next start goes on with them. */
static void test_limits_reports(void **state)
{
    (void)state;
    begin("delivery: { ndr: { rate: 2/m } }\n");
    for (unsigned i = 0; i < 5; i++)
        relay_submit("bob@contoso.test", "nobody@contoso.test", 0, 0, BODY);
    assert_true(fixture_wait(is_rest_waiting));
    relay_stop();
    assert_true(count_files("drop/bob@contoso.test/new") <= 2);
    config_release(&relay.config);
    relay_load_config("");
    relay_start();
    relay_wait_empty();
    assert_int_equal(count_files("drop/bob@contoso.test/new"), 5);
}

static bool is_flood_over(void)
{
    struct delivery_statistics statistics;

    delivery_get_statistics(relay.delivery, &statistics);
    return statistics.reports + statistics.reports_waiting + statistics.reports_suppressed == 1010;
}

/* A flood with forged senders: a bounded number waits, the rest lies in badmail, and all of it is counted. */
static void test_suppresses_flood(void **state)
{
    struct delivery_statistics statistics;

    (void)state;
    begin("delivery: { ndr: { rate: 2/m } }\n");
    for (unsigned i = 0; i < 1010; i++)
        relay_submit("bob@contoso.test", "nobody@contoso.test", 0, 0, "\r\n");
    assert_true(fixture_wait(is_flood_over));
    delivery_get_statistics(relay.delivery, &statistics);
    assert_true(statistics.reports_waiting <= 1000);
    assert_true(statistics.reports_suppressed > 0);
    assert_int_equal(statistics.reports_suppressed, statistics.badmail);
    assert_int_equal(count_files("badmail"), 2 * statistics.badmail);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, relay_set_up, relay_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_delivers_to_maildir),
        TEST(test_delivers_many_once),
        TEST(test_relays_many_once),
        TEST(test_relays_step_by_step),
        TEST(test_relays_over_many_connections),
        TEST(test_relays_past_dropped_connections),
        TEST(test_defers_when_dropped_at_once),
        TEST(test_relays_to_many_recipients),
        TEST(test_relays_big_bodies),
        TEST(test_lost_connector),
        TEST(test_looks_up_names),
        TEST(test_fails_over),
        TEST(test_waits_for_unreachable_servers),
        TEST(test_forwards_unresolved_recipients),
        TEST(test_reports_unknown_user),
        TEST(test_one_report_for_many),
        TEST(test_heeds_notify),
        TEST(test_copies_reports),
        TEST(test_badmail),
        TEST(test_limits_reports),
        TEST(test_suppresses_flood),
    };

    log_start(STDERR_FILENO, LOG_FORMAT_TEXT, LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
