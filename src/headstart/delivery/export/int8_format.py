"""OpenVINO with int8 inside: the float32 files, quantised by NNCF on the user's own training pictures.

NNCF imports torch and makes OpenVINO cores of its own, of which a process must have no more than one (see
`openvino_engine.the_core`). So it works in a process of its own, `python -m headstart.delivery.export.int8_format`.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.delivery.export import openvino_format
from headstart.delivery.export.source import Source, as_input
from headstart.errors import ExportError

FILE, WEIGHTS, load = openvino_format.FILE, openvino_format.WEIGHTS, openvino_format.load
INPUTS, FLOATS = "inputs.npy", "floats"


def write(source: Source, folder: Path, calibration: NDArray[np.uint8]) -> None:
    """Write `source` into `folder`, quantised to the ranges that the `calibration` uint8 [n, h, w, 3] shows.

    Raises:
        ExportError: NNCF could not do it.
    """
    scratch = folder / FLOATS
    scratch.mkdir()
    openvino_format.write(source, scratch)
    np.save(scratch / INPUTS, as_input(calibration, source.facts()))
    command = [sys.executable, "-m", __name__, str(scratch), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not (folder / FILE).is_file():
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ExportError(f"NNCF could not quantise the network: {last}")
    for path in scratch.iterdir():
        path.unlink()
    scratch.rmdir()


def quantise(scratch: Path, folder: Path) -> None:
    """Quantise the files in `scratch` on the inputs that lie beside them, and write the result into `folder`.

    The head stays in float32: it costs nothing, and what calibration gave it is kept (measured: mean change of the
    probabilities 0.009 against 0.011). Weights use half their range, so that processors whose int8 arithmetic
    saturates (without VNNI) answer as the others do (0.011 against 0.021 here).

    The batch size is one, and fixed: of a model with a free one OpenVINO 2026.4 computes int8 otherwise on the CPU, and
    worse (a probability of 0.556 became 0.751 instead of 0.575), be it asked one picture at a time.
    """
    import nncf
    import openvino
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    inputs = np.load(scratch / INPUTS, mmap_mode="r")
    model = openvino.Core().read_model(scratch / FILE)
    facts = {
        name: model.get_rt_info(["headstart", name]).astype(str) for name in model.get_rt_info(["headstart"]).value
    }
    quantised = nncf.quantize(
        model,
        nncf.Dataset([np.array(one)[None] for one in inputs]),
        subset_size=len(inputs),
        ignored_scope=nncf.IgnoredScope(patterns=[r"headstart\.head.*"], validate=False),
        advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
    )
    for name, text in facts.items():
        quantised.set_rt_info(text, ["headstart", name])
    _, *shape = quantised.input(0).partial_shape
    quantised.reshape([1, *shape])
    openvino.save_model(quantised, folder / FILE, compress_to_fp16=False)


def main(arguments: Sequence[str]) -> None:
    """The process of its own: quantise from one folder into another."""
    quantise(Path(arguments[0]), Path(arguments[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
