# SPDX-License-Identifier: Apache-2.0
"""The text map of the directory's backend `file` (postern.directory(5)), for tests that ask it."""
import os

from .settings import LOCAL_DOMAIN, merge


class DirectoryMap:
    """A file that can be changed, taken away and put back while a daemon reads it."""

    def __init__(self, directory, *lines):
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "users.map"
        self.write(*lines)

    def write(self, *lines):
        """All at once, as an administrator's tool does it."""
        new = self.path.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines))
        os.replace(new, self.path)

    def take_away(self):
        os.replace(self.path, self.path.with_suffix(".away"))

    def put_back(self):
        os.replace(self.path.with_suffix(".away"), self.path)

    def settings(self, more=None):
        """Of a relay whose local recipients are those of the map; nothing is kept, so that each question is asked."""
        return merge({
            "domains": {LOCAL_DOMAIN: {"type": "local", "default": True, "recipients": "directory"}},
            "directory": {"backend": "file", "file": str(self.path), "timeout": "2s", "cache": {"entries": 0}},
        }, more or {})
