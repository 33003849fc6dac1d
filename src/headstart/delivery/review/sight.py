"""Pictures as the desk shows them: small or large JPEGs, and maps of what the classifier looks at."""

import io
import threading
from collections import OrderedDict
from pathlib import Path

from PIL import Image

from headstart.delivery import explain
from headstart.delivery.predictor import Predictor
from headstart.errors import HeadstartError
from headstart.features.engines import Engine, EnginePlan
from headstart.judging import saliency
from headstart.learning.classifier import Classifier
from headstart.pictures.decode import PictureError, decode
from headstart.pictures.inspect import read

SIDES = {"thumb": 320, "full": 1600}
"""The longest side in pixels, by size."""

KEPT_BYTES = 64_000_000
_QUALITY = {"thumb": 80, "full": 88}


class GoneError(HeadstartError):
    """The picture's file is no longer there, or is another one by now."""


class Sight:
    """Draws pictures for the page, and keeps the last ones; callable from several threads."""

    def __init__(self, plan: EnginePlan) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._size = 0
        self._engine: Engine | None = None

    def picture(self, path: Path, digest: str, size: str) -> bytes:
        """The picture as a JPEG whose longer side has at most `SIDES[size]` pixels.

        Raises:
            GoneError: the file is not the one that was reviewed.
        """
        with self._lock:
            if (digest, size) in self._kept:
                self._kept.move_to_end((digest, size))
                return self._kept[digest, size]
        image = Image.fromarray(decode(_content(path, digest), at_least=SIDES[size]).pixels)
        image.thumbnail((SIDES[size], SIDES[size]), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=_QUALITY[size])
        self._keep((digest, size), buffer.getvalue())
        return buffer.getvalue()

    def saliency(self, path: Path, digest: str, classifier: Classifier) -> bytes:
        """The picture under the colours of a map of what speaks for the predicted class, as a WebP.

        Raises:
            GoneError: the file is not the one that was reviewed.
            BackboneError: the network has no maps.
        """
        preprocess = classifier.backbone.preprocess
        decoded = decode(_content(path, digest), at_least=preprocess.at_least).pixels
        pixels = preprocess.apply(decoded)
        with self._lock:
            if self._engine is None:
                self._engine = self._plan.load(classifier.backbone)
        (said,) = classifier.predictions([str(path)], self._engine.embed(pixels[None]))
        draw = explain.drawer(Predictor(classifier, self._plan, self._engine))
        explained = draw(said, pixels, explain.shown(decoded))
        assert explained.picture is not None
        assert explained.map is not None
        return saliency.overlay_webp(explained.picture, explained.map)

    def _keep(self, key: tuple[str, str], data: bytes) -> None:
        with self._lock:
            self._size += len(data) - len(self._kept.pop(key, b""))
            self._kept[key] = data
            while self._size > KEPT_BYTES:
                self._size -= len(self._kept.popitem(last=False)[1])


def _content(path: Path, digest: str) -> bytes:
    try:
        data, found = read(path)
    except (PictureError, OSError) as error:
        raise GoneError("the picture's file can no longer be read.") from error
    if found != digest:
        raise GoneError("the picture's file has changed since the review began. Start it again.")
    return data
