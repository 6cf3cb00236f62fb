# SPDX-License-Identifier: Apache-2.0
"""A directory for one test, with the daemons and next hops in it, all ended and removed with it."""
import pathlib
import shutil
import tempfile

from .dns import Dns
from .postern import Postern
from .sink import Sink


class Place:
    """Use as a context manager. The directory's name is short, because a socket's path must be."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="postern-e2e-"))
        self._daemons = []
        self._sinks = []
        self._resolvers = []

    def sink(self, **options):
        sink = Sink(**options)
        self._sinks.append(sink)
        return sink

    def exchangers(self, count, **options):
        """Sinks at addresses of their own with the same port, as mail exchangers have it: 127.0.0.11, 127.0.0.12, ..."""
        while True:
            made = [self.sink(ip="127.0.0.11", **options)]
            try:
                for number in range(1, count):
                    made.append(self.sink(ip=f"127.0.0.{11 + number}", port=made[0].port, **options))
                return made
            except OSError:  # taken by somebody else
                for sink in made:
                    sink.close()

    def dns(self):
        resolver = Dns()
        self._resolvers.append(resolver)
        return resolver

    def postern(self, settings=None, start=True, name="p", **options):
        daemon = Postern(self.directory / name, settings, **options)
        self._daemons.append(daemon)
        return daemon.start() if start else daemon

    def __enter__(self):
        return self

    def __exit__(self, kind, *unused):
        failures = []
        for daemon in self._daemons:
            try:
                daemon.finish()
            except AssertionError as failure:
                failures.append(str(failure))
            print(f"---- log of {daemon.directory.name} ----\n{daemon.log.tail()}")
        for sink in self._sinks:
            sink.close()
            failures += [f"the next hop met: {fault}" for fault in sink.faults]
        for resolver in self._resolvers:
            resolver.close()
        shutil.rmtree(self.directory, ignore_errors=True)
        if failures and kind is None:
            raise AssertionError("\n".join(failures))
