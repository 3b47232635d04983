"""Keep freed memory in the process, or a CPU pays for every large tensor anew."""

import ctypes
import sys

# mallopt's parameters, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Tell glibc to reuse freed memory in place of giving it back to the kernel.

    By default each activation map is mapped and zeroed by the kernel at every step. It changes no
    number and makes small networks train several times as fast on a CPU, for a little more memory
    (``benchmarks/allocator.py``). It holds for the whole process, so only programs call it: the
    command line does, importing the library does not.

    Returns:
        Whether this C library took the settings; False anywhere but on Linux with glibc.
    """
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 * 2**20))
    return all(library.mallopt(name, value) == 1 for name, value in settings)
