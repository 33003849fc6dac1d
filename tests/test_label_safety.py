import pytest

from headstart.learning.augment import policy_steps
from headstart.learning.label_safety import advice, suited, without_flips

DIGITS = list("0123456789")


def steps(*names, **values):
    return policy_steps([{"name": name, **values} for name in names])


def test_digits_are_not_to_be_mirrored():
    (said,) = advice(policy_steps("gentle"), DIGITS)
    assert said == (
        "horizontal-flip may change the label: it exchanges left and right in classes such as '2', '3', '4', '5'."
    )
    assert [step.name for step in suited(policy_steps("gentle"), DIGITS)] == ["random-resized-crop", "colour-jitter"]


def test_six_and_nine_are_not_to_be_turned():
    (said,) = advice(steps("rotation", degrees=90), DIGITS)
    assert "classes such as '6', '9', " in said
    assert advice(steps("rotation", degrees=15), DIGITS) == []
    assert len(advice(policy_steps("trivial"), DIGITS)) == 2


@pytest.mark.parametrize(
    ("classes", "horizontal", "vertical"),
    [
        (["left", "right"], True, False),
        (["TurnLeft", "turn_right", "straight on"], True, False),
        (["thumbs-up", "thumbs-down"], False, True),
        (["clockwise", "anticlockwise"], True, True),
        (["A", "H", "T"], False, True),
        (["letter b", "letter d"], True, True),
        (["3 o'clock", "9 o'clock"], True, True),
        (["12:30", "6:15"], True, True),
        (["digit three", "digit seven"], True, True),
        (["0", "1"], False, False),
        (["grade_1", "grade_2"], False, False),
        (["1", "2", "102"], False, False),
        (["pick up truck", "car"], False, False),
        (["sloth", "pastry"], False, False),
        ([], False, False),
    ],
)
def test_flips_matter_where_names_say_so(classes, horizontal, vertical):
    assert bool(advice(steps("horizontal-flip"), classes)) == horizontal
    assert bool(advice(steps("vertical-flip"), classes)) == vertical


def test_colours_are_not_to_be_lost():
    cars = ["red car", "blue car", "lorry"]
    said = advice(steps("grey", "colour-jitter", "rand-augment", "trivial-augment", "horizontal-flip"), cars)
    assert [sentence.split()[0] for sentence in said] == ["grey", "rand-augment", "trivial-augment"]
    assert "'red car', 'blue car'." in said[0]
    assert advice(steps("colour-jitter", hue=0.2), cars)
    assert advice(steps("grey"), ["orange", "apple"]) == []


def test_sloths_and_pastries_may_be_changed_in_every_way():
    for policy in ("gentle", "rich", "trivial", "rand", "erasing"):
        assert advice(policy_steps(policy), ["sloth", "pastry"]) == []
        assert suited(policy_steps(policy), ["sloth", "pastry"]) == policy_steps(policy)


def test_without_flips():
    assert [step.name for step in without_flips(steps("vertical-flip", "grey", "horizontal-flip"))] == ["grey"]
