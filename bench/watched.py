"""A headstart command in this process, watched: the seconds of its stages, and the memory while each runs.

    python bench/watched.py RESULT.json [--backbone NAME --weights FILE] [--stub] [--no-twins] -- train DATA -o RUN ...

Anonymous memory (RssAnon) is what must be there; pages of files (RssFile, RssShmem), mapped arrays among them, can be
dropped by the system at any time. Both are read twenty times a second, and whenever a stage begins or ends.
"""

import argparse
import importlib
import json
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart import workflow
from headstart.features import backbones
from headstart.features.engines import EnginePlan
from headstart.pictures.near import NearPairs

SECONDS_BETWEEN = 0.05
PARTS = {
    "headstart.workflow": (
        *("scan", "near_duplicates", "resolve", "check_classes", "split", "solve", "_try", "_out_of_fold", "examine"),
        *("try_classifier", "groups", "_promises"),
    ),
    "headstart.features.extract": ("_keep", "_gather"),
    "headstart.learning.solve": ("fit_head", "fit_novelty", "fit_sets", "fit_abstention"),
    "headstart.judging.assessment": (
        *("held_out_distances", "audit", "find_shortcuts", "check_promises", "baselines", "growth"),
        *("_robustness", "_slices"),
    ),
    "headstart.judging.trial": ("evaluate",),
    "headstart.delivery.run_folder": (
        *("principal_plane", "write_csv", "write_json", "write_report", "write_checked", "write_measured"),
    ),
    "headstart.delivery.artefact": ("save",),
}
"""Functions that are told apart inside of the stages, by the module that calls them."""


class Watch:
    """What each stage took: seconds, seconds of processors ("cpu"), and memory in MB.

    Memory is the largest RssAnon and RssFile (with RssShmem) while it ran.
    """

    def __init__(self) -> None:
        self.taken: dict[str, dict[str, float]] = {}
        self.open: list[str] = []
        self._lock = threading.RLock()
        threading.Thread(target=self._sample, daemon=True).start()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Watch the block as `name`, inside of the stage that is open."""
        with self._lock:
            name = "/".join([*self.open[-1:], name])
            self.taken.setdefault(name, {"seconds": 0.0, "cpu": 0.0, "anonymous": 0.0, "file": 0.0})
            self.open.append(name)
        self._note()
        started, worked = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            seconds, cpu = time.perf_counter() - started, time.process_time() - worked
            self._note()
            with self._lock:
                self.taken[name]["seconds"] += seconds
                self.taken[name]["cpu"] += cpu
                self.open.remove(name)

    def _sample(self) -> None:
        while True:
            self._note()
            time.sleep(SECONDS_BETWEEN)

    def _note(self) -> None:
        anonymous, mapped = memory()
        with self._lock:
            for name in self.open:
                one = self.taken[name]
                one["anonymous"] = max(one["anonymous"], anonymous)
                one["file"] = max(one["file"], mapped)


def memory() -> tuple[float, float]:
    """The anonymous memory of this process, and what it has of files, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    held = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith("Rss")}
    return held["RssAnon"], held["RssFile"] + held["RssShmem"]


class StubEngine:
    """Features from a few pooled pixels by a fixed random projection, in place of a network.

    The class is in the pixels, as a direction and a wavelength of stripes: the sizes of the frequencies of a 16 x 16
    version tell it, its pixels hardly do.
    """

    def __init__(self, dimension: int) -> None:
        random = np.random.default_rng(5)
        self.mix = random.normal(0, 1, (16 * 9 + 8 * 8 * 3, dimension)).astype(np.float32)

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `headstart.features.engines.Engine`."""
        step = pixels.shape[1] // 16
        small = pixels[:, step // 2 :: step, step // 2 :: step][:, :16, :16].astype(np.float32) / 255 - 0.5
        sizes = np.log1p(np.abs(np.fft.rfft2(small.mean(axis=3)))).reshape(len(small), -1)
        coarse = small.reshape(-1, 8, 2, 8, 2, 3).mean(axis=(2, 4)).reshape(len(small), -1)
        known = np.concatenate([sizes - 0.7, coarse], axis=1).astype(np.float32)
        # One product a picture: of several rows it would depend on how many there are, in the last digit.
        mixed = np.stack([row @ self.mix for row in known])
        return np.maximum(mixed, 0)


def watch_functions(watch: Watch) -> None:
    """Make a stage of each of `PARTS`, and of the stages of `workflow.Clock`."""

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*given: Any, **named: Any) -> Any:
            with watch.stage(name):
                return function(*given, **named)

        return run

    for place, names in PARTS.items():
        module = importlib.import_module(place)
        for name in names:
            setattr(module, name, watched(name.lstrip("_"), getattr(module, name)))
    clocked = workflow.Clock.stage

    @contextmanager
    def stage(self: workflow.Clock, name: str) -> Iterator[None]:
        with watch.stage(name), clocked(self, name):
            yield

    workflow.Clock.stage = stage  # type: ignore[method-assign]


def main() -> None:
    """Run the command, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("result", type=Path)
    parser.add_argument("--backbone", help="whatever the command asks for")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--stub", action="store_true", help="features of a few pixels in place of the network's")
    parser.add_argument("--no-twins", action="store_true", help="near duplicates are not looked for")
    own, command = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    options = parser.parse_args(own)
    if options.backbone:
        backbone = backbones.load_backbone(options.backbone, options.weights)
        workflow.load_backbone = lambda *_, **__: backbone
    if options.stub:
        EnginePlan.load = lambda _, backbone: StubEngine(backbone.dimension)  # type: ignore[method-assign]
    if options.no_twins:
        nothing = NearPairs(np.empty((0, 2), np.int64), np.empty(0), np.empty(0, np.bool_))
        workflow.near_duplicates = lambda *_: nothing
    watch = Watch()
    watch_functions(watch)
    from headstart.cli import main as command_line  # after what it calls was replaced

    sys.argv = ["headstart", *command]
    status: object = 0
    try:
        with watch.stage(command[0]):
            command_line()
    except SystemExit as ended:
        status = ended.code
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    options.result.write_text(json.dumps({"stages": watch.taken, "peak": peak, "status": status}))
    sys.exit(status)


if __name__ == "__main__":
    main()
