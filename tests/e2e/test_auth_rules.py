# SPDX-License-Identifier: Apache-2.0
"""What somebody who has authenticated may do: the rules of relay-behaviour.md section 2, step 2 a to e, and step 3, with real AUTH. One relay, a server for
each configuration; the users are alice (staff), bob (staff, contractors), carol (no group) and dave, whose name has its own domain."""
import pytest

from harness.accounts import AuthClient, accounts, server, tls_settings, user_line
from harness.client import letter, token
from harness.settings import connector
from harness.slapd import Authority

PASSWORD = "correct horse battery"
LOCAL, REMOTE, OUTSIDE = "bob@contoso.test", "v@example.net", "u@example.org"
AUTH = {"mechanisms": ["PLAIN"], "require-tls": False}

WANTS_STARTTLS = "530 5.7.0 Must issue a STARTTLS command first"
WANTS_AUTH = "530 5.7.0 Authentication required"
NO_SUBMIT = "550 5.7.1 Client does not have permission to submit mail to this server"
NO_RELAY = f"550 5.7.1 Unable to relay for {REMOTE}"
TAKEN = f"250 2.1.5 {REMOTE}"


def sender_ok(sender):
    return f"250 2.1.0 {sender}....Sender OK"


def submit(**permissions):
    return {"permissions": {"submit": permissions}}


def relaying(**permissions):
    return {"permissions": {"relay": permissions}}


LISTED = {"relay": {"authenticated": False}}
GRANTED = {"relay": {"only": ["127.0.0.0/8"]}}
NOT_GRANTED = {"relay": {"only": ["192.0.2.0/24"]}}
SERVERS = {
    "default": {},
    "private": {"anonymous": False},
    "submit-allow": submit(allow=["user:alice", "group:contractors"]),
    "submit-deny": submit(deny=["group:contractors", "user:carol"]),
    "submit-both": submit(allow=["group:staff"], deny=["user:bob"]),
    "relay-nobody": LISTED,
    "relay-allow": {**LISTED, **relaying(allow=["user:carol", "group:contractors"])},
    "relay-deny": relaying(deny=["user:carol", "group:contractors"]),
    "relay-both": {**LISTED, **relaying(allow=["group:staff"], deny=["user:bob"])},
    "relay-deny-granted": {**GRANTED, **relaying(deny=["user:carol"])},
    "relay-nobody-granted": {"relay": {"only": ["127.0.0.0/8"], "authenticated": False}},
    "relay-except": {"relay": {"except": ["192.0.2.0/24"], "authenticated": False}, **relaying(deny=["user:carol"]),
                     "allow-open-relay": "these tests"},
    "match-envelope": {"sender-match": "envelope"},
    "match-both": {"sender-match": "envelope-and-header"},
    "no-spoofing": {"anonymous-local-sender": "reject", **NOT_GRANTED},
    "no-spoofing-granted": {"anonymous-local-sender": "reject", **GRANTED},
    "all": {"anonymous": False, "anonymous-local-sender": "reject", "sender-match": "envelope", **submit(deny=["user:carol"])},
}


@pytest.fixture(scope="module")
def sink(shared_place):
    return shared_place.sink()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls") / "authority").certify()


@pytest.fixture(scope="module")
def relay(shared_place, sink, authority):
    servers = {name: server(auth=AUTH, **more) for name, more in SERVERS.items()}
    servers["main"] = server()
    servers["tls"] = server(tls=tls_settings(authority, required=True), auth={"mechanisms": ["PLAIN"]}, anonymous=False)
    _, settings = accounts(shared_place.directory / "map", user_line("alice", PASSWORD, groups="staff", addresses="sales@contoso.test,alice@fabrikam.test"),
                           user_line("bob", PASSWORD, groups="staff,contractors"), user_line("carol", PASSWORD),
                           user_line("dave@fabrikam.test", PASSWORD), more={
        "domains": {"fabrikam.test": {"type": "local", "recipients": "directory"}, "contoso.example": {"type": "alias", "of": "contoso.test"}},
        "servers": servers, "connectors": {"out": connector(sink.address)}})
    return shared_place.postern(settings)


def session(relay, name, user=None):
    client = AuthClient(relay.address(name))
    return client.log_in(user, PASSWORD) if user else client


def check_mail(relay, name, user, sender, answer):
    with session(relay, name, user) as client:
        client.expect(f"MAIL FROM:<{sender}>", answer)


def check_rcpt(relay, name, user, answer, sender=OUTSIDE, recipient=REMOTE):
    with session(relay, name, user) as client:
        client.expect(f"MAIL FROM:<{sender}>", sender_ok(sender))
        client.expect(f"RCPT TO:<{recipient}>", answer)
        client.expect_code(f"RCPT TO:<{LOCAL}>", "250 ")  # what is local is not relaying, whoever it is


def test_mail_that_may_be_relayed_arrives(relay, sink):
    word = token()
    with session(relay, "default", "alice") as client:
        client.deliver("alice@contoso.test", [REMOTE, LOCAL], letter(word))
    assert sink.wait_for(word).addresses() == [REMOTE]
    relay.maildir(LOCAL).wait_for(word)


# ---- step 2: at MAIL ----

def test_tls_is_required(relay, authority):
    """2 a, before 2 b."""
    with AuthClient(relay.address("tls")) as client:
        client.expect(f"MAIL FROM:<{OUTSIDE}>", WANTS_STARTTLS)
        client.expect("MAIL FROM:<a@b@c>", "501 5.5.4 Invalid Address")
        client.start_tls(authority.file)
        client.expect(f"MAIL FROM:<{OUTSIDE}>", WANTS_AUTH)
        client.log_in("carol", PASSWORD)
        client.expect(f"MAIL FROM:<{OUTSIDE}>", sender_ok(OUTSIDE))


def test_authentication_is_required(relay):
    """2 b, before 2 e; a sender that does not parse before all of them."""
    for sender in (OUTSIDE, "alice@contoso.test", ""):
        check_mail(relay, "private", None, sender, WANTS_AUTH)
    check_mail(relay, "private", None, "a@b@c", "501 5.5.4 Invalid Address")
    check_mail(relay, "all", None, "alice@contoso.test", WANTS_AUTH)
    check_mail(relay, "private", "carol", OUTSIDE, sender_ok(OUTSIDE))


@pytest.mark.parametrize("name, allowed", [
    ("submit-allow", {"alice", "bob"}), ("submit-deny", {"alice", "dave@fabrikam.test"}), ("submit-both", {"alice"}),
    ("default", {"alice", "bob", "carol", "dave@fabrikam.test"})])
def test_permission_to_submit(relay, name, allowed):
    """2 c: users and groups; deny wins. It is about those who have authenticated: others may still bring mail for local people."""
    for user in ("alice", "bob", "carol", "dave@fabrikam.test"):
        check_mail(relay, name, user, OUTSIDE, sender_ok(OUTSIDE) if user in allowed else NO_SUBMIT)
    check_mail(relay, name, None, OUTSIDE, sender_ok(OUTSIDE))


@pytest.mark.parametrize("user, own, others", [
    ("alice", ["alice@contoso.test", "ALICE@Contoso.Test", "sales@contoso.test", "alice@fabrikam.test", "alice@contoso.example"],
     ["bob@contoso.test", OUTSIDE, "alice@example.org", "sales@fabrikam.test"]),
    ("carol", ["carol@contoso.test"], ["alice@contoso.test", "carol@fabrikam.test"]),
    ("dave@fabrikam.test", ["dave@fabrikam.test"], ["dave@contoso.test"])])
@pytest.mark.parametrize("name", ["match-envelope", "match-both"])
def test_sender_must_be_the_users_own(relay, name, user, own, others):
    """2 d, for the envelope."""
    for sender in own:
        check_mail(relay, name, user, sender, sender_ok(sender))
    for sender in others:
        check_mail(relay, name, user, sender, f"550 5.7.1 Sender {sender} not permitted")


def test_sender_match_is_for_those_who_authenticate(relay):
    check_mail(relay, "match-envelope", None, OUTSIDE, sender_ok(OUTSIDE))
    check_mail(relay, "default", "alice", "bob@contoso.test", sender_ok("bob@contoso.test"))


@pytest.mark.parametrize("name, author, answer", [
    ("match-both", "alice@contoso.test", "250 2.6.0 "), ("match-both", "sales@contoso.test", "250 2.6.0 "),
    ("match-both", "bob@contoso.test", "550 5.7.1 Sender bob@contoso.test not permitted"), ("match-envelope", "bob@contoso.test", "250 2.6.0 ")])
def test_header_must_be_the_users_own(relay, name, author, answer):
    """2 d, for what the recipient will see."""
    with session(relay, name, "alice") as client:
        client.envelope("alice@contoso.test", LOCAL)
        assert client.data(letter(token(), sender=author)).startswith(answer)


def test_anonymous_mail_does_not_pass_for_ours(relay):
    """2 e: the classic spoof; a client that is granted relay may, and whoever has authenticated."""
    for sender in ("alice@contoso.test", "nobody@contoso.test", "dave@fabrikam.test", "alice@contoso.example"):
        check_mail(relay, "no-spoofing", None, sender, f"550 5.7.1 Sender {sender} requires authentication")
        check_mail(relay, "no-spoofing", "carol", sender, sender_ok(sender))
        check_mail(relay, "no-spoofing-granted", None, sender, sender_ok(sender))
    for sender in (OUTSIDE, "alice@contoso.test.example.org"):
        check_mail(relay, "no-spoofing", None, sender, sender_ok(sender))
    check_mail(relay, "default", None, "alice@contoso.test", sender_ok("alice@contoso.test"))


def test_order_of_the_rules(relay):
    """c before d: who may not submit learns no more."""
    check_mail(relay, "all", "carol", OUTSIDE, NO_SUBMIT)
    check_mail(relay, "all", "alice", OUTSIDE, f"550 5.7.1 Sender {OUTSIDE} not permitted")
    check_mail(relay, "all", "alice", "alice@contoso.test", sender_ok("alice@contoso.test"))


# ---- step 3: at RCPT ----

@pytest.mark.parametrize("name, allowed", [
    ("default", {"alice", "bob", "carol"}),       # 3: whoever has authenticated
    ("relay-nobody", set()),                      # ... switched off
    ("relay-allow", {"bob", "carol"}),            # 2: users and groups
    ("relay-deny", {"alice"}),                    # 1: before 3
    ("relay-both", {"alice"}),                    # 1: before 2
    ("relay-deny-granted", {"alice", "bob"}),     # 1: before the list of clients
    ("relay-nobody-granted", {"alice", "bob", "carol"}),  # 4: the list grants whoever it is
    ("relay-except", {"alice", "bob"})])          # 1: before 5
def test_permission_to_relay(relay, name, allowed):
    for user in ("alice", "bob", "carol"):
        check_rcpt(relay, name, user, TAKEN if user in allowed else NO_RELAY)


@pytest.mark.parametrize("name, answer", [("default", NO_RELAY), ("relay-allow", NO_RELAY), ("relay-deny", NO_RELAY), ("relay-deny-granted", TAKEN),
                                          ("relay-except", TAKEN)])
def test_who_has_not_authenticated(relay, name, answer):
    check_rcpt(relay, name, None, answer)


def test_failed_authentication_grants_nothing(relay):
    with AuthClient(relay.address("default")) as client:
        client.plain("alice", "wrong")
        client.expect(f"MAIL FROM:<{OUTSIDE}>", sender_ok(OUTSIDE))
        client.expect(f"RCPT TO:<{REMOTE}>", NO_RELAY)
    with AuthClient(relay.address("default")) as client:
        client.expect("AUTH PLAIN", "334 ")
        client.expect("*", "501 5.7.0 Authentication cancelled")
        client.expect(f"MAIL FROM:<{OUTSIDE}>", sender_ok(OUTSIDE))
        client.expect(f"RCPT TO:<{REMOTE}>", NO_RELAY)


def test_auth_parameter_grants_nothing(relay):
    """MAIL's AUTH= is what anybody may say (RFC 4954 5)."""
    with AuthClient(relay.address("default")) as client:
        client.expect(f"MAIL FROM:<{OUTSIDE}> AUTH=alice@contoso.test", sender_ok(OUTSIDE))
        client.expect(f"RCPT TO:<{REMOTE}>", NO_RELAY)
