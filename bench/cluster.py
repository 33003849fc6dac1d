"""What a Ray cluster of this machine's cores costs beside one process, and whether it survives: real pictures.

    python bench/cluster.py PHOTOS [--pictures 10000] [--rounds 3] [--kills 10]

The photos are written again and again, each time with another comment in the file, so that every file is another to
headstart: read, hashed, decoded, embedded and stored for itself. One process and two workers take turns; each begins
with an empty store. "Work" is the time from the first picture to the last, "start" the time before. Then workers are
killed at random, and at last the command itself, which is started again. Writes its section of bench/RESULTS.md.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from headstart.features.backbones import load_backbone
from headstart.features.engines import plan_engine
from headstart.features.extract import Embedding, Prepared, embed_here, extract
from headstart.features.store import stored_recipes
from headstart.pictures.scan import scan
from headstart.scale.cluster import joined
from headstart.scale.embed import embedding_on
from headstart.storage import cache_folder
from results import machine, record, table


def write(photos: Path, folder: Path, count: int) -> None:
    """So many JPEG files of the photos, in their class folders, each with a comment of its own."""
    found = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    sources = [(path, path.read_bytes()) for path in found]
    sources = [(path, content) for path, content in sources if content[:2] == b"\xff\xd8"]
    for number in range(count):
        path, content = sources[number % len(sources)]
        text = f"{number:08}".encode()
        comment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
        place = folder / path.parent.name
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:08}.jpg").write_bytes(content[:2] + comment + content[2:])


def empty_store() -> None:
    for path in (cache_folder() / "features").glob("*"):
        path.unlink()


class Timed:
    """An embedding, with the time of its call, of its first picture and of its last."""

    def __init__(self, embedding: Embedding, deadly: "Deadly | None" = None) -> None:
        self.embedding, self.deadly = embedding, deadly
        self.seconds: list[float] = []

    def __call__(self, *given: object) -> Iterator[Prepared]:
        """See `Embedding`."""
        self.seconds = [time.perf_counter()]
        for item in self.embedding(*given):  # type: ignore[arg-type]
            if len(self.seconds) == 1:
                self.seconds.append(time.perf_counter())
            if self.deadly is not None:
                self.deadly.pass_by()
            yield item
        self.seconds.append(time.perf_counter())

    @property
    def start(self) -> float:
        """Seconds to the first picture."""
        return self.seconds[1] - self.seconds[0]

    @property
    def work(self) -> float:
        """Seconds from the first picture to the last."""
        return self.seconds[2] - self.seconds[1]


class Deadly:
    """Kills a worker at random now and then, as pictures pass by."""

    def __init__(self, kills: int, pictures: int) -> None:
        self.when = set(random.Random(0).sample(range(pictures // 20, pictures * 9 // 10), kills))
        self.passed, self.due, self.killed = 0, 0, list[int]()

    def pass_by(self) -> None:
        """A picture has come. Where no worker is alive just now, the next one that is dies."""
        self.passed += 1
        self.due += self.passed in self.when
        if self.due == 0:
            return
        running = psutil.process_iter(["cmdline"])
        victims = [one for one in running if "MapWorker" in " ".join(one.info["cmdline"] or [])]
        if victims:
            victim = random.choice(victims)
            victim.kill()
            self.killed.append(victim.pid)
            self.due -= 1


def measured(folder: Path, timed: Timed) -> tuple[tuple[str, ...], np.ndarray]:
    empty_store()
    _, features = extract(scan(folder), load_backbone(), plan_engine("cpu"), embedding=timed)
    return features.digests, features.vectors


def killed_driver(folder: Path, pictures: int) -> tuple[int, int, float]:
    """Kill the command halfway and start it again: vectors kept, vectors in the end, seconds of the second run."""
    empty_store()
    command = [sys.executable, "-m", "headstart", "check", str(folder), "--on", "ray"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while sum(recipe.vectors for recipe in stored_recipes()) < pictures // 2:
        assert first.poll() is None, "the command ended before it could be killed"
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = sum(recipe.vectors for recipe in stored_recipes())
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return kept, sum(recipe.vectors for recipe in stored_recipes()), time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=10)
    options = parser.parse_args()
    load_backbone()  # converted, if need be, before any clock runs
    graph_cache = cache_folder()
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name) / "pictures", Path(name) / "cache"
        cache.mkdir()
        for part in ("backbones", "compiled"):
            if (graph_cache / part).is_dir():
                os.symlink((graph_cache / part).resolve(), cache / part)
        os.environ["HEADSTART_CACHE"] = str(cache)
        write(options.photos, folder, options.pictures)
        alone, together, ratios = [], [], []
        with joined("ray") as cluster:
            for _ in range(options.rounds):
                alone.append(Timed(embed_here))
                reference = measured(folder, alone[-1])
                together.append(Timed(embedding_on(cluster)))
                result = measured(folder, together[-1])
                assert result[0] == reference[0], "the digests differ"
                assert np.array_equal(result[1], reference[1]), "the vectors differ"
                ratios.append(together[-1].work / alone[-1].work)
                print(f"{alone[-1].work:.1f} s alone, {together[-1].work:.1f} s together", flush=True)
            deadly = Deadly(options.kills, options.pictures)
            hurt = Timed(embedding_on(cluster), deadly)
            result = measured(folder, hurt)
            assert result[0] == reference[0], "something was lost or counted twice"
            assert np.array_equal(result[1], reference[1])
        kept, in_the_end, again = killed_driver(folder, options.pictures)
    seconds = lambda runs, what: f"{np.median([getattr(run, what) for run in runs]):.1f}"  # noqa: E731
    rows = [
        ["one process", seconds(alone, "start"), seconds(alone, "work"), "1"],
        ["two workers of Ray", seconds(together, "start"), seconds(together, "work"), f"{np.median(ratios):.2f}"],
        [
            f"the same, {len(deadly.killed)} workers killed",
            f"{hurt.start:.1f}",
            f"{hurt.work:.1f}",
            f"{hurt.work / np.median([run.work for run in alone]):.2f}",
        ],
    ]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    command = f"python bench/cluster.py {options.photos.name} --pictures {options.pictures} --rounds {options.rounds}"
    text = (
        f"`{command}`: {machine()}. {options.pictures:,} JPEG files; medians of pairs of runs, {options.rounds} in "
        f"number, ratios {spread}. Digests and vectors were the same to the bit in every run, the one with "
        f"{len(deadly.killed)} killed workers too. The command, killed when it had kept {kept:,} vectors and started "
        f"again, embedded the other {in_the_end - kept:,} and had {in_the_end:,} in the end ({again:.0f} s with the "
        "audit).\n\n"
    )
    record("Cluster", text + table(["", "start s", "work s", "ratio"], rows))
    print(text, rows)


if __name__ == "__main__":
    main()
