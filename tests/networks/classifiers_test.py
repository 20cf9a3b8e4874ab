import keras
import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.config import POOL_NETWORKS
from gdd_keras.config import TEST_NETWORKS
from gdd_keras.config import InputError
from gdd_keras.networks import build_classifier
from gdd_keras.networks import classifier_names
from gdd_keras.networks import feature_extractor

NUM_BLOCKS = {
    "convnet3": 3,
    "resnet10": 4,
    "resnet18": 4,
    "alexnet": 5,
    "vgg11": 5,
    "mlp": 2,
}
NAMES = classifier_names()
SHAPES = [(8, 8, 1), (32, 32, 3), (40, 24, 3)]
# Narrow where a network can be: what is tested does not depend on it.
NARROW = {
    name: {"width": 16} for name in ("convnet3", "resnet10", "resnet18", "mlp")
}


def pictures(shape, batch=3, seed=0):
    values = np.random.default_rng(seed).uniform(-1, 1, (batch, *shape))
    return values.astype("float32")


def build(name, shape=(8, 8, 1), **settings):
    return build_classifier(name, shape, 4, **NARROW.get(name, {}), **settings)


def user_network(image_shape, num_classes):
    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Conv2D(4, 3, name="first"),
            keras.layers.Flatten(),
            keras.layers.Dense(num_classes),
        ]
    )


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """Name of an importable module with a network of its own."""
    (tmp_path / "my_networks_for_test.py").write_text(
        "import keras\n\n\n"
        "def small(image_shape, num_classes):\n"
        "    return keras.Sequential([keras.Input(image_shape),\n"
        "        keras.layers.Flatten(name='flat'),\n"
        "        keras.layers.Dense(num_classes)])\n\n\n"
        "NUMBER = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_networks_for_test"


def test_names():
    assert NAMES == TEST_NETWORKS == tuple(NUM_BLOCKS)
    assert set(POOL_NETWORKS) <= set(NAMES)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_outputs_features_and_gradients(name, shape):
    network = build(name, shape)
    blocks = [f"block_{i + 1}" for i in range(NUM_BLOCKS[name])]
    assert [
        layer.name for layer in network.layers if "block_" in layer.name
    ] == blocks
    extractor = feature_extractor(network, blocks)
    images = tf.constant(pictures(shape))
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = extractor(images, training=True)
        total = tf.reduce_sum(outputs["logits"][:, 0])
    gradient, *weight_gradients = tape.gradient(
        total, [images, *network.trainable_variables]
    )
    assert set(outputs) == {"logits", *blocks}
    assert outputs["logits"].shape == (3, 4)
    np.testing.assert_allclose(
        outputs["logits"], network(images), rtol=1e-4, atol=1e-5
    )
    for key, value in outputs.items():
        assert value.dtype == "float32", key
        assert np.isfinite(value).all(), key
        # A norm over a single pixel once made everything behind it constant.
        flat = value.numpy().reshape(3, -1)
        assert (flat.std(axis=0) > 1e-6).mean() > 0.3, key
        assert np.abs(flat).max() > 1e-3, key
        # Features compared by the local loss keep a map, and only shrink.
        if key != "logits" and name != "mlp":
            assert value.shape[0] == 3
            assert 1 <= value.shape[1] <= shape[0]
    assert np.std(outputs["logits"], axis=0).min() > 1e-4
    assert (np.abs(gradient).max(axis=(1, 2, 3)) > 1e-6).all()
    assert np.isfinite(gradient).all()
    assert all(g is not None for g in weight_gradients)


@pytest.mark.parametrize("name", NAMES)
def test_images_are_standardised_first(name):
    mean, std = (0.1, -0.2, 0.3), (0.5, 0.25, 2.0)
    network = build(name, (8, 8, 3), mean=mean, std=std, seed=5)
    assert isinstance(network.layers[0], keras.layers.InputLayer)
    images = pictures((8, 8, 3))
    extractor = feature_extractor(network, ["standardize"])
    expected = (images - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(
        extractor(images)["standardize"], expected, rtol=1e-5, atol=1e-6
    )
    plain = build(name, (8, 8, 3), seed=5)
    np.testing.assert_allclose(
        network(images),
        plain(expected.astype("float32")),
        rtol=1e-4,
        atol=1e-5,
    )
    # Without statistics, images pass as they are.
    np.testing.assert_array_equal(
        feature_extractor(plain, ["standardize"])(images)["standardize"],
        images,
    )


@pytest.mark.parametrize("name", NAMES)
def test_weights_follow_the_seed(name):
    first, same, other = (
        build(name, seed=seed).get_weights() for seed in (3, 3, 4)
    )
    for left, right in zip(first, same, strict=True):
        np.testing.assert_array_equal(left, right)
    changed = [
        (left != right).any()
        for left, right in zip(first, other, strict=True)
        if left.ndim > 1
    ]
    assert all(changed)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("convnet3", [(16, 16, 128), (8, 8, 128), (4, 4, 128)]),
        (
            "resnet18",
            [(32, 32, 64), (16, 16, 128), (8, 8, 256), (4, 4, 512)],
        ),
        (
            "alexnet",
            [(16, 16, 128), (8, 8, 192), (8, 8, 256), (8, 8, 192), (4, 4, 192)],
        ),
        (
            "vgg11",
            [(16, 16, 64), (8, 8, 128), (4, 4, 256), (2, 2, 512), (1, 1, 512)],
        ),
    ],
)
def test_published_block_shapes_at_32_pixels(name, shapes):
    network = build_classifier(name, (32, 32, 3), 10)
    assert [
        network.get_layer(f"block_{i + 1}").output.shape[1:]
        for i in range(len(shapes))
    ] == shapes


def test_resnet_depths():
    for name, depth in (("resnet10", 10), ("resnet18", 18)):
        kernels = [
            weight
            for weight in build(name).trainable_variables
            if weight.path.endswith("kernel") and weight.shape[0] != 1
        ]
        # 1x1 shortcuts do not count.
        assert len(kernels) == depth


def test_mlp_is_two_hidden_layers():
    network = build_classifier("mlp", (8, 9, 3), 5)
    assert [weight.shape for weight in network.get_weights()] == [
        (216, 128),
        (128,),
        (128, 128),
        (128,),
        (128, 5),
        (5,),
    ]
    kernels, biases = network.get_weights()[::2], network.get_weights()[1::2]
    images = pictures((8, 9, 3))
    x = images.reshape(3, -1)
    for kernel, bias in zip(kernels[:2], biases[:2], strict=True):
        x = np.maximum(x @ kernel + bias, 0)
    # Sums of 216 products in another order.
    np.testing.assert_allclose(
        network(images), x @ kernels[2] + biases[2], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", NAMES)
def test_mixed_precision_keeps_weights_and_logits_in_float32(name):
    exact = build(name, seed=3)
    network = build(name, seed=3, precision="mixed_bfloat16")
    for mixed, weight in zip(network.variables, exact.variables, strict=True):
        assert mixed.dtype == "float32"
        np.testing.assert_array_equal(mixed, weight)
    blocks = [f"block_{i + 1}" for i in range(NUM_BLOCKS[name])]
    images = tf.constant(pictures((8, 8, 1)))
    with tf.GradientTape() as tape:
        outputs = feature_extractor(network, blocks)(images, training=True)
        total = tf.reduce_sum(outputs["logits"][:, 0])
    gradients = tape.gradient(
        total, [weight.value for weight in network.trainable_variables]
    )
    assert all(gradient.dtype == "float32" for gradient in gradients)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    logits = outputs.pop("logits")
    assert logits.dtype == "float32"
    assert {value.dtype for value in outputs.values()} == {tf.bfloat16}
    wanted = exact(images).numpy()
    # Eight bits, rounded once a layer.
    np.testing.assert_allclose(logits, wanted, atol=0.03 * np.ptp(wanted))
    assert (logits.numpy() != wanted).any()


def test_precision_holds_for_the_network_alone():
    def fails(image_shape, num_classes):
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        raise RuntimeError("inside")

    assert keras.config.dtype_policy().name == "float32"
    network = build_classifier(
        user_network, (8, 8, 1), 4, precision="mixed_bfloat16"
    )
    assert network.layers[0].compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"
    with pytest.raises(RuntimeError, match="inside"):
        build_classifier(fails, (8, 8, 1), 4, precision="mixed_bfloat16")
    assert keras.config.dtype_policy().name == "float32"
    with pytest.raises(InputError, match="must be one of convnet3"):
        build("convnet4", precision="mixed_bfloat16")
    assert keras.config.dtype_policy().name == "float32"
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        # `None` keeps what is set, and leaves it.
        build("mlp", precision="float32")
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        assert build("mlp").get_layer("block_1").compute_dtype == "bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("by_name", [False, True])
def test_own_network(by_name, user_module):
    network = f"{user_module}:small" if by_name else user_network
    first, same, other = (
        build_classifier(network, (8, 9, 3), 5, seed=seed) for seed in (3, 3, 4)
    )
    assert first(pictures((8, 9, 3))).shape == (3, 5)
    for left, right in zip(
        first.get_weights(), same.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(left, right)
    assert (first.get_weights()[0] != other.get_weights()[0]).any()
    layer = "flat" if by_name else "first"
    outputs = feature_extractor(first, [layer])(pictures((8, 9, 3)))
    assert set(outputs) == {"logits", layer}


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        (":absent", "cannot be imported: module .* has no attribute 'absent'"),
        (":NUMBER", r"must be a function of \(image_shape, num_classes\)"),
        ("", "must be one of convnet3, .*, or `package.module:function`"),
        (".sub:small", "cannot be imported: "),
    ],
)
def test_own_network_that_cannot_be_had(suffix, message, user_module):
    with pytest.raises(InputError, match=message):
        build_classifier(user_module + suffix, (8, 8, 1), 4)


def test_unknown_names():
    message = "The network must be one of convnet3, .* Received: convnet4."
    with pytest.raises(InputError, match=message):
        build("convnet4")
    with pytest.raises(InputError, match="`no_such_package.x:f` cannot be imp"):
        build("no_such_package.x:f")


def test_own_network_of_wrong_shape():
    def other_classes(image_shape, num_classes):
        return user_network(image_shape, num_classes + 1)

    def other_images(image_shape, num_classes):
        return user_network((9, 9, 1), num_classes)

    def none(image_shape, num_classes):
        return None

    def no_input(image_shape, num_classes):
        return keras.Sequential([keras.layers.Flatten()])

    for function, received in (
        (other_classes, r"a model from \(8, 8, 1\) to \(5,\)"),
        (other_images, r"a model from \(9, 9, 1\) to \(4,\)"),
    ):
        with pytest.raises(
            InputError,
            match=r"must map images \(8, 8, 1\) to logits \(4,\). Received: "
            + received,
        ):
            build_classifier(function, (8, 8, 1), 4)
    for function, received in ((none, "NoneType"), (no_input, "Sequential")):
        with pytest.raises(
            InputError, match=f"must return a functional .* {received}"
        ):
            build_classifier(function, (8, 8, 1), 4)


@pytest.mark.parametrize("name", NAMES)
def test_absent_layer_lists_the_blocks(name):
    blocks = ", ".join(f"block_{i + 1}" for i in range(NUM_BLOCKS[name]))
    with pytest.raises(
        InputError,
        match=f"`local_layer` must be a layer of {name}. Received: "
        f"local_layer=block_9. It has: {blocks}.$",
    ):
        feature_extractor(build(name), ["block_9"])


def test_absent_layer_of_an_own_network_lists_all():
    network = build_classifier(user_network, (8, 8, 1), 4)
    with pytest.raises(InputError, match="It has: first, flatten"):
        feature_extractor(network, ["block_1"])
