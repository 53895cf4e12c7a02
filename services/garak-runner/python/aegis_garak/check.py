"""Kind "check": try out a custom module in a process of its own, and say what was found.

The process that runs the module's code is forked from here, bounded in time, memory, files and output, and its findings
are bounded too. Whatever it does to itself is a finding; the job fails only when the trial itself cannot be made.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from aegis_garak import custom, landlock, sandbox
from aegis_garak.check_source import Findings, TimeIsUpError, examine, problem
from aegis_garak.events import Events
from aegis_garak.protocol import Json
from aegis_garak.reasons import Failure, JobFailed, Reason

MAX_PROBLEMS = 100
MAX_CLASSES = 100
MAX_FINDING_BYTES = 2 * 1024 * 1024
"""All that a trial may say."""

FILE_BYTES = 16 * 1024 * 1024
_GRACE_SECONDS = 1.0
"""From the moment when the trial is told that its time is up until it is killed."""
_LAST_MEMORY = 64 * 1024 * 1024
"""What a trial that reached its limit gets in order to say so."""


@dataclass(frozen=True)
class CheckJob:
    """A checked job of kind "check"."""

    name: str
    source: Path
    output: Path
    timeout_seconds: float
    memory_bytes: int


@dataclass
class Trial:
    """What a trial said, and how it ended."""

    findings: list[Json] = field(default_factory=list)
    fenced: bool = False
    done: bool = False
    stage: str = "at its start"
    size: int = 0
    timed_out: bool = False
    status: int = 0

    def take(self, line: bytes) -> None:
        """A line of the trial's. What cannot be read is not worth more than silence: its code may have written it."""
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            said = json.loads(line)
            self.fenced = self.fenced or bool(said.get("fenced"))
            self.done = self.done or bool(said.get("done"))
            self.stage = str(said.get("stage", self.stage))[:200]
            if isinstance(said.get("problem"), dict) or isinstance(said.get("class"), dict):
                self.findings.append(said)


def parse(job: Json) -> CheckJob:
    """Check a job; raises KeyError, TypeError or ValueError."""
    parsed = CheckJob(
        name=str(job["name"]),
        source=Path(job["source"]),
        output=Path(job["output"]),
        timeout_seconds=float(job["timeout_seconds"]),
        memory_bytes=int(job["memory_bytes"]),
    )
    if not 0 < parsed.timeout_seconds <= 3600 or parsed.memory_bytes < 1:
        raise ValueError("out of range")
    return parsed


def run(job: Json, _scratch: Path, events: Events) -> None:
    """Try the module out and write what was found to `output`."""
    import garak

    parsed = parse(job)
    trial = _trial(parsed)
    if not trial.fenced:
        raise JobFailed(Failure(Reason.CHECK_FAILED, "its process could not be fenced in"))
    found = _validation(parsed, trial) | {"garak_version": str(garak.__version__)}
    # Not through a link that the module may have left there.
    with open(os.open(parsed.output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(found, file)
    events.result("made", output=str(parsed.output))


def _validation(job: CheckJob, trial: Trial) -> Json:
    problems = [said["problem"] for said in trial.findings if "problem" in said]
    classes = [said["class"] for said in trial.findings if "class" in said]
    ending = _ending(job, trial)
    if ending is not None:
        problems.append(ending)
    # The error that ended it must not be the one that is cut.
    problems.sort(key=lambda p: p.get("severity") != "error")
    valid = trial.done and not any(p.get("severity") == "error" for p in problems)
    return {"valid": valid, "problems": problems[:MAX_PROBLEMS], "classes": classes[:MAX_CLASSES]}


def _ending(job: CheckJob, trial: Trial) -> Json | None:
    if trial.timed_out or (os.WIFSIGNALED(trial.status) and os.WTERMSIG(trial.status) == signal.SIGXCPU):
        message = f"it took longer than {job.timeout_seconds:g} seconds, {trial.stage}"
        return None if trial.done else problem("CHECK_TIMED_OUT", message)
    if trial.done:
        return None
    if trial.size > MAX_FINDING_BYTES:
        return problem("CHECK_CRASHED", "it said more than a check may say")
    code = os.waitstatus_to_exitcode(trial.status)
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return problem("CHECK_CRASHED", f"its process ended {how}, {trial.stage}")


def _trial(job: CheckJob) -> Trial:
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _be_tried(job, write_end)
    os.close(write_end)
    trial = Trial()
    try:
        _listen(trial, read_end, time.monotonic() + job.timeout_seconds + _GRACE_SECONDS)
    finally:
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(pid, signal.SIGKILL)
        _, trial.status = os.waitpid(pid, 0)
        os.close(read_end)
    return trial


def _listen(trial: Trial, pipe: int, ends_at: float) -> None:
    """Read until the trial is done, has ended, says too much, or its time is over."""
    rest = b""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while not trial.done and trial.size <= MAX_FINDING_BYTES:
        left = ends_at - time.monotonic()
        if left <= 0:
            trial.timed_out = True
            return
        if not poll.poll(int(left * 1000) + 1):
            continue
        chunk = os.read(pipe, 65536)
        if not chunk:
            return
        trial.size += len(chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            trial.take(line)


def _be_tried(job: CheckJob, pipe: int) -> NoReturn:
    status = 70
    try:
        findings = Findings(pipe, MAX_PROBLEMS, MAX_CLASSES)
        _fence(job)
        findings.fenced()
        try:
            examine(custom.Source(job.name, job.source), findings)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        findings.done()
        status = 0
    finally:
        os._exit(status)


def _fence(job: CheckJob) -> None:
    """No output, no memory, files and time beyond what a module needs, and no way out of this process."""
    os.setpgid(0, 0)
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8", errors="replace")  # noqa: SIM115
    memory = _address_space() + job.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory + _LAST_MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    seconds = int(job.timeout_seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    signal.signal(signal.SIGALRM, _time_is_up)
    signal.setitimer(signal.ITIMER_REAL, job.timeout_seconds)
    scratch = Path.cwd()
    landlock.confine((scratch / "home", scratch / "tmp"), (job.source,))
    sandbox.enter()


def _address_space() -> int:
    """Bytes that garak itself has mapped already (proc(5), statm)."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _time_is_up(_number: int, _frame: object) -> NoReturn:
    raise TimeIsUpError
