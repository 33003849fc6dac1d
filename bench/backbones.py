"""Is the backbone that `headstart compare DATA --backbones ... --join` recommends the right one?

    python bench/backbones.py DATA... [--backbones tf_efficientnet_lite0,tf_efficientnet_lite1,tf_efficientnet_lite2]

For each set the whole comparison, then what only a full evaluation knows: the accuracy of every candidate on the
held-out pictures, which chose nothing. The recommendation is right where the best of them there is not surely better
than the recommended one (exact paired test, corrected for all pairs). Features come from the cache where they are
there. Writes a section of bench/RESULTS.md.
"""

import argparse
import tempfile
import time
from pathlib import Path

from headstart.contests import compare_backbones
from headstart.judging.choice import Choice, Entrant
from headstart.judging.report import chosen
from results import machine, record, table

LITE = "tf_efficientnet_lite0,tf_efficientnet_lite1,tf_efficientnet_lite2"
HEADER = ["backbone", "out of fold", "log loss", "points behind", "p", "held out"]
HEADER += ["pictures/s", "of the fastest", "one picture, ms", "MB", "recommended"]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--backbones", default=LITE)
    return parser.parse_args()


def rows(found: Choice) -> list[list[str]]:
    """A row for each candidate that came to the end, and for each that was stopped."""
    lines = []
    for name, result in found.results.items():
        pair, behind = found.comparison.against_best(name), ["", ""]
        if pair is not None:
            ends = pair.difference
            span = f"{100 * ends.value:.1f} [{100 * ends.low:.1f}, {100 * ends.high:.1f}]"
            behind = [span, f"{pair.p_corrected:.2g}"]
        accuracies = [str(one.accuracy[name]) for one in (found.comparison, found.check)]
        is_taken = "yes" if name == found.advice.name else ""
        measured = [accuracies[0], f"{result.log_loss.value:.3f}", *behind, accuracies[1]]
        lines.append([name, *measured, *costs(result.entrant, found), is_taken])
    for one in found.stopped:
        stopped = f"stopped: {one.accuracy}, n = {one.n}"
        lines.append([one.entrant.name, stopped, f"{one.log_loss:.3f}", "", "", "", *costs(one.entrant, found), ""])
    return lines


def costs(one: Entrant, found: Choice) -> list[str]:
    """Pictures a second, of those of the fastest, milliseconds for one, megabytes."""
    rate = one.pace.per_second
    share = rate / found.fastest.pace.per_second
    return [f"{rate:.0f}", f"{share:.2f}", f"{one.pace.latency_ms:.1f}", f"{one.megabytes:.1f}"]


def judged(data: Path, backbones: list[str]) -> tuple[str, bool]:
    """What is written of one set, and whether the recommendation was right."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = compare_backbones(data, folder, backbones=backbones, join=True, tell=print)
    seconds = time.perf_counter() - started
    rung = "no first rung" if found.rung is None else f"first rung of {found.rung} pictures"
    sentences = [chosen.recommendation(found), chosen.joining(found) if found.joining else "", chosen.check(found)]
    said = " ".join(filter(None, sentences)).replace("\N{NARROW NO-BREAK SPACE}", " ")
    sizes = f"{found.n_train:,} pictures to learn from, {found.check.n:,} held out, {found.classes} classes"
    right = "yes" if found.is_right else "no"
    text = (
        f"**{data.name}**: {sizes}; {rung}; {seconds:.0f} s.\n\n{table(HEADER, rows(found))}\n{said} Right: {right}.\n"
    )
    return text, found.is_right


def main() -> None:
    args = parse()
    parts = [judged(data, args.backbones.split(",")) for data in args.data]
    names = " ".join(path.name for path in args.data)
    right = sum(is_right for _, is_right in parts)
    record(
        "Backbones: the recommendation",
        f"`python bench/backbones.py {names}`: {machine()}.\n\nThe recommendation was right on {right} of "
        f"{len(parts)} sets: the best on the held-out pictures, which chose nothing, was not surely better.\n\n"
        + "\n".join(text for text, _ in parts),
    )


if __name__ == "__main__":
    main()
