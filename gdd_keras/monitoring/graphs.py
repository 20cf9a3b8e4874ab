"""The networks' graph, and a profile of some steps."""

import keras
import tensorflow as tf

__all__ = ["Profile", "write_graph"]


def write_graph(writer, generator, discriminator):
    """Writes one graph: the generator, and the discriminator on its images.

    Args:
        writer: `tf.summary` writer.
        generator: As from `build_generator`.
        discriminator: As from `build_discriminator`.
    """

    @tf.function(autograph=False)
    def networks(latents, one_hot_labels):
        with tf.name_scope("generator"):
            images = generator([latents, one_hot_labels], training=False)
        with tf.name_scope("discriminator"):
            return discriminator([images, one_hot_labels], training=False)

    specs = [
        tf.TensorSpec(shape, tf.float32, name=name)
        for shape, name in zip(
            generator.input_shape, ("latents", "one_hot_labels"), strict=True
        )
    ]
    graph = networks.get_concrete_function(*specs).graph
    with writer.as_default(step=0):
        tf.summary.graph(graph.as_graph_def())


class Profile(keras.callbacks.Callback):
    """Profiles a few executions, after the first ones, which compile.

    Args:
        folder: Path of the stage's event files.
        first: Executions to wait for.
        count: Executions to profile.
    """

    def __init__(self, folder, first=3, count=5):
        super().__init__()
        self.folder = folder
        self.first = first
        self.count = count
        self._executions = 0
        self._running = False

    def on_train_batch_begin(self, batch, logs=None):
        if self._executions == self.first:
            tf.profiler.experimental.start(str(self.folder))
            self._running = True
        self._executions += 1

    def on_train_batch_end(self, batch, logs=None):
        if self._executions == self.first + self.count:
            self._stop()

    def on_train_end(self, logs=None):
        self._stop()

    def _stop(self):
        if self._running:
            self._running = False
            tf.profiler.experimental.stop()
