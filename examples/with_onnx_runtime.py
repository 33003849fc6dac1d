"""Classify pictures with an ONNX export, without headstart.

    pip install onnxruntime pillow numpy
    headstart export runs/photos --to onnx -o photos-onnx
    python with_onnx_runtime.py photos-onnx PICTURES...

Prints a line for each picture: path, class, probability.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def pixels_of(path: str, how: dict) -> np.ndarray:
    """The picture as uint8 [height, width, 3]: what the network was trained to see."""
    picture = ImageOps.exif_transpose(Image.open(path))
    if picture.has_transparency_data:
        coloured = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
    picture = picture.convert("RGB")
    size, method = (how["width"], how["height"]), Image.Resampling[how["interpolation"].upper()]
    if how["fit"] == "squish":  # the whole picture, its proportions lost
        return np.asarray(picture.resize(size, method))
    if how["fit"] == "pad":  # the whole picture, with a border
        ratio = min(size[0] / picture.width, size[1] / picture.height)
        inner = picture.resize((max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio))), method)
        canvas = Image.new("RGB", size, tuple(how["pad_colour"]))
        canvas.paste(inner, ((size[0] - inner.width) // 2, (size[1] - inner.height) // 2))
        return np.asarray(canvas)
    # crop: as if the short side were resized to how["resize"], and the middle cut out; only the middle is computed
    short = min(picture.size)
    full = [how["resize"] if side == short else int(how["resize"] * side / short) for side in picture.size]
    left, top = (round((whole - kept) / 2) for whole, kept in zip(full, size, strict=True))
    across, down = picture.width / full[0], picture.height / full[1]
    box = (left * across, top * down, (left + size[0]) * across, (top + size[1]) * down)
    return np.asarray(picture.resize(size, method, box=box))


def main(export: Path, pictures: list[str]) -> None:
    session = onnxruntime.InferenceSession(export / "model.onnx", providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map  # the file knows its classes and how pictures are prepared
    classes, how = json.loads(facts["classes"]), json.loads(facts["preprocessing"])
    batch = np.stack([pixels_of(path, how) for path in pictures])  # uint8 [n, height, width, 3]
    (probabilities,) = session.run(["probabilities"], {"pixels": batch})
    for path, row in zip(pictures, probabilities, strict=True):
        print(path, classes[row.argmax()], f"{row.max():.6f}", sep="\t")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
