# SPDX-License-Identifier: Apache-2.0
"""Random configurations, and random cases under them, drawn from small worlds so that things meet: every address, name, user and
domain of a case has a fair chance to be named by the configuration, and to be next to something that is."""
import ipaddress

IPV4 = ["10.1.0.0/16", "10.1.2.0/24", "10.1.2.128/25", "10.1.2.3", "10.1.2.4/31", "192.0.2.7", "192.0.2.0/28", "198.51.100.0/24",
        "8.8.0.0/16", "8.8.8.8", "0.0.0.0/1", "128.0.0.0/2", "10.1.0.0/255.255.252.0", "0.0.0.0/0", "255.255.255.255", "0.0.0.0"]
IPV6 = ["2001:db8:1::/48", "2001:db8:1:2::/64", "2001:db8:1:2::3", "2a00:1450::/32", "2a00:1450:4001::/48", "::1", "fe80::/10",
        "::/0", "::ffff:10.1.2.3", "::ffff:10.1.0.0/112", "8000::/1", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
CLIENTS = ["10.1.2.3", "10.1.2.4", "10.1.2.5", "10.1.2.6", "10.1.2.127", "10.1.2.128", "10.1.3.255", "10.1.4.0", "10.2.0.0", "192.0.2.7",
           "192.0.2.15", "192.0.2.16", "198.51.100.1", "8.8.8.8", "8.9.0.0", "127.255.255.255", "128.0.0.0", "0.0.0.0",
           "255.255.255.255", "::ffff:10.1.2.3", "::ffff:8.8.8.8", "::FFFF:c000:0207", "2001:db8:1::1", "2001:db8:1:2::3",
           "2001:DB8:1:2:0:0:0:4", "2001:db8:2::1", "2a00:1450:4001:0::8", "2a00:1451::", "::1", "::", "fe80::1", "8000::",
           "7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::fffe:0:0", "::1:0:0:0"]
NAMES = ["branch.test", "mail.branch.test", "a.b.mail.branch.test", "xbranch.test", "branch.test.evil.test", "Mail.Branch.TEST.",
         "test", "other.example", "mail.other.example", "b\u00fccher.test", "not a name", "example", "x-.test"]
NAME_ENTRIES = ["branch.test", "mail.branch.test", "other.example", "test", "example", "BRANCH.Test", "xn--bcher-kva.test"]
USERS = ["alice", "bob", "Carol", "dave@contoso.test", "eve"]
GROUPS = ["staff", "Admins", "temps"]
CERTIFICATES = ["ab" * 32, "0123456789abcdef" * 4, "FF" * 32]

DOMAINS = ["contoso.test", "contoso.example", "fabrikam.test", "*.fabrikam.test", "*.eu.fabrikam.test", "x.eu.fabrikam.test",
           "*.northwind.test", "northwind.test", "b\u00fccher.test", "*.test", "Tail.Spin.Test", "*.deep.er.northwind.test", "example",
           "*.b\u00fccher.test"]
SPACES = ["*", "*.test", "*.partner.test", "partner.test", "x.partner.test", "*.x.partner.test", "*.example", "fabrikam.test",
          "example.net", "*.net", "*.eu.fabrikam.test"]
LOCAL_PARTS = ["alice", "Alice", "postmaster", "PostMaster", "nobody", "a%b", "x!y", '"v@example.net"', '"a\\"b"', '" "', "v%example.net",
               "a.b..c", ".dot.", "example.net!v", "\u00fcser"]
RECIPIENT_DOMAINS = ["contoso.test", "CONTOSO.Test", "contoso.test.", "contoso.example", "sub.contoso.test", "fabrikam.test",
                     "a.fabrikam.test", "b.a.fabrikam.test", "eu.fabrikam.test", "x.eu.fabrikam.test", "y.x.eu.fabrikam.test",
                     "northwind.test", "n.northwind.test", "deep.er.northwind.test", "q.deep.er.northwind.test", "b\u00fccher.test",
                     "xn--bcher-kva.test", "BCHER.b\u00fccher.test", "tail.spin.test", "test", "example", "a.example", "example.net",
                     "example.org", "partner.test", "x.partner.test", "y.x.partner.test", "z.partner.test", "xpartner.test",
                     "[192.0.2.25]", "192.0.2.25", "[203.0.113.25]", "203.0.113.25", "[IPv6:2001:db8::25]", "[ipv6:2001:DB8:0::25]",
                     "[IPv6:::ffff:192.0.2.25]", "[10.9.9.9]", "10.9.9.9", "[IPv6:2001:db8::26]", "localhost", "mail.contoso.test",
                     "_dmarc.contoso.test", "a" * 63 + ".test"]
ODD = ["", "<>", "@", "a@", "@b.test", "a@b@contoso.test", "v@example.net@contoso.test", "v@example.net@", "a b@contoso.test",
       '"open@contoso.test', '""@contoso.test', "a@[1.2.3]", "a@[1.2.3.4", "a@1.2.3", "a@2130706433", "a@0x7f000001", "a@b..test",
       "a@-b.test", "a@b-.test", "a@.test", "a@[2001:db8::25]", "a@[IPv6:10.1.2.3]", "a\tb@contoso.test", "a\u0001@contoso.test",
       "a(b)@contoso.test", "<a@contoso.test>", "<a@contoso.test", "a@contoso.test>", "@a.test,@b.test:v@example.net",
       "@a.test:alice", "@:v@example.net", "@a.test,v@example.net", "@[192.0.2.1]:v@example.net", "<@contoso.test:v@example.net>",
       " alice@contoso.test ", "a" * 242 + "@example.net", "a" * 243 + "@example.net", "a" * 254, "a" * 255, "a@" + "b" * 64 + ".test",
       "a@" + ".".join(["b" * 60] * 4) + ".test", '"a\\\u0001"@contoso.test', "alice\u0000@contoso.test", '"a"b@contoso.test',
       'a"b"@contoso.test', "a@con toso.test", "a,b@contoso.test", "a;b@contoso.test", "a\\b@contoso.test"]


def some(random, pool, low, high):
    return random.sample(pool, min(len(pool), random.randint(low, high)))


def client_entries(random, lists, low=0, high=5, certificates=True):
    kinds = []
    for _ in range(random.randint(low, high)):
        kind = random.random()
        if kind < 0.35:
            kinds.append(random.choice(IPV4[:12] if random.random() < 0.9 else IPV4))
        elif kind < 0.50:
            kinds.append(random.choice(IPV6))
        elif kind < 0.65:
            kinds.append("domain:" + random.choice(NAME_ENTRIES))
        elif kind < 0.75 and certificates:
            kinds.append("cert:" + random.choice(CERTIFICATES))
        elif lists:
            kinds.append("list:" + random.choice(lists))
    return kinds


def names_somebody(entries, lists, certificates):
    """Whether an entry, or one of a list that is named, can match at all."""
    for entry in entries:
        kind, _, rest = entry.partition(":")
        if kind == "list":
            if names_somebody(lists[rest], lists, certificates):
                return True
        elif kind != "cert" or certificates:
            return True
    return False


def named_lists(random):
    """Each may name those before it."""
    lists = {}
    for name in ("deep", "office", "devices", "all")[:random.randint(0, 4)]:
        lists[name] = client_entries(random, list(lists), 0, 4)
    return lists


def domains(random):
    found = {"contoso.test": {"type": "local", "default": True,
                              "recipients": random.choice(["any", ["alice", "postmaster"], ["Alice", "a%b", '"v@example.net"']])}}
    for name in some(random, DOMAINS[1:], 0, 9):
        kind = random.choice(["local", "alias", "allowed", "allowed"])
        if kind == "alias":
            found[name] = {"type": "alias", "of": "contoso.test"}
        else:
            found[name] = {"type": kind, "recipients": random.choice(["any", ["nobody", "x!y"]])}
    return found


def user_entries(random, high=3):
    pool = [f"user:{user}" for user in USERS[:4]] + [f"group:{group}" for group in GROUPS] + ["user:ALICE"]
    return some(random, pool, 0, high)


def server(random, number, lists):
    made = {"listen": [f"192.0.2.25:{2500 + number}"]}
    if random.random() < 0.5:
        made["listen"].append(f"[2001:db8::25]:{2500 + number}")
    if random.random() < 0.5:
        made["addresses"] = ["203.0.113.25"]
    for key, low in (("connect", 1), ("relay", 0)):
        mode = random.choice(["only", "except", None] if key == "connect" else ["only", "only", "except", None])
        entries = client_entries(random, list(lists), low, 6, certificates=key == "relay") if mode else []
        # An empty relay.only grants nobody; any other empty list is a mistake.
        if mode and (key + mode == "relayonly" or names_somebody(entries, lists, certificates=key == "relay")):
            made[key] = {mode: entries}
    if random.random() < 0.3:
        made.setdefault("relay", {})["authenticated"] = False
    if random.random() < 0.2:
        made["anonymous"] = False
    if random.random() < 0.15:
        made["tls"] = {"required": True}
    if random.random() < 0.3:
        made["anonymous-local-sender"] = "reject"
    if random.random() < 0.3:
        made["recipients"] = {"lookup": "at-rcpt"}
    if random.random() < 0.5:
        made["permissions"] = {kind: {side: user_entries(random, 2) for side in ("allow", "deny") if random.random() < 0.5}
                               for kind in ("submit", "relay")}
    return made


def connectors(random, servers):
    found = {}
    for name in ("partners", "out", "inner", "more")[:random.randint(0, 4)]:
        found[name] = {"address-spaces": [space if random.random() < 0.7 else {"domain": space, "cost": random.randint(1, 9)}
                                          for space in some(random, SPACES, 1, 3)],
                       "smart-hosts": ["192.0.2.99:25"], "allow-relay": random.random() < 0.4}
        if random.random() < 0.4:
            found[name]["servers"] = some(random, servers, 1, 2)
    return found


def world(random):
    """A whole configuration, as a dictionary; JSON is YAML."""
    lists = named_lists(random)
    servers = {name: server(random, number, lists) for number, name in enumerate(("one", "two", "three")[:random.randint(1, 3)])}
    return {"hostname": "mail.contoso.test", "domains": domains(random), "lists": lists, "servers": servers,
            "connectors": connectors(random, list(servers))}


def case(random, config):
    made = {"server": random.choice(list(config["servers"])), "client": random.choice(CLIENTS)}
    if random.random() < 0.2:
        made["client"] = str(ipaddress.IPv4Address(random.getrandbits(32)) if random.random() < 0.5
                             else ipaddress.IPv6Address(random.getrandbits(128)))
    if random.random() < 0.6:
        made["client_name_state"] = random.choice(["none", "verified", "verified", "unverified", "tempfail"])
    if random.random() < 0.7:
        made["client_name"] = random.choice(NAMES + [None])
    if random.random() < 0.5:
        made["tls"] = random.random() < 0.8
    if random.random() < 0.4:
        made["user"] = random.choice(USERS + ["ALICE", "", None])
        made["groups"] = some(random, GROUPS + ["STAFF", "nobody"], 0, 3)
    if random.random() < 0.3:
        made["cert"] = random.choice(CERTIFICATES + ["ff" * 32, "00" * 32, None])
    made["from"] = address(random)
    made["to"] = address(random)
    return made


def address(random):
    kind = random.random()
    if kind < 0.12:
        return random.choice(ODD)
    local = random.choice(LOCAL_PARTS)
    return local if kind < 0.2 else f"{local}@{random.choice(RECIPIENT_DOMAINS)}"
