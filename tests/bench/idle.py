# SPDX-License-Identifier: Apache-2.0
"""How much resident memory each idle connection costs Postern: just opened, and once the daemon has given back what an idle
connection does not need."""
import argparse
import os
import pathlib
import shutil
import statistics
import tempfile
import time

import common  # noqa: F401  (finds the harness)
from harness.client import SmtpClient
from harness.idle import IdleClients, raise_descriptor_limit
from harness.postern import Postern, build_dir


SETTLED_S = 3


def settled_kib(relay):
    """The resident memory once it has not changed for a while."""
    seen_kib, since = relay.resident_kib(), time.monotonic()
    while time.monotonic() - since < SETTLED_S:
        time.sleep(0.2)
        now_kib = relay.resident_kib()
        if now_kib != seen_kib:
            seen_kib, since = now_kib, time.monotonic()
    return seen_kib


def measure(relay, count):
    """(KiB a connection just opened, KiB when idle, milliseconds until a further client is greeted while they stand)."""
    before_kib = relay.resident_kib()
    clients = IdleClients(relay.address(), count, os.cpu_count())
    try:
        if clients.opened() != count:
            raise SystemExit(f"not all of {count} connections could be opened")
        opened_kib = (relay.resident_kib() - before_kib) / count
        idle_kib = (settled_kib(relay) - before_kib) / count
        greetings = []
        for _ in range(20):
            started_at = time.monotonic()
            with SmtpClient(relay.address()) as client:
                client.hello()
            greetings.append((time.monotonic() - started_at) * 1000)
        return opened_kib, idle_kib, statistics.median(greetings)
    finally:
        clients.close()


def main():
    parser = argparse.ArgumentParser(prog="./dev bench idle", description=__doc__)
    parser.add_argument("--connections", type=int, default=20000, help="as many as the descriptor limit allows (default 20000)")
    options = parser.parse_args()
    limit = raise_descriptor_limit(options.connections + 1000)
    count = min(options.connections, limit - 500)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bench-idle-", dir=build_dir()))
    print("| connections | resident each, just opened | idle for some seconds | a further client is greeted in |\n"
          "| ---: | ---: | ---: | ---: |")
    try:
        for number in sorted({min(1000, count), count}):
            relay = Postern(directory / str(number), {"servers": {"main": {"limits": {
                "connections": number + 100, "connections-per-client": number}}}}).start()
            opened_kib, idle_kib, greeting_ms = measure(relay, number)
            print(f"| {number} | {opened_kib:.2f} KiB | {idle_kib:.2f} KiB | {greeting_ms:.2f} ms |", flush=True)
            relay.finish()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
