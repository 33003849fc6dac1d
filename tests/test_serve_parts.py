"""The parts of the server on their own: forms, names, batches, room."""

import threading
from concurrent.futures import Future

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.delivery.serve import room as rooms
from headstart.delivery.serve.batching import Batcher, Batching
from headstart.delivery.serve.room import Refused, Room
from headstart.delivery.serve.settings import Limits
from headstart.delivery.serve.uploads import Upload, plain_name, split_form

LIMITS = Limits()


def form(*parts, boundary=b"b"):
    """A multipart body of (headers, data)."""
    blocks = [b"--" + boundary + b"\r\n" + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts]
    return b"".join(blocks) + b"--" + boundary + b"--\r\n"


def part(name, data):
    return b'Content-Disposition: form-data; name="file"; filename="' + name + b'"', data


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_a_form_gives_its_pictures_whole(datas):
    boundary = b"----------boundary-4b1d"
    body = form(*(part(b"%d.png" % number, data) for number, data in enumerate(datas)), boundary=boundary)
    assert split_form(body, boundary, LIMITS) == [Upload(f"{n}.png", data) for n, data in enumerate(datas)]


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_no_form_breaks_the_parser(data):
    for body in (data, b"--b\r\n" + data, form(part(b"x", data))[: len(data)], form((data, b"x"))):
        assert status(body) in (200, 400)


def status(body):
    try:
        split_form(body, b"b", LIMITS)
    except Refused as refused:
        return refused.status
    return 200


def test_a_form_without_names():
    assert split_form(form((b'Content-Disposition: form-data; name="files"', b"x")), b"b", LIMITS) == [
        Upload("picture", b"x")
    ]
    with pytest.raises(Refused, match="unknown field 'url'"):
        split_form(form((b'Content-Disposition: form-data; name="url"', b"http://x")), b"b", LIMITS)
    with pytest.raises(Refused, match="unknown field"):
        split_form(form((b"X: y", b"x")), b"b", LIMITS)
    with pytest.raises(Refused, match="ends early"):
        split_form(form(part(b"x", b"x"))[:-8], b"b", LIMITS)


@given(st.text(max_size=500))
def test_a_name_is_short_printable_and_names_no_place(name):
    plain = plain_name(name)
    assert 0 < len(plain) <= 200
    assert plain.isprintable()
    assert "/" not in plain
    assert "\\" not in plain
    assert plain.strip(".")


def futures(batcher, items):
    made = []
    for item in items:
        made.append(Future())
        batcher.put(item, made[-1])
    return made


def test_what_waits_while_a_batch_is_computed_makes_up_the_next():
    gate, batches = threading.Event(), []

    def work(items):
        batches.append(list(items))
        assert gate.wait(10)
        return [2 * item for item in items]

    batcher = Batcher(work, Batching(lanes=1, most=4, wait=0))
    first = futures(batcher, [0])
    while not batches:
        pass
    rest = futures(batcher, range(1, 8))
    rest[1].cancel()
    gate.set()
    assert [one.result(10) for one in [*first, *rest] if not one.cancelled()] == [0, 2, 6, 8, 10, 12, 14]
    batcher.close()
    assert batches == [[0], [1, 3, 4], [5, 6, 7]]


def test_a_batch_waits_for_more_as_long_as_it_may():
    batches = []

    def work(items):
        batches.append(len(items))
        return items

    batcher = Batcher(work, Batching(lanes=1, most=3, wait=5.0))
    for one in futures(batcher, range(3)):
        one.result(10)
    batcher.close()
    assert batches == [3]


def test_a_fault_reaches_those_who_wait_and_no_others():
    def work(items):
        if "bad" in items:
            raise ZeroDivisionError
        return items

    batcher = Batcher(work, Batching(lanes=2, most=1, wait=0))
    good, bad, last = futures(batcher, ["good", "bad", "last"])
    assert (good.result(10), last.result(10)) == ("good", "last")
    with pytest.raises(ZeroDivisionError):
        bad.result(10)
    batcher.close()


def test_the_room_counts_and_gives_back(monkeypatch):
    now, told = [100.0], []
    monkeypatch.setattr(rooms.time, "monotonic", lambda: now[0])
    room = Room(
        Limits(file_bytes=5, request_bytes=10, held_bytes=10, files=2, waiting=3), lambda *both: told.append(both)
    )
    with room.request() as one:
        one.take_bytes(8)
        one.take_pictures(2)
        assert told[-1] == (2, 8)
        with room.request() as other, pytest.raises(Refused) as refused:
            other.take_bytes(3)
        assert refused.value.retry_after == 1
        with room.request() as other, pytest.raises(Refused):
            other.take_pictures(2)
        with room.request() as other:
            other.take_pictures(1)
            with pytest.raises(Refused):
                other.expect_room()
        now[0] += 1000
        one.answered = 2
    assert told[-1] == (0, 0)
    with room.request() as one:  # it has seen that answers take long
        one.take_pictures(2)
        with pytest.raises(Refused) as refused:
            one.take_pictures(2)
        assert refused.value.retry_after == 60
