# SPDX-License-Identifier: Apache-2.0
"""Reads a daemon's log as it is written, and lets a test wait for a line of it."""
import json
import threading
import time

from .limits import WAIT_S

SANITIZER_MARKS = ("AddressSanitizer", "LeakSanitizer", "ThreadSanitizer", "UndefinedBehaviorSanitizer", "runtime error:")


class LogReader:
    """Collects JSON lines from a pipe. `events` are dictionaries; everything else (a sanitizer's words, say) is in `raw`."""

    def __init__(self):
        self.events = []
        self.raw = []
        self.lines = []
        self._changed = threading.Condition()
        self._ended = True
        self._thread = None

    def follow(self, pipe):
        """Reads until the pipe ends. One pipe at a time; events of earlier ones stay."""
        self.join()
        self._ended = False
        self._thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._thread.start()

    def join(self):
        if self._thread:
            self._thread.join(WAIT_S)
            self._thread = None

    def _read(self, pipe):
        with pipe:
            for line in pipe:
                self._take(line.decode("utf-8", "replace").rstrip("\n"))
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, line):
        event = None
        if line.startswith("{"):
            try:
                event = json.loads(line)
            except ValueError:
                pass
        with self._changed:
            self.lines.append(line)
            if event is None:
                self.raw.append(line)
            else:
                self.events.append(event)
                self._changed.notify_all()

    def position(self):
        """Where a later wait may start, so that it sees only what comes from now on."""
        with self._changed:
            return len(self.events)

    def find(self, wanted, since=0):
        """All events that match a name, a collection of names or a predicate."""
        matches = _predicate(wanted)
        with self._changed:
            return [event for event in self.events[since:] if matches(event)]

    def wait_for(self, wanted, since=0, timeout_s=WAIT_S):
        """The first such event, or None when the log ends or the time is over."""
        matches = _predicate(wanted)
        deadline = time.monotonic() + timeout_s
        position = since
        with self._changed:
            while True:
                for event in self.events[position:]:
                    if matches(event):
                        return event
                position = len(self.events)
                remaining = deadline - time.monotonic()
                if self._ended or remaining <= 0:
                    return None
                self._changed.wait(remaining)

    def sanitizer_report(self):
        """What a sanitizer said, from its first line on, or an empty text."""
        for number, line in enumerate(self.raw):
            if any(mark in line for mark in SANITIZER_MARKS):
                return "\n".join(self.raw[number:number + 60])
        return ""

    def tail(self, count=60):
        return "\n".join(self.lines[-count:])


def _predicate(wanted):
    if callable(wanted):
        return wanted
    names = {wanted} if isinstance(wanted, str) else set(wanted)
    return lambda event: event.get("event") in names
