"""Execute the notebooks anew, on their stand-in pictures, and write their outputs into them.

    pip install 'headstart[notebooks]'
    python examples/execute.py                       # all
    python examples/execute.py examples/2-*.ipynb    # some

Each runs in an empty folder that is thrown away afterwards, so that no output names a place on this machine.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
SECONDS_FOR_A_CELL = 600


def executed(notebook: Path, folder: Path, photos: Path | None = None) -> nbformat.NotebookNode:
    """The notebook with the outputs that it has when it is run in `folder`, on `photos` or else on the stand-in.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    shutil.copy(HERE / "classroom.py", folder)
    environment = {key: value for key, value in os.environ.items() if key != "HEADSTART_PHOTOS"}
    # The shell's `headstart` is the one that belongs to this Python.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    if photos is not None:
        environment["HEADSTART_PHOTOS"] = str(photos)
    book = nbformat.read(notebook, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(book, timeout=SECONDS_FOR_A_CELL, kernel_name="python3", resources=resources).execute(
        env=environment
    )
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # when each cell ran
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    return book


def joined(outputs: list) -> list:
    """The outputs, of which those that one stream wrote in pieces are one again."""
    whole = []
    for one in outputs:
        if whole and one.output_type == "stream" == whole[-1].output_type and one.name == whole[-1].name:
            whole[-1].text += one.text
        else:
            whole.append(one)
    return whole


def main(notebooks: list[Path]) -> None:
    for notebook in notebooks or sorted(HERE.glob("*.ipynb")):
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(executed(notebook, Path(folder)), notebook)
        print(f"{notebook.name}: {time.monotonic() - started:.0f} s, {notebook.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
