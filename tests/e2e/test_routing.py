# SPDX-License-Identifier: Apache-2.0
"""Which host mail goes to: by the DNS, by smart hosts, by connectors and their costs; and what is said when it goes nowhere."""
import threading

import pytest

from harness.answers import SENDER, report_to
from harness.client import deliver, letter, token
from harness.dns import NOERROR, SERVFAIL, SILENCE
from harness.limits import SCALE, wait_until
from harness.settings import HOSTNAME, merge

LOOPBACK = ["127.0.0.0/8", "::1"]
QUICK = {"connect": "1s", "command": "1s", "data": "5s"}


@pytest.fixture
def dns(place):
    return place.dns()


@pytest.fixture
def relay_by(place, dns):
    """Starts a relay with these connectors that asks `dns`, and grants everything to the tests."""
    def start(connectors, **more):
        return place.postern(merge({"servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}}}, "connectors": connectors,
                                    "dns": {"resolver": dns.address, "timeout": "2s"}, "delivery": {"retry": ["1s"]}}, more))
    return start


@pytest.fixture
def relay_by_mx(relay_by):
    """One that sends to mail exchangers on this port."""
    return lambda port, **more: relay_by({"out": by_mx(port)}, **more)


def by_mx(port, **more):
    return {"address-spaces": ["*"], "route": "dns", "port": port, "mx-networks": LOOPBACK, "timeouts": QUICK, **more}


def send(relay, recipient, sender=SENDER):
    word = token()
    deliver(relay.address(), sender, recipient, letter(word))
    return word


def outcome(relay, kind, recipient):
    return relay.wait_for_event(lambda event: event.get("event") == kind and event.get("to") == recipient)


def failed(relay, recipient, status, words):
    """The recipient is reported at once, and the report says why."""
    word = send(relay, recipient)
    block = report_to(relay, word).recipient(recipient)
    assert block["Status"] == status, str(block)
    assert words in outcome(relay, "failed", recipient)["reply"]


def deferred(relay, recipient, status, *words):
    word = send(relay, recipient)
    event = outcome(relay, "deferred", recipient)
    assert event["status"] == status, event
    for each in words:
        assert each in event["reply"], event
    return word


# ---- MX ----

def test_best_mx_first(place, dns, relay_by_mx):
    """RFC 5321 5.1: the lowest number is the one that wants the mail."""
    best, other = place.exchangers(2)
    dns.mx("example.net", (20, "b.example.net"), (10, "a.example.net"))
    dns.host("a.example.net", best.ip)
    dns.host("b.example.net", other.ip)
    relay = relay_by_mx(best.port)
    word = send(relay, "v@example.net")
    assert best.wait_for(word).addresses() == ["v@example.net"]
    assert not other.session_count
    assert outcome(relay, "delivered", "v@example.net")["remote"] == "a.example.net"


def test_next_mx_when_the_best_is_down(place, dns, relay_by_mx):
    best, other = place.exchangers(2)
    best.close()
    dns.mx("example.net", (10, "a.example.net"), (20, "b.example.net"))
    dns.host("a.example.net", best.ip)
    dns.host("b.example.net", other.ip)
    relay = relay_by_mx(best.port)
    other.wait_for(send(relay, "v@example.net"))


def test_next_mx_when_the_best_refuses(place, dns, relay_by_mx):
    """RFC 5321 4.2.4.3 speaks of 554 greetings as "no SMTP service here": the next host may have one."""
    best, other = place.exchangers(2)
    best.answer = lambda stage, text, session: "554 5.3.2 Not here" if stage == "connect" else None
    dns.mx("example.net", (10, "a.example.net"), (20, "b.example.net"))
    dns.host("a.example.net", best.ip)
    dns.host("b.example.net", other.ip)
    other.wait_for(send(relay_by_mx(best.port), "v@example.net"))
    assert best.session_count == 1


def test_equal_mx_share(place, dns, relay_by_mx):
    """RFC 5321 5.1: equal ones in random order. With 24 domains one of two stays idle once in eight million runs."""
    sinks = place.exchangers(2)
    for number in range(24):
        dns.mx(f"d{number}.test", (10, "a.test"), (10, "b.test"))
    dns.host("a.test", sinks[0].ip)
    dns.host("b.test", sinks[1].ip)
    relay = relay_by_mx(sinks[0].port)
    words = [send(relay, f"v@d{number}.test") for number in range(24)]
    wait_until(lambda: all(any(sink.find(word) for sink in sinks) for word in words), "all messages at one of the two")
    assert all(sink.messages for sink in sinks)


def test_implicit_mx(place, dns, relay_by_mx):
    """RFC 5321 5.1: a domain without MX records is its own mail exchanger."""
    sink, = place.exchangers(1)
    dns.host("example.net", sink.ip)
    sink.wait_for(send(relay_by_mx(sink.port), "v@example.net"))


@pytest.mark.parametrize("answer, words", [(SERVFAIL, "SERVFAIL"), (SILENCE, "in time")])
def test_no_implicit_mx_without_an_answer(place, dns, relay_by_mx, answer, words):
    """A DNS that fails has not said that there is no MX: the address may be a web server's."""
    sink, = place.exchangers(1)
    dns.mx_answers("example.net", answer)
    dns.host("example.net", sink.ip)
    relay = relay_by_mx(sink.port)
    word = deferred(relay, "v@example.net", "4.4.3", "example.net", "MX records", words)
    dns.mx("example.net")  # none, said by the DNS
    sink.wait_for(word, 30 * SCALE)


def test_null_mx(dns, relay_by_mx):
    """RFC 7505: such a domain takes no mail; its web server is not to be bothered, and the sender not kept waiting."""
    dns.mx("example.net", (0, ""))
    dns.host("example.net", "127.0.0.11")
    failed(relay_by_mx(25), "v@example.net", "5.1.10", "null MX")


def test_no_such_domain(relay_by_mx):
    failed(relay_by_mx(25), "v@nowhere.test", "5.1.2", "no such domain")


def test_nothing_that_takes_mail(dns, relay_by_mx):
    dns.mx("example.net", (10, "gone.example.net"))
    dns.mx_answers("empty.test", NOERROR)
    relay = relay_by_mx(25)
    failed(relay, "v@example.net", "5.4.4", "gone.example.net: it has no address")
    failed(relay, "v@empty.test", "5.4.4", "empty.test: it has no address")


def test_mx_host_without_an_answer(dns, relay_by_mx):
    """One of two has no address, of the other nothing is known: that is no reason to give up."""
    dns.mx("example.net", (10, "gone.example.net"), (20, "b.example.net"))
    dns.host_answers("b.example.net", SERVFAIL)
    deferred(relay_by_mx(25), "v@example.net", "4.4.3", "gone.example.net", "b.example.net")


def test_alias(place, dns, relay_by_mx):
    """RFC 5321 5.1 lets a domain be an alias; that a mail exchanger is one is forbidden, and common."""
    sink, = place.exchangers(1)
    dns.alias("example.net", "alias2.test")
    dns.alias("alias2.test", "real.test")
    dns.mx("real.test", (10, "mx.real.test"))
    dns.alias("mx.real.test", "host.real.test")
    dns.host("host.real.test", sink.ip)
    sink.wait_for(send(relay_by_mx(sink.port), "v@example.net"))


def test_alias_without_end(dns, relay_by_mx):
    dns.alias("a.test", "b.test")
    dns.alias("b.test", "a.test")
    for number in range(30):
        dns.alias(f"c{number}.test", f"c{number + 1}.test")
    relay = relay_by_mx(25)
    deferred(relay, "v@a.test", "4.4.3", "a.test")
    deferred(relay, "v@c0.test", "4.4.3", "c0.test")


def test_many_exchangers(place, dns, relay_by_mx):
    """A domain with hundreds of dead hosts is not hundreds of attempts."""
    sink, = place.exchangers(1)
    sink.close()
    dns.mx("example.net", *((number, f"h{number}.example.net") for number in range(200)))
    for number in range(200):
        dns.host(f"h{number}.example.net", f"127.0.1.{number + 1}")
    deferred(relay_by_mx(sink.port), "v@example.net", "4.4.1", "127.0.1.", "more")
    assert sum(dns.asked_for(f"h{number}.example.net") > 0 for number in range(200)) <= 20


def test_both_families(place, dns, relay_by_mx):
    """An exchanger with an IPv6 address that leads nowhere from here still has its IPv4 address."""
    sink, = place.exchangers(1)
    dns.mx("example.net", (10, "mx.example.net"))
    dns.host("mx.example.net", "2001:db8:ffff::1", sink.ip)
    sink.wait_for(send(relay_by_mx(sink.port), "v@example.net"))


def test_ipv6(place, dns, relay_by_mx):
    sink = place.sink(ip="::1")
    dns.mx("example.net", (10, "mx.example.net"))
    dns.host("mx.example.net", "::1")
    sink.wait_for(send(relay_by_mx(sink.port), "v@example.net"))


# ---- loops, and what strangers' records may not do ----

def test_mx_names_us_first(dns, relay_by_mx):
    """RFC 5321 5.1: mail for a domain whose best exchanger we are, but that we don't take, would come back to us for ever."""
    dns.mx("example.net", (10, HOSTNAME), (20, "backup.example.net"))
    dns.host("backup.example.net", "127.0.0.11")
    failed(relay_by_mx(25), "v@example.net", "5.4.6", "loop back")


def test_mx_names_us_as_backup(place, dns, relay_by_mx):
    """We are the backup: the primary gets it, or it waits here. Whoever is worse than we are would bring it back."""
    first, worse = place.exchangers(2)
    first.close()
    dns.mx("example.net", (10, "a.example.net"), (20, HOSTNAME), (30, "c.example.net"))
    dns.host("a.example.net", first.ip)
    dns.host("c.example.net", worse.ip)
    deferred(relay_by_mx(first.port), "v@example.net", "4.4.1", "a.example.net")
    assert not worse.session_count


def test_mx_leads_to_our_address(place, dns, relay_by_mx):
    """The same under another name."""
    first, worse = place.exchangers(2)
    for domain, preference in (("loop.test", 10), ("backup.test", 20)):
        dns.mx(domain, (15, "a.test"), (preference, "us.test"), (30, "c.test"))
    dns.host("us.test", "127.0.0.1")  # where the relay listens
    dns.host("a.test", first.ip)
    dns.host("c.test", worse.ip)
    relay = relay_by_mx(first.port)
    failed(relay, "v@loop.test", "5.4.6", "loop back")
    first.wait_for(send(relay, "v@backup.test"))
    dns.host("bare.test", "127.0.0.1")
    failed(relay, "v@bare.test", "5.4.6", "loop back")


@pytest.mark.parametrize("address, status", [("127.0.0.11", "5.4.6"), ("0.0.0.0", "5.4.6"), ("::1", "5.4.6"),
                                             ("::ffff:127.0.0.11", "5.4.6"), ("169.254.169.254", "5.4.4"), ("224.0.0.1", "5.4.4"),
                                             ("fe80::1", "5.4.4")])
def test_mx_leads_into_this_machine(place, dns, relay_by, address, status):
    """Whoever owns a domain would have our own services talked to from inside."""
    sink, = place.exchangers(1)
    dns.mx("example.net", (10, "mx.example.net"))
    dns.host("mx.example.net", address)
    relay = relay_by({"out": by_mx(sink.port, **{"mx-networks": []})})
    failed(relay, "v@example.net", status, "mx.example.net")
    assert not sink.session_count


def test_one_good_address_is_enough(place, dns, relay_by):
    sink, = place.exchangers(1)
    dns.mx("example.net", (10, "a.example.net"), (20, "b.example.net"))
    dns.host("a.example.net", "127.0.0.99", "169.254.1.1")
    dns.host("b.example.net", sink.ip)
    relay = relay_by({"out": by_mx(sink.port, **{"mx-networks": [f"{sink.ip}/32"]})})
    sink.wait_for(send(relay, "v@example.net"))


def test_address_literals(place, relay_by_mx):
    sink, = place.exchangers(1)
    relay = relay_by_mx(sink.port)
    word = send(relay, f"v@[{sink.ip}]")
    assert sink.wait_for(word).addresses() == [f"v@[{sink.ip}]"]
    assert outcome(relay, "delivered", f"v@[{sink.ip}]")["remote"] == f"[{sink.ip}]"
    failed(relay, "v@[0.0.0.0]", "5.4.6", "[0.0.0.0]")
    failed(relay, "v@[IPv6:ff02::1]", "5.4.4", "[ff02::1]")


def test_without_a_connector(dns, relay_by):
    """Mail that no connector is for goes as the DNS says; and it is told apart, domain by domain."""
    dns.mx("null.test", (0, ""))
    relay = relay_by({"other": {"address-spaces": ["other.test"], "smart-hosts": ["127.0.0.1:1"]}})
    failed(relay, "v@null.test", "5.1.10", "null MX")
    failed(relay, "v@nowhere.test", "5.1.2", "no such domain")


# ---- smart hosts ----

def through(*hosts, cost=1, **more):
    return {"address-spaces": [{"domain": "*", "cost": cost}], "smart-hosts": list(hosts), "timeouts": QUICK, **more}


def test_smart_hosts_in_order(place, relay_by):
    first, second = place.sink(), place.sink()
    relay = relay_by({"out": through(first.address, second.address)})
    for _ in range(3):
        first.wait_for(send(relay, "v@example.net"))
    first.close()
    for _ in range(3):
        second.wait_for(send(relay, "v@example.net"))


def silent_until(gate):
    """A host that takes connections and says nothing."""
    def answer(stage, text, session):
        if stage == "connect":
            gate.wait(60 * SCALE)
    return answer


def test_dead_smart_host_is_remembered(place, relay_by):
    """Each message would wait for the first host's timeout otherwise. When its rest is over it gets the mail again."""
    gate = threading.Event()
    first, second = place.sink(answer=silent_until(gate)), place.sink()
    relay = relay_by({"out": through(first.address, second.address, timeouts={**QUICK, "unreachable": "4s"})},
                     delivery={"concurrency-per-destination": 1})
    try:
        second.wait_for(send(relay, "v@example.net"))
        second.cut()  # so that each message needs a connection of its own
        second.wait_for(send(relay, "v@example.net"))
        second.cut()
        second.wait_for(send(relay, "v@example.net"))
        assert first.session_count == 1
        gate.set()
        wait_until(lambda: is_used_again(first, second, relay), "the first host in use again")
    finally:
        gate.set()


def is_used_again(first, second, relay):
    word = send(relay, "v@example.net")
    wait_until(lambda: first.find(word) or second.find(word), "the message at one of the two")
    second.cut()
    return first.find(word)


def test_last_resort(place, relay_by):
    """Hosts that could not be reached lately are tried all the same when there are no others: they may be back."""
    sink = place.sink(listening=False)
    relay = relay_by({"out": through(sink.address, timeouts={**QUICK, "unreachable": "1h"})})
    word = deferred(relay, "v@example.net", "4.4.1", sink.address)
    sink.listen()
    sink.wait_for(word, 60 * SCALE)


def test_smart_host_by_mx(place, dns, relay_by):
    """interfaces: a bare name stands for its mail exchangers, one in brackets for itself."""
    exchanger, host = place.exchangers(2)
    dns.mx("provider.test", (10, "mx.provider.test"))
    dns.host("mx.provider.test", exchanger.ip)
    dns.host("provider.test", host.ip)
    dns.host("plain.test", host.ip)
    relay = relay_by({"mx": through(f"provider.test:{exchanger.port}", **{"address-spaces": ["mx.test"]}),
                      "host": through(f"[provider.test]:{exchanger.port}", **{"address-spaces": ["host.test"]}),
                      "plain": through(f"plain.test:{exchanger.port}", **{"address-spaces": ["plain.test"]})})
    exchanger.wait_for(send(relay, "v@mx.test"))
    host.wait_for(send(relay, "v@host.test"))
    host.wait_for(send(relay, "v@plain.test"))


def test_smart_host_in_etc_hosts(place, relay_by):
    """Administrators put their relay into /etc/hosts and expect that it is found; localhost stands in everybody's."""
    sink = place.sink()
    relay = relay_by({"out": through(f"[localhost]:{sink.port}")})
    sink.wait_for(send(relay, "v@example.net"))


def test_smart_host_that_does_not_exist(dns, relay_by):
    """A mistake in our own configuration is no reason to send everybody's mail back."""
    dns.mx("null.test", (0, ""))
    relay = relay_by({"a": through("nowhere.test", **{"address-spaces": ["a.test"]}),
                      "b": through("[nowhere.test]", **{"address-spaces": ["b.test"]}),
                      "c": through("null.test", **{"address-spaces": ["c.test"]})})
    deferred(relay, "v@a.test", "4.4.4", "nowhere.test")
    deferred(relay, "v@b.test", "4.4.4", "nowhere.test")
    deferred(relay, "v@c.test", "4.4.4", "null.test")


def test_every_failure_is_told(place, dns, relay_by):
    """An administrator who reads the queue must see which host failed at which step."""
    refuses, busy, silent = place.sink(listening=False), place.sink(), place.sink()
    gate = threading.Event()
    busy.answer = lambda stage, text, session: "421 4.3.2 Too busy" if stage == "connect" else None
    silent.answer = silent_until(gate)
    dns.host_answers("broken.test", SERVFAIL)
    relay = relay_by({"out": through(refuses.address, busy.address, silent.address, f"[broken.test]:{busy.port}")})
    try:
        deferred(relay, "v@example.net", "4.4.3", f"connecting to {refuses.address}: Connection refused",
                 "[127.0.0.1] said: 421 4.3.2 Too busy", "broken.test: looking up its addresses", "SERVFAIL")
    finally:
        gate.set()


def test_single_reply_is_the_servers_word(place, relay_by):
    sink = place.sink(answer=lambda stage, text, session: "421 4.3.2 Too busy" if stage == "connect" else None)
    relay = relay_by({"out": through(sink.address)})
    send(relay, "v@example.net")
    event = outcome(relay, "deferred", "v@example.net")
    assert (event["status"], event["reply"], event["remote"]) == ("4.3.2", "421 4.3.2 Too busy", "[127.0.0.1]")


# ---- connectors ----

def test_next_cost_when_a_connector_fails(place, relay_by):
    cheap, dear = place.sink(), place.sink()
    relay = relay_by({"b": through(dear.address, cost=20), "a": through(cheap.address, cost=10)})
    cheap.wait_for(send(relay, "v@example.net"))
    cheap.close()
    dear.wait_for(send(relay, "v@example.net"))


def test_dead_connector_is_remembered(place, relay_by):
    gate = threading.Event()
    cheap, dear = place.sink(answer=silent_until(gate)), place.sink()
    relay = relay_by({"a": through(cheap.address, cost=1), "b": through(dear.address, cost=2)},
                     delivery={"concurrency-per-destination": 1})
    try:
        for _ in range(3):
            dear.wait_for(send(relay, "v@example.net"))
            dear.cut()
        assert cheap.session_count == 1
    finally:
        gate.set()


def test_smart_host_before_the_dns(place, dns, relay_by):
    """A connector with smart hosts and one that asks the DNS, in either order of cost."""
    exchanger, host = place.exchangers(2)
    dns.mx("example.net", (10, "mx.example.net"))
    dns.host("mx.example.net", exchanger.ip)
    relay = relay_by({"dns": {**by_mx(exchanger.port), "address-spaces": [{"domain": "*", "cost": 5}]},
                      "hosts": through(host.address, cost=1)})
    host.wait_for(send(relay, "v@example.net"))
    host.close()
    exchanger.wait_for(send(relay, "v@example.net"))


def test_more_specific_connector_does_not_give_way(place, relay_by):
    """Cost is for equally specific ones: mail for a partner must not leave by the way for everybody because the partner's line is down."""
    everybody, partner = place.sink(), place.sink(listening=False)
    relay = relay_by({"all": through(everybody.address), "partner": {**through(partner.address), "address-spaces": ["example.net"]}})
    deferred(relay, "v@example.net", "4.4.1", partner.address)
    everybody.wait_for(send(relay, "v@other.test"))
    assert len(everybody.messages) == 1


def test_undeliverable_is_not_tried_elsewhere(place, dns, relay_by):
    """That a domain takes no mail is an answer, not a failure of the way to it."""
    sink = place.sink()
    dns.mx("null.test", (0, ""))
    relay = relay_by({"dns": {**by_mx(25), "address-spaces": [{"domain": "*", "cost": 1}]}, "hosts": through(sink.address, cost=5)})
    failed(relay, "v@null.test", "5.1.10", "null MX")
    assert not sink.session_count
