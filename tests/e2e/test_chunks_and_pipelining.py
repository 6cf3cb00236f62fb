# SPDX-License-Identifier: Apache-2.0
"""PIPELINING (RFC 2920) and CHUNKING (RFC 3030): how bytes are cut into packets and chunks changes nothing."""
import pytest

from harness.client import SmtpClient, deliver, dot_stuff, letter, token
from harness.maildir import split_trace
from harness.settings import HOSTNAME

SENDER_FIRST = "503 5.5.2 Need mail command"
RECIPIENT_FIRST = "503 5.5.2 Need rcpt command"
UNKNOWN = "500 5.3.3 Unrecognized command"
TOO_BIG = "552 5.3.4 Message size exceeds fixed maximum message size"


@pytest.fixture(scope="module")
def relay(shared_place):
    return shared_place.postern({"servers": {"main": {}, "small": {"listen": ["127.0.0.1:0"], "limits": {"message-size": "64KiB"}}}})


@pytest.fixture
def fresh(relay):
    """A connection that has said nothing yet."""
    with SmtpClient(relay.address()) as session:
        yield session


@pytest.fixture
def client(fresh):
    fresh.hello()
    return fresh


# ---- PIPELINING ----

def session_bytes(word):
    return (b"EHLO client.test\r\nMAIL FROM:<alice@contoso.test>\r\nRCPT TO:<v@example.net>\r\nRCPT TO:<bob@contoso.test>\r\n"
            b"DATA\r\n" + dot_stuff(letter(word, b"..dots\r\n.\r\n..\r\n")) + b".\r\n"
            b"RSET\r\nFOO\r\nMAIL FROM:<>\r\nRCPT TO:<carol@contoso.test>\r\nBDAT 5\r\nHellRBDAT 7 LAST\r\ny you\r\nQUIT\r\n")


def session_replies(client, word):
    """Reads and checks the replies to session_bytes, which do not depend on how those were cut into packets."""
    assert client.reply().startswith("250-mail.contoso.test Hello")
    expected = ["250 2.1.0 alice@contoso.test....Sender OK", "550 5.7.1 Unable to relay for v@example.net",
                "250 2.1.5 bob@contoso.test", "354 Start mail input; end with <CRLF>.<CRLF>"]
    assert client.replies(4) == expected
    assert client.reply().startswith(f"250 2.6.0 <{word}@client.test> ")
    assert client.replies(4) == ["250 2.0.0 Resetting", UNKNOWN, "250 2.1.0 <>....Sender OK", "250 2.1.5 carol@contoso.test"]
    assert client.reply().startswith("250 2.")
    assert client.reply().startswith("250 2.6.0 ")
    assert client.reply() == f"221 2.0.0 {HOSTNAME} Service closing transmission channel"
    assert client.is_closed()


def test_whole_session_in_one_write(fresh, relay):
    """Clients that pipeline would hang, or lose commands that came in one packet with others."""
    word = token()
    fresh.send(session_bytes(word))
    session_replies(fresh, word)
    message = relay.maildir("bob@contoso.test").wait_for(word)
    assert split_trace(message)[1].endswith(b"\r\n\r\n..dots\r\n.\r\n..\r\n")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_whole_session_in_small_pieces(fresh, size):
    """Slow links and TLS records cut commands anywhere: CR from LF, the final dot from its line."""
    word = token()
    fresh.send_in_pieces(session_bytes(word), size)
    session_replies(fresh, word)


def test_command_after_final_dot_in_the_same_packet(client, relay):
    """The start of the next command would be taken for mail, or dropped."""
    words = [token() for _ in range(20)]
    for word in words:
        client.send(b"MAIL FROM:<alice@contoso.test>\r\nRCPT TO:<bob@contoso.test>\r\nDATA\r\n" + letter(word) + b".\r\n")
    for word in words:
        assert [reply[:3] for reply in client.replies(3)] == ["250", "250", "354"]
        assert client.reply().startswith(f"250 2.6.0 <{word}@")
    for word in words:
        relay.maildir("bob@contoso.test").wait_for(word)


# ---- BDAT ----

@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 1000, 100000])
def test_chunks_of_any_size(client, relay, size):
    """Chunk borders may fall anywhere: between CR and LF, before a dot, within a UTF-8 letter."""
    word = token()
    content = letter(word, "..dot\r\n.\r\n\r\n.\r\nümläut\r\nend\r\n".encode())
    client.envelope("alice@contoso.test", "bob@contoso.test", options=" BODY=8BITMIME")
    chunks = [content[start:start + size] for start in range(0, len(content), size)]
    for chunk in chunks[:-1]:
        assert client.chunk(chunk).startswith("250 2.")
    answer = client.chunk(chunks[-1], last=True)
    assert answer.startswith(f"250 2.6.0 <{word}@client.test> Queued mail for delivery ("), answer
    assert split_trace(relay.maildir("bob@contoso.test").wait_for(word), content)[1] == content


def test_empty_last_chunk(client, relay):
    word = token()
    client.envelope("alice@contoso.test", "bob@contoso.test")
    assert client.chunk(letter(word)).startswith("250 2.")
    assert client.chunk(b"", last=True).startswith("250 2.6.0 ")
    assert split_trace(relay.maildir("bob@contoso.test").wait_for(word), letter(word))[1] == letter(word)


def test_chunks_pipelined(client, relay):
    """RFC 3030: a client need not wait between chunks; a command in a chunk is data."""
    word = token()
    content = letter(word, b"RSET\r\nQUIT\r\n")
    client.envelope("alice@contoso.test", "bob@contoso.test")
    client.send(b"BDAT 10\r\n" + content[:10] + b"BDAT 0\r\n" + b"BDAT %d LAST\r\n" % (len(content) - 10) + content[10:] + b"NOOP\r\n")
    replies = client.replies(4)
    assert [reply[:5] for reply in replies] == ["250 2"] * 4 and replies[2].startswith("250 2.6.0 "), replies
    assert split_trace(relay.maildir("bob@contoso.test").wait_for(word), content)[1] == content


def test_rset_between_chunks(client, relay):
    """The start of a message that was taken back would stand in front of the next one."""
    gone, word = token(), token()
    client.envelope("alice@contoso.test", "bob@contoso.test")
    assert client.chunk(letter(gone)).startswith("250 2.")
    client.expect("RSET", "250 2.0.0 Resetting")
    client.envelope("alice@contoso.test", "bob@contoso.test")
    assert client.chunk(letter(word), last=True).startswith("250 2.6.0 ")
    message = relay.maildir("bob@contoso.test").wait_for(word)
    assert gone.encode() not in message
    assert not relay.maildir("bob@contoso.test").find(gone)


def test_chunk_after_refusal_is_swallowed(client):
    """RFC 3030 2: the octets of a refused chunk follow all the same; taken for commands they would be smuggling."""
    client.send(b"BDAT 12\r\nQUIT\r\nQUIT\r\nNOOP\r\n")
    answer = client.reply()
    assert answer == SENDER_FIRST or answer == RECIPIENT_FIRST, answer
    assert client.reply() == "250 2.0.0 OK"
    client.expect_code("MAIL FROM:<alice@contoso.test>", "250 ")
    client.expect("RCPT TO:<v@example.net>", "550 5.7.1 Unable to relay for v@example.net")
    client.send(b"BDAT 12 LAST\r\nQUIT\r\nQUIT\r\nNOOP\r\n")
    assert client.replies(2) == [RECIPIENT_FIRST, "250 2.0.0 OK"]


def test_data_after_chunk(client):
    """RFC 3030: DATA and BDAT don't mix in one transaction."""
    client.envelope("alice@contoso.test", "bob@contoso.test")
    assert client.chunk(b"Subject: x\r\n").startswith("250 2.")
    client.expect_code("DATA", "503 5.5.1 ")


@pytest.mark.parametrize("argument", ["", "x", "-1", "5 FIRST", "5 LAST 6", "99999999999999999999999"])
def test_bad_chunk_size(client, argument):
    """The server can't know what follows; it must say so, and must not take a message."""
    client.envelope("alice@contoso.test", "bob@contoso.test")
    client.expect_code(f"BDAT {argument}".rstrip(), "501 5.5.4 ")


def test_too_big_in_chunks(relay):
    """The limit holds for the sum of the chunks, and the one too many is no command."""
    with SmtpClient(relay.address("small")) as client:
        client.hello()
        client.envelope("alice@contoso.test", "bob@contoso.test")
        assert client.chunk(b"x" * 60000).startswith("250 2.")
        assert client.chunk(b"NOOP\r\n" * 10000) == TOO_BIG
        client.expect("NOOP", "250 2.0.0 OK")


def test_connection_closed_within_a_chunk_or_data(relay):
    """Half a message must not be delivered as if it were whole."""
    cut, word = token(), token()
    for start in (b"DATA\r\n" + letter(cut), b"BDAT 1000 LAST\r\n" + letter(cut), b"BDAT 10\r\n0123456789"):
        with SmtpClient(relay.address()) as client:
            client.hello()
            client.envelope("alice@contoso.test", "carol@contoso.test")
            client.send(start)
    deliver(relay.address(), "alice@contoso.test", "carol@contoso.test", letter(word))
    relay.maildir("carol@contoso.test").wait_for(word)
    assert not relay.maildir("carol@contoso.test").find(cut)
