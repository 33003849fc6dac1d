"""A CSV, TSV, JSON Lines or Parquet file -> the names of its columns and its rows as text."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.errors import DataError

Row = tuple[int, Mapping[str, str]]
"""A line number, counted from 1, and the text in each column; an empty cell is an empty text."""

PARQUET_SUFFIXES = (".parquet", ".pq")
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", *PARQUET_SUFFIXES)


@dataclass(frozen=True)
class Table:
    """The columns of a table, in its order (those of the first line for JSON Lines), and its rows, read once."""

    columns: tuple[str, ...]
    rows: Iterator[Row]


def read_table(path: Path) -> Table:
    """The table in a file, told by the end of its name (`TABLE_SUFFIXES`).

    Raises:
        DataError: the file cannot be read as what its name says; also while its rows are read.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in PARQUET_SUFFIXES:
            return _read_parquet(path)
        if suffix in (".jsonl", ".ndjson"):
            return _read_json_lines(path)
        return _read_delimited(path, "\t" if suffix == ".tsv" else ",")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _read_delimited(path: Path, delimiter: str) -> Table:
    reader = csv.reader(io.StringIO(_decode_text(path), newline=""), delimiter=delimiter, strict=True)
    records = _records(path, reader)
    _, header = next(records, (1, []))
    columns = tuple(name.strip() for name in header)
    if len(set(columns)) < len(columns):
        raise DataError(f"{path} names a column twice: {', '.join(map(repr, columns))}. Rename one of them.")
    return Table(columns, _delimited_rows(path, columns, records))


def _records(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Each record that is not blank, and the line on which it ends."""
    try:
        for cells in reader:
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}. Is a quotation mark missing?") from error


def _delimited_rows(path: Path, columns: tuple[str, ...], records: Iterator[tuple[int, list[str]]]) -> Iterator[Row]:
    for line, cells in records:
        if len(cells) != len(columns):
            raise DataError(
                f"{path}, line {line}: {len(cells)} cells for {len(columns)} columns."
                " Put quotation marks around a name that has a comma in it."
            )
        yield line, dict(zip(columns, cells, strict=True))


def _read_json_lines(path: Path) -> Table:
    objects = [(line, text) for line, text in enumerate(_decode_text(path).split("\n"), 1) if text.strip()]
    columns = tuple(_parse_object(path, *objects[0])) if objects else ()
    return Table(columns, _object_rows(path, objects))


def _object_rows(path: Path, objects: list[tuple[int, str]]) -> Iterator[Row]:
    for line, text in objects:
        fields = _parse_object(path, line, text)
        yield line, {name: _as_text(path, line, name, value) for name, value in fields.items()}


def _parse_object(path: Path, line: int, text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line {line}: not JSON ({error}). Each line must be one JSON object.") from error
    if not isinstance(fields, dict):
        raise DataError(f"{path}, line {line}: not a JSON object but {text.strip()[:40]}. Write {{...}} on each line.")
    return fields


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError("Parquet files need one more package: pip install headstart[parquet]") from error
    try:
        table = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    return Table(tuple(table.schema_arrow.names), _parquet_rows(path, table))


def _parquet_rows(path: Path, table: Any) -> Iterator[Row]:
    simple = [field.name for field in table.schema_arrow if field.type.num_fields == 0]  # no pictures in columns
    line = 0
    for batch in table.iter_batches(columns=simple):
        for fields in batch.to_pylist():
            line += 1
            yield line, {name: _as_text(path, line, name, value) for name, value in fields.items()}


def _decode_text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: not UTF-8 (byte {data[error.start]:#04x}). Save it as UTF-8.") from error


def _as_text(path: Path, line: int, name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (str, int, float)):
        text = str(value)
        if text.isascii() or _is_unicode(text):
            return text
    elif name not in ("path", "label", "split", "group"):
        return ""  # a column of the user's own, in which no group can be
    raise DataError(f"{path}, line {line}: {name!r} must be a text, but is {value!r}.")


def _is_unicode(text: str) -> bool:
    """Whether a text has no half of a surrogate pair, which JSON can smuggle in."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
