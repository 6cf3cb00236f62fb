# SPDX-License-Identifier: Apache-2.0
"""postern queue: looking at messages under way, and hold, release, retry, delete and bounce, by id and by filter."""
import subprocess
import time

import pytest

from harness.answers import LOCAL, REMOTE, SENDER, granting, refuse_at, report_to
from harness.client import SmtpClient, deliver, letter, token
from harness.control import done, events, queued, tool, wait_for_queue
from harness.limits import wait_until
from harness.postern import program


@pytest.fixture
def stuck(place):
    """A relay whose next hop defers everybody, until `opened`."""
    answers = ["450 4.2.1 later"]
    sink = place.sink(answer=lambda stage, text, session: answers[0] if stage == "rcpt" and answers else None)
    relay = place.postern(granting(sink, retry=["1h"]))
    relay.sink = sink
    relay.open_way = answers.clear
    return relay


def leave(relay, sender, *recipients):
    """A message that stays in the queue; its id and its token."""
    word = token()
    before = {message["message"] for message in queued(relay)}
    deliver(relay.address(), sender, list(recipients), letter(word))

    def settled():
        new = [message for message in queued(relay, "--state", "waiting") if message["message"] not in before]
        return new and all(recipient["attempts"] == 1 for recipient in new[0]["recipients"]) and new[0]["message"]
    return wait_until(settled, "the message has been tried"), word


def ids(messages):
    return [message["message"] for message in messages]


# ---- looking ----

def test_list_by_each_condition(stuck):
    first, _ = leave(stuck, SENDER, REMOTE)
    second, _ = leave(stuck, "", "w@sub.example.net", "x@example.org")
    third, _ = leave(stuck, "Bob@contoso.test", "v@xn--bcher-kva.example")
    assert ids(queued(stuck)) == [first, second, third]
    for conditions, wanted in [(["--domain", "example.net"], [first]), (["--domain", "*.example.net"], [second]),
                               (["--domain", "@example.net"], [first, second]), (["--domain", "EXAMPLE.net"], [first]),
                               (["--domain", "bücher.example"], [third]), (["--domain", "*"], [first, second, third]),
                               (["--sender", "<>"], [second]), (["--sender", "bob@contoso.test"], [third]),
                               (["--sender", "*@contoso.test"], [first, third]), (["--recipient", "x@example.org"], [second]),
                               (["--recipient", "*@*example.net"], [first, second]), (["--older-than", "1h"], []),
                               (["--older-than", "0s"], [first, second, third]), (["--state", "waiting"], [first, second, third]),
                               (["--state", "held,taken"], []), (["--domain", "example.net", "--sender", "<>"], []),
                               (["--limit", "2"], [first, second])]:
        assert ids(queued(stuck, *conditions)) == wanted, conditions
    message = queued(stuck, "--domain", "sub.example.net")[0]
    assert message["sender"] == "" and message["recipient_count"] == 2
    assert [recipient["address"] for recipient in message["recipients"]] == ["w@sub.example.net"]
    assert message["recipients"][0]["state"] == "waiting" and message["recipients"][0]["reason"] == "450 4.2.1 later"
    assert message["recipients"][0]["next_attempt"] and message["recipients"][0]["status"] == "4.2.1"


def test_list_for_people(stuck):
    assert done(stuck, "queue", "list").out == "0 messages\n"
    name, _ = leave(stuck, SENDER, REMOTE)
    text = done(stuck, "queue", "list").out
    assert text.splitlines()[0].split()[:4] == ["ID", "AGE", "SIZE", "SENDER,"]
    assert text.splitlines()[1].startswith(name) and SENDER in text and REMOTE in text
    assert "waiting, next attempt" in text and "450 4.2.1 later" in text and text.endswith("\n1 messages\n")


def test_list_streams(stuck):
    """The first line comes while the rest waits to be read, and a reader that has seen enough ends it."""
    with SmtpClient(stuck.address()) as client:
        client.hello()
        for _ in range(300):
            client.deliver(SENDER, ["v@example.net", "w@example.net"], letter(token()))
    wait_for_queue(stuck, 300)
    listing = subprocess.Popen([program("postern"), "-c", str(stuck.config_path), "queue", "list", "--json", "--domain", "example.net"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    begun = time.monotonic()
    assert b"example.net" in listing.stdout.readline()
    assert time.monotonic() - begun < 20
    listing.stdout.close()
    assert listing.wait(60) != 0
    listing.stderr.close()
    assert len(queued(stuck)) == 300


def test_show(stuck):
    name, word = leave(stuck, SENDER, REMOTE, "w@example.org")
    message = done(stuck, "queue", "show", name, "--json").json
    assert message["message"] == name and message["client"] == "127.0.0.1" and message["helo"] == "client.test"
    assert message["server"] == "main" and message["rule"] == "servers.main.relay.only[0]"
    assert message["rule_at"].startswith(f"{stuck.config_path}:") and message["message_id"] == f"{word}@client.test"
    assert [recipient["address"] for recipient in message["recipients"]] == [REMOTE, "w@example.org"]
    text = done(stuck, "queue", "show", name.lower()).out
    assert "servers.main.relay.only[0]" in text and "127.0.0.1" in text
    run = tool(stuck, "queue", "show", "FFFFFF")
    assert run.code == 1 and "no such message" in run.err


# ---- acting ----

def test_hold_and_release_by_id(stuck):
    name, word = leave(stuck, SENDER, REMOTE)
    other, other_word = leave(stuck, SENDER, REMOTE)
    assert done(stuck, "queue", "hold", name).out == "held 1 messages, 1 recipients\n"
    assert done(stuck, "queue", "hold", name).out == "held 0 messages, 0 recipients\n"
    assert ids(queued(stuck, "--state", "held")) == [name]
    assert "held: " in done(stuck, "queue", "list").out
    stuck.open_way()
    done(stuck, "queue", "retry", "--all")
    stuck.sink.wait_until(lambda: stuck.sink.find(other_word), "the other")
    assert not stuck.sink.find(word)
    stuck.stop()
    stuck.start()
    assert ids(queued(stuck, "--state", "held")) == [name]
    done(stuck, "queue", "release", name)
    stuck.sink.wait_until(lambda: stuck.sink.find(word), "what was released")
    assert [event["event"] for event in events(stuck, "--id", name) if event["event"] in ("held", "released")] == ["held", "released"]
    assert other


def test_retry_by_domain(stuck):
    _, word = leave(stuck, SENDER, REMOTE)
    _, other = leave(stuck, SENDER, "x@example.org")
    stuck.open_way()
    assert done(stuck, "queue", "retry", "--domain", "example.org", "--json").json["messages"] == 1
    stuck.sink.wait_until(lambda: stuck.sink.find(other), "what was asked for")
    assert not stuck.sink.find(word)


def test_delete_by_recipient_leaves_the_others(stuck):
    name, word = leave(stuck, SENDER, REMOTE, "x@example.org")
    assert done(stuck, "queue", "delete", "--recipient", REMOTE).out == "deleted 1 messages, 1 recipients\n"
    message = done(stuck, "queue", "show", name, "--json").json
    assert [recipient["state"] for recipient in message["recipients"]] == ["deleted", "waiting"]
    stuck.open_way()
    done(stuck, "queue", "retry", name)
    stuck.sink.wait_until(lambda: stuck.sink.find(word), "the other recipient's")
    assert stuck.sink.find(word)[0].addresses() == ["x@example.org"]
    deleted = events(stuck, "--event", "deleted")
    assert [event["recipient"] for event in deleted] == [REMOTE] and deleted[0]["by"]
    assert not stuck.maildir(SENDER).messages()


def test_delete_all_wants_to_be_told(stuck):
    leave(stuck, SENDER, REMOTE)
    leave(stuck, SENDER, REMOTE)
    run = tool(stuck, "queue", "delete")
    assert run.code == 2 and "--all" in run.err
    assert len(queued(stuck)) == 2
    assert done(stuck, "queue", "delete", "--all", "--json").json == {"messages": 2, "recipients": 2, "unwritten": 0}
    assert queued(stuck) == []


def test_bounce_reports(stuck):
    name, word = leave(stuck, SENDER, REMOTE)
    assert done(stuck, "queue", "bounce", name, "--text", "Wrong number").out == "returned 1 messages, 1 recipients\n"
    report = report_to(stuck, word)
    assert "Wrong number" in str(report.message if hasattr(report, "message") else report.raw)
    wait_for_queue(stuck, 0)
    failed = events(stuck, "--id", name, "--event", "failed")
    assert len(failed) == 1 and failed[0]["status"] == "5.3.0" and failed[0]["by"]


def test_only_the_bounce_takes_a_text(stuck):
    assert tool(stuck, "queue", "delete", "--all", "--text", "x").code == 2


def test_nothing_of_it_concerns_what_does_not_match(stuck):
    leave(stuck, SENDER, REMOTE)
    for action in ("hold", "release", "retry", "delete", "bounce"):
        assert done(stuck, "queue", action, "--domain", "nothing.test", "--json").json["messages"] == 0
    assert len(queued(stuck)) == 1


def test_an_action_that_takes_long_is_done_to_the_end(stuck):
    with SmtpClient(stuck.address()) as client:
        client.hello()
        for _ in range(600):
            client.deliver(SENDER, REMOTE, letter(token()))
    wait_for_queue(stuck, 600)
    assert done(stuck, "queue", "hold", "--domain", "example.net", "--json").json["messages"] == 600
    assert len(queued(stuck, "--state", "held")) == 600
    assert done(stuck, "queue", "delete", "--sender", SENDER, "--json").json["messages"] == 600
    assert queued(stuck) == []
    deliver(stuck.address(), SENDER, LOCAL, letter(token()))
    stuck.maildir(LOCAL).wait_for_count(1)
