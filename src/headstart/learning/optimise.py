"""A recipe's optimiser, schedule and loss, as torch's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import lr_scheduler

from headstart.learning.recipes import Loss, Optimiser, Recipe


def make_optimiser(settings: Optimiser, stages: Sequence[Sequence[nn.Parameter]]) -> torch.optim.Optimizer:
    """The optimiser of `stages`, groups of parameters from the input to the head, which learns at the full rate.

    A stage that is i below the head learns at rate * layer_decay^i. Without `decay_biases` only matrices and
    kernels have weight decay.
    """
    groups: list[dict[str, Any]] = []
    for below, stage in enumerate(reversed(stages)):
        rate = settings.learning_rate * settings.layer_decay**below
        matrices = [parameter for parameter in stage if settings.decay_biases or parameter.ndim > 1]
        others = [parameter for parameter in stage if not settings.decay_biases and parameter.ndim <= 1]
        groups += [
            {"params": parameters, "lr": rate, "weight_decay": decay}
            for parameters, decay in ((matrices, settings.weight_decay), (others, 0.0))
            if parameters
        ]
    if settings.name == "sgd":
        momentum, nesterov = settings.momentum, settings.nesterov
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=momentum, nesterov=nesterov)
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=settings.learning_rate, betas=settings.betas)


@dataclass(frozen=True)
class Pace:
    """A learning-rate schedule: torch's, and whether it steps after each batch, or after each epoch."""

    scheduler: Any
    each_batch: bool
    by_loss: bool = False

    def after_batch(self) -> None:
        """Take a step if the schedule goes by batches."""
        if self.each_batch:
            self.scheduler.step()

    def after_epoch(self, val_loss: float) -> None:
        """Take a step if the schedule goes by epochs."""
        if self.by_loss:
            self.scheduler.step(val_loss)
        elif not self.each_batch:
            self.scheduler.step()


def make_pace(optimiser: torch.optim.Optimizer, recipe: Recipe, batches: int) -> Pace:
    """The schedule of `recipe` for epochs of `batches` steps."""
    settings, steps = recipe.schedule, recipe.epochs * batches
    if settings.name == "plateau":
        plateau = lr_scheduler.ReduceLROnPlateau(optimiser, factor=settings.gamma, patience=settings.patience)
        return Pace(plateau, each_batch=False, by_loss=True)
    if settings.name == "one-cycle":
        peaks = [group["lr"] for group in optimiser.param_groups]
        return Pace(
            lr_scheduler.OneCycleLR(optimiser, peaks, total_steps=steps + 1, cycle_momentum=False), each_batch=True
        )
    warm = min(round(settings.warmup_epochs * batches), steps - 1)
    if not warm and settings.name == "step":
        return Pace(lr_scheduler.StepLR(optimiser, settings.step_epochs, settings.gamma), each_batch=False)
    main: Any = lr_scheduler.LambdaLR(optimiser, _constant)
    if settings.name == "step":
        main = lr_scheduler.StepLR(optimiser, settings.step_epochs * batches, settings.gamma)
    elif settings.name == "cosine":
        main = lr_scheduler.CosineAnnealingLR(optimiser, steps - warm)
    if not warm:
        return Pace(main, each_batch=True)
    rise = lr_scheduler.LinearLR(optimiser, start_factor=1 / (warm + 1), total_iters=warm)
    return Pace(lr_scheduler.SequentialLR(optimiser, [rise, main], [warm]), each_batch=True)


def _constant(_step: int) -> float:
    return 1.0


def losses(logits: Tensor, targets: Tensor, settings: Loss) -> Tensor:
    """The loss of each row, float [n].

    With p = softmax(logits [n, k]) and targets t [n, k], rows summing to 1: cross-entropy is sum_c -t_c log p_c, with
    t smoothed to (1 - s) t + s / k; focal loss (Lin et al. 2017) weighs each term with (1 - p_c)^gamma.
    """
    if settings.name == "cross-entropy":
        return functional.cross_entropy(logits, targets, reduction="none", label_smoothing=settings.label_smoothing)
    smooth = settings.label_smoothing
    targets = (1 - smooth) * targets + smooth / targets.shape[1]
    logs = functional.log_softmax(logits, dim=1)
    return -(targets * (1 - logs.exp()) ** settings.gamma * logs).sum(dim=1)
