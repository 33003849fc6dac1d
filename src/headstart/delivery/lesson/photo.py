"""The photo that a network looks at: a person's own, or one that comes with scikit-learn."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.errors import DataError
from headstart.pictures.decode import PictureError, decode
from headstart.pictures.inspect import read


def photo(path: Path | None) -> NDArray[np.uint8]:
    """The picture in the file `path`, uint8 [h, w, 3]; a flower (by "vultilion", CC BY 2.0) unless one is given.

    Raises:
        DataError: the file cannot be read as a picture.
    """
    if path is None:
        from sklearn.datasets import load_sample_image

        return np.asarray(load_sample_image("flower.jpg"), dtype=np.uint8)
    try:
        return decode(read(path)[0]).pixels
    except (PictureError, OSError) as error:
        raise DataError(f"cannot read the picture {path}: {error}") from error
