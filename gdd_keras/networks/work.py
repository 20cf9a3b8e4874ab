"""Multiply-adds of a network, from the shapes of its layers."""

import math

from keras import layers

__all__ = ["count_multiply_adds"]


def count_multiply_adds(model):
    """Counts the multiply-adds of one image's forward pass.

    Convolutions and dense layers count; all else is cheap arithmetic.

    Args:
        model: Functional `keras.Model`, whose layers may be wrapped or be
            models themselves.

    Returns:
        An int.
    """
    return sum(map(_count_layer, model.layers))


def _count_layer(layer):
    inner = getattr(layer, "layer", layer)
    if hasattr(inner, "layers"):
        return count_multiply_adds(inner)
    if isinstance(inner, layers.Conv2DTranspose):
        return math.prod(layer.input.shape[1:3]) * math.prod(inner.kernel.shape)
    if isinstance(inner, layers.Conv2D):
        positions = math.prod(layer.output.shape[1:3])
        return positions * math.prod(inner.kernel.shape)
    if isinstance(inner, layers.Dense):
        return math.prod(inner.kernel.shape)
    return 0
