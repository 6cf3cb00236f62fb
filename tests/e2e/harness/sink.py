# SPDX-License-Identifier: Apache-2.0
"""A next hop: an SMTP server that records what it is given, answers as a test wants, and notes what a client must not do."""
import base64
import re
import socket
import threading
import time

from . import sasl
from .client import TOKEN
from .limits import WAIT_S

KEYWORDS = ("PIPELINING", "SIZE 104857600", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN")
CLOSE = "close"  # an answer that closes the connection without a word
PATH = re.compile(r"(?:FROM|TO):<(.*?)>(?: (.*))?\Z", re.IGNORECASE)
SAYS_YES = re.compile(r"2\d\d(?: |\Z)")


class SinkMessage:
    """One message as it came over the wire, dots taken out."""

    def __init__(self, session, sender, sender_options, recipients):
        self.session = session
        self.sender = sender
        self.sender_options = sender_options
        self.recipients = recipients  # (address, options) pairs
        self.content = b""
        self.arrived_at = 0.0  # time.monotonic()
        self.tls = None  # "TLSv1.3"
        self.user = None  # authenticated as

    def addresses(self):
        return [address for address, _ in self.recipients]


class Sink:
    """Listens on a port of the system's choice.

    `answer(stage, text, session)` may return a reply for a stage (connect, ehlo, helo, starttls, mail, rcpt, data, message, rset,
    quit), CLOSE, or None for the usual one. It may wait: each connection has a thread of its own. With
    `listening=False` connections are refused until listen(). `ip` and `port`: where it is to listen instead.
    `tls`, an ssl.SSLContext, is for STARTTLS, or with `tls_at_once` from the start; `handshake(connection)` does it. `auth` is a
    harness.sasl.Login, offered with `mechanisms`.
    """

    def __init__(self, keywords=KEYWORDS, ehlo=True, answer=None, listening=True, ip="127.0.0.1", port=0, tls=None,
                 tls_at_once=False, auth=None, mechanisms=("PLAIN", "LOGIN")):
        self.tls, self.tls_at_once, self.auth, self.mechanisms = tls, tls_at_once, auth, list(mechanisms)
        self.handshake = lambda connection: self.tls.wrap_socket(connection, server_side=True)
        self.server_names = []  # that clients asked for
        if tls:
            tls.sni_callback = lambda _, name, context: self.server_names.append(name)
        self.keywords = list(keywords)
        self.ehlo = ehlo
        self.answer = answer or (lambda stage, text, session: None)
        self.messages = []
        self._by_token = {}
        self.commands = []  # (session number, command line), in order
        self.faults = []
        self.session_count = 0
        self._changed = threading.Condition()
        self._connections = set()
        self._socket = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
        self._socket.bind((ip, port))
        self.ip = ip
        self.port = self._socket.getsockname()[1]
        self.address = f"[{ip}]:{self.port}" if ":" in ip else f"{ip}:{self.port}"
        self._closing = False
        if listening:
            self.listen()

    def listen(self):
        self._socket.listen(512)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """No more connections; those that stand are cut."""
        self._closing = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()
        self.cut()

    def cut(self):
        """Ends the connections that stand, as a crash of the next hop would."""
        with self._changed:
            connections = list(self._connections)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def find(self, token):
        """The messages that hold this token (client.token): by an index, as there may be thousands of both."""
        with self._changed:
            return list(self._by_token.get(token.encode(), ()))

    def wait_until(self, condition, what, timeout_s=WAIT_S):
        """Waits until `condition()` holds; it is looked at after each command and message."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not condition():
                remaining = deadline - time.monotonic()
                assert remaining > 0, f"not within {timeout_s:.0f} s: {what}; last commands {self.commands[-20:]}"
                self._changed.wait(remaining)

    def wait_for(self, token, timeout_s=WAIT_S):
        """The one message with this token."""
        self.wait_until(lambda: self.find(token), f"{token} at the sink", timeout_s)
        found = self.find(token)
        assert len(found) == 1, f"{token} arrived {len(found)} times"
        return found[0]

    def wait_for_count(self, count, timeout_s=WAIT_S):
        self.wait_until(lambda: len(self.messages) >= count, f"{count} messages at the sink", timeout_s)
        with self._changed:
            return list(self.messages)

    def commands_of(self, verb):
        with self._changed:
            return [line for _, line in self.commands if line.upper().startswith(verb.upper())]

    # ---- inside ----

    def _accept(self):
        while not self._closing:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with self._changed:
                self.session_count += 1
                number = self.session_count
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection, number):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = _Session(self, connection, number)
        try:
            session.run()
        except (OSError, EOFError):
            pass
        finally:
            with self._changed:
                self._connections -= {connection, session.connection}
                self._changed.notify_all()
            session.connection.close()

    def note_connection(self, connection):
        """What stands in place of one of the connections."""
        with self._changed:
            self._connections.add(connection)

    def note_command(self, number, line):
        with self._changed:
            self.commands.append((number, line))
            self._changed.notify_all()

    def note_message(self, message):
        message.arrived_at = time.monotonic()
        words = set(TOKEN.findall(message.content))
        with self._changed:
            self.messages.append(message)
            for word in words:
                self._by_token.setdefault(word, []).append(message)
            self._changed.notify_all()

    def fault(self, text):
        with self._changed:
            self.faults.append(text)


class _Refused(Exception):
    """CLOSE was the answer."""


class _Session:
    def __init__(self, sink, connection, number):
        self._sink = sink
        self.connection = connection
        self._number = number
        self._buffer = bytearray()
        self._message = None
        self._greeted = False
        self._user = None

    def run(self):
        handlers = {"STARTTLS": self._starttls, "AUTH": self._auth, "EHLO": self._ehlo, "HELO": self._helo, "MAIL": self._mail, "RCPT": self._rcpt, "DATA": self._data,
                    "RSET": self._rset, "QUIT": self._quit, "NOOP": lambda line: self._say("250 2.0.0 OK")}
        if self._sink.tls_at_once:
            self._begin_tls()
        try:
            if self._reply("connect", "", "220 sink.test ESMTP").startswith("220"):
                while True:
                    line = self._command()
                    verb = line.split(" ")[0].upper()
                    self._sink.note_command(self._number, line)
                    if handlers.get(verb, self._unknown)(line) == CLOSE:
                        return
        except _Refused:
            return

    def _fill(self):
        piece = self.connection.recv(262144)
        if not piece:
            raise EOFError
        self._buffer += piece

    def _command(self):
        while b"\n" not in self._buffer:
            self._fill()
        end = self._buffer.index(b"\n") + 1
        line = bytes(self._buffer[:end])
        del self._buffer[:end]
        if not line.endswith(b"\r\n") or b"\r" in line[:-2] or b"\0" in line:
            self._sink.fault(f"a command line with a bare CR, LF or NUL: {line!r}")
        if self._buffer and not self._may_pipeline():
            self._sink.fault(f"pipelined after {line!r}, which was not offered: {bytes(self._buffer[:60])!r}")
        return line.rstrip(b"\r\n").decode("utf-8", "backslashreplace")

    def _may_pipeline(self):
        return self._greeted and "PIPELINING" in self._sink.keywords

    def _say(self, reply):
        self.connection.sendall(reply.encode() + b"\r\n")

    def _reply(self, stage, text, usual):
        """The test's answer or the usual one, sent."""
        reply = self._sink.answer(stage, text, self._number) or usual
        if reply == CLOSE:
            raise _Refused
        self._say(reply)
        if reply.startswith("421"):
            raise _Refused
        return reply

    def _ehlo(self, line):
        if not self._sink.ehlo:
            self._reply("ehlo", line, "502 5.5.1 Unknown command")
            return
        lines = ["sink.test", *self._sink.keywords]
        if self._sink.tls and not self._tls():
            lines.append("STARTTLS")
        if self._sink.auth:
            lines.append(" ".join(["AUTH", *self._sink.mechanisms]))
        usual = "\r\n".join(f"250{'-' if more else ' '}{text}" for text, more in
                            zip(lines, [True] * (len(lines) - 1) + [False]))
        self._greeted = self._reply("ehlo", line, usual).startswith("250")
        self._message = None

    def _tls(self):
        return self.connection.version() if hasattr(self.connection, "version") else None

    def _begin_tls(self):
        self.connection = self._sink.handshake(self.connection)
        self._sink.note_connection(self.connection)

    def _starttls(self, line):
        if self._buffer:
            self._sink.fault("something behind STARTTLS")
        if not self._reply("starttls", line, "220 2.0.0 Go ahead").startswith("2"):
            return
        self._begin_tls()
        self._greeted, self._message, self._user = False, None, None

    def _auth(self, line):
        _, mechanism, *initial = line.split(" ")
        if not self._sink.auth or mechanism not in self._sink.mechanisms:
            self._sink.fault(f"an AUTH that was not offered: {line}")

        def ask(challenge):
            self._say("334 " + sasl.encode(challenge))
            answer = self._command()
            if answer == "*":
                raise _Refused
            return base64.b64decode(answer)

        binding = self.connection.get_channel_binding("tls-unique") if self._tls() else None
        first = None if not initial else b"" if initial[0] == "=" else base64.b64decode(initial[0])
        self._user = self._sink.auth(mechanism, first, ask, binding)
        self._say("235 2.7.0 Authenticated" if self._user else "535 5.7.8 Wrong user or password")

    def _helo(self, line):
        self._reply("helo", line, "250 sink.test")
        self._message = None

    def _mail(self, line):
        found = PATH.search(line)
        if not found or self._message:
            self._sink.fault(f"a bad MAIL, or one too many: {line}")
            self._say("503 5.5.1 Bad sequence of commands")
            return
        for option in (found.group(2) or "").split():
            self._check_option(option)
        if self._reply("mail", line, "250 2.1.0 OK").startswith("2"):
            self._message = SinkMessage(self._number, found.group(1), found.group(2) or "", [])
            self._message.tls, self._message.user = self._tls(), self._user

    def _check_option(self, option):
        """RFC 5321 4.1.1.11: only options whose keyword was offered."""
        needs = {"SIZE": "SIZE", "BODY": "8BITMIME", "SMTPUTF8": "SMTPUTF8", "RET": "DSN", "ENVID": "DSN", "NOTIFY": "DSN",
                 "ORCPT": "DSN"}
        keyword = needs.get(option.split("=")[0].upper())
        offered = {text.split(" ")[0] for text in self._sink.keywords} if self._greeted else set()
        if keyword not in offered:
            self._sink.fault(f"option {option}, which was not offered")

    def _rcpt(self, line):
        found = PATH.search(line)
        if not found or not self._message:
            self._say("503 5.5.1 Bad sequence of commands")
            return
        for option in (found.group(2) or "").split():
            self._check_option(option)
        if self._reply("rcpt", line, "250 2.1.5 OK").startswith("2"):
            self._message.recipients.append((found.group(1), found.group(2) or ""))

    def _data(self, line):
        if not self._message or not self._message.recipients:
            self._say("503 5.5.1 Bad sequence of commands")
            return
        if not self._reply("data", line, "354 Go ahead").startswith("354"):
            return
        message, self._message = self._message, None
        message.content = self._read_content()
        reply = self._sink.answer("message", message, self._number) or "250 2.0.0 Taken"
        if reply == CLOSE:
            raise _Refused
        if SAYS_YES.match(reply.split("\r\n")[-1]):
            self._sink.note_message(message)
        self._say(reply)
        if reply.startswith("421"):
            raise _Refused

    def _read_content(self):
        """Strictly CRLF.CRLF; a bare CR or LF before it is a fault, as another server might take it for an end."""
        position = 0
        while True:
            if self._buffer.startswith(b".\r\n"):
                end, length = 0, 3
                break
            end, length = self._buffer.find(b"\r\n.\r\n", max(0, position - 4)), 5
            if end >= 0:
                end, length = end + 2, 3
                break
            position = len(self._buffer)
            self._fill()
        wire = bytes(self._buffer[:end])
        del self._buffer[:end + length]
        if self._buffer and not self._may_pipeline():
            self._sink.fault("pipelined after the final dot, which was not offered")
        if re.search(rb"\r(?!\n)|(?<!\r)\n", wire):
            self._sink.fault("a message with a bare CR or LF")
        return re.sub(rb"(?m)^\.", b"", wire)

    def _rset(self, line):
        self._message = None
        self._reply("rset", line, "250 2.0.0 OK")

    def _quit(self, line):
        self._reply("quit", line, "221 2.0.0 Bye")
        return CLOSE

    def _unknown(self, line):
        self._sink.fault(f"an unknown command: {line}")
        self._say("500 5.5.1 Unknown command")
