"""A process that may not reach beyond itself: no network, no other process, no program, by a seccomp filter.

The filter is the kernel's (seccomp(2), SECCOMP_SET_MODE_FILTER) and cannot be taken off again. Everything that is not
named here stays allowed: this is a fence around a process with limits of its own, not a jail for an enemy.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys

# linux/prctl.h, linux/seccomp.h, linux/audit.h, linux/bpf_common.h, linux/sched.h
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_LOAD, _IF_EQUAL, _IF_ANY_BIT, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # places in struct seccomp_data, little-endian
_CLONE_THREAD = 0x10000
_X32 = 0x40000000

_DENIED = {
    # Sockets of any kind; io_uring can make them too.
    "socket": (41, 198),
    "io_uring_setup": (425, 425),
    # Other programs and processes.
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    # The system.
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
}
_ON_ITSELF_ONLY = {
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "prlimit64": (302, 261),
}
_CLONE = (56, 220)
_CLONE3 = (435, 435)
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


class SandboxError(OSError):
    """This system has no seccomp, or none that we know how to use."""


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


_Step = tuple[int, int, int, int]


def enter() -> None:
    """Put this process, and all threads that it will start, behind the filter. Raises SandboxError."""
    steps = _filter()
    program = _Program(len(steps), (_Instruction * len(steps))(*(_Instruction(*step) for step in steps)))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges = libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if no_new_privileges != 0 or libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        raise SandboxError(ctypes.get_errno(), "seccomp refused")


def _filter() -> list[_Step]:
    if platform.machine() not in _ARCHITECTURES or sys.byteorder != "little":
        raise SandboxError(errno.ENOSYS, "unknown architecture")
    column, arch = _ARCHITECTURES[platform.machine()]
    denied = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    allowed = (_RETURN, 0, 0, _ALLOW)
    steps: list[_Step] = [
        (_LOAD, 0, 0, _ARCH),
        (_IF_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_IF_AT_LEAST, 0, 1, _X32),
        denied,
        (_IF_EQUAL, 0, 1, _CLONE3[column]),
        # Its flags are out of a filter's reach; without it the C library takes clone.
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]
    for numbers in _DENIED.values():
        number = numbers[column]
        if number is not None:
            steps += [(_IF_EQUAL, 0, 1, number), denied]
    argument = (_LOAD, 0, 0, _FIRST_ARGUMENT)
    threads_only = [argument, (_IF_ANY_BIT, 0, 1, _CLONE_THREAD), allowed, denied]
    steps += [(_IF_EQUAL, 0, len(threads_only), _CLONE[column]), *threads_only]
    for numbers in _ON_ITSELF_ONLY.values():
        # 0 is "myself" for prlimit64, and for kill the process's own group.
        itself = [argument, (_IF_EQUAL, 1, 0, os.getpid()), (_IF_EQUAL, 0, 1, 0), allowed, denied]
        steps += [(_IF_EQUAL, 0, len(itself), numbers[column]), *itself]
    return [*steps, allowed]
