"""Stage 1: a conditional GAN as a `keras.Model` with its own `train_step`."""

import math

import keras
import tensorflow as tf

from gdd_keras.data.augmentation import augment
from gdd_keras.data.pipeline import scale_images
from gdd_keras.losses import classification_loss
from gdd_keras.losses import discriminator_loss
from gdd_keras.losses import generator_loss
from gdd_keras.losses import kl_loss
from gdd_keras.losses import reconstruction_loss
from gdd_keras.networks.latent_mixture import with_latent_mixture
from gdd_keras.networks.precision import float32_copy
from gdd_keras.networks.work import count_multiply_adds
from gdd_keras.strategy import apply_gradients
from gdd_keras.strategy import batch_rows
from gdd_keras.strategy import draw_rows
from gdd_keras.strategy import gradient_norm

__all__ = ["ConditionalGAN"]


class ConditionalGAN(keras.Model):
    """Trains G([z + y]) against D(x | y), eq. 3 to 5 of the paper.

    Each step draws latents from (seed, step), generates one image per real
    image with its label, updates the discriminator on both, then the
    generator through the updated discriminator, on the same generated images:
    one forward pass of the generator serves both. Every random number is a
    function of the seed and the step counter, so that a restored run
    continues exactly.

    With an encoder, latents are draws from q(z | x, y) of the real image whose
    label they share, and the generator also learns to make that image again:
    per value of an image, the negative evidence lower bound
    `(x - G([z + y]))^2 / (2 s^2) + KL(q || N(0, I))`, means over values. It
    covers what a GAN alone leaves out. Such a generator draws its latents from
    a mixture that is fitted to the encoder's, see `gdd_keras.latents`.

    Reference:
        - [Li et al., 2024](https://arxiv.org/abs/2404.17732), eq. 3-5
        - [Bao et al., 2017](https://arxiv.org/abs/1703.10155), for the encoder
        - [Karras et al., 2020](https://arxiv.org/abs/1912.04958), section 3.1,
          for penalties at every few steps

    Args:
        generator: As from `build_generator`.
        discriminator: As from `build_discriminator`.
        adversarial_loss: `"non_saturating"`, `"hinge"` or `"wgan_gp"`.
        auxiliary_weight: Weight of the generator's class loss, where the
            discriminator has class logits.
        gradient_penalty_weight: Weight of the penalty of `"wgan_gp"`.
        gradient_penalty_every: Steps between penalties, each of them as many
            times heavier: with 1 as published; more cost less time.
        ema_decay: Decay of the moving average of the generator's weights,
            with warm-up; 0 keeps the average equal to the generator.
        augmentation: Augmentation of what the discriminator sees, real and
            generated alike: `"none"`, `"crop"` or `"color_crop"`.
        seed: Integer seed of latents and augmentation.
        encoder: As from `build_encoder`, or `None` for latents from N(0, I).
        elbo_weight: Weight of the bound, beside the adversarial loss's 1.
        pixel_variance: s^2, of pixels in [-1, 1].
        mixture_components: Components per class of the mixture of latents.
        mixture_centres: Centres per class that they divide among them;
            `None` or fewer than components for one each.
        trains_encoder: Whether the encoder learns; else it stays as it is.
        **kwargs: Of `keras.Model`.

    Example:
        ```python
        gan = ConditionalGAN(generator, discriminator)
        gan.compile(
            generator_optimizer=keras.optimizers.Adam(4e-4, 0.0, 0.9),
            discriminator_optimizer=keras.optimizers.Adam(4e-4, 0.0, 0.9),
        )
        gan.fit(training_batches(...), steps_per_epoch=100)
        images = gan.deployed_generator([latents, one_hot_labels])
        ```
    """

    # Metrics that a later stage adds, whether it uses a pool, and how much it
    # learns from draws.
    extra_metric_names = ()
    matches = False
    drawn_share = 0.0

    def __init__(
        self,
        generator,
        discriminator,
        adversarial_loss="hinge",
        auxiliary_weight=1.0,
        gradient_penalty_weight=10.0,
        gradient_penalty_every=1,
        ema_decay=0.999,
        augmentation="none",
        seed=0,
        encoder=None,
        elbo_weight=1.2,
        pixel_variance=0.02,
        mixture_components=20,
        mixture_centres=None,
        trains_encoder=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.trains_encoder = trains_encoder
        self.generator = generator
        self.discriminator = discriminator
        self.encoder = encoder
        self.elbo_weight = elbo_weight
        self.pixel_variance = pixel_variance
        # A wrong name must fail here, not in the first step.
        generator_loss(adversarial_loss, tf.zeros(1))
        self.adversarial_loss = adversarial_loss
        self.auxiliary_weight = auxiliary_weight
        self.gradient_penalty_weight = gradient_penalty_weight
        self.gradient_penalty_every = gradient_penalty_every
        self.ema_decay = ema_decay
        self.augmentation = augmentation
        self.seed = seed
        self.latent_dim = generator.input_shape[0][-1]
        self.num_classes = generator.input_shape[1][-1]
        # What is shown, scored and exported is the same on every machine.
        self.averaged_generator = float32_copy(generator)
        self.averaged_generator.trainable = False
        self.averaged_encoder = None
        self.deployed_generator = self.averaged_generator
        if encoder is not None:
            self.averaged_encoder = float32_copy(encoder)
            self.averaged_encoder.trainable = False
            self.deployed_generator = with_latent_mixture(
                self.averaged_generator, mixture_components, mixture_centres
            )
            self._encode = tf.function(
                self._encode_images,
                input_signature=[
                    tf.TensorSpec((None, *encoder.input_shape[0][1:]), "uint8"),
                    tf.TensorSpec((None,), "int32"),
                ],
                autograph=False,
            )
        self.step = self.add_weight(
            shape=(), dtype="int64", trainable=False, name="step"
        )
        self.has_class_logits = "class_logits" in discriminator.output
        names = ["discriminator_loss", "adversarial_loss"]
        if self.has_class_logits:
            names += ["classification_loss", "real_classification_loss"]
        if adversarial_loss == "wgan_gp":
            names.append("gradient_penalty")
        if encoder is not None:
            names.append("reconstruction_loss")
            if self.trains_encoder:
                names.append("kl_loss")
        self._trackers = {
            name: keras.metrics.Mean(name=name)
            for name in [*names, *self.extra_metric_names]
        }
        self._norm_trackers = {
            name: keras.metrics.Mean(name=f"{name}_gradient_norm")
            for name in ("generator", "discriminator")
        }
        # A model with nothing but a train_step would count as unbuilt.
        self.built = True

    def compile(self, generator_optimizer, discriminator_optimizer, **kwargs):
        """Takes one optimizer per network; the rest as in `keras.Model`."""
        super().compile(optimizer=generator_optimizer, **kwargs)
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        generator_optimizer.build(self._generator_variables())
        discriminator_optimizer.build(self.discriminator.trainable_variables)

    @property
    def metrics(self):
        # Keras resets what is listed here at the start of an epoch.
        return [*self._trackers.values(), *self._norm_trackers.values()]

    @property
    def latent_mixture(self):
        """The `LatentMixture` of `deployed_generator`; needs an encoder."""
        return self.deployed_generator.get_layer("latent_mixture")

    @property
    def loss_weights(self):
        """Multipliers of the generator's loss terms, metric name to float."""
        weights = {"adversarial_loss": 1.0}
        if self.has_class_logits:
            weights["classification_loss"] = self.auxiliary_weight
        if self.encoder is not None:
            values = math.prod(self.generator.output_shape[1:])
            weights["reconstruction_loss"] = self.elbo_weight / (
                2.0 * self.pixel_variance
            )
            if self.trains_encoder:
                weights["kl_loss"] = self.elbo_weight / values
        return weights

    def multiply_adds(self):
        """Returns the multiply-adds of a step per real image, about.

        A gradient by weights or inputs costs as much as the forward pass.
        """
        # Discriminator: both gradients on real and generated images, then
        # the gradient at the images that the generator gets.
        forward_passes = 8.0
        if self.adversarial_loss == "wgan_gp":
            forward_passes += 5.0 / self.gradient_penalty_every
        work = 3.0 * count_multiply_adds(self.generator)
        work += forward_passes * count_multiply_adds(self.discriminator)
        if self.encoder is not None:
            encoder_passes = 3.0 if self.trains_encoder else 1.0
            work += encoder_passes * count_multiply_adds(self.encoder)
        return work

    def gradient_norms(self):
        """Returns the Euclidean norms of the last steps' gradients.

        They are no part of the logs, to keep the progress bar short.

        Returns:
            Dict from network (`generator`, `discriminator`) to the mean norm
            over the epoch so far, a float >= 0.
        """
        return {n: float(m.result()) for n, m in self._norm_trackers.items()}

    def encode(self, images, labels):
        """Returns q(z | x, y) of real images, and who believes in their class.

        Args:
            images: uint8 `(batch, height, width, channels)`.
            labels: int32 `(batch,)`.

        Returns:
            float32 means and log-variances `(batch, latent_dim)` of the
            averaged encoder, and float32 `(batch,)`, the probability of the
            label by the discriminator's class head; 1 where it has none.
        """
        return self._encode(images, labels)

    def _encode_images(self, images, labels):
        inputs = [scale_images(images), self._one_hot(labels)]
        encoded = self.averaged_encoder(inputs, training=False)
        judged = self.discriminator(inputs, training=False)
        confidences = tf.ones_like(labels, tf.float32)
        if self.has_class_logits:
            probabilities = tf.nn.softmax(judged["class_logits"])
            confidences = tf.gather(probabilities, labels, batch_dims=1)
        return encoded["mean"], encoded["log_variance"], confidences

    def state(self):
        """Returns all that a checkpoint must hold, name to trackable."""
        state = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "averaged_generator": self.averaged_generator,
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
            "step": self.step,
        }
        if self.encoder is not None:
            state["encoder"] = self.encoder
            state["averaged_encoder"] = self.averaged_encoder
        return state

    def train_step(self, data):
        """Takes one step of both networks.

        Args:
            data: Dict with `images` uint8 `(batch, height, width, channels)`
                and `labels` int32 `(batch,)`.

        Returns:
            Dict from metric name to its running mean.
        """
        tape, images, losses, image_gradients = self._adversarial_step(
            scale_images(data["images"]), data["labels"]
        )
        self._apply_to_generator(tape, images, image_gradients, losses)
        return self._finish_step(losses)

    def _adversarial_step(self, real_images, labels):
        """Updates the discriminator and judges the generated images.

        Args:
            real_images: float32 `(batch, height, width, channels)`.
            labels: int32 `(batch,)`.

        Returns:
            Tape that recorded encoder and generator, generated images, dict
            of unweighted losses, and the gradient at the images of those
            that depend on them.
        """
        with tf.GradientTape() as tape:
            latents, losses = self._latents(real_images, labels)
            generated_images = self.generator(
                [latents, self._one_hot(labels)], training=True
            )
        losses.update(
            self._discriminator_step(
                real_images, tf.stop_gradient(generated_images), labels
            )
        )
        terms, image_gradients = self._image_terms(
            real_images, generated_images, labels
        )
        losses.update(terms)
        return tape, generated_images, losses, image_gradients

    def _random_seed(self, salt):
        """Returns an int64 `(2,)` seed that no other step or salt shares."""
        return tf.random.experimental.stateless_fold_in(
            tf.constant([self.seed, salt], tf.int32),
            tf.convert_to_tensor(self.step),
        )

    def _latents(self, real_images, labels):
        """Returns latents, one per label, and the loss of the encoder's."""
        noise = draw_rows(
            lambda count: tf.random.stateless_normal(
                (count, self.latent_dim), self._random_seed(0)
            ),
            tf.shape(labels)[0],
        )
        if self.encoder is None:
            return noise, {}
        encoded = self.encoder(
            [real_images, self._one_hot(labels)], training=self.trains_encoder
        )
        mean, log_variance = encoded["mean"], encoded["log_variance"]
        # The noise is no part of what is learned (Kingma & Welling, 2014).
        latents = mean + tf.exp(0.5 * log_variance) * noise
        if not self.trains_encoder:
            return tf.stop_gradient(latents), {}
        return latents, {"kl_loss": kl_loss(mean, log_variance)}

    def _one_hot(self, labels):
        return tf.one_hot(labels, self.num_classes)

    def _discriminator_step(self, real_images, generated_images, labels):
        """Updates the discriminator; returns its unweighted loss terms."""
        batch = tf.shape(labels)[0]
        one_hot_labels = self._one_hot(labels)
        count, rows = batch_rows(batch)
        if rows is not None:
            rows = tf.concat([rows, count + rows], 0)
        # One pass over both halves costs less than two.
        images = augment(
            tf.concat([real_images, generated_images], 0),
            self.augmentation,
            self._random_seed(1),
            rows=(2 * count, rows),
        )
        losses = {}
        with tf.GradientTape() as tape:
            outputs = self.discriminator(
                [images, tf.concat([one_hot_labels, one_hot_labels], 0)],
                training=True,
            )
            scores = outputs["scores"]
            losses["discriminator_loss"] = discriminator_loss(
                self.adversarial_loss, scores[:batch], scores[batch:]
            )
            total = losses["discriminator_loss"]
            if self.has_class_logits:
                # Real images only: class errors of the generator must not
                # teach the head that judges them.
                losses["real_classification_loss"] = classification_loss(
                    labels, outputs["class_logits"][:batch]
                )
                total += losses["real_classification_loss"]
            if self.adversarial_loss == "wgan_gp":
                losses["gradient_penalty"] = self._gradient_penalty(
                    images[:batch], images[batch:], one_hot_labels
                )
                total += (
                    self.gradient_penalty_weight * losses["gradient_penalty"]
                )
        variables = self.discriminator.trainable_variables
        gradients = tape.gradient(total, variables)
        self._apply("discriminator", gradients, variables)
        return losses

    def _gradient_penalty(self, *examples):
        """Returns this step's share of the penalty; its mean is the penalty."""
        every = self.gradient_penalty_every
        if every == 1:
            return self._full_gradient_penalty(*examples)
        return tf.cond(
            tf.convert_to_tensor(self.step) % every == 0,
            lambda: every * self._full_gradient_penalty(*examples),
            lambda: tf.constant(0.0),
        )

    def _full_gradient_penalty(
        self, real_images, generated_images, one_hot_labels
    ):
        """Returns E[(|grad D(x)| - 1)^2] on random interpolates x."""
        share = draw_rows(
            lambda count: tf.random.stateless_uniform(
                (count, 1, 1, 1), self._random_seed(2)
            ),
            tf.shape(real_images)[0],
        )
        images = real_images + share * (generated_images - real_images)
        with tf.GradientTape() as tape:
            tape.watch(images)
            scores = self.discriminator(
                [images, one_hot_labels], training=True
            )["scores"]
        gradients = tape.gradient(scores, images)
        squares = tf.reduce_sum(tf.square(gradients), axis=(1, 2, 3))
        # The root's slope is infinite at zero.
        norms = tf.sqrt(squares + 1e-12)
        return tf.reduce_mean(tf.square(norms - 1.0))

    def _image_terms(self, real_images, generated_images, labels):
        """Returns the terms that judge images, and their gradient there."""
        losses = {}
        with tf.GradientTape() as tape:
            tape.watch(generated_images)
            images = augment(
                generated_images,
                self.augmentation,
                self._random_seed(3),
                rows=batch_rows(tf.shape(labels)[0]),
            )
            outputs = self.discriminator(
                [images, self._one_hot(labels)], training=False
            )
            losses["adversarial_loss"] = generator_loss(
                self.adversarial_loss, outputs["scores"]
            )
            if self.has_class_logits:
                losses["classification_loss"] = classification_loss(
                    labels, outputs["class_logits"]
                )
            if self.encoder is not None:
                pairs, share = self._pairs(real_images, generated_images)
                losses["reconstruction_loss"] = (
                    reconstruction_loss(real_images, pairs) / share
                )
            total = self._weighted_sum(losses)
        return losses, tape.gradient(total, generated_images)

    def _pairs(self, real_images, generated_images):
        """Returns generated images of which only the real ones' pairs count.

        Args:
            real_images: float32 `(batch, height, width, channels)`.
            generated_images: float32, same shape.

        Returns:
            The generated images, each that is no pair replaced by the real
            one, so that its difference is zero; and the share of pairs.
        """
        return generated_images, 1.0

    def _weighted_sum(self, losses):
        """Returns the sum of the terms that have a weight, times theirs."""
        return sum(
            weight * losses[name]
            for name, weight in self.loss_weights.items()
            if name in losses
        )

    def _apply(self, network, gradients, variables):
        """Moves a network's weights, and tracks its gradients' norm."""
        self._norm_trackers[network].update_state(gradient_norm(gradients))
        optimizer = getattr(self, f"{network}_optimizer")
        apply_gradients(optimizer, gradients, variables)

    def _apply_to_generator(
        self, tape, generated_images, image_gradients, losses
    ):
        """Carries gradients at the images back to what made them."""
        targets, gradients = [generated_images], [image_gradients]
        if "kl_loss" in losses:
            targets.append(losses["kl_loss"])
            gradients.append(tf.constant(self.loss_weights["kl_loss"]))
        variables = self._generator_variables()
        gradients = tape.gradient(
            targets, variables, output_gradients=gradients
        )
        self._apply("generator", gradients, variables)

    def _generator_variables(self):
        """Returns what the generator's optimizer moves."""
        # eq. 9: only the generator's weights; the networks that judge the
        # images would be in `self.trainable_variables` too.
        variables = list(self.generator.trainable_variables)
        if self.encoder is not None and self.trains_encoder:
            variables += self.encoder.trainable_variables
        return variables

    def _finish_step(self, losses):
        """Moves the average and the counter; returns the running means."""
        self._update_average()
        self.step.assign_add(1)
        for name, value in losses.items():
            self._trackers[name].update_state(value)
        return {name: m.result() for name, m in self._trackers.items()}

    def _update_average(self):
        """Moves the average, batch statistics included.

        The decay warms up as min(decay, (1 + t) / (10 + t)): without it, the
        average of an early export is mostly the initial weights.
        """
        step = tf.cast(self.step, tf.float32)
        decay = tf.minimum(self.ema_decay, (1.0 + step) / (10.0 + step))
        pairs = [(self.averaged_generator, self.generator)]
        if self.encoder is not None and self.trains_encoder:
            pairs.append((self.averaged_encoder, self.encoder))
        for averaged, network in pairs:
            for average, current in zip(
                averaged.variables, network.variables, strict=True
            ):
                if average.dtype.startswith("float"):
                    average.assign(
                        tf.convert_to_tensor(average) * decay
                        + tf.convert_to_tensor(current) * (1.0 - decay)
                    )
