"""A Ray cluster on the test's hosts, made as people make theirs: `ray up` with a file of ours, guarded by a token.

What is asked of it comes from outside: the machine, which has the token in a home of its own.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from hosts import PLACE, ROOT, Host, Hosts

ON_PREMISE = ROOT / "deploy/clusters/onpremise.yaml"
BIN = Path(sys.executable).parent
HOST_ENVIRONMENT = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
CPUS = 2  # of each host, whatever the machine has
OBJECT_STORE_BYTES = 150_000_000
UP_SECONDS = 240.0
REDIS_PORT = 6379
COMMAND_SECONDS = 120.0
POLL_SECONDS = 0.2


class Cluster:
    """The cluster and its client.

    Args:
        hosts: where it is; the first of them is its head.
        file: that describes it; the program is installed on the hosts already, and a host is told how large it is.
        changes: what else is different on these hosts, laid over the file, one section deep; None takes a key away.
        environment: of the client, beside the token.
        store: a host that is not of the cluster, and keeps Ray's state in a Redis.
    """

    def __init__(
        self,
        hosts: Hosts,
        file: Path,
        changes: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
        store: Host | None = None,
    ) -> None:
        self.hosts = hosts
        self._store = store
        self.storage = hosts.shared / "runs"
        self._environment = environment or {}
        self.token = secrets.token_hex(16)
        token_file = hosts.client_home / ".ray/auth_token"
        token_file.parent.mkdir()
        token_file.write_text(self.token)
        self._file = PLACE / "cluster.yaml"
        self._file.write_text(yaml.safe_dump(_described(yaml.safe_load(file.read_text()), hosts, changes)))

    @classmethod
    def on_premise(cls, hosts: Hosts, store: Host | None = None) -> "Cluster":
        """Returns the cluster of all these hosts, but for the one that keeps Ray's state."""
        head, *workers = [host.ip for host in hosts.all if host != store]
        changes: dict[str, Any] = {"provider": {"head_ip": head, "worker_ips": workers}}
        if store is not None:
            changes["file_mounts"] = {"~/.ray/gcs_store.env": str(_start_redis(hosts, store))}
        return cls(hosts, ON_PREMISE, changes, {"RAY_UP_enable_autoscaler_v2": "0"}, store)

    @property
    def head(self) -> Host:
        return self.hosts.all[0]

    @property
    def workers(self) -> tuple[Host, ...]:
        return tuple(host for host in self.hosts.all[1:] if host != self._store)

    @property
    def jobs(self) -> str:
        """The job server's address."""
        return f"http://{self.head.ip}:8265"

    def up(self) -> None:
        """Starts Ray; returns when every host has joined."""
        self._ray("up", "--yes", "--no-config-cache")
        wait_for(self._is_whole, "all hosts in the cluster", UP_SECONDS)

    def down(self) -> None:
        """Ends Ray."""
        self._ray("down", "--yes")

    def run(self, *words: str, home: Path | None = None, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Runs `orchestrator` outside of the cluster, and returns what became of it."""
        done = subprocess.run(
            [str(BIN / "orchestrator"), *words],
            env=self.environment(home),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, name: str, *words: str) -> "Watching":
        """Starts `orchestrator` outside of the cluster; what it says is kept under the name."""
        log = self.hosts.client_home / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(BIN / "orchestrator"), *words],
                env=self.environment(None),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # a test that runs in a shell's background has inherited that Ctrl-C is ignored
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        return Watching(process, log)

    def environment(self, home: Path | None) -> dict[str, str]:
        """Returns the environment of a client; another home has no token."""
        rays = {key for key in os.environ if key.startswith("RAY_")}
        kept = {key: value for key, value in os.environ.items() if key not in rays}
        ours = {"HOME": str(home or self.hosts.client_home), "PATH": f"{BIN}:{os.environ['PATH']}"}
        return kept | ours | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"} | dict(self._environment)

    def _ray(self, verb: str, *flags: str) -> None:
        environment = self.environment(None) | {"RAY_AUTH_MODE": "token"}
        words = [str(BIN / "ray"), verb, str(self._file), *flags]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=UP_SECONDS)
        assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    def _is_whole(self) -> bool:
        return f"/{CPUS * (1 + len(self.workers))}.0 CPU" in self.hosts.ssh(self.head, "ray status", check=False).stdout

    def commands(self, verb: str) -> list[psutil.Process]:
        """Returns the processes on the head that run `orchestrator VERB`."""
        found = []
        for process in self.hosts.processes(self.head):
            with suppress(psutil.NoSuchProcess):
                words = process.cmdline()
                if len(words) > 2 and words[1].endswith("/orchestrator") and words[2] == verb:
                    found.append(process)
        return found


def _described(file: dict[str, Any], hosts: Hosts, changes: Mapping[str, Any]) -> Mapping[str, Any]:
    file["cluster_name"] = f"test-{secrets.token_hex(4)}"
    file["auth"] = {"ssh_user": "root", "ssh_private_key": str(hosts.key)}
    file["file_mounts"] = {"~/.ray/auth_token": file["file_mounts"]["~/.ray/auth_token"]}
    file["initialization_commands"] = file["setup_commands"] = []
    limits = f" --num-cpus={CPUS} --object-store-memory={OBJECT_STORE_BYTES}"
    for commands in (file["head_start_ray_commands"], file["worker_start_ray_commands"]):
        commands[:] = [command + limits if "ray start" in command else command for command in commands]
    for key, change in changes.items():
        file[key] = {**file[key], **change} if isinstance(change, Mapping) else change
    return {key: value for key, value in file.items() if value is not None}


def _start_redis(hosts: Hosts, store: Host) -> Path:
    """Starts a Redis on the host; returns the file that tells the other ones of it (docs/clusters.md)."""
    password = secrets.token_hex(16)
    settings = {"bind": store.ip, "port": REDIS_PORT, "requirepass": password, "appendonly": "yes", "dir": "/tmp"}
    (store.directory / "home/redis.conf").write_text("".join(f"{k} {v}\n" for k, v in settings.items()))
    hosts.ssh(store, "redis-server ~/redis.conf --daemonize yes")
    told = hosts.client_home / "gcs_store.env"
    told.write_text(
        f"export RAY_REDIS_ADDRESS={store.ip}:{REDIS_PORT}\n"
        "export RAY_external_storage_namespace=test\n"
        "export RAY_gcs_rpc_server_reconnect_timeout_s=900\n"
        f"REDIS_PASSWORD={password}\n"
    )
    return told


@dataclass(frozen=True, slots=True)
class Watching:
    """A command that watches, outside of the cluster."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def wait_for(self, words: str, seconds: float) -> None:
        """Returns when it has said the words."""
        deadline = time.monotonic() + seconds
        while words not in (said := self.log.read_text()):
            assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {words!r}; it said:\n{said}"
            time.sleep(POLL_SECONDS)

    def interrupt(self) -> int:
        """Sends Ctrl-C; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


def wait_for(condition: Callable[[], Any], what: str, seconds: float) -> Any:
    """Returns the condition's answer as soon as it is one."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(POLL_SECONDS)
    return found


def descendants(nodes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the nodes of a process graph, in a row."""
    return [found for node in nodes for found in (node, *descendants(node["children"]))]
