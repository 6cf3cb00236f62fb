# SPDX-License-Identifier: Apache-2.0
"""Many idle connections, held by processes of their own, as one process may not have enough descriptors."""
import json
import pathlib
import resource
import subprocess
import sys

PROGRAM = pathlib.Path(__file__).with_name("idle_connections.py")


class IdleClients:
    """Processes that hold connections open: each says how many it has, and closes them when its input ends.

    Each connection greets, then says `commands`, of which all but those in `unanswered`, which come last, must be answered with 2xx.
    """

    def __init__(self, address, count, processes, commands=(), unanswered=()):
        self.processes = []
        host, port = address
        for number in range(processes):
            share = count // processes + (number < count % processes)
            command = [sys.executable, str(PROGRAM), host, str(port), str(share), f"127.0.{number + 1}",
                       json.dumps(list(commands)), json.dumps(list(unanswered))]
            self.processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))

    def opened(self):
        """Waits until all have connected; how many connections stand."""
        return sum(int(process.stdout.readline() or 0) for process in self.processes)

    def close(self):
        for process in self.processes:
            process.stdin.close()
        for process in self.processes:
            process.stdout.close()
            process.wait(60)


def raise_descriptor_limit(wanted):
    """For this process and those that it starts, as far as this user may; returns the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (max(wanted, hard), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return limit
        except (ValueError, OSError):
            continue
    return hard
