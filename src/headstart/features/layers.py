"""A network's layers: what each does, what it costs, and how far its units see.

Nothing imports this module at the top: it imports torch, which takes seconds.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram, export
from torch.fx import Node

from headstart.errors import BackboneError
from headstart.features.receptive import Reach, reaches, shape_of, window

KINDS = {
    "conv2d": "convolution",
    "linear": "linear",
    "max_pool2d": "max pooling",
    "avg_pool2d": "mean pooling",
    "adaptive_avg_pool2d": "mean pooling",
    "adaptive_max_pool2d": "max pooling",
    "scaled_dot_product_attention": "attention",
    "matmul": "product",
    "cat": "concatenation",
}
"""Operations that make a row, with the names of their rows; the addition of two tensors is the other one."""

FOLLOWING = {
    "batch_norm": "batch norm",
    "layer_norm": "layer norm",
    "group_norm": "group norm",
    "relu": "ReLU",
    "hardtanh": "ReLU6",
    "gelu": "GELU",
    "silu": "SiLU",
    "hardswish": "hard swish",
    "hardsigmoid": "hard sigmoid",
    "sigmoid": "sigmoid",
    "softmax": "softmax",
}
"""Operations that are named in the row of what they follow."""


@dataclass(frozen=True)
class Layer:
    """One row: `kind` is one of `KINDS` or "addition"; `then` what follows it in place, as "batch norm", "ReLU".

    `kernel`, `stride`, `padding` and `dilation` are of rows and columns; () where there is no window. `output`: shape
    without the batch. `parameters` include those of what follows. `multiply_adds` are for one picture. `field`: height
    and width in pixels of what one unit sees; () where it is not known, and "whole" where it is everything. `jump`: how
    many pixels lie between what two neighbouring units see (the effective stride). `fewest` and `most`: how many layers
    with weights (convolutions, linear layers, attention) a picture has passed by then, on the shortest
    and the longest way.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    then: tuple[str, ...] = ()
    parameters: int = 0
    multiply_adds: int = 0
    field: tuple[int, ...] = ()
    jump: tuple[int, ...] = ()
    sees_all: bool = False
    fewest: int = 0
    most: int = 0


WEIGHTED = {"convolution", "linear", "attention"}


def layers(network: nn.Module, height: int, width: int) -> list[Layer]:
    """The layers of `network`, which takes pictures float32 [n, 3, height, width], in the order of its graph.

    Raises:
        BackboneError: its graph cannot be had.
    """
    program = _program(network, height, width)
    reach, own = reaches(program), _own_parameters(program)
    rows: dict[Node, Layer] = {}
    owner: dict[Node, Node] = {}
    depths = {node: (0, 0) for node in reach if node.op == "placeholder"}
    for node in program.graph.nodes:
        if node.op != "call_function" or node not in reach:
            continue
        ways = [depths[one] for one in node.all_input_nodes if one in depths]
        depths[node] = min(few for few, _ in ways), max(many for _, many in ways)
        parameters = own(node)
        kind = _kind(node, reach)
        before = next((owner[one] for one in node.all_input_nodes if one in owner), None)
        if kind is not None:
            fewest, most = (passed + (kind in WEIGHTED) for passed in depths[node])
            depths[node] = fewest, most
            rows[node] = replace(_layer(node, kind, reach[node], parameters), fewest=fewest, most=most)
            owner[node] = node
        elif before is not None:
            owner[node] = before
            rows[before] = _followed(rows[before], node, reach[node], parameters)
    return list(rows.values())


def _program(network: nn.Module, height: int, width: int) -> ExportedProgram:
    example = torch.zeros(1, 3, height, width)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return export(network.eval(), (example,), strict=False)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise BackboneError(f"the graph of {type(network).__name__} cannot be had: {reason}") from error


def _own_parameters(program: ExportedProgram) -> Callable[[Node], int]:
    """What counts the parameters that come in at a node, directly or through nodes without the picture, once each."""
    names = program.graph_signature.inputs_to_parameters
    held: dict[Node, frozenset[Node]] = {}
    for node in program.graph.nodes:
        if node.name in names:
            held[node] = frozenset([node])
        else:
            held[node] = frozenset().union(*(held[one] for one in node.all_input_nodes))
    counted: set[Node] = set()

    def own(node: Node) -> int:
        new = held[node] - counted
        counted.update(new)
        return sum(math.prod(shape_of(one)) for one in new)

    return own


def _kind(node: Node, reach: Mapping[Node, Reach]) -> str | None:
    operation = _operation(node)
    if operation in ("add", "add_") and sum(one in reach for one in node.all_input_nodes) == 2:
        return "addition"
    return KINDS.get(operation)


def _operation(node: Node) -> str:
    parts = str(node.target).split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def _layer(node: Node, kind: str, reach: Reach, parameters: int) -> Layer:
    layer = Layer(
        name=_module(node),
        kind=kind,
        output=shape_of(node)[1:],
        parameters=parameters,
        multiply_adds=_multiply_adds(node),
        **_window(node),
    )
    return _seeing(layer, reach)


def _followed(layer: Layer, node: Node, reach: Reach, parameters: int) -> Layer:
    word = FOLLOWING.get(_operation(node).rstrip("_"))
    then = layer.then if word is None else (*layer.then, word)
    grown = replace(layer, then=then, parameters=layer.parameters + parameters)
    return _seeing(grown, reach) if word is not None and reach.is_whole != layer.sees_all else grown


def _seeing(layer: Layer, reach: Reach) -> Layer:
    axes = reach.axes if reach.is_known else ()
    return replace(
        layer,
        sees_all=reach.is_whole,
        field=tuple(span.size for span in axes),
        jump=tuple(span.stride for span in axes),
    )


def _module(node: Node) -> str:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""


def _window(node: Node) -> dict[str, Any]:
    found = window(node)
    if found is None:
        return {}
    groups = node.args[6] if _operation(node) == "conv2d" and len(node.args) > 6 else 1
    return {**asdict(found), "groups": groups}


def _multiply_adds(node: Node) -> int:
    given = [shape_of(one) for one in node.all_input_nodes]
    match _operation(node):
        case "conv2d":
            return math.prod(shape_of(node)) * math.prod(given[1][1:])
        case "linear" | "matmul":
            return math.prod(shape_of(node)) * given[0][-1]
        case "scaled_dot_product_attention":
            return 2 * math.prod(given[0]) * given[1][-2]
    return 0
