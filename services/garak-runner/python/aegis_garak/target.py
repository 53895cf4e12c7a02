"""What is known about the target: its failures, and how long they may last.

garak's generators retry without end (backoff.fibo with neither max_tries nor max_time). Here every wait between two
tries passes through `Target.pause`, which ends the job when the target has not answered well for longer than
`patience_seconds`. Failures are seen where HTTP clients put their transports (`httpx.HTTPTransport.handle_request`,
`requests.adapters.HTTPAdapter.send`): by type and status, never by text.
"""

from __future__ import annotations

import errno
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from aegis_garak import deadline
from aegis_garak.events import Events
from aegis_garak.reasons import Failure, JobFailed, Reason, causes, reason_for_error, reason_for_status

_MAX_PAUSE_SECONDS = 30.0
"""Longest wait between two tries when the target does not name one."""

_MAX_UNREADABLE = 5
"""Answers in a row that cannot be read before we stop: waiting does not mend them."""


@dataclass(frozen=True)
class Fault:
    """One failed call: `code` is its wire name (HTTP_429, CONNECTION_REFUSED, ...)."""

    code: str
    reason: Reason
    retry_after_seconds: float | None = None

    def failure(self) -> Failure:
        """The failure that this fault ends a job with."""
        return Failure(self.reason, self.code, self.retry_after_seconds)


_NO_MORE_FILES = Fault("CONNECTION_FAILED", Reason.TOO_MANY_OPEN_FILES)
"""Not the target's: waiting does not mend it."""

UNREADABLE = Fault("UNREADABLE_RESPONSE", Reason.TARGET_INVALID_RESPONSE)


def fault_for_status(status: int, retry_after: str | None) -> Fault | None:
    """The fault that an HTTP status is, if it is one."""
    if status < 400:
        return None
    return Fault(f"HTTP_{status}", reason_for_status(status), parse_retry_after(retry_after))


def parse_retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, which is a number or a date (RFC 9110 §10.2.3); None if it is neither."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return min(seconds, 86400.0) if seconds >= 0 else None


def fault_for_exception(error: BaseException) -> Fault:
    """The fault behind a client's exception, found by the types in its chain of causes."""
    if reason_for_error(error) is Reason.TOO_MANY_OPEN_FILES:
        return _NO_MORE_FILES
    code = "CONNECTION_FAILED"
    for cause in causes(error):
        if isinstance(cause, ConnectionRefusedError):
            code = "CONNECTION_REFUSED"
        elif isinstance(cause, socket.gaierror):
            code = "NAME_NOT_RESOLVED"
        elif isinstance(cause, ConnectionResetError | BrokenPipeError):
            code = "CONNECTION_RESET"
        elif isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__:
            code = "TIMEOUT"
        elif isinstance(cause, OSError) and cause.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
            code = "NO_ROUTE"
    return Fault(code, Reason.TARGET_UNREACHABLE)


class Target:
    """The target of one job, as its calls have found it. Safe to use from several threads."""

    def __init__(self, events: Events, patience_seconds: float, request_timeout_seconds: float) -> None:
        """`patience_seconds` without a good answer end the job; `request_timeout_seconds` bounds each request."""
        self._events = events
        self._patience = patience_seconds
        self.request_timeout_seconds = request_timeout_seconds
        self._lock = threading.Lock()
        self._failing_since: float | None = None
        self._retries = 0
        self._unreadable = 0
        self._called = False
        self._mine = threading.local()
        self.last_fault: Fault | None = None
        """The last fault of any call, for naming the reason when nothing could be evaluated."""
        self.spoke = False
        """Whether the target ever gave an answer over HTTP that was not an error."""

    def call_began(self) -> None:
        """A generator is called in this thread. What was seen while it was loaded is forgotten at the first call."""
        self.began()
        with self._lock:
            if not self._called:
                self._called = True
                self.last_fault = None
                self.spoke = False

    def began(self) -> None:
        """This thread sends a request."""
        self._mine.began = time.monotonic()
        self._mine.fault = None

    def faulted(self, fault: Fault) -> None:
        """This thread's request failed."""
        began = getattr(self._mine, "began", None) or time.monotonic()
        self._mine.fault = fault
        with self._lock:
            self.last_fault = fault
            if self._failing_since is None:
                self._failing_since = began

    def succeeded(self) -> None:
        """A call gave an output."""
        with self._lock:
            self._failing_since = None
            self._retries = 0
            self._unreadable = 0

    def pause(self, seconds: float) -> None:
        """Wait before this thread's next try; raises JobFailed when patience has run out, or would."""
        fault: Fault = getattr(self._mine, "fault", None) or UNREADABLE
        with self._lock:
            now = time.monotonic()
            self.last_fault = fault
            self._failing_since = self._failing_since or getattr(self._mine, "began", None) or now
            left = self._failing_since + self._patience - now
            self._unreadable += fault is UNREADABLE
            worn_out = self._unreadable >= _MAX_UNREADABLE
            self._retries += 1
            retries = self._retries
        wait = fault.retry_after_seconds
        if left <= 0 or worn_out or fault is _NO_MORE_FILES or (wait is not None and wait > left):
            raise JobFailed(fault.failure())
        self._events.target_retried(fault.code, retries, wait)
        time.sleep(min(_MAX_PAUSE_SECONDS, seconds, left) if wait is None else wait)

    def call_ended_with(self, error: Exception) -> None:
        """A generator's call ended with an exception that no retry took up: end the job if the target is why."""
        fault: Fault | None = getattr(self._mine, "fault", None)
        if fault is None and isinstance(error, json.JSONDecodeError):
            fault = UNREADABLE
        if fault is None and type(error).__name__ == "BadGeneratorException":
            fault = UNREADABLE
        if fault is not None:
            raise JobFailed(fault.failure()) from error


def install(target: Target) -> None:
    """Watch the HTTP clients, and take over the waits of the retry library that garak's generators use."""
    _watch_httpx(target)
    _watch_requests(target)
    deadline.install()
    import backoff._sync
    import openai._base_client

    # Both sleep through their own module's name `time`. Of that module backoff uses nothing else, openai `time` too.
    class _Clock:
        sleep = staticmethod(target.pause)
        time = staticmethod(time.time)

    backoff._sync.time = _Clock
    openai._base_client.time = _Clock


def _watch_httpx(target: Target) -> None:
    import httpx

    handle = httpx.HTTPTransport.handle_request
    limit = target.request_timeout_seconds

    class _Body(httpx.SyncByteStream):  # type: ignore[misc]
        """An answer's bytes, which may break off or be late as the answer itself."""

        def __init__(self, stream: Any) -> None:
            self._stream = stream

        def __iter__(self) -> Iterator[bytes]:
            try:
                yield from self._stream
            except httpx.TransportError as error:
                target.faulted(fault_for_exception(error))
                raise

        def close(self) -> None:
            self._stream.close()

    def handle_request(self: Any, request: Any) -> Any:
        timeout = request.extensions.get("timeout") or {}
        request.extensions["timeout"] = {
            kind: min(timeout.get(kind) or limit, limit) for kind in ("connect", "read", "write", "pool")
        }
        while True:
            target.began()
            deadline.begin_httpx(limit)
            try:
                response = handle(self, request)
            except httpx.ConnectError as error:
                # Nothing was sent. garak retries this for some generators and not for others; here it is one rule.
                target.faulted(fault_for_exception(error))
                target.pause(1.0)
                continue
            except httpx.TransportError as error:
                target.faulted(fault_for_exception(error))
                raise
            fault = fault_for_status(response.status_code, response.headers.get("retry-after"))
            if fault is None:
                target.spoke = True
            else:
                target.faulted(fault)
            response.stream = _Body(response.stream)
            return response

    httpx.HTTPTransport.handle_request = handle_request


def _watch_requests(target: Target) -> None:
    import requests

    adapter = requests.adapters.HTTPAdapter
    send = adapter.send
    limit = target.request_timeout_seconds

    def watched(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        given = kwargs.get("timeout")
        if given is None or isinstance(given, int | float):
            kwargs["timeout"] = min(given or limit, limit)
        while True:
            target.began()
            try:
                with deadline.on_sockets(limit):
                    response = send(self, request, *args, **kwargs)
                    if not kwargs.get("stream"):
                        # As `requests` is about to; what goes wrong in it is the target's too.
                        _ = response.content
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                # RestGenerator lets these end the whole run; a target that comes back within patience need not.
                target.faulted(fault_for_exception(error))
                target.pause(1.0)
                continue
            fault = fault_for_status(response.status_code, response.headers.get("retry-after"))
            if fault is None:
                target.spoke = True
            else:
                target.faulted(fault)
            return response

    adapter.send = watched  # type: ignore[method-assign]
    _keep_connections(requests)


def _keep_connections(requests: Any) -> None:
    """`requests.post` opens a connection per call; give it one session, shared by all threads, without cookies."""
    from http.cookiejar import DefaultCookiePolicy

    lock = threading.Lock()
    sessions: list[Any] = []

    def session() -> Any:
        with lock:
            if not sessions:
                # Made at the first call: garak sets its user agent just before the probing.
                made = requests.Session()
                made.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
                for scheme in ("http://", "https://"):
                    made.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=128))
                sessions.append(made)
            return sessions[0]

    def sender(method: str) -> Any:
        def send(url: str, **kwargs: Any) -> Any:
            return session().request(method, url, **kwargs)

        return send

    for method in ("get", "options", "head", "post", "put", "patch", "delete"):
        setattr(requests, method, sender(method))
