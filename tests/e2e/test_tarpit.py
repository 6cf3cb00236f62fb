# SPDX-License-Identifier: Apache-2.0
"""The tarpit: harvesters wait, and nobody else pays for it. That refusals are held back at all is in test_limits.py."""
import os
import time

import pytest

from harness.client import SmtpClient, letter, token
from harness.idle import IdleClients, raise_descriptor_limit
from harness.limits import SCALE
from harness.settings import INSPECTABLE

TAKEN = ["MAIL FROM:<u@example.org>"]
REFUSED = ["RCPT TO:<v@example.net>"]
SETTLE_S = 5  # until a session that waits has given back what it does not need


@pytest.fixture
def crowd():
    """Opens connections in the same state; all are closed at the end."""
    crowds = []

    def opened(relay, count, commands, unanswered):
        clients = IdleClients(relay.address(), count, max(1, os.cpu_count()), commands, unanswered)
        crowds.append(clients)
        assert clients.opened() == count
    yield opened
    for clients in crowds:
        clients.close()


def relay_for(place, count, name="p"):
    return place.postern({"servers": {"main": {"tarpit": "10m", "limits": {
        "connections": 2 * count + 100, "connections-per-client": 2 * count}}}, **INSPECTABLE}, name=name)


def serve_another(relay):
    """A message of somebody else, from the greeting to the mailbox; the seconds until it was taken."""
    word = token()
    started_at = time.monotonic()
    with SmtpClient(relay.address(), timeout_s=5 * SCALE) as client:
        client.hello()
        client.deliver("alice@contoso.test", "bob@contoso.test", letter(word))
    took_s = time.monotonic() - started_at
    relay.maildir("bob@contoso.test").wait_for(word, timeout_s=10 * SCALE)
    return took_s


def each_kib(relay, crowd, count, unanswered):
    serve_another(relay)
    before_kib = relay.resident_kib()
    crowd(relay, count, TAKEN, unanswered)
    time.sleep(SETTLE_S)
    return (relay.resident_kib() - before_kib) / count


def compare(place, crowd, count):
    idle_kib = each_kib(relay_for(place, count, "idle"), crowd, count, [])
    relay = relay_for(place, count, "tarpit")
    tarpit_kib = each_kib(relay, crowd, count, REFUSED)
    print(f"{count} sessions: {tarpit_kib:.2f} KiB in the tarpit, {idle_kib:.2f} KiB idle")
    slowest_s = max(serve_another(relay) for _ in range(20))
    assert slowest_s < 2 * SCALE, "others wait with them"
    return idle_kib, tarpit_kib


def test_a_thousand_in_the_tarpit(place, crowd):
    """Others are served as before; and a refusal that waits must cost no more than a session that does nothing."""
    idle_kib, tarpit_kib = compare(place, crowd, 1000)
    assert tarpit_kib <= idle_kib * 1.3 + 2


@pytest.mark.release_only
def test_five_thousand_in_the_tarpit(place, crowd):
    """The size of a real harvest, and the memory to the letter."""
    idle_kib, tarpit_kib = compare(place, crowd, min(5000, raise_descriptor_limit(11000) // 2 - 500))
    assert tarpit_kib <= idle_kib * 1.05 + 0.2


def test_a_restart_does_not_wait(place, crowd):
    """Else an attacker decides how long the relay is away."""
    relay = relay_for(place, 100)
    crowd(relay, 100, [], ["FOO"])
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.send("FOO\r\n")
        serve_another(relay)
        started_at = time.monotonic()
        assert relay.stop() == 0
        assert time.monotonic() - started_at < 10 * SCALE
        assert client.reply() == "500 5.3.3 Unrecognized command"
        assert client.reply().startswith("421 4.3.2 ")
