"""What the slots of a Tune experiment do for a study: one desk speaks the exchange for all of them at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.domain.errors import ExchangeRefused
from orchestrator.domain.events import Reports
from orchestrator.domain.exchange import Answer, Export, ExportResult, Message, Progress, Run
from orchestrator.domain.trials import CheckpointRef, Decision, Failure
from orchestrator.study import StudyKeeper
from orchestrator.tuning.worker import Port


@dataclass(frozen=True, slots=True)
class Word:
    """What a slot says in a result; an object, because Tune flattens dictionaries before its hooks see them."""

    reports: Reports = ()
    checkpoint: CheckpointRef | None = None
    failure: Failure | None = None
    export: ExportResult | None = None


class SlotDesk:
    """Speaks for all slots of one Tune experiment. Used by Tune's controller thread alone.

    `wanted` says how many slots there is room for now.
    """

    def __init__(self, name: str, port: Port, wanted: Callable[[], int], *, pass_order: bool = True) -> None:
        self.name = name
        self._wanted = wanted
        self.pass_order = pass_order
        self.errors: list[str] = []
        self.is_over = False
        self.metric, self.mode = "value", "max"  # what Tune looks for in a result; ours has its word beside it
        self._port = port
        self._epoch = 0
        self._held: dict[int, int] = {}  # trial -> attempt
        self._exporting: dict[str, str] = {}  # Tune's trial id -> bundle
        self._next: list[Run | Export] = []
        self.paused: dict[int, str] = {}  # trial -> Tune's trial id of the slot in which it was paused

    @classmethod
    def local(cls, keeper: StudyKeeper, slots: int = 1) -> "SlotDesk":
        """Returns the desk of a study in this process, for a trainable that knows nothing of studies."""
        desk = cls("tune", keeper.exchange, lambda: slots, pass_order=False)
        objective = keeper.study.specification.objective
        desk.metric, desk.mode = objective.metric, "max" if objective.maximize else "min"
        return desk

    def __getstate__(self) -> dict[str, Any]:
        # the Tuner pickles its hooks for a `Tuner.restore`, which a study has no use for: its journal is its memory
        return self.__dict__ | {"_port": _nobody, "_wanted": _none}

    def order(self) -> Run | Export | None:
        """Returns the study's next order without taking it; None while there is none, or no slot is free."""
        if not self._next and not self.is_over and len(self._held) + len(self._exporting) < self._wanted():
            answer = self._say(room=len(self._held) + 1)
            self.is_over = self.is_over or answer.release
        return self._next[0] if self._next else None

    def take(self) -> None:
        """Takes the order that `order` returned."""
        order = self._next.pop(0)
        if isinstance(order, Run):
            self._held[order.trial] = order.attempt

    @property
    def lacks_room(self) -> bool:
        """Whether more slots run than there is room for."""
        return len(self._held) + len(self._exporting) > self._wanted()

    def tell(self, progress: Progress, *, returned: bool = False) -> Decision:
        """Tells what a slot reported and returns the decision about its trial.

        With `returned` the slot lets go of it in any case, and a trial that is to go on does so later.
        """
        verdict = self._say((progress,), room=0, returned=(progress.trial,) * returned).verdicts.get(progress.trial)
        if returned:
            self._held.pop(progress.trial, None)
        if verdict is None or verdict.decision is not Decision.CONTINUE:
            self._held.pop(progress.trial, None)
            return Decision.STOP if verdict is None else verdict.decision
        return Decision.CONTINUE

    def export_began(self, trial_id: str, bundle: str) -> None:
        """A slot makes a bundle."""
        self._exporting[trial_id] = bundle

    def export_ended(self, trial_id: str, result: ExportResult) -> None:
        """A slot made a bundle, or did not."""
        if self._exporting.pop(trial_id, None) is not None:
            self._say(exports=(result,), room=0)

    def let_go(self, trial: int) -> None:
        """No slot runs the trial any more, and the study has to give it out again."""
        self._held.pop(trial, None)

    def let_go_of_export(self, trial_id: str) -> None:
        """The same of the bundle that a slot made."""
        self._exporting.pop(trial_id, None)

    def attempt_of(self, trial: int, otherwise: int) -> int:
        """Returns the attempt that a slot runs of a trial: a resumed slot has the order of its first start."""
        return self._held.get(trial, otherwise)

    @property
    def is_idle(self) -> bool:
        """Whether no slot has anything in its hands."""
        return not self._held and not self._exporting and not self._next

    def _say(
        self,
        progress: tuple[Progress, ...] = (),
        exports: tuple[ExportResult, ...] = (),
        room: int = 0,
        returned: tuple[int, ...] = (),
    ) -> Answer:
        told = {p.trial for p in progress}
        waiting = {o.trial: o.attempt for o in self._next if isinstance(o, Run)}
        still = tuple(Progress(t, a) for t, a in (self._held | waiting).items() if t not in told)
        making = (*self._exporting.values(), *(o.bundle for o in self._next if isinstance(o, Export)))
        word = Message(self.name, self._epoch, "", still + progress, exports, room, making=making, returned=returned)
        answer = self._port(word)
        self._epoch = answer.epoch
        self._next += [*answer.runs, *answer.exports]
        if answer.fenced:  # whatever the slots hold is theirs no more; a further experiment goes on
            self.is_over = True
            self._held.clear()
            self._exporting.clear()
            self._next.clear()
        return answer


def _none() -> int:
    return 0


def _nobody(message: Message) -> Answer:
    raise ExchangeRefused("a study is not restored by Tune: make a new Tuner, and it goes on from its journal")
