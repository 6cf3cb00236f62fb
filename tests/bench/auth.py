# SPDX-License-Identifier: Apache-2.0
"""What others notice while many clients authenticate at once, with passwords whose hashes cost what they should, and how many a second get through."""
import argparse
import multiprocessing
import pathlib
import shutil
import statistics
import tempfile
import threading
import time

import common  # noqa: F401  (finds the harness)
from harness.accounts import LATER, SUCCESS, AuthClient, accounts, server, user_line
from harness.client import SmtpClient, letter, token
from harness.postern import Postern, build_dir

PASSWORD = "correct horse battery"
WARM_UP_S = 2


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


class Guests:
    """So many clients in a process of their own, each authenticating again as soon as it is through."""

    def __init__(self, address, count):
        self._done = multiprocessing.Event()
        self.through, self.later = multiprocessing.Value("L", 0), multiprocessing.Value("L", 0)
        self._process = multiprocessing.Process(target=self._run, args=(address, count), daemon=True)
        self._process.start()

    def _run(self, address, count):
        threads = [threading.Thread(target=self._authenticate, args=(address,), daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _authenticate(self, address):
        while not self._done.is_set():
            with AuthClient(address) as client:
                answer = client.plain("alice", PASSWORD)
            if answer not in (SUCCESS, LATER):
                raise SystemExit(answer)
            counter = self.through if answer == SUCCESS else self.later
            with counter.get_lock():
                counter.value += 1

    def counts(self):
        return self.through.value, self.later.value

    def close(self):
        self._done.set()
        self._process.join(30)


def measure(directory, count, seconds):
    """(authentications a second, answers of 454 a second, milliseconds of others' messages)."""
    _, settings = accounts(directory / "map", user_line("alice", PASSWORD), more={
        "servers": {"main": server(auth={"mechanisms": ["PLAIN"], "require-tls": False}, limits={"connections-per-client": count + 10})},
        "auth-brakes": {"failures-per-client": 0, "failures-per-network": 0, "failures-per-user": 0},
        "directory": {"timeout": "30s"}})
    relay = Postern(directory / "relay", settings).start()
    guests = None
    try:
        messages(relay, 1)
        if count > 0:
            guests = Guests(relay.address(), count)
            time.sleep(WARM_UP_S)
        before = guests.counts() if guests else (0, 0)
        started_at = time.monotonic()
        took = messages(relay, seconds)
        taken_s = time.monotonic() - started_at
        after = guests.counts() if guests else (0, 0)
        return (after[0] - before[0]) / taken_s, (after[1] - before[1]) / taken_s, took
    finally:
        if guests:
            guests.close()
        relay.kill()


def main():
    parser = argparse.ArgumentParser(prog="./dev bench auth", description=__doc__)
    parser.add_argument("--clients", type=int, default=200, help="that authenticate at once (default 200)")
    parser.add_argument("--seconds", type=float, default=10, help="for which is measured (default 10)")
    options = parser.parse_args()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bench-auth-", dir=build_dir()))
    print("| authenticating at once | authenticated/s | 454/s | a message of another: median | 99% |\n| ---: | ---: | ---: | ---: | ---: |")
    try:
        for count in (0, 1, options.clients):
            through, later, took = measure(directory / str(count), count, options.seconds)
            print(f"| {count} | {through:.1f} | {later:.1f} | {statistics.median(took):.2f} ms | {percentile(took, 0.99):.2f} ms |", flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
