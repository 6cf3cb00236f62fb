# SPDX-License-Identifier: Apache-2.0
"""Mail that can't be delivered: the sender learns why, once, and nobody gets what they did not ask for (relay-behaviour.md section 6)."""
import json

import pytest

from harness.answers import LOCAL, REMOTE, SENDER, refuse_at, report_to
from harness.client import SmtpClient, deliver, letter, token
from harness.flood import Fate, send_flood
from harness.limits import wait_until
from harness.report import Report
from harness.settings import HOSTNAME, connector

def test_permanent_failure_is_reported(place, relay_to):
    """The sender must learn what failed, for whom, and what the remote server said; nobody else will tell."""
    sink = place.sink(answer=refuse_at("rcpt", "550 5.1.1 No such person here, ask at the desk"))
    relay = relay_to(sink)
    word = token()
    deliver(relay.address(), SENDER, REMOTE, letter(word, b"secret body\r\n"))
    report = report_to(relay, word)
    message = report.message
    assert message["From"] and HOSTNAME in message["From"]
    assert SENDER in message["To"]
    assert message["Subject"] and message["Date"] and message["Message-ID"]
    assert message["Auto-Submitted"].startswith("auto-")
    assert message["Return-Path"] == "<>", "an answer to it must go nowhere"
    assert report.fields["Reporting-MTA"] == f"dns; {HOSTNAME}"
    assert report.fields["Arrival-Date"]
    recipient = report.recipient(REMOTE)
    assert recipient["Action"] == "failed"
    assert recipient["Status"] == "5.1.1"
    assert "550 5.1.1 No such person here, ask at the desk" in recipient["Diagnostic-Code"]
    assert recipient["Diagnostic-Code"].startswith("smtp;")
    assert recipient["Remote-MTA"]
    assert REMOTE in report.words and "No such person here, ask at the desk" in report.words
    assert report.returned_type == "text/rfc822-headers"
    assert word.encode() in report.returned and b"secret body" not in report.raw
    assert len(sink.commands_of("MAIL")) == 1, "a permanent failure was tried again"


@pytest.mark.parametrize("stage, reply, status", [
    ("mail", "550 5.7.1 We don't want you", "5.7.1"), ("rcpt", "553 Odd name", "5.0.0"), ("data", "554 5.6.0 No", "5.6.0"),
    ("message", "554 5.7.1 Spam", "5.7.1"), ("message", "552 5.3.4 Too big", "5.3.4"), ("rcpt", "550-5.1.1 Two\r\n550 5.1.1 lines", "5.1.1"),
])
def test_permanent_failure_at_each_stage(place, relay_to, stage, reply, status):
    sink = place.sink(answer=refuse_at(stage, reply))
    relay = relay_to(sink)
    word = token()
    deliver(relay.address(), SENDER, REMOTE, letter(word))
    recipient = report_to(relay, word).recipient(REMOTE)
    assert recipient["Status"] == status and reply[:3] in recipient["Diagnostic-Code"]


def test_report_goes_to_an_external_sender(place, relay_to):
    """Through the same next hop, from the null sender, so that it can't bounce in turn."""
    sink = place.sink(answer=refuse_at("rcpt", "550 5.1.1 No", match="bad@"))
    relay = relay_to(sink)
    word = token()
    deliver(relay.address(), "outside@example.org", "bad@example.net", letter(word))
    message = sink.wait_for(word)
    assert message.sender == "" and message.addresses() == ["outside@example.org"]
    assert Report(message.content).final_recipients() == ["bad@example.net"]


def test_hostile_reply_does_not_break_the_report(place, relay_to):
    """A remote server must not be able to write lines, fields or MIME parts of its own into our report."""
    hostile = b"550 5.1.1 x\x1b[2J\"\\;\t\x01<script>\xff --boundary Content-Type: text/html " + b"y" * 300
    sink = place.sink(answer=refuse_at("rcpt", hostile.decode("latin-1")))
    relay = relay_to(sink)
    word = token()
    deliver(relay.address(), SENDER, REMOTE, letter(word))
    report = report_to(relay, word)
    assert report.recipient(REMOTE)["Status"] == "5.1.1"
    assert b"\x1b" not in report.raw and b"\x01" not in report.raw


def test_mixed_recipients(place, relay_to):
    """Each recipient has a fate of its own: delivered, tried again, or reported; and never two of them."""
    def answer(stage, text, session):
        if stage != "rcpt":
            return None
        if "bad" in text:
            return "550 5.1.1 No"
        return refuse_later(stage, text, session)

    refuse_later = refuse_at("rcpt", "451 4.7.1 Later", times=1, match="later")
    sink = place.sink(answer=answer)
    relay = relay_to(sink)
    word = token()
    deliver(relay.address(), SENDER, ["good@example.net", "bad1@example.net", "later@example.net", LOCAL, "nobody@contoso.test",
                                      "bad2@example.net"], letter(word))
    relay.maildir(LOCAL).wait_for(word)
    report = report_to(relay, word)
    assert report.final_recipients() == ["bad1@example.net", "bad2@example.net", "nobody@contoso.test"], "one report for all"
    sink.wait_until(lambda: len(sink.find(word)) == 2, "the second attempt")
    assert [message.addresses() for message in sink.find(word)] == [["good@example.net"], ["later@example.net"]]


def test_many_bad_recipients_make_one_report(place, relay_to):
    """A spoofed sender would get one message for each of N addresses (relay-behaviour.md section 6)."""
    sink = place.sink(answer=refuse_at("rcpt", "550 5.1.1 No"))
    relay = relay_to(sink)
    word = token()
    bad = [f"bad{number:03}@example.net" for number in range(250)]
    deliver(relay.address(), SENDER, bad, letter(word))
    report = report_to(relay, word)
    assert report.final_recipients() == bad
    assert len(report.raw) <= (16 + 250) * 1024
    assert relay.stop() == 0
    assert len(relay.maildir(SENDER).files()) == 1


def test_report_is_bounded(place, relay_to):
    """A flood with a forged sender must not be sent back at full size."""
    sink = place.sink(answer=refuse_at("rcpt", "550 5.1.1 No"))
    relay = relay_to(sink)
    word = token()
    extra = "".join(f"X-Filler-{number}: {'f' * 60}\r\n" for number in range(800))
    deliver(relay.address(), SENDER, REMOTE, letter(word, b"b" * 70 + b"\r\n", extra=extra))
    raw = relay.maildir(SENDER).wait_for(word)
    assert len(raw) <= 17 * 1024
    assert Report(raw).final_recipients() == [REMOTE]


@pytest.mark.parametrize("options, wanted", [("NOTIFY=NEVER", False), ("NOTIFY=SUCCESS", False), ("NOTIFY=DELAY", False),
                                             ("NOTIFY=FAILURE", True), ("NOTIFY=FAILURE,DELAY", True)])
def test_notify(place, relay_to, options, wanted):
    """RFC 3461: who asks for no report gets none, and who asks gets one."""
    sink = place.sink(answer=refuse_at("rcpt", "550 5.1.1 No"))
    relay = relay_to(sink)
    word = token()
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:<{SENDER}> ENVID=env+2B{word} RET=HDRS", "250 ")
        client.expect_code(f"RCPT TO:<{REMOTE}> {options} ORCPT=rfc822;first+2Bname@example.net", "250 ")
        assert client.data(letter(word)).startswith("250 ")
    sink.wait_until(lambda: sink.commands_of("RCPT"), "the attempt")
    if wanted:
        report = report_to(relay, word)
        assert report.fields["Original-Envelope-Id"] == f"env+{word}"
        assert report.recipient(REMOTE)["Original-Recipient"].replace(" ", "") == "rfc822;first+name@example.net"
    assert relay.stop() == 0
    relay.start()
    marker = token()
    deliver(relay.address(), SENDER, LOCAL, letter(marker))
    relay.maildir(LOCAL).wait_for(marker)
    assert relay.stop() == 0
    assert len(relay.maildir(SENDER).find(word)) == (1 if wanted else 0)
    assert not relay.badmail()


def test_expiry(place, relay_to):
    """Mail that can't be delivered must come back some day, with the last thing the next hop said."""
    sink = place.sink(answer=refuse_at("rcpt", "451 4.7.1 Come back later"))
    relay = relay_to(sink, expire="2s")
    word = token()
    deliver(relay.address(), SENDER, REMOTE, letter(word))
    report = report_to(relay, word)
    recipient = report.recipient(REMOTE)
    assert recipient["Action"] == "failed"
    assert recipient["Status"][0] in "45" and "451 4.7.1 Come back later" in recipient["Diagnostic-Code"]
    assert 2 <= len(sink.commands_of("RCPT")) <= 6


def test_expiry_with_next_hop_down(place, relay_to):
    sink = place.sink(listening=False)
    relay = relay_to(sink, expire="2s")
    word = token()
    deliver(relay.address(), SENDER, REMOTE, letter(word))
    assert report_to(relay, word).recipient(REMOTE)["Action"] == "failed"


def check_badmail(relay, word):
    """Exactly one message set aside, with its reason beside it."""
    wait_until(relay.badmail, "a file in badmail")
    [path] = relay.badmail()
    assert word.encode() in path.read_bytes()
    record = path.with_suffix(".json")
    wait_until(record.exists, record)
    assert json.loads(record.read_text()), "no reason"
    return json.loads(record.read_text())


def test_null_sender_goes_to_badmail(place, relay_to):
    """A report about a report loops; throwing it away loses it. The administrator finds it with its reason."""
    sink = place.sink(answer=refuse_at("rcpt", "550 5.1.1 No such person"))
    relay = relay_to(sink)
    word = token()
    deliver(relay.address(), "", REMOTE, letter(word))
    record = check_badmail(relay, word)
    assert REMOTE in json.dumps(record) and "No such person" in json.dumps(record)
    assert not relay.mailboxes() and not sink.messages


def test_unknown_local_recipient_from_null_sender(place, relay_to):
    relay = relay_to(place.sink())
    word = token()
    deliver(relay.address(), "", "nobody@contoso.test", letter(word))
    assert "nobody@contoso.test" in json.dumps(check_badmail(relay, word))
    assert not relay.mailboxes()


def test_undeliverable_report_goes_to_badmail(place, relay_to):
    """A forged sender: the report about it can't be delivered either, and ends there."""
    relay = relay_to(place.sink())
    word = token()
    deliver(relay.address(), "forged@contoso.test", "nobody@contoso.test", letter(word))
    check_badmail(relay, word)
    assert not relay.mailboxes()


def test_copy_of_reports(place, relay_to):
    """The postmaster who wants to see what fails; one message to both, and no report about that."""
    relay = relay_to(place.sink(answer=refuse_at("rcpt", "550 5.1.1 No")), ndr={"copy-to": "carol@contoso.test"})
    word = token()
    deliver(relay.address(), SENDER, REMOTE, letter(word))
    assert report_to(relay, word).final_recipients() == [REMOTE]
    assert report_to(relay, word, "carol@contoso.test").final_recipients() == [REMOTE]


def test_unresolved_recipients_are_forwarded(place):
    """While mailboxes move to another server: what is unknown here goes there, and nobody gets a report."""
    other, sink = place.sink(), place.sink()
    relay = place.postern({"connectors": {"out": connector(sink.address)},
                           "delivery": {"unresolved-recipients-host": other.address}})
    word = token()
    deliver(relay.address(), SENDER, ["nobody@contoso.test", LOCAL], letter(word))
    assert other.wait_for(word).addresses() == ["nobody@contoso.test"]
    relay.maildir(LOCAL).wait_for(word)
    assert relay.mailboxes() == [LOCAL] and not sink.messages


def test_reports_are_rate_limited(place, relay_to):
    """A flood with forged senders of one domain must not become a flood of reports to it; what is over the limit waits."""
    sink = place.sink(answer=refuse_at("rcpt", "550 5.1.1 No"))
    relay = relay_to(sink, ndr={"rate-per-domain": "3/h"})
    words = [token() for _ in range(8)]
    for word in words:
        deliver(relay.address(), SENDER, REMOTE, letter(word))
    wait_until(lambda: len(sink.commands_of("RCPT")) == len(words), "all attempts")
    assert len(relay.maildir(SENDER).wait_for_count(3)) == 3
    assert relay.stop() == 0
    assert len(relay.maildir(SENDER).files()) == 3
    relay.settings["delivery"]["ndr"]["rate-per-domain"] = "100000/m"
    relay.write_config()
    relay.start()
    for word in words:
        report_to(relay, word)
    assert not relay.badmail()


def test_flood_with_forged_senders(place):
    """Spam to unknown recipients must not make spammers of us: reports stay within their rate and size, a bounded number waits, and the rest is set aside
    and counted. `./dev bench ndr-flood` is the same at full size."""
    messages, waiting_max, rate = 1600, 1000, 200
    sink = place.sink()
    relay = place.postern({"connectors": {"out": connector(sink.address)}, "delivery": {"ndr": {"rate": f"{rate}/h", "rate-per-domain": "100/h"}}})
    fate = Fate(relay)
    header = b"".join(b"X-Filler-%d: %s\r\n" % (number, b"f" * 70) for number in range(200))
    send_flood(relay.address()[1], 0, messages, header)
    wait_until(lambda: fate.look() >= messages - waiting_max, "all but those that may wait are settled")
    wait_until(lambda: sum(fate.badmail()) == 2 * fate.suppressed and fate.look(), "badmail is what was counted")
    assert rate <= fate.reported <= rate + 5
    assert messages - fate.reported - fate.suppressed <= waiting_max
    reports = sink.wait_for_count(rate)
    assert max(len(message.content) for message in reports) <= 17 * 1024
    assert all(message.sender == "" and Report(message.content) for message in reports)
    assert relay.stop() == 0
    relay.settings["delivery"]["ndr"] = {"rate": "100000/m", "rate-per-domain": "100000/m"}
    relay.write_config()
    relay.start()
    assert len(sink.wait_for_count(messages - fate.suppressed)) == messages - fate.suppressed, "those that waited are told after all"
