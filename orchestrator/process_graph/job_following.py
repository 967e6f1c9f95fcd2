"""Hears what a job in the cluster writes, until it ends, over a connection that may be lost meanwhile."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import aiohttp

from orchestrator.process_graph.jobs import ConnectionLost, Job, JobServer

SILENCE_SECONDS = 10.0  # without a line, the server is asked whether it is still there: a cut cable says nothing
RETRY_SECONDS = 2.0
GIVE_UP_SECONDS = 300.0  # without an answer; a laptop that slept is heard again before that

Hear = Callable[[str], None]


def follow(server: JobServer, job: Job, hear: Hear, say: Hear) -> Job:
    """Returns the job when it has ended; blocks. `hear` gets what it writes, `say` what becomes of the connection.

    A connection that is lost is made again, and nothing is heard twice.

    Raises:
        ConnectionLost: the server did not answer for five minutes.
        ClusterError: it answers, and knows the job no more.
    """
    heard, lost_at = _Heard(hear), 0.0
    while True:
        try:
            now = server.get(job.id)
            if lost_at:
                say(f"connected again, after {time.monotonic() - lost_at:.0f} s")
                lost_at = 0.0
            if not now.is_active:
                heard.all_of(server.logs(now))
                return now
            asyncio.run(_listen(server, now, heard))
        except (ConnectionLost, RuntimeError, aiohttp.ClientError, OSError) as error:
            if not lost_at:
                lost_at = time.monotonic()
                say(f"the connection to {server.address} is lost ({error}); trying again…")
            if time.monotonic() - lost_at > GIVE_UP_SECONDS:
                raise ConnectionLost(f"{server.address} did not answer for {GIVE_UP_SECONDS:.0f} s") from error
            time.sleep(RETRY_SECONDS)


async def _listen(server: JobServer, job: Job, heard: "_Heard") -> None:
    """Hears the job's lines until its end, or until the connection breaks."""
    heard.from_the_start()
    lines: Any = server.lines(job)
    async with aclosing(lines):
        coming = asyncio.ensure_future(anext(lines, None))
        try:
            while True:
                done, _ = await asyncio.wait({coming}, timeout=SILENCE_SECONDS)
                if not done:
                    await asyncio.to_thread(server.get, job.id)
                    continue
                chunk = coming.result()
                if chunk is None:
                    return
                heard.more(chunk)
                coming = asyncio.ensure_future(anext(lines, None))
        finally:
            coming.cancel()
            await asyncio.wait({coming})


class _Heard:
    """What was heard of a job's words: the server begins anew with each connection, the hearer does not."""

    def __init__(self, hear: Hear) -> None:
        self._hear = hear
        self._passed_on = 0  # characters
        self._at = 0

    def from_the_start(self) -> None:
        self._at = 0

    def more(self, words: str) -> None:
        begin, self._at = self._at, self._at + len(words)
        fresh = words[max(0, self._passed_on - begin) :]
        if fresh:
            self._passed_on = self._at
            self._hear(fresh)

    def all_of(self, words: str) -> None:
        self.from_the_start()
        self.more(words)
