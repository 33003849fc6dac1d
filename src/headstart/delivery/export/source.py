"""What is exported: a classifier, the way it is to be asked, and the facts that travel with the file."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.learning.classifier import Classifier

PIXELS, PROBABILITIES = "pixels", "probabilities"
NORMALISED, LOGITS = "normalised", "logits"


@dataclass(frozen=True)
class Source:
    """A classifier to export.

    With `raw` the file takes normalised float32 [n, 3, height, width] and gives logits [n, k]; without, it takes pixels
    uint8 [n, height, width, 3] and gives probabilities [n, k]. The calibration is in both: it is folded into the head.
    With `one_by_one` n is 1.
    """

    classifier: Classifier
    raw: bool = False
    one_by_one: bool = False

    @property
    def input(self) -> str:
        """The name of the input."""
        return NORMALISED if self.raw else PIXELS

    @property
    def output(self) -> str:
        """The name of the output."""
        return LOGITS if self.raw else PROBABILITIES

    @property
    def count(self) -> int | str:
        """How many pictures it takes at once; "n" stands for any number."""
        return 1 if self.one_by_one else "n"

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one picture at the input."""
        preprocess = self.classifier.backbone.preprocess
        return (3, preprocess.height, preprocess.width) if self.raw else (preprocess.height, preprocess.width, 3)

    def facts(self) -> dict[str, Any]:
        """What whoever uses the file must know, as JSON values: classes, input, output, and the way to the input."""
        kind, layout = ("float32", "NCHW") if self.raw else ("uint8", "NHWC")
        return {
            "classes": list(self.classifier.classes),
            "input": {
                "name": self.input,
                "type": kind,
                "layout": layout,
                "shape": [self.count, *self.shape],
                "colours": "RGB",
            },
            "output": {"name": self.output, "type": "float32", "shape": [self.count, len(self.classifier.classes)]},
            "preprocessing": self._preprocessing(),
        }

    def metadata(self) -> dict[str, str]:
        """The same facts for formats that carry texts: a JSON text for each name."""
        return {name: json.dumps(value, ensure_ascii=False) for name, value in self.facts().items()}

    def _preprocessing(self) -> dict[str, Any]:
        preprocess = self.classifier.backbone.preprocess
        numbers = {
            "fit": preprocess.fit,
            "resize": preprocess.resize,
            "height": preprocess.height,
            "width": preprocess.width,
            "interpolation": preprocess.interpolation,
        }
        colour = {"pad_colour": [round(255 * value) for value in preprocess.mean]} if preprocess.fit == "pad" else {}
        normalise = {"mean": list(preprocess.mean), "std": list(preprocess.std)} if self.raw else None
        return {**numbers, **colour, "normalise": normalise, "steps": list(self._steps())}

    def _steps(self) -> list[str]:
        """The preprocessing in words, in order; `road` is the same in code."""
        preprocess = self.classifier.backbone.preprocess
        size = f"{preprocess.width} x {preprocess.height}"
        fitted = {
            "crop": f"resize the short side to {preprocess.resize} pixels and keep the central {size}, in one step "
            "(Pillow's resize with a box)",
            "squish": f"resize to {size}",
            "pad": f"resize to fit into {size}, centred, the rest in pad_colour",
        }[preprocess.fit]
        last = (
            "divide by 255, subtract mean, divide by std, channels first" if self.raw else "leave the values 0 to 255"
        )
        return [
            "decode; turn as the Exif orientation says; lay what is transparent over white; RGB",
            f"{fitted}; antialiased, {preprocess.interpolation}",
            last,
        ]


def as_input(pixels: NDArray[np.uint8], facts: dict[str, Any]) -> NDArray[Any]:
    """`pixels` uint8 [n, h, w, 3] as a file with these `facts` wants them: as they are, or normalised [n, 3, h, w]."""
    normalise = facts["preprocessing"]["normalise"]
    if normalise is None:
        return pixels
    mean, std = (np.array(normalise[name], dtype=np.float32) for name in ("mean", "std"))
    return np.ascontiguousarray(((pixels.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2))
