"""What a network is made of, layer by layer, as a table for people."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from headstart.errors import UsageError
from headstart.features.layers import Layer, layers
from headstart.features.networks import blank, facts
from headstart.features.receptive import measured_field

HEADER = (
    "layer",
    "what it does",
    "kernel",
    "stride",
    "pad",
    "groups",
    "output",
    "parameters",
    "M mult-adds",
    "sees",
    "every",
)
TO_THE_LEFT = 2  # columns of words
LARGEST_SIDE = 4096
BEYOND = 2  # pixels between neighbouring units by which a strip is larger than the field that is measured on it


@dataclass(frozen=True)
class Anatomy:
    """The layers of the network `name` for pictures of `height` x `width` pixels.

    `measured`: by the name of a convolution the height and width of its field as gradients show it; empty unless asked.
    """

    name: str
    height: int
    width: int
    layers: tuple[Layer, ...]
    measured: Mapping[str, tuple[int, int]]

    @property
    def parameters(self) -> int:
        """All of them, also the classifier's."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """For one picture."""
        return sum(layer.multiply_adds for layer in self.layers)


def anatomy(name: str, size: int | None = None, *, measure: bool = False) -> Anatomy:
    """Take the network `name` apart; its weights are not needed.

    Args:
        name: any timm classifier, or `torchvision/NAME`.
        size: the side of its pictures in pixels; what it was made for unless given.
        measure: also measure the fields of its convolutions, by gradients.

    Raises:
        BackboneError: there is no such network, or its graph cannot be had.
        UsageError: no pictures are that large.
    """
    if size is not None and not 1 <= size <= LARGEST_SIDE:
        raise UsageError(f"the side of a picture is 1 to {LARGEST_SIDE:,} pixels; received {size:,}.")
    known = facts(name)
    height, width = (size, size) if size else (known.preprocess.height, known.preprocess.width)
    network = blank(known)
    rows = layers(network, height, width)
    found = {}
    if measure:
        for row in rows:
            if row.kind == "convolution" and row.field:
                found[row.name] = measured_field(network, row.name, max(row.field) + BEYOND * max(row.jump))
    return Anatomy(name, height, width, tuple(rows), found)


def anatomy_lines(found: Anatomy) -> Iterator[str]:
    """The table, and what its columns say."""
    yield (
        f"{found.name}: {found.parameters:,} parameters, {found.multiply_adds / 1e6:,.0f} million multiply-adds for a "
        f"picture of {found.height} x {found.width} pixels"
    )
    yield from _aligned([HEADER, *map(cells, found.layers)])
    yield "sees: the receptive field, height x width in pixels of the picture; all: every pixel has a part in it"
    yield "every: pixels from one unit's field to the next one's (the effective stride)"
    if found.measured:
        yield _agreement(found)


def cells(layer: Layer) -> tuple[str, ...]:
    """A row of the table, under `HEADER`."""
    groups = "" if not layer.kernel else "each" if layer.groups == layer.output[0] > 1 else f"{layer.groups}"
    return (
        layer.name or "(network)",
        ", ".join((layer.kind, *layer.then)),
        _pair(layer.kernel),
        _pair(layer.stride),
        _pair(layer.padding),
        groups if layer.kind == "convolution" else "",
        " x ".join(map(str, layer.output)),
        f"{layer.parameters:,}" if layer.parameters else "",
        f"{layer.multiply_adds / 1e6:,.1f}" if layer.multiply_adds else "",
        "all" if layer.sees_all else _pair(layer.field) or "?",
        _pair(layer.jump),
    )


def _pair(sizes: Sequence[int]) -> str:
    """Of rows and columns, once where they are alike.

    >>> _pair((3, 3)), _pair((1, 7)), _pair(())
    ('3', '1 x 7', '')
    """
    return " x ".join(map(str, sizes if len(set(sizes)) > 1 else sizes[:1]))


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    used = [place for place in range(len(rows[0])) if any(row[place] for row in rows[1:])]
    widths = {place: max(len(row[place]) for row in rows) for place in used}
    for row in rows:
        cells = [f"{row[place]:{'<' if place < TO_THE_LEFT else '>'}{widths[place]}}" for place in used]
        yield "  ".join(cells).rstrip()


def _agreement(found: Anatomy) -> str:
    fields = {layer.name: layer.field for layer in found.layers if layer.name in found.measured}
    wrong = [name for name, size in found.measured.items() if size != fields[name]]
    if not wrong:
        return f"measured by gradients: all {len(fields)} fields of convolutions are as computed"
    told = ", ".join(f"{name} {_pair(found.measured[name])} instead of {_pair(fields[name])}" for name in wrong[:5])
    return f"measured by gradients: {len(wrong)} of {len(fields)} fields are not as computed: {told}"
