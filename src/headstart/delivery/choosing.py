"""A comparison of backbones written down: backbones.json, and the page that shows it."""

from pathlib import Path
from typing import Any

from headstart.delivery import run_folder
from headstart.delivery.comparing import is_run
from headstart.errors import StorageError
from headstart.judging.choice import Advice, Choice, Entrant, Stopped
from headstart.judging.comparison import Comparison, Pair
from headstart.judging.intervals import number
from headstart.judging.report.chosen import write_chosen
from headstart.storage import clear_storage_errors, written_atomically

FORMAT = 1
CHOICE, PAGE = "backbones.json", "backbones.html"


def claim(folder: Path) -> None:
    """Make sure, before any long work, that the results can be written to `folder`.

    Raises:
        StorageError: `folder` is a run, or cannot be written to.
    """
    if is_run(folder):
        raise StorageError(f"{folder} is a run, which a comparison must not change. Choose another place with -o.")
    with clear_storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


def write(folder: Path, found: Choice) -> None:
    """Write backbones.html and backbones.json into `folder`, each whole or not at all."""
    write_chosen(folder / PAGE, found)
    with written_atomically(folder / CHOICE) as path:
        run_folder.write_json(path, to_json(found))


def to_json(found: Choice) -> dict[str, Any]:
    """backbones.json; the candidates in the order of their accuracy out of fold."""
    return {
        "format": FORMAT,
        "data": found.data,
        "options": dict(found.options),
        "computed": dict(found.computed),
        "n_train": found.n_train,
        "n_out_of_fold": found.comparison.n,
        "n_held_out": found.check.n,
        "classes": found.classes,
        "advice": {**_advice(found.advice), "is_right_on_held_out": found.is_right},
        "candidates": [
            {
                **_entrant(result.entrant),
                "out_of_fold": found.comparison.accuracy[name].to_json(),
                "log_loss": result.log_loss.to_json(),
                "held_out": found.check.accuracy[name].to_json(),
                "times_the_pace_of_the_fastest": number(result.entrant.pace.per_second / found.fastest.pace.per_second),
            }
            for name, result in found.results.items()
        ],
        "pairs": {"out_of_fold": _pairs(found.comparison), "held_out": _pairs(found.check)},
        "first_rung": found.rung,
        "stopped": [_stopped(one) for one in found.stopped],
        "left_out": dict(found.left_out),
        "joined": None
        if found.joining is None
        else {"name": found.joining.name, "pays": found.joining.pays, **_pair(found.joining.pair)},
    }


def _advice(advice: Advice) -> dict[str, Any]:
    return {
        "backbone": advice.name,
        "best": advice.best,
        "against_best": None if advice.pair is None else _pair(advice.pair),
        "at_most_worse": number(advice.at_most_worse),
        "times_as_fast_as_best": number(advice.times),
    }


def _entrant(one: Entrant) -> dict[str, Any]:
    return {
        "name": one.name,
        **one.pace.to_json(),
        "megabytes": round(one.megabytes, 3),
        "licence": one.licence,
        "features": one.dimension,
        "side": one.side,
    }


def _stopped(one: Stopped) -> dict[str, Any]:
    return {
        **_entrant(one.entrant),
        "pictures": one.n,
        "accuracy": one.accuracy.to_json(),
        "log_loss": number(one.log_loss),
        "best_accuracy": one.best.to_json(),
        "against_best": _pair(one.pair),
        "faster": one.faster,
    }


def _pairs(comparison: Comparison) -> list[dict[str, Any]]:
    return [_pair(pair) for pair in comparison.pairs]


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "better": pair.better,
        "worse": pair.worse,
        "difference": pair.difference.to_json(),
        "only_better": pair.only_better,
        "only_worse": pair.only_worse,
        "p": number(pair.p),
        "p_corrected": number(pair.p_corrected),
    }
