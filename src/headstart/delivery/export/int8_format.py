"""OpenVINO with int8 inside: the float32 files, quantised by NNCF on the user's own training pictures.

NNCF imports torch and makes OpenVINO cores of its own, of which a process must have no more than one (see
`openvino_engine.the_core`). So it works in a process of its own, `python -m headstart.delivery.export.int8_format`.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.delivery.export import openvino_format
from headstart.delivery.export.source import Source, as_input
from headstart.errors import ExportError

FILE, WEIGHTS, load = openvino_format.FILE, openvino_format.WEIGHTS, openvino_format.load
INPUTS, FLOATS = "inputs.npy", "floats"
FACTS, HEAD, BIAS = "headstart", "headstart.head", "headstart.bias"
"""The names of the facts, and of the head's operations and its bias; see `delivery.graph`."""


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
    saturates (without VNNI) answer as the others do (0.011 against 0.021 here). Then the head's bias is moved, see
    `centre`.

    The batch size is one, and fixed: of a model with a free one OpenVINO 2026.4 computes int8 otherwise on the CPU, and
    worse (a probability of 0.556 became 0.751 instead of 0.575), be it asked one picture at a time.
    """
    import nncf
    import openvino
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    inputs = np.load(scratch / INPUTS, mmap_mode="r")
    core = openvino.Core()
    model = _read(core, scratch / FILE)
    facts = {name: model.get_rt_info([FACTS, name]).astype(str) for name in model.get_rt_info([FACTS]).value}
    quantised = nncf.quantize(
        model,
        nncf.Dataset([np.array(one)[None] for one in inputs]),
        subset_size=len(inputs),
        ignored_scope=nncf.IgnoredScope(patterns=[rf"{HEAD}.*"], validate=False),
        advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
    )
    centre(core, _read(core, scratch / FILE), quantised, inputs)
    for name, text in facts.items():
        quantised.set_rt_info(text, [FACTS, name])
    openvino.save_model(quantised, folder / FILE, compress_to_fp16=False)


def centre(core: Any, model: Any, quantised: Any, inputs: NDArray[Any]) -> None:
    """Move the bias of the head of `quantised`, in place, until its logits are on average those of `model`.

    Rounding shifts features by a little everywhere, and the head adds that up. The rest of its error has no sign.
    """
    from openvino import opset13

    shift = _mean_logits(core, model, inputs) - _mean_logits(core, quantised, inputs)
    (bias,) = (one for one in quantised.get_ordered_ops() if one.get_friendly_name() == BIAS)
    moved = opset13.constant(bias.get_data() + shift.astype(np.float32))
    moved.set_friendly_name(BIAS)
    for place in bias.output(0).get_target_inputs():
        place.replace_source_output(moved.output(0))


def _read(core: Any, path: Path) -> Any:
    """The model in `path`, for one picture at a time."""
    model = core.read_model(path)
    _, *shape = model.input(0).partial_shape
    model.reshape([1, *shape])
    return model


def _mean_logits(core: Any, model: Any, inputs: NDArray[Any]) -> NDArray[np.float64]:
    """The logits [k] of `model`, on average over `inputs`."""
    import openvino

    cut = openvino.Model([_logits(model).output(0)], model.get_parameters(), "logits")
    compiled = core.compile_model(cut, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    rows = np.array([compiled(np.array(one)[None])[0][0] for one in inputs], dtype=np.float64)
    return np.asarray(rows.mean(axis=0))


def _logits(model: Any) -> Any:
    """The operation that adds the head's bias to its product; a multiplication by one may stand between them."""
    operations = model.get_ordered_ops()
    (operation,) = (
        one for one in operations if one.get_type_name() == "MatMul" and one.get_friendly_name().startswith(HEAD)
    )
    while operation.get_type_name() != "Add":
        (following,) = operation.output(0).get_target_inputs()
        operation = following.get_node()
    return operation


def main(arguments: Sequence[str]) -> None:
    """The process of its own: quantise from one folder into another; nobody is told of it.

    NNCF and OpenVINO report their use to Google Analytics through a package, and do without where it is not there.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # as if it were not installed
    quantise(Path(arguments[0]), Path(arguments[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
