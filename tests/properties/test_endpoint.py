"""An endpoint under any course of offers, verdicts and decisions by hand."""

import orjson
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from deploy.bundle import Lineage
from deploy.rollout.decisions import (
    decide_by_hand,
    decide_challenge,
    decide_freeze,
    decide_promotion,
    decide_rollback,
    decide_verdict,
    why_not_now,
)
from deploy.rollout.evidence import ArmCounts, Evidence
from deploy.rollout.history import answering, changes
from deploy.rollout.judge import Action, Verdict
from deploy.rollout.state import EndpointState, replay
from deploy.rollout.versions import Offer
from orchestrator.domain.errors import EndpointError
from orchestrator.domain.rollout import RolloutPlan

BUNDLES = st.sampled_from("abcdef")
PLANS = st.sampled_from([RolloutPlan(), RolloutPlan("shadow", (0.0,)), RolloutPlan("canary", (0.0, 0.1, 0.5))])


class EndpointMachine(RuleBasedStateMachine):
    """Decides as the endpoint actor does, and keeps what it journalled."""

    def __init__(self) -> None:
        super().__init__()
        self.state = EndpointState()
        self.journal: list[list[dict]] = []

    def said(self) -> dict[str, str]:
        moment = (
            f"2026-01-01T{len(self.journal) // 3600:02}:{len(self.journal) // 60 % 60:02}:{len(self.journal) % 60:02}"
        )
        return {"who": "somebody", "why": "so", "at": f"{moment}+00:00"}

    def enter(self, events) -> None:
        self.journal.append(orjson.loads(orjson.dumps(events)))
        before = self.state
        for event in events:
            self.state = self.state.apply(event)
        if before.routing != self.state.routing:
            assert self.state.generation > before.generation, "replicas follow a later decision only"

    def offer_of(self, digest: str) -> Offer:
        return Offer(f"file:///{digest}", digest, Lineage("s", ord(digest), 1))

    @rule(digest=BUNDLES, plan=PLANS)
    def a_study_offers(self, digest: str, plan: RolloutPlan) -> None:
        offer, before = self.offer_of(digest), self.state
        if why_not_now(before, offer) is None:
            self.enter(decide_challenge(before, offer, plan, 0.01, **self.said()))
        if before.current is not None and (before.frozen or before.rollout or before.current.digest == digest):
            assert self.state == before, "only by hand"

    @rule(digest=BUNDLES)
    def somebody_promotes_a_bundle(self, digest: str) -> None:
        self.enter(decide_promotion(self.state, self.offer_of(digest), **self.said()))
        assert self.state.current.digest == digest
        assert self.state.rollout is None

    @rule(action=st.sampled_from(Action), asked=st.integers(0, 10**6))
    def the_evidence_is_judged(self, action: Action, asked: int) -> None:
        rollout, current = self.state.rollout, self.state.current
        if action is Action.ADVANCE and rollout is not None and rollout.step + 1 == len(rollout.plan.steps):
            action = Action.FINISH
        evidence = Evidence(challenger=ArmCounts(asked=asked))
        self.enter(decide_verdict(self.state, Verdict(action, "so"), evidence, at=self.said()["at"]))
        if self.state.frozen or rollout is None or action is Action.STAY:
            assert (self.state.rollout, self.state.current) == (rollout, current)
        elif action is Action.WITHDRAW:
            assert self.state.current == current
            assert rollout.version in self.state.withdrawn

    @rule(number=st.integers(1, 7))
    def somebody_promotes_a_version(self, number: int) -> None:
        try:
            self.enter(decide_by_hand(self.state, number, **self.said()))
        except EndpointError:
            assert number not in self.state.versions
        else:
            assert (self.state.current.number, self.state.rollout) == (number, None)

    @rule(number=st.none() | st.integers(1, 7))
    def somebody_rolls_back(self, number: int | None) -> None:
        try:
            self.enter(decide_rollback(self.state, number, **self.said()))
        except EndpointError:
            assert number not in self.state.versions
        else:
            assert self.state.rollout is None

    @rule(frozen=st.booleans())
    def somebody_freezes(self, frozen: bool) -> None:
        self.enter(decide_freeze(self.state, frozen=frozen, **self.said()))
        assert bool(self.state.frozen) is frozen

    @invariant()
    def replay_is_the_live_state(self) -> None:
        assert replay(self.journal) == self.state

    @invariant()
    def a_challenger_stands_beside_a_champion_and_is_another(self) -> None:
        rollout, current = self.state.rollout, self.state.current
        assert rollout is None or (current is not None and current.number != rollout.version)
        assert current is None or current.number not in self.state.withdrawn

    @invariant()
    def a_bundle_has_one_number_and_numbers_have_no_gap(self) -> None:
        digests = [version.digest for version in self.state.versions.values()]
        assert len(set(digests)) == len(digests)
        assert set(self.state.versions) == set(range(1, len(digests) + 1))

    @invariant()
    def the_history_says_what_is_routed(self) -> None:
        course = list(changes(self.journal))
        last, routing = answering(course, "2027-01-01"), self.state.routing
        if routing is None:
            assert last is None or not last.shares
            return
        contest = routing.contest
        weight = 0.0 if contest is None else contest.weight
        expected = {routing.version: 1.0 - weight} | ({contest.version: weight} if contest and weight else {})
        assert last.shares == expected
        assert last.shadow == (contest.version if contest and not weight else None)


TestEndpoint = EndpointMachine.TestCase
