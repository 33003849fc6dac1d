"""Large arrays on disk: the same numbers, no trace, and a clear error where there is no space."""

import errno
import gc
import os

import numpy as np
import pytest

from headstart import scratch
from headstart.errors import StorageError
from headstart.storage import cache_folder


def test_a_large_array_holds_what_is_put_in_it_and_leaves_no_file(monkeypatch):
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 1000)
    large = scratch.empty((50, 7), np.float32)
    numbers = np.arange(350, dtype=np.float32).reshape(50, 7)
    large[:] = numbers
    assert large.flags.writeable
    assert np.array_equal(large, numbers)
    assert list((cache_folder() / "scratch").iterdir()) == []
    view = large[10:20]
    del large
    gc.collect()
    assert np.array_equal(view, numbers[10:20])


def test_a_small_array_makes_no_folder():
    scratch.empty((5, 7), np.float32)
    assert not (cache_folder() / "scratch").exists()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="space can be claimed on POSIX only")
def test_a_full_disk_is_said_at_once(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match="no space left"):
        scratch.empty((500, 7), np.float32)
