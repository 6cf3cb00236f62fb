# SPDX-License-Identifier: Apache-2.0
"""Who may relay, held against a second opinion: property/reference.py, which was written from the description of the behaviour alone.

The decisions are compared case by case, through `postern explain --batch`, under random configurations; what `postern check` counts
is compared with going through all addresses of small networks one by one, and with decisions sampled over the whole space. One
disagreement is an open relay, or mail that is refused; it is told with the seed that brings it back.

POSTERN_PROPERTY_CASES sets how many cases (a million by default), POSTERN_PROPERTY_SEED where they begin.
"""
import collections
import functools
import ipaddress
import itertools
import json
import os
import random
import subprocess

import pytest

from harness.limits import WAIT_S
from harness.postern import program
from property import worlds
from property.reference import YES, Reference, as_ip, is_below, normal_domain

CASES = int(os.environ.get("POSTERN_PROPERTY_CASES", "1000000"))
SEED = int(os.environ.get("POSTERN_PROPERTY_SEED", "1"))
PARTS = 4
CASES_OF_A_WORLD = 2500
WORLDS = 160  # of those that are gone through address by address

EXTERNAL = {"from": "s@outside.invalid", "to": "v@[198.18.0.9]", "tls": True}


def write(path, config):
    path.write_text(json.dumps(config, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def explain(path, cases):
    """The answers, in order."""
    lines = "".join(json.dumps(case) + "\n" for case in cases).encode()
    result = subprocess.run([program("postern"), "explain", "--batch", "-c", str(path)], input=lines, capture_output=True,
                            timeout=WAIT_S, check=False)
    assert result.returncode == 0, (result.returncode, result.stderr.decode(), result.stdout.decode()[-500:], path.read_text())
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(answers) == len(cases)
    return answers


def check(path, *options):
    result = subprocess.run([program("postern"), "check", "--json", "-c", str(path), *options], capture_output=True, text=True,
                            timeout=WAIT_S, check=False)
    assert result.returncode in (0, 1), (result.returncode, result.stdout, result.stderr)
    found = json.loads(result.stdout)
    assert result.returncode == (1 if found["verdict"] == "OPEN" else 0)
    return found


def differences(expected, answer):
    """What of the answer is not as expected; a None there is what the description leaves open."""
    fields = [("verdict", expected.verdict), ("stage", expected.stage), ("code", expected.code), ("enhanced", expected.enhanced)]
    fields += [(name, value) for name, value in (("text", expected.text), ("rule", expected.rule)) if value is not None]
    wrong = [name for name, value in fields if answer[name] != value]
    return wrong + (["class"] if answer["class"] != expected.recipient_class else [])


# ---- decisions ----

# Every way to end must have come up, or the million proves less than it seems.
WAYS = {("connect", None, 421), ("connect", None, 554), ("mail", None, 501), ("mail", None, 530), ("mail", None, 550), ("rcpt", None, 501),
        ("rcpt", "local", 250), ("rcpt", "local", 550), ("rcpt", "allowed", 250), ("rcpt", "allowed", 550), ("rcpt", "connector", 250),
        ("rcpt", "external", 250), ("rcpt", "external", 451), ("rcpt", "external", 550)}


@pytest.mark.release_only
@pytest.mark.parametrize("part", range(PARTS))
def test_decisions(part, tmp_path):
    """The decision function and its description never disagree."""
    seen = collections.Counter()
    for number in range(part, max(CASES // CASES_OF_A_WORLD, PARTS), PARTS):
        chance = random.Random(f"{SEED}/{number}")
        config = worlds.world(chance)
        path = write(tmp_path / "world.yaml", config)
        reference = Reference(config)
        cases = [worlds.case(chance, config) for _ in range(CASES_OF_A_WORLD)]
        for case, answer in zip(cases, explain(path, cases)):
            expected = reference.decide(case)
            wrong = differences(expected, answer)
            assert not wrong, f"world {SEED}/{number}: {wrong} differ\ncase: {case}\npostern: {answer}\nexpected: {expected}\n{path.read_text()}"
            seen[expected.stage, expected.recipient_class, expected.code] += 1
    assert WAYS <= set(seen), f"never seen: {WAYS - set(seen)}"


# ---- what check counts ----

SPECIAL_IPV4 = [ipaddress.ip_network(text) for text in
                ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
                 "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4")]
PUBLIC_IPV4 = 2**32 - sum(network.num_addresses for network in SPECIAL_IPV4)
PUBLIC_IPV6 = 2**125 - 2**96


@functools.lru_cache(None)
def is_public(ip):
    if ip.version == 4:
        return not any(ip in network for network in SPECIAL_IPV4)
    return ip in ipaddress.ip_network("2000::/3") and ip not in ipaddress.ip_network("2001:db8::/32")


# Small networks of which every address is asked; outside of them all addresses of a family fare alike.
SMALL = [ipaddress.ip_network(text) for text in ("10.0.0.0/24", "8.8.8.0/24", "2001:db8::/120", "2a00::/120")]
OUTSIDE = [ipaddress.ip_address(text) for text in ("198.18.0.1", "9.9.9.9", "fe80::1", "2600::1")]
ALL_OF_SMALL = [ip for network in SMALL for ip in network]


def small_network(chance):
    network = chance.choice(SMALL)
    prefix = chance.randint(network.prefixlen, network.max_prefixlen)
    first = int(network.network_address) + (chance.getrandbits(8) >> (network.max_prefixlen - prefix) << (network.max_prefixlen - prefix))
    return f"{ipaddress.ip_address(first) if network.version == 4 else ipaddress.IPv6Address(first)}/{prefix}"


def small_entries(chance, lists, high, certificates):
    entries = []
    for _ in range(chance.randint(0, high)):
        kind = chance.random()
        if kind < 0.45:
            entries.append(small_network(chance))
        elif kind < 0.50:
            entries.append(chance.choice(["0.0.0.0/0", "::/0"]))
        elif kind < 0.65:
            entries.append("domain:" + chance.choice(worlds.NAME_ENTRIES))
        elif kind < 0.7 and certificates:
            entries.append("cert:" + chance.choice(worlds.CERTIFICATES))
        elif lists:
            entries.append("list:" + chance.choice(list(lists)))
    return entries


def small_world(chance):
    lists = {"office": small_entries(chance, {}, 4, True)}
    lists["more"] = small_entries(chance, lists, 4, True)
    lists["all"] = small_entries(chance, lists, 4, True)
    config = worlds.world(chance)
    for server in config["servers"].values():
        for key in ("connect", "relay"):
            authenticated = server.pop(key, {}).get("authenticated")
            mode = chance.choice(["only", "only", "except", None])
            entries = small_entries(chance, lists, 6, key == "relay") if mode else []
            if mode and (key + mode == "relayonly" or worlds.names_somebody(entries, lists, key == "relay")):
                server[key] = {mode: entries}
            if authenticated is not None:
                server.setdefault(key, {})["authenticated"] = authenticated
    config["lists"] = lists
    return config


def ask_all(path, server, addresses):
    """Which of these may relay to any external domain without authenticating and without a host name."""
    answers = explain(path, [{**EXTERNAL, "server": server, "client": str(ip)} for ip in addresses])
    assert all(answer["class"] in (None, "external") for answer in answers)
    return {ip for ip, answer in zip(addresses, answers) if answer["verdict"] == "accept"}


def count(granted, addresses_outside):
    """Counts over everything, from every address of the small networks and one of each kind outside."""
    inside = granted - set(addresses_outside)
    counts = {"ipv4": sum(ip.version == 4 for ip in inside), "ipv6": sum(ip.version == 6 for ip in inside),
              "ipv4_public": sum(ip.version == 4 and is_public(ip) for ip in inside),
              "ipv6_public": sum(ip.version == 6 and is_public(ip) for ip in inside)}
    private4, public4, private6, public6 = (ip in granted for ip in addresses_outside)
    assert private4 == public4 and private6 == public6, "nothing tells them apart"
    if private4:
        counts["ipv4"] += 2**32 - 512
        counts["ipv4_public"] += PUBLIC_IPV4 - 256
    if private6:
        counts["ipv6"] += 2**128 - 2**32 - 512
        counts["ipv6_public"] += PUBLIC_IPV6 - 256
    return counts


def flat(entries, lists, kind):
    """The entries of that kind, with "" the networks; those of named lists included."""
    found = []
    for entry in entries:
        if entry.startswith("list:"):
            found += flat(lists[entry[5:]], lists, kind)
        elif entry.startswith(kind) if kind else not entry.startswith(("domain:", "cert:")):
            found.append(entry)
    return found


def edges(config, server):
    """Addresses at the borders of every network of the server's lists."""
    found = set(OUTSIDE)
    for key, mode in itertools.product(("connect", "relay"), ("only", "except")):
        for entry in flat(server.get(key, {}).get(mode, []), config["lists"], ""):
            network = ipaddress.ip_network(entry)
            for ip in (network[0] - 1 if int(network[0]) else network[0], network[0], network[-1],
                       network[-1] + 1 if int(network[-1]) < 2**network.max_prefixlen - 1 else network[-1]):
                found.add(as_ip(str(ip)))
    return found


def completing_domains(reference, config, server):
    """The `domain:` entries of either list by which some client comes to relay that its address alone does not bring there."""
    names = sorted({normal_domain(name) for name in worlds.NAME_ENTRIES} | {"x." + normal_domain(name) for name in worlds.NAME_ENTRIES})
    found = set()
    if not server.get("anonymous", True):
        return found
    for ip, name in itertools.product(edges(config, server), names):
        client = {"ip": ip, "state": "verified", "name": name, "cert": None}
        nameless = {**client, "state": "none"}
        if reference.at_connection(server, client) or reference.ask_relay(server, client)[0] != YES:
            continue
        for key, passes in (("connect", not reference.at_connection(server, nameless)),
                            ("relay", reference.ask_relay(server, nameless)[0] == YES)):
            for entry in [] if passes else flat(server.get(key, {}).get("only", []), config["lists"], "domain:"):
                wanted = normal_domain(entry[7:])
                if name == wanted or is_below(name, wanted):
                    found.add(wanted)
    return found


def may_connect(reference, server, ip, name=None):
    client = {"ip": ip, "state": "verified" if name else "none", "name": name and normal_domain(name), "cert": None}
    return not reference.at_connection(server, client)


def expected_verdict(reference, config, name, counts, found):
    server = config["servers"][name]
    wide = [space if isinstance(space, str) else space["domain"] for connector in config["connectors"].values()
            if connector["allow-relay"] and name in connector.get("servers", [name]) for space in connector["address-spaces"]]
    wide += [pattern for pattern, domain in config["domains"].items() if domain["type"] == "allowed"]
    reaches_much = any(pattern == "*" or (pattern.startswith("*.") and "." not in pattern[2:]) for pattern in wide)
    reachable = server.get("anonymous", True) and any(
        may_connect(reference, server, ip) if is_public(ip) else
        any(may_connect(reference, server, ip, entry) for entry in worlds.NAME_ENTRIES) and not may_connect(reference, server, ip)
        for ip in edges(config, server))
    if (counts["ipv4_public"] > 2**24 or counts["ipv6_public"] > 2**112 or any("." not in domain for domain in found)
            or (reaches_much and reachable)):
        return "OPEN"
    return "RESTRICTED" if counts["ipv4_public"] or counts["ipv6_public"] or found else "CLOSED"


def expected_authenticated(reference, server):
    """By every combination of a user, listed or not, and groups."""
    users = [user.lower() for user in worlds.USERS] + ["somebody-else"]
    groups = [list(chosen) for size in range(len(worlds.GROUPS) + 1) for chosen in itertools.combinations(worlds.GROUPS, size)]
    if reference.may_relay_authenticated(server, "somebody-else", []) and not server.get("permissions", {}).get("submit", {}).get("allow"):
        return "everyone" if server.get("relay", {}).get("authenticated", True) else "listed"
    return "listed" if any(reference.may_relay_authenticated(server, user, chosen) for user in users for chosen in groups) else "nobody"


WORST = {"CLOSED": 0, "RESTRICTED": 1, "OPEN": 2}


@pytest.mark.release_only
@pytest.mark.parametrize("part", range(PARTS))
def test_counts_by_brute_force(part, tmp_path):
    """What check states of each server, against asking for every address, name and user one by one."""
    verdicts = collections.Counter()
    for number in range(part, WORLDS, PARTS):
        chance = random.Random(f"{SEED}/small/{number}")
        config = small_world(chance)
        path = write(tmp_path / "small.yaml", config)
        reference = Reference(config)
        stated = check(path)
        for name, server in config["servers"].items():
            told = stated["servers"][name]
            where = f"world {SEED}/small/{number}, server {name}: {told}\n{path.read_text()}"
            counts = count(ask_all(path, name, ALL_OF_SMALL + OUTSIDE), OUTSIDE)
            domains = completing_domains(reference, config, server)
            assert told["anonymous_relay"] == {**{key: str(value) for key, value in counts.items()},
                                               "domains": told["anonymous_relay"]["domains"]}, (counts, where)
            assert sorted(told["anonymous_relay"]["domains"]) == sorted(domains), (domains, where)
            assert told["verdict"] == expected_verdict(reference, config, name, counts, domains), where
            assert told["authenticated_relay"] == expected_authenticated(reference, server), where
            overrides = [connector for connector, made in config["connectors"].items()
                         if made["allow-relay"] and name in made.get("servers", [name])]
            assert [override["connector"] for override in told["overrides"]] == overrides, where
            verdicts[told["verdict"]] += 1
        assert WORST[stated["verdict"]] == max(WORST[server["verdict"]] for server in stated["servers"].values())
    assert len(verdicts) == 3, verdicts


def in_networks(networks, ip):
    """An IPv6 network around the IPv4-mapped block leaves that out: as_ip has made those IPv4."""
    return any(ip.version == network.version and ip in network for network in networks)


def size_of(networks):
    return sum(network.num_addresses for network in networks)


@pytest.mark.release_only
@pytest.mark.parametrize("part", range(PARTS))
def test_sampled_over_everything(part, tmp_path):
    """The set that check has computed, as --against lists it, against decisions at its borders and all over the space."""
    for number in range(part, WORLDS, PARTS):
        chance = random.Random(f"{SEED}/whole/{number}")
        config = worlds.world(chance)
        path = write(tmp_path / "whole.yaml", config)
        closed = write(tmp_path / "closed.yaml", {**config, "lists": {}, "connectors": {}, "servers": {
            name: {"listen": server["listen"]} for name, server in config["servers"].items()}})
        stated = check(path, "--against", str(closed))
        for name, server in config["servers"].items():
            change = stated["against"][name]
            where = f"world {SEED}/whole/{number}, server {name}: {change}\n{path.read_text()}"
            networks = [ipaddress.ip_network(text) for text in change["gains"]["addresses"]]
            counts = stated["servers"][name]["anonymous_relay"]
            ipv4 = [network for network in networks if network.version == 4]
            ipv6 = [network for network in networks if network.version == 6]
            mapped = ipaddress.ip_network("::ffff:0:0/96")
            hidden = 2**32 if any(mapped.subnet_of(network) for network in ipv6) else 0
            assert change["loses"]["addresses"] == [], where
            assert str(size_of(ipv4)) == counts["ipv4"], where
            assert str(size_of(ipv6) - hidden) == counts["ipv6"], where
            for family in (ipv4, ipv6):
                assert family == list(ipaddress.collapse_addresses(family)), f"not the fewest: {where}"
            addresses = edges(config, server) | {as_ip(text) for text in worlds.CLIENTS}
            addresses |= {ipaddress.IPv4Address(chance.getrandbits(32)) for _ in range(100)}
            addresses |= {as_ip(str(ipaddress.IPv6Address(chance.getrandbits(128)))) for _ in range(100)}
            addresses = sorted(addresses, key=str)
            granted = ask_all(path, name, addresses)
            for ip in addresses:
                assert in_networks(networks, ip) == (ip in granted), (str(ip), where)


def test_batch_answers_bad_lines_in_place(tmp_path):
    """One bad line among a million must not cost the others, nor shift them."""
    path = write(tmp_path / "t.yaml", {"hostname": "mail.contoso.test", "domains": {"contoso.test": {"type": "local", "default": True}},
                                       "servers": {"main": {"listen": ["127.0.0.1:0"]}}})
    good = json.dumps({"server": "main", "client": "192.0.2.7", "from": "a", "to": "b"})
    lines = [good, "", "nonsense", good + "x", good.replace("main", "other"), good.replace("192.0.2.7", "host"), good.replace("to", "too"),
             "[" * 100, '{"server":"main","client":"192.0.2.7","to":"' + "x" * 70000 + '"}', good]
    result = subprocess.run([program("postern"), "explain", "--batch", "-c", str(path)], input="\n".join(lines), capture_output=True,
                            text=True, timeout=WAIT_S, check=False)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 2, result
    assert [answer.get("line", 0) for answer in answers] == [0, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert all(answer["error"] for answer in answers[1:-1])
    assert answers[0] == answers[-1] == {
        "verdict": "accept", "stage": "rcpt", "class": "local", "code": 250, "enhanced": "2.1.5", "text": "b@contoso.test",
        "rule": "domains.contoso.test", "at": f"{path}:4"}, answers[0]


def test_batch_is_a_conversation(tmp_path):
    """A program that asks, reads the answer and asks again must not wait for ever."""
    path = write(tmp_path / "t.yaml", {"hostname": "mail.contoso.test", "servers": {"main": {"listen": ["127.0.0.1:0"]}}})
    question = json.dumps({"server": "main", "client": "192.0.2.7", "from": "a@b.test", "to": "c@d.test"}) + "\n"
    with subprocess.Popen([program("postern"), "explain", "--batch", "-c", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        for _ in range(3):
            process.stdin.write(question)
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["verdict"] == "reject"
        process.stdin.close()
        assert process.wait(WAIT_S) == 0
