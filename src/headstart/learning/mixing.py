"""MixUp and CutMix: pictures of a batch mixed with each other, and their targets in the same proportions.

By hand, because torchvision's classes draw from the global generator and take neither pictures [n, h, w, 3] nor tokens.
"""

import numpy as np
import torch
from torch import Tensor


def mix(
    inputs: Tensor, targets: Tensor, mixup: float, cutmix: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mix each row of a batch with the row before it (the first with the last).

    With l drawn from Beta(a, a), MixUp (Zhang et al. 2018) gives l x + (1 - l) x', and CutMix (Yun et al. 2019) puts a
    box of x', 1 - l of the area and clipped at the border, into x; targets are mixed in the same proportions.

    Args:
        inputs: uint8 pictures [n, h, w, 3], float maps [n, c, h, w], or float tokens [n, t, c], where the box is a run
            of tokens. MixUp makes pictures float32 in 0..255; otherwise the type is kept. They are not written to.
        targets: float [n, k], each row summing to 1.
        mixup: a of MixUp; 0: never.
        cutmix: a of CutMix; 0: never. With both above 0, one of the two is drawn for the batch, evenly.
        generator: on the CPU, wherever the inputs are.

    Returns:
        the mixed inputs and targets, in the given shapes.
    """
    if mixup <= 0 and cutmix <= 0:
        return inputs, targets
    random = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    if cutmix <= 0 or (mixup > 0 and random.random() < 0.5):
        kept = float(random.beta(mixup, mixup))
        floats = inputs if inputs.is_floating_point() else inputs.float()
        return _blended(floats, kept), _blended(targets, kept)
    box = _box(inputs, float(random.beta(cutmix, cutmix)), random)
    mixed = inputs.clone()
    mixed[box] = inputs.roll(1, 0)[box]
    kept = 1.0 - mixed[box][0].numel() / mixed[0].numel()
    return mixed, _blended(targets, kept)


def _blended(rows: Tensor, kept: float) -> Tensor:
    return rows * kept + rows.roll(1, 0) * (1.0 - kept)


def _box(inputs: Tensor, kept: float, random: np.random.Generator) -> tuple[slice, ...]:
    """The index of a box around an evenly drawn centre, as large as 1 - kept of a row, less what lies outside."""
    axes = (1, 2) if inputs.dtype == torch.uint8 else (2, 3) if inputs.ndim == 4 else (1,)
    box = [slice(None)] * inputs.ndim
    for axis in axes:
        length = inputs.shape[axis]
        half = length * (1.0 - kept) ** (1 / len(axes)) / 2
        centre = random.integers(length)
        box[axis] = slice(max(0, round(centre - half)), min(length, round(centre + half)))
    return tuple(box)
