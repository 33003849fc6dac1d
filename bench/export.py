"""Every export of every installed backbone, proved on held-out pictures: parity, accuracy, speed, size.

    python bench/export.py DATA... [--tune none|last|all] [--backbone NAME,...] [--to NAME,...]

For each DATA and backbone a classifier is trained and exported; each export.json that was written becomes a row.
A refused export is a row too, and says why. `times` is how many times as many pictures a second the export does as
headstart itself, in turns; export.json has the seconds. Writes its section of bench/RESULTS.md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from headstart.features import weights
from results import machine, record, table

FORMATS = ("onnx", "openvino", "openvino-int8", "torch")
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
    parser.add_argument("--tune", choices=["none", "last", "all"], default="none")
    parser.add_argument("--backbone", help="instead of all that are installed")
    parser.add_argument("--to", default=",".join(FORMATS))
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


def export_all(run: Path, formats: list[str], place: Path) -> list[list[str]]:
    """A row for each format."""
    rows = []
    for name in formats:
        done = headstart("export", run, "--to", name, "-o", place / name)
        if done.returncode == 0:
            rows.append([name, *numbers(json.loads((place / name / "export.json").read_text()))])
        else:
            reason = done.stderr.strip().partition("handed over: ")[2] or done.stderr.strip()
            rows.append([name, f"refused: {reason.splitlines()[0]}", *[""] * 8])
    return rows


def main() -> None:
    args = parse()
    rows = []
    for data in args.data:
        for backbone in args.backbone.split(",") if args.backbone else installed():
            with tempfile.TemporaryDirectory() as folder:
                place = Path(folder)
                trained = headstart("train", data, "-o", place / "run", "--backbone", backbone, "--tune", args.tune)
                if trained.returncode != 0:
                    raise SystemExit(trained.stderr)
                for row in export_all(place / "run", args.to.split(","), place):
                    rows.append([data.name, backbone, args.tune, *row])
                    print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    text = f"`python bench/export.py {' '.join(sys.argv[1:])}`: {machine()}.\n\n{table(HEADER, rows)}"
    if args.no_record:
        print(text)
    else:
        record("Export", text)


if __name__ == "__main__":
    main()
