"""The decision about a challenger: it stays, takes the next step, becomes the champion, or is withdrawn.

Pure: a rollout, the evidence and the time in, a verdict out. It is withdrawn by sequential tests, each of a hypothesis
that holds for a challenger which is no worse: its share of failed requests is at most `errors` above the champion's,
its share of slow ones at most `SLOW_TOLERANCE` above, its answers differ in at most the share `disagreement`, its
answers are wrong no more often than the champion's, by the labels that came. Each test has a quarter of `alpha`, so
that the chance of withdrawing such a challenger is at most `alpha` over the whole rollout, whenever somebody looks
(Bonferroni; see `sequential`). That holds for requests whose outcomes are independent: one client that sends one bad
row a thousand times counts as a thousand.

It is also withdrawn, without a test, when `MOST_DEATHS` processes died just while it computed in them: one may be the
host's fault.

It goes forward by time or by requests, never without requests.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from deploy.rollout.evidence import Evidence
from deploy.rollout.sequential import evidence_above, evidence_of_more
from orchestrator.domain.rollout import SHADOW, RolloutPlan

TESTS = 4  # that share alpha
SLOW_TOLERANCE = 0.05  # of a larger share of slow answers; they come in bursts that are nobody's fault
LEAST_SLOW_SECONDS = 0.002  # of computing: no client notices less, whatever the ratio is
MOST_DEATHS = 2
LEAST_REQUESTS = 20  # of a step, however long it lasted: a challenger that nobody asked has shown nothing


class Action(StrEnum):
    """What becomes of a rollout now."""

    STAY = "stay"
    ADVANCE = "advance"
    FINISH = "finish"
    WITHDRAW = "withdraw"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An action, and why."""

    action: Action
    why: str = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A challenger on its way.

    `number` identifies the rollout (the generation of the decision that began it), `slow_seconds` is above which an
    answer is slow, `step` the place in the plan, `since` when that step began (ISO 8601), and `asked` how many requests
    the challenger had had by then.
    """

    number: int
    version: int
    uri: str
    plan: RolloutPlan
    slow_seconds: float
    since: str
    step: int = 0
    asked: int = 0

    @property
    def weight(self) -> float:
        """The challenger's share of the requests."""
        return self.plan.steps[self.step]

    @property
    def stage(self) -> str:
        """Where it stands, for people."""
        return "shadow" if self.weight == SHADOW else f"canary {self.weight:.0%}"

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return {
            "number": self.number,
            "version": self.version,
            "stage": self.stage,
            "weight": self.weight,
            "step": self.step,
            "steps": list(self.plan.steps),
            "since": self.since,
        }


def judge(rollout: Rollout, evidence: Evidence, now: str) -> Verdict:
    """Returns what becomes of the rollout at `now` (ISO 8601)."""
    complaint = _complaint(rollout, evidence)
    if complaint is not None:
        return Verdict(Action.WITHDRAW, complaint)
    asked = evidence.challenger.asked - rollout.asked
    lasted = (datetime.fromisoformat(now) - datetime.fromisoformat(rollout.since)).total_seconds()
    plan = rollout.plan
    if plan.requests is not None:
        is_over = asked >= plan.requests
    else:
        is_over = plan.seconds is not None and lasted >= plan.seconds and asked >= LEAST_REQUESTS
    if not is_over:
        return Verdict(Action.STAY)
    why = f"{asked} requests in {lasted:.0f} s at {rollout.stage}, nothing against it"
    return Verdict(Action.ADVANCE if rollout.step + 1 < len(plan.steps) else Action.FINISH, why)


def _complaint(rollout: Rollout, evidence: Evidence) -> str | None:
    """Returns what is proved against the challenger, or None."""
    if evidence.deaths >= MOST_DEATHS:
        return f"{evidence.deaths} replicas died while it computed in them"
    plan, mine, other = rollout.plan, evidence.challenger, evidence.champion
    found = {
        f"failed at {_share(mine.failed, mine.asked)}, the champion at {_share(other.failed, other.asked)}": (
            evidence_of_more(mine.failed, mine.asked, other.failed, other.asked, plan.errors)
        ),
        f"computed over {rollout.slow_seconds * 1000:.3g} ms for {_share(mine.slow, mine.asked)}, the champion for "
        f"{_share(other.slow, other.asked)}": (
            evidence_of_more(mine.slow, mine.asked, other.slow, other.asked, SLOW_TOLERANCE)
        ),
        f"was wrong about {_share(mine.wrong, mine.judged, 'labels')}, the champion about "
        f"{_share(other.wrong, other.judged, 'labels')}": (
            evidence_of_more(mine.wrong, mine.judged, other.wrong, other.judged)
        ),
    }
    if plan.disagreement is not None:
        what = f"answered {_share(evidence.differed, evidence.compared)} differently; {plan.disagreement:.0%} may be"
        found[what] = evidence_above(evidence.differed, evidence.compared, plan.disagreement)
    what, most = max(found.items(), key=lambda item: item[1])
    return f"it {what} (alpha {plan.alpha:g})" if most >= math.log(TESTS / plan.alpha) else None


def _share(part: int, whole: int, of: str = "requests") -> str:
    return f"{part} of {whole} {of}"


def slow_limit(plan: RolloutPlan, champion_seconds: float | None) -> float:
    """Returns above which time an answer is slow, from what nine of ten of the champion's took (None: not known)."""
    return max(LEAST_SLOW_SECONDS, plan.slower * (champion_seconds or 0.0))
