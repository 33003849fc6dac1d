"""Random transforms: the only place where training pictures are changed.

A policy is a sequence of steps. Each step is one of `STEPS`, with the parameters that its entry allows; nearly all are
torchvision's (transforms v2), so that the classic scripts can be followed draw by draw. All randomness comes from
torch's global generator, which `seeded` sets for one picture.
"""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from headstart.errors import UsageError
from headstart.features.preprocess import Preprocess

Transform = Callable[[Image.Image], Tensor]
Number = float | tuple[float, float]

CROP_RATIO = 256 / 224
"""The short side before a crop, in sizes of the result: what ImageNet's networks are evaluated with."""

_MEAN_COLOUR = (124.0, 116.0, 104.0)  # ImageNet's: what classic scripts, erasing after normalisation, put in with zeros
_BILINEAR = v2.InterpolationMode.BILINEAR


@dataclass(frozen=True)
class Allowed:
    """What a parameter may be: numbers from `low` to `high`; whole, or a rising pair, where `default` is one."""

    default: Number
    low: float = 0.0
    high: float = 1.0

    def __str__(self) -> str:
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        kind = "two rising numbers" if isinstance(self.default, tuple) else kind
        return f"{kind} from {self.low:g} to {self.high:g}"

    def checked(self, value: Any) -> Number:
        """`value` in the type of the default; ValueError where it is not allowed."""
        is_pair = isinstance(value, list | tuple)
        numbers = list(value) if is_pair else [value]
        kinds = (int,) if isinstance(self.default, int) else (int, float)
        if is_pair != isinstance(self.default, tuple) or not all(type(number) in kinds for number in numbers):
            raise ValueError(value)
        if not all(self.low <= number <= self.high for number in numbers):
            raise ValueError(value)
        if not is_pair:
            return value if isinstance(self.default, int) else float(value)
        least, most = map(float, numbers)
        if least > most:
            raise ValueError(value)
        return least, most


@dataclass(frozen=True)
class Kind:
    """A kind of step: `make(size, **values)`, its parameters, whether the result is size x size, and what it takes."""

    make: Callable[..., Callable[[Any], Any]]
    allowed: Mapping[str, Allowed] = field(default_factory=dict)
    sizes: bool = False
    takes_tensor: bool = False


@dataclass(frozen=True)
class Step:
    """One step of a policy: its name in `STEPS` and the value of every parameter. Unequal steps read differently."""

    name: str
    values: dict[str, Number]

    def __str__(self) -> str:
        values = ", ".join(f"{name} {_shown(value)}" for name, value in self.values.items())
        return f"{self.name} ({values})" if values else self.name


def _affine(**parts: Any) -> Any:
    return v2.RandomAffine(**{"degrees": 0, "interpolation": _BILINEAR, **parts})


def _blur(size: int, sigma: tuple[float, float], probability: float) -> Any:
    """Blurs the finished tensor, because sigma counts its pixels; three sigmas fit into the kernel."""
    reach = min(math.ceil(3 * sigma[1]), size - 1)
    return v2.RandomApply([v2.GaussianBlur(2 * reach + 1, sigma)], p=probability)


def _centre_crop(size: int, ratio: float) -> Callable[[Image.Image], Image.Image]:
    still = Preprocess(size, size, round(ratio * size), "bilinear", (0, 0, 0), (1, 1, 1))
    return partial(_apply_preprocess, still)


def _apply_preprocess(preprocess: Preprocess, picture: Image.Image) -> Image.Image:
    return Image.fromarray(preprocess.apply(np.asarray(picture)))


def _random_crop(size: int, short: int, picture: Image.Image) -> Image.Image:
    """v2.Resize(short) and v2.RandomCrop(size) in one, of which only the pixels that are kept are computed."""
    across, down = (short * side // min(picture.size) for side in picture.size)
    top = int(torch.randint(0, down - size + 1, (1,)))
    left = int(torch.randint(0, across - size + 1, (1,)))
    wide, high = picture.width / across, picture.height / down
    box = (left * wide, top * high, (left + size) * wide, (top + size) * high)
    return picture.resize((size, size), Image.Resampling.BILINEAR, box=box)


_PROBABILITY = Allowed(0.5)
_RATIO = {"ratio": Allowed(CROP_RATIO, 1, 10)}

STEPS: Mapping[str, Kind] = {
    "random-resized-crop": Kind(
        lambda size, scale, aspect: v2.RandomResizedCrop(size, scale, aspect, antialias=True),
        {"scale": Allowed((0.08, 1.0), 0.001), "aspect": Allowed((3 / 4, 4 / 3), 0.1, 10)},
        sizes=True,
    ),
    "random-crop": Kind(lambda size, ratio: partial(_random_crop, size, round(ratio * size)), _RATIO, sizes=True),
    "centre-crop": Kind(_centre_crop, _RATIO, sizes=True),
    "squish": Kind(lambda size: v2.Resize((size, size), antialias=True), sizes=True),
    "horizontal-flip": Kind(lambda _, probability: v2.RandomHorizontalFlip(probability), {"probability": _PROBABILITY}),
    "vertical-flip": Kind(lambda _, probability: v2.RandomVerticalFlip(probability), {"probability": _PROBABILITY}),
    "rotation": Kind(
        lambda _, degrees: v2.RandomRotation(degrees, interpolation=_BILINEAR), {"degrees": Allowed(15.0, 0, 180)}
    ),
    "translation": Kind(lambda _, fraction: _affine(translate=(fraction, fraction)), {"fraction": Allowed(0.1)}),
    "scale": Kind(lambda _, factor: _affine(scale=factor), {"factor": Allowed((0.9, 1.1), 0.1, 10)}),
    "shear": Kind(lambda _, degrees: _affine(shear=degrees), {"degrees": Allowed(10.0, 0, 80)}),
    "perspective": Kind(
        lambda _, distortion, probability: v2.RandomPerspective(distortion, probability),
        {"distortion": Allowed(0.5), "probability": _PROBABILITY},
    ),
    "colour-jitter": Kind(
        lambda _, **strengths: v2.ColorJitter(**strengths),
        {**dict.fromkeys(("brightness", "contrast", "saturation"), Allowed(0.2, 0, 10)), "hue": Allowed(0.0, 0, 0.5)},
    ),
    "grey": Kind(lambda _, probability: v2.RandomGrayscale(probability), {"probability": Allowed(0.1)}),
    "blur": Kind(_blur, {"sigma": Allowed((0.1, 2.0), 0.01, 50), "probability": _PROBABILITY}, takes_tensor=True),
    "erasing": Kind(
        lambda _, probability, area, aspect: v2.RandomErasing(probability, area, aspect, value=_MEAN_COLOUR),
        {"probability": _PROBABILITY, "area": Allowed((0.02, 0.33)), "aspect": Allowed((0.3, 3.3), 0.1, 10)},
        takes_tensor=True,
    ),
    "trivial-augment": Kind(lambda _: v2.TrivialAugmentWide()),
    "rand-augment": Kind(
        lambda _, count, magnitude: v2.RandAugment(count, magnitude),
        {"count": Allowed(2, 1, 14), "magnitude": Allowed(9, 0, 30)},
    ),
}
"""Every kind of step. Sources: RandomResizedCrop: Szegedy et al. 2015; colour jitter: Krizhevsky et al. 2012; erasing:
Zhong et al. 2020; TrivialAugment (Wide): Müller and Hutter 2021; RandAugment: Cubuk et al. 2020."""

_FLIP = {"name": "horizontal-flip"}
_WIDE_CROP = {"name": "random-resized-crop", "scale": (0.35, 1.0)}
_CROP_FLIP = ({"name": "random-resized-crop"}, _FLIP)
_SMALL_JITTER = {"name": "colour-jitter", "brightness": 0.1, "contrast": 0.1, "saturation": 0.1}

POLICIES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "none": ({"name": "centre-crop"},),
    "crop-flip": _CROP_FLIP,
    "gentle": (_WIDE_CROP, _SMALL_JITTER, _FLIP),
    "rich": (
        *({"name": "rotation"}, {"name": "translation"}, _FLIP),
        *({"name": "colour-jitter"}, {"name": "random-crop"}),
    ),
    "trivial": (_WIDE_CROP, _FLIP, {"name": "trivial-augment"}),
    "rand": (_WIDE_CROP, _FLIP, {"name": "rand-augment"}),
    "erasing": (*_CROP_FLIP, {"name": "erasing"}),
}
"""The policies that have a name. `crop-flip` is what the classic scripts do; `none` changes nothing."""


def policy_steps(policy: str | Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    """The steps of the policy of that name, or those that the tables {"name": ..., parameter: value} describe.

    Raises:
        UsageError: an unknown policy, step or parameter (the nearest one is named), or a value that is not allowed.
    """
    if isinstance(policy, str):
        policy = POLICIES[_known(policy, POLICIES, f"augmentation policy '{policy}'")]
    return tuple(_step(table) for table in policy)


def _step(table: Mapping[str, Any]) -> Step:
    name = table.get("name")
    if not isinstance(name, str):
        raise UsageError(f"an augmentation step needs a name, such as {{ name = 'rotation' }}; received {dict(table)}.")
    allowed = STEPS[_known(name, STEPS, f"augmentation step '{name}'")].allowed
    values: dict[str, Number] = {parameter: each.default for parameter, each in allowed.items()}
    for parameter, value in table.items():
        if parameter == "name":
            continue
        one = allowed[_known(parameter, allowed, f"parameter '{parameter}' of the augmentation step '{name}'")]
        try:
            values[parameter] = one.checked(value)
        except ValueError as error:
            wanted = f"'{parameter}' of the augmentation step '{name}' must be {one}"
            raise UsageError(f"{wanted}; received {value!r}.") from error
    return Step(name, values)


def build(steps: Sequence[Step], size: int) -> Transform:
    """The function that changes one picture: PIL (RGB, any size) -> uint8 tensor [3, size, size].

    The steps that take pictures are applied in their order; if none of them gives size x size, a centre-crop follows.
    Then come those that take tensors: blur and erasing. What is drawn depends on torch's global generator and on the
    picture's size only. The function can be pickled.

    Raises:
        UsageError: torchvision refuses the parameters.
    """
    if not any(STEPS[step.name].sizes for step in steps):
        steps = [*steps, Step("centre-crop", {"ratio": CROP_RATIO})]
    of_pictures = [_made(step, size) for step in steps if not STEPS[step.name].takes_tensor]
    of_tensors = [_made(step, size) for step in steps if STEPS[step.name].takes_tensor]
    return partial(_applied, [*of_pictures, v2.PILToTensor(), *of_tensors])


def seeded(transform: Transform, picture: Image.Image, seed: int) -> Tensor:
    """`transform(picture)` as `seed` draws it; the global generator is afterwards as it was.

    Only the lower 32 bits of the seed count. Not for threads: the generator is the process's.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return transform(picture)


def _made(step: Step, size: int) -> Callable[[Any], Any]:
    try:
        return STEPS[step.name].make(size, **step.values)
    except (ValueError, TypeError) as error:
        raise UsageError(f"the augmentation step '{step}' cannot be used: {error}.") from error


def _applied(transforms: Iterable[Callable[[Any], Any]], picture: Any) -> Any:
    for transform in transforms:
        picture = transform(picture)
    return picture


def smallest_crop(steps: Sequence[Step]) -> float:
    """The least share of the short side that a crop may take, above 0, at most 1.

    Pictures whose short side is size / share lose nothing before a crop enlarges them. What comes after the first step
    that gives size x size does not count: it works on that result. The aspect of random crops is left out: it makes one
    side smaller, the other larger.
    """
    share = 1.0
    for step in steps:
        values: Any = step.values
        if step.name == "random-resized-crop":
            return share * math.sqrt(values["scale"][0])
        if step.name in ("random-crop", "centre-crop"):
            return share / float(values["ratio"])
        if step.name == "squish":
            return share
        if step.name == "scale":
            share /= max(1.0, values["factor"][1])
    return share / CROP_RATIO


def _known(name: str, names: Iterable[str], what: str) -> str:
    """`name`, which must be one of `names`."""
    names = list(names)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f"; did you mean '{near[0]}'?" if near else "."
    there = f"There are {', '.join(names)}." if names else "It has none."
    raise UsageError(f"unknown {what}{guess} {there}")


def _shown(value: Number) -> str:
    """A value for people, from which no digit is lost: 0.35, 4/3, or all digits."""
    if isinstance(value, tuple):
        return f"{_shown(value[0])} to {_shown(value[1])}"
    short, fraction = f"{value:.3g}", Fraction(value).limit_denominator(100)
    if float(short) == value:
        return short
    return str(fraction) if float(fraction) == value else repr(value)
