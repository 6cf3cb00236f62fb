# SPDX-License-Identifier: Apache-2.0
"""The seven classic relay tests (relay-behaviour.md section 5), as an administrator types them into a terminal.

Whoever replaces the service that Microsoft's articles were written for runs exactly these, and compares the replies.
"""
import pytest

from harness.client import SmtpClient, letter, token
from harness.report import Report, is_report
from harness.settings import HOSTNAME, connector

TARGET = "v@example.net"
REFUSED = f"550 5.7.1 Unable to relay for {TARGET}"

# The sender as typed, and how the reply shows it. In every one the recipient is external, and is refused.
REFUSED_TESTS = [
    pytest.param("u@example.org", "u@example.org", id="1-standard"),
    pytest.param("alice", "alice@contoso.test", id="2-local-bare"),
    pytest.param("<>", "<>", id="3-null"),
    pytest.param("alice@contoso.test", "alice@contoso.test", id="4-local-qualified"),
    pytest.param("alice@10.10.10.10", "alice@10.10.10.10", id="5-address"),
    pytest.param("alice@[10.10.10.10]", "alice@[10.10.10.10]", id="5-literal"),
    pytest.param("alice@localhost", "alice@localhost", id="5-localhost"),
    pytest.param(f"alice@{HOSTNAME}", f"alice@{HOSTNAME}", id="5-server-name"),
    pytest.param("alice@127.0.0.1", "alice@127.0.0.1", id="5-server-address"),
    pytest.param("alice@[127.0.0.1]", "alice@[127.0.0.1]", id="5-server-literal"),
]
# The recipient as typed, and as the reply shows it: a local one that nobody has.
LOCAL_TESTS = [
    pytest.param("v%example.net", "v%example.net@contoso.test", id="6-percent"),
    pytest.param('"v@example.net"', '"v@example.net"@contoso.test', id="7-quoted"),
]


@pytest.fixture(scope="module")
def sink(shared_place):
    return shared_place.sink()


@pytest.fixture(scope="module")
def relay(shared_place, sink):
    return shared_place.postern({
        "servers": {"main": {}, "lookup": {"listen": ["127.0.0.1:0"], "recipients": {"lookup": "at-rcpt"}}},
        "connectors": {"out": connector(sink.address)},
    })


@pytest.fixture(params=["main", "lookup"])
def client(relay, request):
    """A session that has begun as each test does."""
    with SmtpClient(relay.address(request.param)) as session:
        session.expect_code("EHLO", f"250-{HOSTNAME} Hello [127.0.0.1]\n")
        session.expect("RSET", "250 2.0.0 Resetting")
        yield session


@pytest.mark.parametrize("sender, shown", REFUSED_TESTS)
def test_external_recipient_is_refused(client, sink, sender, shown):
    """An acceptance here makes the server a spammer's relay, and its owner's address a blocked one within a day."""
    client.expect(f"MAIL FROM:{sender}", f"250 2.1.0 {shown}....Sender OK")
    client.expect(f"RCPT TO:{TARGET}", REFUSED)
    client.expect("DATA", "503 5.5.2 Need rcpt command")
    client.expect("RSET", "250 2.0.0 Resetting")
    client.expect("QUIT", f"221 2.0.0 {HOSTNAME} Service closing transmission channel")
    assert client.is_closed()
    assert not sink.messages


@pytest.mark.parametrize("typed, shown", LOCAL_TESTS)
def test_rewriting_recipient_is_local_and_reported(relay, sink, typed, shown):
    """Re-routing through % or quotes would relay for anyone; taking the mail and saying nothing would lose it."""
    word = token()
    with SmtpClient(relay.address()) as client:
        client.expect_code("EHLO", "250-")
        client.expect("RSET", "250 2.0.0 Resetting")
        client.expect("MAIL FROM:alice", "250 2.1.0 alice@contoso.test....Sender OK")
        client.expect(f"RCPT TO:{typed}", f"250 2.1.5 {shown}")
        assert client.data(letter(word)).startswith("250 2.6.0 ")
    report = relay.maildir("alice@contoso.test").wait_for(word)
    assert is_report(report)
    parsed = Report(report)
    assert parsed.final_recipients() == [shown]
    assert parsed.recipient(shown)["Action"] == "failed"
    assert parsed.recipient(shown)["Status"] == "5.1.1"
    assert not sink.messages, "it was relayed"
    assert relay.mailboxes() == ["alice@contoso.test"]


@pytest.mark.parametrize("typed, shown", LOCAL_TESTS)
def test_rewriting_recipient_is_unknown_when_looked_up(relay, sink, typed, shown):
    """With lookup at RCPT a tester must see a refusal at once: the unknown user's, not the relay's."""
    with SmtpClient(relay.address("lookup")) as client:
        client.expect_code("EHLO", "250-")
        client.expect("RSET", "250 2.0.0 Resetting")
        client.expect("MAIL FROM:alice", "250 2.1.0 alice@contoso.test....Sender OK")
        client.expect(f"RCPT TO:{typed}", f"550 5.1.1 {shown}... User unknown")
        client.expect("DATA", "503 5.5.2 Need rcpt command")
    assert not sink.messages
