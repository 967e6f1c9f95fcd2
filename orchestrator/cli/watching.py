"""Who watches a study that a command runs: the screen, and what has to happen as soon as something is known."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from deploy.access.tokens import ensure_token
from orchestrator.api.driving import Observer, Silence
from orchestrator.api.study_file import study_file
from orchestrator.cli.live import LiveView
from orchestrator.cli.plain import PlainLines
from orchestrator.cli.traffic import Traffic
from orchestrator.domain.specification import StudySpecification
from orchestrator.study import Layout


class View(Observer):
    """An observer that can be taken off the screen."""

    def close(self) -> None:
        """Leaves the screen to what follows."""


class _Hidden(Silence, View):
    pass


class Watch:
    """Hears of the study first: keeps its file, begins the traffic with the first promotion, then lets it be shown."""

    def __init__(
        self, specification: StudySpecification, view: Observer, traffic: Traffic | None, opened: Callable[[], None]
    ) -> None:
        self._specification = specification
        self._view = view
        self._traffic = traffic
        self._opened = opened  # called once, when the study is open
        self._is_open = False

    def say(self, line: str) -> None:
        """Passes the line on."""
        self._view.say(line)

    def look(self, status: Mapping[str, Any], runner: Mapping[str, Any] | None) -> None:
        """Does what is due, and passes on how the study stands."""
        if not self._is_open:  # from now on, so that its file cannot be laid over another study's
            layout = Layout(self._specification.storage, self._specification.study)
            layout.root.write(layout.STUDY_FILE, study_file(self._specification).encode())
            self._opened()
            self._is_open = True
        endpoint = runner["endpoint"] if runner is not None else None
        if self._traffic is not None and not self._traffic.has_started and endpoint and status["champion"]:
            token_file = ensure_token(self._specification.storage, endpoint["name"])
            self._traffic.start(endpoint["url"], token_file, endpoint["certificate"])
        self._view.look(status, runner)


@contextmanager
def shown(specification: StudySpecification, quiet: bool, traffic: Traffic | None) -> Iterator[View]:
    """Yields the view that fits where stderr goes, and takes it off the screen afterwards."""
    view: Any
    if quiet:
        view = _Hidden()
    elif sys.stderr.isatty():
        view = LiveView(specification, lambda: traffic.count if traffic else None)
    else:
        view = PlainLines(specification, lambda: traffic.count if traffic else None)
    try:
        yield view
    finally:
        view.close()
