# SPDX-License-Identifier: Apache-2.0
"""The relay decision a second time, in the plainest way, from its description alone: lists are walked, nothing is indexed.

It exists to disagree. It is written from the contract of the relay's behaviour and knows nothing of how the C code goes about it;
what it takes is a configuration as a dictionary and one case as a dictionary, as `postern explain --batch` reads it.
"""
import collections
import ipaddress

YES, UNKNOWN, NO = "yes", "unknown", "no"

Reply = collections.namedtuple("Reply", "verdict stage recipient_class code enhanced text rule")

PATH_OCTETS_MAX = 254
ATEXT = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~.")

# The names outside ASCII that the cases use, with their A-labels (RFC 5891).
A_LABELS = {"b\u00fccher": "xn--bcher-kva", "B\u00dcCHER": "xn--bcher-kva", "caf\u00e9": "xn--caf-dma"}


# ---- names and addresses ----

def as_ip(text):
    """An IP address; IPv4-mapped is IPv4. None if it is not one."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(ip, "ipv4_mapped", None)
    return mapped or ip


def normal_domain(text):
    """Lower case, A-labels, no trailing dot; None if it is no domain name."""
    labels = [A_LABELS.get(label, label) for label in text.split(".")]
    if labels and labels[-1] == "":
        labels.pop()
    if not labels or len(".".join(labels)) > 253:
        return None
    for label in labels:
        if not 1 <= len(label) <= 63 or label.startswith("-") or label.endswith("-"):
            return None
        if not all(c.isascii() and (c.isalnum() or c in "-_") for c in label):
            return None
    last = labels[-1].lower()
    if last.isdigit() or (last.startswith("0x") and len(last) > 2 and all(c in "0123456789abcdef" for c in last[2:])):
        return None
    return ".".join(labels).lower()


def is_below(name, ancestor):
    return name.endswith("." + ancestor)


Address = collections.namedtuple("Address", "text local domain literal is_null is_unqualified")


def parse_local(text):
    """(local part without quotes, what follows it), or None."""
    if not text.startswith('"'):
        end = text.find("@")
        end = len(text) if end < 0 else end
        bare = text[:end]
        return (bare, text[end:]) if bare and all(c in ATEXT or ord(c) >= 0xa0 for c in bare) else None
    local, i = "", 1
    while i < len(text) and text[i] != '"':
        if text[i] == "\\":
            i += 1
            if i == len(text) or ord(text[i]) > 0x7e:
                return None
        if ord(text[i]) < 0x20 or 0x7f <= ord(text[i]) <= 0x9f:
            return None
        local += text[i]
        i += 1
    rest = text[i + 1:]
    return (local, rest) if i < len(text) and local and (not rest or rest[0] == "@") else None


def parse_address(text, default_domain):
    """An Address, or None for `501 5.5.4 Invalid Address`."""
    text = text.strip(" \t")
    if text.startswith("<"):
        if not text.endswith(">"):
            return None
        text = text[1:-1]
        if not text:
            return Address("<>", "", None, None, True, False)
    if not text or len(text.encode("utf-8", "surrogatepass")) > PATH_OCTETS_MAX:
        return None
    if text.startswith("@"):
        route, colon, text = text.partition(":")
        hops = route.split(",")
        if not colon or not all(hop.startswith("@") and is_hop(hop[1:]) for hop in hops):
            return None
    found = parse_local(text)
    if not found:
        return None
    local, rest = found
    if not rest:
        return Address(f"{text}@{default_domain}", local, default_domain, None, False, True)
    domain = rest[1:]
    if domain.startswith("[") and domain.endswith("]"):
        inner = domain[1:-1]
        literal = as_ip(inner[5:]) if inner.lower().startswith("ipv6:") and ":" in inner[5:] else as_ip(inner)
        if literal is None or (":" in inner and not inner.lower().startswith("ipv6:")):
            return None
        return Address(text, local, None, literal, False, False)
    literal = as_ip(domain) if ":" not in domain else None
    if literal is not None:
        return Address(text, local, None, literal, False, False)
    name = normal_domain(domain)
    return Address(text, local, name, None, False, False) if name else None


def is_hop(hop):
    if hop.startswith("["):
        return hop.endswith("]")
    return bool(hop) and all(c.isalnum() or c in "-_." for c in hop)


# ---- lists ----

class Networks:
    """Networks parsed once, since Python is slow at it."""

    def __init__(self):
        self._known = {}

    def holds(self, entry, ip):
        if entry not in self._known:
            network = ipaddress.ip_network(entry)
            if network.version == 6 and network.network_address.ipv4_mapped and network.prefixlen >= 96:
                network = ipaddress.ip_network((network.network_address.ipv4_mapped, network.prefixlen - 96))
            self._known[entry] = network
        network = self._known[entry]
        return network.version == ip.version and ip in network


class Reference:
    """Decides under one configuration."""

    def __init__(self, config):
        self.config = config
        self.networks = Networks()
        self.default_domain = next((normal_domain(name) for name, domain in config["domains"].items()
                                    if domain.get("default")), None)

    # -- client entries --

    def ask_entry(self, entry, client, at_connection):
        kind, _, rest = entry.partition(":")
        if kind == "list":
            return self.ask_list(self.config["lists"][rest], client, at_connection)[0]
        if kind == "domain":
            if client["state"] == "tempfail":
                return UNKNOWN
            name, wanted = client["name"], normal_domain(rest)
            matches = client["state"] == "verified" and name and (name == wanted or is_below(name, wanted))
            return YES if matches else NO
        if kind == "cert":
            # At connection there is no TLS yet.
            return YES if not at_connection and client["cert"] and client["cert"].lower() == rest.lower() else NO
        return YES if self.networks.holds(entry, client["ip"]) else NO

    def ask_list(self, entries, client, at_connection=False):
        """(answer, the position of the first entry that gives it or None)."""
        answers = [self.ask_entry(entry, client, at_connection) for entry in entries]
        for answer in (YES, UNKNOWN):
            if answer in answers:
                return answer, answers.index(answer)
        return NO, None

    @staticmethod
    def names_user(entries, user, groups):
        """The position of the first matching `user:` entry, else of the first matching group's entry; None."""
        wanted = [f"user:{user}".lower()] + [f"group:{group}".lower() for group in groups]
        lowered = [entry.lower() for entry in entries]
        return next((lowered.index(name) for name in wanted if name in lowered), None)

    # -- domains --

    def find_domain(self, name):
        """The entry of `domains` that decides: exact, then the longest wildcard."""
        best = None
        for pattern, domain in self.config["domains"].items():
            if pattern.startswith("*."):
                length = len(normal_domain(pattern[2:])) if is_below(name, normal_domain(pattern[2:])) else None
            else:
                length = 1000 if normal_domain(pattern) == name else None
            if length is not None and (best is None or length > best[0]):
                best = (length, pattern, domain)
        return best[1:] if best else (None, None)

    def own_addresses(self, server):
        own = [as_ip(address) for address in server.get("addresses", [])]
        return own + [as_ip(listen.rpartition(":")[0].strip("[]")) for listen in server["listen"]]

    def classify(self, server, address):
        """(class before connectors are asked, the domain's entry)."""
        if address.is_null:
            return None, None
        if address.is_unqualified:
            return "local", self.find_domain(self.default_domain)[1]
        if address.literal is not None:
            own = self.default_domain and address.literal in self.own_addresses(server)
            return ("local", self.find_domain(self.default_domain)[1]) if own else ("external", None)
        domain = self.find_domain(address.domain)[1]
        if domain is None:
            return "external", None
        if domain["type"] == "alias":
            return "local", self.find_domain(normal_domain(domain["of"]))[1]
        return ("local" if domain["type"] == "local" else "allowed"), domain

    def overriding_connector(self, server_name, address):
        """Among the connectors in scope with the most specific matching address space, whether one overrides."""
        if address.literal is not None:
            return None
        best, found = -1, []
        for name, connector in self.config.get("connectors", {}).items():
            if server_name not in connector.get("servers", [server_name]):
                continue
            for space in connector["address-spaces"]:
                pattern = space["domain"] if isinstance(space, dict) else space
                if pattern == "*":
                    specificity = 0
                elif pattern.startswith("*."):
                    specificity = len(pattern) if is_below(address.domain, normal_domain(pattern[2:])) else -1
                else:
                    specificity = 1000 if address.domain == normal_domain(pattern) else -1
                if specificity >= 0 and specificity > best:
                    best, found = specificity, []
                if specificity >= 0 and specificity == best:
                    found.append(name)
        return [name for name in found if self.config["connectors"][name].get("allow-relay")]

    def is_known(self, domain, address):
        recipients = domain.get("recipients", "any" if domain["type"] == "allowed" else "directory")
        if recipients == "any":
            return True
        if domain["type"] == "local" and address.local.lower() == "postmaster":
            return True
        return address.local.lower() in [parse_address(recipient, "").local.lower() for recipient in recipients]

    # -- the relay list, in both modes --

    def ask_relay(self, server, client):
        """(whether it grants, the position of the entry that says so)."""
        relay = server.get("relay", {})
        if "except" in relay:
            answer, position = self.ask_list(relay["except"], client)
            return {YES: NO, NO: YES, UNKNOWN: UNKNOWN}[answer], position, "except"
        return (*self.ask_list(relay.get("only", []), client), "only")

    # -- the three steps --

    def at_connection(self, server, client):
        """None, or (verdict, code, enhanced, rule)."""
        connect = server.get("connect", {})
        for mode, passing in (("only", YES), ("except", NO)):
            if mode not in connect:
                continue
            answer, position = self.ask_list(connect[mode], client, at_connection=True)
            rule = f"connect.{mode}" + (f"[{position}]" if position is not None else "")
            if answer == UNKNOWN:
                return "defer", 421, "4.4.3", rule
            if answer != passing:
                return "reject", 554, "5.7.1", rule
        return None

    def at_mail(self, server, client, case, sender):
        """None, or (verdict, code, enhanced, text)."""
        user, groups = case.get("user"), case.get("groups") or []
        if server.get("tls", {}).get("required") and not case.get("tls"):
            return "reject", 530, "5.7.0", "Must issue a STARTTLS command first"
        if not user and not server.get("anonymous", True):
            return "reject", 530, "5.7.0", "Authentication required"
        if user and not self.may_submit(server, user, groups):
            return "reject", 550, "5.7.1", "Client does not have permission to submit mail to this server"
        if not user and server.get("anonymous-local-sender", "accept") == "reject":
            # "Does not answer yes" is taken as: does not grant, in either mode of the list.
            if self.classify(server, sender)[0] == "local" and self.ask_relay(server, client)[0] != YES:
                return "reject", 550, "5.7.1", f"Sender {sender.text} requires authentication"
        return None

    def may_submit(self, server, user, groups):
        submit = server.get("permissions", {}).get("submit", {})
        if self.names_user(submit.get("deny", []), user, groups) is not None:
            return False
        return not submit.get("allow") or self.names_user(submit["allow"], user, groups) is not None

    def at_rcpt(self, server_name, server, client, case, address):
        """(class, verdict, code, enhanced, text, rule)."""
        found, domain = self.classify(server, address)
        if found in ("local", "allowed"):
            if server.get("recipients", {}).get("lookup") == "at-rcpt" and not self.is_known(domain, address):
                return found, "reject", 550, "5.1.1", f"{address.text}... User unknown", None
            return found, "accept", 250, "2.1.5", address.text, None
        overriding = self.overriding_connector(server_name, address)
        if overriding:
            rule = f"connectors.{overriding[0]}.allow-relay" if len(overriding) == 1 else None
            return "connector", "accept", 250, "2.1.5", address.text, rule
        granted, rule = self.may_relay(server, client, case.get("user"), case.get("groups") or [])
        if granted == YES:
            return "external", "accept", 250, "2.1.5", address.text, rule
        if granted == UNKNOWN:
            return "external", "defer", 451, "4.4.3", f"Cannot verify relay permission for {address.text}", rule
        return "external", "reject", 550, "5.7.1", f"Unable to relay for {address.text}", rule

    def may_relay(self, server, client, user, groups):
        """(answer, rule below the server's name)."""
        permissions = server.get("permissions", {}).get("relay", {})
        if user:
            position = self.names_user(permissions.get("deny", []), user, groups)
            if position is not None:
                return NO, f"permissions.relay.deny[{position}]"
            position = self.names_user(permissions.get("allow", []), user, groups)
            if position is not None:
                return YES, f"permissions.relay.allow[{position}]"
            if server.get("relay", {}).get("authenticated", True):
                return YES, "relay.authenticated"
        answer, position, mode = self.ask_relay(server, client)
        return answer, f"relay.{mode}" + (f"[{position}]" if position is not None else "")

    def may_relay_authenticated(self, server, user, groups):
        """Whether having authenticated is enough, wherever from."""
        nowhere = {"ip": ipaddress.ip_address("0.0.0.0"), "state": "none", "name": None, "cert": None}
        alone = dict(server, relay={"authenticated": server.get("relay", {}).get("authenticated", True)})
        return self.may_submit(server, user, groups) and self.may_relay(alone, nowhere, user, groups)[0] == YES

    def client_of(self, case):
        name = case.get("client_name")
        return {"ip": as_ip(case["client"]), "state": case.get("client_name_state") or "none",
                "name": normal_domain(name) if name else None, "cert": case.get("cert")}

    def decide(self, case):
        server_name = case["server"]
        server = self.config["servers"][server_name]
        client = self.client_of(case)
        refused = self.at_connection(server, client)
        if refused:
            verdict, code, enhanced, rule = refused
            return Reply(verdict, "connect", None, code, enhanced, None, f"servers.{server_name}.{rule}")
        sender = parse_address(case.get("from") or "<>", self.default_domain)
        if sender is None:
            return Reply("reject", "mail", None, 501, "5.5.4", "Invalid Address", None)
        refused = self.at_mail(server, client, case, sender)
        if refused:
            verdict, code, enhanced, text = refused
            return Reply(verdict, "mail", None, code, enhanced, text, None)
        recipient = parse_address(case.get("to") or "", self.default_domain)
        if recipient is None or recipient.is_null:
            return Reply("reject", "rcpt", None, 501, "5.5.4", "Invalid Address", None)
        found, verdict, code, enhanced, text, rule = self.at_rcpt(server_name, server, client, case, recipient)
        if found == "external":
            rule = f"servers.{server_name}.{rule}"
        return Reply(verdict, "rcpt", found, code, enhanced, text, rule)
