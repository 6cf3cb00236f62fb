# SPDX-License-Identifier: Apache-2.0
"""Whether one destination's troubles are another's: mail for a server that answers each message after a steady time, first alone, then
beside a server that takes very long and one that answers half of all with 451. Every message is followed to its end: none may be lost,
none accepted twice, and the steady server's rate may not fall by more than --tolerance.

The steady server's time for a message bounds its rate, not the machine, so that what is compared is waiting, not CPU.
"""
import argparse
import asyncio
import collections
import multiprocessing
import pathlib
import shutil
import statistics
import tempfile
import time

import common  # noqa: F401  (finds the harness)
from harness.postern import Postern, build_dir

STEADY_S = 0.05
SLOW_S = 1.0
SESSIONS = 20
STALL_S = 60
POLL_S = 0.1


# ---- the next hops, in a process of their own ----

class Hop:
    """A server for one domain. Remembers when it has accepted whom, and whom it has turned away."""

    def __init__(self, delay_s, turns_away=False):
        self.delay_s = delay_s
        self.turns_away = turns_away
        self.accepted = []  # (recipient, time), the new ones
        self.turned_away = set()
        self.refusals = 0

    def verdict(self, recipient):
        """Half of all are turned away, each once."""
        number = int(recipient.partition("@")[0].lstrip("abcdefghijklmnopqrstuvwxyz"))
        if self.turns_away and number % 2 and recipient not in self.turned_away:
            self.turned_away.add(recipient)
            self.refusals += 1
            return False
        return True

    async def serve(self, reader, writer):
        try:
            writer.write(b"220 sink.test ESMTP\r\n")
            recipient = ""
            while line := await reader.readline():
                verb = line[:4].upper()
                if verb == b"EHLO":
                    writer.write(b"250-sink.test\r\n250 PIPELINING\r\n")
                elif verb == b"RCPT":
                    recipient = line[line.index(b"<") + 1:line.index(b">")].decode()
                    writer.write(b"250 ok\r\n")
                elif verb == b"DATA":
                    writer.write(b"354 go\r\n")
                    await reader.readuntil(b"\r\n.\r\n")
                    await asyncio.sleep(self.delay_s)
                    if self.verdict(recipient):
                        self.accepted.append((recipient, time.monotonic()))
                        writer.write(b"250 ok\r\n")
                    else:
                        writer.write(b"451 not now\r\n")
                elif verb == b"QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                else:
                    writer.write(b"250 ok\r\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def run_hops(pipe):
    asyncio.run(serve_hops(pipe))


async def serve_hops(pipe):
    hops = {"steady.test": Hop(STEADY_S), "slow.test": Hop(SLOW_S), "flaky.test": Hop(STEADY_S, turns_away=True)}
    servers = {domain: await asyncio.start_server(hop.serve, "127.0.0.1", 0) for domain, hop in hops.items()}
    pipe.send({domain: server.sockets[0].getsockname()[1] for domain, server in servers.items()})
    while True:
        await asyncio.sleep(POLL_S / 2)
        if not pipe.poll():
            continue
        if pipe.recv() is None:
            return
        pipe.send(([entry for hop in hops.values() for entry in hop.accepted], sum(hop.refusals for hop in hops.values())))
        for hop in hops.values():
            hop.accepted = []


class Hops:
    """What has arrived, by recipient."""

    def __init__(self):
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.Process(target=run_hops, args=(theirs,), daemon=True)
        self._process.start()
        self.ports = self._pipe.recv()
        self.times = {}
        self.counts = collections.Counter()
        self.refusals = 0

    def look(self):
        self._pipe.send("look")
        arrived, self.refusals = self._pipe.recv()
        for recipient, at in arrived:
            self.times.setdefault(recipient, at)
            self.counts[recipient] += 1

    def wait_for(self, recipients):
        missing, seen_at = set(recipients), time.monotonic()
        while missing:
            time.sleep(POLL_S)
            self.look()
            left = {recipient for recipient in missing if recipient not in self.times}
            if left != missing:
                missing, seen_at = left, time.monotonic()
            elif time.monotonic() - seen_at > STALL_S:
                raise SystemExit(f"{len(missing)} messages did not arrive, for example {sorted(missing)[:3]}")

    def close(self):
        self._pipe.send(None)
        self._process.join(10)


# ---- the load ----

async def send_some(port, recipients):
    """A session that sends to these, one message each."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def reply(code):
        while True:
            line = await reader.readline()
            if line[3:4] != b"-":
                break
        if not line.startswith(code):
            raise SystemExit(f"the relay answered {line!r}")

    await reply(b"220")
    writer.write(b"EHLO load.test\r\n")
    await reply(b"250")
    for number, recipient in enumerate(recipients):
        writer.write(f"MAIL FROM:<sender{number % 7}@load.test>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode())
        for code in (b"250", b"250", b"354"):
            await reply(code)
        writer.write(f"From: <sender@load.test>\r\nTo: <{recipient}>\r\nSubject: fairness\r\n\r\nA short text.\r\n.\r\n".encode())
        await reply(b"250")
    writer.write(b"QUIT\r\n")
    await reply(b"221")
    writer.close()


def send(port, recipients):
    async def all_sessions():
        await asyncio.gather(*(send_some(port, recipients[i::SESSIONS]) for i in range(SESSIONS)))

    asyncio.run(all_sessions())


def rate(times):
    """Messages a second, without the start and the end."""
    ordered = sorted(times)
    first, last = len(ordered) // 10, len(ordered) * 9 // 10
    return (last - first) / (ordered[last] - ordered[first])


def names(label, domain, number, count):
    return [f"{label}{number * 1000000 + i}@{domain}" for i in range(count)]


def run_round(hops, port, number, options):
    """Rates of the steady server: alone, beside the others."""
    alone = names("alone", "steady.test", number, options.messages)
    send(port, alone)
    hops.wait_for(alone)
    others = names("slow", "slow.test", number, options.slow_messages) + names("flaky", "flaky.test", number, options.flaky_messages)
    send(port, others)
    beside = names("beside", "steady.test", number, options.messages)
    send(port, beside)
    hops.wait_for(beside)
    slow_left = sum(recipient not in hops.times for recipient in others)
    hops.wait_for(others)
    if slow_left == 0:
        raise SystemExit("the slow server was through before the steady one: ask for more --slow-messages")
    rates = [rate([hops.times[recipient] for recipient in group]) for group in (alone, beside)]
    print(f"round {number + 1}: {rates[0]:.0f}/s alone, {rates[1]:.0f}/s beside {slow_left} messages that wait for the others: "
          f"{rates[1] / rates[0]:.3f} : 1", flush=True)
    return rates[1] / rates[0], alone + beside + others


def parse_arguments():
    parser = argparse.ArgumentParser(prog="./dev bench fairness", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=4000, help="to the steady server, each time (default 4000)")
    parser.add_argument("--slow-messages", type=int, default=600, help="a round (default 600)")
    parser.add_argument("--flaky-messages", type=int, default=2000, help="a round (default 2000)")
    parser.add_argument("--tolerance", type=float, default=0.05, help="by how much the rate may fall (default 0.05)")
    return parser.parse_args()


def main():
    options = parse_arguments()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bench-fairness-", dir=build_dir()))
    hops = Hops()
    relay = Postern(directory, {
        "servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}, "limits": {"connections-per-client": 1000}}},
        "connectors": {domain.partition(".")[0]: {"address-spaces": [domain], "smart-hosts": [f"127.0.0.1:{port}"]}
                       for domain, port in hops.ports.items()},
        "delivery": {"retry": ["2s"]},
    })
    try:
        relay.start()
        ratios, sent = [], []
        for number in range(options.rounds):
            ratio, recipients = run_round(hops, relay.address()[1], number, options)
            ratios.append(ratio)
            sent += recipients
        time.sleep(3)  # whatever would come twice
        hops.look()
        twice = [recipient for recipient, count in hops.counts.items() if count > 1]
        strange = set(hops.counts) - set(sent)
        print(f"\n{len(sent)} messages, {hops.refusals} of them refused once with 451: none lost, {len(twice)} accepted twice; "
              f"the steady server's rate beside the others {statistics.median(ratios):.3f} : 1 (median of {options.rounds})")
        relay.finish()
        if twice or strange:
            raise SystemExit(f"accepted twice: {twice[:3]}, never sent: {sorted(strange)[:3]}")
        if statistics.median(ratios) < 1 - options.tolerance:
            raise SystemExit(f"the rate fell by more than {options.tolerance:.0%}")
    finally:
        relay.kill()
        hops.close()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
