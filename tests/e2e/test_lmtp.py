# SPDX-License-Identifier: Apache-2.0
"""LMTP (RFC 2033) to where the mailboxes are: dovecot, and a stand-in with every oddity that a reply for each recipient makes possible. Nothing is
lost, and what a server has said that it has is not sent again."""
import pytest

from harness.answers import SENDER, report_to
from harness.client import SmtpClient, deliver, letter, token
from harness.limits import wait_until
from harness.lmtp import CLOSE, KEYWORDS, SILENCE, Dovecot, Lmtp
from harness.report import Report

USERS = [f"{name}@store.test" for name in ("ann", "ben", "cleo", "dan")]
BODY = b"one\r\n.two\r\n..three\r\n"


@pytest.fixture
def stand_in(place):
    """(relay, server) of a domain whose mailboxes are behind LMTP; senders' mailboxes are Maildirs."""
    made = []

    def make(path=None, **options):
        server = Lmtp(place.directory / path if path else None, **options)
        made.append(server)
        return place.postern({"domains": {"store.test": {"type": "local", "recipients": "any", "deliver": server.deliver}}}), server
    yield make
    for server in made:
        server.close()
        assert not server.faults


@pytest.fixture(params=["unix", "tcp"])
def dovecot(request, place):
    """(relay, dovecot), over both kinds of connection."""
    server = Dovecot(place.directory / "d", *USERS)
    where = f"lmtp:{server.directory}/lmtp" if request.param == "unix" else f"lmtp:127.0.0.1:{server.port}"
    yield place.postern({"domains": {"store.test": {"type": "local", "recipients": "any", "deliver": where}}}), server
    server.close()


def answers(**by_recipient):
    """Replies to the message by the recipient's name: each once, in order; then the usual ones."""
    left = {name: list(replies) for name, replies in by_recipient.items()}

    def answer(stage, text, session):
        if stage != "message":
            return None
        replies = left.get(text.partition("@")[0])
        return replies.pop(0) if replies else None
    return answer


# ---- dovecot ----

def test_dovecot_delivers(dovecot):
    """One transaction for all of them, each mailbox its copy, byte by byte."""
    relay, server = dovecot
    word = token()
    content = letter(word, BODY)
    deliver(relay.address(), SENDER, USERS, content)
    for user in USERS:
        raw = server.maildir(user).wait_for(word)
        assert raw.replace(b"\r\n", b"\n").endswith(content.replace(b"\r\n", b"\n"))
        assert b"Return-Path: <" + SENDER.encode() in raw


def test_dovecot_refuses_one(dovecot):
    """A mailbox that is not there is reported; the others have their mail."""
    relay, server = dovecot
    word = token()
    deliver(relay.address(), SENDER, [USERS[0], "ghost@store.test", USERS[1]], letter(word))
    for user in USERS[:2]:
        server.maildir(user).wait_for(word)
    report = report_to(relay, word)
    assert report.final_recipients() == ["ghost@store.test"]
    assert report.recipient("ghost@store.test")["Status"] == "5.1.1" and "User doesn't exist" in report.words


def test_dovecot_many(dovecot):
    """Message after message over connections that are used again: each once."""
    relay, server = dovecot
    words = [token() for _ in range(40)]
    with SmtpClient(relay.address()) as client:
        client.hello()
        for number, word in enumerate(words):
            client.deliver(SENDER, [USERS[number % 4], USERS[(number + 1) % 4]], letter(word))
    for number, word in enumerate(words):
        for user in (USERS[number % 4], USERS[(number + 1) % 4]):
            server.maildir(user).wait_for(word)
    assert sum(len(server.maildir(user).files()) for user in USERS) == 2 * len(words)


def test_dovecot_success_is_final(dovecot):
    """Dovecot knows nothing of reports: that it is in the mailbox is ours to tell."""
    relay, server = dovecot
    word = token()
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:<{SENDER}>", "250 ")
        client.expect_code(f"RCPT TO:<{USERS[0]}> NOTIFY=SUCCESS", "250 ")
        client.data(letter(word))
    server.maildir(USERS[0]).wait_for(word)
    assert report_to(relay, word).recipient(USERS[0])["Action"] == "delivered"


def test_dovecot_away_for_a_while(place):
    """A restart of the mailbox server delays mail, and loses none."""
    directory = place.directory / "d"
    relay = place.postern({"domains": {"store.test": {"type": "local", "recipients": "any", "deliver": f"lmtp:{directory}/lmtp"}}})
    word = token()
    deliver(relay.address(), SENDER, USERS, letter(word))
    assert relay.log.wait_for("deferred")
    server = Dovecot(directory, *USERS)
    try:
        for user in USERS:
            server.maildir(user).wait_for(word)
    finally:
        server.close()


# ---- a reply for each recipient ----

@pytest.mark.parametrize("path", [None, "store.sock"])
@pytest.mark.parametrize("keywords", [KEYWORDS, ()])
def test_each_has_a_fate_of_its_own(stand_in, path, keywords):
    relay, server = stand_in(path, keywords=keywords, answer=answers(ben=["452 4.2.2 Mailbox full", "452 4.2.2 Mailbox full"], cleo=["550 5.2.1 Closed"]))
    word = token()
    deliver(relay.address(), SENDER, USERS, letter(word, BODY))
    server.wait_for(word, USERS[0], USERS[1], USERS[3])
    report = report_to(relay, word)
    assert report.final_recipients() == [USERS[2]] and "550 5.2.1 Closed" in report.words
    assert server.transactions == [USERS, [USERS[1]], [USERS[1]]]
    assert all(BODY in content for _, content in server.delivered)


@pytest.mark.parametrize("keywords", [KEYWORDS, ()])
def test_refused_at_rcpt(stand_in, keywords):
    """Who was refused has no reply behind the dot: the others' must not be taken for his."""
    def answer(stage, text, session):
        if stage == "rcpt" and "ann@" in text:
            return "550 5.1.1 No ann"
        return "450 4.2.1 Busy" if stage == "message" and text.startswith("ben@") and not seen.append(text) and len(seen) == 1 else None
    seen = []
    relay, server = stand_in(keywords=keywords, answer=answer)
    word = token()
    deliver(relay.address(), SENDER, USERS[:3], letter(word))
    server.wait_for(word, USERS[1], USERS[2])
    assert report_to(relay, word).final_recipients() == [USERS[0]]
    assert server.transactions == [USERS[1:3], [USERS[1]]]


@pytest.mark.parametrize("keywords", [KEYWORDS, ()])
def test_all_refused(stand_in, keywords):
    relay, server = stand_in(keywords=keywords, answer=lambda stage, text, session: "550 5.1.1 No" if stage == "rcpt" and "x@" in text else None)
    words = [token(), token()]
    deliver(relay.address(), SENDER, "x@store.test", letter(words[0]))
    assert report_to(relay, words[0]).final_recipients() == ["x@store.test"]
    deliver(relay.address(), SENDER, USERS[0], letter(words[1]))
    server.wait_for(words[1], USERS[0])


@pytest.mark.parametrize("odd", [CLOSE, "421 4.3.2 Going down", "garbage", "354 Once more"])
def test_ends_among_the_replies(stand_in, odd):
    """Who has a reply has his mail, once; the rest get theirs from the next attempt."""
    def answer(stage, text, session):
        if stage == "message" and text == USERS[2] and session == 1:
            return odd
        return CLOSE if stage == "message" and text == USERS[3] and session == 1 else None
    relay, server = stand_in(answer=answer)
    words = [token(), token()]
    deliver(relay.address(), SENDER, USERS, letter(words[0]))
    server.wait_for(words[0], *USERS)
    deliver(relay.address(), SENDER, USERS[0], letter(words[1]))
    server.wait_for(words[1], USERS[0])
    assert relay.stop() == 0
    assert sorted(server.recipients_of(words[0])) == sorted(USERS), "twice"
    assert not relay.mailboxes()


def test_fewer_replies_than_recipients(place):
    """The next message's replies must not stand for them: that would lose mail. They are waited for, and then asked again."""
    server = Lmtp(answer=lambda stage, text, session: SILENCE if stage == "message" and text == USERS[3] and session == 1 else None)
    relay = place.postern({"domains": {"store.test": {"type": "local", "recipients": "any", "deliver": server.deliver}}})
    words = [token() for _ in range(3)]
    with SmtpClient(relay.address()) as client:
        client.hello()
        for word in words:
            client.deliver(SENDER, USERS, letter(word))
            # One by one: what a connection has taken waits with it for the missing reply.
            wait_until(lambda: len(server.recipients_of(word)) >= 3, "all that are answered")
    assert [server.recipients_of(word).count(USERS[3]) for word in words].count(0) == 1, "nobody waits for the missing reply"
    relay.kill()
    relay.start()
    for word in words:
        wait_until(lambda: set(server.recipients_of(word)) == set(USERS), "the one without a reply")
    server.close()


@pytest.mark.parametrize("extra", [1, 3])
def test_more_replies_than_recipients(stand_in, extra):
    """A reply too many must not be taken for the next message's."""
    def answer(stage, text, session):
        if stage == "message" and text == USERS[3] and session == 1:
            return "\r\n".join(["250 2.0.0 Delivered"] * (extra + 1))
        return None
    relay, server = stand_in(answer=answer)
    words = [token(), token()]
    for word in words:
        deliver(relay.address(), SENDER, USERS, letter(word))
        server.wait_for(word, *USERS)
    assert relay.stop() == 0
    assert all(sorted(server.recipients_of(word)) == sorted(USERS) for word in words)


def test_message_for_nobody(stand_in):
    """RFC 2033 4.2 wants 503; a server that asks for the message all the same can't be understood any more."""
    def answer(stage, text, session):
        return {"rcpt": "550 5.1.1 No", "data": "354 Go"}.get(stage) if session == 1 and stage in ("rcpt", "data") else None
    relay, server = stand_in(answer=answer)
    words = [token(), token()]
    deliver(relay.address(), SENDER, USERS[0], letter(words[0]))
    assert report_to(relay, words[0]).final_recipients() == [USERS[0]]
    deliver(relay.address(), SENDER, USERS[0], letter(words[1]))
    server.wait_for(words[1], USERS[0])
    assert server.session_count == 2


def test_mailbox_loop(stand_in):
    """Forwarding that leads back to one of them ends at once; the others get their mail all the same, and without a wait."""
    relay, server = stand_in()
    word = token()
    deliver(relay.address(), SENDER, USERS, letter(word, extra=f"Delivered-To: <{USERS[1]}>\r\n"))
    server.wait_for(word, USERS[0], USERS[2], USERS[3])
    report = report_to(relay, word)
    assert report.final_recipients() == [USERS[1]] and report.recipient(USERS[1])["Status"] == "5.4.6"
    word = token()
    deliver(relay.address(), SENDER, USERS[1], letter(word, extra=f"Delivered-To: {USERS[1]}\r\n"))
    assert report_to(relay, word).recipient(USERS[1])["Status"] == "5.4.6"
    assert not server.recipients_of(word)


def test_hundreds_of_recipients(stand_in):
    """More than a transaction takes."""
    relay, server = stand_in()
    word = token()
    many = [f"user{number}@store.test" for number in range(250)]
    deliver(relay.address(), SENDER, many, letter(word))
    server.wait_for(word, *many)
    assert all(len(transaction) <= 100 for transaction in server.transactions)


def test_internationalised_and_8bit(stand_in):
    relay, server = stand_in()
    word = token()
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.deliver(SENDER, "grüße@store.test", letter(word, "Grüße\r\n".encode()), options=" SMTPUTF8 BODY=8BITMIME")
    server.wait_for(word, "grüße@store.test")
    [mail] = [line for line in server.commands if line.startswith("MAIL")]
    assert "SMTPUTF8" in mail and "BODY=8BITMIME" in mail
    assert server.commands[0] == "LHLO mail.contoso.test"


def test_server_with_dsn_gets_the_request(stand_in):
    """One that knows of reports makes them itself."""
    relay, server = stand_in(keywords=(*KEYWORDS, "DSN"))
    word = token()
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:<{SENDER}> ENVID=e1", "250 ")
        client.expect_code(f"RCPT TO:<{USERS[0]}> NOTIFY=SUCCESS", "250 ")
        client.data(letter(word))
    server.wait_for(word, USERS[0])
    assert relay.stop() == 0
    assert not relay.mailboxes()
    assert any("NOTIFY=SUCCESS" in line for line in server.commands)


def test_no_socket_is_reported_in_the_end(place):
    """The report says what a sender can understand, and not where files are."""
    relay = place.postern({"domains": {"store.test": {"type": "local", "recipients": "any", "deliver": f"lmtp:{place.directory}/none"}},
                           "delivery": {"expire": "2s"}})
    word = token()
    deliver(relay.address(), SENDER, USERS[0], letter(word))
    report = report_to(relay, word)
    assert isinstance(report, Report) and "mailbox server can't be reached" in " ".join(report.words.split())
    assert str(place.directory) not in report.words
    assert relay.log.find(lambda event: event.get("event") == "lmtp-error" and str(place.directory) in event["socket"])


@pytest.mark.parametrize("where", ["lmtp:", "lmtp:host", "lmtp:127.0.0.1:25", "lmtp:127.0.0.1:0", "lmtp:/" + "x" * 120])
def test_bad_configuration(place, where):
    relay = place.postern({"domains": {"store.test": {"type": "local", "deliver": where}}}, start=False)
    relay.spawn()
    assert relay.wait() == 78
    assert "domains.store.test.deliver" in relay.log.tail()
