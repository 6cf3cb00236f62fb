# SPDX-License-Identifier: Apache-2.0
"""TLS towards clients: programs that people really use, certificates and their reload, what is refused, and what an attacker on the way tries."""
import json
import re
import shutil
import smtplib
import ssl
import subprocess
import warnings

import pytest

from harness.certificates import RSA, Certificates, TlsClient
from harness.client import SmtpClient, letter, token
from harness.limits import SCALE, WAIT_S
from harness.settings import connector

SENDER, LOCAL, REMOTE = "alice@contoso.test", "bob@contoso.test", "v@example.net"
HOST = "mx.contoso.test"


@pytest.fixture(scope="module")
def authority(shared_place):
    return Certificates(shared_place.directory / "tls")


@pytest.fixture(scope="module")
def certificates(authority):
    return {"default": authority.make("default", HOST), "fabrikam": authority.make("fabrikam", "mx.fabrikam.test"),
            "wildcard": authority.make("wildcard", "*.northwind.test"), "rsa": authority.make("rsa", HOST, key=RSA),
            "client": authority.make("client"), "stranger": authority.make("stranger")}


@pytest.fixture(scope="module")
def sink(shared_place):
    return shared_place.sink()


@pytest.fixture(scope="module")
def relay(shared_place, sink, certificates):
    names = {"mx.fabrikam.test": {"certificate": str(certificates["fabrikam"].path), "key": str(certificates["fabrikam"].key)},
             "*.northwind.test": {"certificate": str(certificates["wildcard"].path), "key": str(certificates["wildcard"].key)}}
    default = certificates["default"]

    def server(tls, **more):
        return {"listen": ["127.0.0.1:0"], "relay": {"only": ["127.0.0.1"]}, "tls": tls, **more}

    return shared_place.postern({
        "servers": {"main": server(default.settings(names=names)),
                    "implicit": server(default.settings("implicit")),
                    "required": server(default.settings(required=True)),
                    "strict": server(default.settings(**{"minimum-version": "1.3"})),
                    "old": server(certificates["rsa"].settings(**{"minimum-version": "1.0"})),
                    "proxied": server(default.settings("implicit"), **{"proxy-protocol": {"from": ["127.0.0.1"]}}),
                    "asking": server(default.settings(**{"client-certificates": True}),
                                     relay={"only": [f"cert:{certificates['client'].fingerprint()}"]})},
        "connectors": {"out": connector(sink.address)},
    })


def port(relay, server="main"):
    return str(relay.address(server)[1])


def run(*command, stdin=b"", timeout_s=WAIT_S):
    result = subprocess.run([str(word) for word in command], input=stdin, capture_output=True, timeout=timeout_s, check=False)
    output = (result.stdout + result.stderr).decode("utf-8", "replace")
    assert result.returncode == 0, f"{command} ended with {result.returncode}:\n{output}"
    return output


def check_both(relay, sink, word):
    assert b"a line" in relay.maildir(LOCAL).wait_for(word)
    assert b"a line" in sink.wait_for(word).content


# ---- programs ----


@pytest.mark.parametrize("server", ["main", "implicit"])
def test_smtplib(relay, sink, authority, server):
    word = token()
    context = authority.client_context()
    client = (smtplib.SMTP_SSL("127.0.0.1", int(port(relay, server)), context=context, timeout=WAIT_S) if server == "implicit"
              else smtplib.SMTP("127.0.0.1", int(port(relay, server)), timeout=WAIT_S))
    with client:
        if server == "main":
            assert client.starttls(context=context)[0] == 220
        client.sendmail(SENDER, [LOCAL, REMOTE], letter(word, b"a line\r\n"))
        assert not client.has_extn("starttls")
    check_both(relay, sink, word)


@pytest.mark.parametrize("server, option", [("main", "--tls"), ("implicit", "--tls-on-connect")])
def test_swaks(relay, sink, authority, server, option):
    word = token()
    run("swaks", "--server", "127.0.0.1", "--port", port(relay, server), "--from", SENDER, "--to", f"{LOCAL},{REMOTE}", "--header",
        f"Subject: {word}", "--body", "a line\n", option, "--tls-verify", "--tls-ca-path", authority.file)
    check_both(relay, sink, word)


@pytest.mark.parametrize("server, scheme", [("main", "smtp"), ("implicit", "smtps")])
def test_curl(relay, sink, authority, tmp_path, server, scheme):
    word = token()
    path = tmp_path / "message"
    path.write_bytes(letter(word, b"a line\r\n" * 20000))
    run("curl", "--silent", "--show-error", "--ssl-reqd", "--cacert", authority.file, f"{scheme}://127.0.0.1:{port(relay, server)}",
        "--mail-from", SENDER, "--mail-rcpt", LOCAL, "--mail-rcpt", REMOTE, "--upload-file", path)
    check_both(relay, sink, word)
    assert sink.wait_for(word).content.count(b"a line\r\n") == 20000


@pytest.mark.parametrize("server, starttls", [("main", "on"), ("implicit", "off")])
def test_msmtp(relay, sink, authority, server, starttls):
    """GnuTLS on the other side."""
    word = token()
    run("msmtp", "--host=127.0.0.1", f"--port={port(relay, server)}", f"--from={SENDER}", "--file=/dev/null", "--auth=off", "--tls=on",
        f"--tls-starttls={starttls}", f"--tls-trust-file={authority.file}", LOCAL, REMOTE, stdin=f"Subject: {word}\n\na line\n".encode())
    check_both(relay, sink, word)


def s_client(relay, authority, *options, server="main"):
    return run("openssl", "s_client", "-connect", f"127.0.0.1:{port(relay, server)}", "-CAfile", authority.file, "-verify_return_error",
               "-ign_eof", *([] if server == "implicit" else ["-starttls", "smtp"]), *options, stdin=b"QUIT\r\n")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl(relay, authority, version):
    for server in ("main", "implicit"):
        output = s_client(relay, authority, version, server=server)
        assert "Verify return code: 0 (ok)" in output
        # With implicit TLS it does not wait for the banner, and so has no answer.
        assert "221 2.0.0" in output or server == "implicit"
        assert "Secure Renegotiation IS supported" in output or version == "-tls1_3"
        assert "Compression: NONE" in output


# ---- sessions ----


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_resumption(relay, authority, tmp_path, version):
    """The keys outlast a reload, or each reload would be followed by a storm of full handshakes."""
    path = tmp_path / "session"
    # The reply to a command is read, and with it the ticket of TLS 1.3.
    assert re.search(r"^New, ", s_client(relay, authority, version, "-sess_out", path), re.MULTILINE)
    assert re.search(r"^Reused, ", s_client(relay, authority, version, "-sess_in", path, "-sess_out", path), re.MULTILINE)
    assert relay.reload()["event"] == "reloaded"
    assert re.search(r"^Reused, ", s_client(relay, authority, version, "-sess_in", path), re.MULTILINE)


def test_no_renegotiation(relay, authority):
    """It lets a client have us work for nothing, and has been the root of attacks."""
    result = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port(relay)}", "-starttls", "smtp", "-tls1_2"],
                            input=b"R\n", capture_output=True, timeout=WAIT_S, check=False)
    assert b"no renegotiation" in result.stderr


# ---- names, versions, certificates ----


@pytest.mark.parametrize("name, shown", [(HOST, "default"), ("mx.fabrikam.test", "fabrikam"), ("MX.FABRIKAM.TEST", "fabrikam"),
                                         ("any.northwind.test", "wildcard"), ("a.b.northwind.test", "default"), (None, "default")])
def test_certificate_of_the_name(relay, certificates, name, shown):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with TlsClient(relay.address(), context, name) as client:
        assert client.fingerprint() == certificates[shown].fingerprint()


def old_context(version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    return context


OLD = [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1]


@pytest.mark.parametrize("server, version", [("main", version) for version in OLD] + [("strict", ssl.TLSVersion.TLSv1_2)])
def test_old_versions_are_refused(relay, server, version):
    since = relay.log.position()
    with pytest.raises(ssl.SSLError):
        TlsClient(relay.address(server), old_context(version))
    assert relay.wait_for_event("tls-failed", since)["error"] == "TLS: no TLS version in common with the peer"


@pytest.mark.parametrize("version", [*OLD, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_switch_for_old_devices(relay, version):
    word = token()
    with TlsClient(relay.address("old"), old_context(version)) as client:
        client.deliver(SENDER, LOCAL, letter(word, b"a line\r\n"))
    relay.maildir(LOCAL).wait_for(word)


def test_reload_of_certificates(place, tmp_path):
    """A certificate is renewed every few weeks: nobody is to notice."""
    authority = Certificates(tmp_path / "tls")
    used, renewed = authority.make("used", HOST), authority.make("renewed", HOST)
    before, after = used.fingerprint(), renewed.fingerprint()
    relay = place.postern({"servers": {"main": {"tls": used.settings()}}})
    context, word = authority.client_context(), token()
    with TlsClient(relay.address(), context) as client:
        assert client.fingerprint() == before
        client.envelope(SENDER, LOCAL)
        used.replace_by(renewed)
        with TlsClient(relay.address(), context) as meanwhile:
            assert meanwhile.fingerprint() == before
        assert relay.reload()["event"] == "reloaded"
        with TlsClient(relay.address(), context) as other:
            assert other.fingerprint() == after
        # A pair that does not fit changes nothing.
        used.key.write_bytes(authority.make("another").key.read_bytes())
        event = relay.reload()
        assert event["event"] == "reload-failed" and "is not the key of the certificate in" in json.dumps(event)
        with TlsClient(relay.address(), context) as other:
            assert other.fingerprint() == after
        assert client.data(letter(word)).startswith("250 ")
    relay.maildir(LOCAL).wait_for(word)


@pytest.mark.parametrize("fault, words", [("missing", "No such file or directory"), ("open", "that others can read"),
                                          ("locked", "protected by a passphrase"), ("foreign", "is not the key of the certificate")])
def test_a_key_that_is_no_good(place, tmp_path, fault, words):
    """Said at the start, with the file's name, and not at the first client; and nothing is asked of a terminal that isn't there."""
    authority = Certificates(tmp_path / "tls")
    certificate = authority.make("server", HOST)
    key = certificate.key
    if fault == "missing":
        key.unlink()
    elif fault == "open":
        key.chmod(0o644)
    elif fault == "locked":
        run("openssl", "ec", "-in", key, "-aes128", "-passout", "pass:secret", "-out", f"{key}.new")
        shutil.move(f"{key}.new", key)
        key.chmod(0o600)
    else:
        key.write_bytes(authority.make("other").key.read_bytes())
    relay = place.postern({"servers": {"main": {"tls": certificate.settings()}}}, start=False)
    relay.spawn()
    assert relay.wait() == 78
    assert words in relay.log.tail() and str(key) in relay.log.tail()


# ---- who may do what ----


def test_required(relay, authority):
    with SmtpClient(relay.address("required")) as client:
        assert "\n250 STARTTLS" in client.hello()
        client.expect(f"MAIL FROM:<{SENDER}>", "530 5.7.0 Must issue a STARTTLS command first")
    word = token()
    with TlsClient(relay.address("required"), authority.client_context()) as client:
        assert "STARTTLS" not in client.keywords
        client.deliver(SENDER, LOCAL, letter(word))
    relay.maildir(LOCAL).wait_for(word)


def test_client_certificate(relay, sink, authority, certificates):
    """cert: in a list grants to whoever has the key of that certificate, and to nobody else."""
    refused = f"550 5.7.1 Unable to relay for {REMOTE}"
    for certificate, answer in (("client", f"250 2.1.5 {REMOTE}"), ("stranger", refused), (None, refused)):
        context = authority.client_context(certificates[certificate] if certificate else None)
        for _ in range(2):
            with TlsClient(relay.address("asking"), context) as client:
                client.expect_code(f"MAIL FROM:<{SENDER}>", "250 ")
                client.expect(f"RCPT TO:<{REMOTE}>", answer)
    with SmtpClient(relay.address("asking")) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:<{SENDER}>", "250 ")
        client.expect(f"RCPT TO:<{REMOTE}>", refused)


def handshake_bytes(context):
    """(an object that shakes hands, what it sends first)."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return tls, incoming, outgoing


def test_behind_a_proxy(relay, authority):
    """The PROXY header and the handshake's first bytes come in one packet."""
    tls, incoming, outgoing = handshake_bytes(authority.client_context())
    client = SmtpClient(relay.address("proxied"), banner=False)
    with client:
        client.send(b"PROXY TCP4 203.0.113.9 203.0.113.1 4711 465\r\n" + outgoing.read())
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                incoming.write(client.socket.recv(65536))
        client.send(outgoing.read())
        seen = b""
        while not seen.endswith(b"\n"):
            try:
                seen += tls.read()
            except ssl.SSLWantReadError:
                incoming.write(client.socket.recv(65536))
        assert seen.startswith(b"220 ")


# ---- attackers on the way ----


def test_plaintext_behind_starttls(relay):
    """It would be carried out as if it had come under TLS."""
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.send(f"STARTTLS\r\nMAIL FROM:<{SENDER}>\r\n")
        assert client.reply() == "501 5.5.1 Nothing may follow STARTTLS"
        assert client.is_closed()
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.expect("STARTTLS", "220 2.0.0 Ready to start TLS")
        client.send(b"RSET\r\n")
        # An alert, and nothing that anybody would take for a reply.
        assert not re.search(rb"[245]\d\d", client.socket.recv(1000))


def test_what_was_said_before_is_forgotten(relay, authority):
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:<{SENDER}>", "250 ")
        assert client.ask("STARTTLS").startswith("503 5.5.1 ")
        client.expect_code("RSET", "250 ")
        client.expect("STARTTLS", "220 2.0.0 Ready to start TLS")
        client.socket = authority.client_context().wrap_socket(client.socket, server_hostname="127.0.0.1")
        client.expect(f"MAIL FROM:<{SENDER}>", "503 5.5.1 Send hello first")
        client.hello()
        client.expect("STARTTLS", "503 5.5.1 TLS already active")


@pytest.mark.parametrize("server", ["main", "implicit"])
@pytest.mark.parametrize("garbage", [b"EHLO client.test\r\n", b"\x16\x03\x01\x00\x05\xff\xff\xff\xff\xff", b"\0" * 1000, b""],
                         ids=["plaintext", "no hello", "zeroes", "nothing"])
def test_no_handshake(relay, server, garbage):
    since = relay.log.position()
    with SmtpClient(relay.address(server), banner=server == "main") as client:
        if server == "main":
            client.hello()
            client.expect("STARTTLS", "220 2.0.0 Ready to start TLS")
        if garbage:
            client.send(garbage)
            assert client.socket.recv(1000)[:1] in (b"", b"\x15")
        else:
            client.close()
        assert relay.wait_for_event("tls-failed", since)["error"].startswith("TLS: ")


@pytest.mark.parametrize("orderly", [True, False], ids=["close_notify", "cut off"])
def test_closed_in_the_middle_of_a_chunk(relay, authority, orderly):
    """What was cut short is no message, however it was cut."""
    word = token()
    client = TlsClient(relay.address(), authority.client_context())
    client.envelope(SENDER, LOCAL)
    content = letter(word, b"first part\r\n")
    client.send(b"BDAT %d\r\n%s" % (len(content), content))
    assert client.reply().startswith("250 ")
    client.send(b"BDAT 1000 LAST\r\nthe second part\r\n")
    if orderly:
        client.socket.settimeout(WAIT_S)
        try:
            client.socket.unwrap()
        except (ssl.SSLError, OSError):
            pass
    client.close()
    # The server is there, and a later message comes alone.
    after = token()
    with TlsClient(relay.address(), authority.client_context()) as other:
        other.deliver(SENDER, LOCAL, letter(after))
    relay.maildir(LOCAL).wait_for(after)
    assert not relay.maildir(LOCAL).find(word)


def test_pipelining_and_small_records(relay, authority):
    """Records of one byte, and many commands in one record."""
    words = [token(), token()]
    with TlsClient(relay.address(), authority.client_context()) as client:
        lines = f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{LOCAL}>\r\nDATA\r\n"
        client.send_in_pieces(lines)
        assert [reply[:3] for reply in client.replies(3)] == ["250", "250", "354"]
        client.send_in_pieces(letter(words[0]) + b".\r\n")
        assert client.reply().startswith("250 ")
        content = letter(words[1], b"y" * 900 + b"\r\n" + b"x" * 70 + b"\r\n" * 20000)
        client.send(f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{LOCAL}>\r\nBDAT {len(content)} LAST\r\n".encode() + content + b"NOOP\r\nQUIT\r\n")
        assert [reply[:3] for reply in client.replies(5)] == ["250", "250", "250", "250", "221"]
    for word in words:
        relay.maildir(LOCAL).wait_for(word)


# ---- scanners ----


@pytest.mark.release_only
@pytest.mark.parametrize("server", ["main", "implicit"])
def test_scan(relay, authority, tmp_path, server):
    """testssl.sh finds nothing to complain of above "low"."""
    program = shutil.which("testssl") or shutil.which("testssl.sh")
    assert program, "testssl.sh is not installed"
    path = tmp_path / "findings.json"
    # Its exit code counts what it would like to mention.
    subprocess.run([program, "--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none", "--ip", "127.0.0.1", "--add-ca",
                    str(authority.file), "--jsonfile", str(path), *([] if server == "implicit" else ["-t", "smtp"]),
                    f"{HOST}:{port(relay, server)}"], capture_output=True, timeout=600 * SCALE, check=False)
    findings = json.loads(path.read_text())
    assert len(findings) > 100 and any(finding["id"] == "TLS1_3" for finding in findings)
    bad = [finding for finding in findings if finding["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")]
    assert not bad, bad
