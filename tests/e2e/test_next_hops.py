# SPDX-License-Identifier: Apache-2.0
"""What next hops can and cannot do, and what they answer."""
import threading

import pytest

from harness.answers import REMOTE, SENDER, refuse_at, report_to
from harness.client import SmtpClient, deliver, letter, token
from harness.settings import HOSTNAME, connector
from harness.sink import KEYWORDS

WITHOUT = {name: [keyword for keyword in KEYWORDS if not keyword.startswith(name)] for name in ("8BITMIME", "SMTPUTF8", "SIZE", "DSN",
                                                                                                 "PIPELINING")}


def test_next_hop_without_pipelining(place, relay_to):
    """Commands sent ahead break servers that don't offer it (the sink here notices)."""
    sink = place.sink(keywords=WITHOUT["PIPELINING"])
    relay = relay_to(sink)
    words = [token() for _ in range(5)]
    for word in words:
        deliver(relay.address(), SENDER, [REMOTE, "w@example.net"], letter(word))
    for word in words:
        assert sink.wait_for(word).addresses() == [REMOTE, "w@example.net"]


@pytest.mark.parametrize("keywords", [KEYWORDS, WITHOUT["PIPELINING"]], ids=["pipelining", "one-by-one"])
def test_all_recipients_refused_with_pipelining(place, relay_to, keywords):
    """RFC 2920: DATA was sent ahead; if a confused server says 354 all the same, the client must end the message at once."""
    sink = place.sink(keywords=keywords, answer=refuse_at("rcpt", "550 5.1.1 No", match="bad"))
    relay = relay_to(sink)
    word, good = token(), token()
    deliver(relay.address(), SENDER, ["bad1@example.net", "bad2@example.net"], letter(word))
    deliver(relay.address(), SENDER, REMOTE, letter(good))
    sink.wait_for(good)
    assert report_to(relay, word).final_recipients() == ["bad1@example.net", "bad2@example.net"]


def test_next_hop_without_ehlo(place, relay_to):
    """RFC 5321 3.2: an old server that knows only HELO gets its mail, and no parameter that it doesn't know."""
    sink = place.sink(ehlo=False)
    relay = relay_to(sink)
    word = token()
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:<{SENDER}> SIZE=1000 RET=HDRS ENVID=x", "250 ")
        client.expect_code(f"RCPT TO:<{REMOTE}> NOTIFY=FAILURE", "250 ")
        assert client.data(letter(word)).startswith("250 ")
    message = sink.wait_for(word)
    assert message.sender_options == "" and message.recipients == [(REMOTE, "")]
    assert sink.commands_of("HELO") == [f"HELO {HOSTNAME}"]


def test_eight_bit_needs_8bitmime(place, relay_to):
    """RFC 6152: such a message must not be changed, and must not be sent to a server that may cut its bytes."""
    sink = place.sink(keywords=WITHOUT["8BITMIME"])
    relay = relay_to(sink)
    word, plain = token(), token()
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.deliver(SENDER, REMOTE, letter(word, "Grüße\r\n".encode()), options=" BODY=8BITMIME")
        client.deliver(SENDER, REMOTE, letter(plain), options=" BODY=8BITMIME")
    recipient = report_to(relay, word).recipient(REMOTE)
    assert recipient["Status"] == "5.6.3"
    assert not sink.find(word)


def test_smtputf8_needs_support(place, relay_to):
    """RFC 6531: an address that the next hop can't read is reported, not garbled."""
    sink = place.sink(keywords=WITHOUT["SMTPUTF8"])
    relay = relay_to(sink)
    word = token()
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.deliver(SENDER, "jösé@example.net", letter(word), options=" SMTPUTF8")
    report = report_to(relay, word)
    assert [block["Status"] for block in report.recipients] == ["5.6.7"]
    assert not sink.messages


def test_smtputf8_is_passed_on(place, relay_to):
    sink = place.sink()
    relay = relay_to(sink)
    word = token()
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.deliver("sénder@example.org", "jösé@example.net", letter(word, "Grüße\r\n".encode()), options=" SMTPUTF8 BODY=8BITMIME")
    message = sink.wait_for(word)
    assert message.sender == "sénder@example.org" and message.addresses() == ["jösé@example.net"]
    assert {"SMTPUTF8", "BODY=8BITMIME"} <= set(message.sender_options.split())


def test_size_is_checked_before_sending(place, relay_to):
    """RFC 1870: sending 100 MB only to hear that 10 are allowed wastes everybody's time."""
    sink = place.sink(keywords=["SIZE 1000", "8BITMIME", "PIPELINING"])
    relay = relay_to(sink)
    word = token()
    deliver(relay.address(), SENDER, REMOTE, letter(word, b"x" * 70 + b"\r\n" + b"y" * 2000 + b"\r\n"))
    recipient = report_to(relay, word).recipient(REMOTE)
    assert recipient["Status"] == "5.3.4"
    assert not sink.commands_of("DATA")


def test_connection_is_used_again(place, relay_to):
    """A connection for each message doubles the work of both sides."""
    gate = threading.Event()

    def answer(stage, text, session):
        if stage == "mail" and session == 1:
            gate.wait(60)

    sink = place.sink(answer=answer)
    relay = relay_to(sink, **{"concurrency-per-destination": 1})
    words = [token() for _ in range(30)]
    try:
        for word in words:
            deliver(relay.address(), SENDER, REMOTE, letter(word))
    finally:
        gate.set()
    for word in words:
        sink.wait_for(word)
    assert sink.session_count <= 3


def test_more_recipients_than_a_transaction_takes(place, relay_to):
    """RFC 5321 4.5.3.1.8 promises a client only 100; a server that says 452 to more gets the rest in a further transaction."""
    def answer(stage, text, session):
        with lock:
            if stage == "mail":
                taken[session] = 0
            elif stage == "rcpt":
                taken[session] += 1
                return "452 4.5.3 Too many recipients" if taken[session] > 40 else None
        return None

    lock, taken = threading.Lock(), {}
    sink = place.sink(answer=answer)
    relay = relay_to(sink)
    word = token()
    recipients = [f"v{number}@example.net" for number in range(150)]
    deliver(relay.address(), SENDER, recipients, letter(word))
    sink.wait_until(lambda: sum(len(message.recipients) for message in sink.find(word)) >= 150, "all recipients")
    assert sorted(address for message in sink.find(word) for address in message.addresses()) == sorted(recipients)


def test_multi_line_and_terse_replies(place, relay_to):
    """Replies in several lines, without enhanced codes, without text: all are legal."""
    def answer(stage, text, session):
        return {"connect": "220-sink\r\n220-is\r\n220 here", "mail": "250-2.1.0 fine\r\n250 2.1.0 fine", "rcpt": "250", "data": "354",
                "message": "250-2.0.0 Taken\r\n250-2.0.0 really\r\n250 2.0.0 yes"}.get(stage)

    sink = place.sink(answer=answer)
    relay = relay_to(sink)
    words = [token() for _ in range(3)]
    for word in words:
        deliver(relay.address(), SENDER, REMOTE, letter(word))
    for word in words:
        sink.wait_for(word)


@pytest.mark.parametrize("reply", ["banana", "2", "999 9.9.9 What", "250-never ends", "2500 x", "25 x"])
def test_nonsense_replies(place, relay_to, reply):
    """A next hop that answers nonsense must not be taken for one that said yes."""
    sink = place.sink(answer=refuse_at("message", reply, times=1))
    relay = place.postern({
        "servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}}},
        "connectors": {"out": connector(sink.address, timeouts={"connect": "1s", "command": "1s", "data": "1s"})},
        "delivery": {"retry": ["1s"]},
    })
    word = token()
    deliver(relay.address(), SENDER, REMOTE, letter(word))
    sink.wait_for(word)
    assert len(sink.commands_of("MAIL")) >= 2, "nonsense was taken for a yes"


def test_silent_next_hop_times_out(place):
    """A next hop that accepts a connection and says nothing would hold the message for ever."""
    silent = threading.Event()

    def answer(stage, text, session):
        if stage == "connect" and session == 1:
            silent.wait(60)

    sink = place.sink(answer=answer)
    relay = place.postern({
        "servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}}},
        "connectors": {"out": connector(sink.address, timeouts={"connect": "1s", "command": "1s", "data": "1s"})},
        "delivery": {"retry": ["1s"]},
    })
    word = token()
    try:
        deliver(relay.address(), SENDER, REMOTE, letter(word))
        sink.wait_for(word)
    finally:
        silent.set()
