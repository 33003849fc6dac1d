"""Files that workers need: found where they are, or carried there once for each machine."""

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from headstart.errors import DataError
from headstart.features.backbones import Backbone
from headstart.pictures.addresses import url_of
from headstart.storage import cache_folder, written_atomically


@dataclass(frozen=True)
class Shipped:
    """A file that may not be on the worker's machine: its `digest` (SHA-256), and its `content` in the cluster."""

    path: Path
    digest: str
    content: tuple[Any, ...]  # of one reference, in a tuple so that Ray does not fetch it before it is asked for

    def here(self) -> Path:
        """The file's path on this machine; it is fetched unless the same content is here."""
        if _digest(self.path) == self.digest:
            return self.path
        carried = cache_folder() / "carried" / f"{self.digest}{self.path.suffix}"
        if _digest(carried) != self.digest:
            import ray

            with written_atomically(carried) as temporary:
                temporary.write_bytes(ray.get(self.content[0]))
        return carried


def ship(path: Path) -> Shipped:
    """The file at `path`, given to the cluster."""
    import ray

    content = path.read_bytes()
    return Shipped(path.resolve(), sha256(content).hexdigest(), (ray.put(content),))


@dataclass(frozen=True)
class ShippedBackbone:
    """A backbone whose graph and tensors come along."""

    backbone: Backbone
    graph: Shipped
    tensors: Shipped

    def here(self) -> Backbone:
        """The backbone on this machine."""
        return replace(self.backbone, graph=self.graph.here(), tensors=self.tensors.here())


def ship_backbone(backbone: Backbone) -> ShippedBackbone:
    """The backbone, given to the cluster."""
    return ShippedBackbone(backbone, ship(backbone.graph), ship(backbone.tensors))


def absolute(root: Path) -> Path:
    """`root` as workers in other folders must name it."""
    return root if url_of(root) is not None else root.resolve()


def check_seen(root: Path) -> None:
    """Make sure that this machine sees the pictures.

    Raises:
        DataError: it does not.
    """
    if url_of(root) is None and not root.exists():
        import socket

        raise DataError(
            f"the machine {socket.gethostname()} of the cluster does not see {root}. Put the pictures where every "
            "machine sees them under one path, or into an object store, and give its URL."
        )


def _digest(path: Path) -> str | None:
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else None
