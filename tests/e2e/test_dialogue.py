# SPDX-License-Identifier: Apache-2.0
"""Conversations to the letter: relay-behaviour.md sections 3 and 4, as far as they need neither TLS nor AUTH."""
import email.utils
import re
import time

import pytest

from harness.client import SmtpClient, deliver, letter, token
from harness.maildir import split_trace
from harness.settings import HOSTNAME, connector

INVALID = "501 5.5.4 Invalid Address"
SENDER_FIRST = "503 5.5.2 Need mail command"
RECIPIENT_FIRST = "503 5.5.2 Need rcpt command"
HELLO_FIRST = "503 5.5.1 Send hello first"
UNKNOWN = "500 5.3.3 Unrecognized command"
TOO_BIG = "552 5.3.4 Message size exceeds fixed maximum message size"


@pytest.fixture(scope="module")
def sink(shared_place):
    return shared_place.sink()


@pytest.fixture(scope="module")
def relay(shared_place, sink):
    listen = ["127.0.0.1:0"]
    return shared_place.postern({
        "domains": {"fabrikam.test": {"type": "allowed"}},
        "servers": {
            "main": {},
            "lookup": {"listen": listen, "recipients": {"lookup": "at-rcpt"}},
            "granted": {"listen": listen, "relay": {"only": ["127.0.0.0/8"]}},
            "small": {"listen": listen, "banner": "Ours, for you",
                      "limits": {"message-size": "64KiB", "recipients": 3, "received-hops": 5}},
            "hasty": {"listen": listen, "limits": {"idle-timeout": "1s"}},
        },
        "connectors": {"out": connector(sink.address)},
    })


@pytest.fixture
def fresh(relay):
    """A connection that has said nothing yet."""
    with SmtpClient(relay.address()) as session:
        yield session


@pytest.fixture
def client(fresh):
    fresh.hello()
    return fresh


@pytest.fixture
def connect(relay):
    """Opens a session with one of the servers, EHLO said."""
    sessions = []

    def opened(server):
        session = SmtpClient(relay.address(server))
        sessions.append(session)
        session.hello()
        return session

    yield opened
    for session in sessions:
        session.close()


# ---- greeting ----

def test_banner(fresh):
    """Monitoring and people recognise the server by it, and read its clock off it."""
    found = re.fullmatch(rf"220 {re.escape(HOSTNAME)} Postern ESMTP ready at (.+)", fresh.banner)
    assert found, fresh.banner
    assert abs(email.utils.parsedate_to_datetime(found.group(1)).timestamp() - time.time()) < 120


def test_banner_is_configurable(relay):
    """Whoever must not name the product in public could not."""
    with SmtpClient(relay.address("small")) as client:
        assert re.fullmatch(rf"220 {re.escape(HOSTNAME)} Ours, for you ready at .+", client.banner), client.banner


def test_ehlo(fresh):
    """Clients choose by these keywords how they send; one that is wrong breaks them all."""
    fresh.expect("EHLO client.test", "\n".join([
        f"250-{HOSTNAME} Hello [127.0.0.1]", "250-PIPELINING", "250-SIZE 37748736", "250-8BITMIME", "250-SMTPUTF8",
        "250-ENHANCEDSTATUSCODES", "250-DSN", "250 CHUNKING"]))


@pytest.mark.parametrize("command", ["EHLO", "EHLO ", "ehlo client", "EHLO [127.0.0.1]", "EHLO -odd_name-"])
def test_ehlo_argument_is_not_judged(fresh, command):
    """Old devices say anything, or nothing, and would be turned away."""
    fresh.expect_code(command, f"250-{HOSTNAME} Hello [127.0.0.1]\n")


def test_helo(fresh):
    """RFC 821 clients would not understand more than one line."""
    fresh.expect("HELO client.test", f"250 {HOSTNAME} Hello [127.0.0.1]")
    fresh.expect("MAIL FROM:<alice@contoso.test>", "250 2.1.0 alice@contoso.test....Sender OK")


def test_ehlo_resets_the_transaction(client):
    """RFC 5321 4.1.4: a second EHLO in a transaction left half way would mix two messages."""
    client.envelope("alice@contoso.test", "bob@contoso.test")
    client.hello()
    client.expect("RCPT TO:<bob@contoso.test>", SENDER_FIRST)


# ---- order ----

@pytest.mark.parametrize("command", ["MAIL FROM:<alice@contoso.test>", "RCPT TO:<bob@contoso.test>", "DATA"])
def test_hello_first(fresh, command):
    """Spamware that skips the greeting would be served."""
    fresh.expect(command, HELLO_FIRST)


def test_second_mail(client):
    """Two senders in one transaction: reports would go to the wrong one."""
    client.expect_code("MAIL FROM:<alice@contoso.test>", "250 ")
    client.expect("MAIL FROM:<bob@contoso.test>", "503 5.5.1 Sender already specified")
    client.expect("RCPT TO:<carol@contoso.test>", "250 2.1.5 carol@contoso.test")


def test_rcpt_before_mail(client):
    client.expect("RCPT TO:<bob@contoso.test>", SENDER_FIRST)


def test_data_before_rcpt(client):
    """A pipelining client whose every recipient was refused must not get a 354 (RFC 2920)."""
    client.expect_code("MAIL FROM:<alice@contoso.test>", "250 ")
    client.expect("DATA", RECIPIENT_FIRST)
    client.expect("RCPT TO:<v@example.net>", "550 5.7.1 Unable to relay for v@example.net")
    client.expect("DATA", RECIPIENT_FIRST)
    client.expect_code("RCPT TO:<bob@contoso.test>", "250 ")
    client.expect_code("DATA", "354 ")


def test_rset(client):
    client.expect("RSET", "250 2.0.0 Resetting")
    client.envelope("alice@contoso.test", "bob@contoso.test")
    client.expect("RSET", "250 2.0.0 Resetting")
    client.expect("DATA", SENDER_FIRST)
    client.expect_code("MAIL FROM:<alice@contoso.test>", "250 ")


def test_transaction_ends_with_the_message(client, relay):
    """The next message would go to the recipients of the one before."""
    word = token()
    client.deliver("alice@contoso.test", "bob@contoso.test", letter(word))
    client.expect("RCPT TO:<carol@contoso.test>", SENDER_FIRST)
    client.expect_code("MAIL FROM:<alice@contoso.test>", "250 ")
    client.expect("DATA", RECIPIENT_FIRST)
    relay.maildir("bob@contoso.test").wait_for(word)


# ---- addresses (section 3) ----

@pytest.mark.parametrize("typed, shown", [
    ("FROM:<alice@contoso.test>", "alice@contoso.test"),
    ("FROM:alice@contoso.test", "alice@contoso.test"),
    ("FROM: <alice@contoso.test>", "alice@contoso.test"),
    ("FROM: alice@contoso.test", "alice@contoso.test"),
    ("from:<alice@contoso.test>", "alice@contoso.test"),
    ("FROM:alice", "alice@contoso.test"),
    ("FROM:<alice>", "alice@contoso.test"),
    ("FROM:<>", "<>"),
    ("FROM:<Alice@Contoso.TEST>", "Alice@Contoso.TEST"),
    ("FROM:<@one.test,@two.test:alice@example.org>", "alice@example.org"),
    ('FROM:<"a\\"b"@example.org>', '"a\\"b"@example.org'),
    ('FROM:<"two words"@example.org>', '"two words"@example.org'),
    ("FROM:<alice@[192.0.2.1]>", "alice@[192.0.2.1]"),
    ("FROM:<alice@192.0.2.1>", "alice@192.0.2.1"),
    ("FROM:<alice@[IPv6:2001:db8::1]>", "alice@[IPv6:2001:db8::1]"),
    ("FROM:<" + "v" * 200 + "@example.org>", "v" * 200 + "@example.org"),
])
def test_sender_as_typed(client, typed, shown):
    """Real clients write all of these, and read their address back from the reply."""
    client.expect(f"MAIL {typed}", f"250 2.1.0 {shown}....Sender OK")


@pytest.mark.parametrize("typed, shown", [
    ("TO:<bob@contoso.test>", "bob@contoso.test"),
    ("TO:bob@contoso.test", "bob@contoso.test"),
    ("TO: bob", "bob@contoso.test"),
    ("to:<BOB@Contoso.Test>", "BOB@Contoso.Test"),
    ("TO:user%example.net", "user%example.net@contoso.test"),
    ("TO:example.net!user", "example.net!user@contoso.test"),
    ('TO:"user@example.net"', '"user@example.net"@contoso.test'),
    ("TO:<@a.test,@b.test:bob@contoso.test>", "bob@contoso.test"),
    ("TO:<bob@[127.0.0.1]>", "bob@[127.0.0.1]"),
    ("TO:<bob@127.0.0.1>", "bob@127.0.0.1"),
    ("TO:<postmaster>", "postmaster@contoso.test"),
    ("TO:<Postmaster>", "Postmaster@contoso.test"),
    ("TO:<user@fabrikam.test>", "user@fabrikam.test"),
])
def test_recipient_as_typed(client, typed, shown):
    client.expect_code("MAIL FROM:<alice@contoso.test>", "250 ")
    client.expect(f"RCPT {typed}", f"250 2.1.5 {shown}")


@pytest.mark.parametrize("path", [
    "<user@example.net@contoso.test>", "<user@example.net@>", '<"user@contoso.test>', '<"user@contoso.test', "<@contoso.test>",
    "<user@contoso.test", "<us\x01er@contoso.test>", "<us\x7fer@contoso.test>", "<>", "",
    "<user name@contoso.test>", "<user@>", "<user@-.test..>", "<@a.test,@b.test>", "<user@[127.0.0.1>", "<user@[300.1.1.1]>",
    "<" + "v" * 250 + "@contoso.test>",
])
def test_invalid_recipient(client, path):
    """An address that two programs may read in two ways is how relays get tricked."""
    client.expect_code("MAIL FROM:<alice@contoso.test>", "250 ")
    client.expect(f"RCPT TO:{path}", INVALID)
    client.expect("RCPT TO:<bob@contoso.test>", "250 2.1.5 bob@contoso.test")


@pytest.mark.parametrize("path", ["<user@example.net@contoso.test>", '<"user@contoso.test>', "<@contoso.test>", "<user@>"])
def test_invalid_sender(client, path):
    client.expect(f"MAIL FROM:{path}", INVALID)
    client.expect("RCPT TO:<bob@contoso.test>", SENDER_FIRST)


def test_path_length_boundary(client):
    """254 octets are a path (VERP and SRS make long ones); one more is not."""
    domain = "@example.org"
    longest = "v" * (254 - len(domain)) + domain
    client.expect(f"MAIL FROM:<v{longest}>", INVALID)
    client.expect(f"MAIL FROM:<{longest}>", f"250 2.1.0 {longest}....Sender OK")


def test_refused_recipient_does_not_end_the_transaction(client, relay):
    """One wrong address among fifty would lose the other forty-nine."""
    word = token()
    client.expect_code("MAIL FROM:<alice@contoso.test>", "250 ")
    client.expect_code("RCPT TO:<bob@contoso.test>", "250 ")
    client.expect("RCPT TO:<v@example.net>", "550 5.7.1 Unable to relay for v@example.net")
    client.expect_code("RCPT TO:<carol@contoso.test>", "250 ")
    assert client.data(letter(word)).startswith("250 ")
    relay.maildir("bob@contoso.test").wait_for(word)
    relay.maildir("carol@contoso.test").wait_for(word)


def test_lookup_at_rcpt(connect):
    client = connect("lookup")
    client.expect_code("MAIL FROM:<alice@contoso.test>", "250 ")
    client.expect("RCPT TO:<nobody@contoso.test>", "550 5.1.1 nobody@contoso.test... User unknown")
    client.expect("RCPT TO:<nobody>", "550 5.1.1 nobody@contoso.test... User unknown")
    client.expect("RCPT TO:<bob@contoso.test>", "250 2.1.5 bob@contoso.test")
    client.expect("RCPT TO:<postmaster@contoso.test>", "250 2.1.5 postmaster@contoso.test")
    client.expect("RCPT TO:<anyone@fabrikam.test>", "250 2.1.5 anyone@fabrikam.test")


# ---- parameters ----

@pytest.mark.parametrize("options", [
    "SIZE=1000", "BODY=7BIT", "BODY=8BITMIME", "body=8bitmime size=5", "SMTPUTF8", "RET=FULL", "RET=HDRS", "ENVID=QQ314159",
    "ENVID=a+2Bb", "SIZE=0 BODY=8BITMIME RET=HDRS ENVID=x SMTPUTF8",
])
def test_mail_parameters(client, options):
    client.expect(f"MAIL FROM:<alice@contoso.test> {options}", "250 2.1.0 alice@contoso.test....Sender OK")


@pytest.mark.parametrize("options, reply", [
    ("FOO=BAR", "555 5.5.4 Unsupported option: FOO"),
    ("FOO", "555 5.5.4 Unsupported option: FOO"),
    ("NOTIFY=NEVER", "555 5.5.4 Unsupported option: NOTIFY"),
    ("SIZE=abc", "501 5.5.4 Invalid option: SIZE"),
    ("SIZE=-1", "501 5.5.4 Invalid option: SIZE"),
    ("SIZE=", "501 5.5.4 Invalid option: SIZE"),
    ("BODY=9BIT", "501 5.5.4 Invalid option: BODY"),
    ("BODY=BINARYMIME", "501 5.5.4 Invalid option: BODY"),
    ("RET=SOME", "501 5.5.4 Invalid option: RET"),
    ("ENVID=a+2", "501 5.5.4 Invalid option: ENVID"),
    ("SIZE=37748737", TOO_BIG),
    ("SIZE=99999999999999999999", TOO_BIG),
])
def test_bad_mail_parameters(client, options, reply):
    """A client that is not told does not know that its wish was dropped; and no transaction may stand after it."""
    client.expect(f"MAIL FROM:<alice@contoso.test> {options}", reply)
    client.expect("RCPT TO:<bob@contoso.test>", SENDER_FIRST)
    client.expect("MAIL FROM:<alice@contoso.test> SIZE=37748736", "250 2.1.0 alice@contoso.test....Sender OK")


@pytest.mark.parametrize("options", ["NOTIFY=NEVER", "NOTIFY=SUCCESS,FAILURE,DELAY", "notify=delay", "ORCPT=rfc822;bob@contoso.test",
                                     "NOTIFY=FAILURE ORCPT=rfc822;b+2Bb@contoso.test"])
def test_rcpt_parameters(client, options):
    client.expect_code("MAIL FROM:<alice@contoso.test>", "250 ")
    client.expect(f"RCPT TO:<bob@contoso.test> {options}", "250 2.1.5 bob@contoso.test")


@pytest.mark.parametrize("options, reply", [
    ("FOO=BAR", "555 5.5.4 Unsupported option: FOO"),
    ("SIZE=5", "555 5.5.4 Unsupported option: SIZE"),
    ("NOTIFY=NEVER,DELAY", "501 5.5.4 Invalid option: NOTIFY"),
    ("NOTIFY=SOMETIMES", "501 5.5.4 Invalid option: NOTIFY"),
    ("NOTIFY=", "501 5.5.4 Invalid option: NOTIFY"),
    ("ORCPT=bob", "501 5.5.4 Invalid option: ORCPT"),
])
def test_bad_rcpt_parameters(client, options, reply):
    client.expect_code("MAIL FROM:<alice@contoso.test>", "250 ")
    client.expect(f"RCPT TO:<bob@contoso.test> {options}", reply)
    client.expect("DATA", RECIPIENT_FIRST)


def test_dsn_parameters_are_carried(relay, sink):
    """The sender's wishes (RFC 3461) would end here, and reports would come or stay away against them."""
    word = token()
    with SmtpClient(relay.address("granted")) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:<alice@contoso.test> RET=HDRS ENVID={word}", "250 ")
        client.expect_code("RCPT TO:<v@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;v+2Bw@example.net", "250 ")
        assert client.data(letter(word)).startswith("250 ")
    message = sink.wait_for(word)
    assert {"RET=HDRS", f"ENVID={word}"} <= set(message.sender_options.split())
    assert set(message.recipients[0][1].split()) == {"NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;v+2Bw@example.net"}


# ---- SMTPUTF8 ----

def test_utf8_address_needs_smtputf8(client):
    """An old next hop would garble such an address."""
    client.expect("MAIL FROM:<jösé@example.org>", "553 5.6.7 Address requires SMTPUTF8")
    client.expect_code("MAIL FROM:<alice@contoso.test>", "250 ")
    client.expect("RCPT TO:<jösé@contoso.test>", "553 5.6.7 Address requires SMTPUTF8")


def test_utf8_addresses(client):
    client.expect("MAIL FROM:<jösé@example.org> SMTPUTF8", "250 2.1.0 jösé@example.org....Sender OK")
    client.expect("RCPT TO:<jösé@contoso.test>", "250 2.1.5 jösé@contoso.test")
    client.expect("RCPT TO:<v@bücher.example>", "550 5.7.1 Unable to relay for v@bücher.example")


def test_invalid_utf8_address(client):
    client.send(b"MAIL FROM:<j\xff\xfe@example.org> SMTPUTF8\r\n")
    assert client.reply() == INVALID


# ---- the rest of the commands ----

def test_noop_help_quit(client):
    client.expect("NOOP", "250 2.0.0 OK")
    client.expect("noop with words", "250 2.0.0 OK")
    lines = client.ask("HELP").split("\n")
    assert lines[0] == "214-2.0.0 This server supports the following commands:"
    assert {"EHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "QUIT", "VRFY", "HELP"} <= set(
        re.findall("[A-Z]{4,}", "\n".join(lines[1:])))
    client.expect("QUIT", f"221 2.0.0 {HOSTNAME} Service closing transmission channel")
    assert client.is_closed()


@pytest.mark.parametrize("command", ["EXPN staff", "TURN", "FOO", "MAI FROM:<a@b>", "DATAX", "GET / HTTP/1.1", "HELLO there", ""])
def test_unknown_commands(client, command):
    """EXPN names members of lists to strangers, and TURN hands mail to whoever asks: neither exists."""
    client.expect(command, UNKNOWN)


@pytest.mark.parametrize("command", ["STARTTLS", "AUTH PLAIN AGEAYg==", "AUTH LOGIN"])
def test_what_is_not_offered(client, command):
    """A client that asked for TLS or AUTH and got another answer might think it had it."""
    client.expect(command, "502 5.5.1 Command not implemented")


def test_vrfy(client, connect):
    """VRFY must not tell a harvester which addresses exist, whatever the lookup mode."""
    will_take = "252 2.1.5 Cannot VRFY user, but will take message for <{}>"
    for session in (client, connect("lookup")):
        for user in ("bob", "nobody"):
            session.expect(f"VRFY {user}", will_take.format(f"{user}@contoso.test"))
            session.expect(f"VRFY <{user}@contoso.test>", will_take.format(f"{user}@contoso.test"))
        session.expect("VRFY v@example.net", "550 5.7.1 Unable to relay for v@example.net")
        session.expect("VRFY v@fabrikam.test", will_take.format("v@fabrikam.test"))
        session.expect("VRFY a@b@c", INVALID)
    connect("granted").expect("VRFY v@example.net", will_take.format("v@example.net"))


# ---- messages ----

def test_message_taken(client, relay):
    """The client's log keeps this line; with it a message can be found here."""
    word = token()
    client.envelope("alice@contoso.test", "bob@contoso.test")
    answer = client.data(letter(word))
    found = re.fullmatch(rf"250 2\.6\.0 <{word}@client\.test> Queued mail for delivery \(([0-9A-F]+)\)", answer)
    assert found, answer
    message = relay.maildir("bob@contoso.test").wait_for(word)
    trace, rest = split_trace(message, letter(word))
    assert rest == letter(word)
    received = [field for field in trace if field.lower().startswith(b"received:")]
    assert len(received) == 1
    assert found.group(1).encode() in received[0], "the id does not stand in the Received line"
    assert b"127.0.0.1" in received[0] and HOSTNAME.encode() in received[0] and b"client.test" in received[0]
    assert any(field.lower().startswith(b"return-path: <alice@contoso.test>") for field in trace)


@pytest.mark.parametrize("message_id", ["", "Message-ID: <" + "m" * 251 + "@x.test>\r\n", "Message-ID: <mé@x.test>\r\n",
                                        "Message-ID: <m\x1b[2J@x.test>\r\n"])
def test_message_id_that_cannot_be_echoed(client, message_id):
    """A hostile Message-ID would break the reply, or a terminal that shows the log."""
    client.envelope("alice@contoso.test", "bob@contoso.test")
    answer = client.data(f"{message_id}Subject: x\r\n\r\nx\r\n".encode())
    assert re.fullmatch(rf"250 2\.6\.0 <[!-~]+@{re.escape(HOSTNAME)}> Queued mail for delivery \([0-9A-F]+\)", answer), answer


def test_too_big_while_reading(connect, relay):
    """Without a limit one message fills the disk; without the reply the client sends it again and again."""
    client = connect("small")
    client.expect("MAIL FROM:<alice@contoso.test> SIZE=65537", TOO_BIG)
    word = token()
    filler = b"0123456789abcdef" * 4 + b"\r\n"
    client.envelope("alice@contoso.test", "bob@contoso.test")
    assert client.data(letter(word) + filler * 1100) == TOO_BIG
    client.expect("RCPT TO:<bob@contoso.test>", SENDER_FIRST)
    fits = token()
    content = letter(fits) + filler * 900
    client.deliver("alice@contoso.test", "bob@contoso.test", content)
    relay.maildir("bob@contoso.test").wait_for(fits)
    assert not relay.maildir("bob@contoso.test").find(word)


def test_size_boundary(connect):
    """A message of exactly the announced size must pass; one octet more must not."""
    client = connect("small")
    for size, start in ((65536, "250 2.6.0 "), (65537, TOO_BIG)):
        content = letter(token())
        content += b"x" * (size - len(content) - 2) + b"\r\n"
        client.envelope("alice@contoso.test", "bob@contoso.test", options=" SIZE=65536")
        assert client.data(content).startswith(start), size


def test_too_many_recipients(connect, relay):
    """RFC 5321 4.5.3.1.10: the ones already taken stand, and the client sends the rest later."""
    client = connect("small")
    word = token()
    client.envelope("alice@contoso.test", "alice@contoso.test", "bob@contoso.test", "carol@contoso.test")
    client.expect("RCPT TO:<postmaster@contoso.test>", "452 4.5.3 Too many recipients")
    assert client.data(letter(word)).startswith("250 ")
    for user in ("alice", "bob", "carol"):
        relay.maildir(f"{user}@contoso.test").wait_for(word)


def test_hop_limit(connect):
    """Two servers that send to each other would do so for ever."""
    client = connect("small")
    for hops, start in ((5, "250 2.6.0 "), (6, "554 5.4.6 Hop count exceeded - possible mail loop")):
        client.envelope("alice@contoso.test", "bob@contoso.test")
        answer = client.data(b"Received: from a by b; Mon, 2 Nov 2026 10:00:00 +0000\r\n" * hops + letter(token()))
        assert answer.startswith(start), (hops, answer)


def test_idle_timeout(relay):
    """Connections that say nothing would fill the server."""
    with SmtpClient(relay.address("hasty")) as client:
        assert client.reply() == f"421 4.4.2 {HOSTNAME} Timeout waiting for client input"
        assert client.is_closed()


def test_idle_timeout_within_data(relay):
    """The same in the middle of a message; nothing of it may be delivered."""
    word = token()
    with SmtpClient(relay.address("hasty")) as client:
        client.hello()
        client.envelope("alice@contoso.test", "carol@contoso.test")
        client.expect_code("DATA", "354 ")
        client.send(letter(word))
        assert client.reply() == f"421 4.4.2 {HOSTNAME} Timeout waiting for client input"
        assert client.is_closed()
    done = token()
    deliver(relay.address(), "alice@contoso.test", "carol@contoso.test", letter(done))
    relay.maildir("carol@contoso.test").wait_for(done)
    assert not relay.maildir("carol@contoso.test").find(word)
