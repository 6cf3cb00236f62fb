# SPDX-License-Identifier: Apache-2.0
"""SMTP AUTH with programs that people use, and with clients that do what no program should (relay-behaviour.md section 4)."""
import base64
import configparser
import email.message
import hashlib
import pathlib
import re
import smtplib
import ssl
import statistics
import subprocess
import threading
import time

import pytest

from harness.accounts import (FAILURE, LATER, MECHANISMS, SUCCESS, UNKNOWN, WANTS_TLS, AuthClient, accounts, encode, plain, server,
                              tls_settings, user_line)
from harness.client import SmtpClient, letter, token
from harness.limits import SCALE, WAIT_S, wait_until
from harness.postern import ROOT
from harness.settings import connector
from harness.slapd import Authority

PASSWORD, ODD_PASSWORD = "correct horse battery", "pass=wörd, \"quoted\""
REMOTE = "v@example.net"
# Enough that no test meets the brakes by accident, and answers are not held back for long.
NO_BRAKES = {"failures-per-client": 0, "failures-per-network": 0, "failures-per-user": 0}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls") / "authority").certify()


@pytest.fixture(scope="module")
def client_certificate(authority):
    """alice's: whoever signed it does not matter, its fingerprint is in the directory."""
    certificate, key = authority.directory / "client.pem", authority.directory / "client.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=whoever", "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=WAIT_S)
    return certificate, key


def fingerprint(certificate):
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pathlib.Path(certificate).read_text())).hexdigest()


@pytest.fixture(scope="module")
def sink(shared_place):
    return shared_place.sink()


@pytest.fixture(scope="module")
def relay(shared_place, sink, authority, client_certificate):
    """Nobody may relay but who has authenticated. `main` wants TLS for it, `lax` does not, `none` has no AUTH."""
    _, settings = accounts(
        shared_place.directory / "map",
        user_line("alice", PASSWORD, certificates=fingerprint(client_certificate[0])), user_line("bob", ODD_PASSWORD),
        more={
            "servers": {"main": server(tls=tls_settings(authority, **{"client-certificates": True}), auth={"mechanisms": MECHANISMS}),
                        "lax": server(tls=tls_settings(authority), auth={"mechanisms": MECHANISMS, "require-tls": False}),
                        "implicit": server(tls=tls_settings(authority, mode="implicit"), auth={"mechanisms": ["PLAIN"]}),
                        "none": server()},
            "connectors": {"out": connector(sink.address)}, "auth-brakes": NO_BRAKES,
        })
    return shared_place.postern(settings)


def run(*command, stdin="", timeout_s=WAIT_S, **options):
    result = subprocess.run(command, input=stdin.encode(), capture_output=True, timeout=timeout_s, check=False, **options)
    assert result.returncode == 0, f"{command} ended with {result.returncode}:\n{result.stdout.decode()}{result.stderr.decode()}"
    return result.stdout.decode("utf-8", "replace")


def port(relay, name="main"):
    return str(relay.address(name)[1])


def check_identified(relay, since, user, mechanism, tls=True):
    """The log tells who has authenticated, and how."""
    relay.wait_for_event(lambda event: (event["event"], event.get("user"), event.get("mechanism"), bool(event.get("tls"))) ==
                         ("authenticated", user, mechanism, tls), since=since)


# ---- what is offered ----

def test_mechanisms_that_are_offered(relay, authority, client_certificate):
    with AuthClient(relay.address()) as client:
        assert client.offered == [], "not before TLS"
        assert "AUTH" not in client.ask("HELP")
        client.start_tls(authority.file)
        assert client.offered == ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"]
        assert " AUTH " in client.ask("HELP")
    with AuthClient(relay.address(), authority.file, client_certificate) as client:
        assert client.offered == ["EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"]
    with AuthClient(relay.address("lax")) as client:
        assert client.offered == ["SCRAM-SHA-256", "PLAIN", "LOGIN"], "nothing to bind to, no certificate"
        client.log_in("alice", PASSWORD)
        assert client.mechanisms(client.hello()) == [], "once a session"
    with AuthClient(relay.address("none")) as client:
        assert client.offered == []
        client.expect(f"AUTH PLAIN {plain('alice', PASSWORD)}", "502 5.5.1 Command not implemented")


# ---- programs ----

@pytest.mark.parametrize("user, password", [("alice", PASSWORD), ("ALICE@Contoso.Test", PASSWORD), ("bob", ODD_PASSWORD)])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("initial", [True, False])
def test_smtplib(relay, sink, authority, user, password, mechanism, initial):
    word, since = token(), relay.log.position()
    message = email.message.EmailMessage()
    message["From"], message["To"], message["Subject"] = "alice@contoso.test", REMOTE, word
    message.set_content("a line\n")
    with smtplib.SMTP("127.0.0.1", int(port(relay))) as client:
        client.starttls(context=ssl.create_default_context(cafile=str(authority.file)))
        client.ehlo()
        # The library's own AUTH speaks ASCII only.
        client.user, client.password = user, password
        if password.isascii():
            assert client.auth(mechanism, getattr(client, f"auth_{mechanism.lower()}"), initial_response_ok=initial)[0] == 235
        elif mechanism == "PLAIN":
            assert client.docmd("AUTH", f"PLAIN {plain(user, password)}")[0] == 235
        else:
            assert client.docmd("AUTH", f"LOGIN {encode(user)}")[0] == 334
            assert client.docmd(encode(password))[0] == 235
        assert client.send_message(message) == {}
    assert b"a line" in sink.wait_for(word).content
    check_identified(relay, since, user.split("@")[0].lower(), mechanism, True)


def test_smtplib_login(relay):
    """What most scripts call: it picks the mechanism itself."""
    with smtplib.SMTP("127.0.0.1", int(port(relay, "lax"))) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError) as refusal:
            client.login("alice", "wrong")
        assert refusal.value.smtp_code == 535
        assert client.login("alice", PASSWORD)[0] == 235


def test_smtplib_implicit_tls(relay, authority):
    with smtplib.SMTP_SSL("127.0.0.1", int(port(relay, "implicit")),
                          context=ssl.create_default_context(cafile=str(authority.file))) as client:
        assert client.login("alice", PASSWORD)[0] == 235


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("tls", [True, False])
def test_swaks(relay, sink, mechanism, tls):
    word, since = token(), relay.log.position()
    run("swaks", "--server", "127.0.0.1", "--port", port(relay, "main" if tls else "lax"), "--from", "alice@contoso.test", "--to", REMOTE,
        "--auth", mechanism, "--auth-user", "alice", "--auth-password", PASSWORD, *(["--tls"] if tls else []), "--header",
        f"Subject: {word}", "--body", "a line\n")
    assert b"a line" in sink.wait_for(word).content
    check_identified(relay, since, "alice", mechanism, tls)


@pytest.mark.parametrize("options", [[], ["--sasl-ir"], ["--login-options", "AUTH=LOGIN"], ["--login-options", "AUTH=LOGIN", "--sasl-ir"]],
                         ids=["plain", "plain-initial", "login", "login-initial"])
def test_curl(relay, sink, authority, options):
    word = token()
    run("curl", "--silent", "--show-error", "--crlf", "--ssl-reqd", "--cacert", authority.file, f"smtp://127.0.0.1:{port(relay)}",
        "--user", f"alice:{PASSWORD}", "--mail-from", "alice@contoso.test", "--mail-rcpt", REMOTE, "--upload-file", "-", *options,
        stdin=f"Subject: {word}\n\na line\n")
    assert b"a line" in sink.wait_for(word).content


@pytest.mark.parametrize("method, mechanism", [("scram-sha-256", "SCRAM-SHA-256"), ("plain", "PLAIN"), ("login", "LOGIN")])
def test_msmtp(relay, sink, authority, method, mechanism):
    word, since = token(), relay.log.position()
    run("msmtp", "--host=127.0.0.1", f"--port={port(relay)}", "--from=alice@contoso.test", "--file=/dev/null", f"--auth={method}",
        "--user=alice", f"--passwordeval=echo {PASSWORD}", "--tls=on", "--tls-starttls=on", f"--tls-trust-file={authority.file}", REMOTE,
        stdin=f"Subject: {word}\n\na line\n")
    assert b"a line" in sink.wait_for(word).content
    check_identified(relay, since, "alice", mechanism, True)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_gsasl(relay, authority, mechanism, version):
    """GNU SASL's own client; with PLUS it binds to TLS, by tls-unique before 1.3 and by tls-exporter since."""
    since = relay.log.position()
    run("gsasl", "--smtp", "--connect", f"127.0.0.1:{port(relay)}", "--starttls", "--x509-ca-file", authority.file, "--quiet", "--mechanism",
        mechanism, "--authentication-id", "alice", "--password", PASSWORD, "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}",
        # Version 2.2.0 can't say that it could have bound itself.
        *(["--no-cb"] if mechanism == "SCRAM-SHA-256" else []))
    check_identified(relay, since, "alice", mechanism, True)


def test_external(relay, authority, client_certificate):
    with AuthClient(relay.address(), authority.file, client_certificate) as client:
        client.expect("AUTH EXTERNAL =", SUCCESS)
    with AuthClient(relay.address(), authority.file, client_certificate) as client:
        client.expect("AUTH EXTERNAL", "334 ")
        client.expect(encode("alice@contoso.test"), SUCCESS)
    with AuthClient(relay.address(), authority.file, client_certificate) as client:
        client.expect(f"AUTH EXTERNAL {encode('bob')}", FAILURE)
    with AuthClient(relay.address(), authority.file) as client:
        client.expect("AUTH EXTERNAL =", UNKNOWN)


# ---- refusals ----

GUESSES = [("alice", "wrong"), ("nobody", PASSWORD), ("alice@example.net", PASSWORD), ("postmaster", PASSWORD), ("alice", ""), ("", PASSWORD),
           ("alice", PASSWORD + " "), ("x" * 300, PASSWORD), ("alice", "x" * 2000)]


@pytest.mark.parametrize("user, password", GUESSES, ids=range(len(GUESSES)))
def test_refusals_are_all_the_same(relay, user, password):
    """A guesser is not told whether it was the name or the password."""
    with AuthClient(relay.address("lax")) as client:
        assert client.plain(user, password) == FAILURE
        client.expect("NOOP", "250 2.0.0 OK")
        client.expect("AUTH LOGIN", "334 VXNlcm5hbWU6")
        answer = client.ask(encode(user))
        assert (client.ask(encode(password)) if answer == "334 UGFzc3dvcmQ6" else answer) == FAILURE


def scram_challenge(client, user):
    """What a server says of a user's keys: its salt and its rounds."""
    first = encode(f"n,,n={user},r=nonce")
    answer = client.ask(f"AUTH SCRAM-SHA-256 {first}")
    client.expect("*", "501 5.7.0 Authentication cancelled")
    assert answer.startswith("334 ")
    return base64.b64decode(answer[4:]).decode().split(",", 1)[1]


def test_scram_does_not_tell_who_exists(relay):
    """An unknown name has a salt too, always the same, and as many rounds as the others."""
    with AuthClient(relay.address("lax")) as client:
        challenges = {name: [scram_challenge(client, name) for _ in range(2)] for name in ("alice", "nobody", "somebody")}
    assert all(first == second for first, second in challenges.values())
    assert len({first for first, _ in challenges.values()}) == 3
    assert len({(len(first), first.split("i=")[1]) for first, _ in challenges.values()}) == 1


def test_spellings_of_a_password(place):
    """A keyboard's no-break space, a ligature: the same password, whichever program prepares it before it is sent (RFC 4013)."""
    _, settings = accounts(place.directory / "map", user_line("alice", "o\ufb03cial\u00a0business"),
                           more={"servers": {"main": server(auth={"mechanisms": ["PLAIN"], "require-tls": False})}})
    relay = place.postern(settings)
    for password in ("o\ufb03cial\u00a0business", "official business", "of\u00adficial business"):
        with AuthClient(relay.address()) as client:
            client.log_in("alice", password)


def test_nobody_acts_for_another(relay):
    with AuthClient(relay.address("lax")) as client:
        assert client.plain("alice", PASSWORD, "bob") == FAILURE
    with AuthClient(relay.address("lax")) as client:
        assert client.plain("alice", PASSWORD, "alice@contoso.test") == SUCCESS


def test_sequence(relay, authority):
    with SmtpClient(relay.address("lax")) as client:
        client.expect("AUTH PLAIN", "503 5.5.1 Send hello first")
        client.hello()
        client.expect("AUTH CRAM-MD5", UNKNOWN)
        client.expect("AUTH GSSAPI", UNKNOWN)
        client.expect("AUTH PLAIN", "334 ")
        client.expect("*", "501 5.7.0 Authentication cancelled")
        client.expect("AUTH PLAIN not-base64", "501 5.5.2 Cannot decode response")
        client.expect("MAIL FROM:<alice@contoso.test>", "250 2.1.0 alice@contoso.test....Sender OK")
        client.expect("AUTH PLAIN", "503 5.5.1 Not within a mail transaction")
        client.expect("RSET", "250 2.0.0 Resetting")
        # Pipelined behind the last message of the exchange.
        client.send(f"AUTH PLAIN {plain('alice', PASSWORD)}\r\nAUTH PLAIN\r\nMAIL FROM:<alice@contoso.test>\r\nRCPT TO:<{REMOTE}>\r\n")
        assert client.replies(4) == [SUCCESS, "503 5.5.1 Already authenticated", "250 2.1.0 alice@contoso.test....Sender OK",
                                     f"250 2.1.5 {REMOTE}"]


def test_lengths(relay):
    with AuthClient(relay.address("lax")) as client:
        client.expect("AUTH PLAIN", "334 ")
        client.expect("A" * 12289, "500 5.5.6 Authentication line too long")
        client.expect("AUTH PLAIN", "334 ")
        assert client.ask("A" * 12288).startswith("501 5.5.2 ")
        assert client.ask("AUTH PLAIN " + "A" * 12260).startswith("501 5.5.2 ")
        client.expect("NOOP " + "A" * 2048, "500 5.5.2 Line too long")
        client.log_in("alice", PASSWORD)


def test_auth_before_tls(relay, authority):
    """Whoever sends a password in the clear is told not to, even though it is too late by then; mechanisms without one need TLS too."""
    with AuthClient(relay.address()) as client:
        for command in (f"AUTH PLAIN {plain('alice', PASSWORD)}", "AUTH LOGIN", "AUTH SCRAM-SHA-256", "AUTH EXTERNAL ="):
            client.expect(command, WANTS_TLS)
        client.expect("AUTH CRAM-MD5", UNKNOWN)
        client.start_tls(authority.file)
        client.log_in("alice", PASSWORD)


def test_tls_forgets_who_it_was(relay, authority):
    """What was said in the clear may have been said by anybody (RFC 3207 4.2)."""
    with AuthClient(relay.address("lax")) as client:
        client.log_in("alice", PASSWORD)
        client.start_tls(authority.file)
        client.expect("MAIL FROM:<alice@contoso.test>", "250 2.1.0 alice@contoso.test....Sender OK")
        client.expect(f"RCPT TO:<{REMOTE}>", f"550 5.7.1 Unable to relay for {REMOTE}")
        client.expect("RSET", "250 2.0.0 Resetting")
        client.log_in("alice", PASSWORD)
        client.envelope("alice@contoso.test", REMOTE)


def test_guessing_ends_the_session(place):
    _, settings = accounts(place.directory / "map", user_line("alice", PASSWORD),
                           more={"servers": {"main": server(auth={"mechanisms": ["PLAIN"], "require-tls": False}, limits={"errors": 3})}})
    relay = place.postern(settings)
    with AuthClient(relay.address()) as client:
        assert [client.plain("alice", f"guess {i}") for i in range(3)] == [FAILURE, FAILURE,
                                                                            "421 4.7.0 mail.contoso.test Too many errors"]
        assert client.is_closed()


# ---- the directory, the brakes, the log ----

def test_directory_down(place):
    """Never 535, which makes mail programs throw the password away and ask for another."""
    directory_map, settings = accounts(place.directory / "map", user_line("alice", PASSWORD), more={
        "servers": {"main": server(auth={"mechanisms": ["PLAIN", "LOGIN", "SCRAM-SHA-256"], "require-tls": False}, limits={"errors": 5})}})
    relay = place.postern(settings)

    def answers(wanted):
        """The file is looked at once a second."""
        def answer():
            with AuthClient(relay.address()) as client:
                return client.plain("alice", PASSWORD) == wanted
        return answer

    assert answers(SUCCESS)()
    directory_map.take_away()
    wait_until(answers(LATER), "a temporary failure")
    with AuthClient(relay.address()) as client:
        for password in ("guess", PASSWORD) * 3:
            assert client.plain("alice", password) == LATER
            assert client.plain("nobody", password) == LATER, "no fault of the client's: the session goes on"
    directory_map.put_back()
    wait_until(answers(SUCCESS), "success")


BRAKES = {"failures-per-client": 3, "failures-per-network": 100, "failures-per-user": 100, "window": "1h", "lock": "1h"}
LOCKED = "421 4.7.0 mail.contoso.test Too many failed authentications, try again later"


def braked(place, lines, log_format="json", **brakes):
    return accounts(place.directory / "map", *lines, more={
        "servers": {"main": server(auth={"mechanisms": ["PLAIN", "SCRAM-SHA-256"], "require-tls": False})},
        "auth-brakes": {**BRAKES, **brakes}, "log": {"format": log_format}})[1]


def test_guessers_are_locked_out(place):
    relay = place.postern(braked(place, [user_line("alice", PASSWORD)]))
    with AuthClient(relay.address(), source="127.0.0.9") as client:
        started = time.monotonic()
        assert [client.plain(user, "guess") for user in ("alice", "bob", "alice")] == [FAILURE] * 3
        assert time.monotonic() - started >= 0.25 + 0.5 + 1, "each answer comes later than the one before"
        assert client.plain("alice", PASSWORD) == LOCKED
        assert client.is_closed()
    with AuthClient(relay.address(), source="127.0.0.9") as client:
        assert client.ask("AUTH SCRAM-SHA-256") == LOCKED
        assert client.is_closed()
    with AuthClient(relay.address(), source="127.0.0.10") as client:
        client.log_in("alice", PASSWORD)
    assert len(relay.log.find("auth-locked")) == 1
    assert relay.log.find("auth-locked")[0]["client"] == "127.0.0.9"


def test_a_name_that_is_guessed_at_is_locked(place):
    """From wherever; but not for an address from which the user has come before."""
    relay = place.postern(braked(place, [user_line("alice", PASSWORD)], **{"failures-per-client": 0, "failures-per-user": 3}))
    with AuthClient(relay.address(), source="127.0.0.20") as client:
        client.log_in("alice", PASSWORD)
    for i, name in enumerate(("alice", "ALICE", "alice@contoso.test")):
        with AuthClient(relay.address(), source=f"127.0.0.{30 + i}") as client:
            assert client.plain(name, "guess") == FAILURE
    with AuthClient(relay.address(), source="127.0.0.40") as client:
        assert client.plain("alice", PASSWORD) == LOCKED
    with AuthClient(relay.address(), source="127.0.0.20") as client:
        client.log_in("alice", PASSWORD)


def test_the_log_has_no_passwords(place):
    secret = "hunter2 is my secret"
    relay = place.postern(braked(place, [user_line("alice", PASSWORD)], **{"failures-per-client": 0}))
    with AuthClient(relay.address()) as client:
        assert client.plain("alice", secret) == FAILURE
        assert client.plain(secret, "x") == FAILURE, "typed where the name belongs"
        client.ask("AUTH PLAIN " + encode(secret))
        client.ask(secret)
        client.log_in("alice", PASSWORD)
    relay.wait_for_event("authenticated")
    text = "\n".join(relay.log.lines)
    for word in (secret, PASSWORD, encode(secret), plain("alice", PASSWORD), "hunter2"):
        assert word not in text, word
    failures = relay.log.find("auth-failed")
    assert [(failure["user"], failure["reason"]) for failure in failures] == [("alice", "credentials"), ("", "credentials"), ("", "malformed")]
    assert {"server", "client", "mechanism"} <= set(failures[0])


def test_unknown_user_takes_as_long_as_wrong_password(place):
    """Medians of many tries, one after the other in turn. The bound is wide: what would tell, a hash that is not computed, is 20 times as long."""
    relay = place.postern(braked(place, [user_line("alice", PASSWORD)], **{"failures-per-client": 0, "failures-per-network": 0,
                                                                            "failures-per-user": 0}))
    times = {"alice": [], "nobody": []}
    with AuthClient(relay.address()) as client:
        for _ in range(40):
            for name, taken in times.items():
                client.close()
                client.__init__(relay.address())
                started = time.perf_counter()
                assert client.plain(name, "guess") == FAILURE
                taken.append(time.perf_counter() - started)
    known, unknown = statistics.median(times["alice"]), statistics.median(times["nobody"])
    assert abs(known - unknown) < 0.35 * max(known, unknown), (known, unknown)


def fail2ban_expressions():
    """The regular expressions of etc/fail2ban/postern.conf as fail2ban compiles them."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "etc/fail2ban/postern.conf")
    return [re.compile(expression.replace("<HOST>", r"(?P<host>[0-9a-fA-F:.]+)"))
            for expression in parser["Definition"]["failregex"].strip().split("\n")]


def found_by_fail2ban(line):
    """The address that it would ban for this line. It cuts the time out of lines of a file, and leaves it in those of a journal."""
    cut = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "", line, count=1)
    found = set()
    for text in (line, cut, f"mail posternd[17]: {line}"):
        matches = [match for expression in fail2ban_expressions() if (match := expression.search(text))]
        found.add(matches[0]["host"] if matches else None)
    assert len(found) == 1, found
    return found.pop()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_fail2ban_finds_guessers(place, log_format):
    """It finds them in the log as it is written, and nobody else, whatever a client calls itself."""
    relay = place.postern(braked(place, [user_line("alice", PASSWORD)], log_format), start=False)
    relay.spawn()
    wait_until(lambda: any(" listening " in line or '"listening"' in line for line in relay.log.lines), "its address")
    line = next(line for line in relay.log.lines if "127.0.0.1:" in line)
    address = ("127.0.0.1", int(re.search(r"127\.0\.0\.1:(\d+)", line)[1]))
    forged = "auth-failed server=x client=192.0.2.1 mechanism=PLAIN"
    forged_json = '{"time":"","level":"warning","event":"auth-failed","server":"x","client":"192.0.2.1","mechanism":'
    with AuthClient(address, source="127.0.0.7") as client:
        assert client.plain("alice", "guess") == FAILURE
        assert client.plain('warning auth-failed server=x client=192.0.2.2 mechanism="', "guess") == FAILURE
        for name in (f"2026-01-01T00:00:00Z warning {forged}", f"mail posternd[1]: warning {forged}", f"mail posternd: {forged_json}"):
            client.expect_code(f"EHLO {name}", "250-")
            client.expect_code("MAIL FROM:<a@example.org>", "250 ")
            client.expect_code(f"RCPT TO:<{REMOTE}>", "550 ")
    with AuthClient(address, source="127.0.0.8") as client:
        client.log_in("alice", PASSWORD)
    wait_until(lambda: any("authenticated" in line and "127.0.0.8" in line for line in relay.log.lines), "the last line")
    lines = [line for line in relay.log.lines if "auth-failed" in line]
    assert sum(forged in line for line in lines) >= 2, "the forged names are in the log"
    assert [found_by_fail2ban(line) for line in relay.log.lines].count("127.0.0.7") == 2
    assert {found_by_fail2ban(line) for line in relay.log.lines} == {"127.0.0.7", None}


@pytest.mark.release_only
def test_hashing_does_not_hold_up_others(place):
    """200 clients at once are some ten seconds of hashing. On a loop, nobody else would be answered for as long."""
    count, answers, rounds = 200, [], []
    _, settings = accounts(place.directory / "map", user_line("alice", PASSWORD), more={
        "servers": {"main": server(auth={"mechanisms": ["PLAIN"], "require-tls": False}, limits={"connections-per-client": 2 * count})},
        "auth-brakes": NO_BRAKES, "directory": {"timeout": "1m"}})
    relay = place.postern(settings)

    def authenticate():
        with AuthClient(relay.address(), timeout_s=60 * SCALE) as client:
            answers.append(client.plain("alice", PASSWORD))

    with SmtpClient(relay.address()) as other:
        threads = [threading.Thread(target=authenticate) for _ in range(count)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            started = time.monotonic()
            other.expect("NOOP", "250 2.0.0 OK")
            rounds.append(time.monotonic() - started)
            time.sleep(0.01)
    assert answers == [SUCCESS] * count
    assert max(rounds) < 2 * SCALE and statistics.median(rounds) < 0.2 * SCALE, (max(rounds), statistics.median(rounds))
