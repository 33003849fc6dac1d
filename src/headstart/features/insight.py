"""What a network makes of a picture on the way: its first filters, the maps of its stages, what one unit weighs.

Nothing imports this module at the top: it imports torch, which takes seconds.
"""

from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headstart.features.layers import Layer
from headstart.features.networks import Network, WithNormalisation

Float32 = NDArray[np.float32]


def stages(rows: Sequence[Layer]) -> list[Layer]:
    """Of the layers that give maps the last at each resolution, the largest maps first."""
    last: dict[tuple[int, ...], Layer] = {}
    for row in rows:
        if len(row.output) == 3 and row.output[1] == row.output[2] > 1 and row.kind != "linear":
            last[row.output[1:]] = row
    return list(last.values())


def first_filters(network: Network) -> Float32:
    """The weights of the first convolution over colours, float32 [c, 3, height, width]."""
    for module in network.module.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 3:
            return cast(Float32, module.weight.detach().float().numpy())
    return np.zeros((0, 3, 1, 1), dtype=np.float32)


def maps(network: Network, pixels: NDArray[np.uint8], names: Iterable[str]) -> dict[str, Float32]:
    """The activations after the named modules, each float32 [c, h, w], of one picture uint8 [height, width, 3]."""
    kept: dict[str, Tensor] = {}
    hooks = [_inner(network).get_submodule(name).register_forward_hook(_keeper(kept, name)) for name in names]
    try:
        with torch.inference_mode():
            network.module(torch.tensor(pixels[None]))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: cast(Float32, tensor[0].float().numpy()) for name, tensor in kept.items()}


def effective_field(network: Network, name: str, pictures: NDArray[np.uint8]) -> Float32:
    """How much each pixel moves the middle unit after the module `name`, float32 [height, width], of sum 1.

    The mean over `pictures` uint8 [n, height, width, 3] of the size of the gradient of all the unit's channels
    together (Luo and others, "Understanding the effective receptive field", NeurIPS 2016).
    """
    total = torch.zeros(pictures.shape[1:3], dtype=torch.float64)
    kept: dict[str, Tensor] = {}
    hook = _inner(network).get_submodule(name).register_forward_hook(_keeper(kept, name))
    try:
        for picture in pictures:
            seen = _normalised(network, picture).requires_grad_(True)
            with torch.enable_grad():
                _inner(network)(seen)
                out = kept[name]
                middle = out[0, :, out.shape[2] // 2, out.shape[3] // 2].sum()
            (gradient,) = torch.autograd.grad(middle, seen)
            total += gradient[0].abs().sum(dim=0)
    finally:
        hook.remove()
    return cast(Float32, (total / total.sum()).float().numpy())


def _inner(network: Network) -> nn.Module:
    return cast(WithNormalisation, network.module).network


def _normalised(network: Network, picture: NDArray[np.uint8]) -> Tensor:
    module = cast(WithNormalisation, network.module)
    pixels = torch.tensor(picture[None]).permute(0, 3, 1, 2).float()
    return (pixels - cast(Tensor, module.mean)) / cast(Tensor, module.std)


def _keeper(kept: dict[str, Tensor], name: str):  # type: ignore[no-untyped-def]
    def keep(_: nn.Module, __: object, out: Tensor) -> None:
        kept[name] = out

    return keep
