import keras
import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.networks.normalization import InstanceNormalization

SHAPE = (3, 6, 5, 4)


def random(shape, seed):
    values = np.random.default_rng(seed).normal(0.5, 1.5, shape)
    return values.astype("float32")


def make(activation=None, shape=SHAPE, **settings):
    layer = InstanceNormalization(activation, **settings)
    layer.build((None, *shape[1:]))
    layer.gamma.assign(random(shape[-1], 1))
    layer.beta.assign(random(shape[-1], 2))
    return layer


def make_twin(layer):
    twin = keras.layers.GroupNormalization(groups=-1, epsilon=1e-5)
    twin.build((None, *SHAPE[1:]))
    twin.set_weights(layer.get_weights())
    return twin


def forward_and_gradients(function, inputs, variables):
    inputs = tf.constant(inputs)
    weights = random(inputs.shape, 3)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(inputs)
        value = tf.reduce_sum(outputs * weights)
    return outputs, tape.gradient(value, [inputs, *variables])


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_equals_group_normalization_and_its_gradients(
    activation, compiled, fused
):
    layer = make(activation)
    layer.fused = fused
    twin = make_twin(layer)

    def twin_call(inputs):
        outputs = twin(inputs)
        return tf.nn.relu(outputs) if activation else outputs

    def ours():
        variables = [layer.gamma.value, layer.beta.value]
        return forward_and_gradients(layer, random(SHAPE, 0), variables)

    outputs, gradients = (tf.function(ours) if compiled else ours)()
    expected, expected_gradients = forward_and_gradients(
        twin_call, random(SHAPE, 0), [twin.gamma.value, twin.beta.value]
    )
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    assert len(gradients) == 3
    for got, wanted in zip(gradients, expected_gradients, strict=True):
        assert np.abs(wanted).max() > 0.1
        # Sums of 90 products in another order.
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_equals_numpy():
    inputs = random(SHAPE, 0)
    layer = make()
    mean = inputs.mean((1, 2), keepdims=True)
    deviation = np.sqrt(inputs.var((1, 2), keepdims=True) + 1e-5)
    gamma, beta = layer.get_weights()
    np.testing.assert_allclose(
        layer(inputs), gamma * (inputs - mean) / deviation + beta, atol=1e-5
    )


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("value", [0.0, 0.3, -1e3])
def test_constant_maps_give_beta(activation, value):
    layer = make(activation)
    inputs = np.full(SHAPE, value, "float32")
    outputs, gradients = forward_and_gradients(
        layer, inputs, [layer.gamma.value, layer.beta.value]
    )
    expected = layer.beta.numpy()
    if activation:
        expected = np.maximum(expected, 0)
    # Rounding of the mean, times 1 / sqrt(epsilon).
    atol = 1e-6 + 1e-7 * abs(value) / np.sqrt(1e-5)
    np.testing.assert_allclose(
        outputs, np.broadcast_to(expected, SHAPE), atol=10 * atol
    )
    for gradient in gradients:
        assert np.isfinite(gradient).all()


def test_mean_far_above_the_deviation_stays_finite():
    # The one-pass variance cancels here; it must not turn into NaN.
    inputs = 1e4 + random(SHAPE, 0)
    layer = make()
    outputs, gradients = forward_and_gradients(
        layer, inputs, [layer.gamma.value, layer.beta.value]
    )
    for value in (outputs, *gradients):
        assert np.isfinite(value).all()


@pytest.mark.parametrize("activation", [None, "relu"])
def test_bfloat16_is_the_rounded_float32_result(activation):
    exact = make(activation)
    layer = make(activation, dtype="mixed_bfloat16")
    inputs = tf.cast(random(SHAPE, 0), tf.bfloat16)
    upstream = tf.cast(random(SHAPE, 3), tf.bfloat16)
    results = []
    for norm in (layer, exact):
        seen = tf.cast(inputs, norm.compute_dtype)
        variables = [norm.gamma.value, norm.beta.value]
        with tf.GradientTape() as tape:
            tape.watch(seen)
            outputs = norm(seen)
        gradients = tape.gradient(
            outputs,
            [seen, *variables],
            tf.cast(upstream, norm.compute_dtype),
        )
        assert [value.dtype for value in (outputs, *gradients)] == [
            *[norm.compute_dtype] * 2,
            *["float32"] * 2,
        ]
        results.append([np.float32(v) for v in (outputs, *gradients)])
    for index, (got, wanted) in enumerate(zip(*results, strict=True)):
        # One rounding at the end, to eight bits; sums of 90 products of
        # gamma and beta stay in float32.
        rtol = 2**-8 if index < 2 else 1e-5
        np.testing.assert_allclose(got, wanted, rtol=rtol, atol=1e-5)
        assert np.abs(wanted).max() > 0.1


def test_bfloat16_statistics_are_those_of_float32():
    # 100 and 100.5 are neighbours in bfloat16: a mean in it would be off by
    # half the deviation.
    steps = np.random.default_rng(0).integers(0, 3, SHAPE)
    inputs = 100.0 + 0.5 * steps
    layer = make(dtype="mixed_bfloat16")
    mean = inputs.mean((1, 2), keepdims=True)
    deviation = np.sqrt(inputs.var((1, 2), keepdims=True) + 1e-5)
    gamma, beta = layer.get_weights()
    outputs = layer(tf.constant(inputs, tf.bfloat16))
    # The one-pass variance in float32 loses 1e-7 of 100 squared, a hundredth
    # of the variance.
    np.testing.assert_allclose(
        np.float32(outputs),
        gamma * (inputs - mean) / deviation + beta,
        rtol=0.02,
        atol=0.02,
    )


def test_weights_stay_in_float32():
    inputs = keras.Input(SHAPE[1:])
    layer = InstanceNormalization("relu", dtype="mixed_bfloat16")
    outputs = layer(inputs)
    assert outputs.dtype == "bfloat16"
    assert [weight.dtype for weight in layer.weights] == ["float32"] * 2


def test_any_batch_size():
    inputs = keras.Input(SHAPE[1:])
    layer = InstanceNormalization("relu")
    outputs = layer(inputs)
    assert outputs.shape == (None, *SHAPE[1:])
    model = keras.Model(inputs, outputs)
    images = random((7, *SHAPE[1:]), 0)
    whole = model(images)
    for batch in (1, 2, 7):
        # Each image is normalised alone.
        np.testing.assert_allclose(
            model(images[:batch]), whole[:batch], atol=1e-6
        )
    assert model(images[:0]).shape == (0, *SHAPE[1:])


@pytest.mark.parametrize("activation", [None, "relu"])
def test_config_round_trip(activation):
    layer = InstanceNormalization(
        activation, epsilon=1e-3, fused=False, name="norm"
    )
    config = layer.get_config()
    copy = InstanceNormalization.from_config(config)
    assert copy.get_config() == config
    assert (copy.activation, copy.epsilon) == (activation, 1e-3)
    assert not copy.fused


# Raised inside Keras 3.15 when it saves any layer.
@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_model_file_round_trip(tmp_path):
    inputs = keras.Input(SHAPE[1:])
    model = keras.Model(inputs, make("relu")(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    images = random(SHAPE, 0)
    np.testing.assert_array_equal(loaded(images), model(images))


def test_unknown_activation():
    with pytest.raises(
        ValueError,
        match="`activation` must be None or 'relu'. Received: "
        "activation='gelu'.",
    ):
        InstanceNormalization("gelu")
