"""What a person reads when an export has been handed over: a table of both, and what to mind."""

from collections.abc import Iterator

from headstart.delivery.export.exporting import Exported, Found
from headstart.judging.intervals import Interval

FEW = 100  # pictures, below which an agreement says little
DIFFERING_SHOWN = 5


def lines(done: Exported) -> Iterator[str]:
    """The table, the pictures that get another class, remarks, and where the export is."""
    found, proof = done.found, done.found.proof
    yield f"proved on {proof.n:,} pictures {found.origin}, each from its file to probabilities"
    yield f"top-1 agreement  {proof.agreement} ({proof.agreeing:,} of {proof.n:,}; {done.wish.agreement:g} asked)"
    yield f"largest change   {proof.largest:.2g}, mean {proof.mean:.2g}; of the same pixels {proof.largest_same:.2g}"
    yield from _table(found)
    p = "< 0.0001" if proof.p < 0.0001 else f"= {proof.p:.2g}"
    alone = f"{proof.only_export:,} only the export got right, {proof.only_original:,} only the model"
    yield f"accuracy changed by {_points(proof.difference)} points, p {p} ({alone})"
    if proof.words:
        words, n = proof.words, f"{proof.n:,}"
        yield f"in the page a picture takes {words.milliseconds:.0f} ms from its file to the answer (median)"
        same = f"the set {words.same_set:,} of {n}, 'none of these' {words.same_none_of_these:,} of {n}"
        pixels = f"the pixels {words.same_pixels:,} of {n}"
        yield f"as predict has it: {pixels}, {same}"
    yield f"the export does {found.race.times:.2f} times as many pictures a second as headstart here"
    if proof.differing:
        shown = min(DIFFERING_SHOWN, len(proof.differing))
        yield f"pictures that get another class ({shown} of {len(proof.differing):,}):"
        yield from (f"  {one}" for one in proof.differing[:DIFFERING_SHOWN])
    yield from _notes(done)
    yield f"saved in {done.wish.place.path}; what was found is in {done.wish.place.record}"


def _table(found: Found) -> Iterator[str]:
    proof, race = found.proof, found.race
    rows = [
        ("", "model", "export"),
        ("answered by", *found.runtimes),
        ("accuracy", str(proof.accuracy), str(proof.export_accuracy)),
        ("one picture", f"{race.original.latency_ms:.1f} ms", f"{race.export.latency_ms:.1f} ms"),
        ("many at once", f"{race.original.per_second:,.0f} a second", f"{race.export.per_second:,.0f} a second"),
        ("size", f"{found.megabytes[0]:,.1f} MB", f"{found.megabytes[1]:,.1f} MB"),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        yield "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _notes(done: Exported) -> Iterator[str]:
    proof = done.found.proof
    if proof.left_out:
        count = len(proof.left_out)
        reader = "the browser" if proof.words else "Pillow"
        yield f"note: {count:,} of the pictures are gone, changed or unreadable for {reader}, as {proof.left_out[0]}"
    if proof.n < FEW:
        yield f"note: {proof.n:,} pictures prove little; --data DATA names more"
    if done.wish.form.one_by_one:
        yield "note: this file takes one picture at a time"


def _points(ends: Interval) -> str:
    return f"{100 * ends.value:+.1f} [{100 * ends.low:+.1f}, {100 * ends.high:+.1f}]"
