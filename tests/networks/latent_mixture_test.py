import statistics

import numpy as np
import pytest

from gdd_keras.networks import LatentMixture
from gdd_keras.networks import build_generator
from gdd_keras.networks import with_latent_mixture

RNG = np.random.default_rng(0)
SHARES = np.array([[0.2, 0.5, 0.3], [0.6, 0.0, 0.4]])
# Nothing above the diagonal; positive on it.
FACTORS = np.tril(RNG.uniform(0.1, 0.5, (2, 3, 3, 3)))


def one_hot(label, count):
    return np.tile(np.eye(2, dtype="float32")[label], (count, 1))


def draws(count, dim=3):
    return RNG.normal(size=(count, dim + 1)).astype("float32")


@pytest.fixture
def mixture():
    layer = LatentMixture(2, 3, 3)
    inverse = statistics.NormalDist().inv_cdf
    cumulative = np.cumsum(SHARES, axis=1)[:, :2]
    bounds = np.full((2, 3), np.inf)
    bounds[:, :2] = np.vectorize(inverse)(cumulative)
    means = 10.0 * np.arange(18).reshape(2, 3, 3)
    layer.assign(bounds, means, FACTORS)
    return layer


def test_standard_normal_before_it_is_assigned():
    latents = draws(20)
    np.testing.assert_array_equal(
        LatentMixture(2, 3, 3)([latents, one_hot(1, 20)]), latents[:, 1:]
    )


@pytest.mark.parametrize("label", [0, 1])
def test_components_come_as_often_as_their_shares(mixture, label):
    count = 40_000
    latents = draws(count)
    values = np.asarray(mixture([latents, one_hot(label, count)]))
    # Means are 30 apart, deviations below 1.
    component = np.round(values[:, 0] / 30).astype(int) - 3 * label
    shares = np.bincount(component, minlength=3) / count
    np.testing.assert_allclose(shares, SHARES[label], atol=0.01)
    for index in np.flatnonzero(SHARES[label]):
        own = values[component == index]
        np.testing.assert_allclose(
            own.mean(0), mixture.means[label, index], atol=0.05
        )
        factor = FACTORS[label, index]
        np.testing.assert_allclose(np.cov(own.T), factor @ factor.T, atol=0.03)


def test_equals_numpy(mixture):
    latents = draws(50)
    got = mixture([latents, one_hot(1, 50)])
    bounds = mixture.upper_bounds.numpy()[1]
    for row, value in zip(latents, np.asarray(got), strict=True):
        component = int(np.sum(row[0] > bounds))
        expected = (
            mixture.means.numpy()[1, component]
            + FACTORS[1, component] @ row[1:]
        )
        np.testing.assert_allclose(value, expected, rtol=1e-6)


# Of the second class the first component has all centres but the last.
COMPONENTS = np.array([[0, 0, 1, 1, 2], [0, 0, 0, 0, 1]])
CENTRES = 10.0 * np.arange(30).reshape(2, 5, 3)


@pytest.fixture
def shared():
    """Five centres that share three covariances."""
    layer = LatentMixture(2, 3, 3, num_centres=5)
    bounds = np.array([[-1.0, 0.0, 0.0, 1.0, 7.0], [-1.5, -0.5, 0.5, 1.0, 9.0]])
    layer.assign(bounds, CENTRES, FACTORS, COMPONENTS)
    return layer


@pytest.mark.parametrize("label", [0, 1])
def test_centres_with_shared_covariances_equal_numpy(shared, label):
    latents = draws(200)
    got = np.asarray(shared([latents, one_hot(label, 200)]))
    chosen = (latents[:, :1] > shared.upper_bounds.numpy()[label]).sum(1)
    # The third one of the first class has no width.
    assert set(chosen) == {0, 1, 3, 4} if label == 0 else set(range(5))
    for row, value, centre in zip(latents, got, chosen, strict=True):
        factor = FACTORS[label, COMPONENTS[label, centre]]
        expected = CENTRES[label, centre] + factor @ row[1:]
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_a_draw_on_a_bound_has_the_covariance_of_its_centre(shared):
    latents = np.ones((2, 4), "float32")
    latents[:, 0] = 1.0, np.nextafter(np.float32(1.0), np.float32(2.0))
    below, above = np.asarray(shared([latents, one_hot(1, 2)]))
    ones = np.ones(3)
    np.testing.assert_allclose(
        below, CENTRES[1, 3] + FACTORS[1, 0] @ ones, rtol=1e-6
    )
    np.testing.assert_allclose(
        above, CENTRES[1, 4] + FACTORS[1, 1] @ ones, rtol=1e-6
    )


def test_centres_before_they_are_assigned_and_their_config(shared):
    latents = draws(20)
    fresh = LatentMixture(2, 3, 3, num_centres=5)
    np.testing.assert_array_equal(
        fresh([latents, one_hot(1, 20)]), latents[:, 1:]
    )
    again = LatentMixture.from_config(shared.get_config())
    again.set_weights(shared.get_weights())
    inputs = [latents, one_hot(1, 20)]
    np.testing.assert_array_equal(again(inputs), shared(inputs))


def test_bounds_are_those_that_half_precision_keeps(shared):
    for bounds in (shared.upper_bounds, shared.component_bounds):
        kept = bounds.numpy()
        finite = kept < 1e6
        np.testing.assert_array_equal(
            kept[finite], kept[finite].astype(np.float16)
        )
    layer = LatentMixture(1, 2, 3)
    layer.assign([[0.1, 9.0]], np.zeros((1, 2, 3)), FACTORS[:1, :2])
    np.testing.assert_array_equal(
        layer.upper_bounds, np.float32([[np.float16(0.1), 1e6]])
    )


@pytest.mark.parametrize("num_centres", [None, 1, 3])
def test_no_fewer_centres_than_components(num_centres):
    layer = LatentMixture(2, 3, 3, num_centres=num_centres)
    assert layer.num_centres == 3


def test_weights_of_checkpoints_from_before_there_were_centres(mixture):
    names = [weight.name for weight in mixture.weights]
    assert names == ["upper_bounds", "means", "triangles"]


def test_only_the_triangle_is_stored(mixture):
    assert mixture.triangles.shape == (2, 3, 6)
    inputs = [draws(10), one_hot(0, 10)]
    before = np.asarray(mixture(inputs))
    bounds, means, _ = mixture.get_weights()
    above = np.triu(np.full((3, 3), 7.0), 1)
    mixture.assign(bounds, means, FACTORS + above)
    np.testing.assert_array_equal(mixture(inputs), before)


def test_extreme_numbers_have_a_component(mixture):
    latents = np.zeros((2, 4), "float32")
    latents[:, 0] = -1e30, 1e30
    first, last = np.asarray(mixture([latents, one_hot(0, 2)]))
    np.testing.assert_array_equal(first, mixture.means.numpy()[0, 0])
    np.testing.assert_array_equal(last, mixture.means.numpy()[0, 2])


def test_largest_entry_of_a_mixed_label_counts(mixture):
    latents = draws(8)
    mixed = np.tile(np.float32([0.4, 0.6]), (8, 1))
    np.testing.assert_array_equal(
        mixture([latents, mixed]), mixture([latents, one_hot(1, 8)])
    )


def test_config_round_trip(mixture):
    again = LatentMixture.from_config(mixture.get_config())
    again.set_weights(mixture.get_weights())
    latents = draws(5)
    np.testing.assert_array_equal(
        again([latents, one_hot(0, 5)]), mixture([latents, one_hot(0, 5)])
    )


def test_generator_with_mixture_shares_weights():
    generator = build_generator((8, 8, 1), 2, latent_dim=3, width=4)
    whole = with_latent_mixture(generator, 3)
    assert whole.input_shape == [(None, 4), (None, 2)]
    assert whole.output_shape == (None, 8, 8, 1)
    inputs = [draws(4), one_hot(0, 4)]
    expected = generator([inputs[0][:, 1:], inputs[1]])
    np.testing.assert_array_equal(whole(inputs), expected)
    before = np.asarray(whole(inputs))
    generator.set_weights([1.5 * w for w in generator.get_weights()])
    assert (np.asarray(whole(inputs)) != before).any()
