"""Pictures on servers that fail: what comes back, what is tried again, what is a problem, what ends the work."""

import multiprocessing
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstart.delivery.run_folder import TrainOptions
from headstart.errors import DataError, UsageError
from headstart.features.backbones import load_backbone
from headstart.features.engines import plan_engine
from headstart.features.extract import extract
from headstart.pictures import elsewhere, kept, remote
from headstart.pictures.addresses import as_path, member_of, url_of
from headstart.pictures.dataset import Dataset, Sample
from headstart.pictures.inspect import inspect, read
from headstart.pictures.scan import scan
from headstart.workflow import train

from . import tiny
from .stores import BUCKET, Faults, files_in, upload, web_server


def engine(tmp_path: Path):
    backbone = load_backbone("tiny", tiny.install(tmp_path))
    return backbone, plan_engine("cpu", "f32")


def test_a_bucket_is_scanned_as_a_folder(photos_there: Path, photos_here: Path):
    there, here = inspect(scan(photos_there)), inspect(scan(photos_here))
    assert there.samples == here.samples
    assert there.problems == here.problems == ()


def test_the_same_run_from_a_bucket_as_from_a_folder(photos_there: Path, photos_here: Path, tmp_path: Path, faults):
    options = TrainOptions(backbone="tiny", weights=tiny.install(tmp_path), device="cpu")
    there = train(photos_there, tmp_path / "there", options)
    asked = Counter(faults.asked)
    here = train(photos_here, tmp_path / "here", options)
    assert (tmp_path / "there" / "split.csv").read_bytes() == (tmp_path / "here" / "split.csv").read_bytes()
    assert np.array_equal(there.examples.features.vectors, here.examples.features.vectors)
    assert there.evaluation.to_json() == here.evaluation.to_json()
    assert there.examples.dataset.samples == here.examples.dataset.samples
    assert sum(asked.values()) == 16  # each read once, and none asked for besides
    assert max(asked.values()) == 1


def test_what_was_read_is_not_read_again(photos_there: Path, tmp_path: Path, faults: Faults, monkeypatch):
    backbone, plan = engine(tmp_path)
    scanned = scan(photos_there)
    half = replace(scanned, samples=scanned.samples[:8])
    extract(half, backbone, plan)
    assert faults.reads(".png") == 8
    monkeypatch.setattr(kept, "SESSION", "another process")
    whole, features = extract(scan(photos_there), backbone, plan)
    assert len(whole.samples) == 16
    assert features.embedded == 8
    assert faults.reads(".png") == 16
    faults.asked.clear()
    monkeypatch.setattr(kept, "SESSION", "a third one")
    again, _ = extract(scan(photos_there), backbone, plan)
    assert again.samples == whole.samples
    assert faults.reads(".png") == 0


def test_a_changed_picture_is_read_again(photos_there: Path, s3: str, photos_here: Path, faults: Faults, monkeypatch):
    before = inspect(scan(photos_there))
    tiny.draw(photos_here / "amber" / "00.png", (1, 2, 3), 77)
    upload(s3, files_in(photos_here, "photos/"))
    monkeypatch.setattr(kept, "SESSION", "another process")
    faults.asked.clear()
    after = inspect(scan(photos_there))
    assert after.samples == inspect(scan(photos_here)).samples
    assert after.samples != before.samples
    assert faults.reads(".png") == 1


@pytest.mark.parametrize("fault", ["error", "busy", "reset", "cut", "short", "garbled"])
def test_passing_failures_are_tried_again(photos_there: Path, photos_here: Path, faults: Faults, fault: str):
    for name in ("amber/03.png", "blue/05.png"):
        faults.plan[name] = [fault] * (remote.TRIES - 1)
    there = inspect(scan(photos_there))
    assert there.samples == inspect(scan(photos_here)).samples
    assert there.problems == ()
    assert faults.reads("blue/05.png") == remote.TRIES
    assert faults.reads("blue/06.png") == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [("cut", "no answer from s3://pictures"), ("short", "truncated on the way"), ("error", "5 tries")],
)
def test_a_lasting_failure_is_a_problem_and_the_work_goes_on(
    photos_there: Path, faults: Faults, fault: str, words: str
):
    faults.plan["amber/03.png"] = [fault] * 99
    there = inspect(scan(photos_there))
    assert len(there.samples) == 15
    assert [(one.path, one.kind) for one in there.problems] == [("amber/03.png", "unreadable")]
    assert words in there.problems[0].detail
    assert faults.reads("amber/03.png") == remote.TRIES
    faults.plan.clear()
    assert len(inspect(scan(photos_there)).samples) == 16


def test_a_slow_answer_is_not_waited_for_for_ever(photos_there: Path, faults: Faults, monkeypatch):
    monkeypatch.setattr(remote, "STALL_SECONDS", 0.5)
    faults.plan["amber/03.png"] = ["slow"]
    started = time.monotonic()
    assert len(inspect(scan(photos_there)).samples) == 16
    assert time.monotonic() - started < faults.slow_seconds
    assert faults.reads("amber/03.png") == 2


@pytest.mark.usefixtures("photos_there")
def test_an_object_that_is_gone_is_named(tmp_path: Path):
    lines = "".join(f"s3://{BUCKET}/photos/amber/{number:02}.png,amber\n" for number in range(6, 10))
    (tmp_path / "list.csv").write_text("path,label\n" + lines + "photos/blue/01.png,blue\n")
    found = inspect(scan(tmp_path / "list.csv"))
    assert [sample.path for sample in found.samples] == [
        "photos/blue/01.png",
        "s3://pictures/photos/amber/06.png",
        "s3://pictures/photos/amber/07.png",
    ]
    assert [(one.path, one.kind) for one in found.problems] == [
        ("s3://pictures/photos/amber/08.png", "vanished"),
        ("s3://pictures/photos/amber/09.png", "vanished"),
    ]


@pytest.mark.usefixtures("photos_there")
def test_a_manifest_in_the_bucket(s3: str, photos_here: Path):
    rows = "".join(f"{name},{name.partition('/')[0]}\n" for name, _ in files_in(photos_here))
    upload(s3, [("photos/list.csv", f"path,label\n{rows}".encode())])
    found = inspect(scan(Path(f"s3://{BUCKET}/photos/list.csv")))
    assert found.samples == inspect(scan(photos_here)).samples
    upload(s3, [("photos/list.csv", b"path,label\namber/00.png,new\n")])
    assert scan(Path(f"s3://{BUCKET}/photos/list.csv")).classes == ("new",)


def test_missing_credentials_are_one_error(photos_there: Path, monkeypatch, tmp_path: Path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    remote._files.cache_clear()
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"no credentials for s3://pictures .*FSSPEC_S3_ANON"):
        scan(photos_there)
    (tmp_path / "list.csv").write_text(f"path,label\ns3://{BUCKET}/photos/amber/00.png,amber\n")
    with pytest.raises(DataError, match="no credentials"):
        inspect(scan(tmp_path / "list.csv"))
    remote._files.cache_clear()


@pytest.mark.usefixtures("s3")
def test_a_refusal_of_everything_ends_the_work_early(tmp_path: Path, faults: Faults):
    backbone, plan = engine(tmp_path)
    samples = tuple(Sample(f"s3://{BUCKET}/{number:04}.png", "one") for number in range(1000))
    faults.always = "denied"
    with pytest.raises(DataError, match=r"16 pictures in a row cannot be read.*refuses access"):
        extract(Dataset(tmp_path, samples), backbone, plan)
    assert sum(faults.asked.values()) < 300


def test_an_outage_in_the_middle_ends_the_work_and_keeps_what_was_read(photos_there, tmp_path, faults, monkeypatch):
    backbone, plan = engine(tmp_path)
    scanned = scan(photos_there)
    monkeypatch.setattr(elsewhere, "ENOUGH", 4)
    monkeypatch.setattr("headstart.features.extract.READERS", 1)
    for sample in scanned.samples[8:]:
        faults.plan[sample.path] = ["error"] * 99
    with pytest.raises(DataError, match="4 pictures in a row"):
        extract(scanned, backbone, plan)
    faults.plan.clear()
    faults.asked.clear()
    whole, _ = extract(scan(photos_there), backbone, plan)
    assert len(whole.samples) == 16
    assert faults.reads(".png") == 8


@pytest.mark.usefixtures("s3")
def test_nothing_there():
    with pytest.raises(DataError, match="there is nothing at s3://pictures/absent"):
        scan(Path(f"s3://{BUCKET}/absent/"))
    with pytest.raises(DataError, match=r"there is no s3://pictures/absent\.csv"):
        scan(Path(f"s3://{BUCKET}/absent.csv"))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    remote._files.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    with pytest.raises(UsageError, match=r"gs:// needs one more package: pip install headstart\[gs\]"):
        scan(Path("gs://bucket/photos"))


def test_other_objects_are_passed_over_by_name(s3: str, photos_there: Path):
    upload(
        s3,
        [
            ("photos/amber/notes.txt", b"x"),
            ("photos/.hidden/1.png", b"x"),
            ("photos/amber/a//b.png", b"x"),
            ("photos/amber/plain", b"no picture"),
        ],
    )
    found = inspect(scan(photos_there))
    assert len(found.samples) == 16
    assert {one.path: one.kind for one in found.problems} == {
        "amber/notes.txt": "ignored",
        ".hidden/": "ignored",
        "amber/a/": "empty_class",
        "amber/a//": "ignored",
        "amber/plain": "unreadable",
    }


def test_bytes_are_kept_within_their_bound(photos_there: Path, cache: Path, monkeypatch):
    monkeypatch.setattr(kept, "KEPT_BYTES", 20_000)
    monkeypatch.setattr(kept, "BYTES_BETWEEN_PRUNINGS", 5_000)
    found = inspect(scan(photos_there))
    held = sum(path.stat().st_size for path in (cache / "remote" / "bytes").rglob("*") if path.is_file())
    assert 0 < held <= 25_000
    for sample in found.samples:
        assert read(found.locate(sample))[1] == sample.digest


def test_a_damaged_copy_is_read_again(photos_there: Path, cache: Path, faults: Faults):
    found = inspect(scan(photos_there))
    for path in (cache / "remote" / "bytes").rglob("*"):
        if path.is_file():
            path.write_bytes(b"bad")
    faults.asked.clear()
    assert read(found.locate(found.samples[0]))[1] == found.samples[0].digest
    assert faults.reads(".png") == 1


@pytest.mark.parametrize("fault", ["error", "reset", "cut", "short"])
@pytest.mark.usefixtures("haste")
def test_a_web_server(photos_here: Path, tmp_path: Path, faults: Faults, fault: str):
    with web_server(photos_here, faults) as address:
        names = [name for name, _ in files_in(photos_here)]
        rows = "".join(f"{address}/{name},{name.partition('/')[0]}\n" for name in [*names, "amber/gone.png"])
        (tmp_path / "list.csv").write_text("path,label\n" + rows)
        faults.plan["blue/05.png"] = [fault] * 2
        found = inspect(scan(tmp_path / "list.csv"))
    assert Counter(sample.digest for sample in found.samples) == Counter(
        sample.digest for sample in inspect(scan(photos_here)).samples
    )
    assert [(one.path, one.kind) for one in found.problems] == [(f"{address}/amber/gone.png", "vanished")]


def test_a_folder_of_a_web_server(photos_here: Path, faults: Faults):
    with web_server(photos_here.parent, faults) as address:
        assert inspect(scan(Path(f"{address}/photos/"))).samples == inspect(scan(photos_here)).samples


@pytest.mark.usefixtures("haste")
def test_a_web_server_in_trouble_is_not_taken_for_one_without_the_picture(photos_here: Path, faults: Faults):
    with web_server(photos_here, faults) as address:
        faults.always = "error"
        with pytest.raises(remote.Unreachable, match="500"):
            read(Path(f"{address}/amber/00.png"))


def test_a_forked_process_reads_too(photos_there: Path, faults: Faults):
    found = scan(photos_there)
    first = read(found.locate(found.samples[0]))  # so that connections and threads are there, which a fork loses
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(read, (found.locate(found.samples[1]),)).get(30)[1] != first[1]
    assert faults.reads(".png") == 2


def test_a_test_set_in_a_bucket(photos_there: Path, photos_here: Path):
    found = inspect(scan(photos_here, test=photos_there))
    assert Counter(sample.given for sample in found.samples) == {"train": 16, "test": 16}
    assert {sample.path for sample in found.samples if sample.given == "test"} == {
        f"s3://{BUCKET}/photos/{name}" for name, _ in files_in(photos_here)
    }


def test_addresses_and_paths():
    for url in ("s3://bucket/a b/c.jpg", "hf://datasets/o/n@main/x.png", "https://host:8080/a.jpg?b=c&d=e"):
        assert as_path(url) == url
        assert url_of(Path("/some/where") / url) == url
        assert url_of(Path(url)) == url
    assert url_of(Path("s3://bucket/lists") / "https://host/a.jpg") == "https://host/a.jpg"
    assert as_path("HTTPS://host/a//b.jpg?u=http://c/d") == "https://host/a/%2Fb.jpg?u=http:/%2Fc/d"
    assert url_of(Path(str(as_path("https://host/x/http://other/b.jpg")))) == "https://host/x/http%3A/%2Fother/b.jpg"
    assert as_path("s3://bucket/a//b.jpg") is None
    assert as_path("s3://bucket/../b.jpg") is None
    assert as_path("photos/a.jpg") is None
    assert url_of(Path("photos/a.jpg")) is None
    assert member_of(Path("x.tar/a/b.jpg")) == (Path("x.tar"), "a/b.jpg")
    assert member_of(Path("x.tar")) is None
