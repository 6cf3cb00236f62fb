# SPDX-License-Identifier: Apache-2.0
"""The spool on the disk: `postern spool check`, and what the daemon makes of damage."""
import json
import subprocess

import pytest

from harness.answers import REMOTE, SENDER
from harness.client import deliver, letter, token
from harness.limits import WAIT_S
from harness.postern import program
from harness.report import Report


def spool_check(relay):
    result = subprocess.run([program("postern"), "--json", "spool", "check", str(relay.data_dir / "spool")], capture_output=True,
                            text=True, timeout=WAIT_S, check=False)
    return result.returncode, json.loads(result.stdout) if result.stdout else result.stderr


@pytest.fixture
def stopped(place, relay_to):
    """(a daemon that was stopped with mail waiting, its next hop, the tokens)."""
    sink = place.sink(listening=False)
    relay = relay_to(sink)
    words = [token() for _ in range(20)]
    for number, word in enumerate(words):
        size = 400_000 if number == 7 else 3000
        deliver(relay.address(), SENDER, REMOTE, letter(word, b"x" * size + b"\r\n"))
    assert relay.stop() == 0
    return relay, sink, words


def spoil(pattern, relay, place_in):
    """Changes one byte of a message, near where its token stands: first of all in its envelope, and last in its body."""
    for path in (relay.data_dir / "spool").rglob(pattern):
        data = bytearray(path.read_bytes())
        at = place_in(data)
        if at >= 0:
            data[at + 5] ^= 0x40
            path.write_bytes(data)
            return
    raise AssertionError(f"not found in {pattern}")


def test_check_of_a_sound_spool(stopped):
    """Before and after moving a machine, or restoring a backup, one wants to know."""
    relay, sink, words = stopped
    code, report = spool_check(relay)
    assert code == 0, report
    assert report["live_messages"] == len(words) and report["damaged_frames"] == report["damaged_bodies"] == 0
    relay.start()
    sink.listen()
    for word in words:
        sink.wait_for(word)
    assert relay.stop() == 0
    code, report = spool_check(relay)
    assert code == 0 and report["live_messages"] == 0, report


def test_check_of_no_spool(tmp_path):
    result = subprocess.run([program("postern"), "spool", "check", str(tmp_path / "nowhere")], capture_output=True, text=True,
                            timeout=WAIT_S, check=False)
    assert result.returncode == 3 and "nowhere" in result.stderr


def check_that_the_others_arrive(relay, sink, words, number):
    """With the next hop up again: all but this one."""
    code, report = spool_check(relay)
    assert code == 1, report
    assert report["damaged_frames"] + report["damaged_bodies"] == 1 and report["findings"], report
    relay.start()
    sink.listen()
    for word in words[:number] + words[number + 1:]:
        sink.wait_for(word)


def check_that_it_is_settled(relay, sink, words, number):
    assert not sink.find(words[number]) and len(sink.messages) == len(words) - 1
    assert relay.stop() == 0
    _, report = spool_check(relay)
    assert report["live_messages"] == 0, "it is tried for ever"


@pytest.mark.parametrize("number, pattern", [(5, "*.seg"), (7, "body/*")], ids=["in-the-log", "in-a-file"])
def test_damaged_body(stopped, number, pattern):
    """A disk that garbles a byte: garbled mail is not sent, the sender learns of it, and all else goes out."""
    relay, sink, words = stopped
    spoil(pattern, relay, lambda data: data.rfind(words[number].encode()))
    check_that_the_others_arrive(relay, sink, words, number)
    [report] = relay.maildir(SENDER).wait_for_count(1)
    assert Report(report).recipient(REMOTE)["Status"] == "5.3.0"
    check_that_it_is_settled(relay, sink, words, number)


def test_damaged_envelope(stopped):
    """Nobody knows any more from whom and to whom: what is left of it is set aside for the administrator."""
    relay, sink, words = stopped
    spoil("*.seg", relay, lambda data: data.find(words[5].encode()))
    check_that_the_others_arrive(relay, sink, words, 5)
    assert relay.wait_for_event("spool-damage")["level"] == "error"
    [frame] = (relay.data_dir / "badmail").glob("*.frame")
    assert words[5].encode() in frame.read_bytes(), "its body was not damaged"
    check_that_it_is_settled(relay, sink, words, 5)
