"""Brings what a replica counted to the endpoint actor, twice a second while there is something to say.

Runs in a thread of the replica. While the actor is away, labels are kept and counts go on: each report holds all that
was counted since the rollout began.
"""

import logging
import secrets
import time
from dataclasses import astuple

import ray

from deploy.evidence import Judgement
from deploy.feedback import Waiting
from deploy.handle import EndpointHandle, find_handle
from deploy.served import ModelSlot

logger = logging.getLogger(__name__)

REPORT_SECONDS = 0.5
LABELS = 1000  # in one report; more of them wait for the next one


def report_for_ever(name: str, slot: ModelSlot, feedback: Waiting) -> None:
    """Reports until the process ends."""
    reporter = Reporter(name, slot, feedback)
    while True:
        time.sleep(REPORT_SECONDS)
        reporter.report()


class Reporter:
    """Reports as one replica, under a name that no other has."""

    def __init__(self, name: str, slot: ModelSlot, feedback: Waiting) -> None:
        self._name = name
        self._slot = slot
        self._feedback = feedback
        self._replica = secrets.token_hex(8)
        self._handle: EndpointHandle | None = None
        self._is_away = False

    def report(self) -> None:
        """Says what there is to say; what could not be said is said the next time."""
        served, labels = self._slot.served, self._feedback.take()
        contender = None if served is None else served.contender
        if contender is None and not labels:
            return
        now, later = labels[:LABELS], labels[LABELS:]
        if later:
            self._feedback.add(later)
        rollout = 0 if contender is None else contender.number
        evidence = None if contender is None else contender.tally.evidence.to_dict()
        try:
            handle = self._handle or (find_handle(self._name) if ray.is_initialized() else None)
            self._handle = handle
            if handle is None:
                raise LookupError(f"no endpoint actor '{self._name}' runs")
            handle.observe(self._replica, rollout, evidence, [list(astuple(label)) for label in now])
            self._is_away = False
        except Exception as error:  # noqa: BLE001 - a thread's edge: a replica answers whoever does not
            self._keep(now, error)

    def _keep(self, labels: list[Judgement], error: Exception) -> None:
        self._handle = None
        self._feedback.add(labels)
        if not self._is_away:
            logger.warning("The endpoint actor does not hear what this replica counts: %s", error)
        self._is_away = True
