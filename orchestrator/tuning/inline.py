"""A study run in the process at hand: no Ray, one worker, the same decisions."""

import time
from collections.abc import Callable
from contextlib import suppress

from orchestrator.study import Phase, StudyKeeper
from orchestrator.study.laws import referred
from orchestrator.tuning.sweeping import sweep
from orchestrator.tuning.worker import FencedError, OutOfMemoryError, Worker
from orchestrator.tuning.workshop import Workshop

TICK_SECONDS = 0.25


def run_inline(keeper: StudyKeeper, workshop: Workshop, watch: Callable[[], None] = lambda: None) -> None:
    """Runs the study to its end; `watch` is called after each turn.

    An interrupt (Ctrl-C) leaves a study that can be resumed: what ran goes on from its last checkpoint.
    """
    keeper.all_workers_lost("its process ended")
    _sweep(keeper, workshop)
    while keeper.study.state.phase is not Phase.ENDED:
        # elsewhere a process ends after a timeout or without memory; this one can only begin again
        with suppress(FencedError, OutOfMemoryError):
            _work(keeper, Worker(keeper.name_worker("inline"), keeper.exchange, workshop), watch)
    _sweep(keeper, workshop)


def _sweep(keeper: StudyKeeper, workshop: Workshop) -> None:
    checkpoints, bundles = referred(keeper.study.state)
    sweep(workshop.layout, [ref.uri for ref in checkpoints], bundles)


def _work(keeper: StudyKeeper, worker: Worker, watch: Callable[[], None]) -> None:
    ticked = 0.0
    try:
        while keeper.study.state.phase is not Phase.ENDED:
            answer = worker.turn()
            if time.monotonic() - ticked > TICK_SECONDS:
                keeper.tick()
                ticked = time.monotonic()
            watch()
            if answer.wait_seconds and not worker.holds:
                time.sleep(answer.wait_seconds)
    except KeyboardInterrupt:
        if keeper.is_settled:  # else whoever resumes takes back what ran
            keeper.all_workers_lost("interrupted")
        raise
    finally:
        worker.drop()
