"""Stage 2: matching under a random pool, with its own `train_step`."""

import statistics

import tensorflow as tf

from gdd_keras.cgan import ConditionalGAN
from gdd_keras.data.augmentation import augment
from gdd_keras.data.pipeline import scale_images
from gdd_keras.losses import feature_matching_loss
from gdd_keras.losses import logit_matching_loss
from gdd_keras.networks.work import count_multiply_adds
from gdd_keras.strategy import batch_rows
from gdd_keras.strategy import combine
from gdd_keras.strategy import draw_rows
from gdd_keras.strategy import local_part
from gdd_keras.strategy import mean_over_replicas
from gdd_keras.strategy import num_replicas
from gdd_keras.strategy import run_in_replicas

__all__ = ["GenerativeDistiller"]


class GenerativeDistiller(ConditionalGAN):
    """Minimises L_total of eq. 8 over the generator's weights.

    L_total = omega_g L_global + omega_l L_local + L_CGAN. The discriminator
    goes on as in stage 1. Real image i and generated image i share a label
    and a draw of differentiable augmentation; both are seen by the network
    that `ModelPool.draw` put in use. With `omega_l = 0` this is DiM; with
    both 0 it is the plain GAN, and the pool costs nothing.

    With an encoder, generated image i is made from latents of real image i, so
    that eq. 6 and 7 compare two images of one thing, not just of one class.
    The encoder stays as stage 1 left it (eq. 9: only the generator's weights).
    With `trains_encoder` it goes on to learn with the evidence lower bound of
    stage 1 and from both losses, so that latents can keep what the networks
    of the pool see.

    With a `drawn_share`, so many of the generated images have their latents
    from the mixture of `deployed_generator`, as those that are delivered: the
    discriminator judges them beside the others, L_CGAN is the mean over both,
    and the losses of pairs are means over the others. Fit the mixture first,
    see `gdd_keras.latents`; it does not change, unless the encoder learns and
    `LatentFit` follows it.

    Generator, discriminator and average may be those of a trained
    `ConditionalGAN`; pass its `averaged_generator`'s weights on with
    `continue_from`.

    Reference:
        - [Li et al., 2024](https://arxiv.org/abs/2404.17732), eq. 6-9
        - [Wang et al., 2023](https://arxiv.org/abs/2303.04707)

    Args:
        generator: As in `ConditionalGAN`.
        discriminator: As in `ConditionalGAN`.
        pool: `ModelPool`.
        omega_g: Weight of the global loss.
        omega_l: Weight of the local loss.
        matching_reduction: `"mean"` or `"sum"`.
        matching_augmentation: `"none"`, `"crop"` or `"color_crop"`.
        pool_batches: Batches of `pool_images` that a step will get; for
            `multiply_adds` alone.
        drawn_share: Share of the generated images whose latents are drawn,
            0 to below 1; without an encoder all of them are.
        trains_encoder: Whether the encoder learns on.
        **kwargs: Of `ConditionalGAN`.
    """

    extra_metric_names = (
        "global_loss",
        "local_loss",
        "pool_loss",
        "total_loss",
    )

    def __init__(
        self,
        generator,
        discriminator,
        pool,
        omega_g=0.01,
        omega_l=0.001,
        matching_reduction="mean",
        matching_augmentation="none",
        pool_batches=0,
        drawn_share=0.0,
        trains_encoder=False,
        **kwargs,
    ):
        super().__init__(
            generator, discriminator, trains_encoder=trains_encoder, **kwargs
        )
        self.drawn_share = drawn_share if self.encoder is not None else 0.0
        self.pool = pool
        self.omega_g = omega_g
        self.omega_l = omega_l
        self.matching_reduction = matching_reduction
        self.matching_augmentation = matching_augmentation
        self.pool_batches = pool_batches

    @property
    def matches(self):
        """Whether any matching term has a weight."""
        return self.omega_g > 0 or self.omega_l > 0

    @property
    def loss_weights(self):
        """Multipliers of the terms of eq. 8, metric name to float."""
        return {
            **super().loss_weights,
            "global_loss": self.omega_g,
            "local_loss": self.omega_l,
        }

    def multiply_adds(self):
        """Returns those of the mean over the pool; see `ConditionalGAN`."""
        if not self.matches:
            return super().multiply_adds()
        # Real images forward; generated ones forward and back to the images.
        forward_passes = 3.0 + 3.0 * self.pool_batches
        return super().multiply_adds() + forward_passes * statistics.fmean(
            map(count_multiply_adds, self.pool.networks)
        )

    def continue_from(self, gan):
        """Starts the moving average and its warm-up where stage 1 ended.

        Args:
            gan: `ConditionalGAN` that shares generator and discriminator.
        """
        self.averaged_generator.set_weights(
            gan.averaged_generator.get_weights()
        )
        if self.encoder is not None:
            self.averaged_encoder.set_weights(
                gan.averaged_encoder.get_weights()
            )
        self.step.assign(gan.step)

    def state(self):
        """Returns all that a checkpoint must hold, name to trackable."""
        state = super().state()
        if self.drawn_share and self.trains_encoder:
            # Fitted after whole epochs: not to be had again in between.
            for weight in self.latent_mixture.weights:
                state[f"latent_mixture_{weight.name}"] = weight
        state["pool_index"] = self.pool.index
        state["pool_draw_count"] = self.pool.draw_count
        for index, (network, optimizer) in enumerate(
            zip(self.pool.networks, self.pool.optimizers, strict=True)
        ):
            state[f"pool_network_{index}"] = network
            state[f"pool_optimizer_{index}"] = optimizer
        return state

    def train_step(self, data):
        """Takes one step of pool network, discriminator and generator.

        Args:
            data: As in `ConditionalGAN`; with `pool_images` uint8
                `(k, batch, ...)` and `pool_labels` int32 `(k, batch)` the
                drawn network first takes k SGD steps on them.

        Returns:
            Dict from metric name to its running mean.
        """
        real_images = scale_images(data["images"])
        tape, generated_images, losses, image_gradients = (
            self._adversarial_step(real_images, data["labels"])
        )
        if self.matches:
            terms, matching_gradients = combine(
                self._matching_terms,
                data,
                real_images,
                tf.stop_gradient(generated_images),
            )
            losses.update(terms)
            image_gradients += matching_gradients
        losses["total_loss"] = self._weighted_sum(losses)
        self._apply_to_generator(
            tape, generated_images, image_gradients, losses
        )
        return self._finish_step(losses)

    def _latents(self, real_images, labels):
        """Returns latents, of which some are drawn; losses as in stage 1."""
        latents, losses = super()._latents(real_images, labels)
        if not self.drawn_share:
            return latents, losses
        noise = draw_rows(
            lambda count: tf.random.stateless_normal(
                (count, self.latent_dim + 1), self._random_seed(6)
            ),
            tf.shape(labels)[0],
        )
        drawn, _ = self._drawn_rows(tf.shape(labels)[0])
        draws = self.latent_mixture([noise, self._one_hot(labels)])
        return tf.where(drawn[:, None], draws, latents), losses

    def _pairs(self, real_images, generated_images):
        if not self.drawn_share:
            return super()._pairs(real_images, generated_images)
        drawn, pair_share = self._drawn_rows(tf.shape(real_images)[0])
        drawn = drawn[:, None, None, None]
        return tf.where(drawn, real_images, generated_images), pair_share

    def _drawn_rows(self, size):
        """Says which rows have drawn latents: the last ones of a whole batch.

        Labels go round in batches: a row has only those that are equal modulo
        the greatest divisor that batch and classes have in common. Where so
        many rows are not of both kinds, the last ones are counted from another
        row in each step, or some classes would never be a pair, and others
        never be drawn.

        Returns:
            bool `(size,)`, and the share of the others in the whole batch.
        """
        count, rows = batch_rows(size)
        classes = self.num_classes
        pairs = tf.round((1.0 - self.drawn_share) * tf.cast(count, tf.float32))
        # One pair at least: means over pairs need it.
        pairs = tf.maximum(pairs, 1.0)
        rows = tf.range(count) if rows is None else rows
        pair_share = pairs / tf.cast(count, tf.float32)
        fewest = tf.minimum(tf.cast(pairs, tf.int32), count)
        fewest = tf.minimum(fewest, count - fewest)
        offset = tf.random.stateless_uniform(
            (), self._random_seed(7), 0, count, tf.int32
        )
        divisors = tf.constant(
            [n for n in range(1, classes + 1) if classes % n == 0]
        )
        common = tf.reduce_max(tf.where(count % divisors == 0, divisors, 1))
        offset = tf.where(common > fewest, offset, 0)
        rows = (rows + offset) % count
        return tf.cast(rows, tf.float32) >= pairs, pair_share

    def _matching_terms(self, data, real_images, generated_images):
        """Trains the network in use, then matches under it.

        The network is chosen outside of all replicas, see `combine`.

        Returns:
            Dict of eq. 6, eq. 7 and the pool's loss, unweighted, and the
            weighted gradient at the generated images.
        """

        def match(index):
            pool_loss = self._train_pool(index, data)

            def match_in_replica(real_images, generated_images):
                return self._match(index, real_images, generated_images)

            return (
                *run_in_replicas(
                    match_in_replica, real_images, generated_images
                ),
                pool_loss,
            )

        global_loss, local_loss, gradient, pool_loss = self.pool.switch(match)
        terms = {
            "global_loss": global_loss,
            "local_loss": local_loss,
            "pool_loss": pool_loss,
        }
        return terms, gradient

    def _match(self, index, real_images, generated_images):
        """Returns eq. 6 and 7, unweighted, and their weighted gradient.

        The gradient is taken at the images, inside the branch of the network
        in use, so that no other network is touched.
        """
        seed = self._random_seed(4)

        def features(images):
            # Real and generated image i share a draw.
            images = augment(
                images,
                self.matching_augmentation,
                seed,
                rows=batch_rows(tf.shape(images)[0]),
            )
            return self.pool.features(index, images)

        # A sum over the batch is as many times that over a share, in the
        # mean over replicas that losses and gradients are.
        is_sum = self.matching_reduction == "sum"
        real_logits, real_features = features(real_images)
        with tf.GradientTape() as tape:
            tape.watch(generated_images)
            pairs, pair_share = self._pairs(real_images, generated_images)
            logits, local_features = features(pairs)
            # A pair of one image twice adds nothing to the sums.
            factor = num_replicas() if is_sum else 1.0 / pair_share
            global_loss = factor * logit_matching_loss(
                real_logits, logits, self.matching_reduction
            )
            local_loss = factor * feature_matching_loss(
                real_features, local_features, self.matching_reduction
            )
            weighted = self._weighted_sum(
                {"global_loss": global_loss, "local_loss": local_loss}
            )
        gradient = tape.gradient(weighted, generated_images)
        return global_loss, local_loss, gradient

    def _train_pool(self, index, data):
        """Trains network `index` on its own real batches; mean loss, or 0."""
        if "pool_images" not in data:
            return tf.constant(0.0)
        steps = local_part(data["pool_images"]).shape[0]

        def train_in_replica(data, step):
            images = scale_images(data["pool_images"][step])
            images = augment(
                images,
                self.matching_augmentation,
                tf.random.experimental.stateless_fold_in(
                    self._random_seed(5), step
                ),
                rows=batch_rows(tf.shape(images)[0]),
            )
            labels = data["pool_labels"][step]
            return self.pool.train_on(index, images, labels)

        def train(step, total):
            losses = run_in_replicas(train_in_replica, data, step)
            return step + 1, total + mean_over_replicas(losses)

        _, total = tf.while_loop(
            lambda step, _: step < steps,
            train,
            (tf.constant(0), tf.constant(0.0)),
            parallel_iterations=1,
        )
        return total / steps
