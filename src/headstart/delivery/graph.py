"""The ONNX graph of a whole classifier: the backbone's graph with the head put on it."""

import json

import numpy as np
from numpy.typing import NDArray


def with_head(
    backbone: bytes, weight: NDArray[np.float32], bias: NDArray[np.float32], classes: tuple[str, ...]
) -> bytes:
    """`backbone` (ONNX: pixels -> features [n, d]) continued to logits and probabilities float32 [n, k].

    `weight` float32 [k, d] and `bias` float32 [k] become a Gemm and a Softmax; the class names stand in
    the metadata as a JSON list under `classes`. Outputs, in order: probabilities, logits, features.
    """
    import onnx  # half a second: only where a graph is made
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(backbone)
    graph = model.graph
    features = graph.output[0]
    graph.initializer.append(numpy_helper.from_array(weight, "headstart.weight"))
    graph.initializer.append(numpy_helper.from_array(bias, "headstart.bias"))
    inputs = [features.name, "headstart.weight", "headstart.bias"]
    graph.node.append(helper.make_node("Gemm", inputs, ["logits"], name="headstart.head", transB=1))
    graph.node.append(helper.make_node("Softmax", ["logits"], ["probabilities"], name="headstart.softmax", axis=1))
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", len(classes)])
        for name in ("probabilities", "logits")
    ]
    del graph.output[:]
    graph.output.extend([*outputs, features])
    helper.set_model_props(model, {"classes": json.dumps(list(classes), ensure_ascii=False)})
    return bytes(model.SerializeToString(deterministic=True))
