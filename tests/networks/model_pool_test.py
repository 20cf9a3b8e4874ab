import collections

import keras
import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.config import InputError
from gdd_keras.networks import ModelPool

SHAPE = (8, 8, 1)


def narrow(image_shape, num_classes):
    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Conv2D(3, 3, strides=2, name="block_2"),
            keras.layers.Flatten(),
            keras.layers.Dense(num_classes),
        ]
    )


def wide(image_shape, num_classes):
    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Conv2D(5, 3, strides=2, name="inner"),
            keras.layers.Flatten(),
            keras.layers.Dense(num_classes),
        ]
    )


def make(names=(narrow, wide), layers=("block_2", "inner"), **settings):
    return ModelPool(names, layers, SHAPE, 4, **settings)


def batch(seed=0):
    generator = np.random.default_rng(seed)
    images = generator.uniform(-1, 1, (6, *SHAPE)).astype("float32")
    return tf.constant(images), tf.constant([0, 1, 2, 3, 0, 1])


def weights(pool):
    return [network.get_weights() for network in pool.networks]


def same(first, second):
    return [
        all((a == b).all() for a, b in zip(left, right, strict=True))
        for left, right in zip(first, second, strict=True)
    ]


def first_draw_of(pool, index, start=0):
    """Returns the first number whose draw is network `index`."""
    for number in range(start, start + 100):
        pool.draw(number)
        if int(pool.index) == index:
            return number
    pytest.fail(f"network {index} is never drawn")


def test_same_number_same_draw():
    pool, twin = make(seed=3), make(seed=3)
    pool.draw(7)
    first, index = weights(pool), int(pool.index)
    # Whatever happened in between.
    pool.draw(8)
    pool.train_on(index, *batch())
    pool.draw(7)
    assert int(pool.index) == index
    assert same(weights(pool), first)[index]
    twin.draw(7)
    assert int(twin.index) == index
    assert same(weights(twin), first)[index]
    assert int(pool.draw_count) == 7


def test_draws_and_seeds_differ():
    pool = make((narrow,), ("block_2",), seed=3)
    seen = []
    for number in range(4):
        pool.draw(number)
        seen.append(weights(pool)[0][0])
    pool = make((narrow,), ("block_2",), seed=4)
    pool.draw(0)
    seen.append(weights(pool)[0][0])
    for first in range(len(seen)):
        for second in range(first):
            assert (seen[first] != seen[second]).all()


def test_draw_changes_one_network_and_all_come_up():
    pool = make(seed=3)
    drawn = collections.Counter()
    for number in range(30):
        before = weights(pool)
        pool.draw(number)
        index = int(pool.index)
        assert same(weights(pool), before)[1 - index]
        assert not same(weights(pool), before)[index]
        assert pool.current_name is pool.names[index]
        drawn[index] += 1
    # Three standard deviations of a fair coin are 8.2.
    assert abs(drawn[0] - 15) <= 8


def test_momentum_is_reset_and_the_rate_is_kept():
    pool = make(learning_rate=0.03)
    index = 1
    pool.train_on(index, *batch())
    optimizer = pool.optimizers[index]
    velocities = [
        v for v in optimizer.variables if v is not optimizer.learning_rate
    ]
    assert any(np.abs(tf.convert_to_tensor(v)).max() > 0 for v in velocities)
    first_draw_of(pool, index)
    for velocity in velocities:
        assert not tf.convert_to_tensor(velocity).numpy().any()
    assert float(optimizer.learning_rate) == pytest.approx(0.03)


def test_training_is_sgd_on_the_network_in_use_only():
    pool = make(learning_rate=0.1)
    before = weights(pool)
    images, labels = batch()
    network = pool.networks[0]
    with tf.GradientTape() as tape:
        loss = keras.ops.mean(
            keras.losses.sparse_categorical_crossentropy(
                labels, network(images), from_logits=True
            )
        )
    gradients = tape.gradient(loss, network.trainable_variables)
    np.testing.assert_allclose(
        pool.train_on(0, images, labels), loss, rtol=1e-5
    )
    assert same(weights(pool), before) == [False, True]
    for old, new, gradient in zip(
        before[0], weights(pool)[0], gradients, strict=True
    ):
        np.testing.assert_allclose(new, old - 0.1 * gradient, atol=1e-6)


def test_training_lowers_the_loss():
    pool = make((narrow,), ("block_2",), learning_rate=0.1)
    losses = [float(pool.train_on(0, *batch())) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]


def test_features():
    pool = make()
    images, _ = batch()
    for index, (layer, width) in enumerate((("block_2", 3), ("inner", 5))):
        logits, features = pool.features(index, images)
        network = pool.networks[index]
        np.testing.assert_allclose(logits, network(images), rtol=1e-5)
        assert features.shape == (6, 3, 3, width)
        np.testing.assert_allclose(
            features, network.get_layer(layer)(images), rtol=1e-5
        )


def test_compiled_switch_uses_the_network_in_use():
    pool = make()
    images, _ = batch()
    traces = []

    @tf.function
    def mean_logit():
        traces.append(1)
        return pool.switch(
            lambda index: tf.reduce_mean(
                tf.square(pool.features(index, images)[0])
            )
        )

    seen = set()
    for number in range(6):
        pool.draw(number)
        index = int(pool.index)
        expected = tf.reduce_mean(tf.square(pool.networks[index](images)))
        np.testing.assert_allclose(mean_logit(), expected, rtol=1e-5)
        seen.add((index, float(expected)))
    assert len(traces) == 1
    assert {index for index, _ in seen} == {0, 1}
    assert len(seen) == 6


def test_one_network_needs_no_switch():
    pool = make((narrow,), ("block_2",))
    assert pool.switch(lambda index: index) == 0


def test_package_networks_are_narrow_resnets():
    pool = ModelPool(("resnet10",), ("block_2",), SHAPE, 4)
    assert pool.networks[0].get_layer("block_1").output.shape[-1] == 32
    assert pool.networks[0].get_layer("block_4").output.shape[-1] == 256


def test_standardisation_reaches_the_networks():
    pool = ModelPool(("convnet3",), ("standardize",), SHAPE, 4, (0.5,), (0.25,))
    images, _ = batch()
    np.testing.assert_allclose(
        pool.features(0, images)[1], (images - 0.5) / 0.25, rtol=1e-5, atol=1e-5
    )


def test_one_layer_for_all():
    pool = ModelPool(("convnet3", narrow), ("block_2",), SHAPE, 4)
    assert pool.local_layers == ("block_2", "block_2")


def test_errors():
    with pytest.raises(
        InputError,
        match="`local_layer` must be one name, or one for each network of "
        r"the pool \(.*\). Received: 3 names for 2 networks.",
    ):
        ModelPool(("convnet3", "resnet10"), ("a", "b", "c"), SHAPE, 4)
    with pytest.raises(
        InputError, match="local_layer=block_4. It has: block_1, block_2, bl"
    ):
        ModelPool(("convnet3",), ("block_4",), SHAPE, 4)
    with pytest.raises(InputError, match="must be one of convnet3, .* vgg12"):
        ModelPool(("vgg12",), ("block_4",), SHAPE, 4)


def test_wrong_number_of_layers_with_own_functions():
    with pytest.raises(InputError, match="Received: 3 names for 2 networks"):
        make((narrow, wide), ("a", "b", "c"))


def test_draw_gives_the_weights_of_a_fresh_network_without_making_one():
    names = ("convnet3", "resnet10")
    pool = ModelPool(names, ("block_2",), (16, 16, 1), 3, seed=4)
    pool.draw(0)
    for number in range(1, 5):
        built = []
        build = pool._build
        pool._build = lambda *a, build=build, built=built: (
            built.append(build(*a)) or built[-1]
        )
        pool.draw(number)
        pool._build = build
        index = int(pool.index)
        draws = np.random.default_rng([4, number])
        assert index == int(draws.integers(2))
        fresh = build(index, int(draws.integers(2**31)))
        for a, b in zip(
            pool.networks[index].get_weights(),
            fresh.get_weights(),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
        # TensorFlow never gives back all memory of a variable.
        assert built[0].variables
        assert all(v._value is None for v in built[0].variables)
