"""The life of a forked child: fence it in, run its job, say how it went."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import IO

from aegis_garak import garak_state
from aegis_garak.events import Events
from aegis_garak.protocol import Json, Run
from aegis_garak.reasons import Failure, JobFailed, Reason

_PIPE = 3
_OUTPUT_BYTES = 1024 * 1024


class BoundedOutput:
    """A text stream that keeps the first `limit` bytes and drops the rest.

    A full file must not end a probe, so garak's prints never meet the file size limit.
    """

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, target: IO[bytes], limit: int) -> None:
        """Write to `target`, at most `limit` bytes."""
        self._target = target
        self._left = limit

    def write(self, text: str) -> int:
        """Write what still fits."""
        data = text.encode("utf-8", "replace")[: self._left]
        if data:
            self._left -= len(data)
            self._target.write(data)
        return len(text)

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._target.flush()

    def isatty(self) -> bool:
        """Nobody reads this."""
        return False

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._target.fileno()

    def reconfigure(self, **_: object) -> None:
        """Accepted and ignored: garak's entry points ask for UTF-8, which this is."""


def main(run: Run, pipe: int, width_hint: int) -> int:
    """Everything a child does; returns its exit status."""
    os.setsid()
    _restore_signals()
    _keep_only(pipe)
    events = Events(_PIPE, width_hint)
    try:
        _enter_scratch(run)
        _set_limits(run.job.get("limits") or {})
        garak_state.reset(run.scratch / "home")
        status = _run_job(run, events)
    except BaseException:
        traceback.print_exc()
        status = 70
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    return status


def _run_job(run: Run, events: Events) -> int:
    """Run the job; whatever happens, a result is sent, and exactly one."""
    try:
        _job(run.kind)(run.job, run.scratch, events)
    except BaseException as error:
        failure = _failure_of(error, run.kind)
        if not isinstance(error, JobFailed):
            traceback.print_exc()
        if run.kind == "probe":
            events.result("not_evaluated", failure, report=None, hitlog=None, attempts_done=0)
        else:
            events.result("not_made", failure)
    return 0


def _failure_of(error: BaseException, kind: str) -> Failure:
    if isinstance(error, JobFailed):
        return error.failure
    if isinstance(error, MemoryError):
        return Failure(Reason.OUT_OF_MEMORY)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return Failure(Reason.OUT_OF_SPACE)
    if isinstance(error, KeyError | TypeError | ValueError):
        # Jobs read their fields before they do anything; what garak raises is handled inside them.
        return Failure(Reason.BAD_JOB, type(error).__name__)
    reasons = {"probe": Reason.PROBE_CRASHED, "report": Reason.REPORT_FAILED, "check": Reason.CHECK_FAILED}
    return Failure(reasons.get(kind, Reason.SURVEY_FAILED), type(error).__name__)


def _job(kind: str) -> Callable[[Json, Path, Events], None]:
    from aegis_garak import check, fingerprint, run_probe, run_report, survey

    return {
        "check": check.run,
        "probe": run_probe.run,
        "report": run_report.run,
        "survey": survey.run,
        "fingerprint": fingerprint.run,
    }[kind]


def _restore_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _keep_only(pipe: int) -> None:
    """Close every descriptor of the warm process but the pipe, which becomes number 3."""
    if pipe != _PIPE:
        os.dup2(pipe, _PIPE, inheritable=False)
    os.closerange(_PIPE + 1, max(int(name) for name in os.listdir("/proc/self/fd")) + 1)


def _enter_scratch(run: Run) -> None:
    scratch = run.scratch
    os.umask(0o077)
    os.chdir(scratch)
    for directory in ("home", "tmp"):
        (scratch / directory).mkdir(mode=0o700, exist_ok=True)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(scratch / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.stdout = BoundedOutput(open(1, "wb", closefd=False), _OUTPUT_BYTES)  # noqa: SIM115
    sys.stderr = BoundedOutput(open(2, "wb", buffering=0, closefd=False), _OUTPUT_BYTES)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(run.env)
    # A fresh interpreter would have read it at its start.
    sys.path[:0] = [path for path in run.env.get("PYTHONPATH", "").split(":") if path]
    os.environ.update(
        HOME=str(scratch / "home"),
        TMPDIR=str(scratch / "tmp"),
        PATH="/usr/bin:/bin",
        LANG="C.UTF-8",
        HF_HUB_OFFLINE="1",
        XDG_DATA_HOME=str(scratch / "home/data"),
        XDG_CONFIG_HOME=str(scratch / "home/config"),
        XDG_CACHE_HOME=str(scratch / "home/cache"),
    )


def _set_limits(limits: dict[str, float]) -> None:
    for name, number in (
        ("memory_bytes", resource.RLIMIT_AS),
        ("file_bytes", resource.RLIMIT_FSIZE),
        ("cpu_seconds", resource.RLIMIT_CPU),
        ("open_files", resource.RLIMIT_NOFILE),
    ):
        value = limits.get(name)
        if value is not None:
            _, hard = resource.getrlimit(number)
            wanted = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
            resource.setrlimit(number, (wanted, wanted))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seconds = limits.get("wall_seconds")
    if seconds is not None:
        signal.signal(signal.SIGALRM, _time_is_up)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _time_is_up(_number: int, _frame: FrameType | None) -> None:
    raise JobFailed(Failure(Reason.TIMED_OUT))
