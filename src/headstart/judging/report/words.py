"""How the report writes numbers and names: each kind of them in one place."""

import math
import unicodedata
from collections.abc import Sequence

from headstart.judging.metrics import Interval

THIN = "\u202f"  # a narrow space that does not break
UNKNOWN = "–"
CERTAIN_BELOW = 0.05


def count(number: float) -> str:
    """A number of things, in full.

    >>> count(12345)
    '12,345'
    """
    return f"{int(number):,}"


def many(number: int, thing: str, things: str | None = None) -> str:
    """A number of things with their name.

    >>> many(1, "picture"), many(2, "picture"), many(2, "class", "classes")
    ('1 picture', '2 pictures', '2 classes')
    """
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def percent(share: float | None, digits: int = 1) -> str:
    r"""A share in [0, 1] per hundred; one that only rounds to all or nothing is said to be more or less.

    >>> percent(0.941176), percent(0.99999), percent(1.0), percent(None)
    ('94.1\u202f%', '>99.9\u202f%', '100.0\u202f%', '–')
    """
    if share is None or math.isnan(share):
        return UNKNOWN
    step = 10.0 ** -(digits + 2)
    if 0 < share < step / 2:
        return f"<{step:.{digits}%}".replace("%", f"{THIN}%")
    if 1 - step / 2 < share < 1:
        return f">{1 - step:.{digits}%}".replace("%", f"{THIN}%")
    return f"{share:.{digits}%}".replace("%", f"{THIN}%")


def exact(share: float) -> str:
    r"""A share that somebody chose, as chosen.

    >>> exact(0.99), exact(0.999)
    ('99\u202f%', '99.9\u202f%')
    """
    return f"{share * 100:.6g}{THIN}%"


def ends(interval: Interval | None, digits: int = 1) -> str:
    r"""The ends of the interval of a share; empty where there are none.

    >>> ends(Interval(0.9, 0.85, 0.935))
    '85.0 to 93.5\u202f%'
    """
    if interval is None or math.isnan(interval.low) or math.isnan(interval.high):
        return ""
    return f"{interval.low * 100:.{digits}f} to {percent(interval.high, digits)}"


def share(interval: Interval | None) -> str:
    r"""A share with its interval.

    >>> share(Interval(0.9, 0.85, 0.935))
    '90.0\u202f% (85.0 to 93.5\u202f%)'
    """
    if interval is None:
        return UNKNOWN
    return f"{percent(interval.value)} ({ends(interval)})" if ends(interval) else percent(interval.value)


def points(difference: float) -> str:
    """A difference between shares, in points of a hundred.

    >>> points(0.0239)
    '2.4 points'
    """
    return f"{abs(difference) * 100:.1f} points"


def signed(difference: float) -> str:
    """A difference between shares as points of a hundred, with its sign.

    >>> signed(0.0239), signed(-0.1), signed(-0.0001)
    ('+2.4', '−10.0', '0.0')
    """
    text = f"{difference * 100:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def gap(interval: Interval) -> str:
    """The ends of the interval of a difference between shares, in points of a hundred.

    >>> gap(Interval(0.02, 0.005, 0.035))
    '+0.5 to +3.5'
    """
    return f"{signed(interval.low)} to {signed(interval.high)}"


def number(value: float | None, digits: int = 3) -> str:
    """A measured number, to `digits` significant ones.

    >>> number(0.125097), number(31622.77), number(0.0)
    ('0.125', '31,600', '0')
    """
    if value is None or math.isnan(value):
        return UNKNOWN
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.{places}f}" if places < 7 else f"{rounded:g}"


def measured(interval: Interval | None) -> str:
    """A measured number that is no share, with its interval."""
    if interval is None:
        return UNKNOWN
    if math.isnan(interval.low):
        return number(interval.value)
    return f"{number(interval.value)} ({number(interval.low)} to {number(interval.high)})"


def chance(p: float | None) -> str:
    """A p in words: how easily chance alone would do this.

    >>> chance(0.00001), chance(0.0314), chance(0.4)
    ('p < 0.001', 'p = 0.031', 'p = 0.40')
    """
    if p is None:
        return UNKNOWN
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def seconds(value: float) -> str:
    """A time.

    >>> seconds(0.0123), seconds(2.667), seconds(172.02), seconds(7322)
    ('0.01 s', '2.7 s', '2 min 52 s', '2 h 2 min')
    """
    if value < 1:
        return f"{value:.2f} s"
    if value < 60:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{int(value) // 60} min {int(value) % 60} s"
    return f"{int(value) // 3600} h {int(value) % 3600 // 60} min"


def plain(text: str) -> str:
    """`text` without characters that control a screen: they, and lone surrogates, become U+FFFD."""
    return "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in text)


def tight(text: str) -> str:
    r"""`text` with no line break between a number and its per cent sign.

    >>> tight("noise (18 % of full)")
    'noise (18\u202f% of full)'
    """
    return text.replace(" %", f"{THIN}%")


def short(text: str, most: int = 40) -> str:
    """`text`, cut in the middle where it is longer than `most` letters.

    >>> short("a/very/long/path/to/a/picture.jpg", 17)
    'a/very/l…ture.jpg'
    """
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


def listed(names: Sequence[str], last: str = "and") -> str:
    """Names as a sentence holds them.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}" if names else ""


def title(name: str) -> str:
    """A key of a file as words.

    >>> title("n_train"), title("odd_shape")
    ('N train', 'Odd shape')
    """
    spaced = name.replace("_", " ").replace("-", " ").strip()
    return spaced[:1].upper() + spaced[1:]
