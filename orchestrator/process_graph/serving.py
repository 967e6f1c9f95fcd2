"""Endpoints, brought up as a study asks for them, or as they were last."""

from deploy import EndpointAddress, Scale, known_endpoints, share_endpoint, start_endpoint
from deploy.access.tls import Tls
from deploy.following import endpoint_state
from deploy.handle import find_handle
from deploy.ingress.choice import AUTO
from orchestrator.domain.errors import EndpointError, did_you_mean
from orchestrator.domain.serving import DEFAULT_PORT, ServeSpecification
from orchestrator.journal import AnyStorage

REPLICA_CPUS = 1.0  # of the one replica of an endpoint that is brought back


def bring_up(serve: ServeSpecification, storage: AnyStorage) -> EndpointAddress:
    """Returns where a study's endpoint is reached; starts what of it does not run yet, in the connected cluster.

    Where it shares replicas, the endpoint that has them is brought back first.

    Raises:
        EndpointError, ClusterError: it does not come up, and why.
    """
    if serve.share:
        if find_handle(serve.share) is None:
            require_owner(serve.share, storage)
            bring_back(serve.share, storage)
        return share_endpoint(serve.name, storage, serve.share)
    return start_endpoint(
        serve.name,
        storage,
        host=serve.host,
        port=serve.port,
        grpc_port=serve.grpc_port,
        ingress=serve.ingress,
        tls=None if serve.tls is None else Tls(*serve.tls),
        scale=scale_of(serve),
    )


def bring_back(
    name: str, storage: AnyStorage, *, port: int | None = None, ingress: str = AUTO, tls: Tls | None = None
) -> EndpointAddress:
    """Returns where an endpoint with replicas of its own is reached, of which one is started where none runs.

    What is not asked for is as it was last. Raises as `bring_up`.
    """
    place = endpoint_state(storage, name).place
    if tls is None and place is not None and place.tls is not None:
        tls = Tls(*place.tls)
    return start_endpoint(
        name,
        storage,
        port=port or (place.port if place else DEFAULT_PORT),
        grpc_port=place.grpc_port if place else None,
        ingress=ingress,
        tls=tls,
        scale=Scale(cpus=REPLICA_CPUS),
    )


def require_owner(name: str, storage: AnyStorage) -> None:
    """Raises where there is no endpoint of that name with replicas that could be shared, running or to be brought back.

    Raises:
        EndpointError: there is none, and which there are; or it shares another one's.
    """
    known = known_endpoints(storage)
    if name not in known and find_handle(name) is None:
        there = f"there: {', '.join(known)}" if known else "there are none"
        raise EndpointError(
            f"no endpoint '{name}', whose replicas are to be shared (serve.share), on {storage}; {there}."
            f"{did_you_mean(name, known)}"
        )
    place = endpoint_state(storage, name).place
    if place is not None and place.shares:
        raise EndpointError(
            f"the endpoint '{name}', whose replicas are to be shared (serve.share), lives in those of "
            f"'{place.shares}' itself; share that one's"
        )


def scale_of(serve: ServeSpecification) -> Scale:
    """Returns the endpoint's bounds and targets in serving's own words."""
    return Scale(
        serve.replicas,
        serve.most_replicas,
        serve.replica_cpus,
        serve.scale.ongoing,
        serve.scale.latency_seconds,
        serve.scale.down_seconds,
        serve.replica_gpus,
    )
