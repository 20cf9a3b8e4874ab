"""The mixture of latents, fitted to what an encoder makes of real images."""

import statistics
import warnings

import keras
import numpy as np
import tensorflow as tf

from gdd_keras.callbacks import NAN_ADVICE
from gdd_keras.config import RunError

__all__ = [
    "LatentFit",
    "encode",
    "fit_latent_mixture",
    "fit_mixture",
    "fitted_generator",
    "useful_components",
]

_BATCH_SIZE = 250
# A component of fewer images would keep these images, not what they share.
_IMAGES_PER_COMPONENT = 10
# Correlations shrink as if so many more images per entry had none: unseen
# images fit best by it, those of small data sets above all.
_UNCORRELATED_PER_ENTRY = 0.5
# More iterations gain nothing that a classifier could see.
_FIRST_ITERATIONS = 10
_ITERATIONS = 20
_CLUSTER_ITERATIONS = 30
# Unseen images become no likelier by more.
_CENTRE_ITERATIONS = 5
# Added to variances, which are 1 at most on the whole: so no component shrinks
# to a point, and unseen images fit best.
_SMALLEST_VARIANCE = 0.01
# Enough to watch training by, in seconds.
_WATCHED_PER_CLASS = 300
# Enough to train on draws, in ten seconds.
_DRAWN_PER_CLASS = 1500
# More would only take memory and time.
_FITTED_PER_CLASS = 20_000


class LatentFit(keras.callbacks.Callback):
    """Fits the mixture while a stage trains.

    Where the encoder trains, to some images after every epoch, for the
    monitors; before the first step too, and to more images, where the stage
    trains on draws. Where the encoder stays as it is, once, before the first
    step, as the export does.

    Args:
        split: `Split` to encode.
        confidence: As in `fit_latent_mixture`.
        seed: Likewise.
    """

    def __init__(self, split, confidence, seed):
        super().__init__()
        self.split = split
        self.confidence = confidence
        self.seed = seed
        self._is_final = False

    def on_train_begin(self, logs=None):
        if self.model.trains_encoder:
            if (
                self.model.drawn_share
                and not self.model.latent_mixture.is_fitted
            ):
                self._fit(_DRAWN_PER_CLASS)
        elif not self._is_final:
            self._fit(None)
            self._is_final = True

    def on_epoch_end(self, epoch, logs=None):
        if self.model.trains_encoder:
            drawn = self.model.drawn_share > 0.0
            self._fit(_DRAWN_PER_CLASS if drawn else _WATCHED_PER_CLASS)

    def _fit(self, images_per_class):
        fit_latent_mixture(
            self.model,
            self.split,
            self.seed,
            self.confidence,
            images_per_class,
        )


def fitted_generator(trainer, split, config):
    """Returns what is exported: the averaged generator with its latents.

    Args:
        trainer: `ConditionalGAN`, trained.
        split: `Split` to fit the mixture of latents to.
        config: `Config`.
    """
    fit_latent_mixture(
        trainer, split, config.run.seed, config.generation.latent_confidence
    )
    return trainer.deployed_generator


def fit_latent_mixture(
    trainer, split, seed=0, confidence=0.0, images_per_class=None
):
    """Fits the mixture of `trainer.deployed_generator` to real images.

    With a `confidence`, images that the discriminator's class head does not
    take for their own class are left out, which makes plainer images.

    Args:
        trainer: `ConditionalGAN`; without an encoder nothing happens.
        split: `Split` to encode.
        seed: Integer seed of the draws and of the fit.
        confidence: Smallest probability of the own class, 0 (all images) to
            1; a class of which no image is left keeps all. Counts for a
            discriminator with class logits alone.
        images_per_class: Images to encode at most; `None` for 20,000.

    Raises:
        RunError: If a latent is not finite.
    """
    if trainer.averaged_encoder is None:
        return
    generator = np.random.default_rng(seed)
    rows = _some_of_each_class(
        split.labels, images_per_class or _FITTED_PER_CLASS, generator
    )
    latents, confidences = encode(trainer, split, rows, generator)
    if not np.isfinite(latents).all():
        raise RunError(f"Latents became NaN. {NAN_ADVICE}")
    mixture = trainer.latent_mixture
    tables = [[], [], [], []]
    for label in range(mixture.num_classes):
        own = split.labels[rows] == label
        sure = own & (confidences >= confidence)
        fitted = fit_mixture(
            latents[sure if sure.any() else own],
            mixture.num_components,
            seed,
            mixture.num_centres,
        )
        for table, values in zip(tables, fitted, strict=True):
            # The factors of all classes together may be large.
            is_large = values.ndim == 3
            table.append(values.astype(np.float32) if is_large else values)
    mixture.assign(*map(np.stack, tables))


def encode(trainer, split, rows, generator):
    """Draws a latent vector for each image.

    Args:
        trainer: `ConditionalGAN` with an encoder.
        split: `Split`.
        rows: Integer `(n,)`, the images to encode.
        generator: `numpy.random.Generator`.

    Returns:
        float32 `(n, latent_dim)` from q(z | x, y), and float32 `(n,)`, how
        probable the label is, see `ConditionalGAN.encode`.
    """
    batches = []
    # One batch at a time, since the images may lie on disk.
    for start in range(0, len(rows), _BATCH_SIZE):
        batch = rows[start : start + _BATCH_SIZE]
        encoded = trainer.encode(
            tf.constant(split.images[batch]),
            tf.constant(split.labels[batch], tf.int32),
        )
        batches.append([values.numpy() for values in encoded])
    means, log_variances, confidences = map(
        np.concatenate, zip(*batches, strict=True)
    )
    noise = generator.standard_normal(means.shape, np.float32)
    return means + np.exp(0.5 * log_variances) * noise, confidences


def useful_components(num_components, num_images):
    """Returns how many components so many images of a class can be fitted by.

    Args:
        num_components: Integer >= 1, the most to return.
        num_images: Images of the class.
    """
    return min(num_components, max(1, num_images // _IMAGES_PER_COMPONENT))


def fit_mixture(latents, num_components, seed, num_centres=None):
    """Fits a mixture of Gaussians, each with its own covariance.

    By expectation maximisation from components without correlations. Of the
    correlations that n latents show, every step keeps n / (n + latent_dim / 2),
    so that few images can have many components. Then k-means, in the metric
    of the component's covariance, divides the latents of each component among
    centres, and expectation maximisation goes on with one covariance for all
    of them.

    Reference:
        - [Schäfer & Strimmer, 2005](https://doi.org/10.2202/1544-6115.1175),
          for correlations that shrink

    Args:
        latents: float `(n, latent_dim)`, n >= 1.
        num_components: Components to return. At least ten latents share one:
            of fewer latents, the components beyond that are never chosen.
        seed: Integer seed of the first guess.
        num_centres: Centres to return; `None` or less than `num_components`
            for as many, one each. Ten latents at least share one on average.

    Returns:
        As `LatentMixture.assign` takes them for one class: upper bounds
        `(num_centres,)`, means `(num_centres, latent_dim)`, lower triangles
        `(num_components, latent_dim, latent_dim)` and each centre's component
        `(num_centres,)`.
    """
    latent_dim = latents.shape[1]
    num_centres = max(num_centres or 0, num_components)
    used_components = useful_components(num_components, len(latents))
    used_centres = useful_components(num_centres, len(latents))
    if len(latents) == 1:
        # One point has no spread to estimate.
        latents = np.repeat(latents, 2, axis=0)
    latents = latents.astype(np.float64)
    components = np.arange(used_components)
    # NumPy's matrix products warn of invalid values where there are none, in
    # the unused lanes of AVX-512.
    with np.errstate(all="ignore"):
        memberships = _first_memberships(latents, used_components, seed)
        fitted, memberships = _improved(
            latents, memberships, components, _ITERATIONS
        )
        if used_centres > used_components:
            memberships, components = _divided(
                latents, memberships, *fitted, used_centres, seed
            )
            fitted, _ = _improved(
                latents, memberships, components, _CENTRE_ITERATIONS
            )
    weights, means, covariances = fitted
    normal = statistics.NormalDist()
    shares = np.cumsum(weights)[:-1].clip(1e-12, 1.0 - 1e-12)
    used = len(components)
    bounds = np.full(num_centres, np.inf)
    bounds[: used - 1] = [normal.inv_cdf(share) for share in shares]
    all_means = np.zeros((num_centres, latent_dim))
    all_means[:used] = means
    factors = np.tile(np.eye(latent_dim), (num_components, 1, 1))
    factors[:used_components] = np.linalg.cholesky(covariances)
    return (
        bounds,
        all_means,
        factors,
        np.pad(components, (0, num_centres - used), mode="edge"),
    )


def _first_memberships(latents, num_components, seed):
    """Returns float `(n, num_components)`, of Gaussians on their own axes."""
    # Not above: who fits nothing need not wait a second for it.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture = GaussianMixture(
            num_components,
            covariance_type="diag",
            max_iter=_FIRST_ITERATIONS,
            reg_covar=_SMALLEST_VARIANCE,
            random_state=seed,
        ).fit(latents)
    return mixture.predict_proba(latents)


def _divided(
    latents, memberships, weights, means, covariances, num_centres, seed
):
    """Divides the latents of each component among centres.

    Args:
        latents: float `(n, latent_dim)`.
        memberships: float `(n, components)`, probabilities.
        weights: float `(components,)`, of the mixture that gave these.
        means: float `(components, latent_dim)`, likewise.
        covariances: float `(components, latent_dim, latent_dim)`, likewise.
        num_centres: Centres to make of all components, more than there are.
        seed: Integer seed of k-means.

    Returns:
        Memberships in centres `(n, centres)`, 0 or 1, and each centre's
        component `(centres,)`, rising; `num_centres` of them, or fewer where a
        component is left with fewer latents than it was given centres.
    """
    owners = memberships.argmax(axis=1)
    # One each, and the others by weight.
    ends = np.cumsum(weights) * (num_centres - len(weights))
    counts = 1 + np.diff(np.round(ends).astype(int), prepend=0)
    labels = np.zeros(len(latents), int)
    components = []
    for index, (count, mean, covariance) in enumerate(
        zip(counts, means, covariances, strict=True)
    ):
        own = np.flatnonzero(owners == index)
        # A component that is nobody's first choice keeps one, without latents.
        count = min(count, max(1, len(own)))
        if len(own):
            factor = np.linalg.cholesky(covariance)
            whitened = _whitened(latents[own] - mean, factor)
            labels[own] = len(components) + _clusters(whitened, count, seed)
        components += [index] * count
    divided = np.zeros((len(latents), len(components)))
    divided[np.arange(len(latents)), labels] = 1.0
    return divided, np.array(components)


def _clusters(points, count, seed):
    """Returns integer `(n,)` below `count`, which cluster each point is of."""
    # As in `_first_memberships`.
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Of points that coincide there may be fewer.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return (
            KMeans(
                count,
                n_init=1,
                max_iter=_CLUSTER_ITERATIONS,
                random_state=seed,
            )
            .fit(points)
            .labels_
        )


def _improved(latents, memberships, components, num_iterations):
    """Returns the mixture after some iterations, and its memberships."""
    for _ in range(num_iterations):
        fitted = _maximised(latents, memberships, components)
        memberships = _memberships(latents, *fitted, components)
    return fitted, memberships


def _maximised(latents, memberships, components):
    """Returns the mixture that memberships give, the M-step.

    Args:
        latents: float `(n, latent_dim)`.
        memberships: float `(n, centres)`, probabilities.
        components: Integer `(centres,)`, rising from 0 without gaps; centres
            of one component share a covariance.

    Returns:
        Weights `(centres,)`, means `(centres, latent_dim)` and covariances
        `(components, latent_dim, latent_dim)`, these positive definite.
    """
    # A centre, or all of a component, may have lost its latents.
    tiny = np.finfo(np.float64).tiny
    eps = np.finfo(np.float64).eps
    counts = memberships.sum(0)
    means = memberships.T @ latents / np.maximum(counts, tiny)[:, None]
    identity = np.eye(latents.shape[1])
    imagined = _UNCORRELATED_PER_ENTRY * latents.shape[1]
    covariances = []
    for component in range(components[-1] + 1):
        own = components == component
        count = counts[own].sum() + eps
        middle = counts[own] @ means[own] / np.maximum(counts[own].sum(), tiny)
        # What is spread around the middle, less what the centres are.
        centred = latents - middle
        centres = means[own] - middle
        covariance = (
            (memberships[:, own].sum(1)[:, None] * centred).T @ centred
            - (counts[own][:, None] * centres).T @ centres
        ) / count
        kept = np.where(identity, 1.0, count / (count + imagined))
        covariances.append(covariance * kept + _SMALLEST_VARIANCE * identity)
    weights = counts + eps
    return weights / weights.sum(), means, np.stack(covariances)


def _memberships(latents, weights, means, covariances, components):
    """Returns float `(n, centres)`: whose each latent is, the E-step."""
    likelihoods = _log_densities(
        latents, weights, means, covariances, components
    )
    likelihoods = np.exp(likelihoods - likelihoods.max(axis=1, keepdims=True))
    return likelihoods / likelihoods.sum(axis=1, keepdims=True)


def _log_densities(latents, weights, means, covariances, components):
    """Returns float `(n, centres)`, up to a constant, of weighted Gaussians."""
    densities = []
    for component, covariance in enumerate(covariances):
        own = components == component
        factor = np.linalg.cholesky(covariance)
        whitened = _whitened(latents, factor)
        centres = _whitened(means[own], factor)
        # |a - b|^2 without a table of all differences.
        squares = (
            np.square(whitened).sum(1)[:, None]
            + np.square(centres).sum(1)
            - 2.0 * whitened @ centres.T
        )
        densities.append(
            np.log(weights[own]) - np.log(np.diag(factor)).sum() - 0.5 * squares
        )
    return np.concatenate(densities, axis=1)


def _whitened(points, factor):
    """Returns points `(n, latent_dim)` in the metric of L L^T, L `factor`."""
    return np.linalg.solve(factor, points.T).T


def _some_of_each_class(labels, images_per_class, generator):
    """Returns the rows of at most so many images of each class, at random."""
    labels = np.asarray(labels)
    order = generator.permutation(len(labels))
    kept = [
        order[labels[order] == label][:images_per_class]
        for label in np.unique(labels)
    ]
    return np.sort(np.concatenate(kept))
