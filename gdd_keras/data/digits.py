"""scikit-learn's digits: real data that needs no download."""

import numpy as np

from gdd_keras.data.raw import RawData
from gdd_keras.data.raw import RawSplit
from gdd_keras.data.registry import preparation_for

__all__ = ["open_digits"]


def open_digits():
    """Returns the 1,797 handwritten 8x8 digits as `RawData`."""
    import sklearn
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # Counts 0..16 to 0..255, rounded to the nearest grey level.
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = bunch.target

    def read(fit):
        yield fit(images), labels

    return RawData(
        name="digits",
        source="digits of scikit-learn",
        identity=f"scikit-learn {sklearn.__version__} digits",
        image_size=images.shape[1:3],
        channels=1,
        class_names=tuple(str(name) for name in bunch.target_names),
        train=RawSplit(len(images), read),
        test=None,
        cut_test=True,
        preparation=preparation_for("digits"),
    )
