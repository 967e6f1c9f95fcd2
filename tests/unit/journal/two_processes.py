"""Two real processes that write one object journal, one of them stopped past its time to live and continued."""

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from orchestrator.journal import Storage
from orchestrator.journal.segments import read_segments

ROOT = Path(__file__).parents[3]

WRITER = """
import sys
from pathlib import Path
from orchestrator.domain.errors import OrchestratorError
from orchestrator.journal import ObjectJournal, Storage
journal = ObjectJournal(Storage.of(sys.argv[1]), spool=Path(sys.argv[2]), ttl_seconds=1.0)
journal.keep_renewed()
print("open", flush=True)
for number, line in enumerate(sys.stdin):
    try:
        journal.append([{"from": sys.argv[2][-1], "number": number}])
        print("acknowledged", flush=True)
    except OrchestratorError as error:
        print(type(error).__name__, flush=True)
"""


def stop_and_go_on(uri, folder):
    """One process is stopped past its time to live, another takes over, and the first is continued."""
    start = partial(subprocess.Popen, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    first = start([sys.executable, "-c", WRITER, uri, str(folder / "spool-a")])
    second = None
    try:
        assert say(first, None) == "open"
        assert say(first, "go") == "acknowledged"
        first.send_signal(signal.SIGSTOP)
        second = start([sys.executable, "-c", WRITER, uri, str(folder / "spool-b")])
        assert say(second, None) == "open"
        assert say(second, "go") == "acknowledged"
        first.send_signal(signal.SIGCONT)
        assert say(first, "go") == "ExchangeRefused"
        assert say(first, "go") == "StorageError"
        assert say(second, "go") == "acknowledged"
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
                process.communicate()
    log = [(each["from"], each["number"]) for batch in read_segments(Storage.of(uri)) for each in batch]
    assert log == [("a", 0), ("b", 0), ("b", 1)]


def say(process, line):
    if line is not None:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    return process.stdout.readline().strip()
