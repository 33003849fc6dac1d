"""What an index finds of the pairs that comparing all pictures finds, and what it takes for up to a million pictures.

    python bench/neighbours.py DATA... [--only recall,growth,crowd] [--compared 50000]
                               [--sizes 100000,300000,1000000] [--crowd 120000]

DATA are folders of pictures in class folders. `recall`: they and altered copies of theirs, and blends of two of them
until there are enough, are searched in both ways. `growth`: generated prints and features, with altered copies among
them, in the index alone. `crowd`: prints that are all nearly the same, as digits are. Each size of `growth` and `crowd`
runs in a process of its own, so that its memory can be told. Writes its sections of bench/RESULTS.md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart import scratch
from headstart.pictures import near, neighbours
from headstart.pictures.looks import Looks
from planting import ALTERATIONS, embedded, load, plant, share
from results import machine, record, table
from trust import PLANTED, named

EVERYTHING = 10**9  # rows: what is below is compared with everything
BLEND = 0.35, 0.65  # shares of the first of two pictures
WIDTH, RANK, KINDS = 1280, 96, 300  # features: how many, of how many dimensions, around how many centres
EVERY = 100  # of the generated pictures one has an altered copy
CHANGES = ("brighter", "mirrored", "noise", "moved")  # of generated prints
ROWS = 5000  # generated at a time


@dataclass(frozen=True)
class Measured:
    """What one search took (seconds, MB of anonymous memory), its pairs, and of how many of them one picture is."""

    n: int
    seconds: float
    of_processor: float
    megabytes: float
    candidates: int
    reported: int
    planted: int
    found: int
    largest: int


def looks_of(prints: NDArray[np.uint8]) -> Looks:
    """Looks of which only the prints are known."""
    none = np.empty(0)
    names = ("width", "height", "file_bytes", "quality", "brightness", "contrast", "darkest", "brightest", "sharpness")
    return Looks(**dict.fromkeys(names, none), format=(), mode=(), colours=none, prints=prints)


# recall


def real(folders: list[Path], n: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], int, int]:
    """Prints and features of the sets' pictures, of altered copies, and of blends of two; the numbers of the first."""
    prints, vectors, copies = [], [], []
    with tempfile.TemporaryDirectory() as name:
        for photos in map(load, folders):
            prints.append(photos.looks.prints)
            vectors.append(photos.vectors)
            count = len(photos.vectors)
            random = np.random.default_rng([*b"near", *photos.name.encode()])
            originals = np.sort(random.permutation(count)[:PLANTED])
            sources = [photos.distinct.locate(photos.distinct.samples[row]) for row in originals]
            for number, kind in enumerate(ALTERATIONS):
                folder = Path(name) / photos.name / str(number)
                plant(sources, kind, folder)
                dataset, features = embedded(replace(photos.distinct, root=folder, samples=named(folder)))
                rows = features.rows(dataset.samples)
                copies.append((features.looks.prints[rows], features.vectors[rows]))
    own = sum(map(len, prints))
    all_prints = np.concatenate([*prints, *(one for one, _ in copies)])
    all_vectors = np.concatenate([*vectors, *(one for _, one in copies)])
    random = np.random.default_rng([*b"blends"])
    first, second = random.integers(own, size=(2, max(0, n - len(all_prints))))
    part = random.uniform(*BLEND, len(first)).astype(np.float32)[:, None]
    blended = all_prints[first] * part[..., None] + all_prints[second] * (1 - part[..., None])
    mixed = all_vectors[first] * part + all_vectors[second] * (1 - part)
    prints_too = np.concatenate([all_prints, blended.astype(np.uint8)])
    return prints_too, np.concatenate([all_vectors, mixed]), own, len(all_prints) - own


def searched(prints: NDArray[np.uint8], vectors: NDArray[np.float32], most: int) -> tuple[set[int], set[int], float]:
    """Numbers of the candidates and of the reported pairs, and the seconds, where up to `most` rows are compared."""
    kept: list[NDArray[np.int64]] = []
    find = neighbours.candidates

    def keeping(*columns: NDArray[np.generic]) -> NDArray[np.int64]:
        kept.append(find(*columns))
        return kept[-1]

    neighbours.ALL_COMPARED, near.candidates = most, keeping
    started = time.perf_counter()
    pairs = near.near_duplicates(looks_of(prints), vectors).rows
    seconds = time.perf_counter() - started
    near.candidates = find
    return set((kept[0] @ [len(prints), 1]).tolist()), set((pairs @ [len(prints), 1]).tolist()), seconds


def recall(args: argparse.Namespace) -> str:
    rows = []
    for n in (0, args.compared):
        prints, vectors, own, copies = real(args.data, n)
        worth, exact, slow = searched(prints, vectors, EVERYTHING)
        proposed, found, fast = searched(prints, vectors, 0)
        both = share(len(found & exact), len(exact))
        near_worth = share(len(proposed & worth), len(worth))
        row = [f"{len(prints):,}", near_worth, both, str(len(found - exact)), f"{slow:.0f} s", f"{fast:.0f} s"]
        rows.append([f"{own:,} + {copies:,}", *row])
    return (
        "Pictures of the sets and altered copies (as in Trust: near duplicates), alone and among blends of two "
        f"({BLEND[0]:.0%} to {BLEND[1]:.0%} of the one, prints and features alike). The same rows, searched by "
        "comparing all and by the index. Candidates: of those that all comparisons give, how many the index gives. "
        "Reported: of the pairs that are reported in the end, how many are. New: pairs that are reported with the "
        "index only.\n\n"
        + table(["real + copies", "pictures", "candidates", "reported", "new", "all compared", "index"], rows)
    )


# growth and crowds


def anonymous() -> float:
    """The anonymous memory of this process in MB; files that are mapped into it do not count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def watched(work: Callable[[], near.NearPairs]) -> tuple[near.NearPairs, float, float, float]:
    """What `work` gives, the seconds, those of all cores, and the most anonymous memory of the process in MB."""
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started, worked = time.perf_counter(), time.process_time()
    try:
        pairs = work()
    finally:
        done.set()
        watcher.join()
    return pairs, time.perf_counter() - started, time.process_time() - worked, peak[0]


def smooth(random: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Prints with shapes of all sizes, their power falling with frequency, [n, 32, 32]."""
    waves = np.cos(np.pi / 64 * np.arange(16)[:, None] * (2 * np.arange(32) + 1)).astype(np.float32)
    falling = 1 / (1 + np.hypot(*np.mgrid[:16, :16])).astype(np.float32)
    spectra = random.standard_normal((n, 16, 16), np.float32) * falling
    return np.clip(128 + 60 * (waves.T @ spectra @ waves), 0, 255)


def changed(prints: NDArray[np.float32], change: str, random: np.random.Generator) -> NDArray[np.float32]:
    if change == "brighter":
        return prints * 1.1
    if change == "mirrored":
        return prints[:, :, ::-1]
    if change == "noise":
        return prints + random.normal(0, 4, prints.shape).astype(np.float32)
    return np.concatenate([prints[:, :, 1:], prints[:, :, -1:]], axis=2)


def generated(n: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
    """Prints and features of n; the last of each `ROWS` are copies of the first, pairs int [m, 2]."""
    random = np.random.default_rng([n, *b"growth"])
    prints, vectors = scratch.empty((n, 32, 32), np.uint8), scratch.empty((n, WIDTH), np.float32)
    kinds = 2 * random.standard_normal((KINDS, RANK), np.float32)
    spread = random.standard_normal((RANK, WIDTH), np.float32) * np.linspace(1, 0.1, RANK, dtype=np.float32)[:, None]
    pairs = []
    for block in neighbours.blocks(n, ROWS):
        size = block.stop - block.start
        made = smooth(random, size)
        latent = kinds[random.integers(KINDS, size=size)] + random.standard_normal((size, RANK), np.float32)
        count = size // EVERY
        copies = size - count + np.arange(count)
        latent[copies] = latent[:count] + random.normal(0, 0.2, (count, RANK))
        for number, change in enumerate(CHANGES):
            which = np.arange(number, count, len(CHANGES))
            made[copies[which]] = changed(made[which], change, random)
        prints[block] = np.clip(made, 0, 255)
        vectors[block] = np.maximum(0, latent @ spread)
        pairs.append(block.start + np.stack([np.arange(count), copies], axis=1))
    return prints, vectors, np.concatenate(pairs)


def crowded(n: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
    """Prints and features of n pictures of ten bright strokes on black; those of one stroke are nearly the same."""
    random = np.random.default_rng([n, *b"crowd"])
    prints, vectors = scratch.empty((n, 32, 32), np.uint8), scratch.empty((n, WIDTH), np.float32)
    strokes = np.clip(3 * (smooth(random, 10) - 128), 0, 255)
    kinds = np.maximum(0, random.standard_normal((10, WIDTH), np.float32))
    for block in neighbours.blocks(n, ROWS):
        kind = random.integers(10, size=block.stop - block.start)
        noise = 12 * random.standard_normal((len(kind), 32, 32), np.float32)
        prints[block] = np.clip(strokes[kind] + noise * (strokes[kind] > 0), 0, 255)
        vectors[block] = kinds[kind] + 0.1 * random.standard_normal((len(kind), WIDTH), np.float32)
    return prints, vectors, np.empty((0, 2), np.int64)


def child(what: str, n: int) -> None:
    """Measure one size; prints a line of JSON."""
    prints, vectors, planted = {"growth": generated, "crowd": crowded}[what](n)
    aligned = [0]
    find = near.candidates

    def counting(*columns: NDArray[np.generic]) -> NDArray[np.int64]:
        pairs = find(*columns)
        aligned[0] = len(pairs)
        return pairs

    near.candidates, neighbours.ALL_COMPARED = counting, 0
    pairs, *spent = watched(lambda: near.near_duplicates(looks_of(prints), vectors))
    found = np.isin(planted @ [n, 1], pairs.rows @ [n, 1]).sum()
    largest = np.bincount(pairs.rows.ravel()).max() if len(pairs.rows) else 0
    one = Measured(n, *spent, aligned[0], len(pairs.rows), len(planted), int(found), int(largest))
    print(json.dumps(vars(one)))


def taken(one: Measured) -> list[str]:
    return [f"{one.seconds:.0f} s", f"{one.of_processor:.0f} s", f"{one.megabytes:,.0f} MB"]


def measured(what: str, n: int) -> Measured:
    words = [sys.executable, __file__, "--child", what, str(n)]
    return Measured(**json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout))


def growth(args: argparse.Namespace) -> str:
    all_sizes = [measured("growth", n) for n in args.sizes]
    rows = []
    for one in all_sizes:
        counts = [f"{one.candidates:,}", share(one.found, one.planted), f"{one.reported - one.found:,}"]
        rows.append([f"{one.n:,}", *taken(one), *counts])
    fitted = ""
    if len(all_sizes) > 1:
        sizes, seconds = (np.log([getattr(one, name) for one in all_sizes]) for name in ("n", "of_processor"))
        fitted = f"Seconds of processor grow with n to the power of {np.polyfit(sizes, seconds, 1)[0]:.2f}. "
    return (
        f"Generated prints, and {WIDTH:,} features around {KINDS} centres, in files that are mapped into memory; of "
        f"every hundredth there is a copy: {', '.join(CHANGES)}. The whole of `near_duplicates`, with the index. "
        "Memory: the most that is anonymous (RssAnon), of the whole process. Others: pairs that were not planted. "
        + fitted
        + "\n\n"
        + table(["pictures", "time", "processor", "memory", "pairs aligned", "planted, found", "others"], rows)
    )


def crowd(args: argparse.Namespace) -> str:
    one = measured("crowd", args.crowd)
    each = [f"{pairs:,} ({pairs / one.n:.1f} each)" for pairs in (one.candidates, one.reported)]
    row = [f"{one.n:,}", *taken(one), *each, str(one.largest)]
    return (
        "Prints of ten strokes on black under noise, and features as alike: every picture has thousands that are "
        "nearly the same. Searched with the index.\n\n"
        + table(
            ["pictures", "time", "processor", "memory", "pairs aligned", "pairs reported", "most of one picture"], [row]
        )
    )


MEASUREMENTS = {
    "recall": ("Neighbours: found by the index", recall),
    "growth": ("Neighbours: time and memory", growth),
    "crowd": ("Neighbours: a crowd", crowd),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, nargs="*")
    parser.add_argument("--only", default=",".join(MEASUREMENTS), help="names of measurements, with commas")
    parser.add_argument("--compared", type=int, default=50_000, help="pictures of `recall`")
    parser.add_argument("--sizes", default="100000,300000,1000000", help="of `growth`, with commas")
    parser.add_argument("--crowd", type=int, default=120_000)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.only, args.sizes = args.only.split(","), [int(size) for size in args.sizes.split(",")]
    if unknown := set(args.only) - set(MEASUREMENTS):
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}; there are {', '.join(MEASUREMENTS)}")
    return args


def main() -> None:
    args = parse()
    if args.child:
        child(args.child[0], int(args.child[1]))
        return
    names = " ".join(folder.name for folder in args.data)
    for name in args.only:
        section, measure = MEASUREMENTS[name]
        started = time.perf_counter()
        text = measure(args)
        seconds = time.perf_counter() - started
        command = " ".join(f"python bench/neighbours.py {names} --only {name}".split())
        record(section, f"`{command}`: {machine()}, {seconds:.0f} s.\n\n{text}")


if __name__ == "__main__":
    main()
