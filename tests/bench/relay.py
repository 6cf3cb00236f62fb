# SPDX-License-Identifier: Apache-2.0
"""Relays everything from smtp-source to smtp-sink through Postern and through Debian's Postfix, side by side in one run.

Both servers stand all the time, with their queues on the same file system; each round loads one after the other, so that whatever
else the machine does meets both. Figures are medians of the rounds; a ratio is the median of the rounds' ratios. The machine's speed
moves from run to run: quote ratios.
"""
import argparse
import pathlib
import shutil
import statistics
import tempfile
import time

import common  # noqa: F401  (finds the harness)
from common import postfix
from common.processes import PeakMemory, cpu_seconds
from harness.postern import Postern, build_dir
from harness.settings import INSPECTABLE

POLL_S = 0.02
STALL_S = 120


class Measurement:
    """One load of one server."""

    def __init__(self, messages, accepted_s, delivered_s, cpu_s, peak_kib):
        self.accepted_per_s = messages / accepted_s
        self.delivered_per_s = messages / delivered_s
        self.cpu_us = cpu_s * 1e6 / messages
        self.peak_mib = peak_kib / 1024


class PosternServer:
    """The daemon from the build directory, with its defaults, relaying for this machine."""

    name = "Postern"

    def __init__(self, directory, sink_port):
        self._daemon = Postern(directory, {
            "servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}, "limits": {"connections-per-client": 1000}}},
            "connectors": {"out": {"address-spaces": ["*"], "smart-hosts": [f"127.0.0.1:{sink_port}"]}},
            "delivery": None,
            "spool": None,
            "log": {"format": "text", "to": str(pathlib.Path(directory) / "postern.log")},
            **INSPECTABLE,
        })
        self._daemon.write_config()
        self._daemon.spawn()
        self.port = wait_for_address(pathlib.Path(directory) / "postern.log")
        self.pid = self._daemon.pid

    def close(self):
        code = self._daemon.stop()
        if code != 0:
            raise SystemExit(f"posternd ended with {code}")


def wait_for_address(log):
    """The port in the line that tells of it."""
    deadline = time.monotonic() + postfix.START_S
    while time.monotonic() < deadline:
        text = log.read_text() if log.exists() else ""
        for line in text.splitlines():
            if " listening " in line and "address=127.0.0.1:" in line:
                port = int(line.split("address=127.0.0.1:")[1].split()[0])
                postfix.wait_for_port(port)
                return port
        time.sleep(POLL_S)
    raise SystemExit(f"posternd does not start; see {log}")


def wait_for_delivery(sink, target):
    seen, seen_at = sink.count(), time.monotonic()
    while seen < target:
        time.sleep(POLL_S)
        count = sink.count()
        if count != seen:
            seen, seen_at = count, time.monotonic()
        elif time.monotonic() - seen_at > STALL_S:
            raise SystemExit(f"{target - seen} messages did not arrive")


def measure(server, sink, messages, options):
    """Loads the server, waits until the sink has everything."""
    before = sink.count()
    cpu_before = cpu_seconds(server.pid)
    with PeakMemory(server.pid) as memory:
        started_at = time.monotonic()
        source = postfix.source(server.port, messages, options.sessions, options.size)
        while source.poll() is None:
            sink.count()
            time.sleep(POLL_S)
        accepted_s = time.monotonic() - started_at
        if source.returncode != 0:
            raise SystemExit(f"smtp-source failed against {server.name}")
        wait_for_delivery(sink, before + messages)
        delivered_s = time.monotonic() - started_at
    cpu_s = cpu_seconds(server.pid) - cpu_before
    if sink.count() != before + messages:
        raise SystemExit(f"{server.name}: {sink.count() - before} messages arrived of {messages}")
    return Measurement(messages, accepted_s, delivered_s, cpu_s, memory.kib)


def measure_ceiling(sink, options):
    """Messages a second from source to sink without a server: the tools' own limit."""
    started_at = time.monotonic()
    source = postfix.source(sink.port, options.messages, options.sessions, options.size)
    while source.poll() is None:
        sink.count()
        time.sleep(POLL_S)
    return options.messages / (time.monotonic() - started_at)


def median(measurements, field):
    return statistics.median(getattr(measurement, field) for measurement in measurements)


def ratio(ours, theirs, field):
    return statistics.median(getattr(a, field) / getattr(b, field) for a, b in zip(ours, theirs))


def print_table(results, ceilings, options):
    print(f"\n{options.rounds} rounds, {options.sessions} sessions, {options.size} octets a message, {options.messages} messages a round"
          + (f" ({options.postfix_messages} to Postfix)" if "Postfix" in results else "")
          + f"; source to sink directly {statistics.median(ceilings):.0f}/s.\n")
    print("| server | accepted/s | end to end/s | server CPU a message | peak memory |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, rounds in results.items():
        print(f"| {name} | {median(rounds, 'accepted_per_s'):.0f} | {median(rounds, 'delivered_per_s'):.0f} | "
              f"{median(rounds, 'cpu_us'):.0f} µs | {max(measurement.peak_mib for measurement in rounds):.1f} MiB |")
    if "Postfix" in results:
        ours, theirs = results["Postern"], results["Postfix"]
        print(f"| Postern : Postfix | {ratio(ours, theirs, 'accepted_per_s'):.1f} : 1 | {ratio(ours, theirs, 'delivered_per_s'):.1f} : 1 | "
              f"1 : {ratio(theirs, ours, 'cpu_us'):.1f} | {ratio(ours, theirs, 'peak_mib'):.2f} : 1 |")
    print()


def parse_arguments():
    parser = argparse.ArgumentParser(prog="./dev bench relay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=20000, help="a round, to Postern (default 20000)")
    parser.add_argument("--postfix-messages", type=int, default=5000, help="a round, to Postfix (default 5000)")
    parser.add_argument("--sessions", type=int, default=20, help="connections of the generator (default 20)")
    parser.add_argument("--size", type=int, default=4096, help="octets of each message (default 4096)")
    parser.add_argument("--directory", help="where the queues are (default: a new one in the build directory)")
    parser.add_argument("--without-postfix", action="store_true", help="Postern alone")
    return parser.parse_args()


def main():
    options = parse_arguments()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bench-relay-", dir=options.directory or build_dir()))
    directory.chmod(0o755)  # Postfix's processes are not root, and have to get to their queue
    closing, results, ceilings = [], {}, []
    try:
        loads = []
        for factory, messages in ((PosternServer, options.messages), (postfix.Postfix, options.postfix_messages)):
            if factory is postfix.Postfix and options.without_postfix:
                continue
            sink = postfix.Sink()
            closing.append(sink)
            server = factory(directory / factory.name, sink.port)
            closing.append(server)
            loads.append((server, sink, messages))
            results[server.name] = []
        for number in range(options.rounds):
            ceilings.append(measure_ceiling(loads[0][1], options))
            for server, sink, messages in loads:
                measurement = measure(server, sink, messages, options)
                results[server.name].append(measurement)
                print(f"round {number + 1}: {server.name}: {measurement.accepted_per_s:.0f} accepted/s, {measurement.delivered_per_s:.0f} "
                      f"end to end/s, {measurement.cpu_us:.0f} µs CPU, {measurement.peak_mib:.1f} MiB", flush=True)
        print_table(results, ceilings, options)
    finally:
        for thing in reversed(closing):
            thing.close()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
