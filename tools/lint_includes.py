#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Who may include whom: the table of docs/ARCHITECTURE.md, checked over src/. What is not in the table is not allowed."""
import pathlib
import re
import sys

FOUNDATION = {"base", "os"}
ASYNCHRONOUS = FOUNDATION | {"loop", "net"}
RECEIVING = ASYNCHRONOUS | {"mail", "policy", "config", "directory", "spool", "queue", "smtp"}

MAY_INCLUDE = {
    "base": set(),
    "os": {"base"},
    "loop": FOUNDATION,
    "net": FOUNDATION | {"loop"},
    "mail": {"base"},
    "policy": {"base", "mail"},
    "config": FOUNDATION | {"mail", "policy"},
    "directory": FOUNDATION | {"loop", "mail", "config"},
    "spool": FOUNDATION,
    "queue": FOUNDATION | {"loop", "spool"},
    "smtp": ASYNCHRONOUS | {"mail"},
    "session": RECEIVING,
    "delivery": RECEIVING | {"session"},
    "control": RECEIVING | {"session", "delivery"},
    "relaytest": ASYNCHRONOUS | {"mail", "smtp"},
    "console": {"base", "control"},
    "cmd": RECEIVING | {"session", "delivery", "control", "relaytest", "console"},
}

# Pure modules and synchronous ones must not come to wait by way of a library.
LIBRARY_OWNERS = {
    "uv.h": {"loop", "net"}, "yaml.h": {"config"}, "idn2.h": {"mail"}, "unbound.h": {"net"}, "seccomp.h": {"os"},
    "gsasl.h": {"smtp", "directory"}, "sqlite3.h": {"directory"}, "crypt.h": {"directory"}, "ldap.h": {"directory"}, "openldap.h": {"directory"}, "lber.h": {"directory"}, "krb5.h": {"smtp"}, "gssapi/gssapi.h": {"smtp"},
}

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')


def faults_of_quoted(module, included):
    other, slash, name = included.partition("/")
    if not slash or not (pathlib.Path("src") / included).is_file():
        return f'"{included}" is no file of src/: write "module/file.h"'
    if other != module and other not in MAY_INCLUDE.get(module, set()):
        return f"{module} may not include {other} (only {', '.join(sorted(MAY_INCLUDE.get(module, set()))) or 'nothing of ours'})"
    if other != module and name.endswith("_private.h"):
        return f"{included} is private to {other}"
    return None


def faults_of_library(module, included):
    owners = LIBRARY_OWNERS.get(included)
    if owners and module not in owners:
        return f"<{included}> belongs to {', '.join(sorted(owners))}"
    return None


def main():
    count = 0
    for path in sorted(pathlib.Path("src").glob("*/*.[ch]")):
        module = path.parent.name
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            check = faults_of_quoted if match[1] == '"' else faults_of_library
            fault = check(module, match[2])
            if fault:
                print(f"{path}:{number}: {fault}")
                count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
