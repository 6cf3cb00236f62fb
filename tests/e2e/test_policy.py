# SPDX-License-Identifier: Apache-2.0
"""Who may relay where (relay-behaviour.md section 2), on the wire, with clients from several addresses. As far as it needs no authentication."""
import pytest

from harness.client import SmtpClient
from harness.settings import connector

LOCAL, EXTERNAL = "bob@contoso.test", "v@example.net"
ACCEPTED, UNKNOWN, REFUSED = "250 2.1.5 {}", "550 5.1.1 {}... User unknown", "550 5.7.1 Unable to relay for {}"


@pytest.fixture(scope="module")
def relay(shared_place):
    devices = shared_place.directory / "devices.txt"
    devices.write_text("# printers\n127.0.0.9\n\n127.5.0.0/16   # and scanners\n")
    sink = shared_place.sink()
    listen = ["127.0.0.1:0"]
    return shared_place.postern({
        "domains": {
            "fabrikam.test": {"type": "allowed"},
            "*.northwind.test": {"type": "allowed", "recipients": ["known@a.northwind.test"]},
            "deep.a.northwind.test": {"type": "local", "recipients": "any"},
            "contoso.example": {"type": "alias", "of": "contoso.test"},
        },
        "lists": {"office": ["127.2.0.0/16", "127.0.0.4"], "devices": {"file": str(devices)}},
        "servers": {
            "main": {},
            "lookup": {"listen": listen, "recipients": {"lookup": "at-rcpt"}},
            "some": {"listen": listen, "relay": {"only": ["127.0.0.2", "127.1.0.0/255.255.0.0", "list:office", "list:devices"]}},
            "most": {"listen": listen, "relay": {"except": ["127.0.0.2", "127.1.0.0/16"]}, "allow-open-relay": "a test on loopback"},
            "closed": {"listen": listen, "anonymous": False, "relay": {"only": ["127.0.0.0/8"]}},
            "guarded": {"listen": listen, "anonymous-local-sender": "reject", "relay": {"only": ["127.0.0.2"]}},
            "natted": {"listen": listen, "addresses": ["203.0.113.25", "2001:db8::25"]},
            "inside": {"listen": listen},
        },
        "connectors": {
            "out": connector(sink.address),
            "partners": {"address-spaces": ["*.partner.test", "partner.test"], "smart-hosts": [sink.address], "allow-relay": True,
                         "servers": ["inside"]},
            "exact": {"address-spaces": ["not.partner.test"], "smart-hosts": [sink.address]},
        },
    })


def ask(relay, server, recipient, source="127.0.0.1", sender="u@example.org"):
    with SmtpClient(relay.address(server), source=source) as client:
        client.hello()
        client.expect_code(f"MAIL FROM:<{sender}>", "250 ")
        return client.ask(f"RCPT TO:<{recipient}>")


@pytest.mark.parametrize("server, source, granted", [
    ("main", "127.0.0.1", False),
    ("some", "127.0.0.1", False), ("some", "127.0.0.2", True), ("some", "127.0.0.3", False),
    ("some", "127.1.255.254", True), ("some", "127.2.3.4", True), ("some", "127.0.0.4", True), ("some", "127.3.0.1", False),
    ("some", "127.0.0.9", True), ("some", "127.5.6.7", True),
    ("most", "127.0.0.1", True), ("most", "127.0.0.2", False), ("most", "127.1.0.1", False), ("most", "127.2.0.1", True),
])
def test_relay_lists(relay, server, source, granted):
    """A neighbour's address that slips in is an open door; a device's that falls out loses its mail."""
    assert ask(relay, server, EXTERNAL, source) == (ACCEPTED if granted else REFUSED).format(EXTERNAL)
    assert ask(relay, server, LOCAL, source) == ACCEPTED.format(LOCAL), "local mail is not relaying"


@pytest.mark.parametrize("sender", ["alice@contoso.test", "", "postmaster", "u@fabrikam.test", "u@mail.contoso.test"])
def test_sender_grants_nothing(relay, sender):
    assert ask(relay, "main", EXTERNAL, sender=sender) == REFUSED.format(EXTERNAL)


@pytest.mark.parametrize("server, recipient, reply", [
    ("main", "v@fabrikam.test", ACCEPTED), ("main", "v@FABRIKAM.Test", ACCEPTED), ("main", "v@sub.fabrikam.test", REFUSED),
    ("main", "v@northwind.test", REFUSED), ("main", "v@a.northwind.test", ACCEPTED), ("main", "v@b.a.northwind.test", ACCEPTED),
    ("main", "v@northwind.test.example.net", REFUSED), ("main", "v@xnorthwind.test", REFUSED),
    ("lookup", "v@a.northwind.test", UNKNOWN), ("lookup", "known@a.northwind.test", ACCEPTED),
    ("lookup", "v@fabrikam.test", ACCEPTED), ("lookup", "v@deep.a.northwind.test", ACCEPTED),
    ("lookup", "bob@contoso.example", ACCEPTED), ("lookup", "v@contoso.example", UNKNOWN),
    ("lookup", "BOB@contoso.test", ACCEPTED), ("lookup", "postmaster@contoso.example", ACCEPTED),
])
def test_domains(relay, server, recipient, reply):
    """Which domains mail is taken for: exact names beat wildcards, which match at any depth, but not the name itself."""
    assert ask(relay, server, recipient) == reply.format(recipient)


@pytest.mark.parametrize("server, recipient, granted", [
    ("inside", "v@partner.test", True), ("inside", "v@a.partner.test", True), ("inside", "v@not.partner.test", False),
    ("main", "v@partner.test", False), ("inside", EXTERNAL, False),
])
def test_connector_override_and_scope(relay, server, recipient, granted):
    """allow-relay overrides a server's restrictions: only for servers in its scope, and only where it is the most specific."""
    assert ask(relay, server, recipient) == (ACCEPTED if granted else REFUSED).format(recipient)


@pytest.mark.parametrize("server, recipient, own", [
    ("main", "bob@[127.0.0.1]", True), ("main", "bob@127.0.0.1", True), ("main", "bob@[203.0.113.25]", False),
    ("natted", "bob@[203.0.113.25]", True), ("natted", "bob@203.0.113.25", True), ("natted", "bob@[IPv6:2001:db8::25]", True),
    ("natted", "bob@[IPv6:2001:DB8:0:0::25]", True), ("natted", "bob@[IPv6:2001:db8::26]", False), ("natted", "bob@[127.0.0.1]", True),
])
def test_own_addresses(relay, server, recipient, own):
    """An address literal is local only if it is this server's; behind NAT the configuration says so."""
    assert ask(relay, server, recipient) == (ACCEPTED if own else REFUSED).format(recipient)


def test_anonymous_false(relay):
    """A submission server must take nothing from strangers, not even what they could send elsewhere."""
    with SmtpClient(relay.address("closed")) as client:
        client.hello()
        for sender in ("alice@contoso.test", "u@example.org", ""):
            client.expect(f"MAIL FROM:<{sender}>", "530 5.7.0 Authentication required")
        client.expect("RCPT TO:<bob@contoso.test>", "503 5.5.2 Need mail command")


def test_anonymous_local_sender(relay):
    """Strangers who write as the boss; but not the devices that may relay."""
    with SmtpClient(relay.address("guarded")) as client:
        client.hello()
        for sender in ("alice@contoso.test", "alice", "alice@contoso.example", "alice@[127.0.0.1]"):
            shown = sender if "@" in sender else f"{sender}@contoso.test"
            client.expect(f"MAIL FROM:<{sender}>", f"550 5.7.1 Sender {shown} requires authentication")
        client.expect_code("MAIL FROM:<u@example.org>", "250 ")
        client.expect_code("RSET", "250 ")
        client.expect_code("MAIL FROM:<>", "250 ")
    with SmtpClient(relay.address("guarded"), source="127.0.0.2") as device:
        device.hello()
        device.expect_code("MAIL FROM:<alice@contoso.test>", "250 ")


def test_list_in_a_file_is_read_again_at_reload(place):
    """The printer that was bought today; and a file that is missing grants nobody and changes nothing."""
    devices = place.directory / "devices.txt"
    devices.write_text("127.0.0.9\n")
    relay = place.postern({
        "lists": {"devices": {"file": str(devices)}},
        "servers": {"main": {"relay": {"only": ["list:devices"]}}},
        "connectors": {"out": connector(place.sink().address)},
    })
    assert ask(relay, "main", EXTERNAL, "127.0.0.10") == REFUSED.format(EXTERNAL)
    devices.write_text("127.0.0.9\n127.0.0.10\n")
    assert relay.reload()["event"] == "reloaded"
    assert ask(relay, "main", EXTERNAL, "127.0.0.10") == ACCEPTED.format(EXTERNAL)
    devices.write_text("127.0.0.300\n")
    assert relay.reload()["event"] == "reload-failed"
    devices.unlink()
    assert relay.reload()["event"] == "reload-failed"
    assert ask(relay, "main", EXTERNAL, "127.0.0.10") == ACCEPTED.format(EXTERNAL)
