"""What the 100,000th trial costs, and how long the journal of so many takes to open: ours beside Optuna, in one run.

No training and no Ray: one worker's words to a study with ASHA at 1, 3, 9 and 27, its journal on the disk or in
memory. Each measurement is a process of its own. Optuna does the same with its own successive halving, in memory and
with its journal file, as far as it gets in the time that it is given. Compared is the last thousand of trials that it
did. Times are on the clock, which on a disk or a busy machine is mostly waiting, and the processor's.

    python benchmarks/scale.py [--quick] [--json FILE]
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LOW, HIGH, ETA = 1, 27, 3
SPACE = {
    "x": {"min": 0.0, "max": 1.0},
    "y": {"min": 1e-4, "max": 1.0, "log": True},
    "kind": {"values": ["a", "b", "c"]},
}
THOUSAND = 1_000
REPLAYS = ("replay_from_snapshot", "replay_from_events")


def loss_at(params: Mapping[str, Any], step: int, rng: random.Random) -> float:
    """A noisy loss that falls with the steps."""
    return float((params["x"] - 0.3) ** 2 + params["y"] + 1 / step + 0.1 * rng.random())


class Laps:
    """Times each thousand of trials, in seconds on the clock and of this process's own time."""

    def __init__(self, trials: int) -> None:
        self.trials = trials
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.longest = 0.0  # that anybody waited for one answer
        self._began = (time.perf_counter(), time.process_time())
        self._memory = resident()

    def look(self, begun: int) -> None:
        """Takes the time where another thousand was begun or all are done."""
        if begun >= (len(self.wall) + 1) * THOUSAND:
            now = (time.perf_counter(), time.process_time())
            self.wall.append(now[0] - self._began[0])
            self.cpu.append(now[1] - self._began[1])
            self._began = now

    def result(self, **more: Any) -> dict[str, Any]:
        """Returns the figures: a second for a thousand trials is a millisecond for each."""
        return {
            "trials": self.trials,
            "ms_a_trial": [round(seconds, 4) for seconds in self.wall],
            "cpu_ms_a_trial": [round(seconds, 4) for seconds in self.cpu],
            "longest_answer_seconds": round(self.longest, 3),
            "memory_mb_a_thousand_trials": round((resident() - self._memory) / 1e6 / self.trials * THOUSAND, 3),
            **more,
        }


def resident() -> int:
    """Returns the bytes of memory that this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- ours ----------------------------------------------------------------------------------------------------------


def specification(engine: str, trials: int) -> Any:
    from orchestrator.domain.specification import StudySpecification

    return StudySpecification.from_dict(
        {
            "study": "scale",
            "space": SPACE,
            "objective": {"metric": "loss"},
            "search": engine,
            "scheduler": {"kind": "asha", "min": LOW, "max": HIGH, "eta": ETA},
            "budget": {"trials": trials},
        }
    )


def ours(kind: str, trials: int, storage: Path) -> dict[str, Any]:
    """Drives a study to its end with one worker, every word of it journalled."""
    from orchestrator.domain.exchange import Message, Progress
    from orchestrator.domain.trials import CheckpointRef, Decision
    from orchestrator.study import StudyKeeper

    engine, _, where = kind.partition("-")
    place = storage if where == "disk" else None
    keeper = StudyKeeper.open(specification(engine, trials), time.time, storage=place)
    rng, laps = random.Random(1), Laps(trials)
    held: Any = None
    step, until, progress = 0, 0, ()
    while True:
        asked = time.perf_counter()
        answer = keeper.exchange(Message("worker", 1, "host", progress, (), 1))
        laps.longest = max(laps.longest, time.perf_counter() - asked)
        laps.look(len(keeper.study.state.trials) if not answer.release else trials)
        if answer.release:
            break
        verdict = None if held is None else answer.verdicts.get(held.trial)
        if verdict is not None and verdict.decision is Decision.CONTINUE:
            until = verdict.until
        else:
            (held,) = answer.runs
            step, until = held.reported, held.until
        reports = tuple((s, {"loss": loss_at(held.params, s, rng), "lr": 0.1}) for s in range(step + 1, until + 1))
        step = until
        reference = CheckpointRef(step, f"checkpoints/{held.trial:05d}/{step:05d}", "ab" * 32, 1024)
        progress = (Progress(held.trial, held.attempt, reports, reference),)
    reported = sum(len(trial.reports) for trial in keeper.study.state.trials)
    keeper.close()
    saved = [path.stat().st_size for path in storage.rglob("*.snapshot")]
    return laps.result(reports=reported, journal_bytes=keeper.journal.size_bytes, snapshot_bytes=max(saved, default=0))


def replay(storage: Path, *, snapshots: bool) -> dict[str, Any]:
    """Opens the journal as a writer's successor does."""
    from orchestrator.journal import open_journal
    from orchestrator.study import rebuild

    place = storage / "scale" / "journal"
    if not snapshots:
        for path in place.glob("*.snapshot"):
            path.unlink()
    before, began = resident(), (time.perf_counter(), time.process_time())
    journal = open_journal(place)
    first = json.loads((storage / "scale.json").read_text())
    study, events, saved = rebuild(specification(first["engine"], first["trials"]), journal)
    seconds, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    journal.close()
    assert len(study.state.trials) == first["trials"]
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu, 3),
        "events": events,
        "events_in_snapshot": saved,
        "memory_mb_a_thousand_trials": round((resident() - before) / 1e6 / first["trials"] * THOUSAND, 3),
    }


# --- Optuna --------------------------------------------------------------------------------------------------------


def optuna(kind: str, limit: float, most: int, storage: Path) -> dict[str, Any]:
    """Optuna's own loop of ask, report and tell, until its time is over."""
    warnings.simplefilter("ignore")
    import optuna as peer
    from optuna.storages.journal import JournalFileBackend

    peer.logging.set_verbosity(peer.logging.ERROR)
    engine, _, where = kind.partition("-")
    study = peer.create_study(
        sampler=peer.samplers.TPESampler(multivariate=True, seed=1)
        if engine == "tpe"
        else peer.samplers.RandomSampler(1),
        pruner=peer.pruners.SuccessiveHalvingPruner(min_resource=LOW, reduction_factor=ETA),
        storage=peer.storages.JournalStorage(JournalFileBackend(str(storage / "optuna.log")))
        if where == "journal"
        else None,
    )
    rng, laps, began, done = random.Random(1), Laps(most), time.perf_counter(), 0
    while done < most and (time.perf_counter() - began < limit or len(laps.wall) == 0):
        one_trial(study, peer.trial.TrialState, rng)
        done += 1
        laps.look(done)
    laps.trials = done
    began_again = (time.perf_counter(), time.process_time())
    if where == "journal":
        again = peer.load_study(
            study_name=study.study_name,
            storage=peer.storages.JournalStorage(JournalFileBackend(str(storage / "optuna.log"))),
        )
        assert len(again.trials) == done
    if where != "journal":
        return laps.result(journal_bytes=0)
    seconds, cpu = time.perf_counter() - began_again[0], time.process_time() - began_again[1]
    return laps.result(
        replay_from_events={"seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3)},
        journal_bytes=(storage / "optuna.log").stat().st_size,
    )


def one_trial(study: Any, states: Any, rng: random.Random) -> None:
    trial = study.ask()
    params = {
        "x": trial.suggest_float("x", 0.0, 1.0),
        "y": trial.suggest_float("y", 1e-4, 1.0, log=True),
        "kind": trial.suggest_categorical("kind", ["a", "b", "c"]),
    }
    for step in range(1, HIGH + 1):
        loss = loss_at(params, step, rng)
        trial.report(loss, step)
        if trial.should_prune():
            study.tell(trial, state=states.PRUNED)
            return
    study.tell(trial, loss)


# --- all of it -----------------------------------------------------------------------------------------------------


def measure(kind: str, storage: Path, **options: Any) -> dict[str, Any]:
    """Runs one measurement in a process of its own."""
    given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    print(f"  {kind} {' '.join(given)} …", end="", flush=True)
    command = [sys.executable, __file__, "--one", kind, "--storage", str(storage), *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{kind} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    said = found.get("seconds", sum(found.get("ms_a_trial", [])))
    print(f" {said:.1f} s")
    return found


def run_ours(kind: str, trials: int) -> dict[str, Any]:
    """Runs a study, and opens one that lies on the disk twice: from its snapshot, and from all its events."""
    engine, _, where = kind.partition("-")
    with scratch() as storage:
        found = measure(f"ours-{kind}", storage, trials=trials)
        if where == "disk":
            (storage / "scale.json").write_text(json.dumps({"engine": engine, "trials": trials}))
            found["replay_from_snapshot"] = measure("replay-snapshot", storage)
            found["replay_from_events"] = measure("replay-events", storage)
    return found


@contextmanager
def scratch() -> Iterator[Path]:
    """Gives a directory that goes away."""
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        yield Path(name)


def one(kind: str, given: argparse.Namespace) -> dict[str, Any]:
    name, _, detail = kind.partition("-")
    run: Mapping[str, Callable[[], dict[str, Any]]] = {
        "ours": lambda: ours(detail, given.trials, given.storage),
        "replay": lambda: replay(given.storage, snapshots=detail == "snapshot"),
        "optuna": lambda: optuna(detail, given.limit, given.trials, given.storage),
    }
    return run[name]()


def named(whose: str, kind: str, trials: int) -> str:
    return f"{whose}, {kind.replace('-', ', ')}, {trials:,}"


def compared(own: Mapping[str, Any], peer: Mapping[str, Any]) -> dict[str, float]:
    """Returns their milliseconds over ours, in the thousand of trials that they did last."""
    last = min(len(peer["ms_a_trial"]), len(own["ms_a_trial"])) - 1
    return {
        "thousand": last + 1,
        "ratio": round(peer["ms_a_trial"][last] / own["ms_a_trial"][last], 1),
        "cpu_ratio": round(peer["cpu_ms_a_trial"][last] / own["cpu_ms_a_trial"][last], 1),
    }


def rows(found: Mapping[str, Any]) -> Iterator[str]:
    heads = [
        ("", 32),
        ("first 1,000", 16),
        ("last 1,000", 16),
        ("bytes", 8),
        ("MB a", 7),
        ("snapshot", 15),
        ("events", 15),
    ]
    units = ["clock (processor)", "ms a trial", "ms a trial", "a trial", "1,000", "opens, s", "open, s"]
    yield "".join(f"{head:>{width}}" for head, width in heads)
    yield "".join(f"{unit:>{width}}" for unit, (_, width) in zip(units, heads, strict=True))
    for name, run in found.items():
        trials = run["trials"]
        costs = [f"{run['ms_a_trial'][at]:.3f} ({run['cpu_ms_a_trial'][at]:.3f})" for at in (0, -1)]
        opened = [f"{run[key]['seconds']:.2f} ({run[key]['cpu_seconds']:.2f})" if key in run else "" for key in REPLAYS]
        yield (
            f"{name:32}{costs[0]:>16}{costs[1]:>16}{run['journal_bytes'] / trials:8.0f}"
            f"{run['memory_mb_a_thousand_trials']:7.2f}{opened[0]:>15}{opened[1]:>15}"
        )


def main() -> None:
    """Measures, prints a table, and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer trials; about a minute")
    parser.add_argument("--json", metavar="FILE", help="where to write the figures")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--trials", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--storage", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one, given)))
        return
    limit, most = (10, 2_000) if given.quick else (60, 10_000)
    large, middle = (10_000, 1_000) if given.quick else (100_000, 3_000)
    # each peer right behind ours: a busy hour of the machine hits both
    beside = {
        "random-journal": [("random-disk", trials) for trials in sorted({1_000, 10_000, large})],
        "random-memory": [("random-memory", large)],
        "tpe-memory": [("tpe-memory", middle)],
    }
    found, ratios = {}, {}
    for peer, sizes in beside.items():
        for kind, trials in sizes:
            own = found[named("ours", kind, trials)] = run_ours(kind, trials)
        with scratch() as storage:
            run = measure(f"optuna-{peer}", storage, trials=most, limit=limit)
        found[named("Optuna", peer, run["trials"])] = run
        ratios[f"optuna_{peer.replace('-', '_')}"] = compared(own, run)
    print()
    print("\n".join(rows(found)))
    for name, ratio in ratios.items():
        print(
            f"{name}: {ratio['ratio']} times ours on the clock, {ratio['cpu_ratio']} times of the processor's time, "
            f"in the thousand up to trial {ratio['thousand'] * THOUSAND:,}"
        )
    largest = max((run for name, run in found.items() if name.startswith("ours")), key=lambda run: run["trials"])
    spread = largest["cpu_ms_a_trial"]
    print(
        f"ours, {largest['trials']:,} trials: the median thousand took {statistics.median(spread):.3f} ms of the "
        f"processor's time a trial, the last ÷ the first {spread[-1] / spread[0]:.2f}; "
        f"the longest answer {largest['longest_answer_seconds']} s"
    )
    if given.json:
        from orchestrator.tuning.versions import versions

        report = {
            "name": "scale",
            "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "load": os.getloadavg()},
            "versions": versions(),
            "runs": found,
            "ratios": ratios,
        }
        Path(given.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
