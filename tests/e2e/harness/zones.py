# SPDX-License-Identifier: Apache-2.0
"""Signed zones: nsd serves them, ldns signs them, and unbound, which trusts the test's own key, is the resolver that a relay asks."""
import pathlib
import pwd
import os
import shutil
import socket
import subprocess

from .limits import WAIT_S, wait_until

TOOLS = ("nsd", "unbound", "ldns-keygen", "ldns-signzone")


def _tool(name):
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    assert found, f"{name} is not installed"
    return found


def _free_port():
    """Free for both UDP and TCP."""
    while True:
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            try:
                udp.bind(tcp.getsockname())
                return tcp.getsockname()[1]
            except OSError:
                continue


class Zones:
    """Zones of a test. Add them, then start(); `anchor` is what a relay trusts, `address` its dns.resolver."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._served = {}  # zone to file
        self._anchors = []
        self._processes = []
        self.anchor = self.directory / "anchor.key"
        self.nsd_port, self.port = _free_port(), _free_port()
        self.address = f"127.0.0.1@{self.port}"

    def add(self, name, *records, signed=True, broken=False):
        """`broken`: the signatures are those of other records."""
        text = "\n".join([f"$ORIGIN {name}.", "$TTL 60", "@ SOA ns hostmaster 1 3600 600 86400 60", "@ NS ns", "ns A 127.0.0.1",
                          *records, ""])
        path = self.directory / f"{name}.zone"
        path.write_text(text)
        self._served[name] = self._sign(name, path, broken) if signed else path

    def _sign(self, name, path, broken):
        keys = [self._run("ldns-keygen", "-a", "ECDSAP256SHA256", *options, name).strip() for options in (["-k"], [])]
        self._run("ldns-signzone", "-n", "-o", name, path, *keys)
        self._anchors.append((self.directory / f"{keys[0]}.key").read_text())
        signed = path.with_name(path.name + ".signed")
        if broken:
            signed.write_text(signed.read_text().replace("127.0.0.11", "127.0.0.12"))
        return signed

    def _run(self, name, *arguments):
        return subprocess.run([_tool(name), *map(str, arguments)], cwd=self.directory, capture_output=True, text=True, check=True,
                              timeout=WAIT_S).stdout

    def start(self):
        self.anchor.write_text("".join(self._anchors))
        user = pwd.getpwuid(os.geteuid()).pw_name
        zones = "".join(f'zone:\n  name: "{name}"\n  zonefile: "{path}"\n' for name, path in self._served.items())
        nsd = self.directory / "nsd.conf"
        nsd.write_text(f'server:\n  ip-address: 127.0.0.1@{self.nsd_port}\n  username: "{user}"\n  chroot: ""\n  zonesdir: "{self.directory}"\n'
                       f'  database: ""\n  pidfile: "{self.directory}/nsd.pid"\n  xfrdfile: "{self.directory}/xfrd.state"\n'
                       f'  zonelistfile: "{self.directory}/zone.list"\n  server-count: 1\nremote-control:\n  control-enable: no\n{zones}')
        stubs = "".join(f'stub-zone:\n  name: "{name}"\n  stub-addr: 127.0.0.1@{self.nsd_port}\n' for name in self._served)
        unbound = self.directory / "unbound.conf"
        unbound.write_text(f'server:\n  interface: 127.0.0.1\n  port: {self.port}\n  username: ""\n  chroot: ""\n  directory: "{self.directory}"\n'
                           f'  pidfile: "{self.directory}/unbound.pid"\n  use-syslog: no\n  do-not-query-localhost: no\n  num-threads: 1\n'
                           f'  trust-anchor-file: "{self.anchor}"\n  root-hints: ""\n  local-zone: "." transparent\n'
                           f'forward-zone:\n  name: "."\n  forward-addr: 127.0.0.1@{self.nsd_port}\n{stubs}'
                           'remote-control:\n  control-enable: no\n')
        self._processes = [subprocess.Popen([_tool("nsd"), "-d", "-c", str(nsd)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL),
                           subprocess.Popen([_tool("unbound"), "-d", "-c", str(unbound)], stdout=subprocess.DEVNULL,
                                            stderr=subprocess.DEVNULL)]
        for port in (self.nsd_port, self.port):
            wait_until(lambda port=port: _listens(port), f"a DNS server at port {port}")
        return self

    def dns(self):
        """The `dns` of a relay that validates what this resolver says."""
        return {"resolver": self.address, "dnssec": "on", "trust-anchor": str(self.anchor), "timeout": "5s"}

    def close(self):
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(WAIT_S)


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
