"""Tar and Parquet shards, here and in a bucket, against the folder that they were made of."""

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from headstart.delivery.answers import expand
from headstart.delivery.run_folder import TrainOptions
from headstart.errors import DataError
from headstart.pictures import kept, shards
from headstart.pictures.inspect import inspect, read
from headstart.pictures.scan import scan
from headstart.pictures.shard_sets import expand_braces
from headstart.workflow import train

from . import tiny
from .stores import BUCKET, Faults, files_in, hub_parquet, tar_of, upload, web_server, webdataset


def contents(dataset) -> Counter:
    return Counter((sample.digest, sample.label) for sample in dataset.samples)


@pytest.fixture
def tars(photos_here: Path, tmp_path: Path) -> Path:
    """A folder of two WebDataset shards that hold the pictures."""
    folder = tmp_path / "tars"
    folder.mkdir()
    for number in range(2):
        (folder / f"photos-{number:03}.tar").write_bytes(webdataset(photos_here, number, 2))
    return folder


@pytest.fixture
def tables(photos_here: Path, tmp_path: Path) -> Path:
    """A folder of two Parquet files, as on the Hugging Face Hub, that hold the pictures."""
    for number in range(2):
        hub_parquet(tmp_path / "tables" / "data" / f"photos-{number}-of-2.parquet", photos_here, start=number, step=2)
    return tmp_path / "tables"


@pytest.mark.parametrize("kind", ["tars", "tables"])
def test_a_folder_of_shards_is_the_folder_of_pictures(kind: str, photos_here: Path, request):
    folder = request.getfixturevalue(kind)
    found = inspect(scan(folder))
    assert contents(found) == contents(inspect(scan(photos_here)))
    assert found.problems == ()
    assert all(read(found.locate(sample))[1] == sample.digest for sample in reversed(found.samples))
    assert {sample.given for sample in found.samples} == {None}


@pytest.mark.parametrize("kind", ["tars", "tables"])
def test_the_same_run_from_shards_in_a_bucket(kind, s3, faults, photos_here, tmp_path, request):
    upload(s3, files_in(request.getfixturevalue(kind), f"{kind}/"))
    faults.asked.clear()
    options = TrainOptions(backbone="tiny", weights=tiny.install(tmp_path), device="cpu")
    there = train(f"s3://{BUCKET}/{kind}/", tmp_path / "there", options)
    here = train(photos_here, tmp_path / "here", options)
    assert contents(there.examples.dataset) == contents(here.examples.dataset)
    assert there.examples.features.digests == here.examples.features.digests
    assert np.array_equal(there.examples.features.vectors, here.examples.features.vectors)
    part = [
        dict(zip((s.digest for s in run.examples.dataset.samples), run.examples.split.parts.tolist(), strict=True))
        for run in (there, here)
    ]
    assert part[0] == part[1]
    assert there.evaluation.accuracy == here.evaluation.accuracy
    faults.asked.clear()
    train(tmp_path / "there", tmp_path / "again", options)
    assert faults.reads(".tar") == 0


@pytest.mark.parametrize("fault", ["error", "cut", "short", "reset"])
@pytest.mark.parametrize("kind", ["tars", "tables"])
def test_shards_from_a_failing_server(kind, fault, s3, faults, photos_here, request, monkeypatch):
    monkeypatch.setattr("headstart.pictures.remote.BLOCK", 9_000)  # several requests for each shard
    upload(s3, files_in(request.getfixturevalue(kind), f"{kind}/"))
    faults.asked.clear()
    for ending in ("photos-000.tar", "photos-1-of-2.parquet"):
        faults.plan[ending] = ["", fault, "", fault]
    assert contents(inspect(scan(Path(f"s3://{BUCKET}/{kind}/")))) == contents(inspect(scan(photos_here)))
    assert not any(faults.plan[ending] for ending in faults.plan if faults.reads(ending))


def test_a_scan_that_was_interrupted_keeps_the_shards_that_it_finished(s3, faults, tars, monkeypatch):
    monkeypatch.setattr("headstart.pictures.shard_sets.AT_ONCE", 1)
    upload(s3, files_in(tars, "tars/"))
    faults.asked.clear()
    faults.plan["photos-001.tar"] = ["error"] * 5
    with pytest.raises(DataError, match=r"s3://pictures/tars/photos-001\.tar cannot be read: no answer"):
        scan(Path(f"s3://{BUCKET}/tars/"))
    first = faults.reads("photos-000.tar")
    monkeypatch.setattr(kept, "SESSION", "another process")
    assert len(scan(Path(f"s3://{BUCKET}/tars/")).samples) == 16
    assert faults.reads("photos-000.tar") == first > 0


def test_pictures_that_went_to_make_room_are_read_again_by_themselves(s3, faults, tars, cache: Path):
    upload(s3, files_in(tars, "tars/"))
    found = inspect(scan(Path(f"s3://{BUCKET}/tars/")))
    for path in (cache / "remote" / "bytes").rglob("*"):
        if path.is_file():
            path.unlink()
    faults.asked.clear()
    for sample in found.samples[::5]:
        assert read(found.locate(sample))[1] == sample.digest
    assert faults.reads(".tar") == len(found.samples[::5])


def test_a_shard_that_changed_is_listed_anew(tars: Path, photos_here: Path):
    before = scan(tars)
    (tars / "photos-001.tar").write_bytes(webdataset(photos_here, 1, 4))
    after = inspect(scan(tars))
    assert len(before.samples) == 16
    assert len(after.samples) == 12
    gone = next(sample for sample in before.samples if sample.path not in {one.path for one in after.samples})
    with pytest.raises(FileNotFoundError):
        read(before.locate(gone))


def test_row_groups_are_read_once(tables: Path, monkeypatch):
    groups = []
    old = shards.embedded.pictures
    monkeypatch.setattr(
        shards.embedded, "pictures", lambda table, layout, group: groups.append(group) or old(table, layout, group)
    )
    inspect(scan(tables), threads=4)
    assert sorted(groups) == [0, 0, 1, 1]  # two files of two groups


def test_patterns_lists_and_parts(tars: Path, tmp_path: Path):
    everything = contents(inspect(scan(tars)))
    assert contents(inspect(scan(tars / "photos-{000..001}.tar"))) == everything
    assert contents(inspect(scan(tars / "*.tar"))) == everything
    (tmp_path / "list.txt").write_text("# shards\ntars/photos-000.tar\n\n" + str(tars / "photos-001.tar") + "\n")
    assert contents(inspect(scan(tmp_path / "list.txt"))) == everything
    assert len(scan(tars / "photos-000.tar").samples) == 8
    (tars / "photos-000.tar").rename(tars / "train-000.tar")
    (tars / "photos-001.tar").rename(tars / "Test-000.tar")
    assert Counter(sample.given for sample in scan(tars).samples) == {"train": 8, "test": 8}
    with pytest.raises(DataError, match="nothing matches"):
        scan(tars / "absent-*.tar")
    with pytest.raises(DataError, match=r"there is no .*absent-0\.tar"):
        scan(tars / "absent-{0..3}.tar")
    (tmp_path / "list.txt").write_text("cats.jpg\n")
    with pytest.raises(DataError, match=r"no list of shards .*'cats\.jpg'"):
        scan(tmp_path / "list.txt")
    assert expand_braces("a{x,y}b{1..2}") == ["axb1", "axb2", "ayb1", "ayb2"]


def test_labels_beside_pictures_and_folders(photos_here: Path, tmp_path: Path):
    one, two, three, four = [data for _, data in files_in(photos_here)][:4]
    members = [
        ("a/1.left.png", one),
        ("a/1.right.png", two),
        ("a/1.json", json.dumps({"label": "cat", "split": "val", "more": [1]}).encode()),
        ("dogs/2.png", three),
        ("3.png", four),
        ("4.png", b"no picture"),
        ("4.cls", b"7\n"),
        ("5.cls", b"\xff"),
        ("6.txt", b"a caption"),
        ("dogs/2.png", four),
        ("../7.png", one),
        ("._8.png", one),
    ]
    (tmp_path / "wild").mkdir()
    (tmp_path / "wild" / "w.tar").write_bytes(tar_of(members))
    found = scan(tmp_path / "wild")
    assert [(one.path, one.label, one.given, one.group) for one in found.samples] == [
        ("w.tar/4.png", "7", "train", None),
        ("w.tar/a/1.left.png", "cat", "test", "w.tar/a/1"),
        ("w.tar/a/1.right.png", "cat", "test", "w.tar/a/1"),
        ("w.tar/dogs/2.png", "dogs", "train", None),
    ]
    assert {(one.path, one.kind) for one in found.problems} == {
        ("w.tar/3.png", "ignored"),
        ("w.tar/5.cls", "unreadable"),
        ("w.tar", "ignored"),
        ("w.tar/dogs/2.png", "ignored"),
        ("w.tar/../7.png", "ignored"),
        ("w.tar/._8.png", "ignored"),
    }
    assert [one.path for one in inspect(found).problems if one.kind == "unreadable"] == ["w.tar/5.cls", "w.tar/4.png"]


def test_class_folders_in_remote_tars_and_parts_in_them(s3, photos_here: Path):
    files = list(files_in(photos_here))
    upload(s3, [("a.tar", tar_of((f"set/train/{name}", data) for name, data in files[::2]))])
    upload(s3, [("b.tar", tar_of((f"set/val/{name}", data) for name, data in files[1::2]))])
    found = inspect(scan(Path(f"s3://{BUCKET}/{{a,b}}.tar")))
    assert contents(found) == contents(inspect(scan(photos_here)))
    assert Counter(sample.given for sample in found.samples) == {"train": 8, "test": 8}


def test_damaged_shards(tars: Path, tmp_path: Path):
    whole = (tars / "photos-000.tar").read_bytes()
    (tars / "photos-000.tar").write_bytes(whole[: len(whole) // 2])
    found = inspect(scan(tars))
    assert 8 < len(found.samples) < 16
    assert [one.path for one in found.problems if "damaged after" in one.detail] == ["tars/photos-000.tar"[5:]]
    (tars / "photos-000.tar").write_bytes(b"\x1f\x8b" + whole)
    with pytest.raises(DataError, match=r"photos-000\.tar is no tar file, or a compressed one"):
        scan(tars)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        scan(tmp_path / "bad.parquet")


def test_parquet_labels(photos_here: Path, tmp_path: Path):
    import pyarrow
    import pyarrow.parquet

    data = [data for _, data in files_in(photos_here)][:4]
    columns = {"image": data, "label": ["x", "y", None, "x"], "site": ["p", "q", "p", "p"]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "one.parquet")
    found = scan(tmp_path / "one.parquet", group_by="site")
    assert [(one.path, one.label, one.group) for one in found.samples] == [
        ("one.parquet/000000000", "x", "p"),
        ("one.parquet/000000001", "y", "q"),
        ("one.parquet/000000003", "x", "p"),
    ]
    assert [one.detail for one in found.problems] == ["no label (row 3)"]
    assert [read(found.locate(one))[0] for one in found.samples] == [data[0], data[1], data[3]]
    pyarrow.parquet.write_table(pyarrow.table({"image": data, "name": ["x"] * 4}), tmp_path / "two.parquet")
    with pytest.raises(DataError, match=r"no column of labels \(name\). Name the one that is meant 'label'"):
        scan(tmp_path / "two.parquet")


def test_a_row_without_a_picture_is_a_problem(tmp_path: Path, photos_here: Path):
    import pyarrow
    import pyarrow.parquet

    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    rows = [
        {"bytes": (photos_here / "amber" / "00.png").read_bytes(), "path": None},
        {"bytes": None, "path": "../x.png"},
    ]
    table = pyarrow.table({"image": pyarrow.array(rows, kind), "label": ["x", "y"]})
    pyarrow.parquet.write_table(table, tmp_path / "one.parquet")
    found = inspect(scan(tmp_path / "one.parquet"))
    assert [one.path for one in found.samples] == ["one.parquet/000000000"]
    assert [(one.path, one.kind) for one in found.problems] == [("one.parquet/000000001-x.png", "unreadable")]


def test_predict_takes_urls_and_shards(tars: Path, tables: Path, s3, photos_here: Path):
    upload(s3, files_in(photos_here, "photos/"))
    upload(s3, files_in(tars, "tars/"))
    count = {
        place: len(list(expand([place], io.StringIO())))
        for place in (
            str(tars / "photos-000.tar"),
            str(tables / "data" / "*.parquet"),
            f"s3://{BUCKET}/photos/",
            f"s3://{BUCKET}/tars",
            f"s3://{BUCKET}/photos/amber/00.png",
        )
    }
    assert list(count.values()) == [8, 16, 16, 16, 1]
    for path in expand([f"s3://{BUCKET}/photos/", str(tars / "photos-000.tar")], io.StringIO()):
        assert len(read(Path(path))[0]) > 100


def test_a_web_server_that_gives_no_parts_of_files(tars: Path, faults: Faults, monkeypatch):
    monkeypatch.setattr("headstart.pictures.remote.BLOCK", 9_000)
    with web_server(tars, faults) as address:
        assert len(scan(Path(f"{address}/photos-000.tar")).samples) == 8
    with web_server(tars, faults, ranges=False) as address, pytest.raises(DataError, match="gives no parts of files"):
        scan(Path(f"{address}/photos-{{000..001}}.tar"))
