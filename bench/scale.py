"""Time and memory of `headstart train` as the number of pictures grows, on generated pictures.

    python bench/scale.py [--sizes 12500,25000,50000,100000] [--backbone mobilenetv3_small_050]

The pictures are small JPEGs of ten kinds. The backbone is a real, small network with random weights (1,024 features):
the cost of everything around it is what is measured; a larger one adds its own forward pass per picture. Peak memory
is that of the whole process, as the operating system accounts it. Writes its section of bench/RESULTS.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import simplejpeg
import timm
from safetensors.torch import save_file

from results import machine, record, table

KINDS, SIDE = 10, 64


def draw(folder: Path, number: int) -> None:
    """One picture: stripes of its kind's direction and colour under noise."""
    random = np.random.default_rng(number)
    kind = number % KINDS
    place = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    angle = np.pi * kind / KINDS
    wave = np.sin((np.cos(angle) * place[0] + np.sin(angle) * place[1]) / 3 + random.uniform(0, 6))
    pixels = 128 + 50 * wave[..., None] + random.normal(0, 60, (SIDE, SIDE, 3)) + random.normal(0, 20, 3)
    content = simplejpeg.encode_jpeg(np.clip(pixels, 0, 255).astype(np.uint8), quality=85)
    (folder / f"kind{kind}" / f"{number:07}.jpg").write_bytes(content)


def generate(folder: Path, start: int, stop: int) -> None:
    for kind in range(KINDS):
        (folder / f"kind{kind}").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(draw, folder), range(start, stop), chunksize=500))


def measure(words: list[str]) -> tuple[float, float]:
    """Seconds and peak memory in MB of a whole process."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "headstart", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"headstart {' '.join(words)} failed")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", default="12500,25000,50000,100000")
    parser.add_argument("--backbone", default="mobilenetv3_small_050")
    options = parser.parse_args()
    rows, made = [], 0
    with tempfile.TemporaryDirectory() as name:
        folder, weights = Path(name), Path(name) / "random.safetensors"
        os.environ["HEADSTART_CACHE"] = str(folder / "cache")
        save_file(timm.create_model(options.backbone).state_dict(), weights)
        backbone = ["--backbone", options.backbone, "--weights", str(weights)]
        generate(folder / "few", 0, 300)
        measure(["train", str(folder / "few"), "-o", str(folder / "few-run"), *backbone])  # converts the backbone
        for size in map(int, options.sizes.split(",")):
            generate(folder / "pictures", made, size)
            made = size
            for part in ("features",):
                for path in (folder / "cache" / part).glob("*"):
                    path.unlink()
            run = folder / f"run{size}"
            seconds, megabytes = measure(["train", str(folder / "pictures"), "-o", str(run), *backbone])
            metrics = json.loads((run / "metrics.json").read_text())
            stages = [f"{metrics['seconds'][stage]:.1f}" for stage in ("scan", "features", "split", "head", "evaluate")]
            each = f"{1000 * seconds / size:.2f}"
            rows.append([f"{size:,}", f"{seconds:.0f}", each, *stages, f"{megabytes:.0f}"])
            print(rows[-1], flush=True)
    header = ["pictures", "seconds", "ms a picture", "scan", "features", "split", "head", "evaluate", "peak MB"]
    command = f"python bench/scale.py --sizes {options.sizes} --backbone {options.backbone}"
    text = f"`{command}`: {machine()}. Whole processes.\n\n"
    record("Scale", text + table(header, rows))


if __name__ == "__main__":
    main()
