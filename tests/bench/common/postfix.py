# SPDX-License-Identifier: Apache-2.0
"""Debian's Postfix from a configuration of its own, and its load generator and sink."""
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time

START_S = 30

MASTER = """\
{address}  inet  n - n - - smtpd
pickup     unix  n - n 60 1 pickup
cleanup    unix  n - n - 0 cleanup
qmgr       unix  n - n 300 1 qmgr
tlsmgr     unix  - - n 1000? 1 tlsmgr
rewrite    unix  - - n - - trivial-rewrite
bounce     unix  - - n - 0 bounce
defer      unix  - - n - 0 bounce
trace      unix  - - n - 0 bounce
verify     unix  - - n - 1 verify
flush      unix  n - n 1000? 0 flush
proxymap   unix  - - n - - proxymap
proxywrite unix  - - n - 1 proxymap
smtp       unix  - - n - - smtp
relay      unix  - - n - - smtp
showq      unix  n - n - - showq
error      unix  - - n - - error
retry      unix  - - n - - error
discard    unix  - - n - - discard
local      unix  - n n - - local
anvil      unix  - - n - 1 anvil
scache     unix  - - n - 1 scache
postlog    unix-dgram n - n - 1 postlogd
"""

MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/postfix.log
maillog_file_prefixes = {directory}
myhostname = postfix.test
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:{sink_port}
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_dns_support_level = disabled
default_destination_concurrency_limit = 50
default_process_limit = 100
in_flow_delay = 0
qmgr_message_active_limit = 50000
"""


def program(name):
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:" + os.environ.get("PATH", ""))
    if not found:
        raise SystemExit(f"{name} is missing: apt-get install --no-install-recommends postfix")
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port):
    deadline = time.monotonic() + START_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as connection:
                if connection.recv(4):
                    return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing answers on port {port}")
        time.sleep(0.02)


class Sink:
    """smtp-sink, which counts what it takes."""

    def __init__(self):
        self.port = free_port()
        user = ["-u", "root"] if os.geteuid() == 0 else []
        self.process = subprocess.Popen([program("smtp-sink"), *user, "-c", f"127.0.0.1:{self.port}", "1000"],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        os.set_blocking(self.process.stdout.fileno(), False)
        self._count = 0
        wait_for_port(self.port)

    def count(self):
        """Messages taken so far."""
        while True:
            try:
                text = os.read(self.process.stdout.fileno(), 1 << 16)
            except BlockingIOError:
                return self._count
            if not text:
                raise SystemExit("smtp-sink ended")
            counters = re.findall(rb"mesg=(\d+)\r", text)
            if counters:
                self._count = int(counters[-1])

    def close(self):
        self.process.terminate()
        self.process.wait()


def source(port, messages, sessions, size):
    """Starts smtp-source: this many messages over this many connections, each kept for all its messages."""
    return subprocess.Popen([program("smtp-source"), "-s", str(sessions), "-m", str(messages), "-l", str(size), "-d",
                             "-f", "sender@client.test", "-t", "recipient@example.net", f"127.0.0.1:{port}"])


MAIN_TLS = """\
smtpd_tls_security_level = may
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_session_cache_database = btree:{directory}/data/smtpd_scache
tls_preempt_cipherlist = yes
"""

MASTER_TLS = "127.0.0.1:{port}  inet  n - n - - smtpd -o smtpd_tls_wrappermode=yes\n"


class Postfix:
    """Relays everything to a sink. Needs root, as Postfix does. `tls`: (certificate, key), and it listens on tls_port too."""

    name = "Postfix"

    def __init__(self, directory, sink_port, tls=None):
        if os.geteuid() != 0:
            raise SystemExit("Postfix starts as root only; run with --without-postfix to measure Postern alone")
        self.port = free_port()
        self._directory = pathlib.Path(directory)
        self._configuration = self._directory / "etc"
        for part in ("etc", "queue", "data"):
            (self._directory / part).mkdir(parents=True)
        shutil.chown(self._directory / "data", "postfix")
        (self._configuration / "main.cf").write_text(MAIN.format(directory=self._directory, sink_port=sink_port))
        (self._configuration / "master.cf").write_text(MASTER.format(address=f"127.0.0.1:{self.port}"))
        if tls:
            self.tls_port = free_port()
            with open(self._configuration / "main.cf", "a") as file:
                file.write(MAIN_TLS.format(certificate=tls[0], key=tls[1], directory=self._directory))
            with open(self._configuration / "master.cf", "a") as file:
                file.write(MASTER_TLS.format(port=self.tls_port))
        self._command("start")
        wait_for_port(self.port)
        self.pid = int((self._directory / "queue" / "pid" / "master.pid").read_text())

    def _command(self, word):
        subprocess.run([program("postfix"), "-c", str(self._configuration), word], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    def version(self):
        return subprocess.run([program("postconf"), "-d", "-h", "mail_version"], capture_output=True, text=True, check=True).stdout.strip()

    def close(self):
        self._command("stop")
