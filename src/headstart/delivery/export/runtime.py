"""ONNX Runtime Web, which computes in a page: from a given path, from the cache, or once from the npm registry."""

import base64
import hashlib
import http.client
import io
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from headstart.errors import ExportError
from headstart.progress import Progress
from headstart.storage import cache_folder, clear_storage_errors, folder_written_once

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
ADDRESS = f"https://registry.npmjs.org/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""The registry's `dist.integrity` of that version."""

SCRIPT, BINARY = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
"""The smallest build that stands alone: WebAssembly only, its loader inside the script, no second file to ask for."""

DIGESTS = {
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    BINARY: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""The SHA-256 of the two files in the package whose integrity is the one above."""

PACKED_BYTES = 33_106_585
MOST_BYTES = 2 * PACKED_BYTES
TIMEOUT_SECONDS = 20
CHUNK = 1 << 18


@dataclass(frozen=True, eq=False)
class Runtime:
    """The two files of the runtime: its JavaScript, and what it computes with."""

    script: str
    binary: bytes

    @property
    def name(self) -> str:
        """Its name and version, as a person reads them."""
        return f"ONNX Runtime Web {VERSION}"


def obtain(given: Path | None, progress: Progress) -> Runtime:
    """The runtime from `given` (the package's .tgz or its folder), else from the cache, else from the npm registry.

    Whatever its way, its bytes are those of the pinned version. What was fetched stays in the cache.

    Raises:
        ExportError: there is none at `given`, it is another one, or it cannot be fetched; the message says what to do.
        StorageError: the cache cannot be written to.
    """
    if given is not None:
        return _given(given)
    folder = cache_folder() / "runtimes" / f"{PACKAGE}-{VERSION}"
    try:
        return _checked({name: (folder / name).read_bytes() for name in DIGESTS}, folder)
    except FileNotFoundError:
        pass
    found = _unpacked(_fetched(progress), ADDRESS)
    with clear_storage_errors(folder), folder_written_once(folder) as temporary:
        for name, content in found.items():
            (temporary / name).write_bytes(content)
    return _checked(found, folder)


def _given(path: Path) -> Runtime:
    if path.is_dir():
        places = [path / "dist", path, path / "package" / "dist"]
        place = next((one for one in places if all((one / name).is_file() for name in DIGESTS)), None)
        if place is None:
            raise ExportError(f"--runtime {path} is not the package {PACKAGE}: it has no dist/{SCRIPT}. {_WAYS}")
        return _checked({name: (place / name).read_bytes() for name in DIGESTS}, path)
    if not path.is_file():
        raise ExportError(f"--runtime {path}: there is nothing. {_WAYS}")
    if path.stat().st_size > MOST_BYTES:
        raise ExportError(f"--runtime {path} is not {PACKAGE} {VERSION}: it is too large. {_WAYS}")
    return _checked(_unpacked(path.read_bytes(), str(path)), path)


def _fetched(progress: Progress) -> bytes:
    """The package from the registry, with the progress shown in bytes."""
    try:
        with (
            urllib.request.urlopen(ADDRESS, timeout=TIMEOUT_SECONDS) as answer,
            progress.stage(f"fetching {PACKAGE}", PACKED_BYTES) as advance,
        ):
            parts = io.BytesIO()
            for part in _parts(answer):
                parts.write(part)
                advance(len(part))
            return parts.getvalue()
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        reason = getattr(error, "reason", None) or error
        raise ExportError(
            f"a page needs {PACKAGE} {VERSION}, once; it is not in the cache, and {ADDRESS} cannot be fetched "
            f"({reason}). {_WAYS}"
        ) from error


def _parts(answer: BinaryIO) -> Iterator[bytes]:
    received = 0
    while part := answer.read(CHUNK):
        received += len(part)
        if received > MOST_BYTES:
            raise OSError("it is longer than it can be")
        yield part


def _unpacked(package: bytes, where: str) -> dict[str, bytes]:
    """The two files from the bytes of the package, whose integrity is checked first."""
    found = base64.b64encode(hashlib.sha512(package).digest()).decode()
    if f"sha512-{found}" != INTEGRITY:
        raise ExportError(
            f"{where} is not {PACKAGE} {VERSION}, or was damaged on its way: its integrity is sha512-{found}, where "
            f"{INTEGRITY} was expected. Nothing of it was used. {_WAYS}"
        )
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
        members = {name: archive.extractfile(f"package/dist/{name}") for name in DIGESTS}
        return {name: member.read() for name, member in members.items() if member is not None}


def _checked(files: dict[str, bytes], where: Path) -> Runtime:
    """The runtime of these files, if they are the pinned ones."""
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != DIGESTS[name]:
            raise ExportError(
                f"{name} in {where} is not that of {PACKAGE} {VERSION}, or is damaged; it was not used. "
                f"Delete it, or: {_WAYS}"
            )
    return Runtime(files[SCRIPT].decode("utf-8"), files[BINARY])


_WAYS = (
    f"Fetch it where there is a network (npm pack {PACKAGE}@{VERSION}, or {ADDRESS}), and name the .tgz or the "
    "package's folder with --runtime."
)
