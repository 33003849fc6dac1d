"""Run folders made up for the tests of the report, with every file and key that it knows, and small drawings."""

import csv
import json
from pathlib import Path

import numpy as np

from headstart.judging.evaluation import evaluate
from headstart.judging.metrics import wilson
from headstart.judging.report.writing import Extras

from . import tiny

CLASSES = ("amber", "blue", "green")
CANARY = '<img src=x onerror="window.canary=1"><script>window.canary=1</script>\'"&{{ 7*7 }}'
HOSTILE = (
    f"{CANARY} one",
    "</script><script>window.canary=1</script>",
    "عربي \u202e reversed",
    "🦥" * 40 + "x" * 220,
)


def span(share, n):
    """A share with its interval, as it stands in metrics.json."""
    found = wilson(share, n)
    return {"value": found.value, "low": found.low, "high": found.high}


def write_csv(path, header, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header.split(","), *rows])


def make(folder: Path, *, classes=CLASSES, n_test=60, n_train=120, seed=0, pictures=True) -> Extras:
    """Write a run folder with every section into `folder`, and its pictures beside it; returns what goes with it."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    root = folder.parent / f"{folder.name} pictures"
    k = len(classes)
    test = [(f"test/{row % k}/{row:04} {classes[row % k][:40]}".replace("/", "_"), row % k) for row in range(n_test)]
    train = [(f"train_{row % k}_{row:05}", row % k) for row in range(n_train)]
    names = {path: f"{number:06}.png" for number, (path, _) in enumerate(test + train)}
    if pictures:
        for number, (path, label) in enumerate(test + train):
            tiny.draw(root / names[path], tuple(random.integers(0, 255, 3)), number, (60 + label % 9, 44))
    logits = random.normal(0, 1, (n_test, k))
    logits[np.arange(n_test), [label for _, label in test]] += 3.0
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([label for _, label in test])
    _write_tables(folder, classes, test, train, probabilities)
    judged = evaluate(probabilities, labels, None, classes).to_json()
    (folder / "metrics.json").write_text(json.dumps(_metrics(judged, classes, n_train)), "utf-8")
    (folder / "run.json").write_text(json.dumps(_record(seed)), "utf-8")
    return Extras(
        locate=lambda path: root / names.get(path, "no such file"),
        saliency={path: _overlay() for path, _ in test},
        twins=[(train[0][0], train[min(k, n_train - 1)][0]), (train[1][0], train[2][0])],
    )


def _overlay():
    import io

    from PIL import Image

    heat = np.zeros((40, 60, 4), np.uint8)
    heat[10:30, 20:40] = 255, 80, 0, 160
    buffer = io.BytesIO()
    Image.fromarray(heat).save(buffer, "PNG")
    return buffer.getvalue()


def _write_tables(folder, classes, test, train, probabilities):
    random = np.random.default_rng(1)
    rows = []
    for (path, label), row in zip(test, probabilities, strict=True):
        said = int(row.argmax())
        right = "yes" if said == label else "no"
        rows.append([path, classes[label], classes[said], f"{row[said]:.6f}", classes[said], "0.5", right, row[label]])
    header = "path,label,predicted,probability,prediction_set,none_of_these_score,correct,probability_of_label"
    write_csv(folder / "predictions.csv", header, rows)
    held = [[path, f"d{number}", classes[label], "test", ""] for number, (path, label) in enumerate(test)]
    learnt = [
        [path, f"e{number // 2}" if number < 6 else f"e{number}", classes[label], number % 5, ""]
        for number, (path, label) in enumerate(train)
    ]
    write_csv(folder / "split.csv", "path,digest,class,part,group", held + learnt)
    at = [
        [
            path,
            "test" if number < len(test) else "train",
            classes[label],
            *(random.normal(0, 1, 2) + np.array([label % 4, label])),
        ]
        for number, (path, label) in enumerate(test + train)
    ]
    write_csv(folder / "map.csv", "path,part,label,x,y", at)
    kinds = ("label", "outlier", "dark", "bright", "blurred", "tiny", "odd_shape", "constant")
    suspects = [
        [
            path,
            kinds[number % 8],
            1 - number / 100,
            f"it looks {kinds[number % 8]}",
            "look at it",
            classes[label],
            classes[(label + 1) % len(classes)] if number % 8 == 0 else "",
        ]
        for number, (path, label) in enumerate(train[:64])
    ]
    suspects.append(
        ["", "imbalance", 0.6, f"{classes[0]} has ten times as many pictures as {classes[1]}", "add some", "", ""]
    )
    suspects.append(
        ["", "shortcut", 0.9, "the size of the file alone tells the classes apart", "re-encode them", "", ""]
    )
    write_csv(folder / "suspects.csv", "path,kind,score,reason,action,label,suggested", suspects)
    problems = [
        ["broken.jpg", "unreadable", "truncated: the picture's data end early", "left out"],
        ["huge.png", "too_large", "50000 x 50000 pixels", "left out"],
        [train[3][0], "leak", f"the same picture is in test: {test[0][0]}", "removed from training"],
        [train[4][0], "duplicate", f"the same picture as {train[5][0]}", "kept, together with its twin in one part"],
        ["odd/", "empty_class", "no picture files in it", "left out"],
    ]
    write_csv(folder / "problems.csv", "path,kind,detail,action", problems)
    epochs = [[e, 0.001, 1 / e, 1 - 0.3 / e, 1.1 / e, 1 - 0.35 / e, 4.5] for e in range(1, 9)]
    write_csv(folder / "history.csv", "epoch,lr,train_loss,train_accuracy,val_loss,val_accuracy,seconds", epochs)


def _metrics(judged, classes, n_train):
    n, accuracy = judged["n"], judged["accuracy"]["value"]
    bins = [
        {"n": n // 3, "confidence": c, "accuracy": span(a, n // 3)} for c, a in ((0.5, 0.55), (0.75, 0.7), (0.95, 0.93))
    ]
    judged |= {
        "balanced_accuracy": span(accuracy, n),
        "brier": span(0.2, n),
        "reliability": bins,
        "roc_auc": span(0.95, n),
    }
    return {
        "format": 1,
        "n_train": n_train,
        "n_test": n,
        "classes": list(classes),
        "backbone": "tiny",
        "tune": "none",
        "test": judged,
        "out_of_fold": {"n": n_train, "accuracy": span(0.6, 10 * n_train)},
        "head_alone": {"n": n, "accuracy": span(accuracy, n)},
        "baselines": [
            {
                "name": "majority",
                "label": "always the commonest class",
                "accuracy": span(1 / len(classes), n),
                "p": 1e-9,
            },
            {"name": "colour", "label": "colour alone", "accuracy": span(accuracy * 0.95, n), "p": 0.2},
            {"name": "nearest", "label": "the nearest neighbour", "accuracy": span(accuracy * 0.98, n), "p": 0.6},
        ],
        "promises": {
            "sets": [
                {"kind": "threshold", "coverage": 0.95, "held": span(0.95, n), "mean_size": 1.2, "single": 0.8},
                {"kind": "adaptive", "coverage": 0.95, "held": span(0.8, n), "mean_size": 1.1, "single": 0.9},
            ],
            "none_of_these": {"false_reject_rate": 0.01, "rejected": span(0.02, n)},
            "abstain": [
                {"wanted": 0.99, "threshold": 0.93, "answered": span(0.6, n), "accuracy": span(0.985, 0.6 * n)},
                {"wanted": 0.999, "threshold": None, "answered": None, "accuracy": None},
            ],
        },
        "growth": {
            "points": [{"n": m, "accuracy": span(0.95 - 2 / m, n)} for m in (15, 30, 60, 120)],
            "forecast": [{"n": m, "accuracy": span(0.96 - 2 / m, n)} for m in (240, 480)],
            "verdict": "Twice the pictures would bring about one point.",
        },
        "robustness": {
            "n": n,
            "clean": span(accuracy, n),
            "rows": [
                {
                    "kind": "blur",
                    "label": "out of focus (radius 2 % of the side)",
                    "accuracy": span(accuracy * 0.6, n),
                    "p": 0.0002,
                    "per_class": {name: span(0.5, n) for name in classes[:3]},
                },
                {
                    "kind": "dark",
                    "label": "half as bright",
                    "accuracy": span(accuracy * 0.98, n),
                    "p": 0.4,
                    "per_class": {},
                },
            ],
        },
        "slices": [
            {
                "by": "brightness",
                "name": "darkest third",
                "n": n // 3,
                "accuracy": span(0.7, n // 3),
                "rest": span(0.9, n),
                "p": 0.03,
            },
            {
                "by": "size",
                "name": "smallest third",
                "n": n // 3,
                "accuracy": span(0.88, n // 3),
                "rest": span(0.86, n),
                "p": 1.0,
            },
        ],
        "audit": {"kinds": {}, "shortcuts": [{"severity": "strong"}, {"severity": "weak"}]},
        "seconds": {"scan": 0.1, "features": 2.0, "total": 2.1},
        "pictures_per_second": 310.0,
        "chosen": {"strength": 0.001, "scaling": "centred", "temperature": 1.1},
    }


def _record(seed):
    return {
        "format": 1,
        "data": "/pictures/of my things",
        "options": {"backbone": None, "test": 0.2, "seed": seed, "balanced": True, "tune": "all", "resume": False},
        "computed": {
            "device": "cpu",
            "finetune": {"kept": "head", "kept_epoch": 3},
            "strengths_tried": [{"strength": 0.1, "log_loss": 0.4}, {"strength": 0.01, "log_loss": 0.2}],
        },
        "python": "3.11.7",
        "machine": "Linux",
        "versions": {"headstart": "0.1.0", "numpy": "2.4"},
        "seconds": {"scan": 0.1, "features": 2.0, "total": 2.1},
    }
