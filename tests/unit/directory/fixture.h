/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of the directory share: a directory of the test's own, a configuration in it, users and recipients. */
#ifndef POSTERN_TESTS_DIRECTORY_FIXTURE_H
#define POSTERN_TESTS_DIRECTORY_FIXTURE_H

#include "base/buf.h"
#include "base/mem.h"
#include "directory/directory.h"
#include "directory/store.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    char path[64]; /* of the directory */
    const struct config *config;
};

/* `text`: lines under `directory:`, each with two spaces in front and a line end. */
static inline const struct config *fixture_load(struct fixture *fixture, const char *text)
{
    static struct cidr_address own;
    static const struct config_machine machine = {"mail.contoso.test", &own, 0};
    const struct config *config;
    struct config_errors errors;
    char *yaml = mem_printf("data-dir: %s\n"
                            "domains:\n"
                            "  contoso.test: { type: local, default: true }\n"
                            "  fabrikam.test: { type: local }\n"
                            "directory:\n"
                            "  workers: 4\n"
                            "%s"
                            "servers: { one: { listen: ['127.0.0.1:2525'] } }\n",
                            fixture->path, text);

    config_errors_init(&errors);
    config_load_text(vfs_system(), "t.yaml", str_from_cstr(yaml), &machine, &config, &errors);
    if (!config)
        fail_msg("%s", errors.messages[0].text);
    config_errors_release(&errors);
    free(yaml);
    return config;
}

static inline void fixture_begin(struct fixture *fixture, const char *text)
{
    snprintf(fixture->path, sizeof(fixture->path), "/tmp/postern-directory-XXXXXX");
    assert_non_null(mkdtemp(fixture->path));
    fixture->config = fixture_load(fixture, text);
}

static inline void fixture_end(struct fixture *fixture)
{
    DIR *directory = opendir(fixture->path);
    char path[512];

    assert_non_null(directory);
    for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
        snprintf(path, sizeof(path), "%s/%s", fixture->path, entry->d_name);
        unlink(path);
    }
    closedir(directory);
    assert_int_equal(rmdir(fixture->path), 0);
    config_release(&fixture->config);
}

static inline struct directory *fixture_directory(struct fixture *fixture)
{
    struct error error = {0};
    struct directory *directory = directory_create(fixture->config, &error);

    if (!directory)
        fail_msg("%s", error.text);
    return directory;
}

static inline struct store *fixture_store(struct fixture *fixture)
{
    struct store *store = NULL;
    struct error error = {0};

    if (store_open(&store, fixture->config->directory.path.data, STR("contoso.test"), true, &error) != 0)
        fail_msg("%s", error.text);
    return store;
}

static inline void fixture_add_user(struct store *store, const char *name, const char *password)
{
    char hash[PASSWORD_HASH_BYTES];
    struct directory_scram_keys keys;
    struct store_secrets secrets = {password ? hash : NULL, password ? &keys : NULL};
    struct error error = {0};

    if (password) {
        assert_int_equal(password_hash(str_from_cstr(password), hash, &error), 0);
        assert_int_equal(password_scram_keys(str_from_cstr(password), &keys, &error), 0);
    }
    if (store_add_user(store, str_from_cstr(name), &secrets, NULL, 0, &error) != STORE_DONE)
        fail_msg("%s", error.text);
}

/* `targets` separated by commas; NULL: a mailbox. */
static inline enum store_result fixture_try_recipient(struct store *store, const char *address, const char *targets,
                                                      const char *owner, struct error *error)
{
    struct store_recipient recipient = {.address = str_from_cstr(address), .owner = str_from_cstr(owner)};
    struct str rest = str_from_cstr(targets);
    struct str items[16];

    recipient.targets.items = items;
    while (rest.data)
        items[recipient.targets.count++] = str_split(&rest, ',');
    return store_add_recipient(store, &recipient, false, error);
}

static inline void fixture_add_recipient(struct store *store, const char *address, const char *targets,
                                         const char *owner)
{
    struct error error = {0};

    if (fixture_try_recipient(store, address, targets, owner, &error) != STORE_DONE)
        fail_msg("%s", error.text);
}

/* What is said is kept until the next call, and cut at some length. */
static inline const char *fixture_say(struct buf *said)
{
    static char text[4096];

    snprintf(text, sizeof(text), "%.*s", STR_ARG(buf_str(said)));
    buf_release(said);
    return text;
}

/* "YES a b", the targets; "NO"; "UNAVAILABLE". */
static inline const char *fixture_ask(struct directory *directory, const char *address)
{
    struct directory_recipient *recipient;
    enum directory_status status = directory_find_recipient(directory, str_from_cstr(address), &recipient);
    struct buf said;

    if (status != DIRECTORY_YES)
        return status == DIRECTORY_NO ? "NO" : "UNAVAILABLE";
    buf_init(&said, 4000);
    buf_append_str(&said, STR("YES"));
    for (size_t i = 0; i < recipient->target_count; i++)
        buf_printf(&said, " %.*s", STR_ARG(recipient->targets[i]));
    if (recipient->owner.length > 0)
        buf_printf(&said, " (%.*s)", STR_ARG(recipient->owner));
    directory_recipient_free(&recipient);
    return fixture_say(&said);
}

/* "YES NAME: groups; addresses". */
static inline const char *fixture_ask_user(struct directory *directory, const char *name)
{
    struct directory_user *user;
    enum directory_status status = directory_find_user(directory, str_from_cstr(name), &user);
    struct buf said;

    if (status != DIRECTORY_YES)
        return status == DIRECTORY_NO ? "NO" : "UNAVAILABLE";
    buf_init(&said, 4000);
    buf_printf(&said, "YES %.*s:", STR_ARG(user->name));
    for (size_t i = 0; i < user->group_count; i++)
        buf_printf(&said, " %.*s", STR_ARG(user->groups[i]));
    buf_append_char(&said, ';');
    for (size_t i = 0; i < user->address_count; i++)
        buf_printf(&said, " %.*s", STR_ARG(user->addresses[i]));
    directory_user_free(&user);
    return fixture_say(&said);
}

static inline enum directory_status fixture_check(struct directory *directory, const char *name, const char *password)
{
    return directory_check_password(directory, str_from_cstr(name), str_from_cstr(password));
}

#endif
