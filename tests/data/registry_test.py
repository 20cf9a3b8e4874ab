import pytest

from gdd_keras.data.registry import Preparation
from gdd_keras.data.registry import preparation_for


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_mnist_trains_at_32_by_padding(name):
    preparation = preparation_for(name)
    assert preparation.image_size == (32, 32)
    assert preparation.resize == "pad"


def test_digits_are_not_recoloured_and_garments_are():
    assert preparation_for("digits").augmentation == "crop"
    assert preparation_for("mnist").augmentation == "crop"
    assert preparation_for("fashion_mnist").augmentation == "color_crop"


def test_unknown_sets_keep_their_size():
    assert preparation_for("unheard_of") == Preparation(
        None, "resize", "color_crop"
    )
