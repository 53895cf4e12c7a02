"""Was the probe evaluated? If not: why? Decided from what the seams saw, never from text."""

from __future__ import annotations

import json

from aegis_garak.reasons import Failure, Reason, reason_for_error
from aegis_garak.seams import Observed
from aegis_garak.target import UNREADABLE, Target


def judge(
    observed: Observed, target: Target, probe: str, generator: str, raised: BaseException | None
) -> Failure | None:
    """The failure of a run, or None when it evaluated its probe.

    Success is: garak ended its run, and some detector of the probe evaluated at least one output.
    """
    if observed.completed and raised is None and _evaluated(observed, probe) > 0:
        return None
    cause = raised or observed.swallowed
    limit = reason_for_error(cause)
    if limit is not None:
        return Failure(limit)
    if not observed.started:
        return _not_started(observed, target, generator, cause)
    if f"probes.{probe}" in observed.unloadable:
        return Failure(Reason.PROBE_UNAVAILABLE, _origin_name(observed.unloadable[f"probes.{probe}"]))
    if not observed.completed:
        if isinstance(cause, json.JSONDecodeError) and target.last_fault is None:
            return UNREADABLE.failure()
        return Failure(Reason.PROBE_CRASHED, _origin_name(cause))
    return _nothing_evaluated(observed, target)


def _evaluated(observed: Observed, probe: str) -> int:
    return sum(entry["total_evaluated"] for entry in observed.evals if entry["probe"] == probe)


def _not_started(observed: Observed, target: Target, generator: str, cause: BaseException | None) -> Failure:
    error = observed.unloadable.get(f"generators.{generator}")
    if error is None:
        return Failure(Reason.CONFIG_REFUSED, _origin_name(cause))
    if _origin_name(error) == "APIKeyMissingError":
        return Failure(Reason.MISSING_CREDENTIAL)
    # Some generators look at the target's address while they load; any HTTP answer is good enough for them.
    if target.last_fault is not None and target.last_fault.reason is Reason.TARGET_UNREACHABLE:
        return target.last_fault.failure()
    return Failure(Reason.GENERATOR_UNAVAILABLE, _origin_name(error))


def _nothing_evaluated(observed: Observed, target: Target) -> Failure:
    if observed.outputs == 0:
        return Failure(Reason.NO_PROMPTS)
    if observed.null_outputs < observed.outputs:
        return Failure(Reason.NOTHING_EVALUATED)
    if target.last_fault is not None:
        return target.last_fault.failure()
    return Failure(Reason.TARGET_INVALID_RESPONSE if target.spoke else Reason.NOTHING_EVALUATED)


def _origin_name(error: BaseException | None) -> str:
    """The type's name of the first cause: garak wraps what happened in its own exceptions."""
    if error is None:
        return ""
    while error.__cause__ is not None:
        error = error.__cause__
    return type(error).__name__
