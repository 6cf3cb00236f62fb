/* SPDX-License-Identifier: Apache-2.0 */
/* postern spool check: a spool verified from outside, while no daemon runs on it. */
#include "cmd/tool.h"
#include "spool/spool.h"

#include <inttypes.h>

struct spool_output {
    bool json;
    json_t *findings;
};

static void print_finding(void *context, const char *text)
{
    struct spool_output *output = context;

    if (output->json)
        json_array_append_new(output->findings, tool_json_text(str_from_cstr(text)));
    else
        printf("%s\n", text);
}

static void print_spool_report(const struct spool_output *output, const struct spool_check_report *report)
{
    if (output->json) {
        tool_print_json(json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O}", "segments", (json_int_t)report->segments,
                                  "frames", (json_int_t)report->frames, "live_messages",
                                  (json_int_t)report->live_messages, "dead_messages", (json_int_t)report->dead_messages,
                                  "torn_tails", (json_int_t)report->torn_tails, "damaged_frames",
                                  (json_int_t)report->damaged_frames, "damaged_bodies",
                                  (json_int_t)report->damaged_bodies, "findings", output->findings));
        return;
    }
    printf("%" PRIu64 " segments, %" PRIu64 " frames, %" PRIu64 " live messages, %" PRIu64 " dead messages\n",
           report->segments, report->frames, report->live_messages, report->dead_messages);
    printf("%" PRIu64 " torn tails, %" PRIu64 " damaged frames, %" PRIu64 " damaged bodies\n", report->torn_tails,
           report->damaged_frames, report->damaged_bodies);
}

enum exit_code tool_spool_check(const struct tool_options *options, char *const *arguments)
{
    struct spool_output output = {.json = options->json, .findings = json_array()};
    struct spool_check_report report = {0};
    struct error error = {0};
    enum exit_code code = EXIT_COULD_NOT;
    int64_t damaged = spool_check(vfs_system(), arguments[0], &report, print_finding, &output, &error);

    if (damaged < 0) {
        fprintf(stderr, "postern: %s\n", error.text);
    } else {
        print_spool_report(&output, &report);
        code = damaged == 0 && report.damaged_bodies == 0 ? EXIT_DONE : EXIT_NO;
    }
    json_decref(output.findings);
    return code;
}
