"""Where in a picture the evidence for a class lies: class activation maps, in closed form where the network allows.

A network whose features are the mean of a map over its places, with a linear head on them, has for the class c the
logit  mean over places of (sum_k weight[c, k] map[k]) + bias[c]:  the sum in brackets, place by place, is the class
activation map, the logit's exact share of each place (Zhou et al., CVPR 2016). Other networks get Grad-CAM (Selvaraju
et al., ICCV 2017), which weighs the last spatial activations by the mean of their gradient; both are the same where
both exist. A map says where the network looked, not whether what it saw there is a good reason.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import BackboneError
from headstart.features.backbones import Backbone
from headstart.features.engines import EnginePlan
from headstart.features.maps import MapEngine, is_pooled
from headstart.features.openvino_engine import cpu_precision
from headstart.features.preprocess import Preprocess
from headstart.parallel import core_count

Float32 = NDArray[np.float32]
Mapper = Callable[[NDArray[np.uint8], Float32], Float32]
"""Takes pixels uint8 [height, width, 3] and a direction [d]; gives the evidence for it float32 [h, w]."""

# Seventeen colours of matplotlib's viridis (van der Walt, Smith, 2015), equally spaced: dark violet to yellow, as
# even for the eye as for the number, also for colour-blind eyes and in grey. Between them the colours are linear.
_VIRIDIS = (
    "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26818e 21908c "
    "1f9f88 28ae80 3ebc74 5dc963 82d34c abdc32 d5e21a fde725"
)
_ANCHORS = np.array([list(bytes.fromhex(colour)) for colour in _VIRIDIS.split()], dtype=np.float32)
_STRENGTH = 0.6  # of the colour over the grey picture
_UNSEEN = 0.5  # how far what the network does not see fades into white

_TOKEN_NORMS = ("blocks", "norm1"), ("encoder.layers", "ln_1")  # of vision transformers, in timm and torchvision


def direction(weight: NDArray[Any], of: int, against: int | None = None) -> Float32:
    """What the evidence is for, as a direction in feature space, float32 [d].

    weight[of], with which the mean of the map plus bias[of] is the logit of the class `of`; or, `against` another
    class, weight[of] - weight[against]: what tells the two apart. `weight`: [k, d].
    """
    chosen = weight[of] if against is None else weight[of] - weight[against]
    return np.asarray(chosen, dtype=np.float32)


def activation_map(spatial_map: Float32, towards: Float32) -> Float32:
    """sum_k towards[k] map[k], float32 [h, w], of a `spatial_map` [d, h, w] and a `direction` [d]."""
    return np.tensordot(towards, spatial_map, axes=1).astype(np.float32)


def mapper(backbone: Backbone, plan: EnginePlan) -> Mapper:
    """What makes class activation maps of this backbone; callable from several threads.

    In closed form on the CPU, wherever the features themselves are computed; by Grad-CAM, on the CPU as well and with
    torch (seconds to import), for a network that is not pooled.
    """
    if is_pooled(backbone.graph):
        precision = plan.precision if plan.device == "cpu" else cpu_precision("auto")
        engine = MapEngine.compile(backbone.graph, threads=core_count(), precision=precision)
        return lambda pixels, towards: activation_map(engine.embed(pixels[None])[1][0], towards)
    from headstart.features import networks

    network = networks.build(networks.facts(backbone.name), backbone.tensors, backbone.preprocess)
    module, lock = network.module.requires_grad_(True), Lock()

    def of_gradients(pixels: NDArray[np.uint8], towards: Float32) -> Float32:
        with lock:
            return gradient_map(module, pixels, towards)

    return of_gradients


def gradient_map(module: Any, pixels: NDArray[np.uint8], towards: Float32) -> Float32:
    """Grad-CAM without its cut at zero, float32 [h, w]: sum_k a_k map[k], a_k the sum over places of the gradient.

    `module` is a `Network.module` in evaluation mode whose parameters require gradients; `pixels` uint8
    [height, width, 3]; the gradient is that of features @ `towards`. The map is the last activation that has places
    and bears on the features: of a vision transformer, the input of the last attention (after it only the class token
    counts). With the sum of gradients where the paper has their mean, it is `activation_map` for pooled networks.

    Raises:
        BackboneError: no activation of the network has places.
    """
    import torch

    seen: list[Any] = []
    hooks = [
        part.register_forward_hook(lambda _m, _i, output: seen.append(output)) for part in _parts_with_places(module)
    ]
    try:
        score = module(torch.from_numpy(pixels[None].copy())) @ torch.from_numpy(towards)
    finally:
        for hook in hooks:
            hook.remove()
    spatial = [output for output in seen if _grid(output, pixels.shape) is not None]
    gradients = torch.autograd.grad(score.sum(), spatial, allow_unused=True) if spatial else ()
    for activation, gradient in zip(reversed(spatial), reversed(gradients), strict=True):
        rows, columns = _grid(activation, pixels.shape) or (0, 0)
        if gradient is None or not bool(_places(gradient, rows * columns).any()):
            continue
        slopes = _places(gradient, rows * columns).sum(dim=1)
        evidence = slopes @ _places(activation, rows * columns)
        return np.asarray(evidence.detach().numpy().reshape(rows, columns), dtype=np.float32)
    raise BackboneError(
        f"no map for this kind of network: {type(module.network).__name__} has no activations with places in the "
        "picture that bear on its features. Choose a convolutional network or a plain vision transformer."
    )


def normalised(evidence: Float32) -> Float32:
    """The evidence for the class, 0..1: negative values are 0, the largest is 1; all 0 where nothing speaks for it.

    max(e, 0) / max over places of e, as in Grad-CAM; so the maps of two pictures cannot be compared in strength.
    """
    most = float(evidence.max())
    if not most > 0:
        return np.zeros_like(evidence)
    return np.asarray(np.maximum(evidence, 0) / most, dtype=np.float32)


def frame(preprocess: Preprocess, width: int, height: int) -> tuple[float, float, float, float]:
    """Where the network's input lies on a picture of `width` x `height` pixels: left, top, right, bottom in pixels.

    Inside the picture where `fit` is "crop", all of it where it is "squish", and around it where it is "pad".
    """
    if preprocess.fit == "squish":
        return 0.0, 0.0, float(width), float(height)
    if preprocess.fit == "crop":
        return preprocess._crop_box(width, height)
    ratio = min(preprocess.width / width, preprocess.height / height)
    across = (preprocess.width / ratio - width) / 2
    down = (preprocess.height / ratio - height) / 2
    return -across, -down, width + across, height + down


def placed(evidence: Float32, preprocess: Preprocess, width: int, height: int) -> Float32:
    """A map of the network's input laid over the whole picture, float32 [height, width].

    Linear between the centres of the map's places; NaN where the picture lies outside of what the network sees.
    `evidence`: [h, w]; `width`, `height`: those of the upright picture, in pixels, at any scale.
    """
    left, top, right, bottom = frame(preprocess, width, height)
    down, across = _weights(evidence.shape[0], height, top, bottom), _weights(evidence.shape[1], width, left, right)
    return np.asarray(down @ evidence @ across.T, dtype=np.float32)


def overlay(picture: NDArray[np.uint8], shown: Float32) -> NDArray[np.uint8]:
    """The picture in grey under the colours of a map, uint8 [h, w, 3]: from dark violet for 0 to yellow for 1.

    `picture`: uint8 [h, w, 3]. `shown`: [h, w], 0..1; where it is NaN the picture fades and has no colour.
    """
    grey = (picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    coloured = _STRENGTH * viridis(np.nan_to_num(shown)) + (1 - _STRENGTH) * grey
    faded = _UNSEEN * 255 + (1 - _UNSEEN) * grey
    return np.rint(np.where(np.isnan(shown)[..., None], faded, coloured)).astype(np.uint8)


def viridis(shown: Float32) -> Float32:
    """The colours, float32 [h, w, 3] in 0..255, of a map [h, w] in 0..1."""
    position = shown * np.float32(len(_ANCHORS) - 1)
    below = np.clip(position.astype(np.intp), 0, len(_ANCHORS) - 2)
    part = (position - below)[..., None]
    return np.asarray(_ANCHORS[below] * (1 - part) + _ANCHORS[below + 1] * part, dtype=np.float32)


def overlay_png(picture: NDArray[np.uint8], shown: Float32) -> bytes:
    """`overlay` as the bytes of a PNG: exact, 100 KB for 448 x 336 pixels."""
    return _encoded(overlay(picture, shown), "PNG")


def overlay_webp(picture: NDArray[np.uint8], shown: Float32) -> bytes:
    """`overlay` as the bytes of a WebP: a twentieth of the PNG's size, for pages that hold many."""
    return _encoded(overlay(picture, shown), "WEBP", quality=80, method=2)


def _encoded(pixels: NDArray[np.uint8], form: str, **options: int) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=form, **options)
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Dependence:
    """How much maps owe to the head: their rank correlation with the maps of another head, mean over pictures.

    `random_head`: heads whose weights are drawn at random, on average; `other_class`: the same head, the class that it
    thinks next most likely. Both in [-1, 1]; a map that shows the picture's contours whatever the head says has 1.
    """

    random_head: float
    other_class: float
    pictures: int


def depends_on_weights(
    maps_of: Callable[[Float32, NDArray[np.int64]], Float32],
    weight: NDArray[Any],
    scores: NDArray[Any],
    *,
    heads: int = 20,
    seed: int = 0,
) -> Dependence:
    """Whether maps change when the head does: the sanity check of Adebayo et al. (NeurIPS 2018) for the last layer.

    Spearman's correlation over places between the `normalised` maps, as they are shown. Pictures where one of the two
    maps is the same everywhere are left out; NaN where none remains.

    Args:
        maps_of: takes a head's weight float32 [k, d] and classes int [n]; gives the evidence float32 [n, h, w].
        weight: [k, d], that of the real head, k at least 2.
        scores: [n, k], of the real head; the best two classes of each picture are taken.
        heads: how many random heads there are.
        seed: draws them: normal numbers, as large on average as the weights of the class.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    real = np.asarray(weight, dtype=np.float32)
    spread = np.sqrt((real**2).mean(axis=1, keepdims=True))
    generator = np.random.default_rng([seed, *b"random head"])
    drawn = (generator.standard_normal(real.shape, dtype=np.float32) * spread for _ in range(heads))
    own = maps_of(real, order[:, 0])
    return Dependence(
        random_head=float(np.mean([_mean_correlation(own, maps_of(head, order[:, 0])) for head in drawn])),
        other_class=_mean_correlation(own, maps_of(real, order[:, 1])),
        pictures=len(scores),
    )


def _weights(places: int, pixels: int, start: float, end: float) -> Float32:
    """How much each of `places`, spread evenly from `start` to `end`, counts for each pixel, [pixels, places]."""
    centres = np.arange(pixels) + 0.5
    position = np.clip((centres - start) / (end - start) * places - 0.5, 0, places - 1)
    weights = np.asarray(np.maximum(0, 1 - np.abs(position[:, None] - np.arange(places))), dtype=np.float32)
    weights[(centres < start) | (centres > end)] = math.nan
    return weights


def _parts_with_places(module: Any) -> list[Any]:
    """The modules to watch: a vision transformer's last normalisation before an attention, else all of them."""
    for layers, norm in _TOKEN_NORMS:
        try:
            return [module.network.get_submodule(layers)[-1].get_submodule(norm)]
        except (AttributeError, TypeError, IndexError):
            continue
    return list(module.modules())


def _grid(output: Any, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Rows and columns of places in a module's output for a picture of `shape`; None where it has no places.

    Channels first [1, c, h, w], of the picture's proportions; or tokens [1, t, c], of which the last are places.
    """
    height, width = shape[:2]
    if getattr(output, "grad_fn", None) is None:
        return None
    if output.ndim == 4:
        rows, columns = output.shape[2:]
        fits = abs(rows * width - columns * height) <= max(height, width)  # one row more or less, from rounding
        return (rows, columns) if rows * columns > 1 and fits and output.shape[1] > 3 else None
    if output.ndim == 3 and output.shape[1] > 3:
        scale = math.sqrt(output.shape[1] / (height * width))
        return int(scale * height + 1e-9), int(scale * width + 1e-9)
    return None


def _places(output: Any, count: int) -> Any:
    """[c, places] of [1, c, h, w] or of [1, t, c], whose last `count` tokens are the places."""
    return output[0].flatten(1) if output.ndim == 4 else output[0, -count:].T


def _mean_correlation(first: Float32, second: Float32) -> float:
    """The mean over pictures of Spearman's correlation between `normalised` maps [n, h, w]."""
    values = []
    for one, other in zip(first, second, strict=True):
        ranks = _ranks(normalised(one).ravel()), _ranks(normalised(other).ravel())
        if all(np.ptp(of_one) > 0 for of_one in ranks):
            values.append(float(np.corrcoef(*ranks)[0, 1]))
    return float(np.mean(values)) if values else math.nan


def _ranks(values: Float32) -> NDArray[np.float64]:
    """The rank of each of `values` [n], equal ones sharing the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]
