# SPDX-License-Identifier: Apache-2.0
"""DANE (RFC 7672) with real signed zones: who can't prove to be the host that the domain names gets no mail, and nobody can talk us out of it."""
import pytest

from harness.answers import SENDER
from harness.client import deliver, letter, token
from harness.pki import Authority, self_signed
from harness.settings import merge
from harness.zones import Zones

DOMAIN, HOST = "dane.example", "mx.dane.example"
REMOTE = f"v@{DOMAIN}"
QUICK = {"connect": "1s", "command": "2s", "data": "5s"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def world(place):
    """Serves these records of DOMAIN, and starts a relay that sends its mail to the port of the sink."""
    zones = []

    def start(sink, *records, signed=True, broken=False, more_zones=(), dns=None, **connector):
        made = Zones(place.directory / "zones")
        zones.append(made)
        made.add(DOMAIN, *(record.format(port=sink.port) for record in records), signed=signed, broken=broken)
        for name, other_records, options in more_zones:
            made.add(name, *(record.format(port=sink.port) for record in other_records), **options)
        made.start()
        return place.postern(merge({
            "servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}}},
            "connectors": {"out": {"address-spaces": ["*"], "route": "dns", "port": sink.port, "mx-networks": ["127.0.0.0/8"],
                                   "timeouts": QUICK, **connector}},
            "dns": merge(made.dns(), dns or {}), "delivery": {"retry": ["1s"]}, "log": {"level": "debug"},
        }, {}))
    yield start
    for made in zones:
        made.close()


def exchanger(place, certificate=None):
    return place.sink(ip="127.0.0.11", tls=certificate.server() if certificate else None)


def records(*tlsa, mx="@ MX 10 mx", host="mx A 127.0.0.11"):
    return [mx, host, *(f"_{{port}}._tcp.mx TLSA {text}" for text in tlsa)]


def send(relay, recipient=REMOTE):
    word = token()
    deliver(relay.address(), SENDER, recipient, letter(word))
    return word


def deferred(relay, sink, words, status="4.7.5"):
    send(relay)
    event = relay.wait_for_event("deferred")
    assert event["status"] == status and words in event["reply"], event
    assert not sink.messages and not sink.commands_of("MAIL")
    assert not relay.log.find("tls-fallback")


def connected(relay, policy, verified):
    """How the last connection came to be."""
    event = relay.wait_for_event(lambda event: event.get("event") == "route" and "tls_policy" in event)
    assert (event["tls_policy"], event["verified"]) == (policy, verified), event


@pytest.mark.parametrize("tls", ["may", "required", "dane"])
@pytest.mark.parametrize("kind", [(3, 1, 1), (3, 0, 1), (3, 1, 2), (3, 0, 0)])
def test_end_entity(place, world, tls, kind):
    """A self-signed certificate of another name will do: the record is what counts."""
    certificate = self_signed(place.directory, "whatever.test")
    sink = exchanger(place, certificate)
    relay = world(sink, *records(certificate.tlsa(*kind)), tls=tls)
    assert sink.wait_for(send(relay)).tls
    assert set(sink.server_names) == {HOST}
    connected(relay, "dane", True)


@pytest.mark.parametrize("name", [HOST, DOMAIN])
def test_trust_anchor(place, world, authority, name):
    """Usage 2: the certificate's chain leads to the anchor, and it bears the name of the host or of the domain."""
    sink = exchanger(place, authority.sign(name))
    relay = world(sink, *records(authority.certificate.tlsa(2, 0, 1)))
    sink.wait_for(send(relay))
    connected(relay, "dane", True)


def test_trust_anchor_of_another_name(place, world, authority):
    sink = exchanger(place, authority.sign("other.test"))
    deferred(world(sink, *records(authority.certificate.tlsa(2, 0, 1))), sink, "another name")


@pytest.mark.parametrize("tls", ["may", "required", "dane"])
def test_no_match(place, world, authority, tls):
    """Somebody else's certificate, however good its authority: even `may` sends nothing, and nothing in plaintext."""
    sink = exchanger(place, authority.sign(HOST))
    relay = world(sink, *records(self_signed(place.directory, HOST).tlsa()), tls=tls)
    deferred(relay, sink, "no TLSA record matches the certificate")


@pytest.mark.parametrize("tls", ["may", "required", "dane"])
def test_no_tls_although_promised(place, world, authority, tls):
    """Whoever strikes STARTTLS out of the server's reply gets no mail (RFC 7672 2.2)."""
    sink = exchanger(place)
    deferred(world(sink, *records(authority.sign(HOST).tlsa()), tls=tls), sink, "does not offer STARTTLS", "4.7.4")


def test_one_of_several_records(place, world, authority):
    """A certificate that is about to change has two records."""
    old, new = authority.sign(HOST), authority.sign(HOST)
    sink = exchanger(place, new)
    relay = world(sink, *records(old.tlsa(), new.tlsa(), "1 0 1 " + "00" * 32))
    sink.wait_for(send(relay))
    connected(relay, "dane", True)


UNUSABLE = ["0 0 1 " + "00" * 32, "1 1 1 " + "00" * 32, "3 1 9 " + "00" * 32, "3 1 1 0011", "3 7 1 " + "00" * 32]


def test_unusable_records(place, world):
    """RFC 7672 2.2: the domain has said that it does TLS, but not how to know it: encrypted, to whomever."""
    sink = exchanger(place, self_signed(place.directory, "other.test"))
    relay = world(sink, *records(*UNUSABLE))
    assert sink.wait_for(send(relay)).tls
    connected(relay, "dane-unusable", False)


def test_unusable_records_without_tls(place, world):
    sink = exchanger(place)
    deferred(world(sink, *records(*UNUSABLE)), sink, "does not offer STARTTLS", "4.7.4")


def test_unusable_records_where_dane_must_be(place, world):
    sink = exchanger(place, self_signed(place.directory, "other.test"))
    deferred(world(sink, *records(*UNUSABLE), tls="dane"), sink, "none of its TLSA records is usable")
    assert not sink.session_count


def test_signed_without_records(place, world):
    """The domain says, signed, that there are none: as `may`."""
    sink = exchanger(place)
    relay = world(sink, *records())
    sink.wait_for(send(relay))
    connected(relay, "may", False)


def test_without_records_where_dane_must_be(place, world, authority):
    sink = exchanger(place, authority.sign(HOST))
    deferred(world(sink, *records(), tls="dane"), sink, "no validated TLSA records")
    assert not sink.session_count


def test_unsigned_zone(place, world, authority):
    """Records that anybody could have made up bind nobody."""
    sink = exchanger(place, authority.sign(HOST))
    relay = world(sink, *records(self_signed(place.directory, HOST).tlsa()), signed=False, more_zones=[("other.example", [], {})])
    sink.wait_for(send(relay))
    connected(relay, "may", False)


def test_unsigned_zone_where_dane_must_be(place, world, authority):
    sink = exchanger(place, authority.sign(HOST))
    relay = world(sink, *records(authority.sign(HOST).tlsa()), signed=False, more_zones=[("other.example", [], {})], tls="dane")
    deferred(relay, sink, "MX records are not validated")


def test_signed_host_of_an_unsigned_domain(place, world, authority):
    """RFC 7672 2.2.1: who forged the MX record could as well have named a host with records of his own."""
    good = authority.sign("mx.host.example")
    sink = exchanger(place, good)
    zone = ("host.example", ["mx A 127.0.0.11", f"_{{port}}._tcp.mx TLSA {good.tlsa()}"], {})
    relay = world(sink, "@ MX 10 mx.host.example.", signed=False, more_zones=[zone])
    sink.wait_for(send(relay))
    connected(relay, "may", False)


def test_unsigned_host_of_a_signed_domain(place, world, authority):
    sink = exchanger(place, authority.sign("mx.host.example"))
    zone = ("host.example", ["mx A 127.0.0.11", f"_{{port}}._tcp.mx TLSA {authority.sign('x.test').tlsa()}"], {"signed": False})
    relay = world(sink, "@ MX 10 mx.host.example.", more_zones=[zone])
    sink.wait_for(send(relay))
    connected(relay, "may", False)


def test_bogus(place, world, authority):
    """An answer whose signatures are wrong is no answer: the mail waits, and the reason says so."""
    sink = exchanger(place, authority.sign(HOST))
    relay = world(sink, *records(), broken=True)
    deferred(relay, sink, "DNSSEC", "4.4.3")


@pytest.mark.parametrize("tls", ["may", "required", "dane"])
def test_records_that_cannot_be_looked_up(place, world, authority, tls):
    """RFC 7672 2.1.2: whoever suppresses the TLSA records is whom they protect from. Their zone is said to be signed, and is not."""
    certificate = authority.sign(HOST)
    sink = exchanger(place, certificate)
    zone = (f"_tcp.{HOST}", [f"_{{port}} TLSA {certificate.tlsa()}"], {"signed": False})
    relay = world(sink, *records(), "_tcp.mx NS ns", "_tcp.mx DS 12345 13 2 " + "00" * 32, more_zones=[zone], tls=tls)
    deferred(relay, sink, "looking up its TLSA records")
    assert not sink.session_count


def test_domain_without_mx(place, world):
    """RFC 7672 2.2.2: the domain is its own host."""
    certificate = self_signed(place.directory, "x.test")
    sink = exchanger(place, certificate)
    relay = world(sink, "@ A 127.0.0.11", f"_{{port}}._tcp TLSA {certificate.tlsa()}")
    sink.wait_for(send(relay))
    connected(relay, "dane", True)
    assert set(sink.server_names) == {DOMAIN}


@pytest.mark.parametrize("owner, base", [("real", "real.dane.example"), ("mx", HOST)])
def test_alias(place, world, owner, base):
    """RFC 7672 2.2.2: of an alias, all of it signed, the records stand under its target or else under its name."""
    certificate = self_signed(place.directory, "x.test")
    sink = exchanger(place, certificate)
    relay = world(sink, "@ MX 10 mx", "mx CNAME real", "real A 127.0.0.11", f"_{{port}}._tcp.{owner} TLSA {certificate.tlsa()}")
    sink.wait_for(send(relay))
    connected(relay, "dane", True)
    assert set(sink.server_names) == {base}


def test_alias_into_an_unsigned_zone(place, world):
    """The alias is signed, what it leads to is not: the records under its own name count."""
    certificate = self_signed(place.directory, "x.test")
    sink = exchanger(place, certificate)
    zone = ("host.example", ["real A 127.0.0.11", "_{port}._tcp.real TLSA 3 1 1 " + "00" * 32], {"signed": False})
    relay = world(sink, "@ MX 10 mx", "mx CNAME real.host.example.", f"_{{port}}._tcp.mx TLSA {certificate.tlsa()}", more_zones=[zone])
    sink.wait_for(send(relay))
    connected(relay, "dane", True)


def test_next_host_when_one_does_not_match(place, world, authority):
    """RFC 7672 2.2: the next exchanger gets the mail, not the first one in plaintext."""
    bad = exchanger(place, authority.sign(HOST))
    good = place.sink(ip="127.0.0.12", port=bad.port, tls=authority.sign("b.test").server())
    other = self_signed(place.directory, "x.test").tlsa()
    relay = world(bad, "@ MX 10 mx", "@ MX 20 b", "mx A 127.0.0.11", "b A 127.0.0.12", f"_{{port}}._tcp.mx TLSA {other}")
    good.wait_for(send(relay))
    assert not bad.messages and bad.commands_of("STARTTLS")


def test_without_validation(place, world, authority):
    """A resolver that is trusted without looking at signatures gives nothing to count on: no DANE, and no false certainty."""
    sink = exchanger(place, authority.sign(HOST))
    relay = world(sink, *records(self_signed(place.directory, HOST).tlsa()), dns={"dnssec": "off", "trust-anchor": None})
    sink.wait_for(send(relay))
    connected(relay, "may", False)
