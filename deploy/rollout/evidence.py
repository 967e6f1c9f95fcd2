"""What a rollout has seen so far: counts of both arms, and the book in which the endpoint actor adds them up.

Replicas send what they counted since a rollout began, not what is new: the same report twice counts once, and an
endpoint actor that comes back learns everything from the next report of each replica. What dead replicas counted is in
the book, which lies beside the journal.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """One arm: requests that it was asked, failed at and was slow with; labels that came, and that were not its."""

    asked: int = 0
    failed: int = 0
    slow: int = 0
    judged: int = 0
    wrong: int = 0

    def __add__(self, other: "ArmCounts") -> "ArmCounts":
        return ArmCounts(
            self.asked + other.asked,
            self.failed + other.failed,
            self.slow + other.slow,
            self.judged + other.judged,
            self.wrong + other.wrong,
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """Both arms, how many requests both answered and how many of them differently, and how many processes died
    computing for the challenger."""

    champion: ArmCounts = field(default_factory=ArmCounts)
    challenger: ArmCounts = field(default_factory=ArmCounts)
    compared: int = 0
    differed: int = 0
    deaths: int = 0

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(
            self.champion + other.champion,
            self.challenger + other.challenger,
            self.compared + other.compared,
            self.differed + other.differed,
            self.deaths + other.deaths,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Evidence":
        """Returns the evidence that `to_dict` wrote."""
        arms = {arm: ArmCounts(**{name: int(count) for name, count in given[arm].items()}) for arm in ARMS}
        deaths = int(given.get("deaths", 0))  # which earlier versions did not count
        return cls(**arms, compared=int(given["compared"]), differed=int(given["differed"]), deaths=deaths)


ARMS = ("champion", "challenger")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What labels say of an answer: which version gave it, in which rollout (0: none), how often it was wrong."""

    answer: str
    version: int
    rollout: int
    judged: int
    wrong: int


class EvidenceBook:
    """Adds up one rollout's evidence, and every version's labels. One writer, the endpoint actor.

    Its parts are replaced, never changed, so that others may read them meanwhile.
    A label for an answer counts once: the latest `REMEMBERED` answers are known by the hashes of their ids, which take
    half the memory; that a new one meets one of theirs by chance happens once in 10^14 labels.
    """

    REMEMBERED = 100_000

    def __init__(self) -> None:
        self.rollout = 0
        self.versions: dict[int, tuple[int, int]] = {}  # version -> (labels judged, labels wrong), of all times
        self._replicas: dict[str, Evidence] = {}
        self._labels = Evidence()
        self._died: frozenset[str] = frozenset()
        self._known: dict[int, None] = {}

    def begin(self, rollout: int) -> None:
        """Forgets the evidence of another rollout."""
        if rollout != self.rollout:
            self.rollout, self._replicas, self._labels, self._died = rollout, {}, Evidence(), frozenset()

    def take(self, replica: str, rollout: int, evidence: Evidence) -> None:
        """Takes what a replica counted since the rollout began; of another rollout nothing is taken."""
        if rollout == self.rollout:
            self._replicas = {**self._replicas, replica: evidence}

    def mourn(self, death: str, rollout: int) -> None:
        """Takes the name of a death of a process that computed for the challenger of that rollout; each counts once."""
        if rollout == self.rollout:
            self._died |= {death}

    def judge(self, judgement: Judgement, challenger: int) -> bool:
        """Takes a label; returns whether it was new. `challenger` is the version that is in the rollout."""
        answer = hash(judgement.answer)
        if answer in self._known:
            return False
        self._known[answer] = None
        if len(self._known) > self.REMEMBERED:
            del self._known[next(iter(self._known))]
        judged, wrong = self.versions.get(judgement.version, (0, 0))
        counts = (judged + judgement.judged, wrong + judgement.wrong)
        self.versions = {**self.versions, judgement.version: counts}
        if judgement.rollout == self.rollout:
            arm = "challenger" if judgement.version == challenger else "champion"
            more = ArmCounts(judged=judgement.judged, wrong=judgement.wrong)
            self._labels = replace(self._labels, **{arm: getattr(self._labels, arm) + more})
        return True

    def of(self, rollout: int) -> Evidence:
        """Returns the evidence of all replicas and the labels in a rollout; nothing while nobody counted in it."""
        if rollout != self.rollout:
            return Evidence()
        return sum(self._replicas.values(), self._labels + Evidence(deaths=len(self._died)))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return {
            "rollout": self.rollout,
            "replicas": {name: evidence.to_dict() for name, evidence in self._replicas.items()},
            "labels": self._labels.to_dict(),
            "died": sorted(self._died),
            "versions": {str(version): list(counts) for version, counts in self.versions.items()},
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "EvidenceBook":
        """Returns the book that `to_dict` wrote."""
        book = cls()
        book.rollout = int(given["rollout"])
        book._replicas = {str(name): Evidence.from_dict(counts) for name, counts in given["replicas"].items()}
        book._labels = Evidence.from_dict(given["labels"])
        book._died = frozenset(given.get("died", ()))
        book.versions = {int(version): (int(j), int(w)) for version, (j, w) in given["versions"].items()}
        return book
