"""What `check` writes and says of where its pictures lie."""

import json

import pytest

from headstart.delivery import run_folder
from headstart.judging.assessment import Audit
from headstart.judging.report.writing import Extras
from headstart.pictures.dataset import Dataset

NOTHING = Audit((), ())


def test_the_report_of_a_check_is_named_after_the_pictures(tmp_path):
    dataset = Dataset(tmp_path / "my beetles", ())
    run_folder.write_checked(tmp_path / "found", dataset, NOTHING, None, Extras(tmp_path.joinpath))
    metrics = json.loads((tmp_path / "found" / "metrics.json").read_text("utf-8"))
    assert metrics["data"] == str(tmp_path / "my beetles")
    assert "<title>my beetles " in (tmp_path / "found" / "report.html").read_text("utf-8")
    assert run_folder.checked_json(dataset, NOTHING, None)["data"] == metrics["data"]


@pytest.mark.parametrize("place", ["contents", "contents/inner"])
def test_the_place_that_an_archive_was_unpacked_to_says_nothing(cache, tmp_path, place):
    dataset = Dataset(cache / "archives" / "0a1b" / place, ())
    assert "data" not in run_folder.checked_json(dataset, NOTHING, None)
    run_folder.write_checked(tmp_path / "found", dataset, NOTHING, None, Extras(tmp_path.joinpath))
    assert "<title>found " in (tmp_path / "found" / "report.html").read_text("utf-8")
