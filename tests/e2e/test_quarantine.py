# SPDX-License-Identifier: Apache-2.0
"""A message that crashes the daemon each time that it is handled must not keep everybody else's mail from going."""
import contextlib
import signal
import threading

from harness.answers import REMOTE, SENDER
from harness.client import SmtpClient, deliver, letter, token

POISON = "poison@example.net"


def end(relay, number):
    """The relay gets no answer before it is gone: unlike a fault of its own, a signal takes a moment."""
    process, gone = relay.process, threading.Event()
    process.send_signal(number)
    while process.poll() is None:
        gone.wait(0.01)


def leave(relay, recipient, word):
    """Hands over a message whose delivery is the relay's end: it may not live to say that it has taken it."""
    with SmtpClient(relay.address()) as client, contextlib.suppress(ConnectionError):
        client.hello()
        client.deliver(SENDER, [recipient], letter(word))


def test_poison_is_put_on_hold(place, relay_to):
    """Two crashes with the same message in hand, beside others: the third start holds that one, and delivers the others."""
    relays = []

    def crash_on_poison(stage, text, session):
        if stage == "rcpt" and POISON in text:
            end(relays[0], signal.SIGABRT)

    sink = place.sink(answer=crash_on_poison)
    relay = relay_to(sink)
    relays.append(relay)
    words = [token() for _ in range(20)]
    for word in words[:10]:
        deliver(relay.address(), SENDER, REMOTE, letter(word))
    leave(relay, POISON, token())
    assert relay.wait() == -signal.SIGABRT
    relay.spawn()
    assert relay.wait() == -signal.SIGABRT
    relay.start()
    held = relay.wait_for_event(lambda event: event.get("event") == "held")
    assert "quarantined" in held["why"]
    for word in words[10:]:
        deliver(relay.address(), SENDER, REMOTE, letter(word))
    for word in words:  # perhaps twice: a crash forgets what was not synced yet
        sink.wait_until(lambda: sink.find(word), word)
    assert not [message for message in sink.messages if POISON in message.addresses()]
    # And it stays there.
    assert relay.stop() == 0
    relay.start()
    assert relay.is_running()


def test_kills_accuse_no_message(place, relay_to):
    """An administrator with kill -9 makes no mail suspicious."""
    relays, crashes = [], []

    def kill_twice(stage, text, session):
        if stage == "rcpt" and len(crashes) < 2:
            crashes.append(text)
            end(relays[0], signal.SIGKILL)

    sink = place.sink(answer=kill_twice)
    relay = relay_to(sink)
    relays.append(relay)
    word = token()
    leave(relay, REMOTE, word)
    for _ in range(2):
        assert relay.wait() == -signal.SIGKILL
        relay.spawn()
    sink.wait_until(lambda: sink.find(word), word)
    assert len(crashes) == 2
