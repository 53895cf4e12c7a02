"""The protocol between the runner and the warm process: JSON lines, requests on stdin, replies on stdout.

Requests
    {"op":"run","id":ID,"kind":KIND,"scratch":DIR,"env":{NAME:VALUE},"job":{...}}
        Fork a child for the job. KIND: probe, report, check, survey, fingerprint. DIR exists and is absolute.
        The child's environment is `env` plus `FIXED_NAMES`, nothing else.
    {"op":"kill","id":ID}
        SIGKILL the child's whole session; the answer is the normal "ended". An unknown id is ignored: the
        child may just have ended.
    End of input: every child's session is killed, exit 0.

Replies
    {"event":"ready","protocol":1,"garak_version":V,"pid":N,"landlock":N}
        `landlock` is the kernel's version of it, 0 for none: how children with custom modules are fenced in.
    {"event":"started","id":ID,"pid":N}
    {"event":"child","id":ID,"body":{...}}
    {"event":"ended","id":ID,"exit_code":N|null,"signal":N|null,"max_rss_kb":N,"cpu_seconds":X}
        Once per child: it was reaped, its session is gone, its pipe is drained. `dropped_lines` is there only
        when events of the child were too long and were dropped.
    {"event":"refused","id":ID,"reason":"BAD_REQUEST","message":M}

Child events (body.type)
    loaded{attempts_total, prompts, detectors}
    progress{attempts_done, attempts_total}              at most `PROGRESS_PER_SECOND` a second
    detector_finished{detector}
    target_retried{reason, retries, retry_after_seconds} `retries` since the target's last success
    result{outcome, reason, class, message, retry_after_seconds, report, hitlog, attempts_done, ...}
        Exactly once, last. A child that ends without one has crashed or was killed.

Jobs (all paths absolute)
    probe        probe, detectors|null, garak_config, generator, run_id, seed, max_in_flight,
                 target_patience_seconds, request_timeout_seconds, custom_probes?, limits
    report       skeleton, report_html, digest, reportfile_name?, custom_probes?
    check        name, source, output, timeout_seconds, memory_bytes
                 What was found is written to `output`: valid, problems, classes, garak_version, in the words of
                 aegis.probe.v1.Validation.
    survey       output, timeout_per_probe_seconds, jobs, probes?
    fingerprint  (nothing)
    custom_probes  {module's name: path of its source}
    limits       each optional: file_bytes, cpu_seconds, open_files, wall_seconds; each process has them for itself.
                 What all of a child's processes may use together is for the runner to watch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROTOCOL = 1
"""The version that "ready" names."""

MAX_REQUEST_BYTES = 8 * 1024 * 1024
"""Longest request line."""

MAX_EVENT_BYTES = 64 * 1024
"""Longest line that a child may write; longer ones are dropped and counted."""

PROGRESS_PER_SECOND = 4

EVENT_BYTES_PER_READ = 8 * 1024
EVENT_READS_PER_SECOND = 20
"""So much is read of each child's events. Who says more has to wait: its pipe is full then."""

KINDS = ("probe", "report", "check", "survey", "fingerprint")

LIMITS = ("file_bytes", "cpu_seconds", "open_files", "wall_seconds")

FIXED_NAMES = frozenset(
    {"HOME", "TMPDIR", "PATH", "LANG", "HF_HUB_OFFLINE", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"}
)
"""Environment names that the child sets itself; a request that gives one is refused."""

WIDTH = "width"
"""The one child event that the warm process keeps to itself (see `widths`)."""

Json = dict[str, Any]
"""A JSON object."""


class BadRequestError(ValueError):
    """A request that cannot be served; the text says why, in our own words."""


@dataclass(frozen=True)
class Run:
    """A checked "run" request."""

    id: str
    kind: str
    scratch: Path
    env: dict[str, str]
    job: Json


def parse_run(request: Json) -> Run:
    """Check a "run" request.

    Raises BadRequestError naming the first field that is wrong.
    """
    identity = request.get("id")
    if not isinstance(identity, str) or not 0 < len(identity) <= 256:
        raise BadRequestError("id must be a string of 1 to 256 characters")
    kind = request.get("kind")
    if kind not in KINDS:
        raise BadRequestError(f"kind must be one of {', '.join(KINDS)}")
    scratch = request.get("scratch")
    if not isinstance(scratch, str) or not Path(scratch).is_absolute() or not Path(scratch).is_dir():
        raise BadRequestError("scratch must be an absolute path of a directory that exists")
    job = request.get("job")
    if not isinstance(job, dict):
        raise BadRequestError("job must be an object")
    limits = job.get("limits") or {}
    if not isinstance(limits, dict) or not all(name in LIMITS for name in limits):
        raise BadRequestError(f"limits may name only {', '.join(LIMITS)}")
    if not all(value is None or (_is_number(value) and value > 0) for value in limits.values()):
        raise BadRequestError("limits must be positive numbers")
    return Run(identity, kind, Path(scratch), _parse_env(request.get("env", {})), job)


def _parse_env(env: object) -> dict[str, str]:
    if not isinstance(env, dict):
        raise BadRequestError("env must be an object")
    for name, value in env.items():
        if not name or "=" in name or "\0" in name:
            raise BadRequestError("env has a name that is empty or contains '=' or NUL")
        if name in FIXED_NAMES:
            raise BadRequestError(f"env may not set {name}")
        if not isinstance(value, str) or "\0" in value:
            raise BadRequestError(f"env {name} must be a string without NUL")
    return dict(env)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
