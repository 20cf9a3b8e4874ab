"""Stage 1: a conditional GAN as a `keras.Model` with its own `train_step`."""

import keras
import tensorflow as tf

from gdd_keras.data.augmentation import augment
from gdd_keras.data.pipeline import scale_images
from gdd_keras.losses import classification_loss
from gdd_keras.losses import discriminator_loss
from gdd_keras.losses import generator_loss
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

    Reference:
        - [Li et al., 2024](https://arxiv.org/abs/2404.17732), eq. 3-5
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
        **kwargs: Of `keras.Model`.

    Example:
        ```python
        gan = ConditionalGAN(generator, discriminator)
        gan.compile(
            generator_optimizer=keras.optimizers.Adam(2e-4, 0.0, 0.9),
            discriminator_optimizer=keras.optimizers.Adam(4e-4, 0.0, 0.9),
        )
        gan.fit(training_batches(...), steps_per_epoch=100)
        images = gan.averaged_generator([latents, one_hot_labels])
        ```
    """

    # Metrics that a later stage adds, and whether it uses a pool.
    extra_metric_names = ()
    matches = False

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
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.generator = generator
        self.discriminator = discriminator
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
        self.step = self.add_weight(
            shape=(), dtype="int64", trainable=False, name="step"
        )
        self.has_class_logits = "class_logits" in discriminator.output
        names = ["discriminator_loss", "adversarial_loss"]
        if self.has_class_logits:
            names += ["classification_loss", "real_classification_loss"]
        if adversarial_loss == "wgan_gp":
            names.append("gradient_penalty")
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
        generator_optimizer.build(self.generator.trainable_variables)
        discriminator_optimizer.build(self.discriminator.trainable_variables)

    @property
    def metrics(self):
        # Keras resets what is listed here at the start of an epoch.
        return [*self._trackers.values(), *self._norm_trackers.values()]

    @property
    def loss_weights(self):
        """Multipliers of the generator's loss terms, metric name to float."""
        weights = {"adversarial_loss": 1.0}
        if self.has_class_logits:
            weights["classification_loss"] = self.auxiliary_weight
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
        return 3.0 * count_multiply_adds(
            self.generator
        ) + forward_passes * count_multiply_adds(self.discriminator)

    def gradient_norms(self):
        """Returns the Euclidean norms of the last steps' gradients.

        They are no part of the logs, to keep the progress bar short.

        Returns:
            Dict from network (`generator`, `discriminator`) to the mean norm
            over the epoch so far, a float >= 0.
        """
        return {n: float(m.result()) for n, m in self._norm_trackers.items()}

    def state(self):
        """Returns all that a checkpoint must hold, name to trackable."""
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "averaged_generator": self.averaged_generator,
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
            "step": self.step,
        }

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
        self._apply_to_generator(tape, images, image_gradients)
        return self._finish_step(losses)

    def _adversarial_step(self, real_images, labels):
        """Updates the discriminator and judges the generated images.

        Args:
            real_images: float32 `(batch, height, width, channels)`.
            labels: int32 `(batch,)`.

        Returns:
            Tape that recorded the generator, generated images, dict of
            unweighted losses, and the gradient of L_CGAN at the images.
        """
        with tf.GradientTape() as tape:
            generated_images = self._generate(labels)
        losses = self._discriminator_step(
            real_images, tf.stop_gradient(generated_images), labels
        )
        terms, image_gradients = self._adversarial_terms(
            generated_images, labels
        )
        return tape, generated_images, {**losses, **terms}, image_gradients

    def _random_seed(self, salt):
        """Returns an int64 `(2,)` seed that no other step or salt shares."""
        return tf.random.experimental.stateless_fold_in(
            tf.constant([self.seed, salt], tf.int32),
            tf.convert_to_tensor(self.step),
        )

    def _generate(self, labels):
        """Returns one generated image per label, in training mode."""
        latents = draw_rows(
            lambda count: tf.random.stateless_normal(
                (count, self.latent_dim), self._random_seed(0)
            ),
            tf.shape(labels)[0],
        )
        return self.generator([latents, self._one_hot(labels)], training=True)

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

    def _adversarial_terms(self, generated_images, labels):
        """Returns L_CGAN's terms and their gradient at the images."""
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
            total = self._weighted_sum(losses)
        return losses, tape.gradient(total, generated_images)

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

    def _apply_to_generator(self, tape, generated_images, image_gradients):
        """Carries gradients at the images back to the generator's weights."""
        # eq. 9: only the generator's weights; the networks that judge the
        # images would be in `self.trainable_variables` too.
        variables = self.generator.trainable_variables
        gradients = tape.gradient(
            generated_images, variables, output_gradients=image_gradients
        )
        self._apply("generator", gradients, variables)

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
        for average, current in zip(
            self.averaged_generator.variables,
            self.generator.variables,
            strict=True,
        ):
            if average.dtype.startswith("float"):
                average.assign(
                    tf.convert_to_tensor(average) * decay
                    + tf.convert_to_tensor(current) * (1.0 - decay)
                )
