"""Decisions about the endpoint over HTTP, for whoever has a token with the scope `admin`; and its numbers.

    GET  /admin/status                         versions, the rollout, and each replica's report
    GET  /admin/history                        the journal's events, and how often labels proved each version wrong
    POST /admin/promote                        {"version": 4, "why": "it is fine"}, and to try it first "canary": 10 (%)
    POST /admin/rollback                       {"version": 3, "why": "..."}, or without a version as the command does
    POST /admin/freeze, /admin/unfreeze        {"why": "a holiday"}

Each body may also name the `endpoint` that it means. A replica only carries this to the endpoint actor, which decides
one thing after the other; who decided is the token's name, from where is the address that asked.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray

from deploy.access.audit import REFUSED, UNCHANGED, AuditLog, Entry, now_text
from deploy.access.keyring import Caller
from deploy.answering.desk import MAX_BODY_BYTES, Wish, origin_of, parse_wish
from deploy.handle import EndpointHandle, endpoint_handle
from deploy.http.asgi import Answer, Receive, Refusal, Scope, read_body
from deploy.http.patience import Patience
from deploy.monitoring.exposition import MEDIA, exposition
from deploy.monitoring.metrics import Reading
from deploy.places import journal_directory
from deploy.rollout.evidence_file import EvidenceFile
from orchestrator.domain.errors import AnswersAlready, BundleError, ClusterError, OrchestratorError, UnknownVersion
from orchestrator.domain.rollout import by_hand
from orchestrator.journal import AnyStorage, read_journal

logger = logging.getLogger(__name__)

THREADS = 4  # for what waits for the endpoint actor; predictions have others
MOST_WAITING = 16
METRICS_SECONDS = 5.0  # Prometheus gives a scrape ten
RETRY_AFTER = (b"retry-after", b"1")


class AdminDesk:
    """Carries decisions to the endpoint actor. Used by one event loop."""

    def __init__(self, storage: AnyStorage, name: str, own: Callable[[], Reading]) -> None:
        """Makes the desk of a replica; `own` returns that replica's numbers."""
        self._own = own
        self._storage = storage
        self._name = name
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="admin")
        self._waiting = 0
        self._patience = Patience()
        self._log = AuditLog(storage, name)

    async def metrics(self) -> Answer:
        """Returns the numbers of all replicas; this one's alone where the endpoint actor is away."""
        text = await asyncio.get_running_loop().run_in_executor(self._threads, self._exposition)
        return Answer(body=text, media=MEDIA)

    def _exposition(self) -> bytes:
        try:
            readings = self._handle().readings(METRICS_SECONDS)
        except OrchestratorError:
            return exposition(self._name, [self._own()], is_whole=False)
        return exposition(self._name, readings, is_whole=True)

    async def answer(self, action: str, caller: Caller, scope: Scope, receive: Receive) -> Answer:
        """See `Desk`."""
        wish = Wish()
        if action not in ("status", "history"):
            wish = parse_wish(await read_body(scope, receive, MAX_BODY_BYTES, self._patience), action, self._name)
        if self._waiting >= MOST_WAITING:
            raise Refusal(503, "Too many decisions wait for the endpoint already; ask again.", [RETRY_AFTER])
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            done = await loop.run_in_executor(self._threads, self._audited, action, wish, caller.name, origin_of(scope))
        finally:
            self._waiting -= 1
        return Answer(done)

    def _audited(self, action: str, wish: Wish, who: str, origin: str) -> dict[str, Any]:
        """Does it, and writes down what did not change anything: what did is in the journal."""
        try:
            done = self._do(action, wish, who, origin)
        except Refusal as refusal:
            self._write(Entry(now_text(), who, action, REFUSED, origin, f"{refusal.status}: {refusal.reason}"))
            raise
        if done.get("changed") is False:
            self._write(Entry(now_text(), who, action, UNCHANGED, origin, wish.why))
        return done

    def _write(self, entry: Entry) -> None:
        try:
            self._log.append([entry])
        except OrchestratorError as error:
            logger.warning("A decision is not in the audit log: %s", error)

    def _do(self, action: str, wish: Wish, who: str, origin: str) -> dict[str, Any]:
        """Asks the endpoint actor, in a thread, and says its refusals as HTTP does."""
        try:
            if action == "history":
                return self._history()
            return _ask(self._handle(), action, wish, who, origin)
        except UnknownVersion as error:
            raise Refusal(404, str(error)) from error
        except AnswersAlready as error:
            raise Refusal(409, str(error)) from error
        except BundleError as error:
            raise Refusal(409, f"That version cannot answer, and nothing was changed. {error}") from error
        except OrchestratorError as error:
            raise Refusal(503, str(error), [RETRY_AFTER]) from error

    def _handle(self) -> EndpointHandle:
        if not ray.is_initialized():  # looking for the actor would start a cluster of its own
            raise ClusterError("This replica is in no cluster, so nobody is there to decide.")
        return endpoint_handle(self._name)

    def _history(self) -> dict[str, Any]:
        events = [event for batch in read_journal(journal_directory(self._storage, self._name)) for event in batch]
        counts = EvidenceFile(str(self._storage), self._name).book.versions
        labels = {str(version): list(judged) for version, judged in counts.items()}
        return {"endpoint": self._name, "events": events, "labels": labels}


def _ask(handle: EndpointHandle, action: str, wish: Wish, who: str, origin: str) -> dict[str, Any]:
    if action == "status":
        return handle.status()
    if action == "promote":
        assert wish.version is not None, "a promotion names its version"
        if wish.canary is not None and wish.canary < 1:
            plan = by_hand(wish.canary)
            tried = handle.try_version(wish.version, plan, who=who, why=wish.why, origin=origin)
            return {"endpoint": handle.name, "challenger": wish.version, **tried}
        return {"endpoint": handle.name, **handle.promote_version(wish.version, who=who, why=wish.why, origin=origin)}
    if action == "rollback":
        return {"endpoint": handle.name, **handle.rollback(wish.version, who=who, why=wish.why, origin=origin)}
    frozen = action == "freeze"
    changed = handle.freeze(frozen, who=who, why=wish.why, origin=origin)
    return {"endpoint": handle.name, "frozen": frozen, "changed": changed}
