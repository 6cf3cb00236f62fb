# SPDX-License-Identifier: Apache-2.0
"""Runs `postern relaytest`, and reads what it says."""
import itertools
import json
import os
import pathlib
import socket
import subprocess
import threading
import time

import jsonschema

from .limits import SCALE
from .postern import ROOT, program

SCHEMA = json.loads((ROOT / "docs" / "relaytest.schema.json").read_text())
CLIENT_NAME = "client.fabrikam.test"
_numbers = itertools.count(1)


def catch_address():
    """An address of its own for each catch, so that a port that is free now is free then."""
    host = f"127.{64 + os.getpid() % 128}.{os.getpid() // 128 % 256}.{next(_numbers) % 250 + 1}"
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"


class Run:
    """What came of one test: exit code, JSON, time and memory."""

    def __init__(self, code, output, errors, seconds, peak_kib):
        self.code = code
        self.output = output
        self.errors = errors
        self.seconds = seconds
        self.peak_kib = peak_kib
        self.told = None
        assert "Sanitizer" not in errors and "runtime error" not in errors, errors

    def parse(self):
        self.told = json.loads(self.output)
        jsonschema.validate(self.told, SCHEMA)
        assert self.told["exit"] == self.code
        return self

    def verdicts(self):
        return {row["id"]: row["verdict"] for row in self.told["probes"]}

    def with_verdict(self, verdict):
        return {id for id, found in self.verdicts().items() if found == verdict}

    def row(self, id):
        return next(row for row in self.told["probes"] if row["id"] == id)


def command(target, *options):
    return [program("postern"), "relaytest", target, *options]


class PeakMemory:
    """The most that a process had in memory, looked at while it runs: what the system tells afterwards is of any child."""

    def __init__(self, pid):
        self.kib = 0
        self._status = pathlib.Path(f"/proc/{pid}/status")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        while not self._ended.wait(0.02):
            try:
                lines = self._status.read_text().splitlines()
            except OSError:
                return
            self.kib = max([self.kib, *(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))])

    def end(self):
        self._ended.set()
        self._thread.join()
        return self.kib


def run(target, *options, timeout_s=120, wrap=lambda words: words, **more):
    """To its end; the run is killed, and the test fails, when it takes longer."""
    started = time.monotonic()
    process = subprocess.Popen(wrap(command(target, *options)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, errors="surrogateescape", **more)
    memory = PeakMemory(process.pid)
    try:
        output, errors = process.communicate(timeout=timeout_s * SCALE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    finally:
        peak_kib = memory.end()
    return Run(process.returncode, output, errors, time.monotonic() - started, peak_kib)


def run_json(target, *options, **more):
    return run(target, "--json", *options, **more).parse()


def usual(catch, wait="2s"):
    """Options that most tests give."""
    return ["--catch", catch, "--external", "relaytest@outside.test", "--local-domain", "contoso.test", "--client-name", CLIENT_NAME,
            "--wait", wait]
