"""How many CPUs each tenant of the cluster holds, through Ray's metrics port of the runner's host."""

from ray.util.metrics import Gauge

from deploy import Replicas
from orchestrator.domain.specification import StudySpecification
from orchestrator.process_graph.arbiter import replica_need, reserved_replicas

NAME = "orchestrator_tenant_cpus"


class TenantMetrics:
    """Says it for one study and the endpoint that it feeds. Used by the runner's thread."""

    def __init__(self, specification: StudySpecification) -> None:
        self._specification = specification
        self._cpus = Gauge(NAME, "CPUs that a tenant holds, or has room for.", ("study", "tenant"))

    def tell(self, workers: int, replicas: Replicas) -> None:
        """Says what the running workers hold, and what is kept for the replicas that the endpoint asks for."""
        serve, study = self._specification.serve, self._specification.study
        kept = reserved_replicas(serve, replicas.asked)
        serving = 0.0 if serve is None else kept * replica_need(serve, replicas)["CPU"]
        self._cpus.set(workers * self._specification.resources.cpu, {"study": study, "tenant": "tuning"})
        self._cpus.set(serving, {"study": study, "tenant": "serving"})
