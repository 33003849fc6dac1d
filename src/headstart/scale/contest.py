"""The candidates of a comparison, trained side by side by the machines of a cluster."""

import io
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from headstart.delivery.run_folder import RUN
from headstart.errors import HeadstartError
from headstart.progress import Progress
from headstart.scale.cluster import Cluster
from headstart.site import Candidate, TrainEach
from headstart.storage import folder_written_atomically

TRIES = 3
Returned = tuple[str | HeadstartError, bytes | None]
"""What became of a candidate, and its run folder as a zip archive."""


def training_on(cluster: Cluster) -> TrainEach:
    """The training of candidates by the machines of `cluster`, see `TrainEach`: as many at once as there is room for.

    Each machine must see the pictures under the same path, or they are URLs. A run is written there and comes back.
    """

    def train_each(
        candidates: Sequence[Candidate], tell: Callable[[str], None], progress: Progress
    ) -> Iterator[tuple[Candidate, str | HeadstartError]]:
        import ray

        needs = cluster.share(len(candidates), candidates[0].options.device if candidates else "cpu")
        train = ray.remote(_train).options(**needs, max_retries=TRIES)
        waiting = {}
        for candidate in candidates:
            waiting[train.remote(candidate, str(Path.cwd()), int(needs["num_cpus"]))] = candidate
            tell(f"{candidate.name}: given to the cluster ...")
        try:
            with progress.stage("candidates", len(candidates)) as advance:
                while waiting:
                    reference = ray.wait(list(waiting))[0][0]
                    candidate = waiting.pop(reference)
                    yield candidate, _received(reference, candidate)
                    advance()
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)

    return train_each


def _train(candidate: Candidate, folder: str, cores: int) -> Returned:
    """Train on a machine of the cluster, from the same `folder` where it is there too."""
    from headstart.workflow import train_candidate

    os.environ["HEADSTART_CORES"] = str(cores)  # read by `core_count`
    with suppress(OSError):
        os.chdir(folder)
    outcome = train_candidate(candidate)
    return outcome, None if isinstance(outcome, HeadstartError) else _packed(candidate.folder)


def _received(reference: object, candidate: Candidate) -> str | HeadstartError:
    """The outcome, its run in place."""
    import ray

    try:
        outcome, content = ray.get(reference)
    except ray.exceptions.RayError as error:
        return HeadstartError(f"the cluster failed: {error}")
    if content is not None:
        _unpack(content, candidate.folder)
    return outcome if isinstance(outcome, HeadstartError) else str(outcome)


def _packed(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def _unpack(content: bytes, folder: Path) -> None:
    """Put the run in its place, unless the machine that wrote it shares that place with this one."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if (folder / RUN).is_file() and (folder / RUN).read_bytes() == archive.read(RUN):
            return
        with folder_written_atomically(folder) as temporary:
            archive.extractall(temporary)
