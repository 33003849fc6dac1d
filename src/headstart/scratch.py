"""Large arrays: in memory while they are small, else in a file that nobody else sees and that goes with them."""

import mmap
import os
import tempfile
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from headstart.storage import cache_folder, clear_storage_errors

IN_MEMORY_BYTES = 256 * 1024**2
"""Arrays up to this size are in memory."""

Number = TypeVar("Number", bound=np.generic)


def empty(shape: tuple[int, ...], dtype: type[Number]) -> NDArray[Number]:
    """An array that is still to be filled; of a large one the system may drop pages from memory, and read them again.

    Its file has no name, so that nothing is left of it when the process ends, however it ends. The space is taken at
    once: a disk that is full says so here, and not in the middle of writing, by a fatal signal.

    Raises:
        StorageError: the disk of the cache has no space for it.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size <= IN_MEMORY_BYTES:
        return np.empty(shape, dtype)
    folder = cache_folder() / "scratch"
    with clear_storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            _claim(file.fileno(), size)
            return np.frombuffer(mmap.mmap(file.fileno(), size), dtype).reshape(shape)


def _claim(file: int, size: int) -> None:
    """Make an empty file so large, with all of its blocks where the system can."""
    os.truncate(file, size)
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
