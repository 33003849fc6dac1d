"""The arithmetic of a training: precision and memory layout, chosen by measuring a few steps."""

import json
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import product

import torch
from torch import Tensor

from headstart import processes
from headstart.learning.allocator import freed_memory_kept
from headstart.learning.student import Pupil
from headstart.parallel import core_count
from headstart.storage import cache_folder, written_atomically

MEASURED_BATCH, WARM_STEPS, TIMED_STEPS = 8, 1, 2
WORTHWHILE = 0.95  # another arithmetic than the plain one is taken where it needs at most this share of the time


@dataclass(frozen=True)
class Arithmetic:
    """`precision` is "f32", "bf16" or "fp16"; with `channels_last` the maps of a convolution lie channel by channel."""

    precision: str
    channels_last: bool


def fastest(pupil: Pupil, device: torch.device, key: str) -> Arithmetic:
    """The arithmetic in which forward and backward pass of `pupil` take the least time on `device`.

    What was measured is kept in the cache under `key`, the machine and torch's version: the same training takes the
    same arithmetic, and so gives the same bytes, each time. Nothing is learnt while it is measured. Processes that
    train together do not measure, since they would have to agree.
    """
    if processes.count() > 1:
        return Arithmetic("bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(False) else "f32", True)
    facts = repr((key, torch.__version__, platform.processor(), platform.machine(), core_count(), str(device)))
    path = cache_folder() / "measured" / f"{sha256(facts.encode()).hexdigest()[:24]}.json"
    if path.is_file():
        return Arithmetic(**json.loads(path.read_text("utf-8")))
    candidates = list(_candidates(device))
    seconds = {candidate: _seconds(pupil, device, candidate) for candidate in candidates}
    plain, best = candidates[0], min(candidates, key=lambda candidate: seconds[candidate])
    chosen = best if seconds[best] < WORTHWHILE * seconds[plain] else plain
    with written_atomically(path) as temporary:
        temporary.write_text(json.dumps(asdict(chosen)), "utf-8")
    return chosen


def arrange(pupil: Pupil, arithmetic: Arithmetic) -> None:
    """Lay the student's tensors out as `arithmetic` says."""
    pupil.student.layout = torch.channels_last if arithmetic.channels_last else torch.contiguous_format
    pupil.student.to(memory_format=pupil.student.layout)


def _candidates(device: torch.device) -> Iterator[Arithmetic]:
    """The arithmetics that `device` has in hardware, the plainest first."""
    precisions = ["f32", "bf16"] if _has_bf16(device) else ["f32"]
    yield from (Arithmetic(precision, layout) for precision, layout in product(precisions, (True, False)))


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _seconds(pupil: Pupil, device: torch.device, arithmetic: Arithmetic) -> float:
    """The seconds of one forward and backward pass, the fastest of `TIMED_STEPS`."""
    arrange(pupil, arithmetic)
    student, inputs = pupil.student.to(device).train(), _inputs(pupil).to(device)
    buffers = [(buffer, buffer.clone()) for buffer in student.buffers()]  # batch norms in training change theirs
    best = float("inf")
    with freed_memory_kept():
        for step in range(WARM_STEPS + TIMED_STEPS):
            started = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=arithmetic.precision == "bf16"):
                loss = student(inputs).float().logsumexp(1).mean()
            loss.backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if step >= WARM_STEPS:
                best = min(best, time.perf_counter() - started)
    student.zero_grad(set_to_none=True)
    for buffer, before in buffers:
        buffer.copy_(before)
    return best


def _inputs(pupil: Pupil) -> Tensor:
    if pupil.cut is not None:
        return torch.zeros(MEASURED_BATCH, *pupil.cut.shape)
    return torch.zeros(MEASURED_BATCH, pupil.sides[-1], pupil.sides[-1], 3, dtype=torch.uint8)
