"""Asks all replicas of an endpoint the same, and knows when one was missed."""

import time
from typing import Any

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException

from deploy.following import FOLLOWED_SECONDS
from deploy.ingress.serve_instance import deployment_details
from deploy.scaling import running_replicas

DEPLOYMENT = "replica"
BROADCAST_SECONDS = 10.0  # a swap takes milliseconds; a replica that needs longer follows the journal by itself
AGAIN_SECONDS, PAUSE_SECONDS = 1.0, 0.02
DOUBT_SECONDS = 10.0  # between two new handles: each costs a thread's work for as long as this process lives


class Replies:
    """The replicas of one endpoint, as they answer. May be used by several threads.

    `shares` is the endpoint in whose replicas it lives, empty for its own. All that a replica is asked begins with the
    endpoint's name.

    A handle hears of replicas from Serve's controller; one that asked while the controller died may never hear again,
    and a new one knows none for a moment. So where an answer is missing or none came, the controller is asked how many
    replicas there are, and the replicas once more.
    """

    def __init__(self, name: str, shares: str = "") -> None:
        self._name = name
        self._application = shares or name
        self._handle: Any = None
        self._doubt_again_at = 0.0

    def ask(self, method: str, *given: Any) -> tuple[list[dict[str, Any]], list[str]]:
        """Returns each running replica's answer, and what went wrong; a replica that died is neither.

        Some may be asked twice: `method` has to be one that does the same again.
        """
        reports, errors, lost = self._ask(method, *given)
        until = time.monotonic() + AGAIN_SECONDS
        while (lost or not reports) and running_replicas(self._application) > len(reports) + lost:
            now = time.monotonic()
            if now > until:
                break
            if now >= self._doubt_again_at:
                self._doubt_again_at, self._handle = now + DOUBT_SECONDS, None
            time.sleep(PAUSE_SECONDS)
            reports, errors, lost = self._ask(method, *given)
        return reports, errors

    def tell(self, method: str, *given: Any) -> tuple[list[dict[str, Any]], list[str]]:
        """Asks what follows from the journal, and returns as `ask` does when all replicas follow it.

        One that has just come, or is about to go, may have requests while no handle knows it. It looks at the journal
        by itself, and has the time for that.
        """
        said = self.ask(method, *given)
        if len(deployment_details(self._application).get("replicas", ())) > len(said[0]):
            time.sleep(FOLLOWED_SECONDS)
        return said

    def _ask(self, method: str, *given: Any) -> tuple[list[dict[str, Any]], list[str], int]:
        """Returns the same of the replicas that the handle knows, and how many of them died."""
        try:
            handle = self._handle or serve.get_deployment_handle(DEPLOYMENT, app_name=self._application)
            self._handle = handle
            answers = handle.broadcast(method, self._name, *given).results(
                timeout_s=BROADCAST_SECONDS, return_exceptions=True
            )
        except (DeploymentUnavailableError, RayServeException, KeyError):
            return [], [], 0  # nothing is deployed, or nothing runs yet; replicas that start later read the journal
        except TimeoutError as error:
            return [], [str(error)], 0
        failed = [answer for answer in answers if isinstance(answer, Exception)]
        errors = [str(error) for error in failed if not isinstance(error, RayActorError)]
        return [answer for answer in answers if isinstance(answer, dict)], errors, len(failed) - len(errors)
