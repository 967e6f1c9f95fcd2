"""A cluster whose state lies in a Redis loses its head: replicas go on answering, and the study goes on by itself.

One cluster for all tests of this module, in their order: each goes on where the one before it ended.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from cluster import HOST_ENVIRONMENT, ROOT, Cluster, descendants, wait_for
from hosts import Host, hosts, leftovers, missing

from orchestrator.journal import read_journal
from orchestrator.study import Layout, read_study

LACKING = missing("redis-server")
pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(LACKING), reason=f"hosts out of namespaces need: {', '.join(LACKING)}"),
]

HOSTS = 3
STUDY = "served-digits"
FILE = ROOT / "tests/system/study/served.yaml"
AWAY_SECONDS = 75.0  # a cluster without Redis has ended itself everywhere after 60
ASK_EVERY_SECONDS = 0.05
FAILED_REQUESTS = 2  # what was on its way to a replica on the head when that went
ANSWER_SECONDS = 3.0
PATIENCE_SECONDS = 240.0  # for conditions on a busy machine, not for times


@dataclass
class Asker:
    """Somebody outside who asks one host again and again; its thread alone writes what came of it."""

    host: Host
    token: str
    outcomes: list[tuple[float, str, int]] = field(default_factory=list)  # when asked, what came, which version
    _ends: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Asker":
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _ask(self) -> None:
        with httpx.Client(timeout=ANSWER_SECONDS) as http:
            while not self._ends.wait(ASK_EVERY_SECONDS):
                asked_at = time.time()
                self.outcomes.append((asked_at, *answer_of(http, self.host, self.token)))

    def counts(self, since: float) -> Counter[str]:
        """Returns how many requests since then had which outcome."""
        return Counter(what for at, what, _ in list(self.outcomes) if at >= since)

    def version(self) -> int:
        """Returns the version that answered last."""
        return next((version for _, what, version in reversed(self.outcomes) if what == "200"), 0)


def answer_of(http: httpx.Client, host: Host, token: str) -> tuple[str, int]:
    """Returns the status, or why there is none, and the version that answered."""
    headers = {"authorization": f"Bearer {token}"}
    try:
        answer = http.post(f"http://{host.ip}:8000/predict", headers=headers, json={"rows": [[0.0] * 64]})
    except httpx.TransportError as error:
        return type(error).__name__, 0
    return str(answer.status_code), int(answer.json()["version"]) if answer.status_code == 200 else 0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with hosts(HOST_ENVIRONMENT) as made:
        for number in range(1, HOSTS + 1):
            made.add(f"host{number}", f"10.78.0.{10 + number}")
        cluster = Cluster.on_premise(made, made.add("store", "10.78.0.20"))
        cluster.up()
        yield cluster
        cluster.down()
    assert not leftovers()


@pytest.fixture(scope="module")
def asker(cluster: Cluster) -> Iterator[Asker]:
    """Asks a host with a replica that is not the head, from the first answer to the end of the module."""
    cluster.run("submit", str(FILE), "--address", cluster.jobs, "--storage", str(cluster.storage), "--no-wait")
    token_file = cluster.storage / "endpoints/digits/token"
    wait_for(lambda: token_file.exists() and replica_hosts(cluster), "replicas beside the head", PATIENCE_SECONDS)
    asked = min(replica_hosts(cluster), key=lambda host: host.name)
    with Asker(asked, token_file.read_text().strip()) as asker:
        wait_for(asker.version, "a version that answers", PATIENCE_SECONDS)
        yield asker


def replica_hosts(cluster: Cluster) -> list[Host]:
    """Returns the hosts beside the head that have a replica."""
    done = cluster.run("status", STUDY, "--graph", "--json", "--address", cluster.jobs, check=False)
    if done.returncode:
        return []  # the study has just begun
    nodes = descendants(json.loads(done.stdout)["nodes"])
    places = {node["host"] for node in nodes if node["kind"] == "replica" and node["state"] == "alive"}
    return [host for host in cluster.workers if host.ip in places]


def events(cluster: Cluster, kind: str, since: float = 0.0) -> list[Mapping[str, Any]]:
    batches = read_journal(Layout(cluster.storage, STUDY).journal)
    return [event for batch in batches for event in batch if event["type"] == kind and event["at"] >= since]


def test_every_host_with_a_replica_answers_outside(cluster: Cluster, asker: Asker) -> None:
    asked = (cluster.head, *replica_hosts(cluster))
    with httpx.Client(timeout=ANSWER_SECONDS) as http:
        wait_for(lambda: {answer_of(http, host, asker.token)[0] for host in asked} == {"200"}, "answers", 60)
        for host in asked:
            refused = http.post(f"http://{host.ip}:8000/predict", json={"rows": [[0.0] * 64]})
            assert refused.status_code == 401


def test_replicas_go_on_answering_without_a_head(cluster: Cluster, asker: Asker) -> None:
    wait_for(lambda: len(events(cluster, "checkpointed")) > 5, "checkpoints", PATIENCE_SECONDS)
    cut_at = time.time()
    cluster.hosts.cut_power(cluster.head)
    wait_for(lambda: asker.outcomes[-1][0] > cut_at + AWAY_SECONDS, "answers without a head", PATIENCE_SECONDS)
    counts = asker.counts(cut_at)
    print(
        f"\nin {AWAY_SECONDS:.0f} s without a head, {asker.host.name} was asked {counts.total()} times: {dict(counts)}"
    )
    assert counts["200"] > 0
    assert asker.outcomes[-1][1] == "200", "still"
    assert counts.total() - counts["200"] <= FAILED_REQUESTS


def test_the_study_goes_on_by_itself_when_the_head_is_back(cluster: Cluster, asker: Asker) -> None:
    before = read_study(cluster.storage, STUDY).state
    version, back_at = asker.version(), time.time()
    cluster.hosts.start(cluster.head)
    cluster.up()
    up_at = time.time()
    wait_for(lambda: len(events(cluster, "finished", back_at)) > 1, "finished trials", PATIENCE_SECONDS)
    print(
        f"\nray up {up_at - back_at:.0f} s; first start {events(cluster, 'started', back_at)[0]['at'] - back_at:.0f} s"
    )
    after = read_study(cluster.storage, STUDY).state
    known = len(before.trials)
    assert [trial.params for trial in after.trials[:known]] == [trial.params for trial in before.trials]
    assert sum(trial.last_step for trial in after.trials) > sum(trial.last_step for trial in before.trials)
    assert not events(cluster, "failed"), "no attempt was counted"
    wait_for(lambda: asker.version() > version, "a promotion that reaches the host", PATIENCE_SECONDS)
    with httpx.Client(timeout=ANSWER_SECONDS) as http:
        wait_for(lambda: answer_of(http, cluster.head, asker.token)[0] == "200", "the head's answer", PATIENCE_SECONDS)
    counts = asker.counts(back_at)
    print(f"while it came back, {asker.host.name} was asked {counts.total()} times: {dict(counts)}")
    assert counts["200"] > 0
    assert counts.total() - counts["200"] <= FAILED_REQUESTS


def test_the_laws_hold_after_it(cluster: Cluster, asker: Asker) -> None:
    stopped = cluster.run("stop", STUDY, "--address", cluster.jobs, "--storage", str(cluster.storage))
    assert "is stopped after" in stopped.stdout
    verified = cluster.run("verify", STUDY, "--storage", str(cluster.storage))
    print(f"\n{verified.stdout}")
    assert asker.outcomes[-1][1] == "200", "the endpoint outlives its study"
