# SPDX-License-Identifier: Apache-2.0
"""The control socket, byte by byte, and the commands that talk to it."""
import json
import socket
import subprocess

from .limits import WAIT_S, wait_until
from .postern import program


class Tool:
    """One run of `postern`."""

    def __init__(self, config_path, *arguments, **options):
        done = subprocess.run([program("postern"), "-c", str(config_path), *arguments], capture_output=True, text=True, timeout=WAIT_S, **options)
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def lines(self):
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def json(self):
        return json.loads(self.out)


def tool(relay, *arguments, **options):
    return Tool(relay.config_path, *arguments, **options)


def done(relay, *arguments):
    """A command that must succeed."""
    run = tool(relay, *arguments)
    assert run.code == 0, (arguments, run.code, run.out, run.err)
    return run


def queued(relay, *conditions):
    """What `queue list --json` says."""
    return done(relay, "queue", "list", "--json", *conditions).lines


def wait_for_queue(relay, count, *conditions):
    return wait_until(lambda: (lambda found: found if len(found) == count else None)(queued(relay, *conditions)) or count == 0,
                      lambda: f"{count} messages in the queue, not {queued(relay)}")


def events(relay, *conditions):
    """What `track --json` says; nothing found is nothing."""
    run = tool(relay, "track", "--json", *conditions)
    assert run.code in (0, 1), (run.code, run.err)
    return run.lines


def wait_for_events(relay, count, *conditions):
    return wait_until(lambda: (lambda found: found if len(found) >= count else None)(events(relay, *conditions)),
                      lambda: f"{count} events {conditions}, not {events(relay, *conditions)}")


class ControlClient:
    """One connection to the control socket."""

    def __init__(self, relay, greeted=True):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(WAIT_S)
        self.socket.connect(str(relay.run_dir / "control.sock"))
        self._buffer = b""
        self._id = 0
        self.greeting = self.read() if greeted else None

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def read(self):
        """The next line; None at the end."""
        while b"\n" not in self._buffer:
            try:
                piece = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not piece:
                assert not self._buffer, self._buffer
                return None
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def ask(self, command, **more):
        """(items, the last answer)."""
        self._id += 1
        self.send(json.dumps({"id": self._id, "command": command, **more}) + "\n")
        items = []
        while True:
            line = self.read()
            assert line and line["id"] == self._id, line
            if "item" in line:
                items.append(line["item"])
            elif "progress" not in line:
                return items, line
