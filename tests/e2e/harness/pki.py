# SPDX-License-Identifier: Apache-2.0
"""Authorities and certificates, good and bad, made with the openssl command."""
import hashlib
import pathlib
import ssl
import subprocess

from .limits import WAIT_S


def _openssl(*arguments, text=None):
    return subprocess.run(["openssl", *map(str, arguments)], input=text, capture_output=True, check=True, timeout=WAIT_S).stdout


class Certificate:
    """A certificate, its key, and what DANE says of it."""

    def __init__(self, path, key, chain):
        self.path = path  # with its chain
        self.key = key
        self.der = _openssl("x509", "-in", path, "-outform", "DER")
        self.chain = chain

    def server(self, **versions):
        """A context for a server; `versions`: minimum_version, maximum_version."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for name, version in versions.items():
            setattr(context, name, version)
        context.load_cert_chain(self.path, self.key)
        return context

    def public_key(self):
        pem = _openssl("x509", "-in", self.path, "-pubkey", "-noout")
        return _openssl("pkey", "-pubin", "-outform", "DER", text=pem)

    def tlsa(self, usage=3, selector=1, matching=1):
        """The text of a TLSA record's RDATA."""
        data = self.public_key() if selector else self.der
        data = {0: lambda: data, 1: lambda: hashlib.sha256(data).digest(), 2: lambda: hashlib.sha512(data).digest()}[matching]()
        return f"{usage} {selector} {matching} {data.hex()}"


class Authority:
    """Signs certificates. `self.path` is what one trusts."""

    def __init__(self, directory, name="Test Authority"):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._count = 0
        stem = self.directory / name.replace(" ", "-").lower()
        self.path, self.key = stem.with_suffix(".pem"), stem.with_suffix(".key")
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key, "-out", self.path,
                 "-subj", f"/CN={name}", "-days", "30", "-addext", "basicConstraints=critical,CA:TRUE",
                 "-addext", "keyUsage=critical,keyCertSign")
        self.certificate = Certificate(self.path, self.key, b"")

    def sign(self, *names, days=30):
        """For these host names and addresses; with negative `days` it has expired."""
        self._count += 1
        stem = self.directory / f"{self.path.stem}-{self._count}"
        path, key, request, extensions = (stem.with_suffix(suffix) for suffix in (".pem", ".key", ".csr", ".ext"))
        kinds = ["IP" if name.replace(".", "").isdigit() or ":" in name else "DNS" for name in names]
        extensions.write_text("subjectAltName=" + ",".join(f"{kind}:{name}" for kind, name in zip(kinds, names)) + "\n")
        _openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request,
                 "-subj", f"/CN={names[0]}")
        _openssl("x509", "-req", "-in", request, "-CA", self.path, "-CAkey", self.key, "-CAcreateserial", "-out", path,
                 "-days", days, "-extfile", extensions)
        path.write_bytes(path.read_bytes() + self.path.read_bytes())
        return Certificate(path, key, self.path.read_bytes())


def self_signed(directory, name):
    path, key = pathlib.Path(directory) / "self.pem", pathlib.Path(directory) / "self.key"
    _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", path, "-subj",
             f"/CN={name}", "-days", "30", "-addext", f"subjectAltName=DNS:{name}")
    return Certificate(path, key, b"")
