"""Time, memory and disk of train, check, evaluate and predict as the number of pictures grows, on generated pictures.

    python bench/scale.py [--sizes 10000,100000,1000000] [--engine stub|real] [--commands train,check] [--folder DIR]

The pictures are small JPEGs of ten kinds, no two alike: blotches of colour, stripes of the kind's direction and
wavelength, and noise. Everything is real but the network: in its place 1,280 features are made of a few pixels
(--engine real runs lcnet_050 with random weights, which makes as many). Each command is a process of its own, watched
by watched.py. Predictions are made of 100,000 pictures at most. A million pictures take about 25 GB of disk. Writes
its section of bench/RESULTS.md.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import timm
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from headstart.features.backbones import load_backbone
from results import machine, record, table

KINDS, SIDE, PHASES, IN_FOLDER = 10, 64, 32, 10_000
BACKBONE = "lcnet_050"
TRAIN_ALONE_ABOVE = 100_000
COMMANDS = ("train", "check", "evaluate", "predict")
STAGES = ("scan", "features", "split", "head", "evaluate", "judge", "maps", "save")


@cache
def _stripes() -> NDArray[np.int16]:
    """Stripes of each kind in each phase, [kinds, phases, side, side, 1]."""
    down, across = np.mgrid[:SIDE, :SIDE]
    waves = []
    for kind in range(KINDS):
        angle, length = np.pi * (kind % 5) / 5, (9, 14)[kind // 5]
        along = (np.cos(angle) * down + np.sin(angle) * across) * 2 * np.pi / length
        waves.append([np.sin(along + 2 * np.pi * phase / PHASES) for phase in range(PHASES)])
    return (np.array(waves)[..., None] * 8).astype(np.int16)


@cache
def _noise() -> NDArray[np.int16]:
    return np.random.default_rng(1).normal(0, 16, (2**20,)).astype(np.int16)


def draw(folder: Path, number: int) -> None:
    """One picture, in the folder of its kind, and there with 999 others."""
    random = np.random.default_rng(number)
    kind, size = number % KINDS, SIDE * SIDE * 3
    blotches = Image.fromarray(random.integers(30, 226, (6, 6, 3), dtype=np.uint8))
    pixels = np.asarray(blotches.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(np.int16)
    start = int(random.integers(2**20 - size))
    pixels += _stripes()[kind, random.integers(PHASES)]
    pixels += _noise()[start : start + size].reshape(SIDE, SIDE, 3)
    content = simplejpeg.encode_jpeg(np.clip(pixels, 0, 255).astype(np.uint8), quality=85)
    (folder / f"kind{kind}" / f"{number // IN_FOLDER:04}" / f"{number:07}.jpg").write_bytes(content)


def generate(folder: Path, start: int, stop: int) -> None:
    """The pictures with the numbers from `start` to `stop`; a manifest beside the folder lists all there are."""
    for kind in range(KINDS):
        for part in range(start // IN_FOLDER, (stop - 1) // IN_FOLDER + 1):
            (folder / f"kind{kind}" / f"{part:04}").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        for _ in pool.map(partial(draw, folder), range(start, stop), chunksize=1000):
            pass
    with folder.with_suffix(".csv").open("w") as manifest:
        manifest.write("path,label\n")
        for n in range(stop):
            manifest.write(f"{folder.name}/kind{n % KINDS}/{n // IN_FOLDER:04}/{n:07}.jpg,kind{n % KINDS}\n")


def watch(folder: Path, engine: str, *command: str) -> dict[str, Any]:
    """What watched.py saw of a command."""
    result = folder / "watched.json"
    asked = ["--backbone", BACKBONE, "--weights", str(folder / "random.safetensors")]
    asked += ["--stub"] if engine == "stub" else []
    script = str(Path(__file__).with_name("watched.py"))
    with (folder / "output.txt").open("w") as output:
        done = subprocess.run([sys.executable, script, str(result), *asked, "--", *command], stdout=output, check=False)
    if done.returncode:
        raise SystemExit(f"headstart {' '.join(command)} failed")
    return dict(json.loads(result.read_text()))


def size_of(folder: Path) -> int:
    """The bytes that a folder takes on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def measure(folder: Path, size: int, engine: str, commands: list[str]) -> dict[str, Any]:
    """The `commands`, train among them, on the first `size` pictures; what they took, and the bytes on disk."""
    pictures, listed, run = folder / "pictures", str(folder / "pictures.csv"), folder / f"run{size}"
    shutil.rmtree(folder / "cache" / "features", ignore_errors=True)
    seen: dict[str, Any] = {"train": watch(folder, engine, "train", listed, "-o", str(run))}
    seen["store"] = size_of(folder / "cache" / "features")
    seen["pictures"] = size_of(pictures)
    seen["run"] = {path.name: path.stat().st_size for path in run.iterdir() if path.is_file()}
    seen["accuracy"] = json.loads((run / "metrics.json").read_text())["test"]["accuracy"]["value"]
    if size > TRAIN_ALONE_ABOVE:
        return seen
    if "evaluate" in commands:
        seen["evaluate"] = watch(
            *(folder, engine, "evaluate", str(run), listed, "-o", str(folder / "evaluated")),
            "--allow-training-pictures",
        )
    if "check" in commands:
        seen["check"] = watch(folder, engine, "check", listed, "-o", str(folder / "checked"))
    if "predict" in commands:
        answers = str(folder / "answers.csv")
        seen["predict"] = watch(folder, engine, "predict", str(run), str(pictures), "--format", "csv", "-o", answers)
    return seen


def exponent(sizes: list[int], values: list[float]) -> str:
    """The b of values = a size^b, by least squares in logarithms; 1 is linear."""
    known = [(math.log(size), math.log(value)) for size, value in zip(sizes, values, strict=True) if value > 0]
    return f"{np.polyfit(*zip(*known, strict=True), 1)[0]:.2f}" if len(known) > 1 else ""


def stage_rows(seen: dict[int, dict[str, Any]], command: str, stages: list[str]) -> list[list[str]]:
    """For each stage: seconds, those of processors, and memory with each size, and how both kinds of seconds grow."""
    sizes = [size for size in seen if command in seen[size]]
    rows = []
    for stage in stages:
        taken = [seen[size][command]["stages"].get(stage) for size in sizes]
        if any(one is None for one in taken):
            continue
        cells = []
        for one in taken:
            cells += [f"{one['seconds']:.1f}", f"{one['cpu']:.1f}"]
            cells += [f"{one['anonymous']:.0f}", f"{one['file']:.0f}"]
        growth = [exponent(sizes, [one[what] for one in taken]) for what in ("seconds", "cpu")]
        rows.append([stage, *cells, *growth])
    return rows


def report(seen: dict[int, dict[str, Any]], command: str) -> str:
    """The section of RESULTS.md."""
    text = f"`{command}`: {machine()}. Each command is a process of its own. MB: the most that it held of anonymous "
    text += "memory, and of files (those the system may drop).\n"
    for name in COMMANDS:
        sizes = [size for size in seen if name in seen[size]]
        if not sizes:
            continue
        stages = [name, *(f"{name}/{stage}" for stage in STAGES)]
        stages += ["check/near_duplicates", "check/solve", "check/examine"] if name == "check" else []
        stages += ["evaluate/try_classifier"] if name == "evaluate" else []
        header = [name]
        for size in sizes:
            header += [f"{size:,}: s", "core s", "MB", "MB of files"]
        text += "\n" + table([*header, "s grow as n to the", "core s"], stage_rows(seen, name, stages))
    for size, one in seen.items():
        files = ", ".join(f"{name} {b / 1e6:.1f}" for name, b in sorted(one["run"].items()) if b > 200_000)
        text += (
            f"\n{size:,} pictures: accuracy {one['accuracy']:.3f}; on disk {one['pictures'] / size:,.0f} bytes "
            f"a picture and {one['store'] / size:,.0f} in the feature store; MB in the run: {files}.\n"
        )
    return text


def detail(seen: dict[str, Any], size: int) -> None:
    """Print all that was seen, the parts of stages too."""
    for command in COMMANDS:
        for stage, one in seen.get(command, {"stages": {}})["stages"].items():
            if one["seconds"] >= 0.05:
                print(
                    f"{size:>9,} {stage:60} {one['seconds']:8.2f} s {1000 * one['seconds'] / size:7.3f} ms"
                    f" {one['anonymous']:7.0f} MB {one['file']:7.0f} MB of files",
                    flush=True,
                )


def main() -> None:
    """Measure every size, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--engine", choices=["stub", "real"], default="stub")
    parser.add_argument("--commands", default=",".join(COMMANDS))
    parser.add_argument("--folder", type=Path, help="where pictures and all else go, and stay")
    options = parser.parse_args()
    seen: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["HEADSTART_CACHE"] = str(folder / "cache")
        if not (folder / "random.safetensors").exists():
            save_file(timm.create_model(BACKBONE).state_dict(), folder / "random.safetensors")
            load_backbone(BACKBONE, folder / "random.safetensors")  # converted here, not in what is measured
        made = len(list((folder / "pictures").rglob("*.jpg")))
        for size in sorted(map(int, options.sizes.split(","))):
            if made > size:
                raise SystemExit(f"{folder} has {made:,} pictures already, more than {size:,}.")
            started = time.perf_counter()
            if made < size:
                generate(folder / "pictures", made, size)
                print(f"{size - made:,} pictures generated in {time.perf_counter() - started:.0f} s", flush=True)
            made = size
            seen[size] = measure(folder, size, options.engine, options.commands.split(","))
            (folder / f"seen{size}.json").write_text(json.dumps(seen[size]))
            detail(seen[size], size)
    command = f"python bench/scale.py --sizes {options.sizes} --engine {options.engine}"
    record("Scale" if options.engine == "stub" else "Scale: a real network", report(seen, command))


if __name__ == "__main__":
    main()
