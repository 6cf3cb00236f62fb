# SPDX-License-Identifier: Apache-2.0
"""A flood of mail from forged senders to local recipients that don't exist, as spammers make it, and what has become of it."""
import asyncio
import os

SESSIONS = 20
DOMAINS = 500  # of the forged senders


def sender(number):
    return f"victim{number}@spoofed{number % DOMAINS}.test"


async def _session(port, numbers, header):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def replies(*codes):
        for code in codes:
            while (line := await reader.readline())[3:4] == b"-":
                pass
            assert line.startswith(code), line

    await replies(b"220")
    writer.write(b"EHLO flood.test\r\n")
    await replies(b"250")
    for number in numbers:
        writer.write(f"MAIL FROM:<{sender(number)}>\r\nRCPT TO:<nobody{number}@contoso.test>\r\nDATA\r\n".encode())
        await replies(b"250", b"250", b"354")
        writer.write(b"Subject: flood %d\r\n" % number + header + b"\r\nBuy.\r\n.\r\n")
        await replies(b"250")
    writer.write(b"QUIT\r\n")
    await replies(b"221")
    writer.close()


def send_flood(port, first, count, header=b"", sessions=SESSIONS):
    """Messages `first` to `first + count - 1`, each with a sender and a recipient of its own."""
    async def run():
        await asyncio.gather(*(_session(port, range(first + i, first + count, sessions), header) for i in range(sessions)))

    asyncio.run(run())


class Fate:
    """What a relay's log and its badmail say of a flood."""

    def __init__(self, relay):
        self._relay = relay
        self._position = 0
        self.reported = self.suppressed = 0

    def look(self):
        log = self._relay.log
        position = log.position()
        for event in log.events[self._position:position]:
            self.reported += event.get("event") == "ndr"
            self.suppressed += event.get("event") == "ndr-suppressed"
        self._position = position
        return self.reported + self.suppressed

    def badmail(self):
        """(messages, descriptions)"""
        names = os.listdir(self._relay.data_dir / "badmail")
        return sum(name.endswith(".eml") for name in names), sum(name.endswith(".json") for name in names)
