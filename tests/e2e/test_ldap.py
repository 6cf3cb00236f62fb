# SPDX-License-Identifier: Apache-2.0
"""Users, groups, passwords and recipients in an LDAP directory: Debian's slapd, over TLS, as it should be and as it should not."""
import base64
import hashlib
import json
import socket
import statistics
import subprocess
import time

import pytest

from harness.client import SmtpClient
from harness.limits import WAIT_S, wait_until
from harness.postern import program
from harness.settings import connector, merge
from harness.slapd import BASE, SERVICE_DN, SERVICE_PASSWORD, Authority, Slapd, StallingProxy, entry

OUTSIDE = "outside@example.org"
TAKEN, UNKNOWN, AWAY = "250 2.1.5", "550 5.1.1", "451 4.3.0"
WELCOME, WRONG, LATER = "235 2.7.0", "535 5.7.8", "454 4.7.0"
CERTIFICATE = hashlib.sha256(b"a certificate").hexdigest()

ENTRIES = [
    entry("alice", "alice's secret", f"""
mail: alice@contoso.test
proxyAddresses: SMTP:Alice.Smith@contoso.test
proxyAddresses: smtp:a.smith@contoso.test
proxyAddresses: sip:chat@contoso.test
memberOf: CN=staff,OU=groups,{BASE}
memberOf: CN=Smith\\, friends of,OU=groups,{BASE}
description: {CERTIFICATE}
"""),
    entry("bob", "bob's secret", f"sAMAccountName: BOB1\nmail: bob@contoso.test\nmemberOf: CN=blocked,OU=groups,{BASE}"),
    entry("locked", "locked's secret", "mail: locked@contoso.test\npwdAccountLockedTime: 000001010000Z"),
    entry("disabled", "disabled's secret", "mail: disabled@contoso.test\nuserAccountControl: 514"),
    entry("nopassword", None, "mail: nopassword@contoso.test"),
    entry("twin1", "twin's secret", "mail: twin@contoso.test"),
    entry("twin2", "twin's secret", "mail: twin@contoso.test"),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A server that no test stops."""
    with Slapd(tmp_path_factory.mktemp("slapd"), ENTRIES) as slapd:
        yield slapd


@pytest.fixture
def slapd(tmp_path):
    """A server of the test's own, to be stopped and frozen."""
    with Slapd(tmp_path / "slapd", ENTRIES) as own:
        yield own


def settings_of(directory, more=None):
    """Looks up at RCPT, and offers PLAIN without TLS: what is between client and server is not this file's business."""
    return merge({
        "domains": {"contoso.test": {"type": "local", "default": True, "recipients": "directory"}},
        "directory": directory,
        "servers": {"main": {"listen": ["127.0.0.1:0"], "recipients": {"lookup": "at-rcpt"},
                             "auth": {"mechanisms": ["PLAIN"], "require-tls": False}}},
        "auth-brakes": {"failures-per-client": 0, "failures-per-network": 0, "failures-per-user": 0},
    }, more or {})


@pytest.fixture
def start(place):
    return lambda directory, more=None: place.postern(settings_of(directory, more))


def rcpt(relay, address):
    """The reply's codes."""
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:<{OUTSIDE}>", "250 ")
        return client.ask(f"RCPT TO:<{address}>")[:9]


def auth(relay, user, password):
    """The reply's codes."""
    with SmtpClient(relay.address()) as client:
        client.hello()
        return client.ask("AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode())[:9]


def events(relay, name, count=0):
    """All of them so far; at least so many, which are on their way."""
    def found():
        return [event for event in relay.log.events if event["event"] == name]
    return wait_until(lambda: len(found()) >= count, f"{count} {name} in the log") and found()


# ---- what is found ----

@pytest.mark.parametrize("how", ["ldaps", "starttls", "ldapi"])
def test_finds_over_each_transport(shared, start, how):
    url = {"ldaps": shared.tls_url, "starttls": shared.url, "ldapi": shared.socket_url}[how]
    relay = start(shared.settings(url))
    assert rcpt(relay, "alice@contoso.test") == TAKEN
    assert rcpt(relay, "nobody@contoso.test") == UNKNOWN
    assert auth(relay, "alice", "alice's secret") == WELCOME
    assert auth(relay, "alice", "bob's secret") == WRONG
    assert not events(relay, "ldap-server-down")


def test_recipients(shared, start):
    """Each address of an entry, and each user as USER@default-domain."""
    relay = start(shared.settings())
    for known in ("alice@contoso.test", "ALICE@Contoso.Test", "alice.smith@contoso.test", "a.smith@contoso.test", "bob1@contoso.test",
                  "nopassword@contoso.test", "twin@contoso.test", "postmaster@contoso.test"):
        assert rcpt(relay, known) == TAKEN, known
    for unknown in ("chat@contoso.test", "nobody@contoso.test", "smith@contoso.test"):
        assert rcpt(relay, unknown) == UNKNOWN, unknown


INJECTIONS = ["*", "a*", "*)(uid=*", "alice)(uid=*", "alice))(|(uid=*", "(alice)", "\\2a", "alice\\00", "a&b", "|", "!alice", "alice=", "alice ",
              "al  ice", " alice", "\xfcmlaut"]


def test_no_address_becomes_a_filter(shared, start):
    """A stranger's address may be made of what filters are made of; it finds nobody, and above all not everybody."""
    relay = start(shared.settings())
    for text in [*INJECTIONS, "alice@contoso.test"]:
        quoted = text.replace("\\", "\\\\")
        with SmtpClient(relay.address()) as client:
            client.hello()
            client.expect_code(f"MAIL FROM:<{OUTSIDE}> SMTPUTF8", "250 ")
            answer = client.ask(f'RCPT TO:<"{quoted}"@contoso.test>')
            assert answer.startswith("5"), (text, answer)
    assert rcpt(relay, "alice@contoso.test") == TAKEN
    assert not events(relay, "directory-unavailable")


def test_no_name_becomes_a_filter(shared, start):
    """The same for who signs in, with a password that is right for somebody."""
    relay = start(shared.settings())
    for text in INJECTIONS:
        assert auth(relay, text, "alice's secret") in (WRONG, "501 5.5.2"), text
    assert auth(relay, "alice", "alice's secret") == WELCOME
    assert not events(relay, "directory-unavailable")


# ---- who signs in ----

def test_passwords(shared, start):
    relay = start(shared.settings())
    for user in ("alice", "ALICE", "alice@contoso.test", "a.smith@contoso.test"):
        expected = WRONG if user.startswith("a.smith") else WELCOME  # proxyAddresses are no names to sign in with, by default
        assert auth(relay, user, "alice's secret") == expected, user
    for user, password in (("alice", "bob's secret"), ("alice", "x"), ("nobody", "x"), ("nopassword", "x"), ("locked", "locked's secret"),
                           ("twin@contoso.test", "twin's secret")):
        assert auth(relay, user, password) == WRONG, user
    assert [event["reason"] for event in events(relay, "ldap-refused", 1)] == ["the account is locked"]
    assert events(relay, "ldap-two-entries", 1)
    assert not events(relay, "directory-unavailable")


def test_no_password_is_nobodys(shared, start):
    """A simple bind with a name and no password succeeds as nobody (RFC 4513, 5.1.2): it must not come to that."""
    relay = start(shared.settings())
    before = shared.log_text().count("BIND dn=")
    assert auth(relay, "alice", "") != WELCOME
    assert auth(relay, "nobody", "") != WELCOME
    assert shared.log_text().count("BIND dn=") == before


def test_disabled_accounts(shared, start):
    """Where the server itself lets a disabled account bind, as slapd does with Active Directory's flag."""
    relay = start(shared.settings())
    assert auth(relay, "disabled", "disabled's secret") == WRONG
    assert rcpt(relay, "disabled@contoso.test") == TAKEN


def test_unknown_users_take_the_same_steps(shared, start):
    """By the time it takes nobody learns who exists: search, and a bind on a connection of its own."""
    relay = start(shared.settings())
    for user in ("alice", "nobody"):
        auth(relay, user, "wrong")  # connections are made
    times = {"alice": [], "nobody": []}
    with SmtpClient(relay.address()) as client:
        client.hello()
    for _ in range(30):
        for user, taken in times.items():
            before, start_s = shared.log_text().count(" BIND dn="), time.monotonic()
            assert auth(relay, user, "wrong") == WRONG
            taken.append(time.monotonic() - start_s)
            wait_until(lambda: shared.log_text().count(" BIND dn=") == before + 1, "one bind each time")
    known, unknown = (statistics.median(taken) for taken in times.values())
    assert abs(known - unknown) < 0.5 * max(known, unknown), times


def test_groups_decide(shared, start):
    """Group names come out of distinguished names, and hold in rules."""
    relay = start(shared.settings(), {
        "connectors": {"out": connector("127.0.0.1:1")},
        "servers": {"main": {"permissions": {"relay": {"deny": ["group:blocked"]}, "submit": {"allow": ["group:staff", "group:blocked"]}}}}})
    for user, password, answer in (("alice", "alice's secret", "250 2.1.5"), ("bob", "bob's secret", "550 5.7.1")):
        with SmtpClient(relay.address()) as client:
            client.hello()
            client.expect_code("AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode(), WELCOME)
            client.hello()
            client.expect_code(f"MAIL FROM:<{user}@contoso.test>", "250 ")
            client.expect_code("RCPT TO:<v@example.net>", answer)


def test_sender_match(shared, start):
    """All addresses of the entry are the user's, and no others."""
    relay = start(shared.settings(), {"servers": {"main": {"sender-match": "envelope"}}})
    for sender, answer in (("alice@contoso.test", "250 "), ("a.smith@contoso.test", "250 "), ("bob@contoso.test", "550 "), ("chat@contoso.test", "550 ")):
        with SmtpClient(relay.address()) as client:
            client.hello()
            client.expect_code("AUTH PLAIN " + base64.b64encode(b"\0alice\0alice's secret").decode(), WELCOME)
            client.hello()
            client.expect_code(f"MAIL FROM:<{sender}>", answer)


def explain(relay, user):
    done = subprocess.run([program("postern"), "-c", str(relay.config_path), "explain", "--server", "main", "--client", "192.0.2.1", "--user", user,
                           "--from", "alice@contoso.test", "--to", "v@example.net"],
                          capture_output=True, text=True, timeout=WAIT_S, check=False)
    return done.stdout + done.stderr


def test_explain_asks_for_groups(shared, start):
    relay = start(shared.settings())
    text = explain(relay, "alice@contoso.test")
    assert "authenticated as alice, of the groups staff, Smith, friends of" in text, text
    assert "authenticated as BOB1, of the groups blocked" in explain(relay, "bob")
    assert "does not know" in explain(relay, "*")


# ---- TLS ----

def check_away(relay, reason):
    """Everything waits, nothing is refused for good, and the log says why, once."""
    assert rcpt(relay, "alice@contoso.test") == AWAY
    assert auth(relay, "alice", "alice's secret") == LATER
    assert rcpt(relay, "nobody@contoso.test") == AWAY
    told = events(relay, "ldap-server-down", 1)
    assert len(told) == 1 and reason in told[0]["error"], told
    assert len(events(relay, "directory-unavailable", 1)) == 1


@pytest.mark.parametrize("how", ["ldaps", "starttls"])
def test_another_authority_is_refused(shared, start, tmp_path, how):
    """And before the service account's password is said to whoever it is."""
    other = Authority(tmp_path / "other", "Another Authority")
    before = shared.log_text().count("BIND dn=")
    relay = start(shared.settings(shared.url if how == "starttls" else shared.tls_url, **{"ca-file": str(other.file)}))
    check_away(relay, "TLS")
    assert shared.log_text().count("BIND dn=") == before


def test_another_hosts_certificate_is_refused(start, tmp_path):
    authority = Authority(tmp_path / "ca").certify("DNS:ldap.contoso.test")
    with Slapd(tmp_path / "slapd", ENTRIES, authority=authority) as other:
        check_away(start(other.settings()), "TLS")


def test_system_authorities_do_not_know_the_tests(shared, start):
    check_away(start(shared.settings(**{"ca-file": None})), "TLS")


# ---- servers that do not answer ----

def test_stopped_and_back(slapd, start):
    relay = start(slapd.settings())
    assert rcpt(relay, "alice@contoso.test") == TAKEN
    assert auth(relay, "alice", "alice's secret") == WELCOME
    slapd.stop()
    check_away(relay, "refused")
    slapd.start()
    wait_until(lambda: rcpt(relay, "alice@contoso.test") == TAKEN, "it is asked again")
    assert auth(relay, "alice", "alice's secret") == WELCOME
    assert rcpt(relay, "nobody@contoso.test") == UNKNOWN
    assert len(events(relay, "ldap-server-up", 1)) == 1


def test_restart_is_not_noticed(slapd, start):
    """Connections that were cut while they rested are made anew."""
    relay = start(slapd.settings())
    assert rcpt(relay, "alice@contoso.test") == TAKEN
    assert auth(relay, "alice", "alice's secret") == WELCOME
    slapd.stop()
    slapd.start()
    assert rcpt(relay, "alice@contoso.test") == TAKEN
    assert auth(relay, "alice", "alice's secret") == WELCOME
    assert not events(relay, "ldap-server-down")


def test_frozen(slapd, start):
    """It accepts connections and says nothing: answers come within the deadline, and then at once."""
    relay = start(slapd.settings(timeout="1s"))
    assert rcpt(relay, "alice@contoso.test") == TAKEN
    slapd.freeze()
    start_s = time.monotonic()
    assert rcpt(relay, "alice@contoso.test") == AWAY
    assert 0.9 < time.monotonic() - start_s < WAIT_S / 3
    slapd.thaw()
    wait_until(lambda: rcpt(relay, "alice@contoso.test") == TAKEN, "it is asked again")


@pytest.mark.parametrize("byte_count", [0, 3, 14, 300, 900, 1400, 1600])
@pytest.mark.parametrize("how", ["ldaps", "starttls"])
def test_stalls(shared, start, how, byte_count):
    """In the midst of whatever it says: StartTLS, a handshake, a bind, an answer."""
    with StallingProxy(shared.tls_port if how == "ldaps" else shared.port) as proxy:
        proxy.stall_after(byte_count)
        relay = start(shared.settings(f"{'ldaps' if how == 'ldaps' else 'ldap'}://127.0.0.1:{proxy.port}", timeout="500ms"))
        start_s = time.monotonic()
        assert rcpt(relay, "alice@contoso.test") in (AWAY, TAKEN)  # the last of these lengths may be enough
        assert auth(relay, "alice", "alice's secret") == LATER
        assert time.monotonic() - start_s < WAIT_S / 3
        proxy.resume()
        wait_until(lambda: auth(relay, "alice", "alice's secret") == WELCOME, "it goes on")


def test_nothing_that_speaks_ldap(start, shared):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.listen(0)
        relay = start(shared.settings(f"ldaps://127.0.0.1:{listener.getsockname()[1]}", timeout="300ms"))
        assert rcpt(relay, "alice@contoso.test") == AWAY


def test_service_account_refused(shared, start):
    """Its password has expired or was mistyped: that says nothing about anybody else's."""
    relay = start(shared.settings(**{"bind-password": "a wrong secret"}))
    check_away(relay, "bind-dn may not bind")
    assert "a wrong secret" not in json.dumps(relay.log.events)


def test_base_that_is_not_there(shared, start):
    """By a base that is mistyped, or hidden from the service account, nobody would exist."""
    check_away(start(shared.settings(base="dc=nowhere,dc=test")), "No such object")


def test_accepts_while_away(slapd, start):
    """Looked up after acceptance nothing is refused, and nothing goes back, because a directory did not answer."""
    relay = start(slapd.settings(), {"servers": {"main": {"recipients": {"lookup": "after-accept"}}}})
    slapd.stop()
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.deliver(OUTSIDE, ["alice@contoso.test"], b"Subject: later\r\n\r\nHello.\r\n")
    slapd.start()
    relay.maildir("alice@contoso.test").wait_for("later")


# ---- several servers ----

def test_failover_and_back(slapd, start, tmp_path):
    with Slapd(tmp_path / "second", ENTRIES, authority=slapd.authority) as second:
        relay = start(slapd.settings(f"{slapd.tls_url} {second.tls_url}"))
        assert rcpt(relay, "alice@contoso.test") == TAKEN
        assert " SRCH " not in second.log_text()
        slapd.stop()
        for _ in range(5):
            assert rcpt(relay, "alice@contoso.test") == TAKEN
            assert auth(relay, "alice", "alice's secret") == WELCOME
            assert auth(relay, "alice", "wrong") == WRONG
        assert len(events(relay, "ldap-server-down", 1)) == 1
        slapd.start()
        wait_until(lambda: rcpt(relay, "alice@contoso.test") == TAKEN and events(relay, "ldap-server-up"), "the first is asked again")
        assert not events(relay, "directory-unavailable")


def test_referral(shared, start, tmp_path):
    """To wherever it points: nobody configured that passwords may go there."""
    with Slapd(tmp_path / "other", authority=shared.authority, referral=shared.tls_url) as other:
        before = shared.log_text().count("ACCEPT")
        relay = start(other.settings(**{"bind-dn": None, "bind-password": None}))
        check_away(relay, "referrals are not followed")
        assert shared.log_text().count("ACCEPT") == before
        relay = start_second(relay, other, shared)
        assert rcpt(relay, "alice@contoso.test") == TAKEN


def start_second(relay, other, shared):
    """The same with a server after it that has the base."""
    relay.settings["directory"]["ldap"].update({"url": f"{other.tls_url} {shared.tls_url}", "bind-dn": SERVICE_DN, "bind-password": SERVICE_PASSWORD})
    relay.write_config()
    relay.reload()
    return relay


# ---- configuration ----

@pytest.mark.parametrize("key,value,words", [
    ("user-filter", "(uid=%s", ") is wanted"),
    ("user-filter", "(uid=alice)", "it would find the same for everybody"),
    ("recipient-filter", "(mail=%u)", "after % only s and % may stand"),
    ("certificate-filter", "description=%s", "( is wanted"),
    ("url", "ldaps://127.0.0.1/dc=contoso", "wants only a host and a port"),
    ("bind-password", None, "go together"),
])
def test_mistakes_are_told_at_start(place, shared, key, value, words):
    relay = place.postern(settings_of(shared.settings(**{key: value})), start=False)
    relay.spawn()
    assert relay.wait() != 0
    assert words in relay.log.tail()


def test_secrets_are_not_told(shared, start):
    """Neither the service account's password nor a user's, right or wrong."""
    relay = start(shared.settings(), {"log": {"level": "debug"}})
    auth(relay, "alice", "alice's secret")
    auth(relay, "bob", "a guessed secret")
    auth(relay, "locked", "locked's secret")
    text = json.dumps(relay.log.events) + "".join(relay.log.raw)
    for secret in ("alice's secret", "a guessed secret", "locked's secret", SERVICE_PASSWORD):
        assert secret not in text
