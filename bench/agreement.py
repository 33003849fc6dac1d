"""Does the same picture get the same answer everywhere? predict, ONNX Runtime, timm with its own transform, and bf16.

    python bench/agreement.py DATA...

Each DATA is trained on; then its readable pictures are answered by `predict`; by the model's ONNX file under ONNX
Runtime; by `timm.create_model("local-dir:...")` with timm's own evaluation transform on pictures opened by Pillow, as a
user of timm would; and by the head on features from torch in bf16. Writes its section of bench/RESULTS.md.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import timm
import torch
from PIL import Image, ImageOps

from headstart.delivery import artefact
from headstart.delivery.predictor import Predictor
from headstart.features.engines import TorchEngine
from headstart.pictures.decode import decode
from headstart.workflow import Run, train
from results import machine, record, table

BF16_SAMPLE = 60  # pictures, evenly spread: bf16 is slow on a processor that must emulate it


def predicted(predictor: Predictor, paths: list[Path]) -> np.ndarray:
    """Probabilities [n, k] from `predict`."""
    answers = (dict(said.ranking) for said in predictor.stream(paths))
    return np.array([[answer[name] for name in predictor.classes] for answer in answers])


def by_onnx_runtime(predictor: Predictor, paths: list[Path]) -> np.ndarray:
    """Probabilities [n, k] from the model's ONNX file."""
    session = onnxruntime.InferenceSession(predictor.classifier.backbone.graph, providers=["CPUExecutionProvider"])
    return np.concatenate(
        [session.run(["probabilities"], {"pixels": pixels(predictor, path)[None]})[0] for path in paths]
    )


def by_timm(predictor: Predictor, paths: list[Path]) -> np.ndarray:
    """Probabilities [n, k] from timm's loader and timm's transform."""
    folder = predictor.classifier.backbone.tensors.parent
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    rows = []
    with torch.inference_mode():
        for path in paths:
            with Image.open(path) as picture:
                upright = ImageOps.exif_transpose(picture).convert("RGB")
            rows.append(network(transform(upright)[None]).softmax(dim=1)[0].numpy())
    return np.array(rows)


def by_torch(predictor: Predictor, paths: list[Path], precision: str) -> np.ndarray:
    """Probabilities [n, k] from the head on torch's features."""
    engine = TorchEngine.load(predictor.classifier.backbone, "cpu", precision)
    features = np.concatenate([engine.embed(pixels(predictor, path)[None]) for path in paths])
    return predictor.classifier.probabilities(features)


def pixels(predictor: Predictor, path: Path) -> np.ndarray:
    """The backbone's input for a picture."""
    preprocess = predictor.classifier.backbone.preprocess
    return preprocess.apply(decode(path.read_bytes(), at_least=preprocess.at_least).pixels)


def compare(run: Run) -> list[list[str]]:
    """A row for each other way to the same answer."""
    predictor = artefact.load(run.folder, "cpu", "f32")
    dataset = run.examples.dataset
    paths = [dataset.locate(sample) for sample in dataset.samples]
    ours = predicted(predictor, paths)
    others = {
        "ONNX Runtime": by_onnx_runtime(predictor, paths),
        "timm, its own transform": by_timm(predictor, paths),
        "torch bf16": by_torch(predictor, paths[:: max(1, len(paths) // BF16_SAMPLE)][:BF16_SAMPLE], "bf16"),
    }
    rows = []
    for name, theirs in others.items():
        mine = ours if len(theirs) == len(ours) else ours[:: max(1, len(paths) // BF16_SAMPLE)][:BF16_SAMPLE]
        agree = int((mine.argmax(axis=1) == theirs.argmax(axis=1)).sum())
        largest = float(np.abs(mine - theirs).max())
        rows.append([run.data.name, name, f"{agree} of {len(mine)}", f"{agree / len(mine):.2%}", f"{largest:.4f}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, nargs="+")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for data in parser.parse_args().data:
            rows += compare(train(data, Path(folder) / data.name))
    header = ["data", "against `predict`", "same top-1", "share", "largest change of a probability"]
    names = " ".join(sorted({row[0] for row in rows}))
    record("Agreement", f"`python bench/agreement.py {names}`: {machine()}.\n\n{table(header, rows)}")


if __name__ == "__main__":
    main()
