# SPDX-License-Identifier: Apache-2.0
"""`postern check` and `postern explain` as people and scripts meet them, and the daemon that refuses to be an open relay."""
import json
import os
import pty
import subprocess

import pytest

from harness.client import SmtpClient
from harness.limits import WAIT_S
from harness.postern import program
from harness.settings import connector, merge

CONFIG = """\
hostname: mail.contoso.test
domains:
  contoso.test: { type: local, default: true, recipients: [alice, postmaster] }
  fabrikam.test: { type: allowed }
lists:
  office: [10.1.0.0/16]
servers:
  internet:
    listen: ["192.0.2.25:25"]
    relay: { only: ["list:office", "domain:branch.test"] }
    permissions: { relay: { deny: ["user:bob"] } }
connectors:
  partners: { address-spaces: ["*.partner.test"], smart-hosts: ["192.0.2.9:25"], allow-relay: true }
  out: { address-spaces: ["*"], smart-hosts: ["192.0.2.9:25"] }
"""
OPEN = "    relay: { only: [0.0.0.0/0] }\n"


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "postern.yaml"
    file.write_text(CONFIG)
    return file


def postern(*arguments, **options):
    return subprocess.run([program("postern"), *map(str, arguments)], capture_output=True, text=True, timeout=WAIT_S, check=False,
                          **options)


def explain(path, *options, **case):
    arguments = {"server": "internet", "client": "192.0.2.7", "client-name-state": "none", "from": "alice@contoso.test",
                 "to": "v@example.net", **case}
    return postern("explain", "-c", path, *options, *(f"--{key}={value}" for key, value in arguments.items()))


# ---- check ----

def test_check_json(path):
    """The form that the interface fixes; scripts and dashboards read it."""
    result = postern("check", "-c", path, "--json")
    assert result.returncode == 0, result
    assert json.loads(result.stdout) == {
        "verdict": "RESTRICTED",
        "servers": {"internet": {
            "verdict": "RESTRICTED",
            "anonymous_relay": {"ipv4": "65536", "ipv4_public": "0", "ipv6": "0", "ipv6_public": "0", "domains": ["branch.test"]},
            "authenticated_relay": "everyone",
            "overrides": [{"connector": "partners", "address_spaces": ["*.partner.test"]}]}},
        "warnings": [{"code": "connector-overrides", "at": f"{path}:13",
                      "text": json.loads(result.stdout)["warnings"][0]["text"]}]}


def test_check_table(path):
    """The table is read before a change goes live: each way in must stand there, the surprising ones too."""
    result = postern("check", "-c", path)
    assert result.returncode == 0, result
    rows = {tuple(cell.strip() for cell in line.split("\u2192")) for line in result.stdout.splitlines() if "\u2192" in line}
    assert ("anyone on the Internet", "contoso.test, fabrikam.test") in rows
    assert ("10.1.0.0/16 (65,536 addresses)", "anywhere") in rows
    assert ("authenticated users except bob", "anywhere") in rows
    assert any(who == "hosts at or below branch.test" and where.startswith("anywhere") for who, where in rows), rows
    assert any("*.partner.test" in where and "OVERRIDES" in where for _, where in rows), rows
    assert f"{path}: ok, RESTRICTED" in result.stdout
    assert "\033" not in result.stdout, "colours belong on a terminal only"


def test_check_exit_codes(path, tmp_path):
    """A deployment script stops at an open relay (1) and at a broken file (3)."""
    path.write_text(CONFIG.replace('    relay: { only: ["list:office", "domain:branch.test"] }\n', OPEN))
    result = postern("check", "-c", path)
    assert result.returncode == 1 and "OPEN" in result.stdout and f"{path}:10" in result.stdout, result
    assert json.loads(postern("check", "-c", path, "--json").stdout)["verdict"] == "OPEN"
    path.write_text(CONFIG.replace("type: local", "type: lokal"))
    result = postern("check", "-c", path, "--json")
    assert result.returncode == 3, result
    told = json.loads(result.stdout)
    assert told["verdict"] is None and told["errors"][0]["at"] == f"{path}:3:25"
    assert postern("check", "-c", path, "--against", path).returncode == 3
    assert postern("check", "-c", path, "--client", "10.1.2.3").returncode == 2
    assert postern("explain", "-c", path, "--against", path).returncode == 2


def test_check_against(path, tmp_path):
    """Who gains, who loses: what a change does is seen before it is done."""
    new = tmp_path / "new.yaml"
    new.write_text(CONFIG.replace("office: [10.1.0.0/16]", "office: [10.1.0.0/17, 10.2.0.0/24, 10.2.1.0/24]")
                   .replace('"user:bob"', '"user:eve"').replace("domain:branch.test", "domain:depot.test")
                   .replace("*.partner.test", "*.other.test"))
    told = json.loads(postern("check", "-c", new, "--against", path, "--json").stdout)["against"]["internet"]
    assert told["gains"] == {"addresses": ["10.2.0.0/23"], "domains": ["depot.test"], "certificates": [], "users": ["user:bob"],
                             "overrides": ["partners: *.other.test"]}
    assert told["loses"] == {"addresses": ["10.1.128.0/17"], "domains": ["branch.test"], "certificates": [], "users": ["user:eve"],
                             "overrides": ["partners: *.partner.test"]}
    text = postern("check", "-c", new, "--against", path).stdout
    assert "gains 10.2.0.0/23 (512 addresses)" in text and "loses 10.1.128.0/17 (32,768 addresses)" in text
    assert "nobody gains and nobody loses" in postern("check", "-c", path, "--against", path).stdout


def test_check_is_fast(tmp_path):
    """10,000 networks and 10,000 domains, in less than a second; nobody runs a check that takes longer than the change."""
    path = tmp_path / "big.yaml"
    path.write_text("hostname: mail.contoso.test\nservers: { s: { listen: ['192.0.2.25:25'], relay: { only: ['list:nets'] } } }\n"
                    + "domains:\n  contoso.test: { type: local, default: true }\n"
                    + "".join(f"  d{i}.test: {{ type: allowed }}\n" for i in range(10000))
                    + "lists:\n  nets:\n" + "".join(f"    - 10.{i // 256}.{i % 256}.0/25\n" for i in range(10000)))
    result = postern("check", "-c", path, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["servers"]["s"]["anonymous_relay"]["ipv4"] == "1280000"
    before = os.times().children_user + os.times().children_system
    postern("check", "-c", path)
    scale = float(os.environ.get("POSTERN_TEST_TIME_SCALE", "1"))
    assert os.times().children_user + os.times().children_system - before < scale


# ---- explain ----

def test_explain_grant(path):
    """Somebody who has never seen the configuration must find the line that let the mail through, also behind a named list."""
    result = explain(path, client="10.1.2.3")
    assert result.returncode == 0, result
    assert "10.1.2.3 is in 10.1.0.0/16" in result.stdout
    assert f"decided by servers.internet.relay.only[0] ({path}:10)" in result.stdout
    assert f"by lists.office[0] ({path}:6)" in result.stdout
    assert "250 2.1.0 alice@contoso.test....Sender OK" in result.stdout and "250 2.1.5 v@example.net" in result.stdout


def test_explain_refusal(path):
    result = explain(path)
    assert result.returncode == 1, result
    assert "550 5.7.1 Unable to relay for v@example.net" in result.stdout
    assert "the list of who may relay does not name the client 192.0.2.7" in result.stdout
    assert f"servers.internet.relay.only ({path}:10)" in result.stdout


def test_explain_names_the_connector_that_overrides(path):
    """The classic surprise: the server says no, and the mail is relayed all the same."""
    result = explain(path, to="v@x.partner.test")
    assert result.returncode == 0, result
    assert "the connector partners is for this domain, and lets everyone relay to it" in result.stdout
    assert "OVERRIDES every relay restriction of the server internet" in result.stdout
    assert f"connectors.partners.allow-relay ({path}:13)" in result.stdout


def test_explain_json(path):
    """The fields of a --batch line, and the steps."""
    told = json.loads(explain(path, "--json", user="bob").stdout)
    steps = told.pop("steps")
    assert told == {"verdict": "reject", "stage": "rcpt", "class": "external", "code": 550, "enhanced": "5.7.1",
                    "text": "Unable to relay for v@example.net", "rule": "servers.internet.permissions.relay.deny[0]",
                    "at": f"{path}:11"}
    assert [step["text"] for step in steps if step["reply"]][-1] == "550 5.7.1 Unable to relay for v@example.net"
    assert {step["stage"] for step in steps} == {"connect", "mail", "rcpt"}
    assert all(set(step) >= {"stage", "text", "rule", "at"} for step in steps)


def test_explain_host_names(path):
    for options, code in (({"client-name": "mail.branch.test", "client-name-state": "verified"}, 250),
                          ({"client-name": "mail.branch.test", "client-name-state": "unverified"}, 550),
                          ({"client-name-state": "tempfail"}, 451), ({"client-name-state": "none"}, 550)):
        assert json.loads(explain(path, "--json", **options).stdout)["code"] == code, options


def test_explain_usage(path):
    """What cannot be meant is told as wrong usage (2), never answered."""
    for options in ({"server": "nowhere"}, {"client": "host"}, {"client": "10.1.2.3:25"}, {"client-name-state": "maybe"},
                    {"client-name-state": "verified"}, {"cert": "12"}):
        result = explain(path, **options)
        assert result.returncode == 2 and result.stderr, (options, result)
    assert postern("explain", "-c", path).returncode == 2
    assert explain(path, "--batch").returncode == 2
    assert explain(path.with_name("none.yaml")).returncode == 3


def test_explain_shows_no_terminal_commands(path):
    """What is asked may come from a log that a stranger wrote to."""
    result = explain(path, to="v\033]0;owned\a@example.net", user="\033[2J", group="\033[2J")
    assert "\033" not in result.stdout and "501 5.5.4 Invalid Address" in result.stdout


def on_a_terminal(arguments, environment):
    """What the program prints to a terminal."""
    master, slave = pty.openpty()
    with subprocess.Popen(arguments, stdout=slave, stdin=subprocess.DEVNULL, env={**os.environ, "TERM": "xterm", **environment}) as process:
        os.close(slave)
        output = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            output += piece
        process.wait(WAIT_S)
    os.close(master)
    return output


def test_colours(path):
    """On a terminal, unless NO_COLOR says otherwise."""
    command = [program("postern"), "explain", "-c", str(path), "--client", "10.1.2.3", "--client-name-state", "none", "--from", "a",
               "--to", "b"]
    environment = {"NO_COLOR": ""}
    assert b"\033[32m" in on_a_terminal(command, environment)
    assert b"\033" not in on_a_terminal(command, {"NO_COLOR": "1"})


# ---- the daemon ----

WIDE = {"servers": {"main": {"relay": {"only": ["0.0.0.0/0"]}}}}
REASON = {"servers": {"main": {"allow-open-relay": "a test on the loopback interface"}}}


def test_open_relay_does_not_start(place):
    """The mistake that gets a server into every block list within a day must not survive its start."""
    relay = place.postern(WIDE, start=False)
    result = subprocess.run([program("posternd"), "-c", str(relay.config_path)], capture_output=True, text=True, timeout=WAIT_S,
                            check=False)
    assert result.returncode == 78, result
    assert "open relay" in result.stderr and f"{relay.config_path}:" in result.stderr and "allow-open-relay" in result.stderr
    relay = place.postern(merge(WIDE, REASON), name="allowed")
    event = relay.wait_for_event("relay-verdict")
    assert (event["server"], event["verdict"], event["ipv4"]) == ("main", "OPEN", "4294967296")


def test_open_relay_is_not_reloaded(place):
    """A reload that opens the relay is refused, and what was running goes on."""
    relay = place.postern({"connectors": {"out": connector("127.0.0.1:1")}})
    assert relay.wait_for_event("relay-verdict")["verdict"] == "CLOSED"
    closed = relay.settings

    def code_now():
        with SmtpClient(relay.address()) as client:
            client.hello()
            client.expect_code("MAIL FROM:<alice@contoso.test>", "250 ")
            return client.ask("RCPT TO:<v@example.net>")[:3]

    relay.settings = merge(closed, WIDE)
    relay.write_config()
    assert relay.reload()["event"] == "reload-failed"
    assert code_now() == "550"
    relay.settings = merge(merge(closed, WIDE), REASON)
    relay.write_config()
    since = relay.log.position()
    assert relay.reload()["event"] == "reloaded"
    assert relay.wait_for_event("relay-verdict", since=since)["verdict"] == "OPEN"
    assert code_now() == "250"


def test_connector_override_comes_and_goes(place):
    """The server's restriction says no, the connector yes: mail is relayed, check warns; switched off, refused after a reload."""
    sink = place.sink()
    override = {"connectors": {"out": connector(sink.address),
                               "partners": {"address-spaces": ["*.partner.test"], "smart-hosts": [sink.address], "allow-relay": True}}}
    relay = place.postern(override)

    def ask():
        with SmtpClient(relay.address()) as client:
            client.hello()
            client.expect_code("MAIL FROM:<s@example.org>", "250 ")
            return client.ask("RCPT TO:<v@x.partner.test>")

    assert ask() == "250 2.1.5 v@x.partner.test"
    told = json.loads(postern("check", "-c", relay.config_path, "--json").stdout)
    assert "connector-overrides" in [warning["code"] for warning in told["warnings"]]
    relay.settings = merge(relay.settings, {"connectors": {"partners": {"allow-relay": False}}})
    relay.write_config()
    assert relay.reload()["event"] == "reloaded"
    assert ask() == "550 5.7.1 Unable to relay for v@x.partner.test"
