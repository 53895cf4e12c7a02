"""Files, processes and signals beyond a child's own are out of its reach, by Landlock (landlock(7), linux/landlock.h).

For children that run custom modules. Without it such a module may do what the runner's account may: read the runner's
own environment with its keys, other runs' files, the database of a mesh in one process.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""The same numbers on every architecture."""
_WANT_VERSION, _RULE_PATH_BENEATH, _PR_SET_NO_NEW_PRIVS = 1, 1, 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << bit for bit in range(4))
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_KNOWN = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""Rights by the version that brought them."""
_SCOPED_FROM, _SCOPED = 6, 0b11
"""Abstract sockets and signals."""

_READABLE = (
    *("/usr", "/lib", "/lib64", "/bin", "/etc/ssl", "/etc/ca-certificates", "/etc/pki", "/etc/alternatives"),
    *("/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/services"),
    *("/etc/protocols", "/etc/localtime", "/etc/timezone", "/etc/ld.so.cache", "/etc/mime.types", "/etc/os-release"),
    *("/etc/passwd", "/etc/group", "/dev/random", "/dev/urandom", "/dev/zero", "/sys/devices/system"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg", "/proc/sys/kernel"),
)
_WRITABLE = ("/dev/null", "/dev/shm")


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """The kernel's Landlock version; 0 when it has none."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, 0, _WANT_VERSION)))


def confine(writable: Iterable[Path], readable: Iterable[Path]) -> bool:
    """Have this process, and all that it starts, write below `writable` alone, and read that, `readable`, and what
    Python and garak need. Returns whether the kernel sees to it. To be called while there is one thread.
    """
    abi = version()
    if abi == 0:
        return False
    rights = max(known for since, known in _KNOWN.items() if since <= abi)
    wanted = _Ruleset(rights, 0, _SCOPED if abi >= _SCOPED_FROM else 0)
    rules = int(_libc.syscall(_CREATE_RULESET, ctypes.byref(wanted), ctypes.sizeof(wanted), 0))
    if rules < 0:
        return False
    try:
        for path in {*_READABLE, *_of_python(), *map(str, readable)}:
            _allow(rules, path, rights & _READ)
        for path in (*_WRITABLE, *map(str, writable)):
            _allow(rules, path, rights)
        no_new_privileges = _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return no_new_privileges == 0 and int(_libc.syscall(_RESTRICT_SELF, rules, 0)) == 0
    finally:
        os.close(rules)


def _of_python() -> set[str]:
    """Where this interpreter and what it imports lie."""
    package = str(Path(__file__).parent)
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, package}
    return places | {path for path in sys.path if path}


def _allow(rules: int, path: str, rights: int) -> None:
    with suppress(OSError):  # not there: nothing to allow
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(place).st_mode):
                rights &= _OF_FILES
            rule = _Beneath(rights, place)
            _libc.syscall(_ADD_RULE, rules, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
        finally:
            os.close(place)
