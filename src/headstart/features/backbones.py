"""Names into backbones: a pretrained network, converted once and cached, so that later runs need no torch."""

import json
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from headstart.errors import BackboneError, StorageError, UsageError
from headstart.features import weights as weights_room
from headstart.features.names import JOINT, is_joined, parts_of
from headstart.features.preprocess import Preprocess
from headstart.progress import SILENT, Advance, Progress
from headstart.storage import cache_folder, folder_written_atomically, folder_written_once, written_atomically

DEFAULT = "tf_efficientnet_lite0"
UNTRAINED = Path("none")  # given as the weights of a network that starts from nothing
CONVERSION_STEPS = 3
CONVERSION = 1  # raised when the conversion below changes what it writes
PARITY_COSINE = 0.9999
GRAPH, TENSORS, FACTS, MEMORY = "graph.onnx", "model.safetensors", "backbone.json", ".path"


@dataclass(frozen=True)
class Backbone:
    """A pretrained network without its classifier, as two files.

    `graph` is an ONNX file (`pixels` uint8 [n, h, w, 3] -> `features` float32 [n, dimension], and more where a
    head was added); `tensors` a safetensors file with the library's own names. `classifier` is the name, in
    the library's network, of the linear layer whose place the head takes. `weights_digest` is the SHA-256 of the
    weights file that all came from, called `weights_source`.
    """

    name: str
    library: str
    architecture: str
    dimension: int
    parameters: int
    classifier: str
    preprocess: Preprocess
    licence: str
    weights_digest: str
    weights_source: str
    graph: Path
    tensors: Path

    def to_json(self) -> dict[str, Any]:
        """Everything but where the files are, as JSON values."""
        record = {key: value for key, value in vars(self).items() if key not in ("graph", "tensors")}
        return {**record, "preprocess": self.preprocess.to_json()}

    @staticmethod
    def from_json(record: dict[str, Any], graph: Path, tensors: Path) -> "Backbone":
        """The backbone that `to_json` described, with its two files."""
        facts = {**record, "preprocess": Preprocess.from_json(record["preprocess"])}
        return Backbone(**facts, graph=graph, tensors=tensors)


def load_backbone(name: str = DEFAULT, weights: Path | None = None, *, progress: Progress = SILENT) -> Backbone:
    """The backbone `name`, any timm classifier or `torchvision/NAME`, with pretrained weights.

    `A+B` joins two backbones (or more): both see each picture, and their features stand side by side.

    Weights are looked for in this order: the file `weights`; an installed package; the local torch and Hugging Face
    caches; a download. `UNTRAINED` stands for random ones, always the same. The first use converts the network (about
    half a minute: torch is imported and a graph is exported); later uses read the converted files.

    Raises:
        BackboneError: no such network, no weights for it, or weights that do not fit it.
        UsageError: `weights` are given for several backbones that are joined, or one is to be joined with itself.
    """
    if is_joined(name):
        return _load_joined(name, weights, progress)
    if weights == UNTRAINED:
        weights = _untrained(name)
    source = weights_room.given_or_installed(name, weights) or _remembered(name)
    if source is not None:
        folder = _folder(name, weights_room.digest(source))
        if (folder / FACTS).is_file():
            return _read(folder)
    with progress.stage(f"converting {name}, once", CONVERSION_STEPS) as advance:
        return _convert(name, source, advance)


def installed() -> list[str]:
    """The backbones whose weights are known to be on this machine: in packages, and found there by former runs."""
    packaged = [name for name in weights_room.PACKAGES if weights_room.given_or_installed(name, None) is not None]
    folder = cache_folder() / "backbones"
    met = [_name_of(path) for path in sorted(folder.glob(f"*{MEMORY}"))] if folder.is_dir() else []
    return list(dict.fromkeys([*packaged, *(name for name in met if _remembered(name) is not None)]))


def _load_joined(name: str, weights: Path | None, progress: Progress) -> Backbone:
    names = parts_of(name)
    if not all(names) or len(set(names)) < len(names):
        raise UsageError(f"'{name}' does not join different backbones; write for instance {DEFAULT}{JOINT}resnet18.")
    if weights is not None:
        raise UsageError(
            f"one file of weights cannot serve the {len(names)} backbones of {name}. Leave out --weights: each part's "
            "own are looked for."
        )
    parts = [load_backbone(part, progress=progress) for part in names]
    digest = sha256(json.dumps([part.weights_digest for part in parts]).encode()).hexdigest()
    folder = _folder(name, digest)
    if not (folder / FACTS).is_file():
        with progress.stage(f"joining {name}, once", CONVERSION_STEPS) as advance:
            _join(name, parts, digest, folder, advance)
    return _read(folder)


def _join(name: str, parts: list[Backbone], digest: str, folder: Path, advance: Advance) -> None:
    """Write the backbone that is made of `parts` into `folder`, once."""
    from safetensors.numpy import load_file, save_file

    from headstart.features import joining, networks  # torch: seconds

    known = networks.facts(name)
    advance()
    tensors = {
        joining.PART.format(number) + key: tensor
        for number, part in enumerate(parts)
        for key, tensor in load_file(part.tensors).items()
    }
    with folder_written_once(folder) as temporary:
        save_file(tensors, temporary / TENSORS, metadata={"format": "pt"})
        network = networks.build(known, temporary / TENSORS, known.preprocess)
        advance()
        source = f" {JOINT} ".join(part.weights_source for part in parts)
        _write(temporary, _described(name, known, network, digest, source), network)
        advance()


def _read(folder: Path) -> Backbone:
    try:
        record = json.loads((folder / FACTS).read_text("utf-8"))
        return Backbone.from_json(record, folder / GRAPH, folder / TENSORS)
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{folder} is damaged ({error}). Delete it: the backbone is converted again.") from error


def _convert(name: str, source: Path | None, advance: Advance) -> Backbone:
    from headstart.features import networks  # imports torch: seconds

    known = networks.facts(name)
    advance()
    if source is None:
        source = weights_room.cached_or_downloaded(name, known.published)
        _remember(name, source)
    network = networks.build(known, source, known.preprocess)
    advance()
    digest = weights_room.digest(source)
    facts = _described(name, known, network, digest, source.name)
    folder = _folder(name, digest)
    with folder_written_once(folder) as temporary:
        _save_tensors(temporary, network)
        _write(temporary, facts, network)
        advance()
    return _read(folder)


def _described(name: str, known: Any, network: Any, digest: str, source: str) -> Backbone:
    """What is recorded of a `networks.Network` and its `networks.NetworkFacts`, beside its files."""
    return Backbone(
        name=name,
        library=known.library,
        architecture=known.architecture,
        dimension=network.dimension,
        parameters=network.parameters,
        classifier=network.classifier,
        preprocess=known.preprocess,
        licence=known.licence,
        weights_digest=digest,
        weights_source=source,
        graph=Path(GRAPH),
        tensors=Path(TENSORS),
    )


def tuned(backbone: Backbone, network: Any, folder: Path, *, write: bool = True) -> Backbone:
    """`backbone` with the tensors of `network` (a `networks.Network`), exported into `folder` and proved.

    Without `write`, what another process has written there is read.
    """
    if not write:
        return _read(folder)
    source = f"{backbone.weights_source}, tuned"
    with folder_written_atomically(folder) as temporary:
        _save_tensors(temporary, network)
        digest = weights_room.digest(temporary / TENSORS)
        _write(temporary, replace(backbone, weights_digest=digest, weights_source=source), network)
    return _read(folder)


def _save_tensors(folder: Path, network: Any) -> None:
    from safetensors.numpy import save_file

    from headstart.features import networks

    save_file(networks.tensors(network), folder / TENSORS, metadata={"format": "pt"})


def _write(folder: Path, backbone: Backbone, network: Any) -> None:
    """The graph of `network`, which is proved, and the facts of `backbone`."""
    from headstart.features import networks

    (folder / GRAPH).write_bytes(networks.to_onnx(network.module, backbone.preprocess))
    _prove(network, backbone.preprocess, folder / GRAPH)
    (folder / FACTS).write_text(json.dumps(backbone.to_json(), indent=1), "utf-8")


def _untrained(name: str) -> Path:
    """The file of the untrained weights of `name`, drawn when they are first asked for."""
    path = cache_folder() / "backbones" / f"{name.replace('/', '-')}.untrained.safetensors"
    if not path.is_file():
        from safetensors.numpy import save_file

        from headstart.features import networks

        with written_atomically(path) as temporary:
            save_file(networks.untrained(networks.facts(name)), temporary, metadata={"format": "pt"})
    return path


def _prove(network: Any, preprocess: Preprocess, graph: Path) -> None:
    """Compare the exported graph with the network it came from, on noise; refuse it where they differ."""
    import numpy as np

    from headstart.features import networks
    from headstart.features.openvino_engine import OpenVinoEngine

    shape = (2, preprocess.height, preprocess.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = networks.embed(network, pixels)
    got = OpenVinoEngine.compile(graph, threads=1, precision="f32").embed(pixels)
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(got, axis=1)
    cosine = float(((expected * got).sum(axis=1) / norms).min())
    if not cosine >= PARITY_COSINE:
        raise BackboneError(
            f"the exported graph does not reproduce its network (cosine {cosine:.4f}, {PARITY_COSINE} needed); "
            "choose another backbone."
        )


def _folder(name: str, digest: str) -> Path:
    key = sha256(json.dumps([name, digest, CONVERSION]).encode()).hexdigest()[:16]
    return cache_folder() / "backbones" / f"{name.replace('/', '-')}-{key}"


def _memory(name: str) -> Path:
    return cache_folder() / "backbones" / f"{name.replace('/', '-')}{MEMORY}"


def _name_of(memory: Path) -> str:
    """The inverse of `_memory`: the only name with a slash is torchvision/NAME."""
    name = memory.name.removesuffix(MEMORY)
    return f"torchvision/{name.removeprefix('torchvision-')}" if name.startswith("torchvision-") else name


def _remember(name: str, source: Path) -> None:
    with written_atomically(_memory(name)) as temporary:
        temporary.write_text(str(source), "utf-8")


def _remembered(name: str) -> Path | None:
    """Where the weights of `name` were found last time, so that torch and timm need not be asked again."""
    if not _memory(name).is_file():
        return None
    source = Path(_memory(name).read_text("utf-8"))
    return source if source.is_file() else None
