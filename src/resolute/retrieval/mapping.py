"""Files mapped into memory without a descriptor each.

Python's own maps keep one until 3.13, and a process has 1,024 by default: fewer than the files of a
gallery of a few million images, twice over while it is purged.
"""

import ctypes
import mmap
import os
import weakref
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_FAILED = ctypes.c_void_p(-1).value


def map_file(file: BinaryIO, num_bytes: int) -> NDArray[np.uint8]:
    """Map the beginning of a file for reading.

    The map outlives the file's closing and removal, and goes with the last array that looks at it.

    Args:
        file: open for reading.
        num_bytes: how much of it, at least 1 and at most what it holds.

    Returns:
        Its bytes; they cannot be written to.

    Raises:
        OSError: if the system refuses.
    """
    address = _LIBC.mmap(None, num_bytes, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
    if address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    memory = (ctypes.c_ubyte * num_bytes).from_address(address)
    # Not at exit: threads may still be reading then.
    weakref.finalize(memory, _LIBC.munmap, address, num_bytes).atexit = False
    return np.frombuffer(memoryview(memory).toreadonly(), dtype=np.uint8)
