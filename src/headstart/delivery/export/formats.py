"""The formats that can be exported to: their files, what they need, and how closely they must answer."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from headstart.delivery.export import (
    executorch_format,
    int8_format,
    onnx_format,
    openvino_format,
    page_browser,
    page_format,
    torch_format,
)
from headstart.errors import ExportError, UsageError

EXACT = 1e-3
"""How far probabilities of the same pixels may lie apart where no arithmetic was given up: rounding is below 1e-4."""


class Answering(Protocol):
    """An export that was read back from its files, and answers by its own runtime."""

    runtime: str

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """The output [n, k] for a batch of inputs; callable from several threads."""


@runtime_checkable
class Showing(Answering, Protocol):
    """An export that decodes files itself and shows more than probabilities: a page."""

    def of_files(self, paths: Sequence[Path]) -> list[page_browser.Shown | None]:
        """What it shows of each of the files, None of those that it cannot read; callable from several threads."""

    def close(self) -> None:
        """Let go of what it runs in."""


Load = Callable[[Path, dict[str, Any]], Answering]


@dataclass(frozen=True)
class Format:
    """One way to write a classifier down.

    `files` are its files in a folder; where there is but one, PATH may also be a file of that ending. `write` makes
    them, and `load` reads them back. `agreement` is the share of held-out pictures that must get the same class unless
    another is asked for; `exact`: whether the numbers, too, must be the same, but for `rounding`. `packages` must be
    installed, which the `extra` of headstart does; where they cannot be, `obstacle` says why. `calibrated`: whether
    writing needs pictures. `one_by_one`: whether the file takes no batches. `embeds`: whether writing needs the runtime
    and what the page says of its model. `most`: how many pictures it is proved on, if fewer than others.
    """

    name: str
    files: tuple[str, ...]
    write: Callable[..., None]
    load: Load
    agreement: float = 0.99
    exact: bool = True
    rounding: float = EXACT
    packages: tuple[str, ...] = ()
    extra: str = ""
    obstacle: str = ""
    calibrated: bool = False
    one_by_one: bool = False
    embeds: bool = False
    most: int | None = None

    @property
    def ending(self) -> str | None:
        """The ending of its file; None where there are several files."""
        return Path(self.files[0]).suffix if len(self.files) == 1 else None

    def check_installed(self) -> None:
        """Make sure that everything it needs is there.

        Raises:
            ExportError: something is not, and the message says how to get it.
        """
        if self.obstacle:
            raise ExportError(self.obstacle)
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise ExportError(
                f"--to {self.name} needs {' and '.join(missing)}, which is not installed: "
                f"pip install 'headstart[{self.extra}]'"
            )


def _refused(*_: Any) -> Any:
    raise AssertionError("refused by check_installed")


FORMATS = {
    one.name: one
    for one in (
        Format("onnx", (onnx_format.FILE,), onnx_format.write, onnx_format.load),
        Format(
            "openvino", (openvino_format.FILE, openvino_format.WEIGHTS), openvino_format.write, openvino_format.load
        ),
        Format(
            "openvino-int8",
            (int8_format.FILE, int8_format.WEIGHTS),
            int8_format.write,
            int8_format.load,
            agreement=0.98,
            exact=False,
            packages=("nncf",),
            extra="int8",
            calibrated=True,
            one_by_one=True,
        ),
        Format("torch", (torch_format.FILE,), torch_format.write, torch_format.load),
        Format(
            "executorch",
            (executorch_format.FILE,),
            executorch_format.write,
            executorch_format.load,
            packages=("executorch",),
            extra="executorch",
            one_by_one=True,
        ),
        Format(
            "page",
            (page_format.FILE,),
            page_format.write,
            page_browser.load,
            rounding=page_format.ROUNDING,
            packages=("playwright",),
            extra="page",
            embeds=True,
            most=page_format.MOST,
        ),
        Format(
            "litert",
            ("model.tflite",),
            _refused,
            _refused,
            obstacle="--to litert cannot be made here: litert-torch, the package that writes it, demands an older "
            "torch than headstart runs on. Export to onnx, and convert that file where litert-torch is installed.",
        ),
    )
}


def named(name: str) -> Format:
    """The format of this name.

    Raises:
        UsageError: there is none.
    """
    if name not in FORMATS:
        raise UsageError(f"unknown format '{name}'. Known: {', '.join(FORMATS)}.")
    return FORMATS[name]
