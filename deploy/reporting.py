"""Brings what a replica counted to the endpoint actor: twice a second in a rollout, and what was asked more rarely.

Runs in a thread of the replica. While the actor is away, labels are kept and counts go on: each report holds all that
was counted since the rollout began.
"""

import logging
import secrets
import threading
import time
from dataclasses import astuple
from pathlib import Path

import ray

from deploy.answering.black_box import Death, deaths, forget
from deploy.answering.feedback import Waiting
from deploy.answering.served import ModelSlot
from deploy.handle import EndpointHandle, find_handle
from deploy.monitoring.traffic import Traffic, TrafficCounts

logger = logging.getLogger(__name__)

REPORT_SECONDS = 0.5
WATCH_SECONDS = 2.0  # between two counts of what was asked: drift takes hours, and a look at it should not
LABELS = 1000  # in one report; more of them wait for the next one


class Reporter:
    """Reports as one replica, under a name that no other has. `boxes` is the folder of this host's black boxes."""

    def __init__(self, name: str, slot: ModelSlot, feedback: Waiting, traffic: Traffic, boxes: Path) -> None:
        self._name = name
        self._boxes = boxes
        self._slot = slot
        self._feedback = feedback
        self._traffic = traffic
        self._counts = TrafficCounts(version=0)
        self._watched, self._watched_at = 0, 0.0  # rows that the endpoint actor has heard of, and when
        self._replica = secrets.token_hex(8)
        self._handle: EndpointHandle | None = None
        self._is_away = False

    def report_until(self, ended: threading.Event) -> None:
        """Reports until `ended` is set."""
        while not ended.wait(REPORT_SECONDS):
            self.report()
            self.watch()

    def report(self) -> None:
        """Says what there is to say; what could not be said is said the next time."""
        served, labels, died = self._slot.served, self._feedback.take(), self._deaths()
        contender = None if served is None else served.contender
        if contender is None and not labels and not died:
            return
        now, later = labels[:LABELS], labels[LABELS:]
        if later:
            self._feedback.add(later)
        rollout = 0 if contender is None else contender.number
        evidence = None if contender is None else contender.tally.evidence.to_dict()
        try:
            said = [list(astuple(label)) for label in now]
            self._reached().observe(self._replica, rollout, evidence, said, [list(astuple(death)) for death in died])
            for death in died:
                forget(self._boxes, death)
            self._is_away = False
        except Exception as error:  # noqa: BLE001 - a thread's edge: a replica answers whoever does not
            self._feedback.add(now)
            self._lose(error)

    def watch(self) -> None:
        """Counts what was asked lately, and says so where that is new."""
        try:
            self._count()
            now = time.monotonic()
            if self._counts.rows == self._watched or now - self._watched_at < WATCH_SECONDS:
                return
            counts = self._counts
            self._reached().watch(
                self._replica, [counts.version, counts.rows, counts.columns.tolist(), counts.prediction.tolist()]
            )
            self._watched, self._watched_at = counts.rows, now
            self._is_away = False
        except Exception as error:  # noqa: BLE001 - as above
            self._lose(error)

    def _deaths(self) -> list[Death]:
        try:
            return deaths(self._boxes)
        except OSError as error:
            logger.warning("Whether replicas died on this host, %s does not say: %s", self._boxes, error)
            return []

    def _count(self) -> None:
        served = self._slot.served
        if served is not None and served.version != self._counts.version:
            self._counts, self._watched = TrafficCounts(served.version), 0
        for seen in self._traffic.take():
            if seen.version == self._counts.version:
                self._counts.add(seen)

    def _reached(self) -> EndpointHandle:
        """Returns the endpoint actor's handle.

        Raises:
            LookupError: it does not run.
        """
        handle = self._handle or (find_handle(self._name) if ray.is_initialized() else None)
        if handle is None:
            raise LookupError(f"no endpoint actor '{self._name}' runs")
        self._handle = handle
        return handle

    def _lose(self, error: Exception) -> None:
        self._handle = None
        if not self._is_away:
            logger.warning("The endpoint actor does not hear what this replica counts: %s", error)
        self._is_away = True
