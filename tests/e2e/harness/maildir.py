# SPDX-License-Identifier: Apache-2.0
"""Reads Maildirs, and takes a stored message apart into what was added on the way and what the client sent."""
import pathlib
import re

from .limits import WAIT_S, wait_until

TRACE_FIELDS = (b"return-path", b"delivered-to", b"received")
FIELD = re.compile(rb"([!-9;-~]+):(?:[^\r\n]*\r?\n)(?:[ \t][^\r\n]*\r?\n)*")


class Maildir:
    """One mailbox; need not exist yet."""

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def files(self):
        new = self.path / "new"
        return sorted(new.iterdir()) if new.is_dir() else []

    def messages(self):
        return [path.read_bytes() for path in self.files()]

    def temporary_files(self):
        tmp = self.path / "tmp"
        return sorted(tmp.iterdir()) if tmp.is_dir() else []

    def find(self, token):
        token = token.encode() if isinstance(token, str) else token
        return [message for message in self.messages() if token in message]

    def wait_for(self, token, timeout_s=WAIT_S):
        """The one message with this token."""
        found = wait_until(lambda: self.find(token), lambda: f"{token} in {self.path} ({len(self.files())} messages)",
                           timeout_s)
        assert len(found) == 1, f"{token} arrived {len(found)} times in {self.path}"
        return found[0]

    def wait_for_count(self, count, timeout_s=WAIT_S):
        wait_until(lambda: len(self.files()) >= count, lambda: f"{count} messages in {self.path}, {len(self.files())} there",
                   timeout_s)
        return self.messages()


def split_trace(message, sent=b""):
    """(fields that the relay put on top, everything after them).

    A Message-ID is the relay's own only if the client sent none.
    """
    own = TRACE_FIELDS if re.search(rb"(?im)^message-id:", sent.split(b"\r\n\r\n")[0]) else (*TRACE_FIELDS, b"message-id")
    position = 0
    trace = []
    while True:
        field = FIELD.match(message, position)
        if not field or field.group(1).lower() not in own or (sent and message[position:] == sent):
            return trace, message[position:]
        trace.append(field.group(0))
        position = field.end()
