"""Which backbone to take: by pace and paired tests, against plain counting; and what is said of it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.features.pace import Pace, together
from headstart.judging import choice
from headstart.judging.choice import Choice, Entrant, Result, Stopped
from headstart.judging.comparison import Answer, Contestant, compare
from headstart.judging.metrics import Interval
from headstart.judging.report import chosen

from .browser import browser, opened, overflow, violations

N = 400
HOSTILE = "<script>alert(1)</script>&"


def rights(wrong, n=N):
    """Right on all of `n` pictures but the first `wrong`."""
    return np.arange(n) >= wrong


def answers(right, start=0):
    return {
        str(start + number): Answer(f"{number}.jpg", "ant", "ant" if one else "bee", 0.9)
        for number, one in enumerate(right)
    }


def compared(paces, **right):
    return compare([Contestant(name, answers(one), 1 / paces[name].per_second) for name, one in right.items()])


def paces(**per_second):
    return {name: Pace(float(rate), 1000 / rate) for name, rate in per_second.items()}


def entrant(name, rate=100.0):
    return Entrant(name, Pace(rate, 1000 / rate), 13.7, "apache-2.0", 1280, 224)


def result(name, out_of_fold, held_out, rate=100.0):
    return Result(entrant(name, rate), answers(out_of_fold), answers(held_out, 10_000), Interval(0.2, 0.15, 0.25))


def a_choice(*results, parts=(), **more):
    """What comes of these results, as `contenders.contest` puts it together."""
    comparison, check = choice.judge(results, {})
    by_name = {one.name: one for one in results}
    return Choice(
        n_train=N,
        classes=2,
        results={name: by_name[name] for name in comparison.names},
        comparison=comparison,
        check=check,
        advice=choice.advise(comparison, {one.name: one.entrant.pace for one in results}),
        joining=choice.joining(comparison, "+".join(parts), parts) if parts else None,
        **{"data": "my photos", "run": "runs/photos", "options": {"seed": 3, "test": 0.2}, "asked": ("a", "b")} | more,
    )


@pytest.mark.parametrize(
    ("n_train", "classes", "expected"),
    [(799, 2, None), (800, 2, 200), (1650, 10, 412), (1000, 40, None), (100_000, 5, 2000), (40_000, 300, None)],
)
def test_the_first_rung_is_a_quarter_within_bounds(n_train, classes, expected):
    assert choice.rung_size(n_train, classes) == expected


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 4)), min_size=20, max_size=300), st.integers(0, 9))
def test_the_first_rung_has_each_class_in_each_fold(pairs, seed):
    labels, folds = np.array(pairs, dtype=np.int64).T
    size = len(labels) // 4
    drawn = choice.draw_rung(labels, folds, size, seed)
    assert len(np.unique(drawn)) == len(drawn)
    assert (np.diff(drawn) > 0).all()
    assert {*zip(labels[drawn], folds[drawn], strict=True)} == {*zip(labels, folds, strict=True)}
    assert abs(len(drawn) - size) <= len({*pairs})
    assert (choice.draw_rung(labels, folds, size, seed) == drawn).all()


def test_another_seed_draws_another_rung():
    labels, folds = np.zeros(400, dtype=np.int64), np.arange(400) % 5
    assert (choice.draw_rung(labels, folds, 100, 0) != choice.draw_rung(labels, folds, 100, 1)).any()


def test_the_fastest_that_is_not_surely_worse_is_advised():
    fast = paces(slow=10, middle=30, quick=90)
    found = choice.advise(compared(fast, slow=rights(20), middle=rights(21), quick=rights(60)), fast)
    assert (found.name, found.best, found.times) == ("middle", "slow", 3.0)
    assert [(pair.better, pair.worse) for pair in found.sooner] == [("slow", "quick")]
    assert found.pair.difference.value == pytest.approx(1 / N)
    assert found.at_most_worse == found.pair.difference.high > 1 / N
    assert found.is_as_good


def test_few_pictures_do_not_make_a_candidate_as_good():
    fast = paces(slow=10, quick=90)
    found = choice.advise(compared(fast, slow=rights(1, 40), quick=rights(3, 40)), fast)
    assert found.name == "quick"
    assert found.at_most_worse > 0.02
    assert not found.is_as_good


def test_the_best_is_advised_where_all_others_are_surely_worse():
    fast = paces(slow=10, quick=90)
    found = choice.advise(compared(fast, slow=rights(10), quick=rights(40)), fast)
    assert (found.name, found.pair, found.times, found.at_most_worse) == ("slow", None, 1.0, 0.0)


def test_a_pace_that_is_about_the_same_decides_nothing():
    fast = paces(best=95, other=100)
    assert choice.advise(compared(fast, best=rights(10), other=rights(12)), fast).name == "best"
    fast = paces(best=85, other=100)
    assert choice.advise(compared(fast, best=rights(10), other=rights(12)), fast).name == "other"


def test_only_those_surely_worse_and_off_the_front_stop():
    fast = paces(best=50, dominated=40, quick=90, near=20)
    found = compared(fast, best=rights(20), dominated=rights(60), quick=rights(70), near=rights(22))
    assert choice.hopeless(found, fast) == {"dominated": "best"}  # quick is the fastest, near is not surely worse
    slower = {**fast, **paces(quick=30)}
    assert choice.hopeless(found, slower) == {"dominated": "best", "quick": "best"}
    assert choice.hopeless(found, {**fast, **paces(dominated=60)}) == {}  # it is the fastest but for a worse one


def test_joining_pays_only_where_it_is_surely_better():
    fast = {**paces(a=100, b=50), "a+b": together([*paces(a=100, b=50).values()])}
    much = compared(fast, a=rights(40), b=rights(44), **{"a+b": rights(10)})
    found = choice.joining(much, "a+b", ("b", "a"))
    assert (found.single, found.pays) == ("a", True)
    assert not choice.joining(compared(fast, a=rights(12), b=rights(44), **{"a+b": rights(10)}), "a+b", "ab").pays
    worse = choice.joining(compared(fast, a=rights(10), b=rights(44), **{"a+b": rights(60)}), "a+b", "ab")
    assert worse.pair.is_certain
    assert not worse.pays


def test_a_joined_candidate_costs_what_its_parts_cost():
    one = Entrant.join([entrant("a", 100.0), entrant("b", 25.0)], together([Pace(100.0, 10.0), Pace(25.0, 40.0)]))
    assert (one.name, one.pace, one.megabytes) == ("a+b", Pace(20.0, 50.0), 27.4)
    assert (one.dimension, one.licence) == (2560, "apache-2.0")


def test_the_held_out_pictures_choose_nothing_and_are_asked_whether_it_was_right():
    found = a_choice(result("slow", rights(20), rights(0), 10.0), result("quick", rights(21), rights(60), 40.0))
    assert found.advice.name == "quick"  # by the pictures out of fold, although the held-out ones say otherwise
    assert not found.is_right
    assert "do not bear the recommendation out" in chosen.check(found)
    assert a_choice(result("slow", rights(9), rights(3), 10.0), result("quick", rights(9), rights(5), 40.0)).is_right


def test_what_is_said_of_each_outcome():
    same = a_choice(result("slow", rights(9), rights(3), 10.0), result("quick", rights(10), rights(5), 20.0))
    said = chosen.recommendation(same)
    assert said.startswith("Take quick: it is as good as slow within the error on 400 pictures (at most 1.")
    assert said.endswith("and twice as fast.")
    assert "may be chance" in chosen.check(same)
    few = a_choice(result("slow", rights(1, 30), rights(0), 10.0), result("quick", rights(3, 30), rights(0), 35.0))
    assert "cannot be told apart from slow, and is 3.5 times as fast; but it may be worse by up to" in (
        chosen.recommendation(few)
    )
    sure = a_choice(result("slow", rights(9), rights(3), 10.0), result("quick", rights(50), rights(5), 35.0))
    assert chosen.recommendation(sure) == "Take slow: it is surely better than the other."
    assert chosen.sooner(sure).startswith("quick is 3.5 times as fast, but surely worse: 10.2 points behind slow")
    assert chosen.sooner(same) is None
    alone = a_choice(result("only", rights(9), rights(3)))
    assert chosen.recommendation(alone) == "Take only: of the candidates, it alone came to the end."
    both = a_choice(result("slow", rights(12), rights(3), 10.0), result("quick", rights(9), rights(5), 35.0))
    assert chosen.recommendation(both) == "Take quick: it is the most accurate, and the fastest."


def a_full_choice():
    """Four candidates of which one is joined, one stopped and one left out, under names that are no good."""
    a, b = "backbone/a", f"b{HOSTILE}"
    results = [result(a, rights(30), rights(12), 90.0), result(b, rights(28), rights(11), 40.0)]
    results.append(result(f"{a}+{b}", rights(8), rights(3), 27.0))
    rung = compare([Contestant("best", answers(rights(5))), Contestant("bad", answers(rights(80)))])
    pair = rung.against_best("bad")
    stopped = Stopped(entrant("bad", 9.0), N, rung.accuracy["bad"], 0.9, rung.accuracy["best"], pair, "best")
    left_out = {HOSTILE: f"none\nhere {HOSTILE}"}
    return a_choice(*results, parts=(a, b), stopped=(stopped,), left_out=left_out, rung=N)


def test_the_page_escapes_and_repeats_every_word(tmp_path):
    found = a_full_choice()
    page = chosen.write_chosen(tmp_path / "backbones.html", found).read_text("utf-8")
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert "Stopped and left out" in page
    assert chosen.stop(found.stopped[0]).startswith("stopped after 400 pictures: 0.80 against 0.99 of best, p < 0.001")
    assert "http" not in page.replace("http-equiv", "")


def test_the_command_keeps_the_options():
    found = a_choice(result("only", rights(9), rights(3)))
    assert chosen.command(found) == "headstart train 'my photos' -o runs/photos --seed 3 --backbone only"


@pytest.mark.browser
def test_the_page_can_be_used_by_everybody(tmp_path):
    path = chosen.write_chosen(tmp_path / "backbones.html", a_full_choice())
    with browser() as process:
        for width, dark in ((1280, False), (390, True)):
            with opened(process, Path(path), width=width, dark=dark) as page:
                assert overflow(page) == 0
                assert violations(page) == []
