# SPDX-License-Identifier: Apache-2.0
"""Headers of the PROXY protocol (haproxy.org, proxy-protocol.txt), and sessions that begin with one."""
import ipaddress
import struct

from .client import SmtpClient

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL = SIGNATURE + b"\x20\0\0\0"
UNKNOWN = b"PROXY UNKNOWN\r\n"


def version_1(client, port=40000):
    family = "TCP6" if ":" in client else "TCP4"
    server = "::1" if ":" in client else "127.0.0.1"
    return f"PROXY {family} {client} {server} {port} 25\r\n".encode()


def version_2(client, port=40000, extensions=b""):
    ip = ipaddress.ip_address(client).packed
    block = ip + ip + struct.pack("!HH", port, 25) + extensions
    return SIGNATURE + bytes([0x21, 0x11 if len(ip) == 4 else 0x21]) + struct.pack("!H", len(block)) + block


class ProxiedClient(SmtpClient):
    """A connection from a proxy at `source` that begins with these bytes."""

    def __init__(self, address, source, header, banner=True):
        super().__init__(address, source=source, banner=False)
        self.send(header)
        self.banner = self.reply() if banner else None
