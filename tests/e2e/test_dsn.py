# SPDX-License-Identifier: Apache-2.0
"""Delivery status notifications as RFC 3461 has them: who is told of what, how much comes back, and what is passed on to the next hop."""
import email
import email.policy
import re

import pytest
from flufl.bounce import all_failures

from harness.answers import LOCAL, REMOTE, SENDER, granting, refuse_at, report_to
from harness.client import SmtpClient, deliver, letter, token
from harness.limits import wait_until
from harness.map import DirectoryMap
from harness.report import Report, is_report
from harness.settings import HOSTNAME, connector
from harness.sink import KEYWORDS

WITHOUT_DSN = tuple(word for word in KEYWORDS if word != "DSN")
NOTIFY = ("", "NEVER", "SUCCESS", "FAILURE", "DELAY", "SUCCESS,FAILURE", "FAILURE,DELAY", "SUCCESS,FAILURE,DELAY")


def send(relay, recipient, content, mail="", rcpt="", sender=SENDER):
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:<{sender}>{mail}", "250 ")
        client.expect_code(f"RCPT TO:<{recipient}>{rcpt}", "250 ")
        answer = client.data(content)
        assert answer.startswith("250 "), answer


def send_all(relay, recipient):
    """One message for each NOTIFY; {notify: token}."""
    words = {}
    for notify in NOTIFY:
        words[notify] = token()
        send(relay, recipient, letter(words[notify]), " ENVID=e+2B1", f" NOTIFY={notify}" if notify else "")
    return words


def check_told(relay, words, action, asks):
    """Exactly those with one of `asks` in their NOTIFY get one report, with this action, and nobody another one."""
    wanted = {notify: any(word in asks for word in notify.split(",")) for notify in words}
    for notify, word in words.items():
        if wanted[notify]:
            [fields] = report_to(relay, word).recipients
            assert fields["Action"] == action, notify
    assert relay.stop() == 0
    for notify, word in words.items():
        assert len(relay.maildir(SENDER).find(word)) == (1 if wanted[notify] else 0), notify or "no NOTIFY"
    assert not relay.badmail()


# ---- who is told (RFC 3461 4.1, 5.2) ----

@pytest.mark.parametrize("keywords", [KEYWORDS, WITHOUT_DSN])
def test_failure(place, keywords):
    """Whoever was refused is reported by us, whether or not the one who refused knows of reports."""
    sink = place.sink(keywords=keywords, answer=refuse_at("rcpt", "550 5.1.1 No"))
    relay = place.postern(granting(sink))
    words = send_all(relay, REMOTE)
    sink.wait_until(lambda: len(sink.commands_of("RCPT")) == len(words), "all attempts")
    check_told(relay, words, "failed", ("", "FAILURE"))


def test_local_delivery(place, relay_to):
    """In the mailbox is the end of the way: it is ours to tell."""
    relay = relay_to(place.sink())
    words = send_all(relay, LOCAL)
    for word in words.values():
        relay.maildir(LOCAL).wait_for(word)
    check_told(relay, words, "delivered", ("SUCCESS",))


def test_relayed_to_a_server_without_dsn(place, relay_to):
    """Nobody behind it will tell; the sender learns how far we know."""
    sink = place.sink(keywords=WITHOUT_DSN)
    relay = relay_to(sink)
    words = send_all(relay, REMOTE)
    for word in words.values():
        assert sink.wait_for(word).recipients == [(REMOTE, "")]
    check_told(relay, words, "relayed", ("SUCCESS",))


def test_passed_on_to_a_server_with_dsn(place, relay_to):
    """It has the request: a report of ours would be one too many."""
    sink = place.sink()
    relay = relay_to(sink)
    words = send_all(relay, REMOTE)
    for notify, word in words.items():
        message = sink.wait_for(word)
        added = f" ORCPT=rfc822;{REMOTE}" if notify not in ("", "NEVER") else ""
        assert message.recipients == [(REMOTE, f"NOTIFY={notify}{added}" if notify else "")]
        assert "ENVID=e+2B1" in message.sender_options
    check_told(relay, words, "none", ())


def test_delay(place, relay_to):
    """Told once, with what hinders it and until when; and those who want to know of failures or nothing only are left alone."""
    sink = place.sink(answer=refuse_at("rcpt", "451 4.7.1 Come back later"))
    relay = relay_to(sink, **{"delay-notice": "2s", "expire": "1h"})
    words = send_all(relay, REMOTE)
    raw = relay.maildir(SENDER).wait_for(words[""])
    report = Report(raw)
    fields = report.recipient(REMOTE)
    assert fields["Action"] == "delayed" and fields["Status"] == "4.7.1" and fields["Will-Retry-Until"]
    words_in_one_line = " ".join(report.words.split())
    for part in ("It has not failed", "Come back later", "It will be tried again until", "need not send the message again"):
        assert part in words_in_one_line
    assert report.message["Subject"].startswith("Delayed")
    seen = len(sink.commands_of("RCPT"))
    sink.wait_until(lambda: len(sink.commands_of("RCPT")) >= seen + 2 * len(words), "two more attempts of each")
    check_told(relay, words, "delayed", ("", "DELAY"))
    relay.start()
    seen = len(sink.commands_of("RCPT"))
    sink.wait_until(lambda: len(sink.commands_of("RCPT")) >= seen + len(words), "an attempt after the restart")
    assert relay.stop() == 0
    assert len(relay.maildir(SENDER).find(words[""])) == 1, "told again after a restart"


def test_delay_then_failure(place, relay_to):
    """A notice of delay is not the last word."""
    sink = place.sink(answer=refuse_at("rcpt", "451 4.7.1 Later"))
    relay = relay_to(sink, **{"delay-notice": "1s", "expire": "4s"})
    word = token()
    deliver(relay.address(), SENDER, REMOTE, letter(word))
    wait_until(lambda: len(relay.maildir(SENDER).find(word)) == 2, "both reports")
    reports = sorted((Report(raw) for raw in relay.maildir(SENDER).find(word)), key=lambda report: report.recipient(REMOTE)["Action"])
    assert [report.recipient(REMOTE)["Action"] for report in reports] == ["delayed", "failed"]
    assert reports[1].recipient(REMOTE)["Status"] == "4.4.7"
    assert "the time for that is over" in reports[1].words and "451 4.7.1 Later" in reports[1].words


def test_null_sender_is_told_nothing(place, relay_to):
    sink = place.sink(answer=refuse_at("rcpt", "451 4.7.1 Later"))
    relay = relay_to(sink, **{"delay-notice": "1s"})
    words = [token(), token()]
    send(relay, LOCAL, letter(words[0]), rcpt=" NOTIFY=SUCCESS", sender="")
    send(relay, REMOTE, letter(words[1]), rcpt=" NOTIFY=DELAY", sender="")
    relay.maildir(LOCAL).wait_for(words[0])
    sink.wait_until(lambda: len(sink.commands_of("RCPT")) >= 4, "attempts beyond the notice")
    assert relay.stop() == 0
    assert relay.mailboxes() == [LOCAL] and not relay.badmail()


# ---- what is passed on (RFC 3461 5.2.1) ----

@pytest.mark.parametrize("mail, rcpt", [
    (" RET=HDRS ENVID=QQ+2B314159", " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob+2Bx@example.com"),
    (" RET=FULL", " NOTIFY=NEVER"), (" ENVID=x", ""), ("", " ORCPT=x400;some+20thing"), ("", ""),
])
def test_parameters_are_passed_on(place, relay_to, mail, rcpt):
    sink = place.sink()
    relay = relay_to(sink)
    word = token()
    send(relay, REMOTE, letter(word), mail, rcpt)
    message = sink.wait_for(word)
    given = [option for option in message.sender_options.split() if not option.startswith(("SIZE", "BODY"))]
    assert given == mail.split()
    assert message.recipients[0][1].split() == rcpt.split()


# ---- how much comes back (RFC 3461 4.3, relay-behaviour.md section 6) ----

BODY = b"line\r\n.dot\r\n--\r\n" * 20
BIG = b"0123456789abcdef" * 4 + b"\r\n"


def failing(place, **ndr):
    return place.postern(granting(place.sink(answer=refuse_at("rcpt", "550 5.1.1 No")), ndr=ndr))


@pytest.mark.parametrize("ret, setting, whole", [("", "headers", False), ("HDRS", "headers", False), ("FULL", "headers", True),
                                                 ("", "full", True), ("HDRS", "full", False), ("FULL", "full", True)])
def test_return(place, ret, setting, whole):
    relay = failing(place, **{"return": setting})
    word = token()
    content = letter(word, BODY)
    send(relay, REMOTE, content, f" RET={ret}" if ret else "")
    report = report_to(relay, word)
    assert report.returned_type == ("message/rfc822" if whole else "text/rfc822-headers")
    assert (report.returned_content.endswith(content)) == whole
    assert (b".dot" in report.raw) == whole


@pytest.mark.parametrize("size", [200_000, 262_000, 3_000_000])
def test_large_message_comes_back_whole(place, size):
    """Through memory or a file of its own, around the spool's bound between them: the same bytes."""
    relay = failing(place)
    word = token()
    content = letter(word, BIG * (size // len(BIG)))
    send(relay, REMOTE, content, " RET=FULL")
    assert report_to(relay, word).returned_content.endswith(content)


def test_8bit_message_comes_back_whole(place):
    relay = failing(place)
    word = token()
    content = letter(word, "Grüße\r\n".encode())
    send(relay, REMOTE, content, " RET=FULL BODY=8BITMIME")
    report = report_to(relay, word)
    assert report.returned_content.endswith(content)
    assert report.message["Content-Transfer-Encoding"] == "8bit"


@pytest.mark.parametrize("setting", ["headers", "full"])
def test_stranger_gets_headers_only(place, setting):
    """Anybody may name a sender and ask for its mail to be filled: whoever may not relay gets no whole message back."""
    relay = place.postern({"delivery": {"ndr": {"return": setting}}})
    word = token()
    send(relay, "nobody@contoso.test", letter(word, BODY), " RET=FULL")
    report = report_to(relay, word)
    assert report.returned_type == "text/rfc822-headers" and b".dot" not in report.raw


def test_success_returns_headers_only(place, relay_to):
    """RFC 3461 4.3: RET is about failures."""
    relay = relay_to(place.sink())
    word = token()
    send(relay, LOCAL, letter(word, BODY), " RET=FULL", " NOTIFY=SUCCESS")
    assert report_to(relay, word).returned_type == "text/rfc822-headers"


def test_larger_than_is_taken_now(place):
    """The bound of a report is the server's own message-size, also when that has become smaller since."""
    sink = place.sink(answer=refuse_at("rcpt", "451 4.7.1 Later"))
    relay = place.postern(granting(sink, expire="1h"))
    word = token()
    send(relay, REMOTE, letter(word, BIG * 4000), " RET=FULL")
    sink.wait_until(lambda: sink.commands_of("RCPT"), "an attempt")
    assert relay.stop() == 0
    relay.settings["servers"]["main"]["limits"] = {"message-size": "64KiB"}
    relay.settings["delivery"]["expire"] = "1s"
    relay.write_config()
    relay.start()
    assert report_to(relay, word).returned_type == "text/rfc822-headers"


# ---- aliases and lists (RFC 3461 5.2.7) ----

def with_directory(place, *lines, sink=None):
    directory_map = DirectoryMap(place.directory / "map", "user alice -", "user bob -", "user carol -", *lines)
    more = {"connectors": {"out": connector(sink.address)}} if sink else {}
    return place.postern(directory_map.settings(more))


def test_alias_of_one_inherits(place):
    """Another name of somebody: the report comes from where the mail ends, and names the address that was written to."""
    sink = place.sink()
    relay = with_directory(place, "alias ext@contoso.test v@example.net", "alias int@contoso.test bob@contoso.test", sink=sink)
    words = [token(), token()]
    send(relay, "ext@contoso.test", letter(words[0]), " ENVID=e1", " NOTIFY=SUCCESS,DELAY")
    message = sink.wait_for(words[0])
    assert message.recipients == [(REMOTE, "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;ext@contoso.test")]
    assert "ENVID=e1" in message.sender_options
    send(relay, "int@contoso.test", letter(words[1]), "", " NOTIFY=SUCCESS")
    fields = report_to(relay, words[1]).recipient("bob@contoso.test")
    assert fields["Action"] == "delivered" and fields["Original-Recipient"] == "rfc822; int@contoso.test"
    assert relay.stop() == 0
    assert not relay.maildir(SENDER).find(words[0])


def test_alias_of_many_is_expanded(place):
    """One report that it went on, none for each member; but a member that fails is reported, under the alias's name."""
    sink = place.sink(keywords=KEYWORDS, answer=refuse_at("rcpt", "550 5.1.1 Gone", match="gone@"))
    relay = with_directory(place, "alias team@contoso.test bob@contoso.test,v@example.net,gone@example.net", sink=sink)
    word = token()
    send(relay, "team@contoso.test", letter(word), " ENVID=e1", " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first@example.org")
    assert sink.wait_for(word).recipients == [(REMOTE, "NOTIFY=FAILURE ORCPT=rfc822;first@example.org")]
    relay.maildir(LOCAL).wait_for(word)
    wait_until(lambda: len(relay.maildir(SENDER).find(word)) == 2, "both reports")
    reports = {report.recipients[0]["Action"]: report for report in map(Report, relay.maildir(SENDER).find(word))}
    assert reports["expanded"].final_recipients() == ["team@contoso.test"]
    assert "bob@" not in reports["expanded"].words, "who is behind it is not the sender's business"
    assert reports["failed"].final_recipients() == ["gone@example.net"]
    for report in reports.values():
        assert report.recipients[0]["Original-Recipient"] == "rfc822; first@example.org"
        assert report.fields["Original-Envelope-Id"] == "e1"


def test_alias_of_many_with_success_only(place):
    """Nothing was asked for but success: the members' copies ask for nothing."""
    sink = place.sink()
    relay = with_directory(place, "alias team@contoso.test bob@contoso.test,v@example.net", sink=sink)
    word = token()
    send(relay, "team@contoso.test", letter(word), "", " NOTIFY=SUCCESS")
    assert sink.wait_for(word).recipients[0][1].split()[0] == "NOTIFY=NEVER"
    assert report_to(relay, word).recipient("team@contoso.test")["Action"] == "expanded"


def test_list_is_delivered(place):
    """A list has taken the message: that is the end of the way for its sender."""
    relay = with_directory(place, "list staff@contoso.test carol@contoso.test bob@contoso.test,gone@contoso.test")
    word = token()
    send(relay, "staff@contoso.test", letter(word), " ENVID=e1 RET=FULL", " NOTIFY=SUCCESS,FAILURE")
    assert report_to(relay, word).recipient("staff@contoso.test")["Action"] == "delivered"
    owners = report_to(relay, word, "carol@contoso.test")
    assert owners.final_recipients() == ["gone@contoso.test"]
    assert owners.fields["Original-Envelope-Id"] is None, "the ENVID is the writer's, not the owner's"


# ---- internationalised (RFC 6533) ----

def test_internationalised_report(place):
    """The sender reads the address as it was written, and so does a program."""
    sink = place.sink(answer=refuse_at("rcpt", "550 5.1.1 Kein solches Postfach: größe"))
    relay = place.postern(granting(sink))
    word = token()
    send(relay, "grüße@example.net", letter(word, extra="X-Note: Grüße\r\n").replace(b"X-Note", "X-Nöte".encode()),
         " SMTPUTF8 BODY=8BITMIME", " ORCPT=utf-8;gr\\x{FC}\\x{DF}e+x@example.net".replace("+", "\\x{2B}"))
    report = report_to(relay, word)
    assert report.message.get_param("report-type") == "global-delivery-status"
    assert report.recipients[0]["Final-Recipient"] == "utf-8; grüße@example.net"
    assert report.recipients[0]["Original-Recipient"] == "utf-8; grüße+x@example.net"
    assert report.returned_type == "message/global-headers" and "grüße@example.net" in report.words


def test_internationalised_sender(place):
    """Its own header needs SMTPUTF8 then; the next hop must be asked for it."""
    sink = place.sink(answer=refuse_at("rcpt", "550 5.1.1 No", match="v@"))
    relay = place.postern(granting(sink))
    word = token()
    content = letter(word, BODY)
    send(relay, REMOTE, content, " SMTPUTF8 RET=FULL", sender="jürgen@example.org")
    message = sink.wait_for(word)
    assert message.addresses() == ["jürgen@example.org"] and "SMTPUTF8" in message.sender_options.split()
    report = Report(message.content)
    assert report.returned_type == "message/global" and report.returned_content.endswith(content)


def test_original_recipient_of_an_international_alias(place):
    """The address that is put in for the sender's is in the form that may go anywhere."""
    sink = place.sink()
    relay = with_directory(place, "alias büro@contoso.test v@example.net", sink=sink)
    word = token()
    send(relay, "büro@contoso.test", letter(word), " SMTPUTF8", " NOTIFY=SUCCESS")
    assert sink.wait_for(word).recipients == [(REMOTE, "NOTIFY=SUCCESS ORCPT=utf-8;b\\x{FC}ro@contoso.test")]


# ---- for programs ----

def parse_bounce(raw):
    """An independent reader of RFC 3464, by its text alone: {recipient: (action, status)}."""
    boundary = re.search(rb'boundary="([^"]+)"', raw).group(1)
    parts = raw.split(b"\r\n--" + boundary)
    assert parts[-1] == b"--\r\n" and len(parts) == 5, len(parts)
    head, _, body = parts[2].lstrip(b"\r\n").partition(b"\r\n\r\n")
    assert b"delivery-status" in head
    found = {}
    for number, group in enumerate(re.split(rb"\r\n\r\n", body.rstrip(b"\r\n"))):
        fields = dict(re.match(rb"([!-9;-~]+): *(.*)\Z", line, re.DOTALL).groups()
                      for line in re.sub(rb"\r\n[ \t]+", b" ", group).split(b"\r\n"))
        if number == 0:
            assert fields[b"Reporting-MTA"] == b"dns; " + HOSTNAME.encode()
            continue
        assert re.match(rb"[245]\.\d{1,3}\.\d{1,3}\Z", fields[b"Status"]), fields
        kind, _, address = fields[b"Final-Recipient"].partition(b"; ")
        assert kind in (b"rfc822", b"utf-8")
        found[address.decode()] = (fields[b"Action"].decode(), fields[b"Status"].decode())
    return found


def test_programs_understand_reports(place):
    """List managers unsubscribe by them: a failure must be read as one, a delay must not."""
    sink = place.sink(answer=lambda stage, text, session: {"bad": "550 5.1.1 No such user\r\n", "late": "451 4.7.1 Later\r\n"}.get(
        next((name for name in ("bad", "late") if stage == "rcpt" and name in text), ""), "").strip() or None)
    relay = place.postern(granting(sink, **{"delay-notice": "1s", "expire": "1h"}))
    words = [token(), token()]
    deliver(relay.address(), SENDER, ["bad1@example.net", "bad2@example.net"], letter(words[0]))
    deliver(relay.address(), SENDER, "late@example.net", letter(words[1]))
    raw = relay.maildir(SENDER).wait_for(words[0])
    temporary, permanent = all_failures(email.message_from_bytes(raw))
    assert permanent == {b"bad1@example.net", b"bad2@example.net"} and not temporary
    assert parse_bounce(raw) == {"bad1@example.net": ("failed", "5.1.1"), "bad2@example.net": ("failed", "5.1.1")}
    raw = relay.maildir(SENDER).wait_for(words[1])
    temporary, permanent = all_failures(email.message_from_bytes(raw))
    assert not permanent and temporary <= {b"late@example.net"}
    assert parse_bounce(raw) == {"late@example.net": ("delayed", "4.7.1")}


# ---- loops ----

@pytest.mark.parametrize("line, loops", [
    ("Delivered-To: bob@contoso.test", True), ("delivered-to: <BOB@Contoso.Test>", True), ("Delivered-To:\r\n bob@contoso.example", True),
    ("Delivered-To: someone@example.net\r\nX: y\r\nDelivered-To: bob@contoso.test", True),
    ("Delivered-To: alice@contoso.test", False), ("X-Delivered-To: bob@contoso.test", False), ("Delivered-To:", False),
    ("Delivered-To: bob", False),
])
def test_mailbox_loop(place, line, loops):
    """Forwarding that leads back ends at once, and not after a hundred rounds."""
    relay = place.postern({"domains": {"contoso.example": {"type": "alias", "of": "contoso.test"}}})
    word = token()
    deliver(relay.address(), SENDER, LOCAL, letter(word, extra=f"{line}\r\n"))
    if loops:
        fields = report_to(relay, word).recipient(LOCAL)
        assert fields["Action"] == "failed" and fields["Status"] == "5.4.6"
        assert not relay.maildir(LOCAL).find(word)
    else:
        assert not is_report(relay.maildir(LOCAL).wait_for(word))


def test_delivered_to_in_the_body_is_no_loop(place):
    relay = place.postern()
    word = token()
    deliver(relay.address(), SENDER, LOCAL, letter(word, b"Delivered-To: bob@contoso.test\r\n"))
    relay.maildir(LOCAL).wait_for(word)
