"""The OpenVINO engine: an ONNX graph compiled for this machine's CPU, the compiled form kept in the cache."""

import functools
import hashlib
import queue
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from headstart.errors import StorageError, UsageError
from headstart.parallel import machine_cores
from headstart.storage import cache_folder, written_atomically

# Importing openvino tells its makers so over the network, through this package; where it is missing, nobody is told.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

Precision = Literal["auto", "f32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


class Part(NamedTuple):
    """The part of a graph that is compiled: its name in the cache, and what takes it out of an OpenVINO model."""

    name: str
    take: Callable[[Any], Any]


@dataclass(frozen=True)
class OpenVinoEngine:
    """An ONNX graph on the CPU: one picture a call, one stream a core, which is both the fastest and exact.

    Batches gain nothing here (measured: 110 pictures a second alone, 97 in batches of 16), and a
    picture's features cannot depend on its neighbours.
    """

    requests: "queue.SimpleQueue[Any]"

    @staticmethod
    def compile(graph: Path, *, threads: int, precision: str) -> "OpenVinoEngine":
        """Compile the output `features` of the ONNX file `graph`, with `threads` streams of one thread each.

        The compiled model is kept in the cache, under the digest of the graph and everything else that it
        depends on; a damaged or foreign one is compiled again. `precision` is "f32" or "bf16".
        """
        return OpenVinoEngine(requests_for(graph, threads, precision, FEATURES))

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Engine.embed`."""
        request = self.requests.get()
        try:
            rows = []
            for picture in pixels:
                request.infer([picture[None]], share_inputs=True)
                rows.append(request.get_output_tensor().data[0].copy())
            return np.stack(rows)
        finally:
            self.requests.put(request)


def requests_for(graph: Path, threads: int, precision: str, part: Part) -> "queue.SimpleQueue[Any]":
    """As many requests as `threads`, ready to infer `part` of the ONNX file `graph`; see `OpenVinoEngine.compile`."""
    compiled = _compiled(the_core(), graph, threads, precision, part)
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(threads):
        requests.put(compiled.create_infer_request())
    # The first call ever must come from one thread alone: OpenVINO's Python binding initialises itself in it, under
    # a C++ guard and Python's lock, and two threads that take these in opposite order wait for each other forever.
    first = requests.get()
    first.infer([np.zeros(tuple(compiled.input(0).shape), dtype=np.uint8)])
    requests.put(first)
    return requests


def read_graph(graph: Path) -> Any:
    """The ONNX file `graph` as an OpenVINO model, not compiled.

    Raises:
        StorageError: the file is damaged.
    """
    return _read(the_core(), graph, graph.read_bytes())


def cpu_precision(precision: Precision) -> str:
    """What `precision` stands for on this processor: "auto" is bf16 where it has the arithmetic.

    Raises:
        UsageError: bf16 is asked of a processor that does not have it.
    """
    has_bf16 = "BF16" in the_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "auto":
        return "bf16" if has_bf16 else "f32"
    if precision == "bf16" and not has_bf16:
        raise UsageError("this processor has no bf16 arithmetic; use --precision auto or f32.")
    return precision


@functools.cache
def the_core() -> Any:
    """The one OpenVINO core of this process, never given back.

    Each core gives the calling thread an alternate signal stack and puts the former one back when it goes. Two cores
    that do not go in reverse order leave a stack that is no longer mapped, and the next signal (Ctrl-C, a child that
    ends) is a segmentation fault: seen with OpenVINO 2026.4, whose stack it was, after two engines in one process.
    """
    import openvino  # 0.2 to 0.6 s

    return openvino.Core()


def _compiled(core: Any, graph: Path, threads: int, precision: str, part: Part) -> Any:
    content = graph.read_bytes()
    options = {
        "NUM_STREAMS": threads,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
    }
    if threads < machine_cores():  # else each of several processes would tie its threads to the first cores
        options["ENABLE_CPU_PINNING"] = False
    kept = _compiled_path(core, content + part.name.encode(), options)
    if kept.is_file():
        blob = kept.read_bytes()
        if blob[:32] == hashlib.sha256(blob[32:]).digest():
            return core.import_model(blob[32:], "CPU", options)
    model = part.take(_read(core, graph, content))
    height, width = model.input(0).partial_shape[1], model.input(0).partial_shape[2]
    model.reshape([1, height, width, 3])
    compiled = core.compile_model(model, "CPU", options)
    blob = compiled.export_model().getvalue()
    with written_atomically(kept) as temporary:
        temporary.write_bytes(hashlib.sha256(blob).digest() + blob)
    return compiled


def _read(core: Any, graph: Path, content: bytes) -> Any:
    try:
        return core.read_model(content)
    except RuntimeError as error:
        raise StorageError(f"{graph} is damaged. Delete its folder: the backbone is converted again.") from error


def _only_features(model: Any) -> Any:
    """The part of the graph that gives `features`: an artefact's graph goes on to probabilities."""
    import openvino

    return openvino.Model([model.output("features")], model.get_parameters(), "features")


FEATURES = Part("", _only_features)


def _compiled_path(core: Any, content: bytes, options: dict[str, Any]) -> Path:
    import openvino

    machine = (
        core.get_property("CPU", "FULL_DEVICE_NAME"),
        core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
    )
    facts = repr((openvino.__version__, machine, sorted(options.items()))).encode()
    return cache_folder() / "compiled" / f"{hashlib.sha256(content + facts).hexdigest()[:32]}.blob"
