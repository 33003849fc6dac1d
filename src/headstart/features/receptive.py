"""How far a network's units see: receptive fields followed through its graph, and measured by gradients.

Along one axis the unit with index i of a tensor depends on the pixels `low + stride * i` to `high + stride * i`. A
convolution, a pooling or a padding moves these three numbers, an addition takes the wider of two, and what gathers all
positions (global pooling, attention over all tokens, squeeze-and-excitation) sees everything. The rules are those of
Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019.

Nothing imports this module at the top: it imports torch, which takes seconds.
"""

import copy
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node


@dataclass(frozen=True, slots=True)
class Span:
    """Along one axis, unit i sees the pixels `low + stride * i` to `high + stride * i`, also beyond the picture."""

    stride: int
    low: int
    high: int

    @property
    def size(self) -> int:
        """How many pixels a unit sees along the axis."""
        return self.high - self.low + 1

    def through(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> "Span":
        """The span of a window of `kernel` of these units, every `stride`, begun `padding` before the first."""
        low = self.low - padding * self.stride
        return Span(self.stride * stride, low, low + self.size - 1 + (kernel - 1) * dilation * self.stride)

    def joined(self, other: "Span") -> "Span | None":
        """The span of both together; None where they go at different strides."""
        if self.stride != other.stride:
            return None
        return Span(self.stride, min(self.low, other.low), max(self.high, other.high))


@dataclass(frozen=True, slots=True)
class Reach:
    """What the units of a tensor depend on.

    `spans`: of each dimension, None for one that is no axis of the picture, and `FOLDED` for one into which the axes
    were folded, as when a map becomes a row of tokens; `folded` are their spans then. `is_whole`: everything.
    `is_known` is false where the graph does something for which there is no rule here.
    """

    spans: tuple[Span | None, ...] = ()
    folded: tuple[Span, ...] = ()
    is_whole: bool = False
    is_known: bool = True

    @property
    def axes(self) -> tuple[Span, ...]:
        """The spans along height and width, as far as they are known."""
        return self.folded or tuple(span for span in self.spans if span is not None)


FOLDED = Span(0, 0, 0)
WHOLE, UNKNOWN = Reach(is_whole=True), Reach(is_known=False)

ACTIVATIONS = ("torch.nn.modules.activation", "timm.layers.activations")  # where their classes stand

STRIP = 64
"""Pixels across the strips that fields are measured on: enough for six halvings."""

Rule = Callable[[Node, Reach], Reach]


def reaches(program: ExportedProgram) -> dict[Node, Reach]:
    """The reach of every node that depends on the network's input, a picture [n, 3, h, w]."""
    names = set(program.graph_signature.user_inputs)
    found: dict[Node, Reach] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in names:
            found[node] = Reach((None, None, Span(1, 0, 0), Span(1, 0, 0)))
        elif node.op == "call_function":
            given = [found[one] for one in node.all_input_nodes if one in found]
            if given:
                found[node] = _reach(node, given, found)
    return found


def measured_field(network: nn.Module, module: str, side: int) -> tuple[int, int]:
    """The height and width of the pixels on which the middle unit after `module` depends, by its gradient.

    All weights are made positive and everything but sums is taken out (activations; maxima become means), so that no
    gradient is zero by chance. `network` is left as it is. It gets two strips, `side` pixels high and as wide, which
    must be more than the field, and `STRIP` across.

    Raises:
        AttributeError: there is no such module.
    """
    summing = _summing(network)
    return _extent(summing, module, (side, STRIP), 0), _extent(summing, module, (STRIP, side), 1)


class _Reached(Exception):  # noqa: N818 - no fault: what comes after is not needed
    """The module has answered."""


def _extent(summing: nn.Module, module: str, size: tuple[int, int], axis: int) -> int:
    """How many pixels along one axis of a picture of this `size` the middle unit after `module` depends on."""
    kept: list[Tensor] = []

    def stop(_: nn.Module, __: tuple[Tensor, ...], maps: Tensor) -> None:
        kept.append(maps)
        raise _Reached

    hook = summing.get_submodule(module).register_forward_hook(stop)
    picture = torch.zeros(1, 3, *size, dtype=torch.float64, requires_grad=True)
    try:
        with torch.enable_grad(), suppress(_Reached):
            summing(picture)
    finally:
        hook.remove()
    middle = kept[0][:, :, kept[0].shape[2] // 2, kept[0].shape[3] // 2].sum()
    (gradient,) = torch.autograd.grad(middle, picture)
    places = (gradient[0].abs().sum(dim=0) > 0).any(dim=1 - axis).nonzero().flatten()
    return int(places[-1] - places[0]) + 1


def _summing(network: nn.Module) -> nn.Module:
    """A copy of the network that only sums, with positive weights."""
    positive = copy.deepcopy(network).double().eval().requires_grad_(False)
    for name, module in list(positive.named_modules()):
        parent, _, leaf = name.rpartition(".")
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.fill_(1 / module.weight[0].numel())
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.reset_parameters()
        elif isinstance(module, nn.LayerNorm) or type(module).__module__.startswith(ACTIVATIONS):
            setattr(positive.get_submodule(parent), leaf, nn.Identity())
        elif isinstance(module, nn.MaxPool2d):
            mean = nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
            setattr(positive.get_submodule(parent), leaf, mean)
    return positive


def _reach(node: Node, given: list[Reach], found: Mapping[Node, Reach]) -> Reach:
    for worst in (UNKNOWN, WHOLE):
        if worst in given:
            return worst
    if node.target is operator.getitem:
        return given[0]
    if ".cat." in str(node.target):
        return _concatenation(node, given)
    first = node.args[0]
    rule = RULES.get(str(node.target).split(".")[1] if "." in str(node.target) else "")
    if rule is not None:
        source = first[0] if isinstance(first, list | tuple) else first
        return rule(node, found.get(cast(Node, source), given[0]))
    return _pointwise(node, [(one, found[one]) for one in node.all_input_nodes if one in found])


def _pointwise(node: Node, given: Sequence[tuple[Node, Reach]]) -> Reach:
    """Each unit from the units in its place: sums, products, activations, normalisation by fixed numbers."""
    shape = shape_of(node)
    spans: list[Span | None] = [None] * len(shape)
    folded: tuple[Span, ...] = ()
    for source, reach in given:
        sizes = shape_of(source)
        if len(sizes) > len(shape) or any(
            one not in (1, other) for one, other in zip(sizes[::-1], shape[::-1], strict=False)
        ):
            return UNKNOWN
        for place, span in enumerate(reach.spans, len(shape) - len(sizes)):
            if span is not None:
                present = spans[place]
                joined = span if present is None else present.joined(span)
                if joined is None:
                    return UNKNOWN
                spans[place] = joined
        folded = reach.folded or folded
    return Reach(tuple(spans), folded)


def _concatenation(node: Node, given: Sequence[Reach]) -> Reach:
    place = cast(int, _argument(node, 1, 0))
    joined = given[0]
    for other in given:
        if other.spans[place] not in (None, FOLDED) or len(other.spans) != len(joined.spans):
            return UNKNOWN
        pairs = zip(joined.spans, other.spans, strict=True)
        spans = [one if two is None else two if one is None else one.joined(two) for one, two in pairs]
        joined = replace(joined, spans=tuple(spans))
    return joined


@dataclass(frozen=True, slots=True)
class Window:
    """What a convolution or a pooling gathers: each of rows and columns."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


def window(node: Node) -> Window | None:
    """The window of a convolution or pooling; None for any other node."""
    operation = str(node.target)
    if "conv2d" in operation:
        rows, columns = shape_of(node.args[1])[2:]
        dilation, padding = _pair(_argument(node, 5, 1)), _argument(node, 4, 0)
        if isinstance(padding, str):  # as wide as the kernel, or nothing
            wide = tuple(gap * (size - 1) // 2 for gap, size in zip(dilation, (rows, columns), strict=True))
            padding = wide if padding == "same" else 0
        return Window((rows, columns), _pair(_argument(node, 3, 1)), _pair(padding), dilation)
    if "adaptive" in operation or "pool2d" not in operation:
        return None
    kernel = _pair(_argument(node, 1, 1))
    dilation = _pair(_argument(node, 4, 1)) if "max_pool" in operation else (1, 1)
    return Window(kernel, _pair(_argument(node, 2, None) or kernel), _pair(_argument(node, 3, 0)), dilation)


def _windowed(node: Node, reach: Reach) -> Reach:
    found = window(node)
    return UNKNOWN if found is None else _through(reach, found)


def _through(reach: Reach, found: Window) -> Reach:
    rows, columns = reach.spans[-2:]
    if rows is None or columns is None:
        return UNKNOWN
    sizes = zip(found.kernel, found.stride, found.padding, found.dilation, strict=True)
    moved = [span.through(*size) for span, size in zip((rows, columns), sizes, strict=True)]
    return replace(reach, spans=(*reach.spans[:-2], *moved))


def _adaptive(node: Node, reach: Reach) -> Reach:
    before, after = shape_of(node.args[0])[-2:], shape_of(node)[-2:]
    if before == after:
        return reach
    if after == (1, 1):
        return WHOLE
    if any(old % new for old, new in zip(before, after, strict=True)):
        return UNKNOWN
    rows, columns = (old // new for old, new in zip(before, after, strict=True))
    return _through(reach, Window((rows, columns), (rows, columns), (0, 0), (1, 1)))


def _padding(node: Node, reach: Reach) -> Reach:
    spans, pads = list(reach.spans), cast(list[int], node.args[1])
    for place in range(len(pads) // 2):
        span = spans[-1 - place]
        if span is not None:
            spans[-1 - place] = span.through(1, 1, pads[2 * place])
    return replace(reach, spans=tuple(spans))


def _permutation(node: Node, reach: Reach) -> Reach:
    spans = list(reach.spans)
    if "transpose" in str(node.target):
        one, other = cast(tuple[int, int], node.args[1:3])
        spans[one], spans[other] = spans[other], spans[one]
    else:
        spans = [reach.spans[place] for place in cast(list[int], node.args[1])]
    return replace(reach, spans=tuple(spans))


def _reduction(node: Node, reach: Reach) -> Reach:
    dims = _argument(node, 1, None)
    dims = range(len(reach.spans)) if dims is None else [dims] if isinstance(dims, int) else dims
    if any(reach.spans[place] is not None for place in dims):
        return WHOLE
    kept = len(shape_of(node)) == len(reach.spans)
    gone = {place % len(reach.spans) for place in dims}
    return replace(reach, spans=tuple(span for place, span in enumerate(reach.spans) if kept or place not in gone))


def _reshaping(node: Node, reach: Reach) -> Reach:
    """Dimensions that stay keep their spans; axes may be folded into one dimension, but not be split."""
    before, after = shape_of(node.args[0]), shape_of(node)
    spans: list[Span | None] = [None] * len(after)
    folded = reach.folded
    for old, new in _groups(before, after):
        lost = [span for span in (reach.spans[place] for place in old) if span is not None]
        kept = [place for place in new if after[place] == math.prod(before[one] for one in old)]
        if not lost:
            continue
        if not kept:
            return UNKNOWN
        alone = len([place for place in old if before[place] > 1]) <= 1
        spans[kept[0]] = lost[0] if alone else FOLDED
        folded = folded if alone else tuple(span for span in lost if span != FOLDED) or folded
    return Reach(tuple(spans), folded)


def _groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The dimensions of two shapes of one size, in the smallest groups of equal size."""
    groups: list[tuple[list[int], list[int]]] = []
    old = new = 0
    while old < len(before) or new < len(after):
        left, right = [old] if old < len(before) else [], [new] if new < len(after) else []
        old, new = old + len(left), new + len(right)
        while math.prod(before[place] for place in left) != math.prod(after[place] for place in right):
            if math.prod(before[place] for place in left) < math.prod(after[place] for place in right):
                left, old = [*left, old], old + 1
            else:
                right, new = [*right, new], new + 1
        groups.append((left, right))
    return groups


def _selection(node: Node, reach: Reach) -> Reach:
    place = cast(int, _argument(node, 1, 0)) % len(reach.spans)
    rest = (*reach.spans[:place], *reach.spans[place + 1 :])
    gone = reach.spans[place]
    return replace(reach, spans=rest, folded=reach.folded or (() if gone is None else (gone,)))


def _slicing(node: Node, reach: Reach) -> Reach:
    place = cast(int, _argument(node, 1, 0)) % len(reach.spans)
    span, start, step = reach.spans[place], _argument(node, 2, 0) or 0, _argument(node, 4, 1)
    if span is None or span == FOLDED:
        return reach
    moved = span.through(1, step, -start)
    return replace(reach, spans=(*reach.spans[:place], moved, *reach.spans[place + 1 :]))


def _splitting(node: Node, reach: Reach) -> Reach:
    place = cast(int, _argument(node, 2, 0)) % len(reach.spans)
    return UNKNOWN if reach.spans[place] is not None else reach


def _mixing(node: Node, reach: Reach) -> Reach:
    """A linear layer, or a normalisation over the last dimensions."""
    normalised = _argument(node, 1, 1)
    count = len(normalised) if "layer_norm" in str(node.target) else 1
    return WHOLE if any(span is not None for span in reach.spans[-count:]) else reach


def _attention(_: Node, reach: Reach) -> Reach:
    return WHOLE if reach.spans[-2] is not None else UNKNOWN


RULES: dict[str, Rule] = {
    "conv2d": _windowed,
    "max_pool2d": _windowed,
    "avg_pool2d": _windowed,
    "adaptive_avg_pool2d": _adaptive,
    "adaptive_max_pool2d": _adaptive,
    "pad": _padding,
    "constant_pad_nd": _padding,
    "permute": _permutation,
    "transpose": _permutation,
    "mean": _reduction,
    "sum": _reduction,
    "amax": _reduction,
    "flatten": _reshaping,
    "reshape": _reshaping,
    "view": _reshaping,
    "unflatten": _reshaping,
    "squeeze": _reshaping,
    "unsqueeze": _reshaping,
    "select": _selection,
    "unbind": _selection,
    "slice": _slicing,
    "chunk": _splitting,
    "split": _splitting,
    "split_with_sizes": _splitting,
    "linear": _mixing,
    "layer_norm": _mixing,
    "scaled_dot_product_attention": _attention,
    "matmul": _attention,
    "group_norm": lambda _, __: WHOLE,
    "roll": lambda _, __: UNKNOWN,
}


def _pair(value: Any) -> tuple[Any, Any]:
    """A size for rows and columns, given as one number, a list of one, or a list of two."""
    if isinstance(value, int):
        return value, value
    return (value[0], value[0]) if len(value) == 1 else (value[0], value[1])


def _argument(node: Node, place: int, default: Any) -> Any:
    return node.args[place] if len(node.args) > place else default


def shape_of(node: Any) -> tuple[int, ...]:
    """The shape of what a node gives; of the first, where it gives several tensors."""
    value = node.meta["val"]
    return tuple(int(size) for size in (value[0] if isinstance(value, tuple | list) else value).shape)
