# SPDX-License-Identifier: Apache-2.0
"""What sessions in the tarpit cost Postern, beside idle ones in the same state, and what others notice of them."""
import argparse
import os
import pathlib
import shutil
import statistics
import tempfile
import time

import common  # noqa: F401  (finds the harness)
from harness.client import SmtpClient, letter, token
from harness.idle import IdleClients, raise_descriptor_limit
from harness.postern import Postern, build_dir

SETTLE_S = 5
TAKEN = ["MAIL FROM:<u@example.org>"]
# name, what is answered, what waits
CASES = [
    ("nobody", None, None),
    ("idle", [], []),
    ("idle in a transaction", TAKEN, []),
    ("tarpit, a bad command", [], ["FOO"]),
    ("tarpit, a refused recipient", TAKEN, ["RCPT TO:<v@example.net>"]),
    ("tarpit, ten commands ahead", TAKEN, ["RCPT TO:<v@example.net>"] * 10),
]


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def messages(relay, seconds):
    """Milliseconds that each message of another client took, one after the other, each in a session of its own."""
    took = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        started_at = time.monotonic()
        with SmtpClient(relay.address()) as client:
            client.hello()
            client.deliver("alice@contoso.test", "bob@contoso.test", letter(token()))
        took.append((time.monotonic() - started_at) * 1000)
    return took


def measure(directory, count, commands, unanswered, seconds):
    """(KiB a connection, milliseconds of others' messages)."""
    relay = Postern(directory, {"servers": {"main": {"tarpit": "10m", "limits": {
        "connections": count + 100, "connections-per-client": count}}}}).start()
    messages(relay, 1)  # what the first message makes is there for good
    before_kib = relay.resident_kib()
    clients = None
    try:
        if commands is not None:
            clients = IdleClients(relay.address(), count, os.cpu_count(), commands, unanswered)
            if clients.opened() != count:
                raise SystemExit(f"not all of {count} connections could be opened")
        time.sleep(SETTLE_S)
        each_kib = (relay.resident_kib() - before_kib) / count
        return each_kib, messages(relay, seconds)
    finally:
        if clients:
            clients.close()
        relay.kill()


def main():
    parser = argparse.ArgumentParser(prog="./dev bench tarpit", description=__doc__)
    parser.add_argument("--connections", type=int, default=5000, help="as many as the descriptor limit allows (default 5000)")
    parser.add_argument("--seconds", type=float, default=5, help="for which others send (default 5)")
    options = parser.parse_args()
    count = min(options.connections, raise_descriptor_limit(options.connections + 1000) - 500)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bench-tarpit-", dir=build_dir()))
    print(f"| {count} connections | resident each | a message of another: median | 99% |\n| --- | ---: | ---: | ---: |")
    try:
        for number, (name, commands, unanswered) in enumerate(CASES):
            each_kib, took = measure(directory / str(number), count, commands, unanswered, options.seconds)
            cost = f"{each_kib:.2f} KiB" if commands is not None else ""
            print(f"| {name} | {cost} | {statistics.median(took):.2f} ms | {percentile(took, 0.99):.2f} ms |", flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
