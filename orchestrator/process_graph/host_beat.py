"""One small actor a host that says "this host lives", and runs no user code.

A host that loses its power goes unnoticed by Ray for a minute; the study notices after eight seconds without a beat.
"""

import threading
import time
from typing import Any

BEAT_SECONDS = 2.0


class HostBeat:
    """Beats for its host from its first breath; ends with the runner that owns it."""

    def __init__(self, study: Any, host: str) -> None:
        threading.Thread(target=self._beat, args=(study, host), daemon=True).start()

    def _beat(self, study: Any, host: str) -> None:
        while True:
            study.beat.remote(host)
            time.sleep(BEAT_SECONDS)

    def ping(self) -> None:
        """Answers, so that one can wait for the actor."""
