"""The overlay: what it makes of a data set, and that it changes nothing else."""

import random
from pathlib import Path

import pytest

from headstart.errors import UsageError
from headstart.pictures.dataset import Dataset, Sample
from headstart.pictures.duplicates import resolve
from headstart.pictures.overlay import NOTHING, Overlay, apply, checked_name, pair_key, with_added

ROOT = Path("/photos")


def dataset(*rows):
    """Samples of (path, label, digest)."""
    samples = tuple(Sample(path, label, digest=digest) for path, label, digest in rows)
    return Dataset(ROOT, tuple(sorted(samples, key=lambda sample: sample.path)))


THREE = dataset(("ant/1.png", "ant", "a"), ("ant/2.png", "ant", "b"), ("bee/1.png", "bee", "c"))


def labels(of):
    return {sample.path: sample.label for sample in of.samples}


def test_an_empty_overlay_is_the_identity():
    assert apply(THREE, NOTHING) is THREE
    assert with_added(THREE, NOTHING) is THREE
    assert NOTHING.is_empty


def test_confirmations_change_no_picture():
    decided = Overlay(accepted={"a": "ant"})
    assert apply(THREE, decided) == THREE
    assert not decided.is_empty
    assert decided.is_confirmed("a", "ant")
    assert not decided.is_confirmed("a", "bee")
    assert not decided.is_confirmed("b", "ant")


def test_relabelling_is_by_content_and_leaves_the_rest():
    made = apply(THREE, Overlay(relabelled={"b": "bee"}))
    assert labels(made) == {"ant/1.png": "ant", "ant/2.png": "bee", "bee/1.png": "bee"}
    assert [sample.digest for sample in made.samples] == ["a", "b", "c"]
    assert labels(THREE)["ant/2.png"] == "ant"


def test_a_copy_gets_the_same_decision_and_so_no_longer_contradicts():
    torn = dataset(("ant/1.png", "ant", "a"), ("bee/1.png", "bee", "a"), ("bee/2.png", "bee", "b"))
    assert len(resolve(torn).samples) == 1
    kept = resolve(apply(torn, Overlay(relabelled={"a": "bee"})))
    assert labels(kept) == {"ant/1.png": "bee", "bee/1.png": "bee", "bee/2.png": "bee"}


def test_what_is_excluded_is_named():
    made = apply(THREE, Overlay(excluded=frozenset("c")))
    assert len(made.samples) == 2
    (problem,) = made.problems
    assert (problem.path, problem.kind, problem.action) == ("bee/1.png", "ignored", "left out")
    assert "review" in problem.detail


def test_renaming_is_of_classes_of_the_data_alone():
    made = apply(THREE, Overlay(renamed={"ant": "emmet"}, relabelled={"c": "ant"}))
    assert labels(made) == {"ant/1.png": "emmet", "ant/2.png": "emmet", "bee/1.png": "ant"}


def test_two_classes_can_change_their_names():
    made = apply(THREE, Overlay(renamed={"ant": "bee", "bee": "ant"}))
    assert labels(made) == {"ant/1.png": "bee", "ant/2.png": "bee", "bee/1.png": "ant"}


def test_merging():
    assert apply(THREE, Overlay(renamed={"ant": "insect", "bee": "insect"})).classes == ("insect",)


def test_added_pictures_join_before_the_data_are_read():
    more = with_added(THREE, Overlay(added=(("/new/9.png", "bee"), ("/photos/ant/1.png", "bee"))))
    assert labels(more) == {**labels(THREE), "/new/9.png": "bee"}
    parted = Dataset(ROOT, (Sample("train/a/1.png", "a", "train"), Sample("test/a/2.png", "a", "test")))
    assert with_added(parted, Overlay(added=(("/new/9.png", "a"),))).samples[0].given == "train"


def test_the_digest_is_that_of_the_content_whatever_the_order():
    names = [f"{number:02}" for number in range(20)]
    shuffled = random.Random(1).sample(names, len(names))
    one, other = (
        Overlay(relabelled=dict.fromkeys(order, "x"), excluded=frozenset(order), added=tuple((n, "x") for n in order))
        for order in (names, shuffled)
    )
    assert one.digest == other.digest
    assert one.digest != Overlay(relabelled=dict.fromkeys(names, "y")).digest


@pytest.mark.parametrize(
    "name", ["", " ", "a/", "/a", "a//b", "..", "a/../b", ".git", "a\\b", "a\nb", "x" * 201, "a/ b"]
)
def test_no_folder_can_be_called_so(name):
    with pytest.raises(UsageError):
        checked_name(name)


@pytest.mark.parametrize(("name", "kept"), [(" ant ", "ant"), ("ants/red", "ants/red"), ("🦥 <b>", "🦥 <b>")])
def test_other_names_stay(name, kept):
    assert checked_name(name) == kept


def test_a_pair_has_one_key():
    assert pair_key("a", "b") == pair_key("b", "a")
