# SPDX-License-Identifier: Apache-2.0
"""Reads a delivery status notification (RFC 3464) as a mail program would."""
import email
import email.policy


class Report:
    """Fails at once if the message is not a well-formed multipart/report."""

    def __init__(self, raw):
        self.raw = raw
        self.message = email.message_from_bytes(raw, policy=email.policy.default)
        assert self.message.get_content_type() == "multipart/report", raw.decode("utf-8", "replace")
        assert self.message.get_param("report-type") in ("delivery-status", "global-delivery-status")
        assert not self.message.defects, self.message.defects
        parts = list(self.message.iter_parts())
        assert len(parts) in (2, 3), [part.get_content_type() for part in parts]
        for part in parts:
            assert not part.defects, part.defects
        self.words = parts[0].get_content()
        assert parts[1].get_content_type() == "message/" + self.message.get_param("report-type"), "RFC 6522 3"
        blocks = _blocks(parts[1])
        self.fields = blocks[0]
        self.recipients = blocks[1:]
        self.returned_type = parts[2].get_content_type() if len(parts) == 3 else None
        self.returned = parts[2].as_bytes() if len(parts) == 3 else b""
        self.returned_content = _content(raw, self.message.get_boundary()) if len(parts) == 3 else b""

    def final_recipients(self):
        return sorted(_address(block["Final-Recipient"]) for block in self.recipients)

    def recipient(self, address):
        """The fields about one recipient."""
        found = [block for block in self.recipients if _address(block["Final-Recipient"]) == address]
        assert len(found) == 1, f"{address} in {self.final_recipients()}"
        return found[0]


def _content(raw, boundary):
    """The last part byte by byte: what was returned of the message."""
    part = raw.split(b"\r\n--" + boundary.encode())[-2]
    return part.partition(b"\r\n\r\n")[2]


def _blocks(part):
    """The groups of fields in a delivery status; Python's parser knows only the type for ASCII (RFC 6533 has one for UTF-8)."""
    text = part.as_bytes().decode("utf-8").replace("\r\n", "\n").partition("\n\n")[2]
    return [email.message_from_string(block, policy=email.policy.compat32) for block in text.split("\n\n") if block.strip()]


def _address(field):
    kind, _, address = str(field).partition(";")
    assert kind.strip().lower() in ("rfc822", "utf-8"), field
    return address.strip()


def is_report(raw):
    return b"multipart/report" in raw.split(b"\r\n\r\n")[0].split(b"\n\n")[0].lower()
