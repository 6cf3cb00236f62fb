# SPDX-License-Identifier: Apache-2.0
"""The record of what became of messages: the tracking log, postern track and why, and the W3C log of the sessions."""
import base64
import datetime
import json
import time

import pytest

from harness.answers import LOCAL, REMOTE, SENDER, granting, refuse_at
from harness.client import SmtpClient, deliver, letter, token
from harness.control import done, events, tool, wait_for_events, wait_for_queue
from harness.limits import wait_until

W3C_FIELDS = ("date time c-ip cs-username s-sitename s-computername s-ip s-port cs-method cs-uri-stem cs-uri-query sc-status sc-win32-status sc-bytes "
              "cs-bytes time-taken cs-version cs-host cs(User-Agent) cs(Cookie) cs(Referer)").split()


def names(found):
    return [event["event"] for event in found]


def queued_id(answer):
    return answer.rpartition("(")[2].rstrip(")")


def send(relay, *recipients, sender=SENDER, **options):
    """The id of a message that was taken."""
    return queued_id(deliver(relay.address(), sender, list(recipients), letter(token(), sender=sender), **options))


# ---- what is recorded ----

def test_delivered(place):
    relay = place.postern(granting(place.sink()))
    name = send(relay, LOCAL, REMOTE)
    found = wait_for_events(relay, 4, "--id", name)
    received = [event for event in found if event["event"] == "received"]
    assert [(event["recipient"], event["rule"]) for event in received] == [(LOCAL, "domains.contoso.test"), (REMOTE, "servers.main.relay.only[0]")]
    for event in received:
        assert event["id"] == name and event["sender"] == SENDER and event["client"] == "127.0.0.1" and event["server"] == "main"
        assert event["helo"] == "client.test" and event["size"] > 100 and event["rule_at"].startswith(f"{relay.config_path}:")
        assert datetime.datetime.strptime(event["time"], "%Y-%m-%dT%H:%M:%S.%fZ")
    delivered = {event["recipient"]: event for event in found if event["event"] == "delivered"}
    assert set(delivered) == {LOCAL, REMOTE}
    assert delivered[REMOTE]["remote"] and delivered[REMOTE]["reply"].startswith("250 ") and delivered[REMOTE]["latency_ms"] >= 0
    files = list((relay.data_dir / "tracking").iterdir())
    assert [path.name for path in files] == [received[0]["time"][:10] + ".jsonl"]
    assert all(json.loads(line) for line in files[0].read_text().splitlines())


def test_deferred_then_expired_then_reported(place):
    relay = place.postern(granting(place.sink(answer=refuse_at("rcpt", "450 4.2.1 later")), retry=["100ms"], expire="1s"))
    name = send(relay, REMOTE)
    found = wait_for_events(relay, 1, "--id", name, "--event", "ndr")
    assert found[0]["report"] == "failed" and found[0]["recipient"] == REMOTE and found[0]["status"] == "4.4.7"
    assert names(events(relay, "--id", name))[0] == "received"
    deferred = events(relay, "--id", name, "--event", "deferred")
    assert deferred[0]["attempts"] == 1 and deferred[0]["next_attempt"] and deferred[0]["reply"] == "450 4.2.1 later"
    assert len(events(relay, "--id", name, "--event", "expired")) == 1
    # The report is a message of its own, and says of itself where it came from.
    delivered = wait_for_events(relay, 1, "--id", found[0]["other"], "--event", "delivered")
    assert delivered[0]["sender"] == "<>" and delivered[0]["recipient"] == SENDER
    story = done(relay, "why", name).out
    assert "expired" in story and "ndr" in story and found[0]["other"] in story and "450 4.2.1 later" in story


def test_failed(place):
    relay = place.postern(granting(place.sink(answer=refuse_at("rcpt", "550 5.1.1 nobody"))))
    name = send(relay, REMOTE)
    wait_for_events(relay, 1, "--id", name, "--event", "ndr")
    failed = events(relay, "--id", name, "--event", "failed")
    assert failed[0]["status"] == "5.1.1" and failed[0]["reply"] == "550 5.1.1 nobody"


def test_badmail(place):
    relay = place.postern(granting(place.sink(answer=refuse_at("rcpt", "550 5.1.1 nobody"))))
    name = send(relay, REMOTE, sender="")
    found = wait_for_events(relay, 1, "--id", name, "--event", "badmail")
    assert found[0]["sender"] == "<>" and found[0]["reply"]


def test_refused(place):
    relay = place.postern({"servers": {"main": {"connect": {"except": ["127.0.0.9"]}}}})
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:<{SENDER}>", "250")
        client.expect_code(f"RCPT TO:<{REMOTE}>", "550")
    with SmtpClient(relay.address(), source="127.0.0.9") as client:
        assert client.banner.startswith("554")
    found = wait_for_events(relay, 2, "--event", "refused")
    rcpt, connect = sorted(found, key=lambda event: event["stage"], reverse=True)
    assert rcpt["stage"] == "rcpt" and rcpt["code"] == 550 and rcpt["sender"] == SENDER and rcpt["recipient"] == REMOTE and rcpt["rule"]
    assert connect["stage"] == "connect" and connect["client"] == "127.0.0.9" and "sender" not in connect and "recipient" not in connect
    assert len(events(relay, "--recipient", REMOTE)) == 1


def test_off(place):
    relay = place.postern({"servers": {"main": {"connect": {"except": ["127.0.0.9"]}}}, "tracking": {"enabled": False}})
    send(relay, LOCAL)
    relay.maildir(LOCAL).wait_for_count(1)
    assert events(relay) == [] and not (relay.data_dir / "tracking").exists()
    relay.settings["tracking"] = {"enabled": True, "refusals": False}
    relay.write_config()
    done(relay, "reload")
    send(relay, LOCAL)
    wait_for_events(relay, 2)
    with SmtpClient(relay.address(), source="127.0.0.9") as client:
        assert client.banner.startswith("554")
    relay.wait_for_event("refused")
    assert not events(relay, "--event", "refused")


# ---- the search ----

def test_track_conditions(place):
    relay = place.postern(granting(place.sink()))
    send(relay, LOCAL)
    send(relay, REMOTE, sender="carol@contoso.test")
    wait_for_events(relay, 4)
    for conditions, count in [([], 4), (["--recipient", REMOTE.upper()], 2), (["--recipient", "*@contoso.test"], 2), (["--sender", "CAROL@*"], 2),
                              (["--event", "received"], 2), (["--event", "received,delivered"], 4), (["--event", "failed"], 0),
                              (["--since", "1h"], 4), (["--until", "1h"], 0), (["--since", "2001-01-01"], 4), (["--until", "2001-01-01T10:00:00"], 0),
                              (["--limit", "3"], 3), (["--recipient", REMOTE, "--event", "delivered", "--since", "1d"], 1)]:
        assert len(events(relay, *conditions)) == count, conditions
    assert tool(relay, "track", "--recipient", "nobody@example.org").code == 1
    text = done(relay, "track", "--recipient", REMOTE).out.splitlines()
    assert len(text) == 2 and REMOTE in text[0] and "received" in text[0] and "rule servers.main.relay.only[0]" in text[0]


def test_without_a_daemon(place):
    relay = place.postern(granting(place.sink()))
    name = send(relay, REMOTE)
    wait_for_events(relay, 2, "--id", name)
    assert relay.stop() == 0
    assert len(events(relay, "--id", name)) == 2 and len(events(relay, "--limit", "1")) == 1
    run = tool(relay, "why", name)
    assert run.code == 0 and "servers.main.relay.only[0]" in run.out and "no daemon answers" in run.err
    assert tool(relay, "why", "FFFFFF").code == 1


def test_torn_and_foreign_lines(place):
    relay = place.postern(granting(place.sink()))
    name = send(relay, LOCAL)
    wait_for_events(relay, 2, "--id", name)
    relay.kill()
    path = next((relay.data_dir / "tracking").iterdir())
    with path.open("a") as file:
        file.write('nonsense\n{"time":"2026-11-21T10:00:00.000Z","event":"received","id":"%s","rec' % name)
    relay.start()
    other = send(relay, LOCAL)
    wait_for_events(relay, 2, "--id", other)
    assert len(events(relay)) == 4


def test_many_events_stream(place):
    relay = place.postern()
    line = '{"time":"%s","event":"delivered","id":"%X","sender":"a@contoso.test","recipient":"r%d@example.net","size":1000,"reply":"250 2.0.0 OK"}\n'
    directory = relay.data_dir / "tracking"
    with (directory / "2026-01-02.jsonl").open("w") as file:
        file.writelines(line % ("2026-01-02T10:00:00.000Z", number + 1, number % 1000) for number in range(100000))
    assert len(events(relay, "--recipient", "r7@example.net")) == 100
    assert [event["recipient"] for event in events(relay, "--id", "186A0")] == ["r999@example.net"]
    assert len(events(relay, "--event", "delivered", "--limit", "20000")) == 20000


# ---- why ----

def test_why_of_a_queued_message(place):
    relay = place.postern(granting(place.sink(answer=refuse_at("rcpt", "450 4.2.1 later")), retry=["1h"]))
    name = send(relay, REMOTE, LOCAL)
    wait_for_events(relay, 4, "--id", name)
    story = done(relay, "why", name, "--json").json
    assert story["queued"]["message"] == name and [r["state"] for r in story["queued"]["recipients"]] == ["waiting", "delivered"]
    assert sorted(names(story["events"])) == ["deferred", "delivered", "received", "received"]
    text = done(relay, "why", name).out
    for part in (f"Message {name}, received", f"Sender      {SENDER}", "Client      127.0.0.1", f"Let in for {REMOTE} by servers.main.relay.only[0] at ",
                 f"{relay.config_path}:", "450 4.2.1 later", "In the queue now:"):
        assert part in text, (part, text)


def test_why_without_the_log(place):
    """What is known of a message in the queue stands in the queue."""
    relay = place.postern({**granting(place.sink(answer=refuse_at("rcpt", "450 4.2.1 later")), retry=["1h"]), "tracking": {"enabled": False}})
    name = send(relay, REMOTE)
    wait_for_queue(relay, 1, "--state", "waiting")
    text = done(relay, "why", name).out
    assert "servers.main.relay.only[0]" in text and SENDER in text and "127.0.0.1" in text


def test_why_of_nothing(place):
    run = tool(place.postern(), "why", "ABCDEF")
    assert run.code == 1 and "nothing is known" in run.err


# ---- the W3C log ----

def read_w3c(directory):
    """The entries, by the fields that the file names, as those tools read it."""
    entries = []
    for path in sorted(directory.glob("ex??????.log")):
        fields = None
        for line in path.read_text().splitlines():
            if line.startswith("#Fields:"):
                fields = line.split()[1:]
            elif not line.startswith("#"):
                values = line.split(" ")
                assert len(values) == len(fields), line
                entries.append(dict(zip(fields, values)))
    return entries


def wait_for_w3c(directory, method):
    return wait_until(lambda: (lambda found: found if any(entry["cs-method"] == method for entry in found) else None)(read_w3c(directory)),
                      lambda: f"{method} in {read_w3c(directory)}")


def test_w3c_log(place):
    directory = place.directory / "w3c"
    relay = place.postern({"session-log": {"format": "w3c", "directory": str(directory)}})
    secret = base64.b64encode(b"\0alice\0secret").decode()
    with SmtpClient(relay.address()) as client:
        client.hello("pc 7.contoso.test")
        client.ask("AUTH PLAIN " + secret)
        client.ask(secret)
        client.ask(f"MAIL FROM:<{SENDER}> SIZE=100")
        client.ask(f"RCPT TO:<{LOCAL}>")
        client.ask(f"RCPT TO:<{REMOTE}>")
        content = letter(token(), body=b"x" * 5000 + b"\r\n")
        client.data(content)
        client.ask("QUIT")
    entries = wait_for_w3c(directory, "QUIT")
    assert [path.name for path in directory.iterdir()] == [time.strftime("ex%y%m%d.log", time.gmtime())]
    assert list(entries[0]) == W3C_FIELDS
    assert [(entry["cs-method"], entry["sc-status"]) for entry in entries] == [
        ("EHLO", "250"), ("AUTH", "502"), ("UNKNOWN", "500"), ("MAIL", "250"), ("RCPT", "250"), ("RCPT", "550"), ("DATA", "250"), ("QUIT", "221")]
    assert entries[3]["cs-uri-query"] == f"+FROM:<{SENDER}>+SIZE=100" and entries[0]["cs-uri-query"] == "+pc+7.contoso.test"
    for entry in entries:
        assert entry["c-ip"] == "127.0.0.1" and entry["s-sitename"] == "main" and entry["s-computername"] == "mail.contoso.test"
        assert entry["s-ip"] == "127.0.0.1" and int(entry["s-port"]) == relay.address()[1] and entry["cs-version"] == "SMTP"
        assert int(entry["sc-bytes"]) > 0 and int(entry["cs-bytes"]) > 0 and int(entry["time-taken"]) >= 0
    assert int(entries[6]["cs-bytes"]) >= len(content)
    # Nothing of a password, wherever it strayed to.
    assert secret not in "".join(path.read_text() for path in directory.iterdir())


def test_w3c_log_by_reload(place):
    relay = place.postern()
    directory = relay.data_dir / "session-log"
    deliver(relay.address(), SENDER, LOCAL, letter(token()))
    assert not directory.exists()
    relay.settings["session-log"] = {"format": "w3c"}
    relay.write_config()
    done(relay, "reload")
    deliver(relay.address(), SENDER, LOCAL, letter(token()))
    assert len(wait_for_w3c(directory, "QUIT")) == 5
    del relay.settings["session-log"]
    relay.write_config()
    done(relay, "reload")
    deliver(relay.address(), SENDER, LOCAL, letter(token()))
    relay.maildir(LOCAL).wait_for_count(3)
    assert len(read_w3c(directory)) == 5


@pytest.mark.parametrize("value", ["0s", "1h"])
def test_what_would_keep_nothing_is_refused(place, value):
    relay = place.postern(start=False)
    relay.settings["tracking"] = {"keep": value}
    relay.write_config()
    assert tool(relay, "check").code == 3
