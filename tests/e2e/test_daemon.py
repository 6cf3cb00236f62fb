# SPDX-License-Identifier: Apache-2.0
"""posternd as a process: what it says when it starts, what systemd hears, where it listens."""
import os
import re
import socket
import subprocess
import sys

import pytest

from harness.client import SmtpClient, deliver, letter, token
from harness.limits import WAIT_S, wait_until
from harness.postern import program
from harness.settings import HOSTNAME


def run(*arguments):
    return subprocess.run([program("posternd"), *arguments], capture_output=True, text=True, timeout=WAIT_S, check=False)


def test_help_version_and_usage():
    assert re.match(r"usage: posternd", run("--help").stdout)
    assert re.fullmatch(r"posternd \d+\.\d+\.\d+\S*\n", run("--version").stdout)
    assert run("--no-such-option").returncode not in (0, 78)
    assert run("argument").returncode not in (0, 78)


def test_text_log(place):
    """The log that people read: a line for each thing, with the addresses in it; what a client sends can't forge a line."""
    relay = place.postern({"log": {"format": "text"}}, start=False)
    relay.spawn()

    def ready():
        return re.search(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info ready ", relay.log.tail(), re.MULTILINE)

    wait_until(ready, relay.log.tail)
    port = int(re.search(r" listening server=main address=127\.0\.0\.1:(\d+)", relay.log.tail()).group(1))
    with SmtpClient(("127.0.0.1", port)) as client:
        client.send(b"EHLO x\x1b[2J\"\xff=\x01 error forged\r\n")
        client.reply()
        client.deliver("alice@contoso.test", "bob@contoso.test", letter(token()))
    wait_until(lambda: " delivered " in relay.log.tail(), relay.log.tail)
    assert relay.stop() == 0
    for line in relay.log.lines:
        assert re.match(r"\d{4}-\d\d-\d\dT[0-9:.]+Z (debug|info|warning|error) [a-z-]+ |.+: warning|warning: |/", line), line
        assert not re.search(r"[\x00-\x1f\x7f]", line), line


def test_log_to_a_file(place):
    path = place.directory / "postern.log"
    relay = place.postern({"log": {"to": str(path)}}, start=False)
    relay.spawn()
    wait_until(lambda: path.exists() and '"event":"ready"' in path.read_text(), "ready in the file")
    assert relay.stop() == 0
    assert '"event":"stopped"' in path.read_text()


def test_several_listeners(place):
    """Each address of each server is in the log, whatever port the system chose, and each answers; IPv6 too."""
    relay = place.postern({"servers": {"main": {"listen": ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"]}, "other": {"listen": ["127.0.0.1:0"]}}})
    addresses = relay.addresses("main")
    assert [host for host, _ in addresses] == ["127.0.0.1", "127.0.0.2", "::1"]
    for address in [*addresses, relay.address("other")]:
        with SmtpClient(address) as client:
            expected = "[::1]" if address[0] == "::1" else "[127.0.0."
            assert expected in client.ask("EHLO x").split("\n")[0]


@pytest.fixture
def notify_socket(place):
    path = place.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(WAIT_S)
        yield receiver, path


def test_notify(place, notify_socket):
    """systemd starts what depends on the relay when READY=1 comes: not before it accepts connections, and at each reload."""
    receiver, path = notify_socket
    relay = place.postern(environment={"NOTIFY_SOCKET": str(path)})
    assert b"READY=1" in receiver.recv(1000)
    SmtpClient(relay.address()).close()
    relay.reload()
    assert re.search(rb"RELOADING=1\nMONOTONIC_USEC=\d+", receiver.recv(1000))
    assert b"READY=1" in receiver.recv(1000)
    assert relay.stop() == 0
    assert b"STOPPING=1" in receiver.recv(1000)


STARTER = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def activated(place, listener, **server):
    """A daemon that gets this listening socket the way systemd hands it over."""
    host, port = listener.getsockname()[:2]
    listen = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return place.postern({"servers": {"main": {"listen": [listen], **server}}}, pass_descriptors=[listener.fileno()],
                         wrapper=[sys.executable, "-c", STARTER, str(listener.fileno())])


def test_socket_activation(place):
    """With sockets from systemd low ports need no root, and no connection is refused while the daemon restarts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = activated(place, listener)
        word = token()
        deliver(listener.getsockname(), "alice@contoso.test", "bob@contoso.test", letter(word))
        relay.maildir("bob@contoso.test").wait_for(word)
        assert relay.stop() == 0
        with socket.create_connection(listener.getsockname(), WAIT_S) as waiting:  # taken by the socket that is still open
            relay.start()
            assert waiting.recv(4) == b"220 "


def test_ipv4_client_of_a_dual_stack_socket_is_an_ipv4_client(place):
    """systemd's sockets are dual-stack by default: an IPv4 client has a mapped address there, and must match IPv4 lists."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        activated(place, listener, connect={"except": ["127.0.0.2"]})
        port = listener.getsockname()[1]
        with SmtpClient(("127.0.0.1", port)) as client:
            assert client.ask("EHLO x").startswith(f"250-{HOSTNAME} Hello [127.0.0.1]\n")
            client.envelope("u@example.org", "bob@[127.0.0.1]")
        with SmtpClient(("127.0.0.1", port), source="127.0.0.2") as client:
            assert client.banner.startswith("554 5.7.1 ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_becomes_an_ordinary_user(place):
    """A hole in the relay must not be a hole in the machine."""
    place.directory.chmod(0o755)
    relay = place.postern({"user": "nobody"}, start=False)
    relay.directory.chmod(0o755)
    relay.start()
    status = (open(f"/proc/{relay.pid}/status", encoding="ascii")).read()
    assert re.search(r"^Uid:\s+65534\s+65534\s+65534\s+65534$", status, re.MULTILINE), status
    assert re.search(r"^Cap(?:Prm|Eff):\s+0+$", status, re.MULTILINE), status
    word = token()
    deliver(relay.address(), "alice@contoso.test", "bob@contoso.test", letter(word))
    relay.maildir("bob@contoso.test").wait_for(word)
    assert relay.reload()["event"] == "reloaded", "what it must read again must be readable to that user"
