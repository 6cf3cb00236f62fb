# SPDX-License-Identifier: Apache-2.0
"""Certificates of an authority of the test's own, made by the openssl program, and an SMTP client that can do TLS."""
import hashlib
import pathlib
import ssl
import subprocess

from .client import SmtpClient
from .limits import WAIT_S

EC = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA = ("rsa:2048",)


class Certificate:
    """A certificate with its chain, and its key."""

    def __init__(self, path, key):
        self.path = pathlib.Path(path)
        self.key = pathlib.Path(key)

    def fingerprint(self):
        """SHA-256, as `cert:` entries have it."""
        first = self.path.read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()

    def settings(self, mode="starttls", **more):
        """Of a server that shows it."""
        return {"certificate": str(self.path), "key": str(self.key), "mode": mode, **more}

    def replace_by(self, other):
        """The files have this content from now on."""
        self.path.write_bytes(other.path.read_bytes())
        self.key.write_bytes(other.key.read_bytes())


class Certificates:
    """An authority. `file` is what clients trust."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True)
        self.file = self.directory / "authority.pem"
        self._openssl("req", "-x509", "-newkey", *EC, "-nodes", "-days", "300", "-subj", "/CN=Test Authority",
                      "-keyout", "authority.key", "-out", "authority.pem")

    def make(self, name, *hosts, key=EC):
        """For these DNS names, and 127.0.0.1. `name` is that of the files."""
        names = ",".join([f"DNS:{host}" for host in hosts] + ["IP:127.0.0.1"])
        # Scanners want to know how the certificate would be revoked.
        (self.directory / f"{name}.ext").write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n"
                                                    "crlDistributionPoints=URI:http://authority.test/list\n")
        self._openssl("req", "-newkey", *key, "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial",
                      "-days", "200", "-extfile", f"{name}.ext", "-out", f"{name}.pem")
        path = self.directory / f"{name}.pem"
        path.write_bytes(path.read_bytes() + self.file.read_bytes())
        return Certificate(path, self.directory / f"{name}.key")

    def client_context(self, certificate=None):
        context = ssl.create_default_context(cafile=str(self.file))
        if certificate:
            context.load_cert_chain(certificate.path, certificate.key)
        return context

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True, timeout=WAIT_S)


class TlsClient(SmtpClient):
    """One that has said hello and begun TLS, and said hello again."""

    def __init__(self, address, context, name="127.0.0.1", implicit=False, **options):
        super().__init__(address, banner=not implicit, **options)
        if not implicit:
            self.hello()
            self.expect("STARTTLS", "220 2.0.0 Ready to start TLS")
        self.socket = context.wrap_socket(self.socket, server_hostname=name)
        if implicit:
            self.banner = self.reply()
        self.keywords = [line[4:] for line in self.hello().split("\n")][1:]

    def fingerprint(self):
        """Of the server's certificate."""
        return hashlib.sha256(self.socket.getpeercert(binary_form=True)).hexdigest()
