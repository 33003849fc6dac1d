"""ONNX: the model folder's graph with one output and its facts inside; answered by ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.delivery.export.source import PIXELS, Source
from headstart.errors import ExportError

FILE = "model.onnx"
TOWARDS_NORMALISED = ("Cast", "Transpose", "Sub", "Div")
"""The operations between the pixels and the normalised picture; the last of them divides by the deviation."""


def write(source: Source, folder: Path) -> None:
    """Write `source` into `folder`; the batch size is free.

    Raises:
        ExportError: a raw graph is asked for, and this one does not normalise as it should.
    """
    (folder / FILE).write_bytes(graph_of(source))


def graph_of(source: Source) -> bytes:
    """The classifier's ONNX graph with the input and output that `source` names, and its facts as metadata."""
    import onnx  # half a second: only where a graph is made
    from onnx import TensorProto, helper

    model = onnx.load_from_string(source.classifier.backbone.graph.read_bytes())
    graph = model.graph
    if source.raw:
        _begin_at(graph, _normalised(graph), source.input)
        del graph.input[:]
        graph.input.append(helper.make_tensor_value_info(source.input, TensorProto.FLOAT, ["n", *source.shape]))
    kept = [output for output in graph.output if output.name == source.output]
    del graph.output[:]
    graph.output.extend(kept)
    _prune(graph)
    helper.set_model_props(model, source.metadata())
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def load(folder: Path, facts: dict[str, Any]) -> "Answering":
    """The file in `folder`, ready to answer by ONNX Runtime on the CPU.

    Raises:
        ExportError: ONNX Runtime cannot run it.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as failures

    try:
        session = onnxruntime.InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])
    except (failures.Fail, failures.InvalidGraph, failures.InvalidArgument, failures.NotImplemented) as error:
        raise ExportError(f"ONNX Runtime cannot run this network: {' '.join(str(error).split())[:300]}") from error
    return Answering(session, facts["input"]["name"], f"ONNX Runtime {onnxruntime.__version__}")


class Answering:
    """An ONNX Runtime session, asked for its one output."""

    def __init__(self, session: Any, name: str, runtime: str) -> None:
        self.session, self.name, self.runtime = session, name, runtime

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """The output [n, k] for a batch of inputs."""
        return np.asarray(self.session.run(None, {self.name: batch})[0])


def _normalised(graph: Any) -> str:
    """The name of the tensor that holds the normalised picture [n, 3, h, w]."""
    name = PIXELS
    while True:
        following = [node for node in graph.node if name in node.input and node.op_type in TOWARDS_NORMALISED]
        if len(following) != 1:
            raise ExportError("this network's graph does not show where it normalises; export it without --raw.")
        name = following[0].output[0]
        if following[0].op_type == "Div":
            return str(name)


def _begin_at(graph: Any, tensor: str, name: str) -> None:
    """Let whatever used `tensor` use the input `name`, and whatever asked the pixels for their number too."""
    for node in graph.node:
        for place, output in enumerate(node.output):
            if output in (tensor, name):  # the latter may be the name of something else
                node.output[place] = f"{output}.before"
        for place, given in enumerate(node.input):
            if given == tensor or (given == PIXELS and node.op_type == "Shape"):
                node.input[place] = name
            elif given == name:
                node.input[place] = f"{given}.before"


def _prune(graph: Any) -> None:
    """Take out the nodes and tensors that no output needs."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):  # a graph's nodes come after what they use
        if needed & set(node.output):
            needed.update(node.input)
            kept.append(node)
    tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(tensors)
