"""Which pairs of many rows may be alike: all are compared, or, where they are very many, those that an index finds."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.parallel import core_count
from headstart.progress import SILENT, Progress

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]

NEAREST = 6  # candidates of each row by features, and as many by each hash
LEAST_RELATED, HASH_BITS = 0.3, 10  # cosine of candidates' features at least, and bits of 64 that differ at most
ALL_COMPARED = 100_000  # rows; of more than these, an index finds the candidates
CELLS_AT_ONCE = 8_000_000  # of the n x n comparisons in memory, some ten bytes each
ROWS_AT_ONCE = 8192  # that an index is asked for at a time, some 60 MB
LINKS, EFFORT = 16, 96  # of the graph over the features: its links of each row, and the rows looked at in a search
MORE = 6  # neighbours asked of the graph beyond the nearest, for it measures coarsely and finds the row itself
ORDERS, REACH = 48, 8  # of the hashes, and how far a row looks to either side in each
NOTHING = np.int64(2**62)  # in place of a neighbour


def candidates(units: NDArray[np.float32], hashes: Hashes, mirrored: Hashes, progress: Progress = SILENT) -> Numbers:
    """Pairs of n rows that are worth a closer look, int [m, 2], in ascending order, the lower row first.

    The `NEAREST` of each row by cosine, by hash, and by the hash of one and the mirrored one of the other. Up to
    `ALL_COMPARED` rows exactly these; of more, nearly all of those that are close (`bench/neighbours.py`), in time
    that grows little faster than n. The same rows give the same pairs, whatever the number of threads.

    Args:
        units: float32 [n, c], of length one, or zero.
        hashes: uint64 [n].
        mirrored: uint64 [n], the hashes of the mirror images.
        progress: shows how far it is.
    """
    n = len(units)
    find = _all_compared if n <= ALL_COMPARED else _indexed
    numbers = np.concatenate([np.empty(0, np.int64), *find(units, hashes, mirrored, progress)])
    numbers.sort()
    numbers = numbers[np.concatenate([[True], numbers[1:] != numbers[:-1]])[: len(numbers)]]
    pairs = np.empty((len(numbers), 2), np.int64)
    np.divmod(numbers, max(n, 1), out=(pairs[:, 0], pairs[:, 1]))
    return pairs


def blocks(n: int, size: int) -> Iterator[slice]:
    """Slices that together are n rows, of `size` each; the last may be shorter."""
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))


def _numbers(first: Numbers, second: Numbers, n: int) -> Numbers:
    """One number for each pair of rows, the same for both orders of the two."""
    return np.minimum(first, second) * n + np.maximum(first, second)


def _all_compared(
    units: NDArray[np.float32], hashes: Hashes, mirrored: Hashes, progress: Progress
) -> Iterator[Numbers]:
    n = len(units)

    def of_block(block: slice) -> Numbers:
        found = []
        itself = np.arange(block.stop - block.start), np.arange(block.start, block.stop)
        apart = [np.negative(cosines := units[block] @ units.T, out=cosines)]
        apart += [np.bitwise_count(hashes[block, None] ^ turned) for turned in (hashes, mirrored)]
        for distances, most in zip(apart, (-LEAST_RELATED, HASH_BITS, HASH_BITS), strict=True):
            distances[itself] = 64
            first, second = _nearest(distances, most)
            found.append(_numbers(first + block.start, second, n))
        return np.concatenate(found)

    size = max(1, CELLS_AT_ONCE // max(n, 1))
    with progress.stage("near duplicates: neighbours", n) as advance, ThreadPoolExecutor(core_count()) as pool:
        for block, found in zip(blocks(n, size), pool.map(of_block, blocks(n, size)), strict=True):
            advance(block.stop - block.start)
            yield found


def _nearest(distances: NDArray[Any], most: float) -> tuple[Numbers, Numbers]:
    """Row and column of the `NEAREST` smallest in each row of `distances` [b, n], as far as they are `most` or less."""
    eligible = distances <= most
    crowded = np.flatnonzero(np.count_nonzero(eligible, axis=1) > NEAREST)
    if len(crowded):
        best = np.argpartition(distances[crowded], NEAREST, axis=1)[:, :NEAREST]
        eligible[crowded] = False
        eligible[crowded[:, None], best] = True
    row, column = np.nonzero(eligible)
    return row.astype(np.int64), column.astype(np.int64)


def _indexed(units: NDArray[np.float32], hashes: Hashes, mirrored: Hashes, progress: Progress) -> Iterator[Numbers]:
    yield from _by_graph(units, progress)
    yield from _by_orders(hashes, mirrored, progress)


def _by_graph(units: NDArray[np.float32], progress: Progress) -> Iterator[Numbers]:
    """The nearest of each row by cosine: a navigable graph proposes, the cosine of the rows themselves decides.

    Rows are put into the graph by one thread. With more of them the graph, and so a split, would be another one each
    time; the search, which changes nothing, has all cores. Source: Malkov, Yashunin, IEEE PAMI 42 (2020), 824-836.
    """
    from usearch.index import BatchMatches, Index

    n = len(units)
    graph = Index(
        ndim=units.shape[1],
        metric="cos",
        dtype="i8",
        connectivity=LINKS,
        expansion_add=EFFORT,
        expansion_search=EFFORT,
        enable_key_lookups=False,
    )
    with progress.stage("near duplicates: index", n) as advance:
        for block in blocks(n, ROWS_AT_ONCE):
            graph.add(np.arange(block.start, block.stop), units[block], threads=1)
            advance(block.stop - block.start)
    wanted = min(n, NEAREST + MORE)
    with progress.stage("near duplicates: neighbours", n) as advance:
        for block in blocks(n, ROWS_AT_ONCE):
            matches = graph.search(units[block], wanted, threads=core_count())
            keys = np.atleast_2d(matches.keys).astype(np.int64)  # a single row's answer has one dimension less
            counts = matches.counts if isinstance(matches, BatchMatches) else np.array([len(matches)])
            there = np.arange(keys.shape[1]) < counts[:, None]
            others, rows = np.where(there, keys, 0), np.arange(block.start, block.stop)
            apart = -np.einsum("bkc,bc->bk", units[others], units[block])
            apart[~there | (others == rows[:, None])] = 64
            first, place = _nearest(apart, -LEAST_RELATED)
            advance(len(rows))
            yield _numbers(rows[first], others[first, place], n)


def _by_orders(hashes: Hashes, mirrored: Hashes, progress: Progress) -> Iterator[Numbers]:
    """The nearest of each row by both hashes, as far as they stand side by side in one of several orders.

    The bits are shuffled, in a way that is drawn anew for each order, and the hashes sorted; those that differ in few
    bits share their first bits, and so their place, in some of the orders. What is looked at does not depend on how
    alike the pictures are: a crowd of alike ones takes little longer. Source: Charikar, STOC 2002, 380-388.
    """
    n = len(hashes)
    tables = [np.full((n, NEAREST), NOTHING) for _ in range(2)]
    random = np.random.default_rng([*b"orders of hashes"])
    with progress.stage("near duplicates: hashes", ORDERS) as advance, ThreadPoolExecutor(core_count()) as pool:
        for _ in range(ORDERS):
            bits = random.permutation(64)
            shuffled = _shuffled(hashes, bits)
            order = np.argsort(shuffled, kind="stable")
            placed = shuffled[order]
            for table, queries in zip(tables, (shuffled, _shuffled(mirrored, bits)), strict=True):
                look = partial(_look_around, table, queries, placed, order)
                for _done in pool.map(look, blocks(n, ROWS_AT_ONCE)):
                    pass  # what a thread raised is raised here
            advance()
    for table in tables:
        for block in blocks(n, ROWS_AT_ONCE):
            row, place = np.nonzero(table[block] != NOTHING)
            yield _numbers(row + block.start, table[block][row, place] & 0xFFFFFFFF, n)


def _shuffled(hashes: Hashes, bits: Numbers) -> Hashes:
    """The `hashes` [n] with their 64 `bits` in another order."""
    found = np.empty(len(hashes), np.uint64)
    for block in blocks(len(hashes), ROWS_AT_ONCE):
        unpacked = np.unpackbits(hashes[block, None].view(np.uint8), axis=1)
        found[block] = np.packbits(np.take(unpacked, bits, axis=1), axis=1).view(">u8")[:, 0]
    return found


def _look_around(table: Numbers, queries: Hashes, placed: Hashes, order: Numbers, block: slice) -> None:
    """Put into `table` [n, NEAREST], for the rows of `block`, what lies around the places of their `queries`.

    An entry is the number of bits that differ times 2**32, plus the row: the nearest is the smallest.
    """
    rows = np.arange(block.start, block.stop)
    places = np.searchsorted(placed, queries[block])[:, None] + np.arange(-REACH, REACH)
    inside = np.clip(places, 0, len(placed) - 1)
    others = order[inside]
    apart = np.bitwise_count(queries[block, None] ^ placed[inside])
    apart[(places != inside) | (others == rows[:, None])] = 64
    found = np.flatnonzero((apart <= HASH_BITS).any(axis=1))
    entries = np.where(apart[found] <= HASH_BITS, apart[found].astype(np.int64) << 32 | others[found], NOTHING)
    entries = np.sort(np.concatenate([table[rows[found]], entries], axis=1), axis=1)
    entries[:, 1:][entries[:, 1:] == entries[:, :-1]] = NOTHING  # met before
    table[rows[found]] = np.sort(entries, axis=1)[:, :NEAREST]
