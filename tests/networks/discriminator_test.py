import itertools

import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.config import make_config
from gdd_keras.networks import build_discriminator

SHAPES = [(8, 8, 1), (9, 11, 3), (28, 28, 1), (40, 24, 3), (33, 64, 3)]
ARCHITECTURES = ("compact", "dim")
CONDITIONINGS = ("auxiliary", "projection")
KINDS = list(itertools.product(ARCHITECTURES, CONDITIONINGS))


def build(
    shape=(8, 8, 1), architecture="compact", conditioning="auxiliary", seed=0
):
    return build_discriminator(shape, 4, architecture, conditioning, 4, seed)


def pictures(shape, batch=3, seed=0):
    values = np.random.default_rng(seed).uniform(-1, 1, (batch, *shape))
    return values.astype("float32")


def one_hot(*labels):
    return np.eye(4, dtype="float32")[list(labels)]


@pytest.mark.parametrize(("architecture", "conditioning"), KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs(shape, architecture, conditioning):
    discriminator = build(shape, architecture, conditioning)
    outputs = discriminator([pictures(shape), one_hot(0, 1, 2)])
    names = {"scores"}
    if conditioning == "auxiliary":
        names.add("class_logits")
        assert outputs["class_logits"].shape == (3, 4)
    assert set(outputs) == names
    assert outputs["scores"].shape == (3,)
    for value in outputs.values():
        assert value.dtype == "float32"
        assert np.isfinite(value).all()
        # Three different images, three different judgements.
        assert np.std(value, axis=0).min() > 0


@pytest.mark.parametrize(("architecture", "conditioning"), KINDS)
def test_label_counts_under_projection_only(architecture, conditioning):
    discriminator = build((9, 11, 3), architecture, conditioning)
    images = np.repeat(pictures((9, 11, 3), 1), 4, 0)
    scores = discriminator([images, one_hot(0, 1, 2, 3)])["scores"].numpy()
    if conditioning == "projection":
        assert len(np.unique(scores.round(6))) == 4
    else:
        np.testing.assert_allclose(scores, scores[:1].repeat(4), atol=1e-6)


@pytest.mark.parametrize(("architecture", "conditioning"), KINDS)
def test_gradient_reaches_images_and_all_weights(architecture, conditioning):
    discriminator = build((9, 11, 3), architecture, conditioning)
    images = tf.constant(pictures((9, 11, 3)))
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = discriminator(
            [images, tf.constant(one_hot(0, 1, 2))], training=True
        )
        total = tf.reduce_sum(outputs["scores"])
        if conditioning == "auxiliary":
            total += tf.reduce_sum(outputs["class_logits"][:, 0])
    variables = discriminator.trainable_variables
    image_gradient, *gradients = tape.gradient(total, [images, *variables])
    assert (np.abs(image_gradient).max(axis=(1, 2, 3)) > 0).all()
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all()


def test_compact_is_spectrally_normalised():
    discriminator = build(conditioning="projection")
    # Power iteration converges over some training calls.
    for _ in range(50):
        discriminator([pictures((8, 8, 1)), one_hot(0, 1, 2)], training=True)
    kernels = [
        weight
        for weight in discriminator.trainable_variables
        if weight.path.endswith("kernel")
    ]
    # Convolution, score, label embedding.
    assert len(kernels) == 3
    for kernel in kernels:
        matrix = kernel.numpy().reshape(-1, kernel.shape[-1])
        norm = np.linalg.svd(matrix, compute_uv=False)[0]
        assert norm == pytest.approx(1.0, rel=0.02), kernel.path


def test_stem_sees_every_pixel():
    plain, stemmed = (
        build_discriminator((9, 11, 3), 4, width=4, stem=stem)
        for stem in (0, 5)
    )
    first = [
        next(w for w in network.weights if w.path.endswith("kernel"))
        for network in (plain, stemmed)
    ]
    assert [tuple(w.shape) for w in first] == [(4, 4, 3, 4), (3, 3, 3, 5)]
    convolution = stemmed.layers[1].layer
    assert convolution.strides == (1, 1)
    assert stemmed.layers[1].output.shape == (None, 9, 11, 5)
    outputs = stemmed([pictures((9, 11, 3)), one_hot(0, 1, 2)])
    assert np.std(outputs["scores"]) > 0


@pytest.mark.parametrize(("architecture", "conditioning"), KINDS)
def test_weights_follow_the_seed(architecture, conditioning):
    first, same, other = (
        build((8, 8, 1), architecture, conditioning, seed).get_weights()
        for seed in (3, 3, 4)
    )
    for left, right in zip(first, same, strict=True):
        np.testing.assert_array_equal(left, right)
    assert (first[0] != other[0]).any()


def test_paper_preset_has_the_size_of_dim():
    networks = make_config("paper").networks
    discriminator = build_discriminator(
        (32, 32, 3),
        10,
        networks.discriminator,
        networks.conditioning,
        networks.discriminator_width,
    )
    assert set(discriminator.output) == {"scores", "class_logits"}
    assert discriminator.count_params() == pytest.approx(3.14e6, rel=0.01)
