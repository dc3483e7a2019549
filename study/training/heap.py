"""What the C library holds of memory that was freed."""

import ctypes


def give_back_free_memory() -> None:
    """Give the pages back that lie free between others; nothing happens where the C library can't.

    Large tensors of changing sizes leave holes that the next ones don't fit into, and the process grows by them.

    Source: malloc_trim(3), of glibc.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it; musl, macOS and Windows don't
    if trim is not None:
        trim(0)
