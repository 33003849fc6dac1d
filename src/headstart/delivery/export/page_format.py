"""One HTML file that classifies pictures in any browser, offline: model, runtime and preprocessing inside.

The weights stand in it as float16 and are made float32 when the page is opened. Measured against float32 on what three
runs of EfficientNet-Lite0 held out (fruit, ants and bees, hand signs: 171, 153, 411 pictures; bench/page_weights.py):

    weights                     size of the page   another class   largest change    mean change
    float32                     22 MB              0, 0, 0         0.00001           0.0000004
    float16 (this one)          14 MB              0, 0, 0         0.007             0.0001 to 0.0004
    int8, a scale a channel     10 MB              0, 3, 10        0.28              0.002 to 0.021
"""

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from headstart import __version__
from headstart.delivery.export.runtime import Runtime
from headstart.delivery.export.source import Source
from headstart.errors import ExportError
from headstart.features.preprocess import Preprocess
from headstart.learning.classifier import COVERAGE, Classifier
from headstart.learning.conformal import COVERAGES
from headstart.learning.novelty import NEIGHBOURS

FILE = "page.html"
ROUNDING = 0.02
"""How far a probability of the same pixels may lie from the model's; float16 was seen to change one by 0.007."""

MOST = 200
"""How many pictures a page is proved on: it takes them one by one, at some ten a second."""

SMALL = 1000  # numbers; smaller tensors stay float32, and so does the head
FILTERS = ("bilinear", "bicubic", "lanczos")  # that the page's preprocessing knows
_OWN = resources.files(__package__) / "page"
_SERVED = resources.files("headstart.delivery.serve") / "page"


@dataclass(frozen=True)
class Inside:
    """What a page holds beside the classifier: the `runtime`, the model's `name`, and its `quality` as far as known.

    `quality`: {"n": held-out pictures, "accuracy": {"value", "low", "high"}}, or None.
    """

    runtime: Runtime
    name: str
    quality: dict[str, Any] | None


def refuse(preprocess: Preprocess) -> None:
    """Refuse a model whose preprocessing the page does not know.

    Raises:
        ExportError: it resizes in another way than those in `FILTERS`.
    """
    if preprocess.interpolation not in FILTERS:
        raise ExportError(
            f"--to page resizes pictures by {', '.join(FILTERS)}; this model by {preprocess.interpolation}. "
            "Export it to onnx instead."
        )


def write(source: Source, folder: Path, inside: Inside) -> None:
    """Write the page of `source` into `folder`."""
    frame = (_OWN / "index.html").read_text("utf-8")
    parts = _parts(source, inside)
    size = len(frame) + sum(map(len, parts.values()))  # but for the facts, which are less than what is rounded away
    parts["about"] = _json({**_about(source, inside), "megabytes": round(size / 1e6, 1)})
    page = re.sub(r"<!--(\w+)-->", lambda found: parts[found[1]], frame)
    (folder / FILE).write_bytes(page.encode())


def graph_of(classifier: Classifier) -> bytes:
    """The ONNX graph of a page: pixels -> probabilities [n, k], and novelty [n] as `novelty.Novelty` scores it."""
    import onnx  # half a second: only where a graph is made

    model = onnx.load_from_string(classifier.backbone.graph.read_bytes())
    graph = model.graph
    features = graph.output[-1].name
    _halve(graph)
    _score_novelty(graph, features, classifier)
    kept = [output for output in graph.output if output.name == "probabilities"]
    del graph.output[:]
    graph.output.extend([*kept, onnx.helper.make_tensor_value_info("novelty", onnx.TensorProto.FLOAT, ["n"])])
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _halve(graph: Any) -> None:
    """Put the large tensors down as float16, and a cast back behind each."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, casts = list(graph.node), []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < SMALL or tensor.name.startswith("headstart."):
            continue
        if np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend([*casts, *nodes])


def _score_novelty(graph: Any, features: str, classifier: Classifier) -> None:
    """Add what makes the output `novelty` of the features: how far the nearest references are, in radii."""
    from onnx import TensorProto, helper, numpy_helper

    references = classifier.novelty.references
    count = min(NEIGHBOURS, len(references))
    tensors = {
        "references": np.ascontiguousarray(references.T),
        "last": np.array([-1]),
        "tiny": np.array(np.finfo(np.float32).tiny),
        "count": np.array([count]),
        "neighbours": np.array(count, np.float32),
        "one": np.array(1, np.float32),
        "radius": np.array(classifier.novelty.radius, np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(value, f"novelty.{name}") for name, value in tensors.items())

    def node(kind: str, inputs: str, output: str, **attributes: Any) -> None:
        named = [features if name == "features" else f"novelty.{name}" for name in inputs.split()]
        graph.node.append(helper.make_node(kind, named, output.split(), **attributes))

    node("Mul", "features features", "novelty.squares")
    node("ReduceSum", "squares last", "novelty.sum", keepdims=1)
    node("Sqrt", "sum", "novelty.length")
    node("Max", "length tiny", "novelty.divisor")
    node("Div", "features divisor", "novelty.unit")
    node("Cast", "references", "novelty.floats", to=TensorProto.FLOAT)
    node("MatMul", "unit floats", "novelty.cosines")
    node("TopK", "cosines count", "novelty.nearest novelty.places", axis=-1)
    node("ReduceSum", "nearest last", "novelty.together", keepdims=0)
    node("Div", "together neighbours", "novelty.mean")
    node("Sub", "one mean", "novelty.distance")
    node("Div", "distance radius", "novelty")


def _parts(source: Source, inside: Inside) -> dict[str, str]:
    """What stands in the frame of the page, by the names of its places."""
    style = _texts(resources.files("headstart.judging.report") / "look.css", _SERVED / "page.css", _OWN / "page.css")
    shown = [_SERVED / name for name in ("drawing.js", "pictures.js", "table.js")]
    script = bundled([*shown, *(_OWN / name for name in ("camera.js", "model.js", "page.js"))])
    worker = bundled([_OWN / name for name in ("fit.js", "decode.js", "worker.js")])
    return {
        "policy": _policy(script, style),
        "style": style,
        "script": script,
        "licence": html.escape((_OWN / "licence.txt").read_text("utf-8")),
        "worker": _packed(f"{as_classic(inside.runtime.script)}\n(() => {{\n{worker}\n}})();\n".encode()),
        "binary": _packed(inside.runtime.binary),
        "model": _packed(graph_of(source.classifier)),
    }


def bundled(files: Sequence[Traversable]) -> str:
    """ES modules as one: each after those that it imports from, without the imports and exports between them."""
    text = _texts(*files)
    text = re.sub(r"^import \{[^}]*\} from \"\./[\w.]+\";\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^export (?=(async )?(function|class|const)\b)", "", text, flags=re.MULTILINE)


def as_classic(module: str) -> str:
    """The runtime's module as a classic script that leaves its exports in `headstartRuntime`.

    Chromium gives a page from a file no worker that is a module. What computes is untouched.

    Raises:
        ExportError: it is not the script that this was written for.
    """
    exports = re.search(r"export\{([^{}]*)\};", module)
    if exports is None:
        raise ExportError("the runtime's script does not end as that of the version that is wanted.")
    named = [one.partition(" as ") for one in exports[1].split(",")]
    given = ",".join(f"{public or private}:{private}" for private, _, public in named)
    return f"{module[: exports.start()]}const headstartRuntime={{{given}}};".replace(
        "import.meta.url", "self.location.href"
    )


def columns_first() -> bool:
    """Whether the Pillow of this headstart resizes pictures that are much too tall by their columns first."""
    return int(PIL.__version__.partition(".")[0]) >= 13


def _about(source: Source, inside: Inside) -> dict[str, Any]:
    """What the page knows of its model, as JSON values."""
    classifier = source.classifier
    return {
        "name": inside.name,
        "classes": list(classifier.classes),
        "coverage": COVERAGE,
        "floor": classifier.sets.threshold[COVERAGES.index(COVERAGE)],
        "quality": inside.quality,
        "preprocessing": {**source.facts()["preprocessing"], "columns_first": columns_first()},
        "made": datetime.now(UTC).date().isoformat(),
        "version": __version__,
        "backbone": classifier.backbone.name,
        "licence": classifier.backbone.licence,
        "runtime": inside.runtime.name,
    }


def _policy(script: str, style: str) -> str:
    """The Content-Security-Policy: this script and this style, the worker made of what stands here, no connection."""
    rules = {
        "default-src": "'none'",
        "script-src": f"'{_hash(script)}' 'wasm-unsafe-eval'",
        "style-src": f"'{_hash(style)}'",
        "worker-src": "blob:",
        "img-src": "blob: data:",
        "media-src": "blob:",
        "connect-src": "'none'",
        "form-action": "'none'",
        "base-uri": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _json(value: Any) -> str:
    """JSON that ends no element: class names come from strangers."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _texts(*files: Traversable) -> str:
    return "\n".join(file.read_text("utf-8") for file in files)
