"""Serving: model packages, and the endpoint that answers from them and changes them in place.

The rooms, each of which sees only those behind it: `ingress` stands before the replicas, `answering` answers one
request, `formats` reads and writes bodies, `monitoring` counts, `access` knows who may come in, `rollout` decides which
version answers, `http` has the words of HTTP, `bundle` is the model package. `exports` are the doors out, and
`standalone` what runs behind them.

What runs in Ray is here: `actors` decides and records, `replies` asks all replicas, `replica` serves, and holds a
`resident` for each endpoint in it; `following` keeps that true to the journal, `reporting` says what it counted.
`starting` brings it up, `scaling` says how many replicas it needs, `handle` and `client` ask it. What needs Ray is
loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.address import EndpointAddress
    from deploy.client import Answer, Client, RequestRefused
    from deploy.handle import EndpointHandle, endpoint_handle
    from deploy.ingress.serve_instance import stop_serve
    from deploy.places import known_endpoints
    from deploy.scaling import Replicas, Scale, replicas_of
    from deploy.starting import share_endpoint, start_endpoint, stop_endpoint

__all__ = [
    "Answer",
    "Client",
    "EndpointAddress",
    "EndpointHandle",
    "Replicas",
    "RequestRefused",
    "Scale",
    "endpoint_handle",
    "known_endpoints",
    "replicas_of",
    "share_endpoint",
    "start_endpoint",
    "stop_endpoint",
    "stop_serve",
]

_HOMES = {
    "Answer": "client",
    "Client": "client",
    "EndpointAddress": "address",
    "EndpointHandle": "handle",
    "RequestRefused": "client",
    "Replicas": "scaling",
    "Scale": "scaling",
    "endpoint_handle": "handle",
    "known_endpoints": "places",
    "replicas_of": "scaling",
    "share_endpoint": "starting",
    "start_endpoint": "starting",
    "stop_endpoint": "starting",
    "stop_serve": "ingress.serve_instance",
}


def __getattr__(name: str) -> Any:
    """Returns a name of the façade, its module loaded now."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'deploy' has no attribute '{name}'; it has {', '.join(__all__)}")
    return getattr(import_module(f"deploy.{home}"), name)
