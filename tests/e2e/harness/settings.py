# SPDX-License-Identifier: Apache-2.0
"""The configuration of a daemon under test, as a nested dictionary, and its text as YAML."""
import json
import os
import pwd
import re

HOSTNAME = "mail.contoso.test"
LOCAL_DOMAIN = "contoso.test"
NO_RESOLVER = "127.0.0.1@9"  # nobody is there: what a test has no answer for is asked of nobody outside

# For tests that look into the daemon (its descriptors, its memory map): in the sandbox it is not dumpable, which leaves that to root.
INSPECTABLE = {} if os.geteuid() == 0 else {"sandbox": "off"}

PLAIN = re.compile(r"[A-Za-z0-9/][A-Za-z0-9_./+-]*\Z")


def base(directory):
    """A closed relay: one local domain with three mailboxes, one server on a port of the system's choice."""
    return {
        "hostname": HOSTNAME,
        "data-dir": str(directory / "data"),
        "run-dir": str(directory / "run"),
        "user": pwd.getpwuid(os.geteuid()).pw_name,
        "domains": {LOCAL_DOMAIN: {"type": "local", "default": True, "recipients": ["alice", "bob", "carol"]}},
        "servers": {"main": {"listen": ["127.0.0.1:0"]}},
        "delivery": {"retry": ["1s"], "ndr": {"rate": "100000/m", "rate-per-domain": "100000/m"}},
        "dns": {"resolver": NO_RESOLVER},
        "spool": {"segment-size": "4MiB", "reserve": "1MiB"},
        "log": {"format": "json", "level": "info"},
    }


def merge(under, over):
    """`over` wins; a key that is None there disappears."""
    merged = dict(under)
    for key, value in over.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def connector(*addresses, **more):
    """Everything external goes to these next hops."""
    return {"address-spaces": ["*"], "smart-hosts": list(addresses), **more}


def _scalar(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return value if PLAIN.match(value) else json.dumps(value)


def _flow(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_scalar(key)}: {_flow(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return _scalar(value)


def to_yaml(value, indent=0):
    """Maps in block style, as people write them; lists on one line."""
    lines = []
    for key, item in value.items():
        pad = " " * indent
        if isinstance(item, dict) and item:
            lines.append(f"{pad}{_scalar(key)}:\n{to_yaml(item, indent + 2)}")
        else:
            lines.append(f"{pad}{_scalar(key)}: {_flow(item)}\n")
    return "".join(lines)
