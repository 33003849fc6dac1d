"""ExecuTorch: the torch program lowered for phones and small devices (.pte, XNNPACK); answered by its own runtime."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.delivery.export import torch_format
from headstart.delivery.export.source import Source
from headstart.errors import ExportError

FILE = "model.pte"


def write(source: Source, folder: Path) -> None:
    """Write `source` into `folder`, for one picture at a time.

    Raises:
        ExportError: the network has an operator that ExecuTorch has not.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from torch._export.verifier import SpecViolationError

    program = torch_format.exported(source, None)
    try:
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    except (SpecViolationError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(f"ExecuTorch cannot take {source.classifier.backbone.name}: {reason}") from error
    (folder / FILE).write_bytes(lowered.buffer)


def load(folder: Path, facts: dict[str, Any]) -> "Answering":  # noqa: ARG001 - the program has one input
    """The file in `folder`, ready to answer by ExecuTorch's runtime."""
    from importlib.metadata import version

    from executorch.runtime import Runtime

    program = Runtime.get().load_program(folder / FILE)
    return Answering(program.load_method("forward"), f"ExecuTorch {version('executorch')}")


class Answering:
    """A loaded method, asked for one picture after the other."""

    def __init__(self, method: Any, runtime: str) -> None:
        self.method, self.runtime, self.turn = method, runtime, threading.Lock()

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """The output [n, k] for a batch of inputs."""
        import torch

        with self.turn:
            return np.concatenate([self.method.execute([torch.tensor(one[None])])[0].numpy() for one in batch])
