"""What the C library holds of memory that was freed.

By default that of Linux gives large blocks back to the system as they are freed. An evaluation's activations are such
blocks, and the system clears every page of them anew each time: a third of an evaluation's time in small nets.
"""

import ctypes

# From glibc's <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 256 * 2**20


def keep_freed_memory() -> bool:
    """Let this process keep up to 256 MiB that it has freed; return False where the C library can't be told.

    No number changes. The process shows its peak as its size.

    Source: mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it; musl, macOS and Windows don't
    return mallopt is not None and all(mallopt(option, _KEPT_BYTES) for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))


def give_back_free_memory() -> None:
    """Give the pages back that lie free between others; nothing happens where the C library can't.

    Large tensors of changing sizes leave holes that the next ones don't fit into, and the process grows by them.

    Source: malloc_trim(3), of glibc.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it; musl, macOS and Windows don't
    if trim is not None:
        trim(0)
