"""The same backbone on two engines: OpenVINO on the CPU, torch on CUDA and MPS."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray

from headstart.errors import UsageError
from headstart.features.backbones import Backbone
from headstart.features.openvino_engine import OpenVinoEngine, Precision, cpu_precision
from headstart.parallel import core_count

Device = Literal["auto", "cpu", "cuda", "mps"]
DEVICES: tuple[Device, ...] = get_args(Device)

GPU_BATCH = 64
CPU_BATCH = 4  # only to spare hand-overs: the CPU engine takes pictures one by one


class Engine(Protocol):
    """A backbone ready to run."""

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features float32 [n, d] of `pixels` uint8 [n, height, width, 3]; callable from several threads."""


@dataclass(frozen=True)
class TorchEngine:
    """The torch network itself, in batches: channels last, and bf16 where the device has it."""

    network: Any
    device: str

    @staticmethod
    def load(backbone: Backbone, device: str, precision: str) -> "TorchEngine":
        """The backbone's network on `device` ("cuda", "mps" or "cpu"), in "f32" or "bf16"."""
        import torch  # seconds

        from headstart.features import networks

        network = networks.build(networks.facts(backbone.name), backbone.tensors, backbone.preprocess)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        module = network.module.to(device, dtype).to(memory_format=torch.channels_last)
        return TorchEngine(module, device)

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Engine.embed`."""
        import torch

        batch = torch.tensor(pixels)
        if self.device == "cuda":
            batch = batch.pin_memory()
        with torch.inference_mode():
            features = self.network(batch.to(self.device, non_blocking=True))
        return cast(NDArray[np.float32], features.float().cpu().numpy())


@dataclass(frozen=True)
class EnginePlan:
    """Which engine will compute features here: known at once, before anything is compiled or loaded.

    `name` and `precision` are part of the key under which features are stored. `batch` is how many pictures
    a call gets, and `lanes` how many calls run side by side.
    """

    name: str
    device: str
    precision: str
    batch: int
    lanes: int

    def load(self, backbone: Backbone) -> Engine:
        """The engine itself, ready to run `backbone`."""
        if self.device == "cpu":
            return OpenVinoEngine.compile(backbone.graph, threads=core_count(), precision=self.precision)
        return TorchEngine.load(backbone, self.device, self.precision)


def plan_engine(device: Device = "auto", precision: Precision = "auto") -> EnginePlan:
    """The engine for `device`; "auto" takes a CUDA GPU where there is one, and the CPU elsewhere.

    Raises:
        UsageError: the device or the precision cannot be had on this machine.
    """
    chosen = _choose_device(device)
    if chosen == "cpu":
        return EnginePlan("openvino", chosen, cpu_precision(precision), CPU_BATCH, core_count())
    return EnginePlan(f"torch-{chosen}", chosen, torch_precision(chosen, precision), GPU_BATCH, 1)


def torch_precision(device: str, precision: Precision = "auto") -> str:
    """What `precision` stands for on a torch device: "auto" is bf16 on a GPU that has it, f32 elsewhere.

    Raises:
        UsageError: torch does not see such a device.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[device]:
        raise UsageError(f"this machine has no {device} device that torch can use; try --device auto or cpu.")
    if precision == "auto":
        has_bf16 = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if has_bf16 else "f32"
    return precision


def _choose_device(device: Device) -> str:
    """The device that "auto" stands for on this machine; torch is only asked where an NVIDIA driver is found."""
    if device != "auto":
        return device
    if not Path("/proc/driver/nvidia/version").exists() and not _has_windows_driver():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _has_windows_driver() -> bool:
    return sys.platform == "win32" and Path(os.environ.get("WINDIR", "C:/Windows"), "System32/nvcuda.dll").exists()
