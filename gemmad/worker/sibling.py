"""fork(2) with another parent: the child is this process's sibling, a child of its own parent.

The kernel does that for clone(2) with CLONE_PARENT; C's library and Python have no call for it. So the system call is
made directly, and what the two would do around it is done here. There must be no other thread.

- Python: PyOS_BeforeFork and its kin are its C API's answer to "any similar function that clones the current process".
- The C library keeps the thread's number in the thread's own memory, at the address which it gave the kernel
  (set_tid_address(2)); the kernel writes the child's there (CLONE_CHILD_SETTID). Its locks are free, as nobody else is
  there to hold one. Functions that were registered with pthread_atfork(3) are not called: those free locks, too, or
  end a library's threads.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal

_PR_GET_TID_ADDRESS = 40
_FLAGS = 0x00008000 | 0x00200000 | 0x01000000 | signal.SIGCHLD
"""CLONE_PARENT, CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID."""
_CLONE = {"x86_64": (56, 3), "aarch64": (220, 4)}
"""The number of the call, and which of its arguments (from 0) is the thread number's address."""


_NEVER = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM})
"""Of a kernel without such a call, or of a sandbox that does not allow it."""


class NoSibling(Exception):  # noqa: N818 - what is the case, not what went wrong
    """There is no such call here, and trying again does not help."""


def fork_sibling() -> int:
    """0 in the child; its number in the parent, which must not wait for it. Raises NoSibling, and OSError where another
    attempt may succeed."""
    try:
        number, place = _CLONE[platform.machine()]
    except KeyError:
        raise NoSibling(f"how to call clone is not known on {platform.machine()}") from None
    # with Python's lock held, as in os.fork; and all is looked up before there are two processes
    libc, api = ctypes.PyDLL(None, use_errno=True), ctypes.pythonapi
    before, in_parent, in_child = api.PyOS_BeforeFork, api.PyOS_AfterFork_Parent, api.PyOS_AfterFork_Child
    before.restype = in_parent.restype = in_child.restype = None
    arguments = [ctypes.c_long(value) for value in (number, _FLAGS, 0, 0, 0, 0)]
    arguments[1 + place] = ctypes.c_long(_thread_number_address(libc))
    clone = libc.syscall
    clone.restype = ctypes.c_long
    before()
    pid = int(clone(*arguments))
    if pid == 0:
        in_child()
        return 0
    in_parent()
    if pid < 0:
        error = OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        raise NoSibling(f"clone: {error.strerror}") if error.errno in _NEVER else error
    return pid


def _thread_number_address(libc: ctypes.PyDLL) -> int:
    """Where C's library keeps the number of this thread. (prctl(2), PR_GET_TID_ADDRESS)"""
    address = ctypes.c_void_p()
    if libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) != 0 or not address.value:
        raise NoSibling("the kernel does not tell where C's library keeps a thread's number")
    return address.value
