# SPDX-License-Identifier: Apache-2.0
"""What comes out is what came in, plus the trace header fields: through the spool into a Maildir, and to the next hop.

A signature (DKIM, S/MIME) breaks with one byte changed, and so does an attachment.
"""
import hashlib
import random

import pytest

from harness.client import SmtpClient, letter, token
from harness.maildir import split_trace
from harness.settings import connector


@pytest.fixture(scope="module")
def sink(shared_place):
    return shared_place.sink()


@pytest.fixture(scope="module")
def relay(shared_place, sink):
    return shared_place.postern({
        "servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}}},
        "connectors": {"out": connector(sink.address)},
    })


def random_lines(size, seed):
    """Every byte but NUL, CR and LF, in lines of up to 3,000 octets, many with a dot in front."""
    dice = random.Random(seed)
    alphabet = bytes(byte for byte in range(1, 256) if byte not in b"\r\n")
    table = bytes(alphabet[byte % len(alphabet)] for byte in range(256))
    out = bytearray()
    while len(out) < size:
        out += dice.choice((b"", b".", b"..", b" ")) + dice.randbytes(dice.randrange(0, 3000)).translate(table) + b"\r\n"
    return bytes(out)


BODIES = {
    "8-bit": "Grüße aus Köln, 日本語\r\n".encode() + bytes(range(128, 256)) + b"\r\n",
    "leading-dots": b".\r\n..\r\n...\r\n.a\r\n\r\n.\r\n" + b"." * 5000 + b"\r\n.\r\n",
    "only-a-dot": b".\r\n",
    "empty": b"",
    "empty-lines": b"\r\n" * 2000,
    "long-line": b"x" * 998 + b"\r\n" + b"y" * 1000 + b"\r\n" + b"z" * 100000 + b"\r\n",
    "megabyte-line": b"m" * (1 << 20) + b"\r\n",
    "control-bytes": bytes(byte for byte in range(1, 32) if byte not in b"\r\n") + b"\x7f\x1a\x04\r\n",
    "looks-like-a-mailbox": b"From nobody Mon Nov  2 10:00:00 2026\r\n>From here\r\n",
    "looks-like-smtp": b"QUIT\r\nRSET\r\nDATA\r\n",
    "trailing-spaces": b"trailing  \t \r\n \r\n\t\r\n",
    "random": random_lines(300_000, 1),
    "around-the-inline-limit": random_lines(256 * 1024 - 700, 2),
}


def check(relay, sink, word, content):
    """Compares both copies with what was sent; by digest, as the difference of two big texts says nothing to anybody."""
    copies = (("Maildir", relay.maildir("bob@contoso.test").wait_for(word)), ("next hop", sink.wait_for(word).content))
    for where, message in copies:
        trace, rest = split_trace(message, content)
        assert len([field for field in trace if field.lower().startswith(b"received:")]) == 1
        if rest != content:
            at = next((i for i, (a, b) in enumerate(zip(rest, content)) if a != b), min(len(rest), len(content)))
            raise AssertionError(f"{where}: {len(rest)} bytes for {len(content)}; differ at {at}: {rest[at - 20:at + 20]!r} for "
                                 f"{content[at - 20:at + 20]!r}; sha256 {hashlib.sha256(rest).hexdigest()}")


@pytest.mark.parametrize("name", BODIES)
def test_data(relay, sink, name):
    word = token()
    content = letter(word, BODIES[name])
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.deliver("alice@contoso.test", ["bob@contoso.test", "v@example.net"], content, options=" BODY=8BITMIME")
    check(relay, sink, word, content)


@pytest.mark.parametrize("name", BODIES)
def test_bdat_with_arbitrary_borders(relay, sink, name):
    word = token()
    content = letter(word, BODIES[name])
    dice = random.Random(word)
    print(f"seed {word}")
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.envelope("alice@contoso.test", "bob@contoso.test", "v@example.net", options=" BODY=8BITMIME")
        position = 0
        while position < len(content):
            size = dice.choice((1, 2, 3, 10, 100, 5000, 70000))
            assert client.chunk(content[position:position + size]).startswith("250 2.0.0 ")
            position += size
        assert client.chunk(b"", last=True).startswith("250 2.6.0 ")
    check(relay, sink, word, content)


@pytest.mark.parametrize("use_bdat", [False, True], ids=["data", "bdat"])
def test_thirty_mebibytes(relay, sink, use_bdat):
    """The biggest attachments that people send; the spool keeps such a body in a file of its own."""
    word = token()
    content = letter(word, random_lines(30 << 20, 3))
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.envelope("alice@contoso.test", "bob@contoso.test", "v@example.net", options=f" BODY=8BITMIME SIZE={len(content)}")
        if use_bdat:
            half = len(content) // 2
            assert client.chunk(content[:half]).startswith("250 2.0.0 ")
            answer = client.chunk(content[half:], last=True)
        else:
            answer = client.data(content)
        assert answer.startswith("250 2.6.0 "), answer
    check(relay, sink, word, content)


def test_no_header_at_all(relay, sink):
    """Devices send bare text. Not one line of it may be taken for a header field, moved or lost."""
    word = token()
    content = f"\r\n{word}\r\n".encode()
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.deliver("alice@contoso.test", ["bob@contoso.test", "v@example.net"], content)
    for message in (relay.maildir("bob@contoso.test").wait_for(word), sink.wait_for(word).content):
        assert split_trace(message)[1] == content


def test_empty_message(relay):
    """Nothing between DATA and the dot: still a message, and still delivered."""
    before = len(relay.maildir("carol@contoso.test").messages())
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.deliver("alice@contoso.test", "carol@contoso.test", b"")
        client.envelope("alice@contoso.test", "carol@contoso.test")
        assert client.chunk(b"", last=True).startswith("250 2.6.0 ")
    for message in relay.maildir("carol@contoso.test").wait_for_count(before + 2):
        trace, rest = split_trace(message)
        assert trace and rest in (b"", b"\r\n"), message


def test_header_fields_keep_their_form(relay, sink):
    """Folding, case, order, odd fields and older trace fields stay as they are."""
    word = token()
    content = (f"Received: from a.test by b.test; Mon, 2 Nov 2026 10:00:00 +0000\r\nX-Odd:no space\r\nSUBJECT:  {word}\r\n\tfolded\r\n"
               f" again  \r\nMessage-Id:\r\n <{word}@x.test>\r\nX-Empty:\r\nBcc: hidden@example.net\r\nbroken line\r\n\r\nbody\r\n").encode()
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.deliver("alice@contoso.test", ["bob@contoso.test", "v@example.net"], content)
    for message in (relay.maildir("bob@contoso.test").wait_for(word), sink.wait_for(word).content):
        assert message.endswith(content)
        assert message[:-len(content)].lower().count(b"\nreceived:") + message.lower().startswith(b"received:") == 1


def test_message_id_is_added_when_missing(relay, sink):
    """Without one, threads and duplicates can't be told; where there is one, it is not touched."""
    word = token()
    content = f"Subject: {word}\r\n\r\nbody\r\n".encode()
    with SmtpClient(relay.address()) as client:
        client.hello()
        answer = client.deliver("alice@contoso.test", "v@example.net", content)
    message = sink.wait_for(word).content
    assert message.endswith(content)
    added = answer.split()[2]
    assert b"Message-ID: " + added.encode() in message
