"""Several processes that train together, started by torchrun; alone, one that is the main one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

PATIENCE = timedelta(hours=12)
"""How long processes wait for the main one, which computes the features."""


def count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this is the process that writes files and speaks."""
    return rank() == 0


@contextmanager
def main_first(device: str) -> Iterator[None]:
    """Run the block in the main process, then in the others, which find in the cache what it left there."""
    if count() == 1:
        yield
        return
    from accelerate import PartialState

    with PartialState(cpu=device == "cpu", timeout=PATIENCE).main_process_first():
        yield


def part() -> None:
    """Let the processes that trained together part; nothing, where there is one."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().destroy_process_group()
