# SPDX-License-Identifier: Apache-2.0
"""The sandbox: the daemon does all its work inside, the kernel says that it stands, and a configuration that wants more is told so."""
import ctypes
import os
import pathlib
import pwd
import signal
import sys

import pytest

from harness.client import SmtpClient, deliver, letter, token
from harness.limits import wait_until
from harness.settings import connector, merge, to_yaml

LANDLOCK_CREATE_RULESET, ABI_WANTED = 444, 2
SECRET = "s3cret-of-the-next-hop"


def landlock_abi():
    return ctypes.CDLL(None).syscall(LANDLOCK_CREATE_RULESET, None, 0, 1)


HAS_LANDLOCK = landlock_abi() >= ABI_WANTED
STRICTEST = "required" if HAS_LANDLOCK else "auto"


@pytest.fixture
def sink(place):
    return place.sink()


@pytest.fixture
def start(place, sink):
    """A relay under the strictest sandbox that this kernel has, unless told otherwise."""
    def start_it(settings=None, **options):
        return place.postern(merge({
            "sandbox": STRICTEST,
            "servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}}},
            "connectors": {"out": connector(sink.address)},
        }, settings or {}), **options)
    return start_it


def status_of(pid, task=None):
    path = pathlib.Path(f"/proc/{pid}/status" if task is None else f"/proc/{pid}/task/{task}/status")
    return dict(line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line)


def works(relay, sink, size=0):
    """One message to a mailbox and one to the next hop."""
    local, remote = token(), token()
    body = b"x" * 70 + b"\r\n"
    content = body * (size // len(body) + 1)
    deliver(relay.address(), "alice@contoso.test", "bob@contoso.test", letter(local, content))
    deliver(relay.address(), "alice@contoso.test", "v@example.net", letter(remote, content))
    relay.maildir("bob@contoso.test").wait_for(local)
    sink.wait_for(remote)


def test_everything_works_inside(start, sink):
    """Maildirs, body files, the next hop, badmail, a reload: a sandbox that is too tight loses mail or keeps people from using it."""
    relay = start()
    event = relay.wait_for_event("sandbox")
    assert event["seccomp"] and event["no_core"] and event["no_capabilities"]
    assert event["landlock"] == HAS_LANDLOCK and (event["missing"] == "") == HAS_LANDLOCK, event
    works(relay, sink)
    works(relay, sink, size=2 << 20)
    assert relay.reload()["event"] == "reloaded"
    works(relay, sink)
    assert relay.stop() == 0


def test_the_kernel_says_so(start):
    """What the log claims, from outside: of every thread, not of the first only."""
    relay = start()
    tasks = os.listdir(f"/proc/{relay.pid}/task")
    assert len(tasks) > 3
    for task in tasks:
        status = status_of(relay.pid, task)
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", status
        for which in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            assert int(status[which], 16) == 0, (which, status)
    assert pathlib.Path(f"/proc/{relay.pid}/limits").read_text().split("Max core file size")[1].split()[:2] == ["0", "0"]


def test_memory_is_nobodys(start):
    """What is not dumpable belongs to root in /proc: nobody of the same user reads its memory or traces it."""
    relay = as_ordinary_user(start)
    assert os.stat(f"/proc/{relay.pid}/mem").st_uid == 0
    assert os.stat(f"/proc/{relay.pid}/environ").st_uid == 0


def as_ordinary_user(start):
    """Root becomes somebody, who has to find the way to the configuration; whoever is somebody already stays so."""
    if os.geteuid() != 0:
        return start()
    relay = start({"user": "nobody"}, start=False)
    for path in (relay.directory.parent, relay.directory):
        path.chmod(0o755)
    return relay.start()


def test_an_ordinary_user_is_left(start, sink):
    """Whatever it was started as: no other user or group, none to go back to, and everything still works."""
    relay = as_ordinary_user(start)
    status = status_of(relay.pid)
    assert set(status["Uid"].split()) == {str(pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid())}
    if os.geteuid() == 0:
        assert int(status["CapBnd"], 16) == 0 and set(status["Gid"].split()) != {"0"}, status
    works(relay, sink)
    works(relay, sink, size=1 << 20)
    assert relay.reload()["event"] == "reloaded"


def test_off(start, sink):
    """For whoever has to look into the process; and it is said."""
    relay = start({"sandbox": "off"})
    assert "off" in relay.wait_for_event("sandbox")["missing"]
    assert status_of(relay.pid)["Seccomp"] == status_of("self")["Seccomp"]
    works(relay, sink)


# A filter around the daemon that answers as a kernel without Landlock does.
WITHOUT_LANDLOCK = """
import ctypes, os, sys
seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p
context = ctypes.c_void_p(seccomp.seccomp_init(0x7fff0000))
seccomp.seccomp_rule_add(context, 0x00050000 | 38, 444, 0)
assert seccomp.seccomp_load(context) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def old_kernel():
    return {"wrapper": [sys.executable, "-c", WITHOUT_LANDLOCK]}


def test_auto_goes_on_without(start, sink, old_kernel):
    """On an older kernel the other walls stand, and the log says which one does not."""
    relay = start({"sandbox": "auto"}, **old_kernel)
    event = relay.wait_for_event("sandbox")
    assert not event["landlock"] and "Landlock: not in this kernel" in event["missing"] and event["level"] == "warning"
    assert event["seccomp"] and event["no_capabilities"] and event["no_core"]
    works(relay, sink)


def test_required_does_not_start_without(start, old_kernel):
    """Whoever requires the sandbox must not run without it unawares."""
    relay = start({"sandbox": "required"}, start=False, **old_kernel)
    relay.spawn()
    assert relay.wait() == 1
    event = relay.wait_for_event("start-failed")
    assert "Landlock: not in this kernel" in event["error"]


# ---- reload and the file system ----

@pytest.fixture
def listed(start, place):
    """A relay that reads a list from a directory of its own, beside nothing else."""
    directory = place.directory / "lists"
    directory.mkdir()
    (directory / "office.txt").write_text("127.0.0.1\n")
    return start({"lists": {"office": {"file": str(directory / "office.txt")}},
                  "servers": {"main": {"relay": {"only": ["list:office"]}}}}), directory


def relays_for(relay, source):
    with SmtpClient(relay.address(), source=source) as client:
        client.hello()
        client.expect_code("MAIL FROM:<alice@contoso.test>", "250 ")
        return client.ask("RCPT TO:<v@example.net>").startswith("250 ")


def test_files_can_be_replaced(listed):
    """Editors and package managers write a new file and rename it: what was granted is the directory."""
    relay, directory = listed
    (directory / "new").write_text("127.0.0.2\n")
    (directory / "new").rename(directory / "office.txt")
    (directory / "other.txt").write_text("127.0.0.3\n")
    relay.settings["lists"]["office"]["file"] = str(directory / "other.txt")
    assert relay.reload()["event"] == "reloaded"
    assert relays_for(relay, "127.0.0.2") and not relays_for(relay, "127.0.0.1")
    relay.write_config()
    assert relay.reload()["event"] == "reloaded"
    assert relays_for(relay, "127.0.0.3") and not relays_for(relay, "127.0.0.2")


def test_reload_out_of_reach(listed, place):
    """A file elsewhere can't be read any more: the reload has to fail, say why, and change nothing."""
    relay, directory = listed
    elsewhere = place.directory / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "office.txt").write_text("127.0.0.2\n")
    relay.settings["lists"]["office"]["file"] = str(elsewhere / "office.txt")
    relay.write_config()
    if not HAS_LANDLOCK:  # nothing is out of reach
        assert relay.reload()["event"] == "reloaded"
        return
    since = relay.log.position()
    assert relay.reload()["event"] == "reload-failed"
    refused = relay.log.wait_for("sandbox-refused", since=since)
    assert refused["file"] == str(elsewhere / "office.txt") and "restart" in refused["reason"]
    assert relays_for(relay, "127.0.0.1") and not relays_for(relay, "127.0.0.2")


def test_directory_out_of_reach(start, place):
    """What is opened later than the configuration's files is looked at before anything changes."""
    for name in ("one", "other"):
        (place.directory / name).mkdir()
        (place.directory / name / "users").write_text("")
    relay = start({"directory": {"backend": "file", "file": str(place.directory / "one" / "users")}})
    relay.settings["directory"]["file"] = str(place.directory / "other" / "users")
    relay.write_config()
    event = relay.reload()
    assert event["event"] == ("reload-failed" if HAS_LANDLOCK else "reloaded"), event
    assert not HAS_LANDLOCK or "sandbox" in event["reason"], event


def wait_for_text(path, text):
    wait_until(lambda: path.exists() and text in path.read_text(), f"{text} in {path}")


def test_log_file_is_reopened(place, start):
    """logrotate moves the file away and sends SIGHUP."""
    logs = place.directory / "logs"
    logs.mkdir()
    path = logs / "postern.log"
    relay = start({"log": {"to": str(path)}}, start=False)
    relay.spawn()
    wait_for_text(path, '"ready"')
    path.rename(logs / "postern.log.1")
    relay.signal(signal.SIGHUP)
    wait_for_text(path, '"reloaded"')


# ---- secrets ----

def test_no_secret_is_shown(place, start):
    """Everybody may read a process's arguments; logs go to more people than the configuration."""
    password = place.directory / "password"
    password.write_text(SECRET + "\n")
    relay = start({"directory": {"backend": "ldap", "ldap": {
        "url": "ldap://127.0.0.1:1", "base": "dc=contoso,dc=test", "bind-dn": "cn=postern",
        "bind-password-file": str(password)}}})
    assert SECRET.encode() not in pathlib.Path(f"/proc/{relay.pid}/cmdline").read_bytes()
    relay.write_config(to_yaml(relay.settings) + "no-such-key: 1\n")
    assert relay.reload()["event"] == "reload-failed"
    with SmtpClient(relay.address()) as client:
        client.hello()
        assert SECRET not in client.ask("MAIL FROM:<alice@contoso.test>") + client.ask("RCPT TO:<v@example.net>")
    assert not any(SECRET in line for line in relay.log.lines)


def test_no_core_file(place, start):
    """A crash leaves no memory on the disk."""
    relay = start()
    relay.signal(signal.SIGABRT)
    assert relay.wait() != 0
    assert not list(place.directory.rglob("core*"))
    relay.process = None  # it has ended, as it should
