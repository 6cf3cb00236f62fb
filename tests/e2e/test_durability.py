# SPDX-License-Identifier: Apache-2.0
"""What has been answered 250 is never lost: not by a crash at any moment, and not by a stop.

POSTERN_KILLS sets the number of crashes (default 15), POSTERN_SEED the seed that a failed run printed.
"""
import os
import random
import re
import signal
import subprocess
import threading
import time

import pytest

from harness.client import TOKEN, SmtpClient, deliver, letter, token
from harness.limits import SCALE, WAIT_S, wait_until
from harness.postern import program
from harness.settings import connector

SENDER, LOCAL, REMOTE, NOBODY = "alice@contoso.test", "bob@contoso.test", "v@example.net", "nobody@contoso.test"
# Where the message, or the report about it, is to be found.
MAILBOXES = {LOCAL: LOCAL, NOBODY: SENDER}
# How long before a crash a delivery may have been made and its result not yet be on the disk.
UNSYNCED_S = 5.0 * SCALE


class Load:
    """Client threads that send until they are told to stop, and remember what was promised to them."""

    def __init__(self, threads, seed):
        self.acknowledged = {}  # token: recipients
        self.failures = []
        self.address = None
        self._changed = threading.Condition()
        self._ending = False
        self._threads = [threading.Thread(target=self._run, args=(random.Random(seed + number),)) for number in range(threads)]

    def start(self, address):
        self.move(address)
        for thread in self._threads:
            thread.start()

    def move(self, address):
        """The server is here now; None while it is down."""
        with self._changed:
            self.address = address
            self._changed.notify_all()

    def wait_for_more(self, count):
        """Until this many more messages have been acknowledged."""
        with self._changed:
            target = len(self.acknowledged) + count
            assert self._changed.wait_for(lambda: len(self.acknowledged) >= target or self.failures, WAIT_S), "no message gets through"

    def end(self):
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        assert not self.failures, self.failures

    def _run(self, dice):
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.address or self._ending)
                if self._ending:
                    return
                address = self.address
            try:
                self._session(address, dice)
            except OSError:
                with self._changed:  # killed; the next one has another port
                    self._changed.wait_for(lambda: self.address != address or self._ending, 0.2)
            except AssertionError as failure:
                with self._changed:
                    if "421 4.3.2" not in str(failure):  # a server that is being stopped may say so
                        self.failures.append(str(failure))
                    self._changed.notify_all()

    def _session(self, address, dice):
        with SmtpClient(address, timeout_s=10 * SCALE) as client:
            client.hello()
            for _ in range(dice.randrange(1, 60)):
                if self._ending:
                    return
                self._message(client, dice)

    def _message(self, client, dice):
        word = token()
        recipients = dice.choice(([LOCAL], [REMOTE], [LOCAL, REMOTE], [REMOTE, "w@example.org"], [NOBODY], [REMOTE, NOBODY]))
        size = dice.choice((10, 500, 4000, 4000, 70_000)) if dice.random() > 0.03 else 400_000
        content = letter(word, (b"%0*d\r\n" % (70, size)) * (size // 72 + 1))
        if dice.random() < 0.3:
            client.envelope(SENDER, *recipients)
            answer = client.chunk(content, last=True)
            assert answer.startswith("250 2.6.0 "), answer
        else:
            client.deliver(SENDER, recipients, content)
        with self._changed:
            self.acknowledged[word] = recipients
            self._changed.notify_all()


class Arrivals:
    """Which token came where and when: at the sink as it happens, in the Maildir when asked."""

    def __init__(self):
        self.at_sink = {}  # (token, recipient): times
        self.in_maildir = {}  # (token, mailbox): number of files
        self._seen = set()
        self._lock = threading.Lock()

    def answer(self, stage, message, session):
        """For the sink: it forgets nothing, but keeps no content."""
        if stage == "message":
            word = TOKEN.search(message.content).group().decode()
            with self._lock:
                for address in message.addresses():
                    self.at_sink.setdefault((word, address), []).append(time.monotonic())
            message.content = b""

    def read_maildirs(self, relay):
        for mailbox in MAILBOXES.values():
            for path in relay.maildir(mailbox).files():
                if path not in self._seen:
                    self._seen.add(path)
                    key = (TOKEN.search(path.read_bytes()).group().decode(), mailbox)
                    self.in_maildir[key] = self.in_maildir.get(key, 0) + 1

    def missing(self, acknowledged, relay):
        self.read_maildirs(relay)
        with self._lock:
            return [(word, recipient) for word, recipients in acknowledged.items() for recipient in recipients
                    if not ((word, MAILBOXES[recipient]) in self.in_maildir if recipient in MAILBOXES
                            else (word, recipient) in self.at_sink)]


@pytest.fixture
def arrivals():
    return Arrivals()


@pytest.fixture
def relay(place, arrivals):
    sink = place.sink(answer=arrivals.answer)
    return place.postern({
        "servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}}},
        "connectors": {"out": connector(sink.address)},
    })


def check_drained(relay, arrivals, load):
    """Every token has arrived for every recipient, or a report about it; nothing was set aside, and no report was made twice."""
    def missing():
        return arrivals.missing(load.acknowledged, relay)

    wait_until(lambda: not missing(), lambda: f"{len(missing())} of {len(load.acknowledged)} acknowledged are lost, "
               f"e.g. {missing()[:3]}", 60 * SCALE)
    assert not relay.badmail()
    double = [key for key, count in arrivals.in_maildir.items() if count > 1]
    assert not double, "a delivery into a Maildir that is repeated must replace the first; a report is made once"
    reported = {word for word, mailbox in arrivals.in_maildir if mailbox == SENDER}
    wrongly = [word for word in reported if NOBODY not in load.acknowledged.get(word, [NOBODY])]
    assert not wrongly, "a report about mail that can be delivered"


def check_no_litter(relay):
    """Of a stopped daemon whose queue is empty."""
    assert not relay.run_dir.exists() or not list(relay.run_dir.iterdir())
    assert not list((relay.data_dir / "spool" / "body").glob("*")), "bodies of messages that are done"
    for mailbox in (relay.data_dir / "drop").iterdir():
        assert not list((mailbox / "tmp").iterdir())
    assert sorted(path.name for path in relay.data_dir.iterdir()) == ["badmail", "drop", "spool", "tracking"]


def test_kill_at_any_moment(relay, arrivals):
    """A power cut, an out-of-memory kill, a bug: the sender was told 250 and has forgotten the message."""
    seed = int(os.environ.get("POSTERN_SEED") or random.SystemRandom().randrange(1 << 32))
    kills = int(os.environ.get("POSTERN_KILLS") or 15)
    print(f"POSTERN_SEED={seed} POSTERN_KILLS={kills}")
    dice = random.Random(seed)
    load = Load(4, seed)
    kill_times = []
    load.start(relay.address())
    try:
        for _ in range(kills):
            load.wait_for_more(dice.randrange(1, 150))
            threading.Event().wait(dice.random() * 0.02)  # any moment, not only that of a reply
            relay.kill()
            kill_times.append(time.monotonic())
            load.move(None)
            relay.start()
            load.move(relay.address())
        load.wait_for_more(20)
    finally:
        load.end()
    check_drained(relay, arrivals, load)
    repeated = {key: times for key, times in arrivals.at_sink.items() if len(times) > 1}
    print(f"{len(load.acknowledged)} messages acknowledged, {len(repeated)} of them delivered more than once")
    for key, times in repeated.items():
        for first, second in zip(times, times[1:]):
            assert any(first - 0.1 <= killed <= second and killed - first < UNSYNCED_S for killed in kill_times), \
                f"{key} arrived at {times}, killed at {kill_times}"
    assert relay.stop() == 0
    check_no_litter(relay)


def test_kill_during_recovery(relay, arrivals):
    """A crash loop: killed again while it starts, recovery must not lose what an earlier one could read."""
    load = Load(2, 1)
    load.start(relay.address())
    load.wait_for_more(200)
    relay.kill()
    load.end()
    for pause_s in (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05):
        relay.spawn()
        threading.Event().wait(pause_s)
        relay.kill()
    relay.start()
    check_drained(relay, arrivals, load)


def test_sigterm_under_load(relay, arrivals):
    """An update or reboot: what is in flight is finished, and nothing is lost, repeated or left lying about."""
    load = Load(4, 2)
    load.start(relay.address())
    for _ in range(3):
        load.wait_for_more(100)
        assert relay.stop() == 0
        assert not relay.run_dir.exists() or not list(relay.run_dir.iterdir())
        load.move(None)
        relay.start()
        load.move(relay.address())
    load.wait_for_more(50)
    load.end()
    check_drained(relay, arrivals, load)
    assert not [key for key, times in arrivals.at_sink.items() if len(times) > 1], "a stop in good order repeats nothing"
    assert relay.stop() == 0
    check_no_litter(relay)


def test_sigterm_finishes_the_transaction(place):
    """A message under way when the stop comes is taken, or refused; never cut off after its 250."""
    relay = place.postern()
    word = token()
    with SmtpClient(relay.address()) as client, SmtpClient(relay.address()) as idle:
        client.hello()
        idle.hello()
        client.envelope(SENDER, LOCAL)
        client.expect_code("DATA", "354 ")
        client.send(letter(word)[:60])
        relay.signal(signal.SIGTERM)
        assert idle.reply().startswith("421 4.3.2 "), "a client that waits is told to come back"
        assert idle.is_closed()
        client.send(letter(word)[60:] + b".\r\n")
        assert client.reply().startswith("250 2.6.0 ")
    assert relay.wait() == 0
    relay.start()
    relay.maildir(LOCAL).wait_for(word)


def test_sigterm_does_not_wait_for_ever(place):
    """One client that does nothing must not hold up a shutdown."""
    relay = place.postern()
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.envelope(SENDER, LOCAL)
        client.expect_code("DATA", "354 ")
        assert relay.stop() == 0


def test_sigint_stops_too(place):
    """Ctrl-C in a terminal."""
    relay = place.postern()
    relay.signal(signal.SIGINT)
    assert relay.wait() == 0


def test_stop_with_mail_waiting(place):
    """A next hop that is down must not hold up the stop, and its mail must be there after the next start."""
    sink = place.sink(listening=False)
    relay = place.postern({
        "servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}}},
        "connectors": {"out": connector(sink.address)},
    })
    words = [token() for _ in range(20)]
    for word in words:
        deliver(relay.address(), SENDER, REMOTE, letter(word))
    for _ in range(3):
        assert relay.stop() == 0
        relay.start()
    sink.listen()
    for word in words:
        sink.wait_for(word)


def test_second_daemon_is_refused(place):
    """Two daemons on one spool would destroy it."""
    relay = place.postern()
    second = place.directory / "second.yaml"
    second.write_text(relay.config_path.read_text().replace(str(relay.run_dir), str(relay.run_dir) + "2"))
    result = subprocess.run([program("posternd"), "-c", str(second)], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert result.returncode not in (0, 78), result.stderr
    assert re.search("lock|in use|another", result.stderr), result.stderr
    word = token()
    deliver(relay.address(), SENDER, LOCAL, letter(word))
    relay.maildir(LOCAL).wait_for(word)


def test_port_in_use(place):
    """The message must name the address, so that one knows what to stop."""
    relay = place.postern()
    host, port = relay.address()
    other = place.postern({"servers": {"main": {"listen": [f"{host}:{port}"]}}}, start=False, name="other")
    other.spawn()
    assert other.wait() != 0
    assert f"{host}:{port}" in other.log.tail()
