# SPDX-License-Identifier: Apache-2.0
"""Another domain in place of the local ones in senders' addresses, on the first hop."""
import pytest

from harness.client import SmtpClient, deliver, token
from harness.settings import connector

REMOTE = "v@example.net"
RECEIVED = b"Received: from elsewhere.test by other.test; Mon, 1 Jan 2024 00:00:00 +0000\r\n"


@pytest.fixture
def sink(place):
    return place.sink()


@pytest.fixture
def relay(place, sink):
    plain = place.sink()
    return place.postern({
        "domains": {"corp.contoso.test": {"type": "local", "recipients": "any"}},
        "servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}}},
        "connectors": {"out": connector(sink.address, masquerade="contoso.example"),
                       "plain": {"address-spaces": ["plain.test"], "smart-hosts": [plain.address]}},
    }), plain


def letter(word, received=b""):
    return (received + b"From: Alice <alice@corp.contoso.test>\r\nTo: <v@example.net>\r\nReply-To: \"a@contoso.test\"\r\n <alice@contoso.test>\r\n"
            b"Message-ID: <" + word.encode() + b"@contoso.test>\r\n\r\nfrom alice@contoso.test " + word.encode() + b"\r\n")


def test_senders_are_changed(relay, sink):
    relay, _ = relay
    word = token()
    deliver(relay.address(), "alice@corp.contoso.test", REMOTE, letter(word))
    message = sink.wait_for(word)
    assert message.sender == "alice@contoso.example"
    assert b"\r\nFrom: Alice <alice@contoso.example>\r\n" in message.content
    assert b"Reply-To: \"a@contoso.test\"\r\n <alice@contoso.example>\r\n" in message.content
    assert message.content.endswith(b"\r\nfrom alice@contoso.test " + word.encode() + b"\r\n")
    assert b"Message-ID: <" + word.encode() + b"@contoso.test>" in message.content
    size = next(option for option in message.sender_options.split() if option.startswith("SIZE="))
    assert size == f"SIZE={len(message.content)}"


def test_only_on_the_first_hop(relay, sink):
    """What has come from elsewhere was somebody else's to change; and what leaves by another way is as it was."""
    relay, plain = relay
    first, second = token(), token()
    deliver(relay.address(), "alice@contoso.test", REMOTE, letter(first, RECEIVED))
    message = sink.wait_for(first)
    assert message.sender == "alice@contoso.test" and b"From: Alice <alice@corp.contoso.test>" in message.content
    deliver(relay.address(), "alice@contoso.test", "v@plain.test", letter(second))
    message = plain.wait_for(second)
    assert message.sender == "alice@contoso.test" and b"From: Alice <alice@corp.contoso.test>" in message.content


def test_strangers_stay(relay, sink):
    relay, _ = relay
    word = token()
    deliver(relay.address(), "bob@example.org", REMOTE, letter(word).replace(b"alice@corp.contoso.test", b"bob@example.org"))
    message = sink.wait_for(word)
    assert message.sender == "bob@example.org" and b"From: Alice <bob@example.org>" in message.content


def test_large_messages_and_many(relay, sink):
    """The changed head and the rest of the body, which comes from the disk, are one message; and so for each of a queue's."""
    relay, _ = relay
    words = [token() for _ in range(12)]
    filler = b"".join(b"%06d " % number + b"x" * 70 + b"\r\n" for number in range(10000))
    with SmtpClient(relay.address()) as client:
        client.hello()
        for number, word in enumerate(words):
            client.deliver("alice@contoso.test", REMOTE, letter(word) + (filler if number % 3 == 0 else b""))
    for number, word in enumerate(words):
        message = sink.wait_for(word)
        assert message.sender == "alice@contoso.example"
        assert message.content.endswith(filler if number % 3 == 0 else word.encode() + b"\r\n")
