"""A real Ray cluster of two workers does what one process does: the same results, whoever dies."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from headstart import contests
from headstart.delivery import artefact
from headstart.delivery.run_folder import TrainOptions
from headstart.errors import DataError, HeadstartError
from headstart.features.backbones import load_backbone
from headstart.features.engines import plan_engine
from headstart.features.extract import embed_here, extract
from headstart.features.store import stored_recipes
from headstart.learning.classifier import DEFAULT
from headstart.pictures.scan import scan
from headstart.progress import Progress
from headstart.workflow import train

from . import tiny
from .torchrun import TORCHRUN

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own

from headstart.scale import lines  # noqa: E402 - after the skip
from headstart.scale.answer import answers_on  # noqa: E402
from headstart.scale.cluster import joined  # noqa: E402
from headstart.scale.embed import Known, embedding_on  # noqa: E402
from headstart.scale.shipping import ship  # noqa: E402
from headstart.scale.site import site_of  # noqa: E402

RAY = shutil.which("ray", path=Path(sys.executable).parent)
FAST = {"backbone": "tiny", "device": "cpu"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One cache for all tests here, with the tiny backbone; workers, which start with the cluster, have it too."""
    folder = tmp_path_factory.mktemp("cluster")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(folder / "cache"))
        tiny.install(folder)
    return folder


@pytest.fixture(autouse=True)
def cache(place, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(place / "cache"))
    return place / "cache"


@pytest.fixture(scope="module")
def cluster(place):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(place / "cache"))
        with joined("ray") as cluster:
            yield cluster


@pytest.fixture
def backbone(place):
    return load_backbone("tiny", place / "tiny.safetensors")


@pytest.fixture
def photos(tmp_path):
    """Two hundred pictures in two classes, one of which cannot be read and one of which is there twice."""
    folder = tiny.class_folders(tmp_path / "photos", each=100)
    (folder / "amber" / "05.png").write_bytes(b"no picture")
    (folder / "blue" / "copy.png").write_bytes((folder / "blue" / "07.png").read_bytes())
    return folder


def emptied(cache):
    for path in (cache / "features").glob("*"):
        path.unlink()


def options(place, **others):
    return TrainOptions(weights=place / "tiny.safetensors", **{**FAST, **others})


def metrics(run):
    """All of metrics.json that does not tell the time."""
    record = json.loads((run / "metrics.json").read_text("utf-8"))
    return {key: value for key, value in record.items() if key not in ("seconds", "pictures_per_second")}


def rounded(value):
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list) else value


def test_features_split_and_metrics_are_those_of_one_process(cluster, place, cache, photos, tmp_path, backbone):
    dataset, plan = scan(photos), plan_engine("cpu")
    alone = extract(dataset, backbone, plan)
    emptied(cache)
    together = extract(dataset, backbone, plan, embedding=embedding_on(cluster))
    assert together[0] == alone[0]
    assert [problem.kind for problem in alone[0].problems] == ["unreadable"]
    assert together[1].embedded == alone[1].embedded
    assert len(together[1].digests) == 199
    assert together[1].digests == alone[1].digests
    assert np.array_equal(together[1].vectors, alone[1].vectors)
    assert np.array_equal(together[1].looks.prints, alone[1].looks.prints)
    train(photos, tmp_path / "one", options(place))
    emptied(cache)
    train(photos, tmp_path / "two", options(place), site=site_of(cluster))
    assert rounded(metrics(tmp_path / "one")) == rounded(metrics(tmp_path / "two"))
    for name in ("split.csv", "problems.csv", "suspects.csv"):
        assert (tmp_path / "one" / name).read_text() == (tmp_path / "two" / name).read_text()


@pytest.mark.usefixtures("cluster")
def test_nobody_is_told():
    from ray._common.usage import usage_lib

    assert not usage_lib.usage_stats_enabled()


def test_what_is_known_is_not_embedded_again(cluster, photos, cache, backbone):
    emptied(cache)
    dataset, plan = scan(photos), plan_engine("cpu")
    first = [sample for sample in dataset.samples if sample.label == "amber"]
    known = {item.sample.digest for item in embed_here(first, photos, backbone, plan, set())}
    items = list(embedding_on(cluster)(dataset.samples, photos, backbone, plan, known))
    assert [item.sample.path for item in items] == [sample.path for sample in dataset.samples]
    assert {item.sample.label for item in items if item.vector is not None} == {"blue"}


@pytest.mark.parametrize(
    ("count", "workers", "size"), [(1, 2, 16), (10_000, 2, 156), (200_000, 64, 97), (10**6, 2, 256)]
)
def test_batches_are_small_where_there_is_little_to_do(count, workers, size):
    assert lines.batch_size(count, workers) == size


def test_known_digests_are_found_and_no_others():
    some = {f"{number * 7919:064x}" for number in range(1, 500)}
    known = Known.of(some)
    assert all(digest in known for digest in some)
    assert f"{3:064x}" not in known
    assert "ff" * 32 not in known
    assert "00" * 32 not in Known.of(set())


def test_predictions_are_those_of_one_process(cluster, tiny_run, photos):
    predictor = artefact.load(tiny_run, device="cpu")
    paths = [str(path) for path in sorted(photos.rglob("*.png"))]
    alone = predictor.predict(paths)
    together = list(answers_on(cluster, predictor, paths, DEFAULT))
    assert len(alone) == len(together)
    for mine, theirs in zip(alone, together, strict=True):
        assert (mine.path, mine.label, mine.set, mine.error) == (theirs.path, theirs.label, theirs.set, theirs.error)
        if mine.error is None:
            assert mine.probability == pytest.approx(theirs.probability, abs=1e-6)


@pytest.mark.usefixtures("cluster")
def test_a_file_that_is_not_there_is_carried(tmp_path, cache):
    import ray

    path = tmp_path / "weights.bin"
    path.write_bytes(b"1234")
    shipped = ship(path)
    read = ray.remote(lambda one: (str(one.here()), one.here().read_bytes()))
    assert ray.get(read.remote(shipped)) == (str(path), b"1234")
    path.write_bytes(b"another")  # of the same name, on another machine
    where, content = ray.get(read.remote(shipped))
    assert content == b"1234"
    assert Path(where).is_relative_to(cache)


def test_pictures_that_workers_do_not_see_are_said(cluster, photos, backbone):
    elsewhere = photos.parent / "gone"
    with pytest.raises(DataError, match="does not see"):
        list(embedding_on(cluster)(scan(photos).samples, elsewhere, backbone, plan_engine("cpu"), set()))


class Fails:
    """A work that fails."""

    def __init__(self, error):
        self.error = error

    def begin(self):
        def work(_):
            raise self.error

        return work


def test_what_a_worker_raises_is_raised_here(cluster):
    with pytest.raises(HeadstartError, match="told so"):
        list(lines.spread(cluster, Fails(HeadstartError("told so")), range(10), "cpu"))
    with pytest.raises(HeadstartError, match="a fault of ours"):
        list(lines.spread(cluster, Fails(RuntimeError("a fault of ours")), range(10), "cpu"))


def test_another_version_is_refused(cluster, monkeypatch):
    monkeypatch.setattr(lines, "__version__", "0.0.1")
    with pytest.raises(HeadstartError, match=r"but 0\.0\.1 asks"):
        list(lines.spread(cluster, Fails(RuntimeError()), range(10), "cpu"))


def workers():
    """The processes of the pool's workers."""
    return processes_called("MapWorker")


def processes_called(name):
    """The processes whose command line says so."""
    every = psutil.process_iter(["cmdline"])
    return [process for process in every if any(name in word for word in process.info["cmdline"] or [])]


def kill(process):
    """Kill it, if it has not just ended; returns its number."""
    with suppress(psutil.NoSuchProcess):
        process.kill()
    return process.pid


class Slow:
    """A work that takes a while, in processes that can be killed."""

    def begin(self):
        def work(items):
            time.sleep(0.3)
            return items

        return work


def test_ten_workers_are_killed_and_nothing_is_lost_or_done_twice(cluster, capfd):
    draw, killed = random.Random(0), []
    done = []
    for item in lines.spread(cluster, Slow(), range(7680), "cpu"):
        done.append(item)
        if len(killed) < 10 and len(done) % 640 == 0:
            while not (found := workers()):  # the last ones killed are being replaced
                time.sleep(0.05)
            killed.append(kill(draw.choice(found)))
    assert len(set(killed)) == 10
    assert done == list(range(7680))
    assert capfd.readouterr().out == ""  # where answers may be written


def heavy(folder, count):
    """So many different pictures that each take some twenty milliseconds to decode."""
    from PIL import Image

    random_pixels = np.random.default_rng(0).integers(0, 255, (75, 100, 3), np.uint8)
    picture = Image.fromarray(random_pixels).resize((2000, 1500))
    for number in range(count):
        label = folder / f"kind{number % 2}"
        label.mkdir(parents=True, exist_ok=True)
        picture.save(label / f"{number:04}.jpg", quality=90, comment=str(number).encode())
    return folder


def kept():
    return sum(recipe.vectors for recipe in stored_recipes())


def test_a_driver_that_is_killed_goes_on_where_it_was(place, cache, tmp_path):
    emptied(cache)
    folder = heavy(tmp_path / "heavy", 600)
    environment = {**os.environ, "HEADSTART_CACHE": str(cache)}
    script = (  # only to embed: with the tiny backbone all else would take longer
        "import sys; from headstart.scale.cluster import joined; from headstart.scale.embed import embedding_on\n"
        "from headstart.features.extract import extract; from headstart.features.backbones import load_backbone\n"
        "from headstart.features.engines import plan_engine; from headstart.pictures.scan import scan\n"
        "from pathlib import Path\n"
        "with joined('ray') as cluster:\n"
        "    backbone = load_backbone('tiny', Path(sys.argv[2]))\n"
        "    dataset, plan = scan(Path(sys.argv[1])), plan_engine('cpu')\n"
        "    _, features = extract(dataset, backbone, plan, embedding=embedding_on(cluster))\n"
        "    print(len(features.digests), features.embedded)\n"
    )
    command = [sys.executable, "-c", script, str(folder), str(place / "tiny.safetensors")]
    first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    until = time.monotonic() + 120
    while kept() < 100 and time.monotonic() < until:
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    saved = kept()
    assert 100 <= saved < 600
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=200)
    assert done.stdout.split() == ["600", str(600 - saved)]
    assert kept() == 600


def test_candidates_are_trained_side_by_side(cluster, photos, tmp_path):
    told = []
    common = TrainOptions(backbone="test_resnet", weights=Path("none"), device="cpu")
    recipes = []
    for epochs in (1, 2):
        path = tmp_path / f"epochs-{epochs}.toml"
        path.write_text(f'base = "all"\nbackbone = "test_resnet"\nweights = "none"\nepochs = {epochs}\nbatch = 32\n')
        recipes.append(str(path))
    compared = contests.compare(
        photos, tmp_path / "compared", common, recipes=recipes, tell=told.append, site=site_of(cluster)
    )
    assert sorted(compared.runs) == ["epochs-1", "epochs-2"]
    assert not compared.failures
    assert sum("given to the cluster" in line for line in told) == 2
    for name in ("epochs-1", "epochs-2"):
        artefact.load(tmp_path / "compared" / name, device="cpu")
    contests.compare(photos, tmp_path / "compared", common, recipes=recipes, tell=told.append, site=site_of(cluster))
    assert sum("used as it is" in line for line in told) == 2


class Heard(Progress):
    """Keeps what was said."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


RECIPE = (
    'base = "all"\nbackbone = "test_resnet"\nweights = "none"\nepochs = {epochs}\nbatch = 8\n'
    'guard = false\nstart = "new"\nbatch_norm = "frozen"\n'
)


def history(run):
    header, *rows = (run / "history.csv").read_text().splitlines()
    place = header.split(",").index("seconds")
    return [[float(cell) for number, cell in enumerate(row.split(",")) if number != place] for row in rows]


@pytest.mark.usefixtures("few_worse_pictures")
def test_two_workers_fine_tune_as_torchrun_does(cluster, tmp_path):
    photos = tiny.class_folders(tmp_path / "photos", each=20)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(epochs=3))
    words = ["train", str(photos), "--recipe", str(recipe), "-o", str(tmp_path / "torchrun")]
    subprocess.run([*TORCHRUN, "headstart", *words], capture_output=True, check=True, timeout=300)
    heard = Heard()
    run = train(photos, tmp_path / "ray", TrainOptions(recipe=str(recipe)), heard, site=site_of(cluster))
    assert run.tuning.facts["processes"] == 2
    assert sum(line.startswith("epoch ") for line in heard.lines) == 3
    for mine, theirs in zip(history(tmp_path / "ray"), history(tmp_path / "torchrun"), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    mine, theirs = metrics(tmp_path / "ray"), metrics(tmp_path / "torchrun")
    assert mine["test"]["accuracy"] == theirs["test"]["accuracy"]
    assert mine["test"]["log_loss"]["value"] == pytest.approx(theirs["test"]["log_loss"]["value"], rel=1e-3)
    artefact.load(tmp_path / "ray", device="cpu")
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.mark.usefixtures("few_worse_pictures")
def test_a_worker_that_dies_while_it_fine_tunes_costs_no_result(cluster, tmp_path):
    photos = tiny.class_folders(tmp_path / "photos", each=20)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(epochs=8))
    train(photos, tmp_path / "whole", TrainOptions(recipe=str(recipe)), site=site_of(cluster))

    class Killing(Heard):
        killed = 0

        def say(self, line):
            super().say(line)
            if line.startswith("epoch 3/") and not self.killed:
                kill(processes_called("RayTrainWorker")[0])
                self.killed = 1

    heard = Killing()
    train(photos, tmp_path / "broken", TrainOptions(recipe=str(recipe)), heard, site=site_of(cluster))
    assert heard.killed
    assert any(line.startswith("going on at epoch") for line in heard.lines)
    for mine, theirs in zip(history(tmp_path / "broken"), history(tmp_path / "whole"), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-5)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_a_cluster_that_runs_is_joined_from_outside(place, photos, tmp_path, cache):
    client = free_port()
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    environment["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # as docs/how-to/cluster.md has it, and why
    ports = [
        f"--port={free_port()}",
        f"--ray-client-server-port={client}",
        "--min-worker-port=0",
        "--max-worker-port=0",
    ]
    # Ten thousand ports from 10002 on are the workers' unless they may take any.
    head = [RAY, "start", "--head", "--block", *ports, "--num-cpus=2", "--include-dashboard=false"]
    words = [
        "train",
        str(photos),
        "--backbone",
        "tiny",
        "--weights",
        str(place / "tiny.safetensors"),
        "--device",
        "cpu",
    ]
    words += ["-o", str(tmp_path / "there"), "--on", f"ray://127.0.0.1:{client}"]
    emptied(cache)
    process = subprocess.Popen(head, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        done = subprocess.run([sys.executable, "-m", "headstart", *words], env=environment, timeout=200, check=False)
        assert done.returncode == 0
    finally:
        for child in [*psutil.Process(process.pid).children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.wait()
    train(photos, tmp_path / "here", options(place))
    assert rounded(metrics(tmp_path / "there")) == rounded(metrics(tmp_path / "here"))


def test_a_cluster_that_does_not_answer_is_said(headstart, photos):
    status, _, err = headstart("check", photos, "--on", f"ray://127.0.0.1:{free_port()}")
    assert status == 1
    assert "no Ray cluster answers" in err


def test_a_head_that_cannot_start_its_end_is_told_what_helps(monkeypatch):
    import ray

    def failing(**_):
        raise ConnectionAbortedError("Initialization failure from server: Starting Ray client server failed. See ...")

    monkeypatch.setattr(ray, "init", failing)
    with pytest.raises(HeadstartError, match="GRPC_ENABLE_FORK_SUPPORT=0"), joined("ray://127.0.0.1:10001"):
        pass
