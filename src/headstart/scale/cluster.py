"""Joining a Ray cluster: one that is started on this machine, or one that runs."""

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError, UsageError
from headstart.parallel import core_count

LOCAL, REMOTE = "ray", "ray://"
STORE_BYTES = 1024**3
"""What Ray's object store may take of this machine's memory: only what is under way lies there."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process has joined, with its `cores` and `gpus` in all."""

    cores: int
    gpus: int

    def workers(self, device: str) -> int:
        """How many workers there is room for: one a GPU for the device "cuda", else one a core.

        Raises:
            UsageError: there is none.
        """
        count = self.gpus if device == "cuda" else self.cores
        if count < 1:
            raise UsageError(f"the cluster has no {'GPU' if device == 'cuda' else 'processor core'} to offer.")
        return count

    def share(self, parts: int, device: str) -> dict[str, float]:
        """What each of so many parts of a work may ask Ray for, such that as many as possible run at once."""
        import ray

        on_gpu = device != "cpu" and self.gpus > 0
        most = min(int(node["Resources"].get("CPU", 0)) or self.cores for node in ray.nodes() if node["Alive"])
        return {"num_cpus": max(1, min(most, self.cores // max(parts, 1))), "num_gpus": 1 if on_gpu else 0}


@contextmanager
def joined(on: str) -> Iterator[Cluster]:
    """Join the cluster that `on` names, and leave it at the end.

    Args:
        on: "ray": the cluster that this process is a job of (`RAY_ADDRESS`), else one with all cores of this machine,
            started now and ended with the block; "ray://HOST:PORT": one that runs.

    Raises:
        UsageError: `on` is something else, or Ray is not installed.
        HeadstartError: no cluster answers.
    """
    if on != LOCAL and not on.startswith(REMOTE):
        raise UsageError(f"--on is {LOCAL} or {REMOTE}HOST:PORT; received '{on}'.")
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--on needs Ray: pip install 'headstart[ray]'.")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before Ray is imported, which tells its makers else
    if on != LOCAL and _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # as Ray does by itself, but for its client
    import ray
    import ray._private.worker

    # Else it tells of lost workers on standard output, whatever `log_to_driver` says, in the midst of our answers.
    ray._private.worker._worker_logs_enabled = False
    try:
        ray.init(**_where(on), log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        raise HeadstartError(_refused(on, error)) from error
    try:
        resources: dict[str, float] = ray.cluster_resources()
        yield Cluster(int(resources.get("CPU", 0)), int(resources.get("GPU", 0)))
    finally:
        ray.shutdown()


def _has_token() -> bool:
    """Whether Ray would find the token of a cluster: in the environment, or in its file."""
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(given) or (Path.home() / ".ray" / "auth_token").is_file()


def _where(on: str) -> dict[str, Any]:
    """The arguments of `ray.init` that say which cluster."""
    if on != LOCAL:
        return {"address": on}
    if os.environ.get("RAY_ADDRESS"):
        return {}
    return {
        "address": "local",
        "num_cpus": core_count(),
        "include_dashboard": False,
        "object_store_memory": STORE_BYTES,
    }


def _refused(on: str, error: Exception) -> str:
    if on == LOCAL:
        return f"Ray cannot be started here: {error}"
    if "Starting Ray client server failed" in str(error):  # github.com/ray-project/ray/issues/63202
        return (
            f"the Ray cluster at {on} could not start its end of the connection, as happens where its head was started "
            "without GRPC_ENABLE_FORK_SUPPORT=0 in its environment. Try again, or start the head with it. See "
            "docs/how-to/cluster.md."
        )
    return (
        f"no Ray cluster answers at {on} ({error}). Is its head started there, with this Ray and this Python, and the "
        "client's port (10001 unless chosen) open? Where it asks for a token, set RAY_AUTH_MODE=token and "
        "RAY_AUTH_TOKEN. See docs/how-to/cluster.md."
    )
