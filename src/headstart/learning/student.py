"""The network in training: a body that is frozen, partly or wholly in motion, and the head on it."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from headstart.errors import BackboneError
from headstart.features import networks
from headstart.features.backbones import Backbone
from headstart.features.cutting import Cut, cut, stages
from headstart.features.folding import Pair, fold, unfold
from headstart.features.networks import Network
from headstart.features.preprocess import Preprocess
from headstart.learning.head import Head
from headstart.learning.randomness import number
from headstart.learning.recipes import Recipe

GROWTH = (4 / 7, 5 / 7, 1.0)
MULTIPLE = 32  # sides are multiples of what most networks divide by


class Student(nn.Module):
    """inputs -> logits [n, k]: `head(body(inputs))`.

    `body` takes pixels uint8 or float [n, h, w, 3] in 0..255, or activations where the network was cut. In training
    mode what `holds` names stays in evaluation mode: "all" the body, "norms" its batch norms, "nothing".
    """

    def __init__(self, body: nn.Module, head: nn.Linear, holds: str) -> None:
        super().__init__()
        self.body, self.head, self.holds = body, head, holds
        self.layout = torch.channels_last
        getattr(body, "network", body).register_forward_pre_hook(self._arrange)
        self.body_moves = any(parameter.requires_grad for parameter in body.parameters())

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [n, k]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.body_moves):
            features = self.body(inputs)
        return cast(Tensor, self.head(features))

    def _arrange(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Maps [n, c, h, w] in the memory layout that was chosen."""
        maps, *others = inputs
        return (maps.contiguous(memory_format=self.layout) if maps.ndim == 4 else maps, *others)

    def train(self, mode: bool = True) -> "Student":
        """Training mode, but for what is held."""
        super().train(mode)
        if self.holds == "all":
            self.body.eval()
        elif self.holds == "norms":
            for module in self.body.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


@dataclass(frozen=True)
class Pupil:
    """A student, what it is made of, and how to get the network back out of it."""

    student: Student
    backbone: Backbone
    network: Network
    pairs: tuple[Pair, ...]
    cut: Cut | None
    sides: tuple[int, ...]

    @property
    def preprocess(self) -> Preprocess:
        """How the finished classifier will see pictures."""
        return self.backbone.preprocess

    @property
    def stages(self) -> list[list[nn.Parameter]]:
        """The parameters that learn, in groups from the input to the head."""
        groups = _grouped(self.network.module.network)  # type: ignore[arg-type]
        return [*groups, list(self.student.head.parameters())]

    def finished(self) -> tuple[Network, Head]:
        """The trained network with its batch norms put back, and the head; the student is used up."""
        self.network.module.cpu()
        unfold(self.network.module, list(self.pairs))
        self.network.module.eval().requires_grad_(False)
        weight, bias = (parameter.detach().double().numpy() for parameter in self.student.head.cpu().parameters())
        return self.network, Head(weight, bias)


def enrol(backbone: Backbone, recipe: Recipe, classes: int, start: Head | None, seed: int) -> Pupil:
    """The student of `recipe`: the backbone's own network, what does not learn frozen, and a head.

    `start` is the head to begin with; without one it is PyTorch's random layer, drawn from (seed, "head").

    Raises:
        BackboneError: the network cannot be cut, where only its last stages are to move.
    """
    network = networks.build(networks.facts(backbone.name), backbone.tensors, backbone.preprocess)
    height, width = backbone.preprocess.height, backbone.preprocess.width
    noise = torch.Generator().manual_seed(0)
    example = torch.randint(0, 256, (1, height, width, 3), dtype=torch.uint8, generator=noise)
    pairs = fold(network.module, example) if recipe.batch_norm == "folded" else []
    divided = cut(network, backbone.preprocess) if recipe.tune == "last" else None
    body = network.module if divided is None else divided.tail
    body.requires_grad_(recipe.tune != "none")
    student = Student(body, _head(network.dimension, classes, start, seed), _held(recipe))
    return Pupil(student, backbone, network, tuple(pairs), divided, _sides(network.module, recipe, min(height, width)))


def _held(recipe: Recipe) -> str:
    if recipe.batch_norm == "train":
        return "nothing"
    return "all" if recipe.tune == "none" else "norms"


def _head(dimension: int, classes: int, start: Head | None, seed: int) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number(seed, "head"))
        head = nn.Linear(dimension, classes)
    if start is not None:
        head.weight.data = torch.from_numpy(start.weight.astype(np.float32))
        head.bias.data = torch.from_numpy(start.bias.astype(np.float32))
    return head


def _sides(module: nn.Module, recipe: Recipe, own: int) -> tuple[int, ...]:
    """The sides of training pictures, one after the other; only the network's own where it takes no others."""
    if not recipe.sizes:
        return (own,)
    if recipe.sizes != "growing":
        refused = [side for side in recipe.sizes if not _takes(module, side)]
        if refused:
            raise BackboneError(f"the network does not take pictures of {refused[0]} pixels; it was made for {own}.")
        return recipe.sizes
    smaller = [MULTIPLE * max(1, round(own * factor / MULTIPLE)) for factor in GROWTH[:-1]]
    return (*(side for side in smaller if side < own and _takes(module, side)), own)


def _takes(module: nn.Module, side: int) -> bool:
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    except (RuntimeError, AssertionError, ValueError):
        return False
    return True


def _grouped(network: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters that learn, divided at the ends of the network's stages, in their order."""
    ends = stages(network) or [name for name, _ in network.named_children()]
    groups: list[list[nn.Parameter]] = [[]]
    passed = ""
    for name, parameter in network.named_parameters():
        now = next((end for end in ends if name.startswith(f"{end}.")), "")
        if passed and now != passed:
            groups.append([])
        passed = now
        if parameter.requires_grad:
            groups[-1].append(parameter)
    return [group for group in groups if group]
