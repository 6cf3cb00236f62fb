/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages into Maildirs. Once it is said that one was delivered, the spool forgets it: so it must be there, whole,
 * after any crash, and only once. The file system here is the real one, in a directory of the test's own, behind a
 * table that counts, and fails on request.
 */
#include "delivery/maildir.h"

#include "base/mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define HOST "mail.contoso.test"

/* ---- a file system that fails ---- */

enum operation { OPEN, WRITE, SYNC_DATA, RENAME, SYNC_DIRECTORY, MAKE_DIRECTORY, LIST, OPERATIONS };

static struct {
    struct vfs vfs; /* the system's, but for what is replaced */
    unsigned calls[OPERATIONS];
    int errors[OPERATIONS];
    unsigned fail_at[OPERATIONS]; /* the call that fails, from 1; 0: all of them, if there is an error */
    const char *fail_path;        /* only calls on paths with this in them, or NULL */
} fake;

static int fails(enum operation operation, const char *path)
{
    fake.calls[operation]++;
    if (fake.fail_path && path && !strstr(path, fake.fail_path))
        return 0;
    return fake.fail_at[operation] == 0 || fake.fail_at[operation] == fake.calls[operation] ? fake.errors[operation]
                                                                                            : 0;
}

/* Files of the system carry its table; ours must stand there for the calls on files. */
static int fake_open(const struct vfs *vfs, const char *path, int flags, struct vfs_file **file)
{
    int result = fails(OPEN, path);

    (void)vfs;
    if (result == 0)
        result = vfs_system()->open(vfs_system(), path, flags, file);
    if (result == 0)
        (*file)->vfs = &fake.vfs;
    return result;
}

static int fake_write_at(struct vfs_file *file, const struct iovec *parts, int part_count, uint64_t offset)
{
    int result = fails(WRITE, NULL);

    return result ? result : vfs_system()->write_at(file, parts, part_count, offset);
}

static int fake_sync_data(struct vfs_file *file)
{
    int result = fails(SYNC_DATA, NULL);

    return result ? result : vfs_system()->sync_data(file);
}

static int fake_rename(const struct vfs *vfs, const char *from, const char *to)
{
    int result = fails(RENAME, to);

    (void)vfs;
    return result ? result : vfs_system()->rename(vfs_system(), from, to);
}

static int fake_sync_directory(const struct vfs *vfs, const char *path)
{
    int result = fails(SYNC_DIRECTORY, path);

    (void)vfs;
    return result ? result : vfs_system()->sync_directory(vfs_system(), path);
}

static int fake_make_directory(const struct vfs *vfs, const char *path)
{
    int result = fails(MAKE_DIRECTORY, path);

    (void)vfs;
    return result ? result : vfs_system()->make_directory(vfs_system(), path);
}

static int fake_list(const struct vfs *vfs, const char *path, vfs_list_fn *fn, void *context)
{
    int result = fails(LIST, path);

    (void)vfs;
    return result ? result : vfs_system()->list(vfs_system(), path, fn, context);
}

/* ---- fixture ---- */

static char root[64];
static struct maildir_set *set;

static int set_up(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof(fake));
    fake.vfs = *vfs_system();
    fake.vfs.open = fake_open;
    fake.vfs.write_at = fake_write_at;
    fake.vfs.sync_data = fake_sync_data;
    fake.vfs.rename = fake_rename;
    fake.vfs.sync_directory = fake_sync_directory;
    fake.vfs.make_directory = fake_make_directory;
    fake.vfs.list = fake_list;
    snprintf(root, sizeof(root), "/tmp/postern-maildir-XXXXXX");
    assert_non_null(mkdtemp(root));
    set = maildir_set_create(&fake.vfs, root);
    return 0;
}

static int tear_down(void **state)
{
    char *command = mem_printf("rm -rf '%s'", root);

    (void)state;
    maildir_set_destroy(&set);
    assert_int_equal(system(command), 0);
    free(command);
    return 0;
}

struct source {
    const char *text;
    size_t length;
    size_t chunk; /* 0: all that is asked for */
    int error;    /* instead of the end */
};

static ssize_t read_body(void *context, void *data, size_t length, uint64_t offset)
{
    const struct source *source = context;
    size_t left = source->length - offset;

    if (left == 0)
        return source->error;
    if (length > left)
        length = left;
    if (source->chunk && length > source->chunk)
        length = source->chunk;
    memcpy(data, source->text + offset, length);
    return (ssize_t)length;
}

static void fill(struct maildir_message *message, const char *mailbox, unsigned id, struct source *source)
{
    memset(message, 0, sizeof(*message));
    snprintf(message->mailbox, sizeof(message->mailbox), "%s", mailbox);
    maildir_name(1763712000123, id, 0, STR(HOST), message->name);
    message->sender = STR("s@example.org");
    message->recipient = STR("Alice@contoso.test");
    message->body_context = source;
    message->read_body = read_body;
    message->error = 1;
}

static struct source text_source(const char *text)
{
    return (struct source){.text = text, .length = strlen(text)};
}

#define TRACE "Return-Path: <s@example.org>\r\nDelivered-To: Alice@contoso.test\r\n"
#define BODY  "Subject: x\r\n\r\n\x80 8-bit\r\n.\r\nno newline at the end"

/* The file's content, or NULL; freed by the caller. */
static char *read_delivered(const char *mailbox, const char *folder, const char *name)
{
    char *path = mem_printf("%s/%s/%s/%s", root, mailbox, folder, name);
    char *data = NULL;
    size_t length;

    if (vfs_read_file(vfs_system(), path, 64u << 20, &data, &length) != 0)
        data = NULL;
    free(path);
    return data;
}

static void check_delivered(const char *mailbox, const char *name, const char *content)
{
    char *data = read_delivered(mailbox, "new", name);

    assert_non_null(data);
    assert_string_equal(data, content);
    free(data);
}

static int count_name(void *context, const char *name)
{
    (void)name;
    ++*(unsigned *)context;
    return 0;
}

static unsigned count_files(const char *mailbox, const char *folder)
{
    char *path = mem_printf("%s/%s/%s", root, mailbox, folder);
    unsigned count = 0;

    vfs_system()->list(vfs_system(), path, count_name, &count);
    free(path);
    return count;
}

static void rename_delivered(const char *mailbox, const char *from, const char *to)
{
    char *old = mem_printf("%s/%s/%s", root, mailbox, from);
    char *new = mem_printf("%s/%s/%s", root, mailbox, to);

    assert_int_equal(rename(old, new), 0);
    free(old);
    free(new);
}

/* ---- tests ---- */

static void test_name(void **state)
{
    char name[MAILDIR_NAME_BYTES];
    char host[400];

    (void)state;
    maildir_name(1763712000123, 0x1a2b, 3, STR(HOST), name);
    assert_string_equal(name, "1763712000.M123000I1A2BR3." HOST);
    maildir_name(0, UINT64_MAX, 65534, STR("a/b:c d\x01"), name);
    assert_string_equal(name, "0.M000000IFFFFFFFFFFFFFFFFR65534.abcd");
    memset(host, 'h', sizeof(host));
    maildir_name(1, 1, 1, str_make(host, sizeof(host)), name);
    assert_int_equal(strlen(name), MAILDIR_NAME_BYTES - 1);
}

/* The bytes that came in, behind two lines of trace; and a Maildir that any reader understands. */
static void test_delivers(void **state)
{
    struct source source = text_source(BODY);
    struct maildir_message message;

    (void)state;
    for (source.chunk = 0; source.chunk < 3; source.chunk++) {
        fill(&message, "alice@contoso.test", 7 + (unsigned)source.chunk, &source);
        maildir_deliver(set, &message, 1);
        assert_int_equal(message.error, 0);
        check_delivered("alice@contoso.test", message.name, TRACE BODY);
    }
    assert_int_equal(count_files("alice@contoso.test", "tmp"), 0);
    assert_int_equal(count_files("alice@contoso.test", "cur"), 0);
    assert_int_equal(count_files("alice@contoso.test", "new"), 3);
}

static void test_null_sender_and_empty_body(void **state)
{
    struct source source = text_source("");
    struct maildir_message message;

    (void)state;
    fill(&message, "a@b.test", 1, &source);
    message.sender = STR("");
    maildir_deliver(set, &message, 1);
    assert_int_equal(message.error, 0);
    check_delivered("a@b.test", message.name, "Return-Path: <>\r\nDelivered-To: Alice@contoso.test\r\n");
}

static void test_big_body(void **state)
{
    size_t length = 3u << 20;
    char *text = mem_alloc(length + 1);
    struct source source = {.text = text, .length = length};
    struct maildir_message message;
    char *data;

    (void)state;
    for (size_t i = 0; i < length; i++)
        text[i] = (char)('a' + i % 23);
    fill(&message, "a@b.test", 1, &source);
    maildir_deliver(set, &message, 1);
    assert_int_equal(message.error, 0);
    data = read_delivered("a@b.test", "new", message.name);
    assert_non_null(data);
    assert_memory_equal(data + sizeof(TRACE) - 1, text, length + 1);
    free(data);
    free(text);
}

/* Messages of a batch share the syncs of their directory; each file has its own. */
static void test_batch_shares_directory_syncs(void **state)
{
    struct source source = text_source(BODY);
    struct maildir_message messages[8];

    (void)state;
    for (unsigned i = 0; i < 8; i++)
        fill(&messages[i], i % 2 ? "a@b.test" : "c@d.test", i + 1, &source);
    maildir_deliver(set, messages, 2);
    memset(fake.calls, 0, sizeof(fake.calls));
    maildir_deliver(set, messages + 2, 6);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(messages[i].error, 0);
    assert_int_equal(fake.calls[SYNC_DATA], 6);
    assert_int_equal(fake.calls[SYNC_DIRECTORY], 2);
    assert_int_equal(fake.calls[MAKE_DIRECTORY], 0);
    assert_int_equal(fake.calls[LIST], 0);
    assert_int_equal(count_files("a@b.test", "new"), 4);
    assert_int_equal(count_files("c@d.test", "new"), 4);
}

/* The directories of a new Maildir are synced too: else a power cut takes the message with them. */
static void test_syncs_new_directories(void **state)
{
    struct source source = text_source(BODY);
    struct maildir_message message;

    (void)state;
    fill(&message, "a@b.test", 1, &source);
    maildir_deliver(set, &message, 1);
    assert_int_equal(fake.calls[SYNC_DIRECTORY], 3); /* drop/, the Maildir, its new/ */
    /* Another process made them and may have died before it synced them. */
    maildir_set_destroy(&set);
    set = maildir_set_create(&fake.vfs, root);
    memset(fake.calls, 0, sizeof(fake.calls));
    maildir_deliver(set, &message, 1);
    assert_int_equal(message.error, 0);
    assert_int_equal(fake.calls[SYNC_DIRECTORY], 3);
}

/* A crash after the rename, before the result was stored: the message is delivered again, under the same name. */
static void test_delivers_again_once(void **state)
{
    struct source source = text_source(BODY);
    struct maildir_message messages[2];

    (void)state;
    fill(&messages[0], "a@b.test", 1, &source);
    fill(&messages[1], "a@b.test", 2, &source);
    maildir_deliver(set, messages, 1);
    messages[0].may_exist = messages[1].may_exist = true;
    maildir_deliver(set, messages, 1);
    assert_int_equal(messages[0].error, 0);
    assert_int_equal(count_files("a@b.test", "new"), 1);
    /* A reader has moved it, with flags. */
    {
        char *from = mem_printf("new/%s", messages[0].name);
        char *to = mem_printf("cur/%s:2,S", messages[0].name);

        rename_delivered("a@b.test", from, to);
        free(from);
        free(to);
    }
    maildir_deliver(set, messages, 2);
    assert_int_equal(messages[0].error, 0);
    assert_int_equal(messages[1].error, 0);
    assert_int_equal(count_files("a@b.test", "new"), 1);
    assert_int_equal(count_files("a@b.test", "cur"), 1);
}

/* What a crash left in tmp/ is no obstacle and no part of the message. */
static void test_replaces_torn_file(void **state)
{
    struct source source = text_source(BODY);
    struct maildir_message message;
    char *path;

    (void)state;
    fill(&message, "a@b.test", 1, &source);
    fake.errors[RENAME] = -EIO;
    maildir_deliver(set, &message, 1);
    assert_int_equal(message.error, -EIO);
    fake.errors[RENAME] = 0;
    path = mem_printf("%s/a@b.test/tmp/%s", root, message.name);
    assert_int_equal(vfs_write_file(vfs_system(), path, TRACE BODY BODY BODY, sizeof(TRACE BODY BODY BODY)), 0);
    free(path);
    maildir_deliver(set, &message, 1);
    assert_int_equal(message.error, 0);
    check_delivered("a@b.test", message.name, TRACE BODY);
    assert_int_equal(count_files("a@b.test", "tmp"), 0);
}

/* Whatever fails, the message is not said to be there, nothing of it stays, and the next attempt succeeds. */
static void test_failures(void **state)
{
    static const struct {
        enum operation operation;
        const char *path;
        int error;
    } rows[] = {
        {OPEN, NULL, -EMFILE},        {WRITE, NULL, -ENOSPC},         {SYNC_DATA, NULL, -EIO},
        {RENAME, NULL, -EDQUOT},      {SYNC_DIRECTORY, "/new", -EIO}, {MAKE_DIRECTORY, "/cur", -ENOSPC},
        {SYNC_DIRECTORY, NULL, -EIO},
    };
    struct source source = text_source(BODY);
    struct maildir_message message;
    char mailbox[32];

    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(mailbox, sizeof(mailbox), "m%u@b.test", i);
        fill(&message, mailbox, i + 1, &source);
        fake.errors[rows[i].operation] = rows[i].error;
        fake.fail_path = rows[i].path;
        maildir_deliver(set, &message, 1);
        assert_int_equal(message.error, rows[i].error);
        assert_int_equal(count_files(mailbox, "new"), 0);
        assert_int_equal(count_files(mailbox, "tmp"), 0);
        fake.errors[rows[i].operation] = 0;
        maildir_deliver(set, &message, 1);
        assert_int_equal(message.error, 0);
        check_delivered(mailbox, message.name, TRACE BODY);
    }
}

/* A damaged or unreadable message is not delivered in part. */
static void test_unreadable_body(void **state)
{
    struct source source = text_source(BODY);
    struct maildir_message message;

    (void)state;
    source.error = -EILSEQ;
    fill(&message, "a@b.test", 1, &source);
    maildir_deliver(set, &message, 1);
    assert_int_equal(message.error, -EILSEQ);
    assert_int_equal(count_files("a@b.test", "new"), 0);
    assert_int_equal(count_files("a@b.test", "tmp"), 0);
}

/* One that fails doesn't take the others of its batch with it. */
static void test_failure_in_batch(void **state)
{
    struct source source = text_source(BODY);
    struct maildir_message messages[3];

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        fill(&messages[i], "a@b.test", i + 1, &source);
    fake.errors[WRITE] = -ENOSPC;
    fake.fail_at[WRITE] = 2;
    maildir_deliver(set, messages, 3);
    assert_int_equal(messages[0].error, 0);
    assert_int_equal(messages[1].error, -ENOSPC);
    assert_int_equal(messages[2].error, 0);
    assert_int_equal(count_files("a@b.test", "new"), 2);
    assert_int_equal(count_files("a@b.test", "tmp"), 0);
}

/* Administrators remove Maildirs while the relay runs. */
static void test_makes_removed_maildir_again(void **state)
{
    struct source source = text_source(BODY);
    struct maildir_message message;
    char *command = mem_printf("rm -rf '%s/a@b.test'", root);

    (void)state;
    fill(&message, "a@b.test", 1, &source);
    maildir_deliver(set, &message, 1);
    assert_int_equal(system(command), 0);
    free(command);
    maildir_deliver(set, &message, 1);
    assert_int_equal(message.error, 0);
    check_delivered("a@b.test", message.name, TRACE BODY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_name),
        cmocka_unit_test_setup_teardown(test_delivers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_null_sender_and_empty_body, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_big_body, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_batch_shares_directory_syncs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_syncs_new_directories, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_delivers_again_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_replaces_torn_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failures, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unreadable_body, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failure_in_batch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_makes_removed_maildir_again, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
