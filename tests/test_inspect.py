import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image

from headstart.pictures import inspect as inspect_module
from headstart.pictures.dataset import Dataset, Problem, Sample
from headstart.pictures.decode import TooLarge, Unreadable
from headstart.pictures.inspect import inspect, picture_problem, read
from headstart.pictures.scan import scan
from headstart.progress import Advance, Progress


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256, 7)).save(buffer, "JPEG")
    return buffer.getvalue()


def folder_of(root: Path, contents: dict[str, bytes]) -> Path:
    for path, data in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


class Counting(Progress):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.total = self.done = 0

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        assert name == "pictures"
        self.total = total

        def advance(count: int = 1) -> None:
            self.done += count

        yield advance


@pytest.mark.parametrize("threads", [1, 3])
def test_digests_and_problems(tmp_path: Path, threads: int) -> None:
    contents = {f"cats/{number:03}.jpg": picture(number) for number in range(40)}
    contents |= {
        "dogs/empty.jpg": b"",
        "dogs/cut.jpg": picture(1)[:-30],
        "dogs/page.jpg": b"<html>",
        "dogs/ok.jpg": picture(3),
    }
    scanned = scan(folder_of(tmp_path, contents))
    (tmp_path / "cats" / "007.jpg").unlink()
    progress = Counting()
    dataset = inspect(scanned, progress=progress, threads=threads)
    assert (progress.total, progress.done) == (44, 44)
    assert [sample.path for sample in dataset.samples] == [
        path
        for path in sorted(contents)
        if path not in ("cats/007.jpg", "dogs/empty.jpg", "dogs/cut.jpg", "dogs/page.jpg")
    ]
    assert all(sample.digest == sha256(contents[sample.path]).hexdigest() for sample in dataset.samples)
    assert dataset.problems == (
        Problem("cats/007.jpg", "vanished", "there is no such file, or no longer", "left out"),
        Problem("dogs/cut.jpg", "unreadable", "truncated: the picture's data end early", "left out"),
        Problem("dogs/empty.jpg", "unreadable", "empty file", "left out"),
        Problem("dogs/page.jpg", "unreadable", "not a picture (begins with '<html>')", "left out"),
    )


def test_only_a_window_of_pictures_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned = scan(folder_of(tmp_path, {f"cats/{number}.jpg": picture(number) for number in range(60)}))
    begun = 0
    progress = Counting()
    look_at = inspect_module._look_at

    def watched(work: tuple[Path, Sample]) -> Sample | Problem:
        nonlocal begun
        begun += 1
        assert begun - progress.done <= 2 * inspect_module._AHEAD + 2
        return look_at(work)

    monkeypatch.setattr(inspect_module, "_look_at", watched)
    assert len(inspect(scanned, progress=progress, threads=2).samples) == 60


def test_a_failure_of_ours_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned = scan(folder_of(tmp_path, {f"cats/{number}.jpg": picture(number) for number in range(60)}))
    monkeypatch.setattr(inspect_module, "decode", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        inspect(scanned)


def test_only_regular_files_of_sane_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder_of(tmp_path, {"1.jpg": b"12345"}) / "1.jpg"
    assert read(path) == (b"12345", sha256(b"12345").hexdigest())
    with pytest.raises(Unreadable, match="not a regular file"):
        read(tmp_path)
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(Unreadable, match="not a regular file"):
            read(tmp_path / "pipe")
        with pytest.raises(Unreadable, match="not a regular file"):
            read(Path("/dev/zero"))
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent")
    monkeypatch.setattr(inspect_module, "BYTE_LIMIT", 4)
    with pytest.raises(TooLarge, match="GB, more than"):
        read(path)


def test_problems_say_what_went_wrong() -> None:
    sample = Sample("cats/1.jpg", "cats")
    assert picture_problem(sample, TooLarge("9 x 9")) == Problem("cats/1.jpg", "too_large", "9 x 9", "left out")
    denied = picture_problem(sample, PermissionError(13, "Permission denied"))
    assert denied == Problem("cats/1.jpg", "unreadable", "cannot be read: Permission denied", "left out")
    assert picture_problem(sample, FileNotFoundError()).kind == "vanished"


def test_an_empty_data_set() -> None:
    assert inspect(Dataset(Path("/data"), ())).samples == ()


@pytest.mark.photos
def test_oddities(photos: Path) -> None:
    scanned = scan(photos / "oddities")
    dataset = inspect(scanned)
    found = {problem.path: problem.kind for problem in dataset.problems[len(scanned.problems) :]}
    assert found == {
        "amber/empty.jpg": "unreadable",
        "amber/html_error.jpg": "unreadable",
        "amber/text_named.jpg": "unreadable",
        "amber/truncated_half.jpg": "unreadable",
        "amber/truncated_header.jpg": "unreadable",
        "blue/bomb_50000x50000.png": "too_large",
    }
    assert len(dataset.samples) + len(found) == len(scanned.samples)
