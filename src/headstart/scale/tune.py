"""Fine-tuning by several workers of a cluster: the same loop, as a Ray Train job."""

import os
import pickle
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError
from headstart.features.backbones import Backbone
from headstart.learning.examples import Examples
from headstart.learning.finetune import Job, Tuned, finetune
from headstart.learning.solve import Solved
from headstart.progress import Advance, Progress
from headstart.scale.cluster import Cluster
from headstart.scale.shipping import absolute, ship_backbone
from headstart.site import Finetune
from headstart.storage import written_atomically

MOST_FAILURES = 10  # of workers, each of which begins again at the last checkpoint
SECONDS_BETWEEN_NEWS = 0.5

Event = tuple[str, Any]


def finetune_on(cluster: Cluster) -> Finetune:
    """Fine-tuning by all workers of `cluster`, each of which takes its share of every batch; see `Finetune`.

    The folder of the unfinished work must lie where the machines see it, for a training to survive the loss of the
    first worker's machine; the loss of a worker it survives anywhere.
    """

    def tuning(solved: Solved, examples: Examples, job: Job, progress: Progress) -> Tuned:
        import ray

        classifier = solved.classifier
        shipped = ship_backbone(classifier.backbone)
        dataset = replace(examples.dataset, root=absolute(examples.dataset.root))
        job = replace(job, place=job.place.absolute())
        given = ray.put((solved, Examples(dataset, examples.features, examples.split), job, shipped))
        desk = ray.remote(_Desk).options(num_cpus=0).remote()
        workers = cluster.workers(job.plan.device)
        run = ray.remote(_run).options(num_cpus=0, max_retries=0).remote(workers, job.plan.device, (given,), desk)
        try:
            content = _follow(run, desk, progress)
        finally:
            ray.cancel(run, force=True)
            ray.kill(desk)
        return _at_home(content, examples, classifier.backbone)

    return tuning


def _follow(run: Any, desk: Any, progress: Progress) -> bytes:
    """Show what the workers report until they are done; returns what they deliver."""
    import ray

    with ExitStack() as stack:
        shown = _Replay(progress, stack)
        while True:
            ended = bool(ray.wait([run], timeout=SECONDS_BETWEEN_NEWS)[0])
            for event in ray.get(desk.news.remote()):
                shown.take(event)
            delivered = ray.get(desk.delivered.remote())
            if isinstance(delivered, HeadstartError):
                raise delivered
            if ended:
                try:
                    ray.get(run)
                except ray.exceptions.RayError as error:
                    raise HeadstartError(f"the cluster failed: {error}") from error
                assert isinstance(delivered, bytes)
                return delivered


def _run(workers: int, device: str, given: tuple[Any, ...], desk: Any) -> None:
    """Run the job from within the cluster: Ray Train does not run in a process that is only a client of one."""
    import tempfile

    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from headstart.processes import PATIENCE

    gpu = device == "cuda"
    TorchTrainer(
        _work,
        train_loop_config={"given": given, "desk": desk, "gpu": gpu},
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=gpu, resources_per_worker={"GPU": 1} if gpu else {"CPU": 1}
        ),
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo", timeout_s=int(PATIENCE.total_seconds())),
        run_config=RunConfig(storage_path=tempfile.mkdtemp(), failure_config=FailureConfig(max_failures=MOST_FAILURES)),
    ).fit()


def _work(given: dict[str, Any]) -> None:
    """What every worker does: the training that a process of torchrun would do."""
    import ray

    from headstart import processes

    if not given["gpu"]:
        os.environ["HEADSTART_CORES"] = "1"  # read by `core_count`
    desk = given["desk"]
    solved, examples, job, shipped = ray.get(given["given"][0])
    if ray.get(desk.begins.remote(processes.rank())):
        job = replace(job, resume=True)
    backbone = shipped.here()
    solved = replace(solved, classifier=replace(solved.classifier, backbone=backbone))
    try:
        tuned = finetune(solved, examples, job, _Told(desk) if processes.is_main() else Progress())
    except HeadstartError as error:
        ray.get(desk.deliver.remote(error))
        raise
    if processes.is_main():
        ray.get(desk.deliver.remote(pickle.dumps(_Parcel.of(tuned, examples, backbone))))


@dataclass(frozen=True)
class _Parcel:
    """A `Tuned` on its way home: the files of its backbone, and no examples where they are the given ones."""

    tuned: Tuned
    files: dict[str, bytes] | None
    same_examples: bool

    @staticmethod
    def of(tuned: Tuned, examples: Examples, backbone: Backbone) -> "_Parcel":
        own = tuned.solved.classifier.backbone
        files = None
        if own is not backbone:
            files = {name: getattr(own, name).read_bytes() for name in ("graph", "tensors")}
        same = tuned.examples is examples
        return _Parcel(replace(tuned, examples=None) if same else tuned, files, same)  # type: ignore[arg-type]


def _at_home(content: bytes, examples: Examples, backbone: Backbone) -> Tuned:
    """What the workers delivered, with the files of this machine."""
    parcel: _Parcel = pickle.loads(content)
    tuned = parcel.tuned
    if parcel.files is not None:
        backbone = tuned.solved.classifier.backbone
        for name, data in parcel.files.items():
            _keep(getattr(backbone, name), data)
    solved = replace(tuned.solved, classifier=replace(tuned.solved.classifier, backbone=backbone))
    if parcel.same_examples:
        return replace(tuned, solved=solved, examples=examples)
    at_home = replace(tuned.examples.dataset, root=examples.dataset.root)
    return replace(tuned, solved=solved, examples=replace(tuned.examples, dataset=at_home))


def _keep(path: Path, data: bytes) -> None:
    if not path.is_file() or path.read_bytes() != data:
        with written_atomically(path) as temporary:
            temporary.write_bytes(data)


class _Desk:
    """Where workers leave news and the result, and which knows how often each has begun."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.result: bytes | HeadstartError | None = None
        self.begun: set[int] = set()

    def begins(self, rank: int) -> bool:
        """Whether this worker has begun before, and died."""
        again = rank in self.begun
        self.begun.add(rank)
        return again

    def tell(self, event: Event) -> None:
        self.events.append(event)

    def news(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def deliver(self, result: bytes | HeadstartError) -> None:
        self.result = result

    def delivered(self) -> bytes | HeadstartError | None:
        return self.result


class _Told(Progress):
    """Progress that goes to the desk."""

    def __init__(self, desk: Any) -> None:
        self.desk = desk

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        self.desk.tell.remote(("begin", (name, total)))

        def advance(count: int = 1, note: str = "") -> None:
            self.desk.tell.remote(("advance", (count, note)))

        yield advance
        self.desk.tell.remote(("end", None))

    def say(self, line: str) -> None:
        self.desk.tell.remote(("say", line))


class _Replay:
    """Shows events of the desk in a progress of this process; stages of a worker that died end with the next."""

    def __init__(self, progress: Progress, stack: ExitStack) -> None:
        self.progress, self.stack = progress, stack
        self.advances: list[Advance] = []

    def take(self, event: Event) -> None:
        kind, told = event
        if kind == "begin":
            self.stack.close()
            self.advances = [self.stack.enter_context(self.progress.stage(*told))]
        elif kind == "advance" and self.advances:
            self.advances[0](*told)
        elif kind == "end":
            self.stack.close()
            self.advances = []
        elif kind == "say":
            self.progress.say(told)
