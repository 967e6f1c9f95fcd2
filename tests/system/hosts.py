"""Hosts out of Linux namespaces, so that a cluster of several can be tried on one machine.

A host has a network, processes, a name, /tmp, /dev/shm and a home of its own, and a real sshd; a bridge joins it to
the others and to the machine itself, which stands for "outside". It can lose its power, or its cable alone. The rest of
the file system is common: the program is installed on all hosts, and `Hosts.shared` is their network share.

Needs Linux, root, openssh-server, rsync and iproute2. Run as a script (`hosts.py boot`) it is a host's first process.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
PLACE = Path("/var/tmp/orchestrator-test")  # one lab a machine: a killed run's leftovers are found by it
DISKS = PLACE / "disks"
BRIDGE = "orch-test"
NETWORK = "10.78.0.1/24"  # where the machine itself is on the bridge
TOOLS = ("ip", "unshare", "nsenter", "mount", "ssh", "ssh-keygen", "sshd", "rsync")
SHM_SIZE = "1g"  # Ray's object store lies there
BOOT_SECONDS = 20.0
GONE_SECONDS = 10.0
POLL_SECONDS = 0.05

SSHD = """
Port 22
ListenAddress {address}
HostKey /run/host/ssh_host_key
PidFile none
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UseDNS no
MaxStartups 100
MaxSessions 100
"""


def missing(*more: str) -> list[str]:
    """Returns what this machine lacks to have such hosts, and these programs on them."""
    lacking = [
        tool for tool in (*TOOLS, *more) if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None
    ]
    return ([] if hasattr(os, "geteuid") and os.geteuid() == 0 else ["root"]) + lacking


@dataclass(frozen=True, slots=True)
class Host:
    """One host. Its disk stays when its power goes."""

    name: str
    address: str = ""  # with the network's width: 10.0.0.1/24

    @property
    def ip(self) -> str:
        return self.address.partition("/")[0]

    @property
    def port(self) -> str:
        """The bridge's end of its cable; the kernel takes 15 letters."""
        return f"{BRIDGE}-{self.name[-5:]}"

    @property
    def directory(self) -> Path:
        return DISKS / self.name

    @property
    def mark(self) -> Path:
        """Where the pid of its first process is kept, with its start: numbers are used again."""
        return self.directory / "pid"

    def process(self) -> psutil.Process | None:
        """Returns its first process as the machine sees it; None where it has no power."""
        try:
            pid, started = self.mark.read_text().split()
            process = psutil.Process(int(pid))
            alive = process.create_time() == float(started) and process.status() != psutil.STATUS_ZOMBIE
            return process if alive else None
        except (OSError, ValueError, psutil.NoSuchProcess):
            return None


class Hosts:
    """The hosts of one test, and what is done to them."""

    def __init__(self, environment: Mapping[str, str], network: str = NETWORK) -> None:
        self.all: tuple[Host, ...] = ()
        self.network = network
        self.shared = PLACE / "shared"
        self.client_home = PLACE / "client"
        self.key = PLACE / "id_ed25519"
        self.environment = dict(environment)
        self._launchers: list[subprocess.Popen[bytes]] = []

    @property
    def outside(self) -> str:
        """The machine's own address."""
        return self.network.partition("/")[0]

    def make(self) -> None:
        """Makes the bridge."""
        for path in (self.shared, self.client_home):
            path.mkdir(parents=True)
        _do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", self.key)
        self._write_names()
        (PLACE / "resolv.conf").touch()
        _do("ip", "link", "add", BRIDGE, "type", "bridge")
        _do("ip", "addr", "add", self.network, "dev", BRIDGE)
        _do("ip", "link", "set", BRIDGE, "up")

    def add(self, name: str, ip: str) -> Host:
        """Starts a new host, of a name whose last five letters no other one has."""
        host = Host(name, f"{ip}/{self.network.partition('/')[2]}")
        self.all = (*self.all, host)
        self._write_names()
        self.start(host)
        return host

    def remove(self, host: Host) -> None:
        """Takes a host away for good."""
        _end(host)
        self.all = tuple(other for other in self.all if other != host)
        shutil.rmtree(host.directory)

    def _write_names(self) -> None:
        """Writes every host's /etc/hosts: one file, bound over theirs, and so changed in place."""
        names = [f"{host.ip} {host.name}" for host in self.all]
        (PLACE / "hosts").write_text("\n".join(["127.0.0.1 localhost", f"{self.outside} outside", *names, ""]))

    def start(self, host: Host) -> None:
        """Gives the host power; returns when its sshd answers."""
        self._furnish(host)
        with (host.directory / "console.log").open("ab") as console:
            launcher = subprocess.Popen(
                [
                    *("unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"),
                    *(sys.executable, __file__, "boot", host.name, host.address),
                ],
                stdin=subprocess.PIPE,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._launchers.append(launcher)
        process = _child_of(launcher.pid)
        host.mark.write_text(f"{process.pid} {process.create_time()}")
        mac = ":".join(["02", "00", *(f"{int(part):02x}" for part in host.ip.split("."))])  # neighbours remember it
        _do(
            "ip", "link", "add", host.port, "type", "veth", "peer", "name", "eth0", "address", mac, "netns", process.pid
        )
        _do("ip", "link", "set", host.port, "master", BRIDGE, "up")
        assert launcher.stdin is not None
        launcher.stdin.write(b"the cable is in\n")
        launcher.stdin.close()
        self._await_sshd(host)

    def _furnish(self, host: Host) -> None:
        ssh = host.directory / "home/.ssh"
        ssh.mkdir(parents=True, exist_ok=True, mode=0o700)
        (host.directory / "tmp").mkdir(exist_ok=True)
        (host.directory / "tmp").chmod(0o1777)
        shutil.copy(self.key.with_suffix(".pub"), ssh / "authorized_keys")
        words = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        exports = [f"export {k}={shlex.quote(v)}" for k, v in (words | self.environment).items()]
        (host.directory / "home/.bashrc").write_text("\n".join([*exports, ""]))
        (host.directory / "home/.bash_profile").write_text(". ~/.bashrc\n")
        (host.directory / "hostname").write_text(f"{host.name}\n")
        (host.directory / "sshd_config").write_text(SSHD.format(address=host.ip))
        if not (host.directory / "ssh_host_key").exists():
            _do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", host.directory / "ssh_host_key")

    def _await_sshd(self, host: Host) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while self.ssh(host, "true", check=False).returncode != 0:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{host.name} did not start: {(host.directory / 'console.log').read_text()}")
            time.sleep(POLL_SECONDS)

    def reap(self) -> None:
        """Waits for the launchers of hosts that were ended."""
        for launcher in self._launchers:
            launcher.wait(GONE_SECONDS)

    def cut_power(self, host: Host) -> None:
        """Ends everything on the host at once. The cable goes first: nobody hears a farewell."""
        if host.process() is not None:
            self.unplug(host)
            _end(host)

    def unplug(self, host: Host) -> None:
        """From now on packets to and from the host vanish silently."""
        _do("ip", "link", "set", host.port, "nomaster")

    def plug(self, host: Host) -> None:
        """Mends the cable."""
        _do("ip", "link", "set", host.port, "master", BRIDGE)

    def ssh(self, host: Host, command: str, *, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Runs a shell command on the host, over the network."""
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=5")
        words = [word for option in options for word in ("-o", option)]
        return subprocess.run(
            ["ssh", "-i", str(self.key), *words, "-o", "BatchMode=yes", f"root@{host.ip}", command],
            capture_output=True,
            text=True,
            check=check,
            stdin=subprocess.DEVNULL,
        )

    def processes(self, host: Host) -> list[psutil.Process]:
        """Returns all that runs on the host, as the machine sees it."""
        first = host.process()
        return [] if first is None else [first, *first.children(recursive=True)]


@contextmanager
def hosts(environment: Mapping[str, str], network: str = NETWORK) -> Iterator[Hosts]:
    """Yields a network for hosts, and takes away every trace of them afterwards."""
    remove_all()
    made = Hosts(environment, network)
    try:
        made.make()
        yield made
    finally:
        remove_all()
        made.reap()
        assert not leftovers(), f"hosts left behind: {leftovers()}"


def remove_all() -> None:
    """Ends all hosts, an earlier run's too; removes bridge, cables and disks."""
    for directory in DISKS.glob("*"):
        _end(Host(directory.name))
    for link in _links():
        subprocess.run(["ip", "link", "del", link], check=False, capture_output=True)  # a cable goes with its other end
    if PLACE.exists():
        shutil.rmtree(PLACE)


def leftovers() -> list[str]:
    """Returns what there is of hosts on this machine."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    files = [str(PLACE)] if PLACE.exists() else []
    return [*_links(), *(mount for mount in mounts if mount.startswith(str(PLACE))), *files]


def _links() -> list[str]:
    return sorted((path.name for path in Path("/sys/class/net").glob(f"{BRIDGE}*")), reverse=True)


def _end(host: Host) -> None:
    """Kills the host's first process, and with it all others of its."""
    process = host.process()
    if process is not None:
        process.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + GONE_SECONDS
        while host.process() is not None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        assert host.process() is None, f"{host.name} cannot be ended"
    host.mark.unlink(missing_ok=True)
    if host.port in _links():  # by itself it goes with the host's last socket, which may take the kernel a minute
        subprocess.run(["ip", "link", "del", host.port], check=False, capture_output=True)


def _child_of(pid: int) -> psutil.Process:
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline:
        children = psutil.Process(pid).children()
        if children:
            return children[0]
        time.sleep(POLL_SECONDS)
    raise RuntimeError("a host's first process did not start")


def _do(*words: object) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(map(str, words))}: {done.stderr.strip() or done.stdout.strip()}")


# --- inside a host -----------------------------------------------------------------------------------------------


def boot(host: Host, seen: Sequence[Path]) -> None:
    """Turns fresh namespaces into a host and becomes its sshd; `seen` stays visible below the private directories."""
    sys.stdin.readline()  # the cable is in
    home = Path(os.environ["HOME"])
    _do("ip", "link", "set", "lo", "up")
    _do("ip", "addr", "add", host.address, "dev", "eth0")
    _do("ip", "link", "set", "eth0", "up")
    _do("ip", "route", "add", "default", "dev", "eth0")  # without one Ray takes 127.0.0.1 for the host's address
    _do("hostname", host.name)
    _do("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for path in ("/run/sshd", "/run/host"):
        os.mkdir(path)
    for name in ("ssh_host_key", "sshd_config"):
        shutil.copy(host.directory / name, "/run/host")
    os.chmod("/run/host/ssh_host_key", 0o600)
    _do("mount", "--bind", host.directory / "hostname", "/etc/hostname")
    _do("mount", "--bind", PLACE / "hosts", "/etc/hosts")
    _do("mount", "--bind", PLACE / "resolv.conf", "/etc/resolv.conf")
    _do("mount", "-t", "tmpfs", "-o", f"size={SHM_SIZE},mode=1777", "tmpfs", "/dev/shm")
    for private, over in (("tmp", Path("/tmp")), ("home", home)):
        _lay_over(host.directory / private, over, seen)
    _do("mount", "-t", "proc", "proc", "/proc")
    os.chdir("/")
    sshd = shutil.which("sshd", path="/usr/sbin:/sbin:/usr/bin")
    assert sshd is not None
    os.execv(sshd, [sshd, "-D", "-e", "-f", "/run/host/sshd_config"])


def _lay_over(directory: Path, over: Path, seen: Sequence[Path]) -> None:
    for path in seen:
        if path.is_relative_to(over):
            place = directory / path.relative_to(over)
            place.mkdir(parents=True, exist_ok=True)
            _do("mount", "--rbind", path, place)
    _do("mount", "--rbind", directory, over)


if __name__ == "__main__":
    verb, name, address = sys.argv[1:]
    assert verb == "boot"
    boot(Host(name, address), [ROOT, Path(sys.prefix), Path(sys.base_prefix)])
