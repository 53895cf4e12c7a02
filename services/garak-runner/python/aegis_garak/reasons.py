"""Why a job did not give a result: every silent failure of garak's has a name here.

A reason belongs to one class, which tells the scheduler what to do with the task:
permanent (do not try again), retryable (counts as a failure, try again), backpressure (the target
wants a pause; not a failure).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import Enum


class Class(Enum):
    """What the scheduler does with a task that ended for a reason."""

    PERMANENT = "permanent"
    RETRYABLE = "retryable"
    BACKPRESSURE = "backpressure"


class Reason(Enum):
    """A reason: its wire name is the member's name; the value is (class, our words about it)."""

    BAD_JOB = (Class.PERMANENT, "the job is not valid")
    CONFIG_REFUSED = (Class.PERMANENT, "garak refused its configuration")
    PROBE_UNAVAILABLE = (Class.PERMANENT, "the probe cannot be loaded in this installation")
    DETECTOR_UNAVAILABLE = (Class.PERMANENT, "no detector of the probe can be loaded in this installation")
    NO_PROMPTS = (Class.PERMANENT, "the probe has no prompts in this installation")
    MODALITY_MISMATCH = (Class.PERMANENT, "the probe's modality is not one that the generator takes")
    GENERATOR_UNAVAILABLE = (Class.PERMANENT, "the generator cannot be loaded")
    MISSING_CREDENTIAL = (Class.PERMANENT, "the generator needs a credential that was not given")
    TARGET_UNAUTHORIZED = (Class.PERMANENT, "the target refused the credential")
    TARGET_NOT_FOUND = (Class.PERMANENT, "the target does not know the model or the path")
    TARGET_REJECTED = (Class.PERMANENT, "the target rejected the request")
    TARGET_INVALID_RESPONSE = (Class.PERMANENT, "the target's answers are empty or cannot be read")
    TARGET_BUSY = (Class.BACKPRESSURE, "the target asks for fewer requests")
    TARGET_UNREACHABLE = (Class.BACKPRESSURE, "the target cannot be reached")
    TARGET_ERROR = (Class.RETRYABLE, "the target fails")
    NOTHING_EVALUATED = (Class.PERMANENT, "garak ended, but no output could be evaluated")
    PROBE_CRASHED = (Class.RETRYABLE, "the probe ended with an error")
    OUT_OF_MEMORY = (Class.PERMANENT, "it wanted more memory than there is")
    OUTPUT_TOO_LARGE = (Class.PERMANENT, "it wrote a file larger than the runner's limits.file_bytes")
    TOO_MANY_OPEN_FILES = (Class.PERMANENT, "it opened more files than the runner's limits.open_files")
    OUT_OF_SPACE = (Class.RETRYABLE, "the runner's disk is full")
    TIMED_OUT = (Class.RETRYABLE, "the time limit was reached")
    REPORT_FAILED = (Class.RETRYABLE, "garak's report writer failed")
    CHECK_FAILED = (Class.RETRYABLE, "the custom probe could not be tried out")
    SURVEY_FAILED = (Class.RETRYABLE, "the plugin catalogue could not be made")

    @property
    def retry_class(self) -> Class:
        """What the scheduler does with the task."""
        return self.value[0]

    @property
    def message(self) -> str:
        """Our own words; never text of a prompt, an output or a key."""
        return self.value[1]


@dataclass(frozen=True)
class Failure:
    """A reason with what is known about it.

    `detail` is added to the reason's message; it must be our own words (a plugin's or an exception's name, a
    status number). `retry_after_seconds` is the target's own wish, when it had one.
    """

    reason: Reason
    detail: str = ""
    retry_after_seconds: float | None = None

    @property
    def message(self) -> str:
        """The whole message for the result event."""
        return f"{self.reason.message}: {self.detail}" if self.detail else self.reason.message


class JobFailed(BaseException):
    """Ends a job with a failure.

    A BaseException on purpose: garak swallows Exception and GarakException in many places (IterativeProbe, for
    one, would go on with what it has), and a job that was given up must not look complete.
    """

    def __init__(self, failure: Failure) -> None:
        """Wrap the failure that ends the job."""
        super().__init__(failure)
        self.failure = failure


_REASONS = {
    errno.ENOSPC: Reason.OUT_OF_SPACE,
    errno.EDQUOT: Reason.OUT_OF_SPACE,
    errno.EFBIG: Reason.OUTPUT_TOO_LARGE,
    errno.EMFILE: Reason.TOO_MANY_OPEN_FILES,
}


def causes(error: BaseException | None) -> list[BaseException]:
    """An exception and what it came from, nearest first."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        # urllib3 keeps the cause in an argument and not in the chain.
        origin = error.__cause__ or error.__context__ or getattr(error, "reason", None)
        error = origin if isinstance(origin, BaseException) else None
    return found


def reason_for_error(error: BaseException | None) -> Reason | None:
    """The limit or the shortage of the system's that is behind an exception, if one is."""
    for cause in causes(error):
        if isinstance(cause, MemoryError):
            return Reason.OUT_OF_MEMORY
        if isinstance(cause, OSError) and cause.errno in _REASONS:
            return _REASONS[cause.errno]
    return None


def reason_for_status(status: int) -> Reason:
    """The reason that a failing HTTP status (>= 400) stands for."""
    if status in (401, 403):
        return Reason.TARGET_UNAUTHORIZED
    if status == 404:
        return Reason.TARGET_NOT_FOUND
    if status in (429, 503):
        return Reason.TARGET_BUSY
    if status == 408 or status >= 500:
        return Reason.TARGET_ERROR
    return Reason.TARGET_REJECTED
