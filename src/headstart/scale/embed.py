"""Embedding on a cluster: workers read, decode and embed; what they give comes back to the one store."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.backbones import Backbone
from headstart.features.engines import EnginePlan
from headstart.features.extract import Embedding, Prepared, embed, prepare
from headstart.pictures.dataset import Sample
from headstart.scale.cluster import Cluster
from headstart.scale.lines import spread
from headstart.scale.shipping import ShippedBackbone, absolute, check_seen, ship_backbone

DIGEST_BYTES = 32


@dataclass(frozen=True)
class Known:
    """Digests as rows of sorted bytes uint8 [n, 32], which processes of one machine share: a set would be copied."""

    rows: NDArray[np.uint8]

    @staticmethod
    def of(digests: set[str]) -> "Known":
        """The same as a set of digests in hexadecimal."""
        packed = b"".join(sorted(map(bytes.fromhex, digests)))
        return Known(np.frombuffer(packed, np.uint8).reshape(-1, DIGEST_BYTES))

    def __contains__(self, digest: object) -> bool:
        if not isinstance(digest, str):
            return False
        wanted = bytes.fromhex(digest)
        low, high = 0, len(self.rows)
        while low < high:
            middle = (low + high) // 2
            if self.rows[middle].tobytes() < wanted:
                low = middle + 1
            else:
                high = middle
        return low < len(self.rows) and self.rows[low].tobytes() == wanted


@dataclass(frozen=True)
class EmbedWork:
    """Embedding samples of one root with one backbone; `known` is the reference of a `Known`, in a tuple."""

    root: Path
    backbone: ShippedBackbone
    plan: EnginePlan
    known: tuple[Any, ...]

    def begin(self) -> Callable[[list[Sample]], list[Prepared]]:
        """Load the engine; see `Work`."""
        import ray

        check_seen(self.root)
        backbone, known = self.backbone.here(), ray.get(self.known[0])
        engine = self.plan.load(backbone)

        def work(samples: list[Sample]) -> list[Prepared]:
            prepared = prepare(samples, self.root, backbone.preprocess, known, looks=True)
            return list(embed(prepared, self.plan, lambda: engine))

        return work


def embedding_on(cluster: Cluster) -> Embedding:
    """The embedding by the workers of `cluster`, see `Embedding`."""

    def embedding(
        samples: Sequence[Sample], root: Path, backbone: Backbone, plan: EnginePlan, known: set[str]
    ) -> Iterator[Prepared]:
        import ray

        work = EmbedWork(absolute(root), ship_backbone(backbone), one_lane(plan), (ray.put(Known.of(known)),))
        return spread(cluster, work, samples, plan.device)

    return embedding


def one_lane(plan: EnginePlan) -> EnginePlan:
    """The plan of a worker, which has one core or one GPU."""
    return replace(plan, lanes=1)
