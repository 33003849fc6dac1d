"""Every export of every installed backbone, proved on held-out pictures: parity, accuracy, speed, size.

    python bench/export.py DATA... [--tune none,last] [--backbone NAME,...] [--to NAME,...] [--keep FOLDER]

For each DATA, backbone and depth a classifier is trained and exported; each export.json that was written becomes a row.
Depth `last` is the recipe below: few epochs, and the tuned network is kept even where the solved head is as good, so
that it is a tuned network that is exported.
A refused export is a row too, and says why. With --keep, what lies in that folder already is not made again.
`times` is how many times as many pictures a second the export does as headstart itself, in turns; export.json has
the seconds. Writes its section of bench/RESULTS.md.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from headstart.features import weights
from results import machine, record, table

TUNED = """base = "last"
epochs = 3
views = 1
guard = false
"""
WORTHWHILE = 1.3  # times as fast
FORMATS = ("onnx", "openvino", "openvino-int8", "torch", "page")
HEADER = [
    "data",
    "backbone",
    "tune",
    "export",
    "same top-1",
    "largest change, mean",
    "of the same pixels",
    "accuracy",
    "exported",
    "only model / export right, p",
    "times",
    "one picture, ms",
    "MB",
]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--tune", default="none,last", help="of none, last")
    parser.add_argument("--backbone", help="instead of all that are installed")
    parser.add_argument("--to", default=",".join(FORMATS))
    parser.add_argument("--keep", type=Path, help="where runs and exports are kept")
    parser.add_argument("--no-record", action="store_true", help="print the table, and leave RESULTS.md as it is")
    return parser.parse_args()


def installed() -> list[str]:
    """The backbones whose weights a package on this machine carries."""
    return [name for name in weights.PACKAGES if weights.given_or_installed(name, None) is not None]


def headstart(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "headstart", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def share(interval: dict[str, float]) -> str:
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def numbers(found: dict) -> list[str]:
    """The cells of one export.json."""
    proof, speed, change = found["proof"], found["speed"], found["proof"]["change"]
    accuracy = proof["accuracy"]
    return [
        f"{proof['agreeing']} of {proof['n']}",
        f"{change['largest']:.2g}, {change['mean']:.1g}",
        f"{change['largest_same']:.1g}",
        share(accuracy["original"]),
        share(accuracy["export"]),
        f"{accuracy['only_original']} / {accuracy['only_export']}, {accuracy['p']:.2g}",
        f"{speed['times']:.2f}",
        f"{speed['original']['latency_ms']:.1f} / {speed['export']['latency_ms']:.1f}",
        f"{found['megabytes']['original']:.1f} / {found['megabytes']['export']:.1f}",
    ]


def trained(data: Path, backbone: str, tune: str, place: Path) -> Path:
    """The run of one candidate, trained unless it is there."""
    run = place / f"{data.name}-{backbone.removeprefix('tf_efficientnet_')}-{tune}"
    if not (run / "model").is_dir():
        recipe = place / "tuned.toml"
        recipe.write_text(TUNED, "utf-8")
        depth = ("--recipe", recipe) if tune == "last" else ("--tune", tune)
        done = headstart("train", data, "-o", run, "--backbone", backbone, *depth)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
    return run


def exported(run: Path, name: str) -> list[str]:
    """The cells of one export, made unless it is there; or why it was refused."""
    place, refusal = Path(f"{run}-exports") / name, Path(f"{run}-exports") / f"{name}.refused"
    if not place.exists() and not refusal.exists():
        done = headstart("export", run, "--to", name, "-o", place)
        if done.returncode != 0:
            reason = done.stderr.strip().partition("handed over: ")[2] or done.stderr.strip()
            refusal.parent.mkdir(exist_ok=True)
            refusal.write_text(reason.splitlines()[0], "utf-8")
    if refusal.exists():
        return [f"refused: {refusal.read_text('utf-8')}", *[""] * 8]
    return numbers(json.loads((place / "export.json").read_text("utf-8")))


def summary(rows: list[list[str]], name: str) -> str:
    """In a line what the exports to one format have in common."""
    mine = [row[HEADER.index("export") :] for row in rows if row[HEADER.index("export")] == name]
    given = [row for row in mine if row[-1]]
    shares = [row[1].split(" of ") for row in given]
    same = sum(one == other for one, other in shares)
    changes = [float(row[3]) for row in given]
    times = [float(row[7]) for row in given]
    enough = sum(time >= WORTHWHILE for time in times)
    return (
        f"- {name}: {len(given)} of {len(mine)} were handed over. {same} of them give every picture the model's class; "
        f"the largest change of a probability of the same pixels is {max(changes, default=0):.2g}. "
        f"{statistics.median(times):.2f} times ({min(times):.2f} to {max(times):.2f}) as fast as headstart, {enough} "
        f"of them at least {WORTHWHILE} times."
    )


def main() -> None:
    args = parse()
    rows = []
    backbones = args.backbone.split(",") if args.backbone else installed()
    with tempfile.TemporaryDirectory() as folder:
        for data, backbone, tune in itertools.product(args.data, backbones, args.tune.split(",")):
            run = trained(data, backbone, tune, args.keep or Path(folder))
            for name in args.to.split(","):
                rows.append([data.name, backbone, tune, name, *exported(run, name)])
                print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    command = " ".join([data.name for data in args.data] + [f"--tune {args.tune}", f"--to {args.to}"])
    found = "\n".join(summary(rows, name) for name in args.to.split(","))
    text = f"`python bench/export.py {command}`: {machine()}.\n\n{found}\n\n{table(HEADER, rows)}"
    if args.no_record:
        print(text)
    else:
        record("Export: page" if args.to == "page" else "Export", text)


if __name__ == "__main__":
    main()
