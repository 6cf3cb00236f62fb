# SPDX-License-Identifier: Apache-2.0
"""A hostile target, and strangers at the catch: relaytest ends in time, in little memory, with a clear word."""
import smtplib
import socket
import threading
import time

import pytest

from harness.limits import SCALE
from harness.relaytest import catch_address, run_json, usual
from harness.stand_in import CLOSE, HOLES, SWALLOW, X, StandIn

# The program's own 10 MiB and what a sanitizer needs on top are far below.
PEAK_KIB_MAX = (64 << 10) if SCALE == 1 else (1 << 20)


@pytest.fixture
def catch():
    return catch_address()


class Hostile:
    """Runs `serve(connection)` for each connection, in a thread of its own."""

    def __init__(self, serve):
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection):
        with connection:
            try:
                self._serve(connection)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def flood(connection, block):
    while True:
        connection.sendall(block)


def drip(connection, text):
    for byte in text:
        connection.sendall(bytes([byte]))
        time.sleep(0.2)


def gigabyte_line(connection):
    connection.sendall(b"220 ")
    block = b"x" * (1 << 20)
    for _ in range(1024):
        connection.sendall(block)
    connection.sendall(b"\r\n")


def after_hello(behave):
    """Polite until EHLO."""
    def serve(connection):
        connection.sendall(b"220 mail.contoso.test\r\n")
        connection.recv(4096)
        behave(connection)
    return serve


TARGETS = {
    "banner without end": (lambda c: flood(c, b"220-more\r\n" * 1000), "has no end"),
    "banner lines that differ": (lambda c: flood(c, b"220-more\r\n554 no\r\n" * 1000), "not SMTP"),
    "a line of 1 GB": (gigabyte_line, "has no end"),
    "bytes without a newline": (lambda c: flood(c, b"\0" * 65536), "has no end"),
    "another protocol": (lambda c: c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "not SMTP"),
    "terminal commands": (lambda c: c.sendall(b"\033]0;owned\007\r\n"), "not SMTP"),
    "drip": (lambda c: drip(c, b"220 " + b"x" * 1000), "did not answer"),
    "silence": (lambda c: time.sleep(600), "did not answer"),
    "closed at once": (lambda c: None, "again and again"),
    "refused at once": (lambda c: c.sendall(b"554 5.7.1 Go away\r\n"), "does not want to speak with this client: 554 5.7.1 Go away"),
    "no room": (lambda c: c.sendall(b"421 4.3.2 Too many connections\r\n"), "again and again: 421 4.3.2 Too many connections"),
    "EHLO without end": (after_hello(lambda c: flood(c, b"250-x\r\n" * 1000)), "has no end"),
    "replies without end": (after_hello(lambda c: (c.sendall(b"250 ok\r\n"), flood(c, b"250 ok\r\n" * 1000))), ""),
    "354 to MAIL": (after_hello(lambda c: (c.sendall(b"250 ok\r\n"), c.recv(4096), c.sendall(b"354 go\r\n"), time.sleep(600))), "out of place"),
    "STARTTLS and AUTH lines that lie": (after_hello(lambda c: (c.sendall(b"250-x\r\n250 AUTH " + b"A" * 1900 + b"\r\n"), c.recv(4096),
                                                                c.sendall(b"999 what\r\n"))), "not SMTP"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_target(catch, name):
    """Whoever tests a stranger's server gives it the floor."""
    serve, word = TARGETS[name]
    with Hostile(serve) as target:
        found = run_json(target.address, "--timeout", "2s", *usual(catch, "1s"), timeout_s=90)
    if word:
        assert found.code == 3 and word in found.told["error"], found.told["error"]
    else:
        assert found.code in (2, 3)  # nobody knows which command a reply belongs to; it never looks like a clean result
    assert "\033" not in found.output
    assert found.seconds < 60 * SCALE
    assert found.peak_kib < PEAK_KIB_MAX


@pytest.mark.parametrize("stage", ["connect", "ehlo", "mail", "rcpt", "data", "message", "rset"])
def test_closed_at_each_step(catch, stage):
    """A connection that goes is not a refusal, and not an acceptance."""
    def answer(at, line, session):
        if at == stage:
            return CLOSE
        raise KeyError
    with StandIn(catch, lambda sender, recipient: SWALLOW if stage in ("data", "message") else "550 5.7.1 No", answer=answer) as server:
        found = run_json(server.address, "--probe", "1,4", "--timeout", "5s", *usual(catch, "500ms"))
    if stage == "message":
        assert set(found.verdicts().values()) == {"silent"} and found.code == 2  # it may have been taken
    elif stage == "rset":
        assert set(found.verdicts().values()) == {"refused"} and found.code == 0
    else:
        assert set(found.verdicts().values()) == {"untested"} and found.code == 3
        assert "closed the connection" in (found.told["error"] or found.row("1")["explanation"])


def test_a_relay_is_told_even_where_the_rest_failed(catch):
    """Exit 1 outweighs 3: what has been proved stays proved."""
    def answer(stage, line, session):
        if stage == "mail" and session > 1:
            return CLOSE
        raise KeyError
    with StandIn(catch, lambda sender, recipient: [recipient], answer=answer) as server:
        found = run_json(server.address, "--probe", "1-12", "--timeout", "5s", *usual(catch))
    assert found.code == 1 and "relayed" in found.verdicts().values() and "untested" in found.verdicts().values()


# ---- the catch ----

def connect(catch):
    host, _, port = catch.rpartition(":")
    deadline = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection((host, int(port)), 20)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def say(connection, *lines):
    for line in lines:
        connection.sendall(line + b"\r\n")
        connection.recv(4096)


def endless_data(connection):
    connection.recv(4096)
    say(connection, b"EHLO x", b"MAIL FROM:<>", b"RCPT TO:<relaytest-s-aaaaaaaaaaaaaaaa@outside.test>", b"DATA")
    flood(connection, b"Final-Recipient: rfc822; x\r\n" * 2000)


def endless_message_line(connection):
    connection.recv(4096)
    say(connection, b"EHLO x", b"MAIL FROM:<>", b"RCPT TO:<x@outside.test>", b"DATA")
    flood(connection, b"x" * 65536)


def many_recipients(connection):
    connection.recv(4096)
    say(connection, b"EHLO x", b"MAIL FROM:<>")
    while True:
        say(connection, b"RCPT TO:<relaytest-u-aaaaaaaaaaaaaaaa@outside.test>")


def wrong_tokens(connection):
    connection.recv(4096)
    say(connection, b"EHLO x")
    while True:
        say(connection, b"MAIL FROM:<>", b"RCPT TO:<relaytest-u-aaaaaaaaaaaaaaaa@outside.test>", b"DATA", b"Subject: x\r\n\r\n.")


STRANGERS = {
    "garbage": lambda c: flood(c, bytes(range(256)) * 64),
    "garbage after the greeting": lambda c: (c.recv(4096), flood(c, bytes(range(256)) * 64)),
    "DATA without end": endless_data,
    "a line without end": endless_message_line,
    "recipients without end": many_recipients,
    "tokens that are nobody's": wrong_tokens,
    "silence": lambda c: time.sleep(600),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_strangers_at_the_catch(catch, name):
    """They cost neither verdicts nor memory, and don't keep the test from ending."""
    def bother():
        try:
            with connect(catch) as connection:
                STRANGERS[name](connection)
        except OSError:
            pass

    decide, expected = HOLES["percent hack"]
    with StandIn(catch, decide) as server:
        for _ in range(3):
            threading.Thread(target=bother, daemon=True).start()
        found = run_json(server.address, "--probe", "9-14", *usual(catch, "3s"))
    assert found.with_verdict("relayed") == expected
    assert found.seconds < 40 * SCALE
    assert found.peak_kib < PEAK_KIB_MAX


def test_a_crowd_at_the_catch(catch):
    """More connections than it takes: those of the target get through once the crowd is gone."""
    def crowd():
        connections = []
        try:
            for _ in range(200):
                connections.append(connect(catch))
        except OSError:
            pass
        time.sleep(1)
        for connection in connections:
            connection.close()

    def rcpt(sender, recipient):
        time.sleep(2)
        return [recipient]

    def keep_trying(message, server):
        if not server.forwarded:
            for _ in range(50):
                try:
                    server.send(message.sender, message.recipient, message.content)
                    return
                except (OSError, AssertionError, smtplib.SMTPException):
                    time.sleep(0.2)
    with StandIn(catch, lambda sender, recipient: rcpt(sender, recipient) and SWALLOW, after=keep_trying) as server:
        threading.Thread(target=crowd, daemon=True).start()
        found = run_json(server.address, "--probe", "1", *usual(catch, "15s"))
    assert found.verdicts() == {"1": "relayed"}


def test_a_report_for_a_guessed_token_explains_nothing(catch):
    """Only the target has seen a token; a stranger's report about another one is a stray."""
    def bother():
        with connect(catch) as connection:
            connection.recv(4096)
            say(connection, b"EHLO x", b"MAIL FROM:<>", b"RCPT TO:<relaytest-s-aaaaaaaaaaaaaaaa@outside.test>", b"DATA",
                b"Subject: failure notice\r\n\r\nHi. This is the qmail-send program.\r\n<relaytest-u-aaaaaaaaaaaaaaaa@outside.test>:\r\nNo.\r\n.")
    with StandIn(catch, lambda sender, recipient: SWALLOW) as server:
        thread = threading.Thread(target=bother)
        thread.start()
        found = run_json(server.address, "--probe", "9", *usual(catch))
        thread.join()
    assert found.verdicts() == {"9": "silent"} and found.told["strays"] == 1
    assert X in found.told["external_domain"]
