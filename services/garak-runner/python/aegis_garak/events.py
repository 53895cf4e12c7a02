"""Events of a child: JSON lines on the pipe to the warm process."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass, field

from aegis_garak.protocol import PROGRESS_PER_SECOND, WIDTH, Json
from aegis_garak.reasons import Failure


class Events:
    """Writes events. Safe to use from several threads."""

    def __init__(self, pipe: int, width_hint: int = 1) -> None:
        """Write to this descriptor. `width_hint` is what `width` said in an earlier job with the same target."""
        self._pipe = pipe
        self.width_hint = width_hint
        self._lock = threading.Lock()

    def send(self, body: Json) -> None:
        """Send one event. When nobody listens any more the process has no purpose left and ends."""
        data = json.dumps(body).encode() + b"\n"
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._pipe, data) :]
            except BrokenPipeError:
                os._exit(1)

    def detector_finished(self, detector: str) -> None:
        """A detector has scored all attempts."""
        self.send({"type": "detector_finished", "detector": detector})

    def width(self, calls_in_flight: int) -> None:
        """For the warm process alone: where this target's width ended, so that the next job can start there."""
        self.send({"type": WIDTH, "width": calls_in_flight})

    def target_retried(self, reason: str, retries: int, retry_after_seconds: float | None) -> None:
        """A call failed in a way that is worth another try."""
        self.send(
            {
                "type": "target_retried",
                "reason": reason,
                "retries": retries,
                "retry_after_seconds": retry_after_seconds,
            }
        )

    def result(
        self, outcome: str, failure: Failure | None = None, **fields: str | int | float | list[str] | None
    ) -> None:
        """The last event of a job."""
        self.send(
            {
                "type": "result",
                "outcome": outcome,
                "reason": failure.reason.name if failure else None,
                "class": failure.reason.retry_class.value if failure else None,
                "message": failure.message if failure else None,
                "retry_after_seconds": failure.retry_after_seconds if failure else None,
                **fields,
            }
        )


@dataclass
class Progress:
    """Counts attempts and reports them, at most `PROGRESS_PER_SECOND` times a second."""

    events: Events
    done: int = 0
    total: int = 0
    _sent_at: float = field(default=0.0)

    def add_total(self, attempts: int) -> None:
        """More attempts are to be made (garak runs some probes in several rounds)."""
        self.total += attempts

    def add_done(self) -> None:
        """An attempt has all its outputs."""
        self.done += 1
        now = time.monotonic()
        if self.done >= self.total or now - self._sent_at >= 1 / PROGRESS_PER_SECOND:
            self.send()

    def send(self) -> None:
        """Send the counts as they are now."""
        self._sent_at = time.monotonic()
        self.events.send({"type": "progress", "attempts_done": self.done, "attempts_total": max(self.total, self.done)})
