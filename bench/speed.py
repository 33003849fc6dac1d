"""How fast headstart is against the floor (decode + one forward pass) and against the classic loop.

    python bench/speed.py DATA [--classic-epochs 25] [--repeats 5]

DATA is a folder that `headstart train` takes. The floor and the features stage are timed in turn, in one process; whole
commands are timed as whole processes, with the backbone converted and, where said, without stored features.
`--classic-epochs 0` leaves the classic loop out, which takes minutes. Writes its section of bench/RESULTS.md.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from headstart.features.backbones import load_backbone
from headstart.features.engines import plan_engine
from headstart.features.extract import extract
from headstart.parallel import core_count
from headstart.pictures.decode import PictureError, decode
from headstart.pictures.scan import scan
from headstart.storage import cache_folder
from results import machine, record, table

CLASSIC = Path(__file__).with_name("classic.py")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--classic-epochs", type=int, default=25)
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def readable(data: Path) -> list[bytes]:
    """The bytes of every picture that can be decoded: the floor is measured in memory."""
    dataset = scan(data)
    found = []
    for sample in dataset.samples:
        content = dataset.locate(sample).read_bytes()
        try:
            decode(content, at_least=1)
        except PictureError:
            continue
        found.append(content)
    return found


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def on_all_cores(function: Callable, items: Sequence) -> list:
    with ThreadPoolExecutor(core_count()) as pool:
        return list(pool.map(function, items))


def stages(data: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of decoding, resizing, the forward pass, and the whole features stage, in turn, `repeats` times."""
    backbone, plan = load_backbone(), plan_engine("cpu")
    contents, preprocess, engine = readable(data), backbone.preprocess, plan.load(backbone)
    seconds: dict[str, list[float]] = {"decode": [], "resize": [], "forward": [], "features": []}
    for _ in range(repeats + 1):
        decoded: list[np.ndarray] = []
        inputs: list[np.ndarray] = []
        seconds["decode"].append(
            timed(
                lambda: decoded.extend(on_all_cores(lambda c: decode(c, at_least=preprocess.at_least).pixels, contents))
            )
        )
        seconds["resize"].append(timed(lambda: inputs.extend(on_all_cores(preprocess.apply, decoded))))
        batches = [np.stack(inputs[i : i + plan.batch]) for i in range(0, len(inputs), plan.batch)]
        seconds["forward"].append(timed(lambda: on_all_cores(engine.embed, batches)))
        empty_store()
        seconds["features"].append(timed(lambda: extract(scan(data), backbone, plan)))
    return {name: values[1:] for name, values in seconds.items()}  # the first round only warms up


def empty_store() -> None:
    shutil.rmtree(cache_folder() / "features", ignore_errors=True)


def command(*words: str) -> float:
    """Seconds of a whole process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "headstart", *words], check=True, capture_output=True)
    return time.perf_counter() - started


def commands(data: Path, repeats: int, folder: Path) -> dict[str, list[float]]:
    """Seconds of whole commands, in turn, `repeats` times."""
    run, picture = str(folder / "run"), folder / "picture"
    dataset = scan(data)
    shutil.copy(dataset.locate(dataset.samples[0]), picture)
    seconds: dict[str, list[float]] = {"train, no features stored": [], "train, all features stored": []}
    seconds |= {"predict one picture": [], "--help": []}
    for _ in range(repeats + 1):
        empty_store()
        seconds["train, no features stored"].append(command("train", str(data), "-o", run))
        seconds["train, all features stored"].append(command("train", str(data), "-o", run))
        seconds["predict one picture"].append(command("predict", run, str(picture)))
        seconds["--help"].append(command("--help"))
    return {name: values[1:] for name, values in seconds.items()}


def classic(data: Path, epochs: int) -> dict[str, float]:
    """The classic loop as a whole process: its JSON, and the seconds."""
    words = [sys.executable, str(CLASSIC), str(data), "--epochs", str(epochs)]
    started = time.perf_counter()
    out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return {**json.loads(out.splitlines()[-1]), "process": time.perf_counter() - started}


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as name:
        os.environ["HEADSTART_CACHE"] = f"{name}/cache"  # an own cache: nobody's features are thrown away
        load_backbone()
        inner = stages(options.data, options.repeats)
        whole = commands(options.data, options.repeats, Path(name))
        metrics = json.loads((Path(name) / "run" / "metrics.json").read_text())
    count = metrics["n_train"] + metrics["n_test"]
    floor = [sum(parts) for parts in zip(inner["decode"], inner["forward"], strict=True)]
    with_resize = [a + b for a, b in zip(floor, inner["resize"], strict=True)]
    rows = [
        [stage, spread(values), f"{count / statistics.median(values):.0f}"]
        for stage, values in {**inner, "decode + forward": floor, "decode + resize + forward": with_resize}.items()
    ]
    ratios = [spread([a / b for a, b in zip(inner["features"], base, strict=True)]) for base in (floor, with_resize)]
    text = f"`python bench/speed.py {options.data.name}`: {count} pictures, {machine()}. "
    text += f"Median (range) of {options.repeats} rounds.\n\n"
    text += table(["stage", "seconds", "pictures/s"], rows)
    text += f"\nFeatures stage / (decode + forward): {ratios[0]}; / (decode + resize + forward): {ratios[1]}.\n\n"
    text += table(["whole process", "seconds"], [[f"`{stage}`", spread(values)] for stage, values in whole.items()])
    accuracy = metrics["test"]["accuracy"]
    text += (
        f"\nHeld out: {accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}], n = {metrics['n_test']}."
    )
    head, features = metrics["seconds"]["head"], metrics["pictures_per_second"]
    text += f" Head stage with its cross-validation: {head:.2f} s; last features rate {features:.0f}/s.\n"
    if options.classic_epochs:
        loop = classic(options.data, options.classic_epochs)
        ratio = loop["process"] / statistics.median(whole["train, no features stored"])
        epochs = f"{options.classic_epochs} epoch{'s' * (options.classic_epochs > 1)}"
        text += f"\nThe classic loop, {epochs}, frozen, same weights: {loop['process']:.0f} s as a "
        text += f"whole process, accuracy after its last epoch {loop['val_accuracy']:.3f}. "
        text += f"headstart is **{ratio:.0f} times** faster.\n"
    record(f"Speed: {options.data.name}", text)


if __name__ == "__main__":
    main()
