"""A tiny backbone, made without torch: 32 x 32 pixels in, 16 seeded features out, milliseconds to compile."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import save_file

from headstart.features import backbones
from headstart.features.backbones import Backbone
from headstart.features.preprocess import Preprocess

SIDE, WIDTH = 32, 16
PREPROCESS = Preprocess(SIDE, SIDE, 36, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def install(folder: Path) -> Path:
    """Put the backbone `tiny` into the cache as if it had been converted; returns its weights file."""
    random = np.random.default_rng(7)
    kernel = random.normal(0, 0.2, (WIDTH, 3, 8, 8)).astype(np.float32)
    bias = random.normal(0, 0.2, WIDTH).astype(np.float32)
    weights = folder / "tiny.safetensors"
    save_file({"conv.weight": kernel, "conv.bias": bias}, weights)
    digest = sha256(weights.read_bytes()).hexdigest()
    place = backbones._folder("tiny", digest)
    place.mkdir(parents=True)
    backbone = Backbone(
        name="tiny",
        library="timm",
        architecture="tiny",
        dimension=WIDTH,
        parameters=kernel.size + bias.size,
        classifier="fc",
        preprocess=PREPROCESS,
        licence="apache-2.0",
        weights_digest=digest,
        weights_source=weights.name,
        graph=place / backbones.GRAPH,
        tensors=place / backbones.TENSORS,
    )
    backbone.tensors.write_bytes(weights.read_bytes())
    backbone.graph.write_bytes(_graph(kernel, bias))
    (place / backbones.FACTS).write_text(json.dumps(backbone.to_json()))
    return weights


def _graph(kernel: np.ndarray, bias: np.ndarray) -> bytes:
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["first", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "mean"], ["normalised"]),
        helper.make_node("Conv", ["normalised", "kernel", "bias"], ["maps"], strides=[4, 4]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    tensors = {"mean": np.full((1, 3, 1, 1), 127.5, np.float32), "kernel": kernel, "bias": bias}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", WIDTH])],
        [numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def draw(path: Path, hue: tuple[int, int, int], seed: int, size: tuple[int, int] = (48, 40)) -> None:
    """Write a noisy picture around one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 40, (size[1], size[0], 3))
    pixels = np.clip(np.array(hue) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


HUES = {"amber": (200, 140, 40), "blue": (50, 80, 200), "green": (60, 180, 70)}


def class_folders(folder: Path, each: int = 20, classes: tuple[str, ...] = ("amber", "blue")) -> Path:
    """A folder of class folders with `each` pictures in each."""
    for number, name in enumerate(classes):
        for index in range(each):
            draw(folder / name / f"{index:02}.png", HUES[name], 1000 * number + index)
    return folder
