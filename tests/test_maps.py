"""The last spatial map: its mean is the features, and what is no mean is recognised."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from headstart.errors import BackboneError
from headstart.features.backbones import load_backbone
from headstart.features.maps import MapEngine, is_pooled
from headstart.features.openvino_engine import OpenVinoEngine
from tests import tiny

CHANNELS, SIDE = 5, 16


def graph(tmp_path, nodes, constants=(), width=CHANNELS):
    """An ONNX file: pixels -> a convolution's map "maps" [n, 5, 4, 4], then `nodes` up to "features"."""
    random = np.random.default_rng(3)
    tensors = {"kernel": random.normal(0, 0.01, (CHANNELS, 3, 4, 4)).astype(np.float32), **dict(constants)}
    before = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "kernel"], ["maps"], strides=[4, 4]),
    ]
    made = helper.make_graph(
        [*before, *(helper.make_node(kind, *names, **facts) for kind, names, facts in nodes)],
        "small",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", width])],
        [numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    path = tmp_path / "graph.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def axes(*numbers):
    return {"axes": np.array(numbers, dtype=np.int64)}


FLATTEN = ("Flatten", (["pooled"], ["features"]), {})
POOLED = {
    "global average pool": ([("GlobalAveragePool", (["maps"], ["pooled"]), {}), FLATTEN], {}),
    "mean, sides kept": ([("ReduceMean", (["maps", "axes"], ["pooled"]), {}), FLATTEN], axes(2, 3)),
    "mean, sides gone": ([("ReduceMean", (["maps", "axes"], ["features"]), {"keepdims": 0})], axes(-1, -2)),
    "average pool of full size": ([("AveragePool", (["maps"], ["pooled"]), {"kernel_shape": [4, 4]}), FLATTEN], {}),
    "squeezed": (
        [
            ("GlobalAveragePool", (["maps"], ["pooled"]), {}),
            ("Squeeze", (["pooled", "axes"], ["squeezed"]), {}),
            ("Identity", (["squeezed"], ["features"]), {}),
        ],
        axes(2, 3),
    ),
    "channels last": (
        [
            ("Transpose", (["maps"], ["last"]), {"perm": [0, 2, 3, 1]}),
            ("ReduceMean", (["last", "axes"], ["features"]), {"keepdims": 0}),
        ],
        axes(1, 2),
    ),
}
NOT_POOLED = {
    "maximum": ([("GlobalMaxPool", (["maps"], ["pooled"]), {}), FLATTEN], {}),
    "an activation between": (
        [
            ("GlobalAveragePool", (["maps"], ["mean"]), {}),
            ("Tanh", (["mean"], ["pooled"]), {}),
            FLATTEN,
        ],
        {},
    ),
    "mean over rows only": (
        [("ReduceMean", (["maps", "axes"], ["pooled"]), {}), FLATTEN],
        axes(2),
    ),
    "mean over channels": ([("ReduceMean", (["maps", "axes"], ["pooled"]), {}), FLATTEN], axes(1)),
    "a pool that leaves several places": (
        [("AveragePool", (["maps"], ["pooled"]), {"kernel_shape": [2, 2], "strides": [2, 2]}), FLATTEN],
        {},
    ),
    "a single place": (
        [
            ("AveragePool", (["maps"], ["small"]), {"kernel_shape": [4, 4]}),
            ("Relu", (["small"], ["positive"]), {}),
            ("GlobalAveragePool", (["positive"], ["pooled"]), {}),
            FLATTEN,
        ],
        {},
    ),
}
WIDTHS = {"mean over rows only": 20, "mean over channels": 16, "a pool that leaves several places": 20}
PIXELS = np.random.default_rng(5).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)


def expected_maps(path):
    kernel = numpy_helper.to_array(next(t for t in onnx.load(path).graph.initializer if t.name == "kernel"))
    blocks = PIXELS.reshape(3, 4, 4, 4, 4, 3).astype(np.float64)  # picture, row, y, column, x, channel
    return np.einsum("nryxjc,kcyj->nkrx", blocks, kernel)


@pytest.mark.parametrize("name", POOLED)
def test_the_mean_of_the_map_is_the_features(name, tmp_path):
    nodes, constants = POOLED[name]
    path = graph(tmp_path, nodes, constants)
    assert is_pooled(path)
    features, maps = MapEngine.compile(path, threads=1, precision="f32").embed(PIXELS)
    np.testing.assert_allclose(maps, expected_maps(path), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), features, rtol=1e-4, atol=1e-4)
    plain = OpenVinoEngine.compile(path, threads=1, precision="f32").embed(PIXELS)
    np.testing.assert_allclose(features, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NOT_POOLED)
def test_what_is_no_mean_over_places_is_not_pooled(name, tmp_path):
    nodes, constants = NOT_POOLED[name]
    path = graph(tmp_path, nodes, constants, WIDTHS.get(name, CHANNELS))
    assert not is_pooled(path)
    with pytest.raises(BackboneError, match="not the mean of a spatial map"):
        MapEngine.compile(path, threads=1, precision="f32")


def test_the_compiled_form_is_kept_apart_from_the_plain_one(tmp_path, cache, monkeypatch):
    backbone = load_backbone("tiny", tiny.install(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 256, (2, tiny.SIDE, tiny.SIDE, 3), dtype=np.uint8)
    plain = OpenVinoEngine.compile(backbone.graph, threads=2, precision="f32").embed(pixels)
    features, maps = MapEngine.compile(backbone.graph, threads=2, precision="f32").embed(pixels)
    assert len(list((cache / "compiled").iterdir())) == 2
    from headstart.features import openvino_engine

    monkeypatch.setattr(openvino_engine, "_read", lambda *_: pytest.fail("it was compiled again"))
    again = MapEngine.compile(backbone.graph, threads=2, precision="f32").embed(pixels)
    assert again[1].tolist() == maps.tolist()
    assert maps.shape == (2, tiny.WIDTH, 7, 7)
    np.testing.assert_allclose(features, plain, rtol=1e-5)
