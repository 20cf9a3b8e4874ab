import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.cgan import ConditionalGAN
from gdd_keras.losses import classification_loss
from gdd_keras.losses import discriminator_loss
from gdd_keras.losses import generator_loss
from gdd_keras.losses import kl_loss
from gdd_keras.losses import reconstruction_loss
from gdd_keras.networks import build_discriminator
from gdd_keras.networks import build_encoder
from gdd_keras.networks import build_generator

SHAPE = (8, 8, 1)
LOSSES = ("non_saturating", "hinge", "wgan_gp")
CONDITIONINGS = ("auxiliary", "projection")
KINDS = list(itertools.product(LOSSES, CONDITIONINGS))


def make(
    loss="hinge",
    conditioning="auxiliary",
    architecture="compact",
    seed=0,
    rates=(0.01, 0.02),
    optimizer=keras.optimizers.SGD,
    run_eagerly=False,
    encoded=False,
    **settings,
):
    if encoded:
        settings["encoder"] = build_encoder(SHAPE, 3, 5, 4, seed=seed + 2)
    gan = ConditionalGAN(
        build_generator(SHAPE, 3, "compact", 5, 4, seed=seed),
        build_discriminator(
            SHAPE, 3, architecture, conditioning, 4, seed=seed + 1
        ),
        loss,
        seed=seed,
        **settings,
    )
    gan.compile(*map(optimizer, rates), run_eagerly=run_eagerly)
    return gan


def make_batch(seed=0):
    generator = np.random.default_rng(seed)
    return {
        "images": tf.constant(
            generator.integers(0, 256, (6, *SHAPE)).astype("uint8")
        ),
        "labels": tf.constant([0, 1, 2, 2, 1, 0]),
    }


def run(gan, steps=1, compiled=True):
    """Takes some steps on different batches; returns the last logs."""
    step = tf.function(gan.train_step) if compiled else gan.train_step
    for number in range(steps):
        logs = step(make_batch(number))
    return {name: float(value) for name, value in logs.items()}


def values(variables):
    return [tf.convert_to_tensor(variable).numpy() for variable in variables]


def equal(first, second):
    return all((a == b).all() for a, b in zip(first, second, strict=True))


def log_keys(loss, conditioning):
    keys = ["discriminator_loss", "adversarial_loss"]
    if conditioning == "auxiliary":
        keys += ["classification_loss", "real_classification_loss"]
    if loss == "wgan_gp":
        keys += ["gradient_penalty"]
    return set(keys)


@pytest.mark.parametrize(("loss", "conditioning"), KINDS)
def test_one_batch_compiled_and_eager(loss, conditioning):
    gan = make(loss, conditioning)
    before = [
        values(network.trainable_variables)
        for network in (gan.generator, gan.discriminator)
    ]
    logs = run(gan)
    assert set(logs) == log_keys(loss, conditioning)
    assert np.isfinite(list(logs.values())).all()
    for network, old in zip(
        (gan.generator, gan.discriminator), before, strict=True
    ):
        for variable, value in zip(
            network.trainable_variables, old, strict=True
        ):
            if "bias" in variable.path and "dense" in variable.path:
                # The score's bias cancels between real and generated.
                continue
            assert (variable.numpy() != value).any(), variable.path
    assert int(gan.step) == 1
    twin = make(loss, conditioning)
    twin_logs = run(twin, compiled=False)
    for name, value in logs.items():
        assert value == pytest.approx(twin_logs[name], rel=1e-4, abs=1e-5)
    for a, b in zip(gan.variables, twin.variables, strict=True):
        # Kernels of a compiled graph add in another order.
        np.testing.assert_allclose(
            *values([a, b]), rtol=1e-4, atol=1e-5, err_msg=a.path
        )


def test_only_generator_and_discriminator_are_trainable():
    gan = make()
    expected = [
        *gan.generator.trainable_variables,
        *gan.discriminator.trainable_variables,
    ]
    assert [id(v) for v in gan.trainable_variables] == [id(v) for v in expected]
    assert gan.averaged_generator.trainable_variables == []


def test_fit_run_eagerly_equals_compiled():
    results = []
    for run_eagerly in (False, True):
        gan = make(run_eagerly=run_eagerly)
        history = gan.fit(
            tf.data.Dataset.from_tensors(make_batch()).repeat(),
            epochs=2,
            steps_per_epoch=2,
            shuffle=False,
            verbose=0,
        )
        assert set(history.history) == log_keys("hinge", "auxiliary")
        assert int(gan.step) == 4
        results.append((history.history, values(gan.variables)))
    (history, first), (eager_history, second) = results
    for name, curve in history.items():
        np.testing.assert_allclose(curve, eager_history[name], rtol=1e-4)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_same_seed_same_weights():
    first, same, other = (make(seed=seed) for seed in (3, 3, 4))
    # The same networks: what differs is what the trainer draws.
    for gan in (same, other):
        gan.generator.set_weights(first.generator.get_weights())
        gan.discriminator.set_weights(first.discriminator.get_weights())
        gan.averaged_generator.set_weights(first.generator.get_weights())
    for gan in (first, same, other):
        run(gan, 2)
    assert equal(values(first.variables), values(same.variables))
    assert not equal(
        values(first.generator.trainable_variables),
        values(other.generator.trainable_variables),
    )


def test_discriminator_step_leaves_the_generator_alone():
    gan = make(rates=(0.0, 0.1))
    generator = values(gan.generator.trainable_variables)
    discriminator = values(gan.discriminator.trainable_variables)
    run(gan, 2)
    assert equal(values(gan.generator.trainable_variables), generator)
    assert not equal(
        values(gan.discriminator.trainable_variables), discriminator
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_generator_step_leaves_the_discriminator_alone(loss):
    # Spectral normalisation rescales weights by itself; `dim` has none.
    gan = make(loss, architecture="dim", rates=(0.1, 0.0))
    generator = values(gan.generator.trainable_variables)
    discriminator = values(gan.discriminator.variables)
    run(gan)
    assert equal(values(gan.discriminator.variables), discriminator)
    assert not equal(values(gan.generator.trainable_variables), generator)


def reference_step(gan, batch, step, rates, penalty_weight, auxiliary_weight):
    """Eq. 3 and 4 with one plain tape each and separate forward passes."""

    def draw(salt):
        return tf.random.experimental.stateless_fold_in(
            tf.constant([gan.seed, salt]), tf.constant(step, tf.int64)
        )

    generator, discriminator = gan.generator, gan.discriminator
    labels = batch["labels"]
    one_hot = tf.one_hot(labels, 3)
    real = tf.cast(batch["images"], tf.float32) / 127.5 - 1.0
    noise = tf.random.stateless_normal((6, 5), draw(0))

    def encode():
        if gan.encoder is None:
            return noise, 0.0
        encoded = gan.encoder([real, one_hot], training=True)
        mean, log_variance = encoded["mean"], encoded["log_variance"]
        latents = mean + tf.exp(log_variance / 2) * noise
        return latents, kl_loss(mean, log_variance)

    latents, _ = encode()
    name = gan.adversarial_loss
    generated = generator([latents, one_hot], training=True)
    share = tf.random.stateless_uniform((6, 1, 1, 1), draw(2))
    between = (1 - share) * real + share * generated
    with tf.GradientTape() as tape:
        on_real = discriminator([real, one_hot], training=True)
        on_generated = discriminator([generated, one_hot], training=True)
        total = discriminator_loss(
            name, on_real["scores"], on_generated["scores"]
        )
        if "class_logits" in on_real:
            total += classification_loss(labels, on_real["class_logits"])
        if name == "wgan_gp":
            with tf.GradientTape() as inner:
                inner.watch(between)
                scores = discriminator([between, one_hot])["scores"]
            slopes = tf.reshape(inner.gradient(scores, between), (6, -1))
            total += penalty_weight * tf.reduce_mean(
                (tf.norm(slopes, axis=1) - 1) ** 2
            )
    apply_sgd(tape, total, discriminator, rates[1])
    with tf.GradientTape(persistent=True) as tape:
        latents, divergence = encode()
        images = generator([latents, one_hot], training=True)
        outputs = discriminator([images, one_hot])
        total = generator_loss(name, outputs["scores"])
        if "class_logits" in outputs:
            total += auxiliary_weight * classification_loss(
                labels, outputs["class_logits"]
            )
        if gan.encoder is not None:
            squares = reconstruction_loss(real, images)
            total += gan.elbo_weight * (
                squares / (2 * gan.pixel_variance) + divergence / 64
            )
    apply_sgd(tape, total, generator, rates[0])
    if gan.encoder is not None:
        apply_sgd(tape, total, gan.encoder, rates[0])


def apply_sgd(tape, total, network, rate):
    variables = [v.value for v in network.trainable_variables]
    for variable, gradient in zip(
        variables, tape.gradient(total, variables), strict=True
    ):
        if gradient is not None:
            variable.assign_sub(rate * gradient)


@pytest.mark.parametrize(
    ("loss", "conditioning"),
    [
        ("non_saturating", "auxiliary"),
        ("hinge", "projection"),
        ("wgan_gp", "auxiliary"),
    ],
)
def test_two_steps_equal_a_plain_reference(loss, conditioning):
    settings = {"auxiliary_weight": 0.3, "gradient_penalty_weight": 7.0}
    gan, twin = (
        make(loss, conditioning, "dim", seed=5, **settings) for _ in range(2)
    )
    run(gan, 2)
    for step in range(2):
        reference_step(twin, make_batch(step), step, (0.01, 0.02), 7.0, 0.3)
    for network, expected in (
        (gan.generator, twin.generator),
        (gan.discriminator, twin.discriminator),
    ):
        for a, b in zip(
            network.trainable_variables,
            expected.trainable_variables,
            strict=True,
        ):
            # Separate passes add in another order.
            np.testing.assert_allclose(
                *values([a, b]), rtol=1e-3, atol=2e-5, err_msg=a.path
            )


def test_two_steps_with_an_encoder_equal_a_plain_reference():
    settings = {"elbo_weight": 0.7, "pixel_variance": 0.2}
    gan, twin = (
        make(architecture="dim", seed=5, encoded=True, **settings)
        for _ in range(2)
    )
    before = values(gan.encoder.trainable_variables)
    logs = run(gan, 2)
    for step in range(2):
        reference_step(twin, make_batch(step), step, (0.01, 0.02), 0.0, 1.0)
    assert not equal(values(gan.encoder.trainable_variables), before)
    for name in ("encoder", "generator", "discriminator"):
        for a, b in zip(
            getattr(gan, name).trainable_variables,
            getattr(twin, name).trainable_variables,
            strict=True,
        ):
            np.testing.assert_allclose(
                *values([a, b]), rtol=1e-3, atol=2e-5, err_msg=a.path
            )
    assert set(logs) == {
        *log_keys("hinge", "auxiliary"),
        "reconstruction_loss",
        "kl_loss",
    }
    assert set(gan.loss_weights) <= set(logs)


def test_average_follows_the_encoder():
    gan = make(encoded=True, ema_decay=0.0)
    run(gan, 2)
    for averaged, network in (
        (gan.averaged_encoder, gan.encoder),
        (gan.averaged_generator, gan.generator),
    ):
        for a, b in zip(averaged.variables, network.variables, strict=True):
            if a.dtype.startswith("float"):
                np.testing.assert_array_equal(*values([a, b]))


def test_an_encoder_learns_to_make_images_again():
    gan = make(
        encoded=True, rates=(0.003, 0.003), optimizer=keras.optimizers.Adam
    )
    step = tf.function(gan.train_step)
    batch = make_batch()
    step(batch)
    first = gan.get_metrics_result()["reconstruction_loss"]
    for _ in range(150):
        step(batch)
    gan.reset_metrics()
    last = float(step(batch)["reconstruction_loss"])
    assert last < 0.5 * float(first)


def test_encode_gives_the_averaged_moments_and_the_heads_belief():
    gan, batch = make(encoded=True), make_batch()
    run(gan)
    inputs = [
        tf.cast(batch["images"], tf.float32) / 127.5 - 1.0,
        tf.one_hot(batch["labels"], 3),
    ]
    means, log_variances, confidences = gan.encode(*batch.values())
    expected = gan.averaged_encoder(inputs)
    np.testing.assert_allclose(means, expected["mean"], atol=1e-5)
    np.testing.assert_allclose(
        log_variances, expected["log_variance"], atol=1e-5
    )
    probabilities = tf.nn.softmax(gan.discriminator(inputs)["class_logits"])
    for row, label in enumerate(batch["labels"]):
        np.testing.assert_allclose(
            confidences[row], probabilities[row, label], rtol=1e-4
        )
    blind = make(conditioning="projection", encoded=True)
    assert (blind.encode(*batch.values())[2].numpy() == 1.0).all()


def test_lazy_penalty_equals_a_plain_reference():
    gan, twin = (
        make(
            "wgan_gp",
            "auxiliary",
            "dim",
            seed=5,
            gradient_penalty_weight=7.0,
            gradient_penalty_every=2,
        )
        for _ in range(2)
    )
    logs = run(gan, 3)
    for step, weight in enumerate((14.0, 0.0, 14.0)):
        reference_step(twin, make_batch(step), step, (0.01, 0.02), weight, 1.0)
    for a, b in zip(
        gan.discriminator.trainable_variables,
        twin.discriminator.trainable_variables,
        strict=True,
    ):
        first, second = values([a, b])
        # Three steps let rounding grow, to 4e-6 of the largest weight on a
        # processor without AVX-512.
        np.testing.assert_allclose(
            first,
            second,
            rtol=1e-3,
            atol=3e-5 + 1e-5 * np.abs(second).max(),
            err_msg=a.path,
        )
    assert logs["gradient_penalty"] > 0.0


@pytest.mark.parametrize("every", [1, 3])
def test_mean_of_lazy_penalties_is_the_penalty(every):
    weights = np.full((64, 1), 3.0 / 8.0, np.float32)
    gan = ConditionalGAN(
        build_generator(SHAPE, 3, "compact", 5, 4),
        linear_discriminator(weights),
        "wgan_gp",
        gradient_penalty_every=every,
    )
    gan.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.0))
    logs = run(gan, 6)
    assert logs["gradient_penalty"] == pytest.approx((3.0 - 1.0) ** 2, rel=1e-4)


def linear_discriminator(weights):
    images = keras.Input(SHAPE)
    one_hot_labels = keras.Input((3,))
    dense = keras.layers.Dense(1, use_bias=False)
    scores = dense(keras.layers.Flatten()(images))
    dense.set_weights([weights])
    return keras.Model(
        [images, one_hot_labels], {"scores": keras.ops.squeeze(scores, -1)}
    )


@pytest.mark.parametrize("norm", [0.0, 0.5, 1.0, 3.0])
def test_gradient_penalty_of_a_linear_discriminator(norm):
    weights = np.random.default_rng(0).normal(size=(64, 1)).astype("float32")
    weights *= norm / np.linalg.norm(weights)
    gan = ConditionalGAN(
        build_generator(SHAPE, 3, "compact", 5, 4),
        linear_discriminator(weights),
        "wgan_gp",
    )
    gan.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.0))
    logs = run(gan, compiled=False)
    assert logs["gradient_penalty"] == pytest.approx((norm - 1) ** 2, abs=1e-5)
    # Its gradient is finite even at norm 0.
    assert np.isfinite(values(gan.discriminator.variables)).all()


@pytest.mark.parametrize("decay", [0.15, 0.999])
def test_average_warms_up_and_covers_batch_statistics(decay):
    gan = make(ema_decay=decay)
    expected = values(gan.generator.variables)
    step = tf.function(gan.train_step)
    for number in range(3):
        step(make_batch(number))
        share = min(decay, (1 + number) / (10 + number))
        expected = [
            share * average + (1 - share) * current
            for average, current in zip(
                expected, values(gan.generator.variables), strict=True
            )
        ]
        for average, value in zip(
            gan.averaged_generator.variables, expected, strict=True
        ):
            np.testing.assert_allclose(
                *values([average]), value, rtol=1e-5, atol=1e-6
            )
    moving = [v for v in gan.averaged_generator.variables if "moving" in v.path]
    assert len(moving) == 4


def test_average_without_decay_is_the_generator():
    gan = make(ema_decay=0.0)
    run(gan, 2)
    assert equal(
        values(gan.averaged_generator.variables),
        values(gan.generator.variables),
    )


def test_augmentation_is_seen_by_the_discriminator():
    plain = run(make(), compiled=False)
    cropped = run(make(augmentation="color_crop"), compiled=False)
    assert plain["discriminator_loss"] != cropped["discriminator_loss"]
    assert plain["adversarial_loss"] != cropped["adversarial_loss"]


def test_auxiliary_weight_scales_the_class_gradient():
    # Under a linear score without class logits, the weight plays no part.
    changes = []
    for weight in (0.0, 1.0, 2.0):
        gan = make(architecture="dim", auxiliary_weight=weight)
        before = values(gan.generator.trainable_variables)
        run(gan, compiled=False)
        changes.append(
            np.concatenate(
                [
                    (new - old).ravel()
                    for new, old in zip(
                        values(gan.generator.trainable_variables),
                        before,
                        strict=True,
                    )
                ]
            )
        )
    none, one, two = changes
    assert np.abs(one - none).max() > 1e-6
    np.testing.assert_allclose(two - none, 2 * (one - none), atol=1e-6)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_gradient_norms_equal_those_of_plain_sgd(conditioning):
    # SGD moves by rate x gradient; `dim` has no other moving weights.
    gan = make("hinge", conditioning, "dim", rates=(0.5, 0.25))
    networks = {"generator": gan.generator, "discriminator": gan.discriminator}
    norms = []
    for number in range(2):
        before = {n: values(v.trainable_variables) for n, v in networks.items()}
        gan.train_step(make_batch(number))
        norms.append(
            {
                name: np.sqrt(
                    sum(
                        np.square(new - old).sum()
                        for new, old in zip(
                            values(network.trainable_variables),
                            before[name],
                            strict=True,
                        )
                    )
                )
                / rate
                for (name, network), rate in zip(
                    networks.items(), (0.5, 0.25), strict=True
                )
            }
        )
    # Running means of both steps. Differences of float32 weights are coarse.
    for name, norm in gan.gradient_norms().items():
        expected = (norms[0][name] + norms[1][name]) / 2
        assert norm == pytest.approx(expected, rel=1e-4)
    gan.reset_metrics()
    assert gan.gradient_norms() == {"generator": 0.0, "discriminator": 0.0}


def test_loss_weights():
    gan = make(auxiliary_weight=0.3)
    assert gan.loss_weights == {
        "adversarial_loss": 1.0,
        "classification_loss": 0.3,
    }
    projection = make(conditioning="projection", auxiliary_weight=0.3)
    assert projection.loss_weights == {"adversarial_loss": 1.0}


def test_state_names_everything_that_trains():
    gan = make(optimizer=keras.optimizers.Adam)
    state = gan.state()
    assert set(state) == {
        "generator",
        "discriminator",
        "averaged_generator",
        "generator_optimizer",
        "discriminator_optimizer",
        "step",
    }
    held = {id(v) for v in (gan.step,)}
    for name, value in state.items():
        if name != "step":
            held |= {id(v) for v in value.variables}
    metrics = {id(v) for metric in gan.metrics for v in metric.variables}
    assert {id(v) for v in gan.variables} - metrics <= held


def test_unknown_loss_fails_at_construction():
    with pytest.raises(ValueError, match="`cgan_loss` must be one of"):
        make("lsgan")
