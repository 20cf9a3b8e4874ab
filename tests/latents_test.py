import statistics

import keras
import numpy as np
import pytest

from gdd_keras import latents
from gdd_keras.cgan import ConditionalGAN
from gdd_keras.config import RunError
from gdd_keras.config import make_config
from gdd_keras.data.dataset import Split
from gdd_keras.latents import LatentFit
from gdd_keras.latents import encode
from gdd_keras.latents import fit_latent_mixture
from gdd_keras.latents import fit_mixture
from gdd_keras.latents import fitted_generator
from gdd_keras.networks import build_discriminator
from gdd_keras.networks import build_encoder
from gdd_keras.networks import build_generator

SHAPE = (8, 8, 1)


def make(
    conditioning="auxiliary",
    encoded=True,
    num_components=2,
    num_centres=None,
):
    return ConditionalGAN(
        build_generator(SHAPE, 3, latent_dim=4, width=4),
        build_discriminator(SHAPE, 3, conditioning=conditioning, width=4),
        encoder=build_encoder(SHAPE, 3, 4, 4) if encoded else None,
        mixture_components=num_components,
        mixture_centres=num_centres,
    )


def make_split(count=90):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, *SHAPE)).astype("uint8")
    return Split(images, np.arange(count, dtype=np.int32) % 3)


def tables(trainer):
    mixture = trainer.deployed_generator.get_layer("latent_mixture")
    return [weight.numpy() for weight in mixture.weights]


def test_fit_finds_known_components():
    rng = np.random.default_rng(0)
    centres = np.array([[-3.0, 0.0, 1.0], [2.0, 2.0, -1.0]])
    roots = [0.1 * np.eye(3), np.tril(rng.uniform(0.3, 0.6, (3, 3)))]
    first = centres[0] + rng.normal(size=(1500, 3)) @ roots[0].T
    second = centres[1] + rng.normal(size=(500, 3)) @ roots[1].T
    both = rng.permutation(np.concatenate([first, second]))
    bounds, means, factors, components = fit_mixture(both, 2, seed=0)
    np.testing.assert_array_equal(components, [0, 1])
    assert bounds[1] == np.inf
    share = statistics.NormalDist().cdf(bounds[0])
    order = [0, 1] if share > 0.5 else [1, 0]
    assert max(share, 1 - share) == pytest.approx(0.75, abs=0.01)
    np.testing.assert_allclose(means[order], centres, atol=0.08)
    np.testing.assert_array_equal(factors, np.tril(factors))
    for index, root in zip(order, roots, strict=True):
        # The smallest variance, 0.01, is added to each.
        np.testing.assert_allclose(
            factors[index] @ factors[index].T,
            root @ root.T + 0.01 * np.eye(3),
            atol=0.06,
        )


@pytest.mark.parametrize("count", [20, 2000])
def test_correlations_shrink_with_few_latents(count):
    """Eight equal entries: of n latents, n / (n + 4) of their correlation."""
    rng = np.random.default_rng(0)
    line = rng.normal(size=(count, 1)) * np.ones((1, 8))
    _, _, factors, _ = fit_mixture(line, 1, seed=0)
    variance = line.var()
    expected = np.full((8, 8), variance * count / (count + 4))
    np.fill_diagonal(expected, variance + 0.01)
    np.testing.assert_allclose(factors[0] @ factors[0].T, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("count", "used"), [(1, 1), (2, 1), (19, 1), (39, 3), (1000, 5)]
)
def test_few_latents_share_components(count, used):
    points = np.random.default_rng(0).normal(size=(count, 3))
    bounds, means, factors, _ = fit_mixture(points, 5, seed=0)
    assert bounds.shape == (5,)
    assert means.shape == (5, 3)
    assert factors.shape == (5, 3, 3)
    assert np.isfinite(bounds).sum() == used - 1
    assert (np.diff(bounds[: used - 1]) >= 0).all()
    assert (np.linalg.eigvalsh(factors @ factors.mT) > 0.009).all()
    if count == 1:
        np.testing.assert_allclose(means[0], points[0])
        np.testing.assert_allclose(factors[0], 0.1 * np.eye(3), atol=1e-9)


def test_centres_of_a_component_share_its_covariance():
    rng = np.random.default_rng(0)
    offsets = np.array([[-2.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    centres = np.concatenate([offsets - 20.0, offsets + 20.0])
    roots = np.tril(rng.uniform(0.2, 0.5, (2, 3, 3)))
    counts = [400, 400, 200, 300, 300, 400]
    points = np.concatenate(
        [
            centre + rng.normal(size=(count, 3)) @ roots[index // 3].T
            for index, (centre, count) in enumerate(
                zip(centres, counts, strict=True)
            )
        ]
    )
    bounds, means, factors, components = fit_mixture(
        rng.permutation(points), 2, seed=0, num_centres=6
    )
    np.testing.assert_array_equal(components, [0, 0, 0, 1, 1, 1])
    normal = statistics.NormalDist()
    shares = np.diff([0.0, *map(normal.cdf, bounds)])
    nearest = np.linalg.norm(means[:, None] - centres, axis=-1).argmin(0)
    assert sorted(nearest) == list(range(6))
    np.testing.assert_allclose(means[nearest], centres, atol=0.12)
    np.testing.assert_allclose(
        shares[nearest], np.array(counts) / 2000, atol=0.001
    )
    for index, root in enumerate(roots):
        factor = factors[components[nearest[3 * index]]]
        np.testing.assert_allclose(
            factor @ factor.T, root @ root.T + 0.01 * np.eye(3), atol=0.03
        )


@pytest.mark.parametrize(
    ("count", "components", "centres"),
    # Ten latents at least share a component, ten a centre.
    [(1, 1, 1), (19, 1, 1), (39, 3, 3), (90, 5, 9), (1000, 5, 20)],
)
def test_few_latents_share_centres(count, components, centres):
    points = np.random.default_rng(0).normal(size=(count, 3))
    bounds, means, factors, owners = fit_mixture(points, 5, 0, num_centres=20)
    assert bounds.shape == owners.shape == (20,)
    assert means.shape == (20, 3)
    assert factors.shape == (5, 3, 3)
    assert np.isfinite(bounds).sum() == centres - 1
    assert (np.diff(owners) >= 0).all()
    assert set(owners) == set(range(components))
    # What the centres are spread by and what they share is the whole.
    shares = np.diff([0.0, *map(statistics.NormalDist().cdf, bounds)])
    np.testing.assert_allclose(shares @ means, points.mean(0), atol=1e-6)
    if count == 1000:
        covariance = np.cov(means.T, aweights=shares, bias=True) + np.tensordot(
            shares, (factors @ factors.mT)[owners], 1
        )
        np.testing.assert_allclose(
            covariance, np.cov(points.T) + 0.01 * np.eye(3), atol=0.02
        )


def test_centres_of_latents_that_coincide():
    points = np.repeat(np.random.default_rng(0).normal(size=(3, 4)), 50, 0)
    bounds, means, factors, owners = fit_mixture(points, 2, 0, num_centres=12)
    for values in (means, factors):
        assert np.isfinite(values).all()
    shares = np.diff([0.0, *map(statistics.NormalDist().cdf, bounds)])
    assert (shares >= 0.0).all()
    assert set(owners) == {0, 1}
    np.testing.assert_allclose(shares @ means, points.mean(0), atol=1e-6)


def test_a_component_that_lost_its_latents_keeps_a_covariance():
    """Far away, where squares are large, and with next to no latents."""
    points = 1e3 + np.random.default_rng(0).normal(size=(50, 4))
    components = np.repeat([0, 1], [2, 100])
    memberships = np.full((50, 102), 1e-18)
    memberships[:, :2] = 0.5
    for lost in (1e-18, 1e-300, 0.0):
        memberships[:, 2:] = lost
        weights, means, covariances = latents._maximised(
            points, memberships, components
        )
        assert weights.sum() == pytest.approx(1.0)
        assert np.isfinite(means).all()
        assert np.linalg.eigvalsh(covariances).min() > 0.005


@pytest.mark.parametrize("num_centres", [None, 1, 4, 5])
def test_no_fewer_centres_than_components(num_centres):
    points = np.random.default_rng(0).normal(size=(200, 3))
    got = fit_mixture(points, 5, 0, num_centres)
    for table, expected in zip(got, fit_mixture(points, 5, 0), strict=True):
        np.testing.assert_array_equal(table, expected)


def test_encoded_latents_have_the_encoders_moments():
    trainer, split = make(), make_split(3)
    rows = np.zeros(4000, int)
    draws, confidences = encode(trainer, split, rows, np.random.default_rng(0))
    inputs = [
        keras.ops.array(split.images[:1] / np.float32(127.5) - 1),
        keras.ops.one_hot(split.labels[:1], 3),
    ]
    encoded = trainer.averaged_encoder(inputs)
    np.testing.assert_allclose(draws.mean(0), encoded["mean"][0], atol=0.1)
    np.testing.assert_allclose(
        draws.std(0), np.exp(0.5 * encoded["log_variance"][0]), rtol=0.05
    )
    logits = trainer.discriminator(inputs)["class_logits"]
    expected = keras.ops.softmax(logits)[0, split.labels[0]]
    np.testing.assert_allclose(confidences, expected, rtol=1e-5)


def test_fit_changes_the_deployed_generator_alone():
    trainer, split = make(), make_split()
    inputs = [np.zeros((3, 5), "float32"), np.eye(3, dtype="float32")]
    before = np.asarray(trainer.deployed_generator(inputs))
    weights = trainer.averaged_generator.get_weights()
    fit_latent_mixture(trainer, split)
    assert (np.asarray(trainer.deployed_generator(inputs)) != before).any()
    for old, new in zip(
        weights, trainer.averaged_generator.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(old, new)
    first = tables(trainer)
    fit_latent_mixture(trainer, split)
    for old, new in zip(first, tables(trainer), strict=True):
        np.testing.assert_array_equal(old, new)
    fit_latent_mixture(trainer, split, seed=1)
    assert (tables(trainer)[1] != first[1]).any()


def test_mixture_has_the_moments_of_the_encoded_images():
    trainer, split = make(num_components=1), make_split(3000)
    fit_latent_mixture(trainer, split, confidence=0.0)
    draws, _ = encode(
        trainer, split, np.arange(len(split)), np.random.default_rng(5)
    )
    _, means, triangles = tables(trainer)
    for label in range(3):
        own = draws[split.labels == label]
        # Other draws from the same encodings.
        np.testing.assert_allclose(means[label, 0], own.mean(0), atol=0.2)
        factor = np.zeros((4, 4))
        factor[np.tril_indices(4)] = triangles[label, 0]
        np.testing.assert_allclose(
            factor @ factor.T,
            np.cov(own.T) + 0.01 * np.eye(4),
            atol=0.1 * own.var(0).max(),
        )


def test_fit_of_more_centres_than_components():
    trainer, split = make(num_components=2, num_centres=3), make_split()
    fit_latent_mixture(trainer, split)
    bounds, means, triangles, component_bounds = tables(trainer)
    assert means.shape == (3, 3, 4)
    assert triangles.shape[:2] == (3, 2)
    # Thirty images a class make three centres of two components.
    assert (bounds[:, 1] < 1e6).all()
    assert (component_bounds[:, 0] < 1e6).all()
    for row, end in zip(bounds, component_bounds[:, 0], strict=True):
        assert end in row[:2]


def test_unsure_images_are_left_out(monkeypatch):
    trainer, split = make(), make_split()
    sure = np.arange(len(split)) % 2 == 0
    everything = []

    def pretend(trainer, split, rows, generator):
        latents = np.where(sure[:, None], 5.0, -5.0) * np.ones((1, 4))
        everything.append(len(rows))
        return latents, np.where(sure, 0.5, 0.49)

    monkeypatch.setattr(latents, "encode", pretend)
    fit_latent_mixture(trainer, split, confidence=0.5)
    # Ten images at least share a component: 15 make one.
    np.testing.assert_allclose(tables(trainer)[1][:, 0], 5.0, atol=1e-6)
    fit_latent_mixture(trainer, split, confidence=0.0)
    means = tables(trainer)[1]
    np.testing.assert_allclose(np.sort(means[:, :, 0]), [[-5, 5]] * 3)
    # No image is that sure, so that all are kept.
    fit_latent_mixture(trainer, split, confidence=0.6)
    np.testing.assert_array_equal(tables(trainer)[1], means)
    assert everything == [len(split)] * 3


def test_latents_that_are_not_finite_end_the_run():
    trainer = make()
    trainer.averaged_encoder.set_weights(
        [np.nan * weight for weight in trainer.averaged_encoder.get_weights()]
    )
    with pytest.raises(RunError, match="Latents became NaN. The last good"):
        fit_latent_mixture(trainer, make_split())


def test_projection_keeps_all_images():
    trainer, split = make("projection"), make_split()
    fit_latent_mixture(trainer, split, confidence=1.0)
    strict = tables(trainer)
    fit_latent_mixture(trainer, split, confidence=0.0)
    for table, other in zip(strict, tables(trainer), strict=True):
        np.testing.assert_array_equal(table, other)


def test_images_per_class_bounds_the_work(monkeypatch):
    trainer, split = make(), make_split()
    seen = []
    encode = trainer.encode

    def count(images, labels):
        seen.extend(labels.numpy())
        return encode(images, labels)

    monkeypatch.setattr(trainer, "encode", count)
    fit_latent_mixture(trainer, split, images_per_class=5)
    assert sorted(seen) == [0] * 5 + [1] * 5 + [2] * 5


@pytest.mark.parametrize(
    ("trains_encoder", "drawn_share", "expected"),
    [
        (True, 0.0, [300, 300]),
        # Trained on, so that it must be there from the start.
        (True, 0.5, [1500, 1500, 1500]),
        (False, 0.0, [None]),
        (False, 0.5, [None]),
    ],
)
def test_callback_fits_as_often_as_the_encoder_changes(
    trains_encoder, drawn_share, expected, monkeypatch
):
    fitted = []

    def fit_latents(trainer, *given):
        fitted.append((trainer, *given))
        mixture = trainer.deployed_generator.get_layer("latent_mixture")
        mixture.means.assign(mixture.means + 1.0)

    monkeypatch.setattr(latents, "fit_latent_mixture", fit_latents)
    trainer, split = make(), make_split()
    trainer.trains_encoder = trains_encoder
    trainer.drawn_share = drawn_share
    fit = LatentFit(split, 0.3, 7)
    fit.set_model(trainer)
    for epoch in range(2):
        # A call of `fit` for the rest of an epoch, then one for the others.
        fit.on_train_begin()
        fit.on_epoch_end(epoch)
    assert fitted == [(trainer, split, 7, 0.3, count) for count in expected]


def test_without_an_encoder_nothing_happens():
    trainer = make(encoded=False)
    fit_latent_mixture(trainer, make_split())
    assert trainer.deployed_generator is trainer.averaged_generator
    assert (
        fitted_generator(trainer, make_split(), make_config("tiny"))
        is trainer.averaged_generator
    )


def test_fitted_generator_follows_the_config():
    trainer, split = make(), make_split()
    fit_latent_mixture(trainer, split, seed=3)
    of_all_images = tables(trainer)
    rows = np.arange(len(split))
    _, believed = encode(trainer, split, rows, np.random.default_rng(3))
    confidence = float(np.median(believed))
    config = make_config("tiny", seed=3, latent_confidence=confidence)
    assert fitted_generator(trainer, split, config) is (
        trainer.deployed_generator
    )
    got = tables(trainer)
    assert any((a != b).any() for a, b in zip(got, of_all_images, strict=True))
    fit_latent_mixture(trainer, split, seed=3, confidence=confidence)
    for table, other in zip(got, tables(trainer), strict=True):
        np.testing.assert_array_equal(table, other)
