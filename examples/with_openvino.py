"""Classify pictures with an OpenVINO export (float32 or int8), without headstart.

    pip install openvino pillow numpy
    headstart export runs/photos --to openvino -o photos-openvino
    python with_openvino.py photos-openvino PICTURES...

Prints a line for each picture: path, class, probability.
"""

import json
import sys
from pathlib import Path

import numpy as np
import openvino
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
    core = openvino.Core()
    model = core.read_model(export / "model.xml")
    # The file knows its classes and how pictures are prepared.
    classes = json.loads(model.get_rt_info(["headstart", "classes"]).astype(str))
    how = json.loads(model.get_rt_info(["headstart", "preprocessing"]).astype(str))
    # Without the hint OpenVINO computes in bf16 where the processor can: faster, but not what the export was proved on.
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for path in pictures:
        batch = pixels_of(path, how)[None]  # uint8 [1, height, width, 3]: on a CPU larger ones gain nothing
        row = compiled(batch)["probabilities"][0]
        print(path, classes[row.argmax()], f"{row.max():.6f}", sep="\t")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
