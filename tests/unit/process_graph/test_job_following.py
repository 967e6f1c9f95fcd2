"""What a job writes is heard once, whatever becomes of the connection."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from orchestrator.process_graph import job_following
from orchestrator.process_graph.job_following import follow
from orchestrator.process_graph.jobs import ConnectionLost, Job

WORDS = ["loading…\n", "1/9 trials\n", "5/9 trials\n", "done\n"]


class Server:
    """A job server whose connections break after so many words, and which is away in between."""

    address = "http://head:8265"

    def __init__(self, breaks_after: list[int], away: int = 0) -> None:
        self._breaks_after = breaks_after
        self._away = away
        self._job = Job("study-1", "RUNNING", None, "", 0)

    def get(self, job: str) -> Job:
        if self._away:
            self._away -= 1
            raise ConnectionLost("nobody answers")
        return self._job

    def logs(self, job: Job) -> str:
        return "".join(WORDS)

    async def lines(self, job: Job) -> AsyncIterator[str]:
        if self._breaks_after:
            for words in WORDS[: self._breaks_after.pop(0)]:
                yield words
            self._away = 2
            raise RuntimeError("WebSocket connection closed unexpectedly")
        for words in WORDS:
            yield words
        self._job = replace(self._job, status="SUCCEEDED", exit_code=0)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_following, "RETRY_SECONDS", 0.01)


@pytest.mark.parametrize("breaks", [[], [1], [3, 0, 2], [4]])
def test_each_word_is_heard_once(breaks: list[int]) -> None:
    heard: list[str] = []
    said: list[str] = []
    ended = follow(Server(list(breaks)), Job("study-1", "RUNNING", None, "", 0), heard.append, said.append)  # type: ignore[arg-type]
    assert "".join(heard) == "".join(WORDS)
    assert ended.status == "SUCCEEDED"
    assert sum("is lost" in line for line in said) == len(breaks)
    assert sum("connected again" in line for line in said) == len(breaks)


def test_a_server_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_following, "GIVE_UP_SECONDS", 0.05)
    with pytest.raises(ConnectionLost, match="did not answer for"):
        follow(Server([], away=10_000), Job("study-1", "RUNNING", None, "", 0), str, str)  # type: ignore[arg-type]
