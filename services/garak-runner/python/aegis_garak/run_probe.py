"""Kind "probe": garak's own command for one probe, from a configuration file, with our seams installed."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aegis_garak import custom, landlock, outcome, parallel, seams, target
from aegis_garak.events import Events, Progress
from aegis_garak.protocol import Json
from aegis_garak.reasons import Failure, JobFailed, Reason

_PLUGIN = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]\w*\Z")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?\Z")
_PREFIX = "part"


@dataclass(frozen=True)
class ProbeJob:
    """A checked job of kind "probe"."""

    probe: str
    detectors: list[str] | None
    config: Json
    generator: str
    run_id: uuid.UUID
    seed: int | None
    max_in_flight: int
    patience_seconds: float
    request_timeout_seconds: float
    custom_probes: list[custom.Source]


def parse(job: Json) -> ProbeJob:
    """Check a job; raises KeyError, TypeError or ValueError."""
    detectors = job.get("detectors")
    parsed = ProbeJob(
        probe=_matching(_PLUGIN, job["probe"]),
        detectors=None if detectors is None else [_matching(_PLUGIN, name) for name in detectors],
        config=dict(job["garak_config"]),
        generator=_matching(_TARGET, job["generator"]),
        run_id=uuid.UUID(job["run_id"]),
        seed=None if job.get("seed") is None else int(job["seed"]),
        max_in_flight=int(job["max_in_flight"]),
        patience_seconds=float(job["target_patience_seconds"]),
        request_timeout_seconds=float(job["request_timeout_seconds"]),
        custom_probes=custom.parse(job),
    )
    if parsed.detectors == []:
        raise ValueError("detectors must be null or name one")
    if parsed.max_in_flight < 1 or parsed.patience_seconds < 0 or parsed.request_timeout_seconds <= 0:
        raise ValueError("out of range")
    return parsed


def _matching(pattern: re.Pattern[str], value: object) -> str:
    if not isinstance(value, str) or pattern.match(value) is None:
        raise ValueError("not a plugin's name")
    return value


def run(job: Json, scratch: Path, events: Events) -> None:
    """Run the probe and send the result."""
    parsed = parse(job)
    observed = seams.Observed(Progress(events))
    the_target = target.Target(events, parsed.patience_seconds, parsed.request_timeout_seconds)
    try:
        failure = _run(parsed, scratch, events, observed, the_target)
    except JobFailed as ended:
        failure = ended.failure
    except MemoryError:
        failure = Failure(Reason.OUT_OF_MEMORY)
    report, hitlog = scratch / f"{_PREFIX}.report.jsonl", scratch / f"{_PREFIX}.hitlog.jsonl"
    events.result(
        "not_evaluated" if failure else "evaluated",
        failure,
        report=_existing(report),
        hitlog=_existing(hitlog),
        attempts_done=observed.progress.done,
    )


def _existing(path: Path) -> str | None:
    return str(path) if path.is_file() else None


def _run(
    job: ProbeJob, scratch: Path, events: Events, observed: seams.Observed, the_target: target.Target
) -> Failure | None:
    if job.custom_probes:
        landlock.confine((scratch,), (one.path for one in job.custom_probes))
    failed = custom.provide(job.custom_probes)
    _check_plugins(job, failed)
    try:
        generator = parallel.generator_class(job.generator)
    except (ImportError, AttributeError) as error:
        return Failure(Reason.GENERATOR_UNAVAILABLE, type(error).__name__)
    seams.install(observed, events, job.run_id)
    target.install(the_target)
    width = parallel.install(generator, the_target, job.max_in_flight, events.width_hint)
    config = _write_config(job, generator, scratch)
    raised = _call_garak(["--config", str(config)], job.detectors)
    events.width(width.now)
    return outcome.judge(observed, the_target, job.probe, job.generator, raised)


def _check_plugins(job: ProbeJob, failed: dict[str, BaseException]) -> None:
    from garak import _plugins

    own = failed.get(job.probe.partition(".")[0])
    if own is not None:
        raise JobFailed(Failure(Reason.PROBE_UNAVAILABLE, type(own).__name__))
    known = _plugins.PluginCache.instance()
    if f"probes.{job.probe}" not in known["probes"]:
        raise JobFailed(Failure(Reason.PROBE_UNAVAILABLE, "unknown"))
    for name in job.detectors or []:
        if f"detectors.{name}" not in known["detectors"]:
            raise JobFailed(Failure(Reason.DETECTOR_UNAVAILABLE, f"unknown {name}"))


def _write_config(job: ProbeJob, generator: Any, scratch: Path) -> Path:
    """garak's configuration file: what was given, and what a part must have. Readable by us alone."""
    config = {name: dict(job.config.get(name) or {}) for name in ("system", "run", "plugins", "reporting")}
    buffs = [name for name in _includes(config["run"]) if isinstance(name, str) and name.startswith("buffs.")]
    config["system"] |= parallel.workers_settings(generator, job.max_in_flight)
    config["system"].setdefault("max_workers", max(500, job.max_in_flight))
    config["run"]["spec"] = {"include": [f"probes.{job.probe}", *buffs], "exclude": []}
    if job.seed is not None:
        config["run"]["seed"] = job.seed
    config["plugins"]["target_type"] = job.generator
    config["reporting"] |= {"report_dir": str(scratch), "report_prefix": _PREFIX}
    path = scratch / "garak.json"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        json.dump(config, file)
    return path


def _includes(run: Json) -> list[Any]:
    spec = run.get("spec")
    include = spec.get("include") if isinstance(spec, dict) else None
    return include if isinstance(include, list) else []


def _call_garak(arguments: list[str], detectors: list[str] | None) -> BaseException | None:
    """garak's command line entry; returns what it raised, if anything."""
    from garak import cli

    if detectors is not None:
        _choose_detectors(detectors)
    try:
        cli.main(arguments)
    except (MemoryError, JobFailed):
        raise
    except SystemExit as left:
        return left if left.code else None
    except Exception as error:
        return error
    return None


def _choose_detectors(names: list[str]) -> None:
    """Have the probe ask for these detectors, and no others."""
    from garak import _plugins

    load: Callable[..., Any] = _plugins.load_plugin

    def chosen(path: str, *args: Any, **kwargs: Any) -> Any:
        plugin = load(path, *args, **kwargs)
        if path.startswith("probes.") and plugin:
            primary = plugin.primary_detector if plugin.primary_detector in names else names[0]
            plugin.primary_detector = primary
            plugin.extended_detectors = [name for name in names if name != primary]
        return plugin

    _plugins.load_plugin = chosen
