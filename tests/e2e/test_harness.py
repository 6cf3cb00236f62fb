# SPDX-License-Identifier: Apache-2.0
"""The tools of the other tests: a next hop that overlooks faults, or a reader that eats bytes, would prove nothing."""
import pytest

from harness.client import SmtpClient, dot_stuff, letter, token
from harness.maildir import split_trace
from harness.sink import CLOSE, Sink


@pytest.fixture
def sink():
    sink = Sink()
    yield sink
    sink.close()


def connect(sink):
    return SmtpClient(("127.0.0.1", sink.port))


def test_sink_records_the_exact_message(sink):
    content = letter(token(), b"..\r\n.\r\n\r\n.x\r\n\xff\xfe\r\n")
    with connect(sink) as client:
        client.hello()
        for _ in range(2):
            client.send(b"MAIL FROM:<a@x.test> SIZE=5\r\nRCPT TO:<b@x.test> NOTIFY=NEVER\r\nDATA\r\n")
            assert [reply[:3] for reply in client.replies(3)] == ["250", "250", "354"]
            client.send_in_pieces(dot_stuff(content) + b".\r\n", 1)
            assert client.reply().startswith("250")
    for message in sink.wait_for_count(2):
        assert message.content == content
        assert (message.sender, message.sender_options, message.recipients) == ("a@x.test", "SIZE=5", [("b@x.test", "NOTIFY=NEVER")])
    assert not sink.faults


@pytest.mark.parametrize("wire", [b"MAIL FROM:<a@x.test>\n", b"MAIL FROM:<a@x.test> FOO\r\n", b"BDAT 5\r\n", b"NO\0OP\r\n",
                                  b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\none\ntwo\r\n.\r\n"])
def test_sink_notices_faults(sink, wire):
    with connect(sink) as client:
        client.hello()
        client.send(wire + b"QUIT\r\n")
        while not client.reply().startswith("221"):
            pass
    assert sink.faults


def test_sink_notices_pipelining_that_was_not_offered():
    sink = Sink(keywords=["8BITMIME"])
    try:
        with connect(sink) as client:
            client.hello()
            client.send(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\n")
            client.replies(2)
        assert sink.faults
    finally:
        sink.close()


def test_sink_answers_as_told(sink):
    sink.answer = lambda stage, text, session: {"rcpt": "550 5.1.1 No", "data": CLOSE}.get(stage)
    with connect(sink) as client:
        client.hello()
        client.expect_code("MAIL FROM:<a@x.test>", "250 ")
        client.expect("RCPT TO:<b@x.test>", "550 5.1.1 No")
        assert client.ask("DATA").startswith("503 ")
    assert not sink.messages


def test_refusing_port_opens_later():
    sink = Sink(listening=False)
    try:
        with pytest.raises(ConnectionRefusedError):
            connect(sink)
        sink.listen()
        with connect(sink) as client:
            client.hello()
    finally:
        sink.close()


def test_trace_is_split_off():
    sent = b"Received: from a by b\r\nSubject: x\r\nMessage-ID: <1@x>\r\n\r\nbody\r\n"
    added = [b"Return-Path: <a@x.test>\r\n", b"Received: from c\r\n\tby d;\r\n Mon\r\n"]
    assert split_trace(b"".join(added) + sent, sent) == (added, sent)
    assert split_trace(b"".join(added) + b"Message-ID: <2@x>\r\n\r\nbody\r\n")[1] == b"\r\nbody\r\n"
