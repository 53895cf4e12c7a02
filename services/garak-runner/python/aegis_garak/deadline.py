"""A request's time counts as a whole.

The timeouts of HTTP clients begin anew with every byte: a target that drips one each second is never late for them.
Here each wait for bytes gets no more than what the request has left. Deadlines belong to the thread that sends the
request and reads the answer.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Deadlines(threading.local):
    httpx: float | None = None
    sockets: float | None = None


_mine = _Deadlines()


def begin_httpx(seconds: float) -> None:
    """What this thread reads through httpx until its next request must be there in so many seconds."""
    _mine.httpx = time.monotonic() + seconds


@contextmanager
def on_sockets(seconds: float) -> Iterator[None]:
    """What this thread reads from files of sockets, as http.client does, must be there in so many seconds."""
    _mine.sockets = time.monotonic() + seconds
    try:
        yield
    finally:
        _mine.sockets = None


def install() -> None:
    """Have httpx and http.client keep the deadlines."""
    _keep_in_httpx()
    _keep_in_sockets()


def _keep_in_httpx() -> None:
    import httpcore
    from httpcore._backends.sync import SyncStream

    read = SyncStream.read

    def bounded(self: Any, max_bytes: int, timeout: float | None = None) -> bytes:
        if _mine.httpx is not None:
            left = _mine.httpx - time.monotonic()
            if left <= 0:
                raise httpcore.ReadTimeout("timed out")
            timeout = left if timeout is None else min(timeout, left)
        return bytes(read(self, max_bytes, timeout))

    SyncStream.read = bounded


def _keep_in_sockets() -> None:
    readinto = socket.SocketIO.readinto

    def bounded(self: Any, buffer: Any) -> Any:
        if _mine.sockets is not None:
            left = _mine.sockets - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            given = self._sock.gettimeout()
            self._sock.settimeout(left if given is None else min(given, left))
        return readinto(self, buffer)

    socket.SocketIO.readinto = bounded  # type: ignore[method-assign, assignment]
