"""torch.export: the network with its head as one program (.pt2); answered by torch from the file alone."""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from headstart.delivery.export.source import Source

FILE, FACTS = "model.pt2", "headstart.json"


def write(source: Source, folder: Path) -> None:
    """Write `source` into `folder`; the batch size is free."""
    import torch

    program = exported(source, torch.export.Dim("n", min=1))
    facts = json.dumps(source.facts(), ensure_ascii=False)
    torch.export.save(program, folder / FILE, extra_files={FACTS: facts})


def exported(source: Source, batch: Any) -> Any:
    """`source` as a torch.export program; `batch` is the dimension of the batch size, or None for one picture."""
    import torch

    example = torch.zeros(1 if batch is None else 2, *source.shape, dtype=torch.float32 if source.raw else torch.uint8)
    dynamic = None if batch is None else ({0: batch},)
    with torch.no_grad():
        return torch.export.export(network_of(source), (example,), dynamic_shapes=dynamic)


def network_of(source: Source) -> Any:
    """The whole classifier as a torch module in evaluation mode, made from the model folder's tensors."""
    import torch
    from torch import nn

    from headstart.features import networks

    classifier = source.classifier
    backbone = classifier.backbone
    network = networks.build(networks.facts(backbone.name), backbone.tensors, backbone.preprocess)
    head = nn.Linear(backbone.dimension, len(classifier.classes))
    head.weight.data, head.bias.data = torch.from_numpy(classifier.weight), torch.from_numpy(classifier.bias)
    if source.raw:
        whole = nn.Sequential(cast(nn.Module, network.module.network), head)
    else:
        whole = nn.Sequential(network.module, head, nn.Softmax(dim=1))
    return whole.eval().requires_grad_(False)


def load(folder: Path, facts: dict[str, Any]) -> "Answering":  # noqa: ARG001 - the program has one input
    """The file in `folder`, ready to answer by torch on the CPU."""
    import torch

    return Answering(torch.export.load(folder / FILE).module(), f"torch {torch.__version__.partition('+')[0]}")


class Answering:
    """A loaded program."""

    def __init__(self, program: Any, runtime: str) -> None:
        self.program, self.runtime = program, runtime

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """The output [n, k] for a batch of inputs."""
        import torch

        with torch.inference_mode():
            return np.asarray(self.program(torch.tensor(batch)).numpy())
