# SPDX-License-Identifier: Apache-2.0
"""What bad input gets: relay-behaviour.md section 8, line by line."""
import random
import signal

import pytest

from harness.client import SmtpClient, deliver, letter, token
from harness.maildir import split_trace
from harness.settings import HOSTNAME, connector

BARE = "500 5.5.2 "
REFUSED = "550 5.6.0 "

# What other servers have taken for an end of data, or sent on as one. Each has a bare CR, a bare LF or a NUL.
FALSE_ENDS = [b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n", b"\n\n.\n", b"\r\r\n.\r\r\n", b"\r\n\0.\r\n",
              b"\r\n.\0\r\n", b"\r\n.\r\0\n", b"\r\n.\x0b\n", b"\x85.\x85\n"]
SMUGGLED = b"MAIL FROM:<evil@contoso.test>\r\nRCPT TO:<carol@contoso.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n"


def readable(value):
    return repr(value)[2:-1] if isinstance(value, bytes) else None


@pytest.fixture(scope="module")
def sink(shared_place):
    return shared_place.sink()


@pytest.fixture(scope="module")
def relay(shared_place, sink):
    listen = ["127.0.0.1:0"]
    return shared_place.postern({
        "servers": {
            "main": {},
            "normalize": {"listen": listen, "bare-newline": "normalize", "relay": {"only": ["127.0.0.1"]}},
            "lookup": {"listen": listen, "recipients": {"lookup": "at-rcpt"}, "limits": {"unknown-recipients": 5, "errors": 3}},
        },
        "connectors": {"out": connector(sink.address)},
    })


@pytest.fixture
def client(relay):
    with SmtpClient(relay.address()) as session:
        session.hello()
        yield session


# ---- commands ----

@pytest.mark.parametrize("line", [
    b"NOOP\n", b"MAIL FROM:<alice@contoso.test>\n", b"MAIL FROM:<alice@contoso.test>\rRCPT TO:<bob@contoso.test>\r\n",
    b"NO\rOP\r\n", b"\rNOOP\r\n", b"NOOP\r\r\n", b"RCPT TO:<bob\r@contoso.test>\r\n",
], ids=readable)
def test_bare_newline_in_a_command(client, line):
    """Where two servers see the end of a line at different places, a third party slips a command in between."""
    client.send(line)
    assert client.reply().startswith(BARE)
    client.expect("RCPT TO:<bob@contoso.test>", "503 5.5.2 Need mail command")
    client.expect("NOOP", "250 2.0.0 OK")


@pytest.mark.parametrize("line", [b"NO\0OP\r\n", b"MAIL FROM:<alice@contoso.test\0>\r\n", b"NOOP\0\r\n", b"\0\r\n"], ids=readable)
def test_nul_in_a_command(client, line):
    """A C program behind us would see another, shorter command."""
    client.send(line)
    assert client.reply().startswith("5")
    client.expect("RCPT TO:<bob@contoso.test>", "503 5.5.2 Need mail command")


def test_command_line_length_boundary(client):
    """2,048 octets with CRLF are taken, one more is refused, and the rest of the line is no command."""
    client.expect("NOOP " + "x" * (2048 - 7), "250 2.0.0 OK")
    client.expect_code("NOOP " + "x" * (2048 - 6), "500 5.5.2 ")
    client.expect_code("NOOP " + "NOOP " * 4000, "500 5.5.2 ")
    client.expect("NOOP", "250 2.0.0 OK")


def test_command_line_without_end(relay):
    """A line of 20 MB must neither be kept in memory nor hold the server up."""
    with SmtpClient(relay.address()) as client:
        client.hello()
        before = relay.resident_kib()
        for _ in range(20):
            client.send(b"x" * (1 << 20))
        client.expect_code("", "500 5.5.2 ")
        client.expect("NOOP", "250 2.0.0 OK")
        assert relay.resident_kib() - before < 8 * 1024


@pytest.mark.parametrize("command", ["FOO", "MAIL FROM:<a@b@c>", "DATA", "MAIL FROM:<alice@contoso.test> FOO=BAR", "NO\rOP",
                                     "STARTTLS"])
def test_ten_errors_end_the_session(client, command):
    """A client that only makes mistakes, or guesses, would keep a connection for ever."""
    for _ in range(9):
        assert client.ask(command)[:3] in ("500", "501", "502", "503", "555")
    assert client.ask(command).startswith(f"421 4.7.0 {HOSTNAME} ")
    assert client.is_closed()


def test_errors_of_all_kinds_count_together_and_their_limit_is_set(relay):
    with SmtpClient(relay.address("lookup")) as client:
        client.expect_code("MAIL FROM:<alice@contoso.test>", "503 5.5.1 ")
        client.expect_code("FOO", "500 5.3.3 ")
        client.expect_code("x" * 3000, "421 4.7.0 ")
        assert client.is_closed()


def test_refused_recipients_are_not_errors(client):
    """A mailing list with many foreign addresses would be cut off."""
    client.expect_code("MAIL FROM:<alice@contoso.test>", "250 ")
    for number in range(30):
        client.expect_code(f"RCPT TO:<v{number}@example.net>", "550 5.7.1 ")
    client.expect_code("RCPT TO:<bob@contoso.test>", "250 ")


def test_unknown_recipients_have_a_limit(relay):
    """Address harvesting would go on for as long as the harvester likes."""
    with SmtpClient(relay.address("lookup")) as client:
        client.hello()
        client.expect_code("MAIL FROM:<alice@contoso.test>", "250 ")
        for number in range(4):
            client.expect_code(f"RCPT TO:<guess{number}@contoso.test>", "550 5.1.1 ")
        client.expect_code("RCPT TO:<bob@contoso.test>", "250 ")
        answer = client.ask("RCPT TO:<guess5@contoso.test>")
        if answer.startswith("550 5.1.1 "):
            answer = client.reply()
        assert answer.startswith("421 4.7.0 "), answer
        assert client.is_closed()


def test_input_before_the_banner(place):
    """Spamware and cross-protocol attacks talk before they are greeted: RFC 5321 4.3.1 lets the server close."""
    relay = place.postern()
    relay.signal(signal.SIGSTOP)
    try:
        with SmtpClient(relay.address(), banner=False) as hasty:
            hasty.send("EHLO client.test\r\nMAIL FROM:<alice@contoso.test>\r\n")
            relay.signal(signal.SIGCONT)
            assert hasty.is_closed()
    finally:
        relay.signal(signal.SIGCONT)
    with SmtpClient(relay.address()) as patient:
        patient.hello()


def test_noise(relay):
    """Whatever comes in, the process and the other sessions stay."""
    seed = random.SystemRandom().randrange(1 << 32)
    dice = random.Random(seed)
    print(f"seed {seed}")
    words = [b"EHLO ", b"MAIL FROM:", b"RCPT TO:", b"<", b">", b"@", b"DATA", b"BDAT ", b"99", b" LAST", b"\r\n", b"\r\n.\r\n", b".",
             b"\0", b"\r", b"\n", b"bob", b"contoso.test", b"\xff", b"\xc3\xa9", b" SIZE=", b"RSET", b'"', b"[", b"]", b":", b" "]
    with SmtpClient(relay.address()) as bystander:
        bystander.hello()
        for _ in range(60):
            with SmtpClient(relay.address()) as noisy:
                try:
                    noisy.send(b"".join(dice.choice(words) for _ in range(400)))
                    noisy.send(dice.randbytes(2000))
                except ConnectionError:
                    pass  # it may have had enough of us
        bystander.expect("NOOP", "250 2.0.0 OK")
    assert relay.is_running()


# ---- messages, bare newlines refused ----

@pytest.mark.parametrize("size", [None, 1, 2, 3])
@pytest.mark.parametrize("false_end", FALSE_ENDS, ids=readable)
def test_smuggling(client, relay, sink, false_end, size):
    """The second message would come from us, with our name, past every check of the receiver's (SMTP smuggling)."""
    word = token()
    client.envelope("alice@contoso.test", "bob@contoso.test")
    client.expect_code("DATA", "354 ")
    wire = letter(word)[:-2] + false_end + SMUGGLED + b".\r\nNOOP\r\n"
    if size:
        client.send_in_pieces(wire, size)
    else:
        client.send(wire)
    assert client.reply().startswith(REFUSED)
    assert client.reply() == "250 2.0.0 OK"
    done = token()
    client.deliver("alice@contoso.test", "bob@contoso.test", letter(done))
    relay.maildir("bob@contoso.test").wait_for(done)
    assert not relay.maildir("bob@contoso.test").find(word)
    assert not relay.maildir("carol@contoso.test").messages()


@pytest.mark.parametrize("body", [b"one\rtwo\r\n", b"one\ntwo\r\n", b"one\r\r\n", b"one\n\r\n", b"\rone\r\n", b"one\0two\r\n"],
                         ids=readable)
@pytest.mark.parametrize("chunk_size", [None, 1, 2, 7])
def test_bare_newline_or_nul_in_a_message(client, relay, body, chunk_size):
    """Nothing of such a message may be kept; BDAT is no way around it, wherever its chunk borders fall."""
    word = token()
    content = letter(word, body)
    client.envelope("alice@contoso.test", "bob@contoso.test")
    if chunk_size is None:
        answer = client.data(content)
    else:
        for start in range(0, len(content), chunk_size):
            assert client.chunk(content[start:start + chunk_size]).startswith("250 2.")
        answer = client.chunk(b"", last=True)
    assert answer.startswith(REFUSED)
    done = token()
    client.deliver("alice@contoso.test", "bob@contoso.test", letter(done))
    relay.maildir("bob@contoso.test").wait_for(done)
    assert not relay.maildir("bob@contoso.test").find(word)


def test_bare_cr_at_the_end_of_the_last_chunk(client):
    client.envelope("alice@contoso.test", "bob@contoso.test")
    assert client.chunk(b"Subject: x\r\n\r\nx\r", last=True).startswith(REFUSED)
    client.envelope("alice@contoso.test", "bob@contoso.test")
    assert client.chunk(b"Subject: x\r\n\r\nx\r").startswith("250 ")
    assert client.chunk(b"\n", last=True).startswith("250 2.6.0 "), "CR and LF in two chunks are a CRLF"


def test_no_false_refusal(client):
    """CR and LF that meet at any border of packets are a newline."""
    client.envelope("alice@contoso.test", "bob@contoso.test")
    client.expect_code("DATA", "354 ")
    client.send_in_pieces(letter(token(), b"\r\n\r\n..\r\n\r\n") + b".\r\n", 1)
    assert client.reply().startswith("250 2.6.0 ")


# ---- bare-newline: normalize ----

NORMALIZED = [
    (b"one\ntwo\rthree\r\n", b"one\r\ntwo\r\nthree\r\n"),
    (b"one\n.\ntwo\r\n", b"one\r\n.\r\ntwo\r\n"),
    (b"one\n.\r\ntwo\r\n", b"one\r\n.\r\ntwo\r\n"),
    (b"one\r\n.\ntwo\r\n", b"one\r\n.\r\ntwo\r\n"),
    (b"one\r\n.\rtwo\r\n", b"one\r\n.\r\ntwo\r\n"),
    (b"one\r.\rtwo\r\n", b"one\r\n.\r\ntwo\r\n"),
    (b"one\n..two\n...three\r\n", b"one\r\n..two\r\n...three\r\n"),
    (b"one\r\n..two\n.three\r\n", b"one\r\n.two\r\n.three\r\n"),
    (b"one\r\r\ntwo\n\r\n", b"one\r\n\r\ntwo\r\n\r\n"),
    (b"\n\n\r\n", b"\r\n\r\n\r\n"),
]


@pytest.mark.parametrize("size", [None, 1, 2, 3])
@pytest.mark.parametrize("wire, stored", NORMALIZED, ids=[readable(wire) for wire, _ in NORMALIZED])
def test_normalized(relay, sink, wire, stored, size):
    """Old devices get their mail through, and what is sent on has no bare CR or LF (the next hop here checks)."""
    word = token()
    with SmtpClient(relay.address("normalize")) as client:
        client.hello()
        client.envelope("alice@contoso.test", "bob@contoso.test", "v@example.net")
        client.expect_code("DATA", "354 ")
        whole = letter(word, b"") + wire + b".\r\n"
        if size:
            client.send_in_pieces(whole, size)
        else:
            client.send(whole)
        assert client.reply().startswith("250 2.6.0 ")
        client.expect("NOOP", "250 2.0.0 OK")
    expected = letter(word, stored)
    assert split_trace(relay.maildir("bob@contoso.test").wait_for(word), expected)[1] == expected
    assert split_trace(sink.wait_for(word).content, expected)[1] == expected


@pytest.mark.parametrize("false_end", [end for end in FALSE_ENDS if b"\0" not in end], ids=readable)
def test_normalized_is_not_smuggled(relay, sink, false_end):
    """All of it stays one message, here and at the next hop."""
    word = token()
    with SmtpClient(relay.address("normalize")) as client:
        client.hello()
        client.envelope("alice@contoso.test", "v@example.net")
        client.expect_code("DATA", "354 ")
        client.send(letter(word)[:-2] + false_end + SMUGGLED + b".\r\nNOOP\r\n")
        assert client.reply().startswith("250 2.6.0 ")
        assert client.reply() == "250 2.0.0 OK"
    message = sink.wait_for(word)
    assert b"MAIL FROM:<evil@contoso.test>\r\nRCPT TO" in message.content
    assert not [other for other in sink.messages if other.sender == "evil@contoso.test"]
    assert not relay.maildir("carol@contoso.test").messages()


def test_nul_is_refused_when_normalizing_too(relay):
    with SmtpClient(relay.address("normalize")) as client:
        client.hello()
        client.envelope("alice@contoso.test", "bob@contoso.test")
        assert client.data(letter(token(), b"one\0two\r\n")).startswith(REFUSED)


def test_normalize_does_not_loosen_commands(relay):
    with SmtpClient(relay.address("normalize")) as client:
        client.hello()
        client.send(b"NOOP\n")
        assert client.reply().startswith(BARE)


def test_server_is_unharmed(relay):
    """After all of the above, mail still goes through."""
    word = token()
    deliver(relay.address(), "alice@contoso.test", "bob@contoso.test", letter(word))
    relay.maildir("bob@contoso.test").wait_for(word)
