"""Kill `headstart train` at random moments, run it again, and compare every file with those of an undisturbed run.

    python bench/kills.py DATA [--kills 50] [--seed 0]

Each time the feature store is empty at first. Files must be equal byte for byte, but for recorded times in JSON.
Writes its section of bench/RESULTS.md, and fails at the first difference.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from headstart.features.backbones import load_backbone
from results import machine, record

TIMES = ("seconds", "pictures_per_second")


def contents(run: Path) -> dict[str, bytes | str]:
    """Every file of a run, without what it records of time."""
    found: dict[str, bytes | str] = {}
    for path in sorted(run.rglob("*")):
        if path.name in ("metrics.json", "run.json"):
            values = json.loads(path.read_text("utf-8"))
            found[path.name] = json.dumps({key: value for key, value in values.items() if key not in TIMES})
        elif path.is_file():
            found[str(path.relative_to(run))] = path.read_bytes()
    return found


def start(data: Path, run: Path) -> subprocess.Popen:
    words = [sys.executable, "-m", "headstart", "train", str(data), "-o", str(run)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, error = process.communicate()
    if process.returncode:
        raise SystemExit(f"a run after a kill failed: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HEADSTART_CACHE"] = str(folder / "cache")
        run = folder / "runs" / "run"
        load_backbone()
        began = time.perf_counter()
        finish(start(options.data, run))
        whole = time.perf_counter() - began
        undisturbed = contents(run)
        for number in range(options.kills):
            shutil.rmtree(run)
            for part in ("features", "compiled"):
                shutil.rmtree(folder / "cache" / part)
            process = start(options.data, run)
            time.sleep(moments.uniform(0, whole))
            process.kill()
            process.wait()
            finish(start(options.data, run))
            after = contents(run)
            different = sorted(
                key for key in undisturbed.keys() | after.keys() if undisturbed.get(key) != after.get(key)
            )
            if different:
                raise SystemExit(f"kill {number}: other contents in {', '.join(different)}")
            left = sorted(path.name for path in run.parent.iterdir() if path.name != "run")
            if left:
                raise SystemExit(f"kill {number}: left behind {', '.join(left)}")
    text = f"`python bench/kills.py {options.data.name} --kills {options.kills}`: {machine()}.\n\n"
    text += (
        f"{options.kills} runs killed with SIGKILL, at moments drawn evenly from the {whole:.1f} s of an undisturbed "
    )
    text += "one. "
    text += (
        f"Each next run completed; all {len(undisturbed)} files equal those of the undisturbed run, byte for byte but "
    )
    text += "for recorded times, and nothing else was left in the folder.\n"
    record("Kills", text)


if __name__ == "__main__":
    main()
