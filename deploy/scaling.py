"""How many replicas an endpoint needs: a rule on the requests at once, on how busy the replicas are, and on latency.

Pure, but for the class through which Serve's controller asks it and the question how many it wants now. Latency is not
measured but follows from what is: requests that are there at once = rate of answers x time that each is there (Little's
law). It holds for those that wait in front of the replicas, too, which no replica could time. Small requests are
answered in one step of a replica's event loop and are never seen at once; of them the loop's own time tells.
"""

import math
from dataclasses import dataclass
from typing import Any

from deploy.ingress.serve_instance import deployment_details
from orchestrator.domain.errors import EndpointError

METRICS_SECONDS = 0.5  # how often the controller hears of the load; 10 by default
WINDOW_SECONDS = 1.5  # over which it is averaged; 30 by default
MOST_GROWTH = 2.0  # in one step: a rate that is still rising makes latency look worse than it is
MOST_BUSY = 0.65  # of the time, that a replica's event loop computes; beside others on its host it never gets all of it
RATE, BUSY = "answered_per_second", "busy_share"
"""The names under which a replica tells its rate, and which share of the time its event loop computes."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How many replicas at least and at most, what one takes, and what load is too much for one."""

    least: int = 1
    most: int = 1
    cpus: float = 1.0
    ongoing: float = 8.0
    latency_seconds: float | None = None
    down_seconds: float = 30.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what Ray could not place."""
        if not 1 <= self.least <= self.most or min(self.cpus, self.gpus) < 0:
            raise EndpointError(f"An endpoint needs 1 replica or more, of 0 CPUs and GPUs or more; given {self}.")

    @property
    def is_elastic(self) -> bool:
        """Whether replicas come and go."""
        return self.most > self.least


def wanted_replicas(scale: Scale, *, running: int, ongoing: float, rate: float, busy: float = 0.0) -> int:
    """Returns how many replicas the load needs.

    Args:
        scale: the bounds and the targets.
        running: replicas that answer now.
        ongoing: requests at once, waiting ones among them.
        rate: answers a second, of all replicas.
        busy: the time that their event loops compute, of all replicas: 1.5 for two of which one is half idle.
    """
    wanted = max(ongoing / scale.ongoing, busy / MOST_BUSY)
    if scale.latency_seconds is not None and rate > 0:
        latency = ongoing / rate
        wanted = max(wanted, min(running * latency / scale.latency_seconds, running * MOST_GROWTH))
    return max(scale.least, min(scale.most, math.ceil(wanted - 1e-6)))


class ScalingPolicy:
    """What Serve's controller calls: the rule above on its own numbers."""

    def __init__(self, least: int, most: int, ongoing: float, latency_seconds: float | None) -> None:
        self._scale = Scale(least, most, ongoing=ongoing, latency_seconds=latency_seconds)

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Returns the number of replicas; see `ray.serve.config.AutoscalingContext`."""
        told = context.aggregated_metrics or {}
        rate, busy = (sum(told.get(name, {}).values()) for name in (RATE, BUSY))
        running, ongoing = max(1, context.current_num_replicas), float(context.total_num_requests)
        return wanted_replicas(self._scale, running=running, ongoing=ongoing, rate=rate, busy=busy), {}


def autoscaling(scale: Scale) -> dict[str, Any]:
    """Returns Serve's autoscaling configuration for an elastic endpoint: up at once, down after a while."""
    return {
        "min_replicas": scale.least,
        "max_replicas": scale.most,
        "initial_replicas": scale.least,
        "metrics_interval_s": METRICS_SECONDS,
        "look_back_period_s": WINDOW_SECONDS,
        "upscale_delay_s": 0.0,
        "downscale_delay_s": scale.down_seconds,
        "policy": {
            "policy_function": ScalingPolicy,
            "policy_kwargs": {
                "least": scale.least,
                "most": scale.most,
                "ongoing": scale.ongoing,
                "latency_seconds": scale.latency_seconds,
            },
        },
    }


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many replicas an endpoint has or waits for, the hosts (Ray's node ids) of those that have a place, and what
    one of them takes.
    """

    asked: int = 0
    hosts: tuple[str, ...] = ()
    cpus: float = 0.0
    gpus: float = 0.0


def replicas_of(name: str) -> Replicas:
    """Returns the replicas of an endpoint, those that are on their way out left aside; none where that is unknown."""
    details = deployment_details(name)
    there = [replica for replica in details.get("replicas", ()) if replica["state"] != "STOPPING"]
    takes = details.get("deployment_config", {}).get("ray_actor_options", {})
    return Replicas(
        len(there),
        tuple(replica["node_id"] for replica in there if replica.get("node_id")),
        float(takes.get("num_cpus") or 0.0),
        float(takes.get("num_gpus") or 0.0),
    )


def running_replicas(name: str) -> int:
    """Returns how many replicas of an endpoint run; 0 where that cannot be said."""
    return sum(replica["state"] == "RUNNING" for replica in deployment_details(name).get("replicas", ()))
