"""Replicas that need a whole host: `several_hosts.py`, in a process of its own, which has a Ray of its own."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_a_replica_as_large_as_a_host_gets_one() -> None:
    asked = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "several_hosts.py")]
    done = subprocess.run(asked, cwd=HERE.parents[1], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-8000:]
