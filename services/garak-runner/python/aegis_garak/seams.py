"""Where we reach into an unmodified garak 0.17.1.

Each seam is a named function of garak's, replaced in the child only. A seam that is missing means another garak: that
is an error, said at once, and not a silent loss.
"""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from aegis_garak.events import Events, Progress
from aegis_garak.protocol import Json
from aegis_garak.reasons import Failure, JobFailed, Reason, reason_for_error

# garak writes every report line with json.dumps of a dict that begins with these keys (Attempt.as_dict).
_ATTEMPT = re.compile(r'\{"entry_type": "attempt", "uuid": "[^"]*", "seq": [^,]*, "status": (\d)')
_KEPT = ('{"entry_type": "eval"', '{"entry_type": "completion"')


@dataclass
class Observed:
    """What a run did, as its seams saw it."""

    progress: Progress
    started: bool = False
    attempts: int = 0
    outputs: int = 0
    null_outputs: int = 0
    evals: list[Json] = field(default_factory=list)
    completed: bool = False
    swallowed: BaseException | None = None
    """The last exception that garak logged instead of raising it."""
    unloadable: dict[str, BaseException | None] = field(default_factory=dict)
    """Plugins that could not be loaded, by path."""


class _Tee:
    """garak's report file, with each line shown to us on its way."""

    def __init__(self, file: IO[str], observed: Observed) -> None:
        self._file = file
        self._observed = observed

    def write(self, line: str) -> int:
        try:
            written = self._file.write(line)
        except OSError as error:
            # Before anybody takes it for a failure of their own and goes on.
            raise JobFailed(Failure(reason_for_error(error) or Reason.PROBE_CRASHED, type(error).__name__)) from error
        attempt = _ATTEMPT.match(line)
        if attempt is not None:
            if attempt[1] == "1":
                self._observed.progress.add_done()
        elif line.startswith(_KEPT):
            entry = json.loads(line)
            if entry["entry_type"] == "eval":
                self._observed.evals.append(entry)
            else:
                self._observed.completed = True
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    if not hasattr(owner, name):
        raise RuntimeError(f"garak has no {name}: another version?")
    setattr(owner, name, make(getattr(owner, name)))


def install(observed: Observed, events: Events, run_id: uuid.UUID) -> None:
    """Install the seams that observe; `parallel` installs those that speed up."""
    from garak import _plugins, command
    from garak.harnesses.base import Harness
    from garak.probes.base import Probe

    loaded: list[bool] = []

    def say_loaded(probe: Any, attempts: int) -> None:
        observed.progress.add_total(attempts)
        if not loaded:
            loaded.append(True)
            prompts = getattr(probe, "prompts", None)
            events.send(
                {
                    "type": "loaded",
                    "attempts_total": attempts,
                    "prompts": len(prompts) if isinstance(prompts, list) else attempts,
                    "detectors": detectors,
                }
            )
        else:
            observed.progress.send()

    detectors: list[str] = []

    def start_run(original: Callable[[], None]) -> Callable[[], None]:
        def started() -> None:
            from garak import _config

            # garak makes up a run id here, with no way to give one; it is the function's only use of uuid4.
            random_uuid = uuid.uuid4
            uuid.uuid4 = lambda: run_id
            try:
                original()
            finally:
                uuid.uuid4 = random_uuid
            _config.transient.reportfile = _Tee(_config.transient.reportfile, observed)
            observed.started = True

        return started

    def load_plugin(original: Callable[..., Any]) -> Callable[..., Any]:
        def load(path: str, *args: Any, **kwargs: Any) -> Any:
            try:
                plugin = original(path, *args, **kwargs)
            except Exception as error:
                observed.unloadable[path] = error
                raise
            if not plugin:
                observed.unloadable[path] = None
            return plugin

        return load

    def execute_all(original: Callable[..., Any]) -> Callable[..., Any]:
        def executed(self: Any, attempts: Any) -> Any:
            attempts = list(attempts)
            say_loaded(self, len(attempts))
            return original(self, attempts)

        return executed

    def harness_run(original: Callable[..., Any]) -> Callable[..., Any]:
        def run(self: Any, model: Any, probes: Any, its_detectors: Any, *args: Any, **kwargs: Any) -> Any:
            detectors[:] = [d.detectorname.removeprefix("garak.detectors.") for d in its_detectors]
            if not detectors:
                raise JobFailed(Failure(Reason.DETECTOR_UNAVAILABLE, ", ".join(sorted(_detectors(observed)))))
            for probe in probes:
                _check_probe(probe, model)
            return original(self, model, probes, its_detectors, *args, **kwargs)

        return run

    def run_detector(original: Callable[..., Any]) -> Callable[..., Any]:
        def run(self: Any, attempts: Any, detector: Any) -> Any:
            _count_outputs(observed, attempts)
            result = original(self, attempts, detector)
            events.detector_finished(detector.detectorname.removeprefix("garak.detectors."))
            return result

        return run

    def exception(original: Callable[..., None]) -> Callable[..., None]:
        def log(message: object, *args: Any, **kwargs: Any) -> None:
            if isinstance(message, BaseException):
                observed.swallowed = message
            original(message, *args, **kwargs)

        return log

    _replace(command, "start_run", start_run)
    # A part needs neither digest nor page: garak's writer makes them once, for the whole scan.
    _replace(command, "write_report_digest", lambda _: lambda *_args: None)
    _replace(_plugins, "load_plugin", load_plugin)
    _replace(Probe, "_execute_all", execute_all)
    _replace(Harness, "run", harness_run)
    _replace(Harness, "_run_detector", run_detector)
    # garak catches ValueError and GarakException at its top, logs them so, and ends with exit code 0.
    _replace(logging, "exception", exception)


def _detectors(observed: Observed) -> list[str]:
    return [path.removeprefix("detectors.") for path in observed.unloadable if path.startswith("detectors.")]


def _check_probe(probe: Any, model: Any) -> None:
    from garak.harnesses.base import _modality_match
    from garak.probes.base import Probe

    if not _modality_match(probe.modality["in"], model.modality["in"], False):
        raise JobFailed(Failure(Reason.MODALITY_MISMATCH))
    # Probe.probe reads prompts[0]; probes with a probe() of their own may make prompts as they go.
    if type(probe).probe is Probe.probe and not getattr(probe, "prompts", None):
        raise JobFailed(Failure(Reason.NO_PROMPTS))


def _count_outputs(observed: Observed, attempts: Any) -> None:
    """Once, at the first detector: an output that is None, or has no text, was a failed call."""
    if observed.attempts or not isinstance(attempts, list):
        return
    observed.attempts = len(attempts)
    for attempt in attempts:
        for output in attempt.outputs:
            observed.outputs += 1
            observed.null_outputs += output is None or (output.text is None and output.data is None)
