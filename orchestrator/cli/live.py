"""A study's course on a terminal: a panel that is drawn again and again, and gone at the end."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from orchestrator.cli.view import Moment, TrafficCount, rows, way
from orchestrator.domain.specification import StudySpecification

WIDEST = 110  # columns; longer lines are hard to read
LABELS = "dim"


class LiveView:
    """Draws on stderr; stdout is for the result. Called by one thread."""

    def __init__(
        self,
        specification: StudySpecification,
        count: Callable[[], TrafficCount | None],
        console: Console | None = None,
    ) -> None:
        self._specification = specification
        self._count = count
        self._console = console or Console(stderr=True, highlight=False)
        self._spinner = Spinner("dots")
        self._live = Live(console=self._console, auto_refresh=True, refresh_per_second=8, transient=True)
        self._live.start()

    def say(self, line: str) -> None:
        """Shows what is being done."""
        self._spinner.update(text=Text(f" {line}"))
        self._live.update(self._spinner)

    def look(self, status: Mapping[str, Any], runner: Mapping[str, Any] | None) -> None:
        """Shows how the study stands."""
        serves = self._specification.serve is not None
        self._live.update(self.draw(Moment(status, runner, self._count(), serves)))

    def close(self) -> None:
        """Takes the panel off the screen."""
        self._live.stop()

    def draw(self, moment: Moment) -> RenderableType:
        """Returns the panel."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style=LABELS)
        grid.add_column(overflow="fold")
        for label, text in rows(moment):
            grid.add_row(label, Text(text))
        parts: list[RenderableType] = [Text(way(self._specification, moment.runner), style="bold"), grid]
        if moment.fraction is not None:
            parts.append(ProgressBar(total=1.0, completed=moment.fraction))
        width = min(WIDEST, self._console.width)
        return Panel(Group(*parts), title=f"{moment.status['study']}: {moment.status['phase']}", width=width)
