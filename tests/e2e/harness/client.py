# SPDX-License-Identifier: Apache-2.0
"""An SMTP client that sends exactly the bytes it is told to, and reads replies to the letter."""
import re
import socket
import uuid

from .limits import WAIT_S

CRLF = b"\r\n"
TOKEN = re.compile(rb"t[0-9a-f]{32}")  # what token() makes


def token():
    """A word that is in no other message."""
    return "t" + uuid.uuid4().hex


def letter(word, body=b"Hello.\r\n", sender="alice@contoso.test", recipient="bob@contoso.test", extra=""):
    """A small whole message that carries a token in its subject."""
    head = (f"From: <{sender}>\r\nTo: <{recipient}>\r\nSubject: {word}\r\nMessage-ID: <{word}@client.test>\r\n"
            f"Date: Mon, 2 Nov 2026 10:00:00 +0000\r\n{extra}\r\n")
    return head.encode() + body


def dot_stuff(content):
    """A message as it goes over the wire, without the final dot."""
    return re.sub(rb"(?m)^\.", b"..", content)


def _bytes(text):
    return text if isinstance(text, bytes) else text.encode("utf-8")


class SmtpClient:
    """One connection. `source` binds it to an address of 127.0.0.0/8."""

    def __init__(self, address, source=None, banner=True, timeout_s=WAIT_S):
        self.socket = socket.create_connection(address, timeout_s, (source, 0) if source else None)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self.banner = self.reply() if banner else None

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        self.socket.close()

    # ---- bytes ----

    def send(self, data):
        self.socket.sendall(_bytes(data))

    def send_in_pieces(self, data, size=1):
        """Each piece in a packet of its own, as far as the kernel lets them through one by one."""
        data = _bytes(data)
        for start in range(0, len(data), size):
            self.socket.send(data[start:start + size])

    def read_line(self):
        """One line without its CRLF. Anything else at its end, or an overlong line, is a fault of the server's."""
        while b"\n" not in self._buffer:
            piece = self.socket.recv(65536)
            if not piece:
                raise ConnectionError(f"closed in the middle of a reply, after {self._buffer!r}")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        assert line.endswith(b"\r"), f"a reply line without CRLF: {line!r}"
        assert len(line) <= 2048 and b"\r" not in line[:-1], line
        return line[:-1].decode("utf-8")

    def reply(self):
        """One reply; its lines joined by a newline."""
        lines = [self.read_line()]
        while lines[-1][3:4] == "-":
            lines.append(self.read_line())
        for line in lines:
            assert re.match(r"[2345]\d\d[ -]", line) and line[:3] == lines[0][:3], lines
        return "\n".join(lines)

    def replies(self, count):
        return [self.reply() for _ in range(count)]

    def is_closed(self):
        """Waits until the server closes. False if it says anything more, or does not close in time."""
        try:
            return not self._buffer and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
        except socket.timeout:
            return False

    # ---- commands ----

    def ask(self, command):
        self.send(_bytes(command) + CRLF)
        return self.reply()

    def expect(self, command, reply):
        """Sends a command and wants this reply to the letter."""
        answer = self.ask(command)
        assert answer == reply, f"{command!r}: {answer!r}, wanted {reply!r}"

    def expect_code(self, command, start):
        answer = self.ask(command)
        assert answer.startswith(start), f"{command!r}: {answer!r}, wanted {start}..."
        return answer

    def hello(self, name="client.test"):
        return self.expect_code(f"EHLO {name}", "250-")

    def envelope(self, sender, *recipients, options=""):
        self.expect_code(f"MAIL FROM:<{sender}>{options}", "250 ")
        for recipient in recipients:
            self.expect_code(f"RCPT TO:<{recipient}>", "250 ")

    def data(self, content):
        """DATA with a message that ends in CRLF or is empty; the reply to it."""
        assert content == b"" or content.endswith(CRLF)
        self.expect("DATA", "354 Start mail input; end with <CRLF>.<CRLF>")
        self.send(dot_stuff(content) + b".\r\n")
        return self.reply()

    def chunk(self, data, last=False):
        """BDAT; the reply."""
        self.send(b"BDAT %d%s\r\n" % (len(data), b" LAST" if last else b"") + data)
        return self.reply()

    def deliver(self, sender, recipients, content, options=""):
        """A whole transaction that must be taken; the reply to the message."""
        recipients = [recipients] if isinstance(recipients, str) else recipients
        self.envelope(sender, *recipients, options=options)
        answer = self.data(content)
        assert answer.startswith("250 2.6.0 "), answer
        return answer


def deliver(address, sender, recipients, content, options="", source=None):
    """Hands over one message in a session of its own."""
    with SmtpClient(address, source=source) as client:
        client.hello()
        answer = client.deliver(sender, recipients, content, options)
        client.expect_code("QUIT", "221 ")
        return answer
