/* SPDX-License-Identifier: Apache-2.0 */
/* Who proves to be a user: passwords, SCRAM keys, certificates. Nothing of it is cached. */
#include "directory/front.h"

/* Verifies whatever the backend says, so that an unknown user takes as long as a wrong password. */
static enum directory_status verify(struct directory *directory, const struct directory_name *name, struct str password,
                                    struct error *error)
{
    char hash[PASSWORD_HASH_BYTES] = "";
    enum directory_status status =
        directory->operations->find_hash(directory->backend, name, front_deadline_ms(directory), hash, error);

    if (status != DIRECTORY_UNAVAILABLE && !password_verify(password, hash))
        status = DIRECTORY_NO;
    explicit_bzero(hash, sizeof(hash));
    return status;
}

enum directory_status directory_check_password(struct directory *directory, struct str name, struct str password)
{
    struct directory_name_forms forms;
    struct error error = {0};
    enum directory_status status;

    /* Neither depends on who there is. No password at all is nobody's, whatever a backend would make of it. */
    if (!directory_name_init(&forms, name, directory->settings->default_domain) || password.length == 0 ||
        password.length > PASSWORD_BYTES_MAX || memchr(password.data, '\0', password.length))
        return DIRECTORY_NO;
    if (directory->operations->find_hash)
        status = verify(directory, &forms.name, password, &error);
    else
        status = directory->operations->check_password(directory->backend, &forms.name, password,
                                                       front_deadline_ms(directory), &error);
    return front_note(directory, status, &error);
}

bool directory_has_scram(const struct directory *directory)
{
    return directory->operations->find_scram_keys && directory->operations->has_scram(directory->backend);
}

enum directory_status directory_find_scram_keys(struct directory *directory, struct str name,
                                                struct directory_scram_keys *keys)
{
    struct directory_name_forms forms;
    struct error error = {0};
    enum directory_status status;

    if (!directory->operations->find_scram_keys ||
        !directory_name_init(&forms, name, directory->settings->default_domain))
        return DIRECTORY_NO;
    status = directory->operations->find_scram_keys(directory->backend, &forms.name, front_deadline_ms(directory), keys,
                                                    &error);
    return front_note(directory, status, &error);
}

void directory_fake_scram_keys(struct directory *directory, struct str name, struct directory_scram_keys *keys)
{
    unsigned iterations = PASSWORD_SCRAM_ITERATIONS;
    size_t salt_bytes = PASSWORD_SCRAM_SALT_BYTES;
    char normal[DIRECTORY_FORM_BYTES];
    unsigned char secret[32];
    size_t length = directory_normal_name(name, directory->settings->default_domain, normal);

    if (!directory->operations->find_scram_model ||
        !directory->operations->find_scram_model(directory->backend, secret, &iterations, &salt_bytes))
        memcpy(secret, directory->secret, sizeof(secret));
    *keys = (struct directory_scram_keys){.iterations = iterations, .salt_bytes = salt_bytes};
    password_fake_scram_keys(secret, length > 0 ? str_make(normal, length) : name, keys);
    explicit_bzero(secret, sizeof(secret));
}

enum directory_status directory_find_certificate(struct directory *directory, const unsigned char sha256[32],
                                                 struct directory_user **user)
{
    struct directory_found found;
    struct answer *answer = NULL;
    struct error error = {0};
    enum directory_status status;

    *user = NULL;
    if (!directory->operations->find_certificate)
        return DIRECTORY_NO;
    directory_found_init(&found);
    status = directory->operations->find_certificate(directory->backend, sha256, front_deadline_ms(directory), &found,
                                                     &error);
    status = front_note(directory, status, &error);
    if (status == DIRECTORY_YES)
        status = front_finish_user(directory, found.name, &found, &answer);
    directory_found_release(&found);
    if (answer)
        *user = &answer->user;
    return status;
}
