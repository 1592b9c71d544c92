"""Two calls of the Linux kernel that Python has no names for. Elsewhere they do nothing or are refused."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_C_LIBRARY = ctypes.CDLL(None, use_errno=True)
_SYNC_FILE_RANGE_WRITE = 2
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def begin_write_back(handle: int, start: int, length: int) -> None:
    """Have the kernel begin to write pages of a file to the disk. It promises nothing, so its errors mean nothing."""
    if hasattr(_C_LIBRARY, "sync_file_range"):
        _C_LIBRARY.sync_file_range(
            handle, ctypes.c_int64(start), ctypes.c_int64(length), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE)
        )


def exchange(one: Path, other: Path) -> None:
    """Swap two directories in one step: at no moment is either name missing.

    Raises:
        OSError: Also where the file system cannot (NFS, for example).
    """
    if not hasattr(_C_LIBRARY, "renameat2"):
        raise OSError("no renameat2")
    failed = _C_LIBRARY.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one))
