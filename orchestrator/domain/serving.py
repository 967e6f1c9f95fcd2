"""What a study was asked to serve: its endpoint, how many replicas, and how a challenger takes over."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.rollout import DEFAULT_SECONDS, DEFAULT_STEPS, ROLLOUTS, SHADOW, RolloutPlan
from orchestrator.domain.sections import choice_of, name_of, number_of, parse_seconds, refusal, section_of, text_of

SERVE_KEYS = (
    "name",
    "share",
    "host",
    "port",
    "grpc_port",
    "ingress",
    "tls",
    "replicas",
    "cpu",
    "gpu",
    "promote",
    "rollout",
    "scale",
    "priority",
)
SHARED_KEYS = ("name", "share", "promote", "rollout")  # what a study may say of an endpoint in others' replicas
DEFAULT_PORT = 8000  # of HTTP, where none is asked for
PRIORITIES = ("serving", "tuning")
INGRESSES = ("auto", "haproxy", "serve")


@dataclass(frozen=True, slots=True)
class ScaleSpecification:
    """When an endpoint has too few replicas, and for how long too many before some go."""

    ongoing: float = 8.0  # requests at once for each replica
    latency_seconds: float | None = None  # from a request's arrival to its answer, on average
    down_seconds: float = 30.0

    @classmethod
    def from_dict(cls, given: Any) -> "ScaleSpecification":
        """Returns the parsed section."""
        section = section_of("serve.scale", given, ("ongoing", "latency", "down"))
        default, latency = cls(), section.get("latency")
        return cls(
            float(number_of("serve.scale.ongoing", section.get("ongoing", default.ongoing), 0.1)),
            None if latency is None else parse_seconds("serve.scale.latency", latency),
            parse_seconds("serve.scale.down", section.get("down", default.down_seconds)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the section that `from_dict` takes."""
        return {"ongoing": self.ongoing, "latency": self.latency_seconds, "down": self.down_seconds}


@dataclass(frozen=True, slots=True)
class ServeSpecification:
    """The endpoint that the study feeds, and by how much a challenger must beat the champion."""

    name: str
    port: int = DEFAULT_PORT
    replicas: int = 1  # the least; they are reserved from the start
    replica_cpus: float = 1.0
    margin: float = 0.0
    host: str = "127.0.0.1"
    grpc_port: int | None = None  # None: no gRPC
    rollout: RolloutPlan = field(default_factory=RolloutPlan)
    most_replicas: int = 1
    scale: ScaleSpecification = field(default_factory=ScaleSpecification)
    priority: str = "serving"
    replica_gpus: float = 0.0
    ingress: str = "auto"
    tls: tuple[str, str] | None = None  # paths of the certificate and of its key
    share: str = ""  # the endpoint in whose replicas it lives; empty: in its own

    @property
    def application(self) -> str:
        """The endpoint that has the replicas."""
        return self.share or self.name

    @property
    def reserved_cpus(self) -> float:
        """What the least of replicas takes, from the start; of those that are shared, the one that is brought back."""
        return 1.0 if self.share else self.replicas * self.replica_cpus

    @classmethod
    def from_dict(cls, given: Any, study: str) -> "ServeSpecification | None":
        """Returns the parsed section, or None where nothing is served."""
        if given is None or given is False:
            return None
        section = section_of("serve", {} if given is True else given, SERVE_KEYS)
        name = name_of("serve.name", section.get("name", study))
        least, most = _replicas(section.get("replicas", 1))
        promote = section_of("serve.promote", section.get("promote"), ("margin",))
        grpc_port = section.get("grpc_port")
        return cls(
            name,
            number_of("serve.port", section.get("port", DEFAULT_PORT), 1, 65535, whole=True),
            least,
            float(number_of("serve.cpu", section.get("cpu", 1), 0)),
            float(number_of("serve.promote.margin", promote.get("margin", 0.0), 0)),
            text_of("serve.host", section.get("host", "127.0.0.1")),
            None if grpc_port is None else number_of("serve.grpc_port", grpc_port, 1, 65535, whole=True),
            _rollout(section.get("rollout")),
            most,
            ScaleSpecification.from_dict(section.get("scale")),
            choice_of("serve.priority", section.get("priority", PRIORITIES[0]), PRIORITIES),
            float(number_of("serve.gpu", section.get("gpu", 0), 0)),
            choice_of("serve.ingress", section.get("ingress", INGRESSES[0]), INGRESSES),
            _tls(section.get("tls")),
            _share(section, name),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the section that `from_dict` takes; what an endpoint of fixed size needs not is left out."""
        is_elastic = self.most_replicas > self.replicas
        takeover = {"promote": {"margin": self.margin}, "rollout": _rollout_section(self.rollout)}
        if self.share:
            return {"name": self.name, "share": self.share, **takeover}
        whole = {
            "name": self.name,
            "host": self.host,
            "port": self.port,
            "replicas": {"min": self.replicas, "max": self.most_replicas} if is_elastic else self.replicas,
            "cpu": self.replica_cpus,
            **takeover,
            **({"gpu": self.replica_gpus} if self.replica_gpus else {}),
            **({} if self.grpc_port is None else {"grpc_port": self.grpc_port}),
            **({} if self.ingress == INGRESSES[0] else {"ingress": self.ingress}),
            **({} if self.tls is None else {"tls": {"certificate": self.tls[0], "key": self.tls[1]}}),
        }
        return whole | ({"scale": self.scale.to_dict(), "priority": self.priority} if is_elastic else {})


def _replicas(given: Any) -> tuple[int, int]:
    if not isinstance(given, Mapping):
        least = number_of("serve.replicas", given, 1, whole=True)
        return least, least
    section = section_of("serve.replicas", given, ("min", "max"))
    least = number_of("serve.replicas.min", section.get("min", 1), 1, whole=True)
    return least, number_of("serve.replicas.max", section.get("max", least), least, whole=True)


def _share(section: Mapping[str, Any], name: str) -> str:
    """Returns whose replicas are shared; what is a matter of the replicas is that endpoint's to say."""
    given = section.get("share")
    if given is None:
        return ""
    share = name_of("serve.share", given)
    if share == name:
        raise refusal(
            "serve.share", given, "it takes the name of another endpoint, in whose replicas this one is to be"
        )
    for key in section:
        if key not in SHARED_KEYS:
            raise refusal(
                f"serve.{key}", section[key], f"it cannot stand beside serve.share: the replicas are those of '{share}'"
            )
    return share


def _tls(given: Any) -> tuple[str, str] | None:
    if given is None:
        return None
    section = section_of("serve.tls", given, ("certificate", "key"))
    if set(section) != {"certificate", "key"}:
        raise refusal("serve.tls", given, "it takes two paths, certificate and key, of files in PEM form")
    return text_of("serve.tls.certificate", section["certificate"]), text_of("serve.tls.key", section["key"])


def _rollout(given: Any) -> RolloutPlan:
    """Returns how a challenger takes over; `each` is a number of requests, or a time as text."""
    known = ("kind", "steps", "each", "alpha", "errors", "slower", "disagreement")
    section = section_of("serve.rollout", {"kind": given} if isinstance(given, str) else given, known)
    kind = choice_of("serve.rollout.kind", section.get("kind", "canary" if section else "full"), ROLLOUTS)
    asked = section.get("steps")
    steps = DEFAULT_STEPS[kind]
    if asked is not None and asked != list(steps):
        steps = _steps(kind, asked)
    each = section.get("each", f"{DEFAULT_SECONDS:g}s")
    requests = number_of("serve.rollout.each", each, 1, whole=True) if not isinstance(each, str) else None
    disagreement = section.get("disagreement")
    return RolloutPlan(
        kind,
        steps,
        None if requests is not None else parse_seconds("serve.rollout.each", each),
        requests,
        float(number_of("serve.rollout.alpha", section.get("alpha", 0.05), 0.0001, 0.5)),
        float(number_of("serve.rollout.errors", section.get("errors", 0.01), 0, 0.9)),
        float(number_of("serve.rollout.slower", section.get("slower", 3.0), 1)),
        None if disagreement is None else float(number_of("serve.rollout.disagreement", disagreement, 0.01, 0.99)),
    )


def _steps(kind: str, given: Any) -> tuple[float, ...]:
    """Returns the challenger's shares, rising; a last one of 1 says what follows in any case."""
    allowed = "a list of shares of the requests, rising from 0 (the shadow) to 1, such as [0, 0.05, 0.25]"
    if kind != "canary" or not isinstance(given, list | tuple):
        raise refusal("serve.rollout.steps", given, f"kind canary takes {allowed}; this one is {kind}")
    steps = [float(number_of("serve.rollout.steps", step, SHADOW, 1)) for step in given]
    steps = steps[:-1] if steps[-1:] == [1.0] else steps
    if not steps or steps != sorted(set(steps)) or steps[-1] == 1.0:
        raise refusal("serve.rollout.steps", given, f"it takes {allowed}")
    return tuple(steps)


def _rollout_section(plan: RolloutPlan) -> dict[str, Any]:
    return {
        "kind": plan.kind,
        "steps": list(plan.steps),
        "each": plan.each,
        "alpha": plan.alpha,
        "errors": plan.errors,
        "slower": plan.slower,
        "disagreement": plan.disagreement,
    }
