import keras
import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.data import Split
from gdd_keras.evaluation import EvalTrainer
from gdd_keras.evaluation import FixedSet
from gdd_keras.evaluation import training
from gdd_keras.networks import build_classifier

SHAPE = (8, 8, 1)
CLASSES = 3


def linear(image_shape, num_classes):
    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(num_classes),
        ]
    )


def random_split(count, seed=0):
    generator = np.random.default_rng(seed)
    return Split(
        generator.integers(0, 256, (count, *SHAPE), dtype=np.uint8),
        np.arange(count, dtype=np.int32) % CLASSES,
    )


def stored(split, batch_size=None, seed=0):
    """Returns a source that shows a split whole in every epoch."""
    source = FixedSet(lambda seed: (split.images, split.labels), len(split))
    source.batch_size = batch_size or source.batch_size
    source.reset(seed)
    return source


def fixed_linear():
    model = linear(SHAPE, CLASSES)
    kernel = np.random.default_rng(0).normal(0.0, 0.1, (64, 3))
    model.set_weights([kernel, np.zeros(3)])
    return model


def softmax(x):
    x = np.exp(x - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


@pytest.mark.parametrize("decay_at_half", [False, True])
def test_sgd_equals_its_numpy_twin(decay_at_half):
    # An epoch of 12 in batches of 5, 5, 2; four epochs.
    source = stored(random_split(12), 5, seed=2)
    model = linear(SHAPE, CLASSES)
    kernel, bias = (w.astype(np.float64) for w in model.get_weights())
    trainer = EvalTrainer(
        model,
        source,
        epochs=4,
        learning_rate=0.03,
        decay_at_half=decay_at_half,
    )
    trainer.train(seed=0)

    images, labels = (
        value.numpy()
        for value in source.examples(
            tf.constant(0, tf.int64), tf.constant(48, tf.int64)
        )
    )
    velocities = [np.zeros_like(kernel), np.zeros_like(bias)]
    for step in range(12):
        epoch, batch = divmod(step, 3)
        begin = 12 * epoch + 5 * batch
        end = min(begin + 5, 12 * epoch + 12)
        x = images[begin:end].reshape(end - begin, -1) / 127.5 - 1
        error = softmax(x @ kernel + bias)
        error[np.arange(end - begin), labels[begin:end]] -= 1
        error /= end - begin
        rate = 0.003 if decay_at_half and epoch >= 2 else 0.03
        for index, (weight, gradient) in enumerate(
            ((kernel, x.T @ error), (bias, error.sum(0)))
        ):
            velocities[index] = (
                0.9 * velocities[index] + gradient + 5e-4 * weight
            )
            weight -= rate * velocities[index]
    # float32 against float64 over twelve steps.
    for got, want in zip(model.get_weights(), (kernel, bias), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("augmentation", ["color_crop", "dsa"])
def test_steps_per_call_change_nothing(augmentation, monkeypatch):
    weights = []
    for steps in (1, 20):
        monkeypatch.setattr(training, "_STEPS_PER_CALL", steps)
        model = fixed_linear()
        EvalTrainer(
            model, stored(random_split(12)), 30, augmentation=augmentation
        ).train(5)
        weights.append(model.get_weights()[0])
    np.testing.assert_array_equal(*weights)


def test_augmentation_follows_the_seed():
    trainer = EvalTrainer(
        fixed_linear(), stored(random_split(12)), 3, augmentation="dsa_digits"
    )
    start = trainer.model.get_weights()
    ends = []
    for seed in (1, 1, 2):
        trainer.model.set_weights(start)
        trainer.train(seed)
        ends.append(trainer.model.get_weights()[0])
    np.testing.assert_array_equal(ends[0], ends[1])
    assert np.abs(ends[2] - ends[0]).max() > 1e-4


def test_second_training_starts_without_momentum():
    model = linear(SHAPE, CLASSES)
    start = model.get_weights()
    trainer = EvalTrainer(
        model, stored(random_split(12)), 5, augmentation="crop"
    )
    ends = []
    for _ in range(2):
        model.set_weights(start)
        trainer.train(0)
        ends.append(model.get_weights()[0])
    np.testing.assert_array_equal(*ends)


def test_reports_progress_by_epoch():
    trainer = EvalTrainer(linear(SHAPE, CLASSES), stored(random_split(12)), 50)
    seen = []
    last = trainer.train(0, lambda *arguments: seen.append(arguments))
    assert [epochs for epochs, _ in seen] == [20, 40, 50]
    assert seen[-1][1] == last < seen[0][1]


@pytest.mark.parametrize("steps_per_call", [2, 20])
def test_the_end_of_every_epoch_is_told_and_changes_nothing(
    steps_per_call, monkeypatch
):
    # Three batches an epoch: calls of two steps must not run past its end,
    # calls of twenty not over several.
    monkeypatch.setattr(training, "_STEPS_PER_CALL", steps_per_call)
    model = fixed_linear()
    start = model.get_weights()
    trainer = EvalTrainer(
        model, stored(random_split(12), 5), 4, augmentation="crop"
    )
    trainer.train(3)
    untold = model.get_weights()

    model.set_weights(start)
    events, kernels = [], []
    trainer.train(
        3,
        lambda epochs, loss: events.append(epochs),
        lambda: (
            events.append("end"),
            kernels.append(model.get_weights()[0]),
        ),
    )
    per_epoch = [[0, 1], [1, 2], [2, 3], [3, 4]]
    if steps_per_call == 20:
        per_epoch = [[1], [2], [3], [4]]
    assert events == [event for one in per_epoch for event in (*one, "end")]
    for got, wanted in zip(model.get_weights(), untold, strict=True):
        np.testing.assert_array_equal(got, wanted)
    # It is told after the steps of its epoch: one epoch alone ends alike.
    np.testing.assert_array_equal(kernels[3], untold[0])
    model.set_weights(start)
    first = EvalTrainer(
        model, stored(random_split(12), 5), 1, augmentation="crop"
    )
    first.train(3)
    np.testing.assert_allclose(kernels[0], model.get_weights()[0], atol=1e-6)


def test_large_images_make_fewer_steps_per_call():
    shape = (256, 256, 3)
    source = FixedSet(None, 256)
    trainer = EvalTrainer(linear(shape, 2), source, 1)
    assert trainer._steps_per_call() == 1


def test_score_counts_right_answers():
    split = random_split(2500)
    model = linear(SHAPE, CLASSES)
    model.set_weights([np.zeros((64, 3)), np.array([0.0, 1.0, 0.0])])
    trainer = EvalTrainer(model, FixedSet(None, 3), 1)
    # More images than a batch of 1000; the second class is 833 of 2500.
    assert trainer.score(split) == 833 / 2500
    correct = trainer.correct(split)
    assert correct.dtype == bool
    np.testing.assert_array_equal(correct, split.labels == 1)


def test_correct_follows_the_weights():
    split = random_split(30)
    trainer = EvalTrainer(fixed_linear(), FixedSet(None, 3), 1)
    for scale in (1.0, -1.0):
        kernel = scale * trainer.model.get_weights()[0]
        trainer.model.set_weights([kernel, np.zeros(3)])
        logits = (split.images.reshape(30, -1) / 127.5 - 1) @ kernel
        np.testing.assert_array_equal(
            trainer.correct(split), logits.argmax(1) == split.labels
        )


def test_low_precision_stays_close_to_float32():
    split = random_split(12)
    losses, weights = [], []
    for precision in ("float32", "mixed_bfloat16"):
        model = build_classifier(
            "convnet3", SHAPE, CLASSES, seed=1, precision=precision, width=8
        )
        assert keras.config.dtype_policy().name == "float32"
        start = model.get_weights()
        trainer = EvalTrainer(model, stored(split), 6, augmentation="crop")
        seen = []
        trainer.train(
            0, lambda _, loss, seen=seen: seen.append(loss), lambda: None
        )
        assert {weight.dtype for weight in model.weights} == {"float32"}
        assert model(tf.zeros((2, *SHAPE))).dtype == tf.float32
        losses.append(seen)
        weights.append(
            [
                end - begin
                for end, begin in zip(model.get_weights(), start, strict=True)
            ]
        )
    losses = np.array(losses)
    assert losses.shape == (2, 6) and np.isfinite(losses).all()
    # Eight bits a layer: two per cent of a loss of about one.
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)
    assert (losses[1] != losses[0]).any()
    # All weights moved, and the same way.
    for exact, rounded in zip(*weights, strict=True):
        if np.abs(exact).max() < 1e-5:
            # Biases before a norm have no effect.
            continue
        product = (exact * rounded).sum()
        norms = np.linalg.norm(exact) * np.linalg.norm(rounded)
        assert product / norms > 0.9
