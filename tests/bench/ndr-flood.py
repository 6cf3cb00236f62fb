# SPDX-License-Identifier: Apache-2.0
"""Messages from forged senders of many domains to local recipients that don't exist, under the default limits of reports: how many reports go out, how
long they are, how much memory the daemon takes, and whether all that is not reported waits in the bounded queue or lies in badmail, counted.
"""
import argparse
import pathlib
import shutil
import tempfile
import time

import common  # noqa: F401  (finds the harness)
from common.processes import PeakMemory, resident_kib
from harness.flood import Fate, send_flood
from harness.postern import Postern, build_dir
from harness.settings import connector
from harness.sink import Sink

WAITING_MAX = 1000  # DELIVERY_REPORTS_WAITING_MAX
REPORT_BYTES_MAX = 17 * 1024
RATE_PER_MINUTE = 600
STALL_S = 180
HEADER = b"".join(b"X-Filler-%d: %s\r\n" % (i, b"f" * 70) for i in range(200))


def parse_arguments():
    parser = argparse.ArgumentParser(prog="./dev bench ndr-flood", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--memory", type=int, default=400, help="the most MiB that the daemon may gain (default 400)")
    return parser.parse_args()


def wait_until_settled(fate, messages):
    """Until all but those that wait for their turn are reported or set aside."""
    settled, seen_at = -1, time.monotonic()
    while settled < messages - WAITING_MAX:
        time.sleep(0.5)
        now = fate.look()
        if now != settled:
            settled, seen_at = now, time.monotonic()
        elif time.monotonic() - seen_at > STALL_S:
            raise SystemExit(f"{settled} of {messages} are settled, and nothing has happened for {STALL_S} s")


def run(relay, sink, options):
    port = relay.address()[1]
    fate = Fate(relay)
    send_flood(port, 0, 200, HEADER)
    time.sleep(1)
    before_kib = resident_kib(relay.pid)
    with PeakMemory(relay.pid) as memory:
        started_at = time.monotonic()
        send_flood(port, 200, options.messages - 200, HEADER)
        sent_s = time.monotonic() - started_at
        wait_until_settled(fate, options.messages)
        settled_s = time.monotonic() - started_at
    gained_mib = (memory.kib - before_kib) / 1024
    time.sleep(2)
    fate.look()
    minutes = (time.monotonic() - started_at) / 60
    reports = list(sink.messages)
    longest = max(len(message.content) for message in reports)
    waiting = options.messages - fate.reported - fate.suppressed
    eml, described = fate.badmail()
    print(f"{options.messages} messages taken in {sent_s:.0f} s ({options.messages / sent_s:.0f}/s), settled after {settled_s:.0f} s\n"
          f"{fate.reported} reports made, {len(reports)} arrived, the longest has {longest} bytes\n"
          f"{waiting} wait for their turn; {fate.suppressed} suppressed, {eml} in badmail with {described} descriptions\n"
          f"memory: {gained_mib:.0f} MiB above {before_kib / 1024:.0f} MiB")
    faults = [text for text, is_wrong in (
        ("too many reports", fate.reported > RATE_PER_MINUTE * (minutes + 1.1)), ("a report is too long", longest > REPORT_BYTES_MAX),
        ("too many wait", not 0 <= waiting <= WAITING_MAX), ("badmail is not what was counted", not eml == described == fate.suppressed),
        ("too much memory", gained_mib > options.memory)) if is_wrong]
    if faults:
        raise SystemExit(", ".join(faults))


def main():
    options = parse_arguments()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bench-ndr-flood-", dir=build_dir()))
    sink = Sink()
    relay = Postern(directory, {"connectors": {"out": connector(sink.address)}, "log": {"format": "json", "level": "info"},
                                "delivery": {"retry": None, "ndr": None}, "spool": None,
                                "servers": {"main": {"limits": {"connections-per-client": 1000}}}})
    try:
        relay.start()
        run(relay, sink, options)
        relay.finish()
    finally:
        relay.kill()
        sink.close()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
