"""Rollouts on a real Ray: what clients see of a challenger, what takes it out, and what survives which death."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from slow_models import slow_model, turning_model
from under_load import LABELS, SCHEMA, Asker, Decided, Load, Shop, wait_until

from deploy import (
    Client,
    EndpointAddress,
    EndpointHandle,
    Scale,
    endpoint_handle,
    start_endpoint,
    stop_endpoint,
    stop_serve,
)
from deploy.answering.black_box import box_folder
from deploy.bundle import Lineage, Profile, write_bundle
from deploy.places import journal_directory
from orchestrator.domain.errors import BundleError, EndpointError
from orchestrator.domain.rollout import RolloutPlan
from orchestrator.journal import Storage, read_journal

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

HOUR = 3600.0  # of a step: only what is asked for moves the rollout
SHADOW, HALF = (RolloutPlan(kind, steps, HOUR) for kind, steps in (("shadow", (0.0,)), ("canary", (0.5,))))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def address(ray_session: None, storage: Path) -> Iterator[EndpointAddress]:
    stop_serve()  # where another test left it, on a port of its own
    yield start_endpoint("animals", storage, port=18400, scale=Scale(2, 2, 0.5))
    stop_endpoint("animals")
    assert stop_serve()


@pytest.fixture
def handle(address: EndpointAddress, shop: Shop) -> EndpointHandle:
    """The endpoint, with two replicas and a champion that says ant."""
    handle = endpoint_handle("animals")
    wait_until(lambda: len(handle.status()["replicas"]) == 2)
    handle.promote(shop.make("ant"))
    return handle


def offered(handle: EndpointHandle, bundle: str, plan: RolloutPlan) -> int:
    """Offers a bundle, waits until all replicas follow, and returns its version."""
    said = handle.offer(bundle, plan, who="a study", why="it may be better")
    assert (said["state"], said["errors"]) == ("rollout", [])
    assert all(replica["contender"] == said["version"] for replica in said["replicas"])
    return int(said["version"])


def out(handle: EndpointHandle, version: int) -> str:
    """Returns why the version was withdrawn; waits until it was."""
    wait_until(lambda: handle.standing(version)["state"] == "withdrawn")
    return str(handle.standing(version)["reason"])


def test_a_canary_sticks_and_somebody_promotes_it(address: EndpointAddress, handle: EndpointHandle, shop: Shop) -> None:
    champion = handle.status()["version"]
    version = offered(handle, shop.make("bee"), HALF)
    said = {str(champion): "ant", str(version): "bee"}
    asker, keys = Asker(address), [f"client {number}" for number in range(30)]
    courses = [[asker.ask(key=key) for key in keys] for _ in range(4)]  # of several requests to each replica
    assert all(answer["predictions"] == [said[answer["version"]]] for course in courses for answer in course)
    arms = [[answer["version"] for answer in course] for course in courses]
    assert arms == arms[:1] * 4
    assert set(arms[0]) == set(said)
    assert handle.promote_version(version, who="somebody", why="it is good")["errors"] == []
    assert {asker.ask(key=key)["version"] for key in keys} == {str(version)}


def test_the_shadow_is_compared_and_never_returned(
    address: EndpointAddress, handle: EndpointHandle, shop: Shop
) -> None:
    with Load(address) as load:
        version = offered(handle, shop.make("cat"), SHADOW)
        wait_until(lambda: handle.status()["rollout"]["evidence"]["compared"] > 100)
        evidence = handle.status()["rollout"]["evidence"]
        assert handle.rollback(who="somebody", why="that is enough")["events"] == ["withdrawn"]
    assert load.errors == []
    assert {answer["predictions"][0] for answer in load.answers} == {"ant"}
    assert evidence["differed"] == evidence["compared"]
    assert evidence["challenger"]["failed"] == 0
    assert out(handle, version) == "that is enough"


def test_a_challenger_that_fails_a_fifth_of_its_requests_is_withdrawn_and_no_client_sees_it(
    address: EndpointAddress,
    handle: EndpointHandle,
    shop: Shop,
    storage: Path,
    brittle_model: Callable[..., bytes],
    record_property: Callable[[str, object], None],
) -> None:
    brittle = shop.make("bee", brittle_model(2, [0.0, 1.0, 0.0, 0.0], 0.2))
    plan = RolloutPlan("canary", (0.2,), HOUR)
    with Load(address) as load:
        version = offered(handle, brittle, plan)
        reason = out(handle, version)
        wait_until(lambda: not any(replica["contender"] for replica in handle.status()["replicas"]))
        before = len(load.answers)
        wait_until(lambda: len(load.answers) > before + 50)
        last = load.answers[before + 10 :]
    assert load.errors == []
    assert "it failed at" in reason
    assert {answer["predictions"][0] for answer in load.answers} == {"ant", "bee"}
    assert {answer["predictions"][0] for answer in last} == {"ant"}
    again = handle.offer(brittle, plan)
    assert (again["state"], again["reason"]) == ("withdrawn", reason)
    events = [event for batch in read_journal(journal_directory(storage, "animals")) for event in batch]
    began, ended = (
        next(event for event in events if event["type"] == kind and event["version"] == version)
        for kind in ("challenged", "withdrawn")
    )
    seconds = (datetime.fromisoformat(ended["at"]) - datetime.fromisoformat(began["at"])).total_seconds()
    record_property("seconds", seconds)
    print(f"withdrawn after {seconds:.1f} s, {ended['evidence']['challenger']}, {len(load.answers)} answers in all")


def test_a_good_challenger_goes_through_its_steps_by_itself(
    address: EndpointAddress, handle: EndpointHandle, shop: Shop, storage: Path
) -> None:
    plan = RolloutPlan("canary", (0.0, 0.5), seconds=None, requests=40)
    with Load(address) as load:
        version = offered(handle, shop.make("dog"), plan)
        waiting = handle.offer(shop.make("cat"), plan)
        wait_until(lambda: handle.standing(version)["state"] == "full")
    assert waiting["state"] == "waiting"
    assert load.errors == []
    events = [event for batch in read_journal(journal_directory(storage, "animals")) for event in batch]
    mine = [event for event in events if event.get("version") == version]
    assert [(event["type"], event["who"]) for event in mine] == [
        ("challenged", "a study"),
        ("advanced", "rollout"),
        ("promoted", "rollout"),
    ]
    assert mine[-1]["evidence"]["challenger"]["asked"] >= 80


def test_labels_that_come_later_take_a_challenger_out(
    address: EndpointAddress, handle: EndpointHandle, shop: Shop
) -> None:
    version, asker = offered(handle, shop.make("bee"), HALF), Asker(address)

    def ask_and_label() -> bool:
        for _ in range(20):
            assert asker.label(asker.ask()["id"], "ant") == 202
        return bool(handle.standing(version)["state"] == "withdrawn")

    wait_until(ask_and_label)
    assert "it was wrong about" in out(handle, version)
    labels = handle.status()["labels"]
    assert labels[version][0] == labels[version][1] > 0
    assert labels[handle.status()["version"]][1] == 0


def test_a_challenger_that_is_slow_is_withdrawn(address: EndpointAddress, handle: EndpointHandle, shop: Shop) -> None:
    with Load(address) as load:
        wait_until(lambda: all(replica["usual_seconds"] for replica in handle.status()["replicas"]))
        version = offered(handle, shop.make("bee", slow_model()), HALF)
        reason = out(handle, version)
    assert load.errors == []
    assert "it computed over" in reason


def test_a_challenger_in_which_two_replicas_die_is_withdrawn(
    address: EndpointAddress, handle: EndpointHandle, shop: Shop, storage: Path
) -> None:
    version = offered(handle, shop.make("bee", turning_model(50_000_000)), HALF)
    champion = handle.status()["version"]
    asker = Asker(address)
    key = next(key for key in map(str, range(100)) if asker.ask(key=key)["version"] == str(version))

    def kill(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid not in (pids := replicas()) and len(pids) == 2)

    def replicas() -> list[int]:
        return [replica["pid"] for replica in handle.status()["replicas"]]

    kill(replicas()[0])  # at rest: nobody is blamed
    assert handle.status()["rollout"]["evidence"]["deaths"] == 0
    with ThreadPoolExecutor() as pool:
        for _ in range(2):
            asked = pool.submit(Asker(address).ask, width=-1.0, key=key)
            wait_until(lambda: computing(storage))
            kill(computing(storage)[0])
            asked.result()  # cut off, or answered by the other replica
    assert out(handle, version) == "2 replicas died while it computed in them"
    wait_until(lambda: not any(replica["contender"] for replica in handle.status()["replicas"]))
    assert {asker.ask(width=-1.0, key=key)["version"] for _ in range(20)} == {str(champion)}


def computing(storage: Path) -> list[int]:
    """Returns the processes that compute for a challenger just now, or died doing so."""
    boxes = box_folder(str(Storage.of(storage)), "animals").glob("*.box")
    return [int(box.stem.partition("-")[0]) for box in boxes if any(box.read_bytes()[8:])]


def test_a_bundle_under_whose_check_the_endpoint_actor_dies_is_refused(
    address: EndpointAddress, handle: EndpointHandle, storage: Path, tmp_path: Path
) -> None:
    before = handle.status()
    bundle = write_bundle(
        tmp_path / "deadly",
        onnx_model=turning_model(500_000_000),
        schema=SCHEMA,
        lineage=Lineage("zoo", 1, 1),
        sample_rows=np.asarray([[-1.0, 1.0]], dtype=np.float32),
    )
    notes = box_folder(str(Storage.of(storage)), "animals")

    def checks(times: int) -> bool:
        return [note.stat().st_size for note in notes.glob("*.check")] == [times]

    with ThreadPoolExecutor() as pool, Load(address) as load:
        asked = pool.submit(handle.promote, str(bundle))
        for times in (1, 2):
            wait_until(lambda times=times: checks(times))
            os.kill(handle.status()["pid"], signal.SIGKILL)
        with pytest.raises(BundleError, match="ended the process that checked it, 2 times"):
            asked.result(120)
    assert load.errors == []
    after = handle.status()
    assert (after["version"], after["generation"]) == (before["version"], before["generation"])


def test_a_frozen_endpoint_changes_by_hand_only(address: EndpointAddress, handle: EndpointHandle, shop: Shop) -> None:
    plan = RolloutPlan("canary", (0.5,), seconds=None, requests=1)
    assert handle.freeze(True, who="somebody", why="a holiday")
    assert not handle.freeze(True, who="somebody", why="again")
    held = handle.offer(shop.make("bee"), plan)
    assert held["state"] == "waiting"
    assert "a holiday" in held["reason"]
    assert handle.promote(shop.make("cat"))["changed"]
    assert handle.freeze(False, who="somebody", why="")
    assert handle.offer(shop.make("bee"), plan)["state"] == "rollout"


def test_a_challenger_that_takes_or_gives_something_else_is_no_challenger(handle: EndpointHandle, shop: Shop) -> None:
    other = shop.make("ape", labels=("ape", "bat"))
    with pytest.raises(BundleError, match="other columns or labels"):
        handle.offer(other, HALF)
    assert handle.offer(other, RolloutPlan())["state"] == "full"


def test_no_version_answers_that_should_not_whatever_is_decided(
    address: EndpointAddress, handle: EndpointHandle, shop: Shop
) -> None:
    chance, bundles = random.Random(7), [shop.make(label) for label in LABELS * 2]
    places = [Path(bundle).as_uri() for bundle in bundles]
    decided = Decided()

    def decide() -> None:
        asked = time.monotonic()
        match chance.choice(["offer", "offer", "promote", "rollback", "by hand"]):
            case "offer":
                plan = RolloutPlan("canary", (chance.choice([0.0, 0.3, 0.9]),), HOUR)
                done = handle.offer(chance.choice(bundles), plan)
            case "promote":
                done = handle.promote(chance.choice(bundles))
            case "rollback":
                done = handle.rollback()
            case _:
                ours = [one["version"] for one in handle.status()["versions"] if one["uri"] in places]
                done = handle.promote_version(chance.choice(ours))  # other tests' versions fail on purpose
        assert done.get("errors", []) == []
        decided.add(asked, time.monotonic(), handle.status())

    handle.promote(bundles[0])
    decide()
    with Load(address) as load:
        for _ in range(80):
            decide()
    assert load.errors == []
    assert decided.strangers(load.answers) == []
    assert len({answer["version"] for answer in load.answers}) > 4


def test_requests_unlike_the_training_data_are_seen_on_all_replicas(
    address: EndpointAddress, handle: EndpointHandle, shop: Shop
) -> None:
    trained = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    scores = np.repeat([[1.0, 0.0, 0.0, 0.0]], 500, axis=0)
    handle.promote(shop.make("ant", profile=Profile.of(SCHEMA, trained, scores)))
    with Client(address.url, address.token) as client:

        def asked(rows: np.ndarray) -> dict[str, Any]:
            """Returns what is found after the rows were asked for; of what comes at once, replicas count a sample."""
            for part in np.split(rows, 10):
                for _ in range(4):  # both replicas
                    client.predict(part.tolist())
            return handle.drift()

        wait_until(lambda: asked(trained)["rows"] > 600)
        assert handle.drift()["drifted"] == []
        wait_until(lambda: asked(trained + np.float32([0.0, 3.0]))["drifted"])
    found = handle.drift()
    assert found["drifted"] == ["height"]
    assert found["version"] == handle.status()["version"]
    handle.promote(shop.make("ant"))
    with pytest.raises(EndpointError, match="does not say what its data looked like"):
        handle.drift()


def controller() -> int:
    """Returns the process of this cluster's Serve controller."""
    actor = ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    return int(ray.get(actor.__ray_call__.remote(lambda _: __import__("os").getpid())))


@pytest.mark.parametrize("victim", ["a replica", "the endpoint actor", "the Serve controller"])
def test_a_stage_survives_the_death_of(
    victim: str, address: EndpointAddress, handle: EndpointHandle, shop: Shop
) -> None:
    version = offered(handle, shop.make("bee"), HALF)
    asker, keys = Asker(address), [f"client {number}" for number in range(30)]
    arms = [asker.ask(key=key)["version"] for key in keys]
    wait_until(lambda: handle.status()["rollout"]["evidence"]["challenger"]["asked"] > 0)
    before = handle.status()
    pids = {
        "a replica": lambda: min(replica["pid"] for replica in before["replicas"]),
        "the endpoint actor": lambda: before["pid"],
        "the Serve controller": controller,
    }
    killed = pids[victim]()
    os.kill(killed, signal.SIGKILL)

    def is_whole() -> bool:
        now = handle.status()
        new = {replica["pid"] for replica in now["replicas"]} | {now["pid"], controller()}
        there = [(replica["contender"], replica["weight"]) for replica in now["replicas"]]
        return killed not in new and there == [(version, 0.5)] * 2

    wait_until(is_whole)
    after = handle.status()
    assert {key: after["rollout"][key] for key in ("number", "version", "step", "since")} == {
        key: before["rollout"][key] for key in ("number", "version", "step", "since")
    }
    assert [asker.ask(key=key)["version"] for key in keys] == arms
    asked = before["rollout"]["evidence"]["challenger"]["asked"]
    wait_until(lambda: handle.status()["rollout"]["evidence"]["challenger"]["asked"] > asked)
