# SPDX-License-Identifier: Apache-2.0
"""The server's side of SASL, for a next hop that wants to know who we are: PLAIN, LOGIN and SCRAM-SHA-256 (RFC 5802, RFC 7677)."""
import base64
import hashlib
import hmac
import os

ITERATIONS = 4096


def encode(data):
    return base64.b64encode(data).decode()


class Login:
    """An `auth` for a sink: takes this user with this password. `lie` as SCRAM's server: its proof is wrong, or it gives none."""

    def __init__(self, user, password, iterations=ITERATIONS, lie=None):
        self.user, self.password = user, password
        self.iterations, self.lie = iterations, lie

    def __call__(self, mechanism, initial, ask, binding):
        """`ask(challenge)` returns the client's answer, decoded; `binding` tls-unique, or None. The user, or None."""
        take = {"PLAIN": self._plain, "LOGIN": self._login, "SCRAM-SHA-256": self._scram, "SCRAM-SHA-256-PLUS": self._scram}[mechanism]
        return self.user if take(initial, ask, binding if mechanism.endswith("PLUS") else None) else None

    def _plain(self, initial, ask, _):
        return (ask(b"") if initial is None else initial) == f"\0{self.user}\0{self.password}".encode()

    def _login(self, initial, ask, _):
        user = ask(b"Username:") if initial is None else initial
        return (user, ask(b"Password:")) == (self.user.encode(), self.password.encode())

    def _scram(self, initial, ask, binding):
        first = initial if initial is not None else ask(b"")
        gs2, bare = first[:first.index(b"n=")], first[first.index(b"n="):]
        assert gs2 == (b"p=tls-unique,," if binding else gs2), gs2
        fields = dict(part.split(b"=", 1) for part in bare.split(b","))
        salt, nonce = os.urandom(16), fields[b"r"] + base64.b64encode(os.urandom(12))
        server_first = b"r=%s,s=%s,i=%d" % (nonce, base64.b64encode(salt), self.iterations)
        if self.lie == "no proof":
            ask(server_first)
            return True
        final = ask(server_first)
        without_proof, _, proof = final.rpartition(b",p=")
        assert without_proof == b"c=%s,r=%s" % (base64.b64encode(gs2 + (binding or b"")), nonce), final
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), salt, self.iterations)
        message = b",".join((bare, server_first, without_proof))
        client_key = _hmac(salted, b"Client Key")
        signature = _hmac(hashlib.sha256(client_key).digest(), message)
        if fields[b"n"] != self.user.encode() or base64.b64decode(proof) != bytes(a ^ b for a, b in zip(client_key, signature)):
            return False
        verifier = _hmac(_hmac(salted, b"Server Key"), message if self.lie != "wrong proof" else b"other")
        return ask(b"v=" + base64.b64encode(verifier)) == b""


def _hmac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()
