"""Memory that was freed stays with the process, so that the next step need not ask the system for it again."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST_KEPT = 2**29  # bytes; a larger block comes from the system, and goes back to it
KEPT_AT_MOST = 2**31 - 1  # bytes, freed at the end of the heap


def keep_freed_memory() -> bool:
    """Make glibc keep freed blocks of up to `LARGEST_KEPT` bytes; returns whether it did, which other libraries cannot.

    By default every block above 32 MiB, as the maps of a batch are, is new memory of the system, whose pages it fills
    with zeros one by one: a fifth of a training step of CNN14, a twentieth of FocalNet's. No number changes. A process
    holds more memory for it: 3.0 instead of 2.6 GB in a training of CNN14, because glibc leaves gaps between blocks.
    """
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    return bool(library.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT) and library.mallopt(M_TRIM_THRESHOLD, KEPT_AT_MOST))
