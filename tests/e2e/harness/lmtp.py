# SPDX-License-Identifier: Apache-2.0
"""LMTP servers (RFC 2033): a stand-in that answers as a test wants, and Debian's dovecot."""
import getpass
import grp
import os
import pathlib
import pwd
import re
import signal
import socket
import subprocess
import threading

from .limits import WAIT_S, wait_until
from .maildir import Maildir

KEYWORDS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
CLOSE = "close"
SILENCE = "silence"
PATH = re.compile(r"(?:FROM|TO):<(.*?)>(?: (.*))?\Z", re.IGNORECASE)


class Lmtp:
    """At a port of the system's choice, or at the UNIX socket `path`.

    `answer(stage, text, session)` gives the reply to "rcpt" and "data" (text: the command line) and "message" (text: the recipient): a line or several,
    CLOSE, SILENCE, or None for the usual one. What it has answered with 250 it has delivered, whatever comes after.
    """

    def __init__(self, path=None, keywords=KEYWORDS, answer=None):
        self.keywords = list(keywords)
        self.answer = answer or (lambda stage, text, session: None)
        self.delivered = []  # (recipient, content)
        self.transactions = []  # the recipients of each, as accepted
        self.commands = []
        self.session_count = 0
        self.faults = []
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self._socket.bind(str(path) if path else ("127.0.0.1", 0))
        self._socket.listen(64)
        self.deliver = f"lmtp:{path}" if path else f"lmtp:127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()

    def recipients_of(self, token):
        """To whom the message with this token was delivered, in order; who got it twice stands here twice."""
        with self._lock:
            return [recipient for recipient, content in self.delivered if token.encode() in content]

    def wait_for(self, token, *recipients):
        wait_until(lambda: sorted(self.recipients_of(token)) == sorted(recipients),
                   lambda: f"{token} for {recipients}, it has {self.recipients_of(token)}")

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with self._lock:
                self.session_count += 1
                number = self.session_count
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection, number):
        with connection, connection.makefile("rb") as stream:
            try:
                self._dialogue(connection, stream, number)
            except (OSError, EOFError):
                pass

    def _say(self, connection, stage, text, number, usual):
        reply = self.answer(stage, text, number) or usual
        if reply == CLOSE:
            raise EOFError
        if stage == "message" and reply.startswith("250"):
            with self._lock:
                self.delivered.append((text, self._content))
        if reply != SILENCE:
            connection.sendall(reply.encode() + b"\r\n")
        return reply

    def _dialogue(self, connection, stream, number):
        connection.sendall(b"220 store.test LMTP\r\n")
        recipients = []
        while line := stream.readline().decode("utf-8", "backslashreplace").rstrip("\r\n"):
            with self._lock:
                self.commands.append(line)
            verb = line.split(" ")[0].upper()
            if verb == "LHLO":
                connection.sendall("\r\n".join(["250-store.test", *(f"250-{word}" for word in self.keywords), "250 SIZE", ""]).encode())
            elif verb == "RCPT":
                if self._say(connection, "rcpt", line, number, "250 2.1.5 OK").startswith("2"):
                    recipients.append(PATH.search(line).group(1))
            elif verb == "DATA":
                usual = "354 Go" if recipients else "503 5.5.1 No recipients"
                if self._say(connection, "data", line, number, usual).startswith("354"):
                    self._message(connection, stream, number, recipients)
                    recipients = []
            elif verb in ("MAIL", "RSET"):
                recipients = []
                connection.sendall(b"250 2.0.0 OK\r\n")
            elif verb == "QUIT":
                connection.sendall(b"221 2.0.0 Bye\r\n")
                return
            else:
                self.faults.append(f"an unknown command: {line}")
                connection.sendall(b"500 5.5.1 Unknown command\r\n")

    def _message(self, connection, stream, number, recipients):
        lines = []
        while (line := stream.readline()) != b".\r\n":
            if not line:
                raise EOFError
            lines.append(line[1:] if line.startswith(b".") else line)
        with self._lock:
            self.transactions.append(recipients)
        self._content = b"".join(lines)
        for recipient in recipients:
            self._say(connection, "message", recipient, number, "250 2.0.0 Delivered")


# Mailboxes and users, in the languages of dovecot 2.3 and 2.4.
STORE_23 = """
mail_location = maildir:{directory}/mail/%u
passdb {{
  driver = passwd-file
  args = username_format=%u {directory}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {directory}/users
}}
"""
STORE_24 = """
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
mail_driver = maildir
mail_path = {directory}/mail/%{{user}}
passdb passwd-file {{
  passwd_file_path = {directory}/users
}}
userdb passwd-file {{
  passwd_file_path = {directory}/users
}}
"""
CONFIGURATION = """
base_dir = {directory}/run
state_dir = {directory}/state
instance_name = {name}
log_path = {directory}/log
protocols = lmtp
listen = 127.0.0.1
ssl = no
default_internal_user = {internal}
default_internal_group = {internal_group}
default_login_user = {login}
first_valid_uid = 1
service lmtp {{
  user = {owner}
  unix_listener {directory}/lmtp {{
    mode = 0666
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
service anvil {{
  chroot =
}}
"""


class Dovecot:
    """Debian's dovecot with LMTP only, at a UNIX socket and a port, in a directory of its own; users are whole addresses."""

    def __init__(self, directory, *users):
        self.directory = pathlib.Path(directory)
        for name in ("run", "state", "mail"):
            (self.directory / name).mkdir(parents=True)
        is_root = os.geteuid() == 0
        owner = "nobody" if is_root else getpass.getuser()
        account = pwd.getpwnam(owner)
        if is_root:
            os.chown(self.directory / "mail", account.pw_uid, account.pw_gid)
            for path in (self.directory.parent, self.directory):
                path.chmod(0o755)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (self.directory / "users").write_text("".join(
            f"{user}:{{PLAIN}}x:{account.pw_uid}:{account.pw_gid}::{self.directory}/mail::\n" for user in users))
        internal = "dovecot" if is_root else owner
        configuration = self.directory / "dovecot.conf"
        version = subprocess.run(["/usr/sbin/dovecot", "--version"], capture_output=True, check=True, text=True).stdout
        # What says which language it is must come first.
        configuration.write_text(((STORE_23 if version.startswith("2.3") else STORE_24) + CONFIGURATION).format(
            directory=self.directory, name=self.directory.parent.name, port=self.port, owner=owner, internal=internal,
            internal_group="dovecot" if is_root else grp.getgrgid(account.pw_gid).gr_name,
            login="dovenull" if is_root else owner))
        self.process = subprocess.Popen(["/usr/sbin/dovecot", "-F", "-c", str(configuration)], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            wait_until(self._answers, lambda: f"dovecot's banner; {self.log()}")
        except AssertionError:
            self.close()
            raise

    def _answers(self):
        assert self.process.poll() is None, self.process.stderr.read().decode() + self.log()
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(WAIT_S)
                client.connect(str(self.directory / "lmtp"))
                return client.recv(100).startswith(b"220")
        except OSError:
            return False

    def log(self):
        path = self.directory / "log"
        return path.read_text() if path.exists() else ""

    def maildir(self, user):
        return Maildir(self.directory / "mail" / user)

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stderr.close()
