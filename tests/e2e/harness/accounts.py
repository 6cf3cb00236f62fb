# SPDX-License-Identifier: Apache-2.0
"""Users with passwords, and clients that prove to be one of them, over TLS or without."""
import base64
import functools
import ssl
import subprocess

from .client import SmtpClient
from .limits import WAIT_S
from .map import DirectoryMap
from .postern import program
from .settings import merge

SUCCESS = "235 2.7.0 Authentication successful"
FAILURE = "535 5.7.8 Authentication failed"
LATER = "454 4.7.0 Temporary authentication failure"
WANTS_TLS = "538 5.7.11 Encryption required for requested authentication mechanism"
UNKNOWN = "504 5.5.4 Unrecognized authentication type"
MECHANISMS = ["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL"]


@functools.lru_cache(maxsize=None)
def user_line(name, password, **attributes):
    """A line of the text map (postern.directory(5)). The password's hashes cost processor time on purpose: each pair is computed once."""
    hashed = subprocess.run([program("postern"), "user", "hash", name], input=f"{password}\n", capture_output=True, text=True,
                            timeout=WAIT_S, check=True).stdout.rstrip("\n")
    return "\n  ".join([hashed, *(f"{key}={value}" for key, value in attributes.items())])


def accounts(directory, *lines, more=None):
    """(map, settings) of a relay that knows these users; see user_line."""
    directory_map = DirectoryMap(directory, *lines)
    return directory_map, directory_map.settings(more)


def encode(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


def plain(user, password, authorization=""):
    return encode(f"{authorization}\0{user}\0{password}")


class AuthClient(SmtpClient):
    """One that says hello, begins TLS if it is told whom to trust, and can authenticate."""

    def __init__(self, address, authority=None, certificate=None, **options):
        super().__init__(address, **options)
        self.offered = self.mechanisms(self.hello())
        if authority:
            self.start_tls(authority, certificate)

    @staticmethod
    def mechanisms(hello):
        lines = [line[4:] for line in hello.split("\n") if line[4:].split(" ")[0] == "AUTH"]
        assert len(lines) <= 1
        return lines[0].split(" ")[1:] if lines else []

    def start_tls(self, authority, certificate=None):
        """`certificate`: (certificate, key), shown to the server."""
        context = ssl.create_default_context(cafile=str(authority))
        if certificate:
            context.load_cert_chain(*certificate)
        self.expect("STARTTLS", "220 2.0.0 Ready to start TLS")
        self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.offered = self.mechanisms(self.hello())

    def plain(self, user, password, authorization=""):
        return self.ask(f"AUTH PLAIN {plain(user, password, authorization)}")

    def log_in(self, user, password):
        self.expect(f"AUTH PLAIN {plain(user, password)}", SUCCESS)
        return self


def tls_settings(authority, **more):
    """Of a server with this authority's certificate."""
    return {"certificate": str(authority.directory / "server.pem"), "key": str(authority.directory / "server.key"),
            "mode": "starttls", **more}


def server(**more):
    return merge({"listen": ["127.0.0.1:0"]}, more)
