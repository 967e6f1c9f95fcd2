"""The endpoint that a study feeds, brought up as its specification says."""

from deploy import EndpointAddress, Scale, share_endpoint, start_endpoint
from deploy.access.tls import Tls
from orchestrator.domain.serving import ServeSpecification
from orchestrator.journal import AnyStorage


def bring_up(serve: ServeSpecification, storage: AnyStorage) -> EndpointAddress:
    """Returns where the endpoint is reached; starts what of it does not run yet, in the cluster that is connected.

    Raises:
        EndpointError, ClusterError: it does not come up, and why.
    """
    if serve.share:
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
