"""What all tests share: a cache folder of their own, and the development photo sets where there are any."""

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from headstart.judging import assessment
from headstart.pictures import remote

from . import tiny
from .stores import BUCKET, Faults, empty_bucket, files_in, s3_server, upload


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own cache folder, which does not exist yet."""
    folder = tmp_path / "headstart-cache"
    monkeypatch.setenv("HEADSTART_CACHE", str(folder))
    return folder


@pytest.fixture
def headstart(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run a command in the test's folder; gives (exit status, standard output, standard error)."""
    from headstart import cli

    monkeypatch.chdir(tmp_path)

    def command(*words):
        monkeypatch.setattr("sys.argv", ["headstart", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        captured = capsys.readouterr()
        return left.value.code or 0, captured.out, captured.err

    return command


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that holds the default backbone, converted: some twenty seconds, spent once."""
    from headstart.features.backbones import load_backbone

    folder = tmp_path_factory.mktemp("converted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(folder))
        load_backbone()
    return folder


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two classes with the tiny backbone, made once; nothing may be written into it."""
    from headstart.delivery.run_folder import TrainOptions
    from headstart.workflow import train

    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(folder / "cache"))
        options = TrainOptions(backbone="tiny", weights=tiny.install(folder), device="cpu")
        train(tiny.class_folders(folder / "photos"), folder / "run", options)
    return folder / "run"


@pytest.fixture
def warm_cache(converted: Path, cache: Path) -> Path:
    """The test's own cache folder, with the default backbone in it."""
    shutil.copytree(converted, cache)
    return cache


@pytest.fixture
def few_worse_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training tries worse versions of eight pictures only: eight times as many is most of a small training."""
    monkeypatch.setattr(assessment, "robustness", partial(assessment.robustness, budget=8))


@pytest.fixture
def photos() -> Path:
    """The folder of the development photo sets; skips the test where they are absent."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("HEADSTART_PHOTOS", beside))
    if not folder.is_dir():
        pytest.skip(f"no photo sets in {folder}; set HEADSTART_PHOTOS to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def object_store() -> Iterator[tuple[str, Faults]]:
    """The address of an S3 server on loopback, started once, and what it does wrong."""
    faults = Faults()
    with s3_server(faults) as address:
        yield address, faults


@pytest.fixture
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries of remote reads follow soon upon each other, and none is waited for for long."""
    monkeypatch.setattr(remote, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(remote, "STALL_SECONDS", 5)


@pytest.fixture
def faults(object_store: tuple[str, Faults]) -> Faults:
    """What the servers of the test do wrong: nothing, unless told to."""
    faults = object_store[1]
    faults.clear()
    return faults


@pytest.fixture
def s3(
    object_store: tuple[str, Faults],
    faults: Faults,
    haste: None,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The address of an S3 server with an empty bucket."""
    address = object_store[0]
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    empty_bucket(address)
    faults.clear()
    return address


@pytest.fixture
def photos_here(tmp_path: Path) -> Path:
    """A folder of two classes with eight pictures in each."""
    return tiny.class_folders(tmp_path / "photos", each=8)


@pytest.fixture
def photos_there(s3: str, photos_here: Path, faults: Faults) -> Path:
    """The same pictures as in `photos_here`, in the bucket."""
    upload(s3, files_in(photos_here, "photos/"))
    faults.clear()
    return Path(f"s3://{BUCKET}/photos/")
