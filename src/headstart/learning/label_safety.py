"""Which steps of an augmentation may change what a picture shows, judged by the names of the classes."""

import re
from collections.abc import Iterable, Sequence

from headstart.learning.augment import Step

FLIPS = ("horizontal-flip", "vertical-flip")
LARGE_ROTATION = 45.0  # degrees from which a 6 may be read as a 9, or an arrow as another
STRONG_HUE = 0.05  # of the whole circle; red and orange are 0.1 apart
EXAMPLES = 4

_ACROSS = (("left", "right"), ("leftward", "rightward"), ("east", "west"))
_UPRIGHT = (("up", "down"), ("upward", "downward"), ("top", "bottom"), ("north", "south"))
_TURNING = (("clockwise", "counterclockwise"), ("clockwise", "anticlockwise"), ("cw", "ccw"))
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_KINDS_OF_SYMBOL = {"character", "digit", "letter", "number", "numeral", "sign"}
_HOUR = re.compile(r"\d{1,2}([:.h]\d{2}|[ _-]?(o.?clock|h|am|pm))", re.IGNORECASE)
_COLOURS = {
    *("amber", "beige", "black", "blue", "brown", "cyan", "gold", "golden", "gray", "green", "grey", "magenta"),
    *("orange", "pink", "purple", "red", "silver", "teal", "turquoise", "violet", "white", "yellow"),
}

# Digits and letters that look the same mirrored left to right, mirrored upside down, and turned by half a circle.
_SAME_MIRRORED, _SAME_UPSIDE_DOWN, _SAME_TURNED = "018AHIMOTUVWXYilovwx", "0138BCDEHIKOXclox", "018HIOSXlosx"


def advice(steps: Sequence[Step], classes: Sequence[str]) -> list[str]:
    """One sentence for each step that may change the label of classes named like these.

    Flips and large rotations matter where names are digits, letters, directions or hours; a loss or change of colour
    where names tell at least two colours apart. Numbers above 99 are taken for identifiers, and a digit or letter that
    a flip leaves alone, such as 0 and 8, does not count. Names are judged, not pictures: it is advice.
    """
    sentences = []
    for step in steps:
        if found := _endangered(step, classes):
            what, names = found
            shown = ", ".join(f"'{name}'" for name in names[:EXAMPLES])
            sentences.append(f"{step.name} may change the label: {what} in classes such as {shown}.")
    return sentences


def suited(steps: Sequence[Step], classes: Sequence[str]) -> tuple[Step, ...]:
    """The steps without those that `advice` warns of."""
    return tuple(step for step in steps if not _endangered(step, classes))


def without_flips(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps without flips."""
    return tuple(step for step in steps if step.name not in FLIPS)


def _endangered(step: Step, classes: Sequence[str]) -> tuple[str, list[str]] | None:
    """What of a picture the step may change, and the classes that are told apart by it; None where there are none."""
    turns = step.name == "trivial-augment" or _number(step, "degrees") >= LARGE_ROTATION
    recolours = step.name in ("grey", "trivial-augment", "rand-augment") or _number(step, "hue") > STRONG_HUE
    named: list[str] = []
    if step.name == "horizontal-flip":
        what, named = "it exchanges left and right", _read_otherwise(classes, _SAME_MIRRORED, _ACROSS + _TURNING)
    elif step.name == "vertical-flip":
        what, named = "it exchanges up and down", _read_otherwise(classes, _SAME_UPSIDE_DOWN, _UPRIGHT + _TURNING)
    elif turns:
        what, named = "it turns signs far", _read_otherwise(classes, _SAME_TURNED, _ACROSS + _UPRIGHT)
        named.sort(key=lambda name: _symbol(name) not in ("6", "9"))
    if recolours and not named:
        what, named = "it alters colours", _told_apart_by_colour(classes)
    return (what, named) if named else None


def _number(step: Step, parameter: str) -> float:
    value = step.values.get(parameter, 0.0)
    return value if step.name != "shear" and not isinstance(value, tuple) else 0.0


def _read_otherwise(classes: Sequence[str], same: str, pairs: Iterable[tuple[str, str]]) -> list[str]:
    """The classes that are symbols other than the `same` ones, hours, or one of opposite directions."""
    identifiers = any(name.isdecimal() and int(name) > 99 for name in classes)
    seen = {word for name in classes for word in _words(name)}
    opposites = {word for pair in pairs if seen.issuperset(pair) for word in pair}
    directions = {word for pair in pairs for word in pair}

    def changes(name: str) -> bool:
        symbol, words = _symbol(name), _words(name)
        if symbol and not (identifiers and symbol.isdecimal()):
            return symbol not in same
        if _HOUR.fullmatch(name.strip()):
            return True
        return not opposites.isdisjoint(words) or (len(words) == 1 and words[0] in directions)

    return [name for name in classes if changes(name)]


def _symbol(name: str) -> str:
    """The digit, letter or number below 100 that a class is named after; empty for other names."""
    words = [word for word in re.split(r"[\W_]+", name) if word and word.lower() not in _KINDS_OF_SYMBOL]
    if len(words) != 1:
        return ""
    word = words[0]
    if word.lower() in _NUMBERS:
        return str(_NUMBERS.index(word.lower()))
    return word if len(word) == 1 or (word.isdecimal() and len(word) == 2) else ""


def _told_apart_by_colour(classes: Sequence[str]) -> list[str]:
    coloured = {name: _COLOURS.intersection(_words(name)) for name in classes}
    if len(set().union(*coloured.values())) < 2:
        return []
    return [name for name, colours in coloured.items() if colours]


def _words(name: str) -> list[str]:
    """The words of a class name, in lower case: `TurnLeft`, `turn_left` and `turn left` have the same."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [word.lower() for word in re.split(r"[\W\d_]+", spaced) if word]
