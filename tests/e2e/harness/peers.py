# SPDX-License-Identifier: Apache-2.0
"""Other mail servers, each in a world of its own: a root file system laid over this machine's, and a network of two hosts.

The server is 10.0.0.1, the client (relaytest with its catch, or nmap) is 10.0.0.2, and there is no way anywhere else: whatever a
deliberately open server does, it reaches nobody. That needs root and the right to mount.
"""
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from .limits import WAIT_S, wait_until
from .postern import ROOT

SERVER, CLIENT = "10.0.0.1", "10.0.0.2"
SERVER_NAME, LOCAL_DOMAIN, CLIENT_NAME = "mail.contoso.test", "contoso.test", "client.fabrikam.test"
HOSTS = f"127.0.0.1 localhost\n{SERVER} {SERVER_NAME}\n{CLIENT} {CLIENT_NAME}\n"

# Everything that is written, and everything that a package brings, lies in a file system in memory above the machine's own.
ENTER = """\
set -e
mount -t tmpfs -o size=256m,mode=755 relaytest "$1"
mkdir "$1/upper" "$1/work" "$1/root"
cp -a "$2/." "$1/upper/"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" relaytest "$1/root"
mount --bind /dev "$1/root/dev"
mount -t proc proc "$1/root/proc"
mount -t tmpfs -o mode=1777 relaytest "$1/root/tmp"
ip link set lo up
touch "$1/entered"
exec sleep infinity
"""


def can_isolate():
    """Whether this machine lets us make such worlds."""
    return subprocess.run(["unshare", "--net", "--mount", "sh", "-c", "mount -t tmpfs relaytest /mnt && ip link add v0 type veth peer name v1"],
                          capture_output=True).returncode == 0


def unpacked(name):
    """Where a server's packages are unpacked: POSTERN_PEERS, or build/peers; unpacks them if need be."""
    directory = ROOT / os.environ.get("POSTERN_PEERS", "build/peers")
    if not (directory / name / "complete").exists():
        subprocess.run([ROOT / "tools" / "peers.sh", directory], check=True, stdout=subprocess.DEVNULL)
    return directory / name / "root"


class World:
    """Two hosts and the cable between them. Use as a context manager."""

    def __init__(self, tree=None):
        self._stack = contextlib.ExitStack()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="postern-world-"))
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self._upper = self.directory / "upper"
        self._mounts = self.directory / "mounts"
        self._mounts.mkdir()
        self._processes = []
        self._lay_out(tree)

    def write(self, path, text, mode=0o644):
        """A file that the server finds at this path."""
        target = self._upper / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def install(self, path, source):
        """A program of this machine, which may lie where the server's root file system does not reach."""
        target = self._upper / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)

    def _lay_out(self, tree):
        """What a package brings, where Debian has it since it merged /usr."""
        self._upper.mkdir(exist_ok=True)
        if tree:
            shutil.copytree(tree, self._upper, symlinks=True, dirs_exist_ok=True)
            for name in ("bin", "sbin", "lib", "lib64"):
                if (self._upper / name).is_dir():
                    shutil.copytree(self._upper / name, self._upper / "usr" / name, symlinks=True, dirs_exist_ok=True)
                    shutil.rmtree(self._upper / name)
        self.write("etc/hosts", HOSTS)
        # Nobody answers there: glibc sees that at once. "lookup" is for OpenSMTPD's own resolver, which would wait.
        self.write("etc/resolv.conf", "lookup file\nnameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        self.write("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
        self.write("etc/hostname", SERVER_NAME + "\n")
        self.write("etc/mailname", SERVER_NAME + "\n")

    def add_users(self, *users):
        """Accounts that a package's installation would have made; `self._upper` gets its own passwd and group."""
        passwd, group = pathlib.Path("/etc/passwd").read_text(), pathlib.Path("/etc/group").read_text()
        for number, user in enumerate(users, 61001):
            if f"\n{user}:" not in passwd:
                passwd += f"{user}:x:{number}:{number}::/var/spool/{user}:/usr/sbin/nologin\n"
            if f"\n{user}:" not in group:
                group += f"{user}:x:{number}:\n"
        self.write("etc/passwd", passwd)
        self.write("etc/group", group)

    def __enter__(self):
        try:
            self._server = self._hold(["unshare", "--net", "--mount", "--uts", "sh", "-c", ENTER, "sh", self._mounts, self._upper])
            self._client = self._hold(["unshare", "--net", "sh", "-c", "ip link set lo up && exec sleep infinity"])
            wait_until(lambda: self._sees("entered"), "the server's file system")
            self._connect()
            self.on_server("hostname", SERVER_NAME)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        """Ends everything that runs there; the mounts go with the last process."""
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._end_strays()
        self._stack.close()

    def _end_strays(self):
        """Daemons leave their parents' process groups; they are known by their network."""
        for namespace in getattr(self, "_namespaces", ()):
            for entry in pathlib.Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if os.readlink(entry / "ns" / "net") == namespace:
                        os.kill(int(entry.name), signal.SIGKILL)

    def _hold(self, command):
        process = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL)
        self._processes.append(process)
        return process

    def _sees(self, name):
        assert self._server.poll() is None, "the server's file system could not be mounted"
        return subprocess.run(["nsenter", "--target", str(self._server.pid), "--mount", "test", "-e", self._mounts / name],
                              capture_output=True).returncode == 0

    def _connect(self):
        pids = (self._server.pid, self._client.pid)
        wait_until(lambda: os.readlink(f"/proc/{pids[1]}/ns/net") != os.readlink("/proc/self/ns/net"), "the client's network")
        self._namespaces = [os.readlink(f"/proc/{pid}/ns/net") for pid in pids]
        self._in_net(pids[0], "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", str(pids[1]))
        for pid, link, address in ((pids[0], "v0", SERVER), (pids[1], "v1", CLIENT)):
            self._in_net(pid, "ip", "address", "add", f"{address}/24", "dev", link)
            self._in_net(pid, "ip", "link", "set", link, "up")

    @staticmethod
    def _in_net(pid, *command):
        subprocess.run(["nsenter", "--target", str(pid), "--net", *command], check=True)

    # ---- the two hosts ----

    def _server_command(self, command):
        return ["nsenter", "--target", str(self._server.pid), "--net", "--mount", "--uts", "chroot", self._mounts / "root", *command]

    def on_server(self, *command):
        """Runs a command there to its end; its output."""
        done = subprocess.run(self._server_command(command), capture_output=True, text=True, timeout=WAIT_S,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"})
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start_on_server(self, *command, log):
        """A daemon in the foreground; its output goes to this file."""
        with open(self.directory / log, "wb") as output:
            process = subprocess.Popen(self._server_command(command), start_new_session=True, stdin=subprocess.DEVNULL,
                                       stdout=output, stderr=subprocess.STDOUT,
                                       env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"})
        self._processes.append(process)
        return process

    def log(self, name):
        return (self.directory / name).read_text(errors="replace")

    def read_on_server(self, path):
        done = subprocess.run(self._server_command(["cat", path]), capture_output=True, text=True, errors="replace")
        return done.stdout

    def client_command(self, command):
        """A command with the client's network and this machine's files."""
        return ["nsenter", "--target", str(self._client.pid), "--net", *command]

    def on_client(self, command, **options):
        """A finished process of that kind."""
        return subprocess.run(self.client_command(command), **options)

    def wait_for_port(self, port=25):
        """Until the server greets."""
        probe = f"import socket; s = socket.create_connection(('{SERVER}', {port}), 5); assert s.recv(3)"
        wait_until(lambda: self.on_client(["/usr/bin/python3", "-c", probe], capture_output=True).returncode == 0, "the server's greeting")
