"""The endpoint actor from outside: found by name, asked, its errors as our own."""

from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from deploy.actors import NAMESPACE, actor_name
from deploy.bundle import Lineage
from deploy.monitoring.metrics import Reading
from orchestrator.domain.errors import EndpointError, OrchestratorError
from orchestrator.domain.rollout import RolloutPlan


@dataclass(frozen=True, slots=True)
class EndpointHandle:
    """Asks the endpoint actor; may be sent to other processes, and stays valid when the actor restarts.

    `actor` is Ray's handle, for callers that await its answers themselves.
    """

    name: str
    actor: Any

    def promote(
        self,
        bundle_uri: str,
        lineage: Lineage | None = None,
        *,
        who: str = "",
        why: str = "",
        timeout_seconds: float = 60.0,
    ) -> dict[str, Any]:
        """Makes the bundle answer on every running replica; see `EndpointActor.promote` for what is returned.

        Raises:
            BundleError: when the bundle is damaged or cannot answer.
            EndpointError: when the endpoint does not answer in time; the promotion may still happen, ask again.
        """
        given = None if lineage is None else lineage.to_dict()
        answer: dict[str, Any] = self._ask(self.actor.promote.remote(bundle_uri, given, who, why), timeout_seconds)
        return answer

    def rollback(
        self,
        version: int | None = None,
        *,
        who: str = "",
        why: str = "",
        origin: str = "",
        timeout_seconds: float = 60.0,
    ) -> dict[str, Any]:
        """Makes an earlier version answer again; see `EndpointActor.rollback`.

        Raises:
            BundleError: its bundle is gone or damaged.
            EndpointError: there is no such version, or the endpoint does not answer in time.
        """
        answer: dict[str, Any] = self._ask(self.actor.rollback.remote(version, who, why, origin), timeout_seconds)
        return answer

    def offer(
        self, bundle_uri: str, plan: RolloutPlan, *, who: str = "", why: str = "", timeout_seconds: float = 60.0
    ) -> dict[str, Any]:
        """Offers a bundle, to be rolled out by the plan; see `EndpointActor.offer` for what is returned.

        Raises:
            BundleError: when the bundle is damaged, cannot answer, or does not fit the champion.
            EndpointError: when the endpoint does not answer in time; ask again.
        """
        asked = self.actor.offer.remote(bundle_uri, plan.to_dict(), who, why)
        answer: dict[str, Any] = self._ask(asked, timeout_seconds)
        return answer

    def standing(self, version: int, timeout_seconds: float = 30.0) -> dict[str, Any]:
        """Returns where a version stands; see `EndpointActor.standing`."""
        answer: dict[str, Any] = self._ask(self.actor.standing.remote(version), timeout_seconds)
        return answer

    def promote_version(
        self, version: int, *, who: str = "", why: str = "", origin: str = "", timeout_seconds: float = 60.0
    ) -> dict[str, Any]:
        """Makes a version answer all requests, by hand; see `EndpointActor.promote_version`.

        Raises:
            BundleError: its bundle is gone or damaged.
            EndpointError: there is no such version, or the endpoint does not answer in time.
        """
        asked = self.actor.promote_version.remote(version, who, why, origin)
        answer: dict[str, Any] = self._ask(asked, timeout_seconds)
        return answer

    def try_version(
        self,
        version: int,
        plan: RolloutPlan,
        *,
        who: str = "",
        why: str = "",
        origin: str = "",
        timeout_seconds: float = 60.0,
    ) -> dict[str, Any]:
        """Begins a rollout of a version by hand; see `EndpointActor.try_version`.

        Raises:
            BundleError: its bundle is gone or damaged, or does not fit the champion's.
            EndpointError: there is no such version, it answers already, or the endpoint does not answer in time.
        """
        asked = self.actor.try_version.remote(version, plan.to_dict(), who, why, origin)
        answer: dict[str, Any] = self._ask(asked, timeout_seconds)
        return answer

    def freeze(
        self, frozen: bool, *, who: str = "", why: str = "", origin: str = "", timeout_seconds: float = 30.0
    ) -> bool:
        """Lets nothing change by itself, or again; returns whether that is new."""
        return bool(self._ask(self.actor.freeze.remote(frozen, who, why, origin), timeout_seconds))

    def observe(
        self,
        replica: str,
        rollout: int,
        evidence: dict[str, Any] | None,
        labels: list[list[Any]],
        deaths: list[list[Any]],
        timeout_seconds: float = 10.0,
    ) -> None:
        """Brings what a replica counted to the endpoint; see `EndpointActor.observe`."""
        self._ask(self.actor.observe.remote(replica, rollout, evidence, labels, deaths), timeout_seconds)

    def watch(self, replica: str, count: list[Any], timeout_seconds: float = 10.0) -> None:
        """Brings what a replica counted of its requests; see `EndpointActor.watch`."""
        self._ask(self.actor.watch.remote(replica, count), timeout_seconds)

    def drift(self, timeout_seconds: float = 30.0) -> dict[str, Any]:
        """Returns how far requests are from the champion's training data; see `EndpointActor.drift`.

        Raises:
            EndpointError: there is no champion, or its bundle says nothing of its data.
        """
        answer: dict[str, Any] = self._ask(self.actor.drift.remote(), timeout_seconds)
        return answer

    def status(self, timeout_seconds: float = 30.0) -> dict[str, Any]:
        """Returns versions, the one that answers, the place and the replicas; see `EndpointActor.status`."""
        answer: dict[str, Any] = self._ask(self.actor.status.remote(), timeout_seconds)
        return answer

    def readings(self, timeout_seconds: float = 30.0) -> list[Reading]:
        """Returns the numbers of each running replica."""
        return [Reading.from_dict(each) for each in self._ask(self.actor.readings.remote(), timeout_seconds)]

    def routing(self, timeout_seconds: float = 30.0) -> dict[str, Any] | None:
        """Returns the generation, version and URI that replicas follow; None before the first promotion."""
        answer: dict[str, Any] | None = self._ask(self.actor.routing.remote(), timeout_seconds)
        return answer

    def place(
        self,
        host: str,
        port: int,
        prefix: str,
        grpc_port: int | None = None,
        tls: tuple[str, str] | None = None,
        shares: str = "",
        timeout_seconds: float = 30.0,
    ) -> None:
        """Records where the endpoint is reached; see `EndpointActor.place`."""
        self._ask(self.actor.place.remote(host, port, prefix, grpc_port, tls, shares), timeout_seconds)

    def house(self, endpoint: str, *, lives_here: bool, timeout_seconds: float = 60.0) -> dict[str, Any]:
        """Has another endpoint live in this one's replicas, or no more; see `EndpointActor.house`."""
        answer: dict[str, Any] = self._ask(self.actor.house.remote(endpoint, lives_here), timeout_seconds)
        return answer

    def _ask(self, reference: Any, timeout_seconds: float) -> Any:
        try:
            return ray.get(reference, timeout=timeout_seconds)
        except RayTaskError as error:
            if isinstance(error.cause, OrchestratorError):
                raise error.cause from None
            raise
        except GetTimeoutError as error:
            raise EndpointError(
                f"The endpoint '{self.name}' did not answer within {timeout_seconds:g} s. Look at its status, then ask "
                "again: asking twice for the same promotion is safe."
            ) from error
        except RayActorError as error:
            raise EndpointError(f"The endpoint '{self.name}' is gone ({error}). Start it again.") from error


def find_handle(name: str) -> EndpointHandle | None:
    """Returns the handle of a running endpoint, or None."""
    try:
        return EndpointHandle(name, ray.get_actor(actor_name(name), namespace=NAMESPACE))
    except ValueError:
        return None


def endpoint_handle(name: str) -> EndpointHandle:
    """Returns the handle of a running endpoint.

    Raises:
        EndpointError: when no endpoint of that name runs in the Ray cluster that this process is connected to.
    """
    handle = find_handle(name)
    if handle is None:
        raise EndpointError(
            f"No endpoint '{name}' runs in this Ray cluster. Start it with `orchestrator serve {name}`."
        )
    return handle
