"""A study's course in plain lines, for pipes and logs: one when something changed, at most one every few seconds."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import click

from orchestrator.cli.printing import duration, number
from orchestrator.cli.view import Moment, TrafficCount, endpoint, storage_problem, way
from orchestrator.domain.specification import StudySpecification

LINE_SECONDS = 5.0
Count = Callable[[], TrafficCount | None]


class PlainLines:
    """Writes to stderr; stdout is for the result. Called by one thread."""

    def __init__(self, specification: StudySpecification, count: Count, clock: Callable[[], float] = time.monotonic):
        self._specification = specification
        self._count = count
        self._clock = clock
        self._began = clock()
        self._said = ""
        self._line_at = -LINE_SECONDS
        self._shown: tuple[Any, ...] = ()
        self._endpoint = ""
        self._problem = ""
        self._way = ""
        self._waits = ""

    def say(self, line: str) -> None:
        """Writes what is being done, once: the seconds that count up in it are left out."""
        what = line.partition("…")[0]
        if what != self._said:
            self._said = what
            self._write(line)

    def look(self, status: Mapping[str, Any], runner: Mapping[str, Any] | None) -> None:
        """Writes a line when something changed and the last one is old enough; a new version at once."""
        moment = Moment(status, runner, self._count())
        if not self._way:
            self._way = way(self._specification, runner)
            self._write(self._way)
        serving = endpoint(moment) if runner and status["champion"] else ""
        if serving != self._endpoint:
            self._endpoint = serving
            self._write(f"endpoint: {serving}, {status['metric']} {number(status['champion']['value'])}")
        if (problem := storage_problem(runner)) != self._problem:
            self._problem = problem
            self._write(f"storage: {problem or 'it is there again'}")
        waits = str(runner.get("challenger", "")) if runner else ""
        if waits.partition(":")[0] != self._waits.partition(":")[0] and waits:  # not each time it was asked once more
            self._write(f"challenger: {waits}")
        self._waits = waits
        now, seen = self._clock(), (status["trials"], status["phase"], status["states"], _value(status["best"]))
        if seen != self._shown and now - self._line_at >= LINE_SECONDS:
            self._shown, self._line_at = seen, now
            self._write(progress(moment))

    def close(self) -> None:
        """Nothing is left on the screen that would have to go."""

    def _write(self, line: str) -> None:
        click.echo(f"{self._specification.study} {self._clock() - self._began:5.1f} s  {line}", err=True)


def progress(moment: Moment) -> str:
    """Returns in a line how far the study is."""
    status = moment.status
    budget = status["budget"]["trials"]
    parts = [f"{status['trials']}" + (f"/{budget}" if budget else "") + " trials"]
    reached = [f"{rung['resource']}:{rung['trials']}" for rung in status["rungs"] if rung["trials"]]
    if reached:
        parts.append(f"rungs {' '.join(reached)}")
    parts.append(f"best {status['metric']} {number(_value(status['best']))}")
    if status["failed_trials"]:
        parts.append(f"{status['failed_trials']} failed")
    if moment.traffic is not None and moment.traffic.requests:
        parts.append(f"{moment.traffic.requests} requests, {moment.traffic.failed} failed")
    if status["seconds_left"] is not None:
        parts.append(f"at most {duration(status['seconds_left'])} left")
    return ", ".join(parts)


def _value(trial: Mapping[str, Any] | None) -> float | None:
    return None if trial is None else trial["value"]
