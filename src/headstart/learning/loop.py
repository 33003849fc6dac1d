"""The training loop: explicit, one record per epoch, and able to go on from any batch as if nothing had happened.

All randomness is a function of (seed, purpose, position), so that a checkpoint needs no random states: the order of an
epoch, the augmentation of a picture, the mixing and the dropout of a batch are drawn anew from where they stand.
"""

import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from headstart import processes
from headstart.errors import DataError
from headstart.learning import checkpoint
from headstart.learning.allocator import freed_memory_kept
from headstart.learning.history import HISTORY, Epoch, write_history
from headstart.learning.mixing import mix
from headstart.learning.optimise import Pace, losses, make_optimiser, make_pace
from headstart.learning.randomness import number
from headstart.learning.recipes import Recipe
from headstart.learning.sources import Fetched, Source, Wanted, order
from headstart.learning.student import Pupil, Student
from headstart.pictures.dataset import Problem
from headstart.progress import Progress

SECONDS_BETWEEN_CHECKPOINTS = 30.0
SECONDS_BETWEEN_NOTES = 0.5
VALIDATION_BATCH = 32


@dataclass
class Training:
    """A training on its way: what moves, where it stands, and what it has found.

    `position` is (epoch, batch), both from 0, of the next step. `passes` is how many parts a batch is divided into.
    `tally` [4] adds up the epoch's losses times weights, weights, right pictures and pictures, on the device; `seconds`
    and `first_rate` are of this epoch too. `class_weights` [k] lie on the CPU.
    """

    recipe: Recipe
    accelerator: Accelerator
    student: Student
    model: Any
    optimiser: Any
    pace: Pace
    average: AveragedModel | None
    class_weights: Tensor
    tally: Tensor
    seed: int
    passes: int
    position: tuple[int, int] = (0, 0)
    step: int = 0
    seconds: float = 0.0
    first_rate: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    best_epoch: int = 0
    problems: dict[str, Problem] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """The learning rate of the head."""
        return float(self.optimiser.param_groups[0]["lr"])

    @property
    def judged(self) -> torch.nn.Module:
        """The weights that validation sees and that are kept: the average, where there is one."""
        return self.student if self.average is None else self.average.module

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint holds."""
        scaler = self.accelerator.scaler
        return {
            "student": self.student.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.pace.scheduler.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "best": self.best,
            "best_epoch": self.best_epoch,
            "position": self.position,
            "step": self.step,
            "passes": self.passes,
            "tally": self.tally.cpu(),
            "seconds": self.seconds,
            "first_rate": self.first_rate,
            "history": [vars(epoch) for epoch in self.history],
            "problems": [
                (problem.path, problem.kind, problem.detail, problem.action) for problem in self.problems.values()
            ],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Become the training that `state` was taken of."""
        self.student.load_state_dict(state["student"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.pace.scheduler.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.position, self.step, self.passes = tuple(state["position"]), state["step"], state["passes"]
        self.tally.copy_(state["tally"])
        self.seconds, self.first_rate = state["seconds"], state["first_rate"]
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.problems = {row[0]: Problem(*row) for row in state["problems"]}


def begin(pupil: Pupil, recipe: Recipe, accelerator: Accelerator, labels: NDArray[np.int64], seed: int) -> Training:
    """A training of `pupil` on samples with `labels` int [n], each class number at least once, about to start."""
    student = pupil.student.to(accelerator.device)
    optimiser = make_optimiser(recipe.optimiser, pupil.stages)
    pace = make_pace(optimiser, recipe, math.ceil(len(labels) / recipe.batch))
    average = None
    if recipe.average == "ema":
        average = AveragedModel(student, multi_avg_fn=_moving_average(recipe.ema_decay), use_buffers=False)
    counts = np.bincount(labels).astype(np.float32)
    weights = len(labels) / (len(counts) * counts) if recipe.balance == "weights" else np.ones_like(counts)
    model: Any = torch.compile(student) if recipe.compile else student
    model, prepared = accelerator.prepare(model, optimiser)
    exact = torch.float32 if accelerator.device.type == "mps" else torch.float64
    tally = torch.zeros(4, dtype=exact, device=accelerator.device)
    class_weights = torch.from_numpy(weights.astype(np.float32))
    passes = recipe.accumulate
    return Training(recipe, accelerator, student, model, prepared, pace, average, class_weights, tally, seed, passes)


def train(
    training: Training,
    source: Source,
    labels: tuple[NDArray[np.int64], NDArray[np.int64]],
    place: Path,
    progress: Progress,
) -> None:
    """Train to the end of the recipe, or until it no longer gets better; `training` is changed.

    Args:
        training: where to start from.
        source: the inputs of the training and of the validation samples.
        labels: the class numbers of both, int [n] and int [m].
        place: the folder of history.csv and of the checkpoints.
        progress: shows the epochs.

    Raises:
        KeyboardInterrupt: Ctrl-C; the batch was finished and a checkpoint written.
        DataError: no picture can be read any more, or the loss is no longer a number.
    """
    recipe, accelerator = training.recipe, training.accelerator
    rows, last_saved, note = labels[0], time.monotonic(), _Note()
    with ExitStack() as stack:
        stack.enter_context(freed_memory_kept() if accelerator.device.type == "cpu" else nullcontext())
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(_deterministic(recipe.deterministic))
        interrupted = stack.enter_context(_interrupts())
        fetched = source.training(_wanted(training, rows))  # the whole training's, prepared ahead of need
        for epoch in range(training.position[0], recipe.epochs):
            waited = epoch - max(training.best_epoch, source.growth.settled)
            if recipe.patience is not None and waited >= recipe.patience:
                progress.say(f"stopped: no better epoch since epoch {training.best_epoch}")
                break
            batches = _batches(rows, epoch, training)
            started = time.perf_counter() - training.seconds
            training.model.train()
            with progress.stage(f"epoch {epoch + 1}/{recipe.epochs}", len(rows)) as advance:
                advance(sum(len(batch) for batch in batches[: training.position[1]]))
                for batch in batches[training.position[1] :]:
                    learn(training, batch, next(fetched), rows, progress)
                    training.position = (epoch, training.position[1] + 1)
                    advance(len(batch), note.of(training))
                    stop = _over_processes(accelerator, float(interrupted.is_set())) > 0
                    if stop or time.monotonic() - last_saved > SECONDS_BETWEEN_CHECKPOINTS:
                        training.seconds = time.perf_counter() - started
                        save(training, place)
                        last_saved = time.monotonic()
                    if stop:
                        raise KeyboardInterrupt(
                            "the training is kept; the same command goes on with it, `train` with --resume."
                        )
            training.seconds = time.perf_counter() - started
            finish_epoch(training, validate(training, source, labels[1]))
            progress.say(f"epoch {epoch + 1}/{recipe.epochs}: {training.history[-1]}")
            accelerator.log({**vars(training.history[-1])}, step=epoch + 1)
            save(training, place)
            last_saved = time.monotonic()


def learn(
    training: Training, batch: NDArray[np.int64], fetched: Fetched, labels: NDArray[np.int64], progress: Progress
) -> None:
    """One step on the rows `batch` of the training samples, of which this process has `fetched` its share."""
    _note_problems(training, fetched.problems, progress)
    recipe, device, position = training.recipe, training.accelerator.device, training.position
    torch.manual_seed(number(training.seed, "batch", *position))
    mine, is_real = _share(batch)
    inputs, truth = fetched.inputs, torch.from_numpy(labels[mine[fetched.places]])
    weights = training.class_weights[truth] * is_real
    total = _over_processes(training.accelerator, float(weights.sum()))
    if position[1] == 0:
        training.first_rate = training.rate
    if total > 0:
        if not len(inputs):  # other processes have pictures, and wait for this one's gradients
            inputs, truth, weights = (
                torch.zeros(1, *inputs.shape[1:]),
                torch.zeros(1, dtype=torch.int64),
                torch.zeros(1),
            )
        targets = functional.one_hot(truth, len(training.class_weights)).float()
        mixing = torch.Generator().manual_seed(number(training.seed, "mix", *position, processes.rank()))
        inputs, targets = inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)
        inputs, targets = mix(inputs, targets, recipe.mixup, recipe.cutmix, mixing)
        passes = training.passes
        _step(training, inputs, targets, (weights / total).to(device, non_blocking=True), total)
        if training.passes > passes:
            progress.say(f"out of memory on {device}: batches are divided into {training.passes} passes from now on")
    training.pace.after_batch()
    training.step += 1


def _step(training: Training, inputs: Tensor, targets: Tensor, shares: Tensor, total: float) -> None:
    """One step of the optimiser on the mean loss, to which each row gives its share of a `total` of weights.

    Where the device runs out of memory the batch is divided into twice as many passes, and the step taken again.
    """
    while True:
        try:
            loss, right = _take_step(training, inputs, targets, shares)
            break
        except RuntimeError as error:  # torch.OutOfMemoryError is one; on the CPU it has no name of its own
            if not _is_out_of_memory(error):
                raise
            _divide_more(training, len(inputs), error)
    counted = (shares > 0).sum()
    training.tally += torch.stack([loss * total, shares.sum() * total, right, counted]).to(training.tally.dtype)


def _take_step(training: Training, inputs: Tensor, targets: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, and the number of rows that were right; nothing waits for the device."""
    recipe, accelerator = training.recipe, training.accelerator
    training.optimiser.zero_grad()
    loss_sum, right = shares.new_zeros(()), shares.new_zeros(())
    passes = [rows for rows in torch.arange(len(inputs)).tensor_split(training.passes) if len(rows)]
    for rows in passes:
        with nullcontext() if rows is passes[-1] else accelerator.no_sync(training.model):
            with accelerator.autocast():
                logits = training.model(inputs[rows])
            loss = (losses(logits.float(), targets[rows], recipe.loss) * shares[rows]).sum()
            accelerator.backward(loss * processes.count())  # DDP takes the mean over processes; this is their sum
        loss_sum += loss.detach()
        right += ((logits.argmax(1) == targets[rows].argmax(1)) & (shares[rows] > 0)).sum()
    if recipe.clip_norm is not None:
        accelerator.clip_grad_norm_(training.student.parameters(), recipe.clip_norm)
    if recipe.clip_value is not None:
        accelerator.clip_grad_value_(training.student.parameters(), recipe.clip_value)
    training.optimiser.step()
    if training.average is not None:
        training.average.update_parameters(training.student)
    return loss_sum, right


def validate(training: Training, source: Source, labels: NDArray[np.int64]) -> tuple[float, float]:
    """Mean log loss and accuracy on the validation samples, whose class numbers are `labels` int [m]."""
    rows = np.arange(len(labels))[processes.rank() :: processes.count()]
    chunks = [rows[start : start + VALIDATION_BATCH] for start in range(0, len(rows), VALIDATION_BATCH)]
    sums = torch.zeros(3, dtype=torch.float32, device=training.accelerator.device)
    judged = training.judged.eval()
    for chunk, fetched in zip(chunks, source.plain([chunk.tolist() for chunk in chunks]), strict=True):
        truth = torch.from_numpy(labels[chunk[fetched.places]]).to(sums.device)
        with torch.inference_mode(), training.accelerator.autocast():
            logits = judged(fetched.inputs.to(sums.device)).float() if len(truth) else sums.new_zeros(0, 1)
        if len(truth):
            loss = functional.cross_entropy(logits, truth, reduction="sum")
            sums += torch.stack([loss, (logits.argmax(1) == truth).sum(), loss.new_tensor(len(truth))])
    loss, right, seen = training.accelerator.reduce(sums, "sum").tolist()
    if not seen:
        raise DataError("none of the validation pictures can be read any more.")
    return loss / seen, right / seen


def finish_epoch(training: Training, validation: tuple[float, float]) -> None:
    """Make the record of the epoch that ended, keep its weights if they are the best, and go on to the next."""
    epoch, (val_loss, val_accuracy) = training.position[0] + 1, validation
    loss, weight, right, seen = training.accelerator.reduce(training.tally, "sum").tolist()
    if not seen:
        raise DataError("none of the training pictures can be read any more.")
    rate = training.first_rate
    record = Epoch(epoch, rate, loss / weight, right / seen, val_loss, val_accuracy, training.seconds)
    _check_finite(training, loss)
    is_best = all(val_loss < earlier.val_loss for earlier in training.history)
    training.history.append(record)
    if is_best:
        training.best_epoch = epoch
        if training.recipe.keep == "best":
            training.best = {
                name: tensor.detach().cpu().clone() for name, tensor in training.judged.state_dict().items()
            }
    training.pace.after_epoch(val_loss)
    training.tally.zero_()
    training.position, training.seconds = (epoch, 0), 0.0


def save(training: Training, place: Path) -> None:
    """Write the checkpoint of this moment and history.csv, from the main process; the others do not wait for it."""
    if processes.is_main():
        checkpoint.save(place, training.step, training.state())
        write_history(place / HISTORY, training.history)


def _wanted(training: Training, labels: NDArray[np.int64]) -> Iterator[Wanted]:
    """This process's share of every batch from the present position to the end."""
    first, start = training.position
    for epoch in range(first, training.recipe.epochs):
        batches = _batches(labels, epoch, training)
        for batch in batches[start if epoch == first else 0 :]:
            yield Wanted(epoch, _share(batch)[0].tolist())


def _batches(labels: NDArray[np.int64], epoch: int, training: Training) -> list[NDArray[np.int64]]:
    size, balanced = training.recipe.batch, training.recipe.balance == "sampler"
    rows = order(labels, epoch, training.seed, balanced=balanced)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _share(batch: NDArray[np.int64]) -> tuple[NDArray[np.int64], bool]:
    """This process's rows of `batch`; where there are none, the first row, which then does not count."""
    mine = batch[processes.rank() :: processes.count()]
    return (mine, True) if len(mine) else (batch[:1], False)


def _note_problems(training: Training, problems: Sequence[Problem], progress: Progress) -> None:
    for problem in problems:
        if problem.path not in training.problems:
            progress.say(f"{problem.path}: {problem.detail}; training goes on without it")
        training.problems[problem.path] = problem


def _check_finite(training: Training, loss: float) -> None:
    if not math.isfinite(loss):
        raise DataError(
            f"the training loss is no longer a number, at step {training.step}. Lower optimiser.learning_rate, or set "
            "clip_norm, or precision = 'f32', in the recipe."
        )


@dataclass
class _Note:
    """Loss and accuracy so far, read from the device only now and then."""

    said: str = ""
    at: float = 0.0

    def of(self, training: Training) -> str:
        if time.monotonic() - self.at > SECONDS_BETWEEN_NOTES:
            loss, weight, right, seen = training.tally.tolist()
            _check_finite(training, loss)
            self.said = f"loss {loss / max(weight, 1e-9):.3f}, accuracy {right / max(seen, 1):.3f}"
            self.at = time.monotonic()
        return self.said


def _moving_average(decay: float) -> Any:
    """The update of a moving average that follows quickly at first: after t steps it decays by (1 + t) / (10 + t)."""

    @torch.no_grad()
    def update(averages: list[Tensor], latest: list[Tensor], updates: Tensor) -> None:
        share = 1 - min(decay, (1 + int(updates)) / (10 + int(updates)))
        torch._foreach_lerp_(averages, latest, share)

    return update


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _divide_more(training: Training, rows: int, error: RuntimeError) -> None:
    """Divide batches into twice as many passes from now on; where that cannot help, say so."""
    if processes.count() > 1 or training.passes >= rows:
        fits = max(1, rows // (2 * training.passes))
        raise DataError(
            f"out of memory on {training.accelerator.device} with {rows} pictures in {training.passes} passes. "
            f"Set batch = {fits} or accumulate = {2 * training.passes} in the recipe, or smaller sizes."
        ) from error
    training.passes = min(rows, 2 * training.passes)
    training.optimiser.zero_grad(set_to_none=True)
    if training.accelerator.device.type == "cuda":
        torch.cuda.empty_cache()


def _over_processes(accelerator: Accelerator, mine: float) -> float:
    """The sum of every process's number."""
    if processes.count() == 1:
        return mine
    return float(accelerator.reduce(torch.tensor(mine, device=accelerator.device), "sum"))


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, so that the batch can be finished; a second Ctrl-C stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    former = signal.getsignal(signal.SIGINT)

    def ask(*_: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, former)


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """Deterministic algorithms within the block, where `wanted`; what has none only warns."""
    before, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(wanted or before, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
