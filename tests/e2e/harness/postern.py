# SPDX-License-Identifier: Apache-2.0
"""The daemon under test: started in a directory of its own, watched through its log."""
import os
import pathlib
import signal
import subprocess

from . import settings as settings_module
from .limits import WAIT_S
from .log import LogReader
from .maildir import Maildir

ROOT = pathlib.Path(__file__).resolve().parents[3]


def build_dir():
    """Where the programs are: POSTERN_BUILD, from the repository's root if relative."""
    return ROOT / os.environ.get("POSTERN_BUILD", "build/release")


def program(name):
    return str(build_dir() / name)


class StartFailed(AssertionError):
    """The daemon ended, or said nothing, before it was ready."""


class Postern:
    """One daemon. `settings` override settings.base (see settings.merge)."""

    def __init__(self, directory, settings=None, wrapper=(), environment=None, pass_descriptors=()):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config_path = self.directory / "postern.yaml"
        self.settings = settings_module.merge(settings_module.base(self.directory), settings or {})
        self.data_dir = pathlib.Path(self.settings["data-dir"])
        self.run_dir = pathlib.Path(self.settings["run-dir"])
        self.log = LogReader()
        self.process = None
        self._wrapper = list(wrapper)
        self._pass_descriptors = tuple(pass_descriptors)
        self._environment = {**os.environ, **(environment or {})}
        self._started_at = 0
        self.write_config()

    def write_config(self, text=None):
        self.config_path.write_text(text if text is not None else settings_module.to_yaml(self.settings))

    # ---- life ----

    def spawn(self):
        """Starts it without waiting for anything."""
        self._started_at = self.log.position()
        command = [*self._wrapper, program("posternd"), "-c", str(self.config_path)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, env=self._environment, pass_fds=self._pass_descriptors)
        self.log.follow(self.process.stderr)

    def start(self):
        """Starts it and waits until it accepts connections."""
        self.spawn()
        if not self.log.wait_for("ready", since=self._started_at):
            self.kill()
            raise StartFailed(f"posternd is not ready (exit {self.process.returncode}):\n{self.log.tail()}")
        return self

    @property
    def pid(self):
        return self.process.pid

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """As a power cut for the process: SIGKILL."""
        if self.is_running():
            self.process.kill()
        self.wait()

    def wait(self, timeout_s=WAIT_S):
        """The exit code."""
        code = self.process.wait(timeout_s)
        self.log.join()
        return code

    def stop(self):
        """SIGTERM; returns the exit code. One that does not end is killed and fails the test."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"posternd does not end after SIGTERM:\n{self.log.tail()}") from None

    def reload(self):
        """SIGHUP; the event that answers it."""
        since = self.log.position()
        self.signal(signal.SIGHUP)
        event = self.log.wait_for(("reloaded", "reload-failed"), since=since)
        assert event, f"no answer to SIGHUP:\n{self.log.tail()}"
        return event

    def finish(self):
        """Ends it at the end of a test, whatever state that left it in, and looks for what only shows then."""
        if self.process is not None and self.process.returncode is None:
            died = self.process.poll() is not None
            code = self.wait() if died else self.stop()
            assert not died, f"posternd died, exit {code}:\n{self.log.tail()}"
            assert code == 0, f"exit {code} after SIGTERM:\n{self.log.tail()}"
        report = self.log.sanitizer_report()
        assert not report, report

    # ---- what it says and does ----

    def addresses(self, server="main"):
        """Where this server of the configuration listens now: (host, port) pairs."""
        found = self.log.find(lambda event: event.get("event") == "listening" and event.get("server") == server,
                              since=self._started_at)
        return [_split(event["address"]) for event in found]

    def address(self, server="main"):
        addresses = self.addresses(server)
        assert addresses, f"server {server} listens nowhere:\n{self.log.tail()}"
        return addresses[0]

    def wait_for_event(self, wanted, since=None, timeout_s=WAIT_S):
        event = self.log.wait_for(wanted, since=self._started_at if since is None else since, timeout_s=timeout_s)
        assert event, f"no event {wanted} in the log:\n{self.log.tail()}"
        return event

    def maildir(self, address):
        return Maildir(self.data_dir / "drop" / address)

    def mailboxes(self):
        """The Maildirs that hold something."""
        drop = self.data_dir / "drop"
        return sorted(box.name for box in drop.iterdir() if Maildir(box).messages()) if drop.exists() else []

    def badmail(self):
        """The messages that were set aside: paths of ID.eml, each with its ID.json beside it."""
        return sorted((self.data_dir / "badmail").glob("*.eml"))

    def resident_kib(self):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def _split(address):
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
