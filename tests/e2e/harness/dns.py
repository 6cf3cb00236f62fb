# SPDX-License-Identifier: Apache-2.0
"""A DNS server on the loopback that says what a test tells it to: PTR, A, AAAA, MX and CNAME records, failures, silence."""
import ipaddress
import socket
import struct
import threading

A, CNAME, PTR, MX, AAAA = 1, 5, 12, 15, 28
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3
UDP_BYTES_MAX = 1232
SILENCE = "silence"  # an answer that never comes


class Dns:
    """Answers NXDOMAIN for what it has not been told. `dns.resolver` of a configuration is its `address`."""

    def __init__(self):
        self._answers = {}  # (name, type) to a list of RDATA, a response code, or SILENCE
        self._changed = threading.Condition()
        self.queries = []  # (name, type), in order
        self._udp, self._tcp = self._bind()
        self.port = self._udp.getsockname()[1]
        self.address = f"127.0.0.1@{self.port}"
        for work in (self._serve_udp, self._accept_tcp):
            threading.Thread(target=work, daemon=True).start()

    @staticmethod
    def _bind():
        """The same free port for both."""
        while True:
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            tcp = socket.socket()
            udp.bind(("127.0.0.1", 0))
            try:
                tcp.bind(udp.getsockname())
                tcp.listen(64)
                return udp, tcp
            except OSError:
                udp.close()
                tcp.close()

    def close(self):
        for one in (self._udp, self._tcp):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()

    # ---- what it says ----

    def client(self, ip, *names, addresses=None):
        """A client with these PTR names, each of which has the client's address, or `addresses`."""
        self.ptr(ip, *names)
        for name in names:
            self.host(name, *([ip] if addresses is None else addresses))

    def ptr(self, ip, *names):
        self._set(reverse(ip), PTR, [_wire_name(name) for name in names])

    def host(self, name, *ips):
        """All A and AAAA records of a name."""
        packed = [ipaddress.ip_address(ip).packed for ip in ips]
        self._set(name, A, [ip for ip in packed if len(ip) == 4])
        self._set(name, AAAA, [ip for ip in packed if len(ip) == 16])

    def ptr_answers(self, ip, answer):
        """Instead of names: SERVFAIL, NXDOMAIN, NOERROR (nothing of that type) or SILENCE."""
        self._set(reverse(ip), PTR, answer)

    def mx(self, domain, *exchangers):
        """(preference, host) pairs; the host "" is the root."""
        self._set(domain, MX, [struct.pack("!H", preference) + _wire_name(host) for preference, host in exchangers])

    def mx_answers(self, domain, answer):
        self._set(domain, MX, answer)

    def alias(self, name, target):
        """A CNAME, the answer to whatever is asked of the name."""
        self._set(name, CNAME, [_wire_name(target)])

    def host_answers(self, name, answer):
        for kind in (A, AAAA):
            self._set(name, kind, answer)

    def _set(self, name, kind, answer):
        with self._changed:
            self._answers[_normal(name), kind] = answer

    # ---- what it was asked ----

    def asked_for(self, name_or_ip):
        """How often a name, or an address's PTR, was asked for."""
        try:
            name = reverse(name_or_ip)
        except ValueError:
            name = name_or_ip
        with self._changed:
            return sum(asked == _normal(name) for asked, _ in self.queries)

    # ---- inside ----

    def _serve_udp(self):
        while True:
            try:
                query, peer = self._udp.recvfrom(65536)
                if not query:  # the socket is shut
                    return
                response = self._respond(query)
                if response and len(response) > UDP_BYTES_MAX:
                    response = _truncated(response)
                if response:
                    self._udp.sendto(response, peer)
            except OSError:
                return

    def _accept_tcp(self):
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_tcp, args=(connection,), daemon=True).start()

    def _serve_tcp(self, connection):
        with connection, connection.makefile("rb") as stream:
            while True:
                try:
                    length = stream.read(2)
                    if len(length) < 2:
                        return
                    response = self._respond(stream.read(*struct.unpack("!H", length)))
                    if response:
                        connection.sendall(struct.pack("!H", len(response)) + response)
                except OSError:
                    return

    def _respond(self, query):
        """The response, or None."""
        number, flags, questions = struct.unpack_from("!HHH", query)
        if questions != 1:
            return None
        name, end = _read_name(query, 12)
        kind, _ = struct.unpack_from("!HH", query, end)
        question = query[12:end + 4]
        with self._changed:
            self.queries.append((name, kind))
            if (name, CNAME) in self._answers:
                kind = CNAME
            answer = self._answers.get((name, kind))
            if answer is None:
                answer = NOERROR if any(known == name for known, _ in self._answers) else NXDOMAIN
        if answer == SILENCE:
            return None
        rcode, records = (NOERROR, answer) if isinstance(answer, list) else (answer, [])
        head = struct.pack("!HHHHHH", number, 0x8180 | flags & 0x0100 | rcode, 1, len(records), 0, 0)
        # Time to live 0: a test may change its mind. 0xc00c points back to the question.
        body = b"".join(struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(data)) + data for data in records)
        return head + question + body


def reverse(ip):
    """Where the PTR of an address stands."""
    return ipaddress.ip_address(ip).reverse_pointer


def _normal(name):
    return name.lower().rstrip(".")


def _wire_name(name):
    """Text, or a list of labels as bytes."""
    labels = [label.encode() for label in name.rstrip(".").split(".") if label] if isinstance(name, str) else name
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _read_name(message, position):
    labels = []
    while message[position]:
        end = position + 1 + message[position]
        labels.append(message[position + 1:end].decode("latin-1").lower())
        position = end
    return ".".join(labels), position + 1


def _truncated(response):
    """Its head and question, with TC set: come again over TCP."""
    number, flags = struct.unpack_from("!HH", response)
    _, end = _read_name(response, 12)
    return struct.pack("!HHHHHH", number, flags | 0x0200, 1, 0, 0, 0) + response[12:end + 4]
