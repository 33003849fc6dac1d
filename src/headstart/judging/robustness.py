"""How a classifier fares on worse pictures: held-out ones out of focus, noisy, compressed, dark, turned, cut.

Everything is applied to the picture as the network's resolution shows it: reduced, in its proportions, until its short
side has the `resize` pixels of the backbone's preprocessing (never enlarged), and then preprocessed like any other.
Strengths are those of severity 3 of 5 in ImageNet-C (Hendrycks, Dietterich, ICLR 2019), whose pictures had a short side
of 256 pixels, or a mild counterpart of what it lacks. One strength says where to look, not how much is too much.
"""

import itertools
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from headstart.features.engines import EnginePlan
from headstart.features.extract import Prepared, embed, extract, recipe
from headstart.features.preprocess import FILTERS, Preprocess
from headstart.features.store import Store
from headstart.judging.comparison import sign_test
from headstart.judging.intervals import UNKNOWN, BoolArray, IntArray, Interval, proportion
from headstart.learning.classifier import Classifier
from headstart.parallel import core_count, in_order
from headstart.pictures.dataset import Dataset, Sample
from headstart.pictures.decode import PictureError, decode
from headstart.pictures.inspect import read
from headstart.progress import SILENT, Progress

BUDGET = 64
VERSION = 1  # raised when a kind below gives other pixels: stored features are then not used

Pixels = NDArray[np.uint8]
Corrupt = Callable[[Pixels, np.random.Generator], Pixels]

BLUR = 3 / 256  # standard deviation, of the short side; ImageNet-C's Gaussian blur: 3 pixels
NOISE = 0.18  # standard deviation, of full brightness, each pixel and channel; ImageNet-C's Gaussian noise
JPEG_QUALITY = 15  # ImageNet-C's
BRIGHTNESS = 0.3  # of full brightness, added to the V of HSV; ImageNet-C's
ANGLE = 15.0  # degrees
RESOLUTION = 0.4  # of the sides; ImageNet-C's pixelate
KEPT = 0.8  # of the sides, in a corner

_AHEAD = 4  # pictures under way for each thread, eight versions of each


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """The classifier on pictures of one `kind`, in words `label`.

    `p`: the two-sided exact p of the sign test against the same pictures as they are. `per_class`: the recall of each
    class, NaN for a class of which no picture was drawn.
    """

    kind: str
    label: str
    accuracy: Interval
    p: float
    per_class: dict[str, Interval]


@dataclass(frozen=True, slots=True, eq=False)
class Robustness:
    """The classifier on `n` held-out pictures as they are (`clean`), and on worse versions of the same (`rows`)."""

    n: int
    clean: Interval
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """The "robustness" object of metrics.json."""
        return {
            "n": self.n,
            "clean": self.clean.to_json(),
            "rows": [
                {
                    "kind": row.kind,
                    "label": row.label,
                    "accuracy": row.accuracy.to_json(),
                    "p": float(f"{row.p:.6g}"),
                    "per_class": {name: recall.to_json() for name, recall in row.per_class.items()},
                }
                for row in self.rows
            ],
        }


def robustness(
    classifier: Classifier,
    plan: EnginePlan,
    samples: Sequence[Sample],
    root: Path,
    groups: IntArray | None = None,
    *,
    budget: int = BUDGET,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Robustness:
    """Let `classifier` judge at most `budget` of the held-out `samples`, as they are and in eight worse versions.

    What a version looks like depends on the picture alone, not on `seed`; its features are kept in the store, so that
    a second time costs nothing. A picture that can no longer be read is left out.

    Args:
        classifier: what is on trial.
        plan: where its backbone runs.
        samples: held-out samples [n], whose labels are among the classes; their digests need not be known.
        root: what their paths are relative to.
        groups: int [n]; samples of one group are not independent, and intervals and p allow for it. None: all are.
        budget: how many pictures are judged, drawn by class in the classes' proportions.
        seed: draws them.
        progress: shows the work.
    """
    position = {name: number for number, name in enumerate(classifier.classes)}
    labels = np.array([position[sample.label] for sample in samples], dtype=np.int64)
    chosen = stratified(labels, budget, seed)
    if not len(chosen):
        return Robustness(0, UNKNOWN, ())
    drawn = Dataset(root, tuple(samples[row] for row in chosen))
    dataset, features = extract(drawn, classifier.backbone, plan)
    vectors = _vectors(classifier, plan, dataset, progress)
    kept = [sample for sample in dataset.samples if all((sample.digest, kind) in vectors for kind in KINDS)]
    row_of = {samples[row].path: row for row in chosen}
    rows = np.array([row_of[sample.path] for sample in kept], dtype=np.int64)
    truth, related = labels[rows], rows if groups is None else groups[rows]

    def hits(of: NDArray[np.float32]) -> BoolArray:
        return np.asarray(classifier.probabilities(of).argmax(axis=1) == truth, dtype=np.bool_)

    clean = hits(features.vectors[features.rows(kept)])
    worse = {kind: hits(np.array([vectors[sample.digest, kind] for sample in kept])) for kind in KINDS if kept}
    members = {name: truth == number for name, number in position.items()}
    judged = tuple(_row(kind, right, clean, related, members) for kind, right in worse.items())
    return Robustness(len(kept), proportion(clean, related), judged)


def stratified(labels: IntArray, budget: int, seed: int) -> IntArray:
    """The rows of at most `budget` of the `labels` int [n], ascending, drawn so that classes keep their proportions.

    In each class the rows are shuffled and spread evenly over 0..1 from a random start; those that come first in all
    are taken. So a class of m gets m / n of the budget, rounded up or down by chance.
    """
    generator = np.random.default_rng([seed, *b"robustness"])
    position = np.empty(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        position[generator.permutation(rows)] = (np.arange(len(rows)) + generator.random()) / len(rows)
    return np.sort(np.argsort(position, kind="stable")[:budget])


def corrupted(pixels: Pixels, kind: str, digest: str, preprocess: Preprocess) -> Pixels:
    """The network's input uint8 [height, width, 3] for a worse version of a picture.

    `pixels`: uint8 [h, w, 3], the decoded picture. `kind`: one of `KINDS`. `digest`: of the picture's file; what is
    random follows from it and the kind. `preprocess`: of the backbone.
    """
    _, corrupt = KINDS[kind]
    generator = np.random.default_rng(list(sha256(f"{digest} {kind}".encode()).digest()))
    return preprocess.apply(np.ascontiguousarray(corrupt(pixels, generator)))


def reduced(pixels: Pixels, preprocess: Preprocess) -> Pixels:
    """The picture with its short side at `preprocess.resize` pixels, or as it is where it has fewer."""
    height, width = pixels.shape[:2]
    short = min(height, width)
    if short <= preprocess.resize:
        return pixels
    ratio = preprocess.resize / short
    size = (int(width * ratio + 1e-9), int(height * ratio + 1e-9))
    return np.asarray(Image.fromarray(pixels).resize(size, FILTERS[preprocess.interpolation]))


def _blur(pixels: Pixels, _: np.random.Generator) -> Pixels:
    radius = BLUR * min(pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def _noise(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    noise = generator.standard_normal(pixels.shape, dtype=np.float32) * np.float32(255 * NOISE)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


def _jpeg(pixels: Pixels, _: np.random.Generator) -> Pixels:
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), JPEG_QUALITY, "RGB", "420")
    return np.asarray(simplejpeg.decode_jpeg(data, "RGB"))


def _brighter(pixels: Pixels, _: np.random.Generator, by: float = BRIGHTNESS) -> Pixels:
    """V of HSV moved by `by`, within 0..1; hue and saturation stay, so that it scales the three channels alike."""
    levels = np.arange(256, dtype=np.float32)
    moved = np.clip(levels + np.float32(255 * by), 0, 255)
    scaled = levels * (moved / np.maximum(levels, 1))[:, None]  # of each value, by each V
    scaled[0] = moved[0]  # black has no hue, and becomes grey
    table = np.rint(np.minimum(scaled, 255)).astype(np.uint8).ravel()
    value = np.maximum(np.maximum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])
    return np.asarray(table[value.astype(np.uint16)[..., None] * np.uint16(256) + pixels])


def _darker(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    return _brighter(pixels, generator, -BRIGHTNESS)


def _turned(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """Turned about its centre, to the left or to the right; what the corners lack is mirrored from inside."""
    height, width = pixels.shape[:2]
    angle = ANGLE if generator.random() < 0.5 else -ANGLE
    margin = int(np.ceil(max(height, width) * np.sin(np.radians(ANGLE)) / 2)) + 1
    padded = Image.fromarray(np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric"))
    turned = padded.rotate(angle, Image.Resampling.BILINEAR)
    return np.asarray(turned)[margin : margin + height, margin : margin + width]


def _low_resolution(pixels: Pixels, _: np.random.Generator) -> Pixels:
    """With fewer pixels; preprocessing enlarges it again."""
    height, width = pixels.shape[:2]
    size = max(1, round(RESOLUTION * width)), max(1, round(RESOLUTION * height))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def _off_centre(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    height, width = pixels.shape[:2]
    inner_height, inner_width = max(1, round(KEPT * height)), max(1, round(KEPT * width))
    top = (height - inner_height) * int(generator.integers(2))
    left = (width - inner_width) * int(generator.integers(2))
    return pixels[top : top + inner_height, left : left + inner_width]


KINDS: dict[str, tuple[str, Corrupt]] = {
    "blur": ("out of focus (blurred by 1.2 % of the short side)", _blur),
    "noise": ("noise (18 % of full brightness)", _noise),
    "jpeg": ("JPEG of quality 15", _jpeg),
    "darker": ("darker (by 30 % of full brightness)", _darker),
    "brighter": ("brighter (by 30 % of full brightness)", _brighter),
    "rotation": ("turned by 15 degrees", _turned),
    "low_resolution": ("low resolution (40 % of the network's)", _low_resolution),
    "off_centre": ("off centre (a corner, 80 % of the sides)", _off_centre),
}
"""What is done to pictures: in words, and the function. Keys and labels are those of metrics.json."""


def _vectors(
    classifier: Classifier, plan: EnginePlan, dataset: Dataset, progress: Progress
) -> dict[tuple[str, str], NDArray[np.float32]]:
    """The features [d] of every kind of every picture, by (digest, kind); those that the store lacks are computed."""
    backbone = classifier.backbone
    pictures = {sample.digest: sample for sample in dataset.samples}
    place_of = {_key(digest, kind): (digest, kind) for digest in pictures for kind in KINDS}
    with Store({**recipe(backbone, plan), "corruption": VERSION}, backbone.dimension) as store:
        vectors = {place_of[key]: vector for key, vector in store.get(place_of)}
        missing = len(place_of) - len(vectors)
        if missing:
            with progress.stage("worse pictures", missing) as advance:
                made = _versions(list(pictures.values()), dataset.root, backbone.preprocess, vectors)
                for item in embed(made, plan, lambda: plan.load(backbone)):
                    if item.vector is not None:
                        store.put(item.sample.digest, item.vector, {})
                        vectors[place_of[item.sample.digest]] = item.vector
                    advance()
    return vectors


def _versions(
    samples: Sequence[Sample], root: Path, preprocess: Preprocess, known: Container[tuple[str, str]]
) -> Iterator[Prepared]:
    """The versions that are not `known`, ready to be embedded, under the keys by which they are stored."""

    def make(sample: Sample) -> list[Prepared]:
        kinds = [kind for kind in KINDS if (sample.digest, kind) not in known]
        if not kinds:
            return []
        try:
            data, digest = read(root / sample.path)
            pixels = decode(data, at_least=preprocess.at_least).pixels
        except (PictureError, OSError):
            return []
        if digest != sample.digest:
            return []  # changed since it was read a moment ago
        pixels = reduced(pixels, preprocess)
        return [
            Prepared(
                replace(sample, digest=_key(digest, kind)),
                corrupted(pixels, kind, digest, preprocess),
            )
            for kind in kinds
        ]

    with ThreadPoolExecutor(core_count()) as pool:
        made = in_order(pool, make, samples, _AHEAD * core_count())
        yield from itertools.chain.from_iterable(made)


def _key(digest: str, kind: str) -> str:
    """Under which the features of a version are stored, in the manner of a picture's digest."""
    return sha256(f"{digest} {kind}".encode()).hexdigest()


def _row(kind: str, right: BoolArray, clean: BoolArray, related: IntArray, members: Mapping[str, BoolArray]) -> Row:
    """A kind judged by where the classifier is `right`, and was on the `clean` pictures; `members`: by class, whose."""
    return Row(
        kind=kind,
        label=KINDS[kind][0],
        accuracy=proportion(right, related),
        p=_paired_p(clean, right, related),
        per_class={name: proportion(right[of], related[of]) for name, of in members.items()},
    )


def _paired_p(clean: BoolArray, hits: BoolArray, groups: IntArray) -> float:
    """The p of `sign_test` over groups: those that fare worse than clean against those that fare better."""
    _, numbers = np.unique(groups, return_inverse=True)
    net = np.bincount(numbers, clean.astype(np.int64) - hits)
    return sign_test(int((net > 0).sum()), int((net < 0).sum()))
