# SPDX-License-Identifier: Apache-2.0
"""relaytest's verdicts about Debian's mail servers and Postern, closed and deliberately open, and what nmap says of the same.

The expected verdicts were established by reading the servers' own logs. R: relayed; n: accepted, then reported undeliverable; p: passed on as mail for
its own address; ".": refused.
"""
import re

import pytest

from harness import mail_servers, relaytest
from harness.peers import CLIENT, CLIENT_NAME, LOCAL_DOMAIN, SERVER, can_isolate
from harness.postern import ROOT

IDS = ("1 2 3 4 5 6a 6b 7a 7b 8 9 10 11 12a 12b 13 14a 14b 15 16a 16b 17 18a 18b 19 20 21a 21b 22 23 24 25 26").split()
LETTERS = {"refused": ".", "undeliverable": "n", "relayed": "R", "passed-on": "p"}

#                                                  1234566778 9    10-13  14.15 16-17 18-19 20-22 23-26
EXPECTED = {
    (mail_servers.Postern, False):                "..........nnnnnn" "..." "nnn" "..." "nnnn" "...n",
    (mail_servers.Postern, True):                 "RRRRRRRRRRnnnnnn" "..." "nnn" "RRR" "nnnn" ".RRn",
    (mail_servers.PosternAtRcpt, False):          "................" "..." "..." "..." "...." "....",
    (mail_servers.PosternAtRcpt, True):           "RRRRRRRRRR......" "..." "..." "RRR" "...." ".RR.",
    (mail_servers.Postfix, False):                "................" "..." "..." "..." "...." "...n",
    (mail_servers.Postfix, True):                 "RRRRRR.RRRRRRRRR" "RRR" "RRR" "RRR" "RRRR" "RRRn",
    (mail_servers.Exim, False):                   ".............nnn" "..." "nnn" "..." ".nnn" "...n",
    (mail_servers.Exim, True):                    "R.RRRRRRRR...nnn" "..." "nnn" "RRR" ".nnn" ".R.n",
    (mail_servers.OpenSmtpd, False):              "................" "..." "..." "..." "...." "....",
    (mail_servers.OpenSmtpd, True):               "RRRRRRRRRR.....p" "..." "..." "RRR" "...p" "..Rp",
    (mail_servers.Sendmail, False):               "................" "..." "..." "..." "...." "....",
    (mail_servers.Sendmail, True):                "RRRRRRRRRRRRRRRR" "..." "RRR" "RRR" "RRRR" "RRR.",
}
# What nmap's smtp-open-relay says: how many of its 16 tests passed. It counts a 250 at RCPT.
NMAP = {
    (mail_servers.Postern, False): 8, (mail_servers.Postern, True): 14,
    (mail_servers.PosternAtRcpt, False): 0, (mail_servers.PosternAtRcpt, True): 6,
    (mail_servers.Postfix, False): 0, (mail_servers.Postfix, True): 16,
    (mail_servers.Exim, False): 4, (mail_servers.Exim, True): 8,
    (mail_servers.OpenSmtpd, False): 0, (mail_servers.OpenSmtpd, True): 8,
    (mail_servers.Sendmail, False): 0, (mail_servers.Sendmail, True): 14,
}

# The others are servers that no sanitizer of ours looks into.
pytestmark = [
    pytest.mark.skipif(not can_isolate(), reason="needs root, and the right to make network and mount namespaces"),
    pytest.mark.release_only,
]


def ask_nmap(world):
    """The number in "Server is an open relay (N/16 tests)"; 0 if it finds none."""
    arguments = f"smtp-open-relay.domain=outside.test,smtp-open-relay.ip={SERVER},smtp-open-relay.from=antispam,smtp-open-relay.to=relaytest"
    done = world.on_client(["nmap", "-Pn", "-n", "-p", "25", "--script", "smtp-open-relay", "--script-args", arguments, SERVER],
                           capture_output=True, text=True, timeout=120)
    found = re.search(r"open relay \((\d+)/16 tests\)", done.stdout)
    assert found or "doesn't seem to be an open relay" in done.stdout, done.stdout + done.stderr
    return int(found[1]) if found else 0


def documented(server, is_open):
    """The row of docs/relaytest.md's table about this server."""
    start = f"| {server.name} | {'open' if is_open else 'closed'} |"
    rows = [line for line in (ROOT / "docs" / "relaytest.md").read_text().splitlines() if line.startswith(start)]
    assert len(rows) == 1, start
    return rows[0]


@pytest.mark.parametrize("server, is_open", EXPECTED, ids=lambda value: value.name if isinstance(value, type) else "open" if value else "closed")
def test_server(server, is_open):
    """No false "relayed", no missed relay, against servers that people run; and the documentation tells the truth about them."""
    with server(is_open) as running:
        found = relaytest.run_json(SERVER, "--catch", f"{CLIENT}:{mail_servers.CATCH_PORT}", "--external", "relaytest@outside.test",
                                   "--local-domain", LOCAL_DOMAIN, "--client-name", CLIENT_NAME, "--wait", "20s", wrap=running.world.client_command)
        nmap = ask_nmap(running.world)
    verdicts = "".join(LETTERS.get(found.verdicts()[id], "?") for id in IDS)
    assert verdicts == EXPECTED[server, is_open]
    assert found.code == (1 if is_open else 0)
    assert nmap == NMAP[server, is_open]
    row = documented(server, is_open)
    assert found.told["summary"].partition(".")[0].removeprefix("26 probes: ") in row
    assert f"{nmap}/16" in row


def test_the_catch_s_own_address_is_the_default_outside():
    """With the catch on port 25, its address literal leads there from everywhere: no domain is needed."""
    with mail_servers.Postern(True) as running:
        found = relaytest.run_json(SERVER, "--catch", f"{CLIENT}:25", "--probe", "1,3", "--wait", "10s", wrap=running.world.client_command)
    assert found.told["external_domain"] == f"[{CLIENT}]"
    assert set(found.verdicts().values()) == {"relayed"}
