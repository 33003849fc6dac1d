import io
import itertools

import pytest

from headstart import progress
from headstart.parallel import in_order


def test_a_log_gets_a_line_every_ten_seconds(monkeypatch):
    clock = itertools.count(0, 4)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    with progress.LineProgress(stream).stage("pictures", 10) as advance:
        for _ in range(10):
            advance()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0] == "pictures: 3 of 10, 0/s, about 28 s left"


def test_the_silent_one_says_nothing(capsys):
    with progress.SILENT.stage("pictures", 3) as advance:
        advance()
        advance(2)
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_drawn_on_standard_error_only(capsys):
    with progress.BarProgress().stage("pictures", 3) as advance:
        advance(3)
    assert capsys.readouterr().out == ""


def test_work_in_order_stops_when_it_is_no_longer_wanted():
    from concurrent.futures import ThreadPoolExecutor

    taken = []
    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, str, (taken.append(number) or number for number in range(1000)), 5)
        assert [next(results) for _ in range(3)] == ["0", "1", "2"]
        results.close()
    assert len(taken) <= 10


def test_a_failure_of_the_work_reaches_the_caller():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool, pytest.raises(ZeroDivisionError):
        list(in_order(pool, lambda number: 1 // number, [1, 2, 0, 3], 2))
