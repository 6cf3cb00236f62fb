# SPDX-License-Identifier: Apache-2.0
"""relaytest with --starttls and --user: what an encrypted session, and what a user, can do."""
import subprocess

import pytest

from harness.relaytest import catch_address, run, run_json, usual
from harness.settings import connector
from harness.slapd import Authority
from harness.stand_in import StandIn

PASSWORD = "correct horse battery staple"


@pytest.fixture
def catch():
    return catch_address()


@pytest.fixture
def relay(place, catch):
    """Closed to strangers; demands TLS on one server; a user may relay, another may not."""
    certificates = Authority(place.directory / "certificates").certify().directory
    tls = {"certificate": str(certificates / "server.pem"), "key": str(certificates / "server.key"), "mode": "starttls"}
    crypted = subprocess.run(["openssl", "passwd", "-6", PASSWORD], capture_output=True, text=True, check=True).stdout.strip()
    users = place.directory / "users.map"
    users.write_text(f"user alice {crypted}\nuser bob {crypted}\n")
    server = {"listen": ["127.0.0.1:0"], "auth": {"mechanisms": ["PLAIN", "LOGIN"], "require-tls": True}, "tls": tls,
              "permissions": {"relay": {"deny": ["user:bob"]}}, "recipients": {"lookup": "at-rcpt"}}
    return place.postern({
        "directory": {"backend": "file", "file": str(users)},
        "servers": {"main": server, "strict": {**server, "tls": {**tls, "required": True}},
                    "plain": {**server, "auth": {"mechanisms": ["PLAIN"], "require-tls": False}, "tls": {"mode": "none"}}},
        "connectors": {"out": connector(catch)},
    })


@pytest.fixture
def password(tmp_path):
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    return str(path)


def target(relay, server="main"):
    host, port = relay.address(server)
    return f"{host}:{port}"


def test_a_demand_for_tls_is_told_and_met(relay, catch):
    """Without TLS everything is refused for the lack of it, which proves nothing about relaying; the sentence says what to do."""
    found = run_json(target(relay, "strict"), "--probe", "1-4", *usual(catch))
    assert found.code == 0 and found.told["target"]["demands_tls"] and "--starttls" in found.told["summary"]
    found = run_json(target(relay, "strict"), "--starttls", "--probe", "1-4", *usual(catch))
    assert found.code == 0 and found.told["tls"].startswith("TLSv1.3 ") and not found.told["target"]["demands_tls"]
    assert "Unable to relay" in found.row("1")["explanation"]


def test_what_a_user_may(relay, catch, password):
    """Postern relays for whoever has authenticated; that is no open relay, and a test as that user shows it."""
    found = run_json(target(relay), "--starttls", "--user", "alice", "--password-file", password, "--probe", "1,4", *usual(catch))
    assert found.verdicts() == {"1": "relayed", "4": "relayed"} and found.told["user"] == "alice"
    found = run_json(target(relay), "--starttls", "--user", "bob", "--password-file", password, "--probe", "1,4", *usual(catch))
    assert found.verdicts() == {"1": "refused", "4": "refused"}


def test_many_transactions_and_sessions_with_tls(relay, catch, password):
    """Each session encrypts and logs in anew."""
    found = run_json(target(relay), "--starttls", "--user", "bob", "--password-file", password, *usual(catch))
    assert found.told["counts"]["refused"] == 26 and found.code == 0


def test_a_wrong_password(relay, catch, tmp_path):
    path = tmp_path / "wrong"
    path.write_text("guess\n")
    found = run_json(target(relay), "--starttls", "--user", "alice", "--password-file", str(path), *usual(catch))
    assert found.code == 3 and "does not let the user in: 535 5.7.8" in found.told["error"]


def test_a_password_never_shows(relay, catch, password):
    """The transcript goes into tickets and mails."""
    import base64

    found = run(target(relay), "--starttls", "--user", "alice", "--password-file", password, "--probe", "1", "--transcript", *usual(catch))
    secret = base64.b64encode(f"\0alice\0{PASSWORD}".encode()).decode()
    assert "AUTH PLAIN" in found.errors and "235 2.7.0" in found.errors
    assert secret not in found.errors and PASSWORD not in found.errors + found.output


def test_scram_only_or_nothing_at_all(catch, password):
    with StandIn(catch, keywords=("AUTH GSSAPI NTLM",)) as server:
        found = run_json(server.address, "--user", "alice", "--password-file", password, *usual(catch))
    assert found.code == 3 and "no way to authenticate with a password: GSSAPI NTLM" in found.told["error"]
    with StandIn(catch) as server:
        found = run_json(server.address, "--user", "alice", "--password-file", password, *usual(catch))
    assert found.code == 3 and "offers no AUTH" in found.told["error"]


def test_plain_to_this_machine(relay, catch, password):
    found = run_json(target(relay, "plain"), "--user", "alice", "--password-file", password, "--probe", "1", *usual(catch))
    assert found.verdicts() == {"1": "relayed"}


def test_no_starttls(catch):
    with StandIn(catch) as server:
        found = run_json(server.address, "--starttls", *usual(catch))
    assert found.code == 3 and "offers no STARTTLS" in found.told["error"]


def test_starttls_that_leads_nowhere(catch):
    """A server that says 220 and goes on in plaintext, or injects behind its 220."""
    def answer(stage, line, session):
        if stage == "other":
            return "220 go\r\n250 injected"
        raise KeyError
    with StandIn(catch, answer=answer, keywords=("STARTTLS",)) as server:
        found = run_json(server.address, "--starttls", "--timeout", "3s", *usual(catch))
    assert found.code == 3 and ("in plaintext" in found.told["error"] or "TLS with the server failed" in found.told["error"])


def test_a_challenge_that_is_none(catch, password):
    def answer(stage, line, session):
        if stage == "other":
            return "334 *not base64*"
        raise KeyError
    with StandIn(catch, answer=answer, keywords=("AUTH SCRAM-SHA-256",)) as server:
        found = run_json(server.address, "--user", "alice", "--password-file", password, "--timeout", "3s", *usual(catch))
    assert found.code == 3 and "no base64" in found.told["error"]


def test_success_without_proof_is_not_believed(catch, password):
    """SCRAM proves both sides: a server that just says 235 does not know the password."""
    def answer(stage, line, session):
        if stage == "other":
            return "235 2.7.0 Welcome"
        raise KeyError
    with StandIn(catch, answer=answer, keywords=("AUTH SCRAM-SHA-256",)) as server:
        found = run_json(server.address, "--user", "alice", "--password-file", password, "--timeout", "3s", *usual(catch))
    assert found.code == 3 and "without proof" in found.told["error"]


@pytest.mark.parametrize("content", ["", "\n", "x" * 5000])
def test_password_files_that_hold_none(tmp_path, content):
    path = tmp_path / "password"
    path.write_text(content)
    found = run("127.0.0.1:1", "--user", "alice", "--password-file", str(path), timeout_s=10)
    assert found.code == 3 and str(path) in found.errors
