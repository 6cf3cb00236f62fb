# SPDX-License-Identifier: Apache-2.0
"""Several virtual servers in one process, each with its own policy and limits, and load balancers in front of them."""
import re
import time

import pytest

from harness.client import SmtpClient, deliver, letter, token
from harness.limits import SCALE, wait_until
from harness.maildir import split_trace
from harness.proxied import LOCAL, SIGNATURE, UNKNOWN, ProxiedClient, version_1, version_2
from harness.settings import HOSTNAME, connector, merge

SENDER, ALICE, REMOTE = "u@example.org", "alice@contoso.test", "v@example.net"
GRANTED = f"250 2.1.5 {REMOTE}"
REFUSED = f"550 5.7.1 Unable to relay for {REMOTE}"
TOO_MANY = f"421 4.3.2 {HOSTNAME} Service not available, too many connections"
LISTEN = ["127.0.0.1:0"]


@pytest.fixture
def sink(place):
    return place.sink()


def recipient_reply(client, recipient=REMOTE):
    client.hello()
    client.expect_code(f"MAIL FROM:<{SENDER}>", "250 ")
    return client.ask(f"RCPT TO:<{recipient}>")


def ask(relay, server, source, recipient=REMOTE):
    with SmtpClient(relay.address(server), source=source) as client:
        return recipient_reply(client, recipient)


# ---- servers ----

def test_each_server_has_its_own_policy(place, sink):
    """The internal server's grants must not leak to the Internet's server, nor its strictness to the other."""
    relay = place.postern({
        "servers": {
            "main": {"banner": "Outside"},
            "inside": {"listen": LISTEN, "banner": "Inside", "relay": {"only": ["127.0.0.2"]}, "recipients": {"lookup": "at-rcpt"}},
            "devices": {"listen": LISTEN, "relay": {"only": ["127.0.0.3", "list:printers"]}, "limits": {"recipients": 1}},
        },
        "lists": {"printers": ["127.0.4.0/24"]},
        "connectors": {"out": connector(sink.address)},
    })
    granted = {("inside", "127.0.0.2"), ("devices", "127.0.0.3"), ("devices", "127.0.4.9")}
    for server in ("main", "inside", "devices"):
        for source in ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.4.9"):
            assert ask(relay, server, source) == (GRANTED if (server, source) in granted else REFUSED), (server, source)
    nobody = "nobody@contoso.test"
    assert ask(relay, "inside", "127.0.0.1", nobody) == f"550 5.1.1 {nobody}... User unknown"
    assert ask(relay, "main", "127.0.0.1", nobody) == f"250 2.1.5 {nobody}"
    with SmtpClient(relay.address("devices"), source="127.0.0.3") as client:
        assert recipient_reply(client) == GRANTED
        client.expect_code("RCPT TO:<w@example.net>", "452 4.5.3 ")
    for server, banner in (("main", "Outside"), ("inside", "Inside")):
        with SmtpClient(relay.address(server)) as client:
            assert client.banner.startswith(f"220 {HOSTNAME} {banner} ready at "), client.banner
    word = token()
    deliver(relay.address("inside"), SENDER, ALICE, letter(word), source="127.0.0.2")
    assert relay.wait_for_event("received")["server"] == "inside"


def test_anonymous_clients_may_not_send(place):
    """A submission server takes nothing from strangers, not even for local mailboxes."""
    relay = place.postern({"servers": {"submission": {"listen": LISTEN, "anonymous": False, "relay": {"only": ["127.0.0.1"]}}}})
    with SmtpClient(relay.address("submission")) as client:
        client.hello()
        client.expect(f"MAIL FROM:<{ALICE}>", "530 5.7.0 Authentication required")
        client.expect(f"RCPT TO:<{ALICE}>", "503 5.5.2 Need mail command")
        client.expect("NOOP", "250 2.0.0 OK")
    deliver(relay.address(), SENDER, ALICE, letter(token()))


def test_each_server_counts_its_own_connections(place):
    """A flood on the Internet's server must leave the internal one reachable."""
    limits = {"limits": {"connections": 5, "connections-per-client": 2}}
    relay = place.postern({"servers": {"main": limits, "inside": {"listen": LISTEN, **limits}}})
    sessions = [SmtpClient(relay.address(), source="127.0.0.2") for _ in range(2)]
    with SmtpClient(relay.address(), source="127.0.0.2") as client:
        assert client.banner == TOO_MANY
    sessions += [SmtpClient(relay.address("inside"), source="127.0.0.2") for _ in range(2)]
    assert all(session.banner.startswith("220 ") for session in sessions)
    for session in sessions:
        session.close()


def test_connectors_for_some_servers(place, sink):
    """A connector with a scope opens its domains to these servers' clients, and to nobody else's."""
    other = place.sink()
    relay = place.postern({
        "servers": {"inside": {"listen": LISTEN}},
        "connectors": {"out": connector(other.address),
                       "partners": connector(sink.address, **{"address-spaces": ["*.example.net", "example.net"],
                                                             "allow-relay": True, "servers": ["inside"]})},
    })
    assert ask(relay, "main", "127.0.0.1") == REFUSED
    assert ask(relay, "inside", "127.0.0.1") == GRANTED
    word = token()
    deliver(relay.address("inside"), SENDER, REMOTE, letter(word))
    sink.wait_for(word)
    assert relay.wait_for_event("received")["rule"] == "connectors.partners.allow-relay"


def test_rules_of_all_recipients_are_logged(place, sink):
    """Why was this mail let in? The answer is in the log for each recipient, with the line of the configuration."""
    relay = place.postern({
        "domains": {"fabrikam.test": {"type": "allowed"}},
        "servers": {"main": {"relay": {"only": ["127.0.0.2"]}}},
        "connectors": {"out": connector(sink.address)},
    })
    word = token()
    deliver(relay.address(), SENDER, [ALICE, "w@fabrikam.test", REMOTE], letter(word), source="127.0.0.2")
    received = relay.wait_for_event("received")
    relay.wait_for_event(lambda event: event.get("event") == "recipient" and event["to"] == REMOTE)
    rules = {event["to"]: event for event in [received] + relay.log.find("recipient")}
    assert {to: event["rule"] for to, event in rules.items()} == {
        ALICE: "domains.contoso.test", "w@fabrikam.test": "domains.fabrikam.test", REMOTE: "servers.main.relay.only[0]"}
    lines = relay.config_path.read_text().splitlines()
    for to, text in ((ALICE, "contoso.test"), ("w@fabrikam.test", "fabrikam.test"), (REMOTE, "only")):
        path, _, number = rules[to]["rule_at"].rpartition(":")
        assert path == str(relay.config_path) and text in lines[int(number) - 1], rules[to]
        assert rules[to]["id"] == received["id"]


# ---- load balancers ----

PROXY = "127.0.0.9"


@pytest.fixture
def relay(place, sink):
    """One that grants relay to its proxy's address too, as a careless administrator does."""
    return place.postern({
        "servers": {"main": {"proxy-protocol": {"from": [PROXY]}, "relay": {"only": ["192.0.2.0/24", "2001:db8::/32", PROXY]},
                             "connect": {"except": ["203.0.113.7"]},
                             "limits": {"connections-per-client": 2, "connections": 20}}},
        "connectors": {"out": connector(sink.address)},
    })


@pytest.mark.parametrize("header", [version_1, version_2], ids=["version-1", "version-2"])
def test_the_client_is_whom_the_proxy_names(relay, sink, header):
    """Policy, replies, log and trace go by the client: the proxy's address must never be taken for it."""
    for client_ip, reply in (("192.0.2.7", GRANTED), ("2001:db8::7", GRANTED), ("203.0.113.8", REFUSED), ("::ffff:192.0.2.7", GRANTED)):
        with ProxiedClient(relay.address(), PROXY, header(client_ip)) as client:
            assert client.banner.startswith("220 ")
            shown = client_ip.removeprefix("::ffff:")
            assert client.hello().startswith(f"250-{HOSTNAME} Hello [{shown}]")
            assert recipient_reply(client) == reply, client_ip
    with ProxiedClient(relay.address(), PROXY, header("203.0.113.7")) as client:
        assert client.banner == "554 5.7.1 Client not permitted to connect"
    word = token()
    with ProxiedClient(relay.address(), PROXY, header("192.0.2.7")) as client:
        client.hello()
        client.deliver(SENDER, REMOTE, letter(word))
    fields, _ = split_trace(sink.wait_for(word).content)
    assert b"(unknown [192.0.2.7])" in b"".join(fields) and PROXY.encode() not in b"".join(fields)
    assert relay.wait_for_event("received")["client"] == "192.0.2.7"


@pytest.mark.parametrize("header", [LOCAL, UNKNOWN, SIGNATURE + b"\x21\0\0\0"], ids=["local", "unknown", "unspecified"])
def test_the_proxy_speaks_for_itself(relay, header):
    """Health checks are the proxy's own connections, and bounded by the total only."""
    clients = [ProxiedClient(relay.address(), PROXY, header) for _ in range(5)]
    for client in clients:
        assert client.hello().startswith(f"250-{HOSTNAME} Hello [{PROXY}]")
        assert recipient_reply(client) == GRANTED
        client.close()


def test_header_in_pieces_and_with_extensions(relay):
    """Packets are cut anywhere, and proxies say more than we ask."""
    for header in (version_1("192.0.2.7"), version_2("192.0.2.7"), version_2("192.0.2.7", extensions=b"\x04\x08\x00" + bytes(2048))):
        with SmtpClient(relay.address(), source=PROXY, banner=False) as client:
            for start in range(0, len(header), 1 if len(header) < 100 else 500):
                client.send(header[start:start + (1 if len(header) < 100 else 500)])
                time.sleep(0.001)
            assert client.reply().startswith("220 ")
            assert recipient_reply(client) == GRANTED


BAD_HEADERS = {
    "no-header": b"EHLO client.test\r\n",
    "lower-case": b"proxy TCP4 192.0.2.7 127.0.0.1 1 25\r\n",
    "bad-address": b"PROXY TCP4 192.0.2.777 127.0.0.1 1 25\r\n",
    "endless-line": b"PROXY TCP4 " + b"1" * 5000,
    "no-such-version": SIGNATURE + b"\x31\x11\0\x0c" + bytes(12),
    "datagrams": SIGNATURE + b"\x21\x12\0\x0c" + bytes(12),
    "short-block": SIGNATURE + b"\x21\x11\0\x04" + bytes(4),
    "huge-block": SIGNATURE + b"\x21\x11\xff\xff" + bytes(70000),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_bad_header(relay, name):
    """Whoever is at the proxy's address and says something else is not served, and not as the proxy either."""
    with SmtpClient(relay.address(), source=PROXY, banner=False) as client:
        try:
            client.send(BAD_HEADERS[name])
        except ConnectionError:
            pass
        assert client.is_closed()
    event = relay.wait_for_event("proxy-refused")
    assert event["proxy"] == PROXY and event["reason"]


@pytest.mark.parametrize("early", [b"EHLO client.test\r\n", version_2("192.0.2.8")], ids=["hello", "header"])
def test_early_talk_behind_the_header(relay, early):
    """Behind the header the rules are the same as for everybody: who talks before the greeting is not served."""
    with SmtpClient(relay.address(), source=PROXY, banner=False) as client:
        client.send(version_1("192.0.2.7") + early)
        assert client.is_closed()


def test_no_header(relay):
    """A listed address that says nothing is let go after five seconds; and one that leaves at once."""
    SmtpClient(relay.address(), source=PROXY, banner=False).close()
    with SmtpClient(relay.address(), source=PROXY, banner=False) as client:
        began_at = time.monotonic()
        assert client.is_closed()
        assert 3 < time.monotonic() - began_at < 10 * SCALE
    wait_until(lambda: len(relay.log.find("proxy-refused")) == 2, "both")


def test_header_from_a_stranger(relay):
    """Anybody could claim to be anybody: from addresses that are not listed no header is believed."""
    for header in (version_1("192.0.2.7"), version_2("192.0.2.7")):
        with SmtpClient(relay.address(), source="127.0.0.8", banner=False) as client:
            client.send(header)
            try:
                client.send("EHLO client.test\r\nMAIL FROM:<u@example.org>\r\nRCPT TO:<v@example.net>\r\nQUIT\r\n")
                said = b""
                while piece := client.socket.recv(65536):
                    said += piece
            except ConnectionError:
                continue  # closed: the header came before the greeting
        assert GRANTED.encode() not in said and b"Hello [192.0.2.7]" not in said, said


def test_limit_for_each_client_behind_a_proxy(relay):
    """One client must not take all connections because they come through a proxy, nor be taken for all the others."""
    sessions = [ProxiedClient(relay.address(), PROXY, version_2(f"203.0.113.{number // 2 + 20}")) for number in range(10)]
    assert all(session.banner.startswith("220 ") for session in sessions)
    with ProxiedClient(relay.address(), PROXY, version_2("203.0.113.20")) as client:
        assert client.banner == TOO_MANY
        assert client.is_closed()
    assert relay.wait_for_event("turned-away")["client"] == "203.0.113.20"
    sessions.pop(0).close()

    def served_again():
        with ProxiedClient(relay.address(), PROXY, version_2("203.0.113.20")) as client:
            return client.banner.startswith("220 ")

    wait_until(served_again, "a place that became free")
    # The total counts them all: those that have said for whom, and those that have not. (The client before may still count for a moment.)
    waiting = []

    def is_full():
        with SmtpClient(relay.address(), source="127.0.0.8") as client:
            return client.banner == TOO_MANY

    def fills_up():
        waiting.append(SmtpClient(relay.address(), source=PROXY, banner=False))
        return len(waiting) >= 11 and is_full()

    wait_until(fills_up, "the total limit")
    for session in sessions + waiting:
        session.close()
    wait_until(lambda: not is_full(), "places that became free")


def test_names_of_clients_behind_a_proxy(place, sink):
    """It is the client's name that is looked up."""
    dns = place.dns()
    relay = place.postern({
        "servers": {"main": {"proxy-protocol": {"from": ["list:balancers"]}, "relay": {"only": ["domain:branch.contoso.test"]}}},
        "lists": {"balancers": ["127.0.0.8/31"]},
        "dns": {"resolver": dns.address, "timeout": "2s"}, "connectors": {"out": connector(sink.address)},
    })
    dns.client("203.0.113.9", "mail.branch.contoso.test")
    dns.client(PROXY, "balancer.branch.contoso.test")
    for client_ip, reply in (("203.0.113.9", GRANTED), ("203.0.113.10", REFUSED)):
        with ProxiedClient(relay.address(), PROXY, version_1(client_ip)) as client:
            assert recipient_reply(client) == reply
    assert not dns.asked_for(PROXY)


def test_stop_while_a_header_is_awaited(relay):
    """The end of the daemon does not wait for a proxy that says nothing."""
    with SmtpClient(relay.address(), source=PROXY, banner=False):
        time.sleep(0.2)
        began_at = time.monotonic()
        assert relay.stop() == 0
        assert time.monotonic() - began_at < 4 * SCALE


def test_proxies_change_with_a_reload(relay):
    """A load balancer that is new, or gone, needs no restart."""
    relay.settings = merge(relay.settings, {"servers": {"main": {"proxy-protocol": {"from": ["127.0.0.7"]}}}})
    relay.write_config()
    assert relay.reload()["event"] == "reloaded"
    with ProxiedClient(relay.address(), "127.0.0.7", version_1("192.0.2.7")) as client:
        assert recipient_reply(client) == GRANTED
    with SmtpClient(relay.address(), source=PROXY) as client:
        assert re.match("220 ", client.banner)
