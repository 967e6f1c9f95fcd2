"""A whole cluster on a virtual clock: the real study and its journal, simulated workers, hosts and network.

Everything random comes from one seed, so that a failing course replays exactly. Messages are late, lost and doubled;
workers straggle, crash and come back after they were given up; hosts fall silent; the study's writer dies at any write
of its journal, before or after the write reached the storage.
"""

import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.errors import ExchangeRefused
from orchestrator.domain.events import Event, from_record
from orchestrator.domain.exchange import Answer, ExportResult, Message, Progress, Run
from orchestrator.domain.specification import StudySpecification
from orchestrator.domain.trials import CheckpointRef, Decision, Failure
from orchestrator.journal import MemoryJournal
from orchestrator.study import Phase, StudyKeeper, new_study, replay
from orchestrator.study.laws import violations
from orchestrator.study.snapshot import encode
from orchestrator.study.state import StudyState

MOST_EVENTS = 400_000  # of a course; one that needs more will never end


@dataclass(frozen=True)
class Weather:
    """What may go wrong, and how often: probabilities per message, per stretch of work, per write."""

    workers: int = 4
    lost: float = 0.05
    doubled: float = 0.05
    straggling: float = 0.05
    crashes: float = 0.02
    failures: float = 0.02
    not_finite: float = 0.02
    silent_hosts: float = 0.0
    writer_dies: float = 0.02
    saves: float = 1.0  # share of the trials that have checkpoints
    promotion_refused: float = 0.1
    compact_at: float = math.inf  # events after which the writer takes a snapshot


class WriterDied(Exception):
    """The study's process ended in the middle of a write."""


class FragileJournal:
    """A journal whose writer may die at each write, before or after it is on the storage. Survives its writers."""

    def __init__(self, rng: random.Random, weather: Weather) -> None:
        self._kept = MemoryJournal()
        self._rng = rng
        self._weather = weather
        self.epoch = 0
        self.writer = ""
        self.deaths = 0
        self.writes = 0
        self.compactions = 0
        self.dies_at: int | None = None
        """A write at which the writer dies for certain."""

    def next_writer(self) -> None:
        self.epoch += 1
        self.writer = f"writer{self.epoch}"

    def append(self, events: Sequence[Any], *, durable: bool = True) -> None:
        self._write(lambda: self._kept.append(events, durable=durable))

    def compact(self, state: bytes) -> None:
        self.compactions += 1
        self._write(lambda: self._kept.compact(state))

    def _write(self, act: Callable[[], None]) -> None:
        self.writes += 1
        dies = self.writes == self.dies_at or self._rng.random() < self._weather.writer_dies
        if dies and self._rng.random() < 0.5:
            self._die()
        act()
        if dies:
            self._die()

    def _die(self) -> None:
        self.deaths += 1
        raise WriterDied

    def read(self) -> Any:
        return self._kept.read()

    def resume(self) -> Any:
        return self._kept.resume()

    def close(self) -> None:
        pass

    def events(self) -> list[Event]:
        return [from_record(record) for batch in self.read() for record in batch]


@dataclass
class Held:
    """A trial in a simulated worker's hands."""

    order: Run
    until: int
    step: int
    untold: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    checkpoint: CheckpointRef | None = None
    failure: Failure | None = None


@dataclass
class SimulatedWorker:
    """One worker's process."""

    name: str
    host: str
    pace: float
    epoch: int = 0
    held: Held | None = None
    exports: tuple[ExportResult, ...] = ()
    is_dead: bool = False


class Simulator:
    """One course of one study. `run` returns the state after its end."""

    def __init__(
        self, specification: StudySpecification, seed: int, weather: Weather, dies_at: int | None = None
    ) -> None:
        self.specification = specification
        self.weather = weather
        self.rng = random.Random(seed)
        self.now = 1_000_000.0
        self.acknowledged: list[tuple[str, Any]] = []
        self.journal = FragileJournal(self.rng, weather)
        self.journal.dies_at = dies_at
        self.keeper: StudyKeeper | None = None
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._names = itertools.count()
        self._workers: dict[str, SimulatedWorker] = {}
        self._saving = random.Random(seed).random() < weather.saves

    def run(self) -> StudyState:
        self._open_at_last()
        for _ in range(self.weather.workers):
            self._later(self.rng.random(), self._new_worker)
        self._later(0.5, self._tick)
        for _ in range(MOST_EVENTS):
            if not self._queue:
                break
            self.now, _, act = heapq.heappop(self._queue)
            self._survive(act)
        assert not self._queue, f"the study did not end within {MOST_EVENTS} events: {self._describe()}"
        self.keeper = None
        self._open_at_last()  # the last writer's successor sees the same
        assert self.keeper is not None
        return self.keeper.study.state

    def check(self, state: StudyState) -> None:
        """Raises unless the laws hold and whatever was acknowledged is there."""
        events = self.journal.events()
        assert state.phase is Phase.ENDED, self._describe()
        assert violations(state, events) == []
        assert not any(state.held.values())
        whole = new_study(self.specification)
        count = replay(whole, self.journal.read())
        assert encode(state, count) == encode(whole.state, count), "from the snapshot, and from all events"
        for kind, what in self.acknowledged:
            if kind == "checkpoint":
                trial, ref = what
                known = state.trials[trial].checkpoint
                assert known is not None
                assert known.step >= ref.step, f"the acknowledged checkpoint {ref} of trial {trial} is gone"
            elif kind == "order":
                assert state.trials[what].attempt >= 0, f"the trial of an order, {what}, is gone"

    def _describe(self) -> str:
        assert self.keeper is not None
        state = self.keeper.study.state
        return f"{state.phase} {state.reason}, {dict(state.counts)}, {len(state.trials)} trials, at {self.now:.0f}"

    # --- time --------------------------------------------------------------------------------------------------

    def _later(self, delay: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._order), act))

    def _survive(self, act: Callable[[], None]) -> None:
        try:
            act()
        except WriterDied:
            self.keeper = None
            self._later(self.rng.uniform(0.1, 3.0), self._open)

    # --- the study's process -----------------------------------------------------------------------------------

    def _open_at_last(self) -> None:
        while self.keeper is None:
            with suppress(WriterDied):
                self._open()

    def _open(self) -> None:
        if self.keeper is None:
            self.journal.next_writer()
            self.keeper = StudyKeeper.of_journal(
                self.journal,
                self.specification,
                lambda: self.now,
                defaults={"x": 0.0},
                code_sha256="c",
                compact_at=self.weather.compact_at,
            )

    def _tick(self) -> None:
        if self.keeper is not None:
            self._later(0.5, self._tick)  # first: the tick itself may kill the writer
            keeper = self.keeper
            keeper.study.workers = self.weather.workers
            for host in {worker.host for worker in self._workers.values()}:
                if self.rng.random() >= self.weather.silent_hosts:
                    keeper.beat(host)
            keeper.tick()
            challenger = keeper.study.challenger()
            if challenger is not None:
                if self.rng.random() < self.weather.promotion_refused:
                    keeper.rejected(challenger["bundle"], "the gate")
                else:
                    keeper.promoted(challenger["bundle"], "1")
            self._end_given_up(keeper)
            if keeper.study.state.phase is Phase.ENDED and not self._workers:
                self._queue.clear()
        else:
            self._later(0.5, self._tick)

    def _end_given_up(self, keeper: StudyKeeper) -> None:
        """The runner ends the processes of workers that the study gave up, sooner or later, and starts others."""
        for name in sorted(keeper.study.fenced & set(self._workers)):
            if self.rng.random() < 0.5:
                self._end_worker(self._workers[name])

    # --- workers -----------------------------------------------------------------------------------------------

    def _new_worker(self) -> None:
        if self.keeper is None:
            self._later(1.0, self._new_worker)
            return
        if not self.keeper.study.is_waiting_for_workers():
            return
        number = next(self._names)
        slow = self.rng.random() < self.weather.straggling
        pace = self.rng.uniform(0.05, 0.2) * (50 if slow else 1)
        worker = SimulatedWorker(f"w{number}", f"host{number % 7}", pace)
        self._workers[worker.name] = worker
        self._speak(worker)

    def _end_worker(self, worker: SimulatedWorker) -> None:
        worker.is_dead = True
        self._workers.pop(worker.name, None)
        self._later(self.rng.uniform(0.5, 3.0), self._new_worker)

    def _crash(self, worker: SimulatedWorker) -> None:
        self._end_worker(worker)
        self._later(self.rng.uniform(0.0, 1.0), lambda: self._tell_loss(worker.name))

    def _tell_loss(self, name: str) -> None:
        """The runner tells the study of a dead worker until it has heard it."""
        if self.keeper is None:
            self._later(0.5, lambda: self._tell_loss(name))
            return
        try:
            self.keeper.worker_lost(name, cause="killed", blame=True)
        except WriterDied:
            self._later(0.5, lambda: self._tell_loss(name))
            raise

    def _speak(self, worker: SimulatedWorker) -> None:
        """Sends the worker's word; again and again until an answer comes."""
        if worker.is_dead:
            return
        message = Message.from_dict(self._message(worker).to_dict())
        doubled = self.rng.random() < self.weather.doubled
        life = self.journal.epoch
        self._later(self.rng.uniform(0.001, 0.01), lambda: self._arrive(worker, message, life, wanted=True))
        if doubled:
            self._later(self.rng.uniform(0.001, 5.0), lambda: self._arrive(worker, message, life, wanted=False))

    def _message(self, worker: SimulatedWorker) -> Message:
        progress: tuple[Progress, ...] = ()
        if worker.held is not None:
            held = worker.held
            progress = (
                Progress(
                    held.order.trial, held.order.attempt, tuple(held.untold), held.checkpoint, False, held.failure
                ),
            )
        return Message(worker.name, worker.epoch, worker.host, progress, worker.exports, 1)

    def _arrive(self, worker: SimulatedWorker, message: Message, life: int, *, wanted: bool) -> None:
        if worker.is_dead and life != self.journal.epoch:
            return  # it was on its way to another process, and there is nobody to send it again
        if wanted:  # whatever becomes of this one, the worker asks again if it hears nothing
            answered: list[Answer] = []
            self._later(2.0, lambda: None if answered or worker.is_dead else self._speak(worker))
        if self.keeper is None or self.rng.random() < self.weather.lost:
            return
        try:
            answer = Answer.from_dict(self.keeper.exchange(message).to_dict())
        except ExchangeRefused:
            return
        if wanted and not worker.is_dead and self.rng.random() >= self.weather.lost:
            answered.append(answer)
            self._note(message, answer)
            self._obey(worker, answer)

    def _note(self, message: Message, answer: Answer) -> None:
        """Remembers what this answer acknowledged."""
        if answer.fenced:
            return
        for progress in message.progress:
            verdict = answer.verdicts[progress.trial]
            if progress.checkpoint is not None and verdict.decision is not Decision.STOP:  # STOP may mean "not yours"
                self._acknowledge_checkpoint(message.worker, progress)
        self.acknowledged += [("order", run.trial) for run in answer.runs]

    def _acknowledge_checkpoint(self, worker: str, progress: Progress) -> None:
        assert self.keeper is not None
        trial = self.keeper.study.state.trials[progress.trial]
        if (trial.worker, trial.attempt) == (worker, progress.attempt):
            self.acknowledged.append(("checkpoint", (progress.trial, progress.checkpoint)))

    def _obey(self, worker: SimulatedWorker, answer: Answer) -> None:
        worker.epoch = max(worker.epoch, answer.epoch)
        worker.exports = ()
        if answer.fenced or answer.release:
            self._end_worker(worker) if answer.fenced else self._workers.pop(worker.name, None)
            worker.is_dead = True
            return
        held = worker.held
        if held is not None:
            verdict = answer.verdicts[held.order.trial]
            held.untold, held.checkpoint = [], None
            held.until = verdict.until
            if verdict.decision is not Decision.CONTINUE:
                worker.held = None
        if answer.runs:
            assert worker.held is None, "a worker with a trial was given another"
            order = answer.runs[0]
            worker.held = Held(order, order.until, order.checkpoint.step if order.checkpoint else 0)
        if answer.exports:
            order_ = answer.exports[0]
            refused = self.rng.random() < 0.2
            worker.exports = (
                ExportResult(order_.bundle, error="not equal") if refused else ExportResult(order_.bundle, uri="b"),
            )
        self._work(worker, answer.wait_seconds)

    def _work(self, worker: SimulatedWorker, wait: float) -> None:
        held = worker.held
        if held is None:
            self._later(wait or 0.01, lambda: self._speak(worker))
            return
        if self.rng.random() < self.weather.crashes:
            self._later(self.rng.random(), lambda: self._crash(worker))
            return
        steps = held.until - held.step
        if self.rng.random() < 0.3:  # a word between two milestones
            steps = self.rng.randint(1, max(1, steps))
        self._later(steps * worker.pace, lambda: self._stretch(worker, held, steps))

    def _stretch(self, worker: SimulatedWorker, held: Held, steps: int) -> None:
        if worker.is_dead:
            return
        for _ in range(steps):
            held.step += 1
            value = float(held.order.params["x"]) ** 2 + 1 / held.step  # type: ignore[arg-type]
            held.untold.append((held.step, {"loss": value}))
        if self.rng.random() < self.weather.failures:
            held.failure = Failure("error", "no luck", "", f"at {self.rng.randint(0, 50)}")
        elif self.rng.random() < self.weather.not_finite:
            held.untold[-1] = (held.step, {"loss": float("nan")})
        elif self._saving and (held.step >= held.until or self.rng.random() < 0.2):
            held.checkpoint = CheckpointRef(held.step, f"{held.order.trial}/{held.step}", "hash", 1)
        self._speak(worker)
