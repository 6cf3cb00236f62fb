# SPDX-License-Identifier: Apache-2.0
"""Answers for a sink, and relays to it, that several files of tests use."""
from .report import Report, is_report
from .settings import connector

SENDER, LOCAL, REMOTE = "alice@contoso.test", "bob@contoso.test", "v@example.net"


def refuse_at(stage, reply, times=None, match=""):
    """An `answer` for a sink: this reply at this stage, for the first `times` or for ever."""
    count = [0]

    def answer(at, text, session):
        if at != stage or match not in (text if isinstance(text, str) else ""):
            return None
        count[0] += 1
        return reply if times is None or count[0] <= times else None
    return answer


def granting(sink, **delivery):
    """Settings of a relay that grants everything to the tests, with this sink as next hop."""
    return {
        "servers": {"main": {"relay": {"only": ["127.0.0.0/8"]}}},
        "connectors": {"out": connector(sink.address)},
        "delivery": delivery,
    }


def report_to(relay, word, mailbox=SENDER):
    """The one report about this message, in its sender's mailbox."""
    raw = relay.maildir(mailbox).wait_for(word)
    assert is_report(raw), raw.decode("utf-8", "replace")
    return Report(raw)
