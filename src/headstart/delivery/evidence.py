"""What a report shows besides numbers: where the pictures are, which are nearly the same, and maps of mistakes."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from headstart.delivery.explain import explained
from headstart.delivery.predictor import Predictor
from headstart.errors import BackboneError
from headstart.judging.report.mistakes import WORST
from headstart.judging.report.writing import Extras
from headstart.judging.saliency import overlay_webp
from headstart.judging.trial import Trial
from headstart.parallel import core_count
from headstart.pictures.dataset import Dataset


def of_data(dataset: Dataset, place: Path) -> Extras:
    """What can be shown of a data set alone; `place` is where the report's folder will stand."""
    wanted = {digest for pair in dataset.twins for digest in pair}
    first_path: dict[str, str] = {}
    for sample in dataset.samples:
        if sample.digest in wanted:
            first_path.setdefault(sample.digest, sample.path)
    twins = [
        (first_path[one], first_path[other])
        for one, other in dataset.twins
        if one in first_path and other in first_path
    ]
    return Extras(locate=lambda path: dataset.root / path, twins=twins, place=place)


def of_trial(dataset: Dataset, trial: Trial, load: Callable[[], Predictor], place: Path) -> Extras:
    """What can be shown of held-out pictures that were judged; maps of the worst mistakes among them.

    What judged them is only loaded where there are mistakes. There are no maps for a network that has none.
    """
    extras, rows = of_data(dataset, place), trial.evaluation.worst_mistakes(WORST)
    if not rows:
        return extras
    try:
        return replace(extras, saliency=_maps(dataset, trial, rows, load()))
    except BackboneError:
        return extras


def _maps(dataset: Dataset, trial: Trial, rows: Sequence[int], predictor: Predictor) -> dict[str, bytes]:
    said = [trial.predictions[row] for row in rows]
    located = (replace(one, path=str(dataset.root / one.path)) for one in said)
    with ThreadPoolExecutor(core_count()) as pool:
        drawn = {
            one.path: pool.submit(overlay_webp, shown.picture, shown.map)
            for one, shown in zip(said, explained(predictor, located), strict=True)
            if shown.picture is not None and shown.map is not None
        }
    return {path: overlay.result() for path, overlay in drawn.items()}
