/* SPDX-License-Identifier: Apache-2.0 */
/* postern user: the users of the embedded directory, with or without a running daemon. */
#include "base/mem.h"
#include "cmd/edit.h"
#include "cmd/read_password.h"
#include "smtp/sasl.h"

#include <stdlib.h>

/* ---- passwords ---- */

struct new_secrets {
    char hash[PASSWORD_HASH_BYTES];
    struct directory_scram_keys scram;
    struct store_secrets secrets; /* of these, or of none */
};

static enum exit_code hash_password(struct str password, struct new_secrets *made)
{
    struct error error;

    if (password_hash(password, made->hash, &error) != 0 || password_scram_keys(password, &made->scram, &error) != 0) {
        fprintf(stderr, "postern: %s\n", error.text);
        return EXIT_COULD_NOT;
    }
    made->secrets = (struct store_secrets){made->hash, &made->scram};
    return EXIT_DONE;
}

/* Hashed as it will be compared: other ways to type the same are the same. */
static enum exit_code make_secrets(const char *user, struct new_secrets *made)
{
    char password[PASSWORD_BYTES_MAX + 1];
    int length = read_new_password(user, password);
    enum exit_code code = EXIT_COULD_NOT;
    struct buf prepared;

    if (length < 0)
        return EXIT_COULD_NOT;
    buf_init(&prepared, SASL_PASSWORD_BYTES_MAX);
    if (sasl_prepare(str_make(password, (size_t)length), SASL_PASSWORD_BYTES_MAX, &prepared))
        code = hash_password(buf_str(&prepared), made);
    else
        fprintf(stderr, "postern: a password is text in UTF-8 without control characters\n");
    sasl_clear(&prepared);
    buf_release(&prepared);
    explicit_bzero(password, sizeof(password));
    return code;
}

enum exit_code tool_user_hash(const struct tool_options *options, char *const *arguments)
{
    char scram[PASSWORD_SCRAM_TEXT_BYTES];
    struct new_secrets made = {0};
    struct error error;
    enum exit_code code;

    if (store_check_name(str_from_cstr(arguments[0]), &error) != 0)
        return tool_usage("%s", error.text);
    code = make_secrets(arguments[0], &made);
    if (code != EXIT_DONE)
        return code;
    password_format_scram(&made.scram, scram);
    if (options->json)
        tool_print_json(json_pack("{s:s, s:s, s:s}", "user", arguments[0], "hash", made.hash, "scram", scram));
    else
        printf("user %s %s\n  scram=%s\n", arguments[0], made.hash, scram);
    return EXIT_DONE;
}

/* ---- changes ---- */

/* What the options say of one attribute, first what goes. */
static size_t take_changes(const struct tool_options *options, enum store_attribute attribute,
                           struct store_change *changes)
{
    size_t count = 0;

    for (size_t i = 0; i < options->removed.count; i++)
        changes[count++] = (struct store_change){attribute, true, options->removed.items[i]};
    for (size_t i = 0; i < options->added.count; i++)
        changes[count++] = (struct store_change){attribute, false, options->added.items[i]};
    return count;
}

static enum store_result add_user(struct edit *edit, struct str name, const struct store_secrets *secrets,
                                  struct error *error)
{
    const struct tool_options *options = edit->options;
    struct store_change changes[TOOL_GROUPS_MAX];

    for (size_t i = 0; i < options->group_count; i++)
        changes[i] = (struct store_change){STORE_GROUP, false, options->groups[i]};
    return store_add_user(edit->store, name, secrets, changes, options->group_count, error);
}

static enum exit_code check_groups(const struct str *groups, size_t count)
{
    struct error error;

    for (size_t i = 0; i < count; i++)
        if (store_check_group(groups[i], &error) != 0)
            return tool_usage("%s", error.text);
    return EXIT_DONE;
}

enum exit_code tool_user_add(const struct tool_options *options, char *const *arguments)
{
    char name[ADDRESS_TEXT_OCTETS_MAX + 1];
    struct new_secrets made = {0};
    struct error error = {0};
    struct edit edit;
    enum exit_code code = edit_begin(&edit, options);

    if (code == EXIT_DONE)
        code = check_groups(options->groups, options->group_count);
    if (code == EXIT_DONE && edit_take_name(&edit, arguments[0], name) != 0)
        code = EXIT_USAGE;
    if (code == EXIT_DONE && !options->no_password)
        code = make_secrets(name, &made);
    if (code == EXIT_DONE)
        code = edit_open(&edit);
    if (code == EXIT_DONE)
        code = edit_report(&edit, add_user(&edit, str_from_cstr(name), &made.secrets, &error), &error, "added",
                           str_from_cstr(name));
    explicit_bzero(&made, sizeof(made));
    edit_end(&edit);
    return code;
}

enum exit_code tool_user_passwd(const struct tool_options *options, char *const *arguments)
{
    char name[ADDRESS_TEXT_OCTETS_MAX + 1];
    struct new_secrets made = {0};
    struct error error = {0};
    struct edit edit;
    enum exit_code code = edit_begin(&edit, options);

    if (code == EXIT_DONE && edit_take_name(&edit, arguments[0], name) != 0)
        code = EXIT_USAGE;
    if (code == EXIT_DONE && !options->no_password)
        code = make_secrets(name, &made);
    if (code == EXIT_DONE)
        code = edit_open(&edit);
    if (code == EXIT_DONE)
        code = edit_report(&edit, store_set_secrets(edit.store, str_from_cstr(name), &made.secrets, &error), &error,
                           options->no_password ? "has no password" : "has a new password", str_from_cstr(name));
    explicit_bzero(&made, sizeof(made));
    edit_end(&edit);
    return code;
}

/* The three that say one thing of a user. */
enum user_verb { USER_DELETE, USER_DISABLE, USER_ENABLE };

static enum store_result run_verb(struct edit *edit, enum user_verb verb, struct str name, struct error *error)
{
    switch (verb) {
    case USER_DELETE:
        return store_delete_user(edit->store, name, error);
    case USER_DISABLE:
        return store_set_disabled(edit->store, name, true, error);
    case USER_ENABLE:
        return store_set_disabled(edit->store, name, false, error);
    }
    return STORE_FAILED;
}

static enum exit_code run_user_verb(const struct tool_options *options, const char *given, enum user_verb verb)
{
    static const char *const done[] = {"deleted", "may not sign in any more", "may sign in"};
    char name[ADDRESS_TEXT_OCTETS_MAX + 1];
    struct error error = {0};
    struct edit edit;
    enum exit_code code = edit_begin(&edit, options);

    if (code == EXIT_DONE && edit_take_name(&edit, given, name) != 0)
        code = EXIT_USAGE;
    if (code == EXIT_DONE)
        code = edit_open(&edit);
    if (code == EXIT_DONE)
        code = edit_report(&edit, run_verb(&edit, verb, str_from_cstr(name), &error), &error, done[verb],
                           str_from_cstr(name));
    edit_end(&edit);
    return code;
}

enum exit_code tool_user_delete(const struct tool_options *options, char *const *arguments)
{
    return run_user_verb(options, arguments[0], USER_DELETE);
}

enum exit_code tool_user_disable(const struct tool_options *options, char *const *arguments)
{
    return run_user_verb(options, arguments[0], USER_DISABLE);
}

enum exit_code tool_user_enable(const struct tool_options *options, char *const *arguments)
{
    return run_user_verb(options, arguments[0], USER_ENABLE);
}

/* ---- listing ---- */

static json_t *json_list(const struct store_list *list)
{
    json_t *array = json_array();

    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(array, tool_json_text(list->items[i]));
    return array;
}

static void add_to_json(void *context, const struct store_user *user)
{
    json_array_append_new(context,
                          json_pack("{s:o, s:b, s:b, s:b, s:o, s:o, s:o}", "name", tool_json_text(user->name),
                                    "disabled", user->is_disabled, "password", user->has_password, "scram",
                                    user->has_scram, "groups", json_list(&user->groups), "addresses",
                                    json_list(&user->addresses), "certificates", json_list(&user->certificates)));
}

static const char *state_of(const struct store_user *user)
{
    if (user->is_disabled)
        return "disabled";
    return user->has_password ? "" : "no password";
}

static void print_user(void *context, const struct store_user *user)
{
    (void)context;
    printf("%-24.*s  %-11s ", STR_ARG(user->name), state_of(user));
    for (size_t i = 0; i < user->groups.count; i++)
        printf("%s%.*s", i == 0 ? " " : ",", STR_ARG(user->groups.items[i]));
    printf("\n");
}

enum exit_code tool_user_list(const struct tool_options *options, char *const *arguments)
{
    json_t *users = json_array();
    struct error error = {0};
    struct edit edit;
    enum exit_code code = edit_begin(&edit, options);

    (void)arguments;
    if (code == EXIT_DONE)
        code = edit_open_to_read(&edit);
    if (code == EXIT_DONE && edit.store &&
        store_list_users(edit.store, STR(""), options->json ? add_to_json : print_user, users, &error) != STORE_DONE) {
        fprintf(stderr, "postern: %s\n", error.text);
        code = EXIT_COULD_NOT;
    }
    if (code == EXIT_DONE && options->json)
        tool_print_json(json_pack("{s:O}", "users", users));
    json_decref(users);
    edit_end(&edit);
    return code;
}

/* ---- groups, addresses, certificates ---- */

static const struct store_list *list_of(const struct store_user *user, enum store_attribute attribute)
{
    return attribute == STORE_GROUP     ? &user->groups
           : attribute == STORE_ADDRESS ? &user->addresses
                                        : &user->certificates;
}

struct shown {
    enum store_attribute attribute;
    bool json;
};

static void show_attribute(void *context, const struct store_user *user)
{
    static const char *const names[] = {"groups", "addresses", "certificates"};
    const struct shown *shown = context;
    const struct store_list *list = list_of(user, shown->attribute);

    if (shown->json) {
        tool_print_json(
            json_pack("{s:o, s:o}", "name", tool_json_text(user->name), names[shown->attribute], json_list(list)));
        return;
    }
    for (size_t i = 0; i < list->count; i++)
        printf("%.*s\n", STR_ARG(list->items[i]));
}

/* With its colons, as openssl(1) prints it, or without. */
static enum exit_code take_certificate(struct store_change *change, char hex[65])
{
    unsigned char sha256[32];
    size_t length = 0;

    for (size_t i = 0; i < change->value.length && length < 64; i++)
        if (change->value.data[i] != ':')
            hex[length++] = change->value.data[i];
    hex[length] = '\0';
    if (!policy_parse_certificate(str_make(hex, length), sha256) || change->value.length > 95)
        return tool_usage("\"%.*s\" is not the SHA-256 of a certificate: wants 64 hex digits",
                          STR_ARG(str_take(change->value, 100)));
    change->value = str_make(hex, length);
    return EXIT_DONE;
}

/* What a change's value is brought to; big enough for each kind. */
struct change_text {
    char text[ADDRESS_TEXT_OCTETS_MAX + 1];
};

static enum exit_code check_change(const struct edit *edit, struct store_change *change, struct change_text *text)
{
    switch (change->attribute) {
    case STORE_GROUP:
        return check_groups(&change->value, 1);
    case STORE_ADDRESS:
        if (edit_take_address(edit, change->value, false, text->text) != 0)
            return EXIT_USAGE;
        change->value = str_from_cstr(text->text);
        return EXIT_DONE;
    case STORE_CERTIFICATE:
        return take_certificate(change, text->text);
    }
    return EXIT_USAGE;
}

/* Without changes it is a question. */
static enum exit_code change_or_show(struct edit *edit, const char *name, enum store_attribute attribute,
                                     const struct store_change *changes, size_t count)
{
    struct shown shown = {attribute, edit->options->json};
    struct error error = {0};
    enum store_result result = STORE_DONE;
    enum exit_code code = count > 0 ? edit_open(edit) : edit_open_to_read(edit);

    if (code != EXIT_DONE)
        return code;
    if (!edit->store) {
        error_set(&error, "there is no user \"%s\"", name);
        result = STORE_NO;
    } else if (count > 0) {
        result = store_change_user(edit->store, str_from_cstr(name), changes, count, &error);
    }
    if (result == STORE_DONE)
        result = store_list_users(edit->store, str_from_cstr(name), show_attribute, &shown, &error);
    return result == STORE_DONE ? EXIT_DONE : edit_report(edit, result, &error, "", str_from_cstr(name));
}

static enum exit_code run_attribute(const struct tool_options *options, const char *given,
                                    enum store_attribute attribute)
{
    struct store_change changes[2 * TOOL_VALUES_MAX];
    struct change_text *texts = mem_alloc_array(2 * TOOL_VALUES_MAX, sizeof(*texts));
    char name[ADDRESS_TEXT_OCTETS_MAX + 1];
    size_t count = take_changes(options, attribute, changes);
    struct edit edit;
    enum exit_code code = edit_begin(&edit, options);

    if (code == EXIT_DONE && edit_take_name(&edit, given, name) != 0)
        code = EXIT_USAGE;
    for (size_t i = 0; i < count && code == EXIT_DONE; i++)
        code = check_change(&edit, &changes[i], &texts[i]);
    if (code == EXIT_DONE)
        code = change_or_show(&edit, name, attribute, changes, count);
    edit_end(&edit);
    free(texts);
    return code;
}

enum exit_code tool_user_groups(const struct tool_options *options, char *const *arguments)
{
    return run_attribute(options, arguments[0], STORE_GROUP);
}

enum exit_code tool_user_addresses(const struct tool_options *options, char *const *arguments)
{
    return run_attribute(options, arguments[0], STORE_ADDRESS);
}

enum exit_code tool_user_certificates(const struct tool_options *options, char *const *arguments)
{
    return run_attribute(options, arguments[0], STORE_CERTIFICATE);
}
