# SPDX-License-Identifier: Apache-2.0
"""TLS towards clients, of Postern and of Debian's Postfix, side by side in one run, both with one ECDSA P-256 certificate and clients that
begin with TLS: handshakes in full and resumed, messages over TLS, and what an idle connection costs in memory.

The clients (tests/bench/tls.c) share the machine with the server, so a rate says little: quote the handshakes for each second of the
server's CPU time, which includes accepting, the banner and the end, and ratios. Figures are medians of the rounds.
"""
import argparse
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

import common  # noqa: F401  (finds the harness)
from common import postfix
from common.processes import cpu_seconds, resident_kib
from harness.certificates import Certificates
from harness.postern import Postern, build_dir
from harness.settings import INSPECTABLE

STALL_S = 120
SETTLE_S = 4


class PosternServer:
    name = "Postern"

    def __init__(self, directory, sink_port, certificate):
        server = {"listen": ["127.0.0.1:0"], "relay": {"only": ["127.0.0.0/8"]}, "tls": certificate.settings("implicit"),
                  "limits": {"connections-per-client": 20000}}
        self.daemon = Postern(directory, {
            "servers": {"main": server},
            "connectors": {"out": {"address-spaces": ["*"], "smart-hosts": [f"127.0.0.1:{sink_port}"]}},
            "delivery": None,
            "spool": None,
            **INSPECTABLE,
        }).start()
        self.tls_port = self.daemon.address()[1]
        self.pid = self.daemon.pid

    def close(self):
        self.daemon.finish()


class PostfixServer(postfix.Postfix):
    def __init__(self, directory, sink_port, certificate):
        super().__init__(directory, sink_port, (certificate.path, certificate.key))


def load(*words):
    """Seconds that it took."""
    command = [str(build_dir() / "tests" / "bench" / "tls"), *[str(word) for word in words]]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_handshakes(server, mode, count, threads):
    """(a second, a second of the server's CPU time)."""
    cpu_before = cpu_seconds(server.pid)
    taken_s = load(mode, server.tls_port, count, threads)
    return count / taken_s, count / max(cpu_seconds(server.pid) - cpu_before, 0.01)


def measure_messages(server, sink, count, options):
    """(accepted a second, µs of CPU a message, delivery included)."""
    before, cpu_before = sink.count(), cpu_seconds(server.pid)
    taken_s = load("messages", server.tls_port, count, options.sessions, options.size)
    seen_at = time.monotonic()
    while sink.count() < before + count:
        time.sleep(0.05)
        if time.monotonic() - seen_at > STALL_S:
            raise SystemExit(f"{server.name}: not all messages arrived")
    return count / taken_s, (cpu_seconds(server.pid) - cpu_before) * 1e6 / count


def measure_idle(server, count):
    """KiB for each connection once the server has settled."""
    before_kib = resident_kib(server.pid)
    command = [str(build_dir() / "tests" / "bench" / "tls"), "idle", str(server.tls_port), str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        if int(holder.stdout.readline() or 0) != count:
            raise SystemExit(f"{server.name}: not all of {count} connections could be opened")
        time.sleep(SETTLE_S)
        after_kib = resident_kib(server.pid)
        holder.stdin.close()
    return (after_kib - before_kib) / count


def measure_round(server, sink, options):
    scale = 1 if server.name == "Postern" else options.postfix_share
    handshakes = int(options.handshakes * scale)
    full = measure_handshakes(server, "handshakes", handshakes, options.threads)
    resumed = measure_handshakes(server, "resumed", handshakes, options.threads)
    messages = measure_messages(server, sink, int(options.messages * scale), options)
    return {"full": full[0], "full_cpu": full[1], "resumed": resumed[0], "resumed_cpu": resumed[1], "messages": messages[0],
            "message_us": messages[1]}


def print_table(results, idle):
    def median(name, field):
        return statistics.median(measured[field] for measured in results[name])

    def ratio(field):
        return statistics.median(a[field] / b[field] for a, b in zip(results["Postern"], results["Postfix"]))

    print("\n| server | handshakes/s | a CPU second | resumed/s | a CPU second | messages/s | server CPU a message | idle connection |\n"
          "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in results:
        print(f"| {name} | {median(name, 'full'):.0f} | {median(name, 'full_cpu'):.0f} | {median(name, 'resumed'):.0f} | "
              f"{median(name, 'resumed_cpu'):.0f} | {median(name, 'messages'):.0f} | {median(name, 'message_us'):.0f} µs | "
              f"{idle[name]:.1f} KiB |")
    if "Postfix" in results:
        print(f"| Postern : Postfix | {ratio('full'):.1f} : 1 | {ratio('full_cpu'):.1f} : 1 | {ratio('resumed'):.1f} : 1 | "
              f"{ratio('resumed_cpu'):.1f} : 1 | {ratio('messages'):.1f} : 1 | 1 : {1 / ratio('message_us'):.1f} | "
              f"1 : {idle['Postfix'] / idle['Postern']:.0f} |")
    print()


def parse_arguments():
    parser = argparse.ArgumentParser(prog="./dev bench tls", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--handshakes", type=int, default=10000, help="a round, of each kind, to Postern (default 10000)")
    parser.add_argument("--messages", type=int, default=10000, help="a round, to Postern (default 10000)")
    parser.add_argument("--postfix-share", type=float, default=0.2, help="Postfix gets so much of that (default 0.2)")
    parser.add_argument("--threads", type=int, default=8, help="clients that shake hands at once (default 8)")
    parser.add_argument("--sessions", type=int, default=20, help="connections that send messages (default 20)")
    parser.add_argument("--size", type=int, default=4096, help="octets of each message (default 4096)")
    parser.add_argument("--idle", type=int, default=3000, help="idle connections to Postern (default 3000); 50 to Postfix")
    parser.add_argument("--without-postfix", action="store_true", help="Postern alone")
    return parser.parse_args()


def main():
    options = parse_arguments()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bench-tls-", dir=build_dir()))
    directory.chmod(0o755)  # Postfix's processes are not root, and have to get to their queue
    certificate = Certificates(directory / "tls").make("server", "mx.contoso.test")
    closing, loads, results, idle = [], [], {}, {}
    try:
        for factory in (PosternServer, PostfixServer):
            if factory is PostfixServer and options.without_postfix:
                continue
            sink = postfix.Sink()
            closing.append(sink)
            server = factory(directory / factory.name, sink.port, certificate)
            closing.append(server)
            loads.append((server, sink))
            results[server.name] = []
            # First, while memory that earlier connections left behind can't serve them.
            idle[server.name] = measure_idle(server, options.idle if server.name == "Postern" else 50)
        for number in range(options.rounds):
            for server, sink in loads:
                measured = measure_round(server, sink, options)
                results[server.name].append(measured)
                print(f"round {number + 1}: {server.name}: {measured['full']:.0f} handshakes/s ({measured['full_cpu']:.0f} a CPU second), "
                      f"{measured['resumed']:.0f} resumed/s ({measured['resumed_cpu']:.0f}), {measured['messages']:.0f} messages/s, "
                      f"{measured['message_us']:.0f} µs CPU", flush=True)
        print_table(results, idle)
    finally:
        for thing in reversed(closing):
            thing.close()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
