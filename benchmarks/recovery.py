"""What a kill costs: seconds until work goes on, and steps of work lost; ours against Ray Tune, in one run.

Two workers, trials of 27 steps of 0.15 s under ASHA with rungs at 9 and 27. Ours saves a checkpoint at each rung; Ray
Tune is told to save one every 9 steps. A process gets `kill -9`; what needs a command to go on gets it at once: the
same `orchestrator run` again, or `Tuner.restore` in a fresh process. Both have a Ray that outlives their driver.

- Seconds: from the kill until two workers train side by side again, for good.
- Steps lost: those that were trained in the whole run, less those that its result knows in the end. The trainable
  itself writes down each step.

    python benchmarks/recovery.py [--quick] [--json FILE]
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from peers.recovery_children import (
    ETA,
    FIRST_RUNG,
    LOG_VARIABLE,
    STEP_SECONDS,
    STEPS,
    WORKER_CPUS,
    WORKERS,
    ray_alone,
    ray_tune,
)

WORK = Path(__file__).resolve().parent / "peers" / "recovery_children.py"
SIDE_BY_SIDE_SECONDS = 0.6  # two steps of two workers this near to each other were trained at the same time
LASTING_SECONDS = 2.0
PATIENCE_SECONDS = 240.0
POLL_SECONDS = 0.05
FAULTS = {"ours": ("worker", "study actor", "runner", "driver", "session"), "tune": ("worker", "driver", "session")}
ACTORS = {"study actor": "ray::StudyActor", "runner": "ray::Runner"}
NAMES = {"ours": "ours", "tune": "Ray Tune"}


# --- what was trained --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the trainable's log."""

    at: float
    pid: int
    trial: float
    step: int


def steps_of(log: Path) -> list[Step]:
    """Returns the steps that were trained so far, in their order."""
    try:
        lines = [line.split() for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
    except FileNotFoundError:
        return []
    return [Step(float(at), int(pid), float(trial), int(step)) for at, pid, trial, step in lines]


def is_under_way(steps: Sequence[Step], enough: int) -> bool:
    """Returns whether all workers train, and did so many steps."""
    return len(steps) >= enough and len({step.pid for step in steps}) >= WORKERS


def side_by_side_at(steps: Sequence[Step], since: float) -> float | None:
    """Returns when, after `since`, two workers had trained at the same time that both went on for a while.

    Workers whose driver was killed may do a few more steps, which lead nowhere, before Ray ends them.
    """
    later = [step for step in steps if step.at > since]
    last = {step.pid: step.at for step in later}
    for number, step in enumerate(later):
        near = {other.pid for other in later[:number] if step.at - other.at < SIDE_BY_SIDE_SECONDS}
        lasting = {pid for pid in near | {step.pid} if last[pid] - step.at > LASTING_SECONDS}
        if len(lasting) >= WORKERS:
            return step.at
    return None


# --- those who train it ------------------------------------------------------------------------------------------


class Ours:
    """`orchestrator run`, which starts a Ray of its own."""

    def __init__(self, place: Path, trials: int) -> None:
        self.log = place / "steps"
        self._place, self._storage, self._trials = place, place / "runs", trials
        study = {
            "study": "recovery",
            "trainable": f"{WORK}:Work",
            "space": {"x": {"min": 0.0, "max": 1.0}},
            "objective": {"metric": "loss", "goal": "minimize"},
            "search": "random",
            "scheduler": {"kind": "asha", "min": FIRST_RUNG, "max": STEPS, "eta": ETA},
            "budget": {"trials": trials},
            "resources": {"cpu": WORKER_CPUS, "concurrent": WORKERS},
            "execution": "pooled",
        }
        (place / "study.yaml").write_text(json.dumps(study))  # JSON is YAML
        self.driver = self._command("run", str(place / "study.yaml"))

    def _command(self, *words: str) -> "subprocess.Popen[bytes]":
        return started(self._place, [sys.executable, "-m", "orchestrator.cli", *words, "--storage", str(self._storage)])

    def victims(self, fault: str) -> list[psutil.Process]:
        """Returns the processes that the fault kills."""
        if fault == "worker":
            return [psutil.Process(steps_of(self.log)[-1].pid)]
        from orchestrator.process_graph.session_file import SessionFile, session_path

        driver = psutil.Process(self.driver.pid)
        if fault == "driver":
            return [driver]
        session = SessionFile.read(session_path(self._storage))
        keeper = session.keeper.find() if session else None
        assert keeper is not None, "a session that runs"
        family = [keeper, *keeper.children(recursive=True)]
        return [driver, *family] if fault == "session" else [next(p for p in family if ACTORS[fault] in title(p))]

    def go_on(self, fault: str) -> None:
        """Gives the command again, where work does not go on without."""
        if fault == "session":
            self.driver = self._command("run", str(self._place / "study.yaml"))

    def has_ended(self) -> bool:
        """Whether all trials are done."""
        from orchestrator.study import read_study

        return str(read_study(self._storage, "recovery").state.phase) == "ended"

    def known_steps(self) -> tuple[int, int]:
        """Returns (trials, steps) of the result."""
        from orchestrator.study import read_study

        trials = read_study(self._storage, "recovery").state.trials
        return len(trials), sum(trial.last_step for trial in trials)

    def close(self) -> None:
        """Ends what still runs."""
        kill([psutil.Process(self.driver.pid)] if self.driver.poll() is None else [])
        self.driver.wait()
        self._command("down").wait(PATIENCE_SECONDS)


class RayTune:
    """A script with Ray Tune's own ASHA, in a Ray that outlives it."""

    def __init__(self, place: Path, trials: int) -> None:
        self.log = place / "steps"
        self._place, self._trials = place, trials
        self._begin()

    def _begin(self) -> None:
        (self._place / "address").unlink(missing_ok=True)
        self._ray = started(self._place, [sys.executable, __file__, "--one", "ray", "--place", str(self._place)])
        wait_for(lambda: self._ray.poll() is not None or (self._place / "address").exists(), "Ray")
        self._drive()

    def _drive(self) -> None:
        words = [sys.executable, __file__, "--one", "tune", "--place", str(self._place), "--trials", str(self._trials)]
        self.driver = started(self._place, words)

    def victims(self, fault: str) -> list[psutil.Process]:
        """Returns the processes that the fault kills."""
        if fault == "worker":
            return [psutil.Process(steps_of(self.log)[-1].pid)]
        driver, ray = psutil.Process(self.driver.pid), psutil.Process(self._ray.pid)
        return [driver] if fault == "driver" else [driver, ray, *ray.children(recursive=True)]

    def go_on(self, fault: str) -> None:
        """Gives the command again, where work does not go on without."""
        if fault == "session":
            self._ray.wait()
            self._begin()
        elif fault == "driver":
            self._drive()

    def has_ended(self) -> bool:
        """Whether all trials are done."""
        code = self.driver.poll()
        if code:
            raise SystemExit(f"Ray Tune ended with {code}:\n{(self._place / 'output').read_text()[-3000:]}")
        return code == 0

    def known_steps(self) -> tuple[int, int]:
        """Returns (trials, steps) of the result."""
        trials, steps = json.loads((self._place / "result.json").read_text())
        return int(trials), int(steps)

    def close(self) -> None:
        """Ends what still runs."""
        for process in (self.driver, self._ray):
            if process.poll() is None:
                marked = psutil.Process(process.pid)
                kill([marked, *marked.children(recursive=True)])
            process.wait()


# --- the measurement ---------------------------------------------------------------------------------------------


def started(place: Path, words: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Returns a process whose trials write their steps down in the place."""
    environment = os.environ | {LOG_VARIABLE: str(place / "steps"), "RAY_USAGE_STATS_ENABLED": "0"}
    if "--one" in words:
        environment["RAY_AUTH_MODE"] = "disabled"  # by itself a local Ray makes a token that no other driver has
    with (place / "output").open("ab") as output:
        return subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def title(process: psutil.Process) -> str:
    """Returns the process's command line; nothing where it has just ended."""
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def kill(processes: Sequence[psutil.Process]) -> None:
    """Kills the processes, without a warning."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Returns the condition's answer as soon as it is one."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE_SECONDS:.0f} s for {what}")
        time.sleep(POLL_SECONDS)
    return found


def measure(who: str, fault: str, trials: int, kill_after: int) -> dict[str, float]:
    """Kills something once in a run of its own, after so many steps; returns what that cost."""
    print(f"  {NAMES[who]}, {fault} …", end="", flush=True)
    place = Path(tempfile.mkdtemp(prefix="recovery-"))
    runs = Ours(place, trials) if who == "ours" else RayTune(place, trials)
    try:
        wait_for(lambda: runs.driver.poll() is not None or is_under_way(steps_of(runs.log), kill_after), "steps")
        if runs.driver.poll() is not None:
            raise RuntimeError("it ended before it was killed")
        victims = runs.victims(fault)
        killed_at = time.time()
        kill(victims)
        runs.driver.poll()
        runs.go_on(fault)
        whole_at = wait_for(lambda: side_by_side_at(steps_of(runs.log), killed_at), "both workers")
        wait_for(runs.has_ended, "the end")
        known, kept = runs.known_steps()
        trained = len(steps_of(runs.log))
    except (RuntimeError, TimeoutError, psutil.Error):
        print((place / "output").read_text()[-3000:], file=sys.stderr)
        raise
    finally:
        runs.close()
    shutil.rmtree(place)
    found = {"seconds": whole_at - killed_at, "steps_lost": trained - kept, "steps_trained": trained, "trials": known}
    print(f" {found['seconds']:.1f} s, {found['steps_lost']} of {trained} steps lost")
    return found


def ratio(peers: list[float], own: list[float]) -> dict[str, float]:
    """Returns their seconds over ours: of the medians, and the extremes of the pairs."""
    pairs = [peer / mine for peer in peers for mine in own]
    return {"median": statistics.median(peers) / statistics.median(own), "low": min(pairs), "high": max(pairs)}


def main() -> None:
    """Measures, prints a table, and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer trials and one round; about 4 minutes")
    parser.add_argument("--json", metavar="FILE", help="where to write the figures")
    parser.add_argument("--rounds", type=int, default=3, help="how often each fault is tried; default: 3")
    parser.add_argument("--one", choices=["ray", "tune"], help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--trials", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one == "ray":
        ray_alone(given.place)
    elif given.one == "tune":
        ray_tune(given.place, given.trials)
    else:
        trials, rounds = (8, 1) if given.quick else (12, given.rounds)
        compare(trials, rounds, given.json)


def compare(trials: int, rounds: int, json_file: str | None) -> None:
    """Measures each fault on both sides, as often as there are rounds."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}")
        kill_after = 2 * FIRST_RUNG + 7 * (number + 1)  # another point between two checkpoints each time
        for fault in FAULTS["ours"]:
            for who in FAULTS:  # in turn, so that a busy minute of the machine hits everybody
                if fault in FAULTS[who]:
                    found.setdefault((who, fault), []).append(measure(who, fault, trials, kill_after))
    seconds = {key: [run["seconds"] for run in runs] for key, runs in found.items()}
    ratios = {fault: ratio(seconds["tune", fault], seconds["ours", fault]) for fault in FAULTS["tune"]}
    print(f"\n{'killed':14}{'':12}{'seconds':>20}{'steps lost':>18}  theirs ÷ ours, seconds")
    for (who, fault), runs in found.items():
        lost = [run["steps_lost"] for run in runs]
        against = "{median:.1f} ({low:.1f}–{high:.1f})".format(**ratios[fault]) if who == "tune" else ""
        print(f"{fault:14}{NAMES[who]:12}{_spread(seconds[who, fault], 1):>20}{_spread(lost, 0):>18}  {against}")
    if json_file:
        from orchestrator.tuning.versions import versions

        report = {
            "name": "recovery",
            "machine": {"cpus": os.cpu_count(), "system": platform.platform()},
            "versions": versions(),
            "settings": {"workers": WORKERS, "trials": trials, "steps": STEPS, "step_seconds": STEP_SECONDS},
            "ours": {fault: found["ours", fault] for fault in FAULTS["ours"]},
            "peers": {"ray_tune": {fault: found["tune", fault] for fault in FAULTS["tune"]}},
            "ratios": {"ray_tune": ratios},
        }
        Path(json_file).write_text(json.dumps(report, indent=1) + "\n")


def _spread(values: Sequence[float], digits: int) -> str:
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


if __name__ == "__main__":
    main()
