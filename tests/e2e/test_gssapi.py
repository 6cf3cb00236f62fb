# SPDX-License-Identifier: Apache-2.0
"""GSSAPI against a Kerberos realm: what Windows called integrated authentication. The client is GNU SASL's."""
import subprocess

import pytest

from harness.accounts import FAILURE, AuthClient, accounts, encode, server, user_line
from harness.kdc import REALM, Kdc
from harness.limits import WAIT_S
from harness.settings import HOSTNAME

PASSWORD = "correct horse battery"
USERS = ("alice", "carol", "mallory", "alice/admin")


@pytest.fixture(scope="module")
def kdc(tmp_path_factory):
    realm = Kdc(tmp_path_factory.mktemp("kdc") / "realm").start()
    for user in USERS:
        realm.add_user(user, PASSWORD)
    yield realm
    realm.stop()


@pytest.fixture(scope="module")
def relay(shared_place, kdc):
    """`main` takes the realm's principals for its users; `foreign` has no realm, and takes them by their whole names; `web` has a keytab for another
    service, and `none` has none."""
    keytab = kdc.add_services(kdc.directory / "smtp.keytab", f"smtp/{HOSTNAME}", "smtp/alias.contoso.test", f"HTTP/{HOSTNAME}")
    web = kdc.add_services(kdc.directory / "web.keytab", "HTTP/web.contoso.test")
    auth = {"mechanisms": ["GSSAPI", "PLAIN"], "require-tls": False, "keytab": str(keytab)}
    _, settings = accounts(shared_place.directory / "map", user_line("alice", PASSWORD, groups="staff"), user_line("alice/admin", PASSWORD),
                           f"user carol@{REALM.lower()} -", more={
        "servers": {"main": server(auth={**auth, "realm": REALM}), "foreign": server(auth=auth),
                    "web": server(auth={**auth, "keytab": str(web)}),
                    "none": server(auth={**auth, "keytab": str(kdc.directory / "missing.keytab")})},
        "auth-brakes": {"failures-per-client": 0, "failures-per-network": 0, "failures-per-user": 0}})
    return shared_place.postern(settings, environment=kdc.environment)


def authenticate(relay, kdc, user, name="main", host=HOSTNAME, authorization=None, service="smtp"):
    """The replies that the client saw."""
    result = subprocess.run(["gsasl", "--smtp", "--connect", f"127.0.0.1:{relay.address(name)[1]}", "--no-starttls", "--quiet", "--mechanism",
                             "GSSAPI", "--service", service, "--hostname", host, "--authorization-id", authorization or ""],
                            env=kdc.log_in(user, PASSWORD), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT_S, check=False)
    return result.stdout + result.stderr


def succeeded(relay, since, user):
    relay.wait_for_event(lambda event: (event["event"], event.get("user"), event.get("mechanism")) == ("authenticated", user, "GSSAPI"),
                         since=since)


def failed(relay, since, reason):
    relay.wait_for_event(lambda event: (event["event"], event.get("mechanism"), event.get("reason")) == ("auth-failed", "GSSAPI", reason),
                         since=since)


@pytest.mark.parametrize("host", [HOSTNAME, "alias.contoso.test"])
@pytest.mark.parametrize("authorization", [None, "alice", f"alice@{REALM}", "Alice@contoso.test"])
def test_success(relay, kdc, host, authorization):
    since = relay.log.position()
    said = authenticate(relay, kdc, "alice", host=host, authorization=authorization)
    assert "235 2.7.0 Authentication successful" in said, said
    succeeded(relay, since, "alice")


def test_principals_by_their_whole_names(relay, kdc):
    """Without a realm that is ours, alice of the realm is not our alice."""
    since = relay.log.position()
    assert FAILURE in authenticate(relay, kdc, "alice", "foreign")
    failed(relay, since, "no-such-user")
    since = relay.log.position()
    assert "235 2.7.0" in authenticate(relay, kdc, "carol", "foreign")
    succeeded(relay, since, f"carol@{REALM.lower()}")


@pytest.mark.parametrize("user, authorization, reason", [
    ("alice", "bob", "not-permitted"), ("mallory", None, "no-such-user"), ("mallory", "alice", "not-permitted"), ("alice/admin", None, "credentials"),
    ("alice/admin", "alice", "credentials")])
def test_refusals(relay, kdc, user, authorization, reason):
    """A ticket proves one principal: not another, and not one that is a service, whatever users there are."""
    since = relay.log.position()
    said = authenticate(relay, kdc, user, authorization=authorization)
    assert FAILURE in said, said
    failed(relay, since, reason)


def test_tickets_for_another_service(relay, kdc):
    """What somebody has for the web server of this machine opens nothing here."""
    since = relay.log.position()
    said = authenticate(relay, kdc, "alice", service="HTTP")
    assert FAILURE in said, said
    failed(relay, since, "credentials")


def test_nonsense(relay):
    with AuthClient(relay.address()) as client:
        for token in ("", "nonsense", "\x60\x48\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02"):
            client.expect("AUTH GSSAPI", "334 ")
            client.expect_code(encode(token), "5")
        client.expect("AUTH GSSAPI", "334 ")
        client.expect("*", "501 5.7.0 Authentication cancelled")


@pytest.mark.parametrize("name", ["web", "none"])
def test_keytabs_without_a_key(relay, name):
    """Not offered where it can't work, and the log says why."""
    with AuthClient(relay.address(name)) as client:
        assert client.offered == ["PLAIN"]
        client.expect("AUTH GSSAPI", "504 5.5.4 Unrecognized authentication type")
    problems = relay.log.find(lambda event: event["event"] == "auth-problem" and event["server"] == name)
    assert len(problems) == 1 and "keytab" in problems[0]["error"], problems
