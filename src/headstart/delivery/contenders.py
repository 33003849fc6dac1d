"""Backbones that compete on one set of pictures: loaded, tried on a part of it, and judged on all of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from headstart.errors import BackboneError, DataError, UsageError
from headstart.features.backbones import Backbone, installed, load_backbone
from headstart.features.engines import EnginePlan
from headstart.features.extract import Features, extract
from headstart.features.names import JOINT
from headstart.features.pace import Pace, together
from headstart.features.preprocess import Fit
from headstart.judging import choice
from headstart.judging.choice import Choice, Entrant, Result, Stopped
from headstart.judging.comparison import Answer, Contestant, compare
from headstart.judging.evaluation import Evaluation, evaluate
from headstart.judging.intervals import FloatArray, Interval
from headstart.judging.trial import try_classifier
from headstart.learning.examples import Examples, Indices
from headstart.learning.solve import Solved, solve
from headstart.pictures.dataset import Dataset
from headstart.pictures.duplicates import groups
from headstart.pictures.split import Split
from headstart.progress import SILENT, Progress

INSTALLED = "installed"
MEGABYTE = 1e6

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Ground:
    """What all candidates have in common: the pictures with their parts, the engine, and how heads are solved."""

    dataset: Dataset
    split: Split
    plan: EnginePlan
    balanced: bool = False
    seed: int = 0
    progress: Progress = SILENT

    def examples(self, features: Features) -> Examples:
        """The pictures with the features of a candidate."""
        return Examples(self.dataset, features, self.split)

    def features(self, backbone: Backbone) -> Features:
        """The features of all pictures, from the store as far as it has them.

        Raises:
            DataError: a picture has gone or has changed since the first candidate saw it.
        """
        _, features = extract(self.dataset, backbone, self.plan, progress=self.progress)
        known = set(features.digests)
        if lost := [sample.path for sample in self.dataset.samples if sample.digest not in known]:
            raise DataError(
                f"{len(lost)} pictures have changed or gone while they were compared: {', '.join(lost[:3])}. "
                "Run it again."
            )
        return features

    @cached_property
    def related(self) -> dict[str, str]:
        """By digest, the group of each picture; those of one group are not independent."""
        numbers = groups(self.dataset)
        return {sample.digest: str(number) for sample, number in zip(self.dataset.samples, numbers, strict=True)}

    def part(self, training: Indices) -> "Ground":
        """The same with only the samples at these positions."""
        samples = tuple(self.dataset.samples[position] for position in training)
        return replace(self, dataset=replace(self.dataset, samples=samples), split=Split(self.split.parts[training]))


def named(words: Sequence[str]) -> list[str]:
    """The candidates that `words` name; the word `installed` stands for all whose weights are known to be here.

    Raises:
        UsageError: none, or one that is given twice.
    """
    names = [name for word in words for name in (installed() if word == INSTALLED else [word])]
    given = [word for word in words if word != INSTALLED]
    if twice := [name for name in given if given.count(name) > 1]:
        raise UsageError(f"{twice[0]} is given twice; compare different backbones.")
    if not names:
        raise UsageError("there is no backbone to compare; name some, for instance tf_efficientnet_lite0,resnet18.")
    return list(dict.fromkeys(names))


def enlist(
    names: Sequence[str], fit: Fit | None, progress: Progress, tell: Tell
) -> tuple[dict[str, Backbone], dict[str, str]]:
    """The backbones that can be had by their names, and why the others cannot.

    Raises:
        BackboneError: none of them can be had.
    """
    found: dict[str, Backbone] = {}
    left_out: dict[str, str] = {}
    for name in names:
        try:
            backbone = load_backbone(name, progress=progress)
        except BackboneError as error:
            left_out[name] = str(error)
            tell(f"{name}: left out: {error}")
            continue
        found[name] = backbone if fit is None else replace(backbone, preprocess=backbone.preprocess.with_fit(fit))
    if not found:
        name, reason = next(iter(left_out.items()))
        raise BackboneError(f"none of the {len(names)} backbones can be used. {name}: {reason}")
    return found, left_out


def entrant(backbone: Backbone, pace: Pace) -> Entrant:
    """A backbone as a candidate."""
    return Entrant(
        name=backbone.name,
        pace=pace,
        megabytes=backbone.tensors.stat().st_size / MEGABYTE,
        licence=backbone.licence,
        dimension=backbone.dimension,
        side=max(backbone.preprocess.height, backbone.preprocess.width),
    )


def contest(
    ground: Ground, backbones: Mapping[str, Backbone], paces: Mapping[str, Pace], *, join: bool, tell: Tell
) -> Choice:
    """Let the `backbones` compete: the first rung, then all pictures for those that go on, and perhaps two joined."""
    stopped, rung = first_rung(ground, backbones, paces, tell)
    ended = {one.entrant.name for one in stopped}
    results: dict[str, Result] = {}
    kept: dict[str, Features] = {}
    for name in (name for name in backbones if name not in ended):
        features = ground.features(backbones[name])
        results[name] = judged(ground, entrant(backbones[name], paces[name]), backbones[name], features, tell)
        if join:
            kept[name] = features
    parts: tuple[str, ...] = ()
    if join and len(results) > 1:
        parts = choice.judge(list(results.values()), ground.related)[0].names[:2]
        joined, features = side_by_side([(backbones[name], kept[name]) for name in parts])
        one = Entrant.join([results[name].entrant for name in parts], together([paces[name] for name in parts]))
        results[one.name] = judged(ground, one, joined, features, tell)
    comparison, check = choice.judge(list(results.values()), ground.related)
    return Choice(
        n_train=len(ground.split.train),
        classes=len(ground.dataset.classes),
        results={name: results[name] for name in comparison.names},
        comparison=comparison,
        check=check,
        advice=choice.advise(comparison, {name: result.entrant.pace for name, result in results.items()}),
        stopped=tuple(stopped),
        joining=choice.joining(comparison, JOINT.join(parts), parts) if parts else None,
        is_join_asked=join,
        rung=rung,
        computed={"device": ground.plan.device, "engine": ground.plan.name, "precision": ground.plan.precision},
    )


def first_rung(
    ground: Ground, backbones: Mapping[str, Backbone], paces: Mapping[str, Pace], tell: Tell
) -> tuple[list[Stopped], int | None]:
    """Try all candidates on a part of the training pictures: those that stop, and how many pictures it took.

    See `choice.hopeless` for who stops; None pictures where the set is so small that nothing would be saved.
    """
    drawn = _drawn(ground)
    if drawn is None or len(backbones) < 2:
        return [], None
    rung = ground.part(drawn)
    contestants: list[Contestant] = []
    losses: dict[str, float] = {}
    for name, backbone in backbones.items():
        examples = rung.examples(rung.features(backbone))
        solved = solve(examples, backbone, ground.plan.precision, balanced=ground.balanced, progress=ground.progress)
        said, found = _out_of_fold(examples, solved)
        contestants.append(Contestant(name, said, 1 / paces[name].per_second))
        losses[name] = found.log_loss.value
    compared = compare(contestants, ground.related)
    stopped = []
    for name, faster in choice.hopeless(compared, paces).items():
        pair = compared.against_best(name)
        assert pair is not None
        one = entrant(backbones[name], paces[name])
        mine, best = compared.accuracy[name], compared.accuracy[compared.best]
        stopped.append(Stopped(one, compared.n, mine, losses[name], best, pair, faster))
        tell(f"{name}: stopped after {compared.n:,} pictures: {_against(mine, best, compared.best)}")
    return stopped, compared.n


def judged(ground: Ground, one: Entrant, backbone: Backbone, features: Features, tell: Tell) -> Result:
    """What a candidate does on all pictures: out of fold on those of the training, and on the held-out ones."""
    examples = ground.examples(features)
    solved = solve(examples, backbone, ground.plan.precision, balanced=ground.balanced, progress=ground.progress)
    related = examples.groups[ground.split.test]
    trial = try_classifier(solved.classifier, examples.test_samples, examples.test_vectors, related, seed=ground.seed)
    said, found = _out_of_fold(examples, solved)
    result = Result(one, said, _answers(examples, ground.split.test, trial.probabilities), found.log_loss)
    tell(f"{one.name}: out of fold {found.accuracy}, held out {trial.evaluation.accuracy}")
    return result


def side_by_side(parts: Sequence[tuple[Backbone, Features]]) -> tuple[Backbone, Features]:
    """The features of several backbones joined, as the backbone that would give them; its files are not made."""
    backbones, features = zip(*parts, strict=True)
    first = features[0]
    assert all(one.digests == first.digests for one in features)
    joined = replace(
        backbones[0],
        name=JOINT.join(one.name for one in backbones),
        dimension=sum(one.dimension for one in backbones),
    )
    return joined, replace(first, vectors=np.concatenate([one.vectors for one in features], axis=1))


def _against(mine: Interval, best: Interval, name: str) -> str:
    return f"{mine.value:.3f} against {best.value:.3f} of {name}"


def _drawn(ground: Ground) -> Indices | None:
    """The training pictures of the first rung, as positions; None where the set is small."""
    train, names = ground.split.train, list(ground.dataset.classes)
    size = choice.rung_size(len(train), len(names))
    if size is None:
        return None
    labels = np.array([names.index(ground.dataset.samples[position].label) for position in train], dtype=np.int64)
    return np.asarray(train[choice.draw_rung(labels, ground.split.folds.astype(np.int64), size, ground.seed)])


def _out_of_fold(examples: Examples, solved: Solved) -> tuple[dict[str, Answer], Evaluation]:
    """What the heads said of the training pictures that they had not seen, and how good that is."""
    held_out = solved.held_out
    found = evaluate(solved.out_of_fold, examples.labels[held_out], examples.groups[held_out], examples.dataset.classes)
    return _answers(examples, held_out, solved.out_of_fold), found


def _answers(examples: Examples, positions: Indices, probabilities: FloatArray) -> dict[str, Answer]:
    """By digest, what `probabilities` float64 [n, k] say of the samples at `positions` [n]; of copies the first."""
    classes, found = examples.dataset.classes, dict[str, Answer]()
    for position, row in zip(positions, probabilities, strict=True):
        sample, said = examples.dataset.samples[position], int(row.argmax())
        found.setdefault(sample.digest, Answer(sample.path, sample.label, classes[said], float(row[said])))
    return found
