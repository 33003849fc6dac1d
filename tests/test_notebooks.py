"""The notebooks run from the top on their stand-in pictures, and what is saved in them names no machine."""

import re
import runpy
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="headstart[notebooks] is not installed")
pytest.importorskip("nbclient", reason="headstart[notebooks] is not installed")
pytest.importorskip("ipykernel", reason="headstart[notebooks] is not installed")

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
LARGEST = 600_000  # bytes of a notebook with its pictures

# Absolute paths, of this machine or of any: a slash that begins a word and is followed by a folder that machines have.
PLACES = re.compile(r"(?<![\w.])/(?:work|tmp|home|root|Users|mnt|opt|usr|var|private)/|[A-Z]:\\\\")
named = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def outputs(book):
    """Every output of the notebook as text, without the bytes of pictures."""
    for cell in book.cells:
        for one in cell.get("outputs", []):
            yield one.get("text", "")
            yield from (str(value) for kind, value in one.get("data", {}).items() if not kind.startswith("image/"))
            assert one["output_type"] != "error", one
            assert one.get("name") != "stderr", one["text"]


def test_there_is_one_for_each_project():
    assert [path.name[0] for path in NOTEBOOKS] == ["1", "2", "3", "4", "5"]


@named
def test_what_is_saved_is_whole_and_names_no_place(notebook):
    book = nbformat.read(notebook, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run examples/execute.py"
    said = "\n".join(outputs(book))
    assert len(said) > 500
    assert not PLACES.findall(said)
    assert any("image/png" in one.get("data", {}) for cell in code for one in cell.outputs)
    assert "digits" in book.cells[0].source  # never photographs
    assert notebook.stat().st_size < LARGEST


@pytest.mark.slow
@named
def test_it_runs_from_the_top(notebook, warm_cache, tmp_path):  # noqa: ARG001 - the cache is in the environment
    execute = runpy.run_path(str(EXAMPLES / "execute.py"))
    folder = tmp_path / "empty"
    folder.mkdir()
    again = execute["executed"](notebook, folder)
    said = "\n".join(outputs(again))
    assert not PLACES.findall(said)
    assert str(tmp_path) not in said
