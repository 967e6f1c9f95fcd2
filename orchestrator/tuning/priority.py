"""A worker's place in its host's scheduler, where the host may serve: behind everybody who answers requests."""

import os

LEAST_NICENESS = 19


def stand_back() -> None:
    """Lets this process, and the threads that it starts from now on, compute only while nothing else of its host would.

    Niceness alone does not do that: a process that computes keeps its core for some milliseconds when a replica wakes
    up. A task of Linux's idle class (sched(7)) gives it up at once, and the scheduler takes a core that only such tasks
    use for a free one. Beside nice workers the endpoint's p99 was 1.9 times that alone (`benchmarks/tenants.py`).
    There is no way back without privileges; a worker needs none.
    """
    os.nice(LEAST_NICENESS)
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
