"""Time the head against scikit-learn on generated features: `python bench/head.py [--all]`.

The features are a Gaussian mixture in a latent space whose variances decay as those of real backbones do, mixed into
1,280 columns and passed through a ReLU. One fit of scikit-learn at the chosen strength stands against the whole head
stage: at least eight strengths times five folds, two scalings, the final fit and its proof. `--all` also lets
scikit-learn fit the largest set, which takes many minutes.
"""

import argparse
import time
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.learning.head import FittedHead, TrainingSet, fit_head
from results import machine, record

SIZES = ((245, 2), (1_000, 3), (2_062, 10), (5_000, 20), (10_000, 100))
WIDTH, LATENT = 1_280, 400
LARGEST_FOR_SCIKIT_LEARN = 5_000
FOLDS = 5
OVERLAP = {2: 0.25, 3: 0.25, 10: 0.3, 20: 0.3, 100: 0.4}  # distance of classes: 80 to 95 per cent are told apart


def generate(n: int, k: int) -> TrainingSet:
    """Features float32 [n, 1280] of k classes, and five stratified folds."""
    rng = np.random.default_rng((n, k))
    labels = rng.permutation(np.arange(n) % k)
    spread = np.arange(1, LATENT + 1) ** -0.6
    centres = rng.normal(size=(k, LATENT)) * spread * OVERLAP[k]
    latent = centres[labels] + rng.normal(size=(n, LATENT)) * spread
    mixing = rng.normal(size=(LATENT, WIDTH)) / np.sqrt(LATENT)
    vectors = np.maximum(latent @ mixing + 0.03 * rng.normal(size=(n, WIDTH)) - 0.05, 0)
    folds = np.empty(n, dtype=np.intp)
    folds[np.argsort(labels, kind="stable")] = np.arange(n) % FOLDS
    return TrainingSet(vectors.astype(np.float32), np.arange(n), labels, folds, k)


def fit_reference(training: TrainingSet, fitted: FittedHead) -> tuple[float, float]:
    """Seconds of one scikit-learn fit at the same strength and scaling, and the objective of a far stricter one."""
    centred = training.vectors - training.vectors.mean(axis=0, dtype=np.float64)
    if fitted.scaling == "centred":
        scaled = centred / np.sqrt((centred**2).sum(axis=1).mean())
    else:
        deviation = centred.std(axis=0)
        scaled = centred / np.where(deviation > 0, deviation, np.inf) / np.sqrt((deviation > 0).sum())
    seconds, _ = run_reference(scaled, training, fitted.strength, 1e-4)
    return seconds, run_reference(scaled, training, fitted.strength, 1e-9)[1]


def run_reference(
    scaled: NDArray[Any], training: TrainingSet, strength: float, tolerance: float
) -> tuple[float, float]:
    """Seconds and objective of one scikit-learn fit; of two classes it has one vector, half of it for each."""
    from sklearn.linear_model import LogisticRegression

    two = training.classes == 2
    model = LogisticRegression(C=(1 + two) / (len(scaled) * strength), tol=tolerance, max_iter=10_000)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(scaled, training.labels)
    seconds = time.perf_counter() - started
    weight = model.coef_ if not two else np.concatenate([-model.coef_, model.coef_]) / 2
    bias = model.intercept_ if not two else np.array([-0.5, 0.5]) * model.intercept_[0]
    return seconds, objective(scaled, training.labels, weight, bias, strength)


def objective(
    scaled: NDArray[Any], labels: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any], strength: float
) -> float:
    """Mean log loss plus strength / 2 times the squared norm of the weight."""
    scores = scaled @ weight.T + bias
    scores -= scores.max(axis=1, keepdims=True)
    losses = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(labels)), labels]
    return float(losses.mean() + strength / 2 * (weight**2).sum())


def report(n: int, k: int, with_reference: bool) -> str:
    """One row of the table."""
    training = generate(n, k)
    started = time.perf_counter()
    fitted = fit_head(training)
    seconds = time.perf_counter() - started
    accuracy = (fitted.out_of_fold_logits.argmax(axis=1) == training.labels[fitted.held_out]).mean()
    row = f"| {n:,} | {k} | {seconds:.2f} | {n / seconds:,.0f} | {fitted.scaling} {fitted.strength:.1e} "
    row += f"| {len(fitted.candidates)} x {FOLDS} | {accuracy:.3f} | {fitted.gap:.0e} "
    if not with_reference:
        return row + "| | | |"
    theirs, reached = fit_reference(training, fitted)
    excess = fitted.objective / reached - 1
    return row + f"| {theirs:.2f} | {excess:+.1e} | {theirs * len(fitted.candidates) * FOLDS / seconds:,.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the head against scikit-learn.")
    parser.add_argument("--all", action="store_true", help="let scikit-learn fit the largest set too")
    everything = parser.parse_args().all
    lines = [
        "| n | classes | head stage, s | rows / s | chosen | fits | out-of-fold accuracy | proven gap "
        "| scikit-learn, one fit, s | our F over theirs - 1 | all fits by scikit-learn / head stage |",
        "|" + "---|" * 11,
    ]
    for n, k in SIZES:
        lines.append(report(n, k, everything or n <= LARGEST_FOR_SCIKIT_LEARN))
        print(lines[-1], flush=True)
    record("Head", f"`python bench/head.py`: {machine()}.\n\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
