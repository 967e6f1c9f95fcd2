"""The words of an endpoint: an offered bundle, a version of it, what replicas are told, where it is reached."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.bundle import Lineage


@dataclass(frozen=True, slots=True)
class Offer:
    """A checked bundle that wants to answer."""

    uri: str
    digest: str
    lineage: Lineage


@dataclass(frozen=True, slots=True)
class Version:
    """A bundle that answered at some time, and the decision that last made it do so."""

    number: int
    uri: str
    digest: str
    lineage: Lineage
    who: str
    why: str
    at: str

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return {
            "version": self.number,
            "uri": self.uri,
            "digest": self.digest,
            "lineage": self.lineage.to_dict(),
            "who": self.who,
            "why": self.why,
            "at": self.at,
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Version":
        """Returns the version that `to_dict` wrote."""
        return cls(
            number=int(given["version"]),
            uri=str(given["uri"]),
            digest=str(given["digest"]),
            lineage=Lineage.from_dict(given["lineage"]),
            who=str(given["who"]),
            why=str(given["why"]),
            at=str(given["at"]),
        )


@dataclass(frozen=True, slots=True)
class Contest:
    """What replicas are told of a rollout: its number, the challenger's bundle, its share of the requests."""

    number: int
    version: int
    uri: str
    weight: float
    slow_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return {
            "number": self.number,
            "version": self.version,
            "uri": self.uri,
            "weight": self.weight,
            "slow_seconds": self.slow_seconds,
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Contest":
        """Returns the contest that `to_dict` wrote."""
        return cls(
            int(given["number"]),
            int(given["version"]),
            str(given["uri"]),
            float(given["weight"]),
            float(given["slow_seconds"]),
        )


@dataclass(frozen=True, slots=True)
class Routing:
    """What replicas are told: which bundle answers, as which version; a higher generation is a later decision."""

    generation: int
    version: int
    uri: str
    contest: Contest | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        plain: dict[str, Any] = {"generation": self.generation, "version": self.version, "uri": self.uri}
        return plain if self.contest is None else {**plain, "contest": self.contest.to_dict()}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Routing":
        """Returns the routing that `to_dict` wrote."""
        contest = given.get("contest")
        return cls(
            int(given["generation"]),
            int(given["version"]),
            str(given["uri"]),
            None if contest is None else Contest.from_dict(contest),
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where an endpoint is reached; `grpc_port` None: not over gRPC; `tls`, the paths of certificate and key, None: in
    the clear; `shares`, the endpoint in whose replicas it lives, empty for its own.
    """

    host: str
    port: int
    prefix: str
    grpc_port: int | None = None
    tls: tuple[str, str] | None = None
    shares: str = ""
