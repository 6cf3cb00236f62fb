# SPDX-License-Identifier: Apache-2.0
"""The daemon and its directory, embedded or a file, while people change it: nobody restarts a relay because somebody was hired, or has left."""
import os
import smtplib
import sqlite3
import subprocess
import threading

import pytest

from harness.client import SmtpClient, deliver, letter, token
from harness.limits import WAIT_S, wait_until
from harness.map import DirectoryMap
from harness.postern import program
from harness.settings import merge

OUTSIDE = "outside@example.org"
PASSWORD = "correct horse battery"
OTHER_PASSWORD = "another correct horse"
UNAVAILABLE = "451 4.3.0 Directory unavailable, try again later"

# What is known is kept for minutes, by default: each test is also one of whether a change is seen all the same.
SETTINGS = {
    "domains": {"contoso.test": {"type": "local", "default": True, "recipients": "directory"}},
    "servers": {"main": {"listen": ["127.0.0.1:0"], "recipients": {"lookup": "at-rcpt"},
                         "auth": {"mechanisms": ["PLAIN"], "require-tls": False}}},
    # Whose passwords are tried here as often as it takes.
    "auth-brakes": {"failures-per-client": 0, "failures-per-network": 0, "failures-per-user": 0},
}


def postern(relay, *arguments, password=None):
    result = subprocess.run([program("postern"), "-c", relay.config_path, *arguments], capture_output=True, text=True, timeout=WAIT_S,
                            check=False, input="" if password is None else password + "\n")
    assert result.returncode == 0, result
    return result.stdout


def ask(relay, recipient):
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:<{OUTSIDE}>", "250 ")
        return client.ask(f"RCPT TO:<{recipient}>")


def wait_for_answer(relay, recipient, start):
    wait_until(lambda: ask(relay, recipient).startswith(start), f"{recipient} is answered {start}")


def login(relay, user, password):
    """The code that the server answers AUTH PLAIN with."""
    host, port = relay.address()
    with smtplib.SMTP(host, port, timeout=WAIT_S) as client:
        try:
            return client.login(user, password, initial_response_ok=True)[0]
        except smtplib.SMTPAuthenticationError as refusal:
            return refusal.smtp_code


def database(relay):
    return relay.data_dir / "directory.db"


# ---- embedded ----

def test_recipients_come_and_go_while_it_runs(place):
    """Nobody is known until somebody is made, and the database need not be there when the daemon starts."""
    relay = place.postern(SETTINGS)
    assert ask(relay, "alice@contoso.test") == "550 5.1.1 alice@contoso.test... User unknown"
    assert not database(relay).exists()
    postern(relay, "user", "add", "--no-password", "alice")
    postern(relay, "recipient", "add", "sales-*@contoso.test")
    wait_for_answer(relay, "alice@contoso.test", "250 ")
    wait_for_answer(relay, "SALES-eu@contoso.test", "250 ")
    word = token()
    deliver(relay.address(), OUTSIDE, "Alice@contoso.test", letter(word))
    relay.maildir("alice@contoso.test").wait_for(word)
    postern(relay, "user", "delete", "alice")
    wait_for_answer(relay, "alice@contoso.test", "550 5.1.1 ")


def test_passwords_change_while_it_runs(place):
    relay = place.postern(SETTINGS, start=False)
    postern(relay, "user", "add", "alice", password=PASSWORD)
    relay.start()
    assert login(relay, "alice", PASSWORD) == 235
    assert login(relay, "Alice@Contoso.test", PASSWORD) == 235
    assert login(relay, "alice", PASSWORD + " ") == 535
    assert login(relay, "nobody", PASSWORD) == 535
    postern(relay, "user", "passwd", "alice", password=OTHER_PASSWORD)
    assert login(relay, "alice", PASSWORD) == 535
    assert login(relay, "alice", OTHER_PASSWORD) == 235
    postern(relay, "user", "disable", "alice")
    assert login(relay, "alice", OTHER_PASSWORD) == 535
    assert ask(relay, "alice@contoso.test").startswith("250 "), "who may not sign in still gets mail"
    postern(relay, "user", "enable", "alice")
    assert login(relay, "alice", OTHER_PASSWORD) == 235


def test_groups_count_from_the_next_login(place):
    """Who is no guest any more may relay, and who has become one may not."""
    relay = place.postern(merge(SETTINGS, {"servers": {"main": {"permissions": {"submit": {"deny": ["group:guests"]}}}}}), start=False)
    postern(relay, "user", "add", "alice", password=PASSWORD)
    relay.start()

    def may_submit():
        host, port = relay.address()
        with smtplib.SMTP(host, port, timeout=WAIT_S) as client:
            client.login("alice", PASSWORD)
            return client.mail("alice@contoso.test")[0] == 250

    assert may_submit()
    postern(relay, "user", "groups", "alice", "--add", "Guests")
    wait_until(lambda: not may_submit(), "the group counts")
    postern(relay, "user", "groups", "alice", "--remove", "guests")
    wait_until(may_submit, "the group counts no more")


def test_a_damaged_database_defers(place):
    """Mail waits for the administrator; it is not bounced, and no client forgets its password. The log says it once."""
    relay = place.postern(SETTINGS, start=False)
    postern(relay, "user", "add", "alice", password=PASSWORD)
    whole = database(relay).read_bytes()
    relay.start()
    assert ask(relay, "alice@contoso.test").startswith("250 ")
    broken = database(relay).with_suffix(".new")
    broken.write_bytes(b"garbage" * 4000)
    os.chmod(broken, 0o600)
    os.replace(broken, database(relay))
    for _ in range(3):
        assert ask(relay, "bob@contoso.test") == UNAVAILABLE
        assert login(relay, "alice", PASSWORD) == 454
    event = relay.wait_for_event("directory-unavailable")
    assert "not a database" in event["error"]
    assert len(relay.log.find("directory-unavailable")) == 1
    # Restored from a backup, under way.
    broken.write_bytes(whole)
    os.replace(broken, database(relay))
    wait_for_answer(relay, "bob@contoso.test", "550 5.1.1 ")
    assert login(relay, "alice", PASSWORD) == 235


def test_one_bad_entry_holds_up_nobody_else(place):
    """A list that another program has broken: mail to it waits for the administrator, and all others' mail goes on."""
    relay = place.postern(merge(SETTINGS, {"servers": {"main": {"recipients": {"lookup": "after-accept"}}}}), start=False)
    postern(relay, "user", "add", "--no-password", "alice")
    postern(relay, "recipient", "add", "--to", "alice@contoso.test", "broken@contoso.test")
    with sqlite3.connect(database(relay)) as connection:
        connection.execute("UPDATE targets SET address = 'no address'")
    connection.close()
    relay.start()
    for _ in range(3):
        deliver(relay.address(), OUTSIDE, ["broken@contoso.test", "postmaster@contoso.test"], letter(token()))
        word = token()
        deliver(relay.address(), OUTSIDE, "alice@contoso.test", letter(word))
        relay.maildir("alice@contoso.test").wait_for(word)
    relay.wait_for_event(lambda event: event.get("event") == "deferred" and event["to"] == "broken@contoso.test")
    assert "no address" in relay.wait_for_event("directory-entry")["fault"]
    assert not relay.log.find("directory-unavailable")
    wait_until(lambda: len(relay.maildir("postmaster@contoso.test").messages()) == 3, "the other recipients have theirs")


def test_changes_under_load(place):
    """A hundred changes, and clients that ask all the while: no question fails, none is refused for somebody who is there."""
    relay = place.postern(merge(SETTINGS, {"servers": {"main": {"limits": {"unknown-recipients": 0, "recipients": 100000}}}}), start=False)
    postern(relay, "user", "add", "--no-password", "alice")
    relay.start()
    stop = threading.Event()
    wrong = []

    def ask_on():
        with SmtpClient(relay.address()) as client:
            client.hello()
            client.expect_code(f"MAIL FROM:<{OUTSIDE}>", "250 ")
            while not stop.is_set():
                for recipient, right in (("alice@contoso.test", "250 "), ("nobody@contoso.test", "550 ")):
                    answer = client.ask(f"RCPT TO:<{recipient}>")
                    if not answer.startswith(right):
                        wrong.append(answer)

    threads = [threading.Thread(target=ask_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(20):
        postern(relay, "recipient", "add", f"box{i}@contoso.test")
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    wait_for_answer(relay, "box19@contoso.test", "250 ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_fills_the_directory_of_a_daemon_that_is_not_root(place):
    """Both have the database open at once, and whoever comes first makes the files beside it."""
    relay = place.postern(merge(SETTINGS, {"user": "nobody"}), start=False)
    place.directory.chmod(0o755)
    relay.directory.chmod(0o755)
    relay.start()
    postern(relay, "user", "add", "alice", password=PASSWORD)
    wait_for_answer(relay, "alice@contoso.test", "250 ")
    postern(relay, "user", "add", "--no-password", "bob")
    wait_for_answer(relay, "bob@contoso.test", "250 ")
    assert login(relay, "alice", PASSWORD) == 235
    postern(relay, "explain", "--client", "192.0.2.1", "--from", OUTSIDE, "--to", "alice@contoso.test")
    postern(relay, "user", "delete", "bob")
    wait_for_answer(relay, "bob@contoso.test", "550 5.1.1 ")


# ---- file ----

def map_settings(directory_map):
    return merge(SETTINGS, {"directory": {"backend": "file", "file": str(directory_map.path)}})


def hash_line(relay, user, password, *words):
    return " ".join([*postern(relay, "user", "hash", user, password=password).split("\n"), *words]).strip()


def test_a_map_is_read_again(place):
    """Saved is done: there is no command to forget."""
    directory_map = DirectoryMap(place.directory / "map")
    relay = place.postern(map_settings(directory_map))
    assert ask(relay, "alice@contoso.test").startswith("550 5.1.1 ")
    assert login(relay, "alice", PASSWORD) == 535
    directory_map.write(hash_line(relay, "alice", PASSWORD), "alias sales@contoso.test alice@contoso.test")
    wait_for_answer(relay, "alice@contoso.test", "250 ")
    assert ask(relay, "sales@contoso.test").startswith("250 ")
    assert login(relay, "alice", PASSWORD) == 235
    assert login(relay, "alice", OTHER_PASSWORD) == 535


def test_a_slip_in_a_map_is_told_and_changes_nothing(place):
    """The place of the slip is in the log, and everybody else's mail goes on."""
    directory_map = DirectoryMap(place.directory / "map", "user alice -")
    relay = place.postern(map_settings(directory_map))
    assert ask(relay, "alice@contoso.test").startswith("250 ")
    directory_map.write("user alice -", "user bob - groups= staff")

    def refusals():
        assert ask(relay, "alice@contoso.test").startswith("250 ")
        assert ask(relay, "bob@contoso.test").startswith("550 5.1.1 ")
        return relay.log.find("directory-file-refused")

    event = wait_until(refusals, "the map is read")[0]
    assert f"{directory_map.path}:2:19: " in event["error"]
    directory_map.write("user alice -", "user bob - groups=staff")
    wait_for_answer(relay, "bob@contoso.test", "250 ")


def test_a_map_that_is_gone_defers(place):
    directory_map = DirectoryMap(place.directory / "map", "user alice -")
    relay = place.postern(map_settings(directory_map))
    assert ask(relay, "nobody@contoso.test").startswith("550 5.1.1 ")
    directory_map.take_away()
    wait_for_answer(relay, "nobody@contoso.test", UNAVAILABLE)
    directory_map.put_back()
    wait_for_answer(relay, "nobody@contoso.test", "550 5.1.1 ")
    assert ask(relay, "alice@contoso.test").startswith("250 ")


# ---- reload ----

def test_a_reload_to_another_directory(place):
    """From the map of a small site to the embedded directory, without a restart."""
    directory_map = DirectoryMap(place.directory / "map", "user alice -")
    relay = place.postern(map_settings(directory_map))
    assert ask(relay, "alice@contoso.test").startswith("250 ")
    relay.settings["directory"] = {"backend": "sqlite"}
    relay.write_config()
    postern(relay, "user", "add", "--no-password", "bob")
    assert relay.reload()["event"] == "reloaded"
    wait_for_answer(relay, "bob@contoso.test", "250 ")
    assert ask(relay, "alice@contoso.test").startswith("550 5.1.1 ")
