# SPDX-License-Identifier: Apache-2.0
"""Verified host names: who gets what by its name, whatever the DNS says, and what a DNS that says nothing costs whom."""
import re
import time

import pytest

from harness.client import SmtpClient, deliver, letter, token
from harness.dns import NOERROR, NXDOMAIN, SERVFAIL, SILENCE
from harness.limits import SCALE, wait_until
from harness.maildir import split_trace
from harness.settings import connector, merge

SENDER, LOCAL, REMOTE = "alice@contoso.test", "bob@contoso.test", "v@example.net"
GRANTED = f"250 2.1.5 {REMOTE}"
REFUSED = f"550 5.7.1 Unable to relay for {REMOTE}"
DEFERRED = f"451 4.4.3 Cannot verify relay permission for {REMOTE}"
NOT_YET = "421 4.4.3 Cannot verify permission to connect, try again later"
KEPT_OUT = "554 5.7.1 Client not permitted to connect"
BRANCH = "domain:branch.contoso.test"


@pytest.fixture
def dns(place):
    return place.dns()


@pytest.fixture
def sink(place):
    return place.sink()


@pytest.fixture
def relay_with(place, dns, sink):
    """Starts a relay whose server main has these settings and that asks `dns`."""
    def start(main, timeout="2s", **more):
        return place.postern(merge({"servers": {"main": main}, "dns": {"resolver": dns.address, "timeout": timeout},
                                    "connectors": {"out": connector(sink.address)}}, more))
    return start


def recipient_reply(relay, source, recipient=REMOTE, sender=SENDER, server="main"):
    with SmtpClient(relay.address(server), source=source) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:<{sender}>", "250 ")
        return client.ask(f"RCPT TO:<{recipient}>")


def received_line(message):
    fields, _ = split_trace(message)
    return next(field for field in fields if field.lower().startswith(b"received:")).decode()


# ---- grants ----

def test_verified_name_relays(relay_with, dns, sink):
    """A branch office without a fixed address relays by its name; the name and the rule are found again in every record."""
    relay = relay_with({"relay": {"only": ["10.1.0.0/16", BRANCH]}})
    dns.client("127.0.0.2", "Mail.Branch.Contoso.Test")
    word = token()
    deliver(relay.address(), SENDER, REMOTE, letter(word), source="127.0.0.2")
    line = received_line(sink.wait_for(word).content)
    assert "from client.test (mail.branch.contoso.test [127.0.0.2])\r\n" in line
    event = relay.wait_for_event("received")
    assert event["client_name"] == "mail.branch.contoso.test"
    assert event["rule"] == "servers.main.relay.only[1]"
    assert re.fullmatch(rf"{re.escape(str(relay.config_path))}:\d+", event["rule_at"]), event


def test_who_has_the_name(relay_with, dns):
    """domain:NAME is NAME and what is below it, verified, and nothing that only looks like it."""
    relay = relay_with({"relay": {"only": [BRANCH]}})
    dns.client("127.0.0.2", "branch.contoso.test")
    dns.client("127.0.0.3", "a.b.c.branch.contoso.test")
    dns.client("127.0.0.4", "xbranch.contoso.test")
    dns.client("127.0.0.5", "contoso.test")
    dns.client("127.0.0.6", "branch.contoso.test.evil.test")
    dns.client("127.0.0.7", "mail.branch.contoso.test", addresses=["192.0.2.1", "2001:db8::1"])
    dns.ptr("127.0.0.8", "gone.branch.contoso.test")
    dns.ptr("127.0.0.9", [b"mail", b"branch.contoso", b"test"])
    dns.ptr("127.0.0.10", "empty.branch.contoso.test")
    dns.host_answers("empty.branch.contoso.test", NOERROR)
    dns.ptr_answers("127.0.0.11", NOERROR)
    expected = {number: GRANTED if number in (2, 3) else REFUSED for number in range(2, 13)}
    assert {number: recipient_reply(relay, f"127.0.0.{number}") for number in expected} == expected


def test_what_cannot_be_known_is_deferred(relay_with, dns):
    """A DNS that fails must neither open the relay nor bounce the branch's mail."""
    relay = relay_with({"relay": {"only": [BRANCH]}}, timeout="1s")
    dns.ptr_answers("127.0.0.2", SERVFAIL)
    dns.ptr_answers("127.0.0.3", SILENCE)
    dns.ptr("127.0.0.4", "mail.branch.contoso.test")
    dns.host_answers("mail.branch.contoso.test", SERVFAIL)
    dns.ptr("127.0.0.5", "slow.branch.contoso.test")
    dns.host_answers("slow.branch.contoso.test", SILENCE)
    for number in (2, 3, 4, 5):
        began_at = time.monotonic()
        assert recipient_reply(relay, f"127.0.0.{number}") == DEFERRED, number
        assert time.monotonic() - began_at < 3 * SCALE
    # What needs no name is as it always was.
    assert recipient_reply(relay, "127.0.0.2", LOCAL) == f"250 2.1.5 {LOCAL}"


def test_relay_except(relay_with, dns):
    """The list of those who may not relay: whose name is unknown may be one of them."""
    relay = relay_with({"relay": {"except": [BRANCH]}, "allow-open-relay": "a test"})
    dns.client("127.0.0.2", "mail.branch.contoso.test")
    dns.client("127.0.0.3", "mail.other.test")
    dns.ptr_answers("127.0.0.4", SERVFAIL)
    replies = [recipient_reply(relay, f"127.0.0.{number}") for number in (2, 3, 4, 5)]
    assert replies == [REFUSED, GRANTED, DEFERRED, GRANTED]


def test_several_names(relay_with, dns):
    """Hosts have several names; the first that has the address counts, and nobody makes us look at more than ten."""
    relay = relay_with({"relay": {"only": [BRANCH]}})
    others = [f"n{number}.other.test" for number in range(60)]
    for name in others:
        dns.host(name, "192.0.2.1")
    dns.host("mail.branch.contoso.test", "127.0.0.2", "127.0.0.3", "127.0.0.4")
    dns.ptr("127.0.0.2", *others[:9], "mail.branch.contoso.test")
    dns.ptr("127.0.0.3", *others[:10], "mail.branch.contoso.test")
    dns.host("first.other.test", "127.0.0.4")
    dns.ptr("127.0.0.4", "first.other.test", "mail.branch.contoso.test")
    assert recipient_reply(relay, "127.0.0.2") == GRANTED
    assert recipient_reply(relay, "127.0.0.3") == REFUSED
    assert recipient_reply(relay, "127.0.0.4") == REFUSED, "its verified name is first.other.test"
    dns.ptr("127.0.0.5", *others)  # more than fits into a packet
    assert recipient_reply(relay, "127.0.0.5") == REFUSED
    assert not dns.asked_for(others[10])


def test_a_name_with_thousands_of_addresses(relay_with, dns):
    """A record set as large as the DNS allows is read over TCP and searched, no more."""
    relay = relay_with({"relay": {"only": [BRANCH]}})
    dns.client("127.0.0.2", "mail.branch.contoso.test",
               addresses=[f"10.0.{number // 250}.{number % 250}" for number in range(3500)] + ["127.0.0.2"])
    assert recipient_reply(relay, "127.0.0.2") == GRANTED


@pytest.mark.parametrize("addresses, reply", [(["127.0.0.1", "::1"], GRANTED), (["127.0.0.1"], REFUSED)])
def test_ipv6(relay_with, dns, addresses, reply):
    """The same by AAAA; an A record says nothing about an IPv6 client."""
    try:
        relay = relay_with({"listen": ["[::1]:0"], "relay": {"only": [BRANCH]}})
    except AssertionError:
        pytest.skip("no IPv6 on the loopback")
    dns.client("::1", "six.branch.contoso.test", addresses=addresses)
    assert recipient_reply(relay, None) == reply


def test_local_sender_by_name(relay_with, dns):
    """Who may send as a local domain without authenticating can be told by the name too (MAIL, step e)."""
    relay = relay_with({"relay": {"only": [BRANCH]}, "anonymous-local-sender": "reject"}, timeout="1s")
    dns.client("127.0.0.2", "mail.branch.contoso.test")
    dns.ptr_answers("127.0.0.3", SILENCE)
    refused = f"550 5.7.1 Sender {SENDER} requires authentication"
    for source, reply in (("127.0.0.2", f"250 2.1.0 {SENDER}....Sender OK"), ("127.0.0.3", refused), ("127.0.0.4", refused)):
        with SmtpClient(relay.address(), source=source) as client:
            client.hello()
            client.expect(f"MAIL FROM:<{SENDER}>", reply)


def test_no_tarpit_for_the_verified(relay_with, dns):
    """A branch office must not be slowed down as a stranger because its name came late."""
    relay = relay_with({"relay": {"only": [BRANCH]}, "tarpit": "20s"})
    dns.client("127.0.0.2", "mail.branch.contoso.test")
    began_at = time.monotonic()
    with SmtpClient(relay.address(), source="127.0.0.2") as client:
        client.hello()
        client.expect_code("FOO", "500 ")
    assert time.monotonic() - began_at < 10


# ---- connect lists ----

def test_connect_only(relay_with, dns):
    relay = relay_with({"connect": {"only": ["127.0.0.9", BRANCH]}}, timeout="1s")
    dns.client("127.0.0.2", "mail.branch.contoso.test")
    dns.ptr_answers("127.0.0.3", SERVFAIL)
    dns.ptr_answers("127.0.0.4", SILENCE)
    dns.ptr_answers("127.0.0.9", SILENCE)
    for number, reply in ((2, "220 "), (3, NOT_YET), (4, NOT_YET), (5, KEPT_OUT), (9, "220 ")):
        with SmtpClient(relay.address(), source=f"127.0.0.{number}") as client:
            assert client.banner.startswith(reply), (number, client.banner)
            assert reply == "220 " or client.is_closed()


def test_connect_except(relay_with, dns):
    relay = relay_with({"connect": {"except": [BRANCH]}}, timeout="1s")
    dns.client("127.0.0.2", "mail.branch.contoso.test")
    dns.ptr_answers("127.0.0.3", SILENCE)
    for number, reply in ((2, KEPT_OUT), (3, NOT_YET), (4, "220 ")):
        with SmtpClient(relay.address(), source=f"127.0.0.{number}") as client:
            assert client.banner.startswith(reply), (number, client.banner)


# ---- what it costs ----

def test_dead_resolver_costs_others_nothing(relay_with, dns):
    """The DNS is down: who is granted by address relays, and local mail comes in, as fast as ever."""
    relay = relay_with({"relay": {"only": [BRANCH, "127.0.0.2"]}}, timeout="60s")
    for number in (2, 3):
        dns.ptr_answers(f"127.0.0.{number}", SILENCE)
    began_at = time.monotonic()
    word = token()
    deliver(relay.address(), SENDER, [REMOTE, LOCAL], letter(word), source="127.0.0.2")
    deliver(relay.address(), SENDER, LOCAL, letter(token()), source="127.0.0.3")
    assert time.monotonic() - began_at < 5 * SCALE
    assert "(unknown [127.0.0.2])" in received_line(relay.maildir(LOCAL).wait_for(word))


def test_silence_for_some_is_no_silence_for_others(relay_with, dns):
    """Somebody whose zone does not answer opens connection after connection; the branch office relays all the same."""
    relay = relay_with({"relay": {"only": [BRANCH]}}, timeout="5s")
    dns.client("127.0.0.2", "mail.branch.contoso.test")
    sessions = []
    for number in range(200):
        source = f"127.1.{number}.1"
        dns.ptr_answers(source, SILENCE)
        sessions.append(SmtpClient(relay.address(), source=source))
    began_at = time.monotonic()
    assert recipient_reply(relay, "127.0.0.2") == GRANTED
    assert time.monotonic() - began_at < 2 * SCALE
    for session in sessions:
        session.close()


def test_resolver_that_comes_back(relay_with, dns):
    """After an outage of the DNS things are as before, and not a quarter of an hour later."""
    relay = relay_with({"relay": {"only": [BRANCH]}}, timeout="1s")
    dns.client("127.0.0.2", "mail.branch.contoso.test")
    dns.ptr_answers("127.0.0.3", SILENCE)
    dns.ptr_answers("127.0.0.2", SILENCE)
    for source in ("127.0.0.2", "127.0.0.3", "127.0.0.2"):
        assert recipient_reply(relay, source) == DEFERRED
    dns.ptr("127.0.0.2", "mail.branch.contoso.test")
    wait_until(lambda: recipient_reply(relay, "127.0.0.2") == GRANTED, "a grant after the outage")


def test_nobody_asks_in_vain(relay_with, dns):
    """A server whose lists need no names looks nobody up."""
    relay = relay_with({"relay": {"only": [BRANCH]}}, servers={"inside": {"listen": ["127.0.0.1:0"], "relay": {"only": ["127.0.0.0/8"]}}})
    deliver(relay.address("inside"), SENDER, [LOCAL, REMOTE], letter(token()), source="127.0.0.2")
    assert not dns.asked_for("127.0.0.2")
    recipient_reply(relay, "127.0.0.3")
    assert dns.asked_for("127.0.0.3")


def test_no_lookup_without_a_use(place, dns):
    """A relay that has no use for names does not talk to the DNS at all."""
    relay = place.postern({"dns": {"resolver": dns.address}, "connectors": {"out": connector("127.0.0.1:1")}})
    deliver(relay.address(), SENDER, LOCAL, letter(token()))
    assert dns.queries == []
    assert not relay.log.find("names")


# ---- Received ----

def test_names_for_received_lines(relay_with, dns):
    """Who wants to see whence mail came gets the name where it is proven, and never one that is only claimed."""
    relay = relay_with({}, dns={"received-names": True})
    dns.client("127.0.0.2", "host.example.org")
    dns.ptr("127.0.0.3", "claimed.example.org")
    dns.ptr("127.0.0.4", [b"evil]) by mail.contoso.test\r\nX-Spam: no", b"test"])
    for source, name in (("127.0.0.2", "host.example.org"), ("127.0.0.3", "unknown"), ("127.0.0.4", "unknown"), ("127.0.0.5", "unknown")):
        word = token()
        deliver(relay.address(), SENDER, LOCAL, letter(word), source=source)
        line = received_line(relay.maildir(LOCAL).wait_for(word))
        assert f"from client.test ({name} [{source}])\r\n" in line, line


# ---- life ----

def test_clients_that_leave(relay_with, dns):
    """Lookups outlive their sessions; neither may trip over the other, nor the end of the daemon over both."""
    relay = relay_with({"connect": {"only": [BRANCH]}}, timeout="60s")
    dns.client("127.0.0.2", "mail.branch.contoso.test")
    waiting = []
    for number in range(50):
        source = f"127.2.0.{number + 1}"
        dns.ptr_answers(source, SILENCE)
        waiting.append(SmtpClient(relay.address(), source=source, banner=False))
    wait_until(lambda: all(dns.asked_for(f"127.2.0.{number + 1}") for number in range(50)), "all lookups")
    for client in waiting[:25]:
        client.close()
    with SmtpClient(relay.address(), source="127.0.0.2") as client:
        assert client.banner.startswith("220 ")


def test_reload_during_a_lookup(relay_with, dns):
    """A reload, to another resolver at that, is no reason to turn a client away that is being looked up."""
    relay = relay_with({"connect": {"only": [BRANCH]}}, timeout="20s")
    dns.client("127.0.0.2", "mail.branch.contoso.test")
    dns.ptr_answers("127.0.0.2", SILENCE)
    with SmtpClient(relay.address(), source="127.0.0.2", banner=False) as client:
        wait_until(lambda: dns.asked_for("127.0.0.2"), "the lookup")
        assert relay.reload()["event"] == "reloaded"
        relay.settings = merge(relay.settings, {"dns": {"resolver": "127.0.0.1@1"}})
        relay.write_config()
        assert relay.reload()["event"] == "reloaded"
        dns.ptr("127.0.0.2", "mail.branch.contoso.test")
        assert client.reply().startswith("220 ")
        client.hello()
    relay.settings = merge(relay.settings, {"dns": {"resolver": dns.address}})
    relay.write_config()
    assert relay.reload()["event"] == "reloaded"
    with SmtpClient(relay.address(), source="127.0.0.2") as client:
        assert client.banner.startswith("220 ")


def test_names_come_with_a_reload(place, dns, sink):
    """A first domain: entry works without a restart, and so does the end of the last."""
    relay = place.postern({"connectors": {"out": connector(sink.address)}, "dns": {"resolver": dns.address}})
    dns.client("127.0.0.2", "mail.branch.contoso.test")
    assert recipient_reply(relay, "127.0.0.2") == REFUSED
    for only, reply in (([BRANCH], GRANTED), ([], REFUSED), (["list:branches"], GRANTED)):
        relay.settings = merge(relay.settings, {"servers": {"main": {"relay": {"only": only}}},
                                                "lists": {"branches": ["192.0.2.1", "list:names"], "names": [BRANCH]}})
        relay.write_config()
        assert relay.reload()["event"] == "reloaded"
        assert recipient_reply(relay, "127.0.0.2") == reply
    dns.ptr_answers("127.0.0.2", NXDOMAIN)
