"""No orphan, ever: parent-death signals, subreaping, and killing everything in a session."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

# From linux/prctl.h; Python has no wrapper for them.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)
_forking_pid = 0


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


def _remember_parent() -> None:
    global _forking_pid
    _forking_pid = os.getpid()


def _die_with_parent() -> None:
    parent = _forking_pid
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the line above: then no signal comes, and we are somebody else's child.
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


def bind_children_to_parents() -> None:
    """From now on every process forked by this one, or by its descendants, dies with the one that forked it."""
    os.register_at_fork(before=_remember_parent, after_in_child=_die_with_parent)


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose parent died, so that none can hide from `kill_session`."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _table() -> list[tuple[int, int, int, str]]:
    """(pid, parent, session, state) of every process, from /proc/PID/stat (proc(5))."""
    rows = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = Path("/proc", entry, "stat").read_bytes()
        except OSError:  # it ended meanwhile
            continue
        # The name, in parentheses, may itself contain blanks and parentheses.
        state, parent, _group, session = stat[stat.rindex(b")") + 2 :].split(maxsplit=4)[:4]
        rows.append((int(entry), int(parent), int(session), state.decode()))
    return rows


def kill_session(session: int, other_sessions: frozenset[int], patience_seconds: float = 1.5) -> bool:
    """SIGKILL every process of a session, and adopted orphans that belong to no other session of ours.

    Call it before the session's leader is reaped: until then the kernel cannot give its number to anybody else.
    Returns whether all are gone (zombies count as gone) when it returns.
    """
    me = os.getpid()
    deadline = time.monotonic() + patience_seconds
    while True:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(session, signal.SIGKILL)
        alive = [
            pid
            for pid, parent, its_session, state in _table()
            if state not in "ZX"
            and (
                session in (pid, its_session)  # the leader counts even before it called setsid
                or (parent == me and its_session not in other_sessions and its_session != os.getsid(0))
            )
        ]
        if not alive:
            return True
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
