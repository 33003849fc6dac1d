"""The answer at the top of the report: how often the classifier is right, how sure that is, what to mind."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from headstart.judging.metrics import Interval
from headstart.judging.report import findings, losses, words
from headstart.judging.report.record import Json, Record, interval

FEW_PICTURES, FEW_OF_A_CLASS = 100, 10
NARROW, WIDE = 0.05, 0.12  # widths of the accuracy's interval
MANY_WRONG_LABELS = 0.02
Tone = Literal["good", "warn", "bad", "plain"]


@dataclass(frozen=True)
class Chip:
    """A caution in few words, its tone, the sentence behind it, and the section that says more."""

    text: str
    tone: Tone
    more: str
    section: str = ""


@dataclass(frozen=True)
class Bar:
    """A share with its interval on an axis from 0 to 1: who, whether it is surely worse, p, and whether it is ours."""

    name: str
    value: Interval
    note: str = ""
    chance: str = ""
    is_ours: bool = False


@dataclass(frozen=True)
class Verdict:
    """The verdict: `right` of `n` held-out pictures, in sentences, as bars on one axis, and with cautions.

    `is_own_test`: whether they were held out of the training that the record is of. `losses`: classes not learnt.
    """

    n: int
    right: int
    accuracy: Interval
    sentences: tuple[str, ...]
    bars: tuple[Bar, ...]
    others: tuple[tuple[str, str], ...]
    chips: tuple[Chip, ...]
    losses: tuple[losses.Loss, ...]
    is_own_test: bool


def judge(record: Record) -> Verdict | None:
    """The verdict on the held-out pictures; None where nothing was judged."""
    test = record.test
    accuracy = interval(test.get("accuracy"))
    if accuracy is None:
        return None
    right = sum(row[place] for place, row in enumerate(test["confusion"]))
    bars = [Bar("this classifier", accuracy, is_ours=True)]
    bars += [_baseline_bar(row, accuracy) for row in _baselines(record)]
    return Verdict(
        n=test["n"],
        right=right,
        accuracy=accuracy,
        sentences=tuple(_sentences(record, accuracy)),
        bars=tuple(sorted(bars, key=lambda bar: -bar.value.value)),
        others=tuple(_others(test)),
        chips=tuple(_chips(record, accuracy)),
        losses=losses.find(record),
        is_own_test=_is_own_test(record),
    )


def _is_own_test(record: Record) -> bool:
    """Whether a training held the pictures out; `evaluate` may have been given any."""
    return "n_train" in record.metrics


def _sentences(record: Record, accuracy: Interval) -> Iterator[str]:
    spread = accuracy.high - accuracy.low
    if record.metrics.get("seen"):
        yield "What it answers on pictures that it learnt from says nothing about new ones."
    elif not math.isnan(spread):
        pictures = words.many(record.test["n"], "held-out picture" if _is_own_test(record) else "picture")
        pin, are = ("pins", "is") if record.test["n"] == 1 else ("pin", "are")
        sure = f"{pin} it down well" if spread <= NARROW else f"{pin} it down roughly"
        sure = sure if spread <= WIDE else f"{are} too few to say more"
        yield f"For new pictures like these, expect {words.ends(accuracy)}: {pictures} {sure}."
    beaten: list[str] = []
    equal: list[str] = []
    for row in _baselines(record):
        surely = row.get("p") is not None and row["p"] < words.CERTAIN_BELOW
        (beaten if surely and accuracy.value > row["accuracy"]["value"] else equal).append(_called(row))
    if beaten:
        yield f"It is surely better than {words.listed(beaten)}."
    if equal:
        yield f"It is not surely better than {words.listed(equal, 'or')}."


def _baselines(record: Record) -> list[Json]:
    return [row for row in record.metrics.get("baselines") or () if row.get("accuracy")]


def _called(row: Json) -> str:
    """A baseline as a sentence names it."""
    known = {
        "majority": "naming the commonest class every time",
        "colour": "judging by colours alone",
        "nearest": "copying the most similar training picture",
    }
    return known.get(row["name"], str(row["label"]))


def _baseline_bar(row: Json, ours: Interval) -> Bar:
    measured = interval(row["accuracy"])
    assert measured is not None
    if (p := row.get("p")) is None:
        return Bar(str(row["label"]), measured)
    note = "not surely"
    if p < words.CERTAIN_BELOW:
        note = "yes" if measured.value < ours.value else "no, surely better"
    return Bar(str(row["label"]), measured, note, words.chance(p))


def _others(test: Json) -> Iterator[tuple[str, str]]:
    """The other measures: those that are shares, then those that are not."""
    shares = {
        "balanced_accuracy": "accuracy, classes weighing equally",
        "top5": "truth among the five most probable",
        "macro_precision": "precision, mean over classes",
        "macro_f1": "F1, mean over classes",
    }
    numbers = {
        "average_precision": "average precision",
        "roc_auc": "area under the ROC curve",
        "log_loss": "log loss",
        "brier": "Brier score",
    }
    for key, label in shares.items():
        if (measured := interval(test.get(key))) is not None:
            yield label, words.share(measured)
    for key, label in numbers.items():
        if (measured := interval(test.get(key))) is not None:
            yield label, words.measured(measured)


def _chips(record: Record, accuracy: Interval) -> Iterator[Chip]:
    yield from _chips_of_size(record)
    yield from _chips_of_baselines(record, accuracy)
    yield from _chips_of_data(record)
    yield from _chips_of_training(record, accuracy)


def _chips_of_size(record: Record) -> Iterator[Chip]:
    if seen := record.metrics.get("seen"):
        yield Chip(f"it learnt from {seen:,} of these {record.test['n']:,}", "bad", "So it may know them by heart.")
    if (n := record.test["n"]) < FEW_PICTURES:
        yield Chip(
            f"only {words.many(n, 'test picture')}", "warn", "The fewer there are, the wider every interval.", "verdict"
        )
    thin = [name for name, score in record.test["per_class"].items() if score["n"] < FEW_OF_A_CLASS]
    if thin:
        yield Chip(
            f"{words.many(len(thin), 'class', 'classes')} with under {FEW_OF_A_CLASS} test pictures",
            "warn",
            f"What is said of {'it hangs' if len(thin) == 1 else 'them hangs'} on a handful of pictures.",
            "mistakes",
        )


def _chips_of_baselines(record: Record, accuracy: Interval) -> Iterator[Chip]:
    for row in _baselines(record):
        surely = row.get("p") is not None and row["p"] < words.CERTAIN_BELOW
        if row["name"] == "nearest" or (surely and accuracy.value > row["accuracy"]["value"]):
            continue  # to be no better than the nearest neighbour in the same features is no fault
        yield Chip(f"not surely better than {_called(row)}", "bad", "The difference may be chance.", "verdict")


def _chips_of_data(record: Record) -> Iterator[Chip]:
    leaks = record.problems_of("leak")
    if leaks:
        kept = sum("kept" in row["action"] for row in leaks)
        text = f"{words.many(kept, 'leak')} kept" if kept else f"{words.many(len(leaks), 'leak')} removed"
        more = "Pictures of the test stood among those to learn from."
        yield Chip(text, "bad" if kept else "warn", more, "data")
    if shortcuts := findings.strong_shortcuts(record):
        more = "Something beside the content tells the classes apart, such as the size of the file."
        yield Chip(words.many(shortcuts, "strong shortcut"), "bad", more, "data")
    wrong = record.numbers["label"]
    total = max(len(record.split), record.test["n"], 1)
    if wrong >= MANY_WRONG_LABELS * total and wrong:
        yield Chip(
            f"{words.many(wrong, 'label')} may be wrong",
            "warn",
            "Each teaches the wrong thing, or counts as a mistake.",
            "data",
        )
    if record.suspects_of("imbalance"):
        yield Chip("classes of very unequal size", "warn", "Accuracy is mostly that of the largest.", "mistakes")


def _chips_of_training(record: Record, accuracy: Interval) -> Iterator[Chip]:
    folds = interval((record.metrics.get("out_of_fold") or {}).get("accuracy"))
    if folds is not None and not math.isnan(folds.low) and (folds.low > accuracy.high or folds.high < accuracy.low):
        better = "better" if folds.value > accuracy.value else "worse"
        yield Chip(
            f"{words.percent(folds.value)} in cross-validation, {words.percent(accuracy.value)} on the test",
            "warn",
            f"It does {better} on the training pictures, each judged by a head that did not learn from it, than on the "
            "test: the two parts differ in kind.",
            "making",
        )
    tuned = (record.run.get("computed") or {}).get("finetune") or {}
    if tuned.get("kept") == "head":
        more = "On pictures kept aside the tuned network was not clearly better, so the solved head was kept."
        yield Chip("head kept, tuning did not help", "plain", more, "training")
    error = interval(record.test.get("ece"))
    if error is not None and not math.isnan(error.low) and error.low > NARROW:
        more = "It is not right as often as it says."
        yield Chip(f"probabilities {words.points(error.value)} off", "warn", more, "trust")
