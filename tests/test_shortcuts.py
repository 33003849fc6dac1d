import json
from dataclasses import replace

import numpy as np
import pytest

from headstart.judging import shortcuts as module
from headstart.judging.shortcuts import as_suspects, find_shortcuts
from tests.test_quality import changed, plain_looks

CLASSES = ("ant", "bee")


def find(looks, labels, classes=CLASSES, **options):
    return find_shortcuts(looks, labels, np.arange(len(labels)), classes, **options)


@pytest.fixture
def halves():
    """400 ordinary photos and which of two classes each is of."""
    return plain_looks(400), np.arange(400) % 2


def test_chance_alone_is_no_shortcut(halves):
    looks, _ = halves
    findings = [find(looks, np.random.default_rng(seed).integers(0, 2, 400), seed=seed) for seed in range(20)]
    assert sum(map(bool, findings)) <= 1


def test_a_brighter_class_is_found_and_named(halves):
    looks, labels = halves
    gain = np.where(labels == 1, 1.1, 1.0).astype(np.float32)
    columns = {name: (getattr(looks, name) * gain).clip(0, 1) for name in ("brightness", "darkest", "brightest")}
    (shortcut,) = find(replace(looks, **columns), labels)
    assert (shortcut.family, shortcut.cls) == ("brightness", "bee")
    assert "pictures of 'bee'" in shortcut.reason
    assert "bright" in shortcut.reason
    assert shortcut.p < 0.01
    assert shortcut.severity == "weak"


def test_another_jpeg_quality_gives_the_class_away(halves):
    looks, labels = halves
    (shortcut,) = find(changed(looks, labels == 0, quality=70), labels)
    assert (shortcut.family, shortcut.cls, shortcut.severity) == ("JPEG quality", "bee", "strong")
    assert "higher JPEG quality" in shortcut.reason
    assert shortcut.balanced_accuracy.low > 0.9


def test_another_size_gives_the_class_away(halves):
    looks, labels = halves
    found = find(changed(looks, labels == 0, width=1024, height=1024), labels)
    assert {shortcut.family for shortcut in found} >= {"resolution", "shape"}
    assert all(shortcut.severity == "strong" for shortcut in found if shortcut.family == "resolution")


def test_another_format_gives_the_class_away(halves):
    looks, labels = halves
    looks = replace(looks, format=tuple("PNG" if label else "JPEG" for label in labels))
    (shortcut,) = find(looks, labels)
    assert (shortcut.family, shortcut.severity) == ("format", "strong")
    assert shortcut.reason.endswith("more often than the rest: AUC 1.00")


def test_one_class_of_many_is_named(halves):
    looks, _ = halves
    labels = np.arange(400) % 8
    (shortcut,) = find(changed(looks, labels == 3, sharpness=0.05), labels, tuple("abcdefgh"))
    assert (shortcut.family, shortcut.cls, shortcut.severity) == ("sharpness", "d", "strong")
    assert "more blurred" in shortcut.reason


def test_groups_count_once(halves):
    _, labels = halves
    looks = plain_looks(8).take(np.arange(400) % 8)  # eight photos, four a class, fifty times each
    assert find_shortcuts(looks, labels, np.arange(400) % 8, CLASSES) == []
    assert find(looks, labels)


def test_the_classifier_decides_what_is_strong(halves):
    looks, labels = halves
    columns = {"brightness": (looks.brightness + 0.1 * labels).astype(np.float32)}
    (shortcut,) = find(replace(looks, **columns), labels)
    (beside,) = find(replace(looks, **columns), labels, classifier=0.7)
    assert (shortcut.severity, beside.severity) == ("weak", "strong")


def test_classes_with_few_pictures_and_empty_sets_are_left_alone(halves):
    looks, labels = halves
    assert find(looks.take(np.arange(0)), labels[:0]) == []
    few = np.where(np.arange(400) < 9, 1, 0)
    assert find(changed(looks, few == 1, brightness=0.99), few) == []


def test_a_finding_becomes_json_and_a_suspect(halves):
    looks, labels = halves
    found = find(changed(looks, labels == 0, quality=70), labels)
    (record,) = json.loads(json.dumps([shortcut.to_json() for shortcut in found]))
    assert record["class"] == "bee"
    assert set(record["balanced_accuracy"]) == {"value", "low", "high"}
    (suspect,) = as_suspects(found)
    assert (suspect.path, suspect.kind, suspect.label) == ("", "shortcut", "bee")
    assert 0.9 < suspect.score <= 1


def test_the_same_seed_finds_the_same(halves):
    looks, labels = halves
    looks = changed(looks, labels == 0, quality=70)
    assert find(looks, labels, seed=3) == find(looks, labels, seed=3)


def test_many_pictures_are_sampled_by_class():
    labels = np.repeat([0, 1, 2], [20_000, 30, 5])
    chosen = module._chosen(labels, np.arange(len(labels)), np.random.default_rng(0))
    assert list(np.bincount(labels[chosen])) == [5000, 30]
    assert len(np.unique(chosen)) == len(chosen)
