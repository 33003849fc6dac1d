"""Checkpoints: everything that a training needs to go on, whole or absent, and never more than two."""

import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from headstart.storage import written_atomically

KEPT = 2

# What torch.load has been seen to raise on damaged bytes (4,000 files with bytes changed, zeroed or made up).
_DAMAGE = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError),
    *(struct.error, pickle.UnpicklingError),
)


def save(folder: Path, step: int, state: Mapping[str, Any]) -> None:
    """Write `state` (tensors, numbers, texts, and containers of these) as the checkpoint after `step` steps.

    The one before stays as a reserve; older ones are deleted.
    """
    with written_atomically(folder / f"checkpoint-{step:08}.pt") as temporary:
        torch.save(dict(state), temporary)
    for path in _checkpoints(folder)[KEPT:]:
        path.unlink(missing_ok=True)


def load(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint in `folder` that can be read; None where there is none. No code in it is run."""
    for path in _checkpoints(folder):
        try:
            return dict(torch.load(path, map_location="cpu", weights_only=True))
        except _DAMAGE:
            continue  # the reserve is next
    return None


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*.pt"), reverse=True)
