"""How many pictures a second the machine that asks a cluster can take in, whoever embeds them.

    python bench/ceiling.py [--pictures 100000]

Workers that answer at once stand in for a cluster of any size: each picture has a digest, 1,280 random features and
looks of its own, made without reading or decoding anything. All else is real: Ray, the pickled batches, the pipeline
in its actor, the store on the disk. Since workers and the asking machine share the cores here, processor seconds are
what counts: of the process that asks, and of the actor that runs the pipeline. Writes its section of bench/RESULTS.md.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import psutil

from headstart.features.backbones import load_backbone
from headstart.features.engines import plan_engine
from headstart.features.extract import Prepared, extract
from headstart.pictures.dataset import Dataset, Sample
from headstart.pictures.looks import Look
from headstart.scale.cluster import Cluster, joined
from headstart.scale.lines import spread
from results import machine, record, table


@dataclass(frozen=True)
class Instant:
    """A work that takes no time: what it says of a sample depends on the sample's path alone."""

    def begin(self) -> Callable[[list[Sample]], list[Prepared]]:
        """Draw the features that all samples share but for a few numbers; see `Work`."""
        vector = np.random.default_rng(0).normal(size=1280).astype(np.float32)
        seen = Look(
            *(64, 64, 2000, "JPEG", "RGB", 85.0, 0.5, 0.2, 0.1, 0.9, 3.0),
            fingerprint=np.zeros((32, 32), np.uint8),
            colours=np.full(64, 1024, np.uint16),
        )

        def work(samples: list[Sample]) -> list[Prepared]:
            answers = []
            for sample in samples:
                digest = sha256(sample.path.encode()).hexdigest()
                answers.append(Prepared(replace(sample, digest=digest), look=seen, vector=vector * len(sample.path)))
            return answers

        return work


def embedding_of(cluster: Cluster) -> Callable[..., Iterator[Prepared]]:
    return lambda samples, *_: spread(cluster, Instant(), samples, "cpu")


def spent(process: psutil.Process) -> float:
    """Processor seconds."""
    times = process.cpu_times()
    return float(times.user + times.system)


def conductor() -> psutil.Process:
    """The process of the actor that runs the pipeline."""
    for process in psutil.process_iter(["cmdline"]):
        if "_Conductor" in " ".join(process.info["cmdline"] or []):
            return process
    raise SystemExit("there is no conductor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=int, default=100_000)
    options = parser.parse_args()
    backbone, plan = load_backbone(), plan_engine("cpu")
    samples = tuple(Sample(f"class/{number:08}.jpg", "class") for number in range(options.pictures))
    with tempfile.TemporaryDirectory() as name, joined("ray") as cluster:
        os.environ["HEADSTART_CACHE"] = name
        seconds: dict[str, float] = {}

        def watched(*given: object) -> Iterator[Prepared]:
            for number, item in enumerate(embedding_of(cluster)(*given)):
                if number == 0:
                    other = conductor()
                    before = time.perf_counter(), spent(psutil.Process()), spent(other)
                yield item
                if number == options.pictures - 1000:  # before the actor ends
                    now = time.perf_counter(), spent(psutil.Process()), spent(other)
                    seconds.update(zip(("wall", "asking", "pipeline"), np.subtract(now, before).tolist(), strict=True))

        _, features = extract(Dataset(Path(name), samples), backbone, plan, embedding=watched)
        assert features.embedded == options.pictures
    count = options.pictures - 1000
    rows = [
        [what, f"{took:.1f}", f"{1e6 * took / count:.0f}", f"{count / took:,.0f}"] for what, took in seconds.items()
    ]
    command = f"python bench/ceiling.py --pictures {options.pictures}"
    text = f'`{command}`: {machine()}. "wall" shares two cores with the workers.\n\n'
    record("Cluster: ceiling", text + table(["", "seconds", "microseconds a picture", "pictures a second"], rows))


if __name__ == "__main__":
    main()
