# SPDX-License-Identifier: Apache-2.0
"""What becomes of a message that has been taken: retries, and which way it goes."""
import re
import threading
import time

import pytest

from harness.answers import LOCAL, REMOTE, SENDER, refuse_at
from harness.client import SmtpClient, deliver, letter, token
from harness.limits import SCALE
from harness.settings import connector
from harness.sink import CLOSE

# ---- temporary failures ----

@pytest.mark.parametrize("stage, reply", [
    ("connect", "421 4.3.2 Not now"), ("connect", CLOSE), ("connect", "554 5.3.2 Not me"), ("ehlo", "421 4.3.2 Not now"),
    ("mail", "451 4.3.0 Later"), ("rcpt", "451 4.7.1 Greylisted"), ("rcpt", "450 4.2.1 Busy"), ("data", "451 4.3.0 Later"),
    ("message", "451 4.3.0 Later"), ("message", "452 4.3.1 Full"), ("mail", CLOSE), ("rcpt", CLOSE), ("data", CLOSE),
    ("message", CLOSE), ("mail", "421 4.3.2 Going down"), ("rcpt", "421 4.3.2 Going down"), ("message", "421 4.3.2 Going down"),
])
def test_temporary_failure_is_tried_again(place, relay_to, stage, reply):
    """A busy next hop, or one that greylists, would cost the message."""
    sink = place.sink(answer=refuse_at(stage, reply, times=1))
    relay = relay_to(sink)
    word = token()
    deliver(relay.address(), SENDER, REMOTE, letter(word))
    message = sink.wait_for(word)
    assert message.sender == SENDER and message.addresses() == [REMOTE]
    assert not relay.mailboxes(), "a failure that passed was reported"


def test_next_hop_down_then_up(place, relay_to):
    """The next hop is rebooted: mail waits, and then goes."""
    sink = place.sink(listening=False)
    relay = relay_to(sink)
    words = [token() for _ in range(10)]
    for word in words:
        deliver(relay.address(), SENDER, REMOTE, letter(word))
    relay.wait_for_event(lambda event: event.get("event") == "deferred")
    sink.listen()
    for word in words:
        sink.wait_for(word)


def test_slow_destination_delays_nobody_else(place):
    """One next hop that hangs would stop all mail."""
    held = threading.Event()

    def answer(stage, text, session):
        if stage == "mail":
            held.wait(60)

    stuck = place.sink(answer=answer)
    fast = place.sink()
    relay = place.postern({
        "servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}}},
        "connectors": {"out": connector(fast.address), "slow": {"address-spaces": ["slow.test"], "smart-hosts": [stuck.address]}},
    })
    slow_word, words = token(), [token() for _ in range(20)]
    try:
        deliver(relay.address(), SENDER, "v@slow.test", letter(slow_word))
        stuck.wait_until(lambda: stuck.commands_of("MAIL"), "MAIL at the slow hop")
        for word in words:
            deliver(relay.address(), SENDER, [REMOTE, LOCAL], letter(word))
        for word in words:
            fast.wait_for(word)
            relay.maildir(LOCAL).wait_for(word)
        assert not stuck.messages
    finally:
        held.set()
    stuck.wait_for(slow_word)


def test_retry_times_survive_a_restart(place, relay_to):
    """A restart would send everything that waits at once, or start the count to expiry anew."""
    sink = place.sink(answer=refuse_at("rcpt", "451 4.7.1 Later"))
    relay = relay_to(sink, retry=["6s"])
    word = token()
    deliver(relay.address(), SENDER, REMOTE, letter(word))
    sink.wait_until(lambda: sink.commands_of("RCPT"), "the first attempt")
    first_at = time.monotonic()
    relay.wait_for_event("deferred")
    assert relay.stop() == 0
    sink.answer = lambda stage, text, session: None
    relay.start()
    message = sink.wait_for(word)
    assert 4 < message.arrived_at - first_at < 15 * SCALE, "not at the time that was set before the restart"


# ---- routing ----

def test_second_smart_host(place):
    """The first next hop is down: the other one is there for that."""
    down, up = place.sink(listening=False), place.sink()
    relay = place.postern({
        "servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}}},
        "connectors": {"out": connector(down.address, up.address)},
    })
    word = token()
    deliver(relay.address(), SENDER, REMOTE, letter(word))
    up.wait_for(word)


def test_most_specific_address_space_wins(place):
    """Mail for a partner would go out through the wrong door."""
    rest, partner, exact = place.sink(), place.sink(), place.sink()
    relay = place.postern({
        "servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}}},
        "connectors": {
            "out": connector(rest.address),
            "partners": {"address-spaces": ["*.fabrikam.test"], "smart-hosts": [partner.address]},
            "exact": {"address-spaces": ["hq.fabrikam.test"], "smart-hosts": [exact.address]},
        },
    })
    expected = {"v@example.net": rest, "v@fabrikam.test": rest, "v@a.fabrikam.test": partner, "v@b.a.fabrikam.test": partner,
                "v@hq.fabrikam.test": exact, "v@HQ.Fabrikam.Test": exact}
    for recipient, sink in expected.items():
        word = token()
        deliver(relay.address(), SENDER, recipient, letter(word))
        sink.wait_for(word)


def test_connector_that_overrides(place):
    """allow-relay takes mail for its address space from anyone, and for no other (relay-behaviour.md section 2, CONNECTOR)."""
    sink = place.sink()
    relay = place.postern({"connectors": {
        "out": connector(sink.address),
        "partners": {"address-spaces": ["*.fabrikam.test"], "smart-hosts": [sink.address], "allow-relay": True},
    }})
    word = token()
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.expect_code("MAIL FROM:<u@example.org>", "250 ")
        client.expect("RCPT TO:<v@fabrikam.test>", "550 5.7.1 Unable to relay for v@fabrikam.test")
        client.expect("RCPT TO:<v@example.net>", "550 5.7.1 Unable to relay for v@example.net")
        client.expect("RCPT TO:<v@a.fabrikam.test>", "250 2.1.5 v@a.fabrikam.test")
        assert client.data(letter(word)).startswith("250 ")
    sink.wait_for(word)


def test_alias_domain(place):
    """Mail to the other name of the domain lies in the same mailbox."""
    relay = place.postern({"domains": {"contoso.example": {"type": "alias", "of": "contoso.test"}}})
    word = token()
    deliver(relay.address(), SENDER, "Bob@Contoso.Example", letter(word))
    relay.maildir(LOCAL).wait_for(word)
    assert relay.mailboxes() == [LOCAL]


def test_maildir_names(place):
    """A local part must not choose a path, and two spellings must not be two mailboxes."""
    relay = place.postern({"domains": {"contoso.test": {"recipients": "any"}}})
    names = {"BoB": "bob", "a/b": "a%2Fb", "..": "%2E.", '"../../etc/x"': "%2E./../etc/x".replace("/", "%2F"), "x%y": "x%25y", "a+b=c_d-e.f": "a+b=c_d-e.f"}
    for local, folder in names.items():
        word = token()
        deliver(relay.address(), SENDER, f"{local}@contoso.test", letter(word))
        relay.maildir(f"{folder}@contoso.test").wait_for(word)
    assert re.fullmatch(r"[0-9a-zA-Z.,:=_-]+", relay.maildir("bob@contoso.test").files()[0].name)
    assert not relay.maildir("bob@contoso.test").temporary_files()


def test_local_domain_that_delivers_by_smtp(place):
    """A local domain whose mailboxes are on another server."""
    inside = place.sink()
    relay = place.postern({"domains": {"contoso.test": {"deliver": f"smtp:{inside.address}"}}})
    word = token()
    deliver(relay.address(), "u@example.org", LOCAL, letter(word))
    assert inside.wait_for(word).addresses() == [LOCAL]
    assert not relay.mailboxes()
