/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SASL, either side, against a peer who says anything. Nobody gets in as alice without her password, whatever is said in whatever order; no server makes
 * our client believe that it knows it; and base64 has one spelling.
 *
 * Input: a byte for the side and the mechanism, then messages, each ended by a newline. "$" in one stands for the nonce that was said last.
 */
#include "smtp/sasl.h"
#include "smtp/base64.h"

#include <stdlib.h>

#define PASSWORD "pencil"
/* What a server may make our client compute here, so that the time goes into inputs: 4 digits. */
#define ITERATION_DIGITS_MAX 4

static const enum sasl_mechanism mechanisms[] = {SASL_PLAIN, SASL_LOGIN, SASL_SCRAM_SHA_256, SASL_SCRAM_SHA_256_PLUS,
                                                 SASL_EXTERNAL};
static const struct sasl_channel channel = {.binding_exporter = STR_INIT("0123456789abcdef0123456789abcdef")};

static bool said_yes; /* the verifier, to the last question */

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* ---- the verifier ---- */

static enum sasl_answer answer(struct str user, bool right)
{
    require(user.length <= SASL_USER_BYTES_MAX && str_find(user, '\0') == STR_NONE);
    said_yes = right;
    if (str_equal(user, STR("later")))
        return SASL_NO_ANSWER;
    return right ? SASL_YES : SASL_NO;
}

static enum sasl_answer check_password(void *context, struct str user, struct str password)
{
    (void)context;
    require(user.length > 0 && password.length > 0);
    return answer(user, str_equal(user, STR("alice")) && str_equal(password, STR(PASSWORD)));
}

static enum sasl_answer find_scram_keys(void *context, struct str user, struct sasl_scram_keys *keys)
{
    (void)context;
    require(user.length > 0);
    *keys = (struct sasl_scram_keys){4096, STR("salt"), STR("keys that no proof fits, of anyb"),
                                     STR("keys that no proof fits, of anyb")};
    answer(user, false);
    return str_equal(user, STR("later")) ? SASL_NO_ANSWER : SASL_YES;
}

static enum sasl_answer find_certificate(void *context, struct str user, struct buf *name)
{
    (void)context;
    buf_append_str(name, STR("alice"));
    return answer(user, user.length == 0 || str_equal(user, STR("alice")));
}

static const struct sasl_verifier verifier = {
    .check_password = check_password, .find_scram_keys = find_scram_keys, .find_certificate = find_certificate};

/* ---- messages ---- */

/* The r= of a SCRAM message. */
static struct str nonce_of(struct str message)
{
    while (message.data) {
        struct str attribute = str_split(&message, ',');

        if (str_starts_with(attribute, STR("r=")))
            return str_skip(attribute, 2);
    }
    return STR("");
}

static void fill_in(struct buf *message, struct str template, struct str nonce)
{
    buf_clear(message);
    while (template.data) {
        buf_append_str(message, str_split(&template, '$'));
        if (template.data)
            buf_append_str(message, nonce);
    }
}

static bool is_too_long_to_compute(struct str message)
{
    while (message.data)
        if (str_starts_with(message, STR("i=")) && str_split(&message, ',').length > 2 + ITERATION_DIGITS_MAX)
            return true;
        else
            str_split(&message, ',');
    return false;
}

/* ---- the sides ---- */

static void check_base64(struct str text)
{
    struct buf data, again;

    buf_init(&data, text.length + 3);
    buf_init(&again, text.length + 3);
    if (base64_decode(text, &data)) {
        require(base64_append(&again, buf_str(&data)));
        require(str_equal(buf_str(&again), text));
    }
    buf_release(&data);
    buf_release(&again);
}

static void play_server(enum sasl_mechanism mechanism, struct str input)
{
    const struct sasl_server_options options = {.verifier = &verifier, .channel = channel};
    struct sasl_server *server = sasl_server_create(mechanism, &options, NULL);
    enum sasl_status status = SASL_CONTINUE;
    struct buf message, out;

    require(server != NULL);
    buf_init(&message, SASL_MESSAGE_BYTES_MAX + 1);
    buf_init(&out, SASL_MESSAGE_BYTES_MAX);
    buf_reserve(&message, 1);
    said_yes = false;
    while (input.data) {
        fill_in(&message, str_split(&input, '\n'), nonce_of(buf_str(&out)));
        status = sasl_server_step(server, str_equal(buf_str(&message), STR("-")) ? (struct str){0} : buf_str(&message),
                                  &out);
        require(!out.overflowed && (status == SASL_CONTINUE || out.length == 0));
        if (status == SASL_DONE)
            require(said_yes && str_equal(sasl_server_user(server), STR("alice")));
        if (status != SASL_CONTINUE)
            break;
    }
    require(sasl_server_user(server).length <= SASL_USER_BYTES_MAX);
    sasl_server_destroy(&server);
    buf_release(&message);
    buf_release(&out);
}

static void play_client(enum sasl_mechanism mechanism, struct str input)
{
    const struct sasl_client_options options = {.user = STR("alice"), .password = STR(PASSWORD), .channel = channel};
    struct sasl_client *client = sasl_client_create(mechanism, &options, NULL);
    bool is_scram = mechanism == SASL_SCRAM_SHA_256 || mechanism == SASL_SCRAM_SHA_256_PLUS;
    enum sasl_status status;
    struct buf message, out;

    require(client != NULL);
    buf_init(&message, SASL_MESSAGE_BYTES_MAX + 1);
    buf_init(&out, SASL_MESSAGE_BYTES_MAX);
    buf_reserve(&message, 1);
    status = sasl_client_step(client, (struct str){0}, &out);
    while (input.data && status == SASL_CONTINUE) {
        fill_in(&message, str_split(&input, '\n'), nonce_of(buf_str(&out)));
        if (is_scram && is_too_long_to_compute(buf_str(&message)))
            break;
        status = sasl_client_step(client, buf_str(&message), &out);
        require(!out.overflowed && (status == SASL_CONTINUE || status == SASL_DONE || out.length == 0));
    }
    require(!is_scram || (status != SASL_DONE && !sasl_client_is_satisfied(client)));
    sasl_client_destroy(&client);
    buf_release(&message);
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_make((const char *)data, size);
    enum sasl_mechanism mechanism;

    if (size == 0 || size > 65536)
        return 0;
    mechanism = mechanisms[data[0] / 2 % (sizeof(mechanisms) / sizeof(mechanisms[0]))];
    input = str_skip(input, 1);
    check_base64(input);
    if (data[0] & 1)
        play_client(mechanism, input);
    else
        play_server(mechanism, input);
    return 0;
}
