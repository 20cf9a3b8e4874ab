import keras
import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.callbacks import PoolRedraw
from gdd_keras.cgan import ConditionalGAN
from gdd_keras.data.augmentation import augment
from gdd_keras.distiller import GenerativeDistiller
from gdd_keras.losses import classification_loss
from gdd_keras.losses import generator_loss
from gdd_keras.networks import ModelPool
from gdd_keras.networks import build_discriminator
from gdd_keras.networks import build_encoder
from gdd_keras.networks import build_generator

SHAPE = (8, 8, 1)
MATCHING_KEYS = {"global_loss", "local_loss", "pool_loss", "total_loss"}
GAN_KEYS = {
    "discriminator_loss",
    "adversarial_loss",
    "classification_loss",
    "real_classification_loss",
}


def narrow(image_shape, num_classes):
    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Conv2D(3, 3, strides=2, name="inner"),
            keras.layers.Flatten(),
            keras.layers.Dense(num_classes),
        ]
    )


def wide(image_shape, num_classes):
    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Conv2D(5, 3, strides=2, name="inner"),
            keras.layers.Activation("tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(num_classes),
        ]
    )


def make(
    cls=GenerativeDistiller,
    generator=None,
    pool_seed=0,
    conditioning="auxiliary",
    rates=(0.01, 0.02),
    encoded=False,
    **settings,
):
    if encoded:
        settings["encoder"] = build_encoder(SHAPE, 3, 5, 4)
    generator = generator or build_generator(SHAPE, 3, "compact", 5, 4)
    # No spectral normalisation, which moves weights by itself.
    discriminator = build_discriminator(SHAPE, 3, "dim", conditioning, 4)
    if cls is GenerativeDistiller:
        pool = ModelPool(
            (narrow, wide), ("inner",), SHAPE, 3, (0.1,), (0.5,), 0.1, pool_seed
        )
        pool.draw(0)
        settings["pool"] = pool
    trainer = cls(generator, discriminator, **settings)
    trainer.compile(*map(keras.optimizers.SGD, rates))
    return trainer


def make_batch(seed=0, pool_steps=0):
    generator = np.random.default_rng(seed)

    def pictures(*shape):
        images = generator.integers(0, 256, (*shape, *SHAPE))
        return tf.constant(images.astype("uint8"))

    batch = {"images": pictures(6), "labels": tf.constant([0, 1, 2, 2, 1, 0])}
    if pool_steps:
        batch["pool_images"] = pictures(pool_steps, 6)
        batch["pool_labels"] = tf.constant(
            generator.integers(0, 3, (pool_steps, 6)).astype("int32")
        )
    return batch


def run(trainer, steps=1, compiled=True, pool_steps=0):
    """Takes some steps on different batches; returns the last logs."""
    step = tf.function(trainer.train_step) if compiled else trainer.train_step
    for number in range(steps):
        logs = step(make_batch(number, pool_steps))
    return {name: float(value) for name, value in logs.items()}


def values(variables):
    return [tf.convert_to_tensor(variable).numpy() for variable in variables]


def equal(first, second):
    return all((a == b).all() for a, b in zip(first, second, strict=True))


def assert_moved_by(variables, before, gradients):
    """Checks a step of SGD at the rate 1."""
    for variable, old, gradient in zip(
        variables, before, gradients, strict=True
    ):
        np.testing.assert_allclose(
            old - values([variable])[0],
            gradient,
            rtol=1e-3,
            atol=1e-5,
            err_msg=variable.path,
        )


def network_values(trainer):
    return [
        values(network.variables)
        for network in (
            trainer.generator,
            trainer.discriminator,
            trainer.averaged_generator,
        )
    ]


def pool_values(trainer):
    return [network.get_weights() for network in trainer.pool.networks]


@pytest.mark.parametrize("conditioning", ["auxiliary", "projection"])
def test_one_batch_compiled_and_eager(conditioning):
    settings = {
        "conditioning": conditioning,
        "omega_g": 0.7,
        "omega_l": 0.3,
        "matching_augmentation": "color_crop",
        "auxiliary_weight": 0.4,
    }
    trainer, twin = make(**settings), make(**settings)
    generator = values(trainer.generator.trainable_variables)
    logs = run(trainer, pool_steps=2)
    keys = (
        GAN_KEYS
        if conditioning == "auxiliary"
        else {
            "discriminator_loss",
            "adversarial_loss",
        }
    )
    assert set(logs) == keys | MATCHING_KEYS
    assert np.isfinite(list(logs.values())).all()
    expected = logs["adversarial_loss"]
    expected += 0.7 * logs["global_loss"] + 0.3 * logs["local_loss"]
    expected += 0.4 * logs.get("classification_loss", 0.0)
    assert logs["total_loss"] == pytest.approx(expected, rel=1e-5)
    assert trainer.loss_weights == {
        "adversarial_loss": 1.0,
        "global_loss": 0.7,
        "local_loss": 0.3,
        **({"classification_loss": 0.4} if "class" in str(keys) else {}),
    }
    assert logs["global_loss"] > 0
    assert logs["local_loss"] > 0
    assert not equal(values(trainer.generator.trainable_variables), generator)
    assert int(trainer.step) == 1
    twin_logs = run(twin, compiled=False, pool_steps=2)
    for name, value in logs.items():
        assert value == pytest.approx(twin_logs[name], rel=1e-4)
    for first, second in zip(
        [*network_values(trainer), *pool_values(trainer)],
        [*network_values(twin), *pool_values(twin)],
        strict=True,
    ):
        for a, b in zip(first, second, strict=True):
            # Kernels of a compiled graph add in another order.
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_without_weights_it_is_the_gan():
    trainer = make(omega_g=0.0, omega_l=0.0)
    gan = make(ConditionalGAN)
    pool = pool_values(trainer)
    logs = run(trainer, 2, pool_steps=1)
    gan_logs = run(gan, 2)
    assert not trainer.matches
    for first, second in zip(
        network_values(trainer), network_values(gan), strict=True
    ):
        assert equal(first, second)
    assert {name: logs[name] for name in gan_logs} == gan_logs
    assert logs["global_loss"] == logs["local_loss"] == logs["pool_loss"] == 0
    for first, second in zip(pool_values(trainer), pool, strict=True):
        assert equal(first, second)


def test_only_the_generator_gets_the_matching_gradient():
    trainer = make(omega_g=5.0, omega_l=5.0)
    gan = make(ConditionalGAN)
    pool = pool_values(trainer)
    logs = run(trainer)
    run(gan)
    # One step: the discriminator's own next step sees other images.
    assert equal(
        values(trainer.discriminator.variables),
        values(gan.discriminator.variables),
    )
    assert not equal(
        values(trainer.generator.trainable_variables),
        values(gan.generator.trainable_variables),
    )
    for first, second in zip(pool_values(trainer), pool, strict=True):
        assert equal(first, second)
    assert logs["pool_loss"] == 0.0


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradient_equals_a_plain_reference(index, reduction):
    """Eq. 8 under one tape over everything, against the train_step."""
    omegas = (0.5, 0.2) if reduction == "mean" else (0.01, 0.002)
    # The discriminator stands still, so that both see the same one.
    trainer = make(
        rates=(1.0, 0.0),
        omega_g=omegas[0],
        omega_l=omegas[1],
        matching_reduction=reduction,
        matching_augmentation="crop",
        auxiliary_weight=0.4,
        seed=9,
    )
    trainer.pool.index.assign(index)
    generator = trainer.generator
    batch = make_batch()

    def draw(salt):
        return tf.random.experimental.stateless_fold_in(
            tf.constant([9, salt]), tf.constant(0, tf.int64)
        )

    real = tf.cast(batch["images"], tf.float32) / 127.5 - 1.0
    one_hot = tf.one_hot(batch["labels"], 3)
    latents = tf.random.stateless_normal((6, 5), draw(0))
    network = trainer.pool.networks[index]
    inner = keras.Model(
        network.inputs, [network.outputs[0], network.get_layer("inner").output]
    )
    variables = [v.value for v in generator.trainable_variables]
    with tf.GradientTape() as tape:
        images = generator([latents, one_hot], training=True)
        outputs = trainer.discriminator([images, one_hot])
        total = generator_loss("hinge", outputs["scores"])
        total += 0.4 * classification_loss(
            batch["labels"], outputs["class_logits"]
        )
        reduce = getattr(tf, f"reduce_{reduction}")
        for omega, expected, got in zip(
            omegas,
            inner(augment(real, "crop", draw(4))),
            inner(augment(images, "crop", draw(4))),
            strict=True,
        ):
            total += omega * reduce((expected - got) ** 2)
    gradients = tape.gradient(total, variables)
    before = values(generator.trainable_variables)
    logs = run(trainer)
    assert logs["total_loss"] == pytest.approx(float(total), rel=1e-5)
    assert_moved_by(generator.trainable_variables, before, gradients)


class Painter(keras.layers.Layer):
    """Gives one stored image per class; ignores the latents."""

    def build(self, input_shape):
        self.images = self.add_weight(shape=(3, *SHAPE), name="images")

    def call(self, one_hot_labels):
        return keras.ops.tensordot(one_hot_labels, self.images, 1)


def make_painter(images):
    latents, one_hot_labels = keras.Input((5,)), keras.Input((3,))
    layer = Painter()
    model = keras.Model(
        [latents, one_hot_labels], layer(one_hot_labels), name="generator"
    )
    layer.images.assign(images)
    return model


@pytest.mark.parametrize("augmentation", ["none", "color_crop"])
def test_identical_pairs_cost_nothing(augmentation):
    pictures = np.random.default_rng(0).integers(0, 256, (3, *SHAPE))
    generator = make_painter(pictures.astype("float32") / 127.5 - 1.0)
    trainer = make(generator=generator, matching_augmentation=augmentation)
    batch = make_batch(pool_steps=1)
    batch["images"] = tf.gather(
        tf.constant(pictures.astype("uint8")), batch["labels"]
    )
    logs = tf.function(trainer.train_step)(batch)
    assert float(logs["pool_loss"]) > 0.5
    assert float(logs["global_loss"]) == pytest.approx(0.0, abs=1e-9)
    assert float(logs["local_loss"]) == pytest.approx(0.0, abs=1e-9)
    # Not so with another partner of the same labels.
    batch["images"] = batch["images"][::-1][:, ::-1]
    logs = tf.function(trainer.train_step)(batch)
    assert float(logs["global_loss"]) > 1e-4
    assert float(logs["local_loss"]) > 1e-4


def test_drawn_network_changes_the_loss_in_a_compiled_fit():
    pictures = np.random.default_rng(1).uniform(-1, 1, (3, *SHAPE))
    trainer = make(
        generator=make_painter(pictures.astype("float32")), rates=(0.0, 0.0)
    )
    batch = make_batch()
    real = tf.cast(batch["images"], tf.float32) / 127.5 - 1.0
    generated = tf.gather(
        tf.constant(pictures.astype("float32")), batch["labels"]
    )
    expected, traces = [], []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, number, logs=None):
            pool = trainer.pool
            network = pool.networks[int(pool.index)]
            difference = network(real) - network(generated)
            expected.append(float(tf.reduce_mean(difference**2)))

    plain_step = trainer.train_step

    def counted(data):
        traces.append(1)
        return plain_step(data)

    trainer.train_step = counted
    history = trainer.fit(
        tf.data.Dataset.from_tensors(batch).repeat(),
        epochs=6,
        steps_per_epoch=1,
        callbacks=[PoolRedraw(1), Watch()],
        shuffle=False,
        verbose=0,
    ).history
    assert len(traces) == 1
    np.testing.assert_allclose(history["global_loss"], expected, rtol=1e-4)
    assert len(set(np.round(expected, 6))) == 6
    assert int(trainer.pool.draw_count) == 5


def test_pool_training_moves_the_network_in_use():
    trainer, twin = make(), make()
    pool = twin.pool
    index = int(pool.index)
    before = pool_values(twin)
    batch = make_batch(pool_steps=3)
    losses = [
        float(
            pool.train_on(
                index,
                tf.cast(batch["pool_images"][i], tf.float32) / 127.5 - 1.0,
                batch["pool_labels"][i],
            )
        )
        for i in range(3)
    ]
    logs = tf.function(trainer.train_step)(batch)
    assert float(logs["pool_loss"]) == pytest.approx(np.mean(losses), rel=1e-4)
    for got, wanted in zip(
        pool_values(trainer), pool_values(twin), strict=True
    ):
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert not equal(pool_values(trainer)[index], before[index])
    assert equal(pool_values(trainer)[1 - index], before[1 - index])


def test_same_seed_same_weights():
    results = []
    for seed in (3, 3, 4):
        trainer = make(seed=seed, matching_augmentation="crop", omega_g=1.0)
        run(trainer, 2, compiled=False, pool_steps=1)
        results.append([*network_values(trainer), *pool_values(trainer)])
    first, same, other = results
    for a, b in zip(first, same, strict=True):
        assert equal(a, b)
    assert not equal(first[0], other[0])


def test_continue_from_takes_average_and_counter():
    gan = make(ConditionalGAN)
    run(gan, 2)
    trainer = make(generator=gan.generator)
    trainer.continue_from(gan)
    assert int(trainer.step) == 2
    assert equal(
        values(trainer.averaged_generator.variables),
        values(gan.averaged_generator.variables),
    )
    assert trainer.averaged_generator is not gan.averaged_generator


def test_encoder_stays_as_stage_1_left_it():
    trainer = make(encoded=True)
    before = values(trainer.encoder.variables)
    averaged = values(trainer.averaged_encoder.variables)
    generator = values(trainer.generator.trainable_variables)
    logs = run(trainer, 2)
    # Batch statistics are not updated either.
    assert equal(values(trainer.encoder.variables), before)
    assert equal(values(trainer.averaged_encoder.variables), averaged)
    assert not equal(values(trainer.generator.trainable_variables), generator)
    assert set(logs) == {*GAN_KEYS, *MATCHING_KEYS, "reconstruction_loss"}
    assert set(trainer.loss_weights) <= set(logs)
    state = trainer.state()
    assert state["encoder"] is trainer.encoder
    assert state["averaged_encoder"] is trainer.averaged_encoder


def test_pairs_are_of_one_image_with_an_encoder():
    trainer, batch = make(encoded=True), make_batch()
    real = tf.cast(batch["images"], tf.float32) / 127.5 - 1.0
    one_hot = tf.one_hot(batch["labels"], 3)
    encoded = trainer.encoder([real, one_hot])
    latents, losses = trainer._latents(real, batch["labels"])
    noise = tf.random.stateless_normal(
        latents.shape,
        tf.random.experimental.stateless_fold_in(
            tf.constant([trainer.seed, 0]), tf.constant(0, tf.int64)
        ),
    )
    np.testing.assert_allclose(
        latents,
        encoded["mean"] + tf.exp(encoded["log_variance"] / 2) * noise,
        atol=1e-5,
    )
    assert losses == {}


def test_learning_encoder_gets_the_gradient_of_all_terms():
    """Encoder and generator under one tape, against the train_step."""
    trainer = make(
        # The discriminator stands still, so that both see the same one.
        rates=(1.0, 0.0),
        encoded=True,
        trains_encoder=True,
        omega_g=0.5,
        omega_l=0.2,
        auxiliary_weight=0.4,
        elbo_weight=0.3,
        pixel_variance=0.1,
        seed=9,
    )
    batch = make_batch()
    real = tf.cast(batch["images"], tf.float32) / 127.5 - 1.0
    one_hot = tf.one_hot(batch["labels"], 3)
    noise = tf.random.stateless_normal(
        (6, 5),
        tf.random.experimental.stateless_fold_in(
            tf.constant([9, 0]), tf.constant(0, tf.int64)
        ),
    )
    networks = trainer.generator, trainer.encoder
    variables = [v for n in networks for v in n.trainable_variables]
    averaged = values(trainer.averaged_encoder.variables)
    pool = trainer.pool
    with tf.GradientTape() as tape:
        encoded = trainer.encoder([real, one_hot], training=True)
        mean, log_variance = encoded["mean"], encoded["log_variance"]
        latents = mean + tf.exp(log_variance / 2) * noise
        images = trainer.generator([latents, one_hot], training=True)
        outputs = trainer.discriminator([images, one_hot])
        total = generator_loss("hinge", outputs["scores"])
        total += 0.4 * classification_loss(
            batch["labels"], outputs["class_logits"]
        )
        total += 0.3 / 0.2 * tf.reduce_mean((real - images) ** 2)
        kl = tf.exp(log_variance) + mean**2 - 1.0 - log_variance
        total += 0.3 / 64 * tf.reduce_mean(tf.reduce_sum(kl, 1)) / 2
        for omega, expected, got in zip(
            (0.5, 0.2),
            pool.features(int(pool.index), real),
            pool.features(int(pool.index), images),
            strict=True,
        ):
            total += omega * tf.reduce_mean((expected - got) ** 2)
    gradients = tape.gradient(total, [v.value for v in variables])
    before = values(variables)
    logs = run(trainer)
    assert logs["total_loss"] == pytest.approx(float(total), rel=1e-5)
    assert logs["kl_loss"] > 0
    assert_moved_by(variables, before, gradients)
    # It is what the export is fitted to.
    assert not equal(values(trainer.averaged_encoder.variables), averaged)


def make_drawing(share, **settings):
    """A trainer of which a share of the images has other latents."""
    trainer = make(encoded=True, drawn_share=share, **settings)
    mixture = trainer.deployed_generator.get_layer("latent_mixture")
    rng = np.random.default_rng(0)
    means = rng.normal(5.0, 1.0, mixture.means.shape)
    bounds = np.sort(rng.normal(size=mixture.upper_bounds.shape))
    scales = np.broadcast_to(np.eye(5), (*means.shape, 5))
    mixture.assign(bounds, means, scales)
    return trainer, mixture


@pytest.mark.parametrize(("share", "pairs"), [(0.5, 3), (0.2, 5), (0.99, 1)])
def test_drawn_latents_are_those_of_the_export(share, pairs):
    trainer, mixture = make_drawing(share)
    batch = make_batch()
    real = tf.cast(batch["images"], tf.float32) / 127.5 - 1.0
    latents, losses = trainer._latents(real, batch["labels"])
    assert losses == {}
    encoded, _ = make(encoded=True)._latents(real, batch["labels"])
    is_drawn, pair_share = trainer._drawn_rows(tf.constant(6))
    is_drawn = is_drawn.numpy()
    assert float(pair_share) == pytest.approx(pairs / 6)
    assert is_drawn.sum() == 6 - pairs
    np.testing.assert_array_equal(latents[~is_drawn], encoded[~is_drawn])
    noise = tf.random.stateless_normal(
        (6, 6),
        tf.random.experimental.stateless_fold_in(
            tf.constant([trainer.seed, 6]), tf.constant(0, tf.int64)
        ),
    )
    drawn = mixture([noise, tf.one_hot(batch["labels"], 3)])
    np.testing.assert_allclose(latents[is_drawn], drawn[is_drawn], rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "share"), [(6, 0.5), (6, 0.2), (3, 0.5), (4, 0.99), (1, 0.5)]
)
def test_every_class_is_a_pair_and_is_drawn(size, share):
    trainer, _ = make_drawing(share)
    pairs = max(1, round((1 - share) * size))
    kinds = set()
    for step in range(40):
        trainer.step.assign(step)
        is_drawn, _ = trainer._drawn_rows(tf.constant(size))
        assert int(tf.reduce_sum(tf.cast(is_drawn, tf.int32))) == size - pairs
        # Labels go round through all batches.
        labels = (step * size + np.arange(size)) % 3
        kinds |= set(zip(labels, is_drawn.numpy(), strict=True))
        if size == 6 and share == 0.5:
            # Every row has every class then, and nothing needs to move.
            np.testing.assert_array_equal(is_drawn, 3 * [False] + 3 * [True])
    expected = {False, True} if pairs < size else {False}
    assert kinds == {(label, kind) for label in range(3) for kind in expected}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_losses_of_pairs_are_of_the_pairs_alone(reduction):
    settings = {"matching_reduction": reduction, "auxiliary_weight": 0.0}
    trainer, _ = make_drawing(0.5, **settings)
    batch = make_batch()
    real = tf.cast(batch["images"], tf.float32) / 127.5 - 1.0
    one_hot = tf.one_hot(batch["labels"], 3)
    latents, _ = trainer._latents(real, batch["labels"])
    images = trainer.generator([latents, one_hot], training=True)
    terms, gradients = trainer._image_terms(real, images, batch["labels"])
    expected = np.mean((images[:3] - real[:3]) ** 2)
    assert float(terms["reconstruction_loss"]) == pytest.approx(expected)
    # Of a drawn image only what the discriminator says counts.
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = trainer.discriminator([images, one_hot], training=False)
        loss = generator_loss("hinge", outputs["scores"])
    alone = tape.gradient(loss, images)
    np.testing.assert_allclose(gradients[3:], alone[3:], atol=1e-7)
    assert np.abs(gradients[:3] - alone[:3]).max() > 1e-4
    global_loss, local_loss, gradient = trainer._match(0, real, images)
    plain = make(encoded=True, **settings)
    expected = plain._match(0, real[:3], images[:3])
    np.testing.assert_allclose(
        [global_loss, local_loss], expected[:2], rtol=1e-4
    )
    np.testing.assert_allclose(gradient[:3], expected[2], rtol=1e-3, atol=1e-9)
    np.testing.assert_array_equal(gradient[3:], 0.0)


def test_drawn_images_train_and_without_an_encoder_all_are_drawn():
    trainer, _ = make_drawing(0.5)
    logs = run(trainer, 2, pool_steps=1)
    assert np.isfinite(list(logs.values())).all()
    twin = make(encoded=True)
    other = run(twin, 2, pool_steps=1)
    assert logs["adversarial_loss"] != other["adversarial_loss"]
    plain, same = make(), make(drawn_share=0.5)
    assert run(plain, 2) == run(same, 2)


def test_continue_from_takes_the_averaged_encoder():
    gan = make(ConditionalGAN, encoded=True)
    run(gan, 2)
    trainer = make(generator=gan.generator, encoded=True)
    trainer.continue_from(gan)
    assert equal(
        values(trainer.averaged_encoder.variables),
        values(gan.averaged_encoder.variables),
    )


@pytest.mark.parametrize(
    ("share", "learns"), [(0.5, True), (0.5, False), (0.0, True)]
)
@pytest.mark.parametrize("num_centres", [None, 50])
def test_state_covers_a_mixture_that_is_drawn_from_and_changes(
    share, learns, num_centres
):
    trainer = make(
        encoded=True,
        drawn_share=share,
        trains_encoder=learns,
        mixture_centres=num_centres,
    )
    names = {n for n in trainer.state() if n.startswith("latent_mixture_")}
    expected = {"upper_bounds", "means", "triangles"}
    if num_centres:
        expected.add("component_bounds")
    if not (share and learns):
        expected = set()
    assert names == {f"latent_mixture_{name}" for name in expected}


def test_state_covers_the_pool():
    trainer = make()
    state = trainer.state()
    assert set(state) == {
        *ConditionalGAN.state(trainer),
        "pool_index",
        "pool_draw_count",
        *(f"pool_network_{i}" for i in range(2)),
        *(f"pool_optimizer_{i}" for i in range(2)),
    }
    assert state["pool_network_1"] is trainer.pool.networks[1]
    assert state["pool_optimizer_0"] is trainer.pool.optimizers[0]
