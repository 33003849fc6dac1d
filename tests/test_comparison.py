"""Runs compared picture by picture: tests and intervals against scipy, published examples and plain counting."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from headstart.errors import DataError
from headstart.judging import comparison
from headstart.judging.comparison import Answer, Contestant, compare, design_effect, holm, paired_difference, sign_test

COUNTS = st.integers(0, 60)
TABLES = st.tuples(COUNTS, COUNTS, COUNTS, COUNTS).filter(lambda table: sum(table) > 0)


def contestant(name, rights, cost=0.0, label="cat", probability=0.9):
    """A run that is right where `rights` says so, on pictures called 0, 1, 2, ..."""
    said = {
        str(number): Answer(f"{number}.jpg", label, label if right else "dog", probability)
        for number, right in enumerate(rights)
    }
    return Contestant(name, said, cost)


@given(COUNTS, COUNTS)
def test_the_sign_test_is_the_exact_binomial_test(wins, losses):
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected, rel=1e-9)
    assert sign_test(wins, losses) == sign_test(losses, wins)


def test_the_sign_test_of_a_published_example_and_of_many():
    assert sign_test(12, 2) == pytest.approx(0.0129, abs=5e-5)  # Armitage and Berry (1994), page 127
    assert sign_test(3000, 4000) == pytest.approx(stats.binomtest(3000, 7000).pvalue, rel=1e-6)
    assert sign_test(0, 5000) == 0.0


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ((14, 5, 0, 22), (0.122, 0.011, 0.226)),  # Altman et al., Statistics with Confidence (2000), table 6.2
        ((1, 1, 7, 12), (-0.286, -0.507, -0.026)),  # Bentur et al. (2009) in Fagerland et al. (2014)
    ],
)
def test_paired_differences_of_published_examples(table, expected):
    interval = paired_difference(*table)
    assert (interval.value, interval.low, interval.high) == pytest.approx(expected, abs=6e-4)


@given(TABLES)
def test_paired_differences_are_ordered_bounded_and_symmetrical(table):
    both, first, second, neither = table
    interval, mirrored = paired_difference(*table), paired_difference(both, second, first, neither)
    assert -1 <= interval.low <= interval.value <= interval.high <= 1
    assert (mirrored.low, mirrored.high) == pytest.approx((-interval.high, -interval.low), abs=1e-12)


def test_runs_that_never_disagree_are_not_certain_to_be_equal():
    interval = paired_difference(95, 0, 0, 5)
    assert interval.value == 0
    assert -0.06 < interval.low < 0 < interval.high < 0.06


def test_the_interval_holds_the_truth_as_often_as_it_says():
    random = np.random.default_rng(3)
    shares = np.array([0.88, 0.06, 0.02, 0.04])
    intervals = [paired_difference(*table) for table in random.multinomial(200, shares, 1500).tolist()]
    held = np.mean([interval.low <= 0.04 <= interval.high for interval in intervals])
    assert 0.94 <= held <= 0.985


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_agrees_with_its_definition(values):
    corrected = holm(values)
    order = np.argsort(values, kind="stable")
    expected = np.minimum(1, np.maximum.accumulate([(len(values) - i) * values[at] for i, at in enumerate(order)]))
    assert [corrected[at] for at in order] == pytest.approx(list(expected))
    assert all(before <= after for before, after in zip(values, corrected, strict=True))


def test_groups_of_one_have_no_design_effect_and_copies_count_once():
    random = np.random.default_rng(1)
    differences = random.integers(-1, 2, 300)
    assert design_effect(differences, np.arange(300)) == 1.0
    assert design_effect(np.repeat(differences, 4), np.repeat(np.arange(300), 4)) == pytest.approx(4, rel=0.01)
    assert design_effect(np.zeros(6, np.int64), np.array([0, 0, 1, 1, 2, 2])) == 2.0
    assert 1 <= design_effect(differences, random.permutation(np.arange(300) // 3)) < 1.5


def test_the_best_comes_first_and_of_equals_the_cheaper():
    runs = [
        contestant("slow", [1, 1, 1, 0], cost=9),
        contestant("weak", [1, 0, 0, 0], cost=1),
        contestant("fast", [1, 1, 0, 1], cost=2),
    ]
    result = compare(runs)
    assert result.names == ("fast", "slow", "weak")
    assert result.best == "fast"
    assert result.accuracy["weak"].value == 0.25
    assert result.against_best("fast") is None
    pair = result.against_best("slow")
    assert (pair.only_better, pair.only_worse, pair.difference.value, pair.p) == (1, 1, 0.0, 1.0)
    assert len(result.pairs) == 3
    assert any("Holm" in note for note in result.notes)


def test_a_clear_difference_is_certain_and_a_small_one_is_not():
    good, bad = [True] * 95 + [False] * 5, [True] * 80 + [False] * 20
    pair = compare([contestant("bad", bad), contestant("good", good)]).pairs[0]
    assert (pair.better, pair.worse, pair.only_better, pair.only_worse) == ("good", "bad", 15, 0)
    assert pair.p == pytest.approx(2 * 0.5**15)
    assert pair.is_certain
    assert pair.difference.low > 0
    assert not compare([contestant("a", good), contestant("b", [*good[:94], False] + [False] * 5)]).pairs[0].is_certain


@settings(max_examples=30)
@given(st.lists(st.tuples(*[st.booleans()] * 3), min_size=1, max_size=40), st.randoms())
def test_the_order_of_runs_and_pictures_does_not_matter(rows, shuffler):
    runs = [
        contestant(name, rights, cost)
        for name, rights, cost in zip("abc", zip(*rows, strict=True), (1, 2, 3), strict=True)
    ]
    first = compare(runs)
    keys = list(runs[0].answers)
    shuffler.shuffle(keys)
    shuffled = [Contestant(run.name, {key: run.answers[key] for key in keys}, run.cost) for run in runs[::-1]]
    again = compare(shuffled)
    assert (again.names, again.pairs, again.accuracy) == (first.names, first.pairs, first.accuracy)
    assert set(again.changed) == set(first.changed)
    for pair, (better, worse) in zip(first.pairs, combinations(first.names, 2), strict=True):
        assert (pair.better, pair.worse) == (better, worse)
        assert pair.p <= pair.p_corrected <= 1
        assert pair.difference.value == pytest.approx(first.accuracy[better].value - first.accuracy[worse].value)


def test_changed_pictures_are_those_that_some_got_right_the_surest_mistake_first():
    sure = Answer("2.jpg", "cat", "dog", 0.99)
    first = contestant("a", [1, 1, 1, 0])
    second = contestant("b", [1, 0, 0, 0])
    second = Contestant("b", {**second.answers, "2": sure})
    assert compare([first, second]).changed == ("2", "1")


def test_only_shared_pictures_count_and_it_is_said():
    few = contestant("few", [1, 1, 0])
    result = compare([contestant("many", [1, 1, 1, 0, 0, 0]), few])
    assert result.n == 3
    assert result.accuracy["many"].value == 1
    assert "only 3 held-out pictures are shared (held out: many 6, few 3)" in result.notes[0]


def test_grouped_pictures_count_less_and_it_is_said():
    good, bad = [True] * 40, [True] * 20 + [False] * 20
    groups = {str(number): f"group {number // 10}" for number in range(40)}
    runs = [contestant("good", good), contestant("bad", bad)]
    alone, together = compare(runs), compare(runs, groups)
    assert (alone.group_count, together.group_count) == (40, 4)
    assert together.pairs[0].p == sign_test(2, 0) == 0.5
    assert alone.pairs[0].p < 1e-5
    assert together.pairs[0].difference.low < 0 < alone.pairs[0].difference.low
    assert together.accuracy["bad"].low < alone.accuracy["bad"].low
    assert any("4 groups" in note for note in together.notes)
    assert not alone.notes


def test_one_run_alone_has_an_accuracy_and_no_pairs():
    result = compare([contestant("only", [1, 0])])
    assert (result.pairs, result.changed, result.notes) == ((), (), ())


def test_runs_that_cannot_be_compared_are_refused():
    one = contestant("one", [1, 0])
    other = Contestant("other", {f"x{key}": said for key, said in one.answers.items()})
    with pytest.raises(DataError, match=r"share no held-out pictures \(one 2, other 2\)"):
        compare([one, other])
    with pytest.raises(DataError, match=r"0\.jpg is 'cat' in one and 'bird' in other"):
        compare([one, contestant("other", [1, 0], label="bird")])


def test_a_difference_is_certain_below_five_percent():
    assert comparison.CERTAIN_BELOW == 0.05
    assert not math.isnan(compare([contestant("a", [1]), contestant("b", [0])]).pairs[0].difference.low)
