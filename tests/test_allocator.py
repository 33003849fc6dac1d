"""Freed memory kept within a block: set, put back, and nothing where there is no glibc."""

import ctypes
import platform

import numpy as np
import pytest

from headstart.learning import allocator
from headstart.learning.allocator import freed_memory_kept

USUAL = [(-4, 65536), (-1, 128 * 1024)]  # M_MMAP_MAX, M_TRIM_THRESHOLD, and their defaults in glibc's manual
KEPT = [(-4, 0), (-1, 2**31 - 1)]


class Library:
    """glibc, as far as this module calls it."""

    def __init__(self):
        self.calls = []

    def mallopt(self, parameter, value):
        self.calls.append((parameter, value))

    def malloc_trim(self, pad):
        self.calls.append(("trim", pad))


@pytest.fixture
def library(monkeypatch):
    library = Library()
    monkeypatch.setattr(allocator, "_glibc", lambda: library)
    return library


def test_memory_is_kept_within_the_block_and_the_defaults_come_back_after_it(library):
    with freed_memory_kept():
        assert library.calls == KEPT
    assert library.calls == [*KEPT, *USUAL, ("trim", 0)]


def test_the_defaults_come_back_after_an_error_too(library):
    with pytest.raises(RuntimeError, match="mine"), freed_memory_kept():
        raise RuntimeError("mine")
    assert library.calls == [*KEPT, *USUAL, ("trim", 0)]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_glibc_is_found_and_large_memory_can_be_taken_and_freed():
    assert allocator._glibc() is not None
    for _ in range(2):
        with freed_memory_kept():
            assert sum(float(np.ones(4_000_000).sum()) for _ in range(3)) == 12_000_000
    assert float(np.ones(4_000_000).sum()) == 4_000_000


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_on_other_systems_nothing_is_called(monkeypatch, system):
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr(ctypes, "CDLL", _must_not_be_called)
    with freed_memory_kept():
        pass
    with pytest.raises(RuntimeError, match="mine"), freed_memory_kept():
        raise RuntimeError("mine")


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    with freed_memory_kept():
        pass


def _must_not_be_called(_):
    raise AssertionError
