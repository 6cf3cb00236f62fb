# SPDX-License-Identifier: Apache-2.0
"""The 26 relay probes (relay-behaviour.md section 7): what open-relay testers and spammers try.

R: refused at RCPT. B: taken as local, never relayed, reported to the sender; `550 5.1.1` when looked up. I: not an address.
X is external, L the default local domain, H the server's name, A its address; `s` sends and exists, `u` receives and doesn't.
"""
import pytest

from harness.client import SmtpClient, letter, token
from harness.report import Report
from harness.settings import connector

X, L, H, A = "example.net", "contoso.test", "mail.contoso.test", "127.0.0.1"

# number, MAIL FROM argument, RCPT TO argument, expected, the recipient as replies show it
PROBES = [
    (1, f"<s@{X}>", f"<u@{X}>", "R", f"u@{X}"),
    (2, "<s>", f"<u@{X}>", "R", f"u@{X}"),
    (3, "<>", f"<u@{X}>", "R", f"u@{X}"),
    (4, f"<s@{L}>", f"<u@{X}>", "R", f"u@{X}"),
    (5, f"<s@{H}>", f"<u@{X}>", "R", f"u@{X}"),
    (6, f"<s@[{A}]>", f"<u@{X}>", "R", f"u@{X}"),
    (6, f"<s@{A}>", f"<u@{X}>", "R", f"u@{X}"),
    (7, "<s@localhost>", f"<u@{X}>", "R", f"u@{X}"),
    (7, "<s@[127.0.0.1]>", f"<u@{X}>", "R", f"u@{X}"),
    (8, "<s@client.fabrikam.test>", f"<u@{X}>", "R", f"u@{X}"),
    (9, "<s>", f"<u%{X}>", "B", f"u%{X}@{L}"),
    (10, f"<s@{L}>", f'<"u@{X}">', "B", f'"u@{X}"@{L}'),
    (11, f"<s@{L}>", f'<"u%{X}">', "B", f'"u%{X}"@{L}'),
    (12, f"<s@{L}>", f"<u%{X}@{H}>", "B", f"u%{X}@{H}"),
    (12, f"<s@{L}>", f"<u%{X}@{L}>", "B", f"u%{X}@{L}"),
    (13, f"<s@{L}>", f"<u%{X}@[{A}]>", "B", f"u%{X}@[{A}]"),
    (14, f"<s@{L}>", f"<u@{X}@{H}>", "I", ""),
    (14, f"<s@{L}>", f"<u@{X}@{L}>", "I", ""),
    (15, f"<s@{L}>", f"<u@{X}@[{A}]>", "I", ""),
    (16, f"<s@{L}>", f'<"u@{X}"@{H}>', "B", f'"u@{X}"@{H}'),
    (16, f"<s@{L}>", f'<"u@{X}"@{L}>', "B", f'"u@{X}"@{L}'),
    (17, f"<s@{L}>", f'<"u@{X}"@[{A}]>', "B", f'"u@{X}"@[{A}]'),
    (18, f"<s@{L}>", f"<@{H}:u@{X}>", "R", f"u@{X}"),
    (18, f"<s@{L}>", f"<@{L}:u@{X}>", "R", f"u@{X}"),
    (19, f"<s@{L}>", f"<@[{A}]:u@{X}>", "R", f"u@{X}"),
    (20, f"<s@{L}>", f"<{X}!u>", "B", f"{X}!u@{L}"),
    (21, f"<s@{L}>", f"<{X}!u@{H}>", "B", f"{X}!u@{H}"),
    (21, f"<s@{L}>", f"<{X}!u@{L}>", "B", f"{X}!u@{L}"),
    (22, f"<s@{L}>", f"<{X}!u@[{A}]>", "B", f"{X}!u@[{A}]"),
    (23, f"<s@{L}>", f"<u@{X}@>", "I", ""),
    (24, f"s@{X}", f"u@{X}", "R", f"u@{X}"),
    (25, f"<{H}!nobody>", f"<u@{X}>", "R", f"u@{X}"),
    (26, f"<s@[{A}]>", f"<u@[{A}]>", "B", f"u@[{A}]"),
]
IDS = [f"{probe[0]}-{probe[1]}-{probe[2]}" for probe in PROBES]
# Those whose recipient is local only because H is a listed domain and A an address of the server's.
OWN = [probe for probe in PROBES if probe[3] == "B" and (H in probe[2] or A in probe[2])]


@pytest.fixture(scope="module")
def sink(shared_place):
    return shared_place.sink()


@pytest.fixture(scope="module")
def relay(shared_place, sink):
    return shared_place.postern({
        "hostname": H,
        "domains": {L: {"recipients": ["s"]}, H: {"type": "local", "recipients": ["s"]}},
        "servers": {"main": {}, "lookup": {"listen": ["127.0.0.1:0"], "recipients": {"lookup": "at-rcpt"}}},
        "connectors": {"out": connector(sink.address)},
    })


def refusal(expected, shown):
    return {"R": f"550 5.7.1 Unable to relay for {shown}", "I": "501 5.5.4 Invalid Address",
            "B": f"550 5.1.1 {shown}... User unknown"}[expected]


@pytest.mark.parametrize("number, sender, recipient, expected, shown", PROBES, ids=IDS)
def test_probe(relay, sink, number, sender, recipient, expected, shown):
    """A probe that arrives outside is an open relay; one that is taken and not reported is lost mail."""
    word = token()
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:{sender}", "250 2.1.0 ")
        if expected != "B":
            client.expect(f"RCPT TO:{recipient}", refusal(expected, shown))
            client.expect("DATA", "503 5.5.2 Need rcpt command")
        else:
            client.expect(f"RCPT TO:{recipient}", f"250 2.1.5 {shown}")
            assert client.data(letter(word)).startswith("250 2.6.0 ")
            report = Report(relay.maildir(f"s@{L}").wait_for(word))
            assert report.final_recipients() == [shown]
            assert report.recipient(shown)["Status"] == "5.1.1"
    assert not sink.messages, "it was relayed"
    assert set(relay.mailboxes()) <= {f"s@{L}"}, "a message for an unknown recipient was stored"


@pytest.mark.parametrize("number, sender, recipient, expected, shown", PROBES, ids=IDS)
def test_probe_with_lookup(relay, sink, number, sender, recipient, expected, shown):
    """With lookup at RCPT nothing of all this may be taken, or the server makes reports to forged senders."""
    with SmtpClient(relay.address("lookup")) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:{sender}", "250 2.1.0 ")
        client.expect(f"RCPT TO:{recipient}", refusal(expected, shown))
        client.expect("DATA", "503 5.5.2 Need rcpt command")
    assert not sink.messages


@pytest.mark.parametrize("number, sender, recipient, expected, shown", OWN,
                         ids=[f"{probe[0]}-{probe[2]}" for probe in OWN])
def test_foreign_host_and_address_are_external(relay, number, sender, recipient, expected, shown):
    """A name or address that is not this server's own is anybody's: taking mail for it is relaying."""
    if f"@{L}>" in recipient:
        pytest.skip("addressed to the local domain, which is listed always")
    foreign = recipient.replace(H, "other.fabrikam.test").replace(A, "192.0.2.1")
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:<s@{L}>", "250 ")
        client.expect(f"RCPT TO:{foreign}", f"550 5.7.1 Unable to relay for {foreign[1:-1]}")


def test_own_address_stands_for_the_local_domain(relay):
    """Mail to postmaster@[address], which RFC 5321 wants to work, would bounce."""
    word = token()
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.deliver("s", [f"s@[{A}]"], letter(word))
    assert word.encode() in relay.maildir(f"s@{L}").wait_for(word)
