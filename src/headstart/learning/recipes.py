"""Recipes: named training configurations, the classic ones to the letter, each number of which can be overridden.

A recipe in a TOML file names the one that it starts from (`base`) and what it changes:

    base = "classic-finetune"
    epochs = 10
    optimiser = { name = "adamw", learning_rate = 3e-4 }
    augmentation = [ { name = "random-resized-crop", scale = [0.5, 1.0] }, { name = "horizontal-flip" } ]
"""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from headstart.errors import UsageError

Tune = Literal["none", "last", "all"]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Table(BaseModel):
    """A table of settings: frozen, and with no room for a mistyped name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Optimiser(Table):
    """torch.optim's SGD, Adam or AdamW.

    `layer_decay` multiplies the learning rate once for each stage below the head (1: all learn alike);
    `momentum` is SGD's, `betas` are Adam's. Without `decay_biases` only matrices and kernels have weight decay.
    """

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: Positive = 0.001
    momentum: Fraction = 0.0
    nesterov: bool = False
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    weight_decay: NotNegative = 0.0
    decay_biases: bool = True
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "Optimiser":
        if self.nesterov and (self.name != "sgd" or self.momentum == 0):
            raise ValueError("nesterov = true needs name = 'sgd' and a momentum above 0")
        return self


class Schedule(Table):
    """How the learning rate changes.

    `step` multiplies it by `gamma` every `step_epochs`; `cosine` lowers it to zero over the training, `one-cycle`
    raises and lowers it (Smith 2018); `plateau` multiplies it by `gamma` when the validation loss has not
    fallen for more than `patience` epochs. `warmup_epochs` of linear rise come before `step`, `cosine` and `constant`.
    """

    name: Literal["constant", "step", "cosine", "one-cycle", "plateau"] = "constant"
    step_epochs: Count = 7
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    patience: Annotated[int, Field(ge=0)] = 3
    warmup_epochs: NotNegative = 0.0


class Loss(Table):
    """Cross-entropy, with label smoothing where it is above 0, or focal loss with `gamma` (Lin et al. 2017)."""

    name: Literal["cross-entropy", "focal"] = "cross-entropy"
    label_smoothing: Fraction = 0.0
    gamma: NotNegative = 2.0


class Recipe(Table):
    """Everything that a training by epochs depends on, besides the data.

    backbone, weights  the network, and whether it starts pretrained or from nothing
    tune               how much of the backbone moves: `none` (only the head), the `last` stages, `all`
    start              the head to begin with: `solved` (headstart's exact head) or `new` (PyTorch's random one)
    test               the fraction held out where the data came without a test
    validate_on        the pictures that each epoch is measured on. `fold`: a fifth of the training pictures, kept aside
                       so that choices may be made on them. `test`: the held-out pictures; then nothing may be chosen
                       by them (no `keep = "best"`, patience, plateau or guard), and all others are trained on
    epochs, batch      passes over the training pictures, and pictures a step
    accumulate         parts that a batch is divided into, for less memory
    sizes              sides in pixels of training pictures, in equal shares of the epochs; empty: the backbone's own.
                       `growing`: four sevenths, five sevenths, and all of it, where the network takes such sizes
    views              with tune `last`: how many augmented views of each picture and side are computed and kept
    batch_norm         `frozen` statistics, `train`ed ones as in the classic scripts, or `folded` into the
                       convolutions (frozen, and faster)
    balance            `weights` in the loss or a `sampler` that gives every class the same share
    clip_norm, clip_value  gradients are clipped to this norm, or value by value
    mixup, cutmix      the parameter of the beta distribution that mixes pictures (0: never); with both, one is drawn
    average            `ema`: keep a moving average of the weights (`ema_decay` a step)
    keep, patience     the `last` epoch or the `best` one by validation loss; stop after so many epochs without a better
                       (of those with pictures of the last side)
    spare_labels       leave out augmentation steps that may change the label, judged by the names of the classes
    guard              compare with the solved head on validation loss and keep the better classifier
    compile, deterministic  torch.compile; deterministic algorithms where torch has them
    workers            processes that prepare pictures: by default one on a CPU, up to 16 on a GPU
    precision          arithmetic: `auto` measures a few steps and takes the fastest of f32 and bf16
    """

    name: str = "recipe"
    backbone: str = "tf_efficientnet_lite0"
    weights: Literal["pretrained", "none"] = "pretrained"
    tune: Tune = "none"
    start: Literal["new", "solved"] = "new"
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    validate_on: Literal["test", "fold"] = "test"
    epochs: Count = 25
    batch: Count = 4
    accumulate: Count = 1
    sizes: Literal["growing"] | tuple[Annotated[int, Field(ge=32, le=2048)], ...] = ()
    views: Count = 2
    batch_norm: Literal["frozen", "train", "folded"] = "frozen"
    balance: Literal["none", "weights", "sampler"] = "none"
    clip_norm: Positive | None = None
    clip_value: Positive | None = None
    mixup: NotNegative = 0.0
    cutmix: NotNegative = 0.0
    average: Literal["none", "ema"] = "none"
    ema_decay: Fraction = 0.99
    keep: Literal["last", "best"] = "last"
    patience: Count | None = None
    guard: bool = False
    precision: Literal["auto", "f32", "bf16", "fp16"] = "f32"
    compile: bool = False
    deterministic: bool = True
    workers: Annotated[int, Field(ge=0, le=256)] | None = None
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    augmentation: str | tuple[dict[str, Any], ...] = "crop-flip"
    spare_labels: bool = False

    @model_validator(mode="after")
    def _choices_need_a_fold(self) -> "Recipe":
        """What chooses must not judge."""
        if self.validate_on == "test":
            choosing = {
                "keep = 'best'": self.keep == "best",
                "patience": self.patience is not None,
                "schedule 'plateau'": self.schedule.name == "plateau",
                "guard": self.guard,
            }
            if used := [name for name, does in choosing.items() if does]:
                raise ValueError(
                    f"{', '.join(used)} would choose by the pictures that judge the result; set validate_on = 'fold'"
                )
        return self


_CLASSIC = {
    "backbone": "resnet18.tv_in1k",
    "epochs": 25,
    "batch": 4,
    "optimiser": {"name": "sgd", "learning_rate": 0.001, "momentum": 0.9},
    "schedule": {"name": "step", "step_epochs": 7, "gamma": 0.1},
    "augmentation": "crop-flip",
}
_OWN = {
    "backbone": "tf_efficientnet_lite0",
    "start": "solved",
    "validate_on": "fold",
    "batch": 32,
    "batch_norm": "folded",
    "keep": "best",
    "guard": True,
    "precision": "auto",
    "clip_norm": 1.0,
    "average": "ema",
    "schedule": {"name": "cosine", "warmup_epochs": 1.0},
    "augmentation": "gentle",
    "spare_labels": True,
    "sizes": "growing",
    "patience": 3,
}
_SGD_DECAY = {
    "backbone": "resnet18.tv_in1k",
    "test": 0.25,
    "epochs": 30,
    "batch": 32,
    "optimiser": {"name": "sgd", "learning_rate": 0.001, "weight_decay": 0.01},
    "augmentation": "crop-flip",
}
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "last": {
        **_OWN,
        "tune": "last",
        "epochs": 12,
        "optimiser": {
            "name": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 0.05,
            "layer_decay": 0.8,
            "decay_biases": False,
        },
    },
    "all": {
        **_OWN,
        "tune": "all",
        "epochs": 9,
        "optimiser": {
            "name": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 0.05,
            "layer_decay": 0.8,
            "decay_biases": False,
        },
    },
    "classic-frozen": {**_CLASSIC, "tune": "none"},
    "classic-finetune": {**_CLASSIC, "tune": "all", "batch_norm": "train"},
    "adam-clip": {
        "backbone": "resnet18.tv_in1k",
        "tune": "none",
        "test": 0.2,
        "epochs": 10,
        "batch": 32,
        "optimiser": {"name": "adam", "learning_rate": 0.001},
        "clip_norm": 1.0,
        "augmentation": "crop-flip",
    },
    "sgd-decay": {**_SGD_DECAY, "tune": "none"},
    "sgd-decay-unfrozen": {**_SGD_DECAY, "tune": "all", "batch_norm": "train"},
    "augmented": {
        "backbone": "resnet18.tv_in1k",
        "tune": "all",
        "validate_on": "fold",
        "keep": "best",
        "epochs": 25,
        "batch": 32,
        "batch_norm": "train",
        "optimiser": {"name": "sgd", "learning_rate": 0.001, "momentum": 0.9},
        "schedule": {"name": "step", "step_epochs": 7, "gamma": 0.1},
        "augmentation": "rich",
    },
}
"""What each named recipe says; everything else is `Recipe`'s default."""


def load_recipe(name: str, **overrides: Any) -> Recipe:
    """The recipe `name`, or the one in the TOML file `name`, with single settings overridden.

    Raises:
        UsageError: no such recipe or file, an unknown setting (the nearest is named), or a value out of its range.
    """
    values = _from_file(Path(name)) if name.endswith(".toml") else _named(name)
    return _checked(_merged(values, overrides), name)


def _named(name: str) -> dict[str, Any]:
    if name not in RECIPES:
        raise UsageError(
            f"unknown recipe '{name}'{_nearest(name, RECIPES)}. There are {', '.join(RECIPES)}, or give a .toml file."
        )
    return {"name": name, **RECIPES[name]}


def _from_file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the recipe {path}: {error}") from error
    base = values.pop("base", None)
    if base is not None and not isinstance(base, str):
        raise UsageError(f"'base' in {path} must be the name of a recipe; received {base!r}.")
    start = {} if base is None else _named(base)
    return _merged(start, {"name": path.stem, **values})


def _merged(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `changes`; tables are changed setting by setting, anything else as a whole."""
    merged = dict(values)
    for key, change in changes.items():
        old = merged.get(key)
        merged[key] = {**old, **change} if isinstance(old, Mapping) and isinstance(change, Mapping) else change
    return merged


def _checked(values: Mapping[str, Any], source: str) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        found = error.errors()
    complaints = [_complaint(tuple(map(str, problem["loc"])), problem) for problem in found]
    raise UsageError(f"the recipe {source} cannot be used: {'; '.join(complaints)}.")


def _complaint(place: tuple[str, ...], problem: Any) -> str:
    where = ".".join(place)
    if problem["type"] == "extra_forbidden":
        return f"unknown setting '{where}'{_nearest(place[-1], _settings(place[:-1]))}"
    message = problem["msg"].removeprefix("Value error, ").rstrip(".")
    return message if not where else f"{where}: {message}; received {problem['input']!r}"


def _settings(table: tuple[str, ...]) -> list[str]:
    """The names that the (sub)table at `table` knows."""
    tables: dict[str, type[BaseModel]] = {"optimiser": Optimiser, "schedule": Schedule, "loss": Loss}
    model = tables.get(table[0] if table else "", Recipe)
    return list(model.model_fields)


def _nearest(name: str, names: Any) -> str:
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""
