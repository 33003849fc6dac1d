"""OpenVINO: the same graph as its own files (IR), in float32 or with int8 inside; answered by OpenVINO."""

import queue
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.delivery.export import onnx_format
from headstart.delivery.export.source import Source
from headstart.features.openvino_engine import the_core
from headstart.parallel import core_count

FILE, WEIGHTS = "model.xml", "model.bin"


def write(source: Source, folder: Path) -> None:
    """Write `source` into `folder` as model.xml and model.bin, weights in float32, the batch size free."""
    import openvino

    model = the_core().read_model(onnx_format.graph_of(source))
    for name, text in source.metadata().items():
        model.set_rt_info(text, ["headstart", name])
    openvino.save_model(model, folder / FILE, compress_to_fp16=False)


def load(folder: Path, facts: dict[str, Any]) -> "Answering":  # noqa: ARG001 - the file names its one input itself
    """The files in `folder`, ready to answer on the CPU, in the arithmetic that they were exported in.

    "f32" is asked for because OpenVINO would compute in bf16 where the processor has it; int8 inside stays int8.
    """
    return Answering(folder / FILE)


class Answering:
    """A compiled model, one picture a request and one request a core, as headstart's own engine does it."""

    def __init__(self, path: Path) -> None:
        import openvino

        core, threads = the_core(), core_count()
        options = {"NUM_STREAMS": threads, "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(core.read_model(path), "CPU", options)  # as it is: see `int8_format.quantise`
        self.requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(threads):
            self.requests.put(compiled.create_infer_request())
        self.pool = ThreadPoolExecutor(threads)
        self.runtime = f"OpenVINO {openvino.__version__.partition('-')[0]}"
        _, *shape = compiled.input(0).partial_shape
        kind = compiled.input(0).get_element_type().to_dtype()
        self._one(np.zeros([side.get_length() for side in shape], kind))  # the first call: from one thread alone

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """The output [n, k] for a batch of inputs."""
        return np.stack([self._one(batch[0])] if len(batch) == 1 else list(self.pool.map(self._one, batch)))

    def _one(self, picture: NDArray[Any]) -> NDArray[np.float32]:
        request = self.requests.get()
        try:
            request.infer([picture[None]], share_inputs=True)
            return np.array(request.get_output_tensor().data[0])
        finally:
            self.requests.put(request)
