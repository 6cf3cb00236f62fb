# SPDX-License-Identifier: Apache-2.0
"""Disks that are full or broken: mail is refused in time, and what was taken is still there afterwards.

The data directory is a small file system in memory, mounted in a name space of the daemon's own.
"""
import os
import pathlib
import shlex
import subprocess

import pytest

from harness.client import SmtpClient, deliver, letter, token
from harness.limits import wait_until
from harness.maildir import Maildir
from harness.settings import connector

SENDER, LOCAL, REMOTE = "alice@contoso.test", "bob@contoso.test", "v@example.net"
FULL = "452 4.3.1 Out of storage"
NOT_STORED = "451 4.3.0 Could not store the message, try again later"
UNSHARE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]


def can_mount():
    return subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode == 0


class SmallDisk:
    """A daemon whose data directory holds this many bytes."""

    def __init__(self, place, size_mib, next_hop):
        directory = place.directory / "disk"
        directory.mkdir()
        self.path = directory
        mount = f'mount -t tmpfs -o size={size_mib}m none {shlex.quote(str(directory))} && exec "$@"'
        self.relay = place.postern(
            {
                "data-dir": str(directory / "data"),
                "user": "root",  # which it is in its name space, whoever runs the test
                "servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}}},
                "connectors": {"out": connector(next_hop)},
                "spool": {"segment-size": "1MiB", "reserve": "256KiB"},
            }, wrapper=[*UNSHARE, "sh", "-c", mount, "sh"])

    def inside(self, *parts):
        """A path on the small disk, as seen from here."""
        return pathlib.Path(f"/proc/{self.relay.pid}/root{self.path}", *parts)

    def maildir(self, address):
        return Maildir(self.inside("data", "drop", address))

    def fill(self):
        """Takes all the space that is left."""
        with open(self.inside("filler"), "wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"x" * 4096)
            except OSError:
                pass

    def make_room(self):
        self.inside("filler").unlink()


def offer(client, word, recipient, size):
    """True if the message was taken, False if the storage is said to be full; anything else is a fault."""
    content = letter(word, b"x" * 70 + b"\r\n" + b"y" * size + b"\r\n")
    answer = client.ask(f"MAIL FROM:<{SENDER}> SIZE={len(content)}")
    if answer == FULL:
        return False
    client.expect_code(f"RCPT TO:<{recipient}>", "250 ")
    answer = client.ask("DATA")
    if answer == FULL:
        return False
    assert answer.startswith("354 "), answer
    client.send(content + b".\r\n")
    answer = client.reply()
    assert answer == FULL or answer.startswith("250 2.6.0 "), answer
    return answer != FULL


def offer_anew(relay, recipient, size):
    with SmtpClient(relay.address()) as client:
        client.hello()
        return offer(client, token(), recipient, size)


def offer_until_full(relay, recipient, size, bound):
    """The tokens of the messages that were taken before the first refusal."""
    taken = []
    with SmtpClient(relay.address()) as client:
        client.hello()
        for _ in range(bound):
            word = token()
            if not offer(client, word, recipient, size):
                client.expect("NOOP", "250 2.0.0 OK")
                return taken
            taken.append(word)
    raise AssertionError(f"{bound} messages of {size} bytes were taken by a disk that does not hold them")


@pytest.fixture
def small_disk(place):
    if not can_mount():
        pytest.skip("needs the right to mount a file system (root, or user name spaces)")
    return lambda size_mib, sink: SmallDisk(place, size_mib, sink.address)


@pytest.mark.parametrize("size", [4_000, 60_000, 600_000], ids=["small", "middle", "in-files"])
def test_queue_fills_the_disk(place, small_disk, size):
    """The next hop is down over the weekend and the disk fills: clients are told to wait, and on Monday all of it goes out."""
    sink = place.sink(listening=False)
    disk = small_disk(8, sink)
    taken = offer_until_full(disk.relay, REMOTE, size, 8 * (1 << 20) // size)
    assert taken, "not one was taken"
    sink.listen()
    for word in taken:
        sink.wait_for(word)
    wait_until(lambda: offer_anew(disk.relay, REMOTE, size), "room after everything has gone")


def test_others_fill_the_disk(place, small_disk):
    """Somebody else's file takes the last byte: mail that was taken is finished all the same, and goes on when there is room."""
    held = []

    def answer(stage, text, session):
        return "451 4.3.0 Later" if stage == "rcpt" and held else None

    held.append(True)
    sink = place.sink(answer=answer)
    disk = small_disk(16, sink)
    words = [token() for _ in range(50)]
    with SmtpClient(disk.relay.address()) as client:
        client.hello()
        for word in words:
            assert offer(client, word, REMOTE, 4000)
    disk.fill()
    more = offer_until_full(disk.relay, REMOTE, 60_000, 300)
    held.clear()
    for word in words + more:
        sink.wait_for(word)
    disk.make_room()
    wait_until(lambda: offer_anew(disk.relay, REMOTE, 60_000), "room after the file was removed")


def test_maildir_on_a_full_disk(place, small_disk):
    """A mailbox that can't be written delays its mail, and loses none of it."""
    disk = small_disk(16, place.sink())
    first = token()
    deliver(disk.relay.address(), SENDER, LOCAL, letter(first))
    disk.maildir(LOCAL).wait_for(first)
    disk.fill()
    taken = offer_until_full(disk.relay, LOCAL, 20_000, 1000)
    disk.make_room()
    for word in taken:
        disk.maildir(LOCAL).wait_for(word)
    assert len(disk.maildir(LOCAL).files()) == len(taken) + 1
    assert not disk.maildir(LOCAL).temporary_files()
    assert not disk.maildir(SENDER).files(), "a full disk was reported as a failure"


def test_sync_error_never_yields_250(place, tmp_path):
    """After a failed sync nobody knows what is on the disk: a 250 would be a lie."""
    library, switch = tmp_path / "fail_sync.so", tmp_path / "fail"
    source = pathlib.Path(__file__).parent / "harness" / "fail_sync.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    options = os.environ.get("ASAN_OPTIONS", "")
    sink = place.sink()
    relay = place.postern(
        {"servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}}}, "connectors": {"out": connector(sink.address)}},
        environment={"LD_PRELOAD": str(library), "POSTERN_FAIL_SYNC": str(switch),
                     "ASAN_OPTIONS": f"{options}:verify_asan_link_order=0".lstrip(":")})
    taken = []

    def send(size):
        word = token()
        with SmtpClient(relay.address()) as client:
            client.hello()
            client.envelope(SENDER, REMOTE)
            answer = client.data(letter(word, b"y" * size + b"\r\n"))
        if answer.startswith("250 "):
            taken.append(word)
        return answer

    assert send(100).startswith("250 2.6.0 ")
    sink.wait_for(taken[0])
    for size in (100, 500_000):  # in the log, and in a file of its own
        switch.touch()
        for _ in range(5):
            assert send(size) == NOT_STORED
        switch.unlink()
        wait_until(lambda: send(size).startswith("250 2.6.0 "), "a good disk")
    switch.touch()
    send(100)
    relay.kill()
    switch.unlink()
    relay.start()
    assert send(100).startswith("250 2.6.0 ")
    for word in taken:
        wait_until(lambda: sink.find(word), f"{word} at the sink")
