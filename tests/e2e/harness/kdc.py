# SPDX-License-Identifier: Apache-2.0
"""A Kerberos realm for one test: MIT's KDC from Debian on a loopback port of its own, with a configuration that asks no DNS."""
import os
import pathlib
import socket
import subprocess

from .limits import WAIT_S, wait_until

REALM = "EXAMPLE.ORG"
START_ATTEMPTS = 5

CONFIGURATION = """[libdefaults]
 default_realm = {realm}
 dns_lookup_kdc = false
 dns_lookup_realm = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = 1
[realms]
 {realm} = {{
  kdc = 127.0.0.1:{port}
 }}
[domain_realm]
 contoso.test = {realm}
 .contoso.test = {realm}
"""

KDC_CONFIGURATION = """[kdcdefaults]
 kdc_listen = 127.0.0.1:{port}
 kdc_tcp_listen = 127.0.0.1:{port}
[realms]
 {realm} = {{
  database_name = {directory}/principal
  key_stash_file = {directory}/stash
  acl_file = {directory}/acl
 }}
[logging]
 kdc = FILE:{directory}/log
"""


class Kdc:
    """`environment` is what programs need to be in the realm."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True)
        self.environment = {**os.environ, "KRB5_CONFIG": str(self.directory / "krb5.conf"),
                            "KRB5_KDC_PROFILE": str(self.directory / "kdc.conf"), "KRB5RCACHEDIR": str(self.directory)}
        self._port = self._write(_free_port())
        self._run("/usr/sbin/kdb5_util", "-r", REALM, "create", "-s", "-P", "master of the database")
        self.process = None

    def _write(self, port):
        values = {"realm": REALM, "port": port, "directory": self.directory}
        (self.directory / "krb5.conf").write_text(CONFIGURATION.format(**values))
        (self.directory / "kdc.conf").write_text(KDC_CONFIGURATION.format(**values))
        return port

    def _run(self, *command, stdin=""):
        return subprocess.run(command, env=self.environment, input=stdin, text=True, capture_output=True, check=True, timeout=WAIT_S)

    def _listens(self):
        try:
            socket.create_connection(("127.0.0.1", self._port), 1).close()
        except OSError:
            return self.process.poll() is not None
        return True

    def start(self):
        for _ in range(START_ATTEMPTS):
            self.process = subprocess.Popen(["/usr/sbin/krb5kdc", "-n"], env=self.environment, stdin=subprocess.DEVNULL,
                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_until(self._listens, "the KDC")
            if self.process.poll() is None:
                return self
            self._port = self._write(_free_port())  # somebody else has taken it
        raise AssertionError("krb5kdc does not start")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(WAIT_S)

    # ---- principals ----

    def add_user(self, name, password):
        self._run("/usr/sbin/kadmin.local", "-r", REALM, "addprinc", "-pw", password, name)

    def add_services(self, keytab, *names):
        for name in names:
            self._run("/usr/sbin/kadmin.local", "-r", REALM, "addprinc", "-randkey", name)
            self._run("/usr/sbin/kadmin.local", "-r", REALM, "ktadd", "-k", str(keytab), name)
        return keytab

    def log_in(self, name, password):
        """The environment of a program with this user's tickets."""
        cache = self.directory / f"cache-{name.replace('/', '-')}"
        self._run("kinit", "-c", str(cache), name, stdin=f"{password}\n")
        return {**self.environment, "KRB5CCNAME": f"FILE:{cache}"}


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
