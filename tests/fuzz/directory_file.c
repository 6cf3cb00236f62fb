/* SPDX-License-Identifier: Apache-2.0 */
/* The text map of the backend file: whoever may edit it, or a disk that garbles it, must not end the daemon. What was taken can be asked for. */
#include "directory/file_map.h"
#include "directory/names.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask_user(const struct file_map *map, struct str text)
{
    struct directory_name_forms forms;
    const struct file_user *user;

    if (!directory_name_init(&forms, text, STR("contoso.test")))
        return;
    user = file_map_find_user(map, &forms.name);
    if (user && (user->name.length == 0 || strlen(user->hash) >= sizeof(user->hash)))
        abort();
    file_map_hash_model(map, text);
}

static void ask_recipient(const struct file_map *map, struct str text)
{
    struct directory_address_key key;
    const struct file_recipient *found;
    bool is_user;

    if (!directory_address_init(&key, text))
        return;
    found = file_map_find_recipient(map, &key.address, &is_user);
    if (found && (is_user || found->targets.count > DIRECTORY_TARGETS_MAX))
        abort();
}

/* Each word of the map is a question to it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = str_make((const char *)data, size);
    struct error error = {.text = ""};
    struct file_map *map = file_map_parse("map", text, STR("contoso.test"), &error);

    if (!map) {
        if (strncmp(error.text, "map:", 4) != 0)
            abort();
        return 0;
    }
    for (struct str word; text.data;) {
        word = str_split(&text, ' ');
        ask_user(map, word);
        ask_recipient(map, word);
    }
    if (size >= 32)
        file_map_find_certificate(map, data);
    file_map_release(&map);
    return 0;
}
