import json
import multiprocessing
import os
import signal
import sqlite3
import time

import numpy as np
import pytest

from headstart.errors import StorageError
from headstart.features import store as room
from headstart.features.store import Store, prune, stored_recipes

RECIPE = {"weights": "abc", "precision": "f32"}


def digest(number):
    return f"{number:064x}"


def vector(number):
    return np.full(4, number, np.float32)


def fill(recipe, numbers):
    with Store(recipe, 4) as store:
        for number in numbers:
            store.put(digest(number), vector(number), {"width": 3})


def contents(recipe, numbers):
    with Store(recipe, 4) as store:
        return {int(key, 16): found.tolist() for key, found in store.get(map(digest, numbers))}


def test_vectors_come_back_by_digest():
    fill(RECIPE, range(1200))
    assert contents(RECIPE, range(1300)) == {number: [float(number)] * 4 for number in range(1200)}
    with Store(RECIPE, 4) as store:
        assert store.digests() == {digest(number) for number in range(1200)}


def test_another_recipe_has_other_vectors():
    fill(RECIPE, [1])
    assert contents({**RECIPE, "precision": "bf16"}, [1]) == {}


def test_what_was_flushed_survives_a_kill():
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_write_until_killed)
    process.start()
    deadline = time.monotonic() + 20
    while not contents(RECIPE, range(50)) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    found = contents(RECIPE, range(100_000))
    assert found
    assert all(values == [float(number)] * 4 for number, values in found.items())


def _write_until_killed():
    with Store(RECIPE, 4) as store:
        for number in range(100_000):
            store.put(digest(number), vector(number), {})
            if number % 50 == 49:
                store.flush()
                time.sleep(0.01)


def test_two_processes_write_side_by_side():
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=fill, args=(RECIPE, range(start, start + 300))) for start in (0, 200)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(contents(RECIPE, range(600))) == 500


def test_a_wrong_vector_is_never_returned():
    fill(RECIPE, [1, 2])
    database = sqlite3.connect(stored_recipes()[0].path)
    with database:
        database.execute("update features set vector = ? where digest = ?", (bytes(16), bytes.fromhex(digest(1))))
    database.close()
    assert set(contents(RECIPE, [1, 2])) == {2}


def test_facts_and_bytes_come_back_with_their_vector():
    with Store(RECIPE, 4) as store:
        store.put(digest(1), vector(1), {"width": 3, "format": "JPÉG"}, b"\0print\xff")
        store.put(digest(2), vector(2), {})
    with Store(RECIPE, 4) as store:
        found = {int(entry.digest, 16): entry for entry in store.entries(map(digest, range(5)))}
    assert set(found) == {1, 2}
    assert json.loads(found[1].facts) == {"width": 3, "format": "JPÉG"}
    assert found[1].extra == b"\0print\xff"
    assert found[1].vector.tolist() == [1] * 4
    assert (found[2].facts, found[2].extra) == ("{}", b"")


@pytest.mark.parametrize(
    "change", ["facts = '{\"width\": 4}'", "extra = x'00'", "facts = '', extra = cast(facts as blob)"]
)
def test_wrong_facts_are_never_returned(change):
    with Store(RECIPE, 4) as store:
        for number in (1, 2):
            store.put(digest(number), vector(number), {"width": 3}, b"abc")
    database = sqlite3.connect(stored_recipes()[0].path)
    with database:
        database.execute(f"update features set {change} where digest = ?", (bytes.fromhex(digest(1)),))
    database.close()
    assert set(contents(RECIPE, [1, 2])) == {2}


def test_a_damaged_file_gives_a_clear_error():
    fill(RECIPE, [1])
    stored_recipes()[0].path.write_bytes(b"not a database at all, but long enough to be read as one" * 40)
    with pytest.raises(StorageError, match="cache clear"):
        fill(RECIPE, [2])


def test_a_full_disk_gives_a_clear_error():
    with Store(RECIPE, 4) as store:
        store._database.execute("pragma max_page_count = 20")
        with pytest.raises(StorageError, match="no space left"):
            for number in range(10_000):
                store.put(digest(number), vector(number), {})
                store.flush()
        store._pending.clear()
    assert all(values == [float(number)] * 4 for number, values in contents(RECIPE, range(10_000)).items())


def test_pruning_deletes_what_was_not_used_for_longest(monkeypatch):
    clock = iter(range(1_000_000))
    monkeypatch.setattr(room.time, "time", lambda: next(clock))
    for name in "abc":
        fill({"weights": name}, range(2000))
    sizes = {stored.recipe["weights"]: stored.size_bytes for stored in stored_recipes()}
    prune(sizes["c"] + sizes["b"])
    assert [stored.recipe["weights"] for stored in stored_recipes()] == ["c", "b"]


def test_pruning_the_only_recipe_drops_its_oldest_vectors():
    fill(RECIPE, range(4000))
    size = stored_recipes()[0].size_bytes
    freed = prune(size // 2)
    assert freed > 0
    left = contents(RECIPE, range(4000))
    assert 0 < len(left) < 4000
    assert min(left) > 0
    assert 3999 in left
