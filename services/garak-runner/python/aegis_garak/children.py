"""The warm process's side of a child: its pid, its event pipe, and how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from aegis_garak.protocol import EVENT_BYTES_PER_READ, EVENT_READS_PER_SECOND, MAX_EVENT_BYTES, Json

_MAX_PIPE_BYTES = 1024 * 1024


@dataclass
class Child:
    """A forked child. Its pid is also its session and its process group; `target` is its key in `Widths`."""

    id: str
    pid: int
    pipe: int
    target: str
    dropped_lines: int = 0
    quiet_until: float = 0.0
    """It is not read before this moment, by `time.monotonic`."""
    _buffer: bytearray = field(default_factory=bytearray)
    _skipping: bool = False

    def read_events(self) -> Iterator[Json]:
        """Events that can be read now without waiting; as many as it may say before it is read again."""
        self.quiet_until = time.monotonic() + 1 / EVENT_READS_PER_SECOND
        yield from self._read(EVENT_BYTES_PER_READ)

    def read_last_events(self) -> Iterator[Json]:
        """What an ended child has left in its pipe, which can be made as large as this (pipe(7))."""
        yield from self._read(_MAX_PIPE_BYTES)

    def _read(self, size: int) -> Iterator[Json]:
        with contextlib.suppress(BlockingIOError):
            yield from self._feed(os.read(self.pipe, size))

    def _feed(self, chunk: bytes) -> Iterator[Json]:
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            self._append(line)
            if not self._skipping and self._buffer:
                yield from self._parse(bytes(self._buffer))
            self._buffer.clear()
            self._skipping = False
        self._append(rest)

    def _append(self, part: bytes) -> None:
        if self._skipping:
            return
        self._buffer += part
        if len(self._buffer) > MAX_EVENT_BYTES:
            self._skipping = True
            self.dropped_lines += 1
            self._buffer.clear()

    def _parse(self, line: bytes) -> Iterator[Json]:
        try:
            body = json.loads(line)
        except ValueError:
            body = None
        if isinstance(body, dict):
            yield body
        else:
            self.dropped_lines += 1


def ended_reply(child: Child, status: int, usage: resource.struct_rusage) -> Json:
    """The "ended" reply for a reaped child."""
    code = os.waitstatus_to_exitcode(status)
    reply: Json = {
        "event": "ended",
        "id": child.id,
        "exit_code": code if code >= 0 else None,
        "signal": -code if code < 0 else None,
        "max_rss_kb": usage.ru_maxrss,
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
    }
    if child.dropped_lines:
        reply["dropped_lines"] = child.dropped_lines
    return reply
