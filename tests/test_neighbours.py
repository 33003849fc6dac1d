from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from headstart.pictures import neighbours
from headstart.pictures.near import MIRROR, near_duplicates, perceptual_hashes
from headstart.pictures.neighbours import HASH_BITS, NEAREST, candidates
from headstart.progress import Progress


@pytest.fixture
def always_indexed(monkeypatch):
    monkeypatch.setattr(neighbours, "ALL_COMPARED", 0)


def smooth(n, seed=0):
    """Prints float32 [n, 32, 32] with shapes of all sizes."""
    waves = np.cos(np.pi / 64 * np.arange(12)[:, None] * (2 * np.arange(32) + 1))
    falling = 1 / (1 + np.hypot(*np.mgrid[:12, :12]))
    spectra = np.random.default_rng(seed).normal(size=(n, 12, 12)) * falling
    return np.clip(128 + 60 * (waves.T @ spectra @ waves), 0, 255).astype(np.float32)


def resized(prints):
    """As if they had been made half as large, and large again."""
    return prints.reshape(-1, 16, 2, 16, 2).mean(axis=(2, 4)).repeat(2, axis=1).repeat(2, axis=2)


CHANGES = {"resized": resized, "mirrored": lambda prints: prints[:, :, ::-1], "brighter": lambda prints: 1.1 * prints}


def planted(n=400, copies=20, blind=()):
    """Prints and features of n pictures and of copies of the first, changed in turn; the pairs; features of `blind`
    changes say nothing."""
    random = np.random.default_rng(1)
    prints, vectors = smooth(n), random.normal(size=(n, 40))
    parts, near, pairs = [prints], [vectors], []
    for number, (name, change) in enumerate(CHANGES.items()):
        rows = np.arange(number * copies, (number + 1) * copies)
        parts.append(change(prints[rows]))
        near.append(random.normal(size=(copies, 40)) if name in blind else vectors[rows] + random.normal(0, 0.1, 40))
        pairs += [[row, n + row] for row in rows]
    looks = SimpleNamespace(prints=np.clip(np.concatenate(parts), 0, 255).astype(np.uint8))
    return looks, np.concatenate(near).astype(np.float32), pairs


def rows_for(looks, vectors):
    hashes = perceptual_hashes(looks.prints)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), hashes, hashes ^ MIRROR


@pytest.mark.usefixtures("always_indexed")
@pytest.mark.parametrize("blind", [(), tuple(CHANGES)], ids=["by features", "by hashes"])
def test_changed_copies_are_found(blind):
    looks, vectors, pairs = planted(blind=blind)
    found = near_duplicates(looks, vectors)
    assert sorted(found.rows.tolist()) == pairs
    mirrored = {first for first, _ in found.rows[found.mirrored].tolist()}
    assert mirrored == set(range(20, 40))


def test_the_same_pairs_are_found_as_by_comparing_all(monkeypatch):
    looks, vectors, pairs = planted()
    units, hashes, turned = rows_for(looks, vectors)
    exact, slow = near_duplicates(looks, vectors), candidates(units, hashes, turned)
    monkeypatch.setattr(neighbours, "ALL_COMPARED", len(vectors) - 1)
    indexed, quick = near_duplicates(looks, vectors), candidates(units, hashes, turned)
    assert len(exact.rows) == len(pairs)
    assert np.array_equal(indexed.rows, exact.rows)
    assert np.array_equal(indexed.similarity, exact.similarity)
    assert np.array_equal(indexed.mirrored, exact.mirrored)
    numbers, proposed = (rows @ [len(vectors), 1] for rows in (slow, quick))
    assert np.isin(numbers, proposed).mean() > 0.99
    assert np.isin(proposed, numbers).mean() > 0.99


class Counted(Progress):
    """What was counted, and of how many, in each stage."""

    def __init__(self):
        self.stages = {}

    @contextmanager
    def stage(self, name, total):
        self.stages[name] = [0, total]

        def advance(count=1, note=""):  # noqa: ARG001
            self.stages[name][0] += count

        yield advance


@pytest.mark.parametrize("limit", [0, 10_000], ids=["indexed", "compared"])
def test_every_stage_counts_to_its_end(limit, monkeypatch):
    monkeypatch.setattr(neighbours, "ALL_COMPARED", limit)
    looks, vectors, _ = planted()
    shown = Counted()
    near_duplicates(looks, vectors, shown)
    assert all(done == total > 0 for done, total in shown.stages.values())
    kinds = {"neighbours", "pairs"} | (set() if limit else {"index", "hashes"})
    assert shown.stages.keys() == {f"near duplicates: {kind}" for kind in kinds}


def test_up_to_the_limit_all_are_compared(monkeypatch):
    looks, vectors, _ = planted()
    monkeypatch.setattr(neighbours, "ALL_COMPARED", len(vectors))
    monkeypatch.setattr(neighbours, "_indexed", None)
    assert len(candidates(*rows_for(looks, vectors)))


@pytest.mark.usefixtures("always_indexed")
def test_the_number_of_threads_changes_nothing(monkeypatch):
    looks, vectors, _ = planted(n=1500)
    monkeypatch.setattr(neighbours, "ROWS_AT_ONCE", 200)
    columns = rows_for(looks, vectors)
    found = []
    for cores in (1, 3, 3):
        monkeypatch.setattr(neighbours, "core_count", lambda cores=cores: cores)
        found.append(candidates(*columns))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


@pytest.mark.usefixtures("always_indexed")
def test_candidates_are_pairs_in_order_that_are_close(monkeypatch):
    monkeypatch.setattr(neighbours, "ROWS_AT_ONCE", 23)  # 460 rows, so that blocks have an end that is not whole
    looks, vectors, _ = planted()
    units, hashes, turned = rows_for(looks, vectors)
    pairs = candidates(units, hashes, turned)
    first, second = pairs.T
    assert (first < second).all()
    assert (np.diff(pairs @ [len(units), 1]) > 0).all()
    apart = np.minimum(*(np.bitwise_count(hashes[first] ^ other[second]) for other in (hashes, turned)))
    cosines = np.einsum("md,md->m", units[first], units[second])
    assert ((apart <= HASH_BITS) | (cosines >= neighbours.LEAST_RELATED - 1e-6)).all()


@pytest.mark.usefixtures("always_indexed")
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_pictures_are_enough(count):
    prints = np.repeat(smooth(1), count, axis=0).astype(np.uint8)
    pairs = near_duplicates(SimpleNamespace(prints=prints), np.ones((count, 8), np.float32))
    assert len(pairs.rows) == len(pairs.similarity) == count * (count - 1) // 2


@pytest.mark.usefixtures("always_indexed")
def test_a_last_block_of_one_row_is_searched(monkeypatch):
    monkeypatch.setattr(neighbours, "ROWS_AT_ONCE", 4)
    units = np.eye(9, dtype=np.float32)
    units[8] = units[2]
    hashes = np.random.default_rng(2).integers(2**64, size=9, dtype=np.uint64)
    assert candidates(units, hashes, hashes ^ MIRROR).tolist() == [[2, 8]]


@pytest.mark.usefixtures("always_indexed")
def test_features_that_are_nothing_are_like_nothing():
    hashes = np.random.default_rng(3).integers(2**64, size=50, dtype=np.uint64)
    assert len(candidates(np.zeros((50, 8), np.float32), hashes, hashes ^ MIRROR)) == 0


@pytest.mark.usefixtures("always_indexed")
def test_flat_pictures_are_like_nothing():
    looks, vectors, _ = planted(n=60, copies=20)
    looks.prints[:20] = 128
    looks.prints[20:40] //= 64
    rows = near_duplicates(looks, vectors).rows
    assert rows.tolist()
    assert rows.min() >= 40


@pytest.mark.usefixtures("always_indexed")
def test_a_crowd_gives_few_pairs_of_each():
    random = np.random.default_rng(4)
    n = 3000
    prints = np.clip(smooth(1) + random.normal(0, 4, (n, 32, 32)), 0, 255).astype(np.uint8)
    units, hashes, turned = rows_for(SimpleNamespace(prints=prints), random.normal(1, 0.1, (n, 16)).astype(np.float32))
    pairs = candidates(units, hashes, turned)
    assert n < len(pairs) <= 3 * NEAREST * n
    same = candidates(units[:1].repeat(n, axis=0), hashes[:1].repeat(n), turned[:1].repeat(n))
    assert n / 2 < len(same) <= 3 * NEAREST * n


def test_prints_and_features_are_read_in_parts(monkeypatch, tmp_path):
    looks, vectors, pairs = planted()
    columns = {"prints": looks.prints, "vectors": vectors}
    mapped = {}
    for name, column in columns.items():
        mapped[name] = np.lib.format.open_memmap(tmp_path / name, "w+", column.dtype, column.shape)
        mapped[name][:] = column
    monkeypatch.setattr(neighbours, "ALL_COMPARED", 0)
    monkeypatch.setattr("headstart.pictures.near.ROWS_AT_ONCE", 64)
    monkeypatch.setattr("headstart.pictures.near.PAIRS_AT_ONCE", 10)
    found = near_duplicates(SimpleNamespace(prints=mapped["prints"]), mapped["vectors"])
    assert sorted(found.rows.tolist()) == pairs
