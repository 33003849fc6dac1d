"""The backbone's last spatial map beside its features, on the CPU: what a class activation map is made of."""

import math
import queue
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import BackboneError
from headstart.features.openvino_engine import Part, read_graph, requests_for

# What may stand between the pooling and the features: it moves numbers and changes none (a Flatten is a Reshape here,
# and torch's exporter writes some poolings with a Gather behind them).
_MOVING = {"Reshape", "Squeeze", "Unsqueeze", "Identity", "Convert", "Gather"}
_TOLERANCE = 0.02  # of the largest feature, in bf16


@dataclass(frozen=True)
class MapEngine:
    """A backbone on the CPU that gives its features and the spatial map whose mean over all places they are."""

    requests: "queue.SimpleQueue[Any]"

    @staticmethod
    def compile(graph: Path, *, threads: int, precision: str) -> "MapEngine":
        """Compile the ONNX file `graph`; see `OpenVinoEngine.compile`, whose options and cache are used.

        Raises:
            BackboneError: the features are no mean over a map (see `is_pooled`).
        """
        requests = requests_for(graph, threads, precision, _FEATURES_AND_MAP)
        engine, shape = MapEngine(requests), _input_shape(requests)
        features, maps = engine.embed(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
        if np.abs(maps.mean(axis=(2, 3)) - features).max() > _TOLERANCE * np.abs(features).max():
            raise BackboneError(_REFUSAL)
        return engine

    def embed(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features float32 [n, d] and maps float32 [n, d, h, w] of `pixels` uint8 [n, height, width, 3].

        features[i, k] is the mean of maps[i, k], but for rounding. Callable from several threads.
        """
        request = self.requests.get()
        try:
            features, maps = [], []
            for picture in pixels:
                request.infer([picture[None]], share_inputs=True)
                features.append(request.get_output_tensor(0).data[0].copy())
                maps.append(request.get_output_tensor(1).data[0].copy())
            return np.stack(features), np.stack(maps)
        finally:
            self.requests.put(request)


def is_pooled(graph: Path) -> bool:
    """Whether the output `features` of the ONNX file `graph` is the mean of a spatial map over all its places.

    So it is in ResNets, EfficientNets, DenseNets and most other convolutional networks, where nothing but the pooling
    stands between the last activation and the classifier. It is not where a normalisation (ConvNeXt), another layer
    (MobileNetV3, VGG) or a class token (vision transformers) stands between. Told by the graph's structure;
    `MapEngine.compile` proves it by numbers.
    """
    return _pooled_map(read_graph(graph)) is not None


def _with_map(model: Any) -> Any:
    """The part of the graph that gives `features` and the map, channels first."""
    import openvino
    from openvino import opset13

    found = _pooled_map(model)
    if found is None:
        raise BackboneError(_REFUSAL)
    spatial_map, channels_last = found
    if channels_last:
        to_channels_first = opset13.constant(np.array([0, 3, 1, 2], dtype=np.int64))
        spatial_map = opset13.transpose(spatial_map, to_channels_first).output(0)
    return openvino.Model([model.output("features"), spatial_map], model.get_parameters(), "features and map")


_FEATURES_AND_MAP = Part("features and map", _with_map)
_REFUSAL = "this backbone's features are not the mean of a spatial map."


def _input_shape(requests: "queue.SimpleQueue[Any]") -> tuple[int, ...]:
    request = requests.get()
    requests.put(request)
    return tuple(request.get_input_tensor().shape)


def _pooled_map(model: Any) -> tuple[Any, bool] | None:
    """The map that `features` is the mean of, and whether its channels stand last; None where there is none."""
    features = model.output("features")
    width = _sizes(features)[-1]
    node = features.get_node().input_value(0).get_node()
    while node.get_type_name() in _MOVING:
        node = node.input_value(0).get_node()
    if node.get_type_name() not in ("ReduceMean", "AvgPool"):
        return None
    source = node.input_value(0)
    sizes, left = _sizes(source), math.prod(_sizes(node.output(0))[1:])
    if len(sizes) != 4 or left != width or math.prod(sizes[1:]) <= width:
        return None  # what is averaged is no map, or not all of its places are, or there is only one
    if sizes[1] == width:
        return source, False
    return (source, True) if sizes[3] == width else None


def _sizes(output: Any) -> list[int]:
    """The sides of a tensor in the graph, 0 for those that vary, such as the number of pictures."""
    return [0 if side.is_dynamic else side.get_length() for side in output.get_partial_shape()]
