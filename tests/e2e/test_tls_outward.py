# SPDX-License-Identifier: Apache-2.0
"""TLS and authentication towards next hops: what is demanded, what each failure costs, and that nothing secret goes where it must not."""
import socket
import ssl
import threading

import pytest

from harness.answers import SENDER
from harness.client import deliver, letter, token
from harness.limits import SCALE
from harness.pki import Authority, self_signed
from harness.sasl import Login
from harness.settings import merge

NAME = "mx.provider.example"
REMOTE = "v@example.net"
QUICK = {"connect": "1s", "command": "1s", "data": "5s"}
USER, PASSWORD = "relay", "open sesame"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def certificate(authority):
    return authority.sign(NAME, "127.0.0.1")


@pytest.fixture
def relay_to(place):
    """Starts a relay whose only connector leads to this host, which is NAME, and has these settings."""
    dns = place.dns()
    dns.host(NAME, "127.0.0.1")

    def start(sink, host=f"[{NAME}]", **more):
        return place.postern(merge({
            "servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}}},
            "connectors": {"out": {"address-spaces": ["*"], "smart-hosts": [f"{host}:{sink.port}"], "timeouts": QUICK, **more}},
            "dns": {"resolver": dns.address}, "delivery": {"retry": ["1s"]},
        }, {}))
    return start


def send(relay):
    word = token()
    deliver(relay.address(), SENDER, REMOTE, letter(word))
    return word


def deferred(relay, sink, status, words):
    """It waits, for this reason, and nothing of it got out."""
    send(relay)
    event = relay.wait_for_event("deferred")
    assert event["status"] == status and words in event["reply"], event
    assert NAME in event["reply"] or NAME in event["remote"] or "127.0.0.1" in event["reply"] + event["remote"], event
    assert not sink.messages and not sink.commands_of("MAIL")


# ---- what is demanded ----

@pytest.mark.parametrize("tls", ["may", "required"])
def test_encrypted_to_whomever(place, relay_to, tls):
    """RFC 7435: a certificate that proves nothing still keeps those who only listen out."""
    sink = place.sink(tls=self_signed(place.directory, "other.test").server())
    message = sink.wait_for(send(relay_to(sink, tls=tls)))
    assert message.tls == "TLSv1.3"
    assert set(sink.server_names) == {NAME}
    assert [line.split(" ")[0] for line in sink.commands_of("")][:3] == ["EHLO", "STARTTLS", "EHLO"]


def test_none_is_none(place, relay_to, certificate):
    sink = place.sink(tls=certificate.server())
    assert sink.wait_for(send(relay_to(sink, tls="none"))).tls is None


def test_verified(place, relay_to, authority, certificate):
    sink = place.sink(tls=certificate.server())
    relay = relay_to(sink, tls="verify", **{"ca-file": str(authority.path)})
    assert sink.wait_for(send(relay)).tls == "TLSv1.3"


def test_address_is_verified(place, relay_to, authority, certificate):
    sink = place.sink(tls=certificate.server())
    relay = relay_to(sink, host="127.0.0.1", tls="verify", **{"ca-file": str(authority.path)})
    assert sink.wait_for(send(relay)).tls == "TLSv1.3"
    assert set(sink.server_names) == {None}  # RFC 6066: an address is no server name


def bad_certificates(place, authority):
    other = Authority(place.directory / "other", "Other Authority")
    return {
        "name": (authority.sign("other.test"), "the certificate is for another name"),
        "below": (authority.sign(f"x.{NAME}"), "the certificate is for another name"),
        "expired": (authority.sign(NAME, days=-1), "the certificate has expired"),
        "issuer": (other.sign(NAME), "the certificate's issuer is not trusted"),
        "self": (self_signed(place.directory, NAME), "self-signed"),
    }


@pytest.mark.parametrize("fault", ["name", "below", "expired", "issuer", "self"])
def test_bad_certificate(place, relay_to, authority, fault):
    """`verify` sends nothing to whom it can't verify, and the queue says what is wrong with the certificate."""
    bad, words = bad_certificates(place, authority)[fault]
    sink = place.sink(tls=bad.server())
    deferred(relay_to(sink, tls="verify", **{"ca-file": str(authority.path)}), sink, "4.7.5", words)
    assert len(sink.commands_of("STARTTLS")) >= 1


def test_system_authorities_do_not_know_ours(place, relay_to, certificate):
    sink = place.sink(tls=certificate.server())
    deferred(relay_to(sink, tls="verify"), sink, "4.7.5", "not trusted")


def test_wrong_address(place, relay_to, authority):
    sink = place.sink(tls=authority.sign(NAME, "192.0.2.1").server())
    deferred(relay_to(sink, host="127.0.0.1", tls="verify", **{"ca-file": str(authority.path)}), sink, "4.7.5", "another name")


def test_ca_file_that_is_none(place, relay_to):
    """Found at the start, not when the first message waits."""
    (place.directory / "ca.pem").write_text("nothing\n")
    with pytest.raises(AssertionError, match="connectors.out"):
        relay_to(place.sink(), tls="verify", **{"ca-file": str(place.directory / "ca.pem")})


# ---- TLS failing at each stage ----

def closes(connection):
    connection.close()
    raise OSError


def babbles(connection):
    connection.sendall(b"this is not TLS at all\r\n" * 10)
    connection.recv(65536)
    raise OSError


def stalls(gate):
    def handshake(connection):
        gate.wait(60 * SCALE)
        raise OSError
    return handshake


def closes_in_the_middle(connection):
    connection.recv(65536)
    connection.close()
    raise OSError


def injects(connection):
    """The reply to STARTTLS came with more behind it."""
    raise OSError


STAGES = ["not offered", "refused", "closed at the reply", "closed", "babble", "stall", "closed in the middle", "injected", "old"]


def faulty(place, certificate, stage, gate):
    """A next hop whose TLS fails in this way, and takes plaintext."""
    versions = {"maximum_version": ssl.TLSVersion.TLSv1_1, "minimum_version": ssl.TLSVersion.TLSv1} if stage == "old" else {}
    sink = place.sink(tls=None if stage == "not offered" else certificate.server(**versions))
    replies = {"refused": "454 4.7.0 TLS not available", "closed at the reply": "close",
               "injected": "220 2.0.0 Go ahead\r\n250-sink.test\r\n250 AUTH PLAIN"}
    sink.answer = lambda at, text, session: replies.get(stage) if at == "starttls" else None
    sink.handshake = {"closed": closes, "babble": babbles, "stall": stalls(gate), "closed in the middle": closes_in_the_middle,
                      "injected": injects}.get(stage, sink.handshake)
    return sink


@pytest.fixture
def gate():
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("stage", STAGES)
def test_plaintext_where_tls_may_be(place, relay_to, certificate, stage, gate):
    """Mail that would wait for days gets there, as it would have before there was TLS; and the log says each time why."""
    sink = faulty(place, certificate, stage, gate)
    relay = relay_to(sink, tls="may")
    assert sink.wait_for(send(relay)).tls is None
    event = relay.wait_for_event("tls-fallback")
    assert event["host"] == NAME and event["reason"], event


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("tls", ["required", "verify"])
def test_no_plaintext_where_tls_must_be(place, relay_to, certificate, stage, tls, gate):
    sink = faulty(place, certificate, stage, gate)
    status = {"not offered": "4.7.4", "refused": "4.7.4", "closed at the reply": "4.4.2"}.get(stage, "4.7.5")
    deferred(relay_to(sink, tls=tls), sink, status, "TLS" if stage != "closed at the reply" else "STARTTLS")


def test_hello_again_after_tls(place, relay_to, certificate):
    """What was said before TLS counts for nothing: anybody could have said it (RFC 3207 4.2)."""
    sink = place.sink(tls=certificate.server())

    def answer(stage, text, session):
        if stage == "ehlo":
            answer.count += 1
            return "250-sink.test\r\n250-STARTTLS\r\n250-SIZE 10\r\n250 DSN" if answer.count == 1 else None
        return None

    answer.count = 0
    sink.answer = answer
    sink.wait_for(send(relay_to(sink, tls="required")))


def test_end_after_the_handshake(place, relay_to, certificate):
    """The server ends the connection when it is to greet again: that is no reason for plaintext."""
    sink = place.sink(tls=certificate.server())
    sink.answer = lambda stage, text, session: "close" if stage == "ehlo" and sink.commands_of("STARTTLS") else None
    relay = relay_to(sink, tls="may")
    send(relay)
    assert relay.wait_for_event("deferred")["status"] == "4.4.2"
    assert not relay.log.find("tls-fallback")


def test_next_smart_host_when_tls_fails(place, relay_to, certificate, authority):
    """A host with a bad certificate gives way to the next, not to plaintext."""
    bad, good = place.sink(tls=authority.sign("other.test").server()), place.sink(tls=certificate.server())
    relay = relay_to(bad, tls="verify", **{"ca-file": str(authority.path),
                                           "smart-hosts": [f"127.0.0.1:{bad.port}", f"[{NAME}]:{good.port}"]})
    assert good.wait_for(send(relay)).tls == "TLSv1.3"
    assert not bad.messages


def test_implicit_tls(place, relay_to, certificate, authority):
    """Port 465 (RFC 8314): TLS before the first word."""
    sink = place.sink(tls=certificate.server(), tls_at_once=True)
    relay = relay_to(sink, tls="verify", **{"ca-file": str(authority.path), "implicit-tls": True})
    assert sink.wait_for(send(relay)).tls == "TLSv1.3"
    assert not sink.commands_of("STARTTLS")


def test_implicit_tls_never_falls_back(place, relay_to):
    """A port that should have begun with TLS and speaks plaintext is a mistake, or somebody in between."""
    sink = place.sink()
    relay = relay_to(sink, tls="may", **{"implicit-tls": True})
    deferred(relay, sink, "4.7.5", "TLS")
    sink.faults.clear()  # to it the handshake was a bad command


def test_many_messages_over_tls(place, relay_to, certificate):
    sink = place.sink(tls=certificate.server())
    relay = relay_to(sink, tls="required")
    words = [send(relay) for _ in range(30)]
    for word in words:
        assert sink.wait_for(word).tls


# ---- authentication ----

def authenticating(relay_to, authority, sink, **auth):
    secret = {} if "password-file" in auth else {"password": PASSWORD}
    return relay_to(sink, tls="verify", **{"ca-file": str(authority.path), "auth": {"user": USER, **secret, **auth}})


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
def test_authenticates(place, relay_to, authority, certificate, mechanism):
    sink = place.sink(tls=certificate.server(), auth=Login(USER, PASSWORD), mechanisms=[mechanism])
    message = sink.wait_for(send(authenticating(relay_to, authority, sink)))
    assert message.user == USER and message.tls
    assert sink.commands_of("AUTH")[0].split(" ")[1] == mechanism


def test_binds_to_the_channel(place, relay_to, authority, certificate):
    """SCRAM-SHA-256-PLUS: whoever stands in between with a certificate that is trusted has another channel."""
    context = certificate.server(maximum_version=ssl.TLSVersion.TLSv1_2)
    sink = place.sink(tls=context, auth=Login(USER, PASSWORD), mechanisms=["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"])
    assert sink.wait_for(send(authenticating(relay_to, authority, sink))).user == USER
    assert sink.commands_of("AUTH")[0].split(" ")[1] == "SCRAM-SHA-256-PLUS"


def test_strongest_is_used(place, relay_to, authority, certificate):
    sink = place.sink(tls=certificate.server(), auth=Login(USER, PASSWORD), mechanisms=["LOGIN", "XOAUTH2", "PLAIN", "SCRAM-SHA-256"])
    sink.wait_for(send(authenticating(relay_to, authority, sink)))
    assert sink.commands_of("AUTH")[0].startswith("AUTH SCRAM-SHA-256 ")


def test_only_what_is_allowed(place, relay_to, authority, certificate):
    """Somebody in between who strikes SCRAM from the list does not get the password by PLAIN."""
    sink = place.sink(tls=certificate.server(), auth=Login(USER, PASSWORD), mechanisms=["PLAIN", "LOGIN"])
    relay = authenticating(relay_to, authority, sink, mechanisms=["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"])
    deferred(relay, sink, "4.7.9", "no authentication that this connector may use")
    assert not sink.commands_of("AUTH")


def test_wrong_password(place, relay_to, authority, certificate):
    """Our mistake, which somebody will mend: nobody's mail goes back for it. The server's words stand in the queue, the password nowhere."""
    sink = place.sink(tls=certificate.server(), auth=Login(USER, "other"))
    relay = authenticating(relay_to, authority, sink)
    deferred(relay, sink, "4.7.8", "535 5.7.8 Wrong user or password")
    assert PASSWORD not in "\n".join(relay.log.lines)


def test_server_without_authentication(place, relay_to, authority, certificate):
    sink = place.sink(tls=certificate.server())
    deferred(authenticating(relay_to, authority, sink), sink, "4.7.0", "does not offer authentication")


@pytest.mark.parametrize("lie, words", [("wrong proof", "prove that it knows the password"), ("no proof", "proof that it knows the password")])
def test_server_that_does_not_know_the_password(place, relay_to, authority, certificate, lie, words):
    """SCRAM proves both sides: a server that only says yes is not the one that we have an account with."""
    sink = place.sink(tls=certificate.server(), auth=Login(USER, PASSWORD, lie=lie), mechanisms=["SCRAM-SHA-256"])
    send_to = authenticating(relay_to, authority, sink)
    deferred(send_to, sink, "4.7.8", words)


def test_too_few_iterations(place, relay_to, authority, certificate):
    sink = place.sink(tls=certificate.server(), auth=Login(USER, PASSWORD, iterations=1), mechanisms=["SCRAM-SHA-256"])
    send(authenticating(relay_to, authority, sink))
    sink.wait_until(lambda: sink.session_count, "a connection")
    assert not sink.messages


def test_no_password_without_tls(place, relay_to):
    """A server whose TLS somebody has struck out does not get the password."""
    sink = place.sink(auth=Login(USER, PASSWORD))
    deferred(relay_to(sink, tls="may", auth={"user": USER, "password": PASSWORD}), sink, "4.7.4", "does not offer STARTTLS")
    assert not sink.commands_of("AUTH")


def test_password_without_tls_where_it_is_allowed(place, relay_to):
    sink = place.sink(auth=Login(USER, PASSWORD))
    relay = relay_to(sink, tls="none", auth={"user": USER, "password": PASSWORD, "without-tls": True})
    assert sink.wait_for(send(relay)).user == USER


def test_long_password_waits_for_the_challenge(place, relay_to, authority, certificate):
    """RFC 4954 4: a response that does not fit into the command line comes behind it."""
    long = "x" * 600
    sink = place.sink(tls=certificate.server(), auth=Login(USER, long), mechanisms=["PLAIN"])
    relay = authenticating(relay_to, authority, sink, password=long)
    assert sink.wait_for(send(relay)).user == USER
    assert sink.commands_of("AUTH")[0] == "AUTH PLAIN"


def test_password_from_a_file(place, relay_to, authority, certificate):
    path = place.directory / "password"
    path.write_text(PASSWORD + "\n")
    sink = place.sink(tls=certificate.server(), auth=Login(USER, PASSWORD))
    relay = authenticating(relay_to, authority, sink, **{"password-file": str(path)})
    assert sink.wait_for(send(relay)).user == USER


def test_real_server(place, relay_to, authority, certificate):
    """Another implementation of all of it: aiosmtpd, which refuses mail before STARTTLS and before AUTH."""
    from aiosmtpd.controller import Controller
    from aiosmtpd.handlers import Message
    from aiosmtpd.smtp import AuthResult

    class Handler(Message):
        def handle_message(self, message):
            taken.append(message)
            arrived.set()

    def authenticator(server, session, envelope, mechanism, data):
        return AuthResult(success=(data.login, data.password) == (USER.encode(), PASSWORD.encode()))

    taken, arrived = [], threading.Event()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(Handler(), hostname="127.0.0.1", port=port, tls_context=certificate.server(), require_starttls=True,
                            authenticator=authenticator, auth_required=True)
    controller.start()
    try:
        relay = authenticating(relay_to, authority, controller)
        word = send(relay)
        assert arrived.wait(30 * SCALE) and word in taken[0].as_string()
    finally:
        controller.stop()
