# SPDX-License-Identifier: Apache-2.0
"""The control socket: who may use it, what it makes of bad clients, and the commands about the daemon as a whole."""
import json
import os
import pwd
import socket
import stat
import subprocess
import sys
import textwrap
import threading

import pytest

from harness.answers import LOCAL, REMOTE, SENDER, granting, refuse_at
from harness.client import SmtpClient, deliver, letter, token
from harness.control import ControlClient, Tool, done, queued, tool, wait_for_queue
from harness.limits import wait_until
from harness.postern import StartFailed, program

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="takes on other users")


def defer_all(place):
    return place.sink(answer=refuse_at("rcpt", "450 4.2.1 later"))


# ---- the protocol ----

def test_greeting_says_who_and_which_version(place):
    with ControlClient(place.postern()) as client:
        assert client.greeting == {"name": "postern", "version": client.greeting["version"], "protocol": 1, "hostname": "mail.contoso.test"}
        assert client.ask("ping") == ([], {"id": 1, "done": {}})


def test_requests_are_answered_in_order(place):
    with ControlClient(place.postern()) as client:
        client.send("".join(json.dumps({"id": number, "command": "ping"}) + "\n" for number in (7, 3, 5)))
        assert [client.read()["id"] for _ in range(3)] == [7, 3, 5]


@pytest.mark.parametrize("line", [b"nonsense\n", b"\n", b"[]\n", b'{"id":1}\n', b'{"id":"x","command":"ping"}\n', b"\xff\xfe\n", b"\0" * 100 + b"\n",
                                  b'{"id":1,"command":"ping","a":' + b"[" * 5000 + b"\n", b"x" * 70000, b"x" * 70000 + b"\n"],
                         ids=lambda line: repr(line[:20]))
def test_malformed_input_ends_that_client_alone(place, line):
    relay = place.postern()
    with ControlClient(relay) as bystander, ControlClient(relay) as client:
        try:
            client.send(line)
        except BrokenPipeError:
            pass
        answer = client.read()
        assert answer["id"] is None and answer["error"]["code"] == "bad-request"
        assert client.read() is None
        assert bystander.ask("ping")[1]["done"] == {}


def test_what_is_not_understood_is_not_passed_over(place):
    """A misspelt condition would make a deletion reach everything."""
    with ControlClient(place.postern()) as client:
        for command, more, code in [("no.such", {}, "unknown-command"), ("status", {"x": 1}, "bad-argument"),
                                    ("queue.list", {"filter": {"domian": "x.test"}}, "bad-argument"),
                                    ("queue.list", {"limit": "many"}, "bad-argument"), ("queue.list", {"after": 7}, "bad-argument"),
                                    ("queue.delete", {}, "bad-argument"), ("queue.delete", {"filter": {}}, "bad-argument"),
                                    ("queue.delete", {"message": "1", "all": True}, "bad-argument"),
                                    ("queue.delete", {"message": "xyz"}, "bad-argument"), ("queue.delete", {"all": True, "text": "x"}, "bad-argument"),
                                    ("queue.show", {"message": "1A"}, "not-found"), ("queue.hold", {"message": "1A"}, "not-found"),
                                    ("track", {"events": ["exploded"]}, "bad-argument"), ("why", {"message": "1A"}, "not-found")]:
            items, last = client.ask(command, **more)
            assert items == [] and last["error"]["code"] == code and last["error"]["text"], (command, more, last)


def test_clients_are_bounded(place):
    relay = place.postern()
    clients = [ControlClient(relay) for _ in range(64)]
    with ControlClient(relay, greeted=False) as late:
        assert late.read()["error"]["code"] == "busy"
        assert late.read() is None
    for client in clients:
        client.socket.close()
    wait_until(lambda: tool(relay, "status").code == 0, "room again")


def test_a_slow_reader_holds_up_nobody(place):
    """It asks for far more than the socket takes, and reads nothing: others are served, mail goes on, and what it gets in the end is whole."""
    relay = place.postern(granting(defer_all(place), retry=["1h"]))
    recipients = [f"{'x' * 50}{number}@example.net" for number in range(500)]
    with SmtpClient(relay.address()) as client:
        client.hello()
        for _ in range(8):
            client.deliver(SENDER, recipients, letter(token()))
    wait_for_queue(relay, 8)
    with ControlClient(relay) as slow:
        for number in range(1, 6):
            slow.send(json.dumps({"id": number, "command": "queue.list", "full": True, "filter": {"domain": "example.net"}}) + "\n")
        for _ in range(3):
            assert len(queued(relay, "--domain", "example.net")) == 8
            deliver(relay.address(), SENDER, LOCAL, letter(token()))
        relay.maildir(LOCAL).wait_for_count(3)
        for number in range(1, 6):
            lines = [slow.read() for _ in range(9)]
            assert all(line["id"] == number for line in lines)
            assert all(len(line["item"]["recipients"]) == 500 for line in lines[:8]) and lines[8]["done"] == {"count": 8}


def test_a_client_that_goes_away_in_the_middle(place):
    relay = place.postern(granting(defer_all(place), retry=["1h"]))
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.deliver(SENDER, [f"{'x' * 50}{number}@example.net" for number in range(900)], letter(token()))
    wait_for_queue(relay, 1)
    for _ in range(5):
        with ControlClient(relay) as client:
            client.send(''.join(json.dumps({"id": number, "command": "queue.list", "full": True}) + "\n" for number in range(50)))
            client.socket.recv(1000)
    assert len(queued(relay)) == 1


# ---- who may ----

AS_OTHER = textwrap.dedent("""
    import json, os, socket, sys
    groups, gid, uid = json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    os.setgroups(groups); os.setresgid(gid, gid, gid); os.setresuid(uid, uid, uid)
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(sys.argv[1])
    except PermissionError:
        print("refused by the kernel"); sys.exit()
    client.settimeout(30)
    print(client.makefile().readline().strip())
""")


def as_other(relay, uid, gid, groups=()):
    path = str(relay.run_dir / "control.sock")
    return subprocess.run([sys.executable, "-c", AS_OTHER, path, json.dumps(list(groups)), str(gid), str(uid)], capture_output=True, text=True,
                          timeout=60, check=True).stdout.strip()


def open_way(place, relay):
    """Other users get as far as run-dir: the test's directory is private."""
    for directory in (place.directory, relay.directory):
        os.chmod(directory, 0o755)


@NEEDS_ROOT
def test_strangers_are_kept_out(place):
    relay = place.postern()
    nobody = pwd.getpwnam("nobody")
    open_way(place, relay)
    path = relay.run_dir / "control.sock"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert as_other(relay, nobody.pw_uid, nobody.pw_gid) == "refused by the kernel"
    # Whatever the modes say, the daemon looks for itself.
    os.chmod(relay.run_dir, 0o755)
    os.chmod(path, 0o666)
    answer = json.loads(as_other(relay, nobody.pw_uid, nobody.pw_gid))
    assert answer["id"] is None and answer["error"]["code"] == "not-permitted"
    assert tool(relay, "status").code == 0
    run = tool(relay, "status", user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])
    assert run.code == 3 and run.err


@NEEDS_ROOT
def test_members_of_the_group_may(place):
    nobody = pwd.getpwnam("nobody")
    relay = place.postern({"control": {"socket-group": "games"}})
    group = os.stat(relay.run_dir / "control.sock").st_gid
    open_way(place, relay)
    assert stat.S_IMODE(os.stat(relay.run_dir / "control.sock").st_mode) == 0o660
    assert as_other(relay, nobody.pw_uid, nobody.pw_gid) == "refused by the kernel"
    for gid, groups in ((group, []), (nobody.pw_gid, [group])):
        assert json.loads(as_other(relay, nobody.pw_uid, gid, groups))["name"] == "postern"


def test_a_group_that_does_not_exist(place):
    with pytest.raises(StartFailed) as failure:
        place.postern({"control": {"socket-group": "nosuchgroup"}})
    assert "control.socket-group nosuchgroup does not exist" in str(failure.value)


# ---- life of the socket ----

def test_no_daemon_is_said_clearly(place):
    relay = place.postern(start=False)
    for command in (["status"], ["reload"], ["drain"], ["queue", "list"], ["queue", "retry", "--all"]):
        run = tool(relay, *command)
        assert run.code == 3 and "no" in run.err.lower() and "control.sock" in run.err, run.err
        assert run.out == ""
    relay.start()
    assert tool(relay, "status").code == 0
    assert relay.stop() == 0
    assert not (relay.run_dir / "control.sock").exists()
    assert tool(relay, "status").code == 3


def test_what_a_killed_daemon_left_is_in_nobodys_way(place):
    relay = place.postern()
    relay.kill()
    assert (relay.run_dir / "control.sock").exists()
    assert tool(relay, "status").code == 3
    relay.start()
    assert tool(relay, "status").code == 0


def test_a_second_daemon_does_not_take_the_socket(place):
    relay = place.postern()
    with pytest.raises(StartFailed) as failure:
        place.postern({"run-dir": str(relay.run_dir)}, name="q")
    assert "is another posternd's" in str(failure.value)
    assert done(relay, "status", "--json").json["pid"] == relay.pid


def test_a_long_run_dir(place):
    """A socket's path has 107 octets; a directory's has not."""
    long_dir = place.directory / ("d" * 120) / "run"
    assert tool(place.postern({"run-dir": str(long_dir)}), "status").code == 0


def test_stopping_ends_clients(place):
    relay = place.postern()
    with ControlClient(relay) as client:
        assert relay.stop() == 0
        answer = client.read()
        assert answer is None or answer["error"]["code"] == "stopping"


# ---- status ----

def test_status(place):
    sink = defer_all(place)
    relay = place.postern(granting(sink, retry=["1h"]))
    deliver(relay.address(), SENDER, [REMOTE, LOCAL], letter(token()))
    wait_until(lambda: done(relay, "status", "--json").json["delivery"]["deferred"] == 1, "one deferred")
    status = done(relay, "status", "--json").json
    assert status["pid"] == relay.pid and status["hostname"] == "mail.contoso.test" and not status["draining"]
    assert status["listening"] == "%s:%d" % relay.address() and status["last_reload"] is None
    assert status["sessions"] == {"now": 0, "accepted": 1, "turned_away": 0}
    assert status["queue"]["messages"] == 1 and status["queue"]["recipients_waiting"] == 1
    assert status["delivery"]["delivered"] == 1 and status["spool"]["live_messages"] == 1 and not status["spool"]["full"]
    assert status["tracking"]["lost"] == 0 and status["uptime_s"] >= 0
    text = done(relay, "status").out
    assert f"pid {relay.pid}" in text and "1 messages" in text and "1 deferred" in text


def test_status_names_destinations_that_are_down(place):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % closed.getsockname()[1]
        relay = place.postern({"servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}}}, "delivery": {"retry": ["1h"]},
                               "connectors": {"out": {"address-spaces": ["*"], "smart-hosts": [address]}}})
        deliver(relay.address(), SENDER, REMOTE, letter(token()))
        down = wait_until(lambda: done(relay, "status", "--json").json["destinations_down"], "a destination that is down")
        assert len(down) == 1 and "refused" in down[0]["reason"].lower() and down[0]["down_until"]
        assert "Destinations that are down" in done(relay, "status").out
        with ControlClient(relay) as client:
            items, last = client.ask("queue.destinations")
            assert [item["destination"] for item in items if item["down_until"]] == [down[0]["destination"]] and last["done"] == {}


# ---- reload ----

def test_reload_says_what_came_of_it(place):
    relay = place.postern()
    good = relay.config_path.read_text()
    run = done(relay, "reload")
    assert run.out == "reloaded\n"
    assert done(relay, "status", "--json").json["last_reload"]["done"] is True
    relay.write_config(good.replace("contoso.test:", "contoso.test:\n    colour: blue", 1))
    run = tool(relay, "reload")
    assert run.code == 1 and f"{relay.config_path}:" in run.err and "colour" in run.err and "the running one is kept" in run.err
    assert tool(relay, "reload", "--json").json["done"] is False
    last = done(relay, "status", "--json").json["last_reload"]
    assert last["done"] is False and "errors" in last["reason"]
    relay.write_config("domains: [")  # no YAML at all
    run = tool(relay, "reload")
    assert run.code == 3 and f"{relay.config_path}:" in run.err
    relay.write_config(good)
    assert done(relay, "reload", "--json").json["done"] is True


def test_many_reloads_at_once(place):
    relay = place.postern()
    results = []
    threads = [threading.Thread(target=lambda: results.append(tool(relay, "reload").code)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [0] * 10


# ---- drain ----

def test_drain_takes_nothing_new_and_finishes(place):
    answers = ["450 4.2.1 later"]
    sink = place.sink(answer=lambda stage, text, session: answers[0] if stage == "rcpt" and answers else None)
    relay = place.postern(granting(sink, retry=["1h"]))
    word = token()
    deliver(relay.address(), SENDER, REMOTE, letter(word))
    wait_for_queue(relay, 1, "--state", "waiting")
    with SmtpClient(relay.address()) as idle:
        run = done(relay, "drain", "--json").json
        assert run["drained"] is False and run["messages"] == 1
        assert idle.reply().startswith("421 4.3.2")
    with pytest.raises(ConnectionRefusedError):
        SmtpClient(relay.address())
    assert done(relay, "status", "--json").json["draining"] is True
    run = tool(relay, "reload")
    assert run.code == 1 and "draining" in run.err
    waiter = subprocess.Popen([program("postern"), "-c", str(relay.config_path), "drain", "--wait"], stdout=subprocess.PIPE, text=True)
    answers.clear()
    done(relay, "queue", "retry", "--all")
    assert waiter.communicate(timeout=60)[0] == "drained: nothing is left\n" and waiter.returncode == 0
    assert sink.find(word)
    assert relay.is_running()


def test_drain_leaves_what_is_held(place):
    relay = place.postern(granting(defer_all(place), retry=["1h"]))
    deliver(relay.address(), SENDER, REMOTE, letter(token()))
    wait_for_queue(relay, 1, "--state", "waiting")
    done(relay, "queue", "hold", "--all")
    assert done(relay, "drain", "--wait").out == "drained: nothing is left, 1 on hold\n"


# ---- usage ----

@pytest.mark.parametrize("arguments", [["status", "x"], ["status", "--domain", "x"], ["queue"], ["queue", "frobnicate"], ["queue", "show"],
                                       ["queue", "list", "--all"], ["queue", "delete"], ["queue", "delete", "1", "--all"],
                                       ["queue", "list", "--state", "gone"], ["queue", "list", "--older-than", "soon"],
                                       ["queue", "list", "--limit", "x"], ["queue", "show", "xyz"], ["why"], ["why", "xyz"],
                                       ["track", "--since", "yesterday"], ["track", "--event", "exploded"], ["track", "--id", "xyz"]],
                         ids=" ".join)
def test_usage(shared_place, arguments):
    relay = getattr(shared_place, "relay", None)
    if relay is None:
        relay = shared_place.relay = shared_place.postern()
    run = tool(relay, *arguments)
    assert run.code == 2 and run.out == "" and run.err.startswith("postern: "), (run.code, run.out, run.err)


def test_help(place):
    run = Tool("/nonexistent", "--help")
    assert run.code == 0 and "queue list" in run.out and "track" in run.out


# ---- ETRN ----

def test_etrn(place):
    answers = ["450 4.2.1 later"]
    sink = place.sink(answer=lambda stage, text, session: answers[0] if stage == "rcpt" and answers else None)
    relay = place.postern({**granting(sink, retry=["1h"]), "servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}, "etrn": ["127.0.0.2"]}}})
    words = {name: token() for name in ("example.net", "sub.example.net", "example.org")}
    for name, word in words.items():
        deliver(relay.address(), SENDER, f"v@{name}", letter(word))
    wait_for_queue(relay, 3, "--state", "waiting")
    with SmtpClient(relay.address(), source="127.0.0.3") as stranger:
        assert "ETRN" not in stranger.hello()
        stranger.expect("ETRN example.net", "500 5.3.3 Unrecognized command")
    answers.clear()
    with SmtpClient(relay.address(), source="127.0.0.2") as client:
        client.expect("ETRN example.net", "503 5.5.1 Send hello first")
        assert "\n250 ETRN" in client.hello()
        client.expect_code("ETRN", "501 5.5.4")
        client.expect_code("ETRN a..b", "501 5.5.4")
        client.expect_code("ETRN #fast", "459 4.7.0")
        client.expect("ETRN nothing.test", "251 2.0.0 OK, no messages waiting for node nothing.test")
        client.expect("ETRN Example.NET", "253 2.0.0 OK, 1 pending messages for node example.net started")
        sink.wait_until(lambda: sink.find(words["example.net"]), "the first")
        assert not sink.find(words["sub.example.net"])
        client.expect("ETRN @example.net", "253 2.0.0 OK, 1 pending messages for node example.net started")
        sink.wait_until(lambda: sink.find(words["sub.example.net"]), "what is below it")
        assert not sink.find(words["example.org"])
        client.envelope(SENDER, LOCAL)
        client.expect("ETRN example.org", "503 5.5.1 Message already begun")


def test_etrn_wants_addresses(place):
    with pytest.raises(StartFailed) as failure:
        place.postern({"servers": {"main": {"etrn": ["domain:x.test"]}}})
    assert "servers.main.etrn" in str(failure.value)
