# SPDX-License-Identifier: Apache-2.0
"""The live server and `postern explain` say the same, to the letter; and the connector that overrides, as Exchange has it."""
import concurrent.futures
import itertools
import json
import subprocess

import pytest

from harness.client import SmtpClient, deliver, letter, token
from harness.dns import SERVFAIL, SILENCE
from harness.limits import WAIT_S
from harness.postern import program
from harness.settings import connector, merge

LISTEN = ["127.0.0.1:0"]
BRANCH, BAD = "domain:branch.contoso.test", "domain:bad.example"

SERVERS = {
    "main": {"relay": {"only": ["127.1.0.0/16", BRANCH]}},
    "closed": {"listen": LISTEN},
    "inside": {"listen": LISTEN, "relay": {"only": ["list:nested"]}, "recipients": {"lookup": "at-rcpt"}},
    "door": {"listen": LISTEN, "connect": {"only": ["127.0.0.1", "127.1.0.0/16", BRANCH]}, "relay": {"only": [BRANCH]}},
    "bouncer": {"listen": LISTEN, "connect": {"except": ["127.3.0.0/16", BAD]}},
    "locals": {"listen": LISTEN, "anonymous-local-sender": "reject", "relay": {"only": ["127.1.0.9", "list:branches"]}},
    "submission": {"listen": LISTEN, "anonymous": False, "relay": {"only": ["127.0.0.0/8"]}},
    "sealed": {"listen": LISTEN, "tls": {"required": True}, "anonymous": False},
    "open": {"listen": LISTEN, "relay": {"except": ["127.2.0.0/16", BAD]}, "allow-open-relay": "to test the mode"},
}

# Address, name as the DNS has it, and the state that it comes to.
CLIENTS = [
    ("127.0.0.1", None, "none"),
    ("127.0.0.2", "mail.branch.contoso.test", "verified"),
    ("127.0.0.3", "branch.contoso.test", "verified"),
    ("127.0.0.4", "host.other.example", "verified"),
    ("127.0.0.5", "claimed.branch.contoso.test", "unverified"),
    ("127.0.0.6", None, "tempfail"),  # SERVFAIL
    ("127.0.0.7", None, "tempfail"),  # silence
    ("127.0.0.8", "www.bad.example", "verified"),
    ("127.1.0.1", None, "none"),
    ("127.1.0.9", None, "tempfail"),  # silence, and granted by address
    ("127.2.0.1", None, "none"),
    ("127.3.0.1", "mail.branch.contoso.test", "verified"),
]

SENDERS = ["u@example.org", "alice@contoso.test", "bob", "", "u@contoso.example", "u@x@example.org", "s@[127.0.0.1]"]

RECIPIENTS = [
    "alice@contoso.test", "ALICE@Contoso.Test", "nobody@contoso.test", "postmaster", "Postmaster@contoso.example", "bob",
    "v@fabrikam.test", "info@deep.northwind.test", "nobody@deep.northwind.test", "v@northwind.test",
    "v@example.net", "v@b\u00fccher.example".encode("idna").decode(), "v%example.net", '"v@example.net"', "example.net!v",
    "@a.test,@b.test:v@example.net", "v@example.net@contoso.test", "v@contoso.test@", '"v@x', "v@[192.0.2.1]", "v@127.0.0.1", "v@[127.0.0.1]",
    "v@a.partner.test", "v@partner.test", "v@exact.partner.test", "v@scoped.test", "v@localhost", "v%example.net@contoso.test",
]


def settings(dns, sink):
    return {
        "domains": {
            "contoso.example": {"type": "alias", "of": "contoso.test"},
            "fabrikam.test": {"type": "allowed"},
            "*.northwind.test": {"type": "allowed", "recipients": ["info"]},
        },
        "lists": {"nested": ["127.1.0.0/16", "list:branches"], "branches": [BRANCH, "192.0.2.0/24"]},
        "servers": {name: merge(server, {"limits": {"errors": 100000}}) for name, server in SERVERS.items()},
        "connectors": {
            "out": connector(sink.address),
            "partners": connector(sink.address, **{"address-spaces": ["*.partner.test"], "allow-relay": True}),
            "exact": connector(sink.address, **{"address-spaces": ["exact.partner.test"]}),
            "scoped": connector(sink.address, **{"address-spaces": ["scoped.test"], "allow-relay": True, "servers": ["inside"]}),
        },
        "dns": {"resolver": dns.address, "timeout": "1s"},
    }


def teach(dns):
    for ip, name, state in CLIENTS:
        if state == "verified":
            dns.ptr(ip, name)
            dns.host(name, *[other for other, same, _ in CLIENTS if same == name])
        elif state == "unverified":
            dns.client(ip, name, addresses=["192.0.2.200"])
        elif state == "tempfail":
            dns.ptr_answers(ip, SERVFAIL if ip == "127.0.0.6" else SILENCE)


def live_replies(relay, server, client_ip):
    """{(sender, recipient): (stage, reply)} of one session, or of the connection alone."""
    cases = list(itertools.product(SENDERS, RECIPIENTS))
    with SmtpClient(relay.address(server), source=client_ip) as client:
        if not client.banner.startswith("220 "):
            assert client.is_closed()
            return {case: ("connect", client.banner) for case in cases}
        client.hello()
        replies = {}
        for sender in SENDERS:
            answer = client.ask(f"MAIL FROM:<{sender}>")
            for recipient in RECIPIENTS:
                replies[sender, recipient] = ("mail", answer)
                if answer.startswith("250 "):
                    replies[sender, recipient] = ("rcpt", client.ask(f"RCPT TO:<{recipient}>"))
            client.expect("RSET", "250 2.0.0 Resetting")
        return replies


def explain(relay, questions):
    text = "".join(json.dumps(question) + "\n" for question in questions)
    result = subprocess.run([program("postern"), "-c", str(relay.config_path), "explain", "--batch"], input=text,
                            capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert result.returncode == 0, result.stderr
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(answers) == len(questions)
    return answers


def test_live_equals_explain(place):
    """What an administrator was told must be what clients get: every server, client, sender and recipient, to the letter."""
    dns, sink = place.dns(), place.sink()
    teach(dns)
    relay = place.postern(settings(dns, sink))
    live = {}
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        jobs = {(server, client): pool.submit(live_replies, relay, server, client[0]) for server in SERVERS for client in CLIENTS}
        for (server, client), job in jobs.items():
            live.update({(server, client, *case): reply for case, reply in job.result().items()})
    questions = [{"server": server, "client": ip, "client_name": name if state == "verified" else None, "client_name_state": state,
                  "from": sender, "to": recipient} for server, (ip, name, state), sender, recipient in live]
    differences = []
    seen = set()
    for case, answer in zip(live, explain(relay, questions)):
        stage, reply = live[case]
        told = f"{answer['code']} {answer['enhanced']} {answer['text']}"
        seen.add((answer["stage"], answer["code"], answer["class"]))
        if (stage, reply) != (answer["stage"], told):
            differences.append((case, (stage, reply), (answer["stage"], told)))
    assert not differences, f"{len(differences)} of {len(live)}, first: {differences[:5]}"
    print(f"{len(live)} cases")
    # The cases are worth something only if they reach all of the procedure.
    assert seen >= {("connect", 554, None), ("connect", 421, None), ("mail", 501, None), ("mail", 530, None), ("mail", 550, None),
                    ("rcpt", 501, None), ("rcpt", 250, "local"), ("rcpt", 550, "local"), ("rcpt", 250, "allowed"),
                    ("rcpt", 550, "allowed"), ("rcpt", 250, "connector"), ("rcpt", 250, "external"), ("rcpt", 550, "external"),
                    ("rcpt", 451, "external")}, seen


def test_explain_asks_the_dns(place):
    """Without a state on the command line, one case is answered with what the DNS says now."""
    dns, sink = place.dns(), place.sink()
    teach(dns)
    relay = place.postern(settings(dns, sink), start=False)

    def explained(client_ip):
        result = subprocess.run([program("postern"), "-c", str(relay.config_path), "explain", "--json", "--server", "main", "--client", client_ip,
                                 "--from", "u@example.org", "--to", "v@example.net"], capture_output=True, text=True, timeout=WAIT_S, check=False)
        assert result.returncode in (0, 1), result.stderr
        return result.returncode, result.stdout

    for client_ip, code, word in (("127.0.0.2", 0, "250"), ("127.0.0.5", 1, "Unable to relay"), ("127.0.0.6", 1, "4.4.3"),
                                  ("127.0.0.7", 1, "4.4.3"), ("127.0.0.1", 1, "Unable to relay")):
        exit_code, said = explained(client_ip)
        assert exit_code == code and word in said, (client_ip, said)


# ---- the connector that overrides ----

@pytest.fixture
def overridden(place):
    """No client may relay, and a connector says that all may, to its domains."""
    sink = place.sink()
    relay = place.postern({
        "servers": {"main": {"relay": {"only": ["10.1.0.0/16"]}}},
        "connectors": {"out": connector(sink.address),
                       "partners": connector(sink.address, **{"address-spaces": ["*.fabrikam.test"], "allow-relay": True})},
    })
    return relay, sink


def run(relay, *arguments):
    return subprocess.run([program("postern"), "-c", str(relay.config_path), *arguments], capture_output=True, text=True,
                          timeout=WAIT_S, check=False)


def ask(relay, recipient):
    with SmtpClient(relay.address()) as client:
        client.hello()
        client.expect_code("MAIL FROM:<u@example.org>", "250 ")
        return client.ask(f"RCPT TO:<{recipient}>")


def test_connector_that_overrides(overridden):
    """The classic surprise of Exchange: the server's restriction says no, a connector's box says yes, and mail is relayed.
    It works, explain names the connector, check warns of it; switched off, a reload ends it."""
    relay, sink = overridden
    recipient = "v@mail.fabrikam.test"
    assert ask(relay, "v@example.net") == "550 5.7.1 Unable to relay for v@example.net"
    assert ask(relay, "v@fabrikam.test") == "550 5.7.1 Unable to relay for v@fabrikam.test", "*.x is not x itself"
    assert ask(relay, recipient) == f"250 2.1.5 {recipient}"
    word = token()
    deliver(relay.address(), "u@example.org", recipient, letter(word))
    assert sink.wait_for(word).addresses() == [recipient]
    assert relay.wait_for_event("received")["rule"] == "connectors.partners.allow-relay"

    explained = run(relay, "explain", "--server", "main", "--client", "192.0.2.1", "--from", "u@example.org", "--to", recipient)
    assert explained.returncode == 0 and "partners" in explained.stdout, explained
    checked = run(relay, "check", "--json")
    said = json.loads(checked.stdout)
    assert said["servers"]["main"]["overrides"] == [{"connector": "partners", "address_spaces": ["*.fabrikam.test"]}]
    assert any("partners" in warning["text"] and warning["at"].startswith(f"{relay.config_path}:") for warning in said["warnings"]), said

    relay.settings = merge(relay.settings, {"connectors": {"partners": {"allow-relay": False}}})
    relay.write_config()
    pid = relay.pid
    assert relay.reload()["event"] == "reloaded"
    assert relay.pid == pid and relay.is_running()
    assert ask(relay, recipient) == f"550 5.7.1 Unable to relay for {recipient}"
    explained = run(relay, "explain", "--server", "main", "--client", "192.0.2.1", "--from", "u@example.org", "--to", recipient)
    assert explained.returncode == 1 and "Unable to relay" in explained.stdout
    assert json.loads(run(relay, "check", "--json").stdout)["servers"]["main"]["overrides"] == []
