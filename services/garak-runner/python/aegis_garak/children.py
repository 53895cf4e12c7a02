"""The warm process's side of a child: its pid, its event pipe, and how it ended."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass, field

from aegis_garak.protocol import MAX_EVENT_BYTES, Json


@dataclass
class Child:
    """A forked child. Its pid is also its session and its process group; `target` is its key in `Widths`."""

    id: str
    pid: int
    pipe: int
    target: str
    dropped_lines: int = 0
    _buffer: bytearray = field(default_factory=bytearray)
    _skipping: bool = False

    def read_events(self) -> Iterator[Json]:
        """Events that can be read now without waiting; ends at an empty pipe or its end."""
        while True:
            try:
                chunk = os.read(self.pipe, 65536)
            except BlockingIOError:
                return
            if not chunk:
                return
            yield from self._feed(chunk)

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
