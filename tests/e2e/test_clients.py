# SPDX-License-Identifier: Apache-2.0
"""Programs that people really use get their mail through."""
import email.message
import os
import pathlib
import re
import shutil
import smtplib
import socket
import subprocess
import time

import pytest

from harness.client import letter, token
from harness.limits import SCALE, WAIT_S, wait_until
from harness.settings import connector

SENDER, LOCAL, REMOTE = "alice@contoso.test", "bob@contoso.test", "v@example.net"


@pytest.fixture(scope="module")
def sink(shared_place):
    return shared_place.sink()


@pytest.fixture(scope="module")
def relay(shared_place, sink):
    return shared_place.postern({
        "servers": {"main": {"relay": {"only": ["127.0.0.1"]}},
                    "lookup": {"listen": ["127.0.0.1:0"], "recipients": {"lookup": "at-rcpt"}}},
        "connectors": {"out": connector(sink.address)},
    })


def run(*command, stdin=b"", timeout_s=WAIT_S):
    result = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout_s, check=False)
    assert result.returncode == 0, f"{command} ended with {result.returncode}:\n{result.stdout.decode()}{result.stderr.decode()}"
    return result.stdout.decode("utf-8", "replace")


def port(relay, server="main"):
    return str(relay.address(server)[1])


def check_both(relay, sink, word):
    assert b"a line" in relay.maildir(LOCAL).wait_for(word)
    assert b"a line" in sink.wait_for(word).content


@pytest.mark.parametrize("options", [[], ["--pipeline"], ["--protocol", "SMTP"]], ids=["plain", "pipeline", "helo"])
def test_swaks(relay, sink, options):
    word = token()
    run("swaks", "--server", "127.0.0.1", "--port", port(relay), "--from", SENDER, "--to", f"{LOCAL},{REMOTE}",
        "--header", f"Subject: {word}", "--body", "a line\n", *options)
    check_both(relay, sink, word)


def test_curl(relay, sink, tmp_path):
    word = token()
    path = tmp_path / "message"
    path.write_bytes(letter(word, b"a line\r\n.\r\n..\r\n"))
    run("curl", "--silent", "--show-error", f"smtp://127.0.0.1:{port(relay)}/client.test", "--mail-from", SENDER, "--mail-rcpt", LOCAL,
        "--mail-rcpt", REMOTE, "--upload-file", str(path))
    check_both(relay, sink, word)
    assert sink.wait_for(word).content.endswith(b"a line\r\n.\r\n..\r\n")


def test_curl_from_standard_input(relay, sink):
    """The README's line: LF becomes CRLF in the client."""
    word = token()
    run("curl", "--silent", "--show-error", "--crlf", f"smtp://127.0.0.1:{port(relay)}", "--mail-from", SENDER, "--mail-rcpt", LOCAL,
        "--mail-rcpt", REMOTE, "--upload-file", "-", stdin=f"Subject: {word}\n\na line\n".encode())
    check_both(relay, sink, word)


def test_msmtp(relay, sink):
    word = token()
    run("msmtp", "--host=127.0.0.1", f"--port={port(relay)}", f"--from={SENDER}", "--file=/dev/null", "--auth=off", "--tls=off",
        LOCAL, REMOTE, stdin=f"Subject: {word}\n\na line\n".encode())
    check_both(relay, sink, word)


def test_smtplib(relay, sink):
    word = token()
    message = email.message.EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, f"{LOCAL}, {REMOTE}", f"{word} Grüße"
    message.set_content("a line\n.\n..\nGrüße\n")
    message.add_attachment(bytes(range(256)) * 1000, maintype="application", subtype="octet-stream")
    with smtplib.SMTP("127.0.0.1", int(port(relay))) as client:
        assert client.send_message(message) == {}
    check_both(relay, sink, word)


def test_smtplib_utf8_addresses(relay, sink):
    word = token()
    message = email.message.EmailMessage()
    message["From"], message["To"], message["Subject"] = "sénder@example.org", "jösé@example.net", word
    message.set_content("a line\n")
    with smtplib.SMTP("127.0.0.1", int(port(relay))) as client:
        assert client.send_message(message) == {}
    assert sink.wait_for(word).addresses() == ["jösé@example.net"]


def test_smtplib_refusals(relay):
    """Programs take decisions by the codes that such a library hands them."""
    word = token()
    with smtplib.SMTP("127.0.0.1", int(port(relay, "lookup"))) as client:
        refused = client.sendmail(SENDER, [LOCAL, REMOTE, "nobody@contoso.test"], letter(word))
        assert {address: code for address, (code, _) in refused.items()} == {REMOTE: 550, "nobody@contoso.test": 550}
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail(SENDER, [REMOTE], letter(word))
        with pytest.raises(smtplib.SMTPNotSupportedError):
            client.login("user", "password")
    relay.maildir(LOCAL).wait_for(word)


def test_nmap_open_relay_script(relay):
    """The tool of auditors. With lookup at RCPT it must find nothing; after-accept it takes a 250 at RCPT for relaying, wrongly."""
    said = run("nmap", "-Pn", "-n", "-sT", "--unprivileged", "-p", port(relay, "lookup"), "--script", "+smtp-open-relay", "--script-args",
               "smtp-open-relay.domain=example.net", "127.0.0.1", timeout_s=60 * SCALE)
    assert "Server doesn't seem to be an open relay" in said, said
    assert "is an open relay" not in said


# ---- Postfix's generator and sink ----

class SmtpSink:
    """Postfix's smtp-sink on an address and port of its own; keeps every message in a file."""

    def __init__(self, directory):
        self.directory = directory
        self.directory.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        user = ["-u", "root"] if os.geteuid() == 0 else []  # it wants to be told
        self.process = subprocess.Popen([postfix_program("smtp-sink"), *user, "-d", f"{self.directory}/m.", self.address, "500"],
                                        cwd=directory)
        wait_until(self._accepts, "smtp-sink")

    def _accepts(self):
        assert self.process.poll() is None, "smtp-sink ended"
        host, _, number = self.address.partition(":")
        try:
            socket.create_connection((host, int(number)), 1).close()
        except OSError:
            return False
        return True

    def count(self):
        return sum(1 for _ in pathlib.Path(self.directory).iterdir())

    def recipients(self):
        """Of all messages, as the relay handed them over."""
        return [address for path in pathlib.Path(self.directory).iterdir()
                for address in re.findall(rb"(?m)^X-Rcpt-Args: <([^>]*)>", path.read_bytes())]

    def close(self):
        self.process.terminate()
        self.process.wait(WAIT_S)


def through_smtp_sink(place, count, sessions, timeout_s):
    sink = SmtpSink(place.directory / "sink")
    try:
        relay = place.postern({
            "servers": {"main": {"relay": {"only": ["127.0.0.1"]}}},
            "connectors": {"out": connector(sink.address)},
        })
        started_at = time.monotonic()
        run(postfix_program("smtp-source"), "-s", str(sessions), "-m", str(count), "-l", "4096", "-d", "-N", "-f", SENDER, "-t", "x@example.net",
            f"127.0.0.1:{port(relay)}", timeout_s=timeout_s)
        accepted_s = time.monotonic() - started_at
        wait_until(lambda: sink.count() >= count, lambda: f"{count} messages at smtp-sink, {sink.count()} there", timeout_s)
        print(f"{count} messages accepted in {accepted_s:.2f} s, all there after {time.monotonic() - started_at:.2f} s")
        assert relay.stop() == 0
        recipients = sink.recipients()
        assert len(recipients) == count, "some arrived twice"
        assert len(set(recipients)) == count, "some arrived twice, and others not at all"
        assert not relay.badmail() and not relay.mailboxes()
    finally:
        sink.close()


def postfix_program(name):
    found = shutil.which(name, path="/usr/sbin:/usr/bin:" + os.environ.get("PATH", ""))
    assert found, f"{name} is not installed (Debian's postfix)"
    return found


def test_smtp_source_into_smtp_sink(place):
    through_smtp_sink(place, 500, 20, 120 * SCALE)


@pytest.mark.release_only
def test_smtp_source_twenty_thousand(place):
    """20 sessions, 20,000 messages of 4 KiB: every one arrives, once."""
    through_smtp_sink(place, 20000, 20, 180)
