"""A network cut in two at the end of a stage: a frozen prefix that runs once a picture, and a tail that is trained."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from headstart.errors import BackboneError
from headstart.features.networks import Network
from headstart.features.preprocess import Preprocess

LARGEST_SHARE = 1 / 3
"""A tail may cost this share of the whole network's step: an epoch is then at least three times as fast."""

MOST_VALUES = 640 * 1024
"""A cut is not made where one picture's activations have more values: 1.25 MB in bf16."""

FLOPS_A_VALUE = 64
"""What writing one activation costs, in floating-point operations (two cores with AVX2: 100 GFLOPS, 6 GB/s)."""

TOLERANCE = 1e-3


@dataclass(frozen=True)
class Cut:
    """`network` as `tail(prefix(pixels))`.

    `prefix` takes pixels uint8 [n, height, width, 3] and gives activations [n, *shape]; `tail` goes on to features
    [n, d], and shares its parameters with the network. `share` is the tail's part of the network's cost.
    """

    stage: str
    prefix: nn.Module
    tail: nn.Module
    shape: tuple[int, ...]
    share: float


def stages(network: nn.Module) -> list[str]:
    """The names of the modules that end timm's stages, in order; empty where the network does not say."""
    info = getattr(network, "feature_info", None)
    if info is None or callable(info):
        return []
    return [str(stage["module"]) for stage in info]


def cut(network: Network, preprocess: Preprocess) -> Cut:
    """Cut `network` where the tail is as long as `LARGEST_SHARE` of its cost and `MOST_VALUES` allow.

    Raises:
        BackboneError: the network names no stages, cannot be traced, or has no stage end where a single tensor crosses
            and the tail is short enough.
    """
    names = stages(network.module.network)  # type: ignore[arg-type]
    refusal = f"{type(network.module.network).__name__} cannot be cut for --tune last"
    if not names:
        raise BackboneError(f"{refusal}: it does not name its stages (torchvision's do not). Use --tune all.")
    size = (2, preprocess.height, preprocess.width, 3)
    pixels = torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    try:
        graph, paths, root = _trace(network.module)
    except Exception as error:
        raise BackboneError(f"{refusal}: it cannot be traced ({_brief(error)}). Use --tune all.") from error
    whole = _cost(network.module, pixels)
    reasons = []
    for name in names:
        try:
            candidate = _cut_at(name, graph, paths, root, pixels, whole)
        except (ValueError, RuntimeError, TypeError) as error:
            reasons.append(f"{name}: {_brief(error)}")
            continue
        if candidate.share > LARGEST_SHARE:
            reasons.append(f"{name}: its tail costs {candidate.share:.0%} of the whole")
        elif torch.Size(candidate.shape).numel() > MOST_VALUES:
            reasons.append(f"{name}: {torch.Size(candidate.shape).numel():,} values a picture")
        else:
            if not _agrees(candidate, network.module, pixels):
                raise BackboneError(f"{refusal}: its halves do not compute what the whole does. Use --tune all.")
            return candidate
    raise BackboneError(f"{refusal}: {'; '.join(reasons)[:400]}. Use --tune all.")


def _trace(module: nn.Module) -> tuple[fx.Graph, dict[fx.Node, str], nn.Module]:
    """The network's graph, the module path of each node, and the module that it refers to."""
    from timm.layers import get_notrace_functions, get_notrace_modules
    from torchvision.models.feature_extraction import NodePathTracer

    tracer = NodePathTracer(leaf_modules=list(get_notrace_modules()), autowrap_functions=list(get_notrace_functions()))
    graph = tracer.trace(module.eval())
    return graph, dict(tracer.node_to_qualname), cast(nn.Module, tracer.root)


def _cut_at(
    name: str, graph: fx.Graph, paths: dict[fx.Node, str], root: nn.Module, pixels: Tensor, whole: float
) -> Cut:
    inside = f"network.{name}"
    last = [
        node for node in graph.nodes if paths.get(node, "") == inside or paths.get(node, "").startswith(f"{inside}.")
    ]
    if not last:
        raise ValueError("the trace does not show it")
    prefix, tail = _module(root, _before(graph, last[-1])), _module(root, _after(graph, last[-1]))
    with torch.no_grad():
        activations = prefix(pixels)
        if not isinstance(activations, Tensor) or not activations.is_floating_point():
            raise ValueError("it does not end in one tensor of activations")
    return Cut(name, prefix, tail, tuple(activations.shape[1:]), _cost(tail, activations) / whole)


def _module(root: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    """`graph` made runnable, with only what it needs of `root`, whose parameters it shares."""
    module = fx.GraphModule(root, graph)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return module


def _before(graph: fx.Graph, last: fx.Node) -> fx.Graph:
    """The part of `graph` that computes `last`."""
    part, copies = fx.Graph(), cast(dict[fx.Node, fx.Node], {})
    for node in graph.nodes:
        copies[node] = part.node_copy(node, lambda other: copies[other])
        if node is last:
            break
    part.output(copies[last])
    return part


def _after(graph: fx.Graph, last: fx.Node) -> fx.Graph:
    """The part of `graph` that goes on from `last` alone; ValueError where it needs anything else from before."""
    part = fx.Graph()
    copies = {last: part.placeholder("activations")}

    def carried(node: fx.Node) -> fx.Node:
        if node not in copies:
            if node.op != "get_attr":
                raise ValueError("more than one tensor crosses there")
            copies[node] = part.node_copy(node)
        return copies[node]

    following = False
    for node in graph.nodes:
        if following and node.op == "output":
            part.output(fx.node.map_arg(node.args[0], carried))
        elif following and node.op != "get_attr":
            copies[node] = part.node_copy(node, carried)
        following = following or node is last
    return part


def _cost(module: nn.Module, inputs: Tensor) -> float:
    """Floating-point operations of one forward pass, the writing of activations counted as `FLOPS_A_VALUE` each."""
    written = 0

    def count(_m: nn.Module, _i: Any, output: Any) -> None:
        nonlocal written
        if isinstance(output, Tensor):
            written += output.numel()

    hooks = [part.register_forward_hook(count) for part in module.modules() if not list(part.children())]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval()(inputs)
    for hook in hooks:
        hook.remove()
    return float(counter.get_total_flops() + FLOPS_A_VALUE * written)


def _agrees(candidate: Cut, whole: nn.Module, pixels: Tensor) -> bool:
    """Whether the two halves compute what the whole does."""
    with torch.no_grad():
        expected, got = whole.eval()(pixels), candidate.tail.eval()(candidate.prefix.eval()(pixels))
    return torch.allclose(expected, got, rtol=TOLERANCE, atol=TOLERANCE * float(expected.abs().max()))


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
