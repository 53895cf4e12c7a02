"""Runs each trial in a forked process of its own, several at once, each with a time limit."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aegis_garak.protocol import Json

Key = tuple[str, str]

_MAX_ANSWER_BYTES = 256 * 1024


@dataclass
class _Trial:
    key: Key
    pid: int
    pipe: int
    ends_at: float
    answer: bytearray = field(default_factory=bytearray)


def run(
    keys: list[Key],
    examine: Callable[[str, str], Json],
    without_answer: Callable[[str, bool], Json],
    timeout_seconds: float,
    jobs: int,
    tried: Callable[[Key, Json], None],
) -> None:
    """Examine every key; `tried` gets each answer.

    `without_answer(category, timed_out)` stands in for the answer of a trial that took too long or died.
    """
    waiting = list(reversed(keys))
    running: dict[int, _Trial] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            trial = _start(waiting.pop(), examine, timeout_seconds)
            running[trial.pipe] = trial
        for trial in _ended(running):
            del running[trial.pipe]
            timed_out = time.monotonic() >= trial.ends_at
            _stop(trial)
            try:
                answer = json.loads(trial.answer)
            except ValueError:
                answer = without_answer(trial.key[0], timed_out)
            tried(trial.key, answer)


def _start(key: Key, examine: Callable[[str, str], Json], timeout_seconds: float) -> _Trial:
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            # A group of its own: what it starts can be ended with it.
            os.setpgid(0, 0)
            os.close(read_end)
            answer = json.dumps(examine(*key), default=str).encode()
            while answer:
                answer = answer[os.write(write_end, answer) :]
            status = 0
        finally:
            os._exit(status)
    os.close(write_end)
    os.set_blocking(read_end, False)
    return _Trial(key, pid, read_end, time.monotonic() + timeout_seconds)


def _ended(running: dict[int, _Trial]) -> list[_Trial]:
    """Trials whose pipe is at its end, or whose time is up; waits for the next one."""
    poll = select.poll()
    for pipe in running:
        poll.register(pipe, select.POLLIN)
    left = min(trial.ends_at for trial in running.values()) - time.monotonic()
    ended = []
    for pipe, _ in poll.poll(max(0, int(left * 1000) + 1)):
        trial = running[pipe]
        chunk = os.read(pipe, 65536)
        trial.answer += chunk
        if not chunk or len(trial.answer) > _MAX_ANSWER_BYTES:
            ended.append(trial)
    late = [trial for trial in running.values() if time.monotonic() >= trial.ends_at and trial not in ended]
    return ended + late


def _stop(trial: _Trial) -> None:
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(trial.pid, signal.SIGKILL)
    os.waitpid(trial.pid, 0)
    os.close(trial.pipe)
