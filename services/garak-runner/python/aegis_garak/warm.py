"""The warm process: garak imported once, one forked child per job. See `protocol`.

Single-threaded on purpose: a fork copies only the calling thread, and a lock held by another would stay held.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterable
from typing import NoReturn

from aegis_garak import landlock, processes
from aegis_garak.children import Child, ended_reply
from aegis_garak.protocol import MAX_REQUEST_BYTES, PROTOCOL, WIDTH, BadRequestError, Json, Run, parse_run
from aegis_garak.widths import Widths, target_key


class Warm:
    """Serves requests until the end of input."""

    def __init__(self, stdin: int, stdout: int) -> None:
        """Serve on these descriptors."""
        self._stdin = stdin
        self._stdout = stdout
        self._requests = bytearray()
        self._children: dict[str, Child] = {}
        self._widths = Widths()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self, garak_version: str) -> None:
        """The loop: requests, events of children, ends of children."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._reply(
            {
                "event": "ready",
                "protocol": PROTOCOL,
                "garak_version": garak_version,
                "pid": os.getpid(),
                "landlock": landlock.version(),
            }
        )
        open_input = True
        while open_input:
            for descriptor in self._wait():
                if descriptor == self._stdin:
                    open_input = self._read_requests()
                elif descriptor == self._wake_read:
                    self._reap()
                else:
                    self._relay(descriptor)
        for child in list(self._children.values()):
            self._kill(child)

    def _wait(self) -> list[int]:
        poll = select.poll()
        now = time.monotonic()
        heard = [child.pipe for child in self._children.values() if child.quiet_until <= now]
        for descriptor in (self._stdin, self._wake_read, *heard):
            poll.register(descriptor, select.POLLIN)
        waits = [child.quiet_until - now for child in self._children.values() if child.quiet_until > now]
        timeout = int(min(waits) * 1000) + 1 if waits else None
        return [descriptor for descriptor, _ in poll.poll(timeout)]

    def _read_requests(self) -> bool:
        chunk = os.read(self._stdin, 65536)
        if not chunk:
            return False
        self._requests += chunk
        while (end := self._requests.find(b"\n")) >= 0:
            line = bytes(self._requests[:end])
            del self._requests[: end + 1]
            self._serve_line(line)
        if len(self._requests) > MAX_REQUEST_BYTES:
            # What follows cannot be told apart from the rest of this request: stop rather than guess.
            self._refuse("", "request line is too long")
            return False
        return True

    def _serve_line(self, line: bytes) -> None:
        identity = ""
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise BadRequestError("a request must be an object")
            identity = str(request.get("id", ""))[:256]
            self._serve(request)
        except BadRequestError as error:
            self._refuse(identity, str(error))
        except ValueError:
            self._refuse(identity, "a request must be one line of JSON")

    def _serve(self, request: Json) -> None:
        match request.get("op"):
            case "run":
                run = parse_run(request)
                if run.id in self._children:
                    raise BadRequestError("id is in use")
                self._start(run)
            case "kill":
                child = self._children.get(str(request.get("id")))
                if child is not None:
                    self._kill(child)
            case _:
                raise BadRequestError("op must be run or kill")

    def _start(self, run: Run) -> None:
        target = target_key(run.job)
        try:
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            pid = os.fork()
        except OSError as error:
            self._refuse(run.id, f"cannot start a process (errno {error.errno})", "CANNOT_START")
            return
        if pid == 0:
            _become_child(run, write_end, self._widths.of(target))
        os.close(write_end)
        os.set_blocking(read_end, False)
        self._children[run.id] = Child(run.id, pid, read_end, target)
        self._reply({"event": "started", "id": run.id, "pid": pid})

    def _kill(self, child: Child) -> None:
        processes.kill_session(child.pid, self._sessions_without(child))

    def _sessions_without(self, child: Child) -> frozenset[int]:
        return frozenset(other.pid for other in self._children.values() if other is not child)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        for child in list(self._children.values()):
            if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                self._end(child)
        self._reap_orphans()

    def _end(self, child: Child) -> None:
        self._kill(child)
        _, status, usage = os.wait4(child.pid, 0)
        self._tell(child, child.read_last_events())
        os.close(child.pipe)
        del self._children[child.id]
        self._reply(ended_reply(child, status, usage))

    def _reap_orphans(self) -> None:
        """Reap adopted processes, never a child: its end must go through `_end`."""
        children = {child.pid for child in self._children.values()}
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None or ended.si_pid in children:
                return
            os.waitpid(ended.si_pid, 0)

    def _relay(self, descriptor: int) -> None:
        for child in self._children.values():
            if child.pipe == descriptor:
                self._tell(child, child.read_events())

    def _tell(self, child: Child, events: Iterable[Json]) -> None:
        for body in events:
            if body.get("type") == WIDTH:
                self._widths.learn(child.target, body.get("width"))
            else:
                self._reply({"event": "child", "id": child.id, "body": body})

    def _refuse(self, identity: str, message: str, reason: str = "BAD_REQUEST") -> None:
        self._reply({"event": "refused", "id": identity, "reason": reason, "message": message})

    def _reply(self, reply: Json) -> None:
        data = json.dumps(reply).encode() + b"\n"
        while data:
            data = data[os.write(self._stdout, data) :]


def _become_child(run: Run, pipe: int, width_hint: int) -> NoReturn:
    """Run the job and exit; never returns. Nothing of the warm process's stack may run on in a child."""
    status = 70  # EX_SOFTWARE, when even the line below fails
    try:
        from aegis_garak import child

        status = child.main(run, pipe, width_hint)
    finally:
        os._exit(status)


def _claim_stdout() -> int:
    """Keep stdout for replies alone: from here on prints of garak's go to stderr."""
    replies = os.dup(1)
    os.set_inheritable(replies, False)
    os.dup2(2, 1)
    return replies


def main() -> int:
    """Warm up, then serve."""
    replies = _claim_stdout()
    processes.bind_children_to_parents()
    processes.adopt_orphans()
    from aegis_garak import preload

    version = preload.preload()
    warm = Warm(0, replies)
    try:
        warm.serve(version)
    except BrokenPipeError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
