"""`history`, from the storage alone."""

import json

import numpy as np
import pytest

from deploy.answering.answer_id import AnswerIds
from deploy.bundle import Lineage, Prediction
from deploy.places import journal_directory
from deploy.rollout.decisions import decide_by_hand, decide_challenge, decide_freeze, decide_promotion, decide_verdict
from deploy.rollout.evidence import ArmCounts, Evidence, Judgement
from deploy.rollout.evidence_file import EvidenceFile
from deploy.rollout.judge import Action, Verdict
from deploy.rollout.state import EndpointState
from deploy.rollout.versions import Offer
from orchestrator.cli.program import execute
from orchestrator.domain.rollout import RolloutPlan
from orchestrator.domain.specification import StudySpecification
from orchestrator.journal import open_journal
from orchestrator.study import StudyKeeper

PLAN = RolloutPlan("canary", (0.0, 0.25))
EVIDENCE = Evidence(ArmCounts(asked=100), ArmCounts(asked=40, failed=8))


def minute(number: int) -> str:
    return f"2026-01-01T12:{number:02}:00.000+00:00"


def offer(digest: str, trial: int) -> Offer:
    lineage = Lineage("digits", trial, 9, {"lr": 0.1}, 0.9, "accuracy", "da7a", 7, {"torch": "2"}, minute(0))
    return Offer(f"file:///bundles/{digest}", digest * 16, lineage)


@pytest.fixture
def storage(tmp_path):
    """Version 1 is promoted; 2 challenges, gets a quarter, fails; 3 is promoted by hand, and all is frozen."""
    state, events = EndpointState(), []

    def enter(made):
        nonlocal state
        for event in made:
            state = state.apply(event)
            events.append(event)

    study = {"who": "study", "why": "value 0.9"}
    enter(decide_promotion(state, offer("a", 12), **study, at=minute(1)))
    enter(decide_challenge(state, offer("b", 34), PLAN, 0.005, **study, at=minute(2)))
    enter(decide_verdict(state, Verdict(Action.ADVANCE, "40 requests"), EVIDENCE, at=minute(3)))
    enter(decide_verdict(state, Verdict(Action.WITHDRAW, "it failed"), EVIDENCE, at=minute(4)))
    hand = {"who": "somebody", "why": "it is fine"}
    enter(decide_by_hand(state, 2, **hand, at=minute(5)))
    enter(decide_freeze(state, frozen=True, **hand, at=minute(6)))
    journal = open_journal(journal_directory(tmp_path, "digits"))
    journal.append(events)
    journal.close()
    return tmp_path


@pytest.fixture
def told(storage, capsys):
    def tell(*words):
        code = execute(["history", "digits", *words, "--storage", str(storage)])
        said = capsys.readouterr()
        return code, said.out or said.err

    return tell


def test_every_change_is_listed_with_what_answered_from_then_on(told):
    code, text = told()
    lines = [line.split("  ") for line in text.splitlines()]
    words = [[cell.strip() for cell in line if cell.strip()] for line in lines if line[0].startswith("2026")]
    assert code == 0
    assert words == [
        [minute(1), "promoted", "1", "1", "study", "value 0.9"],
        [minute(2), "challenged", "2", "1, 2 in the shadow", "study", "value 0.9"],
        [minute(3), "advanced", "2", "1 (75%), 2 (25%)", "rollout", "40 requests"],
        [minute(4), "withdrawn", "2", "1", "rollout", "it failed"],
        [minute(5), "promoted", "2", "2", "somebody", "it is fine"],
        [minute(6), "frozen", "–", "2", "somebody", "it is fine"],
    ]
    assert "frozen: it is fine (somebody" in text


def test_the_same_as_data_has_the_evidence(told):
    code, text = told("--json")
    course = json.loads(text)
    assert (code, len(course)) == (0, 6)
    assert course[3]["evidence"] == EVIDENCE.to_dict()
    assert course[2]["shares"] == {"1": 0.75, "2": 0.25}


@pytest.mark.parametrize(
    ("at", "shares"),
    [
        ("2026-01-01T12:00:59", None),
        ("2026-01-01T12:01", {"1": 1.0}),
        ("2026-01-01T12:02:30", {"1": 1.0}),
        ("2026-01-01T14:03:30+02:00", {"1": 0.75, "2": 0.25}),
        ("2026-01-01T12:04:30", {"1": 1.0}),
        ("2027-01-01", {"2": 1.0}),
    ],
)
def test_what_answered_at_any_moment(told, at, shares):
    found = json.loads(told("--at", at, "--json")[1])
    assert (found and found["shares"]) == shares
    assert told("--at", at)[0] == 0


def test_a_version_leads_to_trial_parameters_data_code_and_seed(storage, told):
    given = {"study": "digits", "space": {}, "objective": {"metric": "accuracy"}, "storage": str(storage)}
    keeper = StudyKeeper.open(StudySpecification.from_dict(given), lambda: 1.0, storage=storage, code_sha256="c0de")
    keeper.close()
    file = EvidenceFile(str(storage), "digits")
    file.book.judge(Judgement("x", 2, 0, 3, 1), challenger=0)
    file.save(at_once=True)
    code, text = told("--version", "2", "--json")
    found = json.loads(text)
    assert code == 0
    assert found["lineage"] == offer("b", 34).lineage.to_dict()
    assert (found["code_sha256"], found["labels"]) == ("c0de", [3, 1])
    assert [change["event"] for change in found["changes"]] == ["challenged", "advanced", "withdrawn", "promoted"]
    text = told("--version", "2")[1]
    for part in ("trial 34", "lr=0.1", "da7a", "c0de", "seed      7", "1 wrong of 3"):
        assert part in text


def test_any_answer_leads_to_its_version(told):
    answer = AnswerIds().make(1, 0, Prediction(np.zeros((1, 2), np.float32), ("cat",)))
    found = json.loads(told("--answer", answer, "--json")[1])
    assert (found["version"], found["lineage"]["trial"], found["code_sha256"]) == (1, 12, None)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--at", "yesterday"], "'yesterday' is no time"),
        (["--version", "7"], "has no version 7; there: 1, 2"),
        (["--answer", "abc"], "'abc' is the id of no answer"),
        (["--at", "2026-01-01", "--version", "1"], "one of --at, --version and --answer"),
    ],
)
def test_a_wrong_question_is_told_what_is_wrong(told, words, reason):
    code, text = told(*words)
    assert code != 0
    assert reason in text


def test_an_endpoint_without_a_model_says_so(tmp_path, capsys):
    journal_directory(tmp_path, "digits").local_path.mkdir(parents=True)
    assert execute(["history", "digits", "--storage", str(tmp_path)]) == 0
    assert "never answered" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["promote", "digits", "1"], ["rollback", "digits"], ["freeze", "digits"]])
def test_what_does_not_run_cannot_be_changed(storage, capsys, words):
    assert execute([*words, "--storage", str(storage)]) == 1
    assert "does not run" in capsys.readouterr().err
