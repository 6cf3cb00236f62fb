# SPDX-License-Identifier: Apache-2.0
"""Limits on connections: nobody takes them all, and idle ones cost little."""
import os

import pytest

from harness.client import SmtpClient, deliver, letter, token
from harness.idle import IdleClients, raise_descriptor_limit
from harness.limits import SCALE, wait_until
from harness.settings import HOSTNAME, INSPECTABLE

TOO_MANY = f"421 4.3.2 {HOSTNAME} Service not available, too many connections"


@pytest.fixture
def connect():
    sessions = []

    def opened(address, source):
        session = SmtpClient(address, source=source)
        sessions.append(session)
        return session

    yield opened
    for session in sessions:
        session.close()


def limited(place, connections, per_client):
    return place.postern({"servers": {"main": {"limits": {"connections": connections, "connections-per-client": per_client}}}})


def test_connections_per_client(place, connect):
    """One client, broken or hostile, can't take all connections: others are still served."""
    relay = limited(place, 10, 4)
    taken = [connect(relay.address(), "127.0.0.1") for _ in range(4)]
    for session in taken:
        session.hello()
    for _ in range(5):
        refused = connect(relay.address(), "127.0.0.1")
        assert refused.banner == TOO_MANY
        assert refused.is_closed()
    for _ in range(4):
        connect(relay.address(), "127.0.0.2").hello()
    taken[0].expect_code("QUIT", "221 ")
    assert taken[0].is_closed()

    def served_again():
        session = connect(relay.address(), "127.0.0.1")
        return session.banner.startswith("220 ")

    wait_until(served_again, "a place that became free")
    taken[1].expect("NOOP", "250 2.0.0 OK")


def test_connections_in_all(place, connect):
    """Beyond the limit new clients are told to come later; those that are connected go on."""
    relay = limited(place, 5, 2)
    sessions = [connect(relay.address(), f"127.0.0.{number // 2 + 1}") for number in range(5)]
    refused = connect(relay.address(), "127.0.0.9")
    assert refused.banner == TOO_MANY
    assert refused.is_closed()
    for session in sessions:
        session.hello()
    sessions.pop().close()
    wait_until(lambda: connect(relay.address(), "127.0.0.9").banner.startswith("220 "), "a place that became free")


def test_connect_lists(place):
    """Clients that are kept out, and clients that alone are let in (relay-behaviour.md section 2, step 1)."""
    relay = place.postern({"servers": {
        "main": {"connect": {"except": ["127.0.0.2", "127.1.0.0/16"]}},
        "inside": {"listen": ["127.0.0.1:0"], "connect": {"only": ["127.0.0.2"]}},
    }})
    for server, refused, served in (("main", ("127.0.0.2", "127.1.2.3"), ("127.0.0.1", "127.2.0.1")),
                                    ("inside", ("127.0.0.1", "127.0.0.3"), ("127.0.0.2",))):
        for source in refused:
            with SmtpClient(relay.address(server), source=source) as client:
                assert client.banner.startswith("554 5.7.1 "), (server, source, client.banner)
                assert client.is_closed()
        for source in served:
            with SmtpClient(relay.address(server), source=source) as client:
                client.hello()


def test_messages_per_connection(place):
    """A limit that was set and does nothing is a trap."""
    relay = place.postern({"servers": {"main": {"limits": {"messages-per-connection": 2}}}})
    with SmtpClient(relay.address()) as client:
        client.hello()
        for _ in range(2):
            client.deliver("alice@contoso.test", "bob@contoso.test", letter(token()))
        client.expect_code("MAIL FROM:<alice@contoso.test>", "421 4.7.0 ")
        assert client.is_closed()


def test_tarpit(place):
    """Harvesters wait for every refusal, others are served meanwhile, and granted clients don't wait."""
    relay = place.postern({"servers": {"main": {"tarpit": "2s", "relay": {"only": ["127.0.0.2"]}}}})
    with SmtpClient(relay.address()) as slow, SmtpClient(relay.address()) as other, \
            SmtpClient(relay.address(), source="127.0.0.2") as granted:
        for session in (slow, other, granted):
            session.hello()
        slow.expect_code("MAIL FROM:<u@example.org>", "250 ")
        slow.send("RCPT TO:<v@example.net>\r\n")
        other.deliver("alice@contoso.test", "bob@contoso.test", letter(token()))
        granted.expect_code("FOO", "500 ")
        slow.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            slow.reply()
        slow.socket.settimeout(30)
        assert slow.reply() == "550 5.7.1 Unable to relay for v@example.net"


# ---- idle connections ----

def hold_idle(relay, count):
    """Opens idle connections, tries a new client among them, closes them. KiB resident each while they stood."""
    before_kib, before_descriptors = relay.resident_kib(), relay.descriptors()
    clients = IdleClients(relay.address(), count, max(1, os.cpu_count()))
    try:
        assert clients.opened() == count
        each_kib = (relay.resident_kib() - before_kib) / count
        word = token()
        with SmtpClient(relay.address(), timeout_s=5 * SCALE) as client:
            client.hello()
            client.deliver("alice@contoso.test", "bob@contoso.test", letter(word))
        relay.maildir("bob@contoso.test").wait_for(word, timeout_s=10 * SCALE)
    finally:
        clients.close()
    wait_until(lambda: relay.descriptors() <= before_descriptors + 10, "the descriptors' return")
    return each_kib


def check_idle(place, wanted):
    """KiB a connection costs; a second wave must live on what the first one left."""
    count = min(wanted, raise_descriptor_limit(wanted + 1000) - 500)
    relay = place.postern({
        "servers": {"main": {"limits": {"connections": wanted + 100, "connections-per-client": wanted}}}, **INSPECTABLE})
    deliver(relay.address(), "alice@contoso.test", "bob@contoso.test", letter(token()))
    before_kib = relay.resident_kib()
    first_kib = hold_idle(relay, count)
    left_kib = (relay.resident_kib() - before_kib) / count
    second_kib = hold_idle(relay, count) + left_kib
    print(f"{count} idle connections: {first_kib:.2f} KiB resident each, {left_kib:.2f} left, {second_kib:.2f} the second time")
    assert second_kib <= first_kib * 1.2 + 1, "memory is lost with each connection"
    return first_kib


def test_a_thousand_idle_connections(place):
    """They are all served, and all their descriptors come back."""
    check_idle(place, 1000)


@pytest.mark.release_only
def test_twenty_thousand_idle_connections(place):
    """Devices that keep connections open must cost at most 10 KiB each."""
    assert check_idle(place, 20000) <= 10
