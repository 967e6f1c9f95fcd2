"""One run of a study from the command line: begun or resumed, watched, measured, and what we started ended."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import click

from orchestrator.api.driving import Observer, Outcome, drive, ended_outcome, set_aside
from orchestrator.cli.failing import failing_text, failure_text
from orchestrator.cli.pasting import pasted
from orchestrator.cli.printing import print_json
from orchestrator.cli.summary import Ending, closing_block, read_summary, summary, write_summary
from orchestrator.cli.traffic import Traffic
from orchestrator.cli.watching import View, Watch, shown
from orchestrator.domain.errors import InvalidSpecification, StorageError, StudyBusy
from orchestrator.domain.specification import Budget, StudySpecification
from orchestrator.journal import AnyStorage, Storage
from orchestrator.process_graph.session_file import SessionFile, session_path
from orchestrator.study import Layout, read_study
from orchestrator.study.identity import current, differences, what_to_do
from orchestrator.tuning.code import Code

TERMINATED = 143  # 128 + SIGTERM, as shells have it
FIRST_LOOK_SECONDS = 5.0  # an object store that does not answer at once is said at once
INTERRUPTED = 130  # 128 + SIGINT


@dataclass(frozen=True, slots=True)
class Choices:
    """What the command line asked for beside the study; `command` is what resumes it."""

    command: str
    address: str | None = None
    fresh: bool = False
    again: bool = False
    traffic: bool = False
    keep: bool = False
    quiet: bool = False
    as_json: bool = False


class Course:
    """A study on its way through one command. For one thread."""

    def __init__(self, specification: StudySpecification, choices: Choices) -> None:
        if specification.execution == "inline" and specification.serve is not None:
            click.echo("execution: inline uses no Ray, so nothing is served", err=True)
            specification = specification.with_changes(serve=None)
        self._specification = specification
        self._choices = choices
        self._storage = Storage.of(specification.storage)
        self._layout = Layout(self._storage, specification.study)
        self._began = time.monotonic()

    def run(self) -> int:
        """Returns the exit code."""
        self._require_storage()
        outcome = ended_outcome(self._specification)
        if self._choices.fresh or (self._choices.again and outcome is not None):
            self._begin_anew()
            outcome = None
        self._take_up()
        if outcome is not None and self._asks_for_more_than(outcome):
            self._require_same_study()
            outcome = None
        if outcome is not None:
            self._require_same_study()
            if (written := read_summary(self._layout)) is not None:
                return self._show_again(written)
        with shown(self._specification, self._choices.quiet, self._traffic) as view, _termination():
            try:
                return self._conclude(outcome or self._drive(view), view)
            except (KeyboardInterrupt, SystemExit) as error:
                return self._interrupted(view, TERMINATED if isinstance(error, SystemExit) else INTERRUPTED)
            finally:
                self._end()

    # --- before --------------------------------------------------------------------------------------------------

    def _require_storage(self) -> None:
        if not self._storage.is_local:
            self._storage.patient(FIRST_LOOK_SECONDS).folders()
            return
        place = self._storage.local_path
        try:
            place.mkdir(parents=True, exist_ok=True)
            is_writable = os.access(place, os.W_OK | os.X_OK)
        except OSError as error:
            raise StorageError(f"storage {self._storage} cannot be used ({error.strerror}); give another") from error
        if not is_writable:
            raise StorageError(f"storage {self._storage} cannot be written; give another, or mend its permissions")

    def _require_same_study(self) -> None:
        """Raises where the file describes another study than the one that has ended under its name."""
        state = read_study(self._storage, self._specification.study).state
        differing = differences(state, self._specification)
        if differing:
            raise InvalidSpecification(
                f"study '{self._specification.study}' has ended with another {', '.join(differing)}; "
                f"{what_to_do(state, self._specification, differing)}"
            )

    def _take_up(self) -> None:
        """Goes on with what the study was given by `extend` after its file was written, and says so."""
        if self._layout.exists():
            state = read_study(self._storage, self._specification.study).state
            self._specification, word = current(state, self._specification)
            if word:
                self._tell(word)

    def _asks_for_more_than(self, outcome: Outcome) -> bool:
        """Whether a study that has come to its end may spend more now, and so goes on."""
        had = outcome.status["budget"]
        return self._specification.budget.is_larger(Budget(had["trials"], had["seconds"]))

    def _begin_anew(self) -> None:
        session = SessionFile.read(session_path(self._storage))
        if session is not None:
            if session.driver is not None and session.driver.find() is not None:
                raise StudyBusy(
                    f"process {session.driver.pid} is running a study on {self._storage}; end it first "
                    f"(`{pasted('down', storage=self._storage)}`), then begin anew"
                )
            self._tell("ending what an earlier run left on this storage")
            _end_session(self._storage)
        kept = set_aside(self._specification)
        if kept is not None:
            self._tell(f"what there was of study '{self._specification.study}' is now in {kept}")

    def _show_again(self, written: Mapping[str, Any]) -> int:
        self._show(written)
        self._tell(f"\nthis study has ended before; begin it anew with:\n{self._choices.command} --fresh")
        return 0

    # --- on the way ----------------------------------------------------------------------------------------------

    @cached_property
    def _traffic(self) -> Traffic | None:
        data, serve = self._specification.data, self._specification.serve
        wanted = self._choices.traffic and data is not None and serve is not None
        return Traffic(lambda: self._parts.validation_x.tolist()) if wanted else None

    @cached_property
    def _parts(self) -> Any:
        """The data, loaded when it is first needed."""
        from trainables.data import load, split

        asked = self._specification.data
        assert asked is not None
        return split(load(asked.source, target=asked.target), asked.test, asked.validation, asked.seed)

    def _drive(self, view: Observer) -> Outcome:
        view.say(f"loading {self._specification.trainable}…")
        code = Code.named(self._specification.trainable)
        watch = Watch(self._specification, view, self._traffic, _heed_termination)
        return drive(self._specification, code, watch, address=self._choices.address)

    def _interrupted(self, view: View, code: int) -> int:
        view.close()
        if self._choices.keep and self._specification.execution != "inline":
            self._tell("\ninterrupted; the study goes on by itself. Watch it again with:")
        else:
            self._tell("\ninterrupted; ending what was started. Nothing is lost, go on with:")
        self._tell(self._choices.command)
        return code

    # --- the end -------------------------------------------------------------------------------------------------

    def _conclude(self, outcome: Outcome, view: View) -> int:
        name = self._specification.study
        if outcome.status["reason"] == "failing" and outcome.failure is not None:
            view.close()
            click.echo(failing_text(name, outcome.failure, self._choices.command), err=True)
            return 1
        ending = self._measured(outcome, view)
        data = summary(ending)
        write_summary(data, self._layout)
        view.close()
        if outcome.failure is not None:
            count = outcome.status["failed_trials"]
            self._tell(f"{failure_text(outcome.failure)}\n({count} of {outcome.status['trials']} trials failed)\n")
        self._show(data)
        return 0

    def _measured(self, outcome: Outcome, view: Observer) -> Ending:
        traffic = self._traffic.stop() if self._traffic is not None else None
        scores = None
        if self._specification.data is not None and self._specification.serve is not None:
            from orchestrator.cli.measuring import measure
            from orchestrator.cli.reaching import reach

            view.say("measuring on the test rows…")
            address, problem = reach(self._specification, outcome, self._choices.address, view.say)
            scores = measure(self._parts, address, outcome.bundles, problem).to_dict()
        return Ending(
            self._specification,
            self._storage,
            outcome.status,
            outcome.savings,
            scores,
            traffic,
            time.monotonic() - self._began,
        )

    def _show(self, data: Mapping[str, Any]) -> None:
        if self._choices.as_json:
            print_json(data)
        else:
            session = SessionFile.read(session_path(self._storage))
            is_kept = self._choices.keep or (session is not None and session.stays)
            stays = is_kept or self._choices.address is not None
            click.echo(closing_block(data, self._specification, self._storage, stays=stays))

    def _end(self) -> None:
        """Ends the session if it is this command's; another interrupt does not stop that half-way.

        In one that stays, for somebody's endpoint, the study alone is ended.
        """
        session = SessionFile.read(session_path(self._storage))
        own = session is not None and session.driver is not None and session.driver.pid == os.getpid()
        if session is None or not own or self._choices.keep:
            return
        before = [(number, signal.signal(number, signal.SIG_IGN)) for number in (signal.SIGINT, signal.SIGTERM)]
        if session.stays:
            _release(self._storage, self._specification.study, session)
        else:
            _end_session(self._storage)
        for number, handler in before:
            signal.signal(number, handler)

    def _tell(self, line: str) -> None:
        click.echo(line, err=True)


@contextmanager
def _termination() -> Iterator[None]:
    """Lets SIGTERM end the command like Ctrl-C does."""
    before = signal.getsignal(signal.SIGTERM)
    _heed_termination()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _heed_termination() -> None:
    """Takes SIGTERM over; again after Ray was connected to, whose own handler aborts the process 3 s later."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))


def _release(storage: AnyStorage, study: str, session: SessionFile) -> None:
    """Ends a study's actors where they still run: it was interrupted."""
    from orchestrator.cli.attaching import find_running

    running = find_running(storage, study, session, None) if Layout(storage, study).exists() else None
    if running is not None:
        running.release()


def _end_session(storage: AnyStorage) -> None:
    from orchestrator.process_graph.session import end_session

    end_session(storage)
