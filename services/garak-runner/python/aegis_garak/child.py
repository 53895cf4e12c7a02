"""The life of a forked child: fence it in, run its job, say how it went."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from aegis_garak import garak_state
from aegis_garak.events import Events
from aegis_garak.protocol import Json, Run
from aegis_garak.reasons import Failure, JobFailed, Reason, reason_for_error

_PIPE = 3
_OUTPUT_BYTES = 1024 * 1024


class BoundedOutput:
    """A text stream whose file keeps the first `limit` bytes; the rest is dropped, at next to no cost.

    Whoever prints too much shall not fail for it, nor fill the disk. What is written to the descriptor itself, and what
    other programs print, goes to /dev/null. The file is shared with forked processes.
    """

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, path: Path, descriptor: int, limit: int) -> None:
        """Write to a new file, in place of `descriptor`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)
        self._descriptor = descriptor
        self._limit = limit
        self._full = False

    def write(self, text: str) -> int:
        """Write what still fits."""
        if not self._full:
            # A full disk must not end a probe whose report may be whole.
            with contextlib.suppress(OSError):
                room = self._limit - os.fstat(self._file).st_size
                self._full = room <= 0
                # No character is less than a byte.
                os.write(self._file, text[: max(0, room)].encode("utf-8", "replace")[: max(0, room)])
        return len(text)

    def flush(self) -> None:
        """Everything is written already."""

    def isatty(self) -> bool:
        """Nobody reads this."""
        return False

    def fileno(self) -> int:
        """The descriptor that this stands in for."""
        return self._descriptor

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
        _go_first()
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
    reason = reason_for_error(error)
    if reason is not None:
        return Failure(reason)
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
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    sys.stdout = BoundedOutput(scratch / "stdout", 1, _OUTPUT_BYTES)
    sys.stderr = BoundedOutput(scratch / "stderr", 2, _OUTPUT_BYTES)
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


def _go_first() -> None:
    """When the machine is out of memory the kernel shall kill a child, and not the runner (proc(5), oom_score_adj)."""
    with contextlib.suppress(OSError):  # it is higher already, and only root may lower it
        Path("/proc/self/oom_score_adj").write_text("500")


def _set_limits(limits: dict[str, float]) -> None:
    for name, number in (
        ("file_bytes", resource.RLIMIT_FSIZE),
        ("cpu_seconds", resource.RLIMIT_CPU),
        ("open_files", resource.RLIMIT_NOFILE),
    ):
        value = limits.get(name)
        if value is not None:
            _, hard = resource.getrlimit(number)
            wanted = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
            # At its hard limit of processor time a process is killed as any other; at the soft one it is told why.
            last = wanted + 5 if number == resource.RLIMIT_CPU and hard == resource.RLIM_INFINITY else wanted
            resource.setrlimit(number, (wanted, last))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seconds = limits.get("wall_seconds")
    if seconds is not None:
        signal.signal(signal.SIGALRM, _time_is_up)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _time_is_up(_number: int, _frame: FrameType | None) -> None:
    raise JobFailed(Failure(Reason.TIMED_OUT))
