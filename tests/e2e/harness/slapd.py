# SPDX-License-Identifier: Apache-2.0
"""An LDAP server for one test: Debian's slapd on loopback ports of its own, with certificates of an authority of its own."""
import pathlib
import signal
import socket
import subprocess
import threading
import time

from .limits import WAIT_S

BASE = "dc=contoso,dc=test"
SERVICE_DN = f"cn=postern,{BASE}"
SERVICE_PASSWORD = "service secret"
MODULES = "/usr/lib/ldap"
SCHEMAS = "/etc/ldap/schema"
START_ATTEMPTS = 5

# What Active Directory's entries have and slapd's own schemas lack. memberOf is plain here: no overlay keeps it.
SCHEMA = """
attributetype ( 1.3.6.1.4.1.55555.1.1 NAME 'sAMAccountName' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.55555.1.2 NAME 'userPrincipalName' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.55555.1.3 NAME 'proxyAddresses' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.3.6.1.4.1.55555.1.4 NAME 'mailAlternateAddress' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.3.6.1.4.1.55555.1.5 NAME 'memberOf' EQUALITY distinguishedNameMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 )
attributetype ( 1.3.6.1.4.1.55555.1.6 NAME 'userAccountControl' EQUALITY integerMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.55555.2.1 NAME 'testUser' AUXILIARY MAY ( sAMAccountName $ userPrincipalName $ proxyAddresses $
  mailAlternateAddress $ memberOf $ userAccountControl ) )
"""

CONFIGURATION = """
include {schemas}/core.schema
include {schemas}/cosine.schema
include {schemas}/inetorgperson.schema
include {directory}/test.schema
modulepath {modules}
moduleload back_mdb
moduleload ppolicy
pidfile {directory}/slapd.pid
TLSCACertificateFile {certificates}/authority.pem
TLSCertificateFile {certificates}/server.pem
TLSCertificateKeyFile {certificates}/server.key
TLSVerifyClient never
disallow bind_anon
{referral}
database mdb
suffix "{suffix}"
rootdn "cn=root,{suffix}"
directory {directory}/database
maxsize 16777216
dbnosync
index objectClass,uid,mail,sAMAccountName eq
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{service}" read by * none
overlay ppolicy
ppolicy_default "cn=policy,{suffix}"
ppolicy_use_lockout
"""


class Authority:
    """Makes a server's certificate for 127.0.0.1, with the openssl program. `file` is what clients trust."""

    def __init__(self, directory, name="Test Authority"):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True)
        self.file = self.directory / "authority.pem"
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                      "-subj", f"/CN={name}", "-keyout", "authority.key", "-out", "authority.pem")

    def certify(self, alternative_name="IP:127.0.0.1"):
        """server.pem and server.key in the authority's directory."""
        (self.directory / "extensions").write_text(f"subjectAltName={alternative_name}\n")
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=ldap",
                      "-keyout", "server.key", "-out", "server.csr")
        self._openssl("x509", "-req", "-in", "server.csr", "-CA", "authority.pem", "-CAkey", "authority.key",
                      "-CAcreateserial", "-days", "2", "-extfile", "extensions", "-out", "server.pem")
        return self

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True, timeout=WAIT_S)


def entry(name, password=None, more=""):
    """A person in LDIF; `more` are further lines."""
    lines = [f"dn: uid={name},{BASE}", "objectClass: inetOrgPerson", "objectClass: testUser", f"uid: {name}", f"cn: {name}",
             f"sn: {name}"]
    if password is not None:
        lines.append(f"userPassword: {password}")
    return "\n".join(lines) + "\n" + more.strip() + "\n"


ROOT = f"""dn: {BASE}
objectClass: domain
dc: contoso

dn: {SERVICE_DN}
objectClass: person
objectClass: simpleSecurityObject
cn: postern
sn: postern
userPassword: {SERVICE_PASSWORD}

dn: cn=policy,{BASE}
objectClass: device
objectClass: pwdPolicy
cn: policy
pwdAttribute: userPassword
pwdLockout: TRUE
"""


class Slapd:
    """`entries` are LDIF texts below BASE. `suffix` another than BASE makes a server that refers to another for it."""

    def __init__(self, directory, entries=(), authority=None, referral=None):
        self.directory = pathlib.Path(directory)
        (self.directory / "database").mkdir(parents=True)
        self.authority = authority or Authority(self.directory / "certificates").certify()
        self.socket = self.directory / "ldapi"
        self.process = None
        self._ports = None
        suffix = BASE if referral is None else "dc=elsewhere,dc=test"
        (self.directory / "test.schema").write_text(SCHEMA)
        self._configuration = self.directory / "slapd.conf"
        self._configuration.write_text(CONFIGURATION.format(
            directory=self.directory, schemas=SCHEMAS, modules=MODULES, certificates=self.authority.directory, suffix=suffix,
            service=SERVICE_DN, referral=f"referral {referral}\n" if referral else ""))
        if referral is None:
            self._load("\n".join([ROOT, *entries]))

    def _load(self, ldif):
        done = subprocess.run(["slapadd", "-q", "-f", self._configuration], input=ldif, text=True, capture_output=True,
                              timeout=WAIT_S, check=False)
        assert done.returncode == 0, done.stderr

    # ---- life ----

    def start(self):
        """The first time on free ports, after that on the same ones."""
        for _ in range(START_ATTEMPTS if self._ports is None else 1):
            ports = self._ports or (_free_port(), _free_port())
            if self._spawn(ports):
                self._ports = ports
                return self
        raise AssertionError(f"slapd does not start:\n{(self.directory / 'log').read_text()}")

    def _spawn(self, ports):
        path = str(self.socket).replace("/", "%2F")
        urls = f"ldap://127.0.0.1:{ports[0]}/ ldaps://127.0.0.1:{ports[1]}/ ldapi://{path}/"
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(["slapd", "-d", "stats", "-f", self._configuration, "-h", urls], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if all(_accepts(port) for port in ports):
                return True
            time.sleep(0.02)
        self.stop()
        return False

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def freeze(self):
        """Connections are accepted by the kernel, and nothing is ever answered."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self):
        return self.start()

    def __exit__(self, *unused):
        self.stop()

    # ---- where it is, and what it was asked ----

    @property
    def port(self):
        return self._ports[0]

    @property
    def tls_port(self):
        return self._ports[1]

    @property
    def url(self):
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_url(self):
        return f"ldaps://127.0.0.1:{self.tls_port}"

    @property
    def socket_url(self):
        return "ldapi://" + str(self.socket).replace("/", "%2F")

    def log_text(self):
        return (self.directory / "log").read_text(errors="replace")

    def settings(self, url=None, **more):
        """`directory` of a configuration that asks this server; None takes a key away."""
        keys = {"url": url or self.tls_url, "ca-file": str(self.authority.file), "base": BASE, "bind-dn": SERVICE_DN,
                "bind-password": SERVICE_PASSWORD, **more}
        return {"backend": "ldap", "cache": {"entries": 0},
                "ldap": {key: value for key, value in keys.items() if value is not None}}


class StallingProxy:
    """Passes connections on to a port, both ways, until it is told to pass on no byte more."""

    def __init__(self, port):
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._bytes_left = None  # that the server may still say on each connection; None: all it likes
        self._resumed = threading.Event()
        self._sockets = []
        self.connection_count = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def stall_after(self, byte_count):
        """On connections from now on, and on those there are from their next byte."""
        self._bytes_left = byte_count

    def resume(self):
        self._bytes_left = None

    def close(self):
        for one in [self._listener, *self._sockets]:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            self.connection_count += 1
            self._sockets += [client, server]
            threading.Thread(target=self._pass_on, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(server, client, True), daemon=True).start()

    def _pass_on(self, source, target, is_counted):
        passed = 0
        try:
            while True:
                data = source.recv(65536)
                if is_counted and self._bytes_left is not None:
                    data = data[:max(0, self._bytes_left - passed)]
                    if not data:
                        continue
                passed += len(data)
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)
        except OSError:
            pass


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def _accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False
