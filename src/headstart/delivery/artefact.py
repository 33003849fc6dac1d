"""Save and load the model folder: a timm / Hugging Face folder, an ONNX file, and headstart's own facts; no pickle.

config.json            what timm needs: architecture, class names, preprocessing
model.safetensors      backbone and head, under timm's names, calibration folded into the head
model.onnx             pixels uint8 [n, h, w, 3] -> probabilities, logits, features
headstart.json         format number, backbone, tables of thresholds, digests of the other files, self-check
headstart.safetensors  reference features (for "none of these") and short digests of the training pictures
README.md              the model card
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.delivery.graph import with_head
from headstart.delivery.predictor import Predictor
from headstart.errors import ModelError
from headstart.features.backbones import Backbone
from headstart.features.engines import Device, plan_engine
from headstart.features.names import JOINT, parts_of
from headstart.features.openvino_engine import Precision
from headstart.features.preprocess import Preprocess
from headstart.features.weights import digest
from headstart.learning.classifier import Classifier
from headstart.learning.conformal import Abstention, PredictionSets
from headstart.learning.novelty import Novelty

FORMAT = 1
FACTS, CONFIG, TENSORS, GRAPH, EXTRAS = (
    "headstart.json",
    "config.json",
    "model.safetensors",
    "model.onnx",
    "headstart.safetensors",
)

KEYS = ("classes", "backbone", "precision", "prediction_sets", "abstain", "none_of_these", "self_check", "digests")

# How far the self-check's probabilities may lie from the recorded ones: on the same arithmetic, and on another.
TOLERANCE, TOLERANCE_ACROSS_PRECISIONS = 0.005, 0.1

CROP_MODE_OF_FIT = {"crop": "center", "squish": "squash", "pad": "border"}


def save(folder: Path, classifier: Classifier, self_check: NDArray[np.float32], card: str) -> None:
    """Write the model folder's files into the existing `folder`.

    Args:
        folder: an empty folder; that it appears whole or not at all is the caller's business.
        classifier: what to save.
        self_check: float32 [d], the features of `check_pattern`, from the engine that trained.
        card: the model card, in Markdown.
    """
    from safetensors.numpy import load_file
    from safetensors.numpy import save as serialise

    backbone = classifier.backbone
    head: dict[str, NDArray[Any]] = {
        f"{backbone.classifier}.weight": classifier.weight,
        f"{backbone.classifier}.bias": classifier.bias,
    }
    tensors = {name: tensor for name, tensor in load_file(backbone.tensors).items() if name not in head}
    (folder / TENSORS).write_bytes(serialise({**tensors, **head}, metadata={"format": "pt"}))
    extras: dict[str, NDArray[Any]] = {"references": classifier.novelty.references, "trained_on": classifier.trained_on}
    (folder / EXTRAS).write_bytes(serialise(extras))
    graph = with_head(backbone.graph.read_bytes(), classifier.weight, classifier.bias, classifier.classes)
    (folder / GRAPH).write_bytes(graph)
    _write_json(folder / CONFIG, _config(classifier))
    (folder / "README.md").write_text(card, "utf-8")
    _write_json(
        folder / FACTS,
        {
            "format": FORMAT,
            "classes": classifier.classes,
            "backbone": backbone.to_json(),
            "precision": classifier.precision,
            "prediction_sets": classifier.sets.to_json(),
            "abstain": classifier.abstention.to_json(),
            "none_of_these": {
                "false_reject_rate": classifier.novelty.false_reject_rate,
                "radius": classifier.novelty.radius,
            },
            "self_check": classifier.probabilities(self_check[None])[0].tolist(),
            "digests": {name: digest(folder / name) for name in (TENSORS, GRAPH, EXTRAS)},
        },
    )


def load(model: str | Path, device: Device = "auto", precision: Precision = "auto") -> Predictor:
    """The classifier in a run folder or its `model/`, ready to predict; no torch is needed on a CPU.

    Every file's digest is compared with the recorded one, and a generated picture must get the recorded answer.

    Raises:
        ModelError: not a model, a damaged one, one of a later format, or one that answers otherwise here.
    """
    folder = find(Path(model))
    record = _read_facts(folder)
    for name, expected in record["digests"].items():
        if not (folder / name).is_file() or digest(folder / name) != expected:
            raise ModelError(f"the model in {folder} is damaged: {name} is not the file that was saved.")
    classifier = _classifier(folder, record)
    plan = plan_engine(device, precision)
    predictor = Predictor(classifier, plan, plan.load(classifier.backbone))
    _check_answer(folder, predictor, record)
    return predictor


def find(model: Path) -> Path:
    """The model folder that `model`, a run folder or a model folder, stands for.

    Raises:
        ModelError: it is neither.
    """
    for folder in (model, model / "model"):
        if (folder / FACTS).is_file():
            return folder
    if not model.exists():
        raise ModelError(f"no such model: {model}. Give a run folder that `headstart train` made, or its model/.")
    raise ModelError(f"{model} is not a model: it holds no {FACTS}. Give a run folder or its model/.")


def check_pattern(preprocess: Preprocess) -> NDArray[np.uint8]:
    """The generated picture uint8 [height, width, 3] that every model is asked about when it is loaded."""
    rows, columns, channels = np.ogrid[: preprocess.height, : preprocess.width, :3]
    pattern = rows * (channels + 2) + columns * (5 - channels) + rows * columns // 16
    return np.asarray(pattern % 256, dtype=np.uint8)


def _read_facts(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / FACTS).read_text("utf-8"))
        known_format = int(record["format"])
        missing = [key for key in KEYS if key not in record]
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise ModelError(f"the model in {folder} is damaged: {FACTS} cannot be read ({error}).") from error
    if known_format > FORMAT:
        raise ModelError(
            f"the model in {folder} has format {known_format}; this headstart reads up to {FORMAT}. Upgrade headstart."
        )
    if missing:
        raise ModelError(f"the model in {folder} is damaged: {FACTS} has no {', '.join(missing)}.")
    return dict(record)


def _classifier(folder: Path, record: dict[str, Any]) -> Classifier:
    from safetensors import SafetensorError, safe_open

    try:
        backbone = Backbone.from_json(record["backbone"], folder / GRAPH, folder / TENSORS)
        with safe_open(folder / TENSORS, framework="numpy") as tensors:
            weight = tensors.get_tensor(f"{backbone.classifier}.weight")
            bias = tensors.get_tensor(f"{backbone.classifier}.bias")
        with safe_open(folder / EXTRAS, framework="numpy") as extras:
            references, trained_on = extras.get_tensor("references"), extras.get_tensor("trained_on")
        return Classifier(
            backbone=backbone,
            classes=tuple(record["classes"]),
            weight=weight,
            bias=bias,
            novelty=_novelty(references, record["none_of_these"]),
            sets=PredictionSets.from_json(record["prediction_sets"], len(record["classes"])),
            abstention=Abstention.from_json(record["abstain"]),
            trained_on=trained_on,
            precision=record["precision"],
        )
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the model in {folder} is damaged: {error}.") from error


def _novelty(references: NDArray[np.float16], record: dict[str, Any]) -> Novelty:
    radius, rate = float(record["radius"]), float(record["false_reject_rate"])
    if not 0 < radius < math.inf or not 0 <= rate <= 1:
        raise ValueError(f"none_of_these must have a positive radius and a rate in 0..1; received {record}")
    return Novelty(references, radius, rate)


def _check_answer(folder: Path, predictor: Predictor, record: dict[str, Any]) -> None:
    classifier = predictor.classifier
    pattern = check_pattern(classifier.backbone.preprocess)
    got = classifier.probabilities(predictor.engine.embed(pattern[None]))[0]
    same = predictor.plan.precision == classifier.precision
    tolerance = TOLERANCE if same else TOLERANCE_ACROSS_PRECISIONS
    difference = float(np.abs(got - np.array(record["self_check"])).max())
    if not difference <= tolerance:
        raise ModelError(
            f"the model in {folder} answers otherwise here than where it was trained: probabilities of the self-check "
            f"differ by {difference:.3f} (at most {tolerance} expected). Try --device cpu --precision f32."
        )


def _config(classifier: Classifier) -> dict[str, Any]:
    """Timm's config.json; for a torchvision network the same facts, which timm cannot use."""
    backbone, preprocess = classifier.backbone, classifier.backbone.preprocess
    size = min(preprocess.height, preprocess.width)
    return {
        "architecture": JOINT.join(part.partition(".")[0] for part in parts_of(backbone.architecture)),  # without tags
        "num_classes": len(classifier.classes),
        "num_features": backbone.dimension,
        "label_names": list(classifier.classes),
        "pretrained_cfg": {
            "tag": "headstart",
            "custom_load": False,
            "input_size": [3, preprocess.height, preprocess.width],
            "interpolation": preprocess.interpolation,
            "crop_pct": _crop_fraction(size, preprocess.resize) if preprocess.fit == "crop" else 1.0,
            "crop_mode": CROP_MODE_OF_FIT[preprocess.fit],
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "num_classes": len(classifier.classes),
            "classifier": backbone.classifier,
            "license": backbone.licence,
        },
    }


def _crop_fraction(size: int, resize: int) -> float:
    """A fraction f for which floor(size / f), as timm computes it, is `resize` in spite of rounding."""
    fraction = size / resize
    while math.floor(size / fraction) < resize:
        fraction = math.nextafter(fraction, 0)
    return fraction


def _write_json(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
