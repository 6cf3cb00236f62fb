# SPDX-License-Identifier: Apache-2.0
"""Reload (SIGHUP): a new policy for new sessions, nothing lost for old ones, and a bad file changes nothing."""
import re
import threading

import pytest

from harness.client import SmtpClient, deliver, letter, token
from harness.settings import connector, merge

RELAY = ("MAIL FROM:<alice@contoso.test>", "RCPT TO:<v@example.net>")
REFUSED = "550 5.7.1 Unable to relay for v@example.net"
GRANTED = "250 2.1.5 v@example.net"


@pytest.fixture
def sink(place):
    return place.sink()


@pytest.fixture
def relay(place, sink):
    return place.postern({"connectors": {"out": connector(sink.address)}})


def change(relay, settings):
    relay.settings = merge(relay.settings, settings)
    relay.write_config()


def ask(client):
    client.expect_code(RELAY[0], "250 ")
    return client.ask(RELAY[1])


def ask_anew(relay):
    with SmtpClient(relay.address()) as client:
        client.hello()
        return ask(client)


GRANT = {"servers": {"main": {"relay": {"only": ["127.0.0.1"]}}}}
REVOKE = {"servers": {"main": {"relay": {"only": []}}}}


def test_policy_changes_for_new_sessions(relay):
    """A grant that comes, or goes, only with a restart would cut every connection; one that never goes is an open door."""
    assert ask_anew(relay) == REFUSED
    change(relay, GRANT)
    assert relay.reload()["event"] == "reloaded"
    assert ask_anew(relay) == GRANTED
    change(relay, REVOKE)
    assert relay.reload()["event"] == "reloaded"
    assert ask_anew(relay) == REFUSED


def test_open_session_goes_on_under_its_own_policy(relay, sink):
    """No connection is dropped, and no transaction changes its rules half way."""
    change(relay, GRANT)
    relay.reload()
    word = token()
    with SmtpClient(relay.address()) as client:
        client.hello()
        assert ask(client) == GRANTED
        client.expect_code("DATA", "354 ")
        client.send(letter(word)[:50])
        change(relay, REVOKE)
        assert relay.reload()["event"] == "reloaded"
        client.send(letter(word)[50:] + b".\r\n")
        assert client.reply().startswith("250 2.6.0 ")
        assert ask(client) == GRANTED, "a session keeps what it began with"
    sink.wait_for(word)
    assert ask_anew(relay) == REFUSED


@pytest.mark.parametrize("text, line", [
    ("hostname: [\n", 2),
    ("hostname: mail.contoso.test\nno-such-key: 1\n", 2),
    ("", 0),
])
def test_bad_file_changes_nothing(relay, text, line):
    """A slip of the pen in a reload must not take the server down, nor open it."""
    relay.write_config(text)
    since = relay.log.position()
    assert relay.reload()["event"] == "reload-failed"
    place = re.escape(str(relay.config_path))
    said = "\n".join(str(value) for event in relay.log.find(lambda event: True, since) for value in event.values())
    if line:
        assert re.search(rf"{place}:\d+:\d+: ", said), said
    assert ask_anew(relay) == REFUSED
    change(relay, GRANT)
    assert relay.reload()["event"] == "reloaded"
    assert ask_anew(relay) == GRANTED


def test_missing_file_changes_nothing(relay):
    relay.config_path.unlink()
    assert relay.reload()["event"] == "reload-failed"
    assert ask_anew(relay) == REFUSED


def test_new_domain_and_limits(relay):
    """Not only the relay list is read afresh."""
    change(relay, {"domains": {"fabrikam.test": {"type": "local", "recipients": ["dora"]}},
                   "servers": {"main": {"limits": {"recipients": 1}}}})
    assert relay.reload()["event"] == "reloaded"
    word = token()
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.envelope("alice@contoso.test", "dora@fabrikam.test")
        client.expect_code("RCPT TO:<bob@contoso.test>", "452 4.5.3 ")
        assert client.data(letter(word)).startswith("250 ")
    relay.maildir("dora@fabrikam.test").wait_for(word)


def test_reload_under_load(relay, sink):
    """A reload in the middle of traffic loses no connection and no message."""
    change(relay, GRANT)
    relay.reload()
    taken, failures = [], []

    def send(count):
        try:
            with SmtpClient(relay.address()) as client:
                client.hello()
                for _ in range(count):
                    word = token()
                    client.deliver("alice@contoso.test", ["v@example.net", "bob@contoso.test"], letter(word))
                    taken.append(word)
        except Exception as failure:  # whatever it is, the test must tell it
            failures.append(failure)

    threads = [threading.Thread(target=send, args=(50,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        assert relay.reload()["event"] == "reloaded"
    for thread in threads:
        thread.join()
    assert not failures and len(taken) == 200
    for word in taken:
        sink.wait_for(word)
    relay.maildir("bob@contoso.test").wait_for_count(200)


def test_next_hop_changes(relay, place, sink):
    """Mail goes to the new next hop after the reload, even what was queued before."""
    change(relay, GRANT)
    relay.reload()
    sink.answer = lambda stage, text, session: "451 4.3.0 Later" if stage == "rcpt" else None
    word = token()
    deliver(relay.address(), "alice@contoso.test", "v@example.net", letter(word))
    sink.wait_until(lambda: sink.commands_of("RCPT"), "the first attempt")
    other = place.sink()
    change(relay, {"connectors": {"out": connector(other.address)}})
    assert relay.reload()["event"] == "reloaded"
    other.wait_for(word)
