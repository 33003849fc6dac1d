"""A Parquet file with pictures in a column, as the Hugging Face Hub keeps them -> rows, and bytes by row group.

The column of pictures is a struct of `bytes` and `path`, or plain bytes; that of labels holds texts, or numbers whose
names stand in the file's own description (`ClassLabel`).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headstart.errors import DataError
from headstart.pictures.tables import Row

BATCH = 32
"""Rows that are in memory at a time."""


@dataclass(frozen=True)
class Layout:
    """Which columns hold the pictures and the labels, and what the numbers among these are called.

    `columns` are all that hold texts and numbers; `path` is the part of the picture column with the file's old name.
    """

    image: str
    label: str
    names: tuple[str, ...]
    columns: tuple[str, ...]
    is_struct: bool
    has_path: bool


def open_parquet(source: Any, called: str) -> Any:
    """The Parquet file at a path, or in an open file.

    Raises:
        DataError: it is no such file, or pyarrow is missing.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError("Parquet files need one more package: pip install headstart[parquet]") from error
    try:
        return pyarrow.parquet.ParquetFile(source, buffer_size=1024**2)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{called} cannot be read as Parquet: {error}") from error


def has_pictures(table: Any) -> bool:
    """Whether a Parquet file has a column of pictures."""
    return bool(_image_columns(table))


def lay_open(table: Any, called: str, *, labelled: bool = True) -> Layout:
    """How a Parquet file keeps pictures and labels; the latter need not be there unless `labelled`.

    Raises:
        DataError: it has no column of pictures, or it cannot be told which column holds the labels.
    """
    schema = table.schema_arrow
    images = _image_columns(table)
    if not images:
        raise DataError(
            f"{called} has no column of pictures; its columns are {', '.join(schema.names)}. Pictures are a struct of "
            "bytes and path, as the Hugging Face Hub keeps them; a manifest has the columns path,label."
        )
    image = "image" if "image" in images else images[0]
    features = _features(schema)
    named = {name: one["names"] for name, one in features.items() if one.get("names")}
    simple = tuple(
        one.name for one in schema if one.type.num_fields == 0 and str(one.type) not in ("binary", "large_binary")
    )
    candidates = [name for name in ("label", "labels", "class") if name in simple] or [
        name for name in named if name in simple
    ]
    if labelled and len(candidates) != 1 and "label" not in candidates:
        raise DataError(
            f"{called} has {'several columns' if candidates else 'no column'} of labels"
            f" ({', '.join(candidates or simple) or 'none'}). Name the one that is meant 'label'."
        )
    kind = schema.field(image).type
    return Layout(
        image=image,
        label=candidates[0] if candidates else "",
        names=tuple(map(str, named.get(candidates[0], ()))) if candidates else (),
        columns=simple,
        is_struct=kind.num_fields > 0,
        has_path=kind.num_fields > 0 and kind.get_field_index("path") >= 0,
    )


def rows(table: Any, layout: Layout, called: str) -> Iterator[tuple[int, str, Row]]:
    """The row group, name, and texts of each row; no picture is read. Rows are counted from 1."""
    number = 0
    wanted = [*layout.columns, *([f"{layout.image}.path"] if layout.has_path else [])]
    for group in range(table.num_row_groups):
        for batch in table.iter_batches(batch_size=4096, row_groups=[group], columns=wanted):
            for fields in batch.to_pylist():
                held = fields.pop(layout.image, None) or {}
                texts = {name: "" if value is None else str(value) for name, value in fields.items()}
                texts["label"] = _label(fields.get(layout.label), layout, called, number + 1)
                yield group, row_name(number, held.get("path")), (number + 1, texts)
                number += 1


def pictures(table: Any, layout: Layout, group: int) -> Iterator[tuple[str, bytes | None]]:
    """The name and the bytes of each picture of a row group; no bytes where the row has none."""
    number = sum(table.metadata.row_group(before).num_rows for before in range(group))
    for batch in table.iter_batches(batch_size=BATCH, row_groups=[group], columns=[layout.image]):
        for held in batch.column(0).to_pylist():
            fields = held if isinstance(held, dict) else {"bytes": held}
            yield row_name(number, fields.get("path")), fields.get("bytes")
            number += 1


def row_name(number: int, path: str | None) -> str:
    """The name of a row: its number from 0, and the last part of the path that its picture once had.

    >>> row_name(12, "cats/felix.jpg")
    '000000012-felix.jpg'
    """
    last = (path or "").replace("\\", "/").rpartition("/")[2]
    usable = last.isprintable() and 0 < len(last) <= 200
    return f"{number:09}-{last}" if usable else f"{number:09}"


def _label(value: object, layout: Layout, called: str, line: int) -> str:
    """The text of a label; a missing one is empty, as is -1, with which the Hub says the same."""
    if value is None or (layout.names and value == -1):
        return ""
    if not layout.names or not isinstance(value, int):
        return str(value).strip()
    if not 0 <= value < len(layout.names):
        raise DataError(f"{called}, row {line}: the label {value} has no name; there are {len(layout.names)}.")
    return layout.names[value]


def _image_columns(table: Any) -> list[str]:
    schema = table.schema_arrow
    described = {name for name, one in _features(schema).items() if one.get("_type") == "Image"}
    found = []
    for one in schema:
        inner = one.type.get_field_index("bytes") if str(one.type).startswith("struct") else -1
        plain = str(one.type) in ("binary", "large_binary")
        if inner >= 0 or (plain and (one.name in described or one.name == "image")):
            found.append(one.name)
    return found


def _features(schema: Any) -> dict[str, Any]:
    """What the file says of its columns, in the words of the Hugging Face Hub; empty where it says nothing."""
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = described["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {name: one for name, one in features.items() if isinstance(one, dict)} if isinstance(features, dict) else {}
