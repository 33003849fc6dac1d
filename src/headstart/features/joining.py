"""Several networks as one: each sees the same picture at its own size, and their features stand side by side.

Nothing imports this module at the top: it imports torch, which takes seconds.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from headstart.features.preprocess import Preprocess

PART = "parts.{}."
"""What the names of the tensors of a part begin with."""


class Joined(nn.Module):
    """Networks [n, 3, h_i, w_i] -> [n, d_i] as one, [n, 3, h, w] -> [n, sum of d_i].

    What comes in is of the size of `preprocess` and normalised as it says. A part of another size gets it resized by
    antialiased linear interpolation, and normalised as its own of the `preprocesses` says. Both are plain products:
    resizing is a matrix for the rows and one for the columns, which every runtime knows, where the antialiasing of the
    exporters' own operator is left out by some.
    """

    def __init__(self, networks: Sequence[nn.Module], preprocesses: Sequence[Preprocess], preprocess: Preprocess):
        super().__init__()
        self.parts = nn.ModuleList(networks)
        self.fits = nn.ModuleList(_Fitting(preprocess, own) for own in preprocesses)

    def forward(self, normalised: Tensor) -> Tensor:
        """Features [n, d]."""
        return torch.cat([part(fit(normalised)) for part, fit in zip(self.parts, self.fits, strict=True)], dim=1)


class _Fitting(nn.Module):
    """From one size and normalisation to another; nothing is computed where they are the same."""

    def __init__(self, given: Preprocess, wanted: Preprocess):
        super().__init__()
        ratio = [one / other for one, other in zip(given.std, wanted.std, strict=True)]
        shift = [(one - other) / std for one, other, std in zip(given.mean, wanted.mean, wanted.std, strict=True)]
        self.is_resized = (given.height, given.width) != (wanted.height, wanted.width)
        self.is_moved = given.mean != wanted.mean or given.std != wanted.std
        self.register_buffer("rows", _resizing(given.height, wanted.height), persistent=False)
        self.register_buffer("columns", _resizing(given.width, wanted.width).T.contiguous(), persistent=False)
        self.register_buffer("ratio", torch.tensor(ratio).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(shift).view(1, 3, 1, 1), persistent=False)

    def forward(self, given: Tensor) -> Tensor:
        if self.is_resized:
            given = cast(Tensor, self.rows) @ given @ cast(Tensor, self.columns)
        return given * cast(Tensor, self.ratio) + cast(Tensor, self.shift) if self.is_moved else given


def _resizing(given: int, wanted: int) -> Tensor:
    """What `given` values in a row become as `wanted` ones, float32 [wanted, given]: each a mean of its neighbours."""
    unit = torch.eye(given)[None, None]
    return nn.functional.interpolate(unit, size=(wanted, given), mode="bilinear", antialias=True)[0, 0]
