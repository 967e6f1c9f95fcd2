"""Tuning and serving in one graph: one configuration's way from the space to an HTTP answer."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from studies import begin, events, run_to_end, specification, wait_for

from deploy import Client, stop_endpoint
from deploy.bundle import Bundle
from orchestrator.domain.space import Space
from orchestrator.domain.specification import StudySpecification
from orchestrator.process_graph.launch import RunningStudy
from orchestrator.study import read_study
from trainables.data import load, split

pytestmark = pytest.mark.ray

SPACE = {
    "lr": {"min": 1e-4, "max": 1e-2, "log": True},
    "layers": {"min": 1, "max": 2},
    "optimizer": {"values": ["adam", "sgd"]},
    "momentum": {"min": 0.0, "max": 0.9, "when": {"optimizer": "sgd"}},
}


@pytest.fixture
def served(tmp_path: Path) -> StudySpecification:
    return specification(
        tmp_path,
        "digits-way",
        trainable="trainables.torch.mlp",
        data={"source": "sklearn:digits"},
        space=SPACE,
        objective={"metric": "val_accuracy", "goal": "maximize"},
        scheduler={"kind": "asha", "min": 1, "max": 3, "eta": 3},
        budget={"trials": 8},
        serve={"name": "digits-way", "port": 18431},
    )


@pytest.fixture
def running(ray_session: str, served: StudySpecification) -> Iterator[RunningStudy]:
    study = begin(served, ray_session)
    yield study
    study.release()
    stop_endpoint("digits-way")


def test_a_configuration_is_followed_from_the_space_to_an_answer(
    running: RunningStudy, served: StudySpecification
) -> None:
    endpoint = wait_for(lambda: running.runner_status()["endpoint"], "the endpoint")
    wait_for(lambda: running.status()["champion"], "the first champion, while the study runs")
    ended = run_to_end(running)
    parts = split(load("sklearn:digits"))
    with Client(endpoint["url"], Path(endpoint["token_file"]).read_text().strip()) as client:
        answer = client.predict(parts.test_x[:20].tolist())
    champion = ended["champion"]
    assert answer.study == "digits-way"
    assert answer.trial == champion["trial"]
    assert str(answer.version) == champion["version"]

    state = read_study(Path(served.storage), served.study).state
    trial = state.trials[answer.trial]
    Space.from_dict(SPACE).validate(trial.params)
    bundle = Bundle.open(champion["uri"])
    assert bundle.lineage.trial == trial.number
    assert dict(bundle.lineage.params) == dict(trial.params)
    assert bundle.lineage.data_sha256 == parts.sha256 == state.data_sha256
    assert bundle.lineage.value == trial.value
    expected = bundle.predict(parts.test_x[:20])
    assert list(answer.predictions) == list(expected.labels)
    assert np.allclose(answer.probabilities, expected.scores, atol=1e-6)

    suggested = [event for event in events(served) if event["type"] == "suggested" and event["trial"] == trial.number]
    assert suggested[0]["params"] == dict(trial.params)
    promoted = [event for event in events(served) if event["type"] == "promoted"]
    values = [state.bundles[event["bundle"]].value for event in promoted]
    assert values == sorted(values), "each champion beat the one before it"
    assert state.baseline is not None
    assert values[0] > state.baseline, "the first champion beats the trivial predictor"
