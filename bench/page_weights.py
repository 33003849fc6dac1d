"""How a page's weights may be put down: float32, float16 or int8, and what each changes and takes.

    python bench/page_weights.py RUN...

Of each RUN the held-out pictures are asked of the model, and of its graph with its large tensors put down in each way,
by ONNX Runtime, of the same pixels. `page` is what the graph takes in the file: compressed, in base64; the
runtime and the rest take another 5 MB. What came out stands in delivery/export/page_format.py.
"""

import gzip
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from headstart.delivery import artefact
from headstart.delivery.export import page_format, pictures
from results import table

WAYS = ("float32", "float16", "int8")


def put_down(classifier, way: str) -> bytes:
    """The graph of the page with its large tensors in this way."""
    model = onnx.load_from_string(classifier.backbone.graph.read_bytes())
    if way == "float16":
        page_format._halve(model.graph)
    elif way == "int8":
        in_whole_numbers(model.graph)
    return model.SerializeToString()


def in_whole_numbers(graph) -> None:
    """The large tensors as int8, with a scale for each of their channels."""
    nodes, tensors, added = list(graph.node), [], []
    for tensor in graph.initializer:
        values, name = numpy_helper.to_array(tensor), tensor.name
        if values.dtype != np.float32 or values.size < page_format.SMALL or name.startswith("headstart."):
            tensors.append(tensor)
            continue
        scale = np.abs(values).max(axis=tuple(range(1, values.ndim))) / 127
        scale[scale == 0] = 1
        whole = np.rint(values / scale.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
        tensors += [numpy_helper.from_array(whole, f"{name}.whole"), numpy_helper.from_array(scale, f"{name}.scale")]
        added.append(helper.make_node("DequantizeLinear", [f"{name}.whole", f"{name}.scale"], [name], axis=0))
    del graph.node[:], graph.initializer[:]
    graph.node.extend([*added, *nodes])
    graph.initializer.extend(tensors)


def rows(run: Path) -> list[list[str]]:
    """One row for each way."""
    predictor = artefact.load(run, "cpu", "f32")
    shelf = pictures.gather(run, predictor.classifier, None, calibrated=False).proved
    pixels = pictures.pixels(shelf, predictor.classifier)
    expected = predictor.classifier.probabilities(predictor.engine.embed(pixels))
    found = []
    for way in WAYS:
        graph = put_down(predictor.classifier, way)
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        said = np.concatenate([session.run(["probabilities"], {"pixels": one[None]})[0] for one in pixels])
        change = np.abs(said - expected).max(axis=1)
        other = int((said.argmax(axis=1) != expected.argmax(axis=1)).sum())
        megabytes = len(gzip.compress(graph, 9)) * 4 / 3 / 1e6
        cells = [run.name, way, f"{megabytes:.1f} MB", f"{other} of {len(pixels)}"]
        found.append([*cells, f"{change.max():.2g}", f"{change.mean():.2g}"])
    return found


if __name__ == "__main__":
    header = ["run", "weights", "page", "another class", "largest change", "mean change"]
    print(table(header, [row for run in sys.argv[1:] for row in rows(Path(run))]))
