"""A cluster of several hosts: a study comes from outside, hosts go, and nothing of the study is lost.

One cluster for all tests of this module, in their order: each goes on where the one before it ended.
"""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from cluster import HOST_ENVIRONMENT, ROOT, Cluster, descendants, wait_for
from hosts import hosts, leftovers, missing

from orchestrator.journal import read_journal
from orchestrator.study import Layout, read_study

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(missing()), reason=f"hosts out of namespaces need: {', '.join(missing())}"),
]

HOSTS = 3
STUDY = "slow-digits"
FILE = ROOT / "tests/system/study/study.yaml"
NOTICED_SECONDS = 12.0  # ten without a beat, and two between beats
PATIENCE_SECONDS = 180.0  # for conditions on a busy machine, not for times


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with hosts(HOST_ENVIRONMENT) as made:
        for number in range(1, HOSTS + 1):
            made.add(f"host{number}", f"10.78.0.{10 + number}")
        cluster = Cluster.on_premise(made)
        cluster.up()
        yield cluster
        cluster.down()
    assert not leftovers()


def submitted(cluster: Cluster) -> tuple[str, ...]:
    return ("submit", str(FILE), "--address", cluster.jobs, "--storage", str(cluster.storage))


def graph(cluster: Cluster) -> list[Mapping[str, Any]]:
    """Returns the nodes of the process graph, as somebody outside gets it."""
    done = cluster.run("status", STUDY, "--graph", "--json", "--address", cluster.jobs)
    return descendants(json.loads(done.stdout)["nodes"])


def worker_hosts(cluster: Cluster) -> set[str]:
    return {node["host"] for node in graph(cluster) if node["kind"] == "worker" and node["state"] == "alive"}


def events(cluster: Cluster, since: float = 0.0) -> list[Mapping[str, Any]]:
    batches = read_journal(Layout(cluster.storage, STUDY).journal)
    return [event for batch in batches for event in batch if event["at"] >= since]


def of_type(found: list[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    return [event for event in found if event["type"] == kind]


def ask_endpoint(cluster: Cluster, token: str | None) -> int:
    """Returns the status with which the endpoint answers somebody outside; 0 where it does not."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    body = {"rows": [[0.0] * 64]}
    try:
        return httpx.post(f"http://{cluster.head.ip}:8000/predict", headers=headers, json=body, timeout=3).status_code
    except httpx.TransportError:
        return 0


def endpoint_token(cluster: Cluster) -> str:
    return (cluster.storage / "endpoints/digits/token").read_text().strip()


def test_a_study_from_outside_runs_on_every_host_with_its_own_code(cluster: Cluster) -> None:
    watching = cluster.start("submit", *submitted(cluster))
    journal = Layout(cluster.storage, STUDY)
    wait_for(
        lambda: journal.exists() and len(of_type(events(cluster), "checkpointed")) > 10, "checkpoints", PATIENCE_SECONDS
    )
    everywhere = {host.ip for host in cluster.hosts.all}
    wait_for(lambda: worker_hosts(cluster) == everywhere, "workers on every host", PATIENCE_SECONDS)
    watching.wait_for("20000 trials", PATIENCE_SECONDS)
    assert watching.interrupt() == 130, "Ctrl-C leaves it running"
    watching.wait_for(f"orchestrator attach {STUDY} --address {cluster.jobs}", 1)


def test_the_endpoint_answers_outside_with_its_token_alone(cluster: Cluster) -> None:
    wait_for(lambda: ask_endpoint(cluster, endpoint_token(cluster)) == 200, "an answer", PATIENCE_SECONDS)
    assert ask_endpoint(cluster, None) == 401
    assert ask_endpoint(cluster, "wrong") in (401, 403)
    assert ask_endpoint(cluster, cluster.token) in (401, 403), "the cluster's token is not the endpoint's"


def test_a_client_without_the_token_gets_nowhere(cluster: Cluster, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("0123456789abcdef0123456789abcdef")
    none = cluster.run("attach", STUDY, "--address", cluster.jobs, home=tmp_path, check=False)
    assert (none.returncode, "no token was given" in none.stderr) == (1, True)
    refused = cluster.run("attach", STUDY, "--address", cluster.jobs, "--token-file", str(wrong), check=False)
    assert (refused.returncode, "the token is wrong" in refused.stderr) == (1, True)
    assert "RAY_AUTH_TOKEN" in refused.stderr
    jobs = f"{cluster.jobs}/api/jobs/"
    assert httpx.get(jobs).status_code == 401
    assert httpx.get(jobs, headers={"authorization": "Bearer wrong"}).status_code == 403
    work = {"entrypoint": "touch /tmp/was-here"}
    assert httpx.post(jobs, json=work).status_code == 401


def test_the_same_command_watches_and_another_is_refused(cluster: Cluster) -> None:
    again = cluster.run(*submitted(cluster), "--no-wait", "--json")
    assert "runs already" in again.stderr
    assert json.loads(again.stdout)["study"] == STUDY
    other = cluster.run(*submitted(cluster), "--trials", "7", "--no-wait", check=False)
    assert (other.returncode, "runs already" in other.stderr) == (1, True)


def test_a_storage_that_a_host_does_not_see_is_refused_before_trials(cluster: Cluster) -> None:
    done = cluster.run("submit", str(FILE.with_name("unseen.yaml")), "--address", cluster.jobs, check=False)
    assert done.returncode == 1
    assert "does not share the storage /tmp/of-one-host" in done.stdout
    assert any(f"host {host.ip}" in done.stdout for host in cluster.workers)


def test_a_host_without_power_costs_no_attempt(cluster: Cluster) -> None:
    before = graph(cluster)
    replicas = {node["host"] for node in before if node["kind"] == "replica"}
    lost = max(cluster.workers, key=lambda host: (host.ip not in replicas, host.name))
    cut_at = time.time()
    cluster.hosts.cut_power(lost)
    wait_for(lambda: of_type(events(cluster, cut_at), "interrupted"), "a word about it", 30)
    interrupted = of_type(events(cluster, cut_at), "interrupted")
    assert interrupted[0]["at"] - cut_at < NOTICED_SECONDS
    numbers = {event["trial"] for event in interrupted}

    def resumed() -> dict[int, Mapping[str, Any]]:
        found = {event["trial"]: event for event in of_type(events(cluster, interrupted[0]["at"]), "started")}
        return found if numbers <= set(found) else {}

    starts = wait_for(resumed, "its trials elsewhere", PATIENCE_SECONDS)
    saved = [event for event in of_type(events(cluster), "checkpointed") if event["at"] <= interrupted[0]["at"]]
    checkpoints = {event["trial"]: event["checkpoint"]["step"] for event in saved}
    for number in numbers:
        assert starts[number]["attempt"] == 0
        assert starts[number]["step"] == checkpoints.get(number, 0)
    assert not of_type(events(cluster, cut_at), "failed")
    wait_for(lambda: ask_endpoint(cluster, endpoint_token(cluster)) == 200, "an answer", PATIENCE_SECONDS)


def test_the_study_outlives_the_command_in_the_cluster(cluster: Cluster) -> None:
    commands = cluster.commands("run")
    assert commands
    for process in commands:
        process.kill()
    killed_at = time.time()
    wait_for(lambda: of_type(events(cluster, killed_at), "checkpointed"), "more checkpoints", PATIENCE_SECONDS)
    attached = cluster.start("attach", "attach", STUDY, "--address", cluster.jobs)
    attached.wait_for("trials, rungs", PATIENCE_SECONDS)
    assert attached.interrupt() == 130
    assert not of_type(events(cluster, killed_at), "opened"), "the study's actor lived on"


def test_a_new_cluster_goes_on_where_a_lost_head_left(cluster: Cluster) -> None:
    cluster.hosts.cut_power(cluster.head)
    for host in cluster.workers:
        cluster.hosts.cut_power(host)  # they would end themselves within a minute: only the storage outlives the head
    before = read_study(cluster.storage, STUDY).state
    known, spent = len(before.trials), sum(trial.last_step for trial in before.trials)
    for host in cluster.hosts.all:
        cluster.hosts.start(host)
    cluster.up()
    again_at = time.time()
    command = f"cd {FILE.parent} && orchestrator resume {STUDY} --address auto --storage {cluster.storage}"
    cluster.hosts.ssh(cluster.head, f"nohup sh -c '{command}' >/tmp/resume.log 2>&1 </dev/null &")
    wait_for(lambda: len(of_type(events(cluster, again_at), "finished")) > 3, "finished trials", PATIENCE_SECONDS)
    after = read_study(cluster.storage, STUDY).state
    assert [trial.params for trial in after.trials[:known]] == [trial.params for trial in before.trials]
    assert sum(trial.last_step for trial in after.trials) > spent
    assert not of_type(events(cluster, again_at), "failed")
    assert any(event["step"] > 0 for event in of_type(events(cluster, again_at), "started"))
    wait_for(lambda: ask_endpoint(cluster, endpoint_token(cluster)) == 200, "an answer", PATIENCE_SECONDS)
    stopped = cluster.run("stop", STUDY, "--address", cluster.jobs, "--storage", str(cluster.storage))
    assert "is stopped after" in stopped.stdout
