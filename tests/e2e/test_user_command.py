# SPDX-License-Identifier: Apache-2.0
"""`postern user` and `postern recipient`: how people fill the embedded directory, and scripts too."""
import json
import os
import pathlib
import pty
import pwd
import re
import select
import subprocess
import time

import pytest

from harness.limits import WAIT_S
from harness.postern import program

CONFIG = """\
hostname: mail.contoso.test
data-dir: {data}
user: {user}
domains:
  contoso.test: {{ type: local, default: true }}
  contoso.example: {{ type: alias, of: contoso.test }}
  fabrikam.test: {{ type: local }}
  open.test: {{ type: local, recipients: any }}
  partner.test: {{ type: allowed, recipients: directory }}
servers:
  main: {{ listen: ["127.0.0.1:2525"], recipients: {{ lookup: at-rcpt }}, sender-match: envelope, auth: {{ mechanisms: [PLAIN], require-tls: false }},
           permissions: {{ relay: {{ deny: ["group:guests"] }} }} }}
"""
PASSWORD = "correct horse battery"
FINGERPRINT = "ab" * 32


class Directory:
    """A configuration of its own, and the commands on it."""

    def __init__(self, directory, user=None):
        self.path = directory / "postern.yaml"
        self.data = directory / "data"
        self.path.write_text(CONFIG.format(data=self.data, user=user or pwd.getpwuid(os.geteuid()).pw_name))

    def run(self, *arguments, password=None, code=0):
        result = subprocess.run([program("postern"), "-c", self.path, *arguments], capture_output=True, text=True,
                                timeout=WAIT_S, check=False, input="" if password is None else password + "\n")
        assert result.returncode == code, result
        return result

    def json(self, *arguments, **options):
        return json.loads(self.run(*arguments, "--json", **options).stdout)

    def users(self):
        return {user["name"]: user for user in self.json("user", "list")["users"]}

    def recipients(self):
        return {entry["address"]: entry for entry in self.json("recipient", "list")["recipients"]}


@pytest.fixture
def directory(tmp_path):
    return Directory(tmp_path)


# ---- users ----

def test_a_users_life(directory):
    """From nothing: no database has to be made, and none is made by looking."""
    assert directory.users() == {}
    assert not directory.data.exists()
    assert directory.run("user", "add", "Alice", "--group", "staff", "--group", "Domain Users", password=PASSWORD).stdout == "Alice: added\n"
    assert directory.users()["Alice"] == {"name": "Alice", "disabled": False, "password": True, "scram": True,
                                          "groups": ["Domain Users", "staff"], "addresses": [], "certificates": []}
    directory.run("user", "passwd", "alice@contoso.test", password=PASSWORD + "!")
    directory.run("user", "passwd", "ALICE", "--no-password")
    assert directory.users()["Alice"]["password"] is False
    directory.run("user", "disable", "alice")
    assert directory.users()["Alice"]["disabled"] is True
    directory.run("user", "enable", "alice")
    assert "Alice" in directory.run("user", "list").stdout
    directory.run("user", "delete", "alice@contoso.example")
    assert directory.users() == {}


def test_the_database_is_private(directory):
    """Hashes of passwords are in it."""
    directory.run("user", "add", "alice", password=PASSWORD)
    assert (directory.data / "directory.db").stat().st_mode & 0o777 == 0o600
    assert PASSWORD.encode() not in b"".join(path.read_bytes() for path in directory.data.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_the_database_to_the_daemons_user(tmp_path):
    """An administrator is root; the daemon is not, and has to read what he made. Nor is root to be led astray by a link in that user's directory."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent == pathlib.Path("/tmp"):
            break
        parent.chmod(0o755)
    directory = Directory(tmp_path, user="nobody")
    directory.run("user", "add", "alice", password=PASSWORD)
    owner = pwd.getpwnam("nobody").pw_uid
    assert {path.stat().st_uid for path in [directory.data, *directory.data.iterdir()]} == {owner}
    assert directory.users()["alice"]["password"] is True


def test_what_is_there_and_what_is_not(directory):
    """Exit 1: no; scripts that run twice tell it from a failure."""
    directory.run("user", "add", "alice", password=PASSWORD)
    assert directory.json("user", "add", "ALICE", password=PASSWORD, code=1) == {
        "done": False, "about": "ALICE", "error": 'there is a user "ALICE" already'}
    for verb in ("delete", "passwd", "disable", "enable", "groups"):
        result = directory.run("user", verb, "nobody", password=PASSWORD, code=1)
        assert 'there is no user "nobody"' in result.stderr
    assert directory.users().keys() == {"alice"}


@pytest.mark.parametrize("name", ["", "al ice", "a\tb", "@contoso.test", "alice@", "alice@elsewhere.test", "x" * 257])
def test_bad_names(directory, name):
    directory.run("user", "add", "--", name, password=PASSWORD, code=2)
    assert not directory.data.exists()


@pytest.mark.parametrize("name, kept", [("bob@fabrikam.test", "bob@fabrikam.test"), ("bob@contoso.example", "bob"), ("CONTOSO\\bob", "CONTOSO\\bob"),
                                        ("jürgen", "jürgen"), ("x" * 256, "x" * 256)])
def test_good_names(directory, name, kept):
    directory.run("user", "add", "--no-password", name)
    assert directory.users().keys() == {kept}


def test_passwords(directory):
    """Too short is refused, short is warned of, and the bound of crypt(3) is no trap."""
    assert "at least 8" in directory.run("user", "add", "a", password="1234567", code=3).stderr
    assert "at most 511" in directory.run("user", "add", "a", password="x" * 512, code=3).stderr
    assert "no password was read" in directory.run("user", "add", "a", code=3, password=None).stderr
    assert not directory.data.exists()
    assert "is weak" in directory.run("user", "add", "a", password="12345678").stderr
    assert directory.run("user", "add", "b", password="x" * 511).stderr == ""
    told = directory.run("user", "add", "c", "--password", PASSWORD, code=2).stderr
    assert PASSWORD not in told and ("unrecognized" in told or "takes no" in told)


class Terminal:
    """A program that believes to have a terminal for its input."""

    def __init__(self, *command):
        self.shown = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(command[0], [str(part) for part in command])

    def expect(self, text):
        deadline = time.monotonic() + WAIT_S
        while text not in self.shown:
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text} is not shown: {self.shown}"
            self.shown += os.read(self.fd, 4096)

    def type(self, text):
        os.write(self.fd, text)

    def end(self):
        try:
            while True:
                block = os.read(self.fd, 4096)
                if not block:
                    break
                self.shown += block
        except OSError:
            pass
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_a_terminal_is_asked_twice_and_shows_nothing(directory):
    command = program("postern"), "-c", directory.path, "user", "add", "alice"
    terminal = Terminal(*command)
    terminal.expect(b"New password for alice: ")
    terminal.type(PASSWORD.encode() + b"\n")
    terminal.expect(b"Once more for alice: ")
    terminal.type(b"another one entirely\n")
    assert terminal.end() == 3
    assert b"not the same" in terminal.shown and PASSWORD.encode() not in terminal.shown
    terminal = Terminal(*command)
    for prompt in (b"New password", b"Once more"):
        terminal.expect(prompt)
        terminal.type(PASSWORD.encode() + b"\n")
    assert terminal.end() == 0
    assert PASSWORD.encode() not in terminal.shown
    assert directory.users()["alice"]["password"] is True


def test_an_interrupted_prompt_gives_the_echo_back(directory):
    """Or the administrator's terminal stays mute."""
    script = f"trap : INT; '{program('postern')}' -c '{directory.path}' user add alice; echo code=$?; stty -a; read line"
    terminal = Terminal("/bin/bash", "-c", script)
    terminal.expect(b"New password for alice: ")
    terminal.type(b"\x03")
    terminal.expect(b"iexten")
    terminal.type(b"\n")
    terminal.end()
    assert re.search(rb"[ ;]echo ", terminal.shown), terminal.shown
    assert directory.users() == {}


# ---- groups, addresses, certificates ----

def test_groups_are_added_removed_and_shown(directory):
    directory.run("user", "add", "--no-password", "alice", "--group", "staff")
    assert directory.run("user", "groups", "alice", "--add", "printers", "--add", "STAFF").stdout == "printers\nstaff\n"
    assert directory.json("user", "groups", "alice", "--remove", "Staff") == {"name": "alice", "groups": ["printers"]}
    directory.run("user", "groups", "alice", "--remove", "nosuch", "--add", "printers")
    assert directory.run("user", "groups", "alice").stdout == "printers\n"
    directory.run("user", "groups", "alice", "--add", "", code=2)


def test_addresses_and_certificates(directory):
    directory.run("user", "add", "--no-password", "alice")
    directory.run("user", "add", "--no-password", "bob")
    assert directory.run("user", "addresses", "alice", "--add", "A.Smith@contoso.example").stdout == "a.smith@contoso.test\n"
    directory.run("user", "addresses", "alice", "--add", "not an address", code=2)
    colons = ":".join(["AB"] * 32)
    assert directory.run("user", "certificates", "alice", "--add", colons).stdout == FINGERPRINT + "\n"
    assert "another user's" in directory.run("user", "certificates", "bob", "--add", FINGERPRINT, code=1).stderr
    directory.run("user", "certificates", "alice", "--add", "abcd", code=2)
    assert directory.json("user", "certificates", "alice", "--remove", FINGERPRINT)["certificates"] == []
    directory.run("user", "certificates", "bob", "--add", FINGERPRINT)


def test_all_changes_of_a_command_or_none(directory):
    directory.run("user", "add", "--no-password", "alice")
    directory.run("user", "certificates", "alice", "--add", FINGERPRINT)
    directory.run("user", "add", "--no-password", "bob")
    directory.run("user", "certificates", "bob", "--add", "cd" * 32, "--add", FINGERPRINT, code=1)
    assert directory.users()["bob"]["certificates"] == []


# ---- recipients ----

def test_recipients_aliases_lists_patterns(directory):
    directory.run("recipient", "add", "info@contoso.test")
    directory.run("recipient", "add", "Sales@contoso.example", "--to", "alice@contoso.test,Bob@Example.org")
    directory.run("recipient", "add", "team@contoso.test", "--to", "alice@contoso.test", "--list-owner", "owner@contoso.test")
    directory.run("recipient", "add", "desk-*@fabrikam.test")
    directory.run("recipient", "add", "*@partner.test")
    assert directory.recipients() == {
        "info@contoso.test": {"address": "info@contoso.test", "to": [], "list_owner": None},
        "sales@contoso.test": {"address": "sales@contoso.test", "to": ["alice@contoso.test", "Bob@Example.org"], "list_owner": None},
        "team@contoso.test": {"address": "team@contoso.test", "to": ["alice@contoso.test"], "list_owner": "owner@contoso.test"},
        "desk-*@fabrikam.test": {"address": "desk-*@fabrikam.test", "to": [], "list_owner": None},
        "*@partner.test": {"address": "*@partner.test", "to": [], "list_owner": None},
    }
    assert "sales@contoso.test -> alice@contoso.test,Bob@Example.org\n" in directory.run("recipient", "list").stdout
    directory.run("recipient", "delete", "SALES@contoso.test")
    assert 'no recipient "sales@contoso.test"' in directory.run("recipient", "delete", "sales@contoso.test", code=1).stderr
    directory.run("recipient", "delete", "*@partner.test")
    assert directory.recipients().keys() == {"info@contoso.test", "team@contoso.test", "desk-*@fabrikam.test"}


def test_replacing_a_list_is_one_change(directory):
    directory.run("recipient", "add", "team@contoso.test", "--to", "a@contoso.test,b@contoso.test")
    assert "known already" in directory.run("recipient", "add", "team@contoso.test", "--to", "c@contoso.test", code=1).stderr
    directory.run("recipient", "add", "team@contoso.test", "--to", "c@contoso.test", "--replace")
    assert directory.recipients()["team@contoso.test"]["to"] == ["c@contoso.test"]


def test_an_alias_of_an_alias_is_refused(directory):
    """One level of indirection: nothing can go round."""
    directory.run("recipient", "add", "a@contoso.test", "--to", "b@contoso.test")
    for address, to in (("b@contoso.test", "c@contoso.test"), ("z@contoso.test", "a@contoso.test"), ("b@contoso.test", "a@contoso.test"),
                        ("*@contoso.test", "a@contoso.test")):
        assert "itself" in directory.run("recipient", "add", address, "--to", to, code=1).stderr
    assert directory.recipients().keys() == {"a@contoso.test"}


@pytest.mark.parametrize("arguments", [["a b@contoso.test"], ["a*b@contoso.test"], ["**@contoso.test"], ["x@elsewhere.test"], ["x@[192.0.2.1]"], [""],
                                       ["x@contoso.test", "--to", "nobody"], ["x@contoso.test", "--to", "a@b.test,"], ["x@contoso.test", "--list-owner", "o@b.test"],
                                       ["x@contoso.test", "--to", "a@b.test", "--list-owner", "o"], ["x@contoso.test", "--group", "g"]])
def test_bad_recipients(directory, arguments):
    directory.run("recipient", "add", *arguments, code=2)
    assert not directory.data.exists()


def test_a_recipient_that_nobody_asks_for_gets_a_warning(directory):
    assert "is not asked about" in directory.run("recipient", "add", "x@open.test").stderr
    assert directory.run("recipient", "add", "x@contoso.test").stderr == ""


# ---- other backends, explain ----

@pytest.mark.parametrize("settings, where", [("directory: { backend: file, file: /tmp/map }", "in the file /tmp/map"),
                                             ("directory: { backend: ldap, ldap: { url: 'ldaps://ldap.test', base: 'dc=test' } }",
                                              "in the LDAP directory ldaps://ldap.test")])
def test_other_backends_keep_their_own_users(directory, settings, where):
    directory.path.write_text(directory.path.read_text() + settings + "\n")
    for arguments in (["user", "add", "alice"], ["user", "list"], ["recipient", "add", "a@contoso.test"], ["recipient", "list"]):
        assert where in directory.run(*arguments, password=PASSWORD, code=3).stderr


def test_hash_prints_a_line_for_the_map(directory):
    line = directory.run("user", "hash", "alice", password=PASSWORD).stdout
    assert re.fullmatch(r"user alice \$y\$\S+\n  scram=SCRAM-SHA-256\$10000:\S+\n", line)
    assert directory.json("user", "hash", "alice", password=PASSWORD)["hash"].startswith("$y$")
    assert not directory.data.exists()


def explain(directory, code, **case):
    arguments = {"client": "192.0.2.7", "from": "alice@contoso.test", "to": "v@example.net", **case}
    result = directory.run("explain", "--json", *(f"--{key}={value}" for key, value in arguments.items()), code=code)
    return json.loads(result.stdout)


def test_explain_asks_the_directory(directory):
    """Without --group it is the directory that says in which groups a user is; with lookup at-rcpt, who exists."""
    directory.run("user", "add", "--no-password", "alice")
    assert explain(directory, 0, user="Alice")["verdict"] == "accept"
    directory.run("user", "groups", "alice", "--add", "guests")
    assert explain(directory, 1, user="alice")["rule"] == "servers.main.permissions.relay.deny[0]"
    assert explain(directory, 0, user="alice", group="staff")["verdict"] == "accept"
    assert explain(directory, 1, user="alice", **{"from": "bob@contoso.test"})["text"] == "Sender bob@contoso.test not permitted"
    assert explain(directory, 1, user="nosuch")["text"] == "Sender alice@contoso.test not permitted"
    assert explain(directory, 0, to="alice@contoso.example")["verdict"] == "accept"
    assert explain(directory, 1, to="nobody@contoso.example")["text"] == "nobody@contoso.example... User unknown"
    directory.run("recipient", "add", "*@contoso.test")
    assert explain(directory, 0, to="nobody@contoso.example")["verdict"] == "accept"


def test_explain_says_when_the_directory_does_not_answer(directory):
    directory.data.mkdir()
    (directory.data / "directory.db").write_text("this is no database" * 1000)
    assert explain(directory, 1, to="alice@contoso.test")["text"] == "Directory unavailable, try again later"
    assert explain(directory, 1, user="alice")["verdict"] == "defer"


def test_commands_at_once(directory):
    """Scripts run in parallel: none of them may lose its change to a locked database."""
    jobs = [subprocess.Popen([program("postern"), "-c", directory.path, "user", "add", "--no-password", f"user{i}"], stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE) for i in range(20)]
    assert [(job.communicate(timeout=WAIT_S)[1], job.returncode) for job in jobs] == [(b"", 0)] * 20
    assert len(directory.users()) == 20
