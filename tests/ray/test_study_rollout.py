"""A study whose challengers take over by a canary, while clients ask."""

import threading
import time
from pathlib import Path

import pytest
from studies import begin, run_to_end, specification, wait_for

from deploy import Client, EndpointAddress, stop_endpoint, stop_serve
from deploy.access.tokens import token_file
from deploy.places import journal_directory
from orchestrator.domain.errors import EndpointError
from orchestrator.journal import read_journal
from orchestrator.study import read_study

pytestmark = pytest.mark.ray

ROW = {
    "sepal length (cm)": 5.1,
    "sepal width (cm)": 3.5,
    "petal length (cm)": 1.4,
    "petal width (cm)": 0.2,
}


def test_a_study_promotes_by_a_canary_and_knows_its_champion(tmp_path: Path, ray_session: str) -> None:
    stop_serve()
    given = specification(
        tmp_path,
        "flowers",
        trainable="trainables.sklearn.logistic_regression",
        data={"source": "sklearn:iris"},
        space={"C": {"min": 1e-4, "max": 10.0, "log": True}},
        objective={"metric": "val_accuracy", "goal": "maximize"},
        scheduler="none",
        budget={"trials": 6},
        resources={"cpu": 1, "concurrent": 1},
        serve={"port": 18500, "cpu": 0.5, "rollout": {"kind": "canary", "steps": [0.5], "each": 30}},
    )
    running = begin(given, ray_session)
    over, errors = threading.Event(), []
    try:
        place = wait_for(lambda: running.runner_status()["endpoint"], "the endpoint")
        address = EndpointAddress("flowers", place["url"], place["port"], token_file(tmp_path, "flowers"), 18500)

        def ask() -> None:
            with Client(address.url, address.token) as client:
                while not over.is_set():
                    if not client.is_ready():
                        time.sleep(0.05)
                        continue
                    try:
                        client.predict([ROW])
                    except EndpointError as error:
                        errors.append(str(error))

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            status = run_to_end(running)
        finally:
            over.set()
            asking.join()
    finally:
        stop_endpoint("flowers")
        stop_serve()
    assert errors == []
    events = [event for batch in read_journal(journal_directory(tmp_path, "flowers")) for event in batch]
    promoted = [event for event in events if event["type"] == "promoted"]
    challenged = [event["version"] for event in events if event["type"] == "challenged"]
    assert [event["who"] for event in promoted] == ["study"] + ["rollout"] * (len(promoted) - 1)
    assert [event["version"] for event in promoted[1:]] == challenged
    state = read_study(tmp_path, "flowers").state
    assert state.champion.version == str(promoted[-1]["version"])
    assert status["promotions"] == len(promoted)
