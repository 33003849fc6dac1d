"""The roads on which candidates compete: runs that are trained on one split, and backbones before any is trained."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from headstart.delivery import candidates, choosing, comparing, contenders, run_folder
from headstart.delivery.comparing import Compared
from headstart.delivery.run_folder import DEFAULT_TEST_FRACTION, TrainOptions
from headstart.errors import HeadstartError
from headstart.features import pace
from headstart.features.engines import plan_engine
from headstart.features.extract import extract
from headstart.features.store import prune
from headstart.judging.choice import Choice
from headstart.pictures.classes import check_classes, check_names
from headstart.pictures.duplicates import resolve
from headstart.pictures.scan import scan
from headstart.pictures.split import split
from headstart.progress import SILENT, Progress
from headstart.site import Candidate, Site
from headstart.workflow import HERE, paired, settled


def compare(
    data: str | Path,
    folder: str | Path | None = None,
    options: TrainOptions | None = None,
    *,
    tunes: Sequence[str] = (),
    recipes: Sequence[str] = (),
    progress: Progress = SILENT,
    tell: Callable[[str], None] = lambda _: None,
    site: Site = HERE,
) -> Compared:
    """Train candidates on the same split of `data`, and compare them on the pictures that it holds out.

    Args:
        data: as for `train`.
        folder: where a run for each candidate goes, and compare.json; `runs/NAME-compare` unless given. A candidate
            that is there already with the same options is not trained again.
        options: what all candidates have in common.
        tunes: how much of the backbone moves: "none", "last", "all"; each is tried, with each recipe if there are any.
        recipes: names of recipes, or TOML files. With neither tunes nor recipes every tune is tried.
        progress: shows long work; nothing is shown unless given.
        tell: is given a line when a candidate is begun, finished, found, or has failed.
        site: who trains the candidates; this process, one after the other, unless given.

    Raises:
        HeadstartError: no candidate could be trained, or the options are wrong. Where some candidates failed, the
            others are compared, and `failures` of the result says why.
    """
    data, options = Path(data), options or TrainOptions()
    if options.test is None:
        options = replace(options, test=DEFAULT_TEST_FRACTION)  # one split for all, whatever a recipe says
    planned = candidates.plan(options, tunes, recipes)
    check_names(scan(data, group_by=options.group_by, test=options.test_folder))
    place = Path(folder) if folder is not None else run_folder.default(data, "-compare")
    comparing.claim(place, own=True)
    reused = [name for name, chosen in planned.items() if _is_complete(place / name, data, chosen)]
    for name in reused:
        tell(f"{name}: trained before, in {place / name}; used as it is. Delete that folder to train it again.")
    wanted = [Candidate(name, data, place / name, planned[name]) for name in planned if name not in reused]
    failures = {}
    for candidate, outcome in site.train_each(wanted, tell, progress):
        if isinstance(outcome, HeadstartError):
            failures[candidate.name] = str(outcome)
        tell(f"{candidate.name}: {'failed: ' if candidate.name in failures else ''}{outcome}")
    if len(failures) == len(planned):
        name, reason = next(iter(failures.items()))
        raise HeadstartError(f"no candidate could be trained. {name}: {reason}")
    finished = [comparing.read_run(place / name, name) for name in planned if name not in failures]
    compared = comparing.compare_runs(finished, failures, reused)
    comparing.write(place, compared)
    return compared


def _is_complete(folder: Path, data: Path, options: TrainOptions) -> bool:
    recipe, options = settled(options)
    return candidates.is_complete(folder, data, options, recipe)


def compare_backbones(
    data: str | Path,
    folder: str | Path | None = None,
    options: TrainOptions | None = None,
    *,
    backbones: Sequence[str] = (contenders.INSTALLED,),
    join: bool = False,
    progress: Progress = SILENT,
    tell: Callable[[str], None] = lambda _: None,
) -> Choice:
    """Which of several backbones to take for `data`: the fastest that is as good as the best, as far as can be told.

    The fastest embeds all pictures and so settles near duplicates and the split for all; the others are first tried on
    a part of the training pictures, where hopeless ones stop. What is chosen is chosen by out-of-fold predictions of
    training pictures; the held-out pictures are asked once, as the check. Features stay in the cache for `train`.

    Args:
        data: as for `train`.
        folder: where backbones.json and its page go; `runs/NAME-backbones` unless given.
        options: what all candidates have in common; those that name a backbone, or train by epochs, do not count.
        backbones: names as `load_backbone` takes them; `installed` stands for all whose weights are known to be here.
        join: also try the best two joined.
        progress: shows long work; nothing is shown unless given.
        tell: is given a line when a candidate is left out, stopped, or finished.

    Raises:
        HeadstartError: no candidate could be had, or the data cannot be trained on.
    """
    data, options = Path(data), options or TrainOptions()
    place = Path(folder) if folder is not None else run_folder.default(data, "-backbones")
    names = contenders.named(backbones)
    choosing.claim(place)
    scanned = scan(data, group_by=options.group_by, test=options.test_folder)
    check_names(scanned)
    plan = plan_engine(options.device, options.precision)
    able, left_out = contenders.enlist(names, options.fit, progress, tell)
    paces = pace.measure(able, plan, progress=progress)
    fastest = max(able, key=lambda name: paces[name].per_second)
    dataset, features = extract(scanned, able[fastest], plan, progress=progress)
    dataset = resolve(paired(dataset, features), keep_leaks=options.keep_leaks)
    dataset = check_classes(dataset, scanned=set(scanned.classes))
    parts = split(dataset, test_fraction=options.test_fraction, seed=options.seed)
    ground = contenders.Ground(dataset, parts, plan, options.balanced, options.seed, progress)
    found = contenders.contest(ground, able, paces, join=join, tell=tell)
    found = replace(
        found,
        data=str(data),
        run=str(run_folder.default(data)),
        options={**options.to_json(), "test": options.test or DEFAULT_TEST_FRACTION},
        asked=tuple(backbones),
        left_out=left_out,
    )
    choosing.write(place, found)
    prune()
    return found
