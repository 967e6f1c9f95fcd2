"""What both Ray ways of running trials share: the Tuner's settings, and the port to a study actor."""

import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.domain.exchange import Answer, Message
from orchestrator.journal import scratch
from orchestrator.tuning.outage import is_outage, outlast
from orchestrator.tuning.worker import Port

RESULT_SECONDS = 10.0  # Tune takes one result a turn and looks at all slots for it: few results, little cost

StudyActor = Any
"""A handle of the study actor; see `orchestrator.process_graph.study_actor`."""


def actor_port(study: StudyActor) -> Port:
    """Returns a port whose messages go to a study actor; a call outlives a restart, and an outage of its storage."""

    def port(message: Message) -> Answer:
        given = message.to_dict()
        return Answer.from_dict(ask_patiently(lambda: study.exchange.remote(given)))  # said twice it counts once

    return port


def ask_patiently(ask: Callable[[], Any]) -> Any:
    """Returns what an actor answers; it is asked again while its storage is away.

    Raises:
        StorageError: the storage was away for too long.
    """
    import ray
    from ray.exceptions import RayTaskError

    def answer() -> Any:
        try:
            return ray.get(ask())
        except RayTaskError as error:
            if is_outage(error.cause):
                raise error.cause from None
            raise

    return outlast(answer)


def prepare_environment(slots: int) -> None:
    """Sets what Tune reads from the environment. To be called before `ray.tune` is imported in this process."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # they write every result three times
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "3600"  # Tune's own state is disposable: the journal is the study
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(max(1, slots))  # one by default with a searcher of one's own
    os.environ["TUNE_WARN_THRESHOLD_S"] = "600"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"


def fit(
    trainable: Any,
    *,
    searcher: Any,
    scheduler: Any = None,
    callbacks: list[Any],
    resources: Mapping[str, float],
    room_name: Callable[[], str] = str,
) -> None:
    """Runs one life of a Tune experiment to its end; blocks. Its files are scratch and removed afterwards.

    Each slot's room, a placement group, gets a name of `room_name`; none where that is empty.
    """
    from ray import tune

    def room(configuration: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([dict(resources)], name=room_name())

    own = scratch("tune")  # what a killed runner left goes with the next one's
    try:
        tune.Tuner(
            tune.with_resources(trainable, room),
            tune_config=tune.TuneConfig(
                search_alg=searcher, scheduler=scheduler, num_samples=-1, reuse_actors=False, metric="value", mode="max"
            ),
            run_config=tune.RunConfig(
                name="slots",
                storage_path=str(own),
                verbose=0,
                callbacks=callbacks,
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    finally:
        shutil.rmtree(own, ignore_errors=True)


def resources_of(cpu: float, gpu: float) -> dict[str, float]:
    """Returns what one slot holds, in Ray's words."""
    return {"CPU": cpu} | ({"GPU": gpu} if gpu else {})


Wanted = Callable[[], int]
"""Returns how many workers should run now; below 0: none, ever again."""
