"""The system calls that a worker may not make: a seccomp filter, which the kernel runs before each system call.

The filter lists refused calls, not allowed ones, so that decoders and the C library of any version can use all others.
It denies access that Landlock (`pipeline.decode.sandbox`) does not: sockets other than TCP, other processes,
permissions of files, and io_uring, through which a process could make calls that no filter sees.

The filter is a program of the kernel's classic BPF (seccomp(2), linux/filter.h). libseccomp would assemble it from
names, but its Python package needs the C library installed on the machine; the program here is a list of comparisons.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Sequence
from typing import Final

_ARCHITECTURES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column of an architecture in the tables below, and the kernel's number for it (linux/audit.h)."""

_SECCOMP: Final = (317, 277)
_CLONE: Final = (56, 220)
_CLONE3: Final = 435

_NONE: Final = -1  # a call that the architecture does not have

_NETWORK: Final = {
    "socket": (41, 198),
    "connect": (42, 203),
    "accept": (43, 202),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept4": (288, 242),
}
_PROCESSES: Final = {
    "fork": (57, _NONE),
    "vfork": (58, _NONE),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
}
_ONLY_OWN_PROCESS: Final = {"tgkill": (234, 131), "prlimit64": (302, 261)}
"""Calls that name a process; a worker may use them on itself: to abort, and to limit its memory."""

_KERNEL: Final = {
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "open_by_handle_at": (304, 265),
    "chmod": (90, _NONE),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, _NONE),
    "lchown": (94, _NONE),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "utime": (132, _NONE),
    "utimes": (235, _NONE),
    "futimesat": (261, _NONE),
    "utimensat": (280, 88),
}
_FILES: Final = {
    "open": (2, _NONE),
    "creat": (85, _NONE),
    "openat": (257, 56),
    "openat2": (437, 437),
    "truncate": (76, 45),
    "rename": (82, _NONE),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "mkdir": (83, _NONE),
    "mkdirat": (258, 34),
    "rmdir": (84, _NONE),
    "link": (86, _NONE),
    "linkat": (265, 37),
    "unlink": (87, _NONE),
    "unlinkat": (263, 35),
    "symlink": (88, _NONE),
    "symlinkat": (266, 36),
    "mknod": (133, _NONE),
    "mknodat": (259, 33),
    "mq_open": (240, 180),
}

_TSYNC: Final = 1  # applies to all threads
_SET_MODE_FILTER: Final = 1
_CLONE_THREAD: Final = 0x00010000
_X32_CALLS: Final = 0x40000000  # x86_64's second table of system calls

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENT_AT = 0, 4, 16  # of struct seccomp_data, little-endian
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | errno.EPERM
_UNKNOWN: Final = 0x00050000 | errno.ENOSYS


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse_system_calls(*, files: bool) -> bool:
    """Refuse these system calls to this process from now on, with EPERM; return whether the kernel supports that.

    Args:
        files: whether to refuse calls that open or change files as well.
    """
    architecture = _ARCHITECTURES.get(platform.machine())
    if architecture is None:
        return False
    column, name = architecture
    program = _program(column, name, [_NETWORK, _PROCESSES, _KERNEL, *([_FILES] if files else [])])
    filter_ = _Program(len(program), b"".join(program))
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.syscall(_SECCOMP[column], _SET_MODE_FILTER, _TSYNC, ctypes.byref(filter_)) == 0)


def _program(column: int, architecture: int, refused: Sequence[dict[str, tuple[int, int]]]) -> list[bytes]:
    """Return the instructions: (code, value, jump if true, jump if false), jumps counted from the next instruction."""
    lines = [
        _line(_LOAD, _ARCHITECTURE_AT),
        _line(_EQUAL, architecture, 1, 0),
        _line(_RETURN, _REFUSE),  # 32-bit calls, which have other numbers
        _line(_LOAD, _NUMBER_AT),
    ]
    if column == 0:
        lines += _line(_AT_LEAST, _X32_CALLS, 0, 1), _line(_RETURN, _REFUSE)
    for number in (numbers[column] for table in refused for numbers in table.values()):
        if number != _NONE:
            lines += _line(_EQUAL, number, 0, 1), _line(_RETURN, _REFUSE)
    # Without `clone3` the C library makes threads by `clone`, whose flags a filter can read.
    lines += _line(_EQUAL, _CLONE3, 0, 1), _line(_RETURN, _UNKNOWN)
    lines += _line(_EQUAL, _CLONE[column], 0, 4), _ARGUMENT
    lines += _line(_ANY_BIT, _CLONE_THREAD, 1, 0), _line(_RETURN, _REFUSE), _line(_RETURN, _ALLOW)
    for numbers in _ONLY_OWN_PROCESS.values():
        lines += _line(_EQUAL, numbers[column], 0, 5), _ARGUMENT
        lines += _line(_EQUAL, 0, 2, 0), _line(_EQUAL, os.getpid(), 1, 0)
        lines += _line(_RETURN, _REFUSE), _line(_RETURN, _ALLOW)
    return [*lines, _line(_RETURN, _ALLOW)]


def _line(code: int, value: int, holds: int = 0, fails: int = 0) -> bytes:
    return struct.pack("=HBBI", code, holds, fails, value)


_ARGUMENT: Final = _line(_LOAD, _ARGUMENT_AT)
"""Loads the lower half of a call's first argument; the calls concerned only read that half."""
