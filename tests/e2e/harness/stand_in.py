# SPDX-License-Identifier: Apache-2.0
"""Mail servers as they once were, and as they should never be: a small SMTP server whose every decision a test makes."""
import re
import smtplib
import socket
import threading

TOKEN = re.compile(r"-[su]-([a-z0-9]{16})")
REFUSE = "550 5.7.1 Unable to relay"
SWALLOW = ""  # taken, and never heard of again
CLOSE = None  # the connection ends without a word


class StandIn:
    """Listens on a port of the system's choice, and sends on to the catch.

    `rcpt(sender, recipient)` says what becomes of a recipient: a reply that refuses it; SWALLOW; or a list of addresses that its messages are
    forwarded to. `answer(stage, line, session)` may give a reply of its own for a stage (connect, ehlo, helo, mail, rcpt, data, message,
    rset, other), CLOSE, or raise KeyError for the usual one; it may wait. `after(message, stand_in)` is called for each message taken.
    Addresses are what stands behind the colon, brackets included.
    """

    def __init__(self, catch, rcpt=lambda sender, recipient: REFUSE, answer=None, after=None, keywords=("PIPELINING", "8BITMIME"),
                 name="mail.contoso.test"):
        self.catch = catch
        self._rcpt = rcpt
        self._answer = answer
        self._after = after
        self._keywords = keywords
        self._name = name
        self.forwarded = []  # (sender, address) pairs
        self.sessions = 0
        self.commands = []
        self._threads = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()

    def send(self, sender, recipient, content):
        """To the catch, as a server would; `content` is text."""
        host, _, port = self.catch.rpartition(":")
        with smtplib.SMTP(host, int(port), local_hostname=self._name, timeout=20) as client:
            client.ehlo()
            client.docmd(f"MAIL FROM:{sender}")
            code, _ = client.docmd(f"RCPT TO:{recipient}")
            assert code == 250, f"the catch refuses {recipient}: {code}"
            client.data(content.encode())
            self.forwarded.append((sender, recipient))

    # ---- inside ----

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.sessions += 1
            threading.Thread(target=self._serve, args=(connection, self.sessions), daemon=True).start()

    def _serve(self, connection, number):
        with connection:
            try:
                _Session(self, connection, number).run()
            except (OSError, EOFError):
                pass


class Message:
    def __init__(self, sender, recipient, decision, content):
        self.sender = sender
        self.recipient = recipient
        self.decision = decision
        self.content = content

    @property
    def token(self):
        return TOKEN.search(self.recipient)[1]


class _Session:
    def __init__(self, server, connection, number):
        self._server = server
        self._file = connection.makefile("rwb")
        self.number = number
        self._sender = self._recipient = self._decision = None

    def _say(self, reply):
        self._file.write(reply.encode() + b"\r\n")
        self._file.flush()

    def _line(self):
        line = self._file.readline()
        if not line:
            raise EOFError
        return line.decode("utf-8", "surrogateescape").rstrip("\r\n")

    def _reply(self, stage, line, usual):
        """Says the test's reply, or the usual one; returns it."""
        reply = usual
        if self._server._answer:
            try:
                reply = self._server._answer(stage, line, self.number)
            except KeyError:
                pass
        if reply is CLOSE:
            raise EOFError
        self._say(reply)
        return reply

    def run(self):
        if not self._reply("connect", "", f"220 {self._server._name} ESMTP").startswith("220"):
            return
        while True:
            line = self._line()
            self._server.commands.append(line)
            verb = line.split(" ")[0].upper()
            handler = getattr(self, "_" + verb.lower(), None)
            if verb == "QUIT":
                self._say("221 2.0.0 bye")
                return
            if handler:
                handler(line)
            else:
                self._reply("other", line, "500 5.5.1 What?")

    def _ehlo(self, line):
        self._reply("ehlo", line, "\r\n".join([f"250-{self._server._name} Hello", *(f"250-{word}" for word in self._server._keywords), "250 HELP"]))

    def _helo(self, line):
        self._reply("helo", line, f"250 {self._server._name}")

    def _rset(self, line):
        self._reply("rset", line, "250 2.0.0 Resetting")

    def _mail(self, line):
        if self._reply("mail", line, "250 2.1.0 OK").startswith("250"):
            self._sender = line.partition(":")[2]

    def _rcpt(self, line):
        recipient = line.partition(":")[2]
        decision = self._server._rcpt(self._sender, recipient)
        is_refused = isinstance(decision, str) and decision != SWALLOW
        if self._reply("rcpt", line, decision if is_refused else "250 2.1.5 OK").startswith("250"):
            self._recipient, self._decision = recipient, decision

    def _data(self, line):
        if not self._reply("data", line, "354 go").startswith("354"):
            return
        lines = []
        while (text := self._line()) != ".":
            lines.append(text[1:] if text.startswith(".") else text)
        message = Message(self._sender, self._recipient, self._decision, "\r\n".join(lines) + "\r\n")
        self._reply("message", "", "250 2.6.0 Queued")
        for address in message.decision or ():
            self._server.send(message.sender, address, "Received: from somewhere\r\n\tby " + self._server._name + "\r\n" + message.content)
        if self._server._after:
            self._server._after(message, self._server)


# ---- the holes ----

X, L, H, A = "outside.test", "contoso.test", "mail.contoso.test", "127.0.0.1"
OWN = (L, H, f"[{A}]", A)


def _bare(address):
    return address[1:-1] if address.startswith("<") else address


def _domain(address):
    return _bare(address).rpartition("@")[2] if "@" in _bare(address) else ""


def _forward(address):
    return [f"<{address}>"] if address.endswith("@" + X) else REFUSE


def _local_part(recipient):
    """Of a recipient in one of our own domains, or without one; else None."""
    local, at, domain = _bare(recipient).rpartition("@")
    if not at:
        return _bare(recipient)
    return local if domain in OWN and not recipient.startswith("<@") else None


def percent_hack(sender, recipient):
    local = (_local_part(recipient) or "").strip('"') if '"' not in recipient else ""
    return _forward(local.replace("%", "@")) if "%" in local else REFUSE


def bang_path(sender, recipient):
    local = _local_part(recipient) or ""
    host, bang, user = local.partition("!")
    return _forward(f"{user}@{host}") if bang else REFUSE


def quoted_address(sender, recipient):
    bare = _bare(recipient)
    local = bare if bare.endswith('"') else _local_part(recipient) or ""
    return _forward(local.strip('"').replace("%", "@")) if local.startswith('"') else REFUSE


def source_route(sender, recipient):
    bare = _bare(recipient)
    return _forward(bare.partition(":")[2]) if bare.startswith("@") else REFUSE


def two_ats(sender, recipient):
    local = _local_part(recipient) or ""
    return _forward(local) if "@" in local and '"' not in local else REFUSE


def empty_domain(sender, recipient):
    bare = _bare(recipient)
    return _forward(bare[:-1]) if bare.endswith("@") else REFUSE


def _sender_hole(accepts):
    return lambda sender, recipient: _forward(_bare(recipient)) if accepts(sender) and recipient.count("@") == 1 and ":" not in recipient \
        and '"' not in recipient else REFUSE


HOLES = {  # name: (what it does, the probes that get through)
    "percent hack": (percent_hack, {"9", "12a", "12b", "13"}),
    "UUCP bang": (bang_path, {"20", "21a", "21b", "22"}),
    "quoted address": (quoted_address, {"10", "11", "16a", "16b", "17"}),
    "source route": (source_route, {"18a", "18b", "19"}),
    "two @": (two_ats, {"14a", "14b", "15"}),
    "empty domain": (empty_domain, {"23"}),
    "bare sender": (_sender_hole(lambda sender: "@" not in sender and sender != "<>" and "!" not in sender), {"2"}),
    "null sender": (_sender_hole(lambda sender: sender == "<>"), {"3"}),
    "local sender": (_sender_hole(lambda sender: _domain(sender) == L), {"4"}),
    "server's name": (_sender_hole(lambda sender: _domain(sender) == H), {"5"}),
    "server's address": (_sender_hole(lambda sender: _domain(sender) in (A, f"[{A}]")), {"6a", "6b", "7b"}),
    "local host name": (_sender_hole(lambda sender: _domain(sender) == "localhost"), {"7a"}),
    "client's name": (_sender_hole(lambda sender: _domain(sender) == "client.fabrikam.test"), {"8"}),
    "no brackets": (lambda sender, recipient: _forward(recipient) if not recipient.startswith("<") else REFUSE, {"24"}),
    "bang sender": (_sender_hole(lambda sender: "!" in sender), {"25"}),
    "none": (lambda sender, recipient: REFUSE, set()),
}
