from dataclasses import replace

import pytest

from deploy.rollout.evidence import ArmCounts, Evidence, EvidenceBook, Judgement
from deploy.rollout.judge import LEAST_REQUESTS, LEAST_SLOW_SECONDS, MOST_DEATHS, Action, Rollout, judge, slow_limit
from orchestrator.domain.rollout import RolloutPlan

BEGAN = "2026-01-01T00:00:00.000+00:00"
SOON = "2026-01-01T00:00:10.000+00:00"
LATER = "2026-01-01T00:01:00.000+00:00"
PLAN = RolloutPlan("canary", (0.0, 0.05, 0.25))
ROLLOUT = Rollout(7, 2, "file:///b", PLAN, 0.01, BEGAN)

USUAL = ArmCounts(asked=1000)


def seen(challenger: ArmCounts, champion: ArmCounts = USUAL, **more: int) -> Evidence:
    return Evidence(champion, challenger, **more)


def test_a_step_lasts_its_time_and_no_longer():
    evidence = seen(ArmCounts(asked=500))
    assert judge(ROLLOUT, evidence, SOON).action is Action.STAY
    assert judge(ROLLOUT, evidence, LATER).action is Action.ADVANCE
    assert judge(replace(ROLLOUT, step=2), evidence, LATER).action is Action.FINISH


def test_time_alone_moves_nothing_forward():
    assert judge(ROLLOUT, seen(ArmCounts(asked=LEAST_REQUESTS - 1)), LATER).action is Action.STAY
    assert judge(ROLLOUT, seen(ArmCounts(asked=LEAST_REQUESTS)), LATER).action is Action.ADVANCE


def test_a_step_by_requests_counts_those_of_the_step():
    rollout = replace(ROLLOUT, plan=replace(PLAN, seconds=None, requests=100), step=1, asked=300)
    assert judge(rollout, seen(ArmCounts(asked=399)), LATER).action is Action.STAY
    assert judge(rollout, seen(ArmCounts(asked=400)), SOON).action is Action.ADVANCE


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (seen(ArmCounts(asked=40, failed=8)), "it failed at 8 of 40 requests, the champion at 0 of 1000 requests"),
        (seen(ArmCounts(asked=60, slow=40)), "it computed over 10 ms for 40 of 60 requests"),
        (
            seen(ArmCounts(asked=60, judged=60, wrong=40), ArmCounts(asked=1000, judged=500, wrong=50)),
            "it was wrong about 40 of 60 labels, the champion about 50 of 500",
        ),
    ],
)
def test_what_is_proved_against_a_challenger_takes_it_out_and_is_said(evidence, reason):
    verdict = judge(ROLLOUT, evidence, LATER)
    assert verdict.action is Action.WITHDRAW
    assert reason in verdict.why
    assert "alpha 0.05" in verdict.why


def test_disagreement_counts_only_where_the_plan_bounds_it():
    evidence = seen(ArmCounts(asked=100), compared=100, differed=90)
    assert judge(ROLLOUT, evidence, SOON).action is Action.STAY
    bounded = replace(ROLLOUT, plan=replace(PLAN, disagreement=0.5))
    assert "it answered 90 of 100 requests differently; 50% may be" in judge(bounded, evidence, SOON).why


def test_a_challenger_that_fails_as_often_as_the_champion_stays():
    evidence = seen(ArmCounts(asked=500, failed=100), ArmCounts(asked=5000, failed=1000))
    assert judge(ROLLOUT, evidence, SOON).action is Action.STAY


def test_one_death_may_be_the_hosts_fault_and_two_are_the_challengers():
    assert judge(ROLLOUT, seen(ArmCounts(asked=10), deaths=MOST_DEATHS - 1), SOON).action is Action.STAY
    verdict = judge(ROLLOUT, seen(ArmCounts(asked=10), deaths=MOST_DEATHS), SOON)
    assert (verdict.action, verdict.why) == (Action.WITHDRAW, "2 replicas died while it computed in them")


def test_slow_is_measured_by_the_champion_and_never_by_noise():
    assert slow_limit(PLAN, 0.02) == pytest.approx(0.06)
    assert slow_limit(PLAN, 0.0001) == slow_limit(PLAN, None) == LEAST_SLOW_SECONDS


# --- the book ------------------------------------------------------------------------------------------------------

ONE = seen(ArmCounts(asked=3, failed=1), ArmCounts(asked=10))


def test_a_report_that_comes_twice_counts_once_and_replicas_add_up():
    book = EvidenceBook()
    book.begin(7)
    for replica in ("a", "b", "a"):
        book.take(replica, 7, ONE)
    assert (book.of(7).challenger.asked, book.of(7).challenger.failed, book.of(7).champion.asked) == (6, 2, 20)


def test_reports_of_another_rollout_are_passed_over_and_a_new_one_begins_at_nothing():
    book = EvidenceBook()
    book.begin(7)
    book.take("a", 6, ONE)
    assert book.of(7) == Evidence()
    book.take("a", 7, ONE)
    assert (book.of(7), book.of(9)) == (ONE, Evidence())
    book.begin(9)
    assert book.of(9) == Evidence()


def test_a_death_counts_once_and_in_its_rollout_alone():
    book = EvidenceBook()
    book.begin(7)
    for box, rollout in (("a", 7), ("a", 7), ("b", 6), ("c", 7)):
        book.mourn(box, rollout)
    assert (book.of(7).deaths, EvidenceBook.from_dict(book.to_dict()).of(7).deaths) == (2, 2)
    book.begin(9)
    assert book.of(9).deaths == 0


def test_a_label_counts_once_for_its_version_and_its_arm():
    book = EvidenceBook()
    book.begin(7)
    assert book.judge(Judgement("x", version=2, rollout=7, judged=1, wrong=1), challenger=2)
    assert not book.judge(Judgement("x", version=2, rollout=7, judged=1, wrong=1), challenger=2)
    book.judge(Judgement("y", version=1, rollout=7, judged=2, wrong=0), challenger=2)
    book.judge(Judgement("z", version=1, rollout=0, judged=1, wrong=1), challenger=2)
    assert (book.of(7).challenger.judged, book.of(7).challenger.wrong) == (1, 1)
    assert (book.of(7).champion.judged, book.of(7).champion.wrong) == (2, 0)
    assert book.versions == {1: (3, 1), 2: (1, 1)}


def test_the_book_comes_back_as_it_was():
    book = EvidenceBook()
    book.begin(7)
    book.take("a", 7, ONE)
    book.judge(Judgement("x", 2, 7, 1, 1), challenger=2)
    again = EvidenceBook.from_dict(book.to_dict())
    assert (again.rollout, again.of(7), again.versions) == (7, book.of(7), book.versions)
