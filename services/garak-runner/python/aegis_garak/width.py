"""How many calls to the target may be in flight: learnt from what is measured, never above a limit.

It starts at one (or at what an earlier job with the same target found). While the process mostly waits, the width
grows, as long as each step brings more calls per second; a step that does not is taken back, and tried again much
later. A target that answers at once keeps the process busy, not waiting, and so stays at one: there a second thread
only costs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_WAITING_SHARE = 0.6
"""Widen only when at least this share of the wall time was not spent on the CPU."""

_IDLE_SHARE = 0.85
"""From this share on, widen by four instead of two."""

_WAIT_SECONDS = 0.004
"""Widen only when a call waits at least this long for the target."""

_GAIN = 1.1
"""A step must bring this factor in calls per second, or it is taken back."""

_HOLD_CALLS = 16
"""After a step was taken back: calls before the next try; doubles each time."""


class Width:
    """A gate for calls, with a width that adapts itself."""

    def __init__(self, limit: int, start: int = 1) -> None:
        """At most `limit` calls at once, `start` of them to begin with."""
        self._limit = limit
        self._width = max(1, min(start, limit))
        self._changed = threading.Condition()
        self._in_flight = 0
        self._before: tuple[int, float] | None = None
        self._hold = _HOLD_CALLS
        self._skip = 0
        self._begin_round()

    @property
    def now(self) -> int:
        """The width at this moment."""
        return self._width

    @contextmanager
    def call(self) -> Iterator[None]:
        """Hold a place while calling the target."""
        with self._changed:
            while self._in_flight >= self._width:
                self._changed.wait()
            self._in_flight += 1
        cpu, wall = time.thread_time(), time.monotonic()
        try:
            yield
        finally:
            wall, cpu = time.monotonic() - wall, time.thread_time() - cpu
            with self._changed:
                self._in_flight -= 1
                self._count(wall - cpu)
                self._changed.notify()

    def _begin_round(self) -> None:
        self._calls = 0
        self._waited = 0.0
        self._began = time.monotonic()
        self._cpu_began = time.process_time()

    def _count(self, waited: float) -> None:
        if self._limit == 1:
            return
        if self._skip > 0:
            self._skip -= 1
            if self._skip == 0:
                self._begin_round()
            return
        self._calls += 1
        self._waited += waited
        if self._calls >= self._width:
            self._decide()

    def _decide(self) -> None:
        wall = max(time.monotonic() - self._began, 1e-6)
        rate = self._calls / wall
        waiting = 1 - (time.process_time() - self._cpu_began) / wall
        if self._before is not None and rate < self._before[1] * _GAIN:
            self._set(self._before[0], None)
            # It may have been one slow answer, so it is tried again, but ever more rarely.
            self._skip = self._hold
            self._hold *= 2
        elif self._width == self._limit or waiting < _WAITING_SHARE or self._waited < _WAIT_SECONDS * self._calls:
            self._before = None
            self._begin_round()
        else:
            self._set(self._width * (4 if waiting >= _IDLE_SHARE else 2), (self._width, rate))

    def _set(self, width: int, before: tuple[int, float] | None) -> None:
        # Calls that are in flight began under the old width: they say nothing about the new one.
        self._skip = self._in_flight
        self._width = min(self._limit, width)
        self._before = before
        self._changed.notify_all()
        self._begin_round()
