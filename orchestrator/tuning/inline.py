"""A study run in the process at hand: no Ray, one worker, the same decisions."""

import time
from collections.abc import Callable

from orchestrator.study import Phase, StudyKeeper
from orchestrator.tuning.worker import Worker
from orchestrator.tuning.workshop import Workshop

WORKER = "inline"
TICK_SECONDS = 0.25


def run_inline(keeper: StudyKeeper, workshop: Workshop, watch: Callable[[], None] = lambda: None) -> None:
    """Runs the study to its end; `watch` is called after each turn.

    An interrupt (Ctrl-C) leaves a study that can be resumed: what ran goes on from its last checkpoint.
    """
    worker = Worker(WORKER, keeper.exchange, workshop)
    keeper.all_workers_lost("its process ended")
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
        keeper.all_workers_lost("interrupted")
        raise
    finally:
        worker.drop()
