"""Frozen batch norm folded into the convolutions before it, and put back: a third of a training step saved.

With frozen statistics batch norm is y = s x + (beta - s mean), where s = gamma / sqrt(variance + eps), channel by
channel. After a convolution without bias that is the convolution with weight s W and bias beta - s mean.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

FAINT = 1e-4  # scales below this are not divided by when batch norm is put back
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Pair:
    """A convolution and the batch norm that alone uses its output, by their names in the network."""

    convolution: str
    norm: str
    removed: nn.BatchNorm2d
    had_bias: bool


def fold(network: nn.Module, example: Tensor) -> list[Pair]:
    """Fold every batch norm of `network` that follows a convolution into it, in place; what `unfold` needs is returned.

    The pairs are those that one forward pass of `example` shows. It is left in evaluation mode, and computes the same
    function as before (measured: differences of 1e-6), and what remains of a norm is its activation, if it has one. A
    network that computes something else when folded (a convolution's output that is also used elsewhere) is left as it
    was, and no pairs are returned.
    """
    network.eval()
    with torch.no_grad():
        expected = network(example)
    pairs = [
        Pair(convolution, norm, _norm(network, norm), _convolution(network, convolution).bias is not None)
        for convolution, norm in _pairs(network, example)
    ]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for pair in pairs:
        convolution = _convolution(network, pair.convolution)
        scale, shift = _affine(pair.removed)
        bias = 0.0 if convolution.bias is None else convolution.bias.detach()
        weight = convolution.weight.detach() * scale.view(-1, 1, 1, 1)
        convolution.weight = nn.Parameter(weight, convolution.weight.requires_grad)
        convolution.bias = nn.Parameter(bias * scale + shift, convolution.weight.requires_grad)
        _put(network, pair.norm, _rest(pair.removed))
    with torch.no_grad():
        if not torch.allclose(expected, network(example), rtol=0, atol=TOLERANCE * float(expected.abs().max())):
            unfold(network, pairs)
            network.load_state_dict(before)  # a scale of zero took the weights of its channel
            return []
    return pairs


def unfold(network: nn.Module, pairs: list[Pair]) -> None:
    """Put the batch norms back, in place: same function, the tensors that timm expects, statistics as they were.

    The convolution's weight is divided by the norm's scale, and the norm's bias takes up the rest. A channel whose
    scale is almost zero gets the scale one instead.
    """
    for pair in pairs:
        convolution, norm = _convolution(network, pair.convolution), pair.removed
        scale, _ = _affine(norm)
        variance, mean = cast(Tensor, norm.running_var), cast(Tensor, norm.running_mean)
        faint = scale.abs() < FAINT
        norm.weight.data = torch.where(faint, torch.sqrt(variance + norm.eps), norm.weight.data)
        scale = torch.where(faint, torch.ones_like(scale), scale)
        weight = convolution.weight.detach() / scale.view(-1, 1, 1, 1)
        bias = cast(Tensor, convolution.bias).detach()
        norm.bias.data = bias + scale * mean
        if pair.had_bias:
            convolution.bias = nn.Parameter(torch.zeros_like(bias), convolution.weight.requires_grad)
        else:
            convolution.bias = None
        convolution.weight = nn.Parameter(weight, convolution.weight.requires_grad)
        _put(network, pair.norm, norm)


def _pairs(network: nn.Module, example: Tensor) -> list[tuple[str, str]]:
    """(convolution, norm) where the norm's input is the convolution's output, and each runs once."""
    outputs: dict[int, tuple[str, Tensor]] = {}  # the tensors are kept, so that no identity is used twice
    found: list[tuple[str, str]] = []
    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):

            def remember(_m: nn.Module, _i: object, output: Tensor, name: str = name) -> None:
                outputs[id(output)] = (name, output)

            hooks.append(module.register_forward_hook(remember))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats and module.affine:

            def match(_m: nn.Module, inputs: tuple[Tensor, ...], _o: object, name: str = name) -> None:
                if id(inputs[0]) in outputs:
                    found.append((outputs[id(inputs[0])][0], name))

            hooks.append(module.register_forward_hook(match))
    with torch.no_grad():
        network(example)
    for hook in hooks:
        hook.remove()
    convolutions, norms = [pair[0] for pair in found], [pair[1] for pair in found]
    return [pair for pair in found if convolutions.count(pair[0]) == 1 and norms.count(pair[1]) == 1]


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The scale and the shift [c] that `norm` with frozen statistics amounts to."""
    variance, mean = cast(Tensor, norm.running_var), cast(Tensor, norm.running_mean)
    scale = norm.weight.detach() / torch.sqrt(variance + norm.eps)
    return scale, norm.bias.detach() - scale * mean


def _rest(norm: nn.BatchNorm2d) -> nn.Module:
    """What a norm does besides normalising: timm's BatchNormAct2d goes on with dropout and an activation."""
    return nn.Sequential(*(getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)))


def _convolution(network: nn.Module, name: str) -> nn.Conv2d:
    return cast(nn.Conv2d, network.get_submodule(name))


def _norm(network: nn.Module, name: str) -> nn.BatchNorm2d:
    return cast(nn.BatchNorm2d, network.get_submodule(name))


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, module)
