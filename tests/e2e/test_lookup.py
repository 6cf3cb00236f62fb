# SPDX-License-Identifier: Apache-2.0
"""Recipients that only the directory knows: looked up at RCPT or after acceptance, and what aliases and lists stand for (relay-behaviour.md sections 2 and 6)."""
import pytest

from harness.answers import granting, report_to
from harness.client import SmtpClient, deliver, letter, token
from harness.limits import wait_until
from harness.map import DirectoryMap
from harness.settings import connector

OUTSIDE = "outside@example.org"
USERS = ["user alice -", "user bob -", "user carol -"]


@pytest.fixture
def start(place):
    """A relay with this map; (relay, map)."""
    def start_it(*lines, lookup="after-accept", more=None, away=False):
        directory_map = DirectoryMap(place.directory / "map", *USERS, *lines)
        if away:
            directory_map.take_away()
        settings = directory_map.settings(more)
        settings.setdefault("servers", {}).setdefault("main", {"listen": ["127.0.0.1:0"]})
        settings["servers"]["main"]["recipients"] = {"lookup": lookup}
        return place.postern(settings), directory_map
    return start_it


def is_taken(relay, recipient):
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:<{OUTSIDE}>", "250 ")
        return client.ask(f"RCPT TO:<{recipient}>").startswith("250 ")


def test_unknown_recipients_are_refused_at_rcpt(start):
    """Who looks up at RCPT wants strangers to learn at once, and forged senders to be left alone."""
    relay, _ = start("recipient info@contoso.test", "alias sales@contoso.test alice@contoso.test",
                     "recipient desk-*@contoso.test", lookup="at-rcpt",
                     more={"domains": {"contoso.example": {"type": "alias", "of": "contoso.test"}}})
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:<{OUTSIDE}>", "250 ")
        for known in ("alice", "ALICE@Contoso.Test", "info@contoso.test", "sales@contoso.test", "desk-7@contoso.test",
                      "postmaster", "bob@contoso.example", "sales@contoso.example"):
            client.expect_code(f"RCPT TO:<{known}>", "250 2.1.5 ")
        for unknown in ("nobody@contoso.test", "desk@contoso.test", "info@contoso.example.contoso.test"):
            domain_is_ours = not unknown.endswith("example.contoso.test")
            answer = client.ask(f"RCPT TO:<{unknown}>")
            assert answer == (f"550 5.1.1 {unknown}... User unknown" if domain_is_ours else
                              f"550 5.7.1 Unable to relay for {unknown}")
        client.expect("RCPT TO:<v%example.net>", "550 5.1.1 v%example.net@contoso.test... User unknown")


def test_unknown_recipients_are_reported_after_acceptance(start):
    """The default: the session tells nothing, and the report that must follow does."""
    relay, _ = start()
    word = token()
    deliver(relay.address(), "alice@contoso.test", ["bob@contoso.test", "nobody@contoso.test"], letter(word))
    relay.maildir("bob@contoso.test").wait_for(word)
    report = report_to(relay, word)
    assert report.final_recipients() == ["nobody@contoso.test"]
    assert report.recipient("nobody@contoso.test")["Status"] == "5.1.1"


def test_unknown_recipients_can_go_to_another_host(place, start):
    """During a migration the other system still has the rest of the mailboxes."""
    sink = place.sink()
    relay, _ = start(more={"delivery": {"unresolved-recipients-host": sink.address}})
    word = token()
    deliver(relay.address(), OUTSIDE, ["bob@contoso.test", "nobody@contoso.test"], letter(word))
    relay.maildir("bob@contoso.test").wait_for(word)
    assert sink.wait_for(word).addresses() == ["nobody@contoso.test"]


def test_allowed_domain_with_a_source(place, start):
    """Mail for a customer's domain is taken for the customer's people only."""
    sink = place.sink()
    relay, _ = start("recipient info@fabrikam.test", lookup="at-rcpt",
                     more={"domains": {"fabrikam.test": {"type": "allowed", "recipients": "directory"}},
                           "connectors": {"out": connector(sink.address)}})
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:<{OUTSIDE}>", "250 ")
        client.expect("RCPT TO:<nobody@fabrikam.test>", "550 5.1.1 nobody@fabrikam.test... User unknown")
    word = token()
    deliver(relay.address(), OUTSIDE, "info@fabrikam.test", letter(word))
    assert sink.wait_for(word).addresses() == ["info@fabrikam.test"]


def test_alias_and_catch_all(start):
    """What was sent to a role's address reaches the people behind it, whoever they are, each once."""
    relay, _ = start("alias sales@contoso.test alice@contoso.test,bob@contoso.test", "alias *@contoso.test carol@contoso.test")
    word = token()
    deliver(relay.address(), OUTSIDE, ["sales@contoso.test", "anything@contoso.test"], letter(word))
    for user in ("alice", "bob", "carol"):
        content = relay.maildir(f"{user}@contoso.test").wait_for(word)
        assert f"<{OUTSIDE}>".encode() in content.split(b"\r\n\r\n")[0], "an alias keeps the sender"
    assert relay.mailboxes() == ["alice@contoso.test", "bob@contoso.test", "carol@contoso.test"]


def test_alias_that_keeps_a_copy(start):
    """alice's mail goes to bob too while she is away; it is not a loop that her own address is among the targets."""
    relay, _ = start("alias away@contoso.test away@contoso.test,bob@contoso.test")
    word = token()
    deliver(relay.address(), OUTSIDE, "away@contoso.test", letter(word))
    relay.maildir("bob@contoso.test").wait_for(word)
    relay.maildir("away@contoso.test").wait_for(word)


def test_alias_to_the_outside(place, start):
    """Forwarding needs no relay permission of the sender's: the administrator gave it. Its DSN parameters go along."""
    sink = place.sink()
    relay, _ = start("alias external@contoso.test v@example.net", more={"connectors": {"out": connector(sink.address)}})
    word = token()
    deliver(relay.address(), OUTSIDE, "external@contoso.test", letter(word))
    message = sink.wait_for(word)
    assert message.addresses() == ["v@example.net"] and message.sender == OUTSIDE


def test_list_has_an_owner(place, start):
    """The owner of a list hears of its dead members; who wrote to it does not (RFC 5321 3.9.2)."""
    sink = place.sink()
    relay, _ = start("list staff@contoso.test carol@contoso.test bob@contoso.test,gone@contoso.test",
                     more={"connectors": {"out": connector(sink.address)}})
    word = token()
    deliver(relay.address(), "alice@contoso.test", "staff@contoso.test", letter(word))
    relay.maildir("bob@contoso.test").wait_for(word)
    report = report_to(relay, word, "carol@contoso.test")
    assert report.final_recipients() == ["gone@contoso.test"]
    assert not relay.maildir("alice@contoso.test").messages()


def test_report_to_a_list_stays_one(place, start):
    """Whatever has no sender has none for the members either: were it the owner, the list itself perhaps, a dead member elsewhere would send reports
    round for ever."""
    sink = place.sink()
    relay, _ = start("list staff@contoso.test staff@contoso.test v@example.net", more={"connectors": {"out": connector(sink.address)}})
    for sender, seen in (("", ""), (OUTSIDE, "staff@contoso.test")):
        word = token()
        deliver(relay.address(), sender, "staff@contoso.test", letter(word))
        assert sink.wait_for(word).sender == seen


def test_postmaster_is_an_alias(start):
    """Whose mail must always be taken, and must come to a person: an alias of that name is heeded, and without one there is a mailbox."""
    relay, directory_map = start("alias postmaster@contoso.test carol@contoso.test")
    word = token()
    deliver(relay.address(), OUTSIDE, "Postmaster@contoso.test", letter(word))
    relay.maildir("carol@contoso.test").wait_for(word)
    directory_map.write(*USERS)
    wait_until(lambda: was_read_again(relay), "the map without it is read")
    word = token()
    deliver(relay.address(), OUTSIDE, "postmaster@contoso.test", letter(word))
    relay.maildir("postmaster@contoso.test").wait_for(word)


def was_read_again(relay):
    deliver(relay.address(), OUTSIDE, "carol@contoso.test", letter(token()))
    return len(relay.log.find("directory-read")) == 2


def test_alias_of_an_alias_is_refused(start):
    """Two aliases that point at each other must not multiply mail: the map with them is not taken, and the one before goes on."""
    relay, directory_map = start("alias a@contoso.test bob@contoso.test", "alias b@contoso.test bob@contoso.test")
    directory_map.write(*USERS, "alias a@contoso.test b@contoso.test", "alias b@contoso.test a@contoso.test")
    wait_until(lambda: was_refused(relay), "the new map is read")
    word = token()
    deliver(relay.address(), OUTSIDE, "a@contoso.test", letter(word))
    relay.maildir("bob@contoso.test").wait_for(word)


def was_refused(relay):
    """A message makes the daemon look at the map."""
    deliver(relay.address(), OUTSIDE, "carol@contoso.test", letter(token()))
    return relay.log.find(lambda event: event.get("event") == "directory-file-refused")


def test_large_message_to_a_list(start):
    """A body in a file of its own is copied whole for the members."""
    relay, _ = start("list staff@contoso.test - alice@contoso.test,bob@contoso.test")
    word = token()
    body = b"0123456789abcdef" * 4 + b"\r\n"
    content = letter(word, body * 8000)
    deliver(relay.address(), OUTSIDE, "staff@contoso.test", content)
    for user in ("alice", "bob"):
        assert relay.maildir(f"{user}@contoso.test").wait_for(word).endswith(content)


def test_directory_that_does_not_answer_at_rcpt(start):
    """451 and not 550: a sender's server tries again, and no list drops a member because of our trouble."""
    relay, directory_map = start(lookup="at-rcpt", away=True)
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:<{OUTSIDE}>", "250 ")
        client.expect("RCPT TO:<alice@contoso.test>", "451 4.3.0 Directory unavailable, try again later")
        client.expect("RCPT TO:<nobody@contoso.test>", "451 4.3.0 Directory unavailable, try again later")
        client.expect("RCPT TO:<postmaster@contoso.test>", "250 2.1.5 postmaster@contoso.test")
        client.expect("RCPT TO:<v@example.net>", "550 5.7.1 Unable to relay for v@example.net")
    directory_map.put_back()
    wait_until(lambda: is_taken(relay, "alice@contoso.test"), "the directory is asked again")
    assert not is_taken(relay, "nobody@contoso.test")


def test_directory_that_does_not_answer_after_acceptance(start):
    """Mail goes on being taken, waits, and is then delivered or reported; nothing is returned because a directory did not answer."""
    relay, directory_map = start(more={"delivery": {"retry": ["200ms"]}}, away=True)
    words = [token() for _ in range(3)]
    for word in words:
        deliver(relay.address(), "alice@contoso.test", ["bob@contoso.test", "nobody@contoso.test"], letter(word))
    relay.wait_for_event(lambda event: event.get("event") == "deferred" and event["to"] == "bob@contoso.test")
    assert not relay.log.find(lambda event: event.get("event") in ("failed", "ndr"))
    directory_map.put_back()
    for word in words:
        relay.maildir("bob@contoso.test").wait_for(word)
        assert report_to(relay, word).final_recipients() == ["nobody@contoso.test"]


def test_waiting_for_the_directory_survives_a_crash(start):
    """What was accepted while the directory was away is not forgotten with the process."""
    relay, directory_map = start(more={"delivery": {"retry": ["200ms"]}}, away=True)
    word = token()
    deliver(relay.address(), OUTSIDE, "bob@contoso.test", letter(word))
    relay.kill()
    relay.start()
    directory_map.put_back()
    relay.maildir("bob@contoso.test").wait_for(word)


def test_relay_for_strangers_is_no_easier(place, start):
    """Being in the directory grants a recipient nothing elsewhere: relaying is refused before anything is looked up."""
    sink = place.sink()
    relay, _ = start("recipient v@example.net", lookup="at-rcpt", more={"connectors": granting(sink)["connectors"]})
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:<{OUTSIDE}>", "250 ")
        client.expect("RCPT TO:<v@example.net>", "550 5.7.1 Unable to relay for v@example.net")
