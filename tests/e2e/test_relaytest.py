# SPDX-License-Identifier: Apache-2.0
"""relaytest against servers whose holes are known by construction: every relay is seen, and nothing else is called one."""
import contextlib
import os
import pty
import socket
import subprocess
import threading
import time
import xml.etree.ElementTree as xml

import pytest

from harness.relaytest import catch_address, command, run, run_json, usual
from harness.settings import connector
from harness.stand_in import HOLES, L, REFUSE, SWALLOW, X, StandIn


@pytest.fixture
def catch():
    return catch_address()


def take_local(sender, recipient):
    """Takes whatever has no external domain of its own: as a server that looks nobody up."""
    bare = recipient.strip("<>")
    is_invalid = '"' not in bare and bare.count("@") > 1
    return REFUSE if is_invalid or bare.endswith(("@" + X, "@")) else SWALLOW


# ---- holes ----

@pytest.mark.parametrize("hole", HOLES)
def test_each_historic_hole_is_found_and_no_other_is_claimed(catch, hole):
    """A missed hole is a server that spammers find; a false one sends its administrator looking for nothing."""
    decide, expected = HOLES[hole]
    with StandIn(catch, decide) as server:
        found = run_json(server.address, *usual(catch))
    relayed = found.with_verdict("relayed")
    assert relayed == expected
    assert found.with_verdict("refused") == set(found.verdicts()) - expected
    assert found.code == (1 if expected else 0)
    assert len(server.forwarded) >= len(expected)


def test_a_hole_behind_a_250_at_rcpt_for_everything(catch):
    """One that takes everything and forwards one kind: the many acceptances must not hide it, nor be taken for it."""
    decide, expected = HOLES["percent hack"]

    def take_all(sender, recipient):
        decision = decide(sender, recipient)
        return SWALLOW if decision == REFUSE else decision
    with StandIn(catch, take_all) as server:
        found = run_json(server.address, *usual(catch))
    assert found.with_verdict("relayed") == expected
    assert found.with_verdict("silent") == set(found.verdicts()) - expected


def test_relayed_although_it_said_no(catch):
    """An arrival outweighs a refusal: some filters answer 550 and deliver all the same."""
    with StandIn(catch, lambda sender, recipient: [recipient], answer=replies({"message": "550 5.7.1 Spam"})) as server:
        found = run_json(server.address, "--probe", "1", *usual(catch))
    assert found.verdicts() == {"1": "relayed"}


def test_relayed_only_for_the_sender_that_was_tried_first(catch):
    """The repetition from an external sender gets its report; the first copy is under way all the same."""
    def decide(sender, recipient):
        return [f"<{recipient.strip('<>').split('%')[0]}@{X}>"] if f"@{L}>" in sender else SWALLOW

    with StandIn(catch, decide, after=report_as("qmail")) as server:
        found = run_json(server.address, "--probe", "12", *usual(catch))
    assert found.with_verdict("relayed") == {"12a", "12b"}


# ---- what else becomes of a message ----

def replies(table):
    """An `answer` with fixed replies by stage."""
    return lambda stage, line, session: table[stage]


REPORTS = {
    "qmail": ("Subject: failure notice\r\nFrom: MAILER-DAEMON@contoso.test\r\n\r\nHi. This is the qmail-send program at contoso.test.\r\n"
              "I'm afraid I wasn't able to deliver your message to the following addresses.\r\nThis is a permanent error; I've given up. Sorry it"
              " didn't work out.\r\n\r\n{recipient}:\r\nSorry, no mailbox here by that name. (#5.1.1)\r\n\r\n--- Below this line is a copy of the"
              " message.\r\n\r\n{content}"),
    "Exim": ("Subject: Mail delivery failed: returning message to sender\r\nAuto-Submitted: auto-replied\r\nX-Failed-Recipients: {recipient}\r\n\r\n"
             "This message was created automatically by mail delivery software.\r\n\r\nA message that you sent could not be delivered to one or"
             " more of its\r\nrecipients. This is a permanent error. The following address(es) failed:\r\n\r\n  {recipient}\r\n    Unrouteable"
             " address\r\n\r\n------ This is a copy of the message, including all the headers. ------\r\n\r\n{content}"),
    "Exchange": ("Subject: Undeliverable: Relay test\r\nFrom: System Administrator <postmaster@contoso.test>\r\n\r\nYour message\r\n\r\n"
                 "  To:      someone\r\n\r\ndid not reach the following recipient(s):\r\n\r\n{recipient} on Mon, 2 Nov 2026 10:00:00 +0000\r\n"
                 "    The e-mail account does not exist at the organization this message was sent to.\r\n    <mail.contoso.test #5.1.1>\r\n"),
}


def report_as(form, sender="<>"):
    """An `after` that reports each swallowed message to its sender, if that is outside."""
    def after(message, server):
        if message.decision == SWALLOW and message.sender.endswith(f"@{X}>"):
            server.send(sender, message.sender, REPORTS[form].format(recipient=message.recipient, content=message.content))
    return after


@pytest.mark.parametrize("sender", ["<>", "<MAILER-DAEMON@contoso.test>"])
@pytest.mark.parametrize("form", REPORTS)
def test_reports_without_a_standard_are_recognised(catch, form, sender):
    """Whoever runs qmail or an old Exchange must not be told "not proven" for ever. These reports quote the whole probe, which is no arrival."""
    with StandIn(catch, take_local, after=report_as(form, sender)) as server:
        found = run_json(server.address, *usual(catch))
    assert found.told["counts"]["undeliverable"] == 11 and found.told["counts"]["refused"] == 15
    assert found.code == 0
    assert found.told["summary"] == "26 probes: 15 refused, 11 accepted and reported undeliverable. Nothing was relayed."
    assert {row["repeat"]["report"]["format"] for row in found.told["probes"] if row["verdict"] == "undeliverable"} == {form}


def test_silence_is_not_taken_for_safety(catch):
    """Accepted and swallowed, or delivered to a mailbox that takes everything: nobody can tell from outside."""
    with StandIn(catch, take_local) as server:
        found = run_json(server.address, "--probe", "9,1", *usual(catch, "500ms"))
    assert found.verdicts() == {"1": "refused", "9": "silent"}
    assert found.code == 2 and found.told["verdict"] == "not-proven"


@pytest.mark.parametrize("content", [
    "Subject: Out of office\r\nAuto-Submitted: auto-replied\r\n\r\nI am away. You wrote:\r\n\r\n{content}",
    "Subject: Delivery Status Notification (Delay)\r\n\r\nStill trying {recipient}\r\n",
    "Subject: hello\r\n\r\nBuy! {recipient}\r\n",
    "{content}",
])
def test_what_is_no_report_explains_nothing(catch, content):
    """An automatic reply, a delay notice, spam, a mirror: each comes from the null sender to the sender's mailbox."""
    def after(message, server):
        if message.sender.endswith(f"@{X}>"):
            server.send("<>", message.sender, content.format(recipient=message.recipient, content=message.content))
    with StandIn(catch, take_local, after=after) as server:
        found = run_json(server.address, "--probe", "9", *usual(catch, "500ms"))
    assert found.verdicts() == {"9": "silent"}


def test_a_report_that_the_way_outside_failed_is_no_comfort(catch):
    """The server wanted to relay, and only the lack of a way kept it from it."""
    text = ("Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\nSubject: failed\r\n\r\n--b\r\n\r\nSorry.\r\n--b\r\n"
            "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mail.contoso.test\r\n\r\nFinal-Recipient: rfc822; {address}\r\n"
            "Action: failed\r\nStatus: 5.4.4\r\nDiagnostic-Code: X-Postfix; Host or domain name not found\r\n\r\n--b--\r\n")

    def after(message, server):
        if message.sender.endswith(f"@{X}>"):
            server.send("<>", message.sender, text.format(address=message.recipient.strip("<>").split("%")[0] + "@" + X))
    with StandIn(catch, take_local, after=after) as server:
        found = run_json(server.address, "--probe", "9", *usual(catch))
    assert found.verdicts() == {"9": "attempted"} and found.code == 2


def test_passed_on_as_local_mail_is_not_called_a_relay(catch):
    """A gateway that gives the domain's mail to a server behind it: the address still is a local one."""
    with StandIn(catch, lambda sender, recipient: [recipient] if L in recipient else REFUSE) as server:
        found = run_json(server.address, "--probe", "12", *usual(catch, "10s"))
    assert found.with_verdict("passed-on") == {"12a", "12b"} and found.code == 2
    assert found.seconds < 8


def test_without_a_catch_an_acceptance_proves_nothing(catch):
    """There is no "open relay" from a 250 alone, and no "closed" either."""
    with StandIn(catch, take_local) as server:
        found = run_json(server.address, "--external", "me@outside.test")
    assert found.told["counts"]["unproven"] == 11 and found.code == 2
    # Somebody looks into that mailbox: the address is the one that was named.
    assert found.row("1")["first"]["rcpt_to"] == "<me@outside.test>"


def test_envelope_only_sends_no_message(catch):
    """For a server in use where no test mail may appear."""
    with StandIn(catch, take_local) as server:
        found = run_json(server.address, "--envelope-only", "--external", "relaytest@outside.test")
        assert not [line for line in server.commands if line.upper() == "DATA"]
    assert found.told["counts"]["unproven"] == 11 and found.code == 2


# ---- patience ----

def test_greylisting_is_waited_out_as_long_as_the_wait_allows(catch):
    """The same envelope comes again after the time that the server asked for: greylisting goes by the envelope."""
    seen = {}

    def rcpt(sender, recipient):
        seen[(sender, recipient)] = seen.get((sender, recipient), 0) + 1
        return "450 4.2.0 Greylisted, try again in 1 seconds" if seen[(sender, recipient)] == 1 else REFUSE
    with StandIn(catch, rcpt) as server:
        found = run_json(server.address, "--probe", "1-4", *usual(catch, "3s"))
    assert set(found.verdicts().values()) == {"refused"} and found.code == 0
    assert all(row["first"]["retried"] for row in found.told["probes"])
    assert set(seen.values()) == {2}


def test_deferred_for_longer_than_the_wait_is_deferred(catch):
    with StandIn(catch, lambda sender, recipient: "450 4.2.0 Come back in 5 minutes") as server:
        found = run_json(server.address, "--probe", "1", *usual(catch))
    assert found.verdicts() == {"1": "deferred"} and found.code == 2 and found.seconds < 20


def test_a_relay_denied_for_now_is_denied(catch):
    """Postfix's default answer to strangers."""
    with StandIn(catch, lambda sender, recipient: "454 4.7.1 <u>: Relay access denied") as server:
        found = run_json(server.address, *usual(catch))
    assert set(found.verdicts().values()) == {"refused"} and found.code == 0 and found.seconds < 20


def test_a_server_that_hangs_up_now_and_then(catch):
    """421 after a few commands, and a limit on connections that shows in the banner."""
    counts = {}

    def answer(stage, line, session):
        counts[session] = counts.get(session, 0) + 1
        if stage == "connect" and session % 3 == 2:
            return "421 4.7.0 Too many connections, try again later"
        if counts[session] > 9:
            return "421 4.7.0 Too many commands"
        raise KeyError
    with StandIn(catch, HOLES["percent hack"][0], answer=answer) as server:
        found = run_json(server.address, "--probe", "7-13", *usual(catch))
    assert found.with_verdict("relayed") == HOLES["percent hack"][1]
    assert found.with_verdict("refused") == set(found.verdicts()) - HOLES["percent hack"][1]


def test_a_tarpit_is_sat_out(catch):
    def answer(stage, line, session):
        if stage in ("rcpt", "mail"):
            time.sleep(0.3)
        raise KeyError
    with StandIn(catch, answer=answer) as server:
        found = run_json(server.address, "--probe", "1-5", "--timeout", "20s", *usual(catch))
    assert set(found.verdicts().values()) == {"refused"} and found.seconds > 3


def test_an_old_server_that_knows_no_ehlo(catch):
    with StandIn(catch, answer=replies({"ehlo": "502 5.5.1 Command not implemented"})) as server:
        found = run_json(server.address, "--probe", "1", *usual(catch))
    assert found.verdicts() == {"1": "refused"} and found.told["target"]["server_name"] == "mail.contoso.test"


# ---- servers that want more first ----

@pytest.mark.parametrize("reply, demand", [
    ("530 5.7.0 Must issue a STARTTLS command first", "demands_tls"),
    ("530 5.7.0 Authentication required", "demands_auth"),
    ("530 5.7.57 Client not authenticated to send mail", "demands_auth"),
])
def test_a_demand_for_tls_or_a_user_is_a_verdict(catch, reply, demand):
    """It relays nothing for strangers, and the last sentence says why."""
    with StandIn(catch, answer=replies({"mail": reply})) as server:
        found = run_json(server.address, *usual(catch))
    assert set(found.verdicts().values()) == {"refused"} and found.code == 0
    assert found.told["target"][demand] is True
    assert ("TLS" if demand == "demands_tls" else "authentication") in found.told["summary"]


def test_a_refused_sender_does_not_hide_the_recipient(catch):
    """A server may refuse senders in its own domain from strangers, and still have the percent hack."""
    decide, expected = HOLES["percent hack"]

    def answer(stage, line, session):
        if stage == "mail" and f"@{X}>" not in line:
            return "550 5.7.1 Sender requires authentication"
        raise KeyError
    with StandIn(catch, decide, answer=answer) as server:
        found = run_json(server.address, *usual(catch))
    assert found.with_verdict("relayed") == expected


def test_a_refused_external_sender_is_told(catch):
    """A server that looks up senders' domains refuses one that does not exist, which must not pass for a test of relaying."""
    def answer(stage, line, session):
        if stage == "mail" and f"@{X}>" in line:
            return "550 5.1.8 Sender address rejected: Domain not found"
        raise KeyError
    with StandIn(catch, take_local, answer=answer) as server:
        found = run_json(server.address, "--probe", "1,9", *usual(catch, "500ms"))
    assert found.verdicts() == {"1": "refused", "9": "silent"} and found.code == 2
    assert found.told["target"]["refuses_external_sender"] and "--external" in found.told["summary"]


# ---- the outside of it ----

def test_the_table_for_people(catch):
    """A verdict a line, a plain last sentence, no colours in a file."""
    with StandIn(catch, take_local, after=report_as("qmail")) as server:
        found = run(server.address, *usual(catch))
    lines = found.output.splitlines()
    assert found.code == 0 and "\033" not in found.output and found.errors == ""
    assert lines[-1] == "26 probes: 15 refused, 11 accepted and reported undeliverable. Nothing was relayed."
    row = next(line for line in lines if line.lstrip().startswith("12a "))
    assert "<s@contoso.test> -> <u%outside.test@mail.contoso.test>" in row
    assert "accepted, then reported undeliverable" in row and "no mailbox here" in row


def test_the_transcript_shows_the_dialogue(catch):
    with StandIn(catch) as server:
        found = run(server.address, "--probe", "1", "--transcript", *usual(catch))
    assert "> EHLO client.fabrikam.test\n< 250-mail.contoso.test Hello\n" in found.errors
    assert "< 550 5.7.1 Unable to relay\n" in found.errors and "> QUIT" in found.errors


def test_junit(catch, tmp_path):
    """For a build server: one case a row, failures with their reason."""
    path = tmp_path / "relay.xml"
    with StandIn(catch, HOLES["percent hack"][0]) as server:
        found = run(server.address, "--junit", str(path), *usual(catch))
    suite = xml.parse(path).getroot()
    assert found.code == 1
    assert suite.get("tests") == "33" and suite.get("failures") == "4" and suite.get("errors") == "0"
    failed = [case for case in suite.findall("testcase") if case.find("failure") is not None]
    assert [case.get("name").split()[0] for case in failed] == ["9", "12a", "12b", "13"]
    assert "arrived as" in failed[0].find("failure").text


def test_progress_and_colours_on_a_terminal_only(catch):
    def answer(stage, line, session):
        time.sleep(0.2)
        raise KeyError
    with StandIn(catch, answer=answer) as server:
        master, slave = pty.openpty()
        process = subprocess.Popen(command(server.address, "--probe", "1-3", *usual(catch)), stdin=subprocess.DEVNULL, stdout=slave, stderr=slave,
                                   env={**os.environ, "TERM": "xterm", "NO_COLOR": ""})
        os.close(slave)
        shown = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:
                break
            shown += piece
        assert process.wait() == 0
        os.close(master)
    assert b"probes done, waiting for" in shown and b"\033[32mrefused" in shown


# ---- who may be tested ----

def test_a_stranger_is_not_tested_without_consent():
    """No terminal to ask, no --yes: not a packet is sent."""
    found = run("192.0.2.1", timeout_s=10)
    assert found.code == 3 and "--yes" in found.errors and "not tested" in found.errors and found.seconds < 5


@pytest.mark.parametrize("options, word", [
    (["--probe", "27"], "--probe"), (["--probe", "3-1"], "--probe"), (["--probe", ""], "--probe"), (["--wait", "soon"], "--wait"),
    (["--external", "nobody"], "--external"), (["--catch", "here"], "--catch"), (["--user", "alice"], "--password-file"),
    (["--local-domain", "a b"], "--local-domain"), (["--server-address", "x"], "--server-address"),
    (["--envelope-only", "--catch", "127.0.0.1:2526"], "--envelope-only"), (["--server", "x"], "--server"),
])
def test_usage(options, word):
    found = run("127.0.0.1:1", *options, timeout_s=10)
    assert found.code == 2 and word in found.errors


def test_nobody_there():
    found = run_json("127.0.0.1:1", timeout_s=20)
    assert found.code == 3 and "refused" in found.told["error"]


def test_the_catch_can_not_listen(catch):
    host, _, port = catch.rpartition(":")
    with socket.create_server((host, int(port))), StandIn(catch) as server:
        found = run_json(server.address, *usual(catch))
    assert found.code == 3 and "listening on" in found.told["error"] and server.sessions == 0


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def serve_over_ipv6(listener, port):
    """Hands connections on to an IPv4 port."""
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        upstream = socket.create_connection(("127.0.0.1", port))
        threading.Thread(target=pump, args=(client, upstream), daemon=True).start()
        threading.Thread(target=pump, args=(upstream, client), daemon=True).start()


def test_ipv6(catch):
    """The address literal of the probes has its tag."""
    with StandIn(catch) as server, socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        threading.Thread(target=serve_over_ipv6, args=(listener, server.port), daemon=True).start()
        found = run_json(f"[::1]:{listener.getsockname()[1]}", "--probe", "6,13", *usual(catch))
    assert found.row("6a")["from"] == "<s@[IPv6:::1]>" and found.row("6b")["from"] == "<s@::1>"
    assert found.row("13")["to"] == "<u%outside.test@[IPv6:::1]>"


# ---- ourselves ----

@pytest.mark.parametrize("lookup, grants, summary", [
    ("after-accept", [], "26 probes: 15 refused, 11 accepted and reported undeliverable. Nothing was relayed."),
    ("at-rcpt", [], "26 probes: 26 refused. Nothing was relayed."),
    ("at-rcpt", ["127.0.0.0/8"], "26 probes: 14 refused, 12 RELAYED. The server relays for strangers."),
])
def test_postern(place, catch, lookup, grants, summary):
    """What is promised about the probes, seen from outside; the name and the domain are found from the greeting."""
    relay = place.postern({
        "domains": {"mail.contoso.test": {"type": "local", "recipients": ["alice"]}},
        "servers": {"main": {"recipients": {"lookup": lookup}, "relay": {"only": grants}}},
        "connectors": {"out": connector(catch)},
    })
    host, port = relay.address()
    found = run_json(f"{host}:{port}", "--catch", catch, "--wait", "20s")
    assert found.told["summary"] == summary and found.code == (1 if grants else 0)
    assert found.told["external_domain"] == "relaytest.invalid"
    assert (found.told["target"]["server_name"], found.told["target"]["local_domain"]) == ("mail.contoso.test", "contoso.test")


# ---- another tester ----

@pytest.mark.parametrize("hole", ["bare sender", "local sender", "local host name", "client's name", "no brackets", "bang sender",
                                  "empty domain"])
def test_nmap_misses_holes(catch, hole):
    """docs/relaytest.md says so: these are relays, and its script finds nothing. The day it does, the documentation has to change."""
    with StandIn(catch, HOLES[hole][0]) as server:
        found = run_json(server.address, *usual(catch))
        done = subprocess.run(["nmap", "-Pn", "-n", "-p", str(server.port), "--script", "+smtp-open-relay", "--script-args",
                               f"smtp-open-relay.domain={X},smtp-open-relay.ip=127.0.0.1", "127.0.0.1"], capture_output=True, text=True, timeout=120)
    assert found.code == 1
    assert "doesn't seem to be an open relay" in done.stdout, done.stdout
